"""Why a receiver (a directory or a command) needs a delivery, and how long a proof may take."""

from __future__ import annotations

from datetime import timedelta

from certferry.core.certificates.certificate import FULLCHAIN
from certferry.core.certificates.lineage import Version
from certferry.core.observed import observation
from certferry.core.planning.rollbacks import BACK
from certferry.core.planning.timing import Times
from certferry.core.reasons import Reason, ReasonCode
from certferry.text import Text
from certferry.values import replace

SERVED_WITHIN = timedelta(minutes=2)
"""How long the hosts of a receiver (`serves`) may take to present a delivered certificate."""

NEW_CERTIFICATE = Reason(ReasonCode.NEW_CERTIFICATE, Text("a new certificate is coming"))
NOT_SERVED = Reason(
    ReasonCode.DELIVERY_UNFINISHED, Text("delivered before, but not served by every address")
)


def of_receiver(times: Times) -> Times:
    """Return the times with the time-out for a receiver."""
    return replace(times, timeout=min(times.timeout, SERVED_WITHIN))


def why_deliver(
    target: observation.ObservedTarget, domain: observation.ObservedDomain, version: Version | None
) -> Reason | None:
    """Return why a receiver needs a version, or `None` if the receiver has the version. `version`
    is `None` while the version is still to be issued.
    """
    if version is None:
        return NEW_CERTIFICATE
    if domain.bound is None:
        return Reason(ReasonCode.NOT_DELIVERED, Text("the certificate has not been delivered yet"))
    if domain.bound == version.fingerprint:
        if change_of_issuers(domain, version):
            sentence = Text("delivered earlier with other issuer certificates")
            return Reason(ReasonCode.DELIVERED_PREVIOUS, sentence)
        return None if domain.drift is None else domain.drift.reason
    if domain.bound in domain.withdrawn:
        return BACK
    if target.fingerprint_of(domain.bound) is not None:
        return Reason(ReasonCode.DELIVERED_PREVIOUS, Text("an earlier certificate was delivered"))
    return Reason(ReasonCode.HOLDS_FOREIGN, Text("another certificate was delivered there"))


def why_again(
    domain: observation.ObservedDomain, fingerprint: str | None, times: Times
) -> Reason | None:
    """Return why a receiver needs the same delivery again: in an earlier run the delivery failed,
    or not every host of the receiver presented the certificate in time. Otherwise return `None`.
    """
    last = domain.last
    if last is None or last.fingerprint != fingerprint or last.failed_at is None:
        return None
    return None if times.in_this_run(last.failed_at) else NOT_SERVED


def change_of_issuers(domain: observation.ObservedDomain, version: Version) -> observation.Changes:
    """Return the change if the receiver has the version's leaf with other issuers. An unknown
    digest counts as equal.
    """
    held, wanted = domain.fullchain_digest, version.fullchain_digest
    if held is None or wanted is None or held == wanted:
        return ()
    return (observation.Change(FULLCHAIN, held, wanted),)
