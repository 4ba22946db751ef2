"""Write a certificate's files so that a reader finds the old one or the new one, never a part."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from certferry.config.write import replace_file, sync_directory
from certferry.core.certificate import CERT, CHAIN, FULLCHAIN, PRIVKEY, CertificateBundle
from certferry.errors import CertferryError
from certferry.system_words import system_words
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
        (CERT, bundle.cert_pem, _PUBLIC),
        (CHAIN, bundle.chain_pem, _PUBLIC),
        (FULLCHAIN, bundle.fullchain_pem, _PUBLIC),
        (PRIVKEY, bundle.privkey_pem.reveal(), _PRIVATE),
    )
    with _told(directory):
        directory.mkdir(mode=_PRIVATE_DIRECTORY, parents=True, exist_ok=True)
    for name, content, mode in files:
        with _told(directory / name):
            replace_file(directory / name, content.encode("ascii"), mode)
    with _told(directory):
        sync_directory(directory)
    return [directory / name for name, _, _ in files]


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise CertferryError(
            Text("{path} cannot be written: {problem}", path=path, problem=system_words(exc)),
            hint=Text("files that were there before are as they were"),
        ) from exc
