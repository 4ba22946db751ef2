"""How far a service's clock is from ours, by the Date of its answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime

from certferry.adapters.clients.http import HttpClient, HttpFailure, Request


def ahead_of(headers: Mapping[str, str], now: datetime) -> timedelta | None:
    """Return how far an answer's Date is before this machine's clock (RFC 9110 §6.6.1); `None`
    where it has none, or one without a zone.
    """
    try:
        date = parsedate_to_datetime(headers.get("Date", ""))
    except (ValueError, OverflowError):  # no date; a zone of as many digits as one likes
        return None
    return None if date.tzinfo is None else date - now


def ask_the_time(
    http: HttpClient, request: Request, now: Callable[[], datetime]
) -> timedelta | None:
    """Return how far a service's clock is ahead, by whatever it answers to a request without keys.
    Raises `HttpFailure` where no answer came.
    """
    try:
        headers = http.exchange(lambda: request, repeatable=True).headers
    except HttpFailure as failure:
        if failure.status is None:
            raise
        headers = failure.headers
    return ahead_of(headers, now())
