"""Render HTTP calls for the report that an operator sends to certferry's authors.

A line has the host, the scheme of authentication, the status, the code, and the shape of the answer
without values. In an address, a mask replaces all words that the adapter does not declare `public`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

from certferry.adapters.http.exchange import Exchange, Request
from certferry.core.network import is_loopback
from certferry.ports.adapter import Answer
from certferry.text import Text, verbatim

HIDDEN, LONGEST = "…", 1500
_CODE = re.compile(r"-?[0-9]{1,10}")
_FIELD = re.compile(
    r"(?=.{1,30}\Z)(?=\D*\d?\D*\Z)"
    r"_?(?:(?:[A-Z]?[a-z]{2,}|By|ID|Id|IP|Ip|Is|TTL|UID|URL|[A-Z](?=_))[0-9]?_*)+|[A-Z]{2,5}|[a-z]"
)
"""The form of a field's name: joined words. A key has another form, so a key in place of a name is
masked.
"""
_KINDS: Mapping[type, str] = {
    type(None): "null",
    bool: "boolean",
    str: "string",
    int: "number",
    float: "number",
}
_HOLDS = {True: Text("yes"), False: Text("no"), None: Text("not seen")}


def judged(section: str, assumed: Text, holds: bool | None) -> Text:  # noqa: FBT001 - a value
    """Render whether an assumption of docs/facts holds. `holds` is `None` if the answers cannot
    tell.
    """
    return Text("§{section} {it}: {holds}", section=section, it=assumed, holds=_HOLDS[holds])


def reported(
    exchanges: Iterable[Exchange],
    public: Collection[str],
    request_id: Callable[[Mapping[str, str]], str] = lambda _: "",
    *,
    action_of: Callable[[Request], str] = lambda _: "",
    code_of: Callable[[Mapping[str, Any]], str] = lambda _: "",
) -> Iterator[Text]:
    """Render a line for each exchange: the call, the host, the scheme of the Authorization header,
    and the shape of the answer. A host or a scheme outside `public` is masked or left out.

    `request_id` reads the id of a refused call from the headers. If all calls of a service have one
    path, `action_of` reads the action from a request; only a `public` action is shown. `code_of`
    reads the code of a refusal from a body, and masks a code that could be a key.
    """
    for exchange in exchanges:
        way = shown_host(exchange.request.url, public)
        scheme = exchange.request.headers.get("Authorization", "").partition(" ")[0]
        way += f" ({scheme})" if scheme in public else ""
        call = _call(exchange.request, public)
        if (action := action_of(exchange.request)) in public:
            call += f" {action}"
        answer = _answer(exchange.came, request_id, code_of)
        yield Text("{call} at {way}: {answer}", call=call, way=way, answer=answer)


def shown_host(url: str, public: Collection[str]) -> str:
    """Return the host of a URL if the host is public or local. Otherwise return a mask, because the
    name may tell who the operator is.
    """
    parts = urlsplit(url)
    is_public = parts.netloc in public or is_loopback(parts.hostname or "")
    return parts.netloc if is_public else HIDDEN


def shape(*values: object) -> str:
    """Return the common shape of values, such as `{items: [2 × {name: string, id?: null}]}`."""
    shapes = {_KINDS[type(value)] for value in values if type(value) in _KINDS}
    objects = [value for value in values if isinstance(value, dict)]
    lists = [value for value in values if isinstance(value, list)]
    if objects:
        keys = dict.fromkeys(
            key if _FIELD.fullmatch(key) else "" for fields_of in objects for key in fields_of
        )
        fields = (_field(key, objects) if key else HIDDEN for key in keys)
        shapes.add(f"{{{', '.join(fields)}}}")
    if lists:
        items = [item for items_of in lists for item in items_of]
        shapes.add(f"[{len(items)} × {shape(*items)}]" if items else "[]")
    return " | ".join(sorted(shapes))


def _field(key: str, objects: Sequence[dict[str, Any]]) -> str:
    values = [value[key] for value in objects if key in value]
    return f"{key}{'?' if len(values) < len(objects) else ''}: {shape(*values)}"


def _call(request: Request, public: Collection[str]) -> str:
    parts = urlsplit(request.url)
    path = "/".join(
        word if word in public or not word else HIDDEN for word in parts.path.split("/")
    )
    names = filter(public.__contains__, parse_qs(parts.query, keep_blank_values=True))
    return f"{request.method} {path}?{'&'.join(names)}".rstrip("?")


def _answer(
    came: Answer | str,
    request_id: Callable[[Mapping[str, str]], str],
    code_of: Callable[[Mapping[str, Any]], str],
) -> Text:
    if isinstance(came, str):
        return Text("no answer ({kind})", kind=came)
    summary = str(came.status)
    if came.status >= HTTPStatus.BAD_REQUEST and (of_request := request_id(came.headers)):
        summary += f", X-Reqid {of_request}"
    try:
        body = json.loads(came.body)
        body_shape = shape(body)[:LONGEST]
    except (ValueError, RecursionError):
        return Text("{status}, no JSON", status=summary)
    outer = body if isinstance(body, dict) else {}
    inner = outer.get("status")
    code = str((inner if isinstance(inner, dict) else outer).get("code"))
    if _CODE.fullmatch(code):
        summary += f", code {code}"
    elif word := code_of(outer):
        summary += f", code {word}"
    return verbatim(f"{summary}, `{body_shape}`")
