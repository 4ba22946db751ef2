"""Deployments that are for no domain of the target, and patterns under `domains` and `exclude` that
match nothing there, or what is switched off.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import takewhile

from certferry.core.abbreviations import first_of
from certferry.core.desired import DesiredCertificate, DesiredDeployment
from certferry.core.globs import STAR, domain_of, is_glob, matches
from certferry.core.observed import Observation, ObservedTarget
from certferry.core.plan import Obstacle
from certferry.errors import AllExcluded, TargetRejected
from certferry.text import Text


def with_unmatched(found: ObservedTarget, deployment: DesiredDeployment) -> ObservedTarget:
    """Add which patterns match nothing, before anything is left to another lineage. A name under
    `exclude` is one of them; a glob there may be for domains to come.
    """
    there = [*(domain.domain for domain in found.domains), *found.excluded]
    globs = (glob for glob in deployment.globs if not any(matches(glob, d) for d in there))
    names = (
        pattern
        for pattern in deployment.exclude
        if not is_glob(pattern) and domain_of(pattern) not in found.excluded
    )
    return replace(found, unmatched=(*globs, *names))


def obstacles(
    deployment: DesiredDeployment, target: ObservedTarget
) -> Iterator[tuple[str, TargetRejected]]:
    """Say of each glob that it brings nothing, or of all domains (`STAR`) that none is left."""
    if not _may_be_meant(target):
        yield from _in_vain(deployment, target)
    if target.excluded and not target.domains and not target.ceded:
        yield STAR, _nothing_left(deployment.target, target.excluded)


def _may_be_meant(target: ObservedTarget) -> bool:
    """Tell whether a glob may be for what could not be read, beside what could."""
    return bool(target.unread and target.domains)


def _in_vain(
    deployment: DesiredDeployment, target: ObservedTarget
) -> Iterator[tuple[str, TargetRejected]]:
    for glob in target.unmatched:
        if glob in deployment.globs:
            yield glob, _matches_nothing(deployment.target, glob)


def _matches_nothing(target: str, glob: str) -> TargetRejected:
    return TargetRejected(
        Text(
            "no domain of the account {target} that is online, and that the certificate covers,"
            " matches {glob}",
            target=target,
            glob=glob,
        ),
        hint=Text(
            "correct it under `domains`, or add the domain at the target, or its name to the"
            " certificate; what is served under a wildcard domain takes that one's certificate:"
            " it is named as .example.com"
        ),
    )


def _nothing_left(target: str, excluded: Sequence[str]) -> AllExcluded:
    return AllExcluded(
        Text(
            "`exclude` excludes every domain of the account {target} that is covered: {domains}",
            target=target,
            domains=list(excluded),
        ),
        hint=Text(
            "remove the domains that are to be served from `exclude`, or remove the deployment"
        ),
    )


def remarks(deployment: DesiredDeployment, target: ObservedTarget) -> Iterator[TargetRejected]:
    """Say which globs may bring nothing, and which names under `exclude` take nothing away: if one
    is misspelt, the domain that it means is deployed to.
    """
    if _may_be_meant(target):
        yield from (error for _, error in _in_vain(deployment, target))
    for name in target.unmatched:
        if name in deployment.exclude:
            yield TargetRejected(
                Text(
                    "`exclude` has {name}, but no domain of that name would be deployed to",
                    name=name,
                ),
                hint=Text("correct it, or take it out of `exclude`"),
            )


def left_out(observed: Observation) -> Iterator[Obstacle]:
    """Say which domains are left out since they are switched off at their target: most are meant
    to be, and one that is not is soon missed.
    """
    for target in observed.targets:
        for domain in target.left_out:
            if domain.problem is not None:
                said = Text(
                    "{problem}; it is left out, since `domains` does not name it",
                    problem=domain.problem.message,
                )
                yield Obstacle(target.label, domain.domain, TargetRejected(said))


def told(
    desired: DesiredCertificate, observed: Observation
) -> tuple[tuple[Obstacle, ...], tuple[Obstacle, ...]]:
    """Give what a plan tells of it: the obstacles, and the remarks."""
    places = list(zip(desired.deployments, observed.targets, strict=True))
    return (
        (
            *(_at(one, error) for one, found in places for _, error in obstacles(one, found)),
            *(
                _at(one, nothing(desired, one.target, found))
                for one, found in places
                if _is_for_nothing(found)
            ),
        ),
        tuple(_at(one, error) for one, found in places for error in remarks(one, found)),
    )


def _is_for_nothing(target: ObservedTarget) -> bool:
    """Tell whether the target has nothing for the certificate, and nothing else says why."""
    told_otherwise = target.failure or target.is_ceded or target.unmatched or target.excluded
    return not (target.domains or told_otherwise)


def nothing(desired: DesiredCertificate, target: str, found: ObservedTarget) -> TargetRejected:
    """Say that the account has no domain for the certificate, and which it has."""
    names = first_of(desired.names, _MOST_LISTED)
    if found.left_out:
        return TargetRejected(
            Text(
                "no domain of the account {target} that is covered by {names} is online",
                target=target,
                names=names,
            ),
            hint=Text("bring it online at the target, or take the deployment away"),
        )
    said = Text(
        "no domain of the account {target} is covered by {names}", target=target, names=names
    )
    if not found.uncovered:
        return TargetRejected(said, hint=_ADD_FIRST)
    nearest = sorted(found.uncovered, key=lambda there: (-_likeness(there, desired.names), there))
    hint = Text(
        "the account has {domains}: correct `names`, or add the domain at the target; `certferry"
        " doctor {lineage}` also looks for the zones of {names} in the DNS account",
        domains=first_of(nearest, _MOST_LISTED),
        lineage=desired.lineage,
        names=names,
    )
    return TargetRejected(said, hint=hint)


def _likeness(domain: str, names: Sequence[str]) -> int:
    """Count the characters at the end that a domain has in common with a name."""
    return max((_same_at_the_end(domain, name) for name in names), default=0)


def _same_at_the_end(one: str, other: str) -> int:
    pairs = zip(reversed(one), reversed(other), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


_MOST_LISTED = 5
"""Names and domains that a sentence lists."""

_ADD_FIRST = Text("the account has no domain yet: add it at the target first")


def _at(deployment: DesiredDeployment, error: TargetRejected) -> Obstacle:
    return Obstacle(deployment.target, None, error)
