"""Live domains that cannot be seen, and certificates that they may use."""

from __future__ import annotations

import pytest

from certferry.adapters.qiniu.records import PILI
from certferry.adapters.qiniu.target import Qiniu, Settings
from certferry.core.desired.certificate import Kind
from certferry.core.discovery.survey import FoundDomain
from certferry.core.secret import Secret
from certferry.errors import (
    DeployError,
    TargetAccessDenied,
    TargetInUse,
    TargetRejected,
    TargetUnavailable,
)
from certferry_sandbox.faults import Fault
from tests.adapters.qiniu.looks import found, look, problem_of
from tests.adapters.qiniu.place import Place, fault_id, refusal
from tests.adapters.qiniu.test_pili import IMG, KEEP, LIVE, NAMES, PUSH
from tests.sandbox import qiniu_calls
from tests.sandbox.qiniu_calls import SECRET_KEY

NO_RIGHT = [
    refusal(401, None, "bad token"),
    refusal(403, None, "no permission"),
    refusal(404, None, "not found"),
    refusal(612, None, "no such user"),
]


# --- accounts that may not see Pili, and a Pili that is silent ------------------------------


@pytest.mark.parametrize("fault", NO_RIGHT, ids=fault_id)
def test_an_account_without_a_right_to_pili(
    fault: Fault, place: Place, target: Qiniu, ours: str, label: str
) -> None:
    """The CDN goes on, and what was not seen is told, with how to leave it out; asked for live
    domains, it is the whole story. A copy of ours goes all the same.
    """
    place.service.add_domain(IMG)
    place.service.pili.faults.add(fault, times=None)

    seen = target.observe(look())

    assert {IMG: Kind.CDN} == {d.domain: d.kind for d in seen.domains}
    [unread] = seen.unread
    assert 'set kind = "cdn" or "kodo"' in str(unread.hint)
    assert "the list of hubs" in str(unread)
    assert "CDN domain" not in str(unread)
    for what in (look(kind=PILI), look(LIVE, kind=PILI)):
        with pytest.raises(DeployError, match="the list of hubs"):
            target.observe(what)
    assert "Pili's domains cannot be seen" in str(problem_of(target, LIVE))
    assert target.retire(ours, label)


def test_keys_that_work_elsewhere_lack_a_right(place: Place, target: Qiniu) -> None:
    """They are not told to be wrong; those that work nowhere are."""
    place.service.add_domain(IMG)
    place.service.pili.faults.add(refusal(403, None, "no permission"), times=None)

    [unread] = target.observe(look()).unread
    with pytest.raises(TargetAccessDenied) as caught:
        place.target(secret=SECRET_KEY[::-1]).observe(look(kind=PILI))

    assert isinstance(unread, TargetAccessDenied)
    assert "allow these keys Pili" in str(unread.hint)
    assert "compare both" in str(caught.value.hint)


def test_a_silent_pili(place: Place, target: Qiniu) -> None:
    """The CDN goes on; with nothing else to see, silence does not pass for an empty account."""
    place.service.add_domain(IMG)
    place.service.pili.faults.add(Fault.status(503), times=None)

    seen = target.observe(look())
    assert [IMG] == [domain.domain for domain in seen.domains]
    assert isinstance(seen.unread[0], TargetUnavailable)
    assert isinstance(problem_of(target, LIVE), TargetUnavailable)
    for what in (look(names=("www.example.org",)), look(kind=PILI), look(LIVE, kind=PILI)):
        with pytest.raises(TargetUnavailable):
            target.observe(what)


def test_domains_that_were_seen_are_not_forgotten(place: Place, target: Qiniu, ours: str) -> None:
    """While a hub is silent, what was there is still looked at, and what it is bound to is hidden;
    the other hub is read, and one that is gone is gone.
    """
    for name, hub in ((LIVE, "studio"), (PUSH, "other"), ("b.example.com", "third")):
        place.service.add_live_domain(name, hub, https=ours)
    assert 3 == len(found(target, look()))
    place.service.live.remove_hub("third")
    place.service.pili.faults.add(Fault.status(503), on="GET */studio/domains", times=None)
    place.time.pause(6)

    seen = target.observe(look(kind=PILI))

    told = {d.domain: (d.bound, d.binding_hidden) for d in seen.domains}
    assert {LIVE: (None, True), PUSH: (ours, False)} == told
    assert 1 == len(seen.unread)


def test_hubs_that_cannot_be_listed_any_more(place: Place, target: Qiniu, ours: str) -> None:
    """What they had is looked at all the same; what it is bound to is hidden, and kept."""
    place.service.add_live_domain(LIVE, "studio", https=ours)
    assert {LIVE: PILI} == found(target, look())
    place.service.pili.faults.add(Fault.status(503), on="GET /v2/hubs", times=None)
    place.time.pause(301)

    seen = target.observe(look())

    assert [(LIVE, None, True)] == [(d.domain, d.bound, d.binding_hidden) for d in seen.domains]
    assert isinstance(seen.unread[0], TargetUnavailable)
    with pytest.raises(TargetInUse):
        target.retire(ours, place.labels()[0])


def test_one_hub_that_may_not_be_seen(place: Place, target: Qiniu) -> None:
    """It hides its own domains and no others."""
    place.service.add_live_domain(LIVE, "theirs")
    place.service.add_live_domain(PUSH, "ours")
    place.service.pili.faults.add(refusal(403, None, "no"), on="GET */theirs/domains", times=None)

    seen = target.observe(look(kind=PILI))

    assert [PUSH] == [domain.domain for domain in seen.domains]
    assert isinstance(seen.unread[0], TargetAccessDenied)


def test_a_used_up_rate_ends_the_look(place: Place, target: Qiniu) -> None:
    """The next hub would be refused as well, after the same time."""
    for hub in ("one", "two", "three"):
        place.service.add_live_domain(f"{hub}.example.com", hub)
    place.service.pili.faults.add(refusal(429, None, "too many"), on="GET */domains", times=None)

    with pytest.raises(TargetUnavailable):
        target.observe(look(kind=PILI))

    assert {"one"} == {r.path.split("/")[3] for r in place.service.requests("GET */domains")}


def test_a_mirror_has_its_own_pili_or_none() -> None:
    """Never Qiniu's own: that would send a mirror's keys there."""
    keys, mirror = (Secret("key"), Secret("secret")), "https://qiniu.example.org"

    assert "https://pili.qiniuapi.com" == Settings(*keys).hosts.pili
    assert "" == Settings(*keys, api=mirror).hosts.pili
    assert mirror == Settings(*keys, api=mirror, pili=f"{mirror}/").hosts.pili


def test_a_mirror_without_pili(place: Place) -> None:
    """Nothing is asked, and nothing told, unless live domains were asked for."""
    place.service.add_domain(IMG)
    hosts = place.hosts
    target = place.target(hosts=type(hosts)(hosts.api, hosts.fusion, hosts.uc))

    seen = target.observe(look())

    assert ([IMG], ()) == ([d.domain for d in seen.domains], seen.unread)
    assert "not a CDN domain" in str(problem_of(target, LIVE))
    assert {IMG} == {d.domain for d in target.survey(lambda *_: None).domains}
    with pytest.raises(TargetRejected, match="no address of Pili") as caught:
        target.observe(look(kind=PILI))
    assert "set `pili`" in str(caught.value.hint)


# --- what they keep -------------------------------------------------------------------------


def test_a_certificate_that_a_live_domain_uses_is_kept(
    place: Place, target: Qiniu, ours: str, label: str
) -> None:
    """Qiniu would remove it, whatever it is bound to: certferry asks for the domains first."""
    place.service.add_live_domain(LIVE, "studio", https=ours)
    theirs = qiniu_calls.seed(place.service, list(NAMES), "by hand")
    place.service.add_live_domain(PUSH, "studio", https=theirs)

    for remote_id, name, unmanaged in ((ours, label, False), (theirs, "by hand", True)):
        with pytest.raises(TargetInUse, match="still uses") as caught:
            target.retire(remote_id, name, unmanaged=unmanaged)
        assert "bind the live domain to another certificate" in str(caught.value.hint)

    assert 0 == place.count("DELETE *")
    new = qiniu_calls.seed(place.service, list(NAMES), "new")
    target.bind(LIVE, PILI, new, KEEP)
    assert target.retire(ours, label)


def test_what_may_be_used_is_kept(place: Place, target: Qiniu, ours: str, label: str) -> None:
    """While Pili is silent nothing goes; nothing of others' where Pili may not be seen, or does
    not tell what a domain is bound to.
    """
    theirs = qiniu_calls.seed(place.service, list(NAMES), "by hand")
    place.service.add_live_domain(LIVE, "studio", https=theirs)
    place.service.live.names_certificates = False
    with pytest.raises(TargetInUse, match="does not name the certificate of"):
        target.retire(theirs, "by hand", unmanaged=True)
    place.service.pili.faults.add(refusal(403, None, "no permission"), times=2)
    with pytest.raises(TargetInUse, match="cannot be seen"):
        place.target().retire(theirs, "by hand", unmanaged=True)
    place.service.pili.faults.clear()
    place.service.pili.faults.add(Fault.status(503), times=None)
    with pytest.raises(TargetInUse, match="cannot be seen"):
        place.target().retire(ours, label)

    assert 0 == place.count("DELETE *")
    assert target.retire(ours, label)


def test_they_are_surveyed(place: Place, target: Qiniu) -> None:
    """Each with its certificate's end; one for RTMP says that it has no HTTPS."""
    issued = qiniu_calls.issue(*NAMES)
    cert = place.service.add_certificate(issued, "by hand")
    place.service.add_live_domain(LIVE, "studio", https=cert)
    place.service.add_live_domain(PUSH, "studio", type="publishRtmp")
    place.service.add_domain("api.example.com", product="dcdn", https=cert)

    survey = target.survey(lambda *_: None)

    told = {domain.domain: domain for domain in survey.domains}
    end = issued.leaf.not_valid_after_utc
    assert FoundDomain(LIVE, PILI, has_https=True, not_after=end, bound=cert) == told[LIVE]
    assert f"{PUSH} is for RTMP, and has no HTTPS" == str(told[PUSH].problem)
    assert not told[PUSH].by_itself
    assert Kind.DCDN == told["api.example.com"].kind
    place.service.pili.faults.add(refusal(403, None, "no permission"), times=None)
    [denied] = place.target().survey(lambda *_: None).unread
    assert isinstance(denied, TargetAccessDenied)
