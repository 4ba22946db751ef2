"""The log: its file, and the entries of a run."""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import subprocess
import sys
import threading
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from certferry.cli.exits import Exit
from certferry.cli.main import run
from certferry.core.certificates.chain import EdgeProblemCode
from certferry.core.discovery.watched import judged
from certferry.core.events import (
    Activity,
    Asking,
    Begun,
    Counted,
    Event,
    Happened,
    LineageEnded,
    StepEnded,
)
from certferry.core.network import Host
from certferry.core.observed.observation import Served
from certferry.core.planning.plan import Action
from certferry.core.planning.report import Outcome, StepOutcome
from certferry.core.reasons import applying
from certferry.errors import ConfigError, Problem, TargetUnavailable
from certferry.present.language import voice_in
from certferry.present.progress import log_look, log_unchanged, logged_progress, of_event
from certferry.present.run_log import Entry, Format, Level, LogFile, RunLog
from certferry.text import Text, verbatim
from certferry_sandbox.testing.certificates import make_key
from tests.another_user import given_away
from tests.cli import values
from tests.cli.consoles import TestConsole
from tests.cli.values import IMG, NOON
from tests.support import forks
from tests.support.forks import start
from tests.support.tiers import examples

# --- Logs that others move, and logs that are no regular file


LONGEST = 30  # seconds


def test_new_log_is_readable_by_its_group(tmp_path: Path) -> None:
    """With any umask of the process; an existing log keeps its mode."""
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
    """Every line is kept, wherever another program such as logrotate moves the log between two
    lines.
    """
    log, moved = tmp_path / "log", 0
    writers = [start([sys.executable, "-c", WRITER, str(log), str(LINES)]) for _ in range(2)]
    while any(writer.poll() is None for writer in writers):
        # The log exists for some lines, so that a writer sees the file and loses it before opening.
        if log.exists() and log.stat().st_size > 50:
            log.rename(tmp_path / f"moved.{moved}")
            moved += 1

    lines = [line for path in tmp_path.iterdir() for line in path.read_text().split()]
    assert [0, 0] == [writer.returncode for writer in writers]
    assert moved > 1
    assert sorted(2 * [str(number) for number in range(LINES)]) == sorted(lines)


def certferry(*options: str, stdout: int | None = None) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "certferry", *options, "completion", "bash"]
    return subprocess.Popen(words, stdout=stdout or subprocess.PIPE, stderr=subprocess.PIPE)


def is_whole(log: str) -> bool:
    return ": completion begins\n" in log and "] ended with exit code 0\n" in log


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_the_log_of_a_container(stream: str) -> None:
    """The container's engine reads a pipe: the log's lines are written among others."""
    with certferry("--log-file", f"/dev/{stream}") as process:
        out, err = process.communicate(timeout=LONGEST)

    assert Exit.OK == process.returncode, err
    assert is_whole((out if stream == "stdout" else err).decode())
    assert b"complete -o nosort" in out


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "link"])
def test_a_log_on_a_stdout_that_leads_to_a_file(tmp_path: Path, name: str) -> None:
    """Data and log share the file without overwriting each other."""
    target, link = tmp_path / "out", tmp_path / "link"
    link.symlink_to("/dev/stdout")
    target.write_bytes(b"x" * 100 + b"\n")
    log = str(tmp_path / name)  # an absolute name stays unchanged
    with target.open("r+b") as out:
        out.seek(0, os.SEEK_END)
        with certferry("--log-file", log, stdout=out.fileno()) as process:
            process.communicate(timeout=LONGEST)
    with certferry() as alone:
        data, _ = alone.communicate(timeout=LONGEST)

    contents = target.read_text()
    assert is_whole(contents)
    assert data.decode() in contents
    assert {target, link} == set(tmp_path.iterdir())


def test_a_log_on_a_stdout_that_is_a_socket() -> None:
    """A socket cannot be opened again by its name, so the open stream is used."""
    ours, theirs = socket.socketpair()
    with ours, ours.makefile("rb") as reader:
        with theirs, certferry("--log-file", "/dev/stdout", stdout=theirs.fileno()) as process:
            process.communicate(timeout=LONGEST)
        theirs.close()
        assert is_whole(reader.read().decode())


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


def test_a_log_that_another_program_reads(fifo: Path) -> None:
    """A slow reader gets all lines of a run, and a single end after the last line."""
    lines = [f"{number} " + "x" * 1000 for number in range(200)]  # more than a pipe holds
    received: list[str] = []
    log = LogFile(fifo)
    with os.fdopen(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)) as reader:
        log.try_out()
        os.set_blocking(reader.fileno(), True)
        thread = threading.Thread(target=lambda: received.extend(reader.readline() for _ in lines))
        thread.start()
        for line in lines:
            log.add(line)
        thread.join(LONGEST)

    assert [f"{line}\n" for line in lines] == received
    assert stat.S_ISFIFO(fifo.stat().st_mode)


def test_fifo_without_a_reader_is_reported(fifo: Path) -> None:
    """The error comes at once, before any work."""
    with pytest.raises(ConfigError, match="cannot be written: No such device or address"):
        RunLog(voice_in("en")).open(fifo)


def test_a_device_is_only_written_to() -> None:
    """A device is neither moved nor accompanied by other files."""
    console = TestConsole()

    assert Exit.OK == run(["--log-file", os.devnull, "completion", "bash"], console.console)
    assert "" == console.err


@pytest.mark.parametrize("mode", [0o777, 0o1777])
@pytest.mark.parametrize("there", [True, False])
def test_link_in_a_directory_that_others_can_write(
    tmp_path: Path, mode: int, *, there: bool
) -> None:
    """The file behind the link stays unchanged, and no new file is made."""
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

    with pytest.raises(ConfigError, match="certferry writes no log"):
        LogFile(logs / "log").try_out()

    with pytest.raises(PermissionError):
        LogFile(logs / "log").add("one")
    assert there == precious.exists()
    assert not there or "root's\n" == precious.read_text()


def test_directory_behind_a_link_of_others(tmp_path: Path) -> None:
    """The same holds for a directory of the path."""
    (tmp_path / "precious").mkdir()
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "mine").symlink_to("../precious")
    logs.chmod(0o777)

    with pytest.raises(ConfigError) as caught:
        LogFile(logs / "mine" / "log").try_out()

    assert (
        f"certferry writes no log: {logs}/mine is a symbolic link that every user can change"
    ) == str(caught.value.message)
    assert "use the path of the file or directory behind the link" == str(caught.value.hint)
    assert [] == list((tmp_path / "precious").iterdir())


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["hard link", "fifo"])
def test_what_others_can_put_in_a_logs_place(tmp_path: Path, kind: str) -> None:
    """Another file gets no lines, and a pipe does not stop the run."""
    precious = tmp_path / "precious"
    precious.write_text("root's\n")
    logs = tmp_path / "logs"
    logs.mkdir()
    if kind == "fifo":
        os.mkfifo(logs / "log")
        reader = os.open(logs / "log", os.O_RDONLY | os.O_NONBLOCK)
    else:
        os.link(precious, logs / "log")
        reader = os.open(precious, os.O_RDONLY)
    logs.chmod(0o1777)

    with pytest.raises(ConfigError, match="is not a regular file with one name"):
        LogFile(logs / "log").try_out()

    os.close(reader)
    assert "root's\n" == precious.read_text()


def test_log_in_a_directory_that_others_can_write(tmp_path: Path) -> None:
    """A regular file of its own is written, also below the directory, as in Ubuntu's `/var/log`
    with its group of loggers. A link in a directory of the caller's is followed.
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


# --- The log file: its lines, its events and its mode


ALWAYS = {*("time", "pid", "level", "event", "lineage", "target", "domain", "outcome", "detail")}


def run_log(path: Path, language: str = "en", format_: Format = Format.TEXT) -> RunLog:
    """Open a log whose clock stands at noon, UTC."""
    opened = RunLog(voice_in(language), lambda: NOON)
    opened.open(path, format_)
    return opened


def a_day(log: RunLog) -> None:
    failure = TargetUnavailable(Text("{host} did not answer within {read}", host="h", read=NOON))
    waiting = StepOutcome(
        Action.DEPLOY,
        Outcome.WAITING,
        applying("qiniu", (timedelta(minutes=8), timedelta(minutes=15))),
        "qiniu",
        IMG,
        waiting=values.waiting(),
    )
    failed = StepOutcome(
        Action.RETIRE,
        Outcome.FAILED,
        Text("the list of domains"),
        "qiniu",
        label="certferry-img-01",
        error=failure,
        hint=Text("try again in a few minutes"),
    )
    follower = logged_progress(log)
    log.begin("sync")
    follower(Activity("img", Text("ordering a certificate"), NOON))
    follower(StepEnded("img", waiting))
    follower(StepEnded("img", waiting))
    follower(StepEnded("img", failed))
    log_unchanged(values.report(values.lineage(name="static")), log)
    log.complain("config", Text("the certificate has expired"), Text("try again in a few minutes"))
    log.end(2)


def test_address_with_a_problem_is_in_the_log(tmp_path: Path) -> None:
    """Each problem of `watch` is a line; an address in order is no event."""
    problem = Problem(EdgeProblemCode.TIMED_OUT, Text("no answer"))
    bad = Served("192.0.2.2", None, valid=False, problem=problem, silent=True)
    good = Served("192.0.2.1", "ab" * 32, valid=True)

    look = judged(Host(IMG), (good, bad), NOON)
    log_look(look, run_log(tmp_path / "a.log"))
    log_look(look, run_log(tmp_path / "b.log", format_=Format.JSON))

    shown = (tmp_path / "a.log").read_text()
    assert f"[2026-11-24 12:00:00] {IMG} 192.0.2.2: no answer\n" == shown
    event = json.loads((tmp_path / "b.log").read_text())
    assert ("watch.failed", "error", IMG) == (event["event"], event["level"], event["domain"])
    assert ("no answer", "192.0.2.2") == (event["detail"], event["address"])
    assert "timed_out" == event["code"]


def test_addresses_that_differ_are_in_the_log(tmp_path: Path) -> None:
    """The difference is a warning if each address is valid; the return to equal answers is an event
    as well.
    """
    ends = NOON + timedelta(days=30)
    edges = [
        Served(f"192.0.2.{n}", f * 32, valid=True, not_after=ends)
        for n, f in ((1, "ab"), (2, "cd"))
    ]
    log = run_log(tmp_path / "a.log", format_=Format.JSON)

    log_look(judged(Host(IMG), edges, NOON), log)
    log_look(judged(Host(IMG), edges[:1], NOON), log, has_changed=True)

    differ, alike = map(json.loads, (tmp_path / "a.log").read_text().splitlines())
    assert ("watch.differs", "warning", "certificates_differ", ["192.0.2.2"]) == (
        differ["event"],
        differ["level"],
        differ["code"],
        differ["addresses"],
    )
    assert ("watch.in_order", "info", IMG) == (alike["event"], alike["level"], alike["domain"])


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (Begun(3), {"event": "begun", "count": 3}),
        (LineageEnded("img"), {"event": "ended", "lineage": "img"}),
        (Counted("img", 1, 2), {"event": "counted", "lineage": "img", "done": 1, "all": 2}),
        (Asking("img", Text("asking {who}", who="qiniu")), {"event": "asking", "lineage": "img"}),
        (Activity("img", Text("stopped"), NOON), {"event": "activity", "detail": "stopped"}),
        (
            Happened("img", "uploaded", {"label": "a"}),
            {"event": "happened", "facts": {"label": "a"}},
        ),
        (
            StepEnded("img", StepOutcome(Action.DEPLOY, Outcome.DONE, Text("bound"), "qiniu", IMG)),
            {"event": "deploy.done", "target": "qiniu", "domain": IMG, "outcome": "done"},
        ),
    ],
)
def test_every_event_is_a_document(event: Event, expected: dict[str, object]) -> None:
    """An event has the shape of a line of the JSON log, for programs that read a stream."""
    document = of_event(event, NOON, voice_in("en"))

    assert document == json.loads(json.dumps(document))
    assert set(document) >= ALWAYS - {"pid"}
    assert expected == {key: document[key] for key in expected}


ENGLISH = """\
[2026-11-24 12:00:00] certferry VERSION: sync begins
[2026-11-24 12:00:00] img: ordering a certificate
[2026-11-24 12:00:00] img: deploy waiting: qiniu → img.example.com: qiniu is applying the change (usually 8–15 min)
[2026-11-24 12:00:00] img: retire failed: certferry-img-01 at qiniu: the list of domains (hint: try again in a few minutes)
[2026-11-24 12:00:00] static: certificate unchanged, sync skipped
[2026-11-24 12:00:00] error: the certificate has expired (hint: try again in a few minutes)
[2026-11-24 12:00:00] ended with exit code 2
"""  # noqa: E501 - a transcript is as wide as it is

CHINESE = """\
[2026-11-24 12:00:00] certferry VERSION: sync 开始
[2026-11-24 12:00:00] img: 正在申请证书
[2026-11-24 12:00:00] img: 部署 等待中: qiniu → img.example.com: qiniu 正在处理变更（通常 8–15 分钟）
[2026-11-24 12:00:00] img: 清理 失败: qiniu 上的 certferry-img-01: 域名列表（提示：请几分钟后重试）
[2026-11-24 12:00:00] static: 证书未变更,跳过同步
[2026-11-24 12:00:00] 错误：证书已过期（提示：请几分钟后重试）
[2026-11-24 12:00:00] 运行结束，退出码 2
"""  # noqa: E501 - a transcript is as wide as it is


@pytest.mark.parametrize(("language", "expected"), [("en", ENGLISH), ("zh", CHINESE)])
def test_a_line_for_each_thing_that_happened(tmp_path: Path, language: str, expected: str) -> None:
    """The events are the same in both languages; a wait is reported once."""
    a_day(run_log(tmp_path / "log", language))

    contents = re.sub(r"\d+\.\d+\.\d+\S*(?=:)", "VERSION", (tmp_path / "log").read_text())
    assert expected == contents


@pytest.mark.parametrize("language", ["en", "zh"])
def test_document_for_each_event(tmp_path: Path, language: str) -> None:
    """Events have stable names and fields in both languages."""
    a_day(run_log(tmp_path / "log", language, Format.JSON))

    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert all(set(line) >= ALWAYS for line in lines)
    assert {"2026-11-24T12:00:00Z"} == {line["time"] for line in lines}
    assert {os.getpid()} == {line["pid"] for line in lines}
    assert [
        ("run.started", "info", None, None),
        ("activity", "info", "img", None),
        ("deploy.waiting", "info", "img", "waiting"),
        ("retire.failed", "error", "img", "failed"),
        ("certificate.unchanged", "info", "static", "unchanged"),
        ("run.failed", "error", None, None),
        ("run.ended", "info", None, None),
    ] == [(line["event"], line["level"], line["lineage"], line["outcome"]) for line in lines]
    _, _, deploy, retire, _, failed, ended = lines
    assert ("qiniu", IMG) == (deploy["target"], deploy["domain"])
    assert ("certferry-img-01", "target_unavailable") == (retire["label"], retire["code"])
    assert ("config", 2) == (failed["code"], ended["exit_code"])
    assert voice_in(language).say(Text("try again in a few minutes")) == retire["hint"]


def test_moments_for_people_are_local(tmp_path: Path) -> None:
    """A reader compares the log with the local clock."""
    script = (
        "from pathlib import Path\nfrom certferry.present.run_log import RunLog\n"
        "from certferry.present.language import Voice\nfrom datetime import datetime, UTC\n"
        "log = RunLog(Voice(), lambda: datetime(2026, 11, 24, 12, tzinfo=UTC))\n"
        f"log.open(Path({str(tmp_path / 'log')!r}))\nlog.end(0)\n"
    )
    done = forks.run([sys.executable, "-c", script], env=os.environ | {"TZ": "CST-8"})

    assert 0 == done.returncode, done

    assert (tmp_path / "log").read_text().startswith("[2026-11-24 20:00:00] ")


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_a_log_is_for_its_owner_and_group(tmp_path: Path, mask: int) -> None:
    """The mode is 0640 for any umask of the process; an existing file keeps its mode."""
    earlier = os.umask(mask)
    try:
        LogFile(tmp_path / "log").add("one")
    finally:
        os.umask(earlier)
    mine = tmp_path / "mine"
    mine.touch(mode=0o600)
    LogFile(mine).add("one")

    assert 0o640 == stat.S_IMODE((tmp_path / "log").stat().st_mode)
    assert 0o600 == stat.S_IMODE(mine.stat().st_mode)


def test_another_program_may_move_the_log(tmp_path: Path) -> None:
    """After a move by logrotate, lines go into a new file."""
    log = LogFile(tmp_path / "log")
    log.add("one")
    (tmp_path / "log").rename(tmp_path / "old")
    log.add("two")

    assert ("one\n", "two\n") == ((tmp_path / "old").read_text(), (tmp_path / "log").read_text())


RUN_WRITER = """
import sys
from pathlib import Path
from certferry.present.run_log import LogFile
log = LogFile(Path(sys.argv[1]))
for number in range(200):
    log.add(f"{sys.argv[2]} {number:03} " + sys.argv[2] * 50)
"""


def test_lines_of_several_processes_stay_whole(tmp_path: Path) -> None:
    """During concurrent writes every line stays complete and unmixed."""
    names = "abcd"
    writers = [
        start([sys.executable, "-c", RUN_WRITER, str(tmp_path / "log"), name]) for name in names
    ]
    assert [0] * len(names) == [writer.wait(timeout=60) for writer in writers]

    lines = [line for path in tmp_path.iterdir() for line in path.read_text().splitlines()]
    assert sorted(f"{n} {i:03} {n * 50}" for n in names for i in range(200)) == sorted(lines)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_log_that_cannot_be_written_exits_with_2(tmp_path: Path, language: str) -> None:
    """The directory must exist; the error has the path and a hint, before any work."""
    console = TestConsole()
    path = tmp_path / "none" / "log"

    code = run(["--lang", language, "--log-file", str(path), "history"], console.console)

    hint = voice_in(language).say(
        Text("create the directory first: mkdir -p {directory}", directory=path.parent)
    )
    assert Exit.USAGE == code
    assert str(path) in console.err
    assert hint in console.err
    assert not path.parent.exists()


def test_a_directory_is_no_log(tmp_path: Path) -> None:
    """A path to which lines cannot be added is refused."""
    with pytest.raises(ConfigError):
        RunLog(voice_in("en")).open(tmp_path)


def test_format_without_a_file_is_an_error() -> None:
    """A chosen format needs a log file."""
    console = TestConsole()

    assert Exit.USAGE == run(["--log-format", "json", "history"], console.console)
    assert "error: --log-format needs --log-file\n" in console.err


def test_full_disk_stops_no_run(tmp_path: Path) -> None:
    """The work goes on without the log, and a person is warned."""
    console = TestConsole()
    nothing = str(tmp_path / "none.toml")

    code = run(["--log-file", "/dev/full", "--config", nothing, "history"], console.console)

    warning = "warning: the log /dev/full cannot be written: No space left on device\n"
    assert (Exit.USAGE, 1) == (code, console.err.count(warning))


@pytest.mark.parametrize("verbosity", ["-q", "-v"])
def test_log_is_complete_at_every_verbosity(tmp_path: Path, verbosity: str) -> None:
    """-q makes stderr quiet, but the log keeps beginning, failure with hint, and end."""
    path = tmp_path / "log"
    nothing = str(tmp_path / "none.toml")

    code = run(
        [verbosity, "--log-file", str(path), "--config", nothing, "plan"], TestConsole().console
    )

    first, second, third = (line.partition("] ")[2] for line in path.read_text().splitlines())
    assert Exit.USAGE == code
    assert first.endswith(": plan begins")
    assert second.startswith("error: ")
    assert "(hint: " in second
    assert "ended with exit code 2" == third


@pytest.mark.parametrize("format_", Format)
def test_secrets_stay_out_of_the_log(tmp_path: Path, format_: Format) -> None:
    """Keys and proofs of identity are hidden, in every field of every entry."""
    key = make_key().reveal()
    path = tmp_path / "log"
    log = run_log(path, format_=format_)
    for planted in (key, key[:-40], "Authorization: QBox planted:secret=", "login_token=planted"):
        sentence = Text("the CA refused: {problem}", problem=planted)
        log.complain("error", sentence, sentence)
        log.write(Entry("log", verbatim(planted), Level.WARNING, below=planted))
        logged_progress(log)(Activity("img", sentence, NOON))
        step = StepOutcome(Action.ISSUE, Outcome.FAILED, sentence, hint=sentence)
        logged_progress(log)(StepEnded("img", step))

    contents = path.read_text()
    assert "•••" in contents
    assert "planted" not in contents
    assert not [row for row in key.split("\n")[1:-2] if row in contents]


def test_a_line_cannot_be_forged(tmp_path: Path) -> None:
    """A server's words stay on their line, and move no cursor."""
    run_log(tmp_path / "log").complain("error", Text("a\n[2026-11-24 12:00:00] b\x1b[2J\rc"), None)

    (line,) = (tmp_path / "log").read_text().splitlines()
    assert NOON == datetime.fromisoformat(f"{line[1:20]}+00:00")
    assert "\x1b" not in line
