"""A resolver behind HTTPS (RFC 8484), for questions by POST."""

from __future__ import annotations

import ssl
from http import HTTPStatus

from certferry_sandbox.dnsd import Handler, Transport
from certferry_sandbox.httpd import HttpService, Request, Response

MESSAGE = "application/dns-message"
PATH = "/dns-query"
_ID = slice(0, 2)  # of a message: 16 bits (RFC 1035 §4.1.1)


class HttpsDns(HttpService):
    """Passes questions on to a resolver. `tls` is a server's context. Stricter than the RFC: the id
    of a question must be 0, and a client must say that it accepts messages (§4.1 has both as
    SHOULD).
    """

    def __init__(self, resolver: Handler, tls: ssl.SSLContext, *, host: str = "127.0.0.1") -> None:
        self._resolver = resolver
        super().__init__(self._answer, host=host, tls=tls)

    @property
    def question_url(self) -> str:
        """Where questions go."""
        return f"{self.url}{PATH}"

    def _answer(self, request: Request) -> Response:
        if request.path != PATH:
            return Response(HTTPStatus.NOT_FOUND)
        if request.method != "POST":
            return Response(HTTPStatus.METHOD_NOT_ALLOWED, headers=(("Allow", "POST"),))
        if request.headers.get("Content-Type") != MESSAGE:
            return Response(HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
        if request.headers.get("Accept") != MESSAGE:
            return Response(HTTPStatus.NOT_ACCEPTABLE)
        if request.body[_ID] != bytes(2):
            return Response(HTTPStatus.BAD_REQUEST)
        reply = self._resolver(request.body, Transport.TCP)
        if reply is None:
            return Response(HTTPStatus.GATEWAY_TIMEOUT)
        return Response(HTTPStatus.OK, reply.wire, MESSAGE)
