"""The log file: its lines, its events, its rights and its turns."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from certferry.cli.exits import Exit
from certferry.cli.main import run
from certferry.core.certificates.chain import EdgeProblemCode
from certferry.core.discovery.watched import Host, judged
from certferry.core.events import Activity, Event, Happened, StepEnded
from certferry.core.observed.observation import Served
from certferry.core.planning.report import Outcome, StepOutcome
from certferry.core.planning.steps import Action
from certferry.core.waiting import Asking, Begun, Counted, Ended, applying
from certferry.errors import ConfigError, TargetUnavailable
from certferry.present.language import voice_in
from certferry.present.log_entries import log_in_order, log_looks, log_unchanged, of_event
from certferry.present.progress import logged_progress
from certferry.present.run_log import Entry, Format, Level, LogFile, RunLog
from certferry.problem import Problem
from certferry.text import Text, verbatim
from certferry_sandbox.testing.certificates import make_key
from tests.cli import values
from tests.cli.consoles import TestConsole
from tests.cli.values import IMG, NOON

ALWAYS = {
    *("time", "pid", "level", "event", "lineage", "target", "domain", "outcome", "detail"),
}


def run_log(path: Path, language: str = "en", format_: Format = Format.TEXT) -> RunLog:
    """Open a log whose clock stands at noon, UTC."""
    opened = RunLog(voice_in(language), lambda: NOON)
    opened.open(path, format_)
    return opened


def a_day(log: RunLog) -> None:
    """Let everything happen that a run can tell of."""
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
        hint=Text("try again in some minutes"),
    )
    follower = logged_progress(log)
    log.begin("sync")
    follower(Activity("img", Text("ordering a certificate"), NOON))
    follower(StepEnded("img", waiting))
    follower(StepEnded("img", waiting))
    follower(StepEnded("img", failed))
    log_unchanged(values.report(values.lineage(name="static")), log)
    log.complain("config", Text("the certificate has expired"), Text("try again in some minutes"))
    log.end(2)


def test_address_that_serves_something_wrong_is_in_the_log(tmp_path: Path) -> None:
    """What `watch` shows at its end, a line for each; an address that is in order is no event."""
    problem = Problem(EdgeProblemCode.TIMED_OUT, Text("no answer"))
    bad = Served("192.0.2.2", None, valid=False, problem=problem, silent=True)
    good = Served("192.0.2.1", "ab" * 32, valid=True)

    look = judged(Host(IMG), (good, bad), NOON)
    log_looks([look], run_log(tmp_path / "a.log"))
    log_looks([look], run_log(tmp_path / "b.log", format_=Format.JSON))

    told = (tmp_path / "a.log").read_text()
    assert f"[2026-11-24 12:00:00] {IMG} 192.0.2.2: no answer\n" == told
    event = json.loads((tmp_path / "b.log").read_text())
    assert ("watch.failed", "error", IMG) == (event["event"], event["level"], event["domain"])
    assert ("no answer", "192.0.2.2") == (event["detail"], event["address"])
    assert "timed_out" == event["code"]


def test_addresses_that_differ_are_in_the_log(tmp_path: Path) -> None:
    """As a warning where all of them are right; that they are alike again is an event too."""
    ends = NOON + timedelta(days=30)
    edges = [
        Served(f"192.0.2.{n}", f * 32, valid=True, not_after=ends)
        for n, f in ((1, "ab"), (2, "cd"))
    ]
    log = run_log(tmp_path / "a.log", format_=Format.JSON)

    log_looks([judged(Host(IMG), edges, NOON)], log)
    log_in_order(judged(Host(IMG), edges[:1], NOON), log)

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
        (Ended("img"), {"event": "ended", "lineage": "img"}),
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
    """In the shape of a line of the JSON log, for a stream of events to programs."""
    document = of_event(event, NOON, voice_in("en"))

    assert document == json.loads(json.dumps(document))
    assert set(document) >= ALWAYS - {"pid"}
    assert expected == {key: document[key] for key in expected}


ENGLISH = """\
[2026-11-24 12:00:00] certferry VERSION: sync begins
[2026-11-24 12:00:00] img: ordering a certificate
[2026-11-24 12:00:00] img: deploy waiting: qiniu → img.example.com: qiniu is applying the change (usually 8–15 min)
[2026-11-24 12:00:00] img: retire failed: certferry-img-01 at qiniu: the list of domains (hint: try again in some minutes)
[2026-11-24 12:00:00] static: certificate unchanged, sync skipped
[2026-11-24 12:00:00] error: the certificate has expired (hint: try again in some minutes)
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
    """The same events in both languages; a wait is told once."""
    a_day(run_log(tmp_path / "log", language))

    written = re.sub(r"\d+\.\d+\.\d+\S*(?=:)", "VERSION", (tmp_path / "log").read_text())
    assert expected == written


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_document_for_each_thing_that_happened(tmp_path: Path, language: str) -> None:
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
    assert voice_in(language).say(Text("try again in some minutes")) == retire["hint"]


def test_moments_for_people_are_local(tmp_path: Path) -> None:
    """Who looks at a log looks at the clock on the wall as well."""
    script = (
        "from pathlib import Path\nfrom certferry.present.run_log import RunLog\n"
        "from certferry.present.language import Voice\nfrom datetime import datetime, UTC\n"
        "log = RunLog(Voice(), lambda: datetime(2026, 11, 24, 12, tzinfo=UTC))\n"
        f"log.open(Path({str(tmp_path / 'log')!r}))\nlog.end(0)\n"
    )
    subprocess.run([sys.executable, "-c", script], env=os.environ | {"TZ": "CST-8"}, check=True)

    assert (tmp_path / "log").read_text().startswith("[2026-11-24 20:00:00] ")


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_a_log_is_for_its_owner_and_group(tmp_path: Path, mask: int) -> None:
    """0640, whatever the process's mask is; a file that is there keeps its rights."""
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
    """After logrotate has moved it, lines go into a new file."""
    log = LogFile(tmp_path / "log")
    log.add("one")
    (tmp_path / "log").rename(tmp_path / "old")
    log.add("two")

    assert ("one\n", "two\n") == ((tmp_path / "old").read_text(), (tmp_path / "log").read_text())


WRITER = """
import sys
from pathlib import Path
from certferry.present.run_log import LogFile
log = LogFile(Path(sys.argv[1]))
for number in range(200):
    log.add(f"{sys.argv[2]} {number:03} " + sys.argv[2] * 50)
"""


def test_lines_of_several_processes_stay_whole(tmp_path: Path) -> None:
    """While all of them write, no line is lost, torn or mixed."""
    names = "abcd"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path / "log"), name])
        for name in names
    ]
    assert [0] * len(names) == [writer.wait(timeout=60) for writer in writers]

    lines = [line for path in tmp_path.iterdir() for line in path.read_text().splitlines()]
    assert sorted(f"{n} {i:03} {n * 50}" for n in names for i in range(200)) == sorted(lines)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_log_that_cannot_be_written_is_two(tmp_path: Path, language: str) -> None:
    """The directory must be there; the error says which file and what to do, before any work."""
    console = TestConsole()
    path = tmp_path / "none" / "log"

    code = run(["--lang", language, "--log-file", str(path), "history"], console.console)

    hint = voice_in(language).say(
        Text("make the directory first: mkdir -p {directory}", directory=path.parent)
    )
    assert Exit.USAGE == code
    assert str(path) in console.err
    assert hint in console.err
    assert not path.parent.exists()


def test_a_directory_is_no_log(tmp_path: Path) -> None:
    """Neither is anything else that no line can be added to."""
    with pytest.raises(ConfigError):
        RunLog(voice_in("en")).open(tmp_path)


def test_a_format_without_a_file_is_asked_about() -> None:
    """Who chooses a format wants a log."""
    console = TestConsole()

    assert Exit.USAGE == run(["--log-format", "json", "history"], console.console)
    assert "error: --log-format needs --log-file\n" in console.err


def test_a_full_disk_stops_nothing(tmp_path: Path) -> None:
    """The work goes on when the log does not, and a person is told."""
    console = TestConsole()
    nothing = str(tmp_path / "none.toml")

    code = run(["--log-file", "/dev/full", "--config", nothing, "history"], console.console)

    warning = "warning: the log /dev/full cannot be written: No space left on device\n"
    assert (Exit.USAGE, 1) == (code, console.err.count(warning))


@pytest.mark.parametrize("verbosity", ["-q", "-v"])
def test_the_log_has_what_a_person_needs_whatever_is_told(tmp_path: Path, verbosity: str) -> None:
    """-q makes stderr quiet, not the log: begin, failure with its hint, and end."""
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
def test_nothing_secret_is_written(tmp_path: Path, format_: Format) -> None:
    """Keys and proofs of identity are hidden, from every source and by every way."""
    key = make_key().reveal()
    path = tmp_path / "log"
    log = run_log(path, format_=format_)
    for planted in (key, key[:-40], "Authorization: QBox planted:secret=", "login_token=planted"):
        said = Text("the CA refused: {problem}", problem=planted)
        log.complain("error", said, said)
        log.write(Entry("log", verbatim(planted), Level.WARNING, below=planted))
        logged_progress(log)(Activity("img", said, NOON))
        step = StepOutcome(Action.ISSUE, Outcome.FAILED, said, hint=said)
        logged_progress(log)(StepEnded("img", step))

    written = path.read_text()
    assert "•••" in written
    assert "planted" not in written
    assert not [row for row in key.split("\n")[1:-2] if row in written]


def test_a_line_cannot_be_forged(tmp_path: Path) -> None:
    """What a server says stays on its line, and moves no cursor."""
    run_log(tmp_path / "log").complain("error", Text("a\n[2026-11-24 12:00:00] b\x1b[2J\rc"), None)

    (line,) = (tmp_path / "log").read_text().splitlines()
    assert NOON == datetime.fromisoformat(f"{line[1:20]}+00:00")
    assert "\x1b" not in line
