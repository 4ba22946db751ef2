"""A certificate as the four PEM files that certbot's users know: contents, access, variables."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from types import MappingProxyType

from certferry.core.certificate import CERT, CHAIN, FULLCHAIN, PRIVKEY, CertificateBundle
from certferry.errors import DeployError, Retry, TargetRejected
from certferry.file_trust import NotTrusted
from certferry.system_words import system_words
from certferry.text import Text

NAMES = (CHAIN, PRIVKEY, FULLCHAIN, CERT)
"""In the order in which they take their names: nothing comes between the key and the fullchain,
which are what a server reads."""

_VARIABLES = MappingProxyType(
    {
        "CERTFERRY_CERT": CERT,
        "CERTFERRY_CHAIN": CHAIN,
        "CERTFERRY_FULLCHAIN": FULLCHAIN,
        "CERTFERRY_PRIVKEY": PRIVKEY,
    }
)

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


def _fix(exc: NotTrusted) -> Text:
    """Advise where a directory is another user's, to whom root may give the files as well."""
    if exc.owner is None or os.geteuid() != 0:
        return exc.fix
    return Text(
        'if the files are to be that user\'s, write owner = "{owner}" beside `directory`;'
        " otherwise name a directory that is root's, such as below /etc/ssl",
        owner=exc.owner,
    )


@contextmanager
def told(path: Path, hint: Text, *, has_owner: bool = False) -> Iterator[None]:
    """Turn what the system says into an error of the door; a full disk may have room later. With
    `has_owner`, the files may be declared to be another user's.
    """
    try:
        yield
    except NotTrusted as exc:
        message = Text("{path} {problem}", path=exc.path, problem=exc.problem)
        raise TargetRejected(message, hint=_fix(exc) if has_owner else exc.fix) from exc
    except OSError as exc:
        if exc.errno in _FULL:
            message = Text("{path} cannot be written: the disk is full", path=path)
            raise DeployError(message, hint=hint, retry=Retry.LATER) from exc
        problem = system_words(exc)
        raise TargetRejected(
            Text("{path} cannot be read or written: {problem}", path=path, problem=problem),
            hint=hint,
        ) from exc
