"""Checks of `--json` documents against their schemas.

The checks are stricter than the schemas: programs must accept new keys, but a document has only the
keys of its schema.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from certferry.cli.commands import COMMANDS

SCHEMAS = Path(__file__).parents[2] / "docs" / "reference" / "schema"
SAME_AS = {"rollback": "sync", "state": "doctor"}
"""Commands that print the document of another command."""

MARKS = ("—", "…")
"""Unknown values are null, and never a mark of the terminal."""


def must_fit(document: object, name: str) -> None:
    """Raise `AssertionError` with every deviation of a document from its schema."""
    if isinstance(document, dict) and "error" in document and set(document) <= {"error", "plan"}:
        if "plan" in document:
            must_fit(document["plan"], "plan")
        name = "error"
    deviations = [
        f"{error.json_path}: {error.message}" for error in _strict(name).iter_errors(document)
    ]
    deviations += [f"{value} is no value" for value in _values(document) if value in MARKS]
    assert not deviations, f"{name}.json: {deviations}"


def must_fit_output(arguments: Sequence[str], out: str) -> None:
    """Check the output of a run against the schema of the command, if the output is JSON."""
    command = next((word for word in arguments if word in COMMANDS), None)
    if "--json" not in arguments or "--help" in arguments or command is None:
        return
    name = "history-verify" if "--verify" in arguments else SAME_AS.get(command, command)
    for document in _documents(out):
        must_fit(document, name)


def schema(name: str) -> dict[str, Any]:
    """Return a schema as shipped."""
    document: dict[str, Any] = json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8"))
    return document


def _documents(out: str) -> Iterator[object]:
    decoder, remaining = json.JSONDecoder(), out.lstrip()
    while remaining:
        document, end = decoder.raw_decode(remaining)
        yield document
        remaining = remaining[end:].lstrip()


def _values(part: Any) -> Iterator[Any]:
    values = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    if not values:
        yield part
    for value in values:
        yield from _values(value)


@cache
def _strict(name: str) -> Draft202012Validator:
    return Draft202012Validator(_without_other_keys(schema(name)))


def _without_other_keys(part: Any) -> Any:
    if isinstance(part, list):
        return [_without_other_keys(element) for element in part]
    if not isinstance(part, dict):
        return part
    closed = {key: _without_other_keys(value) for key, value in part.items()}
    if part.get("type") == "object" and "properties" in part:
        closed.setdefault("additionalProperties", False)
    return closed
