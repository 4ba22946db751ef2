"""Have a certificate issued, or adopt one: whether a CA may be asked now, what for, at which of
several CAs, and what is stored of the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from certferry.core.certificates.certificate import CertificateBundle, same_names
from certferry.core.certificates.lineage import Version
from certferry.core.desired.certificate import Authority, DesiredCertificate
from certferry.core.observed.observation import Observation
from certferry.core.planning.pauses import in_order, may_pass_over, of_use
from certferry.core.planning.report import Outcome, StepOutcome
from certferry.core.planning.steps import Action, HeldUntil, Issue
from certferry.core.secret import Secret
from certferry.errors import (
    CertferryError,
    CertificateRejected,
    IssuanceError,
    OrderHeldBack,
    StateError,
)
from certferry.ports.issuer import Issuer, IssueRequest
from certferry.reconcile.challenges import provider_of
from certferry.reconcile.run import StepContext
from certferry.text import Text


def rate_limit_hold(
    step: Issue, desired: DesiredCertificate, observed: Observation, issuer: Issuer, now: datetime
) -> Issue:
    """Return an order that is made now, as held until the CA may be asked; where there are
    several CAs, with those that may be asked now. The others that are desired are asked where
    waiting for the first would be too late.
    """
    free: list[Authority | None] = []
    holds: list[OrderHeldBack] = []

    def ask(authorities: Sequence[Authority | None]) -> None:
        for authority in authorities:
            hold = issuer.rate_limit_hold(_request_of(step, desired, observed, authority))
            if hold is None:
                free.append(authority)
            else:
                holds.append(hold)

    ask(step.authorities or (None,))
    several = desired.issuance.authorities
    if (
        not free
        and len(several) > 1
        and may_pass_over(of_use(observed), min(map(_end, holds)), now)
    ):
        ask([one for one in several if one not in step.authorities])
    if not free:
        first = min(holds, key=_end)
        return replace(step, due=HeldUntil(_end(first), first))
    return replace(step, authorities=tuple(one for one in free if one is not None))


def _end(hold: OrderHeldBack) -> datetime:
    return hold.retry.after or datetime.max.replace(tzinfo=UTC)


def issue(step: Issue, context: StepContext) -> StepOutcome:
    """Order or adopt a certificate, and store it at once, whatever happens next."""
    state, now = context.ports.state, context.ports.now
    lease = context.renew_lease()
    try:
        bundle, ca = _obtain(step, context)
        version = state.save_version(lease, bundle, now())
    except CertferryError as error:
        rejected = isinstance(error, CertificateRejected)
        by_ca = isinstance(error, IssuanceError)
        state.save_issue_try(context.lineage, now(), failed=True, rejected=rejected, by_ca=by_ca)
        if rejected:  # afterwards: killed in between, the next run still knows that it is held back
            state.drop_order(lease, issued_at=now())
        context.record(f"{step.action} failed", problem=str(error.lasting))
        outcome = Outcome.WAITING if error.is_early else Outcome.FAILED
        return StepOutcome.of(step.action, error.about(context.lineage), outcome)
    state.save_issue_try(context.lineage, now())
    certificate = version.certificate
    event = "issued" if step.action is Action.ISSUE else "adopted"
    at = {} if ca is None else {"ca": ca}
    context.record(event, fingerprint=certificate.fingerprint, issuer=certificate.issuer, **at)
    detail = Text("valid until {moment}", moment=certificate.not_after)
    return StepOutcome(step.action, Outcome.DONE, detail)


def _obtain(step: Issue, context: StepContext) -> tuple[CertificateBundle, str | None]:
    """Return the certificate, and the name of the CA that gave it, where that has one. One CA is
    asked after the other; raises one error of all where each has failed.
    """
    if context.desired.files is not None:
        return context.ports.source.read(context.desired.files), None
    if len(step.authorities) <= 1:
        authority = next(iter(step.authorities), None)
        return _ordered(step, context, authority), None if authority is None else authority.name
    stored = context.ports.state.order(context.lineage)
    failures: list[tuple[Authority, IssuanceError]] = []
    for authority in in_order(step.authorities, None if stored is None else stored.directory):
        try:
            return _ordered(step, context, authority), authority.name
        except IssuanceError as error:
            failures.append((authority, error))
            context.record("ca failed", ca=authority.name, problem=str(error.lasting))
    raise _all_failed(failures)


def _all_failed(failures: Sequence[tuple[Authority, IssuanceError]]) -> IssuanceError:
    (_, first), *others = failures
    message = first.message
    for authority, error in others:
        message = Text(
            "{before}; {ca}: {problem}", before=message, ca=authority.name, problem=error.message
        )
    # After a certificate that was not ordered nothing is ordered for a day, whichever CA gave it.
    # That one CA may be asked again later does not excuse what is wrong at another.
    rejected = (error for _, error in failures if isinstance(error, CertificateRejected))
    wrong = (error for _, error in failures if not error.is_early)
    decisive = next(rejected, None) or next(wrong, first)
    return type(decisive)(message, hint=decisive.hint, retry=decisive.retry)


def _ordered(step: Issue, context: StepContext, authority: Authority | None) -> CertificateBundle:
    ports, desired, current = context.ports, context.desired, context.observed.current
    request = _request_of(step, desired, context.observed, authority)
    if request.exempt and current is not None:
        request = replace(request, replaced_pem=_leaf_of(current, context))
    if desired.issuance.reuse_key:
        request = replace(request, reused_key=_reused_key(context))
    provider = ports.dns[desired.dns] if desired.dns else provider_of(desired, ports.dns)
    return ports.issuer.issue(request, provider, context.renew_lease(), ports.progress)


def _leaf_of(version: Version, context: StepContext) -> str | None:
    """Return the leaf that is replaced. One that cannot be read is replaced all the same."""
    try:
        return context.ports.state.bundle(context.lineage, version.number).cert_pem
    except StateError:
        return None


def _reused_key(context: StepContext) -> Secret | None:
    """Return the key of the certificate in force, where it may be used again."""
    current = context.observed.current
    if current is None or not current.key_matches:
        return None
    if current.revocation is not None and current.revocation.spoils_key:
        return None
    return context.ports.state.bundle(context.lineage, current.number).privkey_pem


def _request_of(
    step: Issue, desired: DesiredCertificate, observed: Observation, authority: Authority | None
) -> IssueRequest:
    """Return what a CA is asked for. A leaf of its own that shares a name is replaced (RFC 9773
    §5); what other CAs have issued, it does not know.
    """
    names, directory = set(step.names), "" if authority is None else authority.directory
    own = [one for one in observed.versions if not directory or one.directory in {None, directory}]
    current = observed.current
    return IssueRequest(
        lineage=desired.lineage,
        names=step.names,
        key_type=step.key_type,
        profiles=desired.issuance.profiles,
        directory=directory,
        dns=",".join(desired.dns_accounts),
        renews=any(same_names(version.certificate.names, names) for version in own),
        exempt=any(
            version == current and names & set(version.certificate.names) for version in own
        ),
    )
