"""A certificate as the four PEM files that certbot's users know, each written so that a reader
finds the old one or the new one, never a part.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from types import MappingProxyType

from certferry.core.certificate import CERT, CHAIN, FULLCHAIN, PRIVKEY, CertificateBundle
from certferry.errors import DeployError, Retry, TargetRejected
from certferry.system_words import system_words
from certferry.text import Text

NAMES = (CHAIN, PRIVKEY, FULLCHAIN, CERT)
"""In the order in which they take their names: nothing comes between the key and the fullchain,
which are what a server reads."""

LARGEST = 1 << 20
"""Bytes of a file that is looked at: these have a few thousand, and anything may lie there."""

_VARIABLES = MappingProxyType(
    {
        "CERTFERRY_CERT": CERT,
        "CERTFERRY_CHAIN": CHAIN,
        "CERTFERRY_FULLCHAIN": FULLCHAIN,
        "CERTFERRY_PRIVKEY": PRIVKEY,
    }
)

_DRAFT = ".certferry-draft-"
_PRIVATE = 0o600
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True, slots=True)
class Access:
    """Whose a file is and who may use it; `None` leaves the owner or the group as it comes."""

    mode: int
    uid: int | None = None
    gid: int | None = None

    def allows(self, found: Access) -> bool:
        """Tell whether a file with this access is as wanted."""
        owners = self.uid in {None, found.uid} and self.gid in {None, found.gid}
        return owners and self.mode == found.mode

    @property
    def in_words(self) -> str:
        """The mode, and owner and group by number."""
        owners = [number for number in (self.uid, self.gid) if number is not None]
        return " ".join([f"{self.mode:04o}", ":".join(map(str, owners))]).rstrip()


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file that lies there: the SHA-256 of what is in it, and its access."""

    digest: str
    access: Access


def contents(bundle: CertificateBundle) -> dict[str, bytes]:
    """Give what is in each of the files. The key is among them."""
    return {
        CHAIN: bundle.chain_pem.encode(),
        PRIVKEY: bundle.privkey_pem.reveal().encode(),
        FULLCHAIN: bundle.fullchain_pem.encode(),
        CERT: bundle.cert_pem.encode(),
    }


def variables(lineage: str, bundle: CertificateBundle, directory: Path) -> Mapping[str, str]:
    """Give the environment of a program that is told of a certificate in a directory."""
    certificate = bundle.certificate
    paths = {variable: str(directory / name) for variable, name in _VARIABLES.items()}
    return paths | {
        "CERTFERRY_LINEAGE": lineage,
        "CERTFERRY_NAMES": " ".join(certificate.names),
        "CERTFERRY_FINGERPRINT": certificate.fingerprint,
        "CERTFERRY_NOT_AFTER": certificate.not_after.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "CERTFERRY_DIRECTORY": str(directory),
    }


def digest(data: bytes) -> str:
    """Give SHA-256, lower-case hex."""
    return hashlib.sha256(data).hexdigest()


def look_at(path: Path) -> FoundFile | None:
    """Look at a file; what is no regular file, or too large, counts as none. Raises `OSError`."""
    opened = _open(path)
    if opened is None:
        return None
    data, facts = opened
    access = Access(stat.S_IMODE(facts.st_mode), facts.st_uid, facts.st_gid)
    return FoundFile(digest(data), access)


def read(path: Path) -> bytes | None:
    """Read a file, as `look_at` does. Raises `OSError`."""
    opened = _open(path)
    return None if opened is None else opened[0]


def _open(path: Path) -> tuple[bytes, os.stat_result] | None:
    # Neither through a link, which would be replaced and not followed, nor waiting for a FIFO.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        return None
    except OSError as exc:
        if exc.errno in {errno.ELOOP, errno.ENXIO}:
            return None
        raise
    with os.fdopen(descriptor, "rb") as file:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > LARGEST:
            return None
        return file.read(LARGEST), facts


def draft(path: Path, content: bytes, access: Access) -> Path:
    """Write a file under another name beside its own, and on to the disk; give that name.

    It is its owner's before there is anything in it. Raises `OSError`, or `TargetRejected` where it
    may not be given to its owner or group, and leaves nothing then.
    """
    drafted = path.with_name(f"{_DRAFT}{path.name}-{secrets.token_hex(8)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(drafted, flags, _PRIVATE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            _give_away(descriptor, path, access)
            os.fchmod(descriptor, access.mode)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
    except BaseException:
        with suppress(FileNotFoundError):
            drafted.unlink()
        raise
    return drafted


def sweep(directory: Path) -> None:
    """Remove drafts that a run which was killed has left. Raises `OSError`."""
    for left in directory.glob(f"{_DRAFT}*"):
        left.unlink(missing_ok=True)


def sync(directory: Path) -> None:
    """Make new names last: a rename is on the disk when its directory is. Raises `OSError`."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def told(path: Path, hint: Text) -> Iterator[None]:
    """Turn what the system says into an error of the door; a full disk may have room later."""
    try:
        yield
    except OSError as exc:
        if exc.errno in _FULL:
            message = Text("{path} cannot be written: the disk is full", path=path)
            raise DeployError(message, hint=hint, retry=Retry.LATER) from exc
        problem = system_words(exc)
        raise TargetRejected(
            Text("{path} cannot be read or written: {problem}", path=path, problem=problem),
            hint=hint,
        ) from exc


def _give_away(descriptor: int, path: Path, access: Access) -> None:
    if access.uid is None and access.gid is None:
        return
    try:
        # -1 leaves it as it is
        os.fchown(
            descriptor,
            -1 if access.uid is None else access.uid,
            -1 if access.gid is None else access.gid,
        )
    except OSError as exc:
        if exc.errno != errno.EPERM:
            raise
        raise TargetRejected(
            Text("{path} cannot be given away: {problem}", path=path, problem=system_words(exc)),
            hint=Text(
                "only root may give a file to another user, or to a group without being in it:"
                " run certferry as root, or leave out `owner` and `group`;"
                " the files that were there before are as they were"
            ),
        ) from exc
