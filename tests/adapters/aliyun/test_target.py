"""The target of an account at Alibaba Cloud: requests, rights, and every answer of the facts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest

from certferry.adapters.aliyun.cas import PAIR
from certferry.adapters.aliyun.target import CALLED, COMMAND_WORDS
from certferry.adapters.cdn.copies import CERTIFICATES_AGE
from certferry.core.certificates.certificate import Certificate, CertificateBundle
from certferry.core.certificates.lineage import label_of
from certferry.core.desired.certificate import DesiredHttps, Kind
from certferry.core.discovery.proposal import Service
from certferry.core.observed.observation import DomainState, ObservedTarget, Scope
from certferry.core.redaction import Secret
from certferry.errors import (
    CopyGone,
    DeployError,
    Severity,
    TargetAccessDenied,
    TargetBusy,
    TargetInUse,
    TargetRejected,
    TargetUnavailable,
)
from certferry.migration.home import OldHook
from certferry.ports.target import DeployTarget
from certferry_sandbox.aliyun.habits import HABITS
from certferry_sandbox.aliyun.service import DNS_ALONE, WITHOUT_CAS
from certferry_sandbox.faults import Fault
from tests.adapters.aliyun.cloud import LINEAGE, WWW, AliyunCloud, open_cloud
from tests.adapters.qiniu.account import bundle

NAMES = ("example.com", "*.example.com")
IMG = "img.example.com"
NO_SETTINGS = DesiredHttps()


@pytest.fixture
def cloud() -> Iterator[AliyunCloud]:
    with open_cloud() as cloud:
        yield cloud


def observed(
    target: DeployTarget,
    *known: Certificate,
    domains: tuple[str, ...] | None = None,
    kind: Kind = Kind.AUTO,
) -> ObservedTarget:
    return target.observe(Scope(LINEAGE, NAMES, domains, kind, known))


def deployed(target: DeployTarget, domain: str, pair: CertificateBundle) -> str:
    """Upload and bind a certificate, at the product that has the domain."""
    remote_id = target.upload(LINEAGE, pair)
    target.bind(domain, Kind.AUTO, remote_id, NO_SETTINGS)
    return remote_id


# --- Requests


def test_first_deployment_takes_eight_requests(cloud: AliyunCloud) -> None:
    """Observe, upload, bind, and read back with the addresses of the edges."""
    cloud.service.add_domain(WWW)
    target, pair = cloud.target(), bundle(*NAMES)

    before = observed(target, pair.certificate)
    deployed(target, WWW, pair)
    after = observed(target, pair.certificate)

    assert None is before.domains[0].bound
    assert after.fingerprint_of(after.domains[0].bound) == pair.certificate.fingerprint
    assert sorted(cloud.service.edges.addresses) == list(after.domains[0].edges)
    assert 8 >= len(cloud.actions()), cloud.actions()


def test_run_without_changes_over_many_domains(cloud: AliyunCloud) -> None:
    """A second run takes a request for every ten domains at most."""
    pair = bundle(*NAMES)
    names = [f"d{number}.example.com" for number in range(500)]
    for name in names:
        cloud.service.add_domain(name)
    first = cloud.target()
    observed(first)
    remote_id = first.upload(LINEAGE, pair)
    for name in names[:60]:  # as many as the test's time allows
        first.bind(name, Kind.CDN, remote_id, NO_SETTINGS)
    observed(first, pair.certificate)
    cloud.time.pause(3600)
    observed(cloud.target(), pair.certificate)
    cloud.time.pause(3600)
    before = len(cloud.actions())

    found = observed(cloud.target(), pair.certificate)

    made = cloud.actions()[before:]
    assert 500 == len(found.domains)
    assert 60 == sum(domain.bound == remote_id for domain in found.domains)
    assert 6 >= len(cloud.actions()) - before, made


def test_binding_changed_elsewhere_is_read_again(cloud: AliyunCloud) -> None:
    """The list of the account shows a change, so the note of an earlier run is not used."""
    pair, theirs = bundle(*NAMES), bundle(*NAMES)
    for number in range(5):
        cloud.service.add_domain(f"d{number}.example.com")
        deployed(cloud.target(), f"d{number}.example.com", pair)
    observed(cloud.target(), pair.certificate)
    number = int(cloud.target().upload("other", theirs))

    cloud.time.pause(60)
    cloud.service.change_in_console("d3.example.com", number)

    found = {domain.domain: domain for domain in observed(cloud.target(), pair.certificate).domains}
    assert str(number) == found["d3.example.com"].bound
    assert found["d2.example.com"].bound != str(number)


# --- Every answer of the facts


@pytest.mark.parametrize("habit", sorted(HABITS))
def test_every_habit_of_the_service(cloud: AliyunCloud, habit: str) -> None:
    """Whatever Alibaba Cloud answers where the facts are unknown, the certificate is bound, and a
    second deployment writes nothing.
    """
    HABITS[habit](cloud.service)
    cloud.service.add_domain(WWW)
    cloud.service.add_domain(IMG, product="dcdn")
    pair = bundle(*NAMES)
    for domain in (WWW, IMG):
        target = cloud.target()
        observed(target, pair.certificate)
        deployed(target, domain, pair)
        cloud.time.pause(CERTIFICATES_AGE)
        observed(target, pair.certificate)
    before = len(cloud.service.writes())

    found = observed(cloud.target(), pair.certificate)
    for domain in (WWW, IMG):
        deployed(cloud.target(), domain, pair)

    assert pair.certificate.fingerprint == cloud.service.bound(WWW)
    assert pair.certificate.fingerprint == cloud.service.bound(IMG, product="dcdn")
    assert {WWW: Kind.CDN, IMG: Kind.DCDN} == {d.domain: d.kind for d in found.domains}
    for place in found.domains:
        bound = found.fingerprint_of(place.bound)
        assert place.binding_hidden or bound == pair.certificate.fingerprint
    assert before == len(cloud.service.writes()) or any(d.binding_hidden for d in found.domains)


# --- Rights


def test_key_with_dns_alone_is_refused_with_the_policy(cloud: AliyunCloud) -> None:
    """The hint has the policy to paste, and nothing is written."""
    target = cloud.ram_target(*DNS_ALONE)

    with pytest.raises(TargetAccessDenied) as caught:
        observed(target)

    assert '"cdn:SetCdnDomainSSLCertificate"' in str(caught.value.hint)
    assert [] == cloud.service.writes()


def test_key_without_cas_sends_the_pair_with_each_binding(cloud: AliyunCloud) -> None:
    """The plan gets one sentence. Another process binds the next domain with another upload."""
    for name in (WWW, IMG):
        cloud.service.add_domain(name)
    target, pair = cloud.ram_target(*WITHOUT_CAS), bundle(*NAMES)
    [unread] = observed(target, pair.certificate).unread

    first = deployed(target, WWW, pair)
    found = observed(target, pair.certificate)
    [copy] = found.remotes
    other = cloud.target()
    cloud.service.cas.forbidden = ("Forbidden.RAM", 403)
    another = cloud.ram_target(*WITHOUT_CAS)
    with pytest.raises(CopyGone):
        another.bind(IMG, Kind.CDN, copy.remote_id, NO_SETTINGS)
    again = deployed(another, IMG, pair)

    assert "with each binding" in str(unread.message)
    assert first.startswith(PAIR)
    assert again != copy.remote_id
    assert pair.certificate.fingerprint == found.fingerprint_of(
        next(d.bound for d in found.domains if d.domain == WWW)
    )
    assert pair.certificate.fingerprint == cloud.service.bound(IMG)
    assert [] == cloud.labels()
    assert not other.retire(copy.remote_id, copy.label)


def test_product_closed_to_the_key_leaves_the_other(cloud: AliyunCloud) -> None:
    """Without rights for DCDN, CDN's domains are observed, and the plan names the gap."""
    cloud.service.add_domain(WWW)
    target = cloud.ram_target("cdn:*", "yundun-cert:*")

    found = observed(target)
    cdn_alone = observed(target, kind=Kind.CDN)

    assert [WWW] == [domain.domain for domain in found.domains]
    [unread] = found.unread
    assert isinstance(unread, TargetAccessDenied)
    assert 'set kind = "cdn" for this deployment to leave DCDN out' in str(unread.hint)
    assert () == cdn_alone.unread


def test_examination_names_each_missing_right(cloud: AliyunCloud) -> None:
    """One finding for each refused call, with the policy."""
    cloud.service.add_domain(WWW)
    target = cloud.ram_target("cdn:*")

    findings = target.examine("aliyun")

    assert ["call_refused", "call_refused", "ways"] == [f.code for f in findings]
    assert [] == cloud.service.writes()


def test_key_without_any_right(cloud: AliyunCloud) -> None:
    """The examination has one finding with the policy, because the key is good; a key that the
    service does not know is raised.
    """
    cloud.service.add_domain(WWW)

    [finding] = cloud.ram_target("alidns:*").examine("aliyun")

    assert ("call_refused", Severity.ERROR) == (finding.code, finding.severity)
    assert "no right for CDN, DCDN, CAS" in str(finding.message)
    assert "cdn:SetCdnDomainSSLCertificate" in str(finding.hint)
    with pytest.raises(TargetAccessDenied):
        cloud.target(access_key_secret=Secret("another")).examine("aliyun")


def test_survey_finds_domains_and_certificates(cloud: AliyunCloud) -> None:
    """Domains of both products are found, with the bound certificate and the reason of an unusable
    domain.
    """
    pair = bundle(*NAMES)
    cloud.service.add_domain(WWW)
    remote_id = deployed(cloud.target(), WWW, pair)
    cloud.service.add_domain(IMG, product="dcdn", state="offline")
    cloud.service.add_domain(".example.com", product="dcdn")
    counted: list[tuple[int, int]] = []

    found = cloud.target().survey(lambda *count: counted.append(count))

    domains = {domain.domain: domain for domain in found.domains}
    assert {WWW, IMG, "*.example.com"} == set(domains)
    assert (remote_id, True) == (domains[WWW].bound, domains[WWW].has_https)
    assert domains[WWW].not_after == pair.certificate.not_after
    assert domains[IMG].problem is not None
    assert [remote_id] == [certificate.remote_id for certificate in found.certificates]
    assert (3, 3) == counted[-1]


def test_report_shows_no_domain(cloud: AliyunCloud) -> None:
    """A report for an issue has the shapes of answers, without names."""
    cloud.service.add_domain(WWW)
    deployed(cloud.target(), WWW, bundle(*NAMES))

    report = cloud.target().report()

    assert report.credentials_work
    assert "example" not in "\n".join(map(str, report.lines))


def test_report_names_actions_and_codes(cloud: AliyunCloud) -> None:
    """All calls have one path, so a line without its action would say nothing. A code of another
    form is masked, because a key could stand in its place.
    """
    cloud.service.add_domain(WWW)
    cloud.service.cdn.answer_next("DescribeUserDomains", "k3y-w1th/d1g1ts")

    lines = [str(line) for line in cloud.target().report().lines]

    assert any(
        "POST / DescribeUserDomains at" in line and "400, code •••," in line for line in lines
    )
    assert any(
        "POST / DescribeDcdnHttpsDomainList at" in line and "400, code NoHttpsDomain" in line
        for line in lines
    )
    assert any("POST / ListUserCertificateOrder at" in line for line in lines)


# --- Domains


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("online", DomainState.READY),
        ("configuring", DomainState.PROCESSING),
        ("configure_failed", DomainState.FAILED),
        ("offline", DomainState.UNAVAILABLE),
        ("checking", DomainState.UNAVAILABLE),
        ("check_failed", DomainState.UNAVAILABLE),
        ("stopping", DomainState.UNAVAILABLE),
        ("deleting", DomainState.UNAVAILABLE),
    ],
)
def test_states(cloud: AliyunCloud, state: str, expected: DomainState) -> None:
    """A domain that takes no change is reported with a reason, and nothing is written."""
    cloud.service.add_domain(WWW, state=state)
    target = cloud.target()
    remote_id = target.upload(LINEAGE, bundle(*NAMES))
    before = len(cloud.service.writes())

    [domain] = observed(target, domains=(WWW,)).domains

    assert (expected, expected in {DomainState.READY, DomainState.PROCESSING}) == (
        domain.state,
        domain.problem is None,
    )
    if expected in {DomainState.PROCESSING, DomainState.UNAVAILABLE}:
        with pytest.raises((TargetBusy, TargetRejected)):
            target.bind(WWW, Kind.CDN, remote_id, NO_SETTINGS)
        assert before == len(cloud.service.writes())


def test_switched_off_domain_is_left_out_of_a_search(cloud: AliyunCloud) -> None:
    """A domain found by a search fails nothing while offline."""
    cloud.service.add_domain(WWW, state="offline")

    found = observed(cloud.target())

    assert ((), [WWW]) == (found.domains, [domain.domain for domain in found.left_out])


def test_bucket_is_no_domain(cloud: AliyunCloud) -> None:
    """A name that no product lists is refused by name."""
    [domain] = observed(cloud.target(), domains=("my-bucket.oss.example.com",)).domains

    assert DomainState.UNAVAILABLE is domain.state
    assert "my-bucket" in str(domain.problem and domain.problem.message)


def test_unknown_kind_is_refused(cloud: AliyunCloud) -> None:
    """A kind of another target names the kinds of this target."""
    with pytest.raises(TargetRejected) as caught:
        observed(cloud.target(), kind=Kind("kodo"))

    assert '"dcdn"' in str(caught.value.hint)


# --- Writes


@pytest.mark.parametrize("fault", [Fault.reset_after(), Fault.truncated()], ids=["reset", "cut"])
def test_lost_answers_make_no_double(cloud: AliyunCloud, fault: Fault) -> None:
    """An upload and a binding with a lost answer are found, and not repeated."""
    cloud.service.add_domain(WWW)
    target, pair = cloud.target(), bundle(*NAMES)
    observed(target, pair.certificate)
    cloud.service.cas.faults.add(fault, on="UploadUserCertificate")
    cloud.service.cdn.faults.add(fault, on="SetCdnDomainSSLCertificate")

    deployed(target, WWW, pair)

    assert [label_of(LINEAGE, pair.certificate.fingerprint)] == cloud.labels()
    assert 2 == len(cloud.service.writes())
    assert pair.certificate.fingerprint == cloud.service.bound(WWW)


def test_upload_that_the_list_shows_late(cloud: AliyunCloud) -> None:
    """A refused second upload leads to the copy, once the list shows the copy."""
    pair = bundle(*NAMES)
    first = cloud.target().upload(LINEAGE, pair)
    cloud.service.cas.answer_next("ListUserCertificateOrder", "InternalError", status=500, times=9)

    with pytest.raises(TargetUnavailable):
        cloud.target().upload(LINEAGE, pair)
    cloud.time.pause(60)
    del first

    assert 1 == len(cloud.labels())


def test_https_is_never_switched_off(cloud: AliyunCloud) -> None:
    """Every binding has HTTPS on, whatever happened before."""
    cloud.service.add_domain(WWW)
    target = cloud.target()
    for _ in range(2):
        deployed(target, WWW, bundle(*NAMES))
        cloud.time.pause(CERTIFICATES_AGE)

    calls = cloud.service.calls("Set*")
    assert 2 == len(calls)
    assert {"on"} == {call.params["SSLProtocol"] for call in calls}


def test_bound_copy_stays_after_its_end(cloud: AliyunCloud) -> None:
    """A copy that a domain still uses is refused, also when expired."""
    cloud.service.add_domain(WWW)
    pair = bundle(*NAMES)
    remote_id = deployed(cloud.target(), WWW, pair)
    cloud.time.pause(120 * 86_400)

    with pytest.raises(TargetInUse) as caught:
        cloud.target().retire(remote_id, label_of(LINEAGE, pair.certificate.fingerprint))

    assert WWW in str(caught.value.message)
    assert 1 == len(cloud.labels())


def test_full_store_is_remembered(cloud: AliyunCloud) -> None:
    """A refused upload names the quota, and the next observation knows how full the store is."""
    cloud.service.store.quota = 1
    target = cloud.target()
    target.upload("other", bundle(*NAMES))
    cloud.time.pause(CERTIFICATES_AGE)

    with pytest.raises(TargetRejected):
        target.upload(LINEAGE, bundle(*NAMES))

    quota = observed(target).quota
    assert quota is not None
    assert 1 == quota.held
    target.forget_refusal()
    assert None is observed(target).quota


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"Domains": 1}', b"null"])
def test_answers_that_are_no_list(cloud: AliyunCloud, body: bytes) -> None:
    """HTML and other forms become an error or an empty list, and nothing is written."""
    for endpoint in (cloud.service.cdn, cloud.service.dcdn):
        endpoint.faults.add(Fault.status(200, body), on="*", times=9)
    with suppress(DeployError):
        assert () == observed(cloud.target()).domains
    assert [] == cloud.service.writes()


# --- Commands of other clients


@pytest.mark.parametrize(
    ("command", "expected"),
    [("ali_cdn", True), ("ali_dcdn", True), ("/opt/aliyun.sh", True), ("qiniu", False)],
)
def test_hooks_of_acme_sh(command: str, expected: bool) -> None:  # noqa: FBT001 - a table's value
    """The hooks `ali_cdn` and `ali_dcdn` of acme.sh deploy to the service."""
    service = Service(CALLED, COMMAND_WORDS)

    assert expected is (OldHook(command).destination([service]) is not None)
