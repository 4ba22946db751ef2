"""At most so many requests an hour to one account, counted over all runs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from certferry.adapters.clients.pacing import Pace
from certferry.core.rate import Rate, Turn, take_turn
from certferry.ports.account_memory import AccountMemory
from certferry.ports.progress import Pause

NOTE = "spent"


class HourlyBudget:
    """A `Pace` that takes each request's turn from what the account may send, and then from `pace`.

    What is spent stands in one note of the account's memory, so that other runs count as well.
    `now` is the wall clock, the only one that runs share: set forward, it lets one burst more go.
    """

    def __init__(
        self,
        rate: Rate,
        *,
        memory: AccountMemory,
        pace: Pace,
        pause: Pause,
        now: Callable[[], datetime],
    ) -> None:
        self._rate = rate
        self._memory = memory
        self._pace = pace
        self._pause = pause
        self._now = now

    def wait(self) -> None:
        """Return when the next request may be sent. Raises whatever `pause` raises."""
        # The wait is outside of `update`: the note must not be kept from other runs meanwhile.
        # Nothing is taken before it, so a run that is stopped in it leaves its turn to them.
        while (wait := self._ask()) > timedelta(0):
            self._pause(wait.total_seconds())
        self._pace.wait()

    def _ask(self) -> timedelta:
        """Take a turn, or learn how long it is until there may be one."""
        wait = timedelta(0)

        def change(note: str | None) -> str:
            nonlocal wait
            turn: Turn = take_turn(self._rate, note, self._now())
            wait = turn.wait
            return turn.note

        self._memory.update(NOTE, change)
        return wait
