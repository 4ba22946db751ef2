"""The OpenAPI document of the API (OpenAPI 3.1.1), made from its operations and from the schemas of
`--json`, which are shipped in the package.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from certferry import __version__
from certferry.present.pages import schemas

Schema = dict[str, Any]

BASE = "/api/v1"

_FAILURES = {
    HTTPStatus.BAD_REQUEST: "A parameter or the body is wrong.",
    HTTPStatus.UNAUTHORIZED: "Neither a token nor a session, or one that is over.",
    HTTPStatus.FORBIDDEN: "The role may only read, or the request came from another origin.",
    HTTPStatus.NOT_FOUND: "There is no such certificate or run.",
    HTTPStatus.CONFLICT: "Something else is in the way; the code says what.",
    HTTPStatus.SERVICE_UNAVAILABLE: "The state or a service does not answer; see Retry-After.",
}


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a query: a word, one of `enum`, a number up to `most`, or a flag; `default`
    is its value where it is missing; it is a list where it may be given `many` times.
    """

    name: str
    what: str
    least: int = 0
    most: int | None = None
    enum: tuple[str, ...] = ()
    default: object = None
    many: bool = False
    is_flag: bool = False

    @property
    def schema(self) -> Schema:
        """The JSON Schema of a value."""
        word: Schema = {"type": "string"}
        if self.is_flag:
            word = {"type": "boolean"}
        elif self.most is not None:
            word = {"type": "integer", "minimum": self.least, "maximum": self.most}
        elif self.enum:
            word["enum"] = list(self.enum)
        if self.many:
            return {"type": "array", "items": word}
        return word if self.default is None else {**word, "default": self.default}


@dataclass(frozen=True, slots=True)
class Operation:
    """What may be asked at a path: a document of this `schema`, answered by a function; `body` is
    the schema of what is sent. What `observes` asks services, and may take a minute.
    """

    path: str
    what: str
    schema: str
    answer: Callable[..., Any]
    parameters: tuple[Parameter, ...] = ()
    method: str = "GET"
    status: HTTPStatus = HTTPStatus.OK
    body: Schema | None = None
    observes: bool = False


def document(operations: Sequence[Operation], server: str) -> Schema:
    """Return the document; `server` is the URL, or the path, below which the paths are."""
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
                    "name": "certferry",
                    "description": "A browser that is logged in; over HTTPS `__Host-certferry`.",
                },
            },
        },
    }


def _operation(one: Operation, found: _Schemas) -> Schema:
    answer: Schema = {"description": one.what, "content": _json(found.reference(one.schema))}
    if one.observes:
        answer["headers"] = {
            "Age": {
                "description": "How many seconds ago the services were asked.",
                "schema": {"type": "integer", "minimum": 0},
            }
        }
    in_path = [part[1:-1] for part in one.path.split("/") if part.startswith("{")]
    written: Schema = {
        "operationId": "_".join([one.method.lower(), *one.path.strip("/").split("/")]).translate(
            {ord("{"): None, ord("}"): None}
        ),
        "summary": one.what,
        "parameters": [
            *(
                {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
                for name in in_path
            ),
            *(
                {"name": p.name, "in": "query", "description": p.what, "schema": p.schema}
                for p in one.parameters
            ),
        ],
        "responses": {
            str(int(one.status)): answer,
            **{
                str(int(status)): {
                    "description": what,
                    "content": _json(found.reference("error")),
                }
                for status, what in _FAILURES.items()
            },
        },
    }
    if one.body is not None:
        written["requestBody"] = {"required": True, "content": _json(one.body)}
    return written


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
