"""How everything stands that a workspace declares, as `status` shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from certferry.core.assessment.notices import ChannelState
from certferry.core.assessment.status import LineageStatus, Remembering
from certferry.core.assessment.trouble import Trouble
from certferry.reconcile.run import Run
from certferry.reconcile.status import remembering, statuses_of
from certferry.wiring.undeclared import undeclared
from certferry.wiring.workspace import Workspace, lost_state


@dataclass(frozen=True, slots=True)
class Overview:
    """How everything stands: certificates, what is stored of runs, and channels."""

    statuses: Sequence[LineageStatus]
    remembering: Remembering
    channels: Mapping[str, ChannelState]


def overview(workspace: Workspace, run: Run, moment: datetime) -> Overview:
    """Return how everything stands, with what the file declares no more, and whether a state was
    expected. Changes nothing.
    """
    found = observed(workspace, run)
    settings, state = workspace.settings, workspace.state
    stored, lost = found.remembering, lost_state(settings, state)
    problem = stored.problem or (None if lost is None else Trouble.of(lost))
    gone = undeclared(settings, state, moment)
    return replace(found, remembering=replace(stored, problem=problem, undeclared=gone))


def observed(workspace: Workspace, run: Run) -> Overview:
    """Return how everything stands that the workspace declares. Changes nothing."""
    ports = workspace.connect(run)
    stored = remembering(ports)
    statuses = statuses_of(ports, workspace.certificates)
    return Overview(statuses, stored, workspace.notifications(run).channel_states())
