"""Challenge records: which account writes those of a certificate, and what earlier runs left."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from certferry.core.certificates.names import is_within
from certferry.core.desired.certificate import DesiredCertificate
from certferry.core.discovery.proposal import must_have_zone
from certferry.core.events import Activity
from certferry.core.observed.observation import Observation
from certferry.core.planning.report import Outcome, StepOutcome
from certferry.core.planning.steps import Clean
from certferry.errors import CertferryError, LeaseHeld, ZoneNotFound
from certferry.ports.dns import DnsProvider
from certferry.ports.survey import ZoneFinder, ZoneKeeper
from certferry.reconcile.run import Ports, StepContext
from certferry.text import Text

_SWEEPING = Text("removing challenge records that an earlier run left")

_log = logging.getLogger(__name__)


class ZoneRouter:
    """A `ports.dns.SharedOut` of zones, the longest first, each with its account."""

    def __init__(self, accounts: Sequence[tuple[str, DnsProvider]]) -> None:
        self._accounts = accounts

    def at(self, name: str) -> DnsProvider:
        """See `ports.dns.SharedOut.at`.

        A name that is in none of the zones is where a CNAME has led to: then the accounts are
        asked whose it is. One that cannot tell which zones it has, comes last.
        """
        for zone, account in self._accounts:
            if is_within(name, zone):
                return account
        missing: ZoneNotFound | None = None
        silent: list[DnsProvider] = []
        for account in dict.fromkeys(account for _, account in self._accounts):
            try:
                if has_zone_for(name, account):
                    return account
                silent.append(account)
            except ZoneNotFound as problem:
                missing = missing or problem
        if silent:
            return silent[0]
        raise missing or ZoneNotFound(
            Text("the certificate names no account that writes {name}", name=name),
            hint=Text("name the account that has the zone as `dns` of the certificate"),
        )

    def add_txt(self, name: str, value: str) -> str:
        """See `ports.dns.DnsProvider.add_txt`."""
        return self.at(name).add_txt(name, value)

    def remove_txt(self, name: str, value: str, handle: str | None) -> bool:
        """See `ports.dns.DnsProvider.remove_txt`."""
        return self.at(name).remove_txt(name, value, handle)


def has_zone_for(name: str, account: DnsProvider) -> bool:
    """Return whether an account says that it has a zone for a name; `False` where it cannot tell.
    Raises `ZoneNotFound` where it has none, and `DnsError`.
    """
    if isinstance(account, ZoneFinder):
        account.zone_of(name)
        return True
    if not isinstance(account, ZoneKeeper):
        return False
    must_have_zone(name, account.zones())
    return True


def provider_of(desired: DesiredCertificate, accounts: Mapping[str, DnsProvider]) -> DnsProvider:
    """Return what writes the challenge records of a certificate: one account, several, or none."""
    if desired.dns:
        return accounts[desired.dns]
    return ZoneRouter([(zone, accounts[account]) for zone, account in desired.dns_zones])


def clean(step: Clean, context: StepContext) -> StepOutcome:
    """Remove challenge records that an earlier run left."""
    result = StepOutcome(step.action, Outcome.DONE, Text("challenge records are removed"))
    context.renew_lease()
    try:
        provider = provider_of(context.desired, context.ports.dns)
        _sweep(context.lineage, [provider], context.ports)
    except CertferryError as error:
        return result.with_error(error)
    return result


def _sweep(lineage: str, accounts: Sequence[DnsProvider], ports: Ports) -> None:
    """Remove the challenge records of a lineage, and report it as an activity: one that may still
    turn up is looked for until it would have, which takes a minute. Raises `DnsError`.
    """
    now = ports.now()
    ports.progress(Activity(lineage, _SWEEPING, now))
    ports.issuer.sweep(lineage, accounts, now)


def without_order(observed: Observation, lineage: str, ports: Ports) -> Observation:
    """Forget an order for names no longer declared, as after a slip that was corrected."""
    with ports.lease(lineage) as lease:
        ports.state.drop_order(lease)
    return replace(observed, remembered=replace(observed.remembered, ordered=None))


def sweep_ownerless(
    lineages: Sequence[str], certificates: Sequence[DesiredCertificate], ports: Ports
) -> None:
    """Remove the challenge records that killed runs left of those `lineages` that are not issued
    here any more: they are declared under another name, or with files, or not at all. Every account
    of the run is tried: which of them wrote the records is not known any more.

    An error is only logged: nothing that is declared depends on it. Raises `Interrupted`.
    """
    issued = {desired.lineage for desired in certificates} | ports.claims.lineages
    issued -= {desired.lineage for desired in certificates if desired.files is not None}
    for lineage in lineages if ports.dns else ():
        if lineage in issued:
            continue
        try:
            with (
                suppress(LeaseHeld),
                ports.lease(lineage),
            ):  # another run is at work on it after all
                _sweep(lineage, tuple(ports.dns.values()), ports)
        except CertferryError as error:
            _log.warning(
                Text(
                    "{lineage}: a challenge record of an earlier run is left in DNS: {problem}",
                    lineage=lineage,
                    problem=error.message,
                )
            )
