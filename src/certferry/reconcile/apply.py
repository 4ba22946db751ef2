"""Carry out the steps of a plan, one handler for each kind. A handler turns every failure into an
outcome, so that one domain's failure stops neither the others nor the other certificates.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from certferry.core.certificate import CertificateBundle
from certferry.core.desired import CommandDelivery, Delivery, DesiredCertificate
from certferry.core.lineage import Version
from certferry.core.observed import Observation, ObservedTarget
from certferry.core.plan import Action, Deploy, Issue, Retire, Verify
from certferry.core.report import Outcome, StepOutcome
from certferry.core.rollout import RolloutRecord
from certferry.core.upload import NOBODY, Upload
from certferry.core.waiting import wait_for
from certferry.errors import (
    CertferryError,
    CopyGone,
    Interrupted,
    LeaseLost,
    TargetBusy,
    TargetInUse,
    TargetRejected,
)
from certferry.ports.issuer import IssueRequest
from certferry.ports.state import Lease
from certferry.reconcile.challenge_cleanup import sweep
from certferry.reconcile.doors import Doors
from certferry.reconcile.history import record
from certferry.reconcile.uploads import Uploads
from certferry.text import Text

IN_USE_PAUSE = timedelta(days=1)
"""How long a certificate that the target says is still used is left alone."""

_CARRYING_OUT = Text("the target is carrying out a change")


class Applier:
    """Carries out the steps of one lineage."""

    def __init__(self, desired: DesiredCertificate, doors: Doors) -> None:
        self._desired = desired
        self._doors = doors
        self._record = partial(record, doors, desired.lineage)
        self._uploads = Uploads(desired.lineage, doors)

    # issue

    def sweep(self) -> StepOutcome | None:
        """Remove challenge records that were left behind; tell only if that failed."""
        dns = self._doors.dns[self._desired.dns]
        try:
            sweep(self._desired.lineage, [dns], self._doors)
        except Interrupted:
            raise
        except CertferryError as error:
            pending = StepOutcome(Action.CLEAN, Outcome.FAILED, error.message)
            return failed(pending, error)
        return None

    def issue(self, step: Issue, lease: Lease) -> tuple[StepOutcome, Version | None]:
        """Order or adopt a certificate, and keep it at once, whatever happens next."""
        state, lineage = self._doors.state, self._desired.lineage
        try:
            bundle = self._obtain(step, lease)
            version = state.save_version(lease, bundle, self._doors.now())
        except (Interrupted, LeaseLost):
            raise
        except CertferryError as error:
            state.save_issue_try(lineage, self._doors.now())
            self._record(f"{step.action} failed", problem=str(error.message))
            return failed(StepOutcome(step.action, Outcome.FAILED, error.message), error), None
        state.save_issue_try(lineage, self._doors.now())
        certificate = version.certificate
        event = "issued" if step.action is Action.ISSUE else "adopted"
        self._record(event, fingerprint=certificate.fingerprint, issuer=certificate.issuer)
        detail = Text("valid until {moment}", moment=certificate.not_after)
        return StepOutcome(step.action, Outcome.DONE, detail), version

    def _obtain(self, step: Issue, lease: Lease) -> CertificateBundle:
        doors, desired = self._doors, self._desired
        if desired.files is not None:
            return doors.source.read(desired.files)
        request = IssueRequest(desired.lineage, step.names, step.key_type)
        return doors.issuer.issue(request, doors.dns[desired.dns], lease, doors.progress)

    # deploy

    def deploy(
        self, step: Deploy, observed: Observation, version: Version, lease: Lease
    ) -> StepOutcome:
        """Upload where needed, then ask the target to serve it.

        Raises `LeaseLost` before anything is written that another run may have overtaken.
        """
        pending = StepOutcome(
            Action.DEPLOY, Outcome.WAITING, _CARRYING_OUT, step.target, step.domain
        )
        begun = self.begin(step, version.certificate.fingerprint)
        try:
            remote_id = self._bind(step, observed, version, lease)
        except TargetBusy as error:
            now = self._doors.now()
            if now >= begun.started_at + self._doors.verify_timeout:
                return failed(pending, error)
            return self._wait(pending, error.message, begun.started_at, now)
        except (Interrupted, LeaseLost):
            raise
        except CertferryError as error:
            if isinstance(error, CopyGone):
                self._uploads.forget(version, step.target)
            if not error.retry.allowed:
                self._doors.state.save_rollout(replace(begun, failed_at=self._doors.now()))
            self._record_failure(step, error)
            return failed(pending, error)
        _, domain = observed.locate(step.target, step.domain)
        now = self._doors.now()
        self._doors.state.save_rollout(
            replace(
                begun,
                accepted_at=now,
                problem_before=str(domain.problem),
                failed_at=None,
                sent=step.https,
                settings_before=domain.https,
            )
        )
        self._record("deployed", target=step.target, domain=step.domain, remote_id=remote_id)
        return self._wait(pending, _CARRYING_OUT, now, now)

    def begin(self, step: Deploy | Verify, fingerprint: str) -> RolloutRecord:
        """Return the record of bringing a certificate to a domain, begun now where it is needed
        again. What went along with the one before stays known until the next change.
        """
        last = self.last_rollout(step.target, step.domain)
        now = self._doors.now()
        if (
            last is not None
            and last.fingerprint == fingerprint
            and last.verified_at is None
            and last.started_at <= now
        ):
            return last
        begun = RolloutRecord(
            lineage=self._desired.lineage,
            target=step.target,
            domain=step.domain,
            fingerprint=fingerprint,
            started_at=now,
            sent=None if last is None else last.sent,
            settings_before=None if last is None else last.settings_before,
        )
        self._doors.state.save_rollout(begun)
        return begun

    def deliver(self, step: Deploy, version: Version, lease: Lease) -> StepOutcome:
        """Hand the certificate to a receiver. It is at the end then, or it has failed."""
        lineage, fingerprint = self._desired.lineage, version.certificate.fingerprint
        pending = StepOutcome(
            Action.DEPLOY, Outcome.DONE, Text("delivered"), step.target, step.domain
        )
        try:
            bundle = self._doors.state.bundle(lineage, version.number)
            delivery = self._delivery(step)
            begun = RolloutRecord(
                lineage,
                step.target,
                step.domain,
                fingerprint,
                self._doors.now(),
                program_digest=_program_digest(delivery),
                fullchain_digest=bundle.fullchain_digest,
            )
            self._doors.state.save_rollout(begun)
            self._must_hold(lease)
            self._doors.receiver(delivery).deliver(lineage, bundle)
        except (Interrupted, LeaseLost):
            raise
        except CertferryError as error:
            self._fail_delivery(step, fingerprint)
            self._record_failure(step, error)
            return failed(pending, error)
        self._record("deployed", target=step.target, domain=step.domain, fingerprint=fingerprint)
        return pending

    def _fail_delivery(self, step: Deploy, fingerprint: str) -> None:
        """Write down that a delivery failed: it is tried once in a run, since it may cost much."""
        last = self.last_rollout(step.target, step.domain)
        begun = RolloutRecord(
            self._desired.lineage, step.target, step.domain, fingerprint, self._doors.now()
        )
        tried = last if last is not None and last.fingerprint == fingerprint else begun
        self._doors.state.save_rollout(
            replace(tried, failed_at=self._doors.now(), verified_at=None)
        )

    def _record_failure(self, step: Deploy, error: CertferryError) -> None:
        problem = str(error.lasting)
        self._record("deploy failed", target=step.target, domain=step.domain, problem=problem)

    def _delivery(self, step: Deploy) -> Delivery:
        return next(
            deployment.delivery
            for deployment in self._desired.deployments
            if deployment.delivery is not None
            and (deployment.target, deployment.domains) == (step.target, (step.domain,))
        )

    def _bind(self, step: Deploy, observed: Observation, version: Version, lease: Lease) -> str:
        target, domain = observed.locate(step.target, step.domain)
        remote = target.remote_of(version.certificate.fingerprint)
        self._must_hold(lease)
        remote_id = remote.remote_id if remote else self._uploads.of(version, step.target)
        self._must_hold(lease)
        self._doors.targets[step.target].bind(step.domain, domain.kind, remote_id, step.https)
        return remote_id

    def _must_hold(self, lease: Lease) -> None:
        """Make sure, right before a target is written to, that no other run has taken over: it may
        have a newer certificate there already.
        """
        self._doors.state.extend(lease)

    def rollout(self, target: str, domain: str, fingerprint: str) -> RolloutRecord | None:
        """Find how far this certificate is with this domain."""
        last = self.last_rollout(target, domain)
        return last if last is not None and last.fingerprint == fingerprint else None

    def last_rollout(self, target: str, domain: str) -> RolloutRecord | None:
        """Find what set out last for this domain, whichever certificate it was."""
        return self._doors.state.rollout(self._desired.lineage, target, domain)

    # retire

    def retire(self, step: Retire, target: ObservedTarget, lease: Lease) -> StepOutcome:
        """Remove a superseded copy. One that the target says is used is kept, and that is fine."""
        self._must_hold(lease)
        pending = StepOutcome(
            Action.RETIRE, Outcome.DONE, Text("removed"), step.target, label=step.label
        )
        if step.anybodys:  # labels are given to ours alone: others' may be anything, and the same
            pending = replace(pending, remote_id=step.remote_id)
        door = self._doors.targets[step.target]
        try:
            was_there = door.retire(step.remote_id, step.label, anybodys=step.anybodys)
        except TargetInUse as error:
            self._keep(step, target)
            return replace(pending, outcome=Outcome.UNCHANGED, detail=error.message)
        except Interrupted:
            raise
        except TargetRejected as error:
            if not step.anybodys:
                return failed(pending, error)
            # Nobody asked for this very one to go; tried every time, it would fail every run.
            self._keep(step, target)
            return replace(failed(pending, error), outcome=Outcome.UNCHANGED)
        except CertferryError as error:
            return failed(pending, error)
        self._doors.state.drop_upload(step.target, step.remote_id)
        self._record("retired", target=step.target, remote_id=step.remote_id, label=step.label)
        return pending if was_there else replace(pending, detail=Text("it was gone already"))

    def _keep(self, step: Retire, target: ObservedTarget) -> None:
        ours = next((r for r in target.remotes if r.remote_id == step.remote_id), None)
        self._doors.state.save_upload(
            Upload(
                lineage=NOBODY if ours is None else self._desired.lineage,
                target=step.target,
                remote_id=step.remote_id,
                label=step.label,
                fingerprint="" if ours is None else ours.fingerprint,
                uploaded_at=self._doors.now(),
                in_use_until=self._doors.now() + IN_USE_PAUSE,
            )
        )

    # both

    def _wait(self, pending: StepOutcome, why: Text, since: datetime, now: datetime) -> StepOutcome:
        waiting = wait_for(why, since, now, since + self._doors.verify_timeout)
        return replace(pending, detail=why, waiting=waiting)


def _program_digest(delivery: Delivery) -> str | None:
    # Files keep their own receipt, which knows of their program.
    return delivery.program.digest if isinstance(delivery, CommandDelivery) else None


def failed(pending: StepOutcome, error: CertferryError) -> StepOutcome:
    """End a step in failure."""
    return replace(
        pending,
        outcome=Outcome.FAILED,
        detail=error.message,
        hint=error.hint,
        error=error,
        waiting=None,
    )
