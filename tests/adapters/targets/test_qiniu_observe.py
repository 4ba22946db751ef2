"""Looking at Qiniu: which domains, in which state, and which copies are ours."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from certferry.adapters.clients.qiniu_details import DETAIL_AGE
from certferry.adapters.targets.qiniu import Qiniu, Settings, connect
from certferry.core.certificate import Certificate, CertificateBundle
from certferry.core.desired import Kind
from certferry.core.https_settings import HttpsSettings
from certferry.core.lineage import mark, short_mark
from certferry.core.observed import (
    DomainState,
    ObservedDomain,
    RemoteCertificate,
    TargetRules,
)
from certferry.core.secret import Secret
from certferry.errors import TargetAccessDenied, TargetRejected, TargetUnavailable
from certferry.ports.target import Look
from certferry.sandbox.faults import Fault
from tests.adapters.qiniu_place import SHORT, WWW, Place, bundle, bundle_of, refusal
from tests.sandbox import qiniu_calls
from tests.sandbox.qiniu_calls import ACCESS_KEY, SECRET_KEY

IMG = "img.example.com"


def look(
    *domains: str,
    names: tuple[str, ...] = (WWW,),
    kind: Kind = Kind.AUTO,
    known: tuple[Certificate, ...] = (),
) -> Look:
    """Look at these domains, or at every covered one when none is named."""
    return Look("img", names, domains or None, kind, known)


def the_domain(target: Qiniu, name: str = WWW) -> ObservedDomain:
    """Observe one domain by name."""
    [found] = target.observe(look(name)).domains
    return found


# --- which domains --------------------------------------------------------------------------


def test_every_covered_domain_is_found(place: Place, target: Qiniu) -> None:
    """One label below a wildcard and no further; a wildcard domain under its own name only."""
    for name in (
        "example.com",
        IMG,
        WWW,
        "a.img.example.com",
        ".img.example.com",
        ".example.com",
        "example.org",
    ):
        place.service.add_domain(name)

    def found(*names: str) -> set[str]:
        return {domain.domain for domain in target.observe(look(names=names)).domains}

    assert {IMG, "a.img.example.com", "*.img.example.com"} == found(IMG, "*.img.example.com")
    assert {IMG, WWW, "*.example.com"} == found("*.example.com")
    assert {"example.com"} == found("example.com")
    assert set() == found("img.example.net")


def test_children_and_trial_domains_are_passed_over(place: Place, target: Qiniu) -> None:
    """A pan child takes its certificate from its parent, a trial domain is Qiniu's own."""
    place.service.add_domain(".example.com")
    place.service.add_domain(IMG, type="pan", parent=".example.com")
    place.service.add_domain(WWW, type="test")

    found = target.observe(look(names=("*.example.com",))).domains

    assert ["*.example.com"] == [domain.domain for domain in found]


@pytest.mark.parametrize("state", ["offlined", "frozen"])
def test_a_domain_that_is_switched_off(
    state: str, place: Place, target: Qiniu, caplog: pytest.LogCaptureFixture
) -> None:
    """A forgotten one under a wildcard is left out with a line in the log; a named one is told."""
    caplog.set_level(logging.INFO)
    place.service.add_domain(WWW, state=state)
    place.service.add_domain(IMG)

    found = target.observe(look(names=("*.example.com",))).domains

    assert [IMG] == [domain.domain for domain in found]
    assert f"{WWW} is left out: it is {state} at Qiniu" in caplog.text
    assert DomainState.UNAVAILABLE is the_domain(target).state


def test_a_frozen_account_is_told_in_any_case(place: Place, target: Qiniu) -> None:
    """Its domains are not left out: all of them would be, and nothing seem wrong."""
    place.service.add_domain(WWW)
    body = b'{"name":"www.example.com","operatingState":"success","uidIsFreezed":true}'
    place.service.api.faults.add(Fault.status(200, body), on=f"GET /domain/{WWW}")

    [found] = target.observe(look()).domains

    assert DomainState.UNAVAILABLE is found.state


def test_a_domain_that_vanishes_while_we_look(place: Place, target: Qiniu) -> None:
    """In the list and gone a moment later: nobody named it, so it is left out."""
    place.service.add_domain(WWW)
    place.service.add_domain(IMG)
    place.service.api.faults.add(refusal(404, 404001), on=f"GET /domain/{WWW}")

    found = target.observe(look(names=("*.example.com",))).domains

    assert [IMG] == [domain.domain for domain in found]


def test_domains_that_are_named(place: Place, target: Qiniu) -> None:
    """Each is read by itself, and the list is not asked for."""
    place.service.add_domain(".example.com")
    place.service.add_domain(WWW)

    found = target.observe(look("*.example.com", WWW)).domains

    assert [("*.example.com", Kind.CDN), (WWW, Kind.CDN)] == [(d.domain, d.kind) for d in found]
    assert 0 == place.count("GET /domain")


@pytest.mark.parametrize("kind", [Kind("video")])
def test_a_kind_that_is_not_deployed_to(kind: Kind, target: Qiniu) -> None:
    """It says so before anything is asked."""
    with pytest.raises(TargetRejected, match=kind.value):
        target.observe(look(WWW, kind=kind))


# --- in which state -------------------------------------------------------------------------


@pytest.mark.parametrize("absent", ["empty", "null", "missing"])
def test_a_domain_without_https(absent: Any, place: Place, target: Qiniu) -> None:
    """Nothing is bound, and settings that are not in force are not reported."""
    place.service.domains.absent_https = absent
    place.service.add_domain(WWW)

    assert ObservedDomain(WWW, Kind.CDN, DomainState.READY) == the_domain(target)


def test_a_domain_with_https(place: Place, target: Qiniu) -> None:
    """The bound id and the settings, TLS versions in rising order."""
    cert_id = qiniu_calls.seed(place.service, [WWW])
    place.service.add_domain(WWW, https=cert_id, http2=True, tls_versions=["TLSv1.3", "TLSv1.2"])

    settings = HttpsSettings(force_https=False, http2=True, tls_versions=("TLSv1.2", "TLSv1.3"))
    assert ObservedDomain(WWW, Kind.CDN, DomainState.READY, cert_id, settings) == (
        the_domain(target)
    )


def test_a_change_under_way(place: Place, target: Qiniu) -> None:
    """Processing, still bound to what was bound before, and no problem."""
    old, new = (qiniu_calls.seed(place.service, [WWW]) for _ in range(2))
    place.service.add_domain(WWW, https=old)
    place.service.hold(WWW)
    qiniu_calls.Client(place.service).httpsconf(WWW, new)

    found = the_domain(target)

    assert (DomainState.PROCESSING, old, None) == (found.state, found.bound, found.problem)
    place.service.release(WWW)
    found = the_domain(target)
    assert (DomainState.READY, new) == (found.state, found.bound)


@pytest.mark.parametrize(
    ("description", "advice"),
    [
        ("verify https crt fail", "`certferry sync --renew`, or from the client that makes it"),
        ("domain have no icp", "ICP"),
        ("源站测试失败", "console"),
    ],
)
def test_a_change_that_failed(description: str, advice: str, place: Place, target: Qiniu) -> None:
    """Its description is told, and what was bound before stays."""
    old, new = (qiniu_calls.seed(place.service, [WWW]) for _ in range(2))
    place.service.add_domain(WWW, https=old)
    place.service.fail_next(WWW, description)
    qiniu_calls.Client(place.service).httpsconf(WWW, new)

    found = the_domain(target)

    assert (DomainState.FAILED, old) == (found.state, found.bound)
    assert f"Qiniu could not carry out modify_https_conf: {description}" == str(found.problem)
    assert found.problem is not None
    assert advice in str(found.problem.hint)


def test_a_failed_change_that_left_its_certificate_behind(place: Place, target: Qiniu) -> None:
    """Bound to what was asked for, and failed all the same, as Qiniu says."""
    old, new = (qiniu_calls.seed(place.service, [WWW]) for _ in range(2))
    place.service.add_domain(WWW, https=old)
    place.service.fail_next(WWW, sticks=True)
    qiniu_calls.Client(place.service).httpsconf(WWW, new)

    found = the_domain(target)

    assert (DomainState.FAILED, new) == (found.state, found.bound)
    assert "verify https crt fail" in str(found.problem)


@pytest.mark.parametrize("absent", ["empty", "null", "missing"])
def test_https_that_is_not_shown(absent: Any, place: Place, target: Qiniu) -> None:
    """HTTPS by `protocol`, and nothing under `https`: it is not HTTP, and what is bound is open."""
    place.service.domains.absent_https = absent
    cert_id = qiniu_calls.seed(place.service, [WWW])
    place.service.add_domain(WWW, https=cert_id).hides_https = True

    found = the_domain(target)

    assert (DomainState.READY, None, True) == (found.state, found.bound, found.binding_hidden)
    place.service.domain(WWW).hides_https = False
    place.time.pause(DETAIL_AGE)
    found = the_domain(target)
    assert (DomainState.READY, cert_id, False) == (found.state, found.bound, found.binding_hidden)


def test_a_free_certificate_of_qinius_own(place: Place, target: Qiniu) -> None:
    """Nothing of ours is bound, and the settings are told."""
    place.service.add_domain(WWW, free_certificate=True, force_https=True)

    settings = HttpsSettings(force_https=True, http2=False)
    assert ObservedDomain(WWW, Kind.CDN, DomainState.READY, https=settings) == the_domain(target)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"state": "frozen"}, "frozen"),
        ({"state": "offlined"}, "offline"),
        ({"state": "deleted"}, "deleted"),
        ({"could_operate": False}, "self-service"),
        ({"type": "pan", "parent": ".example.com"}, "takes its certificate from *.example.com"),
        ({"type": "test"}, "trial domain"),
    ],
)
def test_a_domain_that_cannot_be_changed(
    options: dict[str, Any], words: str, place: Place, target: Qiniu
) -> None:
    """Unavailable, with the reason and what to do."""
    place.service.add_domain(WWW, **options)

    found = the_domain(target)

    assert DomainState.UNAVAILABLE is found.state
    assert found.problem is not None
    assert words in str(found.problem)
    assert found.problem.hint


def test_a_frozen_account(place: Place, target: Qiniu) -> None:
    """`uidIsFreezed` freezes all of an account's domains, whatever their state."""
    body = b'{"name":"www.example.com","operatingState":"success","uidIsFreezed":true}'
    place.service.api.faults.add(Fault.status(200, body))

    assert DomainState.UNAVAILABLE is the_domain(target).state


def test_a_change_of_a_domain_that_could_not_be_changed_otherwise(
    place: Place, target: Qiniu
) -> None:
    """While a change goes on, `couldOperateBySelf` tells nothing about the time after it."""
    place.service.add_domain(WWW, state="processing", could_operate=False)

    assert DomainState.PROCESSING is the_domain(target).state


# --- which are no CDN domains ---------------------------------------------------------------


def test_a_domain_that_is_nowhere(place: Place, target: Qiniu) -> None:
    """Not a CDN domain of the account; the other domains are looked at all the same."""
    place.service.add_domain(IMG)
    place.service.add_bucket_domain("other.example.com", "pictures")

    unknown, known = target.observe(look(WWW, IMG)).domains

    assert (WWW, DomainState.UNAVAILABLE) == (unknown.domain, unknown.state)
    assert "it is not a CDN domain of this account (404001 无此域名)" in str(unknown.problem)
    assert unknown.problem is not None
    assert "X-Reqid" in str(unknown.problem.hint)
    assert DomainState.READY is known.state


def test_buckets_that_may_not_be_seen(place: Place, target: Qiniu) -> None:
    """Keys without a right to Kodo leave in doubt what a domain is, and nothing else."""
    place.service.uc.faults.add(refusal(403, None, "no permission"), times=None)

    problem = str(the_domain(target).problem)

    assert "not a CDN domain of this account" in problem
    assert "Kodo's domains cannot be seen with these keys" in problem


@pytest.mark.parametrize("domains", [(), (WWW, IMG)])
def test_a_domain_of_another_account(domains: tuple[str, ...], place: Place, target: Qiniu) -> None:
    """One refused domain is told; it does not hide the others."""
    place.service.add_domain(WWW)
    place.service.add_domain(IMG)
    place.service.api.faults.add(refusal(403, 403023), on=f"GET /domain/{WWW}")

    other, own = target.observe(look(*domains, names=("*.example.com",))).domains

    assert "belongs to another account" in str(other.problem)
    assert DomainState.READY is own.state


# --- when Qiniu cannot be read --------------------------------------------------------------


def test_a_list_that_cannot_be_had(place: Place, target: Qiniu) -> None:
    """Which domains there are is not known: the observation fails, and is worth trying later."""
    place.service.add_domain(WWW)
    place.service.api.faults.add(Fault.status(500), on="GET /domain", times=None)

    with pytest.raises(TargetUnavailable) as caught:
        target.observe(look())

    assert caught.value.retry.allowed
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("domains", [(), (WWW, IMG)])
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (refusal(500, 500000), "500000"),
        (refusal(500, 500215), "500215"),
        (refusal(400, 400030), "not finished"),
        (Fault.status(200, b'{"name":'), "cannot be read"),
        (Fault.status(200, b'{"name":"www.example.com","https":[]}'), "cannot be read"),
        (Fault.html(502), "web page"),
        (Fault.reset_before(), "closed the connection"),
        (Fault.truncated(), "ended early"),
    ],
    ids=str,
)
def test_a_domain_that_cannot_be_read(
    fault: Fault, words: str, domains: tuple[str, ...], place: Place, target: Qiniu
) -> None:
    """It is told, as worth trying later, and does not hide the others."""
    place.service.add_domain(WWW)
    place.service.add_domain(IMG)
    place.service.api.faults.add(fault, on=f"GET /domain/{WWW}", times=None)

    broken, sound = target.observe(look(*domains, names=("*.example.com",))).domains

    assert (WWW, DomainState.UNAVAILABLE) == (broken.domain, broken.state)
    assert words in str(broken.problem)
    assert broken.problem is not None
    assert broken.problem.retry.allowed
    assert (IMG, DomainState.READY) == (sound.domain, sound.state)


def test_a_401_for_one_path_alone(place: Place, target: Qiniu) -> None:
    """Where the list was given, the keys are not blamed for one domain, and the others go on."""
    place.service.add_domain(WWW)
    place.service.add_domain(IMG)
    fault = refusal(401, None, "bad token")
    place.service.api.faults.add(fault, on=f"GET /domain/{WWW}", times=None)

    refused, sound = target.observe(look(names=("*.example.com",))).domains

    assert isinstance(refused.problem, TargetAccessDenied)
    assert "the same keys are accepted for other calls" in str(refused.problem.hint)
    assert (IMG, DomainState.READY) == (sound.domain, sound.state)


def test_a_401_before_anything_was_given(place: Place, target: Qiniu) -> None:
    """It ends the look at the first named domain, whose every way was tried."""
    place.service.add_domain(WWW)
    place.service.add_domain(IMG)
    place.service.api.faults.add(refusal(401, None, "bad token"), on="GET /domain/*", times=None)

    with pytest.raises(TargetAccessDenied):
        target.observe(look(WWW, IMG))

    assert (2, 0) == (place.count(f"GET /domain/{WWW}"), place.count(f"GET /domain/{IMG}"))


@pytest.mark.parametrize("domains", [(), (WWW, IMG)])
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (refusal(403, None, "no permission"), TargetAccessDenied),
        (refusal(403, 403024), TargetUnavailable),
        (Fault.too_many(), TargetUnavailable),
    ],
    ids=str,
)
def test_what_would_befall_every_domain(
    fault: Fault,
    error: type[Exception],
    domains: tuple[str, ...],
    place: Place,
    target: Qiniu,
) -> None:
    """Refused keys and a rate limit end the look at the first domain."""
    place.service.add_domain(WWW)
    place.service.add_domain(IMG)
    place.service.api.faults.add(fault, on="GET /domain/*", times=None)

    with pytest.raises(error):
        target.observe(look(*domains, names=("*.example.com",)))

    assert 0 == place.count(f"GET /domain/{IMG}")


def test_no_connection(place: Place) -> None:
    """Nobody is there: said once for the account, as worth trying later."""
    target = place.target()
    place.service.api.stop()

    with pytest.raises(TargetUnavailable, match="no connection") as caught:
        target.observe(look(WWW, IMG))

    assert caught.value.retry.allowed


def test_one_silent_domain(place: Place) -> None:
    """Silence about one domain is that domain's; about two in a row, it is Qiniu's."""
    place.timeouts = SHORT
    place.service.add_domain(WWW)
    place.service.add_domain(IMG)
    place.service.api.faults.add(Fault.delay(2), on=f"GET /domain/{WWW}", times=4)

    silent, sound = place.target().observe(look(WWW, IMG)).domains

    assert (DomainState.UNAVAILABLE, DomainState.READY) == (silent.state, sound.state)
    place.service.api.faults.add(Fault.delay(2), on="GET /domain/*", times=None)
    with pytest.raises(TargetUnavailable, match="did not answer"):
        place.target().observe(look(WWW, "a.example.com", "b.example.com"))
    assert 0 == place.count("GET /domain/b.example.com")


def test_refused_keys(place: Place) -> None:
    """Access denied passes the door as such, and no secret with it."""
    settings = Settings(
        Secret(ACCESS_KEY),
        Secret("another-secret"),
        api=f"{place.service.api_url}/",
        fusion=place.service.fusion_url,
        uc=place.service.uc_url,
    )
    target = connect(settings, place.context)

    with pytest.raises(TargetAccessDenied) as caught:
        target.observe(look(WWW))

    shown = f"{settings!r} {caught.value!r} {caught.value.hint}"
    assert ACCESS_KEY not in shown
    assert "another-secret" not in shown


def test_settings_reach_the_target(place: Place) -> None:
    """Addresses, keys and the least remaining days are those of the settings."""
    place.service.add_domain(WWW)
    settings = Settings(
        Secret(ACCESS_KEY),
        Secret(SECRET_KEY),
        api=place.service.api_url,
        fusion=place.service.fusion_url,
        uc=place.service.uc_url,
        min_remaining_days=20,
    )
    target = connect(settings, place.context)

    found = target.observe(look(WWW))

    assert TargetRules(timedelta(days=20), needs_common_name=True) == found.rules
    assert [WWW] == [domain.domain for domain in found.domains]


def test_the_hosts_of_the_documents_are_the_default() -> None:
    """Over HTTPS only."""
    settings = Settings(Secret("ak"), Secret("sk"))

    assert (
        "https://api.qiniu.com",
        "https://fusion.qiniuapi.com",
        "https://uc.qiniuapi.com",
        30,
    ) == (settings.api, settings.fusion, settings.uc, settings.min_remaining_days)


# --- which copies are ours ------------------------------------------------------------------


@pytest.fixture
def made() -> CertificateBundle:
    """Give a certificate of the lineage."""
    return bundle(WWW, "*.example.com")


def test_our_copies_are_known_by_their_mark(place: Place, target: Qiniu) -> None:
    """Ours of this lineage are listed; another lineage's, another tool's and unknown ones not."""
    issued = qiniu_calls.issue(WWW)
    ours = bundle_of(issued).certificate
    label = mark("img", ours.fingerprint)
    cert_id = place.service.add_certificate(issued, label)
    place.service.add_certificate(issued, mark("static", ours.fingerprint))
    place.service.add_certificate(issued, WWW)
    forgotten = qiniu_calls.issue(WWW)
    place.service.add_certificate(
        forgotten, mark("img", bundle_of(forgotten).certificate.fingerprint)
    )

    found = target.observe(look(known=(ours,))).remotes

    assert (RemoteCertificate(cert_id, label, ours.fingerprint, ours.not_after),) == found


@pytest.mark.parametrize(
    "change",
    [
        {"names": (WWW,)},
        {"not_before": timedelta(seconds=1)},
        {"not_after": timedelta(seconds=-1)},
    ],
)
def test_a_mark_on_something_else(
    change: dict[str, Any], place: Place, target: Qiniu, made: CertificateBundle
) -> None:
    """A label alone proves nothing: names and dates must be the certificate's own."""
    issued = qiniu_calls.issue(WWW, "*.example.com")
    ours = bundle_of(issued).certificate
    place.service.add_certificate(issued, mark("img", ours.fingerprint))
    [(field, value)] = change.items()
    other = getattr(ours, field) + value if isinstance(value, timedelta) else value

    assert () == target.observe(look(known=(replace(ours, **{field: other}),))).remotes
    assert 1 == len(target.observe(look(known=(ours,))).remotes)


@pytest.mark.parametrize("names", ['["*.EXAMPLE.com","WWW.example.com"]', "null", "[]"])
def test_names_in_another_order_or_not_told(
    names: str, place: Place, target: Qiniu, made: CertificateBundle
) -> None:
    """Order and case of names do not matter, and what a list leaves out does not disagree."""
    label = mark("img", made.certificate.fingerprint)
    body = f'{{"code":200,"certs":[{{"certid":"x","name":"{label}","dnsnames":{names}}}]}}'
    place.service.fusion.faults.add(Fault.status(200, body.encode()))

    found = target.observe(look(known=(made.certificate,))).remotes

    assert ["x"] == [remote.remote_id for remote in found]


def test_copies_that_the_state_does_not_know(place: Place, target: Qiniu) -> None:
    """What carries the lineage's mark beside what is known is told, with its moments: the state may
    be an older copy. Other lineages' marks and other people's names are not.
    """
    known, issued = bundle_of(qiniu_calls.issue(WWW)).certificate, qiniu_calls.issue(WWW)
    newer = bundle_of(issued).certificate
    marks_of_img = (mark("img", newer.fingerprint), short_mark("img", newer.fingerprint))
    for name in (*marks_of_img, mark("img-2", newer.fingerprint), WWW, "certferry-img-nonsense"):
        place.service.add_certificate(issued, name)

    found = target.observe(look(known=(known,))).unremembered

    assert sorted(marks_of_img) == sorted(other.label for other in found)
    assert {newer.not_before} == {other.not_before for other in found}
    assert () == target.observe(look(known=(known, newer))).unremembered


# --- how often Qiniu is asked ---------------------------------------------------------------


def test_many_lineages_share_one_list(place: Place, target: Qiniu) -> None:
    """A hundred observations at once list certificates and domains once each."""
    place.service.add_domain("example.org")
    known = (bundle_of(qiniu_calls.issue(WWW)).certificate,)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: target.observe(look(known=known)), range(100)))

    assert (1, 1) == (place.count("GET /sslcert"), place.count("GET /domain"))


def test_lineage_without_certificates_has_no_copies_to_look_for(
    place: Place, target: Qiniu
) -> None:
    """Before the first certificate is issued, the account's list is not asked for."""
    target.observe(look())

    assert 0 == place.count("GET /sslcert")


def test_lists_grow_old(place: Place, target: Qiniu) -> None:
    """After a few seconds, what others did at Qiniu is seen."""
    assert () == target.observe(look()).domains
    place.service.add_domain(WWW)
    place.time.pause(5)

    assert [WWW] == [domain.domain for domain in target.observe(look()).domains]


def test_a_list_that_failed_is_asked_for_again(place: Place, target: Qiniu) -> None:
    """A failure is not remembered."""
    place.service.add_domain(WWW)
    place.service.api.faults.add(Fault.status(500), times=4)

    with pytest.raises(TargetUnavailable):
        target.observe(look())

    assert 1 == len(target.observe(look()).domains)


def test_looking_changes_nothing(place: Place, target: Qiniu) -> None:
    """Whatever is there, an observation is made of GET requests."""
    place.service.add_domain(WWW)
    place.service.add_domain(IMG, state="frozen")
    place.service.add_bucket_domain("src.example.com", "pictures")

    target.observe(look(names=("*.example.com",)))
    target.observe(look(WWW, IMG, "src.example.com", "no.example.com"))

    assert [] == place.service.writes()
