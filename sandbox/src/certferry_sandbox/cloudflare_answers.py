"""How Cloudflare's API answers: one envelope for results, lists and errors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from certferry_sandbox.httpd import Request, Response

Item = TypeVar("Item")


class Refused(Exception):
    """The call ends with this error; `inner` is the code and words of the chain's next one."""

    def __init__(
        self, status: int, code: int, words: str, inner: tuple[int, str] | None = None
    ) -> None:
        super().__init__(code, words)
        self.response = refuse(status, code, words, inner)


def respond(result: object, info: dict[str, int] | None = None) -> Response:
    """Give a success."""
    whole: dict[str, Any] = {"result": result, "success": True, "errors": [], "messages": []}
    return Response.json(whole | ({} if info is None else {"result_info": info}))


def refuse(status: int, code: int, words: str, inner: tuple[int, str] | None = None) -> Response:
    """Give a refusal."""
    error: dict[str, Any] = {"code": code, "message": words}
    if inner is not None:
        error["error_chain"] = [{"code": inner[0], "message": inner[1]}]
    body = {"result": None, "success": False, "errors": [error], "messages": []}
    return Response.json(body, status)


def query_of(request: Request, allowed: frozenset[str]) -> dict[str, str]:
    """Read the query; a parameter that the call does not have, or has twice, is refused."""
    pairs = parse_qsl(request.query, keep_blank_values=True, strict_parsing=bool(request.query))
    query = dict(pairs)
    if len(query) != len(pairs) or not query.keys() <= allowed:
        raise Refused(400, 6007, "Malformed URL query")  # the number is from memory
    return query


def page_of(
    items: Sequence[Item], query: dict[str, str], *, default: int, least: int, most: int
) -> tuple[Sequence[Item], dict[str, int]]:
    """Give the page that was asked for, and what is told of the whole list."""
    size = _number(query.get("per_page", str(default)), least, most)
    number = _number(query.get("page", "1"), 1, 10_000)
    page = items[(number - 1) * size : number * size]
    return page, {
        "page": number,
        "per_page": size,
        "count": len(page),
        "total_count": len(items),
        "total_pages": math.ceil(len(items) / size),
    }


def _number(written: str, least: int, most: int) -> int:
    if not (written.isascii() and written.isdigit() and least <= int(written) <= most):
        raise Refused(400, 6007, "Malformed URL query")
    return int(written)
