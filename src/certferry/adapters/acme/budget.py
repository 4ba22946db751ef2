"""The rate limits of known CAs, and the check of an order against the limits."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from msgspec import Struct

from certferry.core.certificates.certificate import same_names
from certferry.core.planning.limits import Allowance, Limits, rate_limit_hold
from certferry.core.planning.renewal import ORDER_LIFETIME
from certferry.errors import OrderPostponed
from certferry.ports.issuer import IssueRequest
from certferry.ports.state import StateStore

_HOUR, _WEEK = timedelta(hours=1), timedelta(days=7)

# Source: docs/facts/letsencrypt.md §2. The CA counts in a way that allows a little more, because
# used-up allowances refill bit by bit. At staging, later versions of the CA's page allow more
# failures.
_KNOWN = {
    "https://acme-v02.api.letsencrypt.org/directory": Limits(
        orders=Allowance(300, 3 * _HOUR),
        domain=Allowance(50, _WEEK),
        same_names=Allowance(5, _WEEK),
        failed_proofs=Allowance(5, _HOUR),
    ),
    "https://acme-staging-v02.api.letsencrypt.org/directory": Limits(
        orders=Allowance(1500, 3 * _HOUR),
        domain=Allowance(30_000, _WEEK),
        same_names=Allowance(30_000, _WEEK),
        failed_proofs=Allowance(60, _HOUR),
    ),
}


def limits_at(directory: str) -> Limits | None:
    """Return the rate limits of the CA at a directory URL; `None` if unknown."""
    return _KNOWN.get(directory)


class Budget(Struct, frozen=True):
    """Checks orders at one directory against the CA's limits."""

    #: The URL of the directory.
    directory: str
    #: The CA's rate limits; `None` if unknown.
    limits: Limits | None
    #: The stored orders, failed proofs and holds.
    state: StateStore
    #: The clock of the run.
    now: Callable[[], datetime]

    def rate_limit_hold(self, request: IssueRequest) -> OrderPostponed | None:
        """See `Issuer.rate_limit_hold`. A request that continues a stored order does not count
        against the limits; only the CA's own requests to wait hold the request back.
        """
        wanted, now = request.wanted, self.now()
        kept = self.state.order(request.lineage)
        goes_on = (
            kept is not None
            and kept.directory == self.directory
            and same_names(kept.names, request.names)
            and kept.key_type in {None, request.key_type}
            and now < kept.created_at + ORDER_LIFETIME
        )
        spent = self.state.spent(self.directory, wanted)
        return rate_limit_hold(self.limits, spent, wanted, now, going_on=goes_on)
