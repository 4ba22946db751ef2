"""What an operator asks for by hand: going back at every domain, and a revocation."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from certferry import errors
from certferry.core.certificates import lineage as lineages
from certferry.core.certificates.certificate import Certificate
from certferry.core.desired.certificate import DesiredCertificate
from certferry.core.events import Happened
from certferry.core.observed.observation import Observation
from certferry.core.planning.plan import Action, Rollback, Weight
from certferry.core.planning.planner import make_plan
from certferry.core.planning.renewal import Issuing
from certferry.core.planning.report import LineageReport, SyncReport
from certferry.core.planning.safety import without_refused
from certferry.core.planning.timing import Times
from certferry.core.reasons import Reason, ReasonCode
from certferry.ports.issuer import AccountAt
from certferry.ports.progress import Clock, Progress
from certferry.ports.state import Lease, StateStore
from certferry.reconcile.apply import withdraw
from certferry.reconcile.observe import as_known, observe
from certferry.reconcile.reconciler import Reconciler
from certferry.reconcile.run import Ports, StepContext, WaitLimit, held_lease
from certferry.text import Text

_log = logging.getLogger(__name__)

BY_HAND = Reason(ReasonCode.ROLLED_BACK, Text("asked for"))


def withdraw_by_hand(ports: Ports, desired: DesiredCertificate) -> DesiredCertificate:
    """Withdraw the certificate in force from every domain that has a previous one to go back to,
    and return the certificate for `go_back`. Raises `PlanRefused` where there is none to go back
    to, or where it could not be bound, `DeclarationOutdated` where another host's file counts, and
    `StateError` for a lost key; then nothing was changed.
    """
    ports.state.must_unseal()
    if desired.lineage in ports.outdated:
        raise ports.outdated[desired.lineage].error
    desired = as_known(desired, ports.source, ports.state, read=False)
    with ports.lease(desired.lineage) as lease:
        context = StepContext(desired, observe(desired, ports), ports, lease)
        for step in _steps_back(desired, context.observed, context.now):
            context.renew_lease()
            withdraw(step, context, by_hand=True)
    return desired


def steps_back(ports: Ports, desired: DesiredCertificate) -> list[Rollback]:
    """Return what `withdraw_by_hand` would withdraw now, and change nothing. Raises as it does."""
    if desired.lineage in ports.outdated:
        raise ports.outdated[desired.lineage].error
    desired = as_known(desired, ports.source, ports.state, read=False)
    return _steps_back(desired, observe(desired, ports), ports.now())


def go_back(ports: Ports, desired: DesiredCertificate, wait_limit: WaitLimit) -> SyncReport:
    """Bind the previous certificate wherever the one in force was withdrawn."""
    report = Reconciler(ports).run([desired], wait_limit, Issuing.NEVER)
    for lineage in report.lineages:
        give_up_where_refused(lineage, ports)
    return report


def give_up_where_refused(report: LineageReport, ports: Ports) -> None:
    """Forget the withdrawals by hand that a target refused, so that no later run goes back."""
    refused = {
        (step.target, step.domain)
        for step in report.outcomes
        if step.action is Action.DEPLOY
        and isinstance(step.error, errors.TargetAccessDenied | errors.TargetRejected)
        and not isinstance(step.error, errors.CopyGone)  # a copy can be uploaded again
    }
    for withdrawal in ports.state.remembered(report.lineage).withdrawals:
        if (withdrawal.target, withdrawal.domain) not in refused:
            continue
        if withdrawal.by_hand and withdrawal.fingerprint == report.fingerprint:
            ports.state.drop_withdrawal(withdrawal)
            facts = {"target": withdrawal.target, "domain": withdrawal.domain}
            ports.progress(Happened(report.lineage, "rollback refused", facts))


def _steps_back(
    desired: DesiredCertificate, observed: Observation, now: datetime
) -> list[Rollback]:
    """List what is to be withdrawn. Raises `PlanRefused` where none is, or a step is refused."""
    current = observed.current
    if current is None:
        raise _nothing_to_go_back_to(desired)
    fingerprint = current.fingerprint
    steps, kept = [], 0
    for deployment, target in zip(desired.deployments, observed.targets, strict=True):
        if target.failure is not None:
            raise errors.PlanRefused(target.failure.message, hint=target.failure.hint)
        for domain in target.domains:
            if fingerprint in domain.withdrawn:
                kept += 1
                continue
            previous = lineages.version_for(
                domain.withdrawn | {fingerprint}, observed.versions, now
            )
            if previous is not None:
                place, end = (deployment.target, domain.domain), previous.certificate.not_after
                steps.append(Rollback(*place, BY_HAND, fingerprint, end, domain.kind))
    if not steps and not kept:
        raise _nothing_to_go_back_to(desired)
    _must_be_possible(steps, desired, observed, now)
    return steps


def _nothing_to_go_back_to(desired: DesiredCertificate) -> errors.PlanRefused:
    hint = Text("nothing was changed; `certferry sync --renew {lineage}` issues a new one")
    if desired.files is not None:
        hint = Text("have its own client issue it again; certferry only deploys {lineage}")
    said = Text("{lineage} has no previous certificate that is still valid")
    said, hint = (one.filled(lineage=desired.lineage) for one in (said, hint))
    return errors.PlanRefused(said, hint=hint)


def _must_be_possible(
    steps: Sequence[Rollback], desired: DesiredCertificate, observed: Observation, now: datetime
) -> None:
    """Plan as if the steps were done. Raises `PlanRefused` for what would then be refused."""
    withdrawn = {(step.target, step.domain): step.fingerprint for step in steps}
    targets = tuple(
        replace(
            target,
            domains=tuple(
                replace(d, withdrawn=d.withdrawn | {withdrawn[target.label, d.domain]})
                if (target.label, d.domain) in withdrawn
                else d
                for d in target.domains
            ),
        )
        for target in observed.targets
    )
    observed = replace(observed, targets=targets)
    plan = make_plan(desired, observed, Times.at(now), Issuing.NEVER)
    plan = without_refused(plan, desired, observed, now)
    for refusal in plan.having(Weight.REFUSED):
        problem = refusal.problem
        raise errors.PlanRefused(
            Text("{domain} cannot go back: {why}", domain=refusal.domain, why=problem.message),
            hint=problem.hint,
        )


def carry_over(old: str, new: str, certificate: Certificate, state: StateStore) -> None:
    """Copy to `new` how far a certificate of `old` is, unless `new` has a later one."""
    if any(v.certificate.not_before > certificate.not_before for v in state.versions(new)):
        return
    remembered, fingerprint = state.remembered(old), certificate.fingerprint
    for upload in remembered.uploads:
        if upload.fingerprint == fingerprint:
            state.save_upload(replace(upload, lineage=new))
    for record in remembered.rollouts:
        if record.fingerprint == fingerprint:
            state.replace_rollout(None, replace(record, lineage=new))


def to_revoke(
    lineage: str, reason: lineages.RevocationReason, state: StateStore, now: datetime
) -> list[lineages.Version]:
    """List what to revoke: what was begun, else the newest version, or all of its key."""
    versions = state.versions(lineage)
    begun = _begun(versions, now)
    newest = next(iter(begun or versions), None)
    if newest is None or newest.certificate.not_after <= now:
        raise errors.PlanRefused(
            Text("{lineage} has no certificate that is valid", lineage=lineage),
            hint=Text("nothing was changed; `certferry status` shows what there is"),
        )
    if not begun and newest.revocation is not None:
        return []
    found = list(begun or [newest])
    if reason is lineages.RevocationReason.KEY_COMPROMISE:
        key = state.bundle(lineage, newest.number).privkey_pem
        found += (
            one
            for one in versions
            if one not in found
            and one.certificate.not_after > now
            and one.revocation is None
            and state.bundle(lineage, one.number).privkey_pem == key
        )
    return found


def _begun(versions: Sequence[lineages.Version], now: datetime) -> list[lineages.Version]:
    return [
        one
        for one in versions
        if lineages.is_in_progress(one.revocation, one.certificate.not_after, now)
    ]


@dataclass(frozen=True, slots=True)
class Revocations:
    """Revokes, as the account of each CA; what the CA may have done is stored before it is asked,
    so that it is asked again after a kill. "Already revoked" is as good.
    """

    state: StateStore
    account_at: AccountAt
    now: Clock
    progress: Progress

    def revoke(self, lineage: str, reason: lineages.RevocationReason) -> list[lineages.Version]:
        """Revoke what `to_revoke` lists, and return it. Raises what that does, `LeaseHeld`,
        `IssuanceError` and `StateError`.
        """
        with held_lease(self.state, self.now, lineage) as lease:
            versions = to_revoke(lineage, reason, self.state, self.now())
            self._carry_out(versions, reason, lease)
        return versions

    def finish(self, names: Collection[str]) -> None:
        """End the revocations of these lineages that a killed call began, and begin none. A CA that
        does not end one is asked by the next run. Raises `StateError`.
        """
        for lineage, known in self.state.versions_in_use().items():
            if lineage not in names or not _begun(known, self.now()):
                continue
            try:
                with held_lease(self.state, self.now, lineage) as lease:
                    # Another process may have ended them meanwhile.
                    begun = _begun(self.state.versions(lineage), self.now())
                    # What was begun has one reason: each call gives all of it the latest.
                    for reason in {one.revocation.reason for one in begun[:1] if one.revocation}:
                        versions = to_revoke(lineage, reason, self.state, self.now())
                        self._carry_out(versions, reason, lease)
            except (errors.LeaseHeld, errors.LeaseLost):
                continue  # another run has it
            except (errors.IssuanceError, errors.CertificateError, errors.PlanRefused) as refusal:
                said = Text(
                    "{lineage}: the revocation that was begun has not ended, and the next run asks"
                    " the CA again: {problem}"
                )
                _log.warning(said.filled(lineage=lineage, problem=refusal.message))

    def _carry_out(
        self, versions: Sequence[lineages.Version], reason: lineages.RevocationReason, lease: Lease
    ) -> None:
        state, now, lineage = self.state, self.now, lease.lineage
        bundles = [state.bundle(lineage, version.number) for version in versions]
        if versions and reason is lineages.RevocationReason.KEY_COMPROMISE:
            state.drop_order(lease)  # it may be for this key
        begun = lineages.Revocation(now(), reason, is_answered=False)
        for version in versions:
            state.save_revocation(lease, version.number, begun)
        for done, (version, bundle) in enumerate(zip(versions, bundles, strict=True)):
            state.extend(lease)
            try:
                self.account_at(version.directory).revoke(bundle, reason)
            except (errors.IssuanceError, errors.CertificateError, errors.PlanRefused) as refusal:
                if not isinstance(refusal, errors.CaUnavailable):
                    # What was known before the call stays: an earlier one may have been heard.
                    for one in versions[done:]:
                        state.save_revocation(lease, one.number, one.revocation)
                raise
            state.save_revocation(lease, version.number, lineages.Revocation(now(), reason))
            facts = {
                "fingerprint": version.fingerprint,
                "serial": version.certificate.serial,
                "reason": reason.value,
            }
            self.progress(Happened(lineage, "revoked", facts))
