"""Live domains of Pili: discovered, bound, and hidden."""

from __future__ import annotations

import json

import pytest

from certferry.adapters.cdn.copies import OWN_WRITES_AGE
from certferry.adapters.qiniu.records import KODO, PILI
from certferry.adapters.qiniu.target import Qiniu, Settings
from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.desired.certificate import DesiredHttps, HttpsSettings, Kind
from certferry.core.discovery.inventory import FoundDomain
from certferry.core.observed.observation import DomainState, ObservedDomain
from certferry.core.redaction import Secret
from certferry.errors import (
    CopyGone,
    DeployError,
    TargetAccessDenied,
    TargetInUse,
    TargetRejected,
    TargetUnavailable,
)
from certferry.ports.target import Scope
from certferry_sandbox.faults import Fault
from tests.adapters.qiniu.account import QiniuAccount, fault_id, refusal
from tests.adapters.qiniu.observations import problem_of, scope_of, usable_kinds
from tests.sandbox import qiniu_calls
from tests.sandbox.qiniu_calls import SECRET_KEY

# --- Live domains of Pili's hubs: discovered, recognised by kind, and bound by name


IMG = "img.example.com"
LIVE = "live.example.com"
PUSH = "push.example.com"
NAMES = ("*.example.com",)
KEEP = DesiredHttps()


def test_domains_of_every_part_of_qiniu(account: QiniuAccount, target: Qiniu) -> None:
    """Covered CDN, DCDN, source and live domains appear once each, with their kinds."""
    account.service.add_domain(IMG)
    account.service.add_domain("api.example.com", product="dcdn", platform="dynamic")
    account.service.add_bucket_domain("src.example.com", "pictures")
    account.service.add_live_domain(LIVE, "studio")
    account.service.add_live_domain("live.example.org", "studio")

    everything = {IMG: Kind.CDN, "api.example.com": Kind.DCDN, LIVE: PILI, "src.example.com": KODO}
    assert everything == usable_kinds(target, scope_of())
    assert everything == usable_kinds(target, scope_of(*everything))
    assert {LIVE: PILI} == usable_kinds(target, scope_of(kind=PILI))
    assert {LIVE: PILI} == usable_kinds(target, scope_of(LIVE, kind=PILI))
    assert {IMG: Kind.CDN, "api.example.com": Kind.DCDN} == usable_kinds(
        target, scope_of(kind=Kind.CDN)
    )
    assert {"src.example.com": KODO} == usable_kinds(target, scope_of(kind=KODO))


def test_account_without_hubs(account: QiniuAccount, target: Qiniu) -> None:
    """Three observations list the hubs once; a scope without possible live domains never does."""
    account.service.add_domain(IMG)
    for scope in (scope_of(kind=Kind.CDN), scope_of(IMG), scope_of(kind=KODO, names=(IMG,))):
        target.observe(scope)
    assert 0 == account.count("GET /v2/*")

    for _ in range(3):
        assert {IMG: Kind.CDN} == usable_kinds(target, scope_of())

    assert 1 == account.count("GET /v2/*")


def test_null_lists_of_pili(account: QiniuAccount, target: Qiniu) -> None:
    """A null list of hubs or domains is an empty list, like other lists of Qiniu."""
    account.service.null_lists = True
    account.service.add_domain(IMG)
    assert {IMG: Kind.CDN} == usable_kinds(target, scope_of())
    account.service.live.add_hub("empty", account.service.accounts.uid())

    assert {IMG: Kind.CDN} == usable_kinds(account.target(), scope_of())


def test_invalid_names_of_hubs_and_domains(account: QiniuAccount, target: Qiniu) -> None:
    """A hub or domain with an invalid name is skipped, because the name would become part of a
    path.
    """
    account.service.add_live_domain(LIVE, "studio")
    hubs = json.dumps({"items": [{"name": "../x"}, {}, {"name": "studio"}]}).encode()
    account.service.pili.faults.add(Fault.status(200, hubs), on="GET /v2/hubs")
    listed = json.dumps({"domains": [{"domain": "a/b"}, {"domain": "Live.Example.com"}]}).encode()
    account.service.pili.faults.add(Fault.status(200, listed), on="GET /v2/hubs/studio/domains")

    assert {LIVE: PILI} == usable_kinds(target, scope_of())


def test_rtmp_domains(account: QiniuAccount, target: Qiniu) -> None:
    """A domain for RTMP is left out, unless the domain has a certificate or the file names the
    domain.
    """
    account.service.add_live_domain(PUSH, "studio", type="publishRtmp")
    old = qiniu_calls.seed(account.service, list(NAMES), "by hand")
    account.service.add_live_domain("play.example.com", "studio", type="liveRtmp", https=old)

    assert {"play.example.com": PILI} == usable_kinds(target, scope_of())
    assert {PUSH: PILI} == usable_kinds(target, scope_of(PUSH))


def test_domain_of_cdn_and_pili(account: QiniuAccount, target: Qiniu) -> None:
    """The domain counts as a CDN domain; with a kind in the file, the kind decides."""
    account.service.add_domain(LIVE)
    account.service.add_bucket_domain(PUSH, "pictures")
    for name in (LIVE, PUSH):
        account.service.add_live_domain(name, "studio")

    assert {LIVE: Kind.CDN, PUSH: PILI} == usable_kinds(target, scope_of())
    assert {LIVE: Kind.CDN, PUSH: KODO} == usable_kinds(target, scope_of(LIVE, PUSH))
    assert {LIVE: PILI} == usable_kinds(target, scope_of(LIVE, kind=PILI))


def test_domain_named_as_another_kind(account: QiniuAccount, target: Qiniu) -> None:
    """The error names the real kind, and the hint the right setting."""
    account.service.add_domain(IMG)
    account.service.add_live_domain(LIVE, "studio")

    taken_for_cdn = problem_of(target, LIVE, Kind.CDN)
    taken_for_live = problem_of(target, IMG, PILI)
    nowhere = problem_of(target, "www.example.com", PILI)

    assert f"{LIVE} is a live domain of the Pili hub studio, not a CDN domain" == str(taken_for_cdn)
    assert 'kind = "pili"' in str(taken_for_cdn.hint)
    assert f"{IMG} is a CDN domain, not a live domain of Pili" == str(taken_for_live)
    assert 'kind = "cdn"' in str(taken_for_live.hint)
    assert "not a live domain of any Pili hub of the account" in str(nowhere)


def test_binding_by_name(
    account: QiniuAccount, target: Qiniu, ours: str, label: str, made: CertificateBundle
) -> None:
    """The name of a copy gives its id; an unknown name stands for itself."""
    account.service.add_live_domain(LIVE, "studio", https=ours)
    account.service.add_live_domain(PUSH, "studio")
    scope = Scope("img", NAMES, (LIVE, PUSH), PILI, (made.certificate,))

    observed = target.observe(scope)

    bound = ObservedDomain(LIVE, PILI, DomainState.READY, ours, HttpsSettings(), has_settings=False)
    assert bound == observed.domains[0]
    assert made.certificate.fingerprint == observed.fingerprint_of(observed.domains[0].bound)
    assert (None, False) == (observed.domains[1].bound, observed.domains[1].binding_hidden)
    qiniu_calls.Client(account.service).delete(ours)
    account.time.pause(OWN_WRITES_AGE)
    assert label == target.observe(scope).domains[0].bound


def test_binding_with_equal_names(
    account: QiniuAccount, target: Qiniu, ours: str, made: CertificateBundle, label: str
) -> None:
    """Several copies have the name: the oldest counts, as for an upload."""
    issued = account.service.certificates.stored()[0]
    account.time.pause(5)
    account.service.certificates.store(
        issued.uid, label, issued.fullchain_pem, issued.privkey_pem, account.time.true_now()
    )
    account.service.add_live_domain(LIVE, "studio", https=ours)

    [domain] = target.observe(Scope("img", NAMES, None, PILI, (made.certificate,))).domains

    assert ours == domain.bound


def test_hidden_binding(account: QiniuAccount, target: Qiniu, ours: str) -> None:
    """The binding is hidden if Pili gives no name or the list of certificates is unreadable."""
    account.service.add_live_domain(LIVE, "studio", https=ours)
    account.service.fusion.faults.add(refusal(400, 400999), on="GET /sslcert", times=None)
    [unlisted] = account.target().observe(scope_of(LIVE)).domains
    account.service.live.names_certificates = False

    [unnamed] = target.observe(scope_of(LIVE)).domains

    assert [(None, True)] * 2 == [(d.bound, d.binding_hidden) for d in (unlisted, unnamed)]


def test_binding_of_a_live_domain(
    account: QiniuAccount, target: Qiniu, ours: str, label: str
) -> None:
    """A single POST with the name of the upload and Pili's signature binds the domain; a second
    call sends no request.
    """
    account.service.add_live_domain(LIVE, "studio")
    [before] = target.observe(scope_of(LIVE)).domains

    request_id = target.bind(LIVE, PILI, ours, DesiredHttps(force_https=True))
    again = target.bind(LIVE, PILI, ours, KEEP)

    assert request_id
    assert None is again
    [after] = target.observe(scope_of(LIVE)).domains
    assert (None, ours) == (before.bound, after.bound)
    [request] = account.service.requests("POST /v2/*")
    assert f"/v2/hubs/studio/domains/{LIVE}/cert" == request.path
    assert {"certName": label} == json.loads(request.body)
    assert request.headers["Authorization"].startswith("Qiniu ")
    assert ours == account.service.bound_at_pili(LIVE)


def test_account_with_bindings_by_id(account: QiniuAccount, target: Qiniu, ours: str) -> None:
    """The sample in the documents resembles an id: after an unknown name, the id is tried."""
    account.service.live.certificates_by = "id"
    account.service.add_live_domain(LIVE, "studio")

    target.bind(LIVE, PILI, ours, KEEP)
    target.bind(LIVE, PILI, ours, KEEP)

    assert ours == account.service.bound_at_pili(LIVE)
    assert 2 == account.count("POST /v2/*")
    assert ours == target.observe(scope_of(LIVE)).domains[0].bound


def test_certificate_without_a_name(account: QiniuAccount, target: Qiniu) -> None:
    """Another program's certificate without a name is bound by its id."""
    account.service.live.certificates_by = "id"
    unnamed = qiniu_calls.seed(account.service, list(NAMES), "")
    account.service.add_live_domain(LIVE, "studio")

    target.bind(LIVE, PILI, unnamed, KEEP)

    assert 1 == account.count("POST /v2/*")


def test_certificate_for_another_domain(account: QiniuAccount, target: Qiniu) -> None:
    """The error quotes Pili."""
    account.service.add_live_domain(LIVE, "studio")
    foreign = qiniu_calls.seed(account.service, ["www.example.org"], "foreign")

    with pytest.raises(TargetRejected, match="cert does not match the domain"):
        target.bind(LIVE, PILI, foreign, KEEP)


def test_missing_copy(account: QiniuAccount, target: Qiniu) -> None:
    """The copy's name is gone, so the copy has to be uploaded again."""
    account.service.add_live_domain(LIVE, "studio")

    with pytest.raises(CopyGone):
        target.bind(LIVE, PILI, "0" * 24, KEEP)

    assert 0 == account.count("POST /v2/*")


def test_disabled_domain(account: QiniuAccount, target: Qiniu, ours: str) -> None:
    """The domain is not written to, and the hint says how to enable the domain."""
    account.service.add_live_domain(LIVE, "studio").disabled = True

    with pytest.raises(TargetRejected, match=f"{LIVE} is disabled at Pili") as caught:
        target.bind(LIVE, PILI, ours, KEEP)

    assert "enable the live domain" in str(caught.value.hint)
    assert 0 == account.count("POST /v2/*")


@pytest.mark.parametrize("status", [404, 612])
def test_removed_hub(account: QiniuAccount, target: Qiniu, ours: str, status: int) -> None:
    """The hub was removed after the observation: the error has a hint, and later calls skip the
    hub.
    """
    account.service.live.not_found = 612 if status == 612 else 404
    account.service.add_live_domain(LIVE, "studio")
    account.service.add_live_domain(PUSH, "other", type="liveHls")
    target.observe(scope_of())
    account.service.live.remove_hub("studio")

    with pytest.raises(
        TargetRejected, match=f"the Pili hub studio is gone, with its domain {LIVE}"
    ) as e:
        target.bind(LIVE, PILI, ours, KEEP)

    assert "remove the domain from `domains`" in str(e.value.hint)
    assert {PUSH: PILI} == usable_kinds(target, scope_of())
    with pytest.raises(TargetRejected, match=f"the live domain {LIVE} is gone from Pili"):
        target.bind(LIVE, PILI, ours, KEEP)
    assert [] == account.service.requests("POST /v2/*")


def test_domain_removed_from_its_hub(account: QiniuAccount, target: Qiniu, ours: str) -> None:
    """The removed domain is an error; a hub that vanishes between two lists is skipped."""
    account.service.add_live_domain(LIVE, "studio")
    target.observe(scope_of())
    account.service.live.remove_domain(LIVE)

    with pytest.raises(TargetRejected, match="is gone from Pili"):
        target.bind(LIVE, PILI, ours, KEEP)
    account.service.pili.faults.add(
        refusal(404, None, "hub not found"), on="GET /v2/hubs/*/domains"
    )

    observed = target.observe(scope_of())
    assert ((), ()) == (observed.domains, observed.unread)


# --- Hidden live domains, and certificates that such domains may use


NO_RIGHT = [
    refusal(401, None, "bad token"),
    refusal(403, None, "no permission"),
    refusal(404, None, "not found"),
    refusal(612, None, "no such user"),
]


# --- Accounts without permission for Pili, and a silent Pili -------------------------------


@pytest.mark.parametrize("fault", NO_RIGHT, ids=fault_id)
def test_account_without_permission_for_pili(
    fault: Fault, account: QiniuAccount, target: Qiniu, ours: str, label: str
) -> None:
    """CDN domains are observed, and the missing permission is reported with a hint; a scope of live
    domains fails. Copies of certferry's can be retired.
    """
    account.service.add_domain(IMG)
    account.service.pili.faults.add(fault, times=None)

    observed = target.observe(scope_of())

    assert {IMG: Kind.CDN} == {d.domain: d.kind for d in observed.domains}
    [unread] = observed.unread
    assert 'set kind = "cdn" or "kodo"' in str(unread.hint)
    assert "the list of hubs" in str(unread)
    assert "CDN domain" not in str(unread)
    for scope in (scope_of(kind=PILI), scope_of(LIVE, kind=PILI)):
        with pytest.raises(DeployError, match="the list of hubs"):
            target.observe(scope)
    assert "cannot see Pili's domains" in str(problem_of(target, LIVE))
    assert target.retire(ours, label)


def test_keys_that_work_elsewhere(account: QiniuAccount, target: Qiniu) -> None:
    """Keys that work elsewhere get a hint about Pili's permission; keys that work nowhere get the
    usual hint.
    """
    account.service.add_domain(IMG)
    account.service.pili.faults.add(refusal(403, None, "no permission"), times=None)

    [unread] = target.observe(scope_of()).unread
    with pytest.raises(TargetAccessDenied) as caught:
        account.target(secret=SECRET_KEY[::-1]).observe(scope_of(kind=PILI))

    assert isinstance(unread, TargetAccessDenied)
    assert "allow the keys to use Pili" in str(unread.hint)
    assert "the permissions of the keys" in str(caught.value.hint)


def test_silent_pili(account: QiniuAccount, target: Qiniu) -> None:
    """CDN domains are observed; without them, silence is an error rather than an empty account."""
    account.service.add_domain(IMG)
    account.service.pili.faults.add(Fault.status(503), times=None)

    observed = target.observe(scope_of())
    assert [IMG] == [domain.domain for domain in observed.domains]
    assert isinstance(observed.unread[0], TargetUnavailable)
    assert isinstance(problem_of(target, LIVE), TargetUnavailable)
    for scope in (
        scope_of(names=("www.example.org",)),
        scope_of(kind=PILI),
        scope_of(LIVE, kind=PILI),
    ):
        with pytest.raises(TargetUnavailable):
            target.observe(scope)


def test_earlier_domains_of_a_silent_hub(account: QiniuAccount, target: Qiniu, ours: str) -> None:
    """Domains of a silent hub are still observed with hidden bindings; another hub is read, and a
    removed hub is skipped.
    """
    for name, hub in ((LIVE, "studio"), (PUSH, "other"), ("b.example.com", "third")):
        account.service.add_live_domain(name, hub, https=ours)
    assert 3 == len(usable_kinds(target, scope_of()))
    account.service.live.remove_hub("third")
    account.service.pili.faults.add(Fault.status(503), on="GET */studio/domains", times=None)
    account.time.pause(6)

    observed = target.observe(scope_of(kind=PILI))

    reported = {d.domain: (d.bound, d.binding_hidden) for d in observed.domains}
    assert {LIVE: (None, True), PUSH: (ours, False)} == reported
    assert 1 == len(observed.unread)


def test_earlier_domains_without_the_list_of_hubs(
    account: QiniuAccount, target: Qiniu, ours: str
) -> None:
    """Domains of earlier hubs are observed with hidden bindings, and certificates stay."""
    account.service.add_live_domain(LIVE, "studio", https=ours)
    assert {LIVE: PILI} == usable_kinds(target, scope_of())
    account.service.pili.faults.add(Fault.status(503), on="GET /v2/hubs", times=None)
    account.time.pause(301)

    observed = target.observe(scope_of())

    assert [(LIVE, None, True)] == [(d.domain, d.bound, d.binding_hidden) for d in observed.domains]
    assert isinstance(observed.unread[0], TargetUnavailable)
    with pytest.raises(TargetInUse):
        target.retire(ours, account.labels()[0])


def test_forbidden_hub(account: QiniuAccount, target: Qiniu) -> None:
    """The hub hides its own domains only."""
    account.service.add_live_domain(LIVE, "theirs")
    account.service.add_live_domain(PUSH, "ours")
    account.service.pili.faults.add(refusal(403, None, "no"), on="GET */theirs/domains", times=None)

    observed = target.observe(scope_of(kind=PILI))

    assert [PUSH] == [domain.domain for domain in observed.domains]
    assert isinstance(observed.unread[0], TargetAccessDenied)


def test_rate_limit_ends_the_observation(account: QiniuAccount, target: Qiniu) -> None:
    """The next hub would be refused as well, after the same time."""
    for hub in ("one", "two", "three"):
        account.service.add_live_domain(f"{hub}.example.com", hub)
    account.service.pili.faults.add(refusal(429, None, "too many"), on="GET */domains", times=None)

    with pytest.raises(TargetUnavailable):
        target.observe(scope_of(kind=PILI))

    assert {"one"} == {r.path.split("/")[3] for r in account.service.requests("GET */domains")}


def test_pili_of_a_mirror() -> None:
    """Qiniu's own Pili is never a mirror's default, because a mirror's keys would be sent there."""
    keys, mirror = (Secret("key"), Secret("secret")), "https://qiniu.example.org"

    assert "https://pili.qiniuapi.com" == Settings(*keys).hosts.pili
    assert "" == Settings(*keys, api=mirror).hosts.pili
    assert mirror == Settings(*keys, api=mirror, pili=f"{mirror}/").hosts.pili


def test_mirror_without_pili(account: QiniuAccount) -> None:
    """The observation sends no request to Pili, and fails only for a scope of live domains."""
    account.service.add_domain(IMG)
    hosts = account.hosts
    target = account.target(hosts=type(hosts)(hosts.api, hosts.fusion, hosts.uc))

    observed = target.observe(scope_of())

    assert ([IMG], ()) == ([d.domain for d in observed.domains], observed.unread)
    assert "not a CDN domain" in str(problem_of(target, LIVE))
    assert {IMG} == {d.domain for d in target.survey(lambda *_: None).domains}
    with pytest.raises(TargetRejected, match="no address of Pili") as caught:
        target.observe(scope_of(kind=PILI))
    assert "set `pili`" in str(caught.value.hint)


def test_certificate_of_a_live_domain_stays(
    account: QiniuAccount, target: Qiniu, ours: str, label: str
) -> None:
    """Qiniu would remove a bound certificate, so certferry reads the live domains first."""
    account.service.add_live_domain(LIVE, "studio", https=ours)
    theirs = qiniu_calls.seed(account.service, list(NAMES), "by hand")
    account.service.add_live_domain(PUSH, "studio", https=theirs)

    for remote_id, name, unmanaged in ((ours, label, False), (theirs, "by hand", True)):
        with pytest.raises(TargetInUse, match="still uses") as caught:
            target.retire(remote_id, name, unmanaged=unmanaged)
        assert "bind the live domain to another certificate" in str(caught.value.hint)

    assert 0 == account.count("DELETE *")
    new = qiniu_calls.seed(account.service, list(NAMES), "new")
    target.bind(LIVE, PILI, new, KEEP)
    assert target.retire(ours, label)


def test_possibly_used_certificate_stays(
    account: QiniuAccount, target: Qiniu, ours: str, label: str
) -> None:
    """While Pili is silent, all certificates stay; unmanaged certificates stay if Pili is forbidden
    or hides bindings.
    """
    theirs = qiniu_calls.seed(account.service, list(NAMES), "by hand")
    account.service.add_live_domain(LIVE, "studio", https=theirs)
    account.service.live.names_certificates = False
    with pytest.raises(TargetInUse, match="does not say which certificate"):
        target.retire(theirs, "by hand", unmanaged=True)
    account.service.pili.faults.add(refusal(403, None, "no permission"), times=2)
    with pytest.raises(TargetInUse, match="cannot see"):
        account.target().retire(theirs, "by hand", unmanaged=True)
    account.service.pili.faults.clear()
    account.service.pili.faults.add(Fault.status(503), times=None)
    with pytest.raises(TargetInUse, match="cannot see"):
        account.target().retire(ours, label)

    assert 0 == account.count("DELETE *")
    assert target.retire(ours, label)


def test_survey_of_live_domains(account: QiniuAccount, target: Qiniu) -> None:
    """A live domain has its certificate's end; a domain for RTMP is reported without HTTPS."""
    issued = qiniu_calls.issue(*NAMES)
    cert = account.service.add_certificate(issued, "by hand")
    account.service.add_live_domain(LIVE, "studio", https=cert)
    account.service.add_live_domain(PUSH, "studio", type="publishRtmp")
    account.service.add_domain("api.example.com", product="dcdn", https=cert)

    survey = target.survey(lambda *_: None)

    reported = {domain.domain: domain for domain in survey.domains}
    end = issued.leaf.not_valid_after_utc
    assert FoundDomain(LIVE, PILI, has_https=True, not_after=end, bound=cert) == reported[LIVE]
    assert f"{PUSH} is an RTMP domain, without HTTPS" == str(reported[PUSH].problem)
    assert not reported[PUSH].by_itself
    assert Kind.DCDN == reported["api.example.com"].kind
    account.service.pili.faults.add(refusal(403, None, "no permission"), times=None)
    [denied] = account.target().survey(lambda *_: None).unread
    assert isinstance(denied, TargetAccessDenied)
