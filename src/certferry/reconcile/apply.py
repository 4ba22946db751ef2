"""Carry out the steps of a plan, one function for each kind. Every failure becomes an outcome, so
that one domain's failure stops neither the others nor the other certificates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from certferry.core.certificate import CertificateBundle
from certferry.core.plan import Action, Clean, Deploy, Issue, Retire, Rollback, Step, Verify
from certferry.core.plan_outcomes import SEEN
from certferry.core.report import Outcome, StepOutcome
from certferry.core.settings import in_sentences
from certferry.errors import (
    CertferryError,
    CertificateRejected,
    Interrupted,
    LeaseLost,
    StateError,
)
from certferry.ports.issuer import IssueRequest
from certferry.reconcile.challenge_cleanup import sweep
from certferry.reconcile.deploy import deploy
from certferry.reconcile.receivers import deliver
from certferry.reconcile.retire import retire
from certferry.reconcile.rollback import roll_back
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
        elif step not in others:
            yield _executed(step, visit)
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
        version = state.save_version(lease, _obtain(step, visit), now())
    except (Interrupted, LeaseLost):
        raise
    except CertferryError as error:
        rejected = isinstance(error, CertificateRejected)
        state.save_issue_try(visit.lineage, now(), failed=True, rejected=rejected)
        if rejected:  # afterwards: killed in between, the next run still knows that it is held back
            state.drop_order(lease)
        visit.tell(f"{step.action} failed", problem=str(error.lasting))
        return StepOutcome(step.action, Outcome.FAILED, error.message).failed(error)
    state.save_issue_try(visit.lineage, now())
    certificate = version.certificate
    event = "issued" if step.action is Action.ISSUE else "adopted"
    visit.tell(event, fingerprint=certificate.fingerprint, issuer=certificate.issuer)
    detail = Text("valid until {moment}", moment=certificate.not_after)
    return StepOutcome(step.action, Outcome.DONE, detail)


def _obtain(step: Issue, visit: Visit) -> CertificateBundle:
    doors, desired = visit.doors, visit.desired
    if desired.files is not None:
        return doors.source.read(desired.files)
    request = IssueRequest(desired.lineage, step.names, step.key_type, _replaced(step, visit))
    return doors.issuer.issue(request, doors.dns[desired.dns], visit.held(), doors.progress)


def _replaced(step: Issue, visit: Visit) -> str | None:
    """Return the leaf that a new certificate takes the place of, which has a name of its (RFC 9773
    §5). One that cannot be read is replaced all the same.
    """
    version = visit.observed.current
    if version is None or not set(version.certificate.names) & set(step.names):
        return None
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
            **{change.what: f"{change.before} → {change.after}" for change in step.changes},
        )
    told = StepOutcome(Action.VERIFY, Outcome.DONE, SEEN, step.target, step.domain)
    return _with_unasked(told, step) if step.changes else told


def _with_unasked(told: StepOutcome, step: Verify) -> StepOutcome:
    """Add which settings the target changed without being asked to."""
    detail = Text(
        "{said}; the target changed other settings: {changes}",
        said=told.detail,
        changes=in_sentences(step.changes),
    )
    hint = Text(
        "set what it is to be in the deployment (`force_https`, `http2`, `tls_versions`), and"
        " the next run sets it back"
    )
    return replace(told, detail=detail, hint=hint)


def clean(step: Clean, visit: Visit) -> StepOutcome:
    """Remove challenge records that an earlier run left."""
    told = StepOutcome(step.action, Outcome.DONE, Text("challenge records are removed"))
    visit.held()
    try:
        sweep(visit.lineage, [visit.doors.dns[visit.desired.dns]], visit.doors)
    except Interrupted:
        raise
    except CertferryError as error:
        return told.failed(error)
    return told
