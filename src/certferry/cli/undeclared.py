"""What a run tells before it begins: a state that was expected and is new, and certificates that
the file declares no more.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import UTC, datetime

from certferry.config.model import Settings
from certferry.errors import StateError
from certferry.text import Text
from certferry.wiring.looking import lost_state, open_to_look
from certferry.wiring.undeclared import undeclared

_log = logging.getLogger(__name__)


def tell_of_undeclared(settings: Settings) -> None:
    """Tell of a state that is lost, and of each certificate in it that the file has no more. What
    else is wrong with the state is told by the run itself.
    """
    with suppress(StateError), open_to_look(settings) as session:
        lost = lost_state(settings, session.state)
        if lost is not None:
            _log.warning(Text("{problem}; {hint}", problem=lost.message, hint=lost.hint))
        for one in undeclared(settings, session.state, datetime.now(UTC)):
            _log.warning(Text("{problem}; {hint}", problem=one.message, hint=one.hint))


def tell_of_lost_state(settings: Settings, *, language: str) -> None:
    """Tell the channels that a state is lost: the run that begins issues every certificate again,
    and at night no operator reads its warning.
    """
    with suppress(StateError), open_to_look(settings, language=language) as session:
        lost = lost_state(settings, session.state)
        if lost is not None:
            session.teller.tell_unremembered(lost)
