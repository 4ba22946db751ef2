"""How often a heartbeat may be sent: a service counts five pings a minute
(docs/facts/receivers.md §2).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

MINUTE = timedelta(minutes=1)
MOST = 5


def may_ping(sent: Sequence[datetime], now: datetime, *, ends: bool) -> bool:
    """Tell whether a ping may be sent. That a run begins is told only where there is room to tell
    its end as well.
    """
    return len(recent(sent, now)) < (MOST if ends else MOST - 1)


def recent(sent: Sequence[datetime], now: datetime) -> tuple[datetime, ...]:
    """Return the pings of the last minute. One in the future was written by a clock that was
    ahead.
    """
    return tuple(moment for moment in sent if now - MINUTE < moment <= now)
