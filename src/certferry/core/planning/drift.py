"""Drift (changes of another tool at a domain), and how often certferry repairs a domain in a
day.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from certferry.core.certificates.lineage import Version
from certferry.core.desired.certificate import DesiredDeployment, DesiredHttps, HttpsSettings
from certferry.core.observed import observation
from certferry.core.observed.records import LAG, OtherCertificate, RolloutRecord
from certferry.core.planning.plan import Deploy
from certferry.values import replace

_NAMES = DesiredHttps.__struct_fields__

_Https = DesiredHttps | HttpsSettings | None


def setting_changes(
    desired: DesiredHttps, domain: observation.ObservedDomain
) -> observation.Changes:
    """Return the differences between a domain's settings and the desired settings. If the target
    hides a setting of a domain with HTTPS, the value that certferry last sent counts. A domain
    without settings has no differences.
    """
    if not domain.has_settings:
        return ()
    sent = None if domain.bound is None else _sent(domain)
    changes = []
    for name in _NAMES:
        wanted, shown = getattr(desired, name), getattr(domain.https, name)
        present = _value(sent, name) if shown is None else _value(domain.https, name)
        if wanted is None or _value(desired, name) == present:
            continue
        untold = shown is None and domain.bound is not None
        before = None if shown is None else _in_words(shown)
        changes.append(observation.Change(name, before, _in_words(wanted), untold=untold))
    return tuple(changes)


def changes_unasked(
    was: HttpsSettings, asked: DesiredHttps | None, now: HttpsSettings
) -> observation.Changes:
    """Return the settings that a target changed during a change of ours, although certferry did not
    ask for it. Settings that the target hid before or after the change are left out.
    """
    return tuple(
        observation.Change(name, _in_words(getattr(was, name)), _in_words(getattr(now, name)))
        for name in _NAMES
        if _value(asked, name) is None
        and None not in {_value(was, name), _value(now, name)}
        and _value(was, name) != _value(now, name)
    )


def _sent(domain: observation.ObservedDomain) -> DesiredHttps | None:
    """Return the settings last sent to the domain; `None` if unknown, or if the change failed."""
    record = domain.last
    if record is None:
        return None
    # A value seen within `LAG` may be the value from before the change.
    has_succeeded = record.verified_at is not None and record.verified_at - record.asked_at >= LAG
    return (
        record.sent if has_succeeded or domain.state is not observation.DomainState.FAILED else None
    )


def _value(settings: _Https, name: str) -> object:
    """Return a setting for comparison. Versions of TLS become a set, because the order has no
    meaning.
    """
    value = None if settings is None else getattr(settings, name)
    return frozenset(value) if isinstance(value, tuple) else value


def _in_words(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


class Drift(Struct, frozen=True):
    """The changes of another tool at a domain that was as declared."""

    certificate: bool = False  #: Whether another certificate is bound.
    settings: observation.Changes = ()  #: Other settings that differ.

    def without(self, desired: DesiredHttps) -> DesiredHttps:
        """Return the desired settings without the drifted settings."""
        return replace(desired, **dict.fromkeys((change.setting for change in self.settings), None))


def newer_of_ours(
    target: observation.ObservedTarget, domain: observation.ObservedDomain, known: Version | None
) -> OtherCertificate | None:
    """Return the bound certificate if the certificate has a label of this lineage, is missing from
    the state, and begins later than the version `known`. Such a certificate shows that the state is
    an older copy. Otherwise return `None`.
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
    """Return the differences that another tool has made since the domain was seen as declared;
    `None` without any. If another certificate is bound, return only this difference. Receivers, and
    domains with a hidden binding, have no drift.

    Three kinds of differences are no drift: a change by certferry that was never seen in force, a
    changed declaration, and a newer certificate of certferry that a restored state lacks.
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
        if last.sent is not None
        and _value(last.sent, change.setting) == _value(https, change.setting)
    )
    # Before the certificate was seen served, a difference is drift only if the record says so.
    is_certain = last.verified_at is not None or last.drift == observation.in_one_line(settings)
    return Drift(settings=settings) if settings and is_certain else None


PER_DAY = 2
"""The most repairs of a domain in a day; a third change proves another tool at work."""

DAY = timedelta(days=1)


def recent(repairs: Sequence[datetime], now: datetime) -> tuple[datetime, ...]:
    """Return the repairs of the last day, newest first; repairs in the future are dropped."""
    return tuple(moment for moment in repairs if now - DAY < moment <= now)


def next_repair(repairs: Sequence[datetime], now: datetime) -> datetime | None:
    """Return the earliest moment for the next repair of a domain; `None` means now."""
    made = recent(repairs, now)
    return None if len(made) < PER_DAY else made[PER_DAY - 1] + DAY


def as_repair(record: RolloutRecord, step: Deploy, now: datetime, *, made: bool) -> RolloutRecord:
    """Return the record with the drift that `step` repairs, and if `made` with one more repair.
    Runs store the repair before the call to the target, because the process may be killed during
    the call.
    """
    if made:
        record = replace(record, repairs=(now, *recent(record.repairs, now)))
    if made or record.accepted_at is None:
        record = replace(record, drift=observation.in_one_line(step.changes))
    return record
