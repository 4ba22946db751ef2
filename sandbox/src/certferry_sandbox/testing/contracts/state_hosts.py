"""The contract of what belongs to a host in a state that several hosts share."""

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
    """Receivers, notes of a host, runs, paces: `elsewhere` is the same state on another host."""

    def test_rollouts_of_receivers_are_their_hosts(
        self, store: StateStore, elsewhere: StateStore
    ) -> None:
        """Each host has its own, under the same names; a target's are those of all."""
        here = [rollout("command", "reload"), rollout("files", "/etc/tls")]
        there = [replace(one, accepted_at=NOW + HOUR) for one in here]
        shared = rollout("qiniu", "img.example.com")
        for one, other in zip(here, there, strict=True):
            store.save_rollout(one)
            assert elsewhere.replace_rollout(None, other)
        elsewhere.save_rollout(shared)

        assert (*here, shared) == store.remembered("img").rollouts
        assert (*there, shared) == elsewhere.remembered("img").rollouts
        assert (there[1],) == elsewhere.open_rollouts("files")
        assert (shared,) == store.open_rollouts("qiniu")

    def test_sightings_of_receivers_are_their_hosts(
        self, store: StateStore, elsewhere: StateStore
    ) -> None:
        """A host changes and removes its own, and those of targets."""
        files = Sighting("img", "files", "/etc/tls", served=True, since=NOW)
        shared = Sighting("img", "qiniu", "img.example.com", served=True, since=NOW)
        store.update_sightings(lambda _: (files, shared))
        assert (shared,) == elsewhere.sightings()

        late = replace(files, served=False)
        elsewhere.update_sightings(lambda known: (late, *known))
        assert (files, shared) == store.sightings()
        elsewhere.update_sightings(lambda _: ())
        assert (files,) == store.sightings()

    def test_notes_of_a_host(self, store: StateStore, elsewhere: StateStore) -> None:
        """Are apart from those of others, and from those of all."""
        store.update_account_note("[metrics]", "steps", lambda _: "all")
        assert "here" == store.update_host_note("[metrics]", "steps", lambda _: "here")

        assert "there" == elsewhere.update_host_note(
            "[metrics]", "steps", lambda said: said or "there"
        )
        assert "here" == store.update_host_note("[metrics]", "steps", lambda said: said)
        assert "all" == elsewhere.account_note("[metrics]", "steps")

    def test_reserved_requests(
        self, store: StateStore, other: StateStore, elsewhere: StateStore
    ) -> None:
        """Each follows all that were reserved before, by any process of any host; those of another
        account or service are apart. Where one host alone has the state, none are reserved.
        """
        reservers = [store, elsewhere, other, elsewhere]
        ahead = [one.reserve("qiniu", "https://api", HOUR, 2) for one in reservers]
        others = [one.reserve("qiniu", "https://fusion", HOUR, 1) for one in reservers[:2]]
        another = elsewhere.reserve("other", "https://api", HOUR, 1)

        if None in ahead:
            assert {None} == {*ahead, *others, another}
        else:
            assert [0, 2, 4, 6, 0, 1, 0] == [in_hours(one) for one in (*ahead, *others, another)]

    def test_runs_of_a_host(self, store: StateStore, elsewhere: StateStore) -> None:
        """A healthy host hides no other; a run that did not end is reported on its own host."""
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
        """It is one for all hosts, moves on, and is about right where the test runs."""
        first, second, third = store.now(), elsewhere.now(), store.now()
        assert first.tzinfo is not None
        assert abs(second - first) < timedelta(seconds=2)
        assert first <= third < first + timedelta(seconds=10)
        assert abs(store.clock_ahead()) < timedelta(seconds=10)

    def test_hosts_are_known_by_their_runs(self, store: StateStore, elsewhere: StateStore) -> None:
        """By their names: with what certferry and when each ran, and whether it runs now."""
        run = elsewhere.begin_run(NOW)
        found = host_of(elsewhere, elsewhere.host)
        assert (__version__, NOW, NOW) == (found.release, found.seen_at, found.running_since)
        assert found.machine
        assert found.clock_ahead == timedelta(0)

        elsewhere.save_run(NOW + HOUR, succeeded=False)
        elsewhere.end_run(run)
        found = host_of(store, elsewhere.host)
        assert (LastRun(NOW + HOUR), None) == (found.last_run, found.running_since)
        assert store.hosts() == tuple(sorted(store.hosts(), key=lambda one: one.name))

    def test_machine_that_runs_again_is_no_other(self, store: StateStore) -> None:
        """However often it has run under its name."""
        assert store.other_machine_seen_at() is None
        store.end_run(store.begin_run(NOW))
        assert store.other_machine_seen_at() is None

    def test_host_is_forgotten_with_what_belongs_to_it(
        self, store: StateStore, elsewhere: StateStore
    ) -> None:
        """Not while it runs; what it installed is returned, and what is another's stays."""
        gone = elsewhere.host
        away = Notice(Topic.TROUBLE, Subject(host=gone), NOW, Problem("host_away", Text("away")))
        for one in (store, elsewhere):
            one.save_rollout(rollout("command", "reload"))
            one.save_run(NOW, succeeded=True)
            one.update_host_note("[metrics]", "steps", lambda _: "some")
            one.update_sightings(
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
        assert gone not in {one.name for one in store.hosts()}
        assert () == elsewhere.sightings()
        assert () == elsewhere.remembered("img").rollouts
        assert elsewhere.last_run() is None
        assert elsewhere.update_host_note("[metrics]", "steps", lambda said: said) is None
        assert () == store.notices()
        assert () == store.channel("ops").sent_notices
        assert 1 == len(store.sightings()) == len(store.remembered("img").rollouts)
        assert () == store.forget_host(gone)

        elsewhere.end_run(elsewhere.begin_run(NOW))
        assert HostRecord(gone, found := host_of(store, gone).machine, __version__, NOW) == replace(
            host_of(store, gone), clock_ahead=None
        )
        assert found


def host_of(state: StateStore, name: str) -> HostRecord:
    """Return the host of a name."""
    [found] = [one for one in state.hosts() if one.name == name]
    return found


def in_hours(time: timedelta | None) -> int:
    """Return how many hours a time is, to the nearest: a test takes less than half of one."""
    assert time is not None
    return round(time / HOUR)
