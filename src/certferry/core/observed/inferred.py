"""What is added to what a target reports: from the state, from its edges, from our record."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from certferry.core.certificates.certificate import Certificate
from certferry.core.certificates.lineage import (
    Version,
    Withdrawal,
    labels_of,
    owner_of,
    version_for,
)
from certferry.core.certificates.names import domain_of, is_glob, matches
from certferry.core.desired.certificate import DesiredDeployment
from certferry.core.observed import observation
from certferry.core.observed.records import NO_LINEAGE, Remembered, RolloutRecord, Upload
from certferry.errors import CertferryError


class Owner(StrEnum):
    """Whose a certificate at a target is. One that is free is the target's own."""

    OURS = "ours"
    FOREIGN = "foreign"
    FREE = "free"


class UploadOwners:
    """Which certificates at the accounts are ours, by what the state has of every lineage."""

    def __init__(self, remembered: Iterable[tuple[str, Remembered]] = ()) -> None:
        self._uploaded: dict[tuple[str, str], str] = {}
        self._labelled: dict[str, str] = {}
        self._issued: dict[str, Certificate] = {}
        for lineage, known in remembered:
            for upload in known.uploads:
                if upload.lineage != NO_LINEAGE:
                    self._uploaded[upload.target, upload.remote_id] = upload.fingerprint
            for version in known.versions:
                certificate = version.certificate
                self._issued[certificate.fingerprint] = certificate
                for label in labels_of(lineage, certificate.fingerprint):
                    self._labelled[label] = certificate.fingerprint

    def fingerprint(self, account: str, remote_id: str, label: str) -> str | None:
        """Return what identifies a certificate of ours that the state knows."""
        return self._uploaded.get((account, remote_id)) or self._labelled.get(label)

    def owner(self, account: str, remote_id: str, label: str) -> Owner:
        """Return whose a certificate is: a label of ours counts, whatever the state knows."""
        known = self.fingerprint(account, remote_id, label) is not None
        return Owner.OURS if known or owner_of(label) is not None else Owner.FOREIGN

    def remote_id(self, account: str, fingerprint: str) -> str | None:
        """Return where the account has a certificate, if the state knows of one copy alone."""
        wanted = (account, fingerprint)
        ids = [id_ for (at, id_), one in self._uploaded.items() if (at, one) == wanted]
        return ids[0] if len(ids) == 1 else None

    def issued(self, fingerprint: str) -> Certificate | None:
        """Return the certificate of ours that has a fingerprint."""
        return self._issued.get(fingerprint)


def with_remembered_remotes(
    found: observation.ObservedTarget, versions: Iterable[Version], uploads: Iterable[Upload]
) -> observation.ObservedTarget:
    """Add our copies as they are remembered, for a target that could not list its certificates."""
    ends = {v.fingerprint: v.certificate.not_after for v in versions}
    remotes = tuple(
        observation.RemoteCertificate(u.remote_id, u.label, u.fingerprint, ends[u.fingerprint])
        for u in uploads
        if u.fingerprint in ends
    )
    return replace(found, remotes=remotes)


def with_unlisted_copies(
    found: observation.ObservedTarget, versions: Iterable[Version], uploads: Iterable[Upload]
) -> observation.ObservedTarget:
    """Add our copies that a domain is bound to and that the target did not list as ours."""
    listed = {remote.remote_id for remote in found.remotes}
    bound = {domain.bound for domain in found.domains} - listed
    unlisted = [upload for upload in uploads if upload.remote_id in bound]
    if not unlisted:
        return found
    more = with_remembered_remotes(found, versions, unlisted).remotes
    ours = {remote.remote_id for remote in more}
    others = tuple(other for other in found.others if other.remote_id not in ours)
    return replace(found, remotes=(*found.remotes, *more), others=others)


def with_uses(
    found: observation.ObservedTarget, uploads: Iterable[Upload]
) -> observation.ObservedTarget:
    """Add which of our copies the target refused to remove because something uses them."""
    in_use = {upload.remote_id: upload.in_use_until for upload in uploads}
    remotes = (
        replace(remote, in_use_until=in_use.get(remote.remote_id)) for remote in found.remotes
    )
    return replace(found, remotes=tuple(remotes))


def with_likely_bound(
    found: observation.ObservedTarget, now: datetime, timeout: timedelta
) -> observation.ObservedTarget:
    """Add what is probably bound, where the target does not tell."""
    domains = (
        replace(domain, bound=_bound(domain, found, now, timeout))
        if domain.binding_hidden
        else domain
        for domain in found.domains
    )
    return replace(found, domains=tuple(domains))


def _bound(
    domain: observation.ObservedDomain,
    found: observation.ObservedTarget,
    now: datetime,
    timeout: timedelta,
) -> str | None:
    record = domain.last
    last = None
    if record is not None and (record.accepted_at or record.verified_at):
        was_seen = record.verified_at is not None
        last = LastChange(record.fingerprint, record.asked_at, was_seen=was_seen)
    served = found.served.get(domain.domain, ())
    return likely_binding(found.remotes, served, last, now, timeout)


@dataclass(frozen=True, slots=True)
class LastChange:
    """The last certificate that we asked for at a domain, when, and whether it was ever seen."""

    fingerprint: str
    at: datetime
    was_seen: bool


def likely_binding(
    remotes: Sequence[observation.RemoteCertificate],
    served: observation.Addresses,
    last: LastChange | None,
    now: datetime,
    timeout: timedelta,
) -> str | None:
    """Return what is probably bound: until `timeout` our last change, then what edges serve."""
    by_fingerprint = {remote.fingerprint: remote.remote_id for remote in remotes}
    asked = None if last is None else by_fingerprint.get(last.fingerprint)
    if asked is not None and last is not None and not last.was_seen and now < last.at + timeout:
        return asked
    seen = {address.fingerprint for address in served if address.answered}
    if not seen:
        return asked
    return by_fingerprint.get(seen.pop() or "") if len(seen) == 1 else None


def with_unmatched(
    found: observation.ObservedTarget, deployment: DesiredDeployment
) -> observation.ObservedTarget:
    """Add the globs, and the names under `exclude`, that match nothing of what was found."""
    there = [*(domain.domain for domain in found.domains), *found.excluded]
    globs = (glob for glob in deployment.globs if not any(matches(glob, d) for d in there))
    names = (
        pattern
        for pattern in deployment.exclude
        if not is_glob(pattern) and domain_of(pattern) not in found.excluded
    )
    return replace(found, unmatched=(*globs, *names))


def about_lineage(target: observation.ObservedTarget, lineage: str) -> observation.ObservedTarget:
    """Return a target with the lineage's name in the advice on its domains."""
    domains = (
        replace(one, problem=one.problem and one.problem.about(lineage)) for one in target.domains
    )
    return replace(target, domains=tuple(domains))


def with_withdrawals(
    found: observation.ObservedTarget, label: str, withdrawals: Iterable[Withdrawal]
) -> observation.ObservedTarget:
    """Add to each domain of a target what was withdrawn from it."""
    withdrawn = defaultdict[str, set[str]](set)
    for one in withdrawals:
        if one.target == label:
            withdrawn[one.domain].add(one.fingerprint)
    domains = (
        replace(domain, withdrawn=frozenset(withdrawn[domain.domain])) for domain in found.domains
    )
    return replace(found, domains=tuple(domains))


def unread(
    label: str, error: CertferryError, records: Iterable[RolloutRecord], current: str | None
) -> observation.ObservedTarget:
    """Return a target that cannot be read; `current` is the fingerprint of what is in force."""
    in_progress = tuple(
        one
        for one in records
        if one.verified_at is None and one.failed_at is None and one.fingerprint == current
    )
    return observation.ObservedTarget(label, failure=error, in_progress=in_progress)


def without_found(observed: observation.Observation) -> observation.Observation:
    """Leave in progress only what no other deployment of the account has found."""
    targets = (
        replace(
            target,
            in_progress=tuple(
                record
                for record in target.in_progress
                if observed.find(target.label, record.domain) is None
            ),
        )
        for target in observed.targets
    )
    return replace(observed, targets=tuple(targets))


def contradicted(observed: observation.Observation, now: datetime) -> frozenset[tuple[str, str]]:
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
    domain: observation.ObservedDomain,
    target: observation.ObservedTarget,
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
