"""Which of a target's domains a deployment is for: those that it names, and those that it finds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

from certferry.core.certificate import covered_by
from certferry.core.desired import DesiredDeployment
from certferry.core.due import Times
from certferry.core.globs import closeness, match_of
from certferry.core.observed import ObservedDomain, ObservedTarget
from certferry.core.reasons import Reason
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
