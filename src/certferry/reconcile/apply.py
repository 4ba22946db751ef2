"""Carry out the steps of a plan, one function for each kind. Every failure becomes an outcome, so
that one domain's failure stops neither the others nor the other certificates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from certferry.core.certificate import CertificateBundle
from certferry.core.issuance import Authority
from certferry.core.lineage import Version
from certferry.core.plan import Action, Clean, Deploy, Issue, Retire, Rollback, Step, Verify
from certferry.core.plan_outcomes import SEEN
from certferry.core.report import Outcome, StepOutcome
from certferry.errors import (
    CertferryError,
    CertificateRejected,
    Interrupted,
    IssuanceError,
    LeaseLost,
    StateError,
)
from certferry.reconcile.by_zone import ByZone
from certferry.reconcile.challenge_cleanup import clean
from certferry.reconcile.deploy import deploy
from certferry.reconcile.ordering import request_of, reused_key
from certferry.reconcile.receivers import deliver
from certferry.reconcile.removals import may_remove
from certferry.reconcile.retire import retire
from certferry.reconcile.rollback import roll_back
from certferry.reconcile.several_cas import ordered_at_any
from certferry.reconcile.stopping import during
from certferry.reconcile.unasked import with_unasked
from certferry.reconcile.unmanaged import retire_unmanaged
from certferry.reconcile.visit import Visit
from certferry.text import Text


def carry_out(steps: Sequence[Step], visit: Visit) -> Iterator[StepOutcome]:
    """Carry out steps that are ready, in their order, and tell what becomes of each.

    Raises `LeaseLost` before anything is written that another run may have overtaken, and
    `Interrupted`.
    """
    others = [step for step in steps if isinstance(step, Retire) and step.unmanaged]
    for step in steps:
        if isinstance(step, Rollback):
            yield from roll_back(step, visit)
        elif step not in others and (not isinstance(step, Retire) or may_remove(step, visit)):
            try:
                yield _executed(step, visit)
            except Interrupted as stopped:
                raise during(step.action, stopped) from stopped
    if others:
        yield from retire_unmanaged(others, visit)


def _executed(step: Issue | Deploy | Verify | Retire | Clean, visit: Visit) -> StepOutcome:
    match step:
        case Issue():
            return issue(step, visit)
        case Deploy() if step.kind.is_receiver:
            return deliver(step, visit)
        case Deploy():
            return deploy(step, visit)
        case Verify():
            return verify(step, visit)
        case Retire():
            return retire(step, visit)
        case Clean():
            return clean(step, visit)


def issue(step: Issue, visit: Visit) -> StepOutcome:
    """Order or adopt a certificate, and keep it at once, whatever happens next."""
    state, now = visit.doors.state, visit.doors.now
    lease = visit.held()
    try:
        bundle, ca = _obtain(step, visit)
        version = state.save_version(lease, bundle, now())
    except (Interrupted, LeaseLost):
        raise
    except CertferryError as error:
        rejected = isinstance(error, CertificateRejected)
        by_ca = isinstance(error, IssuanceError)
        state.save_issue_try(visit.lineage, now(), failed=True, rejected=rejected, by_ca=by_ca)
        if rejected:  # afterwards: killed in between, the next run still knows that it is held back
            state.drop_order(lease, issued_at=now())
        visit.tell(f"{step.action} failed", problem=str(error.lasting))
        told = StepOutcome(step.action, Outcome.FAILED, error.message).failed(error)
        return replace(told, outcome=Outcome.WAITING) if error.is_early else told
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
    request = request_of(step, desired, visit.observed, authority)
    if request.exempt and visit.observed.current is not None:
        request = replace(request, replaced_pem=_leaf(visit.observed.current, visit))
    if desired.issuance.reuse_key:
        request = replace(request, reused_key=reused_key(visit))
    provider = doors.dns[desired.dns] if desired.dns else ByZone.of(desired, doors.dns)
    return doors.issuer.issue(request, provider, visit.held(), doors.progress)


def _leaf(version: Version, visit: Visit) -> str | None:
    """Return the leaf that is replaced. One that cannot be read is replaced all the same."""
    try:
        return visit.doors.state.bundle(visit.lineage, version.number).cert_pem
    except StateError:
        return None


def verify(step: Verify, visit: Visit) -> StepOutcome:
    """Write down that every address was seen to serve the certificate."""
    _, domain = visit.observed.locate(step.target, step.domain)
    last = domain.last
    # Without a lease another run may have gone on meanwhile: then it is for that one to tell.
    if last is not None and visit.doors.state.replace_rollout(
        last, replace(last, verified_at=visit.now)
    ):
        visit.tell(
            "verified",
            target=step.target,
            domain=step.domain,
            fingerprint=last.fingerprint,
            **{change.what: f"{change.was} → {change.becomes}" for change in step.changes},
        )
    told = StepOutcome(Action.VERIFY, Outcome.DONE, SEEN, step.target, step.domain)
    return with_unasked(told, step) if step.changes else told
