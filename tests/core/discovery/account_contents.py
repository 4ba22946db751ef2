"""Domains and zones of accounts as `certferry init` reads them."""

from __future__ import annotations

from certferry.core.desired.certificate import Kind
from certferry.core.discovery.inventory import FoundDomain, FoundZone
from certferry.core.discovery.proposal import Places, Service, TargetAccount
from certferry.errors import CertferryError, TargetRejected
from certferry.text import Text

FROZEN = TargetRejected(Text("it is frozen"))


def domain(
    name: str, problem: CertferryError | None = None, *, by_itself: bool = True
) -> FoundDomain:
    return FoundDomain(name, Kind.CDN, problem=problem, by_itself=by_itself)


QINIU = Service(Text("Qiniu"), ("qiniu",))


def places(*domains: FoundDomain, zones: tuple[str, ...] = ("example.com",)) -> Places:
    return Places("dnspod", tuple(map(FoundZone, zones)), (TargetAccount("qiniu", domains, QINIU),))
