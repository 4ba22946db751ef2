"""Certificates of another client, as tests pass them to `certferry init --from`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from certferry.core.desired.certificate import PemFiles
from certferry.core.discovery.proposal import Places, Proposal
from certferry.migration.home import OldCertificate
from certferry.migration.takeover import propose_takeover
from certferry_sandbox.testing.certificates import make_bundle

NOW = datetime(2026, 11, 25, tzinfo=UTC)
FILES = PemFiles("/ssl/fullchain.pem", "/ssl/privkey.pem")


def inherited(lineage: str, *names: str, age: int = 10, **more: object) -> OldCertificate:
    """Return a certificate that another client issued `age` days ago."""
    bundle = make_bundle(*names, not_before=NOW - timedelta(days=age))
    return OldCertificate(lineage, bundle, FILES, f"stop {lineage}", **more)  # type: ignore[arg-type]  # the fields of the test


def taken_over(places: Places, *lineages: OldCertificate) -> Proposal:
    return propose_takeover(lineages, places, "acme.sh", keep_client=False)
