"""The reasons why a step is planned or refused, and waits until a run's next pass observes
again.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

from msgspec import Struct

from certferry.text import Text


class ReasonCode(StrEnum):
    """The codes of reasons. Programs read the codes in JSON, so a code never changes."""

    # why a certificate is issued
    MISSING = "missing"
    NAMES_CHANGED = "names_changed"
    KEY_TYPE_CHANGED = "key_type_changed"
    RENEWAL_DUE = "renewal_due"
    UPLOAD_DEADLINE_PASSED = "upload_deadline_passed"
    REQUESTED = "requested"
    ORDERED = "ordered"
    FILES_CHANGED = "files_changed"
    REVOKED = "revoked"
    ROLLED_BACK = "rolled_back"
    # why another client's certificate needs an operator
    OVERDUE = "overdue"
    # why a domain is deployed to
    NEW_CERTIFICATE = "new_certificate"
    HTTPS_OFF = "https_off"
    BINDING_UNKNOWN = "binding_unknown"
    SERVES_PREVIOUS = "serves_previous"
    SERVES_FOREIGN = "serves_foreign"
    SETTINGS_DRIFTED = "settings_drifted"
    CHANGE_FAILED = "change_failed"
    # why a certificate is delivered to a receiver (or one of the reasons above)
    NOT_DELIVERED = "not_delivered"
    DELIVERED_PREVIOUS = "delivered_previous"
    HOLDS_FOREIGN = "holds_foreign"
    DELIVERY_DRIFTED = "delivery_drifted"
    DELIVERY_UNFINISHED = "delivery_unfinished"
    PROGRAM_EDITED = "program_edited"
    # why a certificate is withdrawn from a domain
    EDGES_REFUSE = "edges_refuse"
    # why a domain is verified
    NOT_SEEN = "not_seen"
    # why a copy of a certificate at a target is removed
    SUPERSEDED = "superseded"
    UNUSED = "unused"
    # why challenge records are removed
    LEFT_BEHIND = "left_behind"
    # why safety refuses
    NAME_NOT_COVERED = "name_not_covered"
    KEY_MISMATCH = "key_mismatch"
    CHAIN_INCOMPLETE = "chain_incomplete"
    TOO_LITTLE_LIFE = "too_little_life"
    COMMON_NAME_MISSING = "common_name_missing"
    EXPIRED = "expired"
    ISSUER_EXPIRED = "issuer_expired"
    STATE_OLDER = "state_older"
    FOUGHT_OVER = "fought_over"
    ACCOUNT_FULL = "account_full"


class Reason(Struct, frozen=True):
    """A code for programs and a sentence for people."""

    code: ReasonCode  #: The code, for programs.
    message: Text  #: The sentence, for people.


Usual = tuple[timedelta, timedelta]
"""The shortest and the longest usual duration of a change."""


def in_minutes(usual: Usual) -> dict[str, int]:
    """Return both durations in whole minutes, for the places `least` and `most` of a sentence."""
    least, most = (time // timedelta(minutes=1) for time in usual)
    return {"least": least, "most": most}


FIRST = timedelta(milliseconds=250)
"""The shortest time from one pass to the next."""
LONGEST = timedelta(minutes=2)
"""The longest time from one pass to the next."""
STEP, SLACK = 12, timedelta(seconds=0.8)
"""The time to the next pass is a twelfth (1/`STEP`) of the wait so far plus `SLACK`. In the first
three seconds of a wait, the time is a third of the wait so far.

The aim is to see a change late by at most a tenth of the wait plus a second. `STEP` is a twelfth,
not a tenth, because a target's list may already be some seconds old.
"""


class Waiting(Struct, frozen=True):
    """A wait for a change."""

    why: Text  #: The reason for the wait.
    since: datetime  #: The beginning of the wait.
    #: The moment of the next pass.
    until: datetime
    #: When to give up; `None` for a wait without an end.
    deadline: datetime | None = None
    #: The usual duration of the change, if known.
    usual: Usual | None = None


def wait_for(
    why: Text,
    since: datetime,
    now: datetime,
    deadline: datetime | None = None,
    usual: Usual | None = None,
) -> Waiting:
    """Return a wait with the moment of the next pass. The times between passes grow from `FIRST` to
    `LONGEST`, and the last pass comes at the deadline.
    """
    waited = now - since
    growing = max(min(waited / 3, waited / STEP + SLACK), FIRST)
    # A beginning in the future comes from a clock that was ahead, so `waited` is unknown.
    until = now + (LONGEST if waited < timedelta(0) else min(growing, LONGEST))
    until = until if deadline is None else min(until, deadline)
    return Waiting(why, since, until, deadline, usual)


def applying(target: str, usual: Usual | None) -> Text:
    """Return the sentence that a target applies a change, with the usual duration if known."""
    if usual is None:
        return Text("{target} is applying the change", target=target)
    return Text(
        "{target} is applying the change (usually {least}–{most} min)",
        target=target,
        **in_minutes(usual),
    )
