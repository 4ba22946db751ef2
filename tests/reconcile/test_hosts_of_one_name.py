"""Two machines share a state under one name: the cost, until each machine has its own name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from certferry.adapters.receivers.command import CommandReceiver
from certferry.adapters.receivers.files import FilesReceiver
from certferry.adapters.state.connect import connect
from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.desired.certificate import (
    CommandDelivery,
    Delivery,
    DesiredCertificate,
    FileDelivery,
    Program,
)
from certferry.core.desired.declaration import delivered
from certferry.core.observed.observation import ObservedDomain
from certferry.core.planning.report import SyncReport
from certferry.ports.receiver import Delivered, Receiver
from certferry.ports.state import StateStore
from certferry.reconcile.reconciler import LineageReconciler
from certferry.values import replace
from tests.reconcile.model import ModelWorld
from tests.support.postgresql import KEY, Postgresql

IMG = "img.example.com"
MINUTE = timedelta(minutes=1)


@dataclass(frozen=True)
class OnThisDisk:
    """A directory under the name that the directory has on every machine."""

    receiver: FilesReceiver
    called: str

    def observe(self, delivered: Delivered | None) -> ObservedDomain:
        """See `Receiver.observe`."""
        return replace(self.receiver.observe(delivered), domain=self.called)

    def deliver(self, lineage: str, bundle: CertificateBundle, *, again: bool = False) -> None:
        """See `Receiver.deliver`."""
        self.receiver.deliver(lineage, bundle, again=again)


@dataclass
class Machine:
    """One of the two machines: on its disk, `/etc/tls` is a directory of its own."""

    world: ModelWorld
    state: StateStore
    disk: Path

    def declared(self) -> DesiredCertificate:
        """Return the declaration, identical on both machines."""
        desired = self.world.desired()
        files = FileDelivery("/etc/tls")
        command = CommandDelivery("upload", Program(("touch", "uploaded"), "/", MINUTE))
        return replace(
            desired, deployments=(*desired.deployments, delivered(files), delivered(command))
        )

    def _receiver(self, delivery: Delivery) -> Receiver:
        """Connect a common declaration to this machine's disk."""
        if isinstance(delivery, FileDelivery):
            here = replace(delivery, directory=str(self.disk / "tls"))
            return OnThisDisk(FilesReceiver(here, pause=lambda _: None), delivery.directory)
        program = replace(delivery.program, directory=str(self.disk))
        ours = replace(delivery, program=program)
        return CommandReceiver(ours, workspace=self.disk / "handover", pause=lambda _: None)

    def sync(self) -> SyncReport:
        """Make a run to the end."""
        ports = replace(
            self.world.ports(self.state.host),
            issuer=self.world.issuer.seen_by(self.state),
            state=self.state,
            receiver=self._receiver,
        )
        run = LineageReconciler(self.declared(), ports)
        begun = self.state.begin_run(self.state.now())
        self.world.pass_to_the_end(run)
        self.state.end_run(begun)
        return SyncReport((run.report(),))

    @property
    def fullchain(self) -> str:
        """Return the file that the machine's web server would read."""
        return (self.disk / "tls" / "fullchain.pem").read_text()

    @property
    def has_uploaded(self) -> bool:
        """Return whether the machine's command has run."""
        return (self.disk / "uploaded").exists()


@pytest.fixture
def machines(postgresql: Postgresql, tmp_path: Path) -> Iterator[tuple[Machine, Machine]]:
    """Yield two machines, both called `web-1`."""
    url, world = postgresql.url(postgresql.new_state()), ModelWorld()
    world.cdn.add_domain(IMG)
    with ExitStack() as opened:

        def machine(name: str) -> Machine:
            (tmp_path / name).mkdir()
            state = opened.enter_context(closing(connect(url, KEY, host="web-1")))
            return Machine(world, state, tmp_path / name)

        yield machine("one"), machine("other")


def test_machines_of_one_name_lose_no_certificate(machines: tuple[Machine, Machine]) -> None:
    """One certificate is issued, and each machine has the certificate in its files, which a run
    reads from the disk. A command has its record in the state alone, so the command runs on the
    first machine only.
    """
    first, second = machines
    assert first.sync().ok
    assert second.sync().ok

    assert 1 == first.world.issuer.issued
    assert first.fullchain == second.fullchain
    assert (True, False) == (first.has_uploaded, second.has_uploaded)
    assert first.sync().ok
    assert () == first.state.unended_runs()
    assert 1 == first.world.issuer.issued
