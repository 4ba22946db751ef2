"""Looks at the domains of Qiniu's other parts in tests, and what they find."""

from __future__ import annotations

from certferry.adapters.qiniu.target import Qiniu
from certferry.core.desired.certificate import Kind
from certferry.core.observed.observation import DomainState
from certferry.errors import DeployError
from certferry.ports.target import Scope

NAMES = ("*.example.com", "*.src.example.com")


def look(*domains: str, kind: Kind = Kind.AUTO, names: tuple[str, ...] = NAMES) -> Scope:
    """Observe these domains, or at every covered one when none is named."""
    return Scope("img", names, domains or None, kind, ())


def found(target: Qiniu, what: Scope) -> dict[str, Kind]:
    """Return the domains that a look finds usable, and what they are."""
    domains = target.observe(what).domains
    assert {None} >= {domain.problem for domain in domains}
    return {domain.domain: domain.kind for domain in domains}


def problem_of(target: Qiniu, name: str, kind: Kind = Kind.AUTO) -> DeployError:
    """Return what is wrong with a domain, which must be unavailable for it."""
    [domain] = target.observe(look(name, kind=kind)).domains
    assert DomainState.UNAVAILABLE is domain.state
    assert isinstance(domain.problem, DeployError)
    assert domain.problem.hint
    return domain.problem
