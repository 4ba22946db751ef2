"""What runs leave behind of the places of their certificates."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from certferry.core.assessment.sightings import (
    Sighted,
    Sighting,
    after_run,
    sighted,
    with_delivered,
)
from certferry.core.desired.certificate import FileDelivery, delivered
from certferry.core.observed.observation import Observation, ObservedTarget
from certferry.core.planning.report import LineageReport, Outcome
from certferry.reconcile.work_queue import WaitLimit
from tests.core.strategies import NOW
from tests.reconcile.company import Company, Counted

LATER = NOW + timedelta(days=1)
A = Sighting("img", "qiniu", "a.example.com", served=True, since=NOW, fingerprint="aa" * 32)
B = Sighting("img", "files", "/ssl", served=False, since=NOW)
OTHER = Sighting("other", "qiniu", "c.example.com", served=True, since=NOW)


def after(before: tuple[Sighting, ...], looked: Sighted | None) -> tuple[Sighting, ...]:
    """What is known after a run of one lineage."""
    looks = {} if looked is None else {"img": looked}
    return after_run(before, with_delivered(looks, [LineageReport("img", "bb" * 32, ())]))


def test_what_the_run_was_not_for_stays() -> None:
    """Another lineage's places, and all of one that did not come to a look."""
    before = (B, A, OTHER)

    assert before == after(before, None)
    assert before == after_run(before, with_delivered({"img": Sighted()}, []))


def test_what_could_not_be_read_stays_and_what_is_gone_goes() -> None:
    """A target that does not answer says nothing; one that answers says which domains it has."""
    unread = Sighted((), ("qiniu",))

    assert (A, OTHER) == after((B, A, OTHER), unread)
    assert (OTHER,) == after((B, A, OTHER), Sighted())


def test_the_beginning_and_the_last_that_was_seen_are_kept() -> None:
    """While it stays as it is; when it changes, it is so since this look."""
    again = replace(A, since=LATER)
    gone = replace(A, served=False, since=LATER, fingerprint=None)

    assert (A,) == after((A,), Sighted((again,)))
    (found,) = after((A,), Sighted((gone,)))
    assert (False, LATER, A.fingerprint) == (found.served, found.since, found.fingerprint)


def test_a_certificate_that_arrives_is_seen() -> None:
    """Not while its domain serves nothing of ours, and in the run that brought it."""
    company = Company(1)
    early = company.reconciler().sync(company.certificates, WaitLimit(timedelta(0)))
    assert not early.ok
    assert [False] == [one.served for one in company.state.sightings()]

    late = company.reconciler().sync(company.certificates, WaitLimit())

    (lineage,) = late.lineages
    (found,) = company.state.sightings()
    assert (True, lineage.fingerprint) == (found.served, found.fingerprint)
    assert (found.lineage, "cdn", found.lineage) == found.place


def test_what_a_receiver_took_is_seen_without_another_look() -> None:
    """It holds what was delivered."""
    company = Company(1)
    to_files = delivered(FileDelivery("/opt/ssl/img"))
    wish = replace(company.certificates[0], deployments=(to_files,))

    report = company.reconciler().sync([wish], WaitLimit())

    (found,) = company.state.sightings()
    assert ("files", "/opt/ssl/img") == (found.target, found.domain)
    assert (True, report.lineages[0].fingerprint) == (found.served, found.fingerprint)


def test_a_target_that_does_not_answer_is_unread() -> None:
    """What an earlier run saw there stays."""
    company = Company(1)
    company.reconciler().sync(company.certificates, WaitLimit())
    (seen,) = company.state.sightings()
    assert seen.served

    company.cdn.denies = True
    report = company.reconciler().sync(company.certificates, WaitLimit())

    assert report.any(Outcome.FAILED)
    assert (seen,) == company.state.sightings()


def test_nothing_is_written_where_all_is_as_before() -> None:
    """A run with nothing to do costs no write for what it saw."""
    company = Company(1)
    company.state = state = Counted(company.state)
    for _ in range(3):
        assert company.reconciler().sync(company.certificates, WaitLimit()).ok

    assert 1 == state.calls["update_sightings"]


def test_a_target_that_others_serve_is_ceded() -> None:
    """It has no domain of this lineage's, and no place that is missed."""
    observed = Observation(targets=(ObservedTarget("qiniu", owned_elsewhere=("other",)),))

    (found,) = sighted("img", observed, NOW).places

    assert found.is_owned_elsewhere
    assert ("img", "qiniu", "", True) == (*found.place, found.served)
