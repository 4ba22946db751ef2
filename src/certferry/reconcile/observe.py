"""Look at the store, the targets and the edges, and write down what is there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from certferry.core.desired import DesiredCertificate, DesiredDeployment
from certferry.core.lineage import Version
from certferry.core.observed import Observation, ObservedTarget, Served
from certferry.errors import DeployError
from certferry.ports.target import Look
from certferry.reconcile.doors import Doors
from certferry.reconcile.ferried import offered_first


def observe(desired: DesiredCertificate, doors: Doors, *, every_edge: bool = False) -> Observation:
    """Look at everything one lineage touches. Changes nothing.

    Edges are asked only where the target says that the current certificate is bound, unless
    `every_edge` is set: elsewhere there is nothing to verify yet.
    """
    versions = offered_first(doors.state.versions(desired.lineage), desired)
    targets = tuple(
        _observe_target(desired, deployment, versions, doors, every_edge=every_edge)
        for deployment in desired.deployments
    )
    return Observation(versions, targets)


def _observe_target(
    desired: DesiredCertificate,
    deployment: DesiredDeployment,
    versions: tuple[Version, ...],
    doors: Doors,
    *,
    every_edge: bool,
) -> ObservedTarget:
    look = Look(
        lineage=desired.lineage,
        names=desired.names,
        domains=deployment.domains,
        kind=deployment.kind,
        known=[version.certificate for version in versions],
    )
    try:
        found = doors.targets[deployment.target].observe(look)
    except DeployError as error:
        return ObservedTarget(label=deployment.target, failure=error)
    current = versions[0].certificate.fingerprint if versions else None
    return replace(
        _with_marks_of_use(found, desired.lineage, deployment.target, doors),
        label=deployment.target,
        served=_look_at_edges(found, current, doors, every_edge=every_edge),
    )


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
    return {
        domain.domain: doors.probe.look(domain.domain)
        for domain in found.domains
        if every_edge or (current is not None and found.fingerprint_of(domain.bound) == current)
    }
