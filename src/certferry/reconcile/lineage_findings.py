"""What a look at one lineage finds: its files, its version in force, its targets and domains."""

from __future__ import annotations

from collections.abc import Iterator

from certferry.core.desired import DesiredCertificate
from certferry.core.findings import Code, Finding, Severity, of_error, of_refusal, warning
from certferry.core.fitness import judge_at_target, judge_version
from certferry.core.observed import DomainState, Observation, ObservedTarget
from certferry.core.stuck import stuck_since
from certferry.errors import CertificateError, PlanRefused
from certferry.reconcile.doors import Doors
from certferry.reconcile.ferried import as_offered
from certferry.reconcile.observe import observe
from certferry.text import Text

_WEIGHTS = {
    DomainState.UNAVAILABLE: (Code.DOMAIN_UNUSABLE, Severity.ERROR),
    DomainState.FAILED: (Code.DOMAIN_FAILED, Severity.WARNING),
}


def look_at_lineage(desired: DesiredCertificate, doors: Doors) -> Iterator[Finding]:
    """Look at a lineage, as a plan does. Changes nothing. Raises `StateError`, `Interrupted`."""
    try:
        desired = as_offered(desired, doors)
    except (CertificateError, PlanRefused) as problem:
        yield of_error(Code.FILES_UNUSABLE, desired.lineage, problem)
        return
    observed = observe(desired, doors)
    if observed.current is not None:
        yield from judge_version(desired, observed.current, doors.now())
    for target in observed.targets:
        yield from _at_target(target)
        yield from _stuck(observed, target, doors)
        is_place = not any(domain.kind.is_receiver for domain in target.domains)
        if observed.current is not None and is_place and target.failure is None:
            yield from judge_at_target(desired, observed.current, target)


def _at_target(target: ObservedTarget) -> Iterator[Finding]:
    if target.failure is not None:
        yield of_refusal(target.label, target.failure)
    for unread in target.unread:
        yield of_error(Code.TARGET_UNREAD, target.label, unread, Severity.WARNING)
    for domain in target.domains:
        if domain.state in _WEIGHTS and domain.problem is not None:
            code, severity = _WEIGHTS[domain.state]
            yield of_error(code, domain.domain, domain.problem, severity)


def _stuck(observed: Observation, target: ObservedTarget, doors: Doors) -> Iterator[Finding]:
    fix = Text("ask its support to end it")
    if observed.current is not None:
        fix = Text("send its support the ticket that `certferry status` prints")
    for domain in target.domains:
        since = stuck_since(domain, doors.now(), doors.verify_timeout)
        if since is not None:
            message = Text(
                "{target} has not ended its change since {since}",
                target=target.label,
                since=since,
            )
            yield warning(Code.DOMAIN_STUCK, domain.domain, message, fix)
