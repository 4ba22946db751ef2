"""What a run writes into its log file: one line for each thing that happened, for people or for
programs. The events are the same in both, and in both languages.

    [2026-11-24 20:00:00] img: deploy waiting: qiniu → img.example.com: …

As JSON a line has always `time` (RFC 3339, UTC), `pid`, `level`, `event`, `lineage`, `target`,
`domain`, `outcome` and `detail`; some events have more. By `pid`, the process, the lines of runs at
the same time are told apart.
"""

from __future__ import annotations

import errno
import os
import re
import shlex
import stat
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from certferry import __version__
from certferry.core.redaction import redacted
from certferry.errors import ConfigError
from certferry.file_trust import NotTrusted, PathCheck, checked_path
from certferry.present.language import Voice
from certferry.present.layout import as_json, visible
from certferry.system_words import system_words
from certferry.text import Text

_MODE = 0o640
"""The owner writes; a group, such as Debian's `adm`, may read along."""

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK

_NAMED = {"/dev/stdout": 1, "/dev/stderr": 2}
_NUMBERED = re.compile(r"/(?:dev|proc/self)/fd/([0-9]{1,9})")
_OF_THE_DISK = frozenset({errno.EDQUOT, errno.EIO, errno.ENOSPC, errno.EROFS})
_MOST_LINKS = 40
"""As many as Linux follows in a path (path_resolution(7))."""


class LogFile:
    """A file that lines are added to; or a pipe, a terminal, a device that they are written to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._kept: int | None = None

    def try_out(self) -> None:
        """Open it; a file that is not there is made. Raises `ConfigError` when that cannot be.

        What is no file stays open until the process ends: a pause would be the end to the reader
        of a FIFO.
        """
        kept = is_stream(self.path)
        try:
            descriptor = self._open()
        except OSError as exc:
            raise ConfigError(
                cannot_be_written(self.path, exc), hint=_advice(self.path, exc)
            ) from exc
        if kept:
            self._kept = descriptor
        else:
            os.close(descriptor)

    def add(self, line: str) -> None:
        """Add a line, in one piece (`O_APPEND`). Raises `OSError`."""
        descriptor = self._open() if self._kept is None else self._kept
        try:
            _write(descriptor, (line + "\n").encode("utf-8", "backslashreplace"))
        finally:
            if descriptor != self._kept:
                os.close(descriptor)

    def _open(self) -> int:
        number = _open_already(self.path)
        if number is not None:
            return os.dup(number)
        # The system's own directory of logs may be its logger's, and the group's.
        with checked_path(self.path, exposed=True) as found:
            descriptor = _opened(found, stream=is_stream(self.path))
            try:
                _must_be_harmless(found, os.fstat(descriptor))
            except BaseException:
                os.close(descriptor)
                raise
            return descriptor


def _opened(found: PathCheck, *, stream: bool) -> int:
    if stream:
        # A FIFO without a reader is an error and not a wait; the log waits for a slow reader.
        descriptor = found.open(_FLAGS)
        os.set_blocking(descriptor, True)
        return descriptor
    try:
        descriptor = found.open(_FLAGS | os.O_CREAT | os.O_EXCL, _MODE)
    except FileExistsError:
        # To be made all the same: another program may move it away at this moment.
        return found.open(_FLAGS | os.O_CREAT, _MODE)
    # The process's mask may have taken the group's right away.
    os.fchmod(descriptor, _MODE)
    return descriptor


def _must_be_harmless(found: PathCheck, facts: os.stat_result) -> None:
    """Raise `NotTrusted` where others could have put what is written to: another name of a file
    that is not a log, or a pipe without a reader.
    """
    if found.is_exposed and (not stat.S_ISREG(facts.st_mode) or facts.st_nlink > 1):
        problem = Text("is no regular file with one name, and others can write to its directory")
        raise NotTrusted(found.path, problem, Text("move it away, or name another log"))


def is_stream(path: Path) -> bool:
    """Tell whether a path leads to no file, or to whatever is open already."""
    if _open_already(path) is not None:
        return True
    try:
        mode = path.stat().st_mode
    except OSError:  # what is wrong with it is told where it is opened
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISSOCK(mode)


def _open_already(path: Path) -> int | None:
    """Give the descriptor that a path names, perhaps by a link, as images have for their logs.

    What it leads to is open. Opening it once more fails for a socket or another user's pipe, and a
    file behind it would be written at two places at once, or moved away from its program.
    """
    for _ in range(_MOST_LINKS):
        numbered = _NUMBERED.fullmatch(str(path))
        number = int(numbered[1]) if numbered else _NAMED.get(str(path))
        if number is not None:
            return number
        try:
            path = path.parent / path.readlink()
        except OSError:  # it is no link
            return None
    return None


def _write(descriptor: int, written: bytes) -> None:
    while written:
        written = written[os.write(descriptor, written) :]


def is_trouble_of_its_disk(problem: BaseException | None) -> bool:
    """Tell whether the disk is full, broken or read-only: that is no mistake of who named the log,
    and a run must not stay away for it.
    """
    return isinstance(problem, OSError) and problem.errno in _OF_THE_DISK


def cannot_be_written(path: Path, problem: OSError) -> Text:
    """Say that a log cannot be written."""
    if isinstance(problem, NotTrusted):
        said = Text("{path} {problem}", path=problem.path, problem=problem.problem)
        return Text("the log is not written: {problem}", problem=said)
    return Text(
        "the log {path} cannot be written: {problem}", path=path, problem=system_words(problem)
    )


def _advice(path: Path, problem: OSError) -> Text:
    if isinstance(problem, NotTrusted):
        return problem.fix
    if not path.parent.is_dir():
        directory = shlex.quote(str(path.parent))
        return Text("make the directory first: mkdir -p {directory}", directory=directory)
    return Text("name a file that {user} may write with --log-file", user=_user())


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # an account without a name
        return str(os.geteuid())


class Format(StrEnum):
    """For whom the log is written."""

    TEXT = "text"
    JSON = "json"


class Level(StrEnum):
    """How much a line matters."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened. `event` is stable; `detail` says what became of what the other
    fields name. A person reads `words`, or the lineage and the detail, and the rows `below`.
    """

    event: str
    detail: Text
    level: Level = Level.INFO
    lineage: str | None = None
    target: str | None = None
    domain: str | None = None
    outcome: str | None = None
    hint: Text | None = None
    words: str | None = None
    below: str = ""
    more: Mapping[str, object] = field(default_factory=dict)


class RunLog:
    """A run's log. Until it is opened nothing is written and nothing is computed."""

    def __init__(self, voice: Voice, now: Callable[[], datetime] | None = None) -> None:
        self.voice = voice
        self._now = now or _now
        self._file: LogFile | None = None
        self._format = Format.TEXT
        self._lock = threading.Lock()
        self.trouble: Text | None = None
        """Why the log has not everything that happened."""

    @property
    def is_open(self) -> bool:
        """Whether a log is wanted."""
        return self._file is not None

    def open(self, path: Path, format_: Format = Format.TEXT, *, is_needed: bool = True) -> None:
        """Begin to write. Raises `ConfigError` when the file cannot be written, unless only its
        disk is in the way, or the log is not needed: then it is told at the end.
        """
        file = LogFile(path)
        try:
            file.try_out()
        except ConfigError as exc:
            if is_needed and not is_trouble_of_its_disk(exc.__cause__):
                raise
            self.trouble = exc.message
        self._file, self._format = file, format_

    def write(self, entry: Entry) -> None:
        """Write an entry down. A log that cannot be written any more stops nothing."""
        file = self._file
        if file is None:
            return
        written = self._for_programs if self._format is Format.JSON else self._for_people
        try:
            with self._lock:
                file.add(written(entry))
        except OSError as exc:
            self.trouble = cannot_be_written(file.path, exc)

    def begin(self, command: str) -> None:
        """Write down that a command begins."""
        said = Text("certferry {version}: {command} begins", version=__version__, command=command)
        more = {"command": command, "version": __version__}
        self.write(Entry("run.started", said, more=more))

    def end(self, code: int) -> None:
        """Write down that a run has ended."""
        said = Text("ended with exit code {code}", code=code)
        self.write(Entry("run.ended", said, more={"exit_code": int(code)}))

    def stop(self) -> None:
        """Write down that the run was stopped."""
        self.write(Entry("run.stopped", Text("stopped"), Level.WARNING))

    def complain(self, code: str, message: Text, hint: Text | None) -> None:
        """Write down why a run has no result."""
        words = self.voice.say_on_one_line(Text("error: {message}", message=message))
        more = {"code": code}
        entry = Entry("run.failed", message, Level.ERROR, hint=hint, words=words, more=more)
        self.write(entry)

    def _for_people(self, entry: Entry) -> str:
        say = self.voice.say_on_one_line
        words = entry.words
        if words is None:
            detail = say(entry.detail)
            words = detail if entry.lineage is None else f"{entry.lineage}: {detail}"
        if entry.hint is not None:
            words = say(Text("{said} (hint: {hint})", said=words, hint=entry.hint))
        moment = self._now().astimezone().strftime("%Y-%m-%d %H:%M:%S")
        # A traceback stays visibly below its line.
        first, *rest = redacted(f"{words}\n{entry.below}".rstrip("\n")).split("\n")
        return "\n".join([f"[{moment}] {visible(first)}", *(f"    {visible(row)}" for row in rest)])

    def _for_programs(self, entry: Entry) -> str:
        say = self.voice.say_on_one_line
        detail = f"{say(entry.detail)}\n{entry.below}".rstrip("\n")
        document: dict[str, object] = {
            "time": rfc3339(self._now()),
            "pid": os.getpid(),
            "level": entry.level.value,
            "event": entry.event,
            "lineage": entry.lineage,
            "target": entry.target,
            "domain": entry.domain,
            "outcome": entry.outcome,
            "detail": visible(redacted(detail)),
        }
        if entry.hint is not None:
            document["hint"] = visible(say(entry.hint))
        return as_json({**document, **entry.more})


def rfc3339(moment: datetime) -> str:
    """Write a moment for programs (RFC 3339, UTC)."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _now() -> datetime:
    return datetime.now(UTC)
