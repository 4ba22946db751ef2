"""Where lines go when the log is full, when others move it, and when it is no file."""

from __future__ import annotations

import fcntl
import os
import re
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from certferry.cli.exits import Exit
from certferry.cli.journal import Format, Journal
from certferry.cli.language import voice_in
from certferry.cli.log_file import MOST_BYTES, OLD_FILES, LogFile, log_at
from certferry.cli.main import run
from certferry.errors import ConfigError
from certferry.text import Text
from tests.cli.desks import TestDesk

LONGEST = 30  # seconds
HINT = Text("give the log a directory of its own that {user} may write to")


@pytest.fixture
def roots_directory() -> Iterator[Path]:
    """A directory that everybody may look into, and only its owner may write."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


# What the command imports on its way is imported before it becomes somebody else.
SOMEBODY = """
import getpass, os, sys
from certferry.cli.desk import standard_desk
from certferry.cli.main import run
desk = standard_desk({})
run(["completion", "bash"], desk)
os.setgid(54321)
os.setuid(54321)
sys.exit(run(["-q", "--log-file", sys.argv[1], "completion", "bash"], desk))
"""


def as_somebody(program: str, log: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a program that becomes somebody else."""
    # Somebody else may not write what coverage has counted, and would say so.
    environ = {n: v for n, v in os.environ.items() if not n.startswith("COVERAGE")}
    return subprocess.run(
        [sys.executable, "-c", program, str(log), *words],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
@pytest.mark.parametrize("size", [MOST_BYTES - 10, MOST_BYTES + 10])
def test_a_full_log_in_a_directory_of_roots_goes_on(roots_directory: Path, size: int) -> None:
    """A user's file in /var/log cannot be moved: every line is added to it, full before or in the
    run; the log and stderr tell once, and what to do. The work is done.
    """
    log = roots_directory / "log"
    log.write_bytes(b"x" * (size - 1) + b"\n")
    os.chown(log, 54321, 54321)

    done = as_somebody(SOMEBODY, log)

    problem = f"the log {log} is full and cannot be moved away, so it goes on growing"
    hint = "give the log a directory of its own that 54321 may write to"
    assert Exit.OK == done.returncode, done.stderr
    assert f"warning: {problem}: Permission denied\nhint: {hint}\n" == done.stderr
    _, begins, warning, ends = log.read_text().splitlines()
    assert begins.endswith(": completion begins")
    assert warning.endswith(f"] warning: {problem}: Permission denied (hint: {hint})")
    assert ends.endswith("] ended with exit code 0")
    assert [log] == list(roots_directory.iterdir())


def whose(path: Path) -> tuple[int, int, int]:
    """Give owner, group and mode."""
    found = path.stat()
    return found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_a_users_log_that_root_moves_away(roots_directory: Path) -> None:
    """Root runs something once, by chance when the log is full: the new one is the user's as the
    old one was, and the user's daily run goes on.
    """
    log = roots_directory / "log"
    log.write_bytes(b"x" * MOST_BYTES + b"\n")
    log.chmod(0o600)
    for path in (roots_directory, log):
        os.chown(path, 54321, 54323)
    LogFile(log).add("root's")

    done = as_somebody(SOMEBODY, log)

    assert Exit.OK == done.returncode, done.stderr
    first, begins, _ = log.read_text().splitlines()
    assert "root's" == first
    assert begins.endswith(": completion begins")
    assert [(54321, 54323, 0o600)] * 2 == [whose(log), whose(roots_directory / "log.1")]


MEMBER = """
import os, sys
from pathlib import Path
from certferry.cli.log_file import LogFile
log = LogFile(Path(sys.argv[1]), most_bytes=4)
os.setgroups([int(group) for group in sys.argv[2:]])
os.setgid(54322)
os.setuid(54322)
log.add("theirs")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
@pytest.mark.parametrize(
    ("groups", "expected"),
    [(["54323"], (54322, 54323, 0o662)), ([], (54322, 54322, 0o602))],
)
def test_a_log_that_another_user_moves_away(
    roots_directory: Path, groups: list[str], expected: tuple[int, int, int]
) -> None:
    """What the system allows is kept: who shares a group goes on sharing the log; what the group
    might do, the mover's own may not.
    """
    log = roots_directory / "log"
    log.write_text("full\n")
    os.chown(log, 54321, 54323)
    log.chmod(0o662)
    roots_directory.chmod(0o777)

    done = as_somebody(MEMBER, log, *groups)

    assert 0 == done.returncode, done.stderr
    assert ("full\n", "theirs\n") == (log.with_name("log.1").read_text(), log.read_text())
    assert expected == whose(log)


def test_a_new_log_has_the_mode_of_the_one_before(tmp_path: Path) -> None:
    """Whatever the mask of the process is; where there is none before it, its group may read."""
    log = tmp_path / "log"
    umask = os.umask(0o077)
    try:
        LogFile(log).add("one")
        made = whose(log)
        log.chmod(0o664)
        LogFile(log, most_bytes=4).add("two")
    finally:
        os.umask(umask)

    assert ("one\n", "two\n") == ((tmp_path / "log.1").read_text(), log.read_text())
    assert (os.geteuid(), os.getegid(), 0o640) == made
    assert (os.geteuid(), os.getegid(), 0o664) == whose(log)


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("format_", Format)
def test_what_is_not_ours_is_not_moved(tmp_path: Path, language: str, format_: Format) -> None:
    """A directory where the old file would go stays; the log goes on, and tells why once."""
    log, foreign = tmp_path / "log", tmp_path / "log.1" / "something"
    log.write_bytes(b"x" * MOST_BYTES + b"\n")
    foreign.parent.mkdir()
    foreign.touch()
    journal = Journal(voice_in(language))

    journal.open(log, format_)
    for code in range(3):
        journal.end(code)

    _, *lines = log.read_text().splitlines()
    assert foreign.exists()
    assert 4 == len(lines)
    assert journal.trouble is not None
    assert [str(foreign.parent) in line for line in lines] == [False, True, False, False]
    said = voice_in(language).say(HINT).partition("{user}")[0]
    assert [said in line for line in lines] == [False, True, False, False]
    assert (format_ is Format.JSON) is ('"event": "log.full"' in lines[1])


def test_files_of_another_program_are_not_replaced(tmp_path: Path) -> None:
    """Who keeps more old files than certferry, as logrotate may, would lose one of them."""
    for number in range(1, OLD_FILES + 2):
        (tmp_path / f"log.{number}").write_text(f"{number}")
    log = LogFile(tmp_path / "log", most_bytes=10)
    for number in range(5):
        log.add(f"{number:04}")

    assert log.full is not None
    assert str(tmp_path / f"log.{OLD_FILES + 1}") in str(log.full.what)
    assert [f"{number:04}" for number in range(5)] == (tmp_path / "log").read_text().split()
    for number in range(1, OLD_FILES + 2):
        assert f"{number}" == (tmp_path / f"log.{number}").read_text()


@pytest.mark.parametrize("there", [{1}, {OLD_FILES}, {1, 3, 4}, set(range(1, OLD_FILES))])
def test_nothing_is_replaced_while_there_is_room(tmp_path: Path, there: set[int]) -> None:
    """Old files move up to the first gap, in their order."""
    for number in there:
        (tmp_path / f"log.{number}").write_text(f"{number}")
    log = LogFile(tmp_path / "log", most_bytes=4)
    log.add("one")
    log.add("two")

    numbers = [n for n in range(1, OLD_FILES + 1) if (tmp_path / f"log.{n}").exists()]
    kept = [(tmp_path / f"log.{number}").read_text() for number in numbers]
    assert ["one\n", *(str(number) for number in sorted(there))] == kept
    assert log.full is None


WRITER = """
import sys
from pathlib import Path
from certferry.cli.log_file import LogFile
log = LogFile(Path(sys.argv[1]))
for number in range(8000):
    log.add(str(number))
"""


def test_a_log_that_is_moved_all_the_time(tmp_path: Path) -> None:
    """No line is lost, wherever between two lines, or within one, another program moves it."""
    log, moved = tmp_path / "log", 0
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(log)]) for _ in range(2)]
    while any(writer.poll() is None for writer in writers):
        # It is there for some lines, so that it is found, and then is gone before it is opened.
        if log.exists() and log.stat().st_size > 50:
            log.rename(tmp_path / f"moved.{moved}")
            moved += 1

    lines = [line for path in tmp_path.iterdir() for line in path.read_text().split()]
    assert [0, 0] == [writer.returncode for writer in writers]
    assert moved > 1
    assert sorted(2 * [str(number) for number in range(8000)]) == sorted(lines)


ONE_LINE = """
import sys
from pathlib import Path
from certferry.cli.log_file import LogFile
LogFile(Path(sys.argv[1])).add("theirs")
"""


def is_waiting(process: subprocess.Popen[bytes]) -> bool:
    """Tell whether a process waits for a lock (proc_locks(5))."""
    waiting = re.compile(rf"-> FLOCK +ADVISORY +WRITE +{process.pid} ")
    return waiting.search(Path("/proc/locks").read_text()) is not None


def test_a_log_that_another_run_holds_is_waited_for(tmp_path: Path) -> None:
    """Two that move a full log away at once would replace an old one: only whoever holds it moves
    it, and the line of the other, which has it open already, goes into the new one.
    """
    log, moved, deadline = tmp_path / "log", tmp_path / "log.1", time.monotonic() + LONGEST
    log.write_text("ours\n")
    held = log.open("a")
    fcntl.flock(held, fcntl.LOCK_EX)
    with subprocess.Popen([sys.executable, "-c", ONE_LINE, str(log)]) as writer, held:
        while not is_waiting(writer):
            assert writer.poll() is None, "it did not wait"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        log.rename(moved)

    assert 0 == writer.returncode
    assert ("ours\n", "theirs\n") == (moved.read_text(), log.read_text())


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
    """The data and the log share it, neither writes over the other, and whoever opened it keeps it:
    however full, it is not moved away.
    """
    target, link = tmp_path / "out", tmp_path / "link"
    link.symlink_to("/dev/stdout")
    target.write_bytes(b"x" * MOST_BYTES + b"\n")
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
    log = log_at(fifo)
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


def test_a_fifo_that_nobody_reads_is_told_of(fifo: Path) -> None:
    """Before any work, and at once."""
    with pytest.raises(ConfigError, match="cannot be written: No such device or address"):
        Journal(voice_in("en")).open(fifo)


def test_a_device_is_only_written_to() -> None:
    """There is nothing to move, and nothing beside it."""
    desk = TestDesk()

    assert Exit.OK == run(["--log-file", os.devnull, "completion", "bash"], desk.desk)
    assert "" == desk.err
