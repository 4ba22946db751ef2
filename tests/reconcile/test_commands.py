"""Certificates that are handed to a command: run once for each certificate, and once more when the
command itself was edited.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from certferry.adapters.receivers import command
from certferry.core.assessment.status import Standing, status_of
from certferry.core.desired.certificate import (
    CommandDelivery,
    Delivery,
    DesiredCertificate,
    PemFiles,
    Program,
    delivered,
)
from certferry.core.observed.observation import Change
from certferry.core.planning.due import Times
from certferry.core.planning.planner import Issuing
from certferry.core.planning.report import LineageReport
from certferry.core.planning.steps import Deploy
from certferry.ports.receiver import Receiver
from certferry.reconcile.observe import observe
from certferry.reconcile.reconciler import LineageReconciler, plan_lineage
from certferry_sandbox.testing.certificates import make_bundle, with_another_chain
from tests.reconcile.model import MOMENT, ModelWorld

FILES = PemFiles("/ssl/fullchain.pem", "/ssl/privkey.pem")


class Machine:
    """A world with a machine in it, on which commands are run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.world = ModelWorld()
        self.killed = False

    def wish(self, *arguments: str) -> DesiredCertificate:
        """Ask for a certificate that goes to one command: it writes down its arguments."""
        script = ("/bin/sh", "-c", 'echo "$1" >> ran; test "$1" != broken', "push", *arguments)
        program = Program(script, str(self.folder), timedelta(seconds=30))
        deployment = delivered(CommandDelivery("push", program))
        return replace(self.world.wish(), deployments=(deployment,))

    def sync(self, wish: DesiredCertificate) -> LineageReport:
        """Run once, to the end."""
        self.world.alive.add("run")
        run = LineageReconciler(wish, replace(self.world.ports("run"), receiver=self.receiver))
        assert run.reconcile() is None
        self.world.alive.discard("run")
        self.world.pass_time(MOMENT)
        return run.report()

    def deploys(self, wish: DesiredCertificate) -> list[Deploy]:
        """Plan, and give the deliveries."""
        observed = observe(wish, replace(self.world.ports("planner"), receiver=self.receiver))
        plan = plan_lineage(wish, observed, Times.at(self.world.clock), Issuing.IF_DUE)
        return [step for step in plan.steps if isinstance(step, Deploy)]

    def standing(self, wish: DesiredCertificate) -> Standing:
        """Tell how the command stands."""
        observed = observe(wish, replace(self.world.ports("looker"), receiver=self.receiver))
        [found] = status_of(wish, observed, self.world.clock).domains
        return found.standing

    def receiver(self, delivery: Delivery) -> Receiver:
        """See `reconcile.run.Ports.receiver`."""
        assert isinstance(delivery, CommandDelivery)
        return command.CommandReceiver(delivery, workspace=self.folder / "w", pause=lambda _: None)

    @property
    def ran(self) -> list[str]:
        """What the commands have written down."""
        path = self.folder / "ran"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine on which nothing has run yet."""
    return Machine(tmp_path)


def test_edited_command_runs_again_for_the_same_certificate(machine: Machine) -> None:
    """The plan says why, nothing is issued, and afterwards it is left alone."""
    machine.sync(machine.wish("to lb1"))
    edited = machine.wish("to lb2")

    [deploy] = machine.deploys(edited)
    assert (Change("command", "edited", "run"),) == deploy.changes
    assert Standing.DRIFTED is machine.standing(edited)
    assert machine.sync(edited).ok
    assert machine.sync(edited).is_unchanged

    assert ["to lb1", "to lb2"] == machine.ran
    assert 1 == machine.world.issuer.issued
    assert [] == machine.deploys(edited)
    assert Standing.VERIFIED is machine.standing(edited)


def test_edited_command_that_fails_is_run_until_it_succeeds(machine: Machine) -> None:
    """Its failure is not taken for a delivery."""
    machine.sync(machine.wish("well"))

    assert not machine.sync(machine.wish("broken")).ok
    assert machine.deploys(machine.wish("broken"))
    assert machine.sync(machine.wish("well")).ok

    assert ["well", "broken", "well"] == machine.ran


def test_program_of_a_delivery_that_failed_is_not_made_up(machine: Machine) -> None:
    """What is written down is what was run, never what will be."""
    machine.sync(machine.wish("broken"))
    [record] = machine.world.state.remembered("img").rollouts
    machine.world.state.save_rollout(replace(record, program_digest=None))

    assert not machine.sync(machine.wish("broken", "again")).ok

    [record] = machine.world.state.remembered("img").rollouts
    assert record.verified_at is None
    assert ["broken", "broken"] == machine.ran


def test_leaf_with_another_chain_is_handed_over_again(machine: Machine) -> None:
    """The command's server would go on with the chain that it was given before."""
    bundle = make_bundle("img.example.com", not_before=machine.world.clock)
    wish = replace(machine.wish("well"), names=(), dns="", files=FILES)
    other = with_another_chain(bundle)
    for held in (bundle, other, other):
        machine.world.source.put(FILES, held)
        assert machine.sync(wish).ok

    assert ["well", "well"] == machine.ran
