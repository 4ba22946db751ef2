"""The directory of lego: `certificates/NAME.crt`, `.key` and `.json` for each certificate.

lego does not write down how names are proven: that is in whatever starts it, and without that it
renews nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from certferry.core.certificate import CertificateBundle
from certferry.core.desired import PemFiles
from certferry.core.pem import parse_bundle
from certferry.core.secret import Secret
from certferry.errors import CertificateError, PlanRefused
from certferry.migration.home import OldCertificate, OldClient, OldHome
from certferry.migration.reading import (
    bundle_in,
    children,
    command,
    each,
    lineage_of,
    must_have_names,
    text_of,
)
from certferry.ports.source import CertificateSource
from certferry.text import Text

SCHEDULED = re.compile(r"\blego\b.*\brenew\b")
"""What a line that starts it looks like."""

HOME_OPTIONS = ("--path",)
"""What names its directory there."""

_ISSUER = ".issuer"


def default_home(environ: Mapping[str, str], home: Path) -> Path:
    """Give the directory that lego itself would use: where it is started."""
    del home
    return Path(environ.get("LEGO_PATH") or ".lego")


def read(home: Path, usual: Path, source: CertificateSource) -> OldHome:
    """Read everything. Raises `ConfigError` when there is no such directory."""
    del usual
    taken: set[str] = set()
    entries = [
        _Entry(path, lineage_of(path.stem, taken))
        for path in children(home.absolute() / "certificates")
        if path.suffix == ".crt" and not path.stem.endswith(_ISSUER)
    ]
    found, unreadable = each(entries, lambda e: e.crt.name, partial(_read, source))
    return OldHome(
        client=OldClient.LEGO,
        home=str(home),
        certificates=found,
        unreadable=unreadable,
        stop=(),
        renews_by_itself=False,
        email=next(_emails(home), None),
    )


@dataclass(frozen=True, slots=True)
class _Entry:
    crt: Path
    lineage: str

    @property
    def files(self) -> PemFiles:
        return PemFiles(str(self.crt), str(self.crt.with_suffix(".key")))


def _read(source: CertificateSource, entry: _Entry) -> OldCertificate:
    bundle, files = _bundle(entry, source)
    domain = _json(entry.crt.with_suffix(".json")).get("domain")
    name = domain if isinstance(domain, str) else entry.crt.stem
    return OldCertificate(
        entry.lineage, bundle, files, stop=f"lego … {command('--domains', name)} … renew"
    )


def _bundle(entry: _Entry, source: CertificateSource) -> tuple[CertificateBundle, PemFiles | None]:
    """Read the certificate; made with `--no-bundle`, its chain lies in a file of its own."""
    try:
        return bundle_in(entry.files, source), entry.files
    except PlanRefused:
        issuer = entry.crt.with_name(f"{entry.crt.stem}{_ISSUER}.crt")
        if not issuer.exists():
            raise
    whole = text_of(entry.crt) + text_of(issuer)
    bundle = parse_bundle(whole, Secret(text_of(Path(entry.files.privkey))))
    must_have_names(bundle, entry.files.fullchain)
    if not (bundle.key_matches and bundle.chain_complete):
        raise CertificateError(
            Text("{path}: key, certificate and chain do not belong together", path=entry.crt)
        )
    return bundle, None


def _emails(home: Path) -> Iterator[str]:
    for path in sorted((home / "accounts").glob("*/*/account.json")):
        email = _json(path).get("email")
        if isinstance(email, str) and email:
            yield email


def _json(path: Path) -> dict[str, object]:
    try:
        read = json.loads(text_of(path))
    except (CertificateError, ValueError, RecursionError):
        return {}
    return read if isinstance(read, dict) else {}
