"""How many certificates an account holds, where it takes no more of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

TRIED_AGAIN = timedelta(days=1)
"""How long an account that refused an upload is taken at its word: it may have been given more."""


@dataclass(frozen=True, slots=True)
class Quota:
    """An account that refused an upload when it held as many as `most`: `held` is how many it holds
    now. After `until` it is tried again.
    """

    held: int
    most: int
    until: datetime

    def is_full(self, now: datetime) -> bool:
        """Tell whether an upload would be refused, as far as that is known."""
        return self.held >= self.most and now < self.until
