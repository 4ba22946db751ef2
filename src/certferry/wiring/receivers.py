"""The receivers of a run, and the place where what a command is handed lies meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from certferry.adapters.clients import handover
from certferry.config.model import Settings
from certferry.core.delivery import Delivery, FileDelivery
from certferry.ports.progress import Pause
from certferry.ports.receiver import Receiver


def receiver_for(settings: Settings, pause: Pause, delivery: Delivery) -> Receiver:
    """Return what takes a delivery."""
    from certferry.adapters.targets import command, files

    connect: Callable[..., Receiver] = partial(command.connect, workspace=_workspace(settings))
    if isinstance(delivery, FileDelivery):
        connect = files.connect
    return connect(
        delivery,
        pause=pause,
        withheld=settings.secrets.withheld(),
        hidden=settings.secrets.known(),
    )


def sweep_handovers(settings: Settings) -> None:
    """Remove what a killed run handed to a command: the file may name no command any more that
    would.
    """
    handover.sweep(_workspace(settings))


def _workspace(settings: Settings) -> Path:
    return settings.state.path.parent / "handover"
