"""Environment files: assignments have the values of a shell, and any other line is an error."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from certferry.config.env_files import ASSIGNMENTS_ONLY, EnvFile, fill_in, read_env_file
from certferry.config.mistakes import REFERENCE
from certferry.core.redaction import Secret
from certferry.errors import ConfigError
from tests.another_user import as_root, given_away
from tests.config.conftest import Load, Refusal

VALUES = st.text(st.characters(codec="utf-8", exclude_characters="\0\n"), max_size=20)
COMMAND = "a shell would run a command here"
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)

# Parts of lines that a shell could run without harm if the reader accepted a part wrongly.
HARMLESS = ["a", "=", "#", "!", "é", "'b c'", "' $x `y` '", '"d\\"e"', '"\\\\ \\n \\$x"', " # '"]
RISKY = [" ", "\t", "'", '"', "\\", "$", "$x", "`", ";", "~", "\x0b"]
# Harmless parts are frequent, because only accepted lines are compared with the shell.
PIECES = st.sampled_from(HARMLESS * 6 + RISKY)


def env_file_of(text: str | bytes) -> EnvFile:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.env"
        path.touch(0o600)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return read_env_file(path)


@pytest.mark.timeout(10)
def test_fifo_in_the_place_of_a_file(tmp_path: Path) -> None:
    """The reader does not wait for a writer."""
    os.mkfifo(tmp_path / "file.env", 0o600)

    with pytest.raises(ConfigError, match="is not a regular file"):
        read_env_file(tmp_path / "file.env")


@as_root
def test_file_of_another_user(tmp_path: Path) -> None:
    """Root takes no variables from the file, such as a PATH."""
    path = tmp_path / "file.env"
    path.touch(0o600)
    given_away(path)

    with pytest.raises(ConfigError) as caught:
        read_env_file(path)

    assert (
        f"{path} belongs to nobody, who can change it;"
        f" run certferry as the owner: sudo -u nobody certferry …; or run: chown -h root {path}"
    ) == str(caught.value.message)


def problem(line: str) -> str:
    (finding,) = env_file_of(f"A=1\n# two\n{line}\nB=2\n").mistakes
    assert 3 == finding.line
    return str(finding.message)


def in_single_quotes(value: str) -> str:
    """Quote as `'…'`, with single quotes outside the quotes."""
    return "'" + value.replace("'", "'\\''".replace("\\'", '"\'"')) + "'"


def in_double_quotes(value: str) -> str:
    """Quote as `"…"`, with a backslash before special characters."""
    return '"' + "".join("\\" + c if c in '"\\$`' else c for c in value) + '"'


@given(
    st.dictionaries(NAMES, VALUES, max_size=4),
    st.sampled_from([in_single_quotes, in_double_quotes]),
    st.sampled_from(["", "export ", "  export\t"]),
    st.sampled_from(["", "  # a comment, with 'quotes'"]),
    st.sampled_from(["\n", "\r\n", "\n\n# between\n"]),
    st.sampled_from(["", "\ufeff"]),
)
def test_quoted_value_is_read_back(
    values: dict[str, str], quote: object, export: str, comment: str, end: str, mark: str
) -> None:
    """A value comes back unchanged in either kind of quotes, with and without `export`, comments
    and a byte order mark.
    """
    assert callable(quote)
    lines = [f"{export}{name}={quote(value)}{comment}{end}" for name, value in values.items()]

    file = env_file_of(mark + "".join(lines))

    assert () == file.mistakes
    assert values == file.values


@given(st.lists(PIECES, max_size=6).map("".join))
def test_line_has_the_meaning_of_a_shell(value: str) -> None:
    """An accepted line has the value that the shell assigns."""
    file = env_file_of(f"V={value}\n")
    event("refused" if file.mistakes else "accepted")
    if file.mistakes:
        return

    shell = subprocess.run(
        ["sh", "-c", f'V={value}\nprintf %s "$V"'],
        env={"LC_ALL": "C.UTF-8"},
        capture_output=True,
        check=True,
    )

    assert (shell.stdout.decode(), b"") == (file.values["V"], shell.stderr)


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("V=plain", "plain"),
        ("V=", ""),
        ("V= # nothing", ""),
        ("V=a#b", "a#b"),
        ("V=a=b==", "a=b=="),
        ("V='a b'\"c d\"e", "a bc de"),
        (r'V="a\nb"', r"a\nb"),
        (r"V='a\b$c`'", r"a\b$c`"),
        ("export V=x", "x"),
        ("V=中文", "中文"),
    ],
)
def test_plain_and_quoted_values(line: str, value: str) -> None:
    """Quotes are removed, quoted characters stay, and adjacent parts are joined."""
    assert {"V": value} == env_file_of(line).values


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("V=$(cat /etc/passwd)", f"{COMMAND}; "),
        ("V=${HOME}/x", "a shell would replace `$`; "),
        ('V="x$HOME"', "a shell would replace `$`; "),
        ("V=`id`", f"{COMMAND}; "),
        ('V="`id`"', f"{COMMAND}; "),
        ('V="x y $(id)"', f"{COMMAND}; "),
        ("V=x$(id)", f"{COMMAND}; "),
        ('V="\\$(x) $y"', "a shell would replace `$`; "),
        ("V='open", "a quote is not closed on the same line"),
        ('V="open', "a quote is not closed on the same line"),
        ('V="open\\"', "a quote is not closed on the same line"),
        ("V=a b", "more text follows after a space; "),
        ("V= a", "more text follows after a space; "),
        ("V=a; rm -rf x", "; outside quotes; "),
        ("V=a&b", "& outside quotes; "),
        ("V=~/x", "~ outside quotes; "),
        ("V=a\\b", "\\ outside quotes; "),
        ("V = a", "is not KEY=value (no spaces around the equals sign)"),
        ("export V", "is not KEY=value "),
        ("set -a", "is not KEY=value "),
        ("1V=a", "is not KEY=value "),
        ("MY-V=a", "is not KEY=value "),
    ],
)
def test_expansion_of_a_shell_is_an_error(line: str, expected: str) -> None:
    """Nothing is executed, replaced or guessed, and the message has the line."""
    assert problem(line).startswith(expected)


@pytest.mark.parametrize("line", ["V=$(cat k)", "V=`cat k`", 'V="$(cat k)"'])
def test_command_in_a_value_has_its_own_advice(line: str) -> None:
    """The message advises to write the value or a reference `command:…`, since quotes would make
    the command's text the key.
    """
    message = problem(line)

    assert "write the value itself" in message
    assert "command:…" in message


def test_other_lines_are_read() -> None:
    """Every wrong line is reported, and every other line is read."""
    file = env_file_of("A=1\nB=$x\nC=2\nD=`y`\n")

    assert {"A": "1", "C": "2"} == file.values
    assert [(2, "B"), (4, "D")] == [(finding.line, finding.key) for finding in file.mistakes]


def test_last_assignment_counts() -> None:
    """As in a shell, a later assignment replaces an earlier assignment."""
    assert {"A": "2"} == env_file_of("A=1\nA=2\n").values


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"A=\xff\n", "is not UTF-8 text"),
        (b"A=a\0b\n", "is not text: the file contains a null byte"),
    ],
)
def test_file_that_is_no_text_is_refused(content: bytes, expected: str) -> None:
    """Bytes outside UTF-8 and null bytes are reported on reading the file."""
    with pytest.raises(ConfigError, match=expected):
        env_file_of(content)


def test_environment_takes_precedence_over_files() -> None:
    """Files add missing and empty variables; the first of several files takes precedence."""
    first = EnvFile(Path("1"), {"SET": "file", "EMPTY": "file", "NEW": "first", "VOID": ""}, ())
    second = EnvFile(Path("2"), {"NEW": "second", "VOID": "second"}, ())

    filled = fill_in({"SET": "real", "EMPTY": ""}, [first, second])

    assert {"SET": "real", "EMPTY": "file", "NEW": "first", "VOID": "second"} == filled


def test_references_to_variables_of_files(loaded: Load, folder: Path) -> None:
    """A reference finds a variable of an environment file as well as a variable of the
    environment.
    """
    (folder / "cdn.env").write_text("export EAB='hmac-key'\n")
    (folder / "cdn.env").chmod(0o600)

    settings = loaded(
        'env_files = ["cdn.env"]\n[acme]\neab_kid = "kid"\neab_hmac_key = "env:EAB"\n'
    )

    assert settings.acme.usual.eab_hmac_key is not None
    assert Secret("hmac-key") == settings.secrets.resolve(settings.acme.usual.eab_hmac_key)


def test_wrong_environment_file_is_reported(refusal: Refusal, folder: Path) -> None:
    """A missing file, a file open to other users, and a FIFO are reported at their lines in the
    list.
    """
    (folder / "open.env").write_text("A=HUNTER2\n")
    (folder / "open.env").chmod(0o640)
    os.mkfifo(folder / "pipe.env", 0o600)

    assert [
        (
            f"certferry.toml:2: env_files: {folder}/missing.env cannot be read: No such file or"
            " directory; set `env_files` to a file with KEY=value lines, of mode 0600"
        ),
        (
            f"certferry.toml:3: env_files: {folder}/open.env is open to other users (mode 0640);"
            f" run: chmod 600 {folder}/open.env"
        ),
        (
            f"certferry.toml:4: env_files: {folder}/pipe.env is not a regular file; set"
            " `env_files` to a file with KEY=value lines, of mode 0600"
        ),
    ] == refusal('env_files = [\n"missing.env",\n"open.env",\n"pipe.env",\n]')


def test_wrong_line_of_an_environment_file_is_reported(refusal: Refusal, folder: Path) -> None:
    """The message has the file, the line and the variable, without the value."""
    (folder / "cdn.env").write_text("A=1\nQINIU_SK=HUNTER2$x\nHUNTER2 x\n")
    (folder / "cdn.env").chmod(0o600)

    assert [
        "certferry.toml:2: [acme] email: must be a string, but is a number",
        (
            f"{folder}/cdn.env:2: QINIU_SK: a shell would replace `$`; write the value itself in"
            " single quotes"
        ),
        f"{folder}/cdn.env:3: is not KEY=value (no spaces around the equals sign)",
    ] == refusal('env_files = ["cdn.env"]\nacme.email = 1')


@pytest.mark.parametrize("also", ["", "acme.email = 1\n"])
def test_hint_about_environment_files(loaded: Load, folder: Path, also: str) -> None:
    """The hint is the same as for `--env-file`; if settings are wrong too, the hint also has the
    reference of the settings.
    """
    (folder / "cdn.env").write_text("QINIU_SK=$(cat k)\n")
    (folder / "cdn.env").chmod(0o600)

    with pytest.raises(ConfigError) as caught:
        loaded(f'env_files = ["cdn.env"]\n{also}')

    expected = f"{ASSIGNMENTS_ONLY}; {REFERENCE}" if also else str(ASSIGNMENTS_ONLY)
    assert expected == str(caught.value.hint)


def test_hints_for_unreadable_environment_files(tmp_path: Path) -> None:
    """For a missing file, a FIFO and a directory the hint is about the setting; for another
    encoding the hint has the command to convert the file.
    """
    os.mkfifo(tmp_path / "pipe", 0o600)
    latin = tmp_path / "latin"
    latin.touch(0o600)
    latin.write_bytes(b"A=\xff\n")

    for path in (tmp_path / "missing", tmp_path / "pipe", tmp_path):
        with pytest.raises(ConfigError) as caught:
            read_env_file(path)
        assert "set `env_files` to a file with KEY=value lines, of mode 0600" == str(
            caught.value.hint
        )
    with pytest.raises(ConfigError) as caught:
        read_env_file(latin)
    command = f"iconv -f gbk -t utf-8 {latin} > {latin}.utf8"
    assert f"save the file as UTF-8; if the encoding is GBK: {command}" == str(caught.value.hint)
