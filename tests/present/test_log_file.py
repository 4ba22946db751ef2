"""Where lines go when others move the log, and when it is no file."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from certferry.cli.exits import Exit
from certferry.cli.main import run
from certferry.errors import ConfigError
from certferry.present.language import voice_in
from certferry.present.run_log import LogFile, RunLog
from tests.another_user import given_away
from tests.cli.consoles import TestConsole
from tests.support.tiers import examples

LONGEST = 30  # seconds


def test_a_new_log_may_be_read_by_its_group(tmp_path: Path) -> None:
    """Whatever the mask of the process is; one that is there keeps its mode."""
    log = tmp_path / "log"
    umask = os.umask(0o077)
    try:
        LogFile(log).add("one")
        made = log.stat().st_mode & 0o777
        log.chmod(0o664)
        LogFile(log).add("two")
    finally:
        os.umask(umask)

    assert (0o640, 0o664) == (made, log.stat().st_mode & 0o777)
    assert "one\ntwo\n" == log.read_text()


WRITER = """
import sys
from pathlib import Path
from certferry.present.run_log import LogFile
log = LogFile(Path(sys.argv[1]))
for number in range(int(sys.argv[2])):
    log.add(str(number))
"""
LINES = examples(8000)


def test_a_log_that_is_moved_all_the_time(tmp_path: Path) -> None:
    """No line is lost, wherever between two lines another program, such as logrotate, moves it."""
    log, moved = tmp_path / "log", 0
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(log), str(LINES)]) for _ in range(2)
    ]
    while any(writer.poll() is None for writer in writers):
        # It is there for some lines, so that it is found, and then is gone before it is opened.
        if log.exists() and log.stat().st_size > 50:
            log.rename(tmp_path / f"moved.{moved}")
            moved += 1

    lines = [line for path in tmp_path.iterdir() for line in path.read_text().split()]
    assert [0, 0] == [writer.returncode for writer in writers]
    assert moved > 1
    assert sorted(2 * [str(number) for number in range(LINES)]) == sorted(lines)


def certferry(*options: str, stdout: int | None = None) -> subprocess.Popen[bytes]:
    """Begin a command that has data for stdout."""
    words = [sys.executable, "-m", "certferry", *options, "completion", "bash"]
    return subprocess.Popen(words, stdout=stdout or subprocess.PIPE, stderr=subprocess.PIPE)


def is_whole(log: str) -> bool:
    """Tell whether the log of a run is there."""
    return ": completion begins\n" in log and "] ended with exit code 0\n" in log


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_the_log_of_a_container(stream: str) -> None:
    """What its engine collects is a pipe: lines are written to it, among others."""
    with certferry("--log-file", f"/dev/{stream}") as process:
        out, err = process.communicate(timeout=LONGEST)

    assert Exit.OK == process.returncode, err
    assert is_whole((out if stream == "stdout" else err).decode())
    assert b"complete -o nosort" in out


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "link"])
def test_a_log_on_a_stdout_that_leads_to_a_file(tmp_path: Path, name: str) -> None:
    """The data and the log share it, and neither writes over the other."""
    target, link = tmp_path / "out", tmp_path / "link"
    link.symlink_to("/dev/stdout")
    target.write_bytes(b"x" * 100 + b"\n")
    log = str(tmp_path / name)  # a name from the root stays what it is
    with target.open("r+b") as out:
        out.seek(0, os.SEEK_END)
        with certferry("--log-file", log, stdout=out.fileno()) as process:
            process.communicate(timeout=LONGEST)
    with certferry() as alone:
        data, _ = alone.communicate(timeout=LONGEST)

    written = target.read_text()
    assert is_whole(written)
    assert data.decode() in written
    assert {target, link} == set(tmp_path.iterdir())


def test_a_log_on_a_stdout_that_is_a_socket() -> None:
    """It cannot be opened once more by its name; it need not be."""
    ours, theirs = socket.socketpair()
    with ours, ours.makefile("rb") as reader:
        with theirs, certferry("--log-file", "/dev/stdout", stdout=theirs.fileno()) as process:
            process.communicate(timeout=LONGEST)
        theirs.close()
        assert is_whole(reader.read().decode())


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    """A named pipe."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


def test_a_log_that_another_program_reads(fifo: Path) -> None:
    """A reader that takes its time gets all lines of a run, and one end, after the last of them."""
    lines = [f"{number} " + "x" * 1000 for number in range(200)]  # more than a pipe holds
    read: list[str] = []
    log = LogFile(fifo)
    with os.fdopen(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)) as reader:
        log.try_out()
        os.set_blocking(reader.fileno(), True)
        thread = threading.Thread(target=lambda: read.extend(reader.readline() for _ in lines))
        thread.start()
        for line in lines:
            log.add(line)
        thread.join(LONGEST)

    assert [f"{line}\n" for line in lines] == read
    assert stat.S_ISFIFO(fifo.stat().st_mode)


def test_a_fifo_without_a_reader_is_told_of(fifo: Path) -> None:
    """Before any work, and at once."""
    with pytest.raises(ConfigError, match="cannot be written: No such device or address"):
        RunLog(voice_in("en")).open(fifo)


def test_a_device_is_only_written_to() -> None:
    """There is nothing to move, and nothing beside it."""
    console = TestConsole()

    assert Exit.OK == run(["--log-file", os.devnull, "completion", "bash"], console.console)
    assert "" == console.err


@pytest.mark.parametrize("mode", [0o777, 0o1777])
@pytest.mark.parametrize("there", [True, False])
def test_link_in_a_directory_that_others_can_write(
    tmp_path: Path, mode: int, *, there: bool
) -> None:
    """Nothing is written to what it leads to, and nothing is made there."""
    precious = tmp_path / "precious"
    if there:
        precious.write_text("root's\n")
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "log").symlink_to("../precious")
    if os.geteuid() == 0:
        given_away(logs / "log")
    elif mode == 0o1777:
        pytest.skip("a link of one's own is followed, and another user's is not to be had")
    logs.chmod(mode)

    with pytest.raises(ConfigError, match="the log is not written"):
        LogFile(logs / "log").try_out()

    with pytest.raises(PermissionError):
        LogFile(logs / "log").add("one")
    assert there == precious.exists()
    assert not there or "root's\n" == precious.read_text()


def test_directory_behind_a_link_of_others(tmp_path: Path) -> None:
    """The same for a directory on the way."""
    (tmp_path / "precious").mkdir()
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "mine").symlink_to("../precious")
    logs.chmod(0o777)

    with pytest.raises(ConfigError) as caught:
        LogFile(logs / "mine" / "log").try_out()

    assert (
        f"the log is not written: {logs}/mine is a symbolic link that every user can change"
    ) == str(caught.value.message)
    assert "name the file or directory that it leads to" == str(caught.value.hint)
    assert [] == list((tmp_path / "precious").iterdir())


@pytest.mark.timeout(20)
@pytest.mark.parametrize("what", ["hard link", "fifo"])
def test_what_others_can_put_in_a_logs_place(tmp_path: Path, what: str) -> None:
    """No other file gets the lines, and no pipe stops the run."""
    precious = tmp_path / "precious"
    precious.write_text("root's\n")
    logs = tmp_path / "logs"
    logs.mkdir()
    if what == "fifo":
        os.mkfifo(logs / "log")
        reader = os.open(logs / "log", os.O_RDONLY | os.O_NONBLOCK)
    else:
        os.link(precious, logs / "log")
        reader = os.open(precious, os.O_RDONLY)
    logs.chmod(0o1777)

    with pytest.raises(ConfigError, match="is no regular file with one name"):
        LogFile(logs / "log").try_out()

    os.close(reader)
    assert "root's\n" == precious.read_text()


def test_log_in_a_directory_that_others_can_write(tmp_path: Path) -> None:
    """A file of its own is written, as in Ubuntu's `/var/log`, which is its logger's group's, and
    below it; a link in a directory of the caller's is followed.
    """
    inner = tmp_path / "logs" / "certferry"
    inner.mkdir(parents=True)
    (tmp_path / "logs").chmod(0o777)
    (tmp_path / "link").symlink_to("logs/certferry/log")

    for path in (tmp_path / "logs" / "log", inner / "log", tmp_path / "link"):
        LogFile(path).try_out()
        LogFile(path).add("one")

    assert "one\n" == (tmp_path / "logs" / "log").read_text()
    assert "one\none\n" == (inner / "log").read_text()
