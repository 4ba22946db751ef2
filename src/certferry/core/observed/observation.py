"""An observation of one lineage: versions, targets, and the certificates at edges (addresses)."""

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
    #: The lineage's certificates, newest first. A copy at the target is the lineage's if the copy
    #: has one of these certificates.
    known: Sequence[Certificate]
    #: Whether to also return the certificates at the target that are not the lineage's (`others`).
    others: bool = False
    #: Patterns for domains besides `domains`. Only domains covered by `names` are chosen.
    globs: tuple[str, ...] = ()
    #: Patterns for domains to leave out.
    exclude: tuple[str, ...] = ()
    #: Whether to read from the service anew, whatever an earlier read left in a cache.
    anew: bool = False
    #: Domains with edges that contradict the target's report (`contradicted`). For these domains
    #: the target asks the service for the binding now, and trusts no list.
    doubted: frozenset[str] = frozenset()


CERTIFICATE = "certificate"
"""The name that stands for the certificate in `Change.setting`."""

UNKNOWN = Text("unknown")
"""The words for a setting that the target does not report."""

NOTHING, TO_COME = "—", "…"
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Change(Struct, frozen=True):
    """The change of a setting, or of the certificate, at a domain or a receiver."""

    #: The name of the setting, or `CERTIFICATE`.
    setting: str
    #: The old value; for our certificate, the fingerprint. `None` if absent or `untold`, and for
    #: another tool's certificate at a target.
    before: str | None
    #: The new value, a fingerprint for a certificate; `None` while still to be issued.
    after: str | None
    #: Whether the target hides the old value.
    untold: bool = False
    #: The target's id of the certificate bound before, if any.
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
    """Return a text for each change, as a value of a sentence that lists changes."""
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
    """Return the changes as a line to store. A later run recognises a drift by the line."""
    return ", ".join(f"{change.setting}: {change.was}" for change in changes)


class DomainState(StrEnum):
    """How a domain stands at the target."""

    READY = "ready"  #: At rest, without a failure.
    PROCESSING = "processing"  #: The target is carrying out a change.
    FAILED = "failed"  #: The last change failed. The target accepts another change.
    UNAVAILABLE = "unavailable"  #: The domain cannot be changed, for example because it is frozen.


class Served(Struct, frozen=True):
    """The answer of one address to a handshake: usually a certificate."""

    address: str  #: The IP address.
    #: The fingerprint of the presented leaf. `None` if the address was silent, presented no
    #: certificate (a visitor gets an error), or was not asked.
    fingerprint: str | None
    valid: bool  #: Whether clients accept the certificate for the domain.
    problem: Problem | None = None  #: Why clients refuse the certificate or get none.
    not_after: datetime | None = None  #: The end of the certificate's validity.
    #: Whether the address could not be reached. An address that refused the handshake was reached.
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
        """Whether the address counts in the judgment whether a domain serves a certificate: the
        address was reached, or `was_not_asked`.
        """
        return not self.silent

    @property
    def was_not_asked(self) -> bool:
        """Whether this host lacked file handles or memory to ask the address."""
        return self.problem is not None and self.problem.code == EdgeProblemCode.NOT_ASKED


Addresses = Sequence[Served]
"""The answers of the addresses of one domain."""


class ReceiverDrift(Struct, frozen=True):
    """A reason to deliver again a certificate that the receiver already has."""

    reason: Reason  #: Why the receiver needs another delivery.
    changes: Changes = ()  #: The differences, if certferry can name them.


class ObservedDomain(Struct, frozen=True):
    """A domain at its target, or a receiver, as observed."""

    domain: str  #: The domain's name; a receiver's directory or label.
    kind: Kind  #: The kind that the target reports.
    state: DomainState  #: How the domain stands.
    #: The target's id of the bound certificate, if any. With `binding_hidden`, the probable id
    #: (`likely_binding`), if any. For a receiver, the installed fingerprint, if any.
    bound: str | None = None
    https: HttpsSettings = field(default_factory=HttpsSettings)  #: The settings at the target.
    #: Why the domain is `UNAVAILABLE`, or why the last change at the target `FAILED`.
    problem: CertferryError | None = None
    drift: ReceiverDrift | None = None  #: Why a receiver needs another delivery, if so.
    #: For a receiver, the digest of leaf and issuers; `None` if unknown.
    fullchain_digest: str | None = None
    #: Whether the target does not report the bound certificate.
    binding_hidden: bool = False
    last: records.RolloutRecord | None = None  #: The record of the domain's last rollout.
    #: Whether the domain has HTTPS settings to set beside the certificate.
    has_settings: bool = True
    #: Fingerprints of certificates withdrawn from the domain: no run binds them here again.
    withdrawn: frozenset[str] = frozenset()
    task: records.TargetTask | None = None  #: The target's last change, if reported.
    #: The end of the bound certificate, if another tool owns it and the end is known.
    bound_until: datetime | None = None
    #: Addresses of edges named by the target, in addition to the addresses in DNS.
    edges: tuple[str, ...] = ()

    def seen_at(self, fingerprint: str | None) -> datetime | None:
        """Return when the `last` rollout's certificate was seen served here.

        Return `None` if the certificate was not seen yet, or is not the `last` rollout's.
        """
        is_last = self.last is not None and self.last.fingerprint == fingerprint
        return self.last.verified_at if self.last is not None and is_last else None


class RemoteCertificate(Struct, frozen=True):
    """A target's copy of a certificate of ours, recognised by label and fingerprint."""

    remote_id: str  #: The target's id of the copy.
    label: str  #: The copy's name at the target.
    fingerprint: str  #: The certificate's fingerprint.
    not_after: datetime  #: The end of the certificate's validity.
    #: After the target refused to remove a copy in use: when runs try the removal again.
    in_use_until: datetime | None = None


class TargetRules(Struct, frozen=True):
    """A target's demands on a certificate, and the usual duration of a change there."""

    #: The remaining validity that the target demands of a certificate at upload.
    min_remaining: timedelta = timedelta(0)
    needs_common_name: bool = False  #: Whether a certificate must have a common name.
    usual_change: Usual | None = None  #: How long a change usually takes, if known.

    def upload_deadline(self, certificate: Certificate) -> datetime:
        """Return the last moment at which the target accepts an upload of a certificate."""
        return certificate.not_after - self.min_remaining


class ObservedTarget(Struct, frozen=True):
    """The target of one deployment as observed.

    The target's adapter returns the domains and the copies. `reconcile.observe` adds `label`,
    `served`, `unmatched` and the facts from the state.
    """

    label: str = ""  #: The account's name in the configuration; for a receiver, the kind.
    rules: TargetRules = field(default_factory=TargetRules)  #: The target's demands.
    domains: tuple[ObservedDomain, ...] = ()  #: The domains that this lineage should serve here.
    #: Copies of the lineage's certificates.
    remotes: tuple[RemoteCertificate, ...] = ()
    #: By domain, the answer of each address. Only some domains are asked: by default, domains bound
    #: to the certificate that the domain should serve, and domains with `binding_hidden`.
    served: Mapping[str, tuple[Served, ...]] = field(default_factory=dict)
    #: Why the target could not be read.
    failure: CertferryError | None = None
    #: If the target could not be read (`failure`): rollouts there that neither ended nor failed.
    in_progress: tuple[records.RolloutRecord, ...] = ()
    #: If the scope asked for `others`: other certificates that no lineage needs (`unclaimed`).
    others: tuple[records.OtherCertificate, ...] = ()
    #: When another lineage's newest open change here was accepted, or else began. Until the change
    #: ends, edges may still serve certificates in `others`.
    unsettled_since: datetime | None = None
    #: Certificates with a label of this lineage for a certificate that the state lacks.
    unremembered: tuple[records.OtherCertificate, ...] = ()
    #: The lineages that serve domains covered here in place of this lineage.
    owned_elsewhere: tuple[str, ...] = ()
    #: Failures to read single domains.
    unread: tuple[CertferryError, ...] = ()
    #: Whether the target cannot list copies; `remotes` are then the copies in the state.
    remotes_hidden: bool = False
    #: Domains left out by `exclude`.
    excluded: tuple[str, ...] = ()
    #: Patterns that match no domain, and names in `exclude` that exclude none.
    unmatched: tuple[str, ...] = ()
    #: Domains at the target that the certificate's names do not cover.
    uncovered: tuple[str, ...] = ()
    #: Covered domains that are switched off at the target, and that the deployment does not name.
    left_out: tuple[ObservedDomain, ...] = ()
    quota: records.Quota | None = None  #: How full the account is, after a refused upload.

    def proves(self, domain: ObservedDomain) -> bool:
        """Whether handshakes prove a domain's certificate: of a receiver, only with `serves`."""
        return not domain.kind.is_receiver or domain.domain in self.served

    @property
    def is_owned_elsewhere(self) -> bool:
        """Whether other lineages serve every domain that this lineage covers here."""
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

    #: The versions, newest first. If another client makes the certificate, the version in the
    #: client's files comes before all others.
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
        """Return the version with a fingerprint; for `None`, the version in force. Return `None` if
        there is no such version.
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
        """Whether other lineages serve every domain that this lineage covers, at every target."""
        return bool(self.targets) and all(target.is_owned_elsewhere for target in self.targets)

    @property
    def owned_elsewhere(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """The label of each target that `is_owned_elsewhere`, with the other lineages' names."""
        return tuple(
            (target.label, target.owned_elsewhere)
            for target in self.targets
            if target.is_owned_elsewhere
        )

    def find(self, label: str, domain: str) -> tuple[ObservedTarget, ObservedDomain] | None:
        """Return the domain and its target, or `None` if no deployment observed the domain."""
        places = (
            (target, place)
            for target in self.targets
            if target.label == label
            for place in target.domains
            if place.domain == domain
        )
        return next(places, None)

    def locate(self, label: str, domain: str) -> tuple[ObservedTarget, ObservedDomain]:
        """Return the same as `find`. Raises `LookupError` in place of `None`."""
        place = self.find(label, domain)
        if place is None:
            raise LookupError(label, domain)
        return place


def is_served(addresses: Addresses, fingerprint: str) -> bool:
    """Return whether at least one address answered, and every address that answered presents the
    certificate and is `valid`.
    """
    answered = [address for address in addresses if address.answered]
    return bool(answered) and all(a.fingerprint == fingerprint and a.valid for a in answered)


def contradicted(observed: Observation, now: datetime) -> frozenset[tuple[str, str]]:
    """Return the account and the name of each domain whose edges contradict the target's report.

    Only a report that the wanted certificate is bound can be contradicted. A certificate of another
    tool at an address always contradicts. Another version, or no certificate, contradicts only if
    all addresses were once seen to serve the wanted certificate; before, the change may be on its
    way.
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
