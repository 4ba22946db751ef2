"""Observation of receivers (directories and commands) with their hosts, and deliveries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.certificates.lineage import Version, label_of
from certferry.core.desired.certificate import CommandDelivery, Delivery, DesiredDeployment
from certferry.core.network import Host
from certferry.core.observed import observation
from certferry.core.observed.records import RolloutRecord
from certferry.core.planning.deliveries import NOT_SERVED, SERVED_WITHIN
from certferry.core.planning.plan import Action, Deploy, Rollout
from certferry.core.planning.report import DELIVERED, Outcome, StepOutcome
from certferry.core.reasons import wait_for
from certferry.errors import CertferryError, DeployError
from certferry.ports.probe import Probe
from certferry.ports.receiver import Delivered, Receiver
from certferry.reconcile.handing_over import without_key
from certferry.reconcile.run import Ports, StepContext
from certferry.text import Text
from certferry.values import replace

_AWAITED = Text("delivered; not yet served by every address")


def observe_receiver(
    ports: Ports,
    delivery: Delivery,
    lineage: str,
    deployment: DesiredDeployment,
    versions: tuple[Version, ...],
    last: RolloutRecord | None,
) -> observation.ObservedTarget:
    """Return a receiver as an observed target with a single domain, which stands for the receiver.
    If the receiver cannot be observed, the domain is `UNAVAILABLE` and has the error.

    The receiver compares its content with the `last` delivery, if that delivery succeeded. The
    hosts declared in `serves` are asked for their certificates.
    """
    delivered = None
    if last is not None and (last.accepted_at or last.verified_at):
        delivered = Delivered(last.fingerprint, last.fullchain_digest, last.program_digest)
    try:
        domain = replace(ports.receiver(delivery).observe(delivered), last=last)
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
    target = observation.ObservedTarget(deployment.target, domains=(domain,), remotes=remotes)
    if not deployment.serves:
        return target
    return replace(target, served={domain.domain: tuple(_asked(deployment.serves, ports.probe))})


def _asked(hosts: Sequence[Host], probe: Probe) -> Iterator[observation.Served]:
    """Yield the answer of every address of each host.

    Silent addresses do not count, as at edges. If all addresses of a host are silent, the addresses
    count as if they had refused, because other hosts prove nothing about this host.
    """
    for host, addresses in probe.served_by(hosts).items():
        is_silent = not any(address.answered for address in addresses)
        for address in addresses:
            silent = address.silent and not is_silent
            yield replace(address, host=str(host), silent=silent)


def deliver(step: Deploy, context: StepContext) -> StepOutcome:
    """Deliver the certificate to a receiver, and store that the receiver has the certificate, or
    that the rollout failed. Without `serves`, the rollout is then verified.

    Return the outcome: done, waiting for the hosts in `serves`, or failed. Raises `LeaseLost`,
    `Interrupted` and `StateError`.
    """
    state, place = context.ports.state, context.at(step)
    version, last = place.version, place.domain.last
    result = StepOutcome(Action.DEPLOY, Outcome.DONE, DELIVERED, step.target, step.domain)
    context.renew_lease()
    begun = RolloutRecord(
        context.lineage, step.target, step.domain, version.fingerprint, context.now
    )
    bound = place.domain.bound
    if bound is not None and bound != version.fingerprint:
        begun = replace(begun, worked_before=observation.is_served(place.served, bound))
    elif last is not None and last.fingerprint == version.fingerprint:
        begun = replace(begun, worked_before=last.worked_before)
    try:
        bundle = state.bundle(context.lineage, version.number)
        deployment, delivery = next(
            (deployment, deployment.delivery)
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
        receiver = context.ports.receiver(delivery)
        _hand_over(receiver, context.lineage, bundle, again=step.reason == NOT_SERVED)
    except CertferryError as error:
        # The failure keeps this run from trying again, because a command may be costly.
        state.save_rollout(replace(begun, failed_at=context.now))
        context.record_failure(step, error)
        return result.with_error(error)
    now = context.now
    facts = {"target": step.target, "domain": step.domain, "fingerprint": begun.fingerprint}
    is_proven = bool(deployment.serves)
    verified_at = None if is_proven else now
    state.save_rollout(replace(begun, accepted_at=now, verified_at=verified_at))
    context.record("deployed", **facts)
    if not is_proven:
        context.record("verified", **facts)
        return result
    deadline = now + min(context.ports.verify_timeout, SERVED_WITHIN)
    waiting = wait_for(_AWAITED, now, now, deadline)
    return replace(result, outcome=Outcome.WAITING, detail=_AWAITED, waiting=waiting)


def _hand_over(receiver: Receiver, lineage: str, bundle: CertificateBundle, *, again: bool) -> None:
    try:
        receiver.deliver(lineage, bundle, again=again)
    except CertferryError as error:
        raise without_key(error, bundle.privkey_pem, withholds_words=False) from None


def note_unserved(rollout: Rollout, context: StepContext) -> None:
    """Store that the hosts of a receiver did not serve the certificate in time, so a later run
    delivers again. Does nothing for other places.
    """
    last = context.last_of(rollout.target, rollout.domain)
    if last is None or last.failed_at is not None or not rollout.steps[0].kind.is_receiver:
        return
    context.ports.state.replace_rollout(
        last, replace(last, failed_at=context.now, verified_at=None)
    )
