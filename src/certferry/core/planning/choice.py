"""The domains of a target that a deployment serves: named domains, and domains found by pattern."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile

from msgspec import Struct, field

from certferry.core.certificates.certificate import covered_by, first_of
from certferry.core.certificates.names import STAR, match_of
from certferry.core.desired.certificate import DesiredCertificate, DesiredDeployment, Kind
from certferry.core.observed.observation import Observation, ObservedDomain, ObservedTarget, Scope
from certferry.core.planning.plan import PlanFinding, Weight
from certferry.core.planning.timing import Times
from certferry.core.reasons import Reason
from certferry.errors import AllExcluded, TargetRejected
from certferry.text import Text
from certferry.values import replace

AUTO = "auto"

Selection = Scope | DesiredDeployment
"""A value that says which domains to serve: named domains, all covered domains, or domains found by
patterns.
"""


class Chosen(Struct, frozen=True):
    """The domains of a target that a deployment finds by pattern or by `auto`, and does not
    name.
    """

    wanted: list[str] = field(default_factory=list)  #: The domains to serve.
    excluded: list[str] = field(default_factory=list)  #: Removed by the setting `exclude`.
    uncovered: list[str] = field(default_factory=list)  #: Outside the certificate's names.


def searches(selection: Selection) -> bool:
    """Return whether the selection finds further domains, besides the named domains."""
    return selection.domains is None or bool(selection.globs)


def choose(selection: Scope, there: Iterable[str]) -> Chosen:
    """Return the choice among the domains that are `there` at a target. The choice is empty if the
    deployment only names domains. Named domains that the certificate covers are left out, because a
    run observes named domains in any case.
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
    """Return the pattern under `domains` that finds a domain (`AUTO` without a pattern). Return
    `None` if the domain is named, or not found.
    """
    if domain in (selection.domains or ()):
        return None
    return AUTO if selection.domains is None else match_of(selection.globs, domain)


def is_found(selection: Selection, domain: str) -> bool:
    """Return whether the selection finds a covered domain by a pattern or by `auto`, and does not
    exclude the domain. Return false for a named domain.
    """
    is_matched = found_by(selection, domain) is not None
    return is_matched and match_of(selection.exclude, domain) is None


def unmatched_globs(
    deployment: DesiredDeployment, target: ObservedTarget
) -> Iterator[tuple[str, TargetRejected]]:
    """Yield each glob without a match, and `STAR` if `exclude` removes every domain, each with the
    error. Globs that may match a domain in an unread part of the target are left to `remarks`.
    """
    if not _may_match(target):
        yield from _without_match(deployment, target)
    if target.excluded and not target.domains and not target.owned_elsewhere:
        message = Text(
            "`exclude` excludes every covered domain of the account {target}: {domains}"
        ).filled(target=deployment.target, domains=list(target.excluded))
        hint = Text(
            "remove the domains that should be served from `exclude`, or remove the deployment"
        )
        yield STAR, AllExcluded(message, hint=hint)


def _may_match(target: ObservedTarget) -> bool:
    """Return whether a glob may match a domain in an unread part. If no domain at all was read,
    return false.
    """
    return bool(target.unread and target.domains)


def _without_match(
    deployment: DesiredDeployment, target: ObservedTarget
) -> Iterator[tuple[str, TargetRejected]]:
    for glob in target.unmatched:
        if glob in deployment.globs:
            message = Text(
                "{glob} matches no online domain of the account {target} that the certificate"
                " covers",
                target=deployment.target,
                glob=glob,
            )
            hint = Text(
                "correct the pattern under `domains`, or add the domain at the target, or its"
                " name to the certificate; a domain below a wildcard domain uses the wildcard"
                " domain's certificate: write .example.com"
            )
            yield glob, TargetRejected(message, hint=hint)


def remarks(deployment: DesiredDeployment, target: ObservedTarget) -> Iterator[TargetRejected]:
    """Yield an error for each glob without a match in the parts that were read, if other parts are
    unread. Also yield an error for each superfluous name in `exclude`.
    """
    if _may_match(target):
        yield from (error for _, error in _without_match(deployment, target))
    for name in target.unmatched:
        if name in deployment.exclude:
            yield TargetRejected(
                Text(
                    "`exclude` lists {name}, which the deployment would not contain anyway",
                    name=name,
                ),
                hint=Text("correct the name, or remove it from `exclude`"),
            )


def left_out(observed: Observation) -> Iterator[PlanFinding]:
    """Yield a finding for each domain left out because the domain is switched off at the target."""
    for target in observed.targets:
        for domain in target.left_out:
            if domain.problem is not None:
                message = Text(
                    "{problem}; the domain is left out, since `domains` does not list it",
                    problem=domain.problem.message,
                )
                error = TargetRejected(message)
                yield PlanFinding.of(Weight.SKIPPED, error, target.label, domain.domain)


def choice_findings(desired: DesiredCertificate, observed: Observation) -> Iterator[PlanFinding]:
    """Yield findings about unmatched patterns, accounts without a domain for the certificate,
    unread parts and switched-off domains.
    """
    places = list(zip(desired.deployments, observed.targets, strict=True))
    for deployment, target in places:
        for _, error in unmatched_globs(deployment, target):
            yield PlanFinding.of(Weight.BLOCKED, error, deployment.target)
    for deployment, target in places:
        explained = (
            target.failure or target.is_owned_elsewhere or target.unmatched or target.excluded
        )
        if not (target.domains or explained):
            error = _no_domain(desired, deployment, target)
            yield PlanFinding.of(Weight.BLOCKED, error, deployment.target)
    for deployment, target in places:
        for error in remarks(deployment, target):
            yield PlanFinding.of(Weight.UNMATCHED, error, deployment.target)
    for label, unread in dict.fromkeys((t.label, e) for t in observed.targets for e in t.unread):
        yield PlanFinding.of(Weight.UNREAD, unread, label)
    yield from left_out(observed)


_MOST_LISTED = 5
"""The most names or domains listed in a sentence."""


def _no_domain(
    desired: DesiredCertificate, deployment: DesiredDeployment, target: ObservedTarget
) -> TargetRejected:
    """Return the problem of an account without a domain for the certificate, with the account's
    most similar domains. If the deployment has a `kind`, other kinds are unread.
    """
    account, names = deployment.target, first_of(desired.names, _MOST_LISTED)
    if target.left_out:
        return TargetRejected(
            Text("no domain of the account {target} covered by {names} is online").filled(
                target=account, names=names
            ),
            hint=Text("bring the domain online at the target, or remove the deployment"),
        )
    message = Text(
        "no domain of the account {target} is covered by {names}", target=account, names=names
    )
    if not target.uncovered:
        hint = Text("the account has no domain yet: add it at the target first")
        return TargetRejected(message, hint=_beside_kind(hint, deployment))
    nearest = sorted(target.uncovered, key=lambda there: (-_likeness(there, desired.names), there))
    hint = Text(
        "the account has {domains}: correct `names`, or add the domain at the target; `certferry"
        " doctor {lineage}` also looks for the zones of {names} in the DNS account",
        domains=first_of(nearest, _MOST_LISTED),
        lineage=desired.lineage,
        names=names,
    )
    return TargetRejected(message, hint=_beside_kind(hint, deployment))


def _beside_kind(hint: Text, deployment: DesiredDeployment) -> Text:
    """Return the hint on a missing domain, with a remark if the deployment has a `kind`: then the
    observation lacks domains of other kinds.
    """
    if deployment.kind == Kind.AUTO:
        return hint
    return Text(
        '{advice}; or remove kind = "{kind}", which leaves domains of other kinds out',
        advice=hint,
        kind=deployment.kind.value,
    )


def _likeness(domain: str, names: Sequence[str]) -> int:
    """Return the length, in characters, of the longest suffix that a domain shares with a name."""
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
    """Return the reason to deploy to a domain without a rollout record. If the deployment has
    served another domain since before this run, the domain is new, so the reason also names the
    pattern that found the domain.
    """
    seen = (other.last.verified_at for other in target.domains if other.last is not None)
    pattern = found_by(deployment, domain.domain)
    if pattern is None or all(moment is None or times.in_this_run(moment) for moment in seen):
        return reason
    sentence = Text('new to the certificate, found by domains = "{pattern}"; {reason}').filled(
        pattern=pattern, reason=reason.message
    )
    return replace(reason, message=sentence)
