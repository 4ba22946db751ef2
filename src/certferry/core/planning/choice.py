"""Which of a target's domains a deployment is for: those that it names, and those that it finds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Protocol, TypeVar

from certferry.core.certificates.certificate import covered_by, first_of
from certferry.core.certificates.names import STAR, closeness, domain_of, is_glob, match_of, matches
from certferry.core.desired.certificate import DesiredCertificate, DesiredDeployment
from certferry.core.observed.observation import Observation, ObservedDomain, ObservedTarget
from certferry.core.observed.records import RolloutRecord
from certferry.core.planning.due import Times, wait_in_time, waiting_since
from certferry.core.planning.plan import Obstacle, Rollout
from certferry.core.planning.steps import Blocked, Verify
from certferry.core.reasons import Reason, ReasonCode
from certferry.core.waiting import Waiting
from certferry.errors import AllExcluded, CertferryError, TargetRejected
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
    if target.excluded and not target.domains and not target.owned_elsewhere:
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
    told_otherwise = (
        target.failure or target.is_owned_elsewhere or target.unmatched or target.excluded
    )
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


_UNREAD = Reason(ReasonCode.NOT_SEEN, Text("under way at a target that cannot be read now"))


def unreadable(
    deployment: DesiredDeployment,
    target: ObservedTarget,
    failure: CertferryError,
    times: Times | None,
) -> tuple[tuple[Rollout, ...], tuple[Obstacle, ...]]:
    """Look again for what is under way at a target that cannot be read, while there is time: it
    goes on without us.
    """
    obstacle = Obstacle(deployment.target, None, failure)
    if times is None or not target.in_progress:
        return (), (obstacle,)
    looks = [
        Verify(deployment.target, record.domain, _UNREAD, due=_due_unread(record, failure, times))
        for record in target.in_progress
    ]
    # What this run began is told at its domains; else the target itself stands in the way.
    begun_here = any(times.in_this_run(record.asked_at) for record in target.in_progress)
    rollouts = tuple(Rollout(look.target, look.domain, (look,), unread=True) for look in looks)
    return rollouts, () if begun_here else (obstacle,)


def unavailable(deployment: DesiredDeployment, domain: ObservedDomain) -> Obstacle:
    """Say why a domain cannot be changed now."""
    error = domain.problem or TargetRejected(
        Text(
            "{domain} cannot be changed now, and the target does not say why", domain=domain.domain
        )
    )
    return Obstacle(deployment.target, domain.domain, error)


def about_lineage(target: ObservedTarget, lineage: str) -> ObservedTarget:
    """Return a target with the lineage's name in the advice on its domains, where the adapter does
    not know it.
    """
    domains = (
        replace(one, problem=one.problem and one.problem.about(lineage)) for one in target.domains
    )
    return replace(target, domains=tuple(domains))


def _due_unread(record: RolloutRecord, error: CertferryError, times: Times) -> Waiting | Blocked:
    """Return when to look again for a change at a target that cannot be read."""
    if not error.retry.allowed:
        return Blocked(error)
    return wait_in_time(error, waiting_since(record, times), times)


AUTO = "auto"


class Selection(Protocol):
    """What a deployment says of the domains that it is for, as `desired.DesiredDeployment` has
    it.
    """

    @property
    def domains(self) -> tuple[str, ...] | None:
        """The domains that are named; `None` means all that are covered."""
        ...

    @property
    def globs(self) -> tuple[str, ...]:
        """What matches more of them."""
        ...

    @property
    def exclude(self) -> tuple[str, ...]:
        """What takes away from those that are not named."""
        ...


class CoveredSelection(Selection, Protocol):
    """The same, with the names of the certificate, as `ports.target.Look` has it."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the certificate."""
        ...


class Claim(Protocol):
    """What lays claim to domains by a deployment."""

    @property
    def deployment(self) -> DesiredDeployment:
        """The deployment."""
        ...


C = TypeVar("C", bound=Claim)


@dataclass(frozen=True, slots=True)
class Chosen:
    """Domains of a target that a deployment does not name: to be observed, and left out, since the
    file excludes them or the certificate does not cover them.
    """

    wanted: list[str] = field(default_factory=list)
    excluded: list[str] = field(default_factory=list)
    uncovered: list[str] = field(default_factory=list)


def searches(selection: Selection) -> bool:
    """Tell whether domains that are not named are wanted as well."""
    return selection.domains is None or bool(selection.globs)


def choose(selection: CoveredSelection, there: Iterable[str]) -> Chosen:
    """Choose among the domains of a target that take a certificate of their own, as certferry
    spells them. What is named is observed in any case, and not given here.
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


def is_found(selection: Selection, domain: str) -> bool:
    """Tell whether a covered domain is wanted that is not named."""
    found = found_by(selection, domain) is not None
    return found and match_of(selection.exclude, domain) is None


def closest(claims: Iterable[C], domain: str) -> C | None:
    """Give the first of the claims that find a covered domain by the longest glob."""
    finding = (claim for claim in claims if is_found(claim.deployment, domain))
    return max(finding, key=lambda claim: closeness(claim.deployment.globs, domain), default=None)


def found_by(selection: Selection, domain: str) -> str | None:
    """Give what stands under `domains` and finds a domain, whether or not it is excluded; `None`
    where the domain is named or is none of those meant.
    """
    if domain in (selection.domains or ()):
        return None
    return AUTO if selection.domains is None else match_of(selection.globs, domain)


def why_new(
    deployment: DesiredDeployment,
    target: ObservedTarget,
    domain: ObservedDomain,
    reason: Reason,
    times: Times,
) -> Reason:
    """Say which words of the file a domain is deployed to for that comes to others, which were seen
    served before this run. What is named needs no words.
    """
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
