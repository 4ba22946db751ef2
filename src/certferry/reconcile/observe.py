"""Look at the store, the targets and the edges, and write down what is there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from certferry.core.desired import DesiredCertificate, DesiredDeployment, Retirement
from certferry.core.lineage import Version, mark
from certferry.core.observed import (
    DomainState,
    Observation,
    ObservedDomain,
    ObservedTarget,
    RemoteCertificate,
    Served,
)
from certferry.errors import DeployError
from certferry.ports.receiver import Receiver
from certferry.ports.target import Look
from certferry.reconcile.doors import Doors
from certferry.reconcile.ferried import offered_first
from certferry.reconcile.others import without_claimed
from certferry.reconcile.remembered import (
    as_delivered,
    with_likely_bindings,
    with_remembered_remotes,
    with_what_was_sent,
)


def observe(desired: DesiredCertificate, doors: Doors, *, every_edge: bool = False) -> Observation:
    """Look at everything one lineage touches. Changes nothing.

    Edges are asked only where the target says that the current certificate is bound, or does not
    say what is, unless `every_edge` is set: elsewhere there is nothing to verify yet.
    """
    versions = offered_first(doors.state.versions(desired.lineage), desired)
    targets = tuple(
        _observe_target(desired, deployment, versions, doors, every_edge=every_edge)
        for deployment in desired.deployments
    )
    order = None if desired.files is not None else doors.state.order(desired.lineage)
    return Observation(
        versions,
        targets,
        None if order is None else order.created_at,
        doors.state.issue_tried_at(desired.lineage),
    )


def _observe_target(
    desired: DesiredCertificate,
    deployment: DesiredDeployment,
    versions: tuple[Version, ...],
    doors: Doors,
    *,
    every_edge: bool,
) -> ObservedTarget:
    if deployment.delivery is not None:
        receiver = doors.receiver(deployment.delivery)
        return _observe_receiver(receiver, desired.lineage, deployment, versions, doors)
    look = Look(
        lineage=desired.lineage,
        names=desired.names,
        domains=deployment.domains,
        kind=deployment.kind,
        known=[version.certificate for version in versions],
        others=deployment.retire is Retirement.ALL_UNUSED,
    )
    try:
        found = doors.targets[deployment.target].observe(look)
        found = without_claimed(found, desired.lineage, deployment.target, doors)
    except DeployError as error:
        return ObservedTarget(label=deployment.target, failure=error)
    found = with_what_was_sent(found, desired.lineage, deployment.target, doors)
    found = with_remembered_remotes(found, desired.lineage, deployment.target, versions, doors)
    found = _without_ceded(found, desired.lineage, deployment, doors)
    current = versions[0].certificate.fingerprint if versions else None
    served = _look_at_edges(found, current, doors, every_edge=every_edge)
    found = _with_marks_of_use(found, desired.lineage, deployment.target, doors)
    found = replace(found, label=deployment.target, served=served)
    return with_likely_bindings(found, doors)


def _without_ceded(
    found: ObservedTarget, lineage: str, deployment: DesiredDeployment, doors: Doors
) -> ObservedTarget:
    """Leave to other lineages what they have the better claim to."""
    claims = doors.claims
    owned = tuple(d for d in found.domains if claims.owns(lineage, deployment, d.domain, d.kind))
    owners = {
        claims.owner(deployment.target, d.domain, d.kind) for d in found.domains if d not in owned
    }
    return replace(found, domains=owned, ceded=tuple(sorted(filter(None, owners - {lineage}))))


def _with_marks_of_use(
    found: ObservedTarget, lineage: str, target: str, doors: Doors
) -> ObservedTarget:
    """Add what the store remembers of refused retirements."""
    if len(found.remotes) <= 1:  # the one in force is never retired
        return found
    uploads = doors.state.uploads(lineage, target)
    in_use = {upload.remote_id: upload.in_use_until for upload in uploads}
    remotes = tuple(
        replace(remote, in_use_until=in_use.get(remote.remote_id)) for remote in found.remotes
    )
    return replace(found, remotes=remotes)


def _look_at_edges(
    found: ObservedTarget, current: str | None, doors: Doors, *, every_edge: bool
) -> Mapping[str, tuple[Served, ...]]:
    return doors.probe.look(
        [
            domain.domain
            for domain in found.domains
            if every_edge
            or (
                current is not None
                and (domain.binding_hidden or found.fingerprint_of(domain.bound) == current)
            )
        ]
    )


def _observe_receiver(
    receiver: Receiver,
    lineage: str,
    deployment: DesiredDeployment,
    versions: tuple[Version, ...],
    doors: Doors,
) -> ObservedTarget:
    """Look at a receiver: what it holds counts as a copy when it is one of the lineage's."""
    found = _look_at_receiver(receiver, lineage, deployment, doors)
    held = [v.certificate for v in versions if v.certificate.fingerprint == found.bound]
    remotes = tuple(
        RemoteCertificate(
            certificate.fingerprint,
            mark(lineage, certificate.fingerprint),
            certificate.fingerprint,
            certificate.not_after,
        )
        for certificate in held
    )
    return ObservedTarget(label=deployment.target, domains=(found,), remotes=remotes)


def _look_at_receiver(
    receiver: Receiver, lineage: str, deployment: DesiredDeployment, doors: Doors
) -> ObservedDomain:
    (name,) = deployment.domains or ("",)
    last = doors.state.rollout(lineage, deployment.target, name)
    try:
        return replace(receiver.observe(as_delivered(last)), last=last)
    except DeployError as error:
        return ObservedDomain(name, deployment.kind, DomainState.UNAVAILABLE, problem=error)
