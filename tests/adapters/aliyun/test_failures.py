"""Refused and lost calls to Alibaba Cloud: errors, advice, and the parts that go on."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from certferry.adapters.aliyun.errors import CODES
from certferry.adapters.aliyun.records import DomainItem, StoredOrder, moment
from certferry.adapters.aliyun.target import connect
from certferry.adapters.cdn.copies import CERTIFICATES_AGE
from certferry.core.certificates.lineage import label_of
from certferry.core.desired.certificate import DesiredHttps, Kind
from certferry.core.observed.observation import DomainState, Scope
from certferry.core.redaction import Secret
from certferry.errors import (
    ClockWrong,
    ConfigError,
    DeployError,
    TargetAccessDenied,
    TargetBusy,
    TargetRejected,
    TargetUnavailable,
)
from certferry_sandbox.aliyun.gateway import Endpoint
from certferry_sandbox.aliyun.service import WITHOUT_CAS
from certferry_sandbox.faults import Fault
from certferry_sandbox.httpd import Request
from tests.adapters.aliyun.cloud import LINEAGE, WWW, AliyunCloud, open_cloud
from tests.adapters.qiniu.account import bundle

NAMES = ("example.com", "*.example.com")
KEEP = DesiredHttps()
LOOK = Scope(LINEAGE, NAMES, None, Kind.AUTO, ())


@pytest.fixture
def cloud() -> Iterator[AliyunCloud]:
    with open_cloud() as cloud:
        cloud.service.add_domain(WWW)
        yield cloud


def listing(cloud: AliyunCloud, code: str, *, status: int = 400, times: int = 9) -> DeployError:
    """Return the error of an observation whose list is answered with a code."""
    cloud.service.cdn.answer_next("DescribeUserDomains", code, status=status, times=times)
    with pytest.raises(DeployError) as caught:
        cloud.target().observe(LOOK)
    return caught.value


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("InvalidAccessKeyId.NotFound", 404, TargetAccessDenied),
        ("MissingSecurityToken", 400, TargetAccessDenied),
        ("Forbidden.RAM", 403, TargetAccessDenied),
        ("AccessDenied.NoAuth", 400, TargetAccessDenied),
        ("InvalidTimeStamp.Expired", 400, ClockWrong),
        ("Throttling.User", 400, TargetUnavailable),
        ("FlowControlError", 400, TargetUnavailable),
        ("InternalError", 500, TargetUnavailable),
        ("OperationDenied", 403, TargetRejected),
        ("ServiceBusy", 403, TargetBusy),
        ("SomethingNew.Unheard", 400, TargetRejected),
    ],
)
def test_kinds_of_codes(
    cloud: AliyunCloud, code: str, status: int, kind: type[DeployError]
) -> None:
    """Each code becomes an error of its kind, with advice, the code and the id of the request."""
    error = listing(cloud, code, status=status)

    assert isinstance(error, kind)
    assert code in str(error.message)
    assert "RequestId" in str(error.hint)


def test_words_that_quote_a_key(cloud: AliyunCloud) -> None:
    """A code of an unknown form and a quoted key are masked."""
    key = bundle(WWW).privkey_pem.reveal()
    cloud.service.cdn.answer_next("*", "Odd/Code==", f"no {key}", times=9)

    with pytest.raises(DeployError) as caught:
        cloud.target().observe(LOOK)

    assert "•••" in str(caught.value.message)
    assert key.splitlines()[1] not in str(caught.value.message)
    assert "Odd/Code" not in str(caught.value.message)


def test_every_code_has_advice() -> None:
    """`help CODE` explains each code with a next step."""
    assert all(str(meaning.advice) for meaning in CODES.values())
    assert {"NameRepeat", "NoHttpsDomain", "MissingStatus", "Forbidden"} <= set(CODES)


def test_silent_service(cloud: AliyunCloud) -> None:
    """A service without an answer is unavailable, for every question."""
    for endpoint in (cloud.service.cdn, cloud.service.dcdn, cloud.service.cas):
        endpoint.faults.add(Fault.reset_after(), on="*", times=99)

    for ask in (
        lambda: cloud.target().observe(LOOK),
        lambda: cloud.target().survey(lambda *_: None),
        lambda: cloud.target().examine("aliyun"),
    ):
        with pytest.raises(TargetUnavailable):
            ask()
    assert not cloud.target().report().credentials_work
    assert {} == cloud.target().cnames()


def test_clock_of_the_service(cloud: AliyunCloud) -> None:
    """The lead is measured without keys; an unreachable service raises an error."""
    cloud.time.offset = timedelta(minutes=-20)
    ahead = cloud.target().clock_ahead()
    nowhere = cloud.target(cdn="http://127.0.0.1:9")

    assert ahead is not None
    with pytest.raises(TargetUnavailable):
        nowhere.clock_ahead()


def test_connect_checks_the_keys(cloud: AliyunCloud) -> None:
    """A key of another vendor is refused before any request."""
    connect(cloud.settings(), cloud.context)
    with pytest.raises(ConfigError):
        connect(cloud.settings(access_key_id=Secret("AKIDabcdef")), cloud.context)

    assert [] == cloud.actions()


def test_unopened_product_is_empty(cloud: AliyunCloud) -> None:
    """An account without DCDN has CDN's domains, without a remark."""
    cloud.service.dcdn.answer_next("*", "DcdnServiceNotFound", times=9)

    found = cloud.target().observe(LOOK)

    assert ([WWW], ()) == ([domain.domain for domain in found.domains], found.unread)


def test_store_that_fails_hides_the_copies(cloud: AliyunCloud) -> None:
    """The domains are observed; the engine takes the copies from the state."""
    cloud.service.cas.answer_next("List*", "NotSupported", times=9)

    found = cloud.target().observe(LOOK)

    assert found.remotes_hidden
    assert [WWW] == [domain.domain for domain in found.domains]


def test_binding_that_cannot_be_read(cloud: AliyunCloud) -> None:
    """The domain is reported with the reason, in observations and in surveys."""
    pair = bundle(*NAMES)
    target = cloud.target()
    target.bind(WWW, Kind.CDN, target.upload(LINEAGE, pair), KEEP)
    cloud.time.pause(CERTIFICATES_AGE)
    cloud.service.cdn.answer_next("DescribeDomainCertificateInfo", "IllegalOperation", times=9)

    [domain] = cloud.target().observe(LOOK).domains
    [place] = cloud.target().survey(lambda *_: None).domains
    findings = cloud.target().examine("aliyun")

    assert DomainState.UNAVAILABLE is domain.state
    assert place.binding_hidden
    assert any("IllegalOperation" in str(finding.message) for finding in findings)


def test_failed_change_in_a_survey(cloud: AliyunCloud) -> None:
    """A failed change is no reason against another change."""
    cloud.service.add_domain("img.example.com", state="configure_failed")

    places = {d.domain: d for d in cloud.target().survey(lambda *_: None).domains}

    assert places["img.example.com"].problem is None
    assert places["img.example.com"].failure is not None


def test_lists_are_read_anew_on_request(cloud: AliyunCloud) -> None:
    """Caches are ignored after another run's change, and for a domain that the edges contradict."""
    pair, theirs = bundle(*NAMES), bundle(*NAMES)
    target = cloud.target()
    target.bind(WWW, Kind.CDN, target.upload(LINEAGE, pair), KEEP)
    number = target.upload("other", theirs)
    known = (pair.certificate,)
    look = Scope(LINEAGE, NAMES, None, Kind.AUTO, known)
    target.observe(look)
    cloud.service.change_in_console(WWW, int(number))

    anew = Scope(LINEAGE, NAMES, None, Kind.AUTO, known, anew=True)
    doubting = Scope(LINEAGE, NAMES, None, Kind.AUTO, known, doubted=frozenset({WWW}))

    assert [number] == [domain.bound for domain in target.observe(anew).domains]
    assert [number] == [domain.bound for domain in target.observe(doubting).domains]


def test_copy_removed_by_another_program(cloud: AliyunCloud) -> None:
    """A removal that comes too late counts as no removal."""
    target, pair = cloud.target(), bundle("other.example.org")
    remote_id = target.upload(LINEAGE, pair)
    cloud.time.pause(120 * 86_400)
    cloud.service.cas.answer_next("DeleteUserCertificate", "NotFound")

    assert not target.retire(remote_id, label_of(LINEAGE, pair.certificate.fingerprint))
    cloud.service.cas.answer_next("DeleteUserCertificate", "IllegalOperation")
    with pytest.raises(TargetRejected):
        cloud.target().retire(remote_id, label_of(LINEAGE, pair.certificate.fingerprint))


def test_lists_in_an_unreadable_form(cloud: AliyunCloud) -> None:
    """Another form than a list is an error of the service, and an odd entry is passed over."""

    def odd(endpoint: Endpoint, body: bytes) -> None:
        endpoint.faults.add(Fault.status(200, body), on="*", times=1)

    odd(cloud.service.cdn, b'{"Domains": {"PageData": 7}}')
    with pytest.raises(DeployError):
        cloud.target().observe(Scope(LINEAGE, NAMES, None, Kind.CDN, ()))
    odd(cloud.service.cdn, b'{"Domains": {"PageData": [7, {"DomainName": "a b"}]}}')
    assert () == cloud.target().observe(Scope(LINEAGE, NAMES, None, Kind.CDN, ())).domains


def test_list_without_an_end(cloud: AliyunCloud) -> None:
    """A list whose total never comes ends in an error."""
    page = b'{"TotalCount": 999999999, "Domains": {"PageData": [{"DomainName": "a.example.com"}]}}'
    cloud.service.cdn.faults.add(Fault.status(200, page), on="*", times=99)

    with pytest.raises(TargetUnavailable) as caught:
        cloud.target().observe(Scope(LINEAGE, NAMES, None, Kind.CDN, ()))

    assert "never ends" in str(caught.value.message)


def test_marks_that_cannot_be_read(cloud: AliyunCloud) -> None:
    """Without the list of domains with HTTPS, each binding is read by itself."""
    pair = bundle(*NAMES)
    target = cloud.target()
    remote_id = target.upload(LINEAGE, pair)
    for number in range(5):
        cloud.service.add_domain(f"d{number}.example.com", https=int(remote_id))
    cloud.service.cdn.answer_next("DescribeCdnHttpsDomainList", "NotSupported", times=99)
    cloud.time.pause(CERTIFICATES_AGE)

    found = cloud.target().observe(LOOK)

    assert 5 == sum(domain.bound == remote_id for domain in found.domains)


def test_edges_that_cannot_be_read(cloud: AliyunCloud) -> None:
    """A refusal gives no addresses, and the observation goes on."""
    target = cloud.target()
    target.bind(WWW, Kind.CDN, target.upload(LINEAGE, bundle(*NAMES)), KEEP)
    cloud.service.cdn.answer_next("DescribeUserVipsByDomain", "IllegalOperation", times=9)

    [domain] = target.observe(LOOK).domains

    assert () == domain.edges


def test_key_without_dcdn_may_remove(cloud: AliyunCloud) -> None:
    """A product closed to the key is passed over when a copy is removed, and when CNAMEs are
    asked for.
    """
    pair = bundle("other.example.org")
    target = cloud.ram_target("cdn:*", "yundun-cert:*")
    remote_id = target.upload(LINEAGE, pair)
    cloud.time.pause(120 * 86_400)

    assert [WWW] == list(target.cnames())
    assert target.retire(remote_id, label_of(LINEAGE, pair.certificate.fingerprint))


def test_removal_while_a_product_is_silent(cloud: AliyunCloud) -> None:
    """Without the domains' answer, the copy stays."""
    pair = bundle("other.example.org")
    remote_id = cloud.target().upload(LINEAGE, pair)
    cloud.time.pause(120 * 86_400)
    cloud.service.dcdn.faults.add(Fault.reset_after(), on="*", times=99)

    with pytest.raises(TargetUnavailable):
        cloud.target().retire(remote_id, label_of(LINEAGE, pair.certificate.fingerprint))

    assert 1 == len(cloud.labels())


def test_key_without_cas_finds_a_lost_binding(cloud: AliyunCloud) -> None:
    """A binding of a pair with a lost answer is found by the fingerprint, and not repeated."""
    target, pair = cloud.ram_target(*WITHOUT_CAS), bundle(*NAMES)
    cloud.service.cdn.faults.add(Fault.reset_after(), on="SetCdnDomainSSLCertificate")

    target.bind(WWW, Kind.CDN, target.upload(LINEAGE, pair), KEEP)

    assert 1 == len(cloud.service.calls("Set*"))
    assert pair.certificate.fingerprint == cloud.service.bound(WWW)


def test_domain_removed_during_the_search_for_a_lost_binding(cloud: AliyunCloud) -> None:
    """The lost answer stays an error."""
    target = cloud.target()
    remote_id = target.upload(LINEAGE, bundle(*NAMES))
    target.observe(LOOK)

    def remove(request: Request) -> None:
        if b"SetCdnDomainSSLCertificate" in request.body:
            cloud.service.products["cdn"].domains.remove(WWW)
            cloud.service.cdn.before = lambda _: None

    cloud.service.cdn.before = remove
    with pytest.raises(DeployError):
        target.bind(WWW, Kind.CDN, remote_id, KEEP)


def test_forms_of_fields() -> None:
    """Malformed values count as missing."""
    assert None is moment("soon")
    assert None is moment("2026-13-40")
    assert "" == DomainItem("www.example.com", domain_status="Odd State").state
    assert "" == DomainItem("www.example.com", cname="not a name").target
    assert None is StoredOrder(1, sha2="f" * 63, serial_no="xyz").stored.serial
    assert None is StoredOrder(1).is_over_at


def test_entry_with_half_a_character(cloud: AliyunCloud) -> None:
    """An entry that is no text in UTF-8 is left out, and the list is read to the end."""
    body = b'{"TotalCount": 1, "Domains": {"PageData": [{"DomainName": "\\ud800"}]}}'
    cloud.service.cdn.faults.add(Fault.status(200, body), on="DescribeUserDomains")

    observed = cloud.target().observe(LOOK)

    assert WWW not in {domain.domain for domain in observed.domains}
