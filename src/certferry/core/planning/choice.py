"""Which of a target's domains a deployment is for: those that it names, and those that it finds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile

from certferry.core.certificates.certificate import covered_by, first_of
from certferry.core.certificates.names import (
    STAR,
    match_of,
)
from certferry.core.desired.certificate import DesiredCertificate, DesiredDeployment
from certferry.core.observed.observation import Observation, ObservedDomain, ObservedTarget, Scope
from certferry.core.planning.due import Times
from certferry.core.planning.plan import PlanFinding, Weight
from certferry.core.reasons import Reason
from certferry.errors import AllExcluded, TargetRejected
from certferry.text import Text

AUTO = "auto"


Selection = Scope | DesiredDeployment
"""Which domains are wanted: named ones, all that are covered, or what matches."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Domains of a target that a deployment does not name: observed, excluded, or not covered."""

    wanted: list[str] = field(default_factory=list)
    excluded: list[str] = field(default_factory=list)
    uncovered: list[str] = field(default_factory=list)


def searches(selection: Selection) -> bool:
    """Return whether domains that are not named are wanted as well."""
    return selection.domains is None or bool(selection.globs)


def choose(selection: Scope, there: Iterable[str]) -> Chosen:
    """Choose among the domains of a target that take a certificate of their own, as certferry
    spells them. What is named is observed in any case, and not returned here.
    """
    chosen = Chosen()
    if not searches(selection):
        return chosen
    for domain in there:
        if not covered_by(selection.names, domain):
            chosen.uncovered.append(domain)
        elif found_by(selection, domain) is not None:
            is_excluded = match_of(selection.exclude, domain) is not None
            (chosen.excluded if is_excluded else chosen.wanted).append(domain)
    return chosen


def found_by(selection: Selection, domain: str) -> str | None:
    """Return the word under `domains` that finds a domain; `None` if named, or not found."""
    if domain in (selection.domains or ()):
        return None
    return AUTO if selection.domains is None else match_of(selection.globs, domain)


def is_found(selection: Selection, domain: str) -> bool:
    """Return whether a covered domain is wanted that is not named."""
    found = found_by(selection, domain) is not None
    return found and match_of(selection.exclude, domain) is None


def unmatched_globs(
    deployment: DesiredDeployment, target: ObservedTarget
) -> Iterator[tuple[str, TargetRejected]]:
    """Return each glob without a match, or `STAR` where `exclude` leaves no domain."""
    if not _may_match(target):
        yield from _without_match(deployment, target)
    if target.excluded and not target.domains and not target.owned_elsewhere:
        message = Text(
            "`exclude` excludes every domain of the account {target} that is covered: {domains}",
            target=deployment.target,
            domains=list(target.excluded),
        )
        hint = Text(
            "remove the domains that are to be served from `exclude`, or remove the deployment"
        )
        yield STAR, AllExcluded(message, hint=hint)


def _may_match(target: ObservedTarget) -> bool:
    """Return whether a glob may match what could not be read, beside what could."""
    return bool(target.unread and target.domains)


def _without_match(
    deployment: DesiredDeployment, target: ObservedTarget
) -> Iterator[tuple[str, TargetRejected]]:
    for glob in target.unmatched:
        if glob in deployment.globs:
            message = Text(
                "no domain of the account {target} that is online, and that the certificate covers,"
                " matches {glob}",
                target=deployment.target,
                glob=glob,
            )
            hint = Text(
                "correct it under `domains`, or add the domain at the target, or its name to the"
                " certificate; what is served under a wildcard domain takes that one's certificate:"
                " it is named as .example.com"
            )
            yield glob, TargetRejected(message, hint=hint)


def remarks(deployment: DesiredDeployment, target: ObservedTarget) -> Iterator[TargetRejected]:
    """Return which globs may match nothing, and which names `exclude` does not need."""
    if _may_match(target):
        yield from (error for _, error in _without_match(deployment, target))
    for name in target.unmatched:
        if name in deployment.exclude:
            yield TargetRejected(
                Text(
                    "`exclude` has {name}, but no domain of that name would be deployed to",
                    name=name,
                ),
                hint=Text("correct it, or take it out of `exclude`"),
            )


def left_out(observed: Observation) -> Iterator[PlanFinding]:
    """Return which domains are switched off at their target, and left out for that."""
    for target in observed.targets:
        for domain in target.left_out:
            if domain.problem is not None:
                said = Text(
                    "{problem}; it is left out, since `domains` does not name it",
                    problem=domain.problem.message,
                )
                error = TargetRejected(said)
                yield PlanFinding.of(Weight.SKIPPED, error, target.label, domain.domain)


def choice_findings(desired: DesiredCertificate, observed: Observation) -> Iterator[PlanFinding]:
    """Return what is unmatched, unread or switched off."""
    places = list(zip(desired.deployments, observed.targets, strict=True))
    for one, found in places:
        for _, error in unmatched_globs(one, found):
            yield PlanFinding.of(Weight.BLOCKED, error, one.target)
    for one, found in places:
        reported = found.failure or found.is_owned_elsewhere or found.unmatched or found.excluded
        if not (found.domains or reported):
            error = _no_domain(desired, one.target, found)
            yield PlanFinding.of(Weight.BLOCKED, error, one.target)
    for one, found in places:
        for error in remarks(one, found):
            yield PlanFinding.of(Weight.UNMATCHED, error, one.target)
    for target, unread in dict.fromkeys((t.label, e) for t in observed.targets for e in t.unread):
        yield PlanFinding.of(Weight.UNREAD, unread, target)
    yield from left_out(observed)


_MOST_LISTED = 5
"""Names and domains that a sentence lists."""


def _no_domain(desired: DesiredCertificate, target: str, found: ObservedTarget) -> TargetRejected:
    """Return the problem of an account that has no domain for the certificate, and which it has."""
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
        hint = Text("the account has no domain yet: add it at the target first")
        return TargetRejected(said, hint=hint)
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
    pairs = (zip(reversed(domain), reversed(name), strict=False) for name in names)
    return max(
        (sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], both)) for both in pairs),
        default=0,
    )


def why_new(
    deployment: DesiredDeployment,
    target: ObservedTarget,
    domain: ObservedDomain,
    reason: Reason,
    times: Times,
) -> Reason:
    """Add which pattern finds a domain that is new beside others that were seen served before."""
    seen = (other.last.verified_at for other in target.domains if other.last is not None)
    found = found_by(deployment, domain.domain)
    if found is None or all(moment is None or times.in_this_run(moment) for moment in seen):
        return reason
    sentence = Text(
        'new to this certificate, found by domains = "{pattern}"; {reason}',
        pattern=found,
        reason=reason.message,
    )
    return replace(reason, message=sentence)
