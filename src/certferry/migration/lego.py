"""The home of lego: `certificates/NAME.crt` and `.key`; how names are proven is not in it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from certferry.core.desired.certificate import PemFiles
from certferry.migration import home as old_home
from certferry.ports.source import CertificateSource

_ISSUER = ".issuer"


def default_home(environ: Mapping[str, str], home: Path) -> Path:
    """Return the directory that lego itself would use: where it is started."""
    del home
    return Path(environ.get("LEGO_PATH") or ".lego")


def read(home: Path, usual: Path, source: CertificateSource) -> old_home.OldHome:
    """Read everything. Raises `ConfigError` when there is no such directory."""
    del usual
    entries = [
        path
        for path in old_home.children(home.absolute() / "certificates")
        if path.suffix == ".crt" and not path.stem.endswith(_ISSUER)
    ]
    found, unreadable = old_home.each(entries, lambda crt: crt.name, partial(_read, source, set()))
    return old_home.OldHome(
        old_home.OldClient.LEGO, str(home), found, unreadable, renews_by_itself=False
    )


def _read(source: CertificateSource, taken: set[str], crt: Path) -> old_home.OldCertificate:
    files = PemFiles(str(crt), str(crt.with_suffix(".key")))
    bundle = old_home.bundle_in(files, source)
    name = crt.stem.replace("_.", "*.", 1)  # as lego writes a wildcard in a file's name
    stop = f"lego … {shlex.join(['--domains', name])} … renew"
    return old_home.OldCertificate(old_home.lineage_of(name, taken), bundle, files, stop)
