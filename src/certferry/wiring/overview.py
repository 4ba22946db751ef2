"""How everything stands that a workspace declares, as `status` shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from certferry.core.assessment.health import Recorded
from certferry.core.assessment.notices import ChannelState
from certferry.core.assessment.status import LineageStatus
from certferry.reconcile.run import Run
from certferry.reconcile.status import statuses_of
from certferry.wiring.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Overview:
    """How everything stands: certificates, what is recorded, and channels."""

    statuses: Sequence[LineageStatus]
    recorded: Recorded
    channels: Mapping[str, ChannelState]


def overview(workspace: Workspace, run: Run, recorded: Recorded) -> Overview:
    """Return how everything stands that the workspace declares. Changes nothing."""
    statuses = statuses_of(workspace.connect(run), workspace.certificates, recorded)
    return Overview(statuses, recorded, workspace.notifications(run).channel_states())
