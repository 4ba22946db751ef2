"""What an order asks for, and of which CAs: those that may be asked now, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from certferry.core.certificate import CertificateBundle
from certferry.core.desired import DesiredCertificate
from certferry.core.falling_back import in_order
from certferry.core.issuance import Authority
from certferry.core.observed import Observation
from certferry.core.plan import Blocked, Issue
from certferry.core.secret import Secret
from certferry.errors import CertificateRejected, IssuanceError, OrderHeldBack
from certferry.ports.issuer import Issuer, IssueRequest
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
    # That one CA may be asked again later does not excuse what is wrong at another.
    rejected = (error for _, error in failures if isinstance(error, CertificateRejected))
    wrong = (error for _, error in failures if not error.is_early)
    decisive = next(rejected, None) or next(wrong, first)
    return type(decisive)(message, hint=decisive.hint, retry=decisive.retry)


def request_of(
    step: Issue, desired: DesiredCertificate, observed: Observation, authority: Authority | None
) -> IssueRequest:
    """Return what a CA is asked for. A leaf of its own that shares a name is replaced (RFC 9773
    §5); what other CAs have issued, it does not know.
    """
    names, directory = set(step.names), "" if authority is None else authority.directory
    own = [one for one in observed.versions if not directory or one.directory in {None, directory}]
    current = observed.current
    return IssueRequest(
        *(desired.lineage, step.names, step.key_type),
        profiles=desired.issuance.profiles,
        directory=directory,
        dns=",".join(desired.dns_accounts),
        renews=any(set(version.certificate.names) == names for version in own),
        exempt=any(
            version == current and names & set(version.certificate.names) for version in own
        ),
    )


def held_back(
    step: Issue, desired: DesiredCertificate, observed: Observation, issuer: Issuer
) -> Issue:
    """Return an order without the CAs that are not asked now; where that is each of them, as
    `Blocked` until the first may be.
    """
    free: list[Authority | None] = []
    held: list[OrderHeldBack] = []
    for authority in step.authorities or (None,):
        error = issuer.held_back(request_of(step, desired, observed, authority))
        if error is None:
            free.append(authority)
        else:
            held.append(error)
    if not held:
        return step
    if free:
        return replace(step, authorities=tuple(one for one in free if one is not None))
    first = min(held, key=_ends)
    return replace(step, due=Blocked(first, until=first.retry.after))


def _ends(error: OrderHeldBack) -> datetime:
    return error.retry.after or datetime.max.replace(tzinfo=UTC)


def reused_key(visit: Visit) -> Secret | None:
    """Return the key of the certificate in force, where it may be used again."""
    current = visit.observed.current
    if current is None or not current.key_matches:
        return None
    if current.revocation is not None and current.revocation.spoils_key:
        return None
    return visit.doors.state.bundle(visit.lineage, current.number).privkey_pem
