"""Functions that add to a target's report the facts that only the state and the edges know."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from msgspec import Struct

from certferry.core.certificates.certificate import Certificate
from certferry.core.certificates.lineage import Version, Withdrawal, labels_of, owner_of
from certferry.core.certificates.names import domain_of, is_glob, matches
from certferry.core.desired.certificate import DesiredDeployment
from certferry.core.observed import observation
from certferry.core.observed.records import NO_LINEAGE, Remembered, RolloutRecord, Upload
from certferry.errors import CertferryError
from certferry.values import replace


class Owner(StrEnum):
    """The owner of a certificate at a target."""

    #: certferry uploaded the certificate.
    OURS = "ours"
    #: Another tool or a person uploaded the certificate.
    FOREIGN = "foreign"
    #: The CDN issued the certificate.
    FREE = "free"


class UploadOwners:
    """Recognises our certificates among the certificates of accounts: by the state's records, or by
    the form of the label.
    """

    def __init__(self, remembered: Iterable[tuple[str, Remembered]] = ()) -> None:
        self._uploaded: dict[tuple[str, str], str] = {}
        self._labelled: dict[str, str] = {}
        self._issued: dict[str, Certificate] = {}
        for lineage, stored in remembered:
            for upload in stored.uploads:
                if upload.lineage != NO_LINEAGE:
                    self._uploaded[upload.target, upload.remote_id] = upload.fingerprint
            for version in stored.versions:
                certificate = version.certificate
                self._issued[certificate.fingerprint] = certificate
                for label in labels_of(lineage, certificate.fingerprint):
                    self._labelled[label] = certificate.fingerprint

    def fingerprint(self, account: str, remote_id: str, label: str) -> str | None:
        """Return the fingerprint of a copy that the state knows by the id, or by the label, which
        certferry derives from a stored version. Return `None` for any other certificate.
        """
        return self._uploaded.get((account, remote_id)) or self._labelled.get(label)

    def owner(self, account: str, remote_id: str, label: str) -> Owner:
        """Return the owner of a certificate: `OURS` if the state knows the certificate, or if the
        label has the form of our labels; else `FOREIGN`.
        """
        is_stored = self.fingerprint(account, remote_id, label) is not None
        return Owner.OURS if is_stored or owner_of(label) is not None else Owner.FOREIGN

    def remote_id(self, account: str, fingerprint: str) -> str | None:
        """Return the id of a certificate's copy at an account; `None` unless the state knows
        exactly one copy there.
        """
        wanted = (account, fingerprint)
        ids = [id_ for (at, id_), copy in self._uploaded.items() if (at, copy) == wanted]
        return ids[0] if len(ids) == 1 else None

    def issued(self, fingerprint: str) -> Certificate | None:
        """Return our certificate with a fingerprint, or `None`."""
        return self._issued.get(fingerprint)


def with_remembered_remotes(
    target: observation.ObservedTarget, versions: Iterable[Version], uploads: Iterable[Upload]
) -> observation.ObservedTarget:
    """Return the target with the stored copies of these versions as `remotes`. This is for a target
    that cannot list certificates.
    """
    ends = {v.fingerprint: v.certificate.not_after for v in versions}
    remotes = tuple(
        observation.RemoteCertificate(u.remote_id, u.label, u.fingerprint, ends[u.fingerprint])
        for u in uploads
        if u.fingerprint in ends
    )
    return replace(target, remotes=remotes)


def with_unlisted_copies(
    target: observation.ObservedTarget, versions: Iterable[Version], uploads: Iterable[Upload]
) -> observation.ObservedTarget:
    """Return the target with more `remotes`: stored copies of these versions that are bound to a
    domain, although the target's list of our copies lacks them. The copies leave `others`.
    """
    listed = {remote.remote_id for remote in target.remotes}
    bound = {domain.bound for domain in target.domains} - listed
    unlisted = [upload for upload in uploads if upload.remote_id in bound]
    if not unlisted:
        return target
    more = with_remembered_remotes(target, versions, unlisted).remotes
    ours = {remote.remote_id for remote in more}
    others = tuple(other for other in target.others if other.remote_id not in ours)
    return replace(target, remotes=(*target.remotes, *more), others=others)


def with_uses(
    target: observation.ObservedTarget, uploads: Iterable[Upload]
) -> observation.ObservedTarget:
    """Return the target with the stored `in_use_until` of each copy."""
    in_use = {upload.remote_id: upload.in_use_until for upload in uploads}
    remotes = (
        replace(remote, in_use_until=in_use.get(remote.remote_id) or remote.in_use_until)
        for remote in target.remotes
    )
    return replace(target, remotes=tuple(remotes))


def with_likely_bound(
    target: observation.ObservedTarget, now: datetime, timeout: timedelta
) -> observation.ObservedTarget:
    """Return the target with the probable binding in each domain whose binding the target hides."""
    domains = (
        replace(domain, bound=_bound(domain, target, now, timeout))
        if domain.binding_hidden
        else domain
        for domain in target.domains
    )
    return replace(target, domains=tuple(domains))


def _bound(
    domain: observation.ObservedDomain,
    target: observation.ObservedTarget,
    now: datetime,
    timeout: timedelta,
) -> str | None:
    record = domain.last
    last = None
    if record is not None and (record.accepted_at or record.verified_at):
        was_seen = record.verified_at is not None
        last = LastChange(record.fingerprint, record.asked_at, was_seen=was_seen)
    served = target.served.get(domain.domain, ())
    return likely_binding(target.remotes, served, last, now, timeout)


class LastChange(Struct, frozen=True):
    """Our last request to bind a certificate to a domain."""

    fingerprint: str  #: The certificate's fingerprint.
    at: datetime  #: When the target accepted the request, or else when the rollout began.
    #: Whether every answering address was once seen to serve the certificate.
    was_seen: bool


def likely_binding(
    remotes: Sequence[observation.RemoteCertificate],
    served: observation.Addresses,
    last: LastChange | None,
    now: datetime,
    timeout: timedelta,
) -> str | None:
    """Return the id of the copy among `remotes` that is probably bound to a domain, or `None`.

    These rules apply in order:

    1. If our last change was never seen served and is younger than `timeout`, the certificate of
       the change counts as bound.
    2. If all answering edges serve one certificate, that certificate counts as bound. If the edges
       differ, the result is `None`.
    3. If no edge answers, the certificate of our last change counts as bound.

    Rule 1 needs a copy of the certificate among `remotes`. A certificate without a copy gives
    `None` by the other rules.
    """
    by_fingerprint = {remote.fingerprint: remote.remote_id for remote in remotes}
    asked = None if last is None else by_fingerprint.get(last.fingerprint)
    if asked is not None and last is not None and not last.was_seen and now < last.at + timeout:
        return asked
    seen = {address.fingerprint for address in served if address.answered}
    if not seen:
        return asked
    return by_fingerprint.get(seen.pop() or "") if len(seen) == 1 else None


def with_unmatched(
    target: observation.ObservedTarget, deployment: DesiredDeployment
) -> observation.ObservedTarget:
    """Return the target with `unmatched`: the globs that match no observed domain, and the names in
    `exclude` that exclude no domain.
    """
    there = [*(domain.domain for domain in target.domains), *target.excluded]
    globs = (glob for glob in deployment.globs if not any(matches(glob, d) for d in there))
    names = (
        pattern
        for pattern in deployment.exclude
        if not is_glob(pattern) and domain_of(pattern) not in target.excluded
    )
    return replace(target, unmatched=(*globs, *names))


def about_lineage(target: observation.ObservedTarget, lineage: str) -> observation.ObservedTarget:
    """Return the target with the lineage's name in the hints of the domains' problems."""
    domains = (
        replace(domain, problem=domain.problem and domain.problem.about(lineage))
        for domain in target.domains
    )
    return replace(target, domains=tuple(domains))


def with_withdrawals(
    target: observation.ObservedTarget, label: str, withdrawals: Iterable[Withdrawal]
) -> observation.ObservedTarget:
    """Return the target with `withdrawn` filled in for each domain. `label` is the account's
    name.
    """
    withdrawn = defaultdict[str, set[str]](set)
    for withdrawal in withdrawals:
        if withdrawal.target == label:
            withdrawn[withdrawal.domain].add(withdrawal.fingerprint)
    domains = (
        replace(domain, withdrawn=frozenset(withdrawn[domain.domain])) for domain in target.domains
    )
    return replace(target, domains=tuple(domains))


def unread(
    label: str, error: CertferryError, records: Iterable[RolloutRecord], current: str | None
) -> observation.ObservedTarget:
    """Return a target that cannot be read, with the rollouts of the version in force that are still
    in progress. `current` is the version's fingerprint.
    """
    in_progress = tuple(
        record
        for record in records
        if record.verified_at is None and record.failed_at is None and record.fingerprint == current
    )
    return observation.ObservedTarget(label, failure=error, in_progress=in_progress)


def without_found(observed: observation.Observation) -> observation.Observation:
    """Return the observation without those records in `in_progress` whose domain another deployment
    of the account has observed.
    """
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
