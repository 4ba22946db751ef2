"""Order certificates at one CA or several, adopt certificates, and remove challenge records."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from certferry import errors
from certferry.core.certificates.certificate import CertificateBundle, same_names
from certferry.core.certificates.names import is_within
from certferry.core.desired.certificate import Authority, DesiredCertificate
from certferry.core.discovery.proposal import must_have_zone
from certferry.core.events import Activity
from certferry.core.observed.observation import Observation
from certferry.core.planning.limits import in_order, may_pass_over, of_use
from certferry.core.planning.plan import Action, HeldUntil, Issue
from certferry.core.planning.report import Outcome, StepOutcome
from certferry.ports.dns import DnsProvider
from certferry.ports.issuer import Issuer, IssueRequest
from certferry.ports.survey import ZoneFinder, ZoneKeeper
from certferry.reconcile.run import Ports, StepContext
from certferry.text import Text
from certferry.values import replace

_SWEEPING = Text("removing challenge records left by an earlier run")

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class ZoneRouter:
    """A `DnsProvider` that writes each record through the DNS account with the name's zone."""

    #: Zones with their accounts, the longest zone first.
    accounts: Sequence[tuple[str, DnsProvider]]

    def at(self, name: str) -> DnsProvider:
        """Return the account that writes records for a name.

        A name outside all declared zones, such as the target of a CNAME, is looked for at the
        accounts. If no account certainly has the zone, return the first account that cannot tell.
        Raises `ZoneNotFound` if every account lacks the zone, and other errors of DNS.
        """
        for zone, account in self.accounts:
            if is_within(name, zone):
                return account
        missing: errors.ZoneNotFound | None = None
        silent: list[DnsProvider] = []
        for account in dict.fromkeys(account for _, account in self.accounts):
            try:
                if has_zone_for(name, account):
                    return account
                silent.append(account)
            except errors.ZoneNotFound as problem:
                missing = missing or problem
        if silent:
            return silent[0]
        raise missing or errors.ZoneNotFound(
            Text("the certificate has no account that writes {name}", name=name),
            hint=Text("set `dns` of the certificate to the account that has the zone"),
        )

    def add_txt(self, name: str, value: str) -> str:
        """See `ports.dns.DnsProvider.add_txt`."""
        return self.at(name).add_txt(name, value)

    def remove_txt(self, name: str, value: str, handle: str | None) -> bool:
        """See `ports.dns.DnsProvider.remove_txt`."""
        return self.at(name).remove_txt(name, value, handle)


def has_zone_for(name: str, account: DnsProvider) -> bool:
    """Return `True` if an account certainly has a zone for a name, `False` if the account cannot
    tell. Raises `ZoneNotFound` if the account lacks the zone, and other errors of DNS.
    """
    if isinstance(account, ZoneFinder):
        account.zone_of(name)
        return True
    if not isinstance(account, ZoneKeeper):
        return False
    must_have_zone(name, account.zones())
    return True


def provider_of(desired: DesiredCertificate, accounts: Mapping[str, DnsProvider]) -> DnsProvider:
    """Return the writer of a certificate's challenge records: the only declared account, or a
    `ZoneRouter` over several accounts.
    """
    if desired.dns:
        return accounts[desired.dns]
    return ZoneRouter([(zone, accounts[account]) for zone, account in desired.dns_zones])


def within_rate_limits(
    step: Issue, desired: DesiredCertificate, observed: Observation, issuer: Issuer, now: datetime
) -> Issue:
    """Return the order, limited to the CAs that accept the order now under their rate limits.

    If no CA of the order accepts, and the certificate in force cannot wait (`may_pass_over`), the
    other declared CAs are considered. If no CA accepts, return the order held until the first CA
    accepts again. Sends no request. Raises `StateError`.
    """
    free: list[Authority | None] = []
    holds: list[errors.OrderPostponed] = []

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
        ask([authority for authority in several if authority not in step.authorities])
    if not free:
        first = min(holds, key=_end)
        return replace(step, when=HeldUntil(_end(first), first))
    return replace(
        step, authorities=tuple(authority for authority in free if authority is not None)
    )


def _end(hold: errors.OrderPostponed) -> datetime:
    return hold.retry.after or datetime.max.replace(tzinfo=UTC)


def issue(step: Issue, context: StepContext) -> StepOutcome:
    """Order or adopt a certificate; store the result at once. Return the outcome: done, failed, or
    waiting for a moment set by a CA. Raises `LeaseLost`, `Interrupted` and `StateError`.
    """
    state, now = context.ports.state, context.ports.now
    lease = context.renew_lease()
    try:
        bundle, ca = _obtain(step, context)
        version = state.save_version(lease, bundle, now())
    except errors.CertferryError as error:
        rejected = isinstance(error, errors.CertificateRejected)
        by_ca = isinstance(error, errors.IssuanceError)
        state.save_issue_try(context.lineage, now(), failed=True, rejected=rejected, by_ca=by_ca)
        if rejected:  # in this order: a run killed in between still leaves the rejection stored
            state.drop_order(lease, issued_at=now())
        context.record(f"{step.action} failed", problem=error.lasting)
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
    """Return the certificate, and the name of the CA; `None` for files and for the default CA.

    The certificate comes from the declared files, or from the step's CAs, asked in turn until a CA
    issues. Raises `CertificateError`, `DnsError` and `StateError` at once, and `IssuanceError` with
    the messages of all CAs if every CA fails.
    """
    if context.desired.files is not None:
        return context.ports.source.read(context.desired.files), None
    if len(step.authorities) <= 1:
        authority = next(iter(step.authorities), None)
        return _ordered(step, context, authority), None if authority is None else authority.name
    stored = context.ports.state.order(context.lineage)
    failures: list[tuple[Authority, errors.IssuanceError]] = []
    for authority in in_order(step.authorities, None if stored is None else stored.directory):
        try:
            return _ordered(step, context, authority), authority.name
        except errors.IssuanceError as error:
            failures.append((authority, error))
            context.record("ca failed", ca=authority.name, problem=error.lasting)
    raise _all_failed(failures)


def _all_failed(failures: Sequence[tuple[Authority, errors.IssuanceError]]) -> errors.IssuanceError:
    (_, first), *others = failures
    message = first.message
    for authority, error in others:
        message = Text(
            "{before}; {ca}: {problem}", before=message, ca=authority.name, problem=error.message
        )
    # One failure gives the joined error its type, hint and retry. A rejected certificate comes
    # first, because a rejection stops orders at all CAs for a day. Next comes a failure without a
    # moment for the next try.
    rejected = (error for _, error in failures if isinstance(error, errors.CertificateRejected))
    wrong = (error for _, error in failures if not error.is_early)
    decisive = next(rejected, None) or next(wrong, first)
    return type(decisive)(message, hint=decisive.hint, retry=decisive.retry)


def _ordered(step: Issue, context: StepContext, authority: Authority | None) -> CertificateBundle:
    ports, desired, current = context.ports, context.desired, context.observed.current
    request = _request_of(step, desired, context.observed, authority)
    if request.exempt and current is not None:
        with suppress(errors.StateError):  # without the leaf, the order counts against the limits
            leaf = ports.state.bundle(context.lineage, current.number).cert_pem
            request = replace(request, replaced_pem=leaf)
    spoils = current is not None and current.revocation and current.revocation.spoils_key
    if desired.issuance.reuse_key and current is not None and current.key_matches and not spoils:
        key = ports.state.bundle(context.lineage, current.number).privkey_pem
        request = replace(request, reused_key=key)
    provider = provider_of(desired, ports.dns)
    return ports.issuer.issue(request, provider, context.renew_lease(), ports.progress)


def _request_of(
    step: Issue, desired: DesiredCertificate, observed: Observation, authority: Authority | None
) -> IssueRequest:
    """Return the request for a CA.

    An order counts as exempt from the CA's limits (RFC 9773 §5) if the order and the certificate in
    force share a name, and the certificate came from the same CA or an unknown CA. For the default
    CA (`authority` is `None`), certificates of every CA count.
    """
    names, directory = set(step.names), "" if authority is None else authority.directory
    own = [
        version
        for version in observed.versions
        if not directory or version.directory in {None, directory}
    ]
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


def sweep(lineage: str, accounts: Sequence[DnsProvider], ports: Ports) -> None:
    """Remove a lineage's challenge records. The removal may take a minute. Raises `DnsError`."""
    now = ports.now()
    ports.progress(Activity(lineage, _SWEEPING, now))
    ports.issuer.sweep(lineage, accounts, now)


def sweep_ownerless(certificates: Sequence[DesiredCertificate], ports: Ports) -> None:
    """Remove challenge records that killed runs left for lineages that no host issues any longer.
    Errors are only logged. A lineage with a lease held by another run is left out.
    """
    issued = {desired.lineage for desired in certificates} | ports.claims.lineages
    imported = {desired.lineage for desired in certificates if desired.files is not None}
    try:
        left = ports.state.lineages_in_challenge_records() if ports.dns else ()
        elsewhere = ports.state.declared_among(
            [lineage for lineage in left if lineage not in issued]
        )
    except errors.StateError as error:
        message = Text("certferry could not look for challenge records of earlier runs: {problem}")
        _log.warning(message.filled(problem=error.message))
        return
    kept = {*(issued - imported), *elsewhere, *ports.outdated}
    for lineage in left:
        if lineage in kept:
            continue
        try:
            with (
                suppress(errors.LeaseHeld),
                ports.lease(lineage),
            ):  # another run is at work on the lineage after all
                sweep(lineage, tuple(ports.dns.values()), ports)
        except (errors.CertferryError, errors.LeaseLost) as error:
            message = Text("{lineage}: an earlier run left a challenge record in DNS: {problem}")
            _log.warning(message.filled(lineage=lineage, problem=error.message))
