"""What lexicon and Apprise send with `requests`, held to what certferry holds itself to: one host,
by https or to this machine, a certificate that is looked at, and an answer that comes to an end.

By themselves they follow redirects to other hosts with keys in their headers, take plain http where
an address says so, and read for as long as a server sends (dns-lexicon 3.25, Apprise 2.3).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import BaseAdapter

from certferry.adapters.http.bounds import BoundedAdapter, TooLong
from certferry.core.network import is_loopback
from certferry.text import Text

TIMEOUT = (5.0, 15.0)
"""Seconds for a connection and for each next byte, where a library asks for none."""

Refusals = list[Text]

_REFUSED: ContextVar[Refusals | None] = ContextVar("refused", default=None)
"""What was refused of the work in progress; `None` where nothing is held."""

_usual = requests.Session.get_adapter


class NotHeld(requests.RequestException):
    """A request, or an answer, that certferry lets no library have."""


@contextmanager
def held() -> Iterator[Refusals]:
    """Hold the requests that libraries make in a `with` block, and in threads that take its context
    along; yield a list of what was refused of them.
    """
    refused: Refusals = []
    before = _REFUSED.set(refused)
    try:
        yield refused
    finally:
        _REFUSED.reset(before)


class _HeldAdapter(BoundedAdapter):
    def __init__(self, refused: Refusals) -> None:
        super().__init__()
        self._refused = refused

    def send(self, request: requests.PreparedRequest, *_: Any, **how: Any) -> requests.Response:
        """Send it, with a certificate that is verified, whatever the library says."""
        parts = urlsplit(request.url or "")
        host = parts.hostname or ""
        if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(host)):
            raise self._not_held(
                Text("it would send to {host} without https, which certferry refuses", host=host)
            )
        how |= {"timeout": how.get("timeout") or TIMEOUT, "verify": how.get("verify") or True}
        try:
            response = super().send(request, **how)
        except TooLong as endless:
            said = Text("the answer of {host} is longer than any should be", host=host)
            raise self._not_held(said) from endless
        finally:
            self.close()
        if response.is_redirect:
            said = Text("{host} redirects elsewhere, and certferry does not follow", host=host)
            raise self._not_held(said)
        return response

    def _not_held(self, said: Text) -> NotHeld:
        self._refused.append(said)
        return NotHeld(str(said))


def _adapter_of(session: requests.Session, url: str | bytes) -> BaseAdapter:
    refused = _REFUSED.get()
    return _usual(session, url) if refused is None else _HeldAdapter(refused)  # type: ignore[arg-type]  # bytes pass through


# Neither library takes a session from its caller: each service makes its own where it sends.
requests.Session.get_adapter = _adapter_of  # type: ignore[assignment,method-assign]  # see above
