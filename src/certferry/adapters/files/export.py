"""The files of a certificate, written where an operator says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from certferry.adapters.files.directory import Access, opened_where_it_is
from certferry.core.certificates.certificate import (
    CERT,
    CHAIN,
    FULLCHAIN,
    PRIVKEY,
    CertificateBundle,
)
from certferry.errors import CertferryError
from certferry.file_trust import NotTrusted, checked_path
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
    with _told(directory):
        _make(directory)
    with ExitStack() as held:
        with _told(directory):
            place = held.enter_context(opened_where_it_is(directory))
        for name, content, access in files:
            with _told(directory / name):
                place.replace(name, content.encode("ascii"), access)
        with _told(directory):
            place.sync()
    return [directory / name for name, _, _ in files]


def _make(directory: Path) -> None:
    """Make the directory where it is missing, and no link leads astray. Raises `OSError`."""
    with suppress(FileNotFoundError), checked_path(directory, exposed=True):
        pass
    directory.mkdir(mode=_PRIVATE_DIRECTORY, parents=True, exist_ok=True)


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
