"""What the contract of an issuer does to the world behind it, and how it looks at it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import datetime, timedelta

from certferry.core.certificates.certificate import CertificateBundle, KeyType
from certferry.core.certificates.lineage import Version
from certferry.core.events import Event
from certferry.core.secret import Secret
from certferry.ports.dns import DnsProvider
from certferry.ports.issuer import Issuer, IssueRequest
from certferry.ports.state import Lease, StateStore
from certferry_sandbox.testing.interruptions import Door, Fate
from certferry_sandbox.testing.memory_state import MemoryState

LINEAGE = "img"
SETTLED = timedelta(minutes=5)
"""After this time no provider lists a record late any more."""


class IssuerWorld(ABC):
    """A CA, a provider whose account holds the zone of `name`, and a state that is empty at first.

    `name` is a host name that no other world has.
    """

    name: str
    dns: DnsProvider

    def __init__(self) -> None:
        self.state: StateStore = MemoryState(is_alive=lambda _: False)
        self.events: list[Event] = []

    @abstractmethod
    def issuer(self, fate: Fate | None = None) -> Issuer:
        """Give an issuer on the state as a new process makes it, with a fate over its doors."""

    @abstractmethod
    def values(self) -> list[str]:
        """Give every TXT value that is in DNS at or below a challenge name of this world."""

    @abstractmethod
    def count_issued(self) -> int:
        """Count the certificates that the CA has issued in this world."""

    @abstractmethod
    def refuse_proofs(self, *, refused: bool) -> None:
        """Let the CA see none of the values, or see them again."""

    @abstractmethod
    def now(self) -> datetime:
        """Give the moment."""

    @abstractmethod
    def pass_time(self, duration: timedelta) -> None:
        """Let time pass."""

    # what the engine does

    def lease(self) -> Lease:
        """Take the lease over: the run that has it has ended."""
        return self.state.acquire(LINEAGE, self.now())

    def request(
        self,
        *names: str,
        key_type: KeyType = KeyType.EC256,
        reused_key: Secret | None = None,
    ) -> IssueRequest:
        """Ask for these names, or for the one name of the world."""
        return IssueRequest(LINEAGE, names or (self.name,), key_type, reused_key=reused_key)

    def issue(
        self,
        *names: str,
        key_type: KeyType = KeyType.EC256,
        reused_key: Secret | None = None,
        fate: Fate | None = None,
    ) -> CertificateBundle:
        """Issue in a process of its own."""
        dns = self.dns if fate is None else Door(self.dns, fate)
        request = self.request(*names, key_type=key_type, reused_key=reused_key)
        lease = self.lease()
        return self.issuer(fate).issue(request, dns, lease, self.events.append)

    def save(self, bundle: CertificateBundle) -> Version:
        """Keep a version."""
        return self.state.save_version(self.lease(), bundle, self.now())

    def sweep(self) -> None:
        """Sweep, when every list of the provider is right."""
        self.pass_time(SETTLED)
        self.issuer().sweep(LINEAGE, [self.dns], self.now())
