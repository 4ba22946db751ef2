"""What a look at one account finds: its clock, its keys, and the domains deployed to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import cast

from certferry.core.certificate import covered_by
from certferry.core.choice import is_found
from certferry.core.clock_skew import judge_clock
from certferry.core.desired import DesiredCertificate
from certferry.core.findings import Finding
from certferry.ports.examination import Examined, PointedAt, Timed


def look_at_account(label: str, door: object) -> Iterator[Finding]:
    """Look at an account as far as its adapter can. The clock comes first: it is to be set before
    keys are blamed. Raises `CertferryError`.
    """
    if hasattr(door, "clock_ahead"):
        yield from look_at_clock(label, cast("Timed", door).clock_ahead())
    if hasattr(door, "examine"):
        yield from cast("Examined", door).examine(label)


def look_at_clock(subject: str, ahead: timedelta | None) -> Iterator[Finding]:
    """Judge the clock by how far a service's is ahead; one that does not tell says nothing."""
    found = None if ahead is None else judge_clock(subject, subject, ahead)
    yield from () if found is None else (found,)


def cnames_of(label: str, door: object, wishes: Sequence[DesiredCertificate]) -> Mapping[str, str]:
    """Give the CNAMEs of the domains at an account that certificates are deployed to. Raises
    `DeployError`.
    """
    if not hasattr(door, "cnames"):
        return {}
    cnames = cast("PointedAt", door).cnames()
    return {
        domain: cname for domain, cname in cnames.items() if _is_deployed_to(label, domain, wishes)
    }


def ordered_names(wishes: Iterable[DesiredCertificate]) -> list[str]:
    """Give the names that are proven."""
    return [name for wish in wishes if wish.files is None for name in wish.names]


def _is_deployed_to(label: str, domain: str, wishes: Sequence[DesiredCertificate]) -> bool:
    """Tell whether a domain is named, or found among those that a certificate covers."""
    return any(
        domain in (deployment.domains or ())
        or (covered_by(wish.names, domain) and is_found(deployment, domain))
        for wish in wishes
        for deployment in wish.deployments
        if deployment.target == label
    )
