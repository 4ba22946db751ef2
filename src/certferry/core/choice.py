"""Which of a target's domains a deployment is for: those that it names, and those that it finds.

Why a found domain is there, and what stands in `domains` and `exclude` in vain, is said here too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol

from certferry.core.desired import DesiredDeployment
from certferry.core.due import Times
from certferry.core.globs import STAR, domain_of, is_glob, match_of, matches
from certferry.core.identifiers import covered_by
from certferry.core.observed import ObservedDomain, ObservedTarget
from certferry.core.reasons import Reason
from certferry.errors import TargetRejected
from certferry.text import Text

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


@dataclass(frozen=True, slots=True)
class Chosen:
    """Domains of a target that a deployment does not name: to be observed, and left out."""

    wanted: list[str] = field(default_factory=list)
    excluded: list[str] = field(default_factory=list)


def searches(selection: Selection) -> bool:
    """Tell whether domains that are not named are wanted as well."""
    return selection.domains is None or bool(selection.globs)


def choose(selection: CoveredSelection, there: Iterable[str]) -> Chosen:
    """Choose among the domains of a target that take a certificate of their own, as certferry
    spells them. What is named is observed in any case, and not given here.
    """
    chosen = Chosen()
    for domain in there:
        if found_by(selection, domain) is not None and covered_by(selection.names, domain):
            is_excluded = match_of(selection.exclude, domain) is not None
            (chosen.excluded if is_excluded else chosen.wanted).append(domain)
    return chosen


def is_found(selection: Selection, domain: str) -> bool:
    """Tell whether a covered domain is wanted that is not named."""
    found = found_by(selection, domain) is not None
    return found and match_of(selection.exclude, domain) is None


def found_by(selection: Selection, domain: str) -> str | None:
    """Give what stands under `domains` and finds a domain, whether or not it is excluded; `None`
    where the domain is named or is none of those meant.
    """
    if domain in (selection.domains or ()):
        return None
    return AUTO if selection.domains is None else match_of(selection.globs, domain)


def with_unmatched(found: ObservedTarget, deployment: DesiredDeployment) -> ObservedTarget:
    """Add which patterns match nothing, before anything is left to another lineage. A name under
    `exclude` is one of them; a glob there may be for domains to come. While something could not be
    read at the target, a pattern may be for that.
    """
    if found.unread:
        return found
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
    for glob in target.unmatched:
        if glob in deployment.globs:
            yield (
                glob,
                TargetRejected(
                    Text(
                        "no domain of the account {target} that the certificate covers matches {glob}",
                        target=deployment.target,
                        glob=glob,
                    ),
                    hint=Text(
                        "correct it under `domains`, or add the domain at the target, or its name to"
                        " the certificate; what is served under a wildcard domain takes that one's"
                        " certificate: it is named as .example.com"
                    ),
                ),
            )
    if target.excluded and not target.domains and not target.ceded:
        yield (
            STAR,
            TargetRejected(
                Text(
                    "`exclude` takes away every domain of the account {target} that is covered:"
                    " {domains}",
                    target=deployment.target,
                    domains=list(target.excluded),
                ),
                hint=Text("take out of `exclude` what is to be served, or take the deployment out"),
            ),
        )


def remarks(deployment: DesiredDeployment, target: ObservedTarget) -> Iterator[TargetRejected]:
    """Say which names under `exclude` take nothing away: if one is misspelt, the domain that it
    means is deployed to.
    """
    for name in target.unmatched:
        if name in deployment.exclude:
            yield TargetRejected(
                Text(
                    "`exclude` has {name}, but no domain of that name would be deployed to",
                    name=name,
                ),
                hint=Text("correct it, or take it out of `exclude`"),
            )


def is_new(target: ObservedTarget, domain: ObservedDomain, times: Times) -> bool:
    """Tell whether a domain is deployed to for the first time, beside others of the deployment
    that were seen served before this run.
    """
    verified = (other.last.verified_at for other in target.domains if other.last is not None)
    return domain.last is None and any(
        moment is not None and not times.in_this_run(moment) for moment in verified
    )


def why_new(deployment: DesiredDeployment, domain: ObservedDomain, reason: Reason) -> Reason:
    """Say which words of the file a new domain is deployed to for, unless it is named."""
    found = found_by(deployment, domain.domain)
    if found is None:
        return reason
    sentence = Text(
        'new to this certificate, found by domains = "{pattern}"; {reason}',
        pattern=found,
        reason=reason.message,
    )
    return replace(reason, message=sentence)
