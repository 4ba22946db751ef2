"""Messages about a wrong file: hints with corrections, lines of values, and the channels of a
broken file.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certferry.cli.exits import Exit
from certferry.cli.main import run
from certferry.config.document import LineIndex, Trail, read_document
from certferry.config.load import Salvaged, load, salvage
from certferry.config.mistakes import REFERENCE
from certferry.errors import ConfigError
from certferry.wiring.settings import load_checked
from tests.cli.consoles import TestConsole
from tests.config.conftest import FILE, Load, Refusal
from tests.support.tiers import examples

# --- Hints with the correction of a mistake


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
    """Write a refused configuration, and return the error."""
    file = folder / FILE
    file.touch(0o600)
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ConfigError) as caught:
        load_checked(FILE, {"HOME": str(folder), **environ})
    return caught.value


def hint_of(error: ConfigError) -> str:
    assert error.hint is not None
    return str(error.hint)


def test_unset_variables_have_an_export_command(folder: Path) -> None:
    """The hint has one command for all variables, and the place of variables for cron; the
    reference of settings is omitted.
    """
    (folder / FILE).write_text(KEYS + DEPLOYED)
    console = TestConsole(environ={"HOME": str(folder)})

    assert Exit.USAGE == run(["--config", str(FILE), "plan"], console.console)

    message, _, hint = console.err.partition("\n\nhint: ")
    assert 4 == message.count(" is not set")
    assert all(f"{name}=…" in hint for name in ("DP_Id", "DP_Key", "QINIU_AK", "QINIU_SK"))
    assert 1 == hint.count("run `export ")
    assert "cron and systemd start a run without the variables" in hint
    assert "`env_files`" in hint
    assert "help config" not in hint


def test_variables_of_an_unread_file_are_not_reported(folder: Path) -> None:
    """The message is about the environment file alone, and not about each of its variables."""
    (folder / "open.env").write_text("DP_Id=1\nDP_Key=HUNTER2\n")
    (folder / "open.env").chmod(0o644)
    (folder / FILE).write_text(f'env_files = ["open.env"]\n{KEYS}{DEPLOYED}')
    console = TestConsole(environ={"HOME": str(folder)})

    assert Exit.USAGE == run(["--config", str(FILE), "plan"], console.console)

    assert "run: chmod 600 " in console.err
    assert "is not set" not in console.err
    assert "export" not in console.err


def test_unset_variable_beside_another_mistake(folder: Path) -> None:
    """The hint has the correction of both mistakes."""
    error = refused(folder, f"nams = 1\n{KEYS}", DP_Id="1")

    hint = hint_of(error)
    assert "run `export DP_Key=…`" in hint
    assert hint.endswith(str(REFERENCE))


def test_missing_file_has_a_hint(folder: Path) -> None:
    """The hint has the option for a file, and the command to create a file."""
    with pytest.raises(ConfigError, match="No such file") as caught:
        load(folder / "certfery.toml", {})

    assert "give the file with --config FILE, or create a file: certferry init" == hint_of(
        caught.value
    )


@pytest.mark.parametrize(
    ("data", "source"),
    [
        ("# 证书 nginx\nname = '图床'\n".encode("gbk"), "gbk"),
        ("name = '图床'\n".encode("utf-16"), "utf-16"),
    ],
)
def test_file_in_another_encoding(folder: Path, data: bytes, source: str) -> None:
    """The hint has a command that writes UTF-8 into a second file, since the first file would
    become empty.
    """
    error = refused(folder, data)

    assert "is not UTF-8 text" in str(error.message)
    assert f"iconv -f {source} -t utf-8 certferry.toml > certferry.toml.utf8" in hint_of(error)


@pytest.mark.parametrize(
    ("line", "character", "expected"),
    [
        ("dns = “dnspod”", "“", '"'),
        ('dns = "dnspod”', "”", '"'),
        ("dns = ‘dnspod’", "‘", "'"),
        ('names = ["a.example.com"，"b.example.com"]', "，", ","),
        ("names ＝ 1", "＝", "="),
    ],
)
def test_typographic_characters(folder: Path, line: str, character: str, expected: str) -> None:
    """The message has the wrong character beside the right character, because both look similar."""
    error = refused(folder, f"[acme]\n{line}\n[dns]\n")

    message = str(error.message)
    assert message.startswith("certferry.toml:2: is not TOML")
    assert f"the line contains {character}, but TOML allows only {expected}" in message
    assert f"write {expected} instead of {character}" == hint_of(error)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('{"certificates": []}\n', "JSON"),
        ("# ours\ncertificates:\n  - names: [a]\n", "YAML"),
        ("---\nacme: {}\n", "YAML"),
        ("- a\n- b\n", "YAML"),
    ],
)
def test_file_in_another_format(folder: Path, text: str, kind: str) -> None:
    """The message has the name of the format."""
    error = refused(folder, text)

    assert f"certferry.toml:1: is {kind}, not TOML" == str(error.message)
    assert "certferry reads TOML: `certferry init` writes a configuration file" in hint_of(error)


SETTING = """\
[accounts.d]
[[certificates]]
dns = "d"
"""
TO_D = '[[certificates.deploy]]\nto = "d"\n'


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ('names = "a.example.com"', 'must be a list, but is a string: write ["a.example.com"]'),
        (
            'names = "a.example.com, b.example.com"',
            'must be a list, but is a string: write ["a.example.com", "b.example.com"]',
        ),
        (
            'names = ["a.example.com，b.example.com"]',
            (
                'contains several names: write each in its own quotes: ["a.example.com",'
                ' "b.example.com"]'
            ),
        ),
        ('names = ["192.0.2.1"]', "is an IP address, and IP addresses are not supported"),
        ('names = ["2001:db8::1"]', "is an IP address, and IP addresses are not supported"),
        ('names = ["a.example.com"]\nkey_type = "rsa"', "write rsa2048"),
        ('names = ["a.example.com"]\nkey_type = "ECC"', "write ec256"),
        (
            'names = ["a.example.com"]\n[[certificates.deploy]]\nto = "volcengine"',
            "certferry supports the CDNs listed by `certferry help adapters`",
        ),
        (
            'names = ["a.example.com"]\n[[certificates.deploy]]\nto = "qiniu"',
            "to: there is no account qiniu; declared are d",
        ),
        (
            f'names = ["a.example.com"]\n{TO_D}domains = "a.example.com"',
            'must be "auto" or a list, but is a string: write ["a.example.com"]',
        ),
        (
            f'names = ["*.example.com"]\n{TO_D}domains = ["a.example.com; b.example.com"]',
            'in its own quotes: ["a.example.com", "b.example.com"]',
        ),
        ('names = ["a.example.com"]\n[verify]\ntimeout = "1h"', "is a string: write 3600"),
        ('names = ["a.example.com"]\n[verify]\ntimeout = "90"', "is a string: write 90"),
        ('names = ["a.example.com"]\n[verify]\ntimeout = "15 minutes"', "is a string: write 900"),
        ('names = ["a.example.com"]\n[verify]\ntimeout = "long"', "number of seconds, but is a s"),
    ],
)
def test_correction_of_a_value(refusal: Refusal, settings: str, expected: str) -> None:
    """The message has the value as in a file."""
    (line,) = refusal(SETTING + settings)

    assert expected in line


@pytest.mark.parametrize(
    ("text", "misleading"),
    [
        ('[acme]\nemail = "“”" x # “”\n', "the line contains"),
        ("[[certificates]\n", "YAML"),
        ("names = [\n", "YAML"),
        (f'{SETTING}names = ["a.example.com"]\n[[certificates.deploy]]\nto = "file"', "vendors"),
    ],
)
def test_mistake_that_resembles_another(folder: Path, text: str, misleading: str) -> None:
    """The message has the real mistake, for typographic quotes in strings, broken TOML, and `file`
    instead of `files`.
    """
    assert misleading not in str(refused(folder, text).message)


def test_typographic_characters_in_comments(loaded: Load) -> None:
    """Comments and strings may contain any character."""
    loaded("# “名称”，“域名”\n[accounts.d]\n")
    assert FILE == read_document(FILE).path


def test_file_of_null_bytes(folder: Path) -> None:
    """A power cut can leave null bytes on some file systems; the hint is about a backup and not
    about settings.
    """
    error = refused(folder, b"\0" * 400)

    assert f"{FILE}: is not text: the file contains a null byte" == str(error.message)
    assert "put the file back from a backup" in hint_of(error)


# --- The index of lines, for texts whose values contain their positions


MARKER = re.compile(r"v\d+e")

SCALARS = st.sampled_from(
    [
        '"{v} # ] }} , = \\" \\\\"',
        "'{v} [ {{ # \\'",
        '"""{v}\n[no.table] # "quoted" \\""" x = 1\n"""""',
        "'''{v}\nx = [ '' , '\n'''''",
        '""',
    ]
)
PLAIN = st.sampled_from(["1_000", "-inf", "true", "1979-05-27 07:32:00", "0x1f", "''", '""""""'])
BETWEEN = st.sampled_from(["", " ", "\n", '  # ] , } = "\n', "\n\n\t# '''\n"])


@st.composite
def values(draw: st.DrawFn, depth: int = 2) -> str:
    """Draw a value; `{v}` is the place of the marker, on the value's first line."""
    shape = draw(st.sampled_from(["scalar", "scalar", "plain", "list", "table"]))
    if depth == 0 or shape == "scalar":
        return draw(SCALARS)
    if shape == "plain":
        return draw(PLAIN)
    if shape == "list":
        items = draw(st.lists(values(depth - 1), max_size=3))
        gaps = [draw(BETWEEN) for _ in items]
        body = ",".join(gap + item + draw(BETWEEN) for gap, item in zip(gaps, items, strict=True))
        comma = draw(st.sampled_from(["", ","])) if items else ""
        return f"[{body}{comma}{draw(BETWEEN)}]"
    inner = [draw(values(depth - 1)) for _ in range(draw(st.integers(0, 3)))]
    pairs = [f"{draw(keys(number))} = {value}" for number, value in enumerate(inner)]
    return "{{ " + ", ".join(pairs) + " }}"


def keys(number: int) -> st.SearchStrategy[str]:
    """Draw a spelling of a key that is unique to the number."""
    spellings = ["k{n}", '"k {n} ] = #"', "'k.{n}'", "a{n}.b", "\"q{n}\" . 'r'", '"\\u00e9{n}"']
    return st.sampled_from([spelling.format(n=number) for spelling in spellings])


@st.composite
def texts(draw: st.DrawFn) -> str:
    """Draw a TOML text with tables, nested lists of tables, dotted keys and comments."""
    rows: list[str] = []
    number = 0
    lists: list[str] = []
    for _ in range(draw(st.integers(1, 8))):
        number += 1
        kind = draw(st.sampled_from(["table", "list", "item", "below"]))
        if kind == "table":
            rows.append(f"[t.{draw(keys(number))}]")
        elif kind == "list" or not lists:
            lists.append(f"l{number}")
            rows.append(f"[[ l{number} ]] # [x]")
        elif kind == "item":
            rows.append(f"[[{draw(st.sampled_from(lists))}]]")
        else:
            rows.append(f"[[{draw(st.sampled_from(lists))} . sub]]")
        for _ in range(draw(st.integers(0, 3))):
            number += 1
            rows.append(f"{draw(keys(number))} = {draw(values())}{draw(BETWEEN)}")
        rows.append(draw(BETWEEN))
    text = "\n".join(rows).replace("{{", "{").replace("}}", "}")
    pieces = text.split("{v}")
    marked = "".join(f"{piece}v{mark}e" for mark, piece in enumerate(pieces[:-1])) + pieces[-1]
    return marked + draw(st.sampled_from(["", "\n"]))


def walk(value: object, trail: Trail = ()) -> Iterator[tuple[Trail, object]]:
    if trail:
        yield trail, value
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from walk(inner, (*trail, key))
    if isinstance(value, list):
        for number, inner in enumerate(value):
            yield from walk(inner, (*trail, number))


@given(texts())
def test_every_value_of_a_text_has_a_line(text: str) -> None:
    """The index has exactly the values that the parser reads."""
    assert {trail for trail, _ in walk(tomllib.loads(text))} == set(LineIndex(text).lines)


@given(texts(), st.sampled_from(["\n", "\r\n"]))
def test_line_of_a_value(text: str, line_end: str) -> None:
    """A marker in a value is on the line of the index, for either kind of line end."""
    lines = text.split("\n")
    index = LineIndex(text.replace("\n", line_end)).lines

    for trail, value in walk(tomllib.loads(text)):
        if isinstance(value, str) and (marker := MARKER.search(value)):
            assert marker[0] in lines[index[trail] - 1]


def test_line_of_a_table() -> None:
    """A table has the line of its header, even if the parent's header comes later, or the table is
    an item of a list.
    """
    text = """\
[a.b]
x = 1
[a]
y = 2
[[c]]
[[c.d]]
[[c.d]]
z = [
  1,
  # between
  2,
]
[[c]]
[c.e]
"""
    assert {
        ("a",): 3,
        ("a", "b"): 1,
        ("a", "b", "x"): 2,
        ("a", "y"): 4,
        ("c",): 5,
        ("c", 0): 5,
        ("c", 0, "d"): 6,
        ("c", 0, "d", 0): 6,
        ("c", 0, "d", 1): 7,
        ("c", 0, "d", 1, "z"): 8,
        ("c", 0, "d", 1, "z", 0): 9,
        ("c", 0, "d", 1, "z", 1): 11,
        ("c", 1): 13,
        ("c", 1, "e"): 14,
    } == LineIndex(text).lines


@pytest.mark.parametrize("text", ["", "\n\n", "# only words\n", "\r\n"])
def test_text_without_values(text: str) -> None:
    """Blank lines and comments cause no entries."""
    assert {} == LineIndex(text).lines


# --- The channels of a broken file


WHOLE = """\
env_files = ["keys.env"]
[state]
url = "sqlite:////var/lib/certferry/state.db"
[acme]
email = "ops@example.com"
[[certificates]]
name = "img"
names = ["img.example.com"]
dns = "dnspod"
[notify.ops]
type = "bark"
key = "env:BARK"
on = ["trouble", "renewed"]
[notify.night]
type = "telegram"
key = "k"
chat = "c"
[heartbeat]
url = "env:HEARTBEAT_URL"
[metrics]
file = "certferry.prom"
"""


def salvaged(path: Path, content: str | bytes, mode: int = 0o600) -> Salvaged:
    """Write a file, and salvage the channels."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(mode)
    result = salvage(path, {"HOME": "/"})
    assert result is not None
    return result


@pytest.mark.parametrize(
    "content",
    [
        WHOLE.replace("names", "nams"),
        WHOLE.replace('email = "ops', "email = ops"),
        WHOLE.replace("[acme]", "[acme"),
        WHOLE.replace("[acme]", "[acme]\n[acme]"),
        WHOLE.replace("ops@", "\u8fd0\u7ef4@").encode("gbk"),
    ],
    ids=["a key", "no quote", "no bracket", "a table twice", "not UTF-8"],
)
def test_channels_and_heartbeat_of_a_broken_file(tmp_path: Path, content: str | bytes) -> None:
    """The result has channels, heartbeat and state, and no other settings."""
    result = salvaged(tmp_path / "c.toml", content)

    assert (True, True) == (result.is_trusted, result.has_state)
    assert ["ops", "night"] == list(result.settings.channels)
    assert result.settings.monitoring.heartbeat is not None
    assert Path("/var/lib/certferry/state.db") == result.settings.state.path
    assert (None, ()) == (result.settings.monitoring.metrics, result.settings.certificates)


@pytest.mark.parametrize(
    "state",
    [
        "[state]\nurl = 3",
        '[state]\nurl = "mysql://x"',
        '[state]\nulr = "sqlite:///x"',
        '[state]\nurl = "sqlite:///x',
        '[sate]\nurl = "sqlite:///x"',
        '[state\nurl = "sqlite:///x"',
    ],
)
def test_broken_state_is_left_out(tmp_path: Path, state: str) -> None:
    """The usual state may belong to another file."""
    content = WHOLE.replace('[state]\nurl = "sqlite:////var/lib/certferry/state.db"', state)

    result = salvaged(tmp_path / "c.toml", content)

    assert not result.has_state
    assert not Path(result.settings.state.named).exists()


def test_file_without_a_state_has_the_usual_state(tmp_path: Path) -> None:
    """A complete file has the same default."""
    content = WHOLE.replace('[state]\nurl = "sqlite:////var/lib/certferry/state.db"', "")

    result = salvaged(tmp_path / "c.toml", content.replace("names", "nams"))

    assert result.has_state
    assert "state.db" == Path(result.settings.state.named).name


def test_misspelled_key_beside_broken_toml(tmp_path: Path) -> None:
    """The misspelled table is left out, and the other tables are read."""
    content = WHOLE.replace('email = "', 'email = {"').replace(
        "[heartbeat]\nurl", "[heartbeat]\nulr"
    )

    result = salvaged(tmp_path / "c.toml", content)

    assert ["ops", "night"] == list(result.settings.channels)
    assert result.settings.monitoring.heartbeat is None


def test_incomplete_table_is_left_out(tmp_path: Path) -> None:
    """The tables before the incomplete table are read."""
    result = salvaged(tmp_path / "c.toml", WHOLE[: WHOLE.index('chat = "c"') + len('chat = "')])

    assert ["ops"] == list(result.settings.channels)


def test_state_of_a_file_that_every_user_can_change(tmp_path: Path) -> None:
    """The state is left out, because another user could name any database."""
    result = salvaged(tmp_path / "c.toml", WHOLE, 0o666)

    assert (False, False) == (result.is_trusted, result.has_state)
    assert not Path(result.settings.state.named).exists()


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    """Nothing is salvaged from a directory, a missing file and a FIFO, and the reader waits for no
    writer.
    """
    os.mkfifo(tmp_path / "pipe", 0o666)
    for path in (tmp_path, tmp_path / "gone", tmp_path / "pipe"):
        assert salvage(path, {"HOME": "/"}) is None


@settings(max_examples=examples(400), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, len(WHOLE)), st.integers(0, len(WHOLE)), st.binary(max_size=8))
def test_any_damage_leaves_a_result(tmp_path: Path, begin: int, end: int, instead: bytes) -> None:
    """Any other bytes in any place of the file raise no exception."""
    first, last = sorted((begin, end))
    content = WHOLE[:first].encode() + instead + WHOLE[last:].encode()

    assert salvaged(tmp_path / "c.toml", content).settings.certificates is not None
