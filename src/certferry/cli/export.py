"""`certferry export`: a certificate and its key, as files with certbot's names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from certferry.cli.exits import Exit
from certferry.cli.options import Front, name_argument
from certferry.errors import CertferryError, CertificateError
from certferry.present.console import Console
from certferry.present.layout import line
from certferry.system_words import system_words
from certferry.text import Text

if TYPE_CHECKING:
    from certferry.core.certificate import CertificateBundle
    from certferry.wiring.session import Session

_PRIVATE = 0o600
_PUBLIC = 0o644
_PRIVATE_DIRECTORY = 0o700


@click.command("export")
@name_argument()
@click.option(
    "--dir",
    "directory",
    metavar="D",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Where to write; made, for its owner alone, when it is not there.",
)
@click.pass_obj
def command(front: Front, name: str, directory: Path) -> Exit:
    """Write a certificate and its key to files.

    They are called cert.pem, chain.pem, fullchain.pem and privkey.pem. Each is replaced as a whole;
    only its owner can read the key.
    """
    from certferry.cli.selection import settings_or_defaults
    from certferry.wiring.looking import open_to_look

    with open_to_look(settings_or_defaults(front)) as session:
        return export(session, name, directory, front.console)


def export(session: Session, name: str, directory: Path, console: Console) -> Exit:
    """Write the newest certificate of a lineage.

    Raises `ConfigError` for a name that nothing is known of, `CertificateError` when there is no
    certificate yet, `CertferryError` when a file cannot be written.
    """
    from certferry.cli.selection import must_be_known
    from certferry.present.log_entries import log_export

    versions = session.state.versions(name)
    if not versions:
        must_be_known(name, session)
        raise CertificateError(
            Text("{name}: there is no certificate yet", name=name),
            hint=Text("run `certferry sync {name}`", name=name),
        )
    bundle = session.state.bundle(name, versions[0].number)
    paths = write_bundle(bundle, directory)
    log_export(name, paths, bundle.certificate.fingerprint, console.run_log)
    console.show(line(str(path)) for path in paths)
    return Exit.OK


def write_bundle(bundle: CertificateBundle, directory: Path) -> list[Path]:
    """Write the four files that certbot's users know, and give their paths.

    The key is readable by its owner alone from its first byte on, whatever was there before.
    Raises `CertferryError`.
    """
    from certferry.core.certificate import CERT, CHAIN, FULLCHAIN, PRIVKEY
    from certferry.whole_file import replace_file, sync_directory

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
