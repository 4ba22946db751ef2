"""Qiniu's lists: patterns, few requests, quotas, settings, and the costs of a large account."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from itertools import product
from pathlib import Path

import pytest

from benchmarks import many_domains
from certferry.adapters.cdn.caches import LIST_AGE
from certferry.adapters.cdn.copies import PER_SECOND
from certferry.adapters.qiniu.account import CROWD, DETAIL_AGE, NOTE_AGE, TASK_AGE
from certferry.adapters.qiniu.target import Qiniu
from certferry.core.desired.certificate import DesiredDeployment, DesiredHttps, Kind
from certferry.core.observed.inferred import with_unmatched
from certferry.core.observed.observation import DomainState, ObservedDomain, ObservedTarget
from certferry.core.observed.records import TRIED_AGAIN, Quota
from certferry.core.reasons import wait_for
from certferry.errors import DeployError, TargetRejected, TargetUnavailable
from certferry.ports.target import Scope
from certferry.text import Text
from certferry_sandbox.faults import Fault
from certferry_sandbox.qiniu.domains import HttpsConf
from tests.adapters.qiniu.account import WWW, QiniuAccount, bundle, refusal
from tests.sandbox import qiniu_calls
from tests.sandbox.qiniu_calls import seed
from tests.support.tiers import sampled

# --- Few requests for the domains of a Qiniu account, without missing a change


KEEP = DesiredHttps()
SOON = timedelta(minutes=10)
READ = f"GET /domain/{WWW}"
LIST = "GET /domain"


def observed_domains(target: Qiniu, *domains: str) -> tuple[ObservedDomain, ...]:
    return target.observe(
        Scope("img", ("*.example.com",), domains or (WWW,), Kind.AUTO, ())
    ).domains


def the_domain(target: Qiniu) -> ObservedDomain:
    [domain] = observed_domains(target)
    return domain


@pytest.fixture
def bound(account: QiniuAccount) -> str:
    """The id of the certificate that a domain at rest is bound to."""
    cert_id = seed(account.service, [WWW])
    account.service.add_domain(WWW, https=cert_id)
    return cert_id


def test_domain_at_rest_is_read_once(account: QiniuAccount, target: Qiniu, bound: str) -> None:
    """While the list shows no change, the detail stays valid for five minutes."""
    for _ in range(4):
        assert bound == the_domain(target).bound
        account.time.pause(LIST_AGE)

    assert 1 == account.count(READ)
    account.time.pause(DETAIL_AGE)
    the_domain(target)
    assert 2 == account.count(READ)


def test_change_by_others(account: QiniuAccount, target: Qiniu, bound: str) -> None:
    """The next list shows the change, and the domain is read again."""
    the_domain(target)
    certificate = account.service.certificates.stored()[0]
    account.service.change_in_console(WWW, HttpsConf(certificate, force_https=True))
    account.time.pause(LIST_AGE)

    assert (bound, True) == (the_domain(target).bound, the_domain(target).https.force_https)
    assert 2 == account.count(READ)


def test_doubted_domain_is_read_again(account: QiniuAccount, bound: str) -> None:
    """A doubt from the edges replaces the notes of this run and of earlier runs; a second doubt
    within the age of a list costs no request.
    """
    the_domain(account.target())
    foreign = seed(account.service, [WWW])
    certificate = account.service.certificates.stored()[-1]
    account.service.change_in_console(WWW, HttpsConf(certificate), listed=False)
    target = account.target()
    assert bound == the_domain(target).bound

    doubts = Scope("img", ("*.example.com",), (WWW,), Kind.AUTO, (), doubted=frozenset({WWW}))
    for _ in range(2):
        [domain] = target.observe(doubts).domains
        assert foreign == domain.bound

    assert 2 == account.count(READ)
    assert foreign == the_domain(account.target()).bound


def test_list_without_a_task(account: QiniuAccount, target: Qiniu, bound: str) -> None:
    """Each observation reads the domain, because neither list shows the domain's last change."""
    reported: tuple[dict[str, object], ...] = (
        {"name": WWW, "operatingState": "success"},
        {"name": "x"},
    )
    for count, item in enumerate(reported, start=2):
        body = json.dumps({"domains": [item]}).encode()
        account.service.api.faults.add(Fault.status(200, body), on=LIST)
        the_domain(target)
        account.time.pause(LIST_AGE)
        assert bound == the_domain(target).bound
        account.time.pause(LIST_AGE)
        assert count == account.count(READ)


def test_unreadable_list(account: QiniuAccount, target: Qiniu, bound: str) -> None:
    """The domain is read alone, and the list is left alone for a moment."""
    the_domain(target)
    account.time.pause(LIST_AGE)
    account.service.api.faults.add(Fault.status(500), on=LIST, times=None)

    assert [bound, bound] == [the_domain(target).bound for _ in range(2)]

    assert 3 == account.count(READ)


def test_refusal_of_the_list(account: QiniuAccount, target: Qiniu, bound: str) -> None:
    """A refusal that concerns every domain ends the observation."""
    the_domain(target)
    account.time.pause(LIST_AGE)
    account.service.api.faults.add(qiniu_refusal(403024), on=LIST, times=None)

    with pytest.raises(DeployError, match="is limiting requests"):
        the_domain(target)
    assert 1 == account.count(READ)


def qiniu_refusal(code: int) -> Fault:
    """Return a refusal that concerns no single domain."""
    return Fault.status(403, json.dumps({"code": code, "error": "its words"}).encode())


def test_waiting_for_a_change_reads_only_the_list(
    account: QiniuAccount, target: Qiniu, bound: str
) -> None:
    """Between the write and the end of the change no domain is read, then a single read follows."""
    account.service.domains.processing_time = SOON
    new = seed(account.service, [WWW])
    target.bind(WWW, Kind.CDN, new, KEEP)
    reads = account.count(READ)

    for _ in range(9):
        account.time.pause(60)
        observed = the_domain(target)
        assert (DomainState.PROCESSING, bound) == (observed.state, observed.bound)
        assert observed.task is not None
        assert observed.task.number is not None
    assert reads == account.count(READ)

    account.time.pause(60)
    assert (DomainState.READY, new) == (the_domain(target).state, the_domain(target).bound)
    assert reads + 1 == account.count(READ)


def test_long_change_is_read_sometimes(account: QiniuAccount, target: Qiniu, bound: str) -> None:
    """The detail may show that the change is stuck."""
    account.service.hold(WWW)
    target.bind(WWW, Kind.CDN, seed(account.service, [WWW]), KEEP)
    reads = account.count(READ)

    account.time.pause(TASK_AGE)
    assert DomainState.PROCESSING is the_domain(target).state

    assert bound
    assert reads + 1 == account.count(READ)


def test_failed_change(account: QiniuAccount, target: Qiniu, bound: str) -> None:
    """The list shows the end of the work, and the detail the failure."""
    account.service.domains.processing_time = SOON
    account.service.fail_next(WWW)
    target.bind(WWW, Kind.CDN, seed(account.service, [WWW]), KEEP)
    account.time.pause(SOON.total_seconds())

    observed = the_domain(target)

    assert (DomainState.FAILED, bound) == (observed.state, observed.bound)
    assert "verify https crt fail" in str(observed.problem)


@pytest.mark.parametrize("lag", [0.5, 3, 8])
def test_outdated_list_after_a_write(
    lag: float, account: QiniuAccount, target: Qiniu, bound: str
) -> None:
    """An outdated entry of the list does not count as the end of the change."""
    account.service.domains.list_lag = timedelta(seconds=lag)
    account.service.domains.processing_time = timedelta(seconds=20)
    account.time.pause(30)
    the_domain(target)
    target.bind(WWW, Kind.CDN, seed(account.service, [WWW]), KEEP)

    for _ in range(19):
        assert (DomainState.PROCESSING, bound) == (
            the_domain(target).state,
            the_domain(target).bound,
        )
        account.time.pause(1)
    account.time.pause(1 + lag)
    assert DomainState.READY is the_domain(target).state


@pytest.mark.parametrize(
    ("seconds", "others"),
    sampled([*product([0.1, 1, 3, 10, 47, 100, 480, 900, 4000], [0, CROWD + 1])], 8),
)
def test_end_of_a_change_is_observed_soon(
    seconds: float, others: int, account: QiniuAccount, target: Qiniu, bound: str
) -> None:
    """With the core's intervals, the end is observed within a tenth of the wait and a second."""
    for number in range(others):
        account.service.add_domain(f"n{number}.example.com")
    account.service.domains.processing_time = timedelta(seconds=seconds)
    the_domain(target)
    new = seed(account.service, [WWW])
    target.bind(WWW, Kind.CDN, new, KEEP)
    began: datetime = account.time.now()

    while the_domain(target).bound != new:
        until = wait_for(Text("its change"), began, account.time.now()).until
        account.time.pause((until - account.time.now()).total_seconds())

    assert (account.time.now() - began).total_seconds() <= 1.1 * seconds + 1


def test_write_keeps_the_current_settings(account: QiniuAccount, target: Qiniu, bound: str) -> None:
    """Settings that others changed a moment ago stay, whatever the list still shows."""
    the_domain(target)
    certificate = account.service.certificates.stored()[0]
    account.service.change_in_console(WWW, HttpsConf(certificate, force_https=True))
    new = seed(account.service, [WWW])

    target.bind(WWW, Kind.CDN, new, KEEP)

    assert bound != new
    assert (new, True) == (
        account.service.bound(WWW),
        account.service.domain(WWW).https.force_https,
    )


def test_long_list_during_many_uploads(account: QiniuAccount, target: Qiniu) -> None:
    """A list of 500 certificates may be ten seconds old, a short list five: the age follows the
    number of requests.
    """
    issued = qiniu_calls.issue(WWW)
    for number in range(10 * PER_SECOND):
        account.service.add_certificate(issued, f"old {number}")
    pages = 3

    counts = []
    for seconds in (0, 7, 4):
        account.time.pause(seconds)
        target.upload("img", bundle(WWW))
        counts.append(account.count("GET /sslcert"))

    assert [pages, pages, 2 * pages] == counts


def test_run_without_changes_reads_no_domain(account: QiniuAccount, bound: str) -> None:
    """The list shows that nothing changed since an earlier run's read."""
    the_domain(account.target())
    account.time.pause(86400)

    assert bound == the_domain(account.target()).bound

    assert (1, 1) == (account.count(READ), account.count(LIST))


def test_second_observation_of_a_run(account: QiniuAccount, bound: str) -> None:
    """The second observation reads the domain, because a change follows from the current
    settings.
    """
    the_domain(account.target())
    later = account.target()

    assert [bound, bound] == [the_domain(later).bound for _ in range(2)]

    assert 2 == account.count(READ)


def test_note_expires(account: QiniuAccount, bound: str) -> None:
    """A note older than a day and a half is ignored, because the list may miss a change; a note
    from the future is ignored as well.
    """
    the_domain(account.target())
    account.time.pause(NOTE_AGE.total_seconds())
    assert bound == the_domain(account.target()).bound
    assert 2 == account.count(READ)

    account.time.offset = -timedelta(minutes=1)
    the_domain(account.target())
    assert 3 == account.count(READ)


@pytest.mark.parametrize("note", ["", "{}", '{"at": "soon"}'])
def test_unreadable_note_of_a_domain(note: str, account: QiniuAccount, bound: str) -> None:
    """A note of another version of certferry is ignored."""
    account.memory.update(f"domain: {WWW}", lambda _: note)

    assert bound == the_domain(account.target()).bound


def test_run_killed_after_its_write(account: QiniuAccount, bound: str) -> None:
    """Notes from before the write are not trusted, whatever the list shows."""
    account.service.domains.list_lag = timedelta(minutes=1)
    account.time.pause(61)
    the_domain(account.target())
    new = seed(account.service, [WWW])
    account.target().bind(WWW, Kind.CDN, new, KEEP)

    assert bound != new
    assert new == the_domain(account.target()).bound


def test_deleted_domain(account: QiniuAccount, target: Qiniu, bound: str) -> None:
    """The list lacks the domain, and the read of the domain reports the deletion."""
    the_domain(target)
    account.service.domains.remove(WWW)
    account.time.pause(LIST_AGE)

    assert DomainState.UNAVAILABLE is the_domain(target).state
    assert DomainState.UNAVAILABLE is the_domain(account.target()).state
    assert bound


# --- Observing Qiniu with patterns: included and excluded domains


IMG = "img.example.com"
SRC = "src.example.com"
NAMES = ("example.com", "*.example.com")


def scope_by_globs(
    *globs: str,
    domains: tuple[str, ...] | None = (),
    exclude: tuple[str, ...] = (),
    kind: Kind = Kind.AUTO,
) -> Scope:
    """Return the scope of these patterns and named domains."""
    return Scope("img", NAMES, domains, kind, (), globs=globs, exclude=exclude)


def names(observed: ObservedTarget) -> list[str]:
    return [domain.domain for domain in observed.domains]


def test_children_and_trial_domains_are_skipped(account: QiniuAccount, target: Qiniu) -> None:
    """A child has its parent's certificate: the child is neither read nor listed as excluded,
    whatever the patterns.
    """
    account.service.add_domain(".example.com")
    account.service.add_domain(IMG, type="pan", parent=".example.com")
    account.service.add_domain(WWW, type="test")

    observed = target.observe(scope_by_globs("*.example.com", exclude=("www.*",)))

    assert ["*.example.com"] == names(observed)
    assert () == observed.excluded
    assert 0 == account.count(f"GET /domain/{IMG}")


def test_pattern_that_matches_children_only(account: QiniuAccount, target: Qiniu) -> None:
    """Children cannot be bound, so the pattern counts as unmatched."""
    account.service.add_domain(".example.com")
    account.service.add_domain(IMG, type="pan", parent=".example.com")
    deployment = DesiredDeployment("qiniu", (), globs=("img.*",))

    observed = with_unmatched(target.observe(scope_by_globs("img.*")), deployment)

    assert ("img.*",) == observed.unmatched


def test_excluded_domain_is_not_read(account: QiniuAccount, target: Qiniu) -> None:
    """An excluded domain causes no request, and its problems are not reported."""
    for name in (IMG, WWW, SRC):
        account.service.add_domain(name)
    account.service.api.faults.add(refusal(400, 400001), on=f"GET /domain/{WWW}", times=None)

    observed = target.observe(scope_by_globs(domains=None, exclude=("w*",)))

    assert [IMG, SRC] == names(observed)
    assert (WWW,) == observed.excluded
    assert 0 == account.count(f"GET /domain/{WWW}")


def test_named_domains_beside_patterns(account: QiniuAccount, target: Qiniu) -> None:
    """Named domains come first and are read once, even if a pattern matches; a missing domain is
    reported.
    """
    account.service.add_domain(IMG)
    account.service.add_domain(WWW)

    observed = target.observe(scope_by_globs("*.example.com", domains=(WWW, "a.example.com")))

    assert [WWW, "a.example.com", IMG] == names(observed)
    assert DomainState.UNAVAILABLE is observed.domains[1].state
    assert 1 == account.count(f"GET /domain/{WWW}")


def test_source_domains_by_patterns(account: QiniuAccount, target: Qiniu) -> None:
    """Patterns include and exclude source domains; a domain of both parts is a CDN domain."""
    account.service.add_bucket_domain(SRC, "pictures")
    account.service.add_bucket_domain("src-2.example.com", "pictures")
    account.service.add_domain(IMG)

    of_both_kinds = target.observe(scope_by_globs("*", exclude=("src-*",)))
    cdn = target.observe(scope_by_globs("*", exclude=("src-*",), kind=Kind.CDN))
    kodo = target.observe(scope_by_globs("*", exclude=("src-*",), kind=Kind("kodo")))

    assert [IMG, SRC] == names(of_both_kinds)
    assert ("src-2.example.com",) == of_both_kinds.excluded == kodo.excluded
    assert [IMG] == names(cdn)
    assert () == cdn.excluded
    assert [SRC] == names(kodo)


def test_silent_kodo_beside_named_domains(account: QiniuAccount, target: Qiniu) -> None:
    """Named domains of the CDN are reported, with a note about possible further domains."""
    account.service.add_domain(WWW)
    account.service.uc.faults.add(Fault.status(503), times=None)

    observed = target.observe(scope_by_globs("src.*", domains=(WWW,)))

    assert [WWW] == names(observed)
    [unread] = observed.unread
    assert isinstance(unread, TargetUnavailable)


@pytest.mark.parametrize(
    ("state", "word"), [("frozen", "frozen"), ("offlined", "offline"), ("deleted", "deleted")]
)
@pytest.mark.parametrize("wanted", [scope_by_globs("*.example.com"), scope_by_globs(domains=None)])
def test_switched_off_domain_is_left_out(
    wanted: Scope, state: str, word: str, account: QiniuAccount, target: Qiniu
) -> None:
    """An unnamed domain that is switched off is left out with a reason."""
    account.service.add_domain(IMG)
    account.service.add_domain(WWW, state=state)

    observed = target.observe(wanted)

    assert [IMG] == names(observed)
    [left_out] = observed.left_out
    assert WWW == left_out.domain
    assert f"{WWW} is {word} at Qiniu" == str(left_out.problem)


# --- The quota of certificates of a Qiniu account


def quota(target: Qiniu) -> Quota | None:
    return target.observe(Scope("img", (WWW,), (), Kind.AUTO, ())).quota


def fill_to_the_quota(account: QiniuAccount, held: int) -> None:
    """Fill the account, and have another certificate refused."""
    account.service.certificates.quota = held
    for number in range(held):
        qiniu_calls.seed(account.service, [WWW], f"old {number}")
    with pytest.raises(TargetRejected, match="certificate quota is full"):
        account.target().upload("img", bundle(WWW))


def test_quota_before_a_refusal(target: Qiniu) -> None:
    """The quota is undocumented, and therefore unknown."""
    assert None is quota(target)


def test_refusal_is_remembered_for_a_day(account: QiniuAccount) -> None:
    """The number of certificates is remembered across runs, then an upload is tried again."""
    fill_to_the_quota(account, 3)
    account.time.pause(60)

    remembered = quota(account.target())

    assert remembered is not None
    assert (3, 3, True) == (
        remembered.held,
        remembered.most,
        remembered.is_full(account.time.now()),
    )
    assert TRIED_AGAIN - timedelta(minutes=2) < remembered.until - account.time.now() < TRIED_AGAIN
    account.time.pause(TRIED_AGAIN.total_seconds())
    assert None is quota(account.target())


def test_removal_frees_the_quota(account: QiniuAccount) -> None:
    """The next observation counts again, and an accepted upload ends the refusal."""
    fill_to_the_quota(account, 3)
    qiniu_calls.Client(account.service).delete(account.service.certificates.stored()[0].id)
    later = account.target()

    remembered = quota(later)

    assert remembered is not None
    assert (2, False) == (remembered.held, remembered.is_full(account.time.now()))
    later.upload("img", bundle(WWW))
    assert None is quota(later)


def test_refusal_beside_an_unreadable_list(account: QiniuAccount) -> None:
    """Without the list, no number is remembered."""
    account.service.certificates.quota = 0
    target, made = account.target(), bundle(WWW)
    target.observe(Scope("img", (WWW,), (), Kind.AUTO, (made.certificate,)))
    account.service.fusion.faults.add(Fault.status(500), on="GET *", times=None)
    with pytest.raises(TargetRejected, match="certificate quota is full"):
        target.upload("img", made)
    account.service.fusion.faults.clear()

    assert None is quota(account.target())


@pytest.mark.parametrize("note", ["", "{}", '{"held": 3, "at": "soon"}'])
def test_unreadable_note_of_a_quota(note: str, account: QiniuAccount) -> None:
    """A note of another version of certferry is ignored."""
    account.memory.update("most certificates", lambda _: note)

    assert None is quota(account.target())


# --- The benchmark of a large Qiniu account, with a small account: its promises hold in every gate


def test_requests_of_an_account() -> None:
    """A first sync needs six requests for each domain, a renewal five, an idle run one; the
    stand-in refuses more than ten in a second.
    """
    reported: list[str] = []

    broken = many_domains.run(12, timedelta(seconds=2), reported.append)

    assert [] == broken
    assert ["first sync", "no-op", "no-op, a day later", "renewal"] == [
        line.split("  ")[0] for line in reported if "per domain" in line
    ]
    assert any(line.startswith("discover ") and "x those of plan" in line for line in reported)
    # A benchmark without these requests would have measured nothing.
    assert any("PUT /domain/NAME/sslize" in line for line in reported)
    assert any("PUT /domain/NAME/httpsconf" in line for line in reported)


def test_long_silence_fails() -> None:
    """Any silence is too long here: the benchmark limits the time without new output."""
    processing = timedelta(seconds=2)

    broken = many_domains.run(2, processing, lambda _: None, most_silence=timedelta(seconds=0.1))

    assert any(promise.startswith("first sync: silent for ") for promise in broken)


def test_silence_to_the_end_of_a_run_counts(tmp_path: Path) -> None:
    """A run without further output is silent until its end."""
    time = many_domains.VirtualTime(tmp_path / "clock")
    silence = many_domains.Silence(time)
    silence.begin()
    time.pause(20)
    silence.told(None)
    time.pause(50)

    silence.end()

    assert 50 == silence.longest


def test_broken_promise_is_reported() -> None:
    """A change of a minute needs more observations than a small account's promise allows."""
    broken = many_domains.run(1, timedelta(seconds=60), lambda _: None)

    assert any(promise.startswith("renewal: ") for promise in broken)
