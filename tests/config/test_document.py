"""Reading the file: whatever lies at the path, one clear sentence and no waiting."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from certferry.config.document import read_document
from certferry.config.load import load
from certferry.errors import ConfigError
from tests.config.conftest import FILE, Refusal


def complaint(path: Path = FILE) -> str:
    """Give the message of a file that cannot be read."""
    with pytest.raises(ConfigError) as caught:
        load(path, os.environ)
    return str(caught.value.message)


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: None, ": cannot be read: No such file or directory"),
        (lambda: FILE.symlink_to(FILE), ": cannot be read: Too many levels of symbolic links"),
        (FILE.mkdir, ": is a directory, not a file"),
        (lambda: os.mkfifo(FILE), ": is not a regular file"),
        (lambda: FILE.write_bytes(b"# one\n# two\nx = '\xff'\n"), ":3: is not UTF-8 text"),
    ],
)
def test_what_is_no_configuration(folder: Path, make: Callable[[], object], problem: str) -> None:
    """Told as the system says it, or with the line; a pipe without a writer delays no run."""
    make()

    assert f"certferry.toml{problem}" == complaint()


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("/dev/zero", "is not a regular file"),
        ("/proc/self/mem", "cannot be read: Input/output error"),
    ],
)
def test_a_file_that_never_ends_or_fails(path: str, problem: str) -> None:
    """Neither holds the run; the second opens, and fails at its first byte, as a disk may."""
    assert f"{path}: {problem}" == complaint(Path(path))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_of_another_user(folder: Path) -> None:
    """A file without permission to read is told as such."""
    FILE.touch(0o000)

    assert "certferry.toml: cannot be read: Permission denied" == complaint()


def test_a_socket(folder: Path) -> None:
    """A socket cannot even be opened."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(FILE))

        assert "certferry.toml: cannot be read: No such device or address" == complaint()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[acme\n", ":1: is not TOML at column 6: "),
        ("a = 1\nb = \n", ":2: is not TOML at column 5: Invalid value; strings need quotes"),
        ("a = 1\nb = word\n", ":2: is not TOML at column 5: Invalid value; strings need quotes"),
        ("a = 1\na = 2\n", ":2: is not TOML at column 6: "),
        ("a = 1\nb = [1,", ":2: is not TOML: "),
        ("a = 1\n\nb = 'x\n", ":3: is not TOML"),
        (f"a = {'9' * 5000}", ":1: is not TOML: "),
        ("a = 2026-13-45", ":1: is not TOML at column "),
        (f"a = {'[' * 5000}", ": is nested too deeply"),
    ],
    ids=lambda value: value[:12],
)
def test_what_is_not_toml_is_told_with_line_and_column(
    refusal: Refusal, text: str, message: str
) -> None:
    """The operator is led to the character."""
    (line,) = refusal(text)

    assert line.startswith(f"certferry.toml{message}")


def test_a_broken_line_is_not_quoted(refusal: Refusal) -> None:
    """The line that cannot be read may hold a secret."""
    (line,) = refusal('[accounts.qiniu]\nsecret_key = HUNTER2-"x"\n')

    assert "HUNTER2" not in line


def test_a_byte_order_mark_and_windows_line_ends_are_understood(folder: Path) -> None:
    """A file from any editor is read, and its lines are counted alike."""
    FILE.write_bytes('\ufeff[acme]\r\nemail = "a@example.com"\r\n'.encode())

    document = read_document(FILE)

    assert {"acme": {"email": "a@example.com"}} == document.values
    assert 2 == document.line(("acme", "email"))


def test_what_is_not_written_is_told_at_what_is_around_it(folder: Path) -> None:
    """A missing key has the line of its table; nothing at all has none."""
    FILE.write_text("\n[acme]\n")
    document = read_document(FILE)

    assert 2 == document.line(("acme", "email"))
    assert document.line(("dns", "port")) is None
