"""An operator's program that gets the four PEM files in a directory of its own, gone when it ends,
and their paths in its environment. It must not mind to run again with the same certificate: it does
after a failure, a killed run, or a change of the command.
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
    """One command (`ports.receiver.Receiver`). Its files lie in `workspace`; it gets no variable
    that is `withheld`, and its words are shown without what is `hidden` and without the key.
    """

    delivery: CommandDelivery
    _: KW_ONLY
    workspace: Path
    pause: Pause
    withheld: Collection[str] = ()
    hidden: Collection[Secret] = ()

    def observe(self, delivered: Delivered | None) -> ObservedDomain:
        """Return what the state holds: what the command did with it cannot be seen."""
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
