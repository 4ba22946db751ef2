"""A program of the operator's that does something with the certificate: it finds the four PEM files
in a directory of its own, which is gone when it has ended, and is told of them in its environment.

It is run once for each certificate. One that fails, whose run was killed, or that was edited since,
is run again with the same certificate, so it must not mind.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from certferry.adapters.files import directory as pem_directory
from certferry.adapters.files import handover
from certferry.adapters.programs import run as programs
from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.desired.certificate import CommandDelivery, Kind
from certferry.core.observed.observation import Change, DomainState, ObservedDomain, ReceiverDrift
from certferry.core.reasons import Reason, ReasonCode
from certferry.core.secret import Secret
from certferry.errors import DeployError
from certferry.ports.progress import Pause
from certferry.ports.receiver import Delivered, Receiver
from certferry.text import Text


def connect(
    delivery: CommandDelivery,
    *,
    workspace: Path,
    pause: Pause,
    withheld: Collection[str] = (),
    hidden: Collection[Secret] = (),
) -> Receiver:
    """Return the receiver for a command; `workspace` is where its files lie while it runs,
    `withheld` are the variables that it is not to have, and what is `hidden` is not shown of its
    words, nor is the key.
    """
    return Command(delivery, workspace, pause, withheld, hidden)


class Command:
    """One command."""

    def __init__(
        self,
        delivery: CommandDelivery,
        workspace: Path,
        pause: Pause,
        withheld: Collection[str],
        hidden: Collection[Secret],
    ) -> None:
        self._delivery = delivery
        self._workspace = workspace
        self._pause = pause
        self._withheld = withheld
        self._hidden = hidden

    def observe(self, delivered: Delivered | None) -> ObservedDomain:
        """Return what the state holds: what the command did with it cannot be seen."""
        try:
            programs.must_be_there(self._delivery.program)
        except DeployError as problem:
            return self._observed(DomainState.UNAVAILABLE, delivered, problem)
        return self._observed(DomainState.READY, delivered)

    def _observed(
        self,
        state: DomainState,
        delivered: Delivered | None,
        problem: DeployError | None = None,
    ) -> ObservedDomain:
        return ObservedDomain(
            self._delivery.label,
            Kind.COMMAND,
            state,
            None if delivered is None else delivered.fingerprint,
            problem=problem,
            drift=None if delivered is None else self._drift(delivered),
            fullchain_digest=None if delivered is None else delivered.fullchain_digest,
        )

    def _drift(self, delivered: Delivered) -> ReceiverDrift | None:
        if delivered.program_digest in {None, self._delivery.program.digest}:
            return None
        sentence = Text("the command was edited since it last ran")
        reason = Reason(ReasonCode.PROGRAM_EDITED, sentence)
        return ReceiverDrift(reason, (Change("command", "edited", "run"),))

    def deliver(self, lineage: str, bundle: CertificateBundle) -> None:
        """Run it to its end."""
        programs.must_be_there(self._delivery.program)
        with handover.handed_over(bundle, self._workspace) as directory:
            variables = pem_directory.variables(lineage, bundle, directory)
            programs.run(
                self._delivery.program,
                variables,
                self._pause,
                hidden=[bundle.privkey_pem, *self._hidden],
                withheld=self._withheld,
            )
