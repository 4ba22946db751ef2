"""Rollbacks: a domain goes back to the previous certificate if edges refuse the new certificate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from certferry.core.certificates.certificate import overdue_at
from certferry.core.certificates.lineage import Version, version_for
from certferry.core.desired.certificate import DesiredDeployment
from certferry.core.observed import observation
from certferry.core.observed.records import RolloutRecord
from certferry.core.planning.plan import Rollback, RolledBack
from certferry.core.reasons import Reason, ReasonCode, Waiting, wait_for
from certferry.text import Text
from certferry.values import replace

CONFIRMED_AFTER = timedelta(minutes=2)
"""How long edges must have refused a certificate before a rollback. A restarting edge also refuses,
but only for a moment.
"""

NEXT_TRY = timedelta(days=3)
"""The least time between the arrival of a certificate and the next order, if the certificate was
withdrawn in between. Let's Encrypt issues only five certificates a week for the same names ("Rate
Limits").
"""

BACK = Reason(
    ReasonCode.ROLLED_BACK,
    Text("back to the previous certificate: the newer one was withdrawn here"),
)


def plan_rollback(
    deployment: DesiredDeployment,
    target: observation.ObservedTarget,
    domain: observation.ObservedDomain,
    record: RolloutRecord,
    previous: Version | None,
    now: datetime,
) -> Rollback | None:
    """Return the step back to the `previous` version, after edges have refused the new certificate
    for `CONFIRMED_AFTER`.

    Return `None` if the refusal is not confirmed, if not every address worked before the change, or
    if there is no `previous` version that the target takes.
    """
    if previous is None:
        return None
    is_there = target.remote_of(previous.fingerprint) is not None
    if not is_there and now > target.rules.upload_deadline(previous.certificate):
        return None
    served = target.served.get(domain.domain, ())
    confirmed = _refusal_confirmed_at(record, domain, served, now)
    if confirmed is None or now < confirmed:
        return None
    sentence = Text(
        "{addresses} have refused the new certificate since {since}, after serving the"
        " previous one",
        addresses=[address.address for address in _refusing(served)],
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


def _refusal_confirmed_at(
    record: RolloutRecord,
    domain: observation.ObservedDomain,
    served: observation.Addresses,
    now: datetime,
) -> datetime | None:
    """Return the moment from which the refusal counts as confirmed, if the refusal lasts until
    then. Return `None` if no address refuses the certificate, or if not every address worked before
    the change.
    """
    if not record.worked_before or not _is_refused(domain, served):
        return None
    return (record.refused_since or now) + CONFIRMED_AFTER


def until_confirmed(
    record: RolloutRecord,
    domain: observation.ObservedDomain,
    served: observation.Addresses,
    now: datetime,
) -> Waiting | None:
    """Return the wait until a refusal is confirmed; `None` without a refusal, or if confirmed. This
    wait may go on beyond the time-out of a rollout.
    """
    end = _refusal_confirmed_at(record, domain, served, now)
    if end is None or now >= end:
        return None
    why = Text("addresses refuse the new certificate, after serving the previous one")
    return wait_for(why, end - CONFIRMED_AFTER, now, end)


def with_refusal(
    record: RolloutRecord,
    domain: observation.ObservedDomain,
    served: observation.Addresses,
    now: datetime,
) -> RolloutRecord:
    """Return the record with `refused_since` brought up to date. Refusals count only while the
    domain is `READY`: during a change, edges may refuse for a moment.
    """
    refuses = _is_refused(domain, served)
    if refuses == (record.refused_since is not None):
        return record
    return replace(record, refused_since=now if refuses else None)


def _is_refused(domain: observation.ObservedDomain, served: observation.Addresses) -> bool:
    return domain.state is observation.DomainState.READY and bool(_refusing(served))


def all_work(served: observation.Addresses) -> bool:
    """Return whether an address answers, and every address that answers presents a certificate."""
    presenting = [address for address in served if address.answered]
    return bool(presenting) and all(address.fingerprint for address in presenting)


def _refusing(served: observation.Addresses) -> list[observation.Served]:
    """Return the addresses that were reached and presented no certificate."""
    return [
        address
        for address in served
        if address.answered and address.fingerprint is None and not address.was_not_asked
    ]


def versions_after_rollbacks(observed: observation.Observation, now: datetime) -> Iterator[Version]:
    """Yield the versions that domains with withdrawn certificates should serve. If a domain should
    serve the version in force, also yield the version that would follow a further rollback.
    """
    for target in observed.targets:
        for domain in target.domains:
            withdrawn = domain.withdrawn
            while withdrawn and (version := version_for(withdrawn, observed.versions, now)):
                yield version
                if version is not observed.current:
                    break
                withdrawn |= {version.fingerprint}


def renew_after_rollback(
    observed: observation.Observation, current: Version, now: datetime
) -> datetime | None:
    """Return the first moment from which a rolled-back domain needs a new certificate; `None` if
    the `current` version was withdrawn nowhere.
    """
    return min(
        (moment for _, moment in renewals_after_rollback(observed, current, now)), default=None
    )


def renewals_after_rollback(
    observed: observation.Observation, current: Version, now: datetime
) -> Iterator[tuple[str, datetime]]:
    """Yield each domain from which the `current` version was withdrawn, with the moment from which
    the domain needs a new certificate.
    """
    for target in observed.targets:
        for domain in target.domains:
            if current.fingerprint in domain.withdrawn:
                version = version_for(domain.withdrawn, observed.versions, now)
                yield domain.domain, replaced_after(current, version)


def replaced_after(withdrawn: Version, serving: Version | None) -> datetime:
    """Return when a domain needs a new certificate, if the domain serves `serving` (`None`: no
    version) in place of `withdrawn`: at least `NEXT_TRY` after `withdrawn` was stored, and once
    `serving` is overdue.
    """
    earliest = withdrawn.saved_at + NEXT_TRY
    return earliest if serving is None else max(earliest, overdue_at(serving.certificate))


def previous_of(
    domain: observation.ObservedDomain, observed: observation.Observation
) -> Version | None:
    """Return the version last brought to a domain, if the version in force was withdrawn from the
    domain. Otherwise return `None`.
    """
    current, last = observed.current, domain.last
    if current is None or last is None or current.fingerprint not in domain.withdrawn:
        return None
    return observed.version(last.fingerprint)


def in_words(previous: Version) -> Text:
    """Return the sentence that a domain serves the previous certificate on purpose."""
    return Text(
        "rolled back: the previous certificate is served, valid until {moment}; the next renewed"
        " certificate replaces it",
        moment=previous.certificate.not_after,
    )


def rolled_back(
    places: Iterable[tuple[str, str]], observed: observation.Observation
) -> Iterator[RolledBack]:
    """Yield the places (account, domain) that serve an earlier certificate on purpose."""
    for place in places:
        previous = previous_of(observed.locate(*place)[1], observed)
        if previous is not None:
            yield RolledBack(*place, in_words(previous))
