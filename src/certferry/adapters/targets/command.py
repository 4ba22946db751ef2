"""A program of the operator's that does something with the certificate: it finds the four PEM files
in a directory of its own, which is gone when it has ended, and is told of them in its environment.

It is run once for each certificate. One that fails, or whose run was killed, is run again with the
same certificate, so it must not mind.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from certferry.adapters.clients import handover, pem_directory, programs
from certferry.core.certificate import CertificateBundle
from certferry.core.desired import CommandDelivery, Kind
from certferry.core.observed import DomainState, ObservedDomain
from certferry.errors import DeployError
from certferry.ports.progress import Pause
from certferry.ports.receiver import Receiver


def connect(
    delivery: CommandDelivery, *, workspace: Path, pause: Pause, withheld: Collection[str] = ()
) -> Receiver:
    """Give the receiver for a command; `workspace` is where its files lie while it runs, and
    `withheld` are the variables that it is not to have.
    """
    return Command(delivery, workspace, pause, withheld)


class Command:
    """One command."""

    def __init__(
        self, delivery: CommandDelivery, workspace: Path, pause: Pause, withheld: Collection[str]
    ) -> None:
        self._delivery = delivery
        self._workspace = workspace
        self._pause = pause
        self._withheld = withheld

    def observe(self, delivered: str | None) -> ObservedDomain:
        """Say what the state remembers: nobody can see what the command did with it."""
        label, state = self._delivery.label, DomainState.READY
        try:
            programs.must_be_there(self._delivery.program)
        except DeployError as problem:
            state = DomainState.UNAVAILABLE
            return ObservedDomain(label, Kind.COMMAND, state, delivered, problem=problem)
        return ObservedDomain(label, Kind.COMMAND, state, delivered)

    def deliver(self, lineage: str, bundle: CertificateBundle) -> None:
        """Run it to its end."""
        programs.must_be_there(self._delivery.program)
        with handover.handed_over(bundle, self._workspace) as directory:
            told = pem_directory.variables(lineage, bundle, directory)
            program, key = self._delivery.program, bundle.privkey_pem
            programs.run(program, told, key, self._pause, withheld=self._withheld)
