"""The documents of `--json`, held against their schemas, and more strictly than these ask: programs
must bear keys that are added, but no document has a key that its schema does not tell of.
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
"""Commands that print the document of another one."""

MARKS = ("—", "…")
"""What is unknown is null, and never one of these."""


def must_fit(document: object, name: str) -> None:
    """Raise `AssertionError` with every way in which a document is not what its schema says."""
    if isinstance(document, dict) and "error" in document and set(document) <= {"error", "plan"}:
        if "plan" in document:
            must_fit(document["plan"], "plan")
        name = "error"
    wrong = [f"{error.json_path}: {error.message}" for error in _strict(name).iter_errors(document)]
    wrong += [f"{value} is no value" for value in _values(document) if value in MARKS]
    assert not wrong, f"{name}.json: {wrong}"


def must_fit_output(arguments: Sequence[str], out: str) -> None:
    """Hold what a run of the command printed against the schema of its command, if it was asked for
    JSON.
    """
    command = next((word for word in arguments if word in COMMANDS), None)
    if "--json" not in arguments or "--help" in arguments or command is None:
        return
    name = "history-verify" if "--verify" in arguments else SAME_AS.get(command, command)
    for document in _documents(out):
        must_fit(document, name)


def schema(name: str) -> dict[str, Any]:
    """Return a schema, as it is shipped."""
    found: dict[str, Any] = json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8"))
    return found


def _documents(out: str) -> Iterator[object]:
    decoder, rest = json.JSONDecoder(), out.lstrip()
    while rest:
        document, end = decoder.raw_decode(rest)
        yield document
        rest = rest[end:].lstrip()


def _values(part: Any) -> Iterator[Any]:
    inside = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    if not inside:
        yield part
    for one in inside:
        yield from _values(one)


@cache
def _strict(name: str) -> Draft202012Validator:
    return Draft202012Validator(_without_other_keys(schema(name)))


def _without_other_keys(part: Any) -> Any:
    if isinstance(part, list):
        return [_without_other_keys(one) for one in part]
    if not isinstance(part, dict):
        return part
    told = {key: _without_other_keys(value) for key, value in part.items()}
    if part.get("type") == "object" and "properties" in part:
        told.setdefault("additionalProperties", False)
    return told
