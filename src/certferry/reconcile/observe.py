"""Look at the store, the targets and the edges, and write down what is there."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

from certferry.core.desired import DesiredCertificate, DesiredDeployment, HttpsWish, Retirement
from certferry.core.due import LAG
from certferry.core.inferred import with_likely_bindings, with_remembered_remotes
from certferry.core.lineage import Version, version_for
from certferry.core.observed import (
    DomainState,
    Observation,
    ObservedDomain,
    ObservedTarget,
    Served,
)
from certferry.core.progress import Asking
from certferry.core.remembered import Remembered
from certferry.core.renewal import RenewalInfo, RenewalWindow, ask_after, believed, may_ask
from certferry.core.rollout import RolloutRecord
from certferry.core.rules import first_violated
from certferry.core.unmatched import with_unmatched
from certferry.errors import DeployError, IssuanceError, StateError
from certferry.ports.target import Look
from certferry.reconcile.doors import Doors
from certferry.reconcile.ferried import offered_first
from certferry.reconcile.receivers import observe_receiver
from certferry.reconcile.unknown_copies import without_remembered
from certferry.reconcile.unmanaged import without_claimed
from certferry.text import Text

_log = logging.getLogger(__name__)

_EDGES = Text("asking the edges what they serve")


def observe(desired: DesiredCertificate, doors: Doors, *, every_edge: bool = False) -> Observation:
    """Look at everything one lineage touches. Changes nothing.

    Edges are asked only where the target says that the current certificate is bound, or does not
    say what is, unless `every_edge` is set: elsewhere there is nothing to verify yet.
    """
    remembered = doors.state.remembered(desired.lineage)
    known = with_remembered(Observation(), remembered, desired)
    looker = _Looker(desired, doors, remembered, known, every_edge=every_edge)
    targets = tuple(looker.look(deployment) for deployment in desired.deployments)
    return _without_found(replace(known, targets=targets))


def with_remembered(
    observed: Observation, remembered: Remembered, desired: DesiredCertificate
) -> Observation:
    """Return an observation with what the store says of the lineage now."""
    versions = remembered.versions
    return replace(
        observed,
        versions=versions if desired.offered is None else offered_first(versions, desired.offered),
        ordered=remembered.ordered,
        issue_tried_at=remembered.issue_tried_at,
        issue_tries=remembered.issue_tries,
        rejected_at=remembered.rejected_at,
        has_leftovers=remembered.has_challenge_records,
        failing_since=remembered.failing_since,
    )


def with_renewal_info(
    desired: DesiredCertificate, observed: Observation, doors: Doors
) -> Observation:
    """Ask the CA when the certificate in force should be renewed, unless it was asked in this half
    of a day, and keep what it says. Without an answer, what it said last counts.
    """
    version, now = observed.current, doors.now()
    if version is None or desired.files is not None or observed.is_ceded:
        return observed
    if not may_ask(version.ask_after, now) or first_violated(desired, observed, now) is not None:
        return observed
    window, retry_after = version.window, None
    doors.progress(Asking(desired.lineage, Text("asking the CA when it is to be renewed")))
    try:
        leaf = doors.state.bundle(desired.lineage, version.number).cert_pem
        info = doors.issuer.renewal_info(leaf, version.directory or "")
        window, retry_after = _believed(desired, version, info), info.retry_after
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
    return with_remembered(observed, doors.state.remembered(desired.lineage), desired)


def _believed(
    desired: DesiredCertificate, version: Version, info: RenewalInfo
) -> RenewalWindow | None:
    """Return the window that the CA names, as far as it can be this certificate's; any other is
    told, and counts for nothing.
    """
    found = believed(version.certificate, info.window)
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
        remembered: Remembered,
        known: Observation,
        *,
        every_edge: bool,
    ) -> None:
        self._desired = desired
        self._doors = doors
        self._remembered = remembered
        self._versions = known.versions
        self._current = known.current and known.current.certificate.fingerprint
        self._every_edge = every_edge

    def look(self, deployment: DesiredDeployment) -> ObservedTarget:
        """Observe the target of one deployment, and add what is remembered of it."""
        records = {
            record.domain: record
            for record in self._remembered.rollouts
            if record.target == deployment.target
        }
        withdrawn = self._withdrawn(deployment.target)
        if deployment.delivery is not None:
            (name,) = deployment.domains or ("",)
            self._tell(Text("looking at {name}", name=name))
            receiver = self._doors.receiver(deployment.delivery)
            received = observe_receiver(
                receiver, self._desired.lineage, deployment, self._versions, records.get(name)
            )
            return _with_withdrawals(received, withdrawn)
        self._tell(Text("asking {target} for its domains", target=deployment.target))
        try:
            found = self._read(deployment)
        except DeployError as error:
            under_way = tuple(record for record in records.values() if self._is_open(record))
            return ObservedTarget(deployment.target, failure=error, under_way=under_way)
        found = _with_withdrawals(_with_records(found, records), withdrawn)
        found = self._with_edges(self._with_uploads(found, deployment), deployment.target)
        if not any(domain.binding_hidden for domain in found.domains):
            return found
        return with_likely_bindings(found, self._doors.now(), self._doors.verify_timeout)

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
            )
        )
        if deployment.has_patterns:
            found = with_unmatched(found, deployment)
        if found.unremembered:
            found = without_remembered(found, self._desired.lineage, self._doors)
        found = self._without_ceded(found, deployment)
        if not found.others:
            return found
        return without_claimed(found, self._desired.lineage, deployment.target, self._doors)

    def _without_ceded(
        self, found: ObservedTarget, deployment: DesiredDeployment
    ) -> ObservedTarget:
        """Leave to other lineages, and deployments, what they have the better claim to."""
        lineage, claims = self._desired.lineage, self._doors.claims
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
        ceded = sorted(filter(None, owners - {lineage} or owners))
        return replace(found, domains=owned, ceded=tuple(ceded))

    def _is_open(self, record: RolloutRecord) -> bool:
        is_settled = record.verified_at is not None or record.failed_at is not None
        return not is_settled and record.fingerprint == self._current

    def _with_uploads(self, found: ObservedTarget, deployment: DesiredDeployment) -> ObservedTarget:
        """Add what is remembered of our copies: which of them the target did not let go of."""
        uploads = [u for u in self._remembered.uploads if u.target == deployment.target]
        if found.remotes_hidden:
            found = with_remembered_remotes(found, self._versions, uploads)
        in_use = {u.remote_id: u.in_use_until for u in uploads if u.in_use_until is not None}
        if not in_use:
            return found
        remotes = (
            replace(remote, in_use_until=in_use.get(remote.remote_id)) for remote in found.remotes
        )
        return replace(found, remotes=tuple(remotes))

    def _with_edges(self, found: ObservedTarget, label: str) -> ObservedTarget:
        asked = [d.domain for d in found.domains if self._every_edge or self._may_serve(found, d)]
        if asked:
            self._tell(_EDGES)
        served: Mapping[str, tuple[Served, ...]] = self._doors.probe.look(asked)
        return replace(found, label=label, served=served)

    def _tell(self, what: Text) -> None:
        self._doors.progress(Asking(self._desired.lineage, what))

    def _may_serve(self, found: ObservedTarget, domain: ObservedDomain) -> bool:
        wanted = version_for(domain.withdrawn, self._versions, self._doors.now())
        if wanted is None:
            return False
        bound = found.fingerprint_of(domain.bound)
        return domain.binding_hidden or bound == wanted.certificate.fingerprint

    def _withdrawn(self, target: str) -> dict[str, frozenset[str]]:
        """Return which certificates were withdrawn from each domain of a target."""
        found: dict[str, set[str]] = {}
        for withdrawal in self._remembered.withdrawals:
            if withdrawal.target == target:
                found.setdefault(withdrawal.domain, set()).add(withdrawal.fingerprint)
        return {domain: frozenset(fingerprints) for domain, fingerprints in found.items()}


def _without_found(observed: Observation) -> Observation:
    """Leave under way only what no other deployment of the account has found."""
    if not any(target.under_way for target in observed.targets):
        return observed
    targets = (
        replace(
            target,
            under_way=tuple(
                record
                for record in target.under_way
                if observed.find(target.label, record.domain) is None
            ),
        )
        for target in observed.targets
    )
    return replace(observed, targets=tuple(targets))


def _with_records(found: ObservedTarget, records: Mapping[str, RolloutRecord]) -> ObservedTarget:
    """Add what is remembered of each domain, and the settings that it was last sent."""
    domains = (
        replace(d, sent=_sent(d, records.get(d.domain)), last=records.get(d.domain))
        for d in found.domains
    )
    return replace(found, domains=tuple(domains))


def _with_withdrawals(
    found: ObservedTarget, withdrawn: Mapping[str, frozenset[str]]
) -> ObservedTarget:
    if not withdrawn:
        return found
    domains = (replace(d, withdrawn=withdrawn.get(d.domain, frozenset())) for d in found.domains)
    return replace(found, domains=tuple(domains))


def _sent(domain: ObservedDomain, record: RolloutRecord | None) -> HttpsWish | None:
    """Return what was sent, unless it is that change which has failed."""
    if record is None or (domain.state is DomainState.FAILED and not _has_succeeded(record)):
        return None
    return record.sent


def _has_succeeded(record: RolloutRecord) -> bool:
    # What was seen at once may have been what was there before the change.
    return record.verified_at is not None and record.verified_at - record.asked_at >= LAG
