"""What was changed at a domain outside certferry since it was seen as declared, and when two tools
fight over one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace

from certferry.core.certificates.lineage import Version
from certferry.core.desired.certificate import (
    DesiredDeployment,
    DesiredHttps,
    DriftPolicy,
    HttpsSettings,
)
from certferry.core.observed.observation import (
    UNKNOWN,
    Change,
    DomainState,
    ObservedDomain,
    ObservedTarget,
)
from certferry.core.observed.records import LAG, RolloutRecord
from certferry.text import Text

_NAMES = tuple(field.name for field in fields(DesiredHttps))


def setting_changes(desired: DesiredHttps, domain: ObservedDomain) -> tuple[Change, ...]:
    """List where a domain's settings differ from what is asked for.

    What the target does not tell differs until it has been sent, which is all that can be known of
    it. Where there is nothing to set, there is nothing to wish for.
    """
    if not domain.has_settings:
        return ()
    return tuple(
        _setting_change(name, domain, _in_words(getattr(desired, name)))
        for name in _differing(desired, domain)
    )


def changes_unasked(
    before: HttpsSettings, asked: DesiredHttps | None, now: HttpsSettings
) -> tuple[Change, ...]:
    """List which settings differ from what they were before a change that did not ask for it, as
    far as the target told them both times.
    """
    desired = asked or DesiredHttps()
    return tuple(
        Change(name, _in_words(getattr(before, name)), _in_words(getattr(now, name)))
        for name in _NAMES
        if getattr(desired, name) is None
        and None not in {getattr(before, name), getattr(now, name)}
        and _unordered(getattr(before, name)) != _unordered(getattr(now, name))
    )


def as_wished(name: str, desired: DesiredHttps, sent: DesiredHttps | None) -> bool:
    """Tell whether a setting was sent as it is wished now."""
    return sent is not None and _unordered(getattr(sent, name)) == _unordered(
        getattr(desired, name)
    )


def in_sentences(changes: Iterable[Change]) -> list[Text]:
    """Give the changes for a sentence that lists them."""
    return [
        Text(
            "{setting} {before} → {after}",
            setting=change.what,
            before=UNKNOWN if change.was == UNKNOWN.template else change.was,
            after=change.becomes,
        )
        for change in changes
    ]


def _differing(desired: DesiredHttps, domain: ObservedDomain) -> Iterator[str]:
    sent = (None if domain.bound is None else _sent(domain)) or DesiredHttps()
    for name in _NAMES:
        wanted, found = getattr(desired, name), getattr(domain.https, name)
        known = getattr(sent, name) if found is None else found
        if wanted is not None and _unordered(wanted) != _unordered(known):
            yield name


def _sent(domain: ObservedDomain) -> DesiredHttps | None:
    """Return what the domain was last sent, unless it is that change which has failed."""
    record = domain.last
    if record is None or (domain.state is DomainState.FAILED and not _has_succeeded(record)):
        return None
    return record.sent


def _has_succeeded(record: RolloutRecord) -> bool:
    # What was seen at once may have been what was there before the change.
    return record.verified_at is not None and record.verified_at - record.asked_at >= LAG


def _unordered(value: object) -> object:
    """Versions are a set, whatever order they are written in."""
    return frozenset(value) if isinstance(value, tuple) else value


def _setting_change(name: str, domain: ObservedDomain, after: str) -> Change:
    found = getattr(domain.https, name)
    if found is not None:
        return Change(name, _in_words(found), after)
    return Change(name, None, after, untold=domain.bound is not None)


def _in_words(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


@dataclass(frozen=True, slots=True)
class Drift:
    """What differs at a domain that was as declared: the certificate, or other settings."""

    certificate: bool = False
    settings: tuple[Change, ...] = ()

    def without(self, desired: DesiredHttps) -> DesiredHttps:
        """Return a wish that leaves the settings that drifted as they are."""
        return replace(desired, **dict.fromkeys((change.what for change in self.settings), None))


def drift_of(
    deployment: DesiredDeployment,
    target: ObservedTarget,
    domain: ObservedDomain,
    wanted: Version | None,
) -> Drift | None:
    """Compare a domain with what was last seen in order there; `None` where it has not drifted. A
    change that was never seen in force, and one of the file, are none: they are for a rollout.
    """
    last = domain.last
    if last is None or domain.kind.is_receiver or domain.binding_hidden:
        return None
    expected = {last.fingerprint, None if wanted is None else wanted.certificate.fingerprint}
    if _was_ours(last) and target.fingerprint_of(domain.bound) not in expected - {None}:
        return Drift(certificate=True)
    settings = tuple(
        change
        for change in setting_changes(deployment.https, domain)
        if as_wished(change.what, deployment.https, last.sent)
    )
    # Until the certificate is seen, only what was left when it was bound is known to be drift.
    is_known = last.verified_at is not None or last.drift == in_one_line(settings)
    return Drift(settings=settings) if settings and is_known else None


def _was_ours(last: RolloutRecord) -> bool:
    """Tell whether the domain was as declared, or a repair has set out to make it so, or is to."""
    is_to_be_repaired = last.drift is not None and last.accepted_at is None
    return last.verified_at is not None or bool(last.repairs) or is_to_be_repaired


def in_one_line(changes: Iterable[Change]) -> str:
    """Write changes for the record: the same drift is told once."""
    return ", ".join(f"{change.what}: {change.was}" for change in changes)


@dataclass(frozen=True, slots=True)
class Drifted:
    """A domain that was changed outside certferry, and that is left like that (`policy`)."""

    target: str
    domain: str
    policy: DriftPolicy
    changes: tuple[Change, ...]
