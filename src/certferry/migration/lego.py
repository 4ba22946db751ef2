"""Read the home of lego: `certificates/NAME.crt` and `NAME.key`. The home has no keys for DNS
services.
"""

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
    """Return lego's directory: `$LEGO_PATH`, or `.lego` in the working directory."""
    del home
    return Path(environ.get("LEGO_PATH") or ".lego")


def read(home: Path, usual: Path, source: CertificateSource) -> old_home.OldHome:
    """Read lego's home. Raise `ConfigError` if the directory `certificates` is absent or
    unreadable.
    """
    del usual
    entries = [
        path
        for path in old_home.children(home.absolute() / "certificates")
        if path.suffix == ".crt" and not path.stem.endswith(_ISSUER)
    ]
    certificates, unreadable = old_home.each(
        entries, lambda crt: crt.name, partial(_read, source, set())
    )
    return old_home.OldHome(
        old_home.OldClient.LEGO, str(home), certificates, unreadable, renews_by_itself=False
    )


def _read(source: CertificateSource, taken: set[str], crt: Path) -> old_home.OldCertificate:
    files = PemFiles(str(crt), str(crt.with_suffix(".key")))
    bundle = old_home.bundle_in(files, source)
    name = crt.stem.replace("_.", "*.", 1)  # lego writes `*.` as `_.` in file names
    stop = f"lego … {shlex.join(['--domains', name])} … renew"
    return old_home.OldCertificate(old_home.lineage_of(name, taken), bundle, files, stop)
