"""An observation of one lineage: versions, targets and the certificates at the edges."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from msgspec import Struct, field

from certferry.core.certificates.certificate import Certificate, short
from certferry.core.certificates.chain import EdgeProblemCode, Presented
from certferry.core.certificates.lineage import Version, version_for
from certferry.core.desired.certificate import HttpsSettings, Kind
from certferry.core.observed import records
from certferry.core.reasons import Reason, Usual
from certferry.errors import CertferryError, Problem
from certferry.text import Text


class Scope(Struct, frozen=True):
    """The domains and copies to observe at a target for one deployment of a lineage.

    `core.planning.choice.choose` picks the domains from `names`, `domains`, `globs` and `exclude`.
    """

    lineage: str  #: The lineage's name.
    #: The names in the lineage's certificate.
    names: tuple[str, ...]
    #: The domains named in the deployment; `None` for all domains covered by `names`.
    domains: tuple[str, ...] | None
    kind: Kind  #: The declared kind of the domains.
    #: The lineage's certificates, newest first. Other certificates at the target are not the
    #: lineage's.
    known: Sequence[Certificate]
    #: Whether to return every other certificate at the target as well.
    others: bool = False
    #: Patterns for further domains covered by `names`.
    globs: tuple[str, ...] = ()
    #: Patterns for domains to leave out.
    exclude: tuple[str, ...] = ()
    #: Whether to ignore lists and details from earlier reads.
    anew: bool = False
    #: Domains with edges that contradict the target's list (`contradicted`). The target reads the
    #: binding of each from the service now, and not from a list.
    doubted: frozenset[str] = frozenset()


CERTIFICATE = "certificate"
"""The `Change.setting` of a binding or a delivery of another certificate."""

UNKNOWN = Text("unknown")
"""The words for a setting that the target does not report."""

NOTHING, TO_COME = "—", "…"
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Change(Struct, frozen=True):
    """A setting, or the certificate, changed by a step."""

    #: The name of the setting, or `CERTIFICATE`.
    setting: str
    #: The old value, a fingerprint for a certificate; `None` if absent or `untold`.
    before: str | None
    #: The new value, a fingerprint for a certificate; `None` while still to be issued.
    after: str | None
    #: Whether the target hides the old value.
    untold: bool = False
    #: The target's id of the certificate bound before.
    remote_id: str | None = None

    @property
    def was(self) -> str:
        """The old value, in words for people."""
        if self.before is not None:
            return _shown(self.before)
        if self.remote_id is not None:
            return short(self.remote_id)
        return UNKNOWN.template if self.untold else NOTHING

    @property
    def becomes(self) -> str:
        """The new value, in words for people."""
        return TO_COME if self.after is None else _shown(self.after)


Changes = tuple[Change, ...]


def _shown(value: str) -> str:
    return short(value) if _DIGEST.fullmatch(value) else value


def in_sentences(changes: Iterable[Change]) -> list[Text]:
    """Return the changes for a sentence that lists them."""
    return [
        Text(
            "{setting} {before} → {after}",
            setting=change.setting,
            before=UNKNOWN if change.was == UNKNOWN.template else change.was,
            after=change.becomes,
        )
        for change in changes
    ]


def in_one_line(changes: Iterable[Change]) -> str:
    """Return the changes as text to store, by which a later run recognises the same drift."""
    return ", ".join(f"{change.setting}: {change.was}" for change in changes)


class DomainState(StrEnum):
    """How a domain stands at the target."""

    READY = "ready"  #: At rest, without a failure.
    PROCESSING = "processing"  #: The target is carrying out a change.
    FAILED = "failed"  #: The last change failed. The target accepts another change.
    UNAVAILABLE = "unavailable"  #: The domain cannot be changed, for example because it is frozen.


class Served(Struct, frozen=True):
    """The certificate presented by one address in a handshake."""

    address: str  #: The IP address.
    #: `None` if the address was silent, refused the handshake (a visitor gets an error), or was not
    #: asked.
    fingerprint: str | None
    valid: bool  #: Whether clients accept the certificate for the domain.
    problem: Problem | None = None  #: Why clients do not accept the certificate, or get none.
    not_after: datetime | None = None  #: The end of the certificate's validity.
    #: Whether the address could not be reached. An address that refused the handshake answered.
    silent: bool = False
    #: The presented certificates, leaf first.
    chain: tuple[Presented, ...] = ()
    host: str = ""  #: For an address of a receiver, the name and port as declared (`serves`).

    @property
    def place(self) -> str:
        """The address, after the host if declared."""
        return f"{self.host} ({self.address})" if self.host else self.address

    @property
    def answered(self) -> bool:
        """Whether the address is not silent. Only then the address counts when certferry judges
        whether a domain serves a certificate.
        """
        return not self.silent

    @property
    def was_not_asked(self) -> bool:
        """Whether this host lacked file handles or memory to ask the address."""
        return self.problem is not None and self.problem.code == EdgeProblemCode.NOT_ASKED


Addresses = Sequence[Served]
"""The certificates presented by the addresses of one domain."""


class ReceiverDrift(Struct, frozen=True):
    """How a receiver's content differs from the last delivery, or the unfinished work there."""

    reason: Reason  #: Why the receiver needs another delivery.
    changes: Changes = ()  #: The differences, if certferry can name them.


class ObservedDomain(Struct, frozen=True):
    """A domain at its target, or a receiver, as observed."""

    domain: str  #: The domain's name; a receiver's directory or label.
    kind: Kind  #: The kind that the target reports.
    state: DomainState  #: How the domain stands.
    #: The remote id of the bound certificate; `None` without HTTPS. With `binding_hidden`, the id
    #: suggested by the edges and by our `last` record. For a receiver, the installed fingerprint.
    bound: str | None = None
    https: HttpsSettings = field(default_factory=HttpsSettings)  #: The settings at the target.
    #: Why the domain is `UNAVAILABLE`, or why the last change (the target's `task`) `FAILED`.
    problem: CertferryError | None = None
    drift: ReceiverDrift | None = None  #: For a receiver that needs another delivery.
    #: For a receiver, the digest of leaf and issuers; `None` if unknown.
    fullchain_digest: str | None = None
    #: Whether the target does not report the bound certificate.
    binding_hidden: bool = False
    last: records.RolloutRecord | None = None  #: The record of the domain's last rollout.
    #: Whether the domain has HTTPS settings to set beside the certificate.
    has_settings: bool = True
    #: Fingerprints withdrawn from the domain: a run does not bind them here again.
    withdrawn: frozenset[str] = frozenset()
    task: records.TargetTask | None = None  #: The target's last change, if reported.
    #: The end of the bound certificate, if another tool owns it and the end is known.
    bound_until: datetime | None = None
    #: Addresses of edges that the target names, besides the addresses that resolvers give.
    edges: tuple[str, ...] = ()

    def seen_at(self, fingerprint: str | None) -> datetime | None:
        """Return when the certificate of the `last` rollout was seen served here.

        Return `None` before that moment, and for any other certificate.
        """
        is_last = self.last is not None and self.last.fingerprint == fingerprint
        return self.last.verified_at if self.last is not None and is_last else None


class RemoteCertificate(Struct, frozen=True):
    """A target's copy of a certificate of ours, recognised by label and fingerprint."""

    remote_id: str  #: The target's id of the copy.
    label: str  #: The copy's name at the target.
    fingerprint: str  #: The certificate's fingerprint.
    not_after: datetime  #: The end of the certificate's validity.
    #: The moment before which a removal is not tried again, because something uses the copy.
    in_use_until: datetime | None = None


class TargetRules(Struct, frozen=True):
    """A target's demands on a certificate, and the usual duration of a change there."""

    #: The validity that a certificate must still have at upload.
    min_remaining: timedelta = timedelta(0)
    needs_common_name: bool = False  #: Whether a certificate must have a common name.
    usual_change: Usual | None = None  #: How long a change usually takes, if known.

    def upload_deadline(self, certificate: Certificate) -> datetime:
        """Return the last moment at which the target accepts a certificate."""
        return certificate.not_after - self.min_remaining


class ObservedTarget(Struct, frozen=True):
    """The target of one deployment as observed.

    The target's adapter returns the domains and the copies. The engine adds `label`, `served`,
    `unmatched` and everything known from the state.
    """

    #: The account's name in the configuration.
    label: str = ""
    rules: TargetRules = field(default_factory=TargetRules)  #: The target's demands.
    domains: tuple[ObservedDomain, ...] = ()  #: The domains that this lineage serves here.
    #: Copies of the lineage's certificates.
    remotes: tuple[RemoteCertificate, ...] = ()
    #: The certificates presented by the addresses of each domain. Edges are asked only for domains
    #: bound to the current certificate, and for domains with an unknown binding.
    served: Mapping[str, tuple[Served, ...]] = field(default_factory=dict)
    #: Why the target could not be read.
    failure: CertferryError | None = None
    #: If the target could not be read (`failure`): the changes begun there and still open.
    in_progress: tuple[records.RolloutRecord, ...] = ()
    #: All other unused certificates, if the scope asked for `others`.
    others: tuple[records.OtherCertificate, ...] = ()
    #: Since when a change of another lineage is open here. Until the change ends, edges may serve
    #: `others`.
    unsettled_since: datetime | None = None
    #: Certificates labelled as ours and missing from the state.
    unremembered: tuple[records.OtherCertificate, ...] = ()
    #: Other lineages serving domains here in place of this lineage.
    owned_elsewhere: tuple[str, ...] = ()
    #: Failures to read single domains.
    unread: tuple[CertferryError, ...] = ()
    #: Whether the target cannot list copies; `remotes` are then the copies in the state.
    remotes_hidden: bool = False
    #: Domains left out by `exclude`.
    excluded: tuple[str, ...] = ()
    #: Patterns of the deployment that match no domain.
    unmatched: tuple[str, ...] = ()
    #: Domains outside the certificate's names.
    uncovered: tuple[str, ...] = ()
    #: Domains switched off at the target and not named in the deployment.
    left_out: tuple[ObservedDomain, ...] = ()
    quota: records.Quota | None = None  #: How full the account is, after a refused upload.

    def proves(self, domain: ObservedDomain) -> bool:
        """Whether handshakes prove a domain's certificate: of a receiver, only with `serves`."""
        return not domain.kind.is_receiver or domain.domain in self.served

    @property
    def is_owned_elsewhere(self) -> bool:
        """Whether other lineages serve every domain covered here by this lineage."""
        return bool(self.owned_elsewhere) and not self.domains

    def remote_of(self, fingerprint: str) -> RemoteCertificate | None:
        """Return the target's copy of a certificate, or `None`."""
        return next((r for r in self.remotes if r.fingerprint == fingerprint), None)

    def fingerprint_of(self, remote_id: str | None) -> str | None:
        """Return the fingerprint of the lineage's copy with this id at the target; `None` if no
        copy of the lineage has the id.
        """
        return next((r.fingerprint for r in self.remotes if r.remote_id == remote_id), None)


class Observation(Struct, frozen=True):
    """All facts for decisions about one lineage."""

    #: The versions, newest first; the version in another client's files, if any, comes before all.
    versions: tuple[Version, ...] = ()
    #: The observed targets, in the order of the declared deployments.
    targets: tuple[ObservedTarget, ...] = ()
    #: The state's records of the lineage.
    remembered: records.Remembered = field(default_factory=records.Remembered)

    @property
    def current(self) -> Version | None:
        """The version in force; `None` before the first certificate."""
        return self.versions[0] if self.versions else None

    def version(self, fingerprint: str | None) -> Version | None:
        """Return the version with a fingerprint, and for `None` the version in force. Return `None`
        without that version.
        """
        if fingerprint is None:
            return self.current
        return next((v for v in self.versions if v.fingerprint == fingerprint), None)

    @property
    def has_withdrawn(self) -> bool:
        """Whether a certificate was withdrawn from any domain."""
        return any(domain.withdrawn for target in self.targets for domain in target.domains)

    @property
    def is_owned_elsewhere(self) -> bool:
        """Whether other lineages serve every domain declared for this lineage."""
        return bool(self.targets) and all(target.is_owned_elsewhere for target in self.targets)

    @property
    def owned_elsewhere(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Targets of which other lineages serve every domain, each with those lineages' names."""
        return tuple(
            (target.label, target.owned_elsewhere)
            for target in self.targets
            if target.is_owned_elsewhere
        )

    def find(self, label: str, domain: str) -> tuple[ObservedTarget, ObservedDomain] | None:
        """Return a domain and its target from any deployment of the account, or `None`."""
        places = (
            (target, place)
            for target in self.targets
            if target.label == label
            for place in target.domains
            if place.domain == domain
        )
        return next(places, None)

    def locate(self, label: str, domain: str) -> tuple[ObservedTarget, ObservedDomain]:
        """Return an observed domain and its target. Raises `LookupError` if absent."""
        place = self.find(label, domain)
        if place is None:
            raise LookupError(label, domain)
        return place


def is_served(addresses: Addresses, fingerprint: str) -> bool:
    """Return whether an address answered, and every address that answered presents the certificate
    and is `valid`.
    """
    answered = [address for address in addresses if address.answered]
    return bool(answered) and all(a.fingerprint == fingerprint and a.valid for a in answered)


def contradicted(observed: Observation, now: datetime) -> frozenset[tuple[str, str]]:
    """Return the domains whose edges contradict the target's report, by account and name.

    Only domains count for which the target reports the wanted certificate as bound. An address
    contradicts the report by presenting another tool's certificate. Before all addresses were seen
    to serve the wanted certificate, some addresses may present an earlier version, or none;
    afterwards both contradict the report as well.
    """
    ours = {version.fingerprint for version in observed.versions}
    return frozenset(
        (target.label, domain.domain)
        for target in observed.targets
        for domain in target.domains
        if not (domain.kind.is_receiver or domain.binding_hidden)
        and _is_contradicted(domain, target, observed.versions, ours, now)
    )


def _is_contradicted(
    domain: ObservedDomain,
    target: ObservedTarget,
    versions: Sequence[Version],
    ours: Collection[str],
    now: datetime,
) -> bool:
    served = target.served.get(domain.domain, ())
    wanted = version_for(domain.withdrawn, versions, now) if served else None
    if wanted is None or target.fingerprint_of(domain.bound) != wanted.fingerprint:
        return False
    presented = {a.fingerprint for a in served if a.answered} - {wanted.fingerprint}
    if domain.seen_at(wanted.fingerprint) is not None:
        return bool(presented)
    return bool(presented - {None} - {*ours})
