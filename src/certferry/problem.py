"""One problem, and one scale of how bad it is: what errors, refusals and findings carry."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from certferry.text import Text


class Severity(StrEnum):
    """How bad something is, in ascending order: in order, only to be known, a run may fail because
    of it, a run fails because of it.
    """

    OK = "ok"
    NOTICE = "notice"
    WARNING = "warning"
    ERROR = "error"

    @property
    def rank(self) -> int:
        """The place on the scale: a greater number is worse."""
        return tuple(Severity).index(self)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that an operator should know or fix.

    `code` is stable and appears in JSON. `hint` is what to do, where there is something to do.
    `subject` is what it is about: a domain, an account, a file. `since` is when it was first seen
    (aware), where that is stored.
    """

    code: str
    message: Text
    hint: Text | None = None
    severity: Severity = Severity.ERROR
    subject: str = ""
    since: datetime | None = None

    @property
    def is_error(self) -> bool:
        """Whether it is a failure."""
        return self.severity is Severity.ERROR
