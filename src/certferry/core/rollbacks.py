"""Going back to the previous certificate at one domain: which version a domain is to serve, and
when edges that refuse a new certificate are reason enough.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from certferry.core import renewal
from certferry.core.desired import DesiredDeployment, OnFailure
from certferry.core.lineage import Version
from certferry.core.observed import DomainState, Observation, ObservedDomain, ObservedTarget, Served
from certferry.core.plan import Rollback
from certferry.core.reasons import Reason, ReasonCode
from certferry.core.rollout import RolloutRecord
from certferry.text import Text

NEXT_TRY = timedelta(days=3)
"""How long after a certificate that was withdrawn the next one is issued, when the one that is
served nears its end: a CA issues five a week for the same names (Let's Encrypt's "Rate Limits").
"""

CONFIRMED_AFTER = timedelta(minutes=2)
"""How long edges must have refused a certificate before it is withdrawn: a node that restarts
refuses connections for a moment.
"""

BACK = Reason(
    ReasonCode.ROLLED_BACK,
    Text("back to the previous certificate: the newer one was withdrawn here"),
)


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """A certificate that is not to be bound to a domain again, since when, and whether an operator
    asked for it.
    """

    lineage: str
    target: str
    domain: str
    fingerprint: str
    at: datetime
    by_hand: bool = False


def version_for(
    withdrawn: Collection[str], versions: Sequence[Version], now: datetime
) -> Version | None:
    """Return the version that a domain is to serve: the newest of `versions`; where that is
    withdrawn, the newest before it that is not, and is still valid. `None` where there is none.
    """
    for place, version in enumerate(versions):
        certificate = version.certificate
        if certificate.fingerprint not in withdrawn and (place == 0 or certificate.not_after > now):
            return version
    return None


def versions_after_rollbacks(observed: Observation, now: datetime) -> Iterator[Version]:
    """Return what is served where a certificate was withdrawn, and what would be after another
    rollback.
    """
    for target in observed.targets:
        for domain in target.domains:
            withdrawn = domain.withdrawn
            while withdrawn and (version := version_for(withdrawn, observed.versions, now)):
                yield version
                if version is not observed.current:
                    break
                withdrawn |= {version.certificate.fingerprint}


def must_outlive_rollback(observed: Observation, current: Version, now: datetime) -> Reason | None:
    """Where the certificate in force was withdrawn, the previous one is not near its end. It was
    due already when it was replaced, so that a new one every day would be the rule's only effect.
    """
    if now < current.saved_at + NEXT_TRY:
        return None
    for domain in _rolled_back(observed):
        version = version_for(domain.withdrawn, observed.versions, now)
        if version is None or renewal.is_overdue(version.certificate, now):
            return Reason(
                ReasonCode.ROLLED_BACK,
                Text(
                    "{domain} went back to the previous certificate, which has to be renewed",
                    domain=domain.domain,
                ),
            )
    return None


def _rolled_back(observed: Observation) -> Iterator[ObservedDomain]:
    """Return the domains at which the certificate in force was withdrawn."""
    current = observed.current
    if current is None:
        return
    for target in observed.targets:
        for domain in target.domains:
            if current.certificate.fingerprint in domain.withdrawn:
                yield domain


def plan_rollback(
    deployment: DesiredDeployment,
    target: ObservedTarget,
    domain: ObservedDomain,
    record: RolloutRecord | None,
    previous: Version | None,
    now: datetime,
) -> Rollback | None:
    """Plan to withdraw a certificate that edges have refused for a while, where they worked with
    the one before, and there is a `previous` one to go back to.
    """
    if deployment.on_failure is not OnFailure.ROLLBACK or previous is None or record is None:
        return None
    served = target.served.get(domain.domain, ())
    confirmed = refusal_confirmed_at(record, domain, served, now)
    if confirmed is None or now < confirmed:
        return None
    sentence = Text(
        "{addresses} refused the new certificate since {since}, and worked before",
        addresses=[address.address for address in refusing_addresses(served)],
        since=record.refused_since,
    )
    return Rollback(
        deployment.target,
        domain.domain,
        Reason(ReasonCode.EDGES_REFUSE, sentence),
        record.fingerprint,
        previous.certificate.not_after,
        domain.kind,
    )


def refusal_confirmed_at(
    record: RolloutRecord, domain: ObservedDomain, served: Sequence[Served], now: datetime
) -> datetime | None:
    """Return when a refusal of the certificate has gone on for long enough, should it go on; `None`
    while the edges refuse nothing, or did before.
    """
    if not record.worked_before or not _is_refused(domain, served):
        return None
    return (record.refused_since or now) + CONFIRMED_AFTER


def with_refusal(
    record: RolloutRecord, domain: ObservedDomain, served: Sequence[Served], now: datetime
) -> RolloutRecord:
    """Return a record that says since when addresses refuse the certificate. While the target is at
    a change, a refusal says nothing.
    """
    refuses = _is_refused(domain, served)
    if refuses == (record.refused_since is not None):
        return record
    return replace(record, refused_since=now if refuses else None)


def _is_refused(domain: ObservedDomain, served: Sequence[Served]) -> bool:
    return domain.state is DomainState.READY and bool(refusing_addresses(served))


def all_work(served: Sequence[Served]) -> bool:
    """Tell whether every address that is reached completes handshakes, and one is."""
    return any(address.fingerprint for address in served) and not refusing_addresses(served)


def refusing_addresses(served: Sequence[Served]) -> list[Served]:
    """Return the addresses that were reached and completed no handshake."""
    return [address for address in served if address.answered and address.fingerprint is None]
