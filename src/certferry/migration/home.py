"""What another ACME client's home holds: certificates, what follows their renewal, keys."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from certferry.core.certificate import FULLCHAIN, PRIVKEY, CertificateBundle
from certferry.core.desired import PemFiles
from certferry.core.proposal import Access, Proposal
from certferry.core.secret import Secret
from certferry.text import Text

_OUR_HOOK = re.compile(r"\bcertferry\b.*\bhook\b", re.DOTALL)
_NEXT_COMMAND = re.compile(r";|&&|\|\||\n")
# A word with `=` or a quote in it may be a key, or a part of one.
_PROGRAM = re.compile(r"[\w./@~-]+(?=[\s;&|]|$)")


class OldClient(StrEnum):
    """The clients whose homes can be read."""

    ACME_SH = "acme.sh"
    CERTBOT = "certbot"
    LEGO = "lego"


@dataclass(frozen=True, slots=True)
class OldHook:
    """What a client runs at a renewal: a command, or the name of a hook of its own. It is looked
    at as text: what a shell would make of it is for its owner to say.
    """

    command: str

    @property
    def program(self) -> str:
        """The first word, by which its owner knows it; what follows may be a key."""
        found = _PROGRAM.match(self.command.strip())
        return found[0] if found else "…"

    @property
    def calls_certferry(self) -> bool:
        """Whether certferry's own hook is called."""
        return _OUR_HOOK.search(self.command) is not None

    @property
    def is_ours_alone(self) -> bool:
        """Whether it is certferry's own hook, and nothing beside it."""
        return self.calls_certferry and not _NEXT_COMMAND.search(self.command.strip())

    @property
    def goes_to_qiniu(self) -> bool:
        """Whether it names Qiniu, as the old recipe's dispatcher does in its mode."""
        return "qiniu" in self.command.lower() and not self.calls_certferry


@dataclass(frozen=True, slots=True)
class Installed:
    """Where the client puts copies of the files, and what it runs at a renewal.

    `others` are copies of parts, the leaf or the issuers alone, or such as have a relative path.
    `reload` is run after the copies have been made; `hooks` are whatever else is run.
    """

    fullchain: str = ""
    privkey: str = ""
    reload: str = ""
    others: tuple[str, ...] = ()
    hooks: tuple[str, ...] = ()
    access: Access = field(default_factory=Access)

    @property
    def directory(self) -> str:
        """The directory of copies that are called as certferry calls them, or nothing."""
        directory, _, fullchain = self.fullchain.rpartition("/")
        beside, _, privkey = self.privkey.rpartition("/")
        fits = (fullchain, privkey) == (FULLCHAIN, PRIVKEY) and directory == beside
        return directory if fits else ""

    def not_followed(self) -> Installed:
        """Give the same as what is only told of: no copy is made, nothing is run."""
        return Installed(others=self.copies, hooks=tuple(hook.command for hook in self.runs))

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
    """One certificate of another client, and the command that ends its renewals (`stop`).

    `directory` is the URL of the CA's directory that it came from, empty where the client does not
    write it down. `doubt` says who could change the notes that `installed` is read from, where
    that is neither root nor the caller.
    """

    lineage: str
    bundle: CertificateBundle
    files: PemFiles
    stop: str
    directory: str = ""
    installed: Installed = field(default_factory=Installed)
    doubt: Text | None = None

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
    """An entry of the home that could not be taken, and why."""

    entry: str
    problem: Text


@dataclass(frozen=True, slots=True)
class OldHome:
    """Everything in a client's home. `keys` go by the variables that certferry knows them by.

    A client that does not renew by itself is started with a command for each certificate; `stop`
    is that command then, which must not be run any more.
    """

    client: OldClient
    home: str
    certificates: tuple[OldCertificate, ...]
    unreadable: tuple[Unreadable, ...]
    keys: Mapping[str, Secret] = field(default_factory=dict)
    email: str | None = None
    renews_by_itself: bool = True

    def taken_over_by(self, proposal: Proposal) -> tuple[OldCertificate, ...]:
        """Give the certificates that the client must renew no more: those that certferry issues
        from now on, and those that are left out since one of these takes their place.
        """
        left_out = (one.certificate for one in proposal.left_out if one.certificate is not None)
        issued = {one.lineage for one in (*proposal.certificates, *left_out) if one.files is None}
        return tuple(one for one in self.certificates if one.lineage in issued)
