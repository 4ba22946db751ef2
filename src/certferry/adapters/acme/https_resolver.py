"""A resolver that is asked by HTTPS (RFC 8484), by way of the proxy that other requests take."""

from __future__ import annotations

from copy import copy
from datetime import timedelta
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import dns.exception
import dns.message
import dns.nameserver
import dns.rcode

from certferry.adapters.acme.propagation_status import UNREADABLE
from certferry.adapters.clients.http import HttpClient
from certferry.adapters.clients.http_problems import Timeouts
from certferry.adapters.clients.pacing import Pacer
from certferry.ports.http import Answer, Http, NoAnswer
from certferry.ports.progress import Pause
from certferry.text import Text

MESSAGE = "application/dns-message"
"""RFC 8484 §6."""

LONGEST_MESSAGE = 65535  # bytes (RFC 1035 §4.2.2)
REQUESTS_PER_SECOND = 10.0  # public resolvers slow down a client that asks more
HTTPS_PORT = 443  # RFC 9110 §4.2.2


class Unheard(OSError):
    """No answer to a question came; `problem` says why. dnspython asks such a resolver no more."""

    def __init__(self, problem: Text) -> None:
        super().__init__(str(problem))
        self.problem = problem


class HttpsResolver(dns.nameserver.Nameserver):
    """The resolver at a URL. In sentences it is called by its host: a path may hold a secret."""

    def __init__(self, url: str, http: Http) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # dnspython leaves it without
        self._url = url
        self._http = http

    @property
    def called(self) -> str:
        """What it is called in sentences."""
        return f"https://{urlsplit(self._url).netloc}"

    def ask(self, query: dns.message.QueryMessage) -> dns.message.Message:
        """Give the answer to a question, whatever its code. Raises `Unheard`."""
        asked = copy(query)
        asked.id = 0  # so that answers can be kept on the way (§4.1)
        headers = {"Content-Type": MESSAGE, "Accept": MESSAGE}
        try:
            answer = self._http.send("POST", self._url, headers, asked.to_wire(), repeatable=True)
        except NoAnswer as silence:
            raise Unheard(silence.problem) from silence
        response = _read(answer)
        if not asked.is_response(response):
            raise Unheard(Text("an answer to another question"))
        response.id = query.id
        return response

    # as dnspython wants it

    def __str__(self) -> str:
        """Return what it is called among the errors of a question."""
        return self.called

    def kind(self) -> str:
        """Return dnspython's name for DNS over HTTPS."""
        return "DoH"

    def is_always_max_size(self) -> bool:
        """Tell that no answer is cut off."""
        return True

    def answer_nameserver(self) -> str:
        """Return what it is called in an answer."""
        return self.called

    def answer_port(self) -> int:
        """Return its port."""
        return urlsplit(self._url).port or HTTPS_PORT

    def query(
        self, request: dns.message.QueryMessage, timeout: float, *args: Any, **kwargs: Any
    ) -> dns.message.Message:
        """Ask for dnspython, whose times are not needed: each exchange has its own."""
        del timeout, args, kwargs
        return self.ask(request)


def at_urls(
    urls: tuple[str, ...], answer_within: timedelta, pause: Pause
) -> tuple[HttpsResolver, ...]:
    """Give the resolvers at these URLs, each with connections of its own."""
    timeouts = Timeouts(connect=answer_within, read=answer_within, whole=2 * answer_within)
    return tuple(
        HttpsResolver(
            url,
            HttpClient(
                pace=Pacer(REQUESTS_PER_SECOND, pause=pause),
                pause=pause,
                attempts=1,  # the next look asks anew
                timeouts=timeouts,
                longest=LONGEST_MESSAGE,
            ),
        )
        for url in urls
    )


def _read(answer: Answer) -> dns.message.Message:
    if answer.status != HTTPStatus.OK:
        raise Unheard(Text("status {status}", status=answer.status))
    kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind != MESSAGE:
        raise Unheard(UNREADABLE)
    try:
        return dns.message.from_wire(answer.body)
    except (dns.exception.DNSException, EOFError, ValueError) as garbled:
        raise Unheard(UNREADABLE) from garbled
