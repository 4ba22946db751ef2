"""The contract of a host's own records in a state that several hosts share."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from certferry import __version__
from certferry.core.assessment.dispatch import having
from certferry.core.assessment.notices import Notice, SentNotice, Subject, Topic
from certferry.core.assessment.sightings import Sighting
from certferry.core.observed.records import HostRecord, LastRun
from certferry.errors import LeaseHeld, Problem
from certferry.ports.state import StateStore
from certferry.text import Text
from certferry.values import replace
from certferry_sandbox.testing.contracts.state_deployments import rollout

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
HOUR = timedelta(hours=1)


class HostsContract:
    """Receivers, notes, runs and request rates of a host.

    `elsewhere` is the same state on another host.
    """

    def test_rollouts_of_receivers_are_their_hosts(
        self, store: StateStore, elsewhere: StateStore
    ) -> None:
        """Each host has rollouts of its own receivers; all hosts share the rollouts of targets."""
        here = [rollout("command", "reload"), rollout("files", "/etc/tls")]
        there = [replace(rollout_here, accepted_at=NOW + HOUR) for rollout_here in here]
        shared = rollout("qiniu", "img.example.com")
        for rollout_here, rollout_there in zip(here, there, strict=True):
            store.save_rollout(rollout_here)
            assert elsewhere.replace_rollout(None, rollout_there)
        elsewhere.save_rollout(shared)

        assert (*here, shared) == store.remembered("img").rollouts
        assert (*there, shared) == elsewhere.remembered("img").rollouts
        assert (there[1],) == elsewhere.open_rollouts("files")
        assert (shared,) == store.open_rollouts("qiniu")

    def test_sightings_of_receivers_are_their_hosts(
        self, store: StateStore, elsewhere: StateStore
    ) -> None:
        """A host changes sightings of its own receivers and of targets, but not of other hosts."""
        files = Sighting("img", "files", "/etc/tls", served=True, since=NOW)
        shared = Sighting("img", "qiniu", "img.example.com", served=True, since=NOW)
        store.update_sightings(lambda _: (files, shared))
        assert (shared,) == elsewhere.sightings()

        late = replace(files, served=False)
        elsewhere.update_sightings(lambda before: (late, *before))
        assert (files, shared) == store.sightings()
        elsewhere.update_sightings(lambda _: ())
        assert (files,) == store.sightings()

    def test_notes_of_a_host(self, store: StateStore, elsewhere: StateStore) -> None:
        """A host's note is separate from notes of other hosts and from account notes."""
        store.update_account_note("[metrics]", "steps", lambda _: "all")
        assert "here" == store.update_host_note("[metrics]", "steps", lambda _: "here")

        assert "there" == elsewhere.update_host_note(
            "[metrics]", "steps", lambda note: note or "there"
        )
        assert "here" == store.update_host_note("[metrics]", "steps", lambda note: note)
        assert "all" == elsewhere.account_note("[metrics]", "steps")

    def test_reserved_requests(
        self, store: StateStore, other: StateStore, elsewhere: StateStore
    ) -> None:
        """A reservation follows all earlier reservations, by any process of any host.

        Each account and each service counts separately. A state of a single host reserves nothing.
        """
        reservers = [store, elsewhere, other, elsewhere]
        ahead = [handle.reserve("qiniu", "https://api", HOUR, 2) for handle in reservers]
        others = [handle.reserve("qiniu", "https://fusion", HOUR, 1) for handle in reservers[:2]]
        another = elsewhere.reserve("other", "https://api", HOUR, 1)

        if None in ahead:
            assert {None} == {*ahead, *others, another}
        else:
            assert [0, 2, 4, 6, 0, 1, 0] == [in_hours(time) for time in (*ahead, *others, another)]

    def test_runs_of_a_host(self, store: StateStore, elsewhere: StateStore) -> None:
        """Each host has its own last run. A killed run is reported on the run's host only."""
        store.save_run(NOW, succeeded=True)
        elsewhere.save_run(NOW + HOUR, succeeded=False)
        assert LastRun(NOW, NOW) == store.last_run()
        assert LastRun(NOW + HOUR) == elsewhere.last_run()

        killed = elsewhere.begin_run(NOW)
        elsewhere.close()
        assert () == store.unended_runs()
        store.end_run(store.begin_run(NOW))
        assert 1 == killed.number

    def test_clock_of_the_state(self, store: StateStore, elsewhere: StateStore) -> None:
        """All hosts share a clock, which moves forward and is close to the test's clock."""
        first, second, third = store.now(), elsewhere.now(), store.now()
        assert first.tzinfo is not None
        assert abs(second - first) < timedelta(seconds=2)
        assert first <= third < first + timedelta(seconds=10)
        assert abs(store.clock_ahead()) < timedelta(seconds=10)

    def test_hosts_are_known_by_their_runs(self, store: StateStore, elsewhere: StateStore) -> None:
        """`hosts` lists hosts by name, each with release, last run and the run in progress."""
        run = elsewhere.begin_run(NOW)
        host = host_of(elsewhere, elsewhere.host)
        assert (__version__, NOW, NOW) == (host.release, host.seen_at, host.running_since)
        assert host.machine
        assert host.clock_ahead == timedelta(0)

        elsewhere.save_run(NOW + HOUR, succeeded=False)
        elsewhere.end_run(run)
        host = host_of(store, elsewhere.host)
        assert (LastRun(NOW + HOUR), None) == (host.last_run, host.running_since)
        assert store.hosts() == tuple(sorted(store.hosts(), key=lambda host: host.name))

    def test_machine_that_runs_again_is_no_other(self, store: StateStore) -> None:
        """A machine that runs again under its name does not count as another machine."""
        assert store.other_machine_seen_at() is None
        store.end_run(store.begin_run(NOW))
        assert store.other_machine_seen_at() is None

    def test_host_is_forgotten_with_what_belongs_to_it(
        self, store: StateStore, elsewhere: StateStore
    ) -> None:
        """`forget_host` deletes a host's records, and returns the lineages that the host installed.

        A host with a run in progress is not forgotten. Records of other hosts stay.
        """
        gone = elsewhere.host
        away = Notice(Topic.TROUBLE, Subject(host=gone), NOW, Problem("host_away", Text("away")))
        for handle in (store, elsewhere):
            handle.save_rollout(rollout("command", "reload"))
            handle.save_run(NOW, succeeded=True)
            handle.update_host_note("[metrics]", "steps", lambda _: "some")
            handle.update_sightings(
                lambda _: (Sighting("img", "files", "/etc/tls", served=True, since=NOW),)
            )
        store.update_notices(lambda _: (away,))
        sent = SentNotice(*away.key, NOW, NOW, "host_away")
        store.update_channel("ops", lambda state, _: (having(sent, state), None))
        run = elsewhere.begin_run(NOW)
        with pytest.raises(LeaseHeld, match="web-2 stays: a run has been in"):
            elsewhere.forget_host(gone)
        elsewhere.end_run(run)

        assert ("img",) == store.forget_host(gone)
        assert gone not in {host.name for host in store.hosts()}
        assert () == elsewhere.sightings()
        assert () == elsewhere.remembered("img").rollouts
        assert elsewhere.last_run() is None
        assert elsewhere.update_host_note("[metrics]", "steps", lambda note: note) is None
        assert () == store.notices()
        assert () == store.channel("ops").sent_notices
        assert 1 == len(store.sightings()) == len(store.remembered("img").rollouts)
        assert () == store.forget_host(gone)

        elsewhere.end_run(elsewhere.begin_run(NOW))
        assert HostRecord(gone, machine := host_of(store, gone).machine, __version__, NOW) == (
            replace(host_of(store, gone), clock_ahead=None)
        )
        assert machine


def host_of(state: StateStore, name: str) -> HostRecord:
    """Return the record of the host with this name."""
    [record] = [host for host in state.hosts() if host.name == name]
    return record


def in_hours(time: timedelta | None) -> int:
    """Return a time in whole hours, rounded. A test takes less than half an hour."""
    assert time is not None
    return round(time / HOUR)
