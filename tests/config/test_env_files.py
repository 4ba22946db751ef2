"""Environment files: what a shell would set, or an error; never more."""

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

# Pieces of lines that a shell could run without harm, should the reader wrongly let one pass.
HARMLESS = ["a", "=", "#", "!", "é", "'b c'", "' $x `y` '", '"d\\"e"', '"\\\\ \\n \\$x"', " # '"]
RISKY = [" ", "\t", "'", '"', "\\", "$", "$x", "`", ";", "~", "\x0b"]
# Most lines are to be accepted: a refused one compares nothing.
PIECES = st.sampled_from(HARMLESS * 6 + RISKY)


def read(text: str | bytes) -> EnvFile:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.env"
        path.touch(0o600)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return read_env_file(path)


@pytest.mark.timeout(10)
def test_fifo_in_the_place_of_a_file(tmp_path: Path) -> None:
    """A run does not wait for a writer."""
    os.mkfifo(tmp_path / "file.env", 0o600)

    with pytest.raises(ConfigError, match="is not a regular file"):
        read_env_file(tmp_path / "file.env")


@as_root
def test_file_of_another_user(tmp_path: Path) -> None:
    """Root takes no variables from it, such as where programs are looked for."""
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
    (finding,) = read(f"A=1\n# two\n{line}\nB=2\n").mistakes
    assert 3 == finding.line
    return str(finding.message)


def in_single_quotes(value: str) -> str:
    """Quote as `'…'`, with each single quote outside."""
    return "'" + value.replace("'", "'\\''".replace("\\'", '"\'"')) + "'"


def in_double_quotes(value: str) -> str:
    """Quote as `"…"`, with a backslash before what means something there."""
    return '"' + "".join("\\" + c if c in '"\\$`' else c for c in value) + '"'


@given(
    st.dictionaries(NAMES, VALUES, max_size=4),
    st.sampled_from([in_single_quotes, in_double_quotes]),
    st.sampled_from(["", "export ", "  export\t"]),
    st.sampled_from(["", "  # a comment, with 'quotes'"]),
    st.sampled_from(["\n", "\r\n", "\n\n# between\n"]),
    st.sampled_from(["", "\ufeff"]),
)
def test_what_is_quoted_is_read_back(
    values: dict[str, str], quote: object, export: str, comment: str, end: str, mark: str
) -> None:
    """Any value, quoted either way, comes back as it was, however the line is dressed."""
    assert callable(quote)
    lines = [f"{export}{name}={quote(value)}{comment}{end}" for name, value in values.items()]

    file = read(mark + "".join(lines))

    assert () == file.mistakes
    assert values == file.values


@given(st.lists(PIECES, max_size=6).map("".join))
def test_a_line_means_what_it_means_to_a_shell(written: str) -> None:
    """Whatever is accepted has the value that the shell gives it."""
    file = read(f"V={written}\n")
    event("refused" if file.mistakes else "accepted")
    if file.mistakes:
        return

    shell = subprocess.run(
        ["sh", "-c", f'V={written}\nprintf %s "$V"'],
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
def test_values_are_plain_or_quoted(line: str, value: str) -> None:
    """Quotes go, what they protect stays, pieces are put together."""
    assert {"V": value} == read(line).values


@pytest.mark.parametrize(
    ("line", "said"),
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
def test_what_a_shell_would_carry_out_is_an_error(line: str, said: str) -> None:
    """Nothing is executed, replaced or guessed; the line is named."""
    assert problem(line).startswith(said)


@pytest.mark.parametrize("line", ["V=$(cat k)", "V=`cat k`", 'V="$(cat k)"'])
def test_command_is_not_to_be_quoted(line: str) -> None:
    """In single quotes its own words would be the key; what gives a key by a command is named."""
    said = problem(line)

    assert "write the value itself" in said
    assert "command:…" in said


def test_the_other_lines_are_still_read() -> None:
    """One bad line hides no other, and each is reported."""
    file = read("A=1\nB=$x\nC=2\nD=`y`\n")

    assert {"A": "1", "C": "2"} == file.values
    assert [(2, "B"), (4, "D")] == [(finding.line, finding.key) for finding in file.mistakes]


def test_the_last_assignment_counts() -> None:
    """Within a file it is as in a shell."""
    assert {"A": "2"} == read("A=1\nA=2\n").values


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"A=\xff\n", "is not UTF-8 text"),
        (b"A=a\0b\n", "is not text: the file contains a null byte"),
    ],
)
def test_what_is_not_text_is_refused(content: bytes, said: str) -> None:
    """Bytes that no environment could hold are told before they do harm."""
    with pytest.raises(ConfigError, match=said):
        read(content)


def test_the_environment_goes_before_the_files() -> None:
    """Files add what is missing or empty; of several, the first one counts."""
    first = EnvFile(Path("1"), {"SET": "file", "EMPTY": "file", "NEW": "first", "VOID": ""}, ())
    second = EnvFile(Path("2"), {"NEW": "second", "VOID": "second"}, ())

    filled = fill_in({"SET": "real", "EMPTY": ""}, [first, second])

    assert {"SET": "real", "EMPTY": "file", "NEW": "first", "VOID": "second"} == filled


def test_references_lead_into_the_files(loaded: Load, folder: Path) -> None:
    """A variable of an environment file is as good as one of the environment."""
    (folder / "cdn.env").write_text("export EAB='hmac-key'\n")
    (folder / "cdn.env").chmod(0o600)

    settings = loaded(
        'env_files = ["cdn.env"]\n[acme]\neab_kid = "kid"\neab_hmac_key = "env:EAB"\n'
    )

    assert settings.acme.usual.eab_hmac_key is not None
    assert Secret("hmac-key") == settings.secrets.resolve(settings.acme.usual.eab_hmac_key)


def test_a_wrong_file_is_reported_with_the_line_that_names_it(
    refusal: Refusal, folder: Path
) -> None:
    """Missing, open to others, or no file: the list's item is named."""
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


def test_a_wrong_line_is_reported_with_its_own_file(refusal: Refusal, folder: Path) -> None:
    """The file, the line and the variable are named, and not what it is set to."""
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
def test_the_hint_is_about_environment_files_where_they_are_wrong(
    loaded: Load, folder: Path, also: str
) -> None:
    """As `--env-file` has it; the settings' own reference is named where those are wrong, too."""
    (folder / "cdn.env").write_text("QINIU_SK=$(cat k)\n")
    (folder / "cdn.env").chmod(0o600)

    with pytest.raises(ConfigError) as caught:
        loaded(f'env_files = ["cdn.env"]\n{also}')

    expected = f"{ASSIGNMENTS_ONLY}; {REFERENCE}" if also else str(ASSIGNMENTS_ONLY)
    assert expected == str(caught.value.hint)


def test_what_cannot_be_read_has_a_hint(tmp_path: Path) -> None:
    """Not there, a pipe, a directory: what to name; of another encoding: what to do."""
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
