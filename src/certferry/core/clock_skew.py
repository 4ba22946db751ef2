"""How far this machine's clock is from a service's, and what that means."""

from __future__ import annotations

from datetime import timedelta

from certferry.core.findings import Code, Finding, Severity
from certferry.errors import ClockWrong
from certferry.text import Text

WANTED = timedelta(seconds=30)
"""What Qiniu's guide asks of a clock (docs/facts/qiniu.md §2.3)."""

REFUSED = timedelta(minutes=15)
"""From here on requests that carry their date are refused (docs/facts/qiniu.md §2.3)."""

_BEHIND = Text("this machine's clock is {amount} behind that of {service}")
_AHEAD = Text("this machine's clock is {amount} ahead of that of {service}")
SET_IT = Text(
    "set this machine's clock (`timedatectl set-ntp true`), before the keys are looked at: services"
    " refuse what carries a wrong date"
)

_BEFORE_AN_ORDER = Text(
    "set this machine's clock (`timedatectl set-ntp true`); nothing was ordered, since certferry"
    " cannot judge a certificate by a wrong clock"
)


def judge_clock(subject: str, service: str, ahead: timedelta) -> Finding | None:
    """Judge a clock by how far the service's is `ahead` of it, to the second; `None` where it is
    right.
    """
    amount = timedelta(seconds=abs(int(ahead.total_seconds())))
    if amount <= WANTED:
        return None
    sentence = _BEHIND if ahead > timedelta(0) else _AHEAD
    severity = Severity.ERROR if amount > REFUSED else Severity.WARNING
    message = sentence.filled(amount=amount, service=service)
    return Finding(severity, Code.CLOCK_OFF, subject, message, SET_IT)


def must_be_right(service: str, ahead: timedelta) -> None:
    """Raise `ClockWrong` where requests would be refused for their date."""
    found = judge_clock(service, service, ahead)
    if found is not None and found.severity is Severity.ERROR:
        raise ClockWrong(found.message, hint=found.fix)


def must_not_be_behind(service: str, ahead: timedelta) -> None:
    """Raise `ClockWrong` where a certificate that is issued now would not be valid yet by this
    machine's clock.
    """
    found = judge_clock(service, service, ahead)
    if found is not None and found.severity is Severity.ERROR and ahead > timedelta(0):
        raise ClockWrong(found.message, hint=_BEFORE_AN_ORDER)
