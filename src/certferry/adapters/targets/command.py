"""A program of the operator's that does something with the certificate: it finds the four PEM files
in a directory of its own, which is gone when it has ended, and is told of them in its environment.

It is run once for each certificate. One that fails, or whose run was killed, is run again with the
same certificate, so it must not mind.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from certferry.adapters.clients import pem_directory, programs
from certferry.core.certificate import CertificateBundle
from certferry.core.desired import CommandDelivery, Kind
from certferry.core.observed import DomainState, ObservedDomain
from certferry.errors import DeployError
from certferry.ports.progress import Pause
from certferry.ports.receiver import Receiver
from certferry.text import Text

_PRIVATE = pem_directory.Access(0o600)
_PRIVATE_DIRECTORY = 0o700


def connect(delivery: CommandDelivery, *, workspace: Path, pause: Pause) -> Receiver:
    """Give the receiver for a command; `workspace` is where its files lie while it runs."""
    return Command(delivery, workspace, pause)


class Command:
    """One command."""

    def __init__(self, delivery: CommandDelivery, workspace: Path, pause: Pause) -> None:
        self._delivery = delivery
        self._workspace = workspace
        self._pause = pause

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
        with self._files(lineage, bundle) as directory:
            told = pem_directory.variables(lineage, bundle, directory)
            programs.run(self._delivery.program, told, bundle.privkey_pem, self._pause)

    @contextmanager
    def _files(self, lineage: str, bundle: CertificateBundle) -> Iterator[Path]:
        """Have the files for a `with` block. Their place is the same in every run, so that the next
        one removes what a run that was killed has left.
        """
        place = hashlib.sha256(f"{lineage}\0{self._delivery.label}".encode()).hexdigest()[:16]
        directory = self._workspace / place
        hint = Text("free some space, or let certferry write there")
        with pem_directory.told(directory, hint):
            self._workspace.mkdir(_PRIVATE_DIRECTORY, parents=True, exist_ok=True)
            _remove(directory)
            directory.mkdir(_PRIVATE_DIRECTORY)
        try:
            with pem_directory.told(directory, hint):
                for name, content in pem_directory.contents(bundle).items():
                    path = directory / name
                    pem_directory.draft(path, content, _PRIVATE).replace(path)
            yield directory
        finally:
            with pem_directory.told(directory, Text("remove it by hand: a private key is in it")):
                _remove(directory)


def _remove(directory: Path) -> None:
    with suppress(FileNotFoundError):
        shutil.rmtree(directory)
