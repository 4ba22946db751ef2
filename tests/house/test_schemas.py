"""The schemas of `--json`: valid, complete, and in agreement with the code."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from typing import Any, cast

import click
import jsonschema
import pytest

from certferry.cli.commands import COMMANDS, command_of
from certferry.core.assessment.dispatch import Notification
from certferry.core.assessment.notices import Notice, Subject, Topic
from certferry.core.assessment.status import OF_DOMAINS, Standing
from certferry.core.desired.certificate import DriftPolicy
from certferry.core.observed.inferred import Owner
from certferry.core.observed.records import Damage
from certferry.core.planning.plan import Action
from certferry.core.planning.report import Outcome, Result
from certferry.errors import Problem, Severity
from certferry.present.documents import of_findings
from certferry.present.language import Voice
from certferry.present.news_text import message, trial_message
from certferry.text import Text
from tests.support.schemas import SAME_AS, SCHEMAS, must_fit, schema

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
NAMES = sorted(path.stem for path in SCHEMAS.glob("*.json"))
each = pytest.mark.parametrize("name", NAMES)


def parts(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every object inside a schema, itself included."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for member in value:
            yield from parts(member)


@each
def test_a_schema_is_valid(name: str) -> None:
    """The schema has its version and its own name, and refers to no other file."""
    document = schema(name)

    jsonschema.Draft202012Validator.check_schema(document)
    assert "https://json-schema.org/draft/2020-12/schema" == document["$schema"]
    assert f"urn:certferry:schema:{name}" == document["$id"]
    referred = {part["$ref"] for part in parts(document) if "$ref" in part}
    assert referred == {f"#/$defs/{definition}" for definition in document.get("$defs", {})}


@each
def test_a_schema_requires_only_described_keys(name: str) -> None:
    """A document may have more keys, which later versions add."""
    for part in parts(schema(name)):
        if part.get("type") == "object" and "properties" in part:
            assert set(part["required"]) <= set(part["properties"])
            assert "additionalProperties" not in part


def test_shared_parts_are_equal() -> None:
    """A part of several documents is the same in all of them."""
    definitions: dict[str, Any] = {}
    for name in NAMES:
        for part_name, definition in schema(name).get("$defs", {}).items():
            assert definition == definitions.setdefault(part_name, definition), (name, part_name)


def test_every_command_with_json_has_its_schema() -> None:
    """The schema is its own, or belongs to the command with the same document."""
    commands = {name: command_of(name) for name in COMMANDS}
    with_json = {
        name
        for name, command in commands.items()
        for subcommand in (command, *getattr(command, "commands", {}).values())
        if isinstance(subcommand, click.Command)
        and any("--json" in p.opts for p in subcommand.params)
    }

    assert {SAME_AS.get(name, name) for name in with_json} <= set(NAMES)


def weights() -> Iterator[str]:
    """Yield the word of `doctor` for each severity of a finding."""
    for severity in set(Severity) - {Severity.OK}:
        finding = Problem("code", Text("m"), severity=severity)
        yield cast("list[Any]", of_findings([finding])["findings"])[0]["severity"]


ENUMS = [
    ("plan", "plan_step", "action", set(Action)),
    ("plan", "drifted", "policy", set(DriftPolicy)),
    ("sync", "step", "action", {*Action, "look"}),
    ("sync", "step", "outcome", set(Outcome)),
    ("sync", "lineage", "result", set(Result)),
    ("status", "certificate", "state", set(Standing) - OF_DOMAINS),
    ("status", "domain", "state", OF_DOMAINS),
    ("discover", "found_certificate", "owner", set(Owner)),
    ("history-verify", "break", "damage", set(Damage)),
    ("doctor", "finding", "severity", set(weights())),
    ("event", "event", "event", {*Topic, "test"}),
]


@pytest.mark.parametrize(("name", "part", "key", "words"), ENUMS)
def test_a_schema_lists_the_words_of_the_code(
    name: str, part: str, key: str, words: Collection[str]
) -> None:
    """The list has exactly the words that can be printed."""
    assert {str(word) for word in words} == set(
        schema(name)["$defs"][part]["properties"][key]["enum"]
    )


def test_events_for_channels_follow_their_schema() -> None:
    """Each kind of news is tested, with all fields and with none; the trial is tested as well."""
    whole = Subject("img", "qiniu", "img.example.com", "")
    news = [
        Notification(Notice(topic, subject, NOW, Problem(code, Text("m"), hint), deadline))
        for topic in Topic
        for subject, code, hint, deadline in (
            (whole, "target_rejected", Text("do it"), NOW),
            (Subject(), "", None, None),
        )
    ]

    event = message(news, Voice(), "web1", "run").event
    must_fit(json.loads(json.dumps(event)), "event")
    must_fit(json.loads(json.dumps(trial_message(Voice(), "web1", NOW, "run").event)), "event")


@pytest.mark.parametrize(
    "bent",
    [
        {"ok": True, "findings": [{"severity": "error"}]},
        {"ok": True, "findings": [], "more": 1},
        {"ok": None, "findings": []},
        {"error": {"code": "config", "message": "m"}},
    ],
)
def test_a_wrong_document_is_refused(bent: object) -> None:
    """Tests of all commands notice a missing key, an additional key and a key of another type."""
    with pytest.raises(AssertionError):
        must_fit(bent, "doctor")


def test_a_typographic_mark_is_no_value() -> None:
    """Unknown values are null."""
    entry = {"at": "2026-11-26T12:00:00Z", "name": "img", "event": "bound", "who": "root@a"}
    stored = {"number": 1, "host": None}
    must_fit({"entries": [{**entry, **stored, "facts": {"id": "1"}}]}, "history")

    with pytest.raises(AssertionError):
        must_fit({"entries": [{**entry, **stored, "facts": {"id": "—"}}]}, "history")
