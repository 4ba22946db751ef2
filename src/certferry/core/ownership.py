"""Who serves a domain that several certificates cover.

Without an owner two lineages would bind it in turns for ever, each seeing the other's certificate
as a stranger's. A domain that is named belongs to whoever names it; of those that take what they
cover, an exact name comes before a wildcard, and what is declared first before what comes later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from certferry.core import identifiers
from certferry.core.desired import Claim, DesiredCertificate, DesiredDeployment

_NAMED, _EXACT, _COVERED, _NONE = 3, 2, 1, 0


def with_rivals(wishes: Sequence[DesiredCertificate]) -> tuple[DesiredCertificate, ...]:
    """Tell every deployment that takes what it covers what the other lineages lay claim to."""
    return tuple(
        replace(
            wish,
            deployments=tuple(
                replace(deployment, rivals=_rivals(number, deployment, wishes))
                for deployment in wish.deployments
            ),
        )
        for number, wish in enumerate(wishes)
    )


def _rivals(
    number: int, deployment: DesiredDeployment, wishes: Sequence[DesiredCertificate]
) -> tuple[Claim, ...]:
    if deployment.domains is not None:
        return ()
    return tuple(
        Claim(wish.names, other.domains, earlier=position < number)
        for position, wish in enumerate(wishes)
        for other in wish.deployments
        if position != number and other.target == deployment.target
    )


def owns(deployment: DesiredDeployment, names: tuple[str, ...], domain: str) -> bool:
    """Tell whether a deployment of a certificate for these names is the one to serve the domain."""
    mine = _strength(deployment.domains, names, domain)
    return all(not _is_stronger(rival, mine, domain) for rival in deployment.rivals)


def _is_stronger(rival: Claim, mine: int, domain: str) -> bool:
    theirs = _strength(rival.domains, rival.names, domain)
    return theirs > mine or (rival.earlier and theirs == mine)


def _strength(domains: tuple[str, ...] | None, names: tuple[str, ...], domain: str) -> int:
    if domains is not None:
        return _NAMED if domain in domains else _NONE
    if domain in names:
        return _EXACT
    return _COVERED if identifiers.covered_by(names, domain) else _NONE
