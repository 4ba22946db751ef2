"""What an operator reads about a wrong configuration is what puts it right."""

from __future__ import annotations

from pathlib import Path

import pytest

from certferry.cli.exits import Exit
from certferry.cli.main import run
from certferry.config.document import read_document
from certferry.config.load import load
from certferry.config.mistakes import REFERENCE
from certferry.errors import ConfigError
from certferry.wiring.settings import load_checked
from tests.cli.consoles import TestConsole
from tests.config.conftest import FILE, Load, Refusal

KEYS = """\
[accounts.dnspod]
id = "env:DP_Id"
token = "env:DP_Key"
[accounts.qiniu]
access_key = "env:QINIU_AK"
secret_key = "env:QINIU_SK"
[[certificates]]
names = ["a.example.com"]
dns = "dnspod"
"""
DEPLOYED = '[[certificates.deploy]]\nto = "qiniu"\n'


def refused(folder: Path, text: str | bytes, **environ: str) -> ConfigError:
    """Write a configuration that is refused; give the error."""
    file = folder / FILE
    file.touch(0o600)
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ConfigError) as caught:
        load_checked(FILE, {"HOME": str(folder), **environ})
    return caught.value


def hint_of(error: ConfigError) -> str:
    """Give the hint in English."""
    assert error.hint is not None
    return str(error.hint)


def test_variables_that_are_not_set_are_exported(folder: Path) -> None:
    """One command for all of them, and where a run by cron has them from; the reference, which says
    nothing of it, is not named.
    """
    (folder / FILE).write_text(KEYS + DEPLOYED)
    console = TestConsole(environ={"HOME": str(folder)})

    assert Exit.USAGE == run(["--config", str(FILE), "plan"], console.console)

    said, _, hint = console.err.partition("\n\nhint: ")
    assert 4 == said.count(" is not set")
    assert all(f"{name}=…" in hint for name in ("DP_Id", "DP_Key", "QINIU_AK", "QINIU_SK"))
    assert 1 == hint.count("run `export ")
    assert "cron and systemd start a run without it" in hint
    assert "`env_files`" in hint
    assert "help config" not in hint


def test_what_a_file_that_is_not_read_may_set_is_not_missed(folder: Path) -> None:
    """One mistake is told, and not that each variable of that file is not set."""
    (folder / "open.env").write_text("DP_Id=1\nDP_Key=HUNTER2\n")
    (folder / "open.env").chmod(0o644)
    (folder / FILE).write_text(f'env_files = ["open.env"]\n{KEYS}{DEPLOYED}')
    console = TestConsole(environ={"HOME": str(folder)})

    assert Exit.USAGE == run(["--config", str(FILE), "plan"], console.console)

    assert "run: chmod 600 " in console.err
    assert "is not set" not in console.err
    assert "export" not in console.err


def test_an_unset_variable_beside_another_mistake(folder: Path) -> None:
    """Each has what puts it right."""
    error = refused(folder, f"nams = 1\n{KEYS}", DP_Id="1")

    hint = hint_of(error)
    assert "run `export DP_Key=…`" in hint
    assert hint.endswith(str(REFERENCE))


def test_a_file_that_is_not_there(folder: Path) -> None:
    """Nothing can be looked up for it."""
    with pytest.raises(ConfigError, match="No such file") as caught:
        load(folder / "certfery.toml", {})

    assert "name the file with --config FILE, or have one written: certferry init" == hint_of(
        caught.value
    )


@pytest.mark.parametrize(
    ("data", "source"),
    [
        ("# 证书 nginx\nname = '图床'\n".encode("gbk"), "gbk"),
        ("name = '图床'\n".encode("utf-16"), "utf-16"),
    ],
)
def test_another_encoding(folder: Path, data: bytes, source: str) -> None:
    """The command that makes UTF-8 of it, which does not empty the file that it reads."""
    error = refused(folder, data)

    assert "is not UTF-8 text" in str(error.message)
    assert f"iconv -f {source} -t utf-8 certferry.toml > certferry.toml.utf8" in hint_of(error)


@pytest.mark.parametrize(
    ("line", "character", "meant"),
    [
        ("dns = “dnspod”", "“", '"'),
        ('dns = "dnspod”', "”", '"'),
        ("dns = ‘dnspod’", "‘", "'"),
        ('names = ["a.example.com"，"b.example.com"]', "，", ","),
        ("names ＝ 1", "＝", "="),
    ],
)
def test_typographic_characters(folder: Path, line: str, character: str, meant: str) -> None:
    """They look like the right ones: each is shown beside the one that is meant."""
    error = refused(folder, f"[acme]\n{line}\n[dns]\n")

    said = str(error.message)
    assert said.startswith("certferry.toml:2: is not TOML")
    assert f"here stands {character}, and TOML takes {meant} only" in said
    assert f"write {meant} in place of {character}" == hint_of(error)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('{"certificates": []}\n', "JSON"),
        ("# ours\ncertificates:\n  - names: [a]\n", "YAML"),
        ("---\nacme: {}\n", "YAML"),
        ("- a\n- b\n", "YAML"),
    ],
)
def test_another_format(folder: Path, text: str, kind: str) -> None:
    """It is called by its name."""
    error = refused(folder, text)

    assert f"certferry.toml:1: is {kind}, not TOML" == str(error.message)
    assert "certferry reads TOML: `certferry init` writes such a file" in hint_of(error)


SETTING = """\
[accounts.d]
[[certificates]]
dns = "d"
"""
TO_D = '[[certificates.deploy]]\nto = "d"\n'


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ('names = "a.example.com"', 'must be a list, and is a string: write ["a.example.com"]'),
        (
            'names = "a.example.com, b.example.com"',
            'must be a list, and is a string: write ["a.example.com", "b.example.com"]',
        ),
        (
            'names = ["a.example.com，b.example.com"]',
            'holds several names: write each in its own quotes: ["a.example.com", "b.example.com"]',
        ),
        ('names = ["192.0.2.1"]', "is an IP address, and IP addresses are not supported"),
        ('names = ["2001:db8::1"]', "is an IP address, and IP addresses are not supported"),
        ('names = ["a.example.com"]\nkey_type = "rsa"', "write rsa2048"),
        ('names = ["a.example.com"]\nkey_type = "ECC"', "write ec256"),
        (
            'names = ["a.example.com"]\n[[certificates.deploy]]\nto = "aliyun"',
            "CDNs of other vendors than those of `certferry help adapters` are not supported",
        ),
        (
            'names = ["a.example.com"]\n[[certificates.deploy]]\nto = "qiniu"',
            "to: there is no account qiniu; declared are d",
        ),
        (
            f'names = ["a.example.com"]\n{TO_D}domains = "a.example.com"',
            'must be "auto" or a list, and is a string: write ["a.example.com"]',
        ),
        (
            f'names = ["*.example.com"]\n{TO_D}domains = ["a.example.com; b.example.com"]',
            'in its own quotes: ["a.example.com", "b.example.com"]',
        ),
        ('names = ["a.example.com"]\n[verify]\ntimeout = "1h"', "is a string: write 3600"),
        ('names = ["a.example.com"]\n[verify]\ntimeout = "90"', "is a string: write 90"),
        ('names = ["a.example.com"]\n[verify]\ntimeout = "15 minutes"', "is a string: write 900"),
        ('names = ["a.example.com"]\n[verify]\ntimeout = "long"', "number of seconds, and is a s"),
    ],
)
def test_the_right_value_is_shown(refusal: Refusal, written: str, said: str) -> None:
    """As it would stand in the file."""
    (line,) = refusal(SETTING + written)

    assert said in line


@pytest.mark.parametrize(
    ("text", "misleading"),
    [
        ('[acme]\nemail = "“”" x # “”\n', "here stands"),
        ("[[certificates]\n", "YAML"),
        ("names = [\n", "YAML"),
        (
            f'{SETTING}names = ["a.example.com"]\n[[certificates.deploy]]\nto = "file"',
            "vendors",
        ),
    ],
)
def test_what_looks_like_another_mistake(folder: Path, text: str, misleading: str) -> None:
    """Quotes in words, broken TOML, and `file` in place of `files` are told as what they are."""
    assert misleading not in str(refused(folder, text).message)


def test_a_whole_file_of_the_right_characters_is_read(loaded: Load) -> None:
    """Quotes in a comment or a string say nothing."""
    loaded("# “名称”，“域名”\n[accounts.d]\n")
    assert FILE == read_document(FILE).path


def test_a_file_that_a_crash_has_left_without_its_words(folder: Path) -> None:
    """As a power cut leaves it on some file systems; no setting is to be looked up."""
    error = refused(folder, b"\0" * 400)

    assert f"{FILE}: is not text: it holds a null byte" == str(error.message)
    assert "put it back from a backup" in hint_of(error)
