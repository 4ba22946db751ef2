"""Places that take a certificate whole, such as files or a command: read, and delivered to."""

from __future__ import annotations

from dataclasses import replace

from certferry.core.certificates.lineage import Version, label_of
from certferry.core.desired.certificate import CommandDelivery, Delivery, DesiredDeployment
from certferry.core.observed.observation import (
    DomainState,
    ObservedDomain,
    ObservedTarget,
    RemoteCertificate,
)
from certferry.core.observed.records import RolloutRecord
from certferry.core.planning.report import Outcome, StepOutcome
from certferry.core.planning.steps import Action, Deploy
from certferry.errors import CertferryError, DeployError
from certferry.ports.receiver import Delivered, Receiver
from certferry.reconcile.run import StepContext
from certferry.text import Text


def observe_receiver(
    receiver: Receiver,
    lineage: str,
    deployment: DesiredDeployment,
    versions: tuple[Version, ...],
    last: RolloutRecord | None,
) -> ObservedTarget:
    """Observe a receiver: what it holds counts as a copy when it is one of the lineage's. `last` is
    the record of the last delivery.
    """
    found = _observed(receiver, deployment, last)
    held = [v.certificate for v in versions if v.certificate.fingerprint == found.bound]
    remotes = tuple(
        RemoteCertificate(
            certificate.fingerprint,
            label_of(lineage, certificate.fingerprint),
            certificate.fingerprint,
            certificate.not_after,
        )
        for certificate in held
    )
    return ObservedTarget(label=deployment.target, domains=(found,), remotes=remotes)


def _observed(
    receiver: Receiver, deployment: DesiredDeployment, last: RolloutRecord | None
) -> ObservedDomain:
    (name,) = deployment.domains or ("",)
    try:
        return replace(receiver.observe(_delivered(last)), last=last)
    except DeployError as error:
        return ObservedDomain(name, deployment.kind, DomainState.UNAVAILABLE, problem=error)


def _delivered(last: RolloutRecord | None) -> Delivered | None:
    """Return what was last delivered to a receiver, when that ended well."""
    if last is None or last.verified_at is None:
        return None
    return Delivered(last.fingerprint, last.fullchain_digest, last.program_digest)


def deliver(step: Deploy, context: StepContext) -> StepOutcome:
    """Deliver the certificate to a receiver: that is the end of the rollout, or it has failed."""
    state, version = context.ports.state, context.version_of(step)
    result = StepOutcome(Action.DEPLOY, Outcome.DONE, Text("delivered"), step.target, step.domain)
    begun = RolloutRecord(
        context.lineage, step.target, step.domain, version.certificate.fingerprint, context.now
    )
    try:
        bundle = state.bundle(context.lineage, version.number)
        delivery = _delivery(step, context)
        begun = replace(
            begun,
            # Files keep their own receipt, which knows of their program.
            program_digest=delivery.program.digest
            if isinstance(delivery, CommandDelivery)
            else None,
            fullchain_digest=bundle.fullchain_digest,
        )
        state.save_rollout(begun)
        context.renew_lease()
        context.ports.receiver(delivery).deliver(context.lineage, bundle)
    except CertferryError as error:
        # Tried once in a run, since it may cost much.
        state.save_rollout(replace(begun, failed_at=context.now))
        context.record_failure(step, error)
        return result.with_error(error)
    state.save_rollout(replace(begun, verified_at=context.now))
    facts = {"target": step.target, "domain": step.domain, "fingerprint": begun.fingerprint}
    context.record("deployed", **facts)
    context.record("verified", **facts)
    return result


def _delivery(step: Deploy, context: StepContext) -> Delivery:
    return next(
        deployment.delivery
        for deployment in context.desired.deployments
        if deployment.delivery is not None
        and (deployment.target, deployment.domains) == (step.target, (step.domain,))
    )
