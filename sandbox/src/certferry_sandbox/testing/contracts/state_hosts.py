"""The contract of what belongs to a host in a state that several hosts share."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from certferry.core.assessment.health import Sighting
from certferry.core.observed.records import LastRun
from certferry.ports.state import StateStore
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


def in_hours(time: timedelta | None) -> int:
    """Return how many hours a time is, to the nearest: a test takes less than half of one."""
    assert time is not None
    return round(time / HOUR)
