"""Domains of Alibaba Cloud CDN and DCDN: states, the change in progress, and its taking effect.

Nothing runs in the background: `settle` brings a domain up to date with a given moment
(docs/facts/aliyun.md §3 and §4).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from certferry_sandbox.aliyun.certificates import Stored
from certferry_sandbox.edges import Timeline

STATES = (
    *("online", "offline", "configuring", "configure_failed"),
    *("checking", "check_failed", "stopping", "deleting"),
)
UNCHECKED = frozenset({"checking", "check_failed", "configure_failed"})
"""The states to which `CheckDomainShow` applies."""
UNSERVED = frozenset({"offline", "checking", "check_failed", "stopping", "deleting"})
"""The states in which the edges serve nothing, and reads of addresses are refused."""


@dataclass(frozen=True)
class Binding:
    """A certificate at a domain: `kind` is "cas" or "upload". `updated` is the time of binding."""

    certificate: Stored
    kind: str
    updated: datetime

    @property
    def fullchain_pem(self) -> str:
        """Leaf first."""
        return self.certificate.fullchain_pem

    @property
    def privkey_pem(self) -> str:
        """Unencrypted."""
        return self.certificate.privkey_pem


@dataclass
class Change:
    """An accepted change: `binding` None switches HTTPS off; `fails` keeps the old settings."""

    binding: Binding | None
    due: datetime
    fails: bool = False


@dataclass
class Domain:
    """A domain. The name of a wildcard domain begins with a dot.

    `held`: a change stays in progress until `release`.
    `protection`: the code with which changes are refused, such as DomainInProtectedMode.
    """

    name: str
    number: int
    uid: str
    created: datetime
    binding: Binding | None = None
    state: str = "online"
    held: bool = False
    protection: str = ""
    cdn_type: str = "web"
    change: Change | None = None
    modified: datetime = field(init=False)

    def __post_init__(self) -> None:
        self.modified = self.created
        self.applied = Timeline(self.binding)

    def accept(self, change: Change, now: datetime) -> None:
        """Start a change: the domain is `configuring` until `settle` ends the change."""
        self.change, self.state, self.modified = change, "configuring", now

    def settle(self, now: datetime) -> None:
        """End the change in progress, if due and not held."""
        change = self.change
        if change is None or self.held or now < change.due:
            return
        self.change, self.modified = None, change.due
        if change.fails:
            self.state = "configure_failed"
        else:
            self.state, self.binding = "online", change.binding
            self.applied.note(change.due, change.binding)

    def release(self, now: datetime) -> None:
        """Let a held change end when due, at the earliest now."""
        self.held = False
        if self.change is not None:
            self.change.due = max(self.change.due, now)

    def uses(self, number: int) -> bool:
        """Whether a certificate of CAS is bound, or will be after the change in progress."""
        bindings = [self.binding] + ([] if self.change is None else [self.change.binding])
        return any(
            binding and binding.kind == "cas" and binding.certificate.number == number
            for binding in bindings
        )


class Domains:
    """The domains of one product, of all accounts.

    `processing_time`: how long an accepted change stays in progress.
    """

    def __init__(self, processing_time: timedelta) -> None:
        self.processing_time = processing_time
        self._domains: dict[str, Domain] = {}
        self._failures: set[str] = set()

    def add(self, domain: Domain) -> None:
        """Add an existing domain."""
        self._domains[domain.name] = domain

    def remove(self, name: str) -> None:
        """Remove a domain, as after a deletion. Raises LookupError."""
        del self._domains[name]

    def __len__(self) -> int:
        return len(self._domains)

    def all(self, now: datetime) -> Iterable[Domain]:
        """Return every domain as of now, in the order of their addition."""
        for domain in self._domains.values():
            domain.settle(now)
        return list(self._domains.values())

    def find(self, name: str, now: datetime) -> Domain:
        """Return the domain of any account, as of now. Raises LookupError."""
        domain = self._domains[name]
        domain.settle(now)
        return domain

    def fail_next(self, name: str) -> None:
        """Make the next accepted change of a domain fail."""
        self._failures.add(name)

    def accept(self, domain: Domain, binding: Binding | None, now: datetime) -> None:
        """Start a change of a domain."""
        fails = domain.name in self._failures
        self._failures.discard(domain.name)
        domain.accept(Change(binding, now + self.processing_time, fails=fails), now)

    def serving(self, host: str, now: datetime) -> Domain | None:
        """Return the domain that answers for a host: the same name, or a wildcard domain above."""
        _, _, parent = host.partition(".")
        for name in (host, f".{parent}"):
            domain = self._domains.get(name)
            if domain is not None:
                domain.settle(now)
                return None if domain.state in UNSERVED else domain
        return None
