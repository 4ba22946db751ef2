"""Reading the file: whatever lies at the path, one clear sentence and no waiting."""

from __future__ import annotations

import os
import socket
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


def test_no_such_file(folder: Path) -> None:
    """A file that is named must be there."""
    assert "certferry.toml: cannot be read: No such file or directory" == complaint()


def test_a_loop_of_links(folder: Path) -> None:
    """Whatever the system says about the file is passed on."""
    FILE.symlink_to(FILE)

    assert "certferry.toml: cannot be read: Too many levels of symbolic links" == complaint()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_of_another_user(folder: Path) -> None:
    """A file without permission to read is told as such."""
    FILE.touch(0o000)

    assert "certferry.toml: cannot be read: Permission denied" == complaint()


def test_a_directory(folder: Path) -> None:
    """A directory is no configuration."""
    FILE.mkdir()

    assert "certferry.toml: is a directory, not a file" == complaint()


def test_a_pipe_is_not_waited_for(folder: Path) -> None:
    """A FIFO without a writer does not delay the run."""
    os.mkfifo(FILE)

    assert "certferry.toml: is not a regular file" == complaint()


def test_a_device_is_not_read() -> None:
    """A device that never ends does not hold the run either."""
    assert "/dev/zero: is not a regular file" == complaint(Path("/dev/zero"))


def test_a_file_that_opens_but_cannot_be_read() -> None:
    """A failing disk is told like a missing file; this file fails at its first byte."""
    assert "/proc/self/mem: cannot be read: Input/output error" == complaint(Path("/proc/self/mem"))


def test_a_socket(folder: Path) -> None:
    """A socket cannot even be opened."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(FILE))

        assert "certferry.toml: cannot be read: No such device or address" == complaint()


def test_bytes_that_are_not_text(folder: Path) -> None:
    """The line is named where the text ends to be text."""
    FILE.write_bytes(b"# one\n# two\nx = '\xff'\n")

    assert "certferry.toml:3: is not UTF-8 text" == complaint()


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
