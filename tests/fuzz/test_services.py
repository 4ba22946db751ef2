"""Services with altered answers: their ports raise only certferry's own errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TypeVar, cast

import pytest
from hypothesis import given

from certferry.adapters.aliyun.target import Aliyun
from certferry.adapters.qiniu.records import KODO, PILI
from certferry.adapters.qiniu.target import Qiniu
from certferry.adapters.qiniu.wire import Hosts
from certferry.adapters.tencentcloud import dns as tencentcloud
from certferry.adapters.tencentcloud.edgeone import EO
from certferry.adapters.tencentcloud.target import TencentCloud
from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.certificates.lineage import label_of
from certferry.core.desired.certificate import DesiredHttps, Kind
from certferry.core.redaction import Secret
from certferry.ports.examination import Timed
from certferry.ports.survey import ZoneKeeper
from certferry.ports.target import Scope
from certferry_sandbox.testing.context import connected_with
from certferry_sandbox.testing.memory_issuer import MemoryAccount
from tests.adapters.aliyun.cloud import AliyunCloud, open_cloud
from tests.adapters.dnspod.account import DnspodAccount
from tests.adapters.qiniu.account import RULES, WWW, QiniuAccount, bundle, bundle_of, open_account
from tests.adapters.tencentcloud.account import SECRET_ID, TencentCloudAccount, tencentcloud_account
from tests.adapters.tencentcloud.account import SECRET_KEY as TENCENT_KEY
from tests.adapters.tencentcloud.places import TencentPlaces, open_places
from tests.fuzz.altered_answers import Alteration, Altered, alterations
from tests.fuzz.outcomes import only_ours, over_sockets
from tests.sandbox.qiniu_calls import issue

LINEAGE = "img"
SOURCE = "source.example.com"
LIVE = "live.example.com"
CHALLENGE = "_acme-challenge.www.example.com"

AnAccount = TypeVar("AnAccount", DnspodAccount, TencentCloudAccount)


@dataclass(frozen=True, repr=False)
class AlteredQiniu:
    """An account with domains of every kind, and fronts that alter the answers of its hosts."""

    qiniu: QiniuAccount
    fronts: dict[str, Altered]
    held: CertificateBundle
    held_id: str
    offered: CertificateBundle

    def alter(self, alteration: Alteration) -> None:
        """Begin an altered conversation; all hosts share a single count of answers."""
        turn = alteration.turns()
        for front in self.fronts.values():
            front.turn = turn

    @property
    def hosts(self) -> Hosts:
        """The hosts, each behind its front."""
        real_hosts = self.qiniu.hosts
        urls = (
            real_hosts.api,
            real_hosts.fusion,
            real_hosts.uc,
            real_hosts.api_backup,
            real_hosts.uc_backup,
            real_hosts.pili,
        )
        return Hosts(*(self.fronts[url].url for url in urls))

    def target(self) -> Qiniu:
        """Return a target as in a new process."""
        client = self.qiniu.client(hosts=self.hosts)
        passing = self.qiniu.time
        return Qiniu(
            client,
            RULES,
            MemoryAccount(),
            pause=passing.pause,
            now=passing.now,
            clock=passing.clock,
        )


@pytest.fixture(scope="module")
def qiniu() -> Iterator[AlteredQiniu]:
    """Run a strict stand-in, and the fronts before its hosts."""
    with open_account() as qiniu, ExitStack() as running:
        service = qiniu.service
        held = issue(WWW)
        label = label_of(LINEAGE, bundle_of(held).certificate.fingerprint)
        held_id = service.add_certificate(held, label)
        service.add_domain(WWW, https=held_id, tls_versions=["TLSv1.2"])
        service.add_domain("plain.example.com")
        service.add_domain(".example.com")
        service.add_bucket_domain(SOURCE, "pictures", https=held_id)
        service.add_live_domain(LIVE, "studio", https=held_id)
        hosts = qiniu.hosts
        urls = {hosts.api, hosts.fusion, hosts.uc, hosts.api_backup, hosts.uc_backup, hosts.pili}
        fronts = {url: running.enter_context(Altered(url)) for url in urls}
        yield AlteredQiniu(qiniu, fronts, bundle_of(held), held_id, bundle(WWW, "*.example.com"))


@dataclass(frozen=True, repr=False)
class AlteredAliyun:
    """An account at Alibaba Cloud, and fronts that alter the answers of its hosts."""

    cloud: AliyunCloud
    fronts: dict[str, Altered]
    held: CertificateBundle
    held_id: str
    offered: CertificateBundle

    def alter(self, alteration: Alteration) -> None:
        """Begin an altered conversation; all hosts share a single count of answers."""
        turn = alteration.turns()
        for front in self.fronts.values():
            front.turn = turn

    def target(self) -> Aliyun:
        """Return a target as in a new process."""
        self.cloud.memory = MemoryAccount()
        return self.cloud.target(**{name: front.url for name, front in self.fronts.items()})


@pytest.fixture(scope="module")
def aliyun() -> Iterator[AlteredAliyun]:
    """Run a strict stand-in, and the fronts before its hosts."""
    with open_cloud() as cloud, ExitStack() as running:
        service = cloud.service
        held = issue(WWW)
        label = label_of(LINEAGE, bundle_of(held).certificate.fingerprint)
        held_id = service.add_certificate(held, label)
        service.add_domain(WWW, https=held_id)
        service.add_domain("plain.example.com", product="dcdn")
        service.add_domain(".example.com")
        urls = {"cdn": service.cdn.url, "dcdn": service.dcdn.url, "cas": service.cas.url}
        fronts = {name: running.enter_context(Altered(url)) for name, url in urls.items()}
        offered = bundle(WWW, "*.example.com")
        yield AlteredAliyun(cloud, fronts, bundle_of(held), str(held_id), offered)


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
def test_qiniu_is_looked_at(qiniu: AlteredQiniu, alteration: Alteration) -> None:
    """Lists, domains, buckets, bindings, and certificates of other owners are read."""
    our_certificates = (qiniu.held.certificate, qiniu.offered.certificate)
    names = (WWW, "*.example.com")

    for named in (None, (WWW, SOURCE, LIVE, "plain.example.com")):
        qiniu.alter(alteration)
        look = Scope(LINEAGE, names, named, Kind.AUTO, our_certificates, others=named is None)
        only_ours(partial(qiniu.target().observe, look))
    qiniu.alter(alteration)
    only_ours(partial(qiniu.target().survey, lambda *_: None))
    for examine in (Qiniu.clock_ahead, partial(Qiniu.examine, account="qiniu"), Qiniu.cnames):
        qiniu.alter(alteration)
        only_ours(partial(examine, qiniu.target()))


@over_sockets
@given(alteration=alterations())
def test_qiniu_is_changed(qiniu: AlteredQiniu, alteration: Alteration) -> None:
    """An upload, bindings of every kind and a removal, also with an unknown result."""
    target = qiniu.target()
    label = label_of(LINEAGE, qiniu.held.certificate.fingerprint)
    keep, versions = DesiredHttps(), DesiredHttps(force_https=True, tls_versions=("TLSv1.3",))
    for call in (
        partial(target.upload, LINEAGE, qiniu.offered),
        partial(target.bind, WWW, Kind.CDN, qiniu.held_id, keep),
        partial(target.bind, "plain.example.com", Kind.CDN, qiniu.held_id, versions),
        partial(target.bind, SOURCE, KODO, qiniu.held_id, keep),
        partial(target.bind, LIVE, PILI, qiniu.held_id, keep),
        partial(target.retire, qiniu.held_id, label),
    ):
        qiniu.alter(alteration)
        only_ours(call)


@over_sockets
@given(alteration=alterations())
def test_aliyun_is_looked_at(aliyun: AlteredAliyun, alteration: Alteration) -> None:
    """Lists, bindings, edges, and certificates of other owners are read."""
    our_certificates = (aliyun.held.certificate, aliyun.offered.certificate)
    names = (WWW, "*.example.com")

    for named in (None, (WWW, "plain.example.com")):
        aliyun.alter(alteration)
        look = Scope(LINEAGE, names, named, Kind.AUTO, our_certificates, others=named is None)
        only_ours(partial(aliyun.target().observe, look))
    aliyun.alter(alteration)
    only_ours(partial(aliyun.target().survey, lambda *_: None))
    for examine in (Aliyun.clock_ahead, partial(Aliyun.examine, account="a"), Aliyun.cnames):
        aliyun.alter(alteration)
        only_ours(partial(examine, aliyun.target()))
    aliyun.alter(alteration)
    lines = "\n".join(map(str, aliyun.target().report().lines))
    assert [] == [name for name in ("example", aliyun.held_id) if name in lines]


@over_sockets
@given(alteration=alterations())
def test_aliyun_is_changed(aliyun: AlteredAliyun, alteration: Alteration) -> None:
    """An upload, bindings at both products and a removal, also with an unknown result."""
    target = aliyun.target()
    label = label_of(LINEAGE, aliyun.held.certificate.fingerprint)
    for call in (
        partial(target.upload, LINEAGE, aliyun.offered),
        partial(target.bind, WWW, Kind.CDN, aliyun.held_id, DesiredHttps()),
        partial(target.bind, "plain.example.com", Kind.DCDN, aliyun.held_id, DesiredHttps()),
        partial(target.retire, aliyun.held_id, label),
    ):
        aliyun.alter(alteration)
        only_ours(call)


@over_sockets
@given(alteration=alterations())
def test_report_of_qiniu(qiniu: AlteredQiniu, alteration: Alteration) -> None:
    """The report ends for every answer, and names neither domain nor certificate."""
    qiniu.alter(alteration)

    lines = "\n".join(map(str, qiniu.target().report().lines))

    assert [] == [
        name for name in ("example", "pictures", "studio", qiniu.held_id) if name in lines
    ]


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


@dataclass(frozen=True, repr=False)
class AlteredPlaces:
    """An account with domains of both products, and a front that alters the answers."""

    places: TencentPlaces
    front: Altered
    held: CertificateBundle
    held_id: str
    offered: CertificateBundle

    def target(self) -> TencentCloud:
        """Return a target as in a new process."""
        url = self.front.url
        return self.places.target(cdn=url, ssl=url, teo=url)


@pytest.fixture(scope="module")
def altered_places() -> Iterator[AlteredPlaces]:
    """Run the stand-in of Tencent Cloud behind a front, which passes on the signed host."""
    with open_places() as places, Altered(places.service.url) as front:
        held = issue(WWW, "*.example.com")
        label = label_of(LINEAGE, bundle_of(held).certificate.fingerprint)
        held_id = places.service.add_certificate(held, label)
        places.service.add_cdn_domain(WWW, certificate=held_id)
        places.service.add_cdn_domain("plain.example.com")
        zone = places.service.add_zone("example.com")
        places.service.add_host("host.example.com", zone)
        offered = bundle(WWW, "*.example.com")
        yield AlteredPlaces(places, front, bundle_of(held), held_id, offered)


@over_sockets
@given(alteration=alterations())
def test_tencent_clouds_places_are_looked_at(
    altered_places: AlteredPlaces, alteration: Alteration
) -> None:
    """Lists of both products and of certificates are read."""
    our_certificates = (altered_places.held.certificate, altered_places.offered.certificate)
    names = (WWW, "*.example.com")
    for named in (None, (WWW, "host.example.com")):
        altered_places.front.turn = alteration.turns()
        look = Scope(LINEAGE, names, named, Kind.AUTO, our_certificates, others=named is None)
        only_ours(partial(altered_places.target().observe, look))
    altered_places.front.turn = alteration.turns()
    only_ours(partial(altered_places.target().survey, lambda *_: None))
    for examine in (
        TencentCloud.clock_ahead,
        partial(TencentCloud.examine, account="tencentcloud"),
        TencentCloud.cnames,
    ):
        altered_places.front.turn = alteration.turns()
        only_ours(partial(examine, altered_places.target()))


@over_sockets
@given(alteration=alterations())
def test_tencent_clouds_places_are_changed(
    altered_places: AlteredPlaces, alteration: Alteration
) -> None:
    """An upload, bindings of both products and a removal, also with an unknown result."""
    target = altered_places.target()
    label = label_of(LINEAGE, altered_places.held.certificate.fingerprint)
    keep, versions = DesiredHttps(), DesiredHttps(force_https=True, tls_versions=("TLSv1.3",))
    for call in (
        partial(target.upload, LINEAGE, altered_places.offered),
        partial(target.bind, WWW, Kind.CDN, altered_places.held_id, keep),
        partial(target.bind, "plain.example.com", Kind.CDN, altered_places.held_id, versions),
        partial(target.bind, "host.example.com", EO, altered_places.held_id, keep),
        partial(target.retire, altered_places.held_id, label),
    ):
        altered_places.front.turn = alteration.turns()
        only_ours(call)


@over_sockets
@given(alteration=alterations())
def test_report_of_tencent_cloud(altered_places: AlteredPlaces, alteration: Alteration) -> None:
    """The report ends for every answer, and names neither domain nor certificate."""
    altered_places.front.turn = alteration.turns()

    lines = "\n".join(map(str, altered_places.target().report().lines))

    assert [] == [name for name in ("example", altered_places.held_id) if name in lines]
