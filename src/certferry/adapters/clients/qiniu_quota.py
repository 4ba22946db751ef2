"""How many certificates a Qiniu account may hold: Qiniu tells by refusing one more (400500), and no
document says how many.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

import msgspec

from certferry.adapters.clients.qiniu_account import QiniuAccount
from certferry.adapters.clients.qiniu_errors import QiniuFailure
from certferry.adapters.clients.qiniu_records import decode
from certferry.core.quota import TRIED_AGAIN, Quota
from certferry.ports.account_memory import AccountMemory

log = logging.getLogger(__name__)

_NOTE = "most certificates"


class Refused(msgspec.Struct, frozen=True):
    """What the account's memory keeps: how many there were when one more was refused."""

    held: int
    at: datetime


class AccountQuota:
    """What is known of it. `now` is the wall clock."""

    def __init__(
        self, account: QiniuAccount, memory: AccountMemory, now: Callable[[], datetime]
    ) -> None:
        self._account = account
        self._memory = memory
        self._now = now

    def seen(self) -> Quota | None:
        """Return how full the account is, `None` where it refused nothing in the last day. Raises
        `QiniuFailure`.
        """
        text = self._memory.note(_NOTE)
        refused = None if text is None else _parsed(text)
        if refused is None or not timedelta(0) <= self._now() - refused.at < TRIED_AGAIN:
            return None
        held = len(self._account.certificates())
        return Quota(held, refused.held, refused.at + TRIED_AGAIN)

    def note_refused(self) -> None:
        """Remember that an upload was refused. How many there are now is looked at anew."""
        try:
            held = len(self._account.certificates(anew=True))
        except QiniuFailure as failure:
            log.info("how many certificates there are cannot be seen: %s", failure)
            return
        text = msgspec.json.encode(Refused(held, self._now())).decode()
        self._memory.update(_NOTE, lambda _: text)

    def note_taken(self) -> None:
        """Forget it: an upload was taken."""
        if self._memory.note(_NOTE) is not None:
            self._memory.update(_NOTE, lambda _: None)


def _parsed(text: str) -> Refused | None:
    try:
        return decode(text.encode(), Refused)
    except ValueError as problem:  # an older or a newer certferry wrote it
        log.debug("a note about the quota is passed over: %s", problem)
        return None
