"""Observation of receivers (directories and commands), and deliveries to receivers."""

from __future__ import annotations

from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.certificates.lineage import Version, label_of
from certferry.core.desired.certificate import CommandDelivery, DesiredDeployment
from certferry.core.observed import observation
from certferry.core.observed.records import RolloutRecord
from certferry.core.planning.plan import Action, Deploy
from certferry.core.planning.report import Outcome, StepOutcome
from certferry.errors import CertferryError, DeployError
from certferry.ports.receiver import Delivered, Receiver
from certferry.reconcile.handing_over import without_key
from certferry.reconcile.run import StepContext
from certferry.text import Text
from certferry.values import replace


def observe_receiver(
    receiver: Receiver,
    lineage: str,
    deployment: DesiredDeployment,
    versions: tuple[Version, ...],
    last: RolloutRecord | None,
) -> observation.ObservedTarget:
    """Return a receiver as an observed target with a single domain, which stands for the receiver.
    If the receiver cannot be observed, the domain is `UNAVAILABLE` and has the error.

    The receiver gets the `last` delivery for comparison, if that delivery succeeded.
    """
    delivered = None
    if last is not None and last.verified_at is not None:
        delivered = Delivered(last.fingerprint, last.fullchain_digest, last.program_digest)
    try:
        domain = replace(receiver.observe(delivered), last=last)
    except DeployError as error:
        (name,) = deployment.domains or ("",)
        domain = observation.ObservedDomain(
            name, deployment.kind, observation.DomainState.UNAVAILABLE, problem=error
        )
    remotes = tuple(
        observation.RemoteCertificate(
            certificate.fingerprint,
            label_of(lineage, certificate.fingerprint),
            certificate.fingerprint,
            certificate.not_after,
        )
        for certificate in (version.certificate for version in versions)
        if certificate.fingerprint == domain.bound
    )
    return observation.ObservedTarget(label=deployment.target, domains=(domain,), remotes=remotes)


def deliver(step: Deploy, context: StepContext) -> StepOutcome:
    """Deliver the certificate to a receiver, and store the success or the failure.

    Return the outcome: done or failed. Raises `LeaseLost`, `Interrupted` and `StateError`.
    """
    state, version = context.ports.state, context.at(step).version
    result = StepOutcome(Action.DEPLOY, Outcome.DONE, Text("delivered"), step.target, step.domain)
    context.renew_lease()
    begun = RolloutRecord(
        context.lineage, step.target, step.domain, version.fingerprint, context.now
    )
    try:
        bundle = state.bundle(context.lineage, version.number)
        delivery = next(
            deployment.delivery
            for deployment in context.desired.deployments
            if deployment.delivery
            and (deployment.target, deployment.domains) == (step.target, (step.domain,))
        )
        begun = replace(
            begun,
            # For a directory, the receiver itself stores the program's digest, in a receipt.
            program_digest=delivery.program.digest
            if isinstance(delivery, CommandDelivery)
            else None,
            fullchain_digest=bundle.fullchain_digest,
        )
        state.save_rollout(begun)
        _hand_over(context.ports.receiver(delivery), context.lineage, bundle)
    except CertferryError as error:
        # The failure keeps this run from trying again, because a command may be costly.
        state.save_rollout(replace(begun, failed_at=context.now))
        context.record_failure(step, error)
        return result.with_error(error)
    state.save_rollout(replace(begun, verified_at=context.now))
    facts = {"target": step.target, "domain": step.domain, "fingerprint": begun.fingerprint}
    context.record("deployed", **facts)
    context.record("verified", **facts)
    return result


def _hand_over(receiver: Receiver, lineage: str, bundle: CertificateBundle) -> None:
    try:
        receiver.deliver(lineage, bundle)
    except CertferryError as error:
        raise without_key(error, bundle.privkey_pem, withholds_words=False) from None
