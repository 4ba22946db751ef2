"""What reading the homes of all ACME clients has in common."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from certferry.core.certificate import CertificateBundle
from certferry.core.desired import PemFiles
from certferry.core.identifiers import base_name, normalise
from certferry.core.proposal import Access
from certferry.errors import CertferryError, CertificateError, ConfigError
from certferry.file_trust import NotTrusted, group_name, must_be_trusted, user_name
from certferry.migration.home import OldCertificate, Unreadable
from certferry.ports.source import CertificateSource
from certferry.system_words import system_words
from certferry.text import Text

E = TypeVar("E")


def each(
    entries: Iterable[E], called: Callable[[E], str], read: Callable[[E], OldCertificate]
) -> tuple[tuple[OldCertificate, ...], tuple[Unreadable, ...]]:
    """Read entry by entry; one that is damaged is told of, and the others are read."""
    found: list[OldCertificate] = []
    unreadable: list[Unreadable] = []
    for entry in entries:
        try:
            found.append(read(entry))
        except CertferryError as error:
            unreadable.append(Unreadable(called(entry), error.message))
    return tuple(found), tuple(unreadable)


def bundle_in(files: PemFiles, source: CertificateSource) -> CertificateBundle:
    """Read a certificate that can be declared: for names, and not only for addresses.

    Raises `CertificateError` and `PlanRefused`.
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
    """Say who could change a client's notes, if that is neither root nor the caller."""
    try:
        must_be_trusted(path)
    except NotTrusted as error:
        return Text("{path} {problem}", path=error.path, problem=error.problem)
    except OSError:
        return None  # told where it is read
    return None


def as_owner_of(path: Path) -> tuple[str, ...]:
    """Give the words before a command that root is to run as the user of a client's directory."""
    owner = path.stat().st_uid
    return ("sudo", "-u", user_name(owner)) if os.geteuid() == 0 and owner != 0 else ()


def unquoted(written: str) -> str:
    """Take away one pair of quotes around a value. One with a null byte, which neither a path nor a
    command may have, is as good as none.
    """
    if "\0" in written:
        return ""
    if len(written) > 1 and written[0] == written[-1] and written[0] in "'\"":
        return written[1:-1]
    return written


def lineage_of(wanted: str, taken: set[str]) -> str:
    """Give a lineage its name: as its client calls it, and as no other is called."""
    base = base_name(wanted)
    name, number = base, 1
    while name in taken:
        number += 1
        name = f"{base}-{number}"
    taken.add(name)
    return name


def access_to(fullchain: str, privkey: str) -> Access:
    """Tell who may read copies, as far as they can be looked at."""
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
