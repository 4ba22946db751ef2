"""Delivery of a certificate to an operator's program.

The program gets the four PEM files in a private directory, and the files' paths in the environment.
The directory is removed after the program's end. The program must tolerate a second run with the
same certificate: certferry repeats the program after a failure, after a killed run, and after a
change of the command.
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
from certferry.core.redaction import Secret
from certferry.errors import DeployError
from certferry.ports.progress import Pause
from certferry.ports.receiver import Delivered
from certferry.text import Text
from certferry.values import replace


@dataclass(frozen=True, slots=True)
class CommandReceiver:
    """A command, as a `ports.receiver.Receiver`."""

    #: The declared command.
    delivery: CommandDelivery
    _: KW_ONLY
    #: The parent of the program's private directory.
    workspace: Path
    #: Waits, and ends when the run is stopped.
    pause: Pause
    #: Environment variables removed from the program's environment.
    withheld: Collection[str] = ()
    #: Secrets masked in the program's words, besides the key.
    hidden: Collection[Secret] = ()

    def observe(self, delivered: Delivered | None) -> ObservedDomain:
        """Return the observation made from the last delivery, as stored in the state: the effects
        of a program cannot be observed. If the program is missing, the returned domain is
        `UNAVAILABLE` and has the problem.
        """
        observed = ObservedDomain(self.delivery.label, Kind.COMMAND, DomainState.READY, None)
        try:
            programs.must_be_there(self.delivery.program)
        except DeployError as missing:
            observed = replace(observed, state=DomainState.UNAVAILABLE, problem=missing)
        if delivered is None:
            return observed
        digest, drift = delivered.fullchain_digest, self._drift(delivered)
        return replace(observed, bound=delivered.fingerprint, fullchain_digest=digest, drift=drift)

    def _drift(self, delivered: Delivered) -> ReceiverDrift | None:
        if delivered.program_digest in {None, self.delivery.program.digest}:
            return None
        sentence = Text("the command was edited after its last run")
        reason = Reason(ReasonCode.PROGRAM_EDITED, sentence)
        return ReceiverDrift(reason, (Change("command", "edited", "run"),))

    def deliver(self, lineage: str, bundle: CertificateBundle) -> None:
        """Run the program to the end. Raises `DeployError`."""
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
