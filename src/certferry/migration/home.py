"""What another ACME client's home holds: certificates, what follows their renewal, keys."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from certferry.core.certificates.certificate import FULLCHAIN, PRIVKEY, CertificateBundle
from certferry.core.certificates.names import base_name, normalise
from certferry.core.desired.certificate import PemFiles
from certferry.core.discovery.proposal import Access, Proposal
from certferry.core.redaction import Secret
from certferry.errors import CertferryError, CertificateError, ConfigError, system_words
from certferry.file_trust import NotTrusted, group_name, must_be_trusted, user_name
from certferry.ports.source import CertificateSource
from certferry.text import Text

E = TypeVar("E")


def each(
    entries: Iterable[E], called: Callable[[E], str], read: Callable[[E], OldCertificate]
) -> tuple[tuple[OldCertificate, ...], tuple[Unreadable, ...]]:
    """Read entry by entry; one that is damaged is reported, and the others are read."""
    found: list[OldCertificate] = []
    unreadable: list[Unreadable] = []
    for entry in entries:
        try:
            found.append(read(entry))
        except CertferryError as error:
            unreadable.append(Unreadable(called(entry), error.message))
    return tuple(found), tuple(unreadable)


def bundle_in(files: PemFiles, source: CertificateSource) -> CertificateBundle:
    """Read a certificate for domain names. Raises `CertificateError` and `PlanRefused`."""
    bundle = source.read(files)
    names = bundle.certificate.names
    try:
        usable = bool(names) and all(normalise(name) == name for name in names)
    except ConfigError:
        usable = False
    if not usable:
        raise CertificateError(Text("{path}: is not for domain names alone", path=files.fullchain))
    return bundle


def text_of(path: Path) -> str:
    """Read a file of a client's notes. Raises `CertificateError`."""
    try:
        # Without O_NONBLOCK, opening a FIFO waits for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, encoding="utf-8-sig") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise CertificateError(Text("{path}: is not a regular file", path=path))
            return file.read()
    except OSError as error:
        problem = Text("{path}: {problem}", path=path, problem=system_words(error))
        raise CertificateError(problem) from error
    except UnicodeDecodeError:
        # What would be put in the place of a byte could be part of a path or a command.
        raise CertificateError(Text("{path}: is not UTF-8 text", path=path)) from None


def doubt_about(path: Path) -> Text | None:
    """Return who could change a client's notes, if that is neither root nor the caller."""
    try:
        must_be_trusted(path)
    except NotTrusted as error:
        return Text("{path} {problem}", path=error.path, problem=error.problem)
    except OSError:
        return None  # reported where it is read
    return None


def as_owner_of(path: Path) -> tuple[str, ...]:
    """Return the words before a command that root is to run as the user of a client's directory."""
    owner = path.stat().st_uid
    return ("sudo", "-u", user_name(owner)) if os.geteuid() == 0 and owner != 0 else ()


def unquoted(written: str) -> str:
    """Remove one pair of quotes around a value; a null byte makes it empty."""
    if "\0" in written:
        return ""
    if len(written) > 1 and written[0] == written[-1] and written[0] in "'\"":
        return written[1:-1]
    return written


def lineage_of(wanted: str, taken: set[str]) -> str:
    """Return a lineage its name: as its client calls it, and as no other is called."""
    base = base_name(wanted)
    name, number = base, 1
    while name in taken:
        number += 1
        name = f"{base}-{number}"
    taken.add(name)
    return name


def access_to(fullchain: str, privkey: str) -> Access:
    """Return who may read the copies that can be examined."""
    if not (fullchain and privkey):
        return Access()
    try:
        of_fullchain, of_privkey = Path(fullchain).stat(), Path(privkey).stat()
    except OSError:
        return Access()
    owner, group = of_privkey.st_uid, of_privkey.st_gid
    return Access(
        owner=None if owner == os.geteuid() else user_name(owner),
        group=None if group == os.getegid() else group_name(group),
        mode=stat.S_IMODE(of_fullchain.st_mode),
        key_mode=stat.S_IMODE(of_privkey.st_mode),
    )


def children(directory: Path) -> list[Path]:
    """List a directory, sorted. Raises `ConfigError` when that cannot be."""
    try:
        return sorted(directory.iterdir())
    except OSError as error:
        hint = Text("name the client's directory with --home")
        if isinstance(error, PermissionError):
            hint = Text("run this as the user whose directory it is")
        problem = Text("{path}: {problem}", path=directory, problem=system_words(error))
        raise ConfigError(problem, hint=hint) from error


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
    """What a client runs at a renewal: a command, or the name of its own hook. Read as text."""

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

    `others` are copies of parts or at relative paths; `reload` runs after copying, then `hooks`.
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
        """Return the same for a report alone: no copy is made, nothing is run."""
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

    `directory` is its CA's URL, empty if not known; `doubt` says who else could change the notes.
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
    """A client's home; `keys` go by certferry's variables.

    If a client does not renew by itself, `stop` is the command that must not be run any more.
    """

    client: OldClient
    home: str
    certificates: tuple[OldCertificate, ...]
    unreadable: tuple[Unreadable, ...]
    keys: Mapping[str, Secret] = field(default_factory=dict)
    email: str | None = None
    renews_by_itself: bool = True

    def taken_over_by(self, proposal: Proposal) -> tuple[OldCertificate, ...]:
        """Return the certificates that the client must renew no more: issued here or replaced."""
        left_out = (one.certificate for one in proposal.left_out if one.certificate is not None)
        issued = {one.lineage for one in (*proposal.certificates, *left_out) if one.files is None}
        return tuple(one for one in self.certificates if one.lineage in issued)
