"""Certificates that the file declares no more: renamed, or gone from it. Each run tells of them."""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import UTC, datetime

from certferry.config.model import Settings
from certferry.errors import StateError
from certferry.text import Text
from certferry.wiring.looking import open_to_look
from certferry.wiring.undeclared import undeclared

_log = logging.getLogger(__name__)


def tell_of_undeclared(settings: Settings) -> None:
    """Tell of each certificate in the state that the file has no more. What is wrong with the state
    is told by the run itself.
    """
    with suppress(StateError), open_to_look(settings) as session:
        for one in undeclared(settings, session.state, datetime.now(UTC)):
            _log.warning(Text("{problem}; {hint}", problem=one.message, hint=one.hint))
