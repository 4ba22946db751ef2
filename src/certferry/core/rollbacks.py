"""Going back to the previous certificate at one domain: which version a domain is to serve where
one was withdrawn.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from certferry.core import renewal
from certferry.core.lineage import Version
from certferry.core.observed import Observation, ObservedDomain
from certferry.core.reasons import Reason, ReasonCode
from certferry.text import Text

NEXT_TRY = timedelta(days=3)
"""How long after a certificate that was withdrawn the next one is issued, when the one that is
served nears its end: a CA issues five a week for the same names (Let's Encrypt's "Rate Limits").
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
    withdrawn, the newest before it that is not, is still valid, and was not revoked. `None` where
    there is none.
    """
    for place, version in enumerate(versions):
        certificate = version.certificate
        is_good = certificate.not_after > now and version.revocation is None
        if certificate.fingerprint not in withdrawn and (place == 0 or is_good):
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
    for domain in domains_rolled_back(observed):
        if now >= renewed_at(domain, observed, current, now):
            return Reason(
                ReasonCode.ROLLED_BACK,
                Text(
                    "{domain} went back to the previous certificate, which has to be renewed",
                    domain=domain.domain,
                ),
            )
    return None


def renewed_at(
    domain: ObservedDomain, observed: Observation, current: Version, now: datetime
) -> datetime:
    """Return from when a domain that went back needs a new certificate."""
    earliest = current.saved_at + NEXT_TRY
    version = version_for(domain.withdrawn, observed.versions, now)
    return earliest if version is None else max(earliest, renewal.overdue_at(version.certificate))


def domains_rolled_back(observed: Observation) -> Iterator[ObservedDomain]:
    """Return the domains at which the certificate in force was withdrawn."""
    current = observed.current
    if current is None:
        return
    for target in observed.targets:
        for domain in target.domains:
            if current.certificate.fingerprint in domain.withdrawn:
                yield domain
