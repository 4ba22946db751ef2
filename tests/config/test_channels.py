"""The tables of channels: what is the same for all, and what their adapters read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from certferry.config.bind import bind, may_be_written, meanings, must_be_written
from certferry.config.unattended import lost_programs, lost_secrets, runs_programs
from certferry.core.assessment.notices import USUAL, Topic
from certferry.core.secret import Secret
from certferry.errors import ConfigError
from tests.config.conftest import Load

USUAL_TABLES = '[[certificates]]\nnames = ["img.example.com"]\ndns = "dnspod"\n[accounts.dnspod]\n'


@dataclass(frozen=True)
class Mail:
    """An adapter's settings with a setting that is a word of Python's, and a path."""

    from_: str
    ca: Path | None = None


def test_what_is_not_written_is_usual(loaded: Load) -> None:
    """The type is the table's name; trouble and its end, in the run's language."""
    found = loaded(f'{USUAL_TABLES}[notify.bark]\nkey = "x"\n').channels["bark"]

    assert ("bark", "bark") == (found.account.label, found.account.type)
    assert (USUAL, "") == (found.on, found.language)
    assert {"key": "x"} == found.account.values


def test_what_is_the_same_for_all_is_no_setting_of_the_adapter(loaded: Load) -> None:
    """Type, what it is told of, and its language."""
    table = '[notify.ops]\ntype = "bark"\non = ["renewed"]\nlanguage = "zh"\n'
    found = loaded(USUAL_TABLES + table).channels["ops"]

    assert ("bark", (Topic.RENEWED,), "zh") == (found.account.type, found.on, found.language)
    assert {} == found.account.values


@pytest.mark.parametrize(
    "line", ['on = ["troubles"]', 'language = "fr"', "on = []", 'on = "trouble"', "type = 7"]
)
def test_what_can_be_none_is_told_with_its_place(loaded: Load, line: str) -> None:
    """Before anything else is done."""
    with pytest.raises(ConfigError) as wrong:
        loaded(f"{USUAL_TABLES}[notify.ops]\n{line}\n")

    assert "[notify.ops]" in str(wrong.value)


def test_secrets_of_channels_are_secrets(loaded: Load) -> None:
    """The literal address of a webhook is hidden, and what a reference leads to is kept from
    programs.
    """
    table = '[notify.ops]\nurl = "https://hooks.example.com/0b9f6d"\nsecret = "env:HOOK_WORD"\n'
    secrets = loaded(USUAL_TABLES + table, HOOK_WORD="sekrit-sekrit").secrets

    assert Secret("https://hooks.example.com/0b9f6d") in secrets.known()
    assert "HOOK_WORD" in secrets.withheld()


def test_what_a_run_by_cron_lacks_for_its_channels(loaded: Load) -> None:
    """Variables that nothing sets, and programs."""
    table = '[notify.ops]\nurl = "env:HOOK"\n[notify.pager]\ntype = "command"\ncommand = ["sh"]\n'
    settings = loaded(USUAL_TABLES + table, HOOK="x")

    assert any("HOOK" in str(finding.text) for finding in lost_secrets(settings))
    assert runs_programs(settings)
    (lost,) = lost_programs(settings, "/nowhere", {"PATH": "/bin:/usr/bin"})
    assert "sh" in str(lost.text)


def test_a_word_of_pythons_and_a_path_are_bound(loaded: Load, folder: Path) -> None:
    """`from`, and a file beside the configuration."""
    (folder / "ca.pem").touch()
    tables = '[notify.ops]\nfrom = "a@b"\nca = "ca.pem"\n[notify.bad]\nca = "no.pem"\n'
    channels = loaded(USUAL_TABLES + tables).channels

    found = bind(Mail, channels["ops"].account, lambda _: Secret("x"))

    assert Mail("a@b", folder / "ca.pem") == found
    assert ("from", "ca") == may_be_written(Mail)
    assert ("from",) == must_be_written(Mail)
    assert {} == meanings(Mail)
    with pytest.raises(ConfigError) as wrong:
        bind(Mail, channels["bad"].account, lambda _: Secret("x"))
    assert "from: missing" in str(wrong.value)
    assert "there is no file" in str(wrong.value)
