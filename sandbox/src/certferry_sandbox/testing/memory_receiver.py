"""Receivers in memory: each holds one certificate, and can be made to fail or to drift. Another
client's files, in memory too.
"""

from __future__ import annotations

from certferry.core.certificates.certificate import FULLCHAIN, CertificateBundle
from certferry.core.desired.certificate import Delivery, PemFiles, delivered
from certferry.core.observed.observation import Change, DomainState, ObservedDomain, ReceiverDrift
from certferry.core.reasons import Reason, ReasonCode
from certferry.errors import CertferryError, CertificateError, DeployError, TargetRejected
from certferry.ports.receiver import Delivered
from certferry.text import Text


class MemorySource:
    """A `CertificateSource` whose files are put there by a test."""

    def __init__(self) -> None:
        self._held: dict[PemFiles, CertificateBundle | CertferryError] = {}

    def put(self, files: PemFiles, held: CertificateBundle | CertferryError) -> None:
        """Put this into the files, or make reading them fail like this."""
        self._held[files] = held

    def read(self, files: PemFiles) -> CertificateBundle:
        held = self._held.get(files)
        if held is None:
            raise CertificateError(Text("there is no file {path}", path=files.fullchain))
        if isinstance(held, CertferryError):
            raise held
        return held


class MemoryReceivers:
    """Every receiver of a model world, found by its delivery; the same delivery is the same one."""

    def __init__(self) -> None:
        self._receivers: dict[Delivery, MemoryReceiver] = {}

    def receiver(self, delivery: Delivery) -> MemoryReceiver:
        """See `reconcile.run.Ports.receiver`."""
        return self._receivers.setdefault(delivery, MemoryReceiver(delivery))


class MemoryReceiver:
    """A `Receiver`, like a directory with a program that is run after a change.

    `deliveries` lists the fingerprints whose delivery ended well, `held` is the last one that was
    put there. The next `failures` deliveries fail at their end, with the certificate in place.
    While it is `closed`, it takes nothing; once `drifted`, what is there has been changed.
    """

    def __init__(self, delivery: Delivery) -> None:
        self._deployment = delivered(delivery)
        self._finished = False
        self._fullchain_digest: str | None = None
        self.held: str | None = None
        self.deliveries: list[str] = []
        self.failures = 0
        self.closed = False
        self.drifted = False

    def observe(self, delivered: Delivered | None) -> ObservedDomain:
        """See `ports.receiver.Receiver.observe`. It remembers by itself."""
        (name,) = self._deployment.domains or ("",)
        kind = self._deployment.kind
        if self.closed:
            return ObservedDomain(name, kind, DomainState.UNAVAILABLE, problem=_closed())
        drift = None if self.held is None else self._drift()
        return ObservedDomain(
            name,
            kind,
            DomainState.READY,
            self.held,
            drift=drift,
            fullchain_digest=self._fullchain_digest,
        )

    def deliver(self, lineage: str, bundle: CertificateBundle) -> None:
        if self.closed:
            raise _closed()
        self.held, self.drifted, self._finished = bundle.certificate.fingerprint, False, False
        self._fullchain_digest = bundle.fullchain_digest
        if self.failures:
            self.failures -= 1
            raise DeployError(Text("the program failed with exit code 1"))
        self._finished = True
        self.deliveries.append(self.held)

    def _drift(self) -> ReceiverDrift | None:
        if self.drifted:
            reason = Reason(ReasonCode.DELIVERY_DRIFTED, Text("it was changed"))
            return ReceiverDrift(reason, (Change(FULLCHAIN, "changed", "delivered"),))
        if not self._finished:
            return ReceiverDrift(
                Reason(ReasonCode.DELIVERY_UNFINISHED, Text("the program has not run"))
            )
        return None


def _closed() -> TargetRejected:
    return TargetRejected(Text("it takes nothing"), hint=Text("open it"))
