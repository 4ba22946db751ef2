"""What `certferry init` finds, for tests: domains, zones, another client's lineages."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from certferry.core.desired import Kind, PemFiles
from certferry.core.proposal import Places, Proposal
from certferry.core.survey import FoundDomain, FoundZone
from certferry.migration.home import OldCertificate
from certferry.migration.takeover import propose_takeover
from certferry.testing.certificates import make_bundle
from certferry.text import Text

NOW = datetime(2026, 11, 25, tzinfo=UTC)
FILES = PemFiles("/ssl/fullchain.pem", "/ssl/privkey.pem")
FROZEN = Text("it is frozen")


def domain(name: str, problem: Text | None = None, *, by_itself: bool = True) -> FoundDomain:
    """Find a domain on the CDN."""
    return FoundDomain(name, Kind.CDN, problem=problem, by_itself=by_itself)


def places(*domains: FoundDomain, zones: tuple[str, ...] = ("example.com",)) -> Places:
    """Put domains and zones into two accounts."""
    return Places("dnspod", tuple(map(FoundZone, zones)), "qiniu", domains)


def inherited(lineage: str, *names: str, age: int = 10, **more: object) -> OldCertificate:
    """Make another client's lineage."""
    bundle = make_bundle(*names, not_before=NOW - timedelta(days=age))
    return OldCertificate(lineage, bundle, FILES, f"stop {lineage}", **more)  # type: ignore[arg-type]  # the fields of the test


def taken_over(places: Places, *lineages: OldCertificate) -> Proposal:
    """Propose to go on with lineages."""
    return propose_takeover(lineages, places, "acme.sh", keep_client=False)
