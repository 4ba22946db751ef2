"""Work at an operator's request: rollbacks at all domains, and revocations."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from datetime import datetime

from msgspec import Struct

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
from certferry.values import replace

_log = logging.getLogger(__name__)

BY_HAND = Reason(ReasonCode.ROLLED_BACK, Text("requested by hand"))


def withdraw_by_hand(ports: Ports, desired: DesiredCertificate) -> DesiredCertificate:
    """Withdraw the certificate in force from every domain that has a previous certificate to go
    back to.

    Return the declaration for `go_back`. Each of these errors comes before any change:

    - `PlanRefused`: no domain has or had a previous certificate to go back to, a target cannot be
      read, or safety refuses a previous certificate;
    - `DeclarationOutdated`: another host has a newer declaration of the lineage;
    - `LeaseHeld`: another run is at work on the lineage.

    Raises `StateError`, `LeaseLost` and `Interrupted`, perhaps after some withdrawals.
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
    """Return the steps that `withdraw_by_hand` would carry out now. Changes nothing. Raises
    `PlanRefused`, `DeclarationOutdated`, `StateError` and `Interrupted`.
    """
    if desired.lineage in ports.outdated:
        raise ports.outdated[desired.lineage].error
    desired = as_known(desired, ports.source, ports.state, read=False)
    return _steps_back(desired, observe(desired, ports), ports.now())


def go_back(ports: Ports, desired: DesiredCertificate, wait_limit: WaitLimit) -> SyncReport:
    """Carry out a run that binds the previous certificate at the domains with a withdrawal. Drop
    the withdrawals at domains that refused that certificate (`give_up_where_refused`), and return
    the report. Raises `StateError` and `StateNotStored`.
    """
    report = Reconciler(ports).run([desired], wait_limit, Issuing.NEVER)
    for lineage in report.lineages:
        give_up_where_refused(lineage, ports)
    return report


def give_up_where_refused(report: LineageReport, ports: Ports) -> None:
    """Drop an operator's withdrawals at domains whose target refused the previous certificate, so
    later runs keep the newest certificate there. Raises `StateError`.
    """
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
            facts = {"target": withdrawal.target, "domain": withdrawal.domain}
            # The event is stored before the row is deleted. Without the event, a missing row of a
            # withdrawal counts as deleted by another program.
            ports.progress(Happened(report.lineage, "rollback refused", facts))
            ports.state.drop_withdrawal(withdrawal)


def _steps_back(
    desired: DesiredCertificate, observed: Observation, now: datetime
) -> list[Rollback]:
    """Return a rollback for each domain with a previous certificate to go back to.

    The list is empty if no domain is left to go back, but some domain has gone back already. Raises
    `PlanRefused` if a target could not be read, if no domain can go back or has gone back, or if
    safety refuses a step.
    """
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
    hint = Text("nothing was changed; `certferry sync --renew {lineage}` issues a new certificate")
    if desired.files is not None:
        hint = Text(
            "have the certificate's client issue it again; certferry only deploys {lineage}"
        )
    message = Text("{lineage} has no previous certificate that is still valid")
    message, hint = (text.filled(lineage=desired.lineage) for text in (message, hint))
    return errors.PlanRefused(message, hint=hint)


def _must_be_possible(
    steps: Sequence[Rollback], desired: DesiredCertificate, observed: Observation, now: datetime
) -> None:
    """Plan as after the rollbacks; raise `PlanRefused` if safety refuses a step of this plan."""
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
    """Move the stored uploads of a certificate from lineage `old` to `new`, and copy the rollout
    records. A rollout record of `new` stays. Do nothing if `new` has a later certificate. Raises
    `StateError`.
    """
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
    """Return the versions to revoke: all versions with an unfinished revocation, or else the newest
    version.

    If the key is compromised, add every other valid version with the key of the first returned
    version, unless the version is revoked already. Return an empty list if no revocation is
    unfinished and the newest version is revoked already. Raises `PlanRefused` without a valid
    certificate, and `StateError`.
    """
    versions = state.versions(lineage)
    begun = _begun(versions, now)
    newest = next(iter(begun or versions), None)
    if newest is None or newest.certificate.not_after <= now:
        raise errors.PlanRefused(
            Text("{lineage} has no valid certificate", lineage=lineage),
            hint=Text("nothing was changed; `certferry status` shows the certificates"),
        )
    if not begun and newest.revocation is not None:
        return []
    chosen = list(begun or [newest])
    if reason is lineages.RevocationReason.KEY_COMPROMISE:
        key = state.bundle(lineage, newest.number).privkey_pem
        chosen += (
            version
            for version in versions
            if version not in chosen
            and version.certificate.not_after > now
            and version.revocation is None
            and state.bundle(lineage, version.number).privkey_pem == key
        )
    return chosen


def _begun(versions: Sequence[lineages.Version], now: datetime) -> list[lineages.Version]:
    return [
        version
        for version in versions
        if lineages.is_in_progress(version.revocation, version.certificate.not_after, now)
    ]


class Revocations(Struct, frozen=True):
    """Revokes certificates, through the account at each CA.

    A revocation is stored before the request, so the next run repeats the request of a killed run.
    The CA's answer "already revoked" counts as success.
    """

    #: The versions and their revocations.
    state: StateStore
    #: Returns the account at a CA, given by the URL of the directory.
    account_at: AccountAt
    #: The clock for the stored moments.
    now: Clock
    #: Takes an event for each revoked certificate.
    progress: Progress

    def revoke(self, lineage: str, reason: lineages.RevocationReason) -> list[lineages.Version]:
        """Revoke the versions returned by `to_revoke`, and return these versions.

        Raises the errors of `to_revoke`, `LeaseHeld`, `LeaseLost`, `Interrupted`, `IssuanceError`
        and `CertificateError`.
        """
        with held_lease(self.state, self.now, lineage) as lease:
            versions = to_revoke(lineage, reason, self.state, self.now())
            self._carry_out(versions, reason, lease)
        return versions

    def finish(self, names: Collection[str]) -> None:
        """Finish the revocations that a killed process left unfinished for these lineages.

        An error of a CA, or an unusable certificate, is only logged; the next run asks again. A
        lineage is left out if another run has the lease. Raises `StateError` and `Interrupted`.
        """
        for lineage, in_use in self.state.versions_in_use().items():
            if lineage not in names or not _begun(in_use, self.now()):
                continue
            try:
                with held_lease(self.state, self.now, lineage) as lease:
                    # Another process may have ended the revocations meanwhile.
                    begun = _begun(self.state.versions(lineage), self.now())
                    # All unfinished revocations have the same reason, because each revocation
                    # stores the reason in all unfinished versions.
                    for reason in {
                        version.revocation.reason for version in begun[:1] if version.revocation
                    }:
                        versions = to_revoke(lineage, reason, self.state, self.now())
                        self._carry_out(versions, reason, lease)
            except (errors.LeaseHeld, errors.LeaseLost):
                continue  # another run has the lease
            except (errors.IssuanceError, errors.CertificateError, errors.PlanRefused) as refusal:
                message = Text(
                    "{lineage}: the revocation has not finished, and the next run asks the CA"
                    " again: {problem}"
                )
                _log.warning(message.filled(lineage=lineage, problem=refusal.message))

    def _carry_out(
        self, versions: Sequence[lineages.Version], reason: lineages.RevocationReason, lease: Lease
    ) -> None:
        state, now, lineage = self.state, self.now, lease.lineage
        bundles = [state.bundle(lineage, version.number) for version in versions]
        if versions and reason is lineages.RevocationReason.KEY_COMPROMISE:
            state.drop_order(lease)  # the order may be for the compromised key
        begun = lineages.Revocation(now(), reason, is_answered=False)
        for version in versions:
            state.save_revocation(lease, version.number, begun)
        for done, (version, bundle) in enumerate(zip(versions, bundles, strict=True)):
            state.extend(lease)
            try:
                self.account_at(version.directory).revoke(bundle, reason)
            except (errors.IssuanceError, errors.CertificateError, errors.PlanRefused) as refusal:
                if not isinstance(refusal, errors.CaUnavailable):
                    # For the versions not yet revoked, restore the record from before this call.
                    # A revocation begun by an earlier run stays begun, because the CA may have
                    # carried out that run's request.
                    for remaining in versions[done:]:
                        state.save_revocation(lease, remaining.number, remaining.revocation)
                raise
            state.save_revocation(lease, version.number, lineages.Revocation(now(), reason))
            facts = {
                "fingerprint": version.fingerprint,
                "serial": version.certificate.serial,
                "reason": reason.value,
            }
            self.progress(Happened(lineage, "revoked", facts))
