"""What another tool changed at a domain, and how often that is repaired in a day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta

from certferry.core.certificates.lineage import Version
from certferry.core.desired.certificate import DesiredDeployment, DesiredHttps, HttpsSettings
from certferry.core.observed import observation
from certferry.core.observed.records import LAG, OtherCertificate, RolloutRecord
from certferry.core.planning.plan import Deploy

_NAMES = tuple(field.name for field in fields(DesiredHttps))

_Https = DesiredHttps | HttpsSettings | None


def setting_changes(
    desired: DesiredHttps, domain: observation.ObservedDomain
) -> observation.Changes:
    """List where a domain's settings differ from what is asked for; of a domain without settings,
    none. One that the target does not report differs until it was sent: more is not known of it.
    """
    if not domain.has_settings:
        return ()
    sent = None if domain.bound is None else _sent(domain)
    changes = []
    for name in _NAMES:
        wanted, found = getattr(desired, name), getattr(domain.https, name)
        known = _value(sent, name) if found is None else _value(domain.https, name)
        if wanted is None or _value(desired, name) == known:
            continue
        untold = found is None and domain.bound is not None
        before = None if found is None else _in_words(found)
        changes.append(observation.Change(name, before, _in_words(wanted), untold=untold))
    return tuple(changes)


def changes_unasked(
    was: HttpsSettings, asked: DesiredHttps | None, now: HttpsSettings
) -> observation.Changes:
    """List which settings a change altered without being asked to, where both are reported."""
    return tuple(
        observation.Change(name, _in_words(getattr(was, name)), _in_words(getattr(now, name)))
        for name in _NAMES
        if _value(asked, name) is None
        and None not in {_value(was, name), _value(now, name)}
        and _value(was, name) != _value(now, name)
    )


def _sent(domain: observation.ObservedDomain) -> DesiredHttps | None:
    """Return what the domain was last sent, unless it is that change which has failed."""
    record = domain.last
    if record is None:
        return None
    # What was seen at once may have been what was there before the change.
    has_succeeded = record.verified_at is not None and record.verified_at - record.asked_at >= LAG
    return (
        record.sent if has_succeeded or domain.state is not observation.DomainState.FAILED else None
    )


def _value(settings: _Https, name: str) -> object:
    """Return a setting to compare: versions are a set, whatever order they are written in."""
    value = None if settings is None else getattr(settings, name)
    return frozenset(value) if isinstance(value, tuple) else value


def _in_words(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


@dataclass(frozen=True, slots=True)
class Drift:
    """What differs at a domain that was as declared: the certificate, or other settings."""

    certificate: bool = False
    settings: observation.Changes = ()

    def without(self, desired: DesiredHttps) -> DesiredHttps:
        """Return the desired settings without those that drifted."""
        return replace(desired, **dict.fromkeys((change.what for change in self.settings), None))


def newer_of_ours(
    target: observation.ObservedTarget, domain: observation.ObservedDomain, known: Version | None
) -> OtherCertificate | None:
    """Return the bound certificate that certferry made for the lineage after the newest that the
    state has: the state is a copy from before. `None` where another certificate is bound.
    """
    for other in target.unremembered:
        if known is None or other.remote_id != domain.bound or other.not_before is None:
            continue
        if other.not_before > known.certificate.not_before:
            return other
    return None


def drift_of(
    deployment: DesiredDeployment,
    target: observation.ObservedTarget,
    domain: observation.ObservedDomain,
    wanted: Version | None,
) -> Drift | None:
    """Compare a domain with what was last seen in order there; `None` where it has not drifted. A
    change that was never seen in force, or one of the file, is no drift: a rollout carries it out.
    Nor is a certificate of ours that the state, put back from a dump, does not know yet.
    """
    last, https = domain.last, deployment.https
    if last is None or domain.kind.is_receiver or domain.binding_hidden:
        return None
    if newer_of_ours(target, domain, wanted) is not None:
        return None
    expected = {last.fingerprint, None if wanted is None else wanted.fingerprint} - {None}
    is_to_be_repaired = last.drift is not None and last.accepted_at is None
    was_ours = last.verified_at is not None or bool(last.repairs) or is_to_be_repaired
    if was_ours and target.fingerprint_of(domain.bound) not in expected:
        return Drift(certificate=True)
    settings = tuple(
        change
        for change in setting_changes(https, domain)
        if last.sent is not None and _value(last.sent, change.what) == _value(https, change.what)
    )
    # Until the certificate is seen, only what was left when it was bound is known to be drift.
    is_known = last.verified_at is not None or last.drift == observation.in_one_line(settings)
    return Drift(settings=settings) if settings and is_known else None


PER_DAY = 2
"""Repairs of one domain within a day; what is changed a third time is changed by another tool."""

DAY = timedelta(days=1)


def recent(repairs: Sequence[datetime], now: datetime) -> tuple[datetime, ...]:
    """Return the repairs of the last day, newest first, none by a clock that was ahead."""
    return tuple(moment for moment in repairs if now - DAY < moment <= now)


def next_repair(repairs: Sequence[datetime], now: datetime) -> datetime | None:
    """Return the moment before which a domain is not repaired again, `None` when it may be now."""
    made = recent(repairs, now)
    return None if len(made) < PER_DAY else made[PER_DAY - 1] + DAY


def as_repair(record: RolloutRecord, step: Deploy, now: datetime, *, made: bool) -> RolloutRecord:
    """Return the record of a repair. It is counted before it is made: a kill may come between."""
    if made:
        record = replace(record, repairs=(now, *recent(record.repairs, now)))
    if made or record.accepted_at is None:
        record = replace(record, drift=observation.in_one_line(step.changes))
    return record
