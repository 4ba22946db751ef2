"""The home directory of another ACME client: its certificates, the commands that it runs at
renewals, and its keys for DNS services.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from msgspec import Struct, field

from certferry.core.certificates.certificate import FULLCHAIN, PRIVKEY, CertificateBundle
from certferry.core.certificates.names import base_name, normalise
from certferry.core.desired.certificate import PemFiles
from certferry.core.discovery.proposal import Access, Proposal, Service
from certferry.core.redaction import Secret
from certferry.errors import CertferryError, CertificateError, ConfigError, system_words
from certferry.file_trust import NotTrusted, group_name, must_be_trusted, user_name
from certferry.ports.source import CertificateSource
from certferry.text import Text

E = TypeVar("E")


def each(
    entries: Iterable[E], called: Callable[[E], str], read: Callable[[E], OldCertificate]
) -> tuple[tuple[OldCertificate, ...], tuple[Unreadable, ...]]:
    """Read each entry by `read`. Return the certificates, and for each entry that cannot be read
    the name (`called`) and the reason.
    """
    readable: list[OldCertificate] = []
    unreadable: list[Unreadable] = []
    for entry in entries:
        try:
            readable.append(read(entry))
        except CertferryError as error:
            unreadable.append(Unreadable(called(entry), error.message))
    return tuple(readable), tuple(unreadable)


def bundle_in(files: PemFiles, source: CertificateSource) -> CertificateBundle:
    """Read a certificate and its key by `CertificateSource.read`.

    Raise `PlanRefused` as that method does. Raise `CertificateError` for unusable files, and for a
    certificate with a name that is not a domain name.
    """
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
    """Read a file of the client's settings. Raise `CertificateError`."""
    try:
        # Opening a FIFO without O_NONBLOCK waits for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, encoding="utf-8-sig") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise CertificateError(Text("{path}: is not a regular file", path=path))
            return file.read()
    except OSError as error:
        problem = Text("{path}: {problem}", path=path, problem=system_words(error))
        raise CertificateError(problem) from error
    except UnicodeDecodeError:
        # A replacement for a bad byte could become part of a path or a command.
        raise CertificateError(Text("{path}: is not UTF-8 text", path=path)) from None


def doubt_about(path: Path) -> Text | None:
    """Return a sentence if a user besides root and the caller could change the file of the client's
    settings at `path`. Return None otherwise, and for an unreadable file.
    """
    try:
        must_be_trusted(path)
    except NotTrusted as error:
        return Text("{path} {problem}", path=error.path, problem=error.problem)
    except OSError:
        return None  # reading the file will report the error
    return None


def as_owner_of(path: Path) -> tuple[str, ...]:
    """Return the words to put before a command, so that root runs the command as the owner of
    `path`. Return no words if the caller is not root, or if root owns the file. Raise `OSError` if
    the file is absent.
    """
    owner = path.stat().st_uid
    return ("sudo", "-u", user_name(owner)) if os.geteuid() == 0 and owner != 0 else ()


def unquoted(text: str) -> str:
    """Remove a pair of quotes around a value. A value with a null byte becomes empty."""
    if "\0" in text:
        return ""
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    return text


def lineage_of(wanted: str, taken: set[str]) -> str:
    """Return a free name for a lineage, close to the client's name, and add the name to `taken`."""
    base = base_name(wanted)
    name, number = base, 1
    while name in taken:
        number += 1
        name = f"{base}-{number}"
    taken.add(name)
    return name


def access_to(fullchain: str, privkey: str) -> Access:
    """Return owner, group and modes of the copies that the client made. If a copy is missing or
    cannot be examined, return the default.
    """
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
    """Return a directory's entries, sorted. Raise `ConfigError` for an unreadable directory."""
    try:
        return sorted(directory.iterdir())
    except OSError as error:
        hint = Text("set the client's directory with --home")
        if isinstance(error, PermissionError):
            hint = Text("run the command as the user that owns the directory")
        problem = Text("{path}: {problem}", path=directory, problem=system_words(error))
        raise ConfigError(problem, hint=hint) from error


_OUR_HOOK = re.compile(r"\bcertferry\b.*\bhook\b", re.DOTALL)
_NEXT_COMMAND = re.compile(r";|&&|\|\||\n")
# A first word with `=` or a quote may hold a key, so only a plain first word is shown.
_PROGRAM = re.compile(r"[\w./@~-]+(?=[\s;&|]|$)")


class OldClient(StrEnum):
    """The ACME clients with a readable home."""

    ACME_SH = "acme.sh"
    CERTBOT = "certbot"
    LEGO = "lego"


class OldHook(Struct, frozen=True):
    """A command that the client runs at a renewal, or the name of one of the client's own hooks.
    The class only examines the text.
    """

    #: The text of the command, or the name of the hook.
    command: str

    @property
    def program(self) -> str:
        """The first word of the command, for messages. Any other word may contain a key; if the
        first word may contain a key too, this is "…".
        """
        match = _PROGRAM.match(self.command.strip())
        return match[0] if match else "…"

    @property
    def calls_certferry(self) -> bool:
        """Whether the command calls certferry's own hook."""
        return _OUR_HOOK.search(self.command) is not None

    @property
    def is_ours_alone(self) -> bool:
        """Whether the command only calls certferry's own hook."""
        return self.calls_certferry and not _NEXT_COMMAND.search(self.command.strip())

    def destination(self, services: Iterable[Service]) -> Service | None:
        """Return the first service that the command mentions; `None` for a command that calls
        certferry's own hook.
        """
        command = "" if self.calls_certferry else self.command.lower()
        return next(
            (
                service
                for service in services
                if any(word in command for word in service.command_words)
            ),
            None,
        )


class Installed(Struct, frozen=True):
    """The copies that the client makes of a certificate's files, and the commands that the client
    runs at a renewal.
    """

    #: The absolute path of the fullchain's copy.
    fullchain: str = ""
    #: The absolute path of the private key's copy.
    privkey: str = ""
    #: The command run after copying.
    reload: str = ""
    #: The paths of other copies: of the certificate alone, of the chain alone, or relative paths.
    others: tuple[str, ...] = ()
    #: The other commands, and the names of the client's own hooks.
    hooks: tuple[str, ...] = ()
    #: Owner, group and modes of the copies.
    access: Access = field(default_factory=Access)

    @property
    def directory(self) -> str:
        """The directory of the copies, if both have certferry's file names there; otherwise ""."""
        directory, _, fullchain = self.fullchain.rpartition("/")
        beside, _, privkey = self.privkey.rpartition("/")
        fits = (fullchain, privkey) == (FULLCHAIN, PRIVKEY) and directory == beside
        return directory if fits else ""

    def not_followed(self) -> Installed:
        """Return all copies as `others`, and all commands as `hooks`. certferry only tells the
        operator about `others` and `hooks`: it makes no such copies, and runs no such command.
        """
        return Installed(others=self.copies, hooks=tuple(hook.command for hook in self.runs))

    @property
    def copies(self) -> tuple[str, ...]:
        """The paths of all copies."""
        return tuple(filter(None, (self.fullchain, self.privkey, *self.others)))

    @property
    def runs(self) -> tuple[OldHook, ...]:
        """All commands, `reload` first."""
        return tuple(map(OldHook, filter(None, (self.reload, *self.hooks))))


class OldCertificate(Struct, frozen=True):
    """A certificate of another client."""

    #: The name of the certificate's lineage in certferry.
    lineage: str
    #: The certificate with its chain and key.
    bundle: CertificateBundle
    #: The client's own files.
    files: PemFiles
    #: The command that ends the renewals. If the client does not renew by itself, the command that
    #: renews, which must no longer run (`OldHome.renews_by_itself`).
    stop: str
    #: The URL of the CA's directory, or "".
    directory: str = ""
    #: The copies, and the commands run at a renewal.
    installed: Installed = field(default_factory=Installed)
    #: How another user could change the client's settings; `None` if no other user could.
    doubt: Text | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names in the certificate. The client's settings may have other names by now."""
        return self.bundle.certificate.names

    @property
    def key_type(self) -> str:
        """The type of the key, such as `ec256`."""
        return self.bundle.certificate.key_type


class Unreadable(Struct, frozen=True):
    """An entry of the home that could not be read, and the reason."""

    #: The name of the file or directory.
    entry: str
    #: The reason.
    problem: Text


class OldHome(Struct, frozen=True):
    """The home of another client."""

    #: The client.
    client: OldClient
    #: The path of the home.
    home: str
    #: The certificates that could be read.
    certificates: tuple[OldCertificate, ...]
    #: The entries that could not be read.
    unreadable: tuple[Unreadable, ...]
    #: The keys in the home, by the environment variable in which certferry expects the key.
    keys: Mapping[str, Secret] = field(default_factory=dict)
    #: The email address that the CA has as contact, if known.
    email: str | None = None
    #: Whether the client renews by a schedule of its own. If not, a crontab or a script of the
    #: operator runs the command in `OldCertificate.stop`.
    renews_by_itself: bool = True

    def taken_over_by(self, proposal: Proposal) -> tuple[OldCertificate, ...]:
        """Return the certificates that the client must stop renewing. For each, certferry issues
        the certificate itself, or another certificate for the same names.
        """
        left_out = (
            entry.certificate for entry in proposal.left_out if entry.certificate is not None
        )
        issued = {
            entry.lineage for entry in (*proposal.certificates, *left_out) if entry.files is None
        }
        return tuple(entry for entry in self.certificates if entry.lineage in issued)
