"""Make the OpenAPI document of the API (OpenAPI 3.1.1) from the list of operations and from the
packaged schemas of the documents of `--json`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, get_origin

import msgspec
from msgspec import Struct

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


class Parameter(Struct, frozen=True):
    """A parameter in the query of a request."""

    #: The name in the query.
    name: str
    #: The parameter's description.
    what: str
    #: The type for msgspec; a list if the parameter may be given several times.
    type: Any = str
    #: The value of a missing parameter.
    default: object = None

    @property
    def is_list(self) -> bool:
        """Whether the parameter may be given several times."""
        return get_origin(self.type) is list

    def read(self, words: Sequence[str]) -> Any:
        """Return the parameter's value, or the list of values, from the words in the query. Without
        words return the default, or an empty list for a list. Raises `msgspec.ValidationError` for
        a wrong value.
        """
        if not words and not self.is_list:
            return self.default
        given = list(words) if self.is_list else words[-1]
        value = msgspec.convert(given, self.type, strict=False)
        if type(value) is int and not words[-1].isdigit():  # msgspec reads 1e3 as a thousand
            raise msgspec.ValidationError(words[-1])
        return value


class Operation(Struct, frozen=True):
    """An operation of the API: a method at a path."""

    #: The path below `BASE`, with the names of its parts in braces.
    path: str
    #: The operation's description.
    what: str
    #: The name of the answer's document.
    schema: str
    #: The function that makes the answer of an `ApiRequest`.
    answer: Callable[..., Any]
    #: The parameters in the query.
    parameters: tuple[Parameter, ...] = ()
    #: The HTTP method.
    method: str = "GET"
    #: The HTTP status of a success.
    status: HTTPStatus = HTTPStatus.OK
    #: The type of the request's body; `None` without a body.
    body: type | None = None
    #: Whether the operation observes services, and so may take a minute.
    observes: bool = False


def document(operations: Sequence[Operation], server: str, cookie: str) -> Schema:
    """Return the OpenAPI document. `server` is the URL or path in front of the operations' paths,
    and `cookie` the name of the session's cookie.
    """
    schemas_used = _Schemas()
    paths: dict[str, Schema] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(
            operation, schemas_used
        )
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
            "schemas": schemas_used.components,
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


def _operation(operation: Operation, schemas_used: _Schemas) -> Schema:
    answer: Schema = {
        "description": operation.what,
        "content": _json(schemas_used.reference(operation.schema)),
    }
    if operation.observes:
        age = {"type": "integer", "minimum": 0, "description": "since services were asked"}
        answer["headers"] = {"Age": {"schema": age}}
    in_path = re.findall(r"{(\w+)}", operation.path)
    described: Schema = {
        "operationId": "_".join([operation.method.lower(), *re.findall(r"\w+", operation.path)]),
        "summary": operation.what,
        "parameters": [
            *(_parameter(name, "path", {"type": "string"}, required=True) for name in in_path),
            *(
                _parameter(
                    parameter.name,
                    "query",
                    msgspec.json.schema(parameter.type),
                    description=parameter.what,
                )
                for parameter in operation.parameters
            ),
        ],
        "responses": {
            str(int(operation.status)): answer,
            **{
                str(int(status)): {
                    "description": description,
                    "content": _json(schemas_used.reference("error")),
                }
                for status, description in _FAILURES.items()
            },
        },
    }
    if operation.body is not None:
        described["requestBody"] = {
            "required": True,
            "content": _json(schemas_used.of_type(operation.body)),
        }
    return described


def _parameter(name: str, place: str, schema: Schema, **more: object) -> Schema:
    return {"name": name, "in": place, "schema": schema, **more}


def _json(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}


class _Schemas:
    """Collects the schemas of documents and of their parts as components of the OpenAPI document. A
    part has the same name in every document.
    """

    def __init__(self) -> None:
        self.components: dict[str, Schema] = {}
        self._files = schemas()

    def reference(self, name: str) -> Schema:
        """Return a reference to the schema of the document `name`. Add the schema to the
        components.
        """
        component = f"{name}_document"
        if component not in self.components:
            whole = json.loads(self._files[name].read_text(encoding="utf-8"))
            parts = whole.pop("$defs", {})
            del whole["$schema"], whole["$id"]
            self.components |= {part: _among_components(schema) for part, schema in parts.items()}
            self.components[component] = _among_components(whole)
        return {"$ref": f"#/components/schemas/{component}"}

    def of_type(self, kind: type) -> Schema:
        """Return a reference to the schema of a type. Add the schemas of the type and of its parts
        to the components.
        """
        [reference], parts = msgspec.json.schema_components(
            [kind], ref_template="#/components/schemas/{name}"
        )
        self.components |= parts
        return reference


def _among_components(part: Any) -> Any:
    if isinstance(part, list):
        return [_among_components(item) for item in part]
    if not isinstance(part, Mapping):
        return part
    return {
        key: value.replace("#/$defs/", "#/components/schemas/")
        if key == "$ref"
        else _among_components(value)
        for key, value in part.items()
    }
