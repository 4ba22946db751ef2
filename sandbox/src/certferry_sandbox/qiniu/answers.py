"""Qiniu's answers: codes with words, success, request bodies read as Qiniu's server reads JSON
(docs/facts/qiniu.md §3), and lists in pages with a marker for the next page (§4.2, §5.1).
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any, Protocol, Self, TypeVar

from certferry.values import replace
from certferry_sandbox.httpd import Response

# The codes are in §4.5, §5.6 and §5.7. Only the words of 612 and 404001 are Qiniu's own.
MESSAGES: Mapping[int, str] = {
    612: "no such domain",
    400000: "invalid input",
    400013: "repeated operation",
    400021: "invalid marker",
    400030: "the previous operation on this domain has not finished",
    400302: "changing the certificate failed: the domain does not use https",
    400320: "the domain is offline",
    400321: "the certificate is not valid yet",
    400322: "the validity of the certificate is too short",
    400323: "the certificate chain cannot be verified",
    400324: "the certificate and the private key do not match",
    400326: "the certificate does not match the domain",
    400327: "the private key is wrong",
    400328: "the private key does not match the certificate",
    400329: "the certificate has expired",
    400338: "failed to get the parent certificate",
    400348: "invalid certificate common name",
    400401: "no such certificate",
    400500: "certificate quota exhausted",
    400611: "the certificate is bound to a CDN domain",
    400722: "this domain cannot be changed by self-service",
    400910: "configuration unchanged",
    400911: "the certificate is bound to a Kodo domain",
    403023: "the domain belongs to another account",
    403024: "too many requests of this user",
    404001: "无此域名",
    404906: "the certificate is not PEM",
    404907: "the certificate cannot be parsed",
    404908: "the certificate belongs to another account",
    500923: "the domain is frozen",
}


def request_id(moment: datetime) -> str:
    """Return an X-Reqid: a process number, then the moment in nanoseconds, in base64 (§1.4)."""
    nanoseconds = int(moment.timestamp()) * 10**9 + secrets.randbelow(10**9)
    raw = secrets.randbelow(2**22).to_bytes(4, "little") + nanoseconds.to_bytes(8, "little")
    return base64.urlsafe_b64encode(raw).decode()


class Refused(Exception):
    """Qiniu refuses a request. With `code` None, the answer has words without a code."""

    def __init__(self, code: int | None, message: str = "", *, status: int | None = None) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message or MESSAGES[code or 0]
        self.status = status or status_of(code or 0)

    @classmethod
    def bad_token(cls) -> Self:
        """Return the 401 for a wrong signature, key or scheme (§2.4)."""
        return cls(None, "bad token", status=HTTPStatus.UNAUTHORIZED)

    @classmethod
    def not_found(cls) -> Self:
        """Return a 404 without a code."""
        return cls(None, "not found", status=HTTPStatus.NOT_FOUND)

    def response(self, **more: str) -> Response:
        """Return the error as an HTTP answer; `more` has further fields of the body."""
        code = {} if self.code is None else {"code": self.code}
        return Response.json({**code, "error": self.message, **more}, self.status)


def status_of(code: int) -> int:
    """Return the HTTP status of a code: the first three digits, or all of 612 (§3.1)."""
    return int(str(code)[:3])


def with_null_lists(response: Response) -> Response:
    """Return the answer with null for an empty list, as the whole body or in a field (§3.3)."""
    if not response.body:
        return response
    body = json.loads(response.body)
    if isinstance(body, dict):
        body = {name: None if value == [] else value for name, value in body.items()}
    return replace(response, body=json.dumps(None if body == [] else body).encode())


def success(**more: object) -> Response:
    """Return a 200 with the code 200; `more` has further fields of the body."""
    return Response.json({"code": HTTPStatus.OK, "error": "", **more})


JSON_WORDS = {str: "string", bool: "bool", int: "number", float: "number"} | {
    list: "array",
    dict: "object",
}
T = TypeVar("T")


class Fields:
    """A JSON object. Names are found in any case, and each method checks the type of a value.

    `struct` is the Go struct that Qiniu names when a type is wrong (§3.4, §5.3). Raises `Refused`
    400000 for a body that is not an object, or for a value of another type.
    """

    def __init__(self, body: bytes, struct: str) -> None:
        self._struct = struct
        try:
            obj = json.loads(body)
        except ValueError as problem:
            raise Refused(400000, "invalid character in JSON body") from problem
        if not isinstance(obj, dict):
            raise Refused(400000, f"json: cannot unmarshal into Go value of type {struct}")
        self._values: dict[str, Any] = {key.lower(): value for key, value in obj.items()}

    def string(self, name: str) -> str:
        """Return a string, "" when absent or null."""
        return self._typed(name, str, "string") or ""

    def boolean(self, name: str) -> bool | None:
        """Return a boolean, None when absent or null."""
        return self._typed(name, bool, "bool")

    def strings(self, name: str) -> tuple[str, ...] | None:
        """Return an array of strings, None when absent or null."""
        items = self._typed(name, list, "[]string")
        if items is None:
            return None
        if not all(isinstance(item, str) for item in items):
            raise self._mistyped(name, "array element", "string")
        return tuple(items)

    def _typed(self, name: str, kind: type[T], go_type: str) -> T | None:
        value = self._values.get(name.lower())
        if value is None or isinstance(value, kind):
            return value
        raise self._mistyped(name, JSON_WORDS[type(value)], go_type)

    def _mistyped(self, name: str, given: str, go_type: str) -> Refused:
        return Refused(
            400000,
            f"json: cannot unmarshal {given} into Go struct field {self._struct}.{name} "
            f"of type {go_type}",
        )


DEFAULT_LIMIT = 10  # items a page, for domains (§5.1); for certificates unknown, assumed equal
LIMIT_MAX = 1000  # items a page, from the same source
STUCK_MARKER = "c3R1Y2s="  # every marker of a pager that does not advance


class Numbered(Protocol):
    """An item of a list. A later item has a higher number."""

    @property
    def number(self) -> int:
        """The place in the list."""


Item = TypeVar("Item", bound=Numbered)


@dataclass
class Pager:
    """Cuts lists into pages.

    With `advances` off, every query gets the first page and `STUCK_MARKER`. A full page
    always has a marker, so the last page can be empty (§4.2).
    """

    advances: bool = True

    def page(self, items: Sequence[Item], query: Mapping[str, str]) -> tuple[list[Item], str]:
        """Return the page that a query asks for, and the marker of the next page, "" at the end.

        Raises `Refused`: 400000 for a limit outside 1 to 1000, 400021 for an unreadable marker.
        """
        limit, after = _limit(query.get("limit", "")), _after(query.get("marker", ""))
        if not self.advances:
            return list(items[:limit]), STUCK_MARKER
        page = [item for item in items if item.number > after][:limit]
        return page, _marker(page[-1].number) if len(page) == limit else ""


def _limit(given: str) -> int:
    if not given:
        return DEFAULT_LIMIT
    if not given.isdecimal() or not 1 <= int(given) <= LIMIT_MAX:
        raise Refused(400000, "invalid limit")
    return int(given)


def _marker(number: int) -> str:
    return base64.urlsafe_b64encode(b"%d" % number).decode()


def _after(marker: str) -> int:
    if marker in ("", STUCK_MARKER):
        return 0
    try:
        return int(base64.urlsafe_b64decode(marker))
    except ValueError as problem:
        raise Refused(400021) from problem
