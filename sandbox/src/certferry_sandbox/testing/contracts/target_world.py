"""What the contract of a target does to the world behind it, and how it looks at it."""

from __future__ import annotations

from abc import ABC, abstractmethod

from certferry.core.certificates.certificate import Certificate, CertificateBundle
from certferry.core.desired.certificate import DesiredHttps, Kind
from certferry.core.observed.observation import ObservedDomain, ObservedTarget
from certferry.ports.target import DeployTarget, Look

LINEAGE = "img"
IMG = "img.example.com"
WWW = "www.example.com"
WILDCARD = "*.example.com"
NAMES = (IMG, WILDCARD)
KEEP = DesiredHttps()


class TargetWorld(ABC):
    """What the contract does to the world behind a target, and what it wants to know of it.

    The account is empty at first. A change of a domain goes on until `settle` is called.
    """

    @abstractmethod
    def add_domain(self, name: str, *, available: bool = True) -> None:
        """Have a domain without HTTPS; one that is not `available` is frozen or the like."""

    @abstractmethod
    def settle(self) -> None:
        """Let every change that goes on come to its end."""

    @abstractmethod
    def fail_next(self, name: str) -> None:
        """Let the next change of a domain end badly."""

    @abstractmethod
    def issue(self, *names: str) -> CertificateBundle:
        """Give a new certificate that the target takes."""

    @abstractmethod
    def put(self, label: str, bundle: CertificateBundle) -> str:
        """Have a certificate there that another tool uploaded under this label; give its id."""

    @abstractmethod
    def labels(self) -> list[str]:
        """Give the labels of the certificates that are there, in any order."""

    @abstractmethod
    def count_writes(self) -> int:
        """Count the writes so far: uploads, changes of domains, removals."""


def observe(
    target: DeployTarget, *domains: str, known: tuple[Certificate, ...] = ()
) -> ObservedTarget:
    """Look at these domains, or at all that the lineage covers when none is named."""
    return target.observe(Look(LINEAGE, NAMES, domains or None, Kind.AUTO, known))


def the_domain(target: DeployTarget, name: str = IMG) -> ObservedDomain:
    """Look at one domain by its name."""
    [found] = observe(target, name).domains
    return found


def deploy(
    target: DeployTarget, world: TargetWorld, domain: str = IMG, desired: DesiredHttps = KEEP
) -> str:
    """Bring a new certificate to a domain, wait for the end, and give the remote id."""
    remote_id = target.upload(LINEAGE, world.issue(*NAMES))
    target.bind(domain, Kind.CDN, remote_id, desired)
    world.settle()
    return remote_id
