"""Receivers in memory, which can fail and drift, and the files of another client in memory."""

from __future__ import annotations

from certferry.core.certificates.certificate import FULLCHAIN, CertificateBundle
from certferry.core.desired.certificate import Delivery, PemFiles
from certferry.core.desired.declaration import delivered
from certferry.core.observed.observation import (
    Change,
    DomainState,
    ObservedDomain,
    ReceiverDrift,
    Served,
)
from certferry.core.reasons import Reason, ReasonCode
from certferry.errors import CertferryError, CertificateError, DeployError, TargetRejected
from certferry.ports.receiver import Delivered
from certferry.text import Text


class MemorySource:
    """A `CertificateSource` with files from the test."""

    def __init__(self) -> None:
        self._held: dict[PemFiles, CertificateBundle | CertferryError] = {}

    def put(self, files: PemFiles, held: CertificateBundle | CertferryError) -> None:
        """Put a certificate into the files, or make reading the files fail."""
        self._held[files] = held

    def read(self, files: PemFiles) -> CertificateBundle:
        held = self._held.get(files)
        if held is None:
            raise CertificateError(Text("there is no file {path}", path=files.fullchain))
        if isinstance(held, CertferryError):
            raise held
        return held


class MemoryReceivers:
    """The receivers of a model world, by delivery: equal deliveries have the same receiver."""

    def __init__(self) -> None:
        self._receivers: dict[Delivery, MemoryReceiver] = {}

    def receiver(self, delivery: Delivery) -> MemoryReceiver:
        """See `reconcile.run.Ports.receiver`."""
        return self._receivers.setdefault(delivery, MemoryReceiver(delivery))


class MemoryReceiver:
    """A `Receiver`, like a directory with a program that is run after a change.

    `deliveries` are the fingerprints of successful deliveries, `held` is the last delivered
    fingerprint. The next `failures` deliveries fail at the end, with the certificate in place.
    While `closed`, the receiver refuses deliveries; `drifted` says that another program changed
    the files. A server presents the certificate `served`; a `deaf` server does not read new files.
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
        self.deaf = False
        self.served: str | None = None

    def observe(self, delivered: Delivered | None) -> ObservedDomain:
        """See `ports.receiver.Receiver.observe`. The receiver itself has the last fingerprint."""
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

    def deliver(self, lineage: str, bundle: CertificateBundle, *, again: bool = False) -> None:
        if self.closed:
            raise _closed()
        self.held, self.drifted, self._finished = bundle.certificate.fingerprint, False, False
        self._fullchain_digest = bundle.fullchain_digest
        if self.failures:
            self.failures -= 1
            raise DeployError(Text("the program failed with exit code 1"))
        self._finished = True
        self.deliveries.append(self.held)
        if not self.deaf:
            self.served = self.held

    def presented(self) -> tuple[Served, ...]:
        """Return the answer of a server that reads the certificate at each delivery, unless `deaf`.

        A server without a certificate is silent.
        """
        is_silent = self.served is None
        return (Served("192.0.2.9", self.served, valid=not is_silent, silent=is_silent),)

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
