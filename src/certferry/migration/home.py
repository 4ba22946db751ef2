"""What another ACME client keeps, as its directory tells: certificates, and keys to accounts."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from certferry.core.certificate import CertificateBundle
from certferry.core.desired import PemFiles
from certferry.core.proposal import Access, Proposal
from certferry.core.secret import Secret
from certferry.text import Text

_HOOK = re.compile(r"\bcertferry\b.*\bhook\b", re.DOTALL)
_QINIU = re.compile("qiniu", re.IGNORECASE)
_OURS = "certferry"
_Command = tuple[str, list[str]]
"""The program of one command, if it has one, and all of its words."""
_SETTERS = frozenset({"env", "export"})
_MOVES = frozenset({"cd", "pushd", "popd"})


def _ends_a_command(word: str) -> bool:
    return word != "" and set(word) <= set("();|&\n")  # and not `>&`, as in `2>&1`


def _program(command: Iterable[str]) -> str:
    first = next((word for word in command if "=" not in word and word not in _SETTERS), "")
    return "" if first in _MOVES else first


def _is_about_qiniu(words: Iterable[str]) -> bool:
    return any(map(_QINIU.search, words))


class OldClient(StrEnum):
    """The clients whose directories can be read."""

    ACME_SH = "acme.sh"
    CERTBOT = "certbot"
    LEGO = "lego"


@dataclass(frozen=True, slots=True)
class OldHook:
    """What a client runs at a renewal: a command, or the name of a hook of its own."""

    command: str

    @property
    def program(self) -> str:
        """The program that is run, of several the one that is about Qiniu, or else the first beside
        certferry: what stands before and behind it may be a key.
        """
        about_qiniu = [program for program, words in self._own if _is_about_qiniu(words)]
        own = [program for program, _ in self._own]
        return next(filter(None, (*about_qiniu, *own, *self._programs)), "…")

    @property
    def calls_certferry(self) -> bool:
        """Whether certferry's own hook is called."""
        return _HOOK.search(self.command) is not None

    @property
    def is_ours_alone(self) -> bool:
        """Whether it is certferry's own hook, and nothing beside it."""
        return self.calls_certferry and len(self._programs) == 1

    @property
    def goes_to_qiniu(self) -> bool:
        """Whether it says by itself that it is about Qiniu, as the old recipe's dispatcher does in
        its mode; `certferry hook qiniu` is not meant.
        """
        if not self._commands:
            return _QINIU.search(self.command) is not None
        return any(_is_about_qiniu(words) for _, words in self._own)

    @property
    def is_of_its_own(self) -> bool:
        """Whether it does something else than certferry does."""
        return not (self.calls_certferry or self.goes_to_qiniu)

    @property
    def _programs(self) -> tuple[str, ...]:
        return tuple(program for program, _ in self._commands if program)

    @property
    def _own(self) -> tuple[_Command, ...]:
        return tuple(one for one in self._commands if not one[0].endswith(_OURS))

    @property
    def _commands(self) -> tuple[_Command, ...]:
        lexer = shlex.shlex(self.command, posix=True, punctuation_chars="();<>|&\n")
        lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t\r", True, ""
        try:
            words = list(lexer)
        except ValueError:  # a quote that is not closed, so that anything may be part of a key
            return ()
        groups = (list(g) for is_end, g in itertools.groupby(words, _ends_a_command) if not is_end)
        return tuple((_program(group), group) for group in groups)


@dataclass(frozen=True, slots=True)
class Installed:
    """Where the client puts copies of the files, and what it runs at a renewal.

    `others` are copies of parts, the leaf or the issuers alone. `reload` is run after the copies
    have been made; `hooks` are whatever else is run.
    """

    fullchain: str = ""
    privkey: str = ""
    reload: str = ""
    others: tuple[str, ...] = ()
    hooks: tuple[str, ...] = ()
    access: Access = field(default_factory=Access)

    @property
    def copies(self) -> tuple[str, ...]:
        """The paths of all copies."""
        return tuple(filter(None, (self.fullchain, self.privkey, *self.others)))

    @property
    def runs(self) -> tuple[OldHook, ...]:
        """Everything that is run."""
        return tuple(map(OldHook, filter(None, (self.reload, *self.hooks))))


@dataclass(frozen=True, slots=True)
class OldCertificate:
    """One lineage of another client with its certificate of today.

    `directory` is the URL of the CA's directory that it came from, and `proven_by` the client's own
    word for how its names are proven; either is empty where the client does not write it down.
    `files` are `None` where no single file holds the whole chain. `stop` is the command that ends
    its renewals, and no other's: see `OldHome`.
    """

    lineage: str
    bundle: CertificateBundle
    files: PemFiles | None
    stop: str
    directory: str = ""
    proven_by: str = ""
    installed: Installed = field(default_factory=Installed)

    @property
    def names(self) -> tuple[str, ...]:
        """What it is for. What the client was asked for may differ by now: what it holds counts."""
        return self.bundle.certificate.names

    @property
    def key_type(self) -> str:
        """The kind of its key."""
        return self.bundle.certificate.key_type


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An entry of the directory that could not be taken, and why."""

    entry: str
    problem: Text


@dataclass(frozen=True, slots=True)
class OldHome:
    """Everything in a client's directory. `stop` are the commands that end all of its renewals, and
    where `stop_takes_others`, those of every other directory too; where not `renews_by_itself`, no
    command ends them, and `stop` are, here and in each certificate, those that must not be run any
    more. `keys` go by the variables that certferry knows them by.
    """

    client: OldClient
    home: str
    certificates: tuple[OldCertificate, ...]
    unreadable: tuple[Unreadable, ...]
    stop: tuple[str, ...]
    keys: Mapping[str, Secret] = field(default_factory=dict)
    email: str | None = None
    stop_takes_others: bool = False
    renews_by_itself: bool = True

    def taken_over_by(self, proposal: Proposal) -> tuple[OldCertificate, ...]:
        """Give the certificates that the client must renew no more: those that certferry issues
        from now on, and those that are left out since one of these takes their place.
        """
        left_out = (one.certificate for one in proposal.left_out if one.certificate is not None)
        issued = {one.lineage for one in (*proposal.certificates, *left_out) if one.files is None}
        return tuple(one for one in self.certificates if one.lineage in issued)


@dataclass(frozen=True, slots=True)
class Starters:
    """The lines of a crontab that start a client: for the directory that was read, for others."""

    here: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()
