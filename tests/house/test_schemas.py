"""The schemas of `--json` are schemas, are complete, and say what the code says."""

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
    """Return every object inside a schema, itself included."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from parts(one)


@each
def test_a_schema_is_one(name: str) -> None:
    """Of the version that it names, known by its own name, and complete: it refers to no file."""
    found = schema(name)

    jsonschema.Draft202012Validator.check_schema(found)
    assert "https://json-schema.org/draft/2020-12/schema" == found["$schema"]
    assert f"urn:certferry:schema:{name}" == found["$id"]
    referred = {part["$ref"] for part in parts(found) if "$ref" in part}
    assert referred == {f"#/$defs/{one}" for one in found.get("$defs", {})}


@each
def test_a_schema_asks_for_no_key_that_it_does_not_report_of(name: str) -> None:
    """And a document may have more: keys are added in later versions."""
    for part in parts(schema(name)):
        if part.get("type") == "object" and "properties" in part:
            assert set(part["required"]) <= set(part["properties"])
            assert "additionalProperties" not in part


def test_what_has_one_name_is_one_thing() -> None:
    """A part that several documents have is the same in all of them."""
    found: dict[str, Any] = {}
    for name in NAMES:
        for one, written in schema(name).get("$defs", {}).items():
            assert written == found.setdefault(one, written), (name, one)


def test_every_command_with_json_has_its_schema() -> None:
    """Its own, or that of the command whose document it prints."""
    commands = {name: command_of(name) for name in COMMANDS}
    with_json = {
        name
        for name, command in commands.items()
        for one in (command, *getattr(command, "commands", {}).values())
        if isinstance(one, click.Command) and any("--json" in p.opts for p in one.params)
    }

    assert {SAME_AS.get(name, name) for name in with_json} <= set(NAMES)


def weights() -> Iterator[str]:
    """Return what `doctor` calls each severity of a finding."""
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
    """All that can be printed, and no others."""
    assert {str(word) for word in words} == set(
        schema(name)["$defs"][part]["properties"][key]["enum"]
    )


def test_what_channels_are_sent_is_as_its_schema_says() -> None:
    """For each kind of news, with everything and with nothing known; and for the trial."""
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
def test_a_document_that_is_otherwise_is_refused(bent: object) -> None:
    """The tests of all commands would notice a key too few, too many, or of another type."""
    with pytest.raises(AssertionError):
        must_fit(bent, "doctor")


def test_a_typographic_mark_is_no_value() -> None:
    """What is unknown is null."""
    entry = {"at": "2026-11-26T12:00:00Z", "name": "img", "event": "bound", "who": "root@a"}
    stored = {"number": 1, "host": None}
    must_fit({"entries": [{**entry, **stored, "facts": {"id": "1"}}]}, "history")

    with pytest.raises(AssertionError):
        must_fit({"entries": [{**entry, **stored, "facts": {"id": "—"}}]}, "history")
