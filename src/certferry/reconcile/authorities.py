"""Order a certificate at the CAs that may be asked, one after the other until one gives it."""

from __future__ import annotations

from certferry.core.certificate import CertificateBundle
from certferry.core.issuance import Authority, in_order
from certferry.core.plan import Issue
from certferry.core.secret import Secret
from certferry.errors import CertificateRejected, IssuanceError
from certferry.ports.issuer import IssueRequest
from certferry.reconcile.visit import Visit
from certferry.text import Text


def order(step: Issue, visit: Visit) -> tuple[CertificateBundle, str | None]:
    """Order a certificate; return it with the name of the CA that gave it, where that has one.

    Raises what the issuer raises: of several CAs that failed one error that tells of each.
    """
    reused = _reused_key(visit)
    if not step.authorities:
        return _ordered(step, visit, None, reused), None
    kept = visit.doors.state.order(visit.lineage)
    under_way = None if kept is None else kept.directory
    failures: list[tuple[Authority, IssuanceError]] = []
    for authority in in_order(step.authorities, under_way):
        try:
            return _ordered(step, visit, authority, reused), authority.name
        except IssuanceError as error:
            failures.append((authority, error))
        if len(step.authorities) > 1:
            name, problem = authority.name, failures[-1][1].lasting
            visit.tell("ca failed", ca=name, problem=str(problem))
    raise _all_failed(failures)


def _ordered(
    step: Issue, visit: Visit, authority: Authority | None, reused: Secret | None
) -> CertificateBundle:
    doors, desired = visit.doors, visit.desired
    request = IssueRequest(
        desired.lineage,
        step.names,
        step.key_type,
        desired.issuance.profiles,
        "" if authority is None else authority.directory,
        reused,
    )
    return doors.issuer.issue(request, doors.dns[desired.dns], visit.held(), doors.progress)


def _reused_key(visit: Visit) -> Secret | None:
    """Return the key of the certificate in force, where it is to be used again and may be."""
    current = visit.observed.current
    if current is None or not visit.desired.issuance.reuse_key or not current.key_matches:
        return None
    if current.revocation is not None and current.revocation.spoils_key:
        return None
    return visit.doors.state.bundle(visit.lineage, current.number).privkey_pem


def _all_failed(failures: list[tuple[Authority, IssuanceError]]) -> IssuanceError:
    (_, first), *others = failures
    if not others:
        return first
    message = first.message
    for authority, error in others:
        message = Text(
            "{before}; {ca}: {problem}", before=message, ca=authority.name, problem=error.message
        )
    # After a certificate that was not ordered nothing is ordered for a day, whichever CA gave it.
    rejected = (error for _, error in failures if isinstance(error, CertificateRejected))
    decisive = next(rejected, first)
    return type(decisive)(message, hint=decisive.hint, retry=decisive.retry)
