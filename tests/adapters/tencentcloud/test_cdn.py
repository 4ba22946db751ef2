"""CDN domains at Tencent Cloud: states, bindings with kept settings, lost answers, requests."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from certferry.adapters.cdn.caches import LIST_AGE
from certferry.adapters.tencentcloud.target import DeploySettings
from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.desired.certificate import DesiredHttps, Kind
from certferry.core.observed.observation import DomainState, ObservedDomain, ObservedTarget
from certferry.errors import TargetBusy, TargetRejected, TargetUnavailable
from certferry.ports.target import Scope
from certferry_sandbox.faults import Fault
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


def bundle(*names: str) -> CertificateBundle:
    return bundle_of(issue(*(names or NAMES)))


def observe(
    places: TencentPlaces, *domains: str, kind: Kind = Kind.CDN, **more: Any
) -> ObservedTarget:
    return places.target().observe(Scope(LINEAGE, NAMES, domains or None, kind, (), **more))


def the_domain(places: TencentPlaces, name: str = IMG) -> ObservedDomain:
    [domain] = observe(places, name).domains
    return domain


# --- Settings


def test_only_the_leaf_is_sent(places: TencentPlaces) -> None:
    """A domain with HTTPS gets the certificate alone; everything else stays at the vendor."""
    old = places.service.add_certificate(issue(*NAMES), "by hand")
    places.service.add_cdn_domain(IMG, certificate=old, redirects=True, https={"Http2": "on"})
    target = places.target()
    new = target.upload(LINEAGE, bundle())

    request_id = target.bind(IMG, Kind.CDN, new, KEEP)

    [call] = places.service.calls("ModifyDomainConfig")
    expected = {"Domain": IMG, "Route": "Https.CertInfo.CertId", "Value": f'{{"update": "{new}"}}'}
    assert expected == call.fields
    assert not places.service.calls("UpdateDomainConfig")
    assert request_id
    domain = places.service.domain(IMG)
    assert (new, "on", "on") == (domain.bound, domain.https["Http2"], domain.redirect["Switch"])


def test_switched_on_with_the_settings_it_had(places: TencentPlaces) -> None:
    """HTTPS goes on by the whole object, with the present properties and without `SslStatus`."""
    hsts = {"Switch": "on", "MaxAge": 600}
    places.service.add_cdn_domain(IMG, https={"Hsts": hsts, "TlsVersion": ["TLSv1.2"]})
    target = places.target()
    new = target.upload(LINEAGE, bundle())

    target.bind(IMG, Kind.CDN, new, KEEP)

    [call] = places.service.calls("UpdateDomainConfig")
    assert {"Domain", "Https"} == set(call.fields)
    assert "SslStatus" not in call.fields["Https"]
    domain = places.service.domain(IMG)
    assert (new, hsts) == (domain.bound, domain.https["Hsts"])
    assert (["TLSv1.2"], "off") == (domain.https["TlsVersion"], domain.redirect["Switch"])


def test_declared_settings_leave_the_others(places: TencentPlaces) -> None:
    """Declared settings change together with the certificate, in one call."""
    old = places.service.add_certificate(issue(*NAMES), "by hand")
    https = {"OcspStapling": "on", "Hsts": {"Switch": "on", "MaxAge": 9}}
    places.service.add_cdn_domain(IMG, certificate=old, https=https)
    target = places.target()
    new = target.upload(LINEAGE, bundle())
    desired = DesiredHttps(
        force_https=True, http2=True, tls_versions=("TLSv1.0", "TLSv1.1", "TLSv1.2")
    )

    target.bind(IMG, Kind.CDN, new, desired)

    domain = places.service.domain(IMG)
    assert (new, "on", "on") == (
        domain.bound,
        domain.https["OcspStapling"],
        domain.https["Http2"],
    )
    assert ["TLSv1", "TLSv1.1", "TLSv1.2"] == domain.https["TlsVersion"]
    assert ("on", "https") == (domain.redirect["Switch"], domain.redirect["RedirectType"])
    places.time.pause(LIST_AGE)
    observed = the_domain(places).https
    assert (True, True, desired.tls_versions) == (
        observed.force_https,
        observed.http2,
        observed.tls_versions,
    )
    assert target.bind(IMG, Kind.CDN, new, desired) is None
    assert 1 == len(places.service.calls("UpdateDomainConfig"))


@pytest.mark.parametrize(
    ("settings", "wrong"),
    [
        (DeploySettings(kind="eo", force_https=True), ["force_https"]),
        (DeploySettings(kind="auto", force_https=True), []),
        (DeploySettings(tls_versions=("TLSv1.0", "TLSv1.2")), ["tls_versions"]),
        (DeploySettings(tls_versions=("TLSv1.3", "TLSv1.2")), []),
    ],
)
def test_settings_that_a_place_has_no_call_for(settings: DeploySettings, wrong: list[str]) -> None:
    """The file is refused by the name of the setting."""
    written = ["kind", "force_https"] if settings.force_https else ["tls_versions"]

    assert wrong == list(settings.wrong(written))


# --- States


@pytest.mark.parametrize(
    ("domain", "words"),
    [
        ({"status": "rejected"}, "rejected"),
        ({"disable": "overdue"}, "overdue"),
        ({"readonly": "global"}, "locked"),
        ({"status": "strange"}, "does not know the state"),
        ({"status": "offline"}, "switched off"),
    ],
)
def test_domain_that_cannot_be_changed(
    places: TencentPlaces, domain: dict[str, Any], words: str
) -> None:
    """The reason is reported, with a hint, and nothing is written."""
    places.service.add_cdn_domain(IMG, **domain)
    target = places.target()
    new = target.upload(LINEAGE, bundle())

    observed = the_domain(places)
    with pytest.raises(TargetRejected):
        target.bind(IMG, Kind.CDN, new, KEEP)

    assert DomainState.UNAVAILABLE is observed.state
    assert observed.problem is not None
    assert words in str(observed.problem)
    assert observed.problem.hint
    assert ["UploadCertificate"] == [call.action for call in places.service.writes()]


def test_domain_that_is_off_is_left_out_of_a_search(places: TencentPlaces) -> None:
    """A search reports the domain, and serves the other domains."""
    places.service.add_cdn_domain(IMG, status="offline")
    places.service.add_cdn_domain("www.example.com")

    found = observe(places)

    assert ["www.example.com"] == [domain.domain for domain in found.domains]
    assert [IMG] == [domain.domain for domain in found.left_out]


@pytest.mark.parametrize("at_once", [True, False])
def test_change_in_progress_is_not_bound_yet(places: TencentPlaces, *, at_once: bool) -> None:
    """Whatever reads show during the change, the copy stays in use."""
    places.service.cdn.shows_change_at_once = at_once
    places.service.add_cdn_domain(IMG, held=True)
    target = places.target()
    new = target.upload(LINEAGE, bundle())
    target.bind(IMG, Kind.CDN, new, KEEP)

    domain = the_domain(places)

    assert (DomainState.PROCESSING, None) == (domain.state, domain.bound)
    with pytest.raises(TargetBusy):
        places.target().bind(IMG, Kind.CDN, new, KEEP)
    assert 1 == len(places.service.calls("UpdateDomainConfig"))


def test_account_without_the_cdn(places: TencentPlaces) -> None:
    """An account that never activated the CDN has no CDN domains."""
    places.service.cdn.is_open = False

    assert () == observe(places).domains


# --- Lost answers


@pytest.mark.parametrize("fault", LOST, ids=fault_id)
@pytest.mark.parametrize("action", ["ModifyDomainConfig", "UpdateDomainConfig"])
def test_lost_answer_to_a_binding(places: TencentPlaces, fault: Fault, action: str) -> None:
    """The change is found, and made once."""
    old = places.service.add_certificate(issue(*NAMES), "by hand")
    bound = old if action == "ModifyDomainConfig" else None
    places.service.add_cdn_domain(IMG, certificate=bound)
    target = places.target()
    new = target.upload(LINEAGE, bundle())
    places.service.faults.add(fault, on=f"POST /{action}")

    assert target.bind(IMG, Kind.CDN, new, KEEP) is None

    assert 1 == len(places.service.calls(action))
    assert new == places.service.domain(IMG).bound


def test_server_error_after_a_binding(places: TencentPlaces) -> None:
    """An internal error leaves the outcome open, so certferry looks."""
    places.service.add_cdn_domain(IMG)
    target = places.target()
    new = target.upload(LINEAGE, bundle())
    places.service.answer_next("UpdateDomainConfig", "InternalError", does_the_work=True)

    assert target.bind(IMG, Kind.CDN, new, KEEP) is None
    assert 1 == len(places.service.calls("UpdateDomainConfig"))


def test_binding_that_never_arrives(places: TencentPlaces) -> None:
    """The write is repeated once, and the failure is passing."""
    places.service.add_cdn_domain(IMG)
    target = places.target()
    new = target.upload(LINEAGE, bundle())
    places.service.faults.add(Fault.reset_before(), on="POST /UpdateDomainConfig", times=None)

    with pytest.raises(TargetUnavailable) as caught:
        target.bind(IMG, Kind.CDN, new, KEEP)

    assert caught.value.retry.allowed


@pytest.mark.parametrize("fault", [Fault.html(200), Fault.status(200, b"[]"), Fault.html()])
def test_answer_of_something_else(places: TencentPlaces, fault: Fault) -> None:
    """A page of HTML, or other JSON, is no empty account."""
    places.service.add_cdn_domain(IMG)
    places.service.faults.add(fault, on="POST /DescribeDomainsConfig", times=None)

    with pytest.raises(TargetUnavailable):
        observe(places)


def test_list_in_another_form(places: TencentPlaces) -> None:
    """An unreadable list must not pass for an empty account."""
    body = json.dumps({"Response": {"Domains": "none", "TotalNumber": 0, "RequestId": "x"}})
    places.service.faults.add(Fault.status(200, body.encode()), times=None)

    with pytest.raises(TargetUnavailable):
        observe(places)


# --- Requests


def test_first_deployment_takes_few_requests(places: TencentPlaces) -> None:
    """Observing, uploading, binding and observing a domain again: at most eight requests."""
    places.service.add_cdn_domain(IMG)
    target, known = places.target(), bundle()
    scope = Scope(LINEAGE, NAMES, (IMG,), Kind.AUTO, (known.certificate,))

    target.observe(scope)
    remote_id = target.upload(LINEAGE, known)
    target.bind(IMG, Kind.CDN, remote_id, KEEP)
    places.time.pause(LIST_AGE)
    [domain] = target.observe(scope).domains

    assert remote_id == domain.bound
    assert 8 >= len(places.actions()), places.actions()


def test_few_requests_for_many_domains(places: TencentPlaces) -> None:
    """500 domains in order take at most a tenth of a request each, also one lineage a domain."""
    zone = places.service.add_zone("example.com")
    wildcard = issue("*.example.com")
    for number in range(500):
        cert_id = places.service.add_certificate(wildcard, f"n{number}")
        if number % 2:
            places.service.add_cdn_domain(f"n{number}.example.com", certificate=cert_id)
        else:
            places.service.add_host(f"n{number}.example.com", zone, cert_id)
    target = places.target()

    for number in range(500):
        name = f"n{number}.example.com"
        [domain] = target.observe(Scope(name, (name,), None, Kind.AUTO, ())).domains
        assert domain.bound
        places.time.pause(0.05)

    assert 50 >= len(places.actions()), Counter(places.actions())


def test_named_domain_is_read_by_its_name(places: TencentPlaces) -> None:
    """Under a lease, another run may have changed the domain: a filter asks for it."""
    for number in range(150):
        places.service.add_cdn_domain(f"n{number}.example.com")
    places.service.add_cdn_domain(IMG)
    target = places.target()
    scope = Scope(LINEAGE, NAMES, (IMG,), Kind.CDN, ())
    target.observe(scope)
    before = len(places.service.calls("DescribeDomainsConfig"))
    other = places.target()
    other.bind(IMG, Kind.CDN, other.upload(LINEAGE, bundle()), KEEP)
    made = len(places.service.calls("DescribeDomainsConfig"))

    [domain] = target.observe(Scope(LINEAGE, NAMES, (IMG,), Kind.CDN, (), anew=True)).domains

    assert domain.bound
    assert 2 == before
    [call] = places.service.calls("DescribeDomainsConfig")[made:]
    assert [{"Name": "domain", "Value": [IMG]}] == call.fields["Filters"]
