"""A model CDN in memory: changes take time, edges lag, some changes fail. The model also reports
removals of certificates that were still bound or served, which no real CDN reports.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from certferry.core.certificates.certificate import Certificate, CertificateBundle, covered_by
from certferry.core.certificates.chain import EdgeProblemCode
from certferry.core.certificates.lineage import label_of, owner_of, owners
from certferry.core.desired.certificate import DesiredHttps, HttpsSettings, Kind
from certferry.core.network import Host
from certferry.core.observed.observation import (
    DomainState,
    ObservedDomain,
    ObservedTarget,
    RemoteCertificate,
    Served,
    TargetRules,
)
from certferry.core.observed.records import OtherCertificate, TargetTask
from certferry.core.planning.choice import choose
from certferry.errors import (
    CopyGone,
    DeployError,
    Problem,
    TargetAccessDenied,
    TargetBusy,
    TargetInUse,
    TargetRejected,
)
from certferry.ports.probe import NONE_NAMED, Named
from certferry.ports.target import Scope
from certferry.text import Text
from certferry.values import replace

NEVER = datetime.max.replace(tzinfo=UTC)
"""The end of a stuck change."""


@dataclass
class Change:
    """A change in progress: the certificate bound at the end, or the message of the failure."""

    remote_id: str
    https: HttpsSettings
    done_at: datetime
    began_at: datetime
    failure: str | None = None


@dataclass(frozen=True)
class Remote:
    """An uploaded certificate, and its label."""

    label: str
    certificate: Certificate

    def listed(self, remote_id: str) -> OtherCertificate:
        """Return the certificate in the form of the list of all certificates."""
        begin, end = self.certificate.not_before, self.certificate.not_after
        return OtherCertificate(remote_id, self.label, end, not_before=begin)


@dataclass
class Domain:
    """A domain: the state, the bindings with their beginnings, and the end of the last change."""

    state: DomainState = DomainState.READY
    https: HttpsSettings = field(default_factory=HttpsSettings)
    bindings: list[tuple[datetime, str | None]] = field(default_factory=list)
    change: Change | None = None
    failure: str | None = None

    @property
    def bound(self) -> str | None:
        """The remote id in force."""
        return self.bindings[-1][1] if self.bindings else None

    def settle(self, now: datetime) -> None:
        """End the change if its time has come."""
        change = self.change
        if change is None or change.done_at > now:
            return
        self.change = None
        self.failure = change.failure
        if change.failure is None:
            self.bindings.append((change.done_at, change.remote_id))
            self.https = change.https

    def observed(self, name: str, untold: frozenset[str], *, hides_change: bool) -> ObservedDomain:
        """Return the domain as its target shows it, without the `untold` settings."""
        state, problem, task = self.state, None, None
        if self.change is not None:
            if not hides_change:
                state = DomainState.PROCESSING
                task = TargetTask("processing", "httpsconf", self.change.began_at, "task-1")
        elif self.failure is not None:
            state, problem = DomainState.FAILED, DeployError(self.failure)
        elif state is DomainState.UNAVAILABLE:
            problem = frozen(name)
        https = replace(self.https, **dict.fromkeys(untold))
        return ObservedDomain(name, Kind.CDN, state, self.bound, https, problem, task=task)

    def edges(self, now: datetime, lags: Sequence[timedelta]) -> list[str | None]:
        """The remote id presented by each edge; an edge follows a binding after its lag."""
        return [
            next((remote_id for at, remote_id in reversed(self.bindings) if at + lag <= now), None)
            for lag in lags
        ]


def merged(found: HttpsSettings, desired: DesiredHttps) -> HttpsSettings:
    """Return the settings with the declared settings changed and all others kept."""
    return HttpsSettings(
        found.force_https if desired.force_https is None else desired.force_https,
        found.http2 if desired.http2 is None else desired.http2,
        found.tls_versions if desired.tls_versions is None else desired.tls_versions,
    )


def foreign(name: str, number: int, now: datetime) -> Certificate:
    """Return a certificate of another tool, near its end."""
    return Certificate(
        fingerprint=f"{number:064x}",
        names=(name,),
        common_name=name,
        serial=f"{number:x}",
        issuer="Yesterday's CA",
        not_before=now - timedelta(days=81),
        not_after=now + timedelta(days=9),
        key_type="rsa2048",
    )


def unknown(domain: str) -> TargetRejected:
    """Return the refusal for an unknown domain."""
    return TargetRejected(
        Text("{domain} is not a domain here", domain=domain), hint=Text("add it first")
    )


def frozen(domain: str) -> TargetRejected:
    """Return the refusal for a domain that cannot be changed."""
    return TargetRejected(Text("{domain} is frozen", domain=domain), hint=Text("unfreeze it"))


def failing(address: str, *, refuses: bool) -> Served:
    """Return the answer of an edge without a certificate, or with a refused handshake."""
    code = EdgeProblemCode.HANDSHAKE_FAILED if refuses else EdgeProblemCode.NO_CERTIFICATE
    absent = Text("the address presents no certificate")
    message = Text("the handshake failed") if refuses else absent
    return Served(address, None, valid=False, problem=Problem(code, message))


FOREIGN = "by hand"
"""The label of certificates bound by another tool."""


class MemoryCdn:
    """A `DeployTarget` and, by `look`, a `Probe` of its own edges.

    `processing` is how long a change takes, `lags` how much later each edge follows. `writes`
    counts accepted changes of domains, `uploads` and `removals` what their names say. `broken`
    lists every removal of a certificate that an edge still served: it must stay empty. While
    `denies` is set, no call is accepted, while `denies_uploads` is, no upload. Settings named in
    `untold` are never reported. While `breaks_new` is set, edges refuse what is uploaded.
    """

    def __init__(
        self,
        now: Callable[[], datetime],
        *,
        processing: timedelta = timedelta(minutes=10),
        lags: tuple[timedelta, ...] = (timedelta(0), timedelta(minutes=2)),
        rules: TargetRules | None = None,
    ) -> None:
        self._now = now
        self._processing = processing
        self._lags = lags
        self._rules = rules or TargetRules(min_remaining=timedelta(days=30))
        self._domains: dict[str, Domain] = {}
        #: The answers of hosts that are not edges.
        self.servers: dict[Host, Callable[[], tuple[Served, ...]]] = {}
        self._remotes: dict[str, Remote] = {}
        self._ids: dict[str, list[str]] = {}
        self._ids_of: dict[str | None, list[str]] = {}
        self._ever: dict[str, Certificate] = {}
        self._numbers = itertools.count(1)
        # Without it, two threads that upload one certificate both find that it is not there yet.
        self._uploading = threading.Lock()
        self._failing: dict[str, list[str]] = {}
        self._hidden: dict[str, int] = {}
        self._stale: dict[str, str | None] = {}
        self._sticking: set[str] = set()
        self._refused: set[str] = set()
        self.uploads = 0
        self.writes = 0
        self.removals = 0
        self.broken: list[str] = []
        self.denies = self.denies_uploads = False
        self.breaks_new = False
        self.untold: frozenset[str] = frozenset()

    # the model world's levers

    def add_domain(
        self, name: str, *, foreign: bool = False, state: DomainState = DomainState.READY
    ) -> None:
        """Add a domain; `foreign` binds a certificate of another tool."""
        domain = Domain(state=state)
        if foreign:
            domain.bindings.append((self._now(), self.put_foreign(name, FOREIGN)))
        self._domains[name] = domain

    def fail_next(self, name: str, words: str) -> None:
        """Make the next change of the domain fail with this message."""
        self._failing.setdefault(name, []).append(words)

    def hide_changes(self, name: str, reads: int) -> None:
        """Hide the change in progress from the next reads of the domain."""
        self._hidden[name] = reads

    def stick_next(self, name: str) -> None:
        """Make the next change of the domain never end."""
        self._sticking.add(name)

    def end_change(self, name: str) -> None:
        """End the change of a domain now, even a stuck change."""
        change = self._domains[name].change
        if change is not None:
            change.done_at = min(change.done_at, self._now())

    def touch(self, name: str) -> None:
        """Begin, as another tool, a change of a domain that alters nothing."""
        self.begin_by_others(name, self._settled(name).bound or "")

    def set_by_others(
        self, name: str, remote_id: str | None, https: HttpsSettings | None = None
    ) -> None:
        """As another tool, bind a certificate or switch HTTPS off, and change settings."""
        self._stale.pop(name, None)
        domain = self._settled(name)
        domain.change = None
        domain.bindings.append((self._now(), remote_id))
        domain.https = https or domain.https

    def bind_unseen(self, name: str, remote_id: str | None) -> None:
        """Bind a certificate as another tool; the list shows the binding before, until the domain
        itself is read, or changed by us.
        """
        shown = self._stale.get(name, self._settled(name).bound)
        self.set_by_others(name, remote_id)
        self._stale[name] = shown

    def begin_by_others(self, name: str, remote_id: str) -> None:
        """Begin, as another tool, to bind a certificate; the change takes time."""
        found = self._settled(name)
        found.change = Change(remote_id, found.https, self._end_of_change(name), self._now())

    def bound_to(self, name: str) -> str | None:
        """Return the remote id in force at a domain."""
        return self._settled(name).bound

    def settle(self) -> None:
        """End every change that is in progress, now."""
        for name in self._domains:
            self.end_change(name)

    def put(self, label: str, bundle: CertificateBundle) -> str:
        """Upload a copy as another tool, under any label."""
        return self._keep(f"remote-{next(self._numbers)}", label, bundle.certificate)

    def put_foreign(self, name: str, label: str = "") -> str:
        """Upload, as another tool, a certificate that ends soon; return its id."""
        number = next(self._numbers)
        return self._keep(f"foreign-{number}", label, foreign(name, number, self._now()))

    @property
    def used(self) -> set[str]:
        """The remote ids bound to a domain now, or at the end of a change in progress."""
        settled = map(self._settled, self._domains)
        changes = (domain.change.remote_id for domain in settled if domain.change is not None)
        return {*changes, *filter(None, (domain.bound for domain in self._domains.values()))}

    @property
    def ever_uploaded(self) -> set[str]:
        """The fingerprints of all uploads so far, with the removed uploads."""
        return {certificate.fingerprint for certificate in self._ever.values()}

    @property
    def remote_ids(self) -> set[str]:
        """The remote ids of every uploaded certificate."""
        return set(self._remotes)

    @property
    def remote_labels(self) -> list[str]:
        """The labels of every uploaded certificate."""
        return [remote.label for remote in self._remotes.values()]

    def settings(self, name: str) -> HttpsSettings:
        """Return the settings in force at a domain, also the settings that reads hide."""
        return self._settled(name).https

    def copies(self, fingerprint: str) -> int:
        """Return the number of present copies of a certificate."""
        return sum(r.certificate.fingerprint == fingerprint for r in self._remotes.values())

    # DeployTarget

    def observe(self, scope: Scope) -> ObservedTarget:
        self._check_credentials()
        for name in scope.doubted:
            self._stale.pop(name, None)
        chosen = choose(scope, self._domains)
        names = (*(scope.domains or ()), *chosen.wanted)
        remotes = tuple(
            RemoteCertificate(remote_id, label, known.fingerprint, known.not_after)
            for known in scope.known
            for label in (label_of(scope.lineage, known.fingerprint),)
            for remote_id in self._ids.get(label, ())
            if self._remotes[remote_id].certificate.fingerprint == known.fingerprint
        )
        return ObservedTarget(
            rules=self._rules,
            domains=tuple(self._observe_domain(name) for name in names),
            remotes=remotes,
            others=self._others(remotes) if scope.others else (),
            unremembered=self._unremembered(scope),
            excluded=tuple(chosen.excluded),
            uncovered=() if names else tuple(chosen.uncovered),
        )

    def upload(self, lineage: str, bundle: CertificateBundle) -> str:
        self._check_credentials(is_upload=True)
        label = label_of(lineage, bundle.certificate.fingerprint)
        with self._uploading:
            for remote_id in self._ids.get(label, ()):
                return remote_id
            if bundle.certificate.remaining(self._now()) < self._rules.min_remaining:
                raise TargetRejected(Text("validity too short"))
            if not (bundle.key_matches and bundle.chain_complete):
                raise TargetRejected(Text("key or chain is wrong"))
            self.uploads += 1
            if self.breaks_new:
                self._refused.add(bundle.certificate.fingerprint)
            return self.put(label, bundle)

    def bind(self, domain: str, kind: Kind, remote_id: str, https: DesiredHttps) -> str | None:
        self._check_credentials()
        if domain not in self._domains:
            raise unknown(domain)
        found = self._settled(domain)
        if found.change is not None:
            raise TargetBusy(Text("{domain} is processing", domain=domain))
        if found.state is DomainState.UNAVAILABLE:
            raise frozen(domain)
        remote = self._remotes.get(remote_id)
        if remote is None:
            raise CopyGone(Text("no such certificate"))
        if not covered_by(remote.certificate.names, domain):
            raise TargetRejected(Text("the certificate does not cover {domain}", domain=domain))
        wanted = merged(found.https, https)
        self._stale.pop(domain, None)
        if found.bound == remote_id and found.https == wanted:
            return None
        failures = self._failing.get(domain)
        found.change = Change(
            remote_id=remote_id,
            https=wanted,
            done_at=self._end_of_change(domain),
            began_at=self._now(),
            failure=failures.pop(0) if failures else None,
        )
        found.failure = None
        self.writes += 1
        return f"request-{self.writes}"

    def retire(self, remote_id: str, label: str, *, unmanaged: bool = False) -> bool:
        self._check_credentials()
        remote = self._remotes.get(remote_id)
        if remote is None:
            return False
        if remote.label != label or not (unmanaged or owner_of(label) is not None):
            raise TargetRejected(Text("{label} is not ours", label=label))
        if any(self._uses(name, remote_id) for name in self._domains):
            raise TargetInUse(Text("{label} is in use", label=label))
        if any(remote_id in self._edges(name) for name in self._domains):
            self.broken.append(label)
        del self._remotes[remote_id]
        self._ids[label].remove(remote_id)
        self.removals += 1
        return True

    # Probe

    def served(
        self, domains: Sequence[str], named: Named = NONE_NAMED
    ) -> dict[str, tuple[Served, ...]]:
        """See `ports.probe.Probe.served`: one address for each edge."""
        return {
            domain: tuple(
                self._served(f"192.0.2.{number}", remote_id)
                for number, remote_id in enumerate(self._edges(domain), start=1)
            )
            for domain in domains
        }

    def served_by(self, hosts: Sequence[Host]) -> dict[Host, tuple[Served, ...]]:
        """See `ports.probe.Probe.served_by`: hosts of `servers`, and edges at any port."""
        return {
            host: self.servers[host]()
            if host in self.servers
            else self.served([host.name])[host.name]
            for host in hosts
        }

    # inside

    def _keep(self, remote_id: str, label: str, certificate: Certificate) -> str:
        self._remotes[remote_id] = Remote(label, certificate)
        self._ids.setdefault(label, []).append(remote_id)
        self._ids_of.setdefault(owner_of(label), []).append(remote_id)
        self._ever[remote_id] = certificate
        return remote_id

    def _check_credentials(self, *, is_upload: bool = False) -> None:
        if self.denies or (is_upload and self.denies_uploads):
            raise TargetAccessDenied(Text("the keys are not accepted"), hint=Text("check them"))

    def _others(self, ours: tuple[RemoteCertificate, ...]) -> tuple[OtherCertificate, ...]:
        ids = {remote.remote_id for remote in ours}
        there = tuple(self._remotes.items())
        return tuple(remote.listed(key) for key, remote in there if key not in ids)

    def _unremembered(self, scope: Scope) -> tuple[OtherCertificate, ...]:
        known = {label_of(scope.lineage, certificate.fingerprint) for certificate in scope.known}
        ours = owners(scope.lineage)
        ids = [remote_id for owner in ours for remote_id in self._ids_of.get(owner, ())]
        return tuple(
            self._remotes[remote_id].listed(remote_id)
            for remote_id in ids
            if remote_id in self._remotes and self._remotes[remote_id].label not in known
        )

    def _observe_domain(self, name: str) -> ObservedDomain:
        if name not in self._domains:
            return ObservedDomain(name, Kind.CDN, DomainState.UNAVAILABLE, problem=unknown(name))
        found = self._settled(name)
        hides = found.change is not None and self._hidden.get(name, 0) > 0
        if hides:
            self._hidden[name] -= 1
        shown = found.observed(name, self.untold, hides_change=hides)
        return replace(shown, bound=self._stale[name]) if name in self._stale else shown

    def _end_of_change(self, name: str) -> datetime:
        is_stuck = name in self._sticking
        self._sticking.discard(name)
        return NEVER if is_stuck else self._now() + self._processing

    def _settled(self, name: str) -> Domain:
        """Return a domain as of now, after the end of due changes."""
        domain = self._domains[name]
        domain.settle(self._now())
        return domain

    def _uses(self, name: str, remote_id: str) -> bool:
        domain = self._settled(name)
        return remote_id in (domain.bound, domain.change and domain.change.remote_id)

    def _edges(self, name: str) -> list[str | None]:
        """The remote id presented by each edge now."""
        return self._settled(name).edges(self._now(), self._lags)

    def _served(self, address: str, remote_id: str | None) -> Served:
        certificate = None if remote_id is None else self._ever.get(remote_id)
        if remote_id is None or (certificate and certificate.fingerprint in self._refused):
            return failing(address, refuses=remote_id is not None)
        if certificate is None:
            return Served(address, remote_id, valid=True)
        return Served(address, certificate.fingerprint, valid=True, not_after=certificate.not_after)
