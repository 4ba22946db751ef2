"""Order a certificate at one of several CAs: those that may be asked now, in their order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.desired.certificate import Authority, DesiredCertificate
from certferry.core.observed.observation import Observation
from certferry.core.planning.pauses import in_order, may_pass_over, of_use
from certferry.core.planning.steps import HeldUntil, Issue
from certferry.errors import CertificateRejected, IssuanceError, OrderHeldBack
from certferry.reconcile.visit import Visit
from certferry.text import Text

Order = Callable[[Authority], CertificateBundle]
"""Orders the certificate at one CA. Raises `IssuanceError` where that fails."""


def ordered_at_any(step: Issue, visit: Visit, order: Order) -> tuple[CertificateBundle, str]:
    """Order at one CA after the other until one gives the certificate; return it with that CA's
    name. Raises what `order` raises: where each has failed, one error that tells of all.
    """
    kept = visit.doors.state.order(visit.lineage)
    in_progress = None if kept is None else kept.directory
    failures: list[tuple[Authority, IssuanceError]] = []
    for authority in in_order(step.authorities, in_progress):
        try:
            return order(authority), authority.name
        except IssuanceError as error:
            failures.append((authority, error))
            visit.tell("ca failed", ca=authority.name, problem=str(error.lasting))
    raise _all_failed(failures)


def _all_failed(failures: list[tuple[Authority, IssuanceError]]) -> IssuanceError:
    (_, first), *others = failures
    message = first.message
    for authority, error in others:
        message = Text(
            "{before}; {ca}: {problem}", before=message, ca=authority.name, problem=error.message
        )
    # After a certificate that was not ordered nothing is ordered for a day, whichever CA gave it.
    # That one CA may be asked again later does not excuse what is wrong at another.
    rejected = (error for _, error in failures if isinstance(error, CertificateRejected))
    wrong = (error for _, error in failures if not error.is_early)
    decisive = next(rejected, None) or next(wrong, first)
    return type(decisive)(message, hint=decisive.hint, retry=decisive.retry)


@dataclass(frozen=True, slots=True)
class _Found:
    """The CAs that may be asked now, and why the others are not."""

    free: tuple[Authority, ...]
    held: tuple[OrderHeldBack, ...]

    @property
    def first(self) -> OrderHeldBack:
        """The hold that ends first."""
        return min(self.held, key=ends)


def with_cas_asked_now(
    step: Issue,
    desired: DesiredCertificate,
    observed: Observation,
    hold: Callable[[Authority], OrderHeldBack | None],
    now: datetime,
) -> Issue:
    """Return an order without the CAs that are not asked now; where that is each of them, as
    held until the first may be. The others of the wish are asked where that would be too late.
    """
    found = _found(step.authorities, hold)
    if not found.free and may_pass_over(of_use(observed), ends(found.first), now):
        others = [one for one in desired.issuance.authorities if one not in step.authorities]
        more = _found(others, hold)
        found = _Found(more.free, (*found.held, *more.held))
    if found.free:
        return replace(step, authorities=found.free)
    return replace(step, due=HeldUntil(ends(found.first), found.first))


def _found(
    authorities: Sequence[Authority], hold: Callable[[Authority], OrderHeldBack | None]
) -> _Found:
    answers = [(authority, hold(authority)) for authority in authorities]
    return _Found(
        tuple(authority for authority, error in answers if error is None),
        tuple(error for _, error in answers if error is not None),
    )


def ends(error: OrderHeldBack) -> datetime:
    """Return when a hold ends."""
    return error.retry.after or datetime.max.replace(tzinfo=UTC)
