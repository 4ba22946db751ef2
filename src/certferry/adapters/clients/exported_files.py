"""The files of a certificate, written where an operator says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from certferry.adapters.clients.open_directory import OpenDirectory
from certferry.adapters.clients.pem_directory import Access
from certferry.core.certificate import CERT, CHAIN, FULLCHAIN, PRIVKEY, CertificateBundle
from certferry.errors import CertferryError
from certferry.file_trust import NotTrusted, spot
from certferry.system_words import system_words
from certferry.text import Text

_PUBLIC, _PRIVATE = Access(0o644), Access(0o600)
_PRIVATE_DIRECTORY = 0o700


def write_bundle(bundle: CertificateBundle, directory: Path) -> list[Path]:
    """Write the four files that certbot's users know, and give their paths.

    The key is readable by its owner alone from its first byte on, whatever was there before. The
    directory may be another user's; no link is followed that its owner could lead elsewhere, such
    as to another's key. Raises `CertferryError`.
    """
    files = (
        (CERT, bundle.cert_pem, _PUBLIC),
        (CHAIN, bundle.chain_pem, _PUBLIC),
        (FULLCHAIN, bundle.fullchain_pem, _PUBLIC),
        (PRIVKEY, bundle.privkey_pem.reveal(), _PRIVATE),
    )
    with _opened(directory) as place:
        for name, content, access in files:
            with _told(directory / name):
                _replace(place, name, content.encode("ascii"), access)
        with _told(directory):
            place.sync()
    return [directory / name for name, _, _ in files]


def _replace(place: OpenDirectory, name: str, content: bytes, access: Access) -> None:
    draft = place.draft(name, content, access)
    try:
        place.put(draft, name)
    except BaseException:
        place.remove(draft)
        raise


@contextmanager
def _opened(directory: Path) -> Iterator[OpenDirectory]:
    """Open the directory for a `with` block; where it is missing it is made."""
    with _told(directory):
        # What is missing is made only where no link leads astray.
        with suppress(FileNotFoundError), spot(directory, exposed=True):
            pass
        directory.mkdir(mode=_PRIVATE_DIRECTORY, parents=True, exist_ok=True)
        with spot(directory, exposed=True) as found:
            handle = found.open(os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield OpenDirectory(handle, directory)
    finally:
        os.close(handle)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    hint = Text("files that were there before are as they were")
    try:
        yield
    except NotTrusted as exc:
        message = Text("{path} {problem}", path=exc.path, problem=exc.problem)
        raise CertferryError(message, hint=exc.fix) from exc
    except OSError as exc:
        raise CertferryError(
            Text("{path} cannot be written: {problem}", path=path, problem=system_words(exc)),
            hint=hint,
        ) from exc
