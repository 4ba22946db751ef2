"""Services with altered answers: their ports raise only certferry's own errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, TypeVar, cast

import pytest
from hypothesis import given

from certferry.adapters.aliyun.target import Aliyun
from certferry.adapters.qiniu.records import KODO, PILI
from certferry.adapters.qiniu.target import Qiniu
from certferry.adapters.qiniu.wire import Hosts
from certferry.adapters.tencentcloud import dns as tencentcloud
from certferry.adapters.tencentcloud.edgeone import EO
from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.certificates.lineage import label_of
from certferry.core.desired.certificate import DesiredHttps, Kind
from certferry.core.redaction import Secret
from certferry.ports.examination import Examined, PointedAt, Reporting, Timed
from certferry.ports.survey import Surveyed, ZoneKeeper
from certferry.ports.target import DeployTarget, Scope
from certferry_sandbox.testing.context import connected_with
from certferry_sandbox.testing.memory_issuer import MemoryAccount
from tests.adapters.aliyun.cloud import open_cloud
from tests.adapters.dnspod.account import DnspodAccount
from tests.adapters.qiniu.account import RULES, WWW, bundle, bundle_of, open_account
from tests.adapters.tencentcloud.account import SECRET_ID, TencentCloudAccount, tencentcloud_account
from tests.adapters.tencentcloud.account import SECRET_KEY as TENCENT_KEY
from tests.adapters.tencentcloud.places import open_places
from tests.fuzz.altered_answers import Alteration, Altered, alterations
from tests.fuzz.outcomes import only_ours, over_sockets
from tests.sandbox.qiniu_calls import issue

LINEAGE = "img"
SOURCE = "source.example.com"
LIVE = "live.example.com"
CHALLENGE = "_acme-challenge.www.example.com"

AnAccount = TypeVar("AnAccount", DnspodAccount, TencentCloudAccount)


class Target(DeployTarget, Surveyed, Examined, Timed, PointedAt, Reporting, Protocol):
    """A vendor's target."""


@dataclass(frozen=True, repr=False)
class AlteredAccount:
    """An account of a vendor, and fronts that alter the answers of its hosts."""

    fronts: Sequence[Altered]
    #: Returns a target as in a new process.
    target: Callable[[], Target]
    held: CertificateBundle
    held_id: str
    offered: CertificateBundle = field(default_factory=lambda: bundle(WWW, "*.example.com"))

    def begins(self, alteration: Alteration) -> None:
        """Begin an altered conversation; all hosts share a single count of answers."""
        turn = alteration.turns()
        for front in self.fronts:
            front.turn = turn

    def is_looked_at(self, alteration: Alteration, *named: str) -> None:
        """Observe all domains, then named domains; survey and examine the account."""
        known = (self.held.certificate, self.offered.certificate)
        names = (WWW, "*.example.com")
        for domains in (None, named):
            self.begins(alteration)
            look = Scope(LINEAGE, names, domains, Kind.AUTO, known, others=domains is None)
            only_ours(partial(self.target().observe, look))
        for ask in (
            lambda target: target.survey(lambda *_: None),
            lambda target: target.clock_ahead(),
            lambda target: target.examine("account"),
            lambda target: target.cnames(),
        ):
            self.begins(alteration)
            only_ours(partial(ask, self.target()))

    def is_changed(self, alteration: Alteration, *bindings: tuple[str, Kind, DesiredHttps]) -> None:
        """Upload, bind and remove, with one target."""
        target = self.target()
        label = label_of(LINEAGE, self.held.certificate.fingerprint)
        calls: list[Callable[[], object]] = [
            partial(target.upload, LINEAGE, self.offered),
            *(partial(target.bind, name, kind, self.held_id, s) for name, kind, s in bindings),
            partial(target.retire, self.held_id, label),
        ]
        for call in calls:
            self.begins(alteration)
            only_ours(call)

    def reports_no(self, alteration: Alteration, *words: str) -> None:
        """Make a report, which shows neither domain nor certificate, nor further words."""
        self.begins(alteration)
        lines = "\n".join(map(str, self.target().report().lines))
        assert [] == [word for word in ("example", self.held_id, *words) if word in lines]


KEEP, VERSIONS = DesiredHttps(), DesiredHttps(force_https=True, tls_versions=("TLSv1.3",))


def held_by(service: Any, *names: str) -> tuple[CertificateBundle, str]:
    """Return a certificate in a stand-in's store under certferry's label, and the id."""
    issued = issue(*names)
    held = bundle_of(issued)
    label = label_of(LINEAGE, held.certificate.fingerprint)
    return held, str(service.add_certificate(issued, label))


@pytest.fixture(scope="module")
def qiniu() -> Iterator[AlteredAccount]:
    """Run a strict stand-in with domains of every kind, and the fronts before its hosts."""
    with open_account() as account, ExitStack() as running:
        service = account.service
        held, held_id = held_by(service, WWW)
        service.add_domain(WWW, https=held_id, tls_versions=["TLSv1.2"])
        service.add_domain("plain.example.com")
        service.add_domain(".example.com")
        service.add_bucket_domain(SOURCE, "pictures", https=held_id)
        service.add_live_domain(LIVE, "studio", https=held_id)
        real, time = account.hosts, account.time
        urls = (real.api, real.fusion, real.uc, real.api_backup, real.uc_backup, real.pili)
        fronts = {url: running.enter_context(Altered(url)) for url in dict.fromkeys(urls)}
        hosts = Hosts(*(fronts[url].url for url in urls))

        def target() -> Qiniu:
            client, memory = account.client(hosts=hosts), MemoryAccount()
            return Qiniu(client, RULES, memory, pause=time.pause, now=time.now, clock=time.clock)

        yield AlteredAccount(tuple(fronts.values()), target, held, held_id)


@pytest.fixture(scope="module")
def aliyun() -> Iterator[AlteredAccount]:
    """Run a strict stand-in, and the fronts before its hosts."""
    with open_cloud() as cloud, ExitStack() as running:
        service = cloud.service
        held, held_id = held_by(service, WWW)
        service.add_domain(WWW, https=int(held_id))
        service.add_domain("plain.example.com", product="dcdn")
        service.add_domain(".example.com")
        urls = {"cdn": service.cdn.url, "dcdn": service.dcdn.url, "cas": service.cas.url}
        fronts = {name: running.enter_context(Altered(url)) for name, url in urls.items()}

        def target() -> Aliyun:
            cloud.memory = MemoryAccount()
            return cloud.target(**{name: front.url for name, front in fronts.items()})

        yield AlteredAccount(tuple(fronts.values()), target, held, held_id)


@pytest.fixture(scope="module")
def tencent_places() -> Iterator[AlteredAccount]:
    """Run the stand-in of Tencent Cloud behind a front, which passes on the signed host."""
    with open_places() as places, Altered(places.service.url) as front:
        service = places.service
        held, held_id = held_by(service, WWW, "*.example.com")
        service.add_cdn_domain(WWW, certificate=held_id)
        service.add_cdn_domain("plain.example.com")
        service.add_host("host.example.com", service.add_zone("example.com"))
        target = partial(places.target, cdn=front.url, ssl=front.url, teo=front.url)
        yield AlteredAccount((front,), target, held, held_id)


@over_sockets
@given(alteration=alterations())
def test_qiniu_is_looked_at(qiniu: AlteredAccount, alteration: Alteration) -> None:
    """Lists, domains, buckets, bindings, and certificates of other owners are read."""
    qiniu.is_looked_at(alteration, WWW, SOURCE, LIVE, "plain.example.com")


@over_sockets
@given(alteration=alterations())
def test_qiniu_is_changed(qiniu: AlteredAccount, alteration: Alteration) -> None:
    """An upload, bindings of every kind and a removal, also with an unknown result."""
    plain = ("plain.example.com", Kind.CDN, VERSIONS)
    others = ((SOURCE, KODO, KEEP), (LIVE, PILI, KEEP))
    qiniu.is_changed(alteration, (WWW, Kind.CDN, KEEP), plain, *others)


@over_sockets
@given(alteration=alterations())
def test_report_of_qiniu(qiniu: AlteredAccount, alteration: Alteration) -> None:
    """The report ends for every answer, and names neither domain nor certificate."""
    qiniu.reports_no(alteration, "pictures", "studio")


@over_sockets
@given(alteration=alterations())
def test_aliyun_is_looked_at(aliyun: AlteredAccount, alteration: Alteration) -> None:
    """Lists, bindings, edges, and certificates of other owners are read; the report names none."""
    aliyun.is_looked_at(alteration, WWW, "plain.example.com")
    aliyun.reports_no(alteration)


@over_sockets
@given(alteration=alterations())
def test_aliyun_is_changed(aliyun: AlteredAccount, alteration: Alteration) -> None:
    """An upload, bindings at both products and a removal, also with an unknown result."""
    plain = ("plain.example.com", Kind.DCDN, KEEP)
    aliyun.is_changed(alteration, (WWW, Kind.CDN, KEEP), plain)


@over_sockets
@given(alteration=alterations())
def test_tencent_clouds_places_are_looked_at(
    tencent_places: AlteredAccount, alteration: Alteration
) -> None:
    """Lists of both products and of certificates are read."""
    tencent_places.is_looked_at(alteration, WWW, "host.example.com")


@over_sockets
@given(alteration=alterations())
def test_tencent_clouds_places_are_changed(
    tencent_places: AlteredAccount, alteration: Alteration
) -> None:
    """An upload, bindings of both products and a removal, also with an unknown result."""
    plain, host = ("plain.example.com", Kind.CDN, VERSIONS), ("host.example.com", EO, KEEP)
    tencent_places.is_changed(alteration, (WWW, Kind.CDN, KEEP), plain, host)


@over_sockets
@given(alteration=alterations())
def test_report_of_tencent_cloud(tencent_places: AlteredAccount, alteration: Alteration) -> None:
    """The report ends for every answer, and names neither domain nor certificate."""
    tencent_places.reports_no(alteration)


def with_zones(account: AnAccount) -> AnAccount:
    account.service.add_domain("example.com")
    account.service.add_domain("example.org", grade="DP_Plus")
    return account


@pytest.fixture(scope="module")
def tencent() -> Iterator[tuple[TencentCloudAccount, Altered]]:
    """Run the stand-in of Tencent Cloud behind a front, which passes on the signed host."""
    with tencentcloud_account() as account, Altered(account.service.url) as front:
        yield with_zones(account), front


@over_sockets
@given(alteration=alterations())
def test_tencent_cloud_is_asked(
    tencent: tuple[TencentCloudAccount, Altered], alteration: Alteration
) -> None:
    """Zones are read, and a record is written and removed, with its handle and without."""
    account, front = tencent
    settings = tencentcloud.Settings(
        Secret(SECRET_ID), Secret(TENCENT_KEY), front.url, requests_per_second=1e6
    )
    provider = tencentcloud.connect(settings, connected_with(pause=account.waits, now=account.now))
    for call in (
        cast("ZoneKeeper", provider).zones,
        partial(provider.add_txt, CHALLENGE, "a value"),
        partial(provider.remove_txt, CHALLENGE, "a value", None),
        partial(provider.remove_txt, CHALLENGE, "another value", "38280687|1"),
        cast("Timed", provider).clock_ahead,
    ):
        front.turn = alteration.turns()
        only_ours(call)
