"""What an order may have beyond the usual: other CAs when that fails, the last key again."""

from __future__ import annotations

from collections.abc import Callable

from certferry.core.certificate import CertificateBundle
from certferry.core.falling_back import in_order
from certferry.core.issuance import Authority
from certferry.core.plan import Issue
from certferry.core.secret import Secret
from certferry.errors import CertificateRejected, IssuanceError
from certferry.reconcile.visit import Visit
from certferry.text import Text

Order = Callable[[Authority], CertificateBundle]
"""Orders the certificate at one CA. Raises `IssuanceError` where that fails."""


def ordered_at_any(step: Issue, visit: Visit, order: Order) -> tuple[CertificateBundle, str]:
    """Order at one CA after the other until one gives the certificate; return it with that CA's
    name. Raises what `order` raises: where each has failed, one error that tells of all.
    """
    kept = visit.doors.state.order(visit.lineage)
    under_way = None if kept is None else kept.directory
    failures: list[tuple[Authority, IssuanceError]] = []
    for authority in in_order(step.authorities, under_way):
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
    rejected = (error for _, error in failures if isinstance(error, CertificateRejected))
    decisive = next(rejected, first)
    return type(decisive)(message, hint=decisive.hint, retry=decisive.retry)


def reused_key(visit: Visit) -> Secret | None:
    """Return the key of the certificate in force, where it may be used again."""
    current = visit.observed.current
    if current is None or not current.key_matches:
        return None
    if current.revocation is not None and current.revocation.spoils_key:
        return None
    return visit.doors.state.bundle(visit.lineage, current.number).privkey_pem
