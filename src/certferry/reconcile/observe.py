"""The observation of one lineage: of the state, the targets, the receivers and the edges."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping

from msgspec import Struct

from certferry.core.certificates.certificate import (
    CertificateBundle,
    ask_after,
    may_ask,
    plausible_window,
)
from certferry.core.certificates.lineage import labels_of, owners, version_for
from certferry.core.desired.certificate import (
    DesiredCertificate,
    DesiredDeployment,
    PemFiles,
    Retirement,
)
from certferry.core.events import Asking
from certferry.core.observed import inferred
from certferry.core.observed.observation import (
    Observation,
    ObservedDomain,
    ObservedTarget,
    Served,
    contradicted,
)
from certferry.core.observed.records import Remembered, RolloutRecord
from certferry.core.planning.renewal import why_order
from certferry.errors import CertificateError, DeployError, IssuanceError, StateError
from certferry.ports.source import CertificateSource
from certferry.ports.state import StateStore
from certferry.ports.target import Scope
from certferry.reconcile.receivers import observe_receiver
from certferry.reconcile.removals import without_claimed
from certferry.reconcile.run import Ports
from certferry.text import Text
from certferry.values import replace

_SOURCES = "[sources]"
"""The name, in place of an account's label, of the notes that say which host has the files of a
certificate made by another client.
"""

_log = logging.getLogger(__name__)


def without_remembered(target: ObservedTarget, lineage: str, ports: Ports) -> ObservedTarget:
    """Return the target without the `unremembered` copies that have the label of a stored version.

    A label has only the beginning of a lineage's name. Therefore versions of other lineages with
    the same beginning count as well. The versions are read after the target, because another run
    may have uploaded a copy in between.
    """
    same = [name for name in {lineage, *ports.state.lineages()} if owners(name) & owners(lineage)]
    labels = {
        label
        for name, versions in ports.state.versions_of(same).items()
        for version in versions
        for label in labels_of(name, version.fingerprint)
    }
    left = tuple(other for other in target.unremembered if other.label not in labels)
    return replace(target, unremembered=left)


def with_file_names(desired: DesiredCertificate, ports: Ports) -> DesiredCertificate:
    """Return the declaration with the names and the certificate from the declared files. If another
    host has the files (`_offered`), take the names of the newest stored version. Without declared
    files, return the declaration unchanged. Raises `CertificateError`, `PlanRefused` and
    `StateError`.
    """
    if desired.files is None:
        return desired
    bundle = _offered(desired, desired.files, ports)
    if bundle is None:
        (newest, *_) = ports.state.versions(desired.lineage)
        stored = replace(desired, names=newest.certificate.names, offered=None)
        return replace(stored, offered_fullchain=None, offered_issuer_end=None)
    return replace(
        desired,
        names=bundle.certificate.names,
        offered=bundle.certificate,
        offered_fullchain=bundle.fullchain_digest,
        offered_issuer_end=bundle.issuer_not_after,
    )


def _offered(
    desired: DesiredCertificate, files: PemFiles, ports: Ports
) -> CertificateBundle | None:
    """Return the certificate in this host's files.

    If another host has the files and a version is stored, return `None`, unless this host's files
    have a certificate that begins later than the newest version.
    """
    is_elsewhere = is_source_elsewhere(desired.lineage, ports.state)
    versions = ports.state.versions(desired.lineage) if is_elsewhere else ()
    if not versions:
        return ports.source.read(files)
    try:
        bundle = ports.source.read(files)
    except CertificateError:
        return None
    is_newer = bundle.certificate.not_before > versions[0].certificate.not_before
    return bundle if is_newer else None


def is_source_elsewhere(lineage: str, state: StateStore) -> bool:
    """Return whether, by the state's note, another host has the lineage's certificate files."""
    if not state.is_shared:
        return False
    return state.account_note(_SOURCES, lineage) not in {None, state.host}


def store_source(desired: DesiredCertificate, state: StateStore) -> None:
    """Store that this host has the files, if the files were read and hosts share the state."""
    is_known = desired.offered is None or not state.is_shared
    if not is_known and state.account_note(_SOURCES, desired.lineage) != state.host:
        state.update_account_note(_SOURCES, desired.lineage, lambda _: state.host)


def as_known(
    desired: DesiredCertificate, source: CertificateSource, state: StateStore, *, read: bool
) -> DesiredCertificate:
    """Return the declaration with the names of the certificate in the declared files. Without
    declared files, return the declaration unchanged. Raises `StateError`.

    The names come from the state. With `read`, or if no names are stored, the names come from the
    files, and from the state only if the files are unreadable.
    """
    if desired.files is None:
        return desired
    versions = state.versions_of([desired.lineage])[desired.lineage]
    remembered = versions[0].certificate.names if versions else ()
    if remembered and not read:
        return replace(desired, names=remembered)
    try:
        return replace(desired, names=source.read(desired.files).certificate.names)
    except Exception:  # noqa: BLE001 - the stored names take the place of the files' names
        return replace(desired, names=remembered)


AT_ONCE, FRESH = 100, 5.0
"""`AT_ONCE` is how many lineages `ReadAhead` reads together. A larger read lasts longer than
`run.STALLED`, and the queue would start threads that only wait for the read (`benchmarks.sync`).

`FRESH` is how many seconds the records may be used. Another run may change the state in these
seconds, as after any read.
"""


class ReadAhead:
    """The state's records of the lineages that a run is about to observe.

    The records of many lineages are read at once, in the order of the run. Records that were
    returned once, or are too old, are read again. Safe to use from any thread.
    """

    def __init__(self, state: StateStore, lineages: Iterable[str]) -> None:
        self._state = state
        self._lineages = list(lineages)
        self._places = {lineage: place for place, lineage in enumerate(self._lineages)}
        self._read: dict[str, Remembered] = {}
        self._read_at = 0.0
        self._guard = threading.Lock()

    def remembered(self, lineage: str) -> Remembered:
        """Return the records of a lineage, at most `FRESH` seconds old. Raises `StateError`."""
        with self._guard:
            is_fresh = time.monotonic() - self._read_at < FRESH
            if not is_fresh or lineage not in self._read:
                place = self._places[lineage]
                try:
                    self._read = {
                        **self._state.remembered_of(self._lineages[place : place + AT_ONCE])
                    }
                except StateError:  # a damaged record of one lineage must not stop the others
                    return self._state.remembered(lineage)
                self._read_at = time.monotonic()
            return self._read.pop(lineage)


def observe(
    desired: DesiredCertificate,
    ports: Ports,
    *,
    every_edge: bool = False,
    anew: bool = False,
    remembered: Remembered | None = None,
) -> Observation:
    """Return an observation of everything that one lineage touches. Changes nothing. Raises
    `StateError` and `Interrupted`; a target that cannot be read is in the observation.

    The edges of a domain are asked if the domain is bound to the certificate that the domain should
    serve, or if the target hides the binding. Other domains have nothing to verify yet.

    - `every_edge`: ask the edges of every domain.
    - `anew`: ignore cached lists.
    - `remembered`: the lineage's records, if just read.

    The order is:

    1. Read the state, then the targets and the edges.
    2. If a domain is bound to a certificate missing from the records, read the state again: another
       run may have bound the certificate in between. If the records changed, observe anew.
    3. If edges contradict a reported binding, ask the target for the binding again: a list may hide
       a change by another tool.
    """
    stored = with_remembered(Observation(), desired, ports, remembered)
    observed = _observe(desired, ports, stored, every_edge=every_edge, anew=anew)
    if any(map(_is_bound_to_unknown, observed.targets)):
        again = with_remembered(Observation(), desired, ports)
        if again.remembered != stored.remembered:
            stored, anew = again, True
            observed = _observe(desired, ports, stored, every_edge=every_edge, anew=anew)
    doubted = contradicted(observed, ports.now())
    if not doubted:
        return observed
    return _observe(desired, ports, stored, every_edge=every_edge, anew=anew, doubted=doubted)


def _observe(
    desired: DesiredCertificate,
    ports: Ports,
    stored: Observation,
    *,
    every_edge: bool,
    anew: bool,
    doubted: frozenset[tuple[str, str]] = frozenset(),
) -> Observation:
    observer = _TargetObserver(desired, ports, stored, every_edge, anew, doubted)
    targets = tuple(observer.observe(deployment) for deployment in desired.deployments)
    observed = Observation(stored.versions, targets, stored.remembered)
    is_unread = any(target.in_progress for target in targets)
    return inferred.without_found(observed) if is_unread else observed


def _is_bound_to_unknown(target: ObservedTarget) -> bool:
    """Return whether a domain is bound to a certificate that is not among our copies."""
    return any(
        domain.bound is not None
        and not domain.kind.is_receiver
        and target.fingerprint_of(domain.bound) is None
        for domain in target.domains
    )


def with_remembered(
    observed: Observation,
    desired: DesiredCertificate,
    ports: Ports,
    remembered: Remembered | None = None,
) -> Observation:
    """Return the observation with the lineage's records: `remembered`, or else read now."""
    if remembered is None:
        remembered = ports.state.remembered(desired.lineage)
    versions, offered = remembered.versions, desired.offered
    if offered is not None:
        # The certificate in the files is in force, even if the state has a newer certificate.
        wanted = offered.fingerprint
        versions = tuple(sorted(versions, key=lambda v: v.fingerprint != wanted))
    return Observation(versions, observed.targets, remembered)


def with_renewal_info(
    desired: DesiredCertificate, observed: Observation, ports: Ports
) -> Observation:
    """Return the observation with the CA's answer about when to renew, after asking the CA if the
    last answer is too old (`ask_after`).

    The CA is not asked about a certificate that is due already, that another client made, or that
    serves no domain because other lineages serve all. If the query fails, the last answer counts.
    Raises `StateError`.
    """
    version, now = observed.current, ports.now()
    if version is None or desired.files is not None or observed.is_owned_elsewhere:
        return observed
    if not may_ask(version.ask_after, now) or why_order(desired, observed, now) is not None:
        return observed
    window, retry_after = version.window, None
    ports.progress(Asking(desired.lineage, Text("asking the CA for the renewal time")))
    try:
        leaf = ports.state.bundle(desired.lineage, version.number).cert_pem
        info = ports.issuer.renewal_info(leaf, version.directory or "")
        window, retry_after = plausible_window(version.certificate, info.window), info.retry_after
        if window is None and info.window is not None:
            _log.warning(
                Text(
                    "{lineage}: certferry ignores the CA's renewal time, between {start} and"
                    " {end}, outside the certificate's validity",
                    lineage=desired.lineage,
                    start=info.window.start,
                    end=info.window.end,
                )
            )
    except (IssuanceError, StateError) as error:  # a failed query leaves the certificate in force
        message = Text("{lineage}: the CA's renewal time is unknown: {problem}")
        _log.info(message.filled(lineage=desired.lineage, problem=error.message))
    again = ask_after(now, retry_after)
    ports.state.save_renewal_info(desired.lineage, version.fingerprint, window, again)
    return with_remembered(observed, desired, ports)


class _TargetObserver(Struct, frozen=True):
    """Observes the targets of one lineage."""

    desired: DesiredCertificate  #: The declaration of the lineage.
    ports: Ports  #: The targets, receivers, edges and state to ask.
    stored: Observation  #: The lineage's records, without targets.
    every_edge: bool  #: Whether to ask the edges of all domains.
    anew: bool  #: Whether to ignore cached lists.
    #: The account and name of each domain with a binding contradicted by edges.
    doubted: frozenset[tuple[str, str]]

    def observe(self, deployment: DesiredDeployment) -> ObservedTarget:
        """Observe a deployment's target or receiver, and return the observation with the state's
        records. An account that cannot be read has a `failure`.
        """
        label, remembered = deployment.target, self.stored.remembered
        records = {r.domain: r for r in remembered.rollouts if r.target == label}
        target = self._found(deployment, records)
        if remembered.withdrawals:
            target = inferred.with_withdrawals(target, label, remembered.withdrawals)
        if target.failure is not None or deployment.delivery is not None:
            return target
        target = self._with_edges(self._with_uploads(target, label), label, records)
        if not any(domain.binding_hidden for domain in target.domains):
            return target
        return inferred.with_likely_bound(target, self.ports.now(), self.ports.verify_timeout)

    def _found(
        self, deployment: DesiredDeployment, records: Mapping[str, RolloutRecord]
    ) -> ObservedTarget:
        if deployment.delivery is not None:
            (name,) = deployment.domains or ("",)
            self._report(Text("checking {name}", name=name))
            receiver = self.ports.receiver(deployment.delivery)
            return observe_receiver(
                receiver, self.desired.lineage, deployment, self.stored.versions, records.get(name)
            )
        self._report(Text("asking {target} for its domains", target=deployment.target))
        try:
            return self._read(deployment)
        except DeployError as error:
            current = self.stored.current
            fingerprint = None if current is None else current.fingerprint
            return inferred.unread(deployment.target, error, records.values(), fingerprint)

    def _read(self, deployment: DesiredDeployment) -> ObservedTarget:
        target = self.ports.targets[deployment.target].observe(
            Scope(
                lineage=self.desired.lineage,
                names=self.desired.names,
                domains=deployment.domains,
                kind=deployment.kind,
                known=[version.certificate for version in self.stored.versions],
                others=deployment.retire is Retirement.ALL_UNUSED,
                globs=deployment.globs,
                exclude=deployment.exclude,
                anew=self.anew,
                doubted=frozenset(
                    domain for label, domain in self.doubted if label == deployment.target
                ),
            )
        )
        if any(domain.problem for domain in target.domains):
            target = inferred.about_lineage(target, self.desired.lineage)
        if deployment.has_patterns:
            target = inferred.with_unmatched(target, deployment)
        if target.unremembered:
            target = without_remembered(target, self.desired.lineage, self.ports)
        target = self._owned_only(target, deployment)
        if not target.others:
            return target
        return without_claimed(target, self.desired.lineage, deployment.target, self.ports)

    def _owned_only(self, target: ObservedTarget, deployment: DesiredDeployment) -> ObservedTarget:
        """Replace domains owned by another lineage or deployment by the names of the owners."""
        lineage, claims = self.desired.lineage, self.ports.claims

        def owned_of(domains: tuple[ObservedDomain, ...]) -> tuple[ObservedDomain, ...]:
            return tuple(d for d in domains if claims.owns(lineage, deployment, d.domain, d.kind))

        if target.left_out:
            target = replace(target, left_out=owned_of(target.left_out))
        owned = owned_of(target.domains)
        if len(owned) == len(target.domains):
            return target
        others = (d for d in target.domains if d not in owned)
        owners = {claims.owner(deployment.target, d.domain, d.kind) for d in others}
        owned_elsewhere = sorted(filter(None, owners - {lineage} or owners))
        return replace(target, domains=owned, owned_elsewhere=tuple(owned_elsewhere))

    def _with_uploads(self, target: ObservedTarget, label: str) -> ObservedTarget:
        """Add our stored copies that the target's list lacks, and until when copies are in use."""
        uploads = [upload for upload in self.stored.remembered.uploads if upload.target == label]
        if target.remotes_hidden:
            target = inferred.with_remembered_remotes(target, self.stored.versions, uploads)
        elif uploads and _is_bound_to_unknown(target):
            target = inferred.with_unlisted_copies(target, self.stored.versions, uploads)
        if any(upload.in_use_until for upload in uploads):
            target = inferred.with_uses(target, uploads)
        return target

    def _with_edges(
        self, target: ObservedTarget, label: str, records: Mapping[str, RolloutRecord]
    ) -> ObservedTarget:
        """Add the certificates at the edges, and the rollout record of each domain."""
        asked = [d.domain for d in target.domains if self.every_edge or self._may_serve(target, d)]
        if asked:
            self._report(Text("asking the edges for their certificates"))
        served: Mapping[str, tuple[Served, ...]] = self.ports.probe.served(
            asked, {domain.domain: domain.edges for domain in target.domains}
        )
        domains = tuple(
            replace(domain, last=records[domain.domain]) if domain.domain in records else domain
            for domain in target.domains
        )
        return replace(target, label=label, domains=domains, served=served)

    def _report(self, activity: Text) -> None:
        self.ports.progress(Asking(self.desired.lineage, activity))

    def _may_serve(self, target: ObservedTarget, domain: ObservedDomain) -> bool:
        wanted = version_for(domain.withdrawn, self.stored.versions, self.ports.now())
        if wanted is None:
            return False
        bound = target.fingerprint_of(domain.bound)
        return domain.binding_hidden or bound == wanted.fingerprint
