"""What an order asks for, and whether a CA may be asked for it now."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from certferry.core.desired import DesiredCertificate
from certferry.core.issuance import Authority
from certferry.core.observed import Observation
from certferry.core.plan import Blocked, Issue
from certferry.core.secret import Secret
from certferry.errors import OrderHeldBack
from certferry.ports.issuer import Issuer, IssueRequest
from certferry.reconcile.several_cas import with_cas_asked_now
from certferry.reconcile.visit import Visit


def request_of(
    step: Issue, desired: DesiredCertificate, observed: Observation, authority: Authority | None
) -> IssueRequest:
    """Return what a CA is asked for. A leaf of its own that shares a name is replaced (RFC 9773
    §5); what other CAs have issued, it does not know.
    """
    names, directory = set(step.names), "" if authority is None else authority.directory
    own = [one for one in observed.versions if not directory or one.directory in {None, directory}]
    current = observed.current
    return IssueRequest(
        *(desired.lineage, step.names, step.key_type),
        profiles=desired.issuance.profiles,
        directory=directory,
        dns=",".join(desired.dns_accounts),
        renews=any(set(version.certificate.names) == names for version in own),
        exempt=any(
            version == current and names & set(version.certificate.names) for version in own
        ),
    )


def held_back(
    step: Issue, desired: DesiredCertificate, observed: Observation, issuer: Issuer, now: datetime
) -> Issue:
    """Return an order that is made now, as `Blocked` until it may be; where there are several CAs,
    with those that may be asked.
    """

    def hold(authority: Authority | None) -> OrderHeldBack | None:
        return issuer.held_back(request_of(step, desired, observed, authority))

    if len(desired.issuance.authorities) > 1:
        return with_cas_asked_now(step, desired, observed, hold, now)
    error = hold(next(iter(step.authorities), None))
    return step if error is None else replace(step, due=Blocked(error, until=error.retry.after))


def reused_key(visit: Visit) -> Secret | None:
    """Return the key of the certificate in force, where it may be used again."""
    current = visit.observed.current
    if current is None or not current.key_matches:
        return None
    if current.revocation is not None and current.revocation.spoils_key:
        return None
    return visit.doors.state.bundle(visit.lineage, current.number).privkey_pem
