"""Trouble that no state can remember, since the state or the configuration itself is the trouble:
it is told through the channels all the same, once a day.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import timedelta
from pathlib import Path

from certferry.adapters.state.connect import empty_state
from certferry.adapters.state.stamp import Stamp
from certferry.config.model import Settings
from certferry.core.assessment.notices import Delivery, Subject, Topic
from certferry.core.assessment.notifications import A_DAY
from certferry.errors import CertferryError
from certferry.ports.notifier import Answered, Sent
from certferry.ports.progress import Pause
from certferry.wiring.channels import Channels
from certferry.wiring.clock import now

_RUN_OF_ROOT = Path("/run")
"""Survives a file system that the system has made read-only after an error of its disk."""


class Unremembered:
    """Tells through the channels of some settings, and keeps by a stamp when it did: beside the
    state, else beside the configuration, else in the run directory. Where none of them takes a
    file, each run tells.
    """

    def __init__(self, settings: Settings, *, pause: Pause, language: str) -> None:
        self._settings = settings
        self._pause = pause
        self._language = language
        self._stamp = Stamp(_directories(settings), str(settings.path and settings.path.absolute()))

    def tell(self, error: CertferryError) -> Mapping[str, Answered]:
        """Tell what ended a run, unless the same was told today; return what was answered."""
        moment, last = now(), self._stamp.last()
        told_at = last.at if last is not None and last.code in {"", error.code} else None
        if told_at is not None and timedelta(0) <= moment - told_at < A_DAY:
            return {}
        self._stamp.put(error.code, moment)  # killed while it is sent, it is not told twice
        with closing(empty_state()) as state:
            channels = Channels(
                self._settings, lambda: state, pause=self._pause, language=self._language
            )
            answers = channels.tell_failure(error)
        if not any(isinstance(answer, Sent) for answer in answers.values()):
            self._stamp.remove()
        return answers

    def last(self) -> Delivery | None:
        """Return what the channels were told in this way, for a state that can remember it."""
        last = self._stamp.last()
        if last is None:
            return None
        return Delivery(Topic.TROUBLE, Subject(), last.at, last.at, last.code)

    def forget(self) -> None:
        """Forget it, since it is over."""
        self._stamp.remove()


def _directories(settings: Settings) -> Iterator[Path]:
    yield settings.state.path.absolute().parent
    if settings.path is not None:
        yield settings.path.absolute().parent
    if os.geteuid() == 0:
        yield _RUN_OF_ROOT
    elif os.environ.get("XDG_RUNTIME_DIR"):
        yield Path(os.environ["XDG_RUNTIME_DIR"])
