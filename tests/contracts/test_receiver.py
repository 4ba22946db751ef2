"""The contract of receivers, for files, commands and the fake in memory."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from certferry.adapters.receivers import command, files
from certferry.core.desired.certificate import CommandDelivery, FileDelivery, Program
from certferry.ports.receiver import Receiver
from certferry_sandbox.testing.contracts.receiver import ReceiverContract, ReceiverWorld
from certferry_sandbox.testing.memory_receiver import MemoryReceiver


class ProgramWorld(ReceiverWorld):
    def __init__(self, folder: Path) -> None:
        self.script = folder / "program"
        self.script.write_text(f'#!/bin/sh\n! rm "{folder}/fail" 2>/dev/null\n')
        self.script.chmod(0o755)
        self.folder = folder

    @property
    def program(self) -> Program:
        return Program((str(self.script),), str(self.folder), timedelta(seconds=30))

    def fail_next(self) -> None:
        (self.folder / "fail").touch()

    def close(self) -> None:
        self.script.unlink()


class MemoryWorld(ReceiverWorld):
    def __init__(self, receiver: MemoryReceiver) -> None:
        self.receiver = receiver

    def fail_next(self) -> None:
        self.receiver.failures += 1

    def close(self) -> None:
        self.receiver.closed = True


def no_pause(seconds: float) -> None:
    """Return at once, without stopping the run."""


@pytest.fixture
def program(tmp_path: Path) -> ProgramWorld:
    return ProgramWorld(tmp_path)


class TestFiles(ReceiverContract):
    """Files in a directory, with a program after a change."""

    @pytest.fixture
    def world(self, program: ProgramWorld) -> ReceiverWorld:
        return program

    @pytest.fixture
    def receiver(self, program: ProgramWorld, tmp_path: Path) -> Receiver:
        """Return a receiver for a directory that does not exist yet."""
        delivery = FileDelivery(str(tmp_path / "ssl"), reload=program.program)
        return files.FilesReceiver(delivery, pause=no_pause)


class TestCommand(ReceiverContract):
    """A command."""

    @pytest.fixture
    def world(self, program: ProgramWorld) -> ReceiverWorld:
        return program

    @pytest.fixture
    def receiver(self, program: ProgramWorld, tmp_path: Path) -> Receiver:
        delivery = CommandDelivery("program", program.program)
        return command.CommandReceiver(delivery, workspace=tmp_path / "handover", pause=no_pause)


class TestMemoryReceiver(ReceiverContract):
    """The fake passes the contract, so it may replace a receiver in the engine's tests."""

    @pytest.fixture
    def receiver(self) -> MemoryReceiver:
        return MemoryReceiver(FileDelivery("/opt/ssl"))

    @pytest.fixture
    def world(self, receiver: MemoryReceiver) -> ReceiverWorld:
        return MemoryWorld(receiver)
