"""What was found: at the store, at the targets, at the edges."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from certferry.core.certificates.certificate import Certificate, short
from certferry.core.certificates.chain import Presented
from certferry.core.certificates.lineage import Version, version_for
from certferry.core.desired.certificate import HttpsSettings, Kind
from certferry.core.observed import records
from certferry.core.reasons import Reason, Usual
from certferry.errors import CertferryError, Problem
from certferry.text import Text


@dataclass(frozen=True, slots=True)
class Scope:
    """What to observe for one deployment: the named `domains` (`None`: all that `names` cover),
    covered ones that `globs` match, less what `exclude` matches (`core.planning.choice.choose`).
    `known` are the lineage's certificates, newest first: only copies of these are ours. With
    `others` every other certificate is wanted as well, with `anew` nothing that was read before
    counts. Edges contradict what was read of the `doubted` domains: the binding of each is read
    from the service now, whatever a list shows.
    """

    lineage: str
    names: tuple[str, ...]
    domains: tuple[str, ...] | None
    kind: Kind
    known: Sequence[Certificate]
    others: bool = False
    globs: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    anew: bool = False
    doubted: frozenset[str] = frozenset()


CERTIFICATE = "certificate"
"""What changes where another certificate is bound or delivered."""

UNKNOWN = Text("unknown")
"""What something is that the target does not tell."""

NOTHING, TO_COME = "—", "…"
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that a step changes; a certificate is its fingerprint. `before` is `None` where
    there was none, or it is `untold`, `after` where it is still to be issued.
    """

    what: str
    before: str | None
    after: str | None
    untold: bool = False
    remote_id: str | None = None

    @property
    def was(self) -> str:
        """What there was, in words for people."""
        if self.before is not None:
            return _shown(self.before)
        if self.remote_id is not None:
            return short(self.remote_id)
        return UNKNOWN.template if self.untold else NOTHING

    @property
    def becomes(self) -> str:
        """What there will be, in words for people."""
        return TO_COME if self.after is None else _shown(self.after)


Changes = tuple[Change, ...]


def _shown(value: str) -> str:
    return short(value) if _DIGEST.fullmatch(value) else value


def in_sentences(changes: Iterable[Change]) -> list[Text]:
    """Return the changes for a sentence that lists them."""
    return [
        Text(
            "{setting} {before} → {after}",
            setting=change.what,
            before=UNKNOWN if change.was == UNKNOWN.template else change.was,
            after=change.becomes,
        )
        for change in changes
    ]


def in_one_line(changes: Iterable[Change]) -> str:
    """Write changes for the record, so that the same drift is reported once."""
    return ", ".join(f"{change.what}: {change.was}" for change in changes)


class DomainState(StrEnum):
    """What a target lets us do with a domain now."""

    READY = "ready"
    PROCESSING = "processing"
    FAILED = "failed"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class Served:
    """What one address presents, leaf first in `chain`. A `silent` one could not be reached; one
    that refused the handshake answered, and has no fingerprint: a visitor gets an error.
    """

    address: str
    fingerprint: str | None
    valid: bool
    problem: Problem | None = None
    not_after: datetime | None = None
    silent: bool = False
    chain: tuple[Presented, ...] = ()

    @property
    def answered(self) -> bool:
        """Whether the address could be reached."""
        return not self.silent


Addresses = Sequence[Served]
"""What the addresses of one domain present."""


@dataclass(frozen=True, slots=True)
class ReceiverDrift:
    """What a receiver finds to be otherwise than it was delivered, or not done yet."""

    reason: Reason
    changes: Changes = ()


@dataclass(frozen=True, slots=True)
class ObservedDomain:
    """A domain at its target. `bound` is the remote id in force, `None` without HTTPS; where
    `binding_hidden`, the one that edges and our `last` record suggest. Of a receiver, `bound` is
    the fingerprint that it holds, `fullchain_digest` that of leaf and issuers. `problem` says why
    it is `UNAVAILABLE`, or what its last change, the target's `task`, `FAILED` of. Without
    `has_settings` only the certificate can be set. The `withdrawn` fingerprints are not bound here
    again. What is bound that is not the lineage's ends at `bound_until`, where that is known.
    """

    domain: str
    kind: Kind
    state: DomainState
    bound: str | None = None
    https: HttpsSettings = field(default_factory=HttpsSettings)
    problem: CertferryError | None = None
    drift: ReceiverDrift | None = None
    fullchain_digest: str | None = None
    binding_hidden: bool = False
    last: records.RolloutRecord | None = None
    has_settings: bool = True
    withdrawn: frozenset[str] = frozenset()
    task: records.TargetTask | None = None
    bound_until: datetime | None = None

    def seen_at(self, fingerprint: str | None) -> datetime | None:
        """Return when a certificate was seen served here, if it is the last that was brought."""
        is_last = self.last is not None and self.last.fingerprint == fingerprint
        return self.last.verified_at if self.last is not None and is_last else None


@dataclass(frozen=True, slots=True)
class RemoteCertificate:
    """A target's copy of ours, by label and fingerprint; until `in_use_until` it stays."""

    remote_id: str
    label: str
    fingerprint: str
    not_after: datetime
    in_use_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class TargetRules:
    """What a target demands of a certificate, and how long a change usually takes there."""

    min_remaining: timedelta = timedelta(0)
    needs_common_name: bool = False
    usual_change: Usual | None = None

    def upload_deadline(self, certificate: Certificate) -> datetime:
        """Return the last moment at which a certificate can be taken in."""
        return certificate.not_after - self.min_remaining


@dataclass(frozen=True, slots=True)
class ObservedTarget:
    """One deployment's target as found; `failure` when it could not be read, `in_progress` what was
    begun there then. The engine adds the account's `label`, what is `unmatched`, and what addresses
    present in `served`, where the current certificate is bound or that is not known. `others` are
    all other free certificates, where asked for; while another lineage's is on its way since
    `unsettled_since`, they may be served. `unremembered` are labelled as ours and not in the state.
    `owned_elsewhere` are lineages that serve domains in place of this one, `excluded`, `uncovered`
    and `left_out` (switched off, not named) other domains; `unread` could not be read beside them.
    With `remotes_hidden`, `remotes` are the state's.
    """

    label: str = ""
    rules: TargetRules = field(default_factory=TargetRules)
    domains: tuple[ObservedDomain, ...] = ()
    remotes: tuple[RemoteCertificate, ...] = ()
    served: Mapping[str, tuple[Served, ...]] = field(default_factory=dict)
    failure: CertferryError | None = None
    in_progress: tuple[records.RolloutRecord, ...] = ()
    others: tuple[records.OtherCertificate, ...] = ()
    unsettled_since: datetime | None = None
    unremembered: tuple[records.OtherCertificate, ...] = ()
    owned_elsewhere: tuple[str, ...] = ()
    unread: tuple[CertferryError, ...] = ()
    remotes_hidden: bool = False
    excluded: tuple[str, ...] = ()
    unmatched: tuple[str, ...] = ()
    uncovered: tuple[str, ...] = ()
    left_out: tuple[ObservedDomain, ...] = ()
    quota: records.Quota | None = None

    @property
    def is_owned_elsewhere(self) -> bool:
        """Whether other lineages serve everything here that this one covers."""
        return bool(self.owned_elsewhere) and not self.domains

    def remote_of(self, fingerprint: str) -> RemoteCertificate | None:
        """Return the target's copy of a certificate."""
        return next((r for r in self.remotes if r.fingerprint == fingerprint), None)

    def fingerprint_of(self, remote_id: str | None) -> str | None:
        """Return the fingerprint of a bound certificate, `None` when it is not one of ours."""
        return next((r.fingerprint for r in self.remotes if r.remote_id == remote_id), None)


@dataclass(frozen=True, slots=True)
class Observation:
    """Everything that a decision about one lineage may look at. `versions` are newest first, after
    the one that its files hold; `targets` are in the order of the declared deployments.
    """

    versions: tuple[Version, ...] = ()
    targets: tuple[ObservedTarget, ...] = ()
    remembered: records.Remembered = field(default_factory=records.Remembered)

    @property
    def current(self) -> Version | None:
        """The version in force."""
        return self.versions[0] if self.versions else None

    def version(self, fingerprint: str | None) -> Version | None:
        """Return the version with this fingerprint; without one, the version in force."""
        if fingerprint is None:
            return self.current
        return next((v for v in self.versions if v.fingerprint == fingerprint), None)

    @property
    def has_withdrawn(self) -> bool:
        """Whether a certificate was withdrawn from any domain."""
        return any(domain.withdrawn for target in self.targets for domain in target.domains)

    @property
    def is_owned_elsewhere(self) -> bool:
        """Whether other lineages serve everything that this one was to serve."""
        return bool(self.targets) and all(target.is_owned_elsewhere for target in self.targets)

    @property
    def owned_elsewhere(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """The targets at which others serve everything, with these others' lineages."""
        return tuple(
            (target.label, target.owned_elsewhere)
            for target in self.targets
            if target.is_owned_elsewhere
        )

    def find(self, label: str, domain: str) -> tuple[ObservedTarget, ObservedDomain] | None:
        """Find a domain at its target, in any deployment of the account."""
        places = (
            (target, found)
            for target in self.targets
            if target.label == label
            for found in target.domains
            if found.domain == domain
        )
        return next(places, None)

    def locate(self, label: str, domain: str) -> tuple[ObservedTarget, ObservedDomain]:
        """Return a domain that was found at its target."""
        found = self.find(label, domain)
        if found is None:
            raise LookupError(label, domain)
        return found


def is_served(addresses: Addresses, fingerprint: str) -> bool:
    """Return whether all addresses that answered, at least one, present it validly."""
    answered = [address for address in addresses if address.answered]
    return bool(answered) and all(a.fingerprint == fingerprint and a.valid for a in answered)


def contradicted(observed: Observation, now: datetime) -> frozenset[tuple[str, str]]:
    """Return the domains, by account and name, whose binding the edges contradict.

    The target says that the certificate to serve is bound. An address that presents a certificate
    of another tool denies that, and so does an address that presents anything else after all
    addresses were seen to serve the certificate. The certificate before is no contradiction while
    a change is on its way.
    """
    known = {version.fingerprint for version in observed.versions}
    return frozenset(
        (target.label, domain.domain)
        for target in observed.targets
        for domain in target.domains
        if not (domain.kind.is_receiver or domain.binding_hidden)
        and _is_contradicted(domain, target, observed.versions, known, now)
    )


def _is_contradicted(
    domain: ObservedDomain,
    target: ObservedTarget,
    versions: Sequence[Version],
    known: Collection[str],
    now: datetime,
) -> bool:
    served = target.served.get(domain.domain, ())
    wanted = version_for(domain.withdrawn, versions, now) if served else None
    if wanted is None or target.fingerprint_of(domain.bound) != wanted.fingerprint:
        return False
    presented = {one.fingerprint for one in served if one.answered} - {wanted.fingerprint}
    if domain.seen_at(wanted.fingerprint) is not None:
        return bool(presented)
    return bool(presented - {None} - {*known})
