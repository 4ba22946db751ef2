"""Looking at Qiniu: which domains, in which state, and which copies are ours."""

from __future__ import annotations

import json
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from certferry.adapters.qiniu.account import DETAIL_AGE
from certferry.adapters.qiniu.records import KODO, PILI
from certferry.adapters.qiniu.target import Qiniu
from certferry.core.certificates.certificate import Certificate
from certferry.core.desired.certificate import DesiredHttps, HttpsSettings, Kind
from certferry.core.observed.observation import DomainState, ObservedDomain
from certferry.core.planning.problems import stuck_error
from certferry.errors import TargetRejected
from certferry.ports.target import Scope
from certferry.present.status_text import ticket
from certferry.values import replace
from certferry_sandbox.faults import Fault
from tests.adapters.qiniu.account import REQUEST_ID, WWW, QiniuAccount, bundle, refusal
from tests.sandbox import qiniu_calls

IMG = "img.example.com"
OWN_ACCESS_KEY, OWN_SECRET_KEY = "aK7" * 13 + "x", "sK4_" * 10
SIGNATURE, KEY_LINE = "c2lnbmF0dXJlIG9mIHJlcXVlc3Q=", "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49"
PRIVATE_KEY = f"-----BEGIN PRIVATE KEY-----\n{KEY_LINE}\n-----END PRIVATE KEY-----"
"""Formed like the real ones: all are hidden by their form."""


def look(
    *domains: str,
    names: tuple[str, ...] = (WWW,),
    kind: Kind = Kind.AUTO,
    known: tuple[Certificate, ...] = (),
) -> Scope:
    """Observe these domains, or at every covered one when none is named."""
    return Scope("img", names, domains or None, kind, known)


def the_domain(target: Qiniu, name: str = WWW) -> ObservedDomain:
    [found] = target.observe(look(name)).domains
    return found


def test_every_covered_domain_is_found(account: QiniuAccount, target: Qiniu) -> None:
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
        account.service.add_domain(name)

    def found(*names: str) -> set[str]:
        return {domain.domain for domain in target.observe(look(names=names)).domains}

    assert {IMG, "a.img.example.com", "*.img.example.com"} == found(IMG, "*.img.example.com")
    assert {IMG, WWW, "*.example.com"} == found("*.example.com")
    assert {"example.com"} == found("example.com")
    assert set() == found("img.example.net")


def test_children_and_trial_domains_are_passed_over(account: QiniuAccount, target: Qiniu) -> None:
    """A pan child takes its certificate from its parent, a trial domain is Qiniu's own."""
    account.service.add_domain(".example.com")
    account.service.add_domain(IMG, type="pan", parent=".example.com")
    account.service.add_domain(WWW, type="test")

    found = target.observe(look(names=("*.example.com",))).domains

    assert ["*.example.com"] == [domain.domain for domain in found]


@pytest.mark.parametrize("state", ["offlined", "frozen"])
def test_a_domain_that_is_switched_off(state: str, account: QiniuAccount, target: Qiniu) -> None:
    """A forgotten one under a wildcard is left out, and reported as such; a named one fails."""
    account.service.add_domain(WWW, state=state)
    account.service.add_domain(IMG)

    found = target.observe(look(names=("*.example.com",)))

    assert [IMG] == [domain.domain for domain in found.domains]
    assert [WWW] == [domain.domain for domain in found.left_out]
    assert DomainState.UNAVAILABLE is the_domain(target).state


def test_a_frozen_account_is_reported_in_any_case(account: QiniuAccount, target: Qiniu) -> None:
    """Its domains are not left out: all of them would be, and nothing seem wrong."""
    account.service.add_domain(WWW)
    body = b'{"name":"www.example.com","operatingState":"success","uidIsFreezed":true}'
    account.service.api.faults.add(Fault.status(200, body), on=f"GET /domain/{WWW}")

    [found] = target.observe(look()).domains

    assert DomainState.UNAVAILABLE is found.state


def test_a_domain_that_vanishes_while_we_look(account: QiniuAccount, target: Qiniu) -> None:
    """In the list and gone a moment later: the file does not name it, so it is left out."""
    account.service.add_domain(WWW)
    account.service.add_domain(IMG)
    account.service.api.faults.add(refusal(404, 404001), on=f"GET /domain/{WWW}")

    found = target.observe(look(names=("*.example.com",))).domains

    assert [IMG] == [domain.domain for domain in found]


def test_domains_that_are_named(account: QiniuAccount, target: Qiniu) -> None:
    """Each is read by itself, and the list is not asked for."""
    account.service.add_domain(".example.com")
    account.service.add_domain(WWW)

    found = target.observe(look("*.example.com", WWW)).domains

    assert [("*.example.com", Kind.CDN), (WWW, Kind.CDN)] == [(d.domain, d.kind) for d in found]
    assert 0 == account.count("GET /domain")


@pytest.mark.parametrize("kind", [Kind("video")])
def test_a_kind_that_is_not_deployed_to(kind: Kind, target: Qiniu) -> None:
    """It says so before anything is asked."""
    with pytest.raises(TargetRejected, match=kind.value):
        target.observe(look(WWW, kind=kind))


@pytest.mark.parametrize("absent", ["empty", "null", "missing"])
def test_a_domain_without_https(absent: Any, account: QiniuAccount, target: Qiniu) -> None:
    """Nothing is bound, and settings that are not in force are not reported."""
    account.service.domains.absent_https = absent
    account.service.add_domain(WWW)

    assert ObservedDomain(WWW, Kind.CDN, DomainState.READY) == the_domain(target)


def test_a_domain_with_https(account: QiniuAccount, target: Qiniu) -> None:
    """The bound id and until when it is valid, the settings, TLS versions in rising order."""
    cert_id = qiniu_calls.seed(account.service, [WWW])
    account.service.add_domain(WWW, https=cert_id, http2=True, tls_versions=["TLSv1.3", "TLSv1.2"])

    settings = HttpsSettings(force_https=False, http2=True, tls_versions=("TLSv1.2", "TLSv1.3"))
    found = the_domain(target)
    assert ObservedDomain(WWW, Kind.CDN, DomainState.READY, cert_id, settings) == (
        replace(found, bound_until=None)
    )
    assert account.service.certificates.stored()[0].leaf.not_valid_after_utc == found.bound_until


def test_a_pending_change(account: QiniuAccount, target: Qiniu) -> None:
    """Processing, still bound to what was bound before, and no problem."""
    old, new = (qiniu_calls.seed(account.service, [WWW]) for _ in range(2))
    account.service.add_domain(WWW, https=old)
    account.service.hold(WWW)
    qiniu_calls.Client(account.service).httpsconf(WWW, new)

    found = the_domain(target)

    assert (DomainState.PROCESSING, old, None) == (found.state, found.bound, found.problem)
    account.service.release(WWW)
    found = the_domain(target)
    assert (DomainState.READY, new) == (found.state, found.bound)


@pytest.mark.parametrize(
    ("description", "advice"),
    [
        (
            "verify https crt fail",
            "`certferry sync --renew NAME`, or have the certificate's client issue it",
        ),
        ("domain have no icp", "ICP"),
        ("源站测试失败", "console"),
    ],
)
def test_a_change_that_failed(
    description: str, advice: str, account: QiniuAccount, target: Qiniu
) -> None:
    """Its description is reported, and what was bound before stays."""
    old, new = (qiniu_calls.seed(account.service, [WWW]) for _ in range(2))
    account.service.add_domain(WWW, https=old)
    account.service.fail_next(WWW, description)
    qiniu_calls.Client(account.service).httpsconf(WWW, new)

    found = the_domain(target)

    assert (DomainState.FAILED, old) == (found.state, found.bound)
    assert f"Qiniu could not carry out modify_https_conf: {description}" == str(found.problem)
    assert found.problem is not None
    assert advice in str(found.problem.hint)


def test_a_failed_change_that_quotes_a_key(account: QiniuAccount, target: Qiniu) -> None:
    """Qiniu's words are foreign ones: bounded, on one line, without what could be a key."""
    old, new = (qiniu_calls.seed(account.service, [WWW]) for _ in range(2))
    key = secrets.token_urlsafe(40)
    account.service.add_domain(WWW, https=old)
    account.service.fail_next(WWW, f"bad pri {key}\x1b[2J\n" + "so it is " * 1000)
    qiniu_calls.Client(account.service).httpsconf(WWW, new)

    reported = str(the_domain(target).problem)

    assert reported.startswith("Qiniu could not carry out modify_https_conf: bad pri •••")
    assert key not in reported
    assert not {"\x1b", "\n"} & set(reported)
    assert len(reported) < 1100


def test_a_failed_change_that_left_its_certificate_behind(
    account: QiniuAccount, target: Qiniu
) -> None:
    """Bound to what was asked for, and failed all the same, as Qiniu says."""
    old, new = (qiniu_calls.seed(account.service, [WWW]) for _ in range(2))
    account.service.add_domain(WWW, https=old)
    account.service.fail_next(WWW, sticks=True)
    qiniu_calls.Client(account.service).httpsconf(WWW, new)

    found = the_domain(target)

    assert (DomainState.FAILED, new) == (found.state, found.bound)
    assert "verify https crt fail" in str(found.problem)


@pytest.mark.parametrize("absent", ["empty", "null", "missing"])
def test_https_that_is_not_shown(absent: Any, account: QiniuAccount, target: Qiniu) -> None:
    """HTTPS by `protocol`, and nothing under `https`: it is not HTTP, and what is bound is open."""
    account.service.domains.absent_https = absent
    cert_id = qiniu_calls.seed(account.service, [WWW])
    account.service.add_domain(WWW, https=cert_id).hides_https = True

    found = the_domain(target)

    assert (DomainState.READY, None, True) == (found.state, found.bound, found.binding_hidden)
    account.service.domain(WWW).hides_https = False
    account.time.pause(DETAIL_AGE)
    found = the_domain(target)
    assert (DomainState.READY, cert_id, False) == (found.state, found.bound, found.binding_hidden)


def test_a_free_certificate_of_qinius_own(account: QiniuAccount, target: Qiniu) -> None:
    """Nothing of ours is bound, and the settings are reported."""
    account.service.add_domain(WWW, free_certificate=True, force_https=True)

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
    options: dict[str, Any], words: str, account: QiniuAccount, target: Qiniu
) -> None:
    """Unavailable, with the reason and what to do."""
    account.service.add_domain(WWW, **options)

    found = the_domain(target)

    assert DomainState.UNAVAILABLE is found.state
    assert found.problem is not None
    assert words in str(found.problem)
    assert found.problem.hint


def test_a_frozen_account(account: QiniuAccount, target: Qiniu) -> None:
    """`uidIsFreezed` freezes all of an account's domains, whatever their state."""
    body = b'{"name":"www.example.com","operatingState":"success","uidIsFreezed":true}'
    account.service.api.faults.add(Fault.status(200, body))

    assert DomainState.UNAVAILABLE is the_domain(target).state


def test_a_change_of_a_domain_that_could_not_be_changed_otherwise(
    account: QiniuAccount, target: Qiniu
) -> None:
    """While a change goes on, `couldOperateBySelf` tells nothing about the time after it."""
    account.service.add_domain(WWW, state="processing", could_operate=False)

    assert DomainState.PROCESSING is the_domain(target).state


def test_a_domain_that_is_nowhere(account: QiniuAccount, target: Qiniu) -> None:
    """Not a CDN domain of the account; the other domains are looked at all the same."""
    account.service.add_domain(IMG)
    account.service.add_bucket_domain("other.example.com", "pictures")

    unknown, known = target.observe(look(WWW, IMG)).domains

    assert (WWW, DomainState.UNAVAILABLE) == (unknown.domain, unknown.state)
    assert "the domain is not a CDN domain of the account (404001 无此域名)" in str(unknown.problem)
    assert unknown.problem is not None
    assert "X-Reqid" in str(unknown.problem.hint)
    assert DomainState.READY is known.state


def test_buckets_that_may_not_be_seen(account: QiniuAccount, target: Qiniu) -> None:
    """Keys without a right to Kodo leave in doubt what a domain is, and nothing else."""
    account.service.uc.faults.add(refusal(403, None, "no permission"), times=None)

    problem = str(the_domain(target).problem)

    assert "not a CDN domain of the account" in problem
    assert "these keys cannot see Kodo's domains" in problem


@pytest.mark.parametrize("domains", [(), (WWW, IMG)])
def test_a_domain_of_another_account(
    domains: tuple[str, ...], account: QiniuAccount, target: Qiniu
) -> None:
    """One refused domain is reported; it does not hide the others."""
    account.service.add_domain(WWW)
    account.service.add_domain(IMG)
    account.service.api.faults.add(refusal(403, 403023), on=f"GET /domain/{WWW}")

    other, own = target.observe(look(*domains, names=("*.example.com",))).domains

    assert "belongs to another account" in str(other.problem)
    assert DomainState.READY is own.state


@pytest.mark.parametrize(
    "secret",
    [OWN_ACCESS_KEY, OWN_SECRET_KEY, f"QBox {OWN_ACCESS_KEY}:{SIGNATURE}", PRIVATE_KEY],
    ids=["access-key", "secret-key", "token", "private-key"],
)
@pytest.mark.parametrize("where", ["operationType", "operTaskId", "operatingStateDesc"])
def test_ticket_holds_no_secret(where: str, secret: str, account: QiniuAccount) -> None:
    """It is sent to others, and printed: not even where Qiniu's words of the task quote a key."""
    account.service.add_account(OWN_ACCESS_KEY, OWN_SECRET_KEY)
    account.service.add_domain(WWW)
    record = {"name": WWW, "operatingState": "processing", where: secret}
    answer = Fault.status(200, json.dumps(record).encode(), headers=[("X-Reqid", REQUEST_ID)])
    account.service.api.faults.add(answer, on=f"GET /domain/{WWW}", times=None)
    target = account.target(access_key=OWN_ACCESS_KEY, secret=OWN_SECRET_KEY)

    domain = the_domain(target)
    since, now = datetime(2026, 11, 24, tzinfo=UTC), datetime(2026, 11, 26, tzinfo=UTC)
    error = stuck_error("qiniu", domain, since, now, served=(), fingerprint="aa" * 32)

    assert error.ticket
    reported = ticket(error.ticket) + str(error)
    assert WWW in reported
    for key in (OWN_ACCESS_KEY, OWN_SECRET_KEY, SIGNATURE, KEY_LINE):
        assert key not in reported


@pytest.mark.parametrize("kind", [Kind.CDN, KODO, PILI])
def test_what_another_run_has_done_is_seen_anew(
    account: QiniuAccount, target: Qiniu, kind: Kind
) -> None:
    """Whatever was read a moment before, and though Qiniu's list of domains lags behind."""
    match kind:
        case Kind.CDN:
            account.service.add_domain(WWW)
        case _ if kind == KODO:
            account.service.add_bucket_domain(WWW, "pictures")
        case _:
            account.service.add_live_domain(WWW, "studio")
    made = bundle(WWW)
    what = look(WWW, kind=kind, known=(made.certificate,))
    assert () == target.observe(what).remotes
    account.service.domains.list_lag = timedelta(seconds=2)
    other = account.target()
    remote_id = other.upload("img", made)
    other.bind(WWW, kind, remote_id, DesiredHttps())

    found = target.observe(replace(what, anew=True))

    assert [remote_id] == [remote.remote_id for remote in found.remotes]
    [domain] = found.domains
    assert remote_id == domain.bound or domain.state is DomainState.PROCESSING
