"""Look at the store, the targets and the edges, and write down what is there."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

from certferry.core.certificates.certificate import Certificate
from certferry.core.certificates.lineage import Version, labels_of, owners, version_for
from certferry.core.certificates.renewal import (
    RenewalInfo,
    RenewalWindow,
    ask_after,
    may_ask,
    plausible_window,
)
from certferry.core.desired.certificate import DesiredCertificate, DesiredDeployment, Retirement
from certferry.core.observed.inferred import (
    about_lineage,
    unread,
    with_likely_bindings,
    with_remembered_remotes,
    with_unlisted_copies,
    with_unmatched,
    with_uses,
    with_withdrawals,
    without_found,
)
from certferry.core.observed.observation import (
    Observation,
    ObservedDomain,
    ObservedTarget,
    Served,
)
from certferry.core.observed.records import RolloutRecord
from certferry.core.planning.rules import first_violated
from certferry.core.waiting import Asking
from certferry.errors import DeployError, IssuanceError, StateError
from certferry.ports.source import CertificateSource
from certferry.ports.state import StateStore
from certferry.ports.target import Look
from certferry.reconcile.doors import Doors
from certferry.reconcile.receivers import observe_receiver
from certferry.reconcile.retire import without_claimed
from certferry.text import Text


def without_remembered(found: ObservedTarget, lineage: str, doors: Doors) -> ObservedTarget:
    """Leave what no lineage with the same marks knows.

    The store is asked after the target: what another run has uploaded by then has its version
    there.
    """
    same = [one for one in {lineage, *doors.state.lineages()} if owners(one) & owners(lineage)]
    known = {
        label
        for one in same
        for version in doors.state.versions(one)
        for label in labels_of(one, version.certificate.fingerprint)
    }
    left = tuple(other for other in found.unremembered if other.label not in known)
    return replace(found, unremembered=left)


def as_offered(desired: DesiredCertificate, doors: Doors) -> DesiredCertificate:
    """Read the files of a ferried certificate into the wish; return others as they are.

    Raises `CertificateError` and `PlanRefused`.
    """
    if desired.files is None:
        return desired
    bundle = doors.source.read(desired.files)
    offered = bundle.certificate
    return replace(
        desired,
        names=offered.names,
        offered=offered,
        offered_fullchain=bundle.fullchain_digest,
        offered_issuer_end=bundle.issuer_not_after,
    )


def as_known(
    desired: DesiredCertificate, source: CertificateSource, state: StateStore, *, read: bool
) -> DesiredCertificate:
    """Fill in the names of a ferried certificate: those of its files where they are to be `read`
    and can be, else those that were taken from them before. Whatever is wrong with the files, a
    mistake of ours too, is told when it is the certificate's turn, and stops no other.
    """
    if desired.files is None:
        return desired
    versions = state.versions(desired.lineage)
    remembered = versions[0].certificate.names if versions else ()
    if remembered and not read:
        return replace(desired, names=remembered)
    try:
        return replace(desired, names=source.read(desired.files).certificate.names)
    except Exception:  # noqa: BLE001 - nothing is lost of it; see above
        return replace(desired, names=remembered)


def offered_first(versions: tuple[Version, ...], offered: Certificate) -> tuple[Version, ...]:
    """Put the version in force first: with files that went back to an older certificate, that is
    not the newest one.
    """
    wanted = offered.fingerprint
    return tuple(sorted(versions, key=lambda v: v.certificate.fingerprint != wanted))


_log = logging.getLogger(__name__)

_EDGES = Text("asking the edges what they serve")


def observe(
    desired: DesiredCertificate, doors: Doors, *, every_edge: bool = False, anew: bool = False
) -> Observation:
    """Look at everything one lineage touches. Changes nothing.

    Edges are asked only where the target says that the current certificate is bound, or does not
    say what is, unless `every_edge` is set: elsewhere there is nothing to verify yet. With `anew`
    nothing counts that was read before.

    The state is read before the targets, so another run may have bound its certificate in between:
    where something is bound that the state did not know, it is asked once more.
    """
    known = with_remembered(Observation(), desired, doors)
    observed = _observe(desired, doors, known, every_edge=every_edge, anew=anew)
    if not any(map(_is_bound_to_unknown, observed.targets)):
        return observed
    again = with_remembered(Observation(), desired, doors)
    if again.remembered == known.remembered:
        return observed
    return _observe(desired, doors, again, every_edge=every_edge, anew=True)


def _observe(
    desired: DesiredCertificate, doors: Doors, known: Observation, *, every_edge: bool, anew: bool
) -> Observation:
    looker = _Looker(desired, doors, known, every_edge=every_edge, anew=anew)
    targets = tuple(looker.look(deployment) for deployment in desired.deployments)
    observed = Observation(known.versions, targets, known.remembered)
    is_unread = any(target.in_progress for target in targets)
    return without_found(observed) if is_unread else observed


def _is_bound_to_unknown(target: ObservedTarget) -> bool:
    """Tell whether a domain is bound to what is not known as ours."""
    return any(
        domain.bound is not None
        and not domain.kind.is_receiver
        and target.fingerprint_of(domain.bound) is None
        for domain in target.domains
    )


def with_remembered(
    observed: Observation, desired: DesiredCertificate, doors: Doors
) -> Observation:
    """Return an observation with what the store says of the lineage now."""
    remembered = doors.state.remembered(desired.lineage)
    versions = remembered.versions
    if desired.offered is not None:
        versions = offered_first(versions, desired.offered)
    return Observation(versions, observed.targets, remembered)


def with_renewal_info(
    desired: DesiredCertificate, observed: Observation, doors: Doors
) -> Observation:
    """Ask the CA when the certificate in force should be renewed, unless it was asked in this half
    of a day, and keep what it says. Without an answer, what it said last counts.
    """
    version, now = observed.current, doors.now()
    if version is None or desired.files is not None or observed.is_owned_elsewhere:
        return observed
    if not may_ask(version.ask_after, now) or first_violated(desired, observed, now) is not None:
        return observed
    window, retry_after = version.window, None
    doors.progress(Asking(desired.lineage, Text("asking the CA when it is to be renewed")))
    try:
        leaf = doors.state.bundle(desired.lineage, version.number).cert_pem
        info = doors.issuer.renewal_info(leaf, version.directory or "")
        window, retry_after = _plausible(desired, version, info), info.retry_after
    except (IssuanceError, StateError) as error:  # the certificate is as good as before
        _log.info(
            Text(
                "{lineage}: not known when the CA wants it renewed: {problem}",
                lineage=desired.lineage,
                problem=error.message,
            )
        )
    again = ask_after(now, retry_after)
    doors.state.save_renewal_info(desired.lineage, version.certificate.fingerprint, window, again)
    return with_remembered(observed, desired, doors)


def _plausible(
    desired: DesiredCertificate, version: Version, info: RenewalInfo
) -> RenewalWindow | None:
    """Return the window that the CA names, as far as it can be this certificate's; any other is
    told, and counts for nothing.
    """
    found = plausible_window(version.certificate, info.window)
    if found is None and info.window is not None:
        _log.warning(
            Text(
                "{lineage}: the CA wants it renewed between {start} and {end}, which cannot be"
                " meant for this certificate: nothing is done about it",
                lineage=desired.lineage,
                start=info.window.start,
                end=info.window.end,
            )
        )
    return found


class _Looker:
    """Looks at the targets of one lineage."""

    def __init__(
        self,
        desired: DesiredCertificate,
        doors: Doors,
        known: Observation,
        *,
        every_edge: bool,
        anew: bool,
    ) -> None:
        self._desired = desired
        self._doors = doors
        self._remembered = known.remembered
        self._versions = known.versions
        self._current = None if known.current is None else known.current.certificate.fingerprint
        self._every_edge = every_edge
        self._anew = anew

    def look(self, deployment: DesiredDeployment) -> ObservedTarget:
        """Observe the target of one deployment, and add what is remembered of it."""
        label, remembered = deployment.target, self._remembered
        records = {r.domain: r for r in remembered.rollouts if r.target == label}
        found = self._found(deployment, records)
        if remembered.withdrawals:
            found = with_withdrawals(found, label, remembered.withdrawals)
        if found.failure is not None or deployment.delivery is not None:
            return found
        found = self._with_edges(self._with_uploads(found, label), label, records)
        if not any(domain.binding_hidden for domain in found.domains):
            return found
        return with_likely_bindings(found, self._doors.now(), self._doors.verify_timeout)

    def _found(
        self, deployment: DesiredDeployment, records: Mapping[str, RolloutRecord]
    ) -> ObservedTarget:
        """Ask the receiver or the target."""
        if deployment.delivery is not None:
            (name,) = deployment.domains or ("",)
            self._tell(Text("looking at {name}", name=name))
            receiver = self._doors.receiver(deployment.delivery)
            return observe_receiver(
                receiver, self._desired.lineage, deployment, self._versions, records.get(name)
            )
        self._tell(Text("asking {target} for its domains", target=deployment.target))
        try:
            return self._read(deployment)
        except DeployError as error:
            return unread(deployment.target, error, records.values(), self._current)

    def _read(self, deployment: DesiredDeployment) -> ObservedTarget:
        found = self._doors.targets[deployment.target].observe(
            Look(
                lineage=self._desired.lineage,
                names=self._desired.names,
                domains=deployment.domains,
                kind=deployment.kind,
                known=[version.certificate for version in self._versions],
                others=deployment.retire is Retirement.ALL_UNUSED,
                globs=deployment.globs,
                exclude=deployment.exclude,
                anew=self._anew,
            )
        )
        if any(domain.problem for domain in found.domains):
            found = about_lineage(found, self._desired.lineage)
        if deployment.has_patterns:
            found = with_unmatched(found, deployment)
        if found.unremembered:
            found = without_remembered(found, self._desired.lineage, self._doors)
        found = self._without_owned_elsewhere(found, deployment)
        if not found.others:
            return found
        return without_claimed(found, self._desired.lineage, deployment.target, self._doors)

    def _without_owned_elsewhere(
        self, found: ObservedTarget, deployment: DesiredDeployment
    ) -> ObservedTarget:
        """Leave to other lineages, and deployments, what they have the better claim to."""
        lineage, claims = self._desired.lineage, self._doors.claims
        if found.left_out:
            off = (d for d in found.left_out if claims.owns(lineage, deployment, d.domain, d.kind))
            found = replace(found, left_out=tuple(off))
        owned = tuple(
            d for d in found.domains if claims.owns(lineage, deployment, d.domain, d.kind)
        )
        if len(owned) == len(found.domains):
            return found
        owners = {
            claims.owner(deployment.target, d.domain, d.kind)
            for d in found.domains
            if d not in owned
        }
        owned_elsewhere = sorted(filter(None, owners - {lineage} or owners))
        return replace(found, domains=owned, owned_elsewhere=tuple(owned_elsewhere))

    def _with_uploads(self, found: ObservedTarget, label: str) -> ObservedTarget:
        """Add what is remembered of our copies, where the target does not tell."""
        uploads = [upload for upload in self._remembered.uploads if upload.target == label]
        if found.remotes_hidden:
            found = with_remembered_remotes(found, self._versions, uploads)
        elif uploads and _is_bound_to_unknown(found):
            found = with_unlisted_copies(found, self._versions, uploads)
        if any(upload.in_use_until for upload in uploads):
            found = with_uses(found, uploads)
        return found

    def _with_edges(
        self, found: ObservedTarget, label: str, records: Mapping[str, RolloutRecord]
    ) -> ObservedTarget:
        """Add what the edges serve, and to each domain what is remembered of it."""
        asked = [d.domain for d in found.domains if self._every_edge or self._may_serve(found, d)]
        if asked:
            self._tell(_EDGES)
        served: Mapping[str, tuple[Served, ...]] = self._doors.probe.look(asked)
        domains = (replace(domain, last=records.get(domain.domain)) for domain in found.domains)
        return replace(found, label=label, domains=tuple(domains), served=served)

    def _tell(self, what: Text) -> None:
        self._doors.progress(Asking(self._desired.lineage, what))

    def _may_serve(self, found: ObservedTarget, domain: ObservedDomain) -> bool:
        wanted = version_for(domain.withdrawn, self._versions, self._doors.now())
        if wanted is None:
            return False
        bound = found.fingerprint_of(domain.bound)
        return domain.binding_hidden or bound == wanted.certificate.fingerprint
