"""Live domains of Pili: found, bound, and what cannot be seen."""

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
from tests.adapters.qiniu.observations import found, look, problem_of
from tests.sandbox import qiniu_calls
from tests.sandbox.qiniu_calls import SECRET_KEY

# --- Live domains of Pili's hubs: found, taken for what they are, and bound by name


IMG = "img.example.com"
LIVE = "live.example.com"
PUSH = "push.example.com"
NAMES = ("*.example.com",)
KEEP = DesiredHttps()


def test_every_part_of_qiniu_is_found(account: QiniuAccount, target: Qiniu) -> None:
    """CDN, DCDN, source and live domains that the certificate covers, each once, of its kind."""
    account.service.add_domain(IMG)
    account.service.add_domain("api.example.com", product="dcdn", platform="dynamic")
    account.service.add_bucket_domain("src.example.com", "pictures")
    account.service.add_live_domain(LIVE, "studio")
    account.service.add_live_domain("live.example.org", "studio")

    everything = {IMG: Kind.CDN, "api.example.com": Kind.DCDN, LIVE: PILI, "src.example.com": KODO}
    assert everything == found(target, look())
    assert everything == found(target, look(*everything))
    assert {LIVE: PILI} == found(target, look(kind=PILI))
    assert {LIVE: PILI} == found(target, look(LIVE, kind=PILI))
    assert {IMG: Kind.CDN, "api.example.com": Kind.DCDN} == found(target, look(kind=Kind.CDN))
    assert {"src.example.com": KODO} == found(target, look(kind=KODO))


def test_an_account_without_hubs_is_asked_once(account: QiniuAccount, target: Qiniu) -> None:
    """For many looks, and where nothing is asked for that could be one, not at all."""
    account.service.add_domain(IMG)
    for what in (look(kind=Kind.CDN), look(IMG), look(kind=KODO, names=(IMG,))):
        target.observe(what)
    assert 0 == account.count("GET /v2/*")

    for _ in range(3):
        assert {IMG: Kind.CDN} == found(target, look())

    assert 1 == account.count("GET /v2/*")


def test_hubs_and_domains_may_be_null(account: QiniuAccount, target: Qiniu) -> None:
    """As every other list of Qiniu's."""
    account.service.null_lists = True
    account.service.add_domain(IMG)
    assert {IMG: Kind.CDN} == found(target, look())
    account.service.live.add_hub("empty", account.service.accounts.uid())

    assert {IMG: Kind.CDN} == found(account.target(), look())


def test_an_odd_entry_hides_no_other(account: QiniuAccount, target: Qiniu) -> None:
    """A hub or a domain without a sensible name is passed over: it would be part of a path."""
    account.service.add_live_domain(LIVE, "studio")
    hubs = json.dumps({"items": [{"name": "../x"}, {}, {"name": "studio"}]}).encode()
    account.service.pili.faults.add(Fault.status(200, hubs), on="GET /v2/hubs")
    listed = json.dumps({"domains": [{"domain": "a/b"}, {"domain": "Live.Example.com"}]}).encode()
    account.service.pili.faults.add(Fault.status(200, listed), on="GET /v2/hubs/studio/domains")

    assert {LIVE: PILI} == found(target, look())


def test_a_domain_for_rtmp_is_left_out_until_it_matters(
    account: QiniuAccount, target: Qiniu
) -> None:
    """Nothing is seen of it at port 443, unless it has a certificate, or the file names it."""
    account.service.add_live_domain(PUSH, "studio", type="publishRtmp")
    old = qiniu_calls.seed(account.service, list(NAMES), "by hand")
    account.service.add_live_domain("play.example.com", "studio", type="liveRtmp", https=old)

    assert {"play.example.com": PILI} == found(target, look())
    assert {PUSH: PILI} == found(target, look(PUSH))


def test_a_domain_that_the_cdn_knows_too_is_a_cdn_domain(
    account: QiniuAccount, target: Qiniu
) -> None:
    """It is found once; asked for as a live domain, it is what the file says."""
    account.service.add_domain(LIVE)
    account.service.add_bucket_domain(PUSH, "pictures")
    for name in (LIVE, PUSH):
        account.service.add_live_domain(name, "studio")

    assert {LIVE: Kind.CDN, PUSH: PILI} == found(target, look())
    assert {LIVE: Kind.CDN, PUSH: KODO} == found(target, look(LIVE, PUSH))
    assert {LIVE: PILI} == found(target, look(LIVE, kind=PILI))


def test_a_domain_that_was_asked_for_as_another_kind(account: QiniuAccount, target: Qiniu) -> None:
    """It is called what it is, and the kind to set is reported."""
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


def test_the_binding_is_reported_by_name(
    account: QiniuAccount, target: Qiniu, ours: str, label: str, made: CertificateBundle
) -> None:
    """Ours is found by the id of its copy; what is none of the account's stands for itself."""
    account.service.add_live_domain(LIVE, "studio", https=ours)
    account.service.add_live_domain(PUSH, "studio")
    known = Scope("img", NAMES, (LIVE, PUSH), PILI, (made.certificate,))

    seen = target.observe(known)

    bound = ObservedDomain(LIVE, PILI, DomainState.READY, ours, HttpsSettings(), has_settings=False)
    assert bound == seen.domains[0]
    assert made.certificate.fingerprint == seen.fingerprint_of(seen.domains[0].bound)
    assert (None, False) == (seen.domains[1].bound, seen.domains[1].binding_hidden)
    qiniu_calls.Client(account.service).delete(ours)
    account.time.pause(OWN_WRITES_AGE)
    assert label == target.observe(known).domains[0].bound


def test_of_several_copies_the_oldest_is_meant(
    account: QiniuAccount, target: Qiniu, ours: str, made: CertificateBundle, label: str
) -> None:
    """As for an upload: another copy of the same name is the same certificate."""
    issued = account.service.certificates.stored()[0]
    account.time.pause(5)
    account.service.certificates.store(
        issued.uid, label, issued.fullchain_pem, issued.privkey_pem, account.time.true_now()
    )
    account.service.add_live_domain(LIVE, "studio", https=ours)

    [domain] = target.observe(Scope("img", NAMES, None, PILI, (made.certificate,))).domains

    assert ours == domain.bound


def test_a_binding_that_is_not_reported(account: QiniuAccount, target: Qiniu, ours: str) -> None:
    """Hidden, when Pili tells no name, or the list of certificates cannot be read."""
    account.service.add_live_domain(LIVE, "studio", https=ours)
    account.service.fusion.faults.add(refusal(400, 400999), on="GET /sslcert", times=None)
    [unlisted] = account.target().observe(look(LIVE)).domains
    account.service.live.names_certificates = False

    [unnamed] = target.observe(look(LIVE)).domains

    assert [(None, True)] * 2 == [(d.bound, d.binding_hidden) for d in (unlisted, unnamed)]


def test_a_live_domain_is_bound_by_name(
    account: QiniuAccount, target: Qiniu, ours: str, label: str
) -> None:
    """With one POST of the name of our upload, signed as Pili wants it; never twice."""
    account.service.add_live_domain(LIVE, "studio")
    [before] = target.observe(look(LIVE)).domains

    request_id = target.bind(LIVE, PILI, ours, DesiredHttps(force_https=True))
    again = target.bind(LIVE, PILI, ours, KEEP)

    assert request_id
    assert None is again
    [after] = target.observe(look(LIVE)).domains
    assert (None, ours) == (before.bound, after.bound)
    [request] = account.service.requests("POST /v2/*")
    assert f"/v2/hubs/studio/domains/{LIVE}/cert" == request.path
    assert {"certName": label} == json.loads(request.body)
    assert request.headers["Authorization"].startswith("Qiniu ")
    assert ours == account.service.bound_at_pili(LIVE)


def test_an_account_whose_certificates_go_by_id(
    account: QiniuAccount, target: Qiniu, ours: str
) -> None:
    """The documents' sample looks like an id: where the name is not known, the id is tried."""
    account.service.live.certificates_by = "id"
    account.service.add_live_domain(LIVE, "studio")

    target.bind(LIVE, PILI, ours, KEEP)
    target.bind(LIVE, PILI, ours, KEEP)

    assert ours == account.service.bound_at_pili(LIVE)
    assert 2 == account.count("POST /v2/*")
    assert ours == target.observe(look(LIVE)).domains[0].bound


def test_a_certificate_without_a_name_goes_by_id(account: QiniuAccount, target: Qiniu) -> None:
    """As other programs leave some."""
    account.service.live.certificates_by = "id"
    unnamed = qiniu_calls.seed(account.service, list(NAMES), "")
    account.service.add_live_domain(LIVE, "studio")

    target.bind(LIVE, PILI, unnamed, KEEP)

    assert 1 == account.count("POST /v2/*")


def test_a_certificate_that_does_not_fit(account: QiniuAccount, target: Qiniu) -> None:
    """Pili's words are passed on."""
    account.service.add_live_domain(LIVE, "studio")
    foreign = qiniu_calls.seed(account.service, ["www.example.org"], "foreign")

    with pytest.raises(TargetRejected, match="cert does not match the domain"):
        target.bind(LIVE, PILI, foreign, KEEP)


def test_a_copy_that_is_no_more(account: QiniuAccount, target: Qiniu) -> None:
    """There is no name to bind it by: it is to be uploaded again."""
    account.service.add_live_domain(LIVE, "studio")

    with pytest.raises(CopyGone):
        target.bind(LIVE, PILI, "0" * 24, KEEP)

    assert 0 == account.count("POST /v2/*")


def test_a_disabled_domain(account: QiniuAccount, target: Qiniu, ours: str) -> None:
    """It is not written to, and what to do is reported."""
    account.service.add_live_domain(LIVE, "studio").disabled = True

    with pytest.raises(TargetRejected, match=f"{LIVE} is disabled at Pili") as caught:
        target.bind(LIVE, PILI, ours, KEEP)

    assert "enable the live domain" in str(caught.value.hint)
    assert 0 == account.count("POST /v2/*")


@pytest.mark.parametrize("status", [404, 612])
def test_a_hub_that_is_gone(account: QiniuAccount, target: Qiniu, ours: str, status: int) -> None:
    """Between look and change: said so, with what to do, and not looked for there again."""
    account.service.live.not_found = 612 if status == 612 else 404
    account.service.add_live_domain(LIVE, "studio")
    account.service.add_live_domain(PUSH, "other", type="liveHls")
    target.observe(look())
    account.service.live.remove_hub("studio")

    with pytest.raises(
        TargetRejected, match=f"the Pili hub studio is gone, with its domain {LIVE}"
    ) as e:
        target.bind(LIVE, PILI, ours, KEEP)

    assert "remove the domain from `domains`" in str(e.value.hint)
    assert {PUSH: PILI} == found(target, look())
    with pytest.raises(TargetRejected, match=f"the live domain {LIVE} is gone from Pili"):
        target.bind(LIVE, PILI, ours, KEEP)
    assert [] == account.service.requests("POST /v2/*")


def test_a_domain_that_left_its_hub(account: QiniuAccount, target: Qiniu, ours: str) -> None:
    """The same, of the domain; a hub that vanishes between two lists is no trouble."""
    account.service.add_live_domain(LIVE, "studio")
    target.observe(look())
    account.service.live.remove_domain(LIVE)

    with pytest.raises(TargetRejected, match="is gone from Pili"):
        target.bind(LIVE, PILI, ours, KEEP)
    account.service.pili.faults.add(
        refusal(404, None, "hub not found"), on="GET /v2/hubs/*/domains"
    )

    seen = target.observe(look())
    assert ((), ()) == (seen.domains, seen.unread)


# --- Live domains that cannot be seen, and certificates that they may use


NO_RIGHT = [
    refusal(401, None, "bad token"),
    refusal(403, None, "no permission"),
    refusal(404, None, "not found"),
    refusal(612, None, "no such user"),
]


# --- accounts that may not see Pili, and a Pili that is silent ------------------------------


@pytest.mark.parametrize("fault", NO_RIGHT, ids=fault_id)
def test_an_account_without_a_right_to_pili(
    fault: Fault, account: QiniuAccount, target: Qiniu, ours: str, label: str
) -> None:
    """The CDN goes on, and what was not seen is reported, with how to leave it out; asked for live
    domains, it is the whole story. A copy of ours goes all the same.
    """
    account.service.add_domain(IMG)
    account.service.pili.faults.add(fault, times=None)

    seen = target.observe(look())

    assert {IMG: Kind.CDN} == {d.domain: d.kind for d in seen.domains}
    [unread] = seen.unread
    assert 'set kind = "cdn" or "kodo"' in str(unread.hint)
    assert "the list of hubs" in str(unread)
    assert "CDN domain" not in str(unread)
    for what in (look(kind=PILI), look(LIVE, kind=PILI)):
        with pytest.raises(DeployError, match="the list of hubs"):
            target.observe(what)
    assert "cannot see Pili's domains" in str(problem_of(target, LIVE))
    assert target.retire(ours, label)


def test_keys_that_work_elsewhere_lack_a_right(account: QiniuAccount, target: Qiniu) -> None:
    """They are not called wrong; those that work nowhere are."""
    account.service.add_domain(IMG)
    account.service.pili.faults.add(refusal(403, None, "no permission"), times=None)

    [unread] = target.observe(look()).unread
    with pytest.raises(TargetAccessDenied) as caught:
        account.target(secret=SECRET_KEY[::-1]).observe(look(kind=PILI))

    assert isinstance(unread, TargetAccessDenied)
    assert "allow the keys to use Pili" in str(unread.hint)
    assert "the permissions of the keys" in str(caught.value.hint)


def test_a_silent_pili(account: QiniuAccount, target: Qiniu) -> None:
    """The CDN goes on; with nothing else to see, silence does not pass for an empty account."""
    account.service.add_domain(IMG)
    account.service.pili.faults.add(Fault.status(503), times=None)

    seen = target.observe(look())
    assert [IMG] == [domain.domain for domain in seen.domains]
    assert isinstance(seen.unread[0], TargetUnavailable)
    assert isinstance(problem_of(target, LIVE), TargetUnavailable)
    for what in (look(names=("www.example.org",)), look(kind=PILI), look(LIVE, kind=PILI)):
        with pytest.raises(TargetUnavailable):
            target.observe(what)


def test_domains_that_were_seen_are_not_forgotten(
    account: QiniuAccount, target: Qiniu, ours: str
) -> None:
    """While a hub is silent, what was there is still looked at, and what it is bound to is hidden;
    the other hub is read, and one that is gone is gone.
    """
    for name, hub in ((LIVE, "studio"), (PUSH, "other"), ("b.example.com", "third")):
        account.service.add_live_domain(name, hub, https=ours)
    assert 3 == len(found(target, look()))
    account.service.live.remove_hub("third")
    account.service.pili.faults.add(Fault.status(503), on="GET */studio/domains", times=None)
    account.time.pause(6)

    seen = target.observe(look(kind=PILI))

    reported = {d.domain: (d.bound, d.binding_hidden) for d in seen.domains}
    assert {LIVE: (None, True), PUSH: (ours, False)} == reported
    assert 1 == len(seen.unread)


def test_hubs_that_cannot_be_listed_any_more(
    account: QiniuAccount, target: Qiniu, ours: str
) -> None:
    """What they had is looked at all the same; what it is bound to is hidden, and kept."""
    account.service.add_live_domain(LIVE, "studio", https=ours)
    assert {LIVE: PILI} == found(target, look())
    account.service.pili.faults.add(Fault.status(503), on="GET /v2/hubs", times=None)
    account.time.pause(301)

    seen = target.observe(look())

    assert [(LIVE, None, True)] == [(d.domain, d.bound, d.binding_hidden) for d in seen.domains]
    assert isinstance(seen.unread[0], TargetUnavailable)
    with pytest.raises(TargetInUse):
        target.retire(ours, account.labels()[0])


def test_one_hub_that_may_not_be_seen(account: QiniuAccount, target: Qiniu) -> None:
    """It hides its own domains and no others."""
    account.service.add_live_domain(LIVE, "theirs")
    account.service.add_live_domain(PUSH, "ours")
    account.service.pili.faults.add(refusal(403, None, "no"), on="GET */theirs/domains", times=None)

    seen = target.observe(look(kind=PILI))

    assert [PUSH] == [domain.domain for domain in seen.domains]
    assert isinstance(seen.unread[0], TargetAccessDenied)


def test_a_used_up_rate_ends_the_look(account: QiniuAccount, target: Qiniu) -> None:
    """The next hub would be refused as well, after the same time."""
    for hub in ("one", "two", "three"):
        account.service.add_live_domain(f"{hub}.example.com", hub)
    account.service.pili.faults.add(refusal(429, None, "too many"), on="GET */domains", times=None)

    with pytest.raises(TargetUnavailable):
        target.observe(look(kind=PILI))

    assert {"one"} == {r.path.split("/")[3] for r in account.service.requests("GET */domains")}


def test_a_mirror_has_its_own_pili_or_none() -> None:
    """Never Qiniu's own: that would send a mirror's keys there."""
    keys, mirror = (Secret("key"), Secret("secret")), "https://qiniu.example.org"

    assert "https://pili.qiniuapi.com" == Settings(*keys).hosts.pili
    assert "" == Settings(*keys, api=mirror).hosts.pili
    assert mirror == Settings(*keys, api=mirror, pili=f"{mirror}/").hosts.pili


def test_a_mirror_without_pili(account: QiniuAccount) -> None:
    """Nothing is asked, and nothing reported, unless live domains were asked for."""
    account.service.add_domain(IMG)
    hosts = account.hosts
    target = account.target(hosts=type(hosts)(hosts.api, hosts.fusion, hosts.uc))

    seen = target.observe(look())

    assert ([IMG], ()) == ([d.domain for d in seen.domains], seen.unread)
    assert "not a CDN domain" in str(problem_of(target, LIVE))
    assert {IMG} == {d.domain for d in target.survey(lambda *_: None).domains}
    with pytest.raises(TargetRejected, match="no address of Pili") as caught:
        target.observe(look(kind=PILI))
    assert "set `pili`" in str(caught.value.hint)


def test_a_certificate_that_a_live_domain_uses_is_kept(
    account: QiniuAccount, target: Qiniu, ours: str, label: str
) -> None:
    """Qiniu would remove it, whatever it is bound to: certferry asks for the domains first."""
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


def test_what_may_be_used_is_kept(
    account: QiniuAccount, target: Qiniu, ours: str, label: str
) -> None:
    """While Pili is silent nothing goes; nothing of others' where Pili may not be seen, or does
    not tell what a domain is bound to.
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


def test_they_are_surveyed(account: QiniuAccount, target: Qiniu) -> None:
    """Each with its certificate's end; one for RTMP says that it has no HTTPS."""
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
