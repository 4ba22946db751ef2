"""The contract of what operators are told of: notices, and what each channel was told."""

# ruff: noqa: S101, SIM300 - a contract asserts, and the expected value stands on the left

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from certferry.core.assessment.notices import ChannelState, Notice, Subject, Told, Topic
from certferry.ports.state import StateStore
from certferry.text import Quoted, Text

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
RUNS = 12

TROUBLE = Notice(
    Topic.TROUBLE,
    Subject("img", "qiniu", "img.example.com"),
    NOW,
    "target_rejected",
    Text(
        "{where}: {problem}, after {time}, at {moments}, {count} times",
        where=Text("the target"),
        problem=Quoted("七牛说不行"),
        time=timedelta(minutes=3),
        moments=[NOW, NOW],
        count=3,
    ),
    Text("wait"),
    NOW + timedelta(days=9),
)
RENEWED = Notice(Topic.RENEWED, Subject("img"), NOW, "renewed", Text("issued"))


class NoticesContract:
    """`notices` and `channel`, changed whole."""

    def test_notices_are_read_back(self, store: StateStore, other: StateStore) -> None:
        """With their sentences, and by what they are about: one that is left out is gone."""
        assert () == store.notices()

        assert (TROUBLE, RENEWED) == store.update_notices(lambda _: (TROUBLE, RENEWED))
        assert (RENEWED, TROUBLE) == other.notices()
        assert str(TROUBLE.message) == str(other.notices()[1].message)

        later = replace(TROUBLE, code="target_busy", hint=None, deadline=None)
        other.update_notices(lambda before: (later,) if RENEWED in before else ())
        assert (later,) == store.notices()

    def test_a_channel_is_read_back(self, store: StateStore, other: StateStore) -> None:
        """All of it, and by its name."""
        told = Told(*TROUBLE.key, NOW, NOW + timedelta(seconds=1), "target_rejected")
        state = ChannelState((told,), (NOW,), NOW, NOW, Text("no {why}", why="key"), Text("look"))
        assert ChannelState() == store.channel("ops")

        assert "known" == store.update_channel("ops", lambda *_: (state, "known"))
        assert state == other.channel("ops")
        assert ChannelState() == other.channel("boss")

        less = replace(state, told=(), problem=None)
        assert other.update_channel("ops", lambda before, _: (less, before == state))
        assert less == store.channel("ops")

    def test_one_of_many_claims(self, store: StateStore, other: StateStore) -> None:
        """Of runs that claim the same at once, in two processes, one gets it: each is given what
        stands at that moment.
        """
        store.update_notices(lambda _: (TROUBLE,))

        def claim(number: int) -> bool:
            place = (store, other)[number % 2]

            def change(
                before: ChannelState, notices: tuple[Notice, ...]
            ) -> tuple[ChannelState, bool]:
                got = not before.told and notices == (TROUBLE,)
                return replace(before, told=(Told(*TROUBLE.key, NOW, NOW),)), got

            return place.update_channel("ops", change)

        with ThreadPoolExecutor(4) as threads:
            claims = list(threads.map(claim, range(RUNS)))

        assert 1 == sum(claims)

    def test_a_change_that_fails_changes_nothing(self, store: StateStore) -> None:
        """The stored notices stay."""
        store.update_notices(lambda _: (TROUBLE,))

        def fail(_: object) -> tuple[Notice, ...]:
            raise RuntimeError

        with pytest.raises(RuntimeError):
            store.update_notices(fail)

        assert (TROUBLE,) == store.notices()
