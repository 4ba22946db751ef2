"""Refuse a request, with a page in the visitor's language, or with a JSON document on a path for
programs. Both name the problem and the fix, and never show a traceback.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from certferry.console.site import path_of, render, voice_of
from certferry.errors import CertferryError, Problem, StateError
from certferry.present.documents import Document, of_end
from certferry.present.layout import as_json
from certferry.text import Text

_log = logging.getLogger(__name__)

_AGAIN = Text("go back, reload the page, and try again")

_SAID: Mapping[int, tuple[Text, Text | None]] = {
    400: (Text("the request is malformed"), _AGAIN),
    401: (
        Text("log in, or send a valid token"),
        Text(
            "send `Bearer cf_…` in the header `Authorization`; `certferry console token add NAME`"
            " creates a token"
        ),
    ),
    403: (Text("this action is not allowed"), None),
    404: (Text("this address does not exist"), None),
    405: (Text("this address does not support this kind of request"), None),
    413: (Text("the request is too large"), None),
    421: (
        Text("the console is not set up for this host name"),
        Text("set `url` under [console] to the address that browsers use"),
    ),
    429: (Text("too many attempts"), None),
    431: (
        Text("the headers of the request are too large"),
        Text("delete this site's cookies, and try again"),
    ),
    500: (
        Text("a bug in certferry; its log has the traceback"),
        Text("`certferry doctor --report` prints the facts for a bug report"),
    ),
    503: (Text("the console is unavailable right now"), _AGAIN),
}


@dataclass(eq=False)
class PageRefused(Exception):
    """Raised to refuse a request with an HTTP status."""

    #: The HTTP status.
    status: int
    #: The problem; `None`: the problem in `_SAID` for the status, or else for 400.
    message: Text | None = None
    #: The fix. Without a `message`, `None` means the fix in `_SAID`.
    hint: Text | None = None
    #: Further headers of the answer.
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def problem(self) -> Problem:
        """The refusal as a problem, with the message and the hint to show."""
        code = HTTPStatus(self.status).name.lower()
        message, hint = _SAID.get(self.status, _SAID[400])
        if self.message is None:
            return Problem(code, message, self.hint or hint)
        return Problem(code, self.message, self.hint)


def is_for_programs(path: str) -> bool:
    """Return whether a path is for programs. On such a path a refusal is JSON, and a request
    without a login gets no redirect.
    """
    return path.startswith("/api/") or path in {"/api", "/metrics", "/healthz"}


def refusal(request: Request, error: Exception) -> Response:
    """Return the answer to a request that ended with an error. Unexpected errors are logged."""
    match error:
        case PageRefused():
            status, problem, headers = error.status, error.problem, error.headers
        case HTTPException():
            status, headers = error.status_code, error.headers or {}
            problem = PageRefused(status).problem
        case StateError():
            status, headers, problem = 503, {"Retry-After": "30"}, error.problem()
        case CertferryError():
            status, headers, problem = 500, {}, error.problem()
        case _:
            _log.error(Text("unexpected error"), exc_info=error)
            status, headers, problem = 500, {}, PageRefused(500).problem
    return answer(request, status, problem, headers)


def as_document(
    request: Request, document: Document, status: int, headers: Mapping[str, str]
) -> Response:
    """Return an answer with a JSON document, its sentences in the language of the request."""
    body = as_json(document, voice_of(request).say)
    return Response(body, status, headers, "application/json")


def answer(request: Request, status: int, problem: Problem, headers: Mapping[str, str]) -> Response:
    """Return an answer with a problem: a JSON document on a path for programs, otherwise a page."""
    if is_for_programs(path_of(request)):
        return as_document(request, of_end(problem), status, headers)
    number = f"{status} {HTTPStatus(status).phrase}"
    return render(
        request, "problem.html", status=status, headers=headers, problem=problem, number=number
    )
