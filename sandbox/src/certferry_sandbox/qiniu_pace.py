"""How many requests Qiniu takes in a second."""

from __future__ import annotations

from collections import deque
from datetime import datetime, timedelta
from typing import Literal

from certferry_sandbox.qiniu_answers import Refused
from certferry_sandbox.qiniu_routes import Host


class RateLimit:
    """Requests per second that one account may send to one host; None: as many as it likes.

    Qiniu answers 403 with code 403024, or 429 (docs/facts/qiniu.md §9).
    """

    def __init__(self) -> None:
        self.per_second: int | None = None
        self.status: Literal[403, 429] = 403
        self._recent: dict[tuple[Host, int], deque[datetime]] = {}

    def count(self, host: Host, uid: int, now: datetime) -> None:
        """Count a request. Raises Refused when it is one too many."""
        if self.per_second is None:
            return
        recent = self._recent.setdefault((host, uid), deque())
        while recent and now - recent[0] >= timedelta(seconds=1):
            recent.popleft()
        if len(recent) >= self.per_second:
            raise Refused(403024, status=self.status)
        recent.append(now)
