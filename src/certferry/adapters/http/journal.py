"""Calls as a report shows them: host, scheme, status, code and shape, never a value; of addresses,
what the adapter says is `public`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

from certferry.adapters.http.client import Exchange, Request
from certferry.core.network import is_loopback
from certferry.ports.adapter import Answer
from certferry.text import Text, verbatim

HIDDEN, LONGEST = "…", 1500
_CODE = re.compile(r"-?[0-9]{1,10}")
_FIELD = re.compile(
    r"(?=.{1,30}\Z)(?=\D*\d?\D*\Z)"
    r"_?(?:(?:[A-Z]?[a-z]{2,}|By|ID|Id|IP|Ip|Is|TTL|UID|URL|[A-Z](?=_))[0-9]?_*)+|[A-Z]{2,5}|[a-z]"
)
"""The name of a field: words that were joined. A part of a key is none."""
_KINDS: Mapping[type, str] = {
    type(None): "null",
    bool: "boolean",
    str: "string",
    int: "number",
    float: "number",
}
_HOLDS = {True: Text("yes"), False: Text("no"), None: Text("not seen")}


def judged(section: str, assumed: Text, holds: bool | None) -> Text:  # noqa: FBT001 - a value
    """Return whether an assumption of docs/facts holds; `None` where the answers do not show it."""
    return Text("§{section} {it}: {holds}", section=section, it=assumed, holds=_HOLDS[holds])


def reported(
    exchanges: Iterable[Exchange],
    public: Collection[str],
    request_id: Callable[[Mapping[str, str]], str] = lambda _: "",
) -> Iterator[Text]:
    """Render what was called, where, and the shape of the answer; of a refused call the id that
    `request_id` reads in the headers.
    """
    for one in exchanges:
        way = shown_host(one.request.url, public)
        scheme = one.request.headers.get("Authorization", "").partition(" ")[0]
        way += f" ({scheme})" if scheme in public else ""
        call, answer = _call(one.request, public), _answer(one.came, request_id)
        yield Text("{call} at {way}: {answer}", call=call, way=way, answer=answer)


def shown_host(url: str, public: Collection[str]) -> str:
    """Return the host, if it may be shown: a mirror may bear the operator's name."""
    parts = urlsplit(url)
    is_public = parts.netloc in public or is_loopback(parts.hostname or "")
    return parts.netloc if is_public else HIDDEN


def shape(*found: object) -> str:
    """Return the shape that values have together, as `{items: [2 × {name: string, id?: null}]}`."""
    shapes = {_KINDS[type(one)] for one in found if type(one) in _KINDS}
    objects = [one for one in found if isinstance(one, dict)]
    lists = [one for one in found if isinstance(one, list)]
    if objects:
        keys = dict.fromkeys(key if _FIELD.fullmatch(key) else "" for one in objects for key in one)
        fields = (_field(key, objects) if key else HIDDEN for key in keys)
        shapes.add(f"{{{', '.join(fields)}}}")
    if lists:
        items = [item for one in lists for item in one]
        shapes.add(f"[{len(items)} × {shape(*items)}]" if items else "[]")
    return " | ".join(sorted(shapes))


def _field(key: str, objects: Sequence[dict[str, Any]]) -> str:
    values = [one[key] for one in objects if key in one]
    return f"{key}{'?' if len(values) < len(objects) else ''}: {shape(*values)}"


def _call(request: Request, public: Collection[str]) -> str:
    parts = urlsplit(request.url)
    path = "/".join(one if one in public or not one else HIDDEN for one in parts.path.split("/"))
    names = filter(public.__contains__, parse_qs(parts.query, keep_blank_values=True))
    return f"{request.method} {path}?{'&'.join(names)}".rstrip("?")


def _answer(came: Answer | str, request_id: Callable[[Mapping[str, str]], str]) -> Text:
    if isinstance(came, str):
        return Text("no answer ({kind})", kind=came)
    said = str(came.status)
    if came.status >= HTTPStatus.BAD_REQUEST and (of_request := request_id(came.headers)):
        said += f", X-Reqid {of_request}"
    try:
        found = json.loads(came.body)
        seen = shape(found)[:LONGEST]
    except (ValueError, RecursionError):
        return Text("{status}, no JSON", status=said)
    outer = found if isinstance(found, dict) else {}
    inner = outer.get("status")
    code = str((inner if isinstance(inner, dict) else outer).get("code"))
    said += f", code {code}" if _CODE.fullmatch(code) else ""
    return verbatim(f"{said}, `{seen}`")
