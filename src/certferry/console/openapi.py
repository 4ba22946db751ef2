"""The OpenAPI document of the API (OpenAPI 3.1.1), made from its operations and from the schemas of
`--json`, which are shipped in the package.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, get_origin

import msgspec

from certferry import __version__
from certferry.present.pages import schemas

Schema = dict[str, Any]

BASE = "/api/v1"

_FAILURES = {
    HTTPStatus.BAD_REQUEST: "A parameter or the body is wrong.",
    HTTPStatus.UNAUTHORIZED: "Neither a token nor a session, or one that is over.",
    HTTPStatus.FORBIDDEN: "The role may only read, or the request came from another origin.",
    HTTPStatus.NOT_FOUND: "There is no such certificate or run.",
    HTTPStatus.SERVICE_UNAVAILABLE: "The state or a service does not answer; see Retry-After.",
}


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a query: what it is, its `type` for msgspec, a list where it may be given
    several times, and its value where it is missing.
    """

    name: str
    what: str
    type: Any = str
    default: object = None

    @property
    def is_list(self) -> bool:
        """Whether it may be given several times."""
        return get_origin(self.type) is list

    def read(self, words: Sequence[str]) -> Any:
        """Read what was given. Raises `msgspec.ValidationError`."""
        if not words and not self.is_list:
            return self.default
        given = list(words) if self.is_list else words[-1]
        found = msgspec.convert(given, self.type, strict=False)
        if type(found) is int and not words[-1].isdigit():  # msgspec takes 1e3 for a thousand
            raise msgspec.ValidationError(words[-1])
        return found


@dataclass(frozen=True, slots=True)
class Operation:
    """What may be asked at a path: a document of this `schema`, answered by a function; `body` is
    the type of what is sent. What `observes` asks services, and may take a minute.
    """

    path: str
    what: str
    schema: str
    answer: Callable[..., Any]
    parameters: tuple[Parameter, ...] = ()
    method: str = "GET"
    status: HTTPStatus = HTTPStatus.OK
    body: type | None = None
    observes: bool = False


def document(operations: Sequence[Operation], server: str, cookie: str) -> Schema:
    """Return the document. `server` is the URL, or the path, below which the paths are; `cookie` is
    the name of the cookie of a session.
    """
    found = _Schemas()
    paths: dict[str, Schema] = {}
    for one in operations:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one, found)
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "certferry",
            "version": __version__,
            "description": "The documents that `certferry … --json` prints, and the start of runs.",
        },
        "servers": [{"url": server}],
        "security": [{"token": []}, {"session": []}],
        "paths": paths,
        "components": {
            "schemas": found.components,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "`certferry console token add NAME` prints one.",
                },
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": cookie,
                    "description": "A browser that is logged in.",
                },
            },
        },
    }


def _operation(one: Operation, found: _Schemas) -> Schema:
    answer: Schema = {"description": one.what, "content": _json(found.reference(one.schema))}
    if one.observes:
        age = {"type": "integer", "minimum": 0, "description": "since services were asked"}
        answer["headers"] = {"Age": {"schema": age}}
    in_path = re.findall(r"{(\w+)}", one.path)
    written: Schema = {
        "operationId": "_".join([one.method.lower(), *re.findall(r"\w+", one.path)]),
        "summary": one.what,
        "parameters": [
            *(_parameter(name, "path", {"type": "string"}, required=True) for name in in_path),
            *(
                _parameter(p.name, "query", msgspec.json.schema(p.type), description=p.what)
                for p in one.parameters
            ),
        ],
        "responses": {
            str(int(one.status)): answer,
            **{
                str(int(status)): {"description": what, "content": _json(found.reference("error"))}
                for status, what in _FAILURES.items()
            },
        },
    }
    if one.body is not None:
        written["requestBody"] = {"required": True, "content": _json(found.of_type(one.body))}
    return written


def _parameter(name: str, place: str, schema: Schema, **more: object) -> Schema:
    return {"name": name, "in": place, "schema": schema, **more}


def _json(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}


class _Schemas:
    """The schemas of documents and of their parts, each once: a part has one name everywhere."""

    def __init__(self) -> None:
        self.components: dict[str, Schema] = {}
        self._files = schemas()

    def reference(self, name: str) -> Schema:
        """Return a reference to a document's schema, which is among the components from then on."""
        component = f"{name}_document"
        if component not in self.components:
            whole = json.loads(self._files[name].read_text(encoding="utf-8"))
            parts = whole.pop("$defs", {})
            del whole["$schema"], whole["$id"]
            self.components |= {part: _among_components(one) for part, one in parts.items()}
            self.components[component] = _among_components(whole)
        return {"$ref": f"#/components/schemas/{component}"}

    def of_type(self, kind: type) -> Schema:
        """Return a reference to the schema of a type."""
        [written], parts = msgspec.json.schema_components(
            [kind], ref_template="#/components/schemas/{name}"
        )
        self.components |= parts
        return written


def _among_components(part: Any) -> Any:
    if isinstance(part, list):
        return [_among_components(one) for one in part]
    if not isinstance(part, Mapping):
        return part
    return {
        key: value.replace("#/$defs/", "#/components/schemas/")
        if key == "$ref"
        else _among_components(value)
        for key, value in part.items()
    }
