"""Write a certificate's files so that a reader finds the old one or the new one, never a part."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from certferry.core.certificate import CertificateBundle
from certferry.errors import CertferryError
from certferry.text import Text

_PRIVATE = 0o600
_PUBLIC = 0o644
_PRIVATE_DIRECTORY = 0o700


def write_bundle(bundle: CertificateBundle, directory: Path) -> list[Path]:
    """Write the four files that certbot's users know, and give their paths.

    The key is readable by its owner alone from its first byte on, whatever was there before.
    Raises `CertferryError`.
    """
    files = (
        ("cert.pem", bundle.cert_pem, _PUBLIC),
        ("chain.pem", bundle.chain_pem, _PUBLIC),
        ("fullchain.pem", bundle.fullchain_pem, _PUBLIC),
        ("privkey.pem", bundle.privkey_pem.reveal(), _PRIVATE),
    )
    with _told(directory):
        directory.mkdir(mode=_PRIVATE_DIRECTORY, parents=True, exist_ok=True)
    for name, content, mode in files:
        with _told(directory / name):
            _replace(directory / name, content, mode)
    with _told(directory):
        _sync(directory)
    return [directory / name for name, _, _ in files]


def _replace(path: Path, content: str, mode: int) -> None:
    # mkstemp makes the file 0600; it is opened wider only when there is no secret in it.
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink()
        raise


def _sync(directory: Path) -> None:
    """Make the new names last: a rename is on disk when its directory is."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise CertferryError(
            Text("{path} cannot be written: {problem}", path=path, problem=exc.strerror),
            hint=Text("files that were there before are as they were"),
        ) from exc
