"""The budget at a directory: what its CA allows, where it says so, and what was ordered there.

Of other CAs only what they ask for is known, when they refuse.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from certferry.core.planning.limits import Allowance, Limits, rate_limit_hold
from certferry.core.planning.rules import ORDER_LIFETIME
from certferry.errors import OrderHeldBack
from certferry.ports.issuer import IssueRequest
from certferry.ports.state import StateStore

_WEEK = timedelta(days=7)

# docs/facts/letsencrypt.md §2. The CA gives back bit by bit what is used up, and so allows a little
# more.
_LETSENCRYPT = Limits(
    orders=Allowance(300, timedelta(hours=3)),
    domain=Allowance(50, _WEEK),
    same_names=Allowance(5, _WEEK),
    failed_proofs=Allowance(5, timedelta(hours=1)),
)

# docs/facts/letsencrypt.md §2; later versions of staging allow more failures.
_STAGING = Limits(
    orders=Allowance(1500, timedelta(hours=3)),
    domain=Allowance(30_000, _WEEK),
    same_names=Allowance(30_000, _WEEK),
    failed_proofs=Allowance(60, timedelta(hours=1)),
)

_KNOWN = {
    "https://acme-v02.api.letsencrypt.org/directory": _LETSENCRYPT,
    "https://acme-staging-v02.api.letsencrypt.org/directory": _STAGING,
}


def limits_at(directory: str) -> Limits | None:
    """Return the limits of a directory, `None` where they are not known."""
    return _KNOWN.get(directory)


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be ordered at `directory`, which allows no more than its `limits`."""

    directory: str
    limits: Limits | None
    state: StateStore
    now: Callable[[], datetime]

    def rate_limit_hold(self, request: IssueRequest) -> OrderHeldBack | None:
        """See `Issuer.rate_limit_hold`."""
        wanted, now = request.wanted, self.now()
        spent = self.state.spent(self.directory, wanted)
        return rate_limit_hold(
            self.limits, spent, wanted, now, going_on=self._goes_on(request, now)
        )

    def _goes_on(self, request: IssueRequest, now: datetime) -> bool:
        """Tell whether an order of an earlier run is most likely gone on with."""
        kept = self.state.order(request.lineage)
        return (
            kept is not None
            and kept.directory == self.directory
            and set(kept.names) == set(request.names)
            and kept.key_type in {None, request.key_type}
            and now < kept.created_at + ORDER_LIFETIME
        )
