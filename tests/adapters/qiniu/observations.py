"""Observations of domains of Qiniu's parts, and their results."""

from __future__ import annotations

from certferry.adapters.qiniu.target import Qiniu
from certferry.core.desired.certificate import Kind
from certferry.core.observed.observation import DomainState
from certferry.errors import DeployError
from certferry.ports.target import Scope

NAMES = ("*.example.com", "*.src.example.com")


def scope_of(*domains: str, kind: Kind = Kind.AUTO, names: tuple[str, ...] = NAMES) -> Scope:
    """Return the scope of these domains, or of every covered domain if none is given."""
    return Scope("img", names, domains or None, kind, ())


def usable_kinds(target: Qiniu, scope: Scope) -> dict[str, Kind]:
    """Return the kinds of the domains that an observation finds usable."""
    domains = target.observe(scope).domains
    assert {None} >= {domain.problem for domain in domains}
    return {domain.domain: domain.kind for domain in domains}


def problem_of(target: Qiniu, name: str, kind: Kind = Kind.AUTO) -> DeployError:
    """Return the problem of a domain, which must be unavailable."""
    [domain] = target.observe(scope_of(name, kind=kind)).domains
    assert DomainState.UNAVAILABLE is domain.state
    assert isinstance(domain.problem, DeployError)
    assert domain.problem.hint
    return domain.problem
