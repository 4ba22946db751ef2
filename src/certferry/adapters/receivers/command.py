"""A program of the operator's that does something with the certificate: it finds the four PEM files
in a directory of its own, which is gone when it has ended, and their paths in its environment.

It is run once for each certificate. One that fails, whose run was killed, or that was edited since,
is run again with the same certificate, so it must not mind.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from certferry.adapters.files import directory as pem_directory
from certferry.adapters.programs import run as programs
from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.desired.certificate import CommandDelivery, Kind
from certferry.core.observed.observation import Change, DomainState, ObservedDomain, ReceiverDrift
from certferry.core.reasons import Reason, ReasonCode
from certferry.core.secret import Secret
from certferry.errors import DeployError
from certferry.ports.progress import Pause
from certferry.ports.receiver import Delivered
from certferry.text import Text


@dataclass(frozen=True, slots=True)
class CommandReceiver:
    """One command (`ports.receiver.Receiver`). `workspace` is where its files lie while it runs,
    `withheld` are the variables that it is not to have, and what is `hidden` is not shown of its
    words, nor is the key.
    """

    delivery: CommandDelivery
    _: KW_ONLY
    workspace: Path
    pause: Pause
    withheld: Collection[str] = ()
    hidden: Collection[Secret] = ()

    def observe(self, delivered: Delivered | None) -> ObservedDomain:
        """Return what the state holds: what the command did with it cannot be seen."""
        state, problem = DomainState.READY, None
        try:
            programs.must_be_there(self.delivery.program)
        except DeployError as missing:
            state, problem = DomainState.UNAVAILABLE, missing
        return ObservedDomain(
            self.delivery.label,
            Kind.COMMAND,
            state,
            None if delivered is None else delivered.fingerprint,
            problem=problem,
            drift=None if delivered is None else self._drift(delivered),
            fullchain_digest=None if delivered is None else delivered.fullchain_digest,
        )

    def _drift(self, delivered: Delivered) -> ReceiverDrift | None:
        if delivered.program_digest in {None, self.delivery.program.digest}:
            return None
        sentence = Text("the command was edited since it last ran")
        reason = Reason(ReasonCode.PROGRAM_EDITED, sentence)
        return ReceiverDrift(reason, (Change("command", "edited", "run"),))

    def deliver(self, lineage: str, bundle: CertificateBundle) -> None:
        """Run it to its end."""
        programs.must_be_there(self.delivery.program)
        with pem_directory.handed_over(bundle, self.workspace) as directory:
            variables = pem_directory.variables(lineage, bundle, directory)
            programs.run(
                self.delivery.program,
                variables,
                self.pause,
                hidden=[bundle.privkey_pem, *self.hidden],
                withheld=self.withheld,
            )
