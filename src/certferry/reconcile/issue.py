"""Have a certificate issued, or adopt one: whether a CA may be asked now, what for, and what is
kept of the answer.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from functools import partial

from certferry.core.certificates.certificate import CertificateBundle, same_names
from certferry.core.certificates.lineage import Version
from certferry.core.desired.certificate import Authority, DesiredCertificate
from certferry.core.observed.observation import Observation
from certferry.core.planning.report import Outcome, StepOutcome
from certferry.core.planning.steps import Action, HeldUntil, Issue
from certferry.core.secret import Secret
from certferry.errors import (
    CertferryError,
    CertificateRejected,
    IssuanceError,
    OrderHeldBack,
    StateError,
)
from certferry.ports.issuer import Issuer, IssueRequest
from certferry.reconcile.ca_fallback import ends, ordered_at_any, with_cas_asked_now
from certferry.reconcile.dns_by_zone import ByZone
from certferry.reconcile.visit import Visit
from certferry.text import Text


def leaf_of(version: Version, visit: Visit) -> str | None:
    """Return the leaf that is replaced. One that cannot be read is replaced all the same."""
    try:
        return visit.doors.state.bundle(visit.lineage, version.number).cert_pem
    except StateError:
        return None


def reused_key(visit: Visit) -> Secret | None:
    """Return the key of the certificate in force, where it may be used again."""
    current = visit.observed.current
    if current is None or not current.key_matches:
        return None
    if current.revocation is not None and current.revocation.spoils_key:
        return None
    return visit.doors.state.bundle(visit.lineage, current.number).privkey_pem


def rate_limit_hold(
    step: Issue, desired: DesiredCertificate, observed: Observation, issuer: Issuer, now: datetime
) -> Issue:
    """Return an order that is made now, as held until it may be; where there are several CAs,
    with those that may be asked.
    """

    def hold(authority: Authority | None) -> OrderHeldBack | None:
        return issuer.rate_limit_hold(_request_of(step, desired, observed, authority))

    if len(desired.issuance.authorities) > 1:
        return with_cas_asked_now(step, desired, observed, hold, now)
    error = hold(next(iter(step.authorities), None))
    return step if error is None else replace(step, due=HeldUntil(ends(error), error))


def issue(step: Issue, visit: Visit) -> StepOutcome:
    """Order or adopt a certificate, and keep it at once, whatever happens next."""
    state, now = visit.doors.state, visit.doors.now
    lease = visit.renew_lease()
    try:
        bundle, ca = _obtain(step, visit)
        version = state.save_version(lease, bundle, now())
    except CertferryError as error:
        rejected = isinstance(error, CertificateRejected)
        by_ca = isinstance(error, IssuanceError)
        state.save_issue_try(visit.lineage, now(), failed=True, rejected=rejected, by_ca=by_ca)
        if rejected:  # afterwards: killed in between, the next run still knows that it is held back
            state.drop_order(lease, issued_at=now())
        visit.tell(f"{step.action} failed", problem=str(error.lasting))
        outcome = Outcome.WAITING if error.is_early else Outcome.FAILED
        return StepOutcome.of(step.action, error.about(visit.lineage), outcome)
    state.save_issue_try(visit.lineage, now())
    certificate = version.certificate
    event = "issued" if step.action is Action.ISSUE else "adopted"
    at = {} if ca is None else {"ca": ca}
    visit.tell(event, fingerprint=certificate.fingerprint, issuer=certificate.issuer, **at)
    detail = Text("valid until {moment}", moment=certificate.not_after)
    return StepOutcome(step.action, Outcome.DONE, detail)


def _obtain(step: Issue, visit: Visit) -> tuple[CertificateBundle, str | None]:
    """Return the certificate, and the name of the CA that gave it, where that has one."""
    if visit.desired.files is not None:
        return visit.doors.source.read(visit.desired.files), None
    order = partial(_ordered, step, visit)
    if len(step.authorities) > 1:
        return ordered_at_any(step, visit, order)
    authority = next(iter(step.authorities), None)
    return order(authority), None if authority is None else authority.name


def _ordered(step: Issue, visit: Visit, authority: Authority | None) -> CertificateBundle:
    doors, desired = visit.doors, visit.desired
    request = _request_of(step, desired, visit.observed, authority)
    if request.exempt and visit.observed.current is not None:
        request = replace(request, replaced_pem=leaf_of(visit.observed.current, visit))
    if desired.issuance.reuse_key:
        request = replace(request, reused_key=reused_key(visit))
    provider = doors.dns[desired.dns] if desired.dns else ByZone.of(desired, doors.dns)
    return doors.issuer.issue(request, provider, visit.renew_lease(), doors.progress)


def _request_of(
    step: Issue, desired: DesiredCertificate, observed: Observation, authority: Authority | None
) -> IssueRequest:
    """Return what a CA is asked for. A leaf of its own that shares a name is replaced (RFC 9773
    §5); what other CAs have issued, it does not know.
    """
    names, directory = set(step.names), "" if authority is None else authority.directory
    own = [one for one in observed.versions if not directory or one.directory in {None, directory}]
    current = observed.current
    return IssueRequest(
        lineage=desired.lineage,
        names=step.names,
        key_type=step.key_type,
        profiles=desired.issuance.profiles,
        directory=directory,
        dns=",".join(desired.dns_accounts),
        renews=any(same_names(version.certificate.names, names) for version in own),
        exempt=any(
            version == current and names & set(version.certificate.names) for version in own
        ),
    )
