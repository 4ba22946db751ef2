"""Observe the state, the targets, the receivers and the edges of one lineage."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

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

_SOURCES = "[sources]"
"""The notes of which host has the files of a certificate that another client makes."""

_log = logging.getLogger(__name__)


def without_remembered(found: ObservedTarget, lineage: str, ports: Ports) -> ObservedTarget:
    """Drop what a lineage with the same labels knows, by the state as it is after the target."""
    same = [one for one in {lineage, *ports.state.lineages()} if owners(one) & owners(lineage)]
    known = {
        label
        for one, versions in ports.state.versions_of(same).items()
        for version in versions
        for label in labels_of(one, version.fingerprint)
    }
    left = tuple(other for other in found.unremembered if other.label not in known)
    return replace(found, unremembered=left)


def with_file_names(desired: DesiredCertificate, ports: Ports) -> DesiredCertificate:
    """Return it with what its files hold, or, where another host has them, with the names that are
    stored. Raises `CertificateError` and `PlanRefused`.
    """
    if desired.files is None:
        return desired
    bundle = _offered(desired, desired.files, ports)
    if bundle is None:
        (newest, *_) = ports.state.versions(desired.lineage)
        read = replace(desired, names=newest.certificate.names, offered=None)
        return replace(read, offered_fullchain=None, offered_issuer_end=None)
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
    """Return what the files hold. Where another host's count, `None`, unless there is a newer
    certificate in these.
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
    """Return whether it is another host that has the files of a certificate that is made there."""
    if not state.is_shared:
        return False
    return state.account_note(_SOURCES, lineage) not in {None, state.host}


def store_source(desired: DesiredCertificate, state: StateStore) -> None:
    """Store that this host has the files that were read, where another could have them."""
    is_known = desired.offered is None or not state.is_shared
    if not is_known and state.account_note(_SOURCES, desired.lineage) != state.host:
        state.update_account_note(_SOURCES, desired.lineage, lambda _: state.host)


def as_known(
    desired: DesiredCertificate, source: CertificateSource, state: StateStore, *, read: bool
) -> DesiredCertificate:
    """Return it with the names of its files, as `read` or stored. A wrong file raises nothing."""
    if desired.files is None:
        return desired
    versions = state.versions_of([desired.lineage])[desired.lineage]
    remembered = versions[0].certificate.names if versions else ()
    if remembered and not read:
        return replace(desired, names=remembered)
    try:
        return replace(desired, names=source.read(desired.files).certificate.names)
    except Exception:  # noqa: BLE001 - nothing is lost of it; see above
        return replace(desired, names=remembered)


AT_ONCE, FRESH = 100, 5.0
"""How many lineages `ReadAhead` reads at once, and for how many seconds that counts. Another run
may change the state meanwhile, as it may at any time between that reading and a target's. More at
once take longer than `run.STALLED`, and threads that only wait for each other (`benchmarks.sync`).
"""


class ReadAhead:
    """What the state said of the lineages that a run is about to observe, in their order: read for
    many at once, and given once, while it is fresh. Safe to use from any thread.
    """

    def __init__(self, state: StateStore, lineages: Iterable[str]) -> None:
        self._state = state
        self._lineages = list(lineages)
        self._places = {lineage: place for place, lineage in enumerate(self._lineages)}
        self._read: dict[str, Remembered] = {}
        self._read_at = 0.0
        self._guard = threading.Lock()

    def remembered(self, lineage: str) -> Remembered:
        """Return what was stored of a lineage a moment ago. Raises `StateError`."""
        with self._guard:
            is_fresh = time.monotonic() - self._read_at < FRESH
            if not is_fresh or lineage not in self._read:
                place = self._places[lineage]
                try:
                    self._read = {
                        **self._state.remembered_of(self._lineages[place : place + AT_ONCE])
                    }
                except StateError:  # what is damaged of one must not stop the others
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
    """Observe everything one lineage touches. Changes nothing.

    Edges are asked only where the target says that the current certificate is bound, or does not
    say what is, unless `every_edge` is set: elsewhere there is nothing to verify yet. With `anew`
    nothing counts that was read before. `remembered` is what the state has just said.

    The state is read before the targets, so another run may have bound its certificate in between:
    where something is bound that the state did not know, the state is read once more. Where edges
    contradict the binding that a target reported, the target is asked for that binding once more:
    a list may hide what another tool has changed.
    """
    known = with_remembered(Observation(), desired, ports, remembered)
    observed = _observe(desired, ports, known, every_edge=every_edge, anew=anew)
    if any(map(_is_bound_to_unknown, observed.targets)):
        again = with_remembered(Observation(), desired, ports)
        if again.remembered != known.remembered:
            known, anew = again, True
            observed = _observe(desired, ports, known, every_edge=every_edge, anew=anew)
    doubted = contradicted(observed, ports.now())
    if not doubted:
        return observed
    return _observe(desired, ports, known, every_edge=every_edge, anew=anew, doubted=doubted)


def _observe(
    desired: DesiredCertificate,
    ports: Ports,
    known: Observation,
    *,
    every_edge: bool,
    anew: bool,
    doubted: frozenset[tuple[str, str]] = frozenset(),
) -> Observation:
    observer = _TargetObserver(desired, ports, known, every_edge, anew, doubted)
    targets = tuple(observer.observe(deployment) for deployment in desired.deployments)
    observed = Observation(known.versions, targets, known.remembered)
    is_unread = any(target.in_progress for target in targets)
    return inferred.without_found(observed) if is_unread else observed


def _is_bound_to_unknown(target: ObservedTarget) -> bool:
    """Return whether a domain is bound to what is not known as ours."""
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
    """Return an observation with what the state says of the lineage now, or has just said."""
    if remembered is None:
        remembered = ports.state.remembered(desired.lineage)
    versions, offered = remembered.versions, desired.offered
    if offered is not None:
        # In force is what the files hold, which may be an older certificate than the newest.
        wanted = offered.fingerprint
        versions = tuple(sorted(versions, key=lambda v: v.fingerprint != wanted))
    return Observation(versions, observed.targets, remembered)


def with_renewal_info(
    desired: DesiredCertificate, observed: Observation, ports: Ports
) -> Observation:
    """Ask the CA when to renew, at most twice a day; without an answer its last one counts."""
    version, now = observed.current, ports.now()
    if version is None or desired.files is not None or observed.is_owned_elsewhere:
        return observed
    if not may_ask(version.ask_after, now) or why_order(desired, observed, now) is not None:
        return observed
    window, retry_after = version.window, None
    ports.progress(Asking(desired.lineage, Text("asking the CA when it is to be renewed")))
    try:
        leaf = ports.state.bundle(desired.lineage, version.number).cert_pem
        info = ports.issuer.renewal_info(leaf, version.directory or "")
        window, retry_after = plausible_window(version.certificate, info.window), info.retry_after
        if window is None and info.window is not None:
            _log.warning(
                Text(
                    "{lineage}: the CA wants it renewed between {start} and {end}: ignored, since"
                    " that lies outside the certificate's validity",
                    lineage=desired.lineage,
                    start=info.window.start,
                    end=info.window.end,
                )
            )
    except (IssuanceError, StateError) as error:  # the certificate is as good as before
        said = Text("{lineage}: not known when the CA wants it renewed: {problem}")
        _log.info(said.filled(lineage=desired.lineage, problem=error.message))
    again = ask_after(now, retry_after)
    ports.state.save_renewal_info(desired.lineage, version.fingerprint, window, again)
    return with_remembered(observed, desired, ports)


@dataclass(frozen=True, slots=True)
class _TargetObserver:
    """Observes the targets of one lineage."""

    desired: DesiredCertificate
    ports: Ports
    known: Observation
    """The lineage by the state."""
    every_edge: bool
    """Whether edges are asked wherever a domain is, and not only where ours is bound."""
    anew: bool
    """Whether lists that were read before count no more."""
    doubted: frozenset[tuple[str, str]]
    """The account and name of each domain whose binding the edges contradict."""

    def observe(self, deployment: DesiredDeployment) -> ObservedTarget:
        """Observe the target of one deployment, and add what is stored of it."""
        label, remembered = deployment.target, self.known.remembered
        records = {r.domain: r for r in remembered.rollouts if r.target == label}
        found = self._found(deployment, records)
        if remembered.withdrawals:
            found = inferred.with_withdrawals(found, label, remembered.withdrawals)
        if found.failure is not None or deployment.delivery is not None:
            return found
        found = self._with_edges(self._with_uploads(found, label), label, records)
        if not any(domain.binding_hidden for domain in found.domains):
            return found
        return inferred.with_likely_bound(found, self.ports.now(), self.ports.verify_timeout)

    def _found(
        self, deployment: DesiredDeployment, records: Mapping[str, RolloutRecord]
    ) -> ObservedTarget:
        if deployment.delivery is not None:
            (name,) = deployment.domains or ("",)
            self._report(Text("looking at {name}", name=name))
            receiver = self.ports.receiver(deployment.delivery)
            return observe_receiver(
                receiver, self.desired.lineage, deployment, self.known.versions, records.get(name)
            )
        self._report(Text("asking {target} for its domains", target=deployment.target))
        try:
            return self._read(deployment)
        except DeployError as error:
            current = self.known.current
            fingerprint = None if current is None else current.fingerprint
            return inferred.unread(deployment.target, error, records.values(), fingerprint)

    def _read(self, deployment: DesiredDeployment) -> ObservedTarget:
        found = self.ports.targets[deployment.target].observe(
            Scope(
                lineage=self.desired.lineage,
                names=self.desired.names,
                domains=deployment.domains,
                kind=deployment.kind,
                known=[version.certificate for version in self.known.versions],
                others=deployment.retire is Retirement.ALL_UNUSED,
                globs=deployment.globs,
                exclude=deployment.exclude,
                anew=self.anew,
                doubted=frozenset(
                    domain for label, domain in self.doubted if label == deployment.target
                ),
            )
        )
        if any(domain.problem for domain in found.domains):
            found = inferred.about_lineage(found, self.desired.lineage)
        if deployment.has_patterns:
            found = inferred.with_unmatched(found, deployment)
        if found.unremembered:
            found = without_remembered(found, self.desired.lineage, self.ports)
        found = self._owned_only(found, deployment)
        if not found.others:
            return found
        return without_claimed(found, self.desired.lineage, deployment.target, self.ports)

    def _owned_only(self, found: ObservedTarget, deployment: DesiredDeployment) -> ObservedTarget:
        """Drop domains that another lineage or deployment owns."""
        lineage, claims = self.desired.lineage, self.ports.claims

        def owned_of(domains: tuple[ObservedDomain, ...]) -> tuple[ObservedDomain, ...]:
            return tuple(d for d in domains if claims.owns(lineage, deployment, d.domain, d.kind))

        if found.left_out:
            found = replace(found, left_out=owned_of(found.left_out))
        owned = owned_of(found.domains)
        if len(owned) == len(found.domains):
            return found
        others = (d for d in found.domains if d not in owned)
        owners = {claims.owner(deployment.target, d.domain, d.kind) for d in others}
        owned_elsewhere = sorted(filter(None, owners - {lineage} or owners))
        return replace(found, domains=owned, owned_elsewhere=tuple(owned_elsewhere))

    def _with_uploads(self, found: ObservedTarget, label: str) -> ObservedTarget:
        """Add what is stored of our copies, where the target does not list them."""
        uploads = [upload for upload in self.known.remembered.uploads if upload.target == label]
        if found.remotes_hidden:
            found = inferred.with_remembered_remotes(found, self.known.versions, uploads)
        elif uploads and _is_bound_to_unknown(found):
            found = inferred.with_unlisted_copies(found, self.known.versions, uploads)
        if any(upload.in_use_until for upload in uploads):
            found = inferred.with_uses(found, uploads)
        return found

    def _with_edges(
        self, found: ObservedTarget, label: str, records: Mapping[str, RolloutRecord]
    ) -> ObservedTarget:
        """Add what the edges serve, and to each domain its record."""
        asked = [d.domain for d in found.domains if self.every_edge or self._may_serve(found, d)]
        if asked:
            self._report(Text("asking the edges what they serve"))
        served: Mapping[str, tuple[Served, ...]] = self.ports.probe.served(asked)
        domains = tuple(
            replace(domain, last=records[domain.domain]) if domain.domain in records else domain
            for domain in found.domains
        )
        return replace(found, label=label, domains=domains, served=served)

    def _report(self, what: Text) -> None:
        self.ports.progress(Asking(self.desired.lineage, what))

    def _may_serve(self, found: ObservedTarget, domain: ObservedDomain) -> bool:
        wanted = version_for(domain.withdrawn, self.known.versions, self.ports.now())
        if wanted is None:
            return False
        bound = found.fingerprint_of(domain.bound)
        return domain.binding_hidden or bound == wanted.fingerprint
