"""Hosts of EdgeOne: zones, certificates of several kinds of keys, wildcards, both products."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from certferry.adapters.cdn.caches import LIST_AGE
from certferry.adapters.tencentcloud.edgeone import EO, kind_of
from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.certificates.lineage import label_of
from certferry.core.desired.certificate import DesiredHttps, Kind
from certferry.core.observed.observation import DomainState, ObservedTarget
from certferry.core.redaction import Secret
from certferry.errors import TargetAccessDenied, TargetBusy, TargetInUse, TargetRejected
from certferry.ports.target import Scope
from certferry_sandbox.authority import KeyType
from certferry_sandbox.faults import Fault
from certferry_sandbox.tencentcloud.edgeone import Zone
from tests.adapters.qiniu.account import bundle_of, fault_id
from tests.adapters.tencentcloud.places import LOST, TencentPlaces, open_places
from tests.sandbox.qiniu_calls import issue

LINEAGE = "img"
IMG = "img.example.com"
NAMES = (IMG, "*.example.com")
KEEP = DesiredHttps()


@pytest.fixture
def places() -> Iterator[TencentPlaces]:
    with open_places() as places:
        yield places


@pytest.fixture
def zone(places: TencentPlaces) -> Zone:
    return places.service.add_zone("example.com")


def bundle(*, key_type: KeyType = "ec256") -> CertificateBundle:
    return bundle_of(issue(*NAMES, key_type=key_type))


def put(places: TencentPlaces, alias: str, key_type: KeyType) -> str:
    return places.service.add_certificate(issue(*NAMES, key_type=key_type), alias)


def observe(places: TencentPlaces, *domains: str, kind: Kind = Kind.AUTO) -> ObservedTarget:
    return places.target().observe(Scope(LINEAGE, NAMES, domains or None, kind, ()))


def bound(places: TencentPlaces, host: str = IMG) -> list[str]:
    return [stored.id for stored in places.service.host(host).certificates]


def test_host_is_found_and_bound(places: TencentPlaces, zone: Zone) -> None:
    """A host is a domain of the kind `eo`, without settings; only its zone is read."""
    places.service.add_zone("example.org")
    places.service.add_host(IMG, zone)
    target = places.target()
    known = bundle()
    scope = Scope(LINEAGE, NAMES, None, Kind.AUTO, (known.certificate,))
    [domain] = target.observe(scope).domains
    assert (EO, DomainState.READY, None) == (domain.kind, domain.state, domain.bound)
    assert not domain.has_settings
    assert 1 == len(places.service.calls("DescribeAccelerationDomains"))

    remote_id = target.upload(LINEAGE, known)
    assert target.bind(IMG, EO, remote_id, KEEP)
    places.time.pause(LIST_AGE)

    [domain] = target.observe(scope).domains
    assert (DomainState.READY, remote_id) == (domain.state, domain.bound)
    [call] = places.service.calls("ModifyHostsCertificate")
    assert ("sslcert", [IMG]) == (call.fields["Mode"], call.fields["Hosts"])
    assert target.bind(IMG, EO, remote_id, KEEP) is None
    assert 1 == len(places.service.calls("ModifyHostsCertificate"))


@pytest.mark.parametrize(("ours", "other"), [("ec256", "rsa2048"), ("rsa2048", "ec256")])
def test_other_kind_of_key_stays(
    places: TencentPlaces, zone: Zone, ours: KeyType, other: KeyType
) -> None:
    """The call replaces all certificates, so the certificate with another kind of key is sent."""
    theirs, old = put(places, "theirs", other), put(places, "old", ours)
    places.service.add_host(IMG, zone, theirs, old)
    target = places.target()
    new = target.upload(LINEAGE, bundle(key_type=ours))

    target.bind(IMG, EO, new, KEEP)

    assert [theirs, new] == bound(places)


def test_kind_of_key_by_the_host_alone(places: TencentPlaces, zone: Zone) -> None:
    """Without the kind in the store's list, the host's list and the upload decide."""
    places.service.certificates.hides_algorithm = True
    theirs, old = put(places, "theirs", "rsa2048"), put(places, "old", "ec256")
    places.service.add_host(IMG, zone, theirs, old)
    target = places.target()

    target.bind(IMG, EO, target.upload(LINEAGE, bundle()), KEEP)

    assert theirs in bound(places)
    assert old not in bound(places)


def test_unknown_kind_of_key(places: TencentPlaces, zone: Zone) -> None:
    """If the new certificate's kind is unknown too, another owner's certificate stays, and
    certferry's own earlier copy is replaced.
    """
    places.service.certificates.hides_algorithm = True
    theirs = put(places, "theirs", "ec256")
    places.service.add_host(IMG, zone, theirs)
    new = places.target().upload(LINEAGE, bundle())

    with pytest.raises(TargetRejected) as caught:
        places.target().bind(IMG, EO, new, KEEP)

    assert "kind of key" in str(caught.value)
    assert [theirs] == bound(places)
    ours = put(places, label_of(LINEAGE, "0" * 64), "ec256")
    places.service.add_host("b.example.com", zone, ours)
    places.target().bind("b.example.com", EO, new, KEEP)
    assert [new] == bound(places, "b.example.com")


@pytest.mark.parametrize(
    ("words", "kind"), [("RSA 2048", "rsa"), ("ECC 256", "ec"), ("ec256", "ec"), ("SM2", "sm2")]
)
def test_kinds_of_keys(words: str, kind: str) -> None:
    """The vendor's words and certferry's are read."""
    assert kind == kind_of(words)
    assert kind_of("") is None


@pytest.mark.parametrize(
    ("host", "domain", "words"),
    [
        ("*.example.com", {}, "wildcard"),
        (IMG, {"status": "forbidden"}, "switched off"),
        (IMG, {"status": "strange"}, "does not know the state"),
    ],
)
def test_host_that_takes_no_certificate(
    places: TencentPlaces, zone: Zone, host: str, domain: dict[str, Any], words: str
) -> None:
    """The host is reported with the reason; nothing is sent."""
    places.service.add_host(host, zone, **domain)
    target = places.target()
    new = target.upload(LINEAGE, bundle())

    [observed] = observe(places, host).domains
    with pytest.raises(TargetRejected):
        target.bind(host, EO, new, KEEP)

    assert DomainState.UNAVAILABLE is observed.state
    assert words in str(observed.problem)
    assert not places.service.calls("ModifyHostsCertificate")


def test_paused_zone(places: TencentPlaces, zone: Zone) -> None:
    """Hosts of a paused zone are switched off."""
    places.service.add_host(IMG, zone)
    zone.paused = True

    assert [IMG] == [domain.domain for domain in observe(places).left_out]


def test_change_in_progress_and_its_failure(places: TencentPlaces, zone: Zone) -> None:
    """A second change is not sent; a failed change leaves the earlier certificate."""
    old = put(places, "old", "ec256")
    places.service.add_host(IMG, zone, old, held=True)
    places.service.edgeone.fail_next(IMG)
    target = places.target()
    new = target.upload(LINEAGE, bundle())

    target.bind(IMG, EO, new, KEEP)
    [domain] = observe(places).domains
    assert DomainState.PROCESSING is domain.state
    with pytest.raises(TargetBusy):
        target.bind(IMG, EO, new, KEEP)
    with pytest.raises(TargetInUse):
        target.retire(new, places.labels()[-1])
    places.service.release(IMG)

    [domain] = observe(places).domains
    assert (DomainState.FAILED, old) == (domain.state, domain.bound)
    assert domain.problem is not None
    assert target.bind(IMG, EO, new, KEEP)
    assert [new] == bound(places)


@pytest.mark.parametrize("fault", LOST, ids=fault_id)
def test_lost_answer_to_a_binding(places: TencentPlaces, zone: Zone, fault: Fault) -> None:
    """The change is found, and made once."""
    places.service.add_host(IMG, zone)
    target = places.target()
    new = target.upload(LINEAGE, bundle())
    places.service.faults.add(fault, on="POST /ModifyHostsCertificate")

    assert target.bind(IMG, EO, new, KEEP) is None

    assert 1 == len(places.service.calls("ModifyHostsCertificate"))
    assert [new] == bound(places)


def test_domain_at_both_products(places: TencentPlaces, zone: Zone) -> None:
    """A domain belongs to the product that has it switched on, the CDN first."""
    for name in (IMG, "www.example.com"):
        places.service.add_host(name, zone)
    places.service.add_cdn_domain(IMG)
    places.service.add_cdn_domain("www.example.com", status="offline")

    kinds = {domain.domain: domain.kind for domain in observe(places).domains}

    assert {IMG: Kind.CDN, "www.example.com": EO} == kinds


def test_domain_of_the_other_kind(places: TencentPlaces, zone: Zone) -> None:
    """A named domain is searched at the product of `kind` alone."""
    places.service.add_host(IMG, zone)

    [domain] = observe(places, IMG, kind=Kind.CDN).domains

    assert DomainState.UNAVAILABLE is domain.state
    assert f'no domain {IMG} of kind "cdn"' in str(domain.problem)
    assert domain.problem is not None
    assert "remove `kind`" in str(domain.problem.hint)
    [nowhere] = observe(places, "www.example.com").domains
    assert "neither a CDN domain nor a host" in str(nowhere.problem)
    with pytest.raises(TargetRejected):
        observe(places, IMG, kind=Kind("dcdn"))


@pytest.mark.parametrize(
    ("services", "unread"), [({"cdn", "ssl"}, 1), ({"cdn", "ssl", "teo"}, 0), ({"cdn"}, 2)]
)
def test_rights_for_some_services(places: TencentPlaces, services: set[str], unread: int) -> None:
    """The CDN's domains are served without rights for EdgeOne; the result names the rest."""
    places.service.add_key("AKIDsome", "some", services=frozenset(services))
    key = places.service.add_key("AKIDsome", "some")
    places.service.add_cdn_domain(IMG, key=key)
    target = places.target(secret_id=Secret("AKIDsome"), secret_key=Secret("some"))

    found = target.observe(Scope(LINEAGE, NAMES, None, Kind.AUTO, ()))

    assert [IMG] == [domain.domain for domain in found.domains]
    assert unread == len(found.unread)
    assert ("ssl" not in services) == found.remotes_hidden
    assert all(isinstance(error, TargetAccessDenied) for error in found.unread)


def test_key_with_dns_alone(places: TencentPlaces) -> None:
    """The refusal shows the policy to paste, and allows no retry."""
    places.service.add_key("AKIDdns", "dns", services=frozenset({"dnspod"}))
    target = places.target(secret_id=Secret("AKIDdns"), secret_key=Secret("dns"))

    with pytest.raises(TargetAccessDenied) as caught:
        target.observe(Scope(LINEAGE, NAMES, None, Kind.AUTO, ()))

    assert '"cdn:ModifyDomainConfig"' in str(caught.value.hint)
    assert not caught.value.retry.allowed


@pytest.mark.parametrize("name", ["example.com", IMG, "", "a-mark"])
def test_zones_that_may_hold_a_host(places: TencentPlaces, name: str) -> None:
    """A zone above a name, a zone that a wildcard covers, and a zone without a domain are read."""
    places.service.add_host(IMG, places.service.add_zone(name))
    scope = Scope(LINEAGE, ("*.example.com",), None, Kind.AUTO, ())

    assert [IMG] == [domain.domain for domain in places.target().observe(scope).domains]


def test_zone_with_name_servers_has_no_cname_to_set(places: TencentPlaces, zone: Zone) -> None:
    """Only hosts that are pointed at by CNAMEs are reported to `doctor`."""
    places.service.add_host(IMG, zone)
    zone.type = "full"

    assert {} == places.target().cnames()
