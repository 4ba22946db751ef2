"""`discover`, `init` and `doctor` at Tencent Cloud."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from certferry.adapters.tencentcloud.edgeone import EO
from certferry.core.desired.certificate import Kind
from certferry.core.findings import Code
from certferry.core.redaction import Secret
from certferry.errors import Severity, TargetAccessDenied
from tests.adapters.tencentcloud.places import TencentPlaces, open_places
from tests.sandbox.qiniu_calls import issue

IMG, WWW, FREE = "img.example.com", "www.example.com", "free.example.com"


@pytest.fixture
def places() -> Iterator[TencentPlaces]:
    with open_places() as places:
        yield places


def furnish(places: TencentPlaces) -> str:
    cert_id = places.service.add_certificate(issue(IMG, WWW), "by hand")
    places.service.add_cdn_domain(IMG, certificate=cert_id, redirects=True)
    places.service.add_cdn_domain("off.example.com", status="offline")
    zone = places.service.add_zone("example.com")
    places.service.add_host(WWW, zone, cert_id)
    places.service.add_host(FREE, zone, mode="eofreecert")
    return cert_id


def test_survey(places: TencentPlaces) -> None:
    """Every domain of both products, with the bound certificate and its end."""
    cert_id = furnish(places)
    seen: list[tuple[int, int]] = []

    survey = places.target().survey(lambda *counts: seen.append(counts))

    domains = {domain.domain: domain for domain in survey.domains}
    assert {IMG, WWW, FREE, "off.example.com"} == set(domains)
    assert (Kind.CDN, cert_id, True) == (
        domains[IMG].kind,
        domains[IMG].bound,
        domains[IMG].https.force_https,
    )
    assert (EO, cert_id) == (domains[WWW].kind, domains[WWW].bound)
    assert (True, None) == (domains[FREE].is_free, domains[FREE].bound)
    assert domains["off.example.com"].problem is not None
    [certificate] = survey.certificates
    assert ("by hand", (IMG, WWW)) == (certificate.label, certificate.names)
    assert certificate.not_after == domains[IMG].not_after
    assert () == survey.unread
    assert (4, 4) == seen[-1]


def test_rights_one_by_one(places: TencentPlaces) -> None:
    """Each refused call is a finding with the policy; the accepted calls are named."""
    places.service.add_key("AKIDsome", "some", services=frozenset({"cdn"}))
    target = places.target(secret_id=Secret("AKIDsome"), secret_key=Secret("some"))

    findings = target.examine("tencentcloud")

    refused = [finding for finding in findings if finding.code == Code.CALL_REFUSED]
    assert [Severity.WARNING, Severity.ERROR] == [finding.severity for finding in refused]
    assert all("ssl:UploadCertificate" in str(finding.hint) for finding in refused)
    [ways] = [finding for finding in findings if finding.code == Code.WAYS]
    assert "CDN" in str(ways.message)
    survey = target.survey(lambda *_: None)
    assert 2 == len(survey.unread)


def test_account_in_order(places: TencentPlaces) -> None:
    """The findings are facts only, and no call changes anything."""
    furnish(places)

    findings = places.target().examine("tencentcloud")

    assert {Code.WAYS, Code.CERTIFICATES_KEPT} == {finding.code for finding in findings}
    assert [] == places.service.writes()


def test_key_without_any_right(places: TencentPlaces) -> None:
    """The examination has one finding with the policy, because the key is good."""
    places.service.add_key("AKIDdns", "dns", services=frozenset({"dnspod"}))
    target = places.target(secret_id=Secret("AKIDdns"), secret_key=Secret("dns"))

    [finding] = target.examine("tencentcloud")

    assert (Code.CALL_REFUSED, Severity.ERROR) == (finding.code, finding.severity)
    assert "no right for CDN, EdgeOne, SSL" in str(finding.message)
    assert "cdn:ModifyDomainConfig" in str(finding.hint)
    with pytest.raises(TargetAccessDenied):
        target.survey(lambda *_: None)


def test_cnames_and_clock(places: TencentPlaces) -> None:
    """A CNAME for each domain that is on; the clock by an answer's Date."""
    furnish(places)
    target = places.target()

    assert {
        IMG: "img.example.com.cdn.dnsv1.com",
        WWW: "www.example.com.eo.dnse1.com",
        FREE: "free.example.com.eo.dnse1.com",
    } == target.cnames()
    ahead = target.clock_ahead()
    assert ahead is not None
    assert timedelta(seconds=2) > abs(ahead)


def test_report(places: TencentPlaces) -> None:
    """The report judges the guesses, and names neither domain nor certificate."""
    cert_id = furnish(places)

    report = places.target().report()

    lines = "\n".join(map(str, report.lines))
    assert report.credentials_work
    assert "omits fingerprints and serials: yes" in lines
    assert "example" not in lines
    assert cert_id not in lines
    assert [] == places.service.writes()


def test_report_names_actions_and_codes(places: TencentPlaces) -> None:
    """All calls have one path and status 200, so a line without action and code would say nothing.
    A code of another form is masked, because a key could stand in its place.
    """
    places.service.answer_next("DescribeZones", "UnauthorizedOperation.CamUnauthorized")
    places.service.answer_next("DescribeCertificates", "k3y-w1th/d1g1ts")

    lines = [str(line) for line in places.target().report().lines]

    zones, certificates = (
        next(line for line in lines if f"POST / {action} at" in line)
        for action in ("DescribeZones", "DescribeCertificates")
    )
    assert "200, code UnauthorizedOperation.CamUnauthorized," in zones
    assert "200, code •••," in certificates
    assert any("POST / DescribeDomainsConfig at" in line for line in lines)
