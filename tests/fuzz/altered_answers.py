"""Valid answers, altered as by a broken service, gateway or disk."""

from __future__ import annotations

import copy
import http.client
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from hypothesis import strategies as st

from certferry_sandbox.httpd import HttpService, Request, Response

DEEP = 100_000
"""Levels of nesting: far more than any interpreter follows."""

_LITERAL = "a literal that stands here: "
LITERALS = ("NaN", "Infinity", "-1e999", "1e999", "9" * 5000, "-0", "1.5", '"\\ud800"', '"\\u0000"')
"""Literals that Python's JSON writer never writes, or writes differently."""
VALUES: tuple[Any, ...] = (
    *(_LITERAL + literal for literal in LITERALS),
    *(None, True, False, 0, -1, 2**31, 2**63, 2**64, -(2**63), 1e300),
    *(253_402_300_799, 253_402_300_800, "0001-01-01T00:00:00", "9999-12-31T23:59:59-14:00"),
    *("", " ", "\0", "\x1b[31m", "\u202e", "😀" * 300, "x" * 5000, "é" * 70, "..", "../../passwd"),
    *("a..b", ".", "*", "*.", "-.example.com", "xn--a", "\u0660" * 300, "http://127.0.0.1:1/"),
    *("urn:", [], {}, [[]], [None], [{}], {"": ""}, {"type": "urn:x", "detail": 5}, [{"id": [1]}]),
    [0] * 50,
)
HEADERS = (
    *("Retry-After", "Location", "Replay-Nonce", "Content-Type", "Link", "X-Reqid", "Date"),
    *("ETag", "Last-Modified"),
)
HEADER_VALUES = (
    "",
    "x" * 300,
    "-1",
    "9" * 400,
    "1e9",
    "\xc2\xb2",
    "/a",
    "Mon, 99 Foo 2026",
    "Fri, 31 Dec 9999 23:59:59 GMT",
    "Tue, 24 Nov 2026 12:00:00 +99999999999999999999",
    "a\tb",
)
ODD = (
    b"\0",
    b"\n",
    b"'",
    b'"',
    b"\\",
    b"/",
    b"=",
    b"\xff",
    b"\xc0\x80",
    b"\xe2\x80\xae",
    b"\x1b[2J",
)
STATUSES = (200, 201, 204, 206, 301, 400, 401, 403, 404, 409, 429, 500, 503, 599, 612, 999)


@dataclass(frozen=True)
class Alteration:
    """The altered answers of a conversation, counted from the first, and the seed of their
    alterations.
    """

    first: int
    last: int
    seed: int

    def turns(self) -> Callable[[Response], Response]:
        """Return a function that alters the answers of a conversation in their order."""
        chance = Random(self.seed)  # noqa: S311 - for alterations, not for security
        numbers = itertools.count()

        def turn(response: Response) -> Response:
            if self.first <= next(numbers) <= self.last:
                return altered_answer(response, chance)
            return response

        return turn


def alterations() -> st.SearchStrategy[Alteration]:
    """Draw the alteration of a single answer, of some, or of all from a number on."""

    def made(first: int, more: int, seed: int) -> Alteration:
        return Alteration(first, first + more, seed)

    return st.builds(
        made, st.integers(0, 12), st.sampled_from([0, 2, 1000]), st.integers(0, 2**32 - 1)
    )


def altered_answer(response: Response, chance: Random) -> Response:
    """Alter the body of an answer, and sometimes its status or a header."""
    body, status, headers = response.body, response.status, response.headers
    if chance.random() < 0.8:
        body = altered(body, chance)
    if chance.random() < 0.3:
        status = chance.choice(STATUSES)
    if chance.random() < 0.3:
        name = chance.choice(HEADERS)
        headers = tuple(field for field in headers if field[0] != name)
        if chance.random() < 0.7:
            headers = (*headers, (name, chance.choice(HEADER_VALUES)))
    return Response(status, body, response.content_type, headers)


def altered(body: bytes, chance: Random) -> bytes:
    """Alter a document: as JSON if possible, else as bytes."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return altered_bytes(body, chance)
    if chance.random() < 0.2:
        return altered_bytes(body, chance)
    for _ in range(chance.randint(1, 3)):
        document = _bent_json(document, chance)
    text = json.dumps(document)
    for literal in LITERALS:
        text = text.replace(json.dumps(_LITERAL + literal), literal)
    return text.encode()


def altered_bytes(body: bytes, chance: Random) -> bytes:
    """Cut, repeat, overwrite or replace bytes, or nest them deeply."""
    at = chance.randrange(len(body) + 1)
    match chance.randrange(9):
        case 0:
            return body[:at]
        case 1:
            other = chance.choice((*ODD, chance.randbytes(chance.randint(1, 8))))
            return body[:at] + other + body[at + chance.randrange(2) :]
        case 2:
            return body[:at] + body[at // 2 :]
        case 3 | 4 | 5:
            return chance.choice((b"[", b'{"a":', b'{"status":{"code":')) * DEEP
        case 6:
            return chance.choice((b"", b"null", b"0", b'"x"', b"\xff\xfe", b"<html>no</html>"))
        case 7:
            return chance.randbytes(chance.randint(1, 200))
        case _:
            return body.replace(chance.choice((b'"', b",", b":", b"\n", b"-", b"a")), b"", 3)


def _bent_json(document: Any, chance: Random) -> Any:
    """Replace a value inside a document, or remove the value."""
    places = list(_places(document))
    if not places:
        return chance.choice(VALUES)
    changed = copy.deepcopy(document)
    *way, last = chance.choice(places)
    parent = changed
    for step in way:
        parent = parent[step]
    if chance.random() < 0.2:
        del parent[last]
    else:
        parent[last] = chance.choice((*VALUES, document, [parent[last]], str(parent[last])))
    return changed


def _places(document: Any) -> Iterator[tuple[Any, ...]]:
    inside: Any = enumerate(document) if isinstance(document, list) else ()
    for key, value in document.items() if isinstance(document, dict) else inside:
        yield (key,)
        yield from ((key, *way) for way in _places(value))


class Altered(HttpService):
    """A proxy on loopback that passes on requests and alters the answers."""

    def __init__(self, upstream: str) -> None:
        self.turn: Callable[[Response], Response] = lambda response: response
        self._upstream = upstream.partition("://")[2]
        super().__init__(self._pass_on)

    def _pass_on(self, request: Request) -> Response:
        connection = http.client.HTTPConnection(self._upstream, timeout=20)
        try:
            target = f"{request.path}?{request.query}" if request.query else request.path
            connection.request(request.method, target, request.body, dict(request.headers.fields))
            answer = connection.getresponse()
            fields = {name: value for name, value in answer.getheaders() if name in HEADERS}
            content_type = fields.pop("Content-Type", "")
            response = Response(answer.status, answer.read(), content_type, tuple(fields.items()))
        finally:
            connection.close()
        return self.turn(response)
