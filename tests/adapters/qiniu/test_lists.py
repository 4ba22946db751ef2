"""Reading Qiniu's lists: globs, few requests, quotas, settings, and what a large account costs."""

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

# --- How few requests it takes to know a Qiniu account's domains, and that none is missed for
# it


KEEP = DesiredHttps()
SOON = timedelta(minutes=10)
READ = f"GET /domain/{WWW}"
LIST = "GET /domain"


def look(target: Qiniu, *domains: str) -> tuple[ObservedDomain, ...]:
    return target.observe(
        Scope("img", ("*.example.com",), domains or (WWW,), Kind.AUTO, ())
    ).domains


def the_domain(target: Qiniu) -> ObservedDomain:
    [domain] = look(target)
    return domain


@pytest.fixture
def bound(account: QiniuAccount) -> str:
    """A domain at rest, and the certificate that it is bound to."""
    cert_id = seed(account.service, [WWW])
    account.service.add_domain(WWW, https=cert_id)
    return cert_id


def test_a_domain_at_rest_is_read_once(account: QiniuAccount, target: Qiniu, bound: str) -> None:
    """While the list shows no change, its detail stands; after five minutes it is read again."""
    for _ in range(4):
        assert bound == the_domain(target).bound
        account.time.pause(LIST_AGE)

    assert 1 == account.count(READ)
    account.time.pause(DETAIL_AGE)
    the_domain(target)
    assert 2 == account.count(READ)


def test_a_change_by_others_is_seen_with_the_next_list(
    account: QiniuAccount, target: Qiniu, bound: str
) -> None:
    """The list shows that there was one, and the domain is read for what it was."""
    the_domain(target)
    certificate = account.service.certificates.stored()[0]
    account.service.change_in_console(WWW, HttpsConf(certificate, force_https=True))
    account.time.pause(LIST_AGE)

    assert (bound, True) == (the_domain(target).bound, the_domain(target).https.force_https)
    assert 2 == account.count(READ)


def test_domain_that_edges_contradict_is_read_though_the_list_shows_no_change(
    account: QiniuAccount, bound: str
) -> None:
    """The note of an earlier run and the detail of this one count no more; a second doubt within
    the age of a list costs no request.
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


def test_a_list_that_reports_no_task_is_no_proof(
    account: QiniuAccount, target: Qiniu, bound: str
) -> None:
    """Each look reads the domain, as if there were no list; also where the domain is not in it."""
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


def test_a_list_that_cannot_be_read(account: QiniuAccount, target: Qiniu, bound: str) -> None:
    """The domain is read by itself, and the list left alone for a moment."""
    the_domain(target)
    account.time.pause(LIST_AGE)
    account.service.api.faults.add(Fault.status(500), on=LIST, times=None)

    assert [bound, bound] == [the_domain(target).bound for _ in range(2)]

    assert 3 == account.count(READ)


def test_refused_keys_are_reported_by_the_list_as_well(
    account: QiniuAccount, target: Qiniu, bound: str
) -> None:
    """What every domain would be refused for ends the look."""
    the_domain(target)
    account.time.pause(LIST_AGE)
    account.service.api.faults.add(qiniu_refusal(403024), on=LIST, times=None)

    with pytest.raises(DeployError, match="is limiting requests"):
        the_domain(target)
    assert 1 == account.count(READ)


def qiniu_refusal(code: int) -> Fault:
    """A refusal that has nothing to do with any domain."""
    return Fault.status(403, json.dumps({"code": code, "error": "its words"}).encode())


def test_waiting_for_a_change_reads_the_list_alone(
    account: QiniuAccount, target: Qiniu, bound: str
) -> None:
    """From our write to its end no domain is read; then it is, once."""
    account.service.domains.processing_time = SOON
    new = seed(account.service, [WWW])
    target.bind(WWW, Kind.CDN, new, KEEP)
    reads = account.count(READ)

    for _ in range(9):
        account.time.pause(60)
        found = the_domain(target)
        assert (DomainState.PROCESSING, bound) == (found.state, found.bound)
        assert found.task is not None
        assert found.task.number is not None
    assert reads == account.count(READ)

    account.time.pause(60)
    assert (DomainState.READY, new) == (the_domain(target).state, the_domain(target).bound)
    assert reads + 1 == account.count(READ)


def test_a_change_that_does_not_end_is_read_now_and_then(
    account: QiniuAccount, target: Qiniu, bound: str
) -> None:
    """What its detail tells meanwhile counts for whether it is stuck."""
    account.service.hold(WWW)
    target.bind(WWW, Kind.CDN, seed(account.service, [WWW]), KEEP)
    reads = account.count(READ)

    account.time.pause(TASK_AGE)
    assert DomainState.PROCESSING is the_domain(target).state

    assert bound
    assert reads + 1 == account.count(READ)


def test_a_failed_change_is_passed_on(account: QiniuAccount, target: Qiniu, bound: str) -> None:
    """The list shows that it is at work no more; what it failed of stands in the detail."""
    account.service.domains.processing_time = SOON
    account.service.fail_next(WWW)
    target.bind(WWW, Kind.CDN, seed(account.service, [WWW]), KEEP)
    account.time.pause(SOON.total_seconds())

    found = the_domain(target)

    assert (DomainState.FAILED, bound) == (found.state, found.bound)
    assert "verify https crt fail" in str(found.problem)


@pytest.mark.parametrize("lag", [0.5, 3, 8])
def test_a_list_that_lags_behind_our_write(
    lag: float, account: QiniuAccount, target: Qiniu, bound: str
) -> None:
    """What it shows from before is not taken for the end of the change."""
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
def test_the_end_of_a_change_is_seen_soon_after(
    seconds: float, others: int, account: QiniuAccount, target: Qiniu, bound: str
) -> None:
    """At most a tenth of the wait, and a second, after it has happened, by the core's looks."""
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


def test_a_write_goes_by_what_is_there_now(
    account: QiniuAccount, target: Qiniu, bound: str
) -> None:
    """Settings that others changed a moment ago are kept, whatever the list still shows."""
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


def test_a_long_list_is_not_read_for_each_of_many_uploads(
    account: QiniuAccount, target: Qiniu
) -> None:
    """Of 500 certificates it may be ten seconds old, of a few five: it takes as many requests."""
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


def test_a_run_that_finds_nothing_to_do_reads_no_domain(account: QiniuAccount, bound: str) -> None:
    """The list shows that nothing changed since an earlier run read it."""
    the_domain(account.target())
    account.time.pause(86400)

    assert bound == the_domain(account.target()).bound

    assert (1, 1) == (account.count(READ), account.count(LIST))


def test_a_second_look_of_a_run_reads_really(account: QiniuAccount, bound: str) -> None:
    """What is done about a domain is decided by what is there now."""
    the_domain(account.target())
    later = account.target()

    assert [bound, bound] == [the_domain(later).bound for _ in range(2)]

    assert 2 == account.count(READ)


def test_after_a_day_and_a_half_it_is_read_anew(account: QiniuAccount, bound: str) -> None:
    """That each change shows in the list is a guess; so does a clock that was ahead."""
    the_domain(account.target())
    account.time.pause(NOTE_AGE.total_seconds())
    assert bound == the_domain(account.target()).bound
    assert 2 == account.count(READ)

    account.time.offset = -timedelta(minutes=1)
    the_domain(account.target())
    assert 3 == account.count(READ)


@pytest.mark.parametrize("note", ["", "{}", '{"at": "soon"}'])
def test_an_odd_note_is_none(note: str, account: QiniuAccount, bound: str) -> None:
    """Another version of certferry may have written it."""
    account.memory.update(f"domain: {WWW}", lambda _: note)

    assert bound == the_domain(account.target()).bound


def test_a_run_that_was_killed_after_its_write(account: QiniuAccount, bound: str) -> None:
    """Nothing that was read before the write is trusted afterwards, whatever the list shows."""
    account.service.domains.list_lag = timedelta(minutes=1)
    account.time.pause(61)
    the_domain(account.target())
    new = seed(account.service, [WWW])
    account.target().bind(WWW, Kind.CDN, new, KEEP)

    assert bound != new
    assert new == the_domain(account.target()).bound


def test_a_domain_that_was_deleted(account: QiniuAccount, target: Qiniu, bound: str) -> None:
    """It is in no list any more, and the domain's own answer says so."""
    the_domain(target)
    account.service.domains.remove(WWW)
    account.time.pause(LIST_AGE)

    assert DomainState.UNAVAILABLE is the_domain(target).state
    assert DomainState.UNAVAILABLE is the_domain(account.target()).state
    assert bound


# --- Looking at Qiniu with globs: which domains are read, and which are left alone


IMG = "img.example.com"
SRC = "src.example.com"
NAMES = ("example.com", "*.example.com")


def look_by_globs(
    *globs: str,
    domains: tuple[str, ...] | None = (),
    exclude: tuple[str, ...] = (),
    kind: Kind = Kind.AUTO,
) -> Scope:
    """Observe what these match, and at what is named."""
    return Scope("img", NAMES, domains, kind, (), globs=globs, exclude=exclude)


def names(found: ObservedTarget) -> list[str]:
    return [domain.domain for domain in found.domains]


def test_children_and_trial_domains_are_left_alone(account: QiniuAccount, target: Qiniu) -> None:
    """A child has its parent's certificate, whatever the globs; it is neither read nor excluded."""
    account.service.add_domain(".example.com")
    account.service.add_domain(IMG, type="pan", parent=".example.com")
    account.service.add_domain(WWW, type="test")

    found = target.observe(look_by_globs("*.example.com", exclude=("www.*",)))

    assert ["*.example.com"] == names(found)
    assert () == found.excluded
    assert 0 == account.count(f"GET /domain/{IMG}")


def test_glob_that_matches_children_alone_matches_nothing(
    account: QiniuAccount, target: Qiniu
) -> None:
    """There is nothing to bind; their parent is to be named."""
    account.service.add_domain(".example.com")
    account.service.add_domain(IMG, type="pan", parent=".example.com")
    deployment = DesiredDeployment("qiniu", (), globs=("img.*",))

    found = with_unmatched(target.observe(look_by_globs("img.*")), deployment)

    assert ("img.*",) == found.unmatched


def test_what_is_excluded_is_not_read(account: QiniuAccount, target: Qiniu) -> None:
    """Nothing that befalls it can be reported, and no request is made for it."""
    for name in (IMG, WWW, SRC):
        account.service.add_domain(name)
    account.service.api.faults.add(refusal(400, 400001), on=f"GET /domain/{WWW}", times=None)

    found = target.observe(look_by_globs(domains=None, exclude=("w*",)))

    assert [IMG, SRC] == names(found)
    assert (WWW,) == found.excluded
    assert 0 == account.count(f"GET /domain/{WWW}")


def test_names_come_first_and_are_read_once(account: QiniuAccount, target: Qiniu) -> None:
    """Also where a glob matches them; one that is missing is reported beside what is found."""
    account.service.add_domain(IMG)
    account.service.add_domain(WWW)

    found = target.observe(look_by_globs("*.example.com", domains=(WWW, "a.example.com")))

    assert [WWW, "a.example.com", IMG] == names(found)
    assert DomainState.UNAVAILABLE is found.domains[1].state
    assert 1 == account.count(f"GET /domain/{WWW}")


def test_source_domains_are_found_and_excluded(account: QiniuAccount, target: Qiniu) -> None:
    """By the same patterns; what both halves of Qiniu know is a CDN domain."""
    account.service.add_bucket_domain(SRC, "pictures")
    account.service.add_bucket_domain("src-2.example.com", "pictures")
    account.service.add_domain(IMG)

    both = target.observe(look_by_globs("*", exclude=("src-*",)))
    cdn = target.observe(look_by_globs("*", exclude=("src-*",), kind=Kind.CDN))
    kodo = target.observe(look_by_globs("*", exclude=("src-*",), kind=Kind("kodo")))

    assert [IMG, SRC] == names(both)
    assert ("src-2.example.com",) == both.excluded == kodo.excluded
    assert [IMG] == names(cdn)
    assert () == cdn.excluded
    assert [SRC] == names(kodo)


def test_kodo_that_is_away_hides_no_named_domain(account: QiniuAccount, target: Qiniu) -> None:
    """What is named at the CDN is reported, and that there may be more."""
    account.service.add_domain(WWW)
    account.service.uc.faults.add(Fault.status(503), times=None)

    found = target.observe(look_by_globs("src.*", domains=(WWW,)))

    assert [WWW] == names(found)
    [unread] = found.unread
    assert isinstance(unread, TargetUnavailable)


@pytest.mark.parametrize(
    ("state", "said"), [("frozen", "frozen"), ("offlined", "offline"), ("deleted", "deleted")]
)
@pytest.mark.parametrize("wanted", [look_by_globs("*.example.com"), look_by_globs(domains=None)])
def test_domain_that_is_switched_off_is_left_out(
    wanted: Scope, state: str, said: str, account: QiniuAccount, target: Qiniu
) -> None:
    """It was not named; it is reported, and why."""
    account.service.add_domain(IMG)
    account.service.add_domain(WWW, state=state)

    found = target.observe(wanted)

    assert [IMG] == names(found)
    [left_out] = found.left_out
    assert WWW == left_out.domain
    assert f"{WWW} is {said} at Qiniu" == str(left_out.problem)


# --- What is known of how many certificates an account at Qiniu may hold


def quota(target: Qiniu) -> Quota | None:
    return target.observe(Scope("img", (WWW,), (), Kind.AUTO, ())).quota


def refused(account: QiniuAccount, held: int) -> None:
    """Fill the account, and have one more refused."""
    account.service.certificates.quota = held
    for number in range(held):
        qiniu_calls.seed(account.service, [WWW], f"old {number}")
    with pytest.raises(TargetRejected, match="certificate quota is full"):
        account.target().upload("img", bundle(WWW))


def test_before_anything_was_refused_nothing_is_known(target: Qiniu) -> None:
    """No document says how many an account may hold."""
    assert None is quota(target)


def test_a_refusal_is_remembered_for_a_day(account: QiniuAccount) -> None:
    """With how many there were, also by later runs; then it is tried again."""
    refused(account, 3)
    account.time.pause(60)

    found = quota(account.target())

    assert found is not None
    assert (3, 3, True) == (found.held, found.most, found.is_full(account.time.now()))
    assert TRIED_AGAIN - timedelta(minutes=2) < found.until - account.time.now() < TRIED_AGAIN
    account.time.pause(TRIED_AGAIN.total_seconds())
    assert None is quota(account.target())


def test_what_is_removed_makes_room(account: QiniuAccount) -> None:
    """The next look counts anew, and an upload that is taken ends it."""
    refused(account, 3)
    qiniu_calls.Client(account.service).delete(account.service.certificates.stored()[0].id)
    later = account.target()

    found = quota(later)

    assert found is not None
    assert (2, False) == (found.held, found.is_full(account.time.now()))
    later.upload("img", bundle(WWW))
    assert None is quota(later)


def test_a_list_that_cannot_be_read_then(account: QiniuAccount) -> None:
    """Nothing is remembered that was not seen."""
    account.service.certificates.quota = 0
    target, made = account.target(), bundle(WWW)
    target.observe(Scope("img", (WWW,), (), Kind.AUTO, (made.certificate,)))
    account.service.fusion.faults.add(Fault.status(500), on="GET *", times=None)
    with pytest.raises(TargetRejected, match="certificate quota is full"):
        target.upload("img", made)
    account.service.fusion.faults.clear()

    assert None is quota(account.target())


@pytest.mark.parametrize("note", ["", "{}", '{"held": 3, "at": "soon"}'])
def test_an_odd_note_of_a_quota_is_none(note: str, account: QiniuAccount) -> None:
    """Another version of certferry may have written it."""
    account.memory.update("most certificates", lambda _: note)

    assert None is quota(account.target())


# --- The benchmark of a large Qiniu account, with a small one: its promises hold in every gate


def test_an_account_takes_few_requests() -> None:
    """A first sync takes six for each domain, a renewal five, a run with nothing to do one; the
    stand-in refuses more than ten in a second.
    """
    reported: list[str] = []

    missed = many_domains.run(12, timedelta(seconds=2), reported.append)

    assert [] == missed
    assert ["first sync", "no-op", "no-op, a day later", "renewal"] == [
        line.split("  ")[0] for line in reported if "per domain" in line
    ]
    assert any(line.startswith("discover ") and "x those of plan" in line for line in reported)
    # What nothing was asked about has not been measured.
    assert any("PUT /domain/NAME/sslize" in line for line in reported)
    assert any("PUT /domain/NAME/httpsconf" in line for line in reported)


def test_silence_that_lasts_too_long_fails() -> None:
    """Here any does: how long an operator reads nothing new is promised as the requests are."""
    processing = timedelta(seconds=2)

    missed = many_domains.run(2, processing, lambda _: None, most_silence=timedelta(seconds=0.1))

    assert any(what.startswith("first sync: silent for ") for what in missed)


def test_silence_to_the_end_of_a_run_counts(tmp_path: Path) -> None:
    """A run that tells nothing any more is silent until it ends."""
    time = many_domains.VirtualTime(tmp_path / "clock")
    silence = many_domains.Silence(time)
    silence.begin()
    time.pause(20)
    silence.told(None)
    time.pause(50)

    silence.end()

    assert 50 == silence.longest


def test_a_promise_that_is_not_kept_is_reported() -> None:
    """A change that takes a minute costs so small an account more looks than promised."""
    missed = many_domains.run(1, timedelta(seconds=60), lambda _: None)

    assert any(what.startswith("renewal: ") for what in missed)
