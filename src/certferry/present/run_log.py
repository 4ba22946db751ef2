"""The log file of a run: one line for each thing that happened, for people or for programs. The
events are the same in both, and in both languages.

    [2026-11-24 20:00:00] img: deploy waiting: qiniu → img.example.com: …

As JSON a line has always `time` (RFC 3339, UTC), `pid`, `level`, `event`, `lineage`, `target`,
`domain`, `outcome` and `detail`; some events have more. By `pid`, the process, a reader separates
the lines of simultaneous runs.
"""

from __future__ import annotations

import errno
import os
import re
import shlex
import stat
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from certferry import __version__
from certferry.core.redaction import redacted
from certferry.errors import ConfigError
from certferry.file_trust import NotTrusted, PathCheck, checked_path, user_name
from certferry.present.language import Voice
from certferry.present.layout import as_json, visible
from certferry.system_words import system_words
from certferry.text import Text

_MODE = 0o640
"""The owner writes; a group, such as Debian's `adm`, may read along."""

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK

_NUMBERED = re.compile(r"/(?:dev|proc/self)/fd/([0-9]{1,9})")
_OF_THE_DISK = frozenset({errno.EDQUOT, errno.EIO, errno.ENOSPC, errno.EROFS})


class LogFile:
    """A file that lines are appended to, or a stream: a pipe, a terminal, a device."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stream: int | None = None

    def try_out(self) -> None:
        """Open it, and create a missing file. Raises `ConfigError` if it cannot be written.

        A stream stays open until the process ends: the reader of a FIFO would take a pause for the
        end.
        """
        stays_open = is_stream(self.path)
        try:
            descriptor = self._open()
        except OSError as exc:
            raise _cannot_be_written(self.path, exc) from exc
        if stays_open:
            self._stream = descriptor
        else:
            os.close(descriptor)

    def add(self, line: str) -> None:
        """Append a line, in one piece (`O_APPEND`). Raises `OSError`."""
        descriptor = self._open() if self._stream is None else self._stream
        left = (line + "\n").encode("utf-8", "backslashreplace")
        try:
            while left:
                left = left[os.write(descriptor, left) :]
        finally:
            if descriptor != self._stream:
                os.close(descriptor)

    def _open(self) -> int:
        inherited = _inherited(self.path)
        if inherited is not None:
            return os.dup(inherited)
        # The system's log directory may belong to its logger and its logger's group.
        with checked_path(self.path, exposed=True) as found:
            descriptor = _opened(found, stream=is_stream(self.path))
            facts = os.fstat(descriptor)
            if found.is_exposed and (not stat.S_ISREG(facts.st_mode) or facts.st_nlink > 1):
                # Others could have put another name of a file here, or a pipe without a reader.
                os.close(descriptor)
                problem = Text(
                    "is no regular file with one name, and others can write to its directory"
                )
                raise NotTrusted(found.path, problem, Text("move it away, or name another log"))
            return descriptor


def _opened(found: PathCheck, *, stream: bool) -> int:
    if stream:
        # A FIFO without a reader is an error and not a wait; the log waits for a slow reader.
        descriptor = found.open(_FLAGS)
        os.set_blocking(descriptor, True)
        return descriptor
    with suppress(FileExistsError):
        descriptor = found.open(_FLAGS | os.O_CREAT | os.O_EXCL, _MODE)
        os.fchmod(descriptor, _MODE)  # the process's mask may have taken the group's right away
        return descriptor
    # Another program may move it away at this moment.
    return found.open(_FLAGS | os.O_CREAT, _MODE)


def is_stream(path: Path) -> bool:
    """Return whether a path leads to no file, or to a descriptor that is open already."""
    if _inherited(path) is not None:
        return True
    try:
        mode = path.stat().st_mode
    except OSError:  # opening it says what is wrong
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISSOCK(mode)


def _inherited(path: Path) -> int | None:
    """Return the open descriptor that a path leads to, by links too, as images have for their logs.

    Opening it once more fails for a socket or another user's pipe, and a file behind it would be
    written at two places at once, or moved away from its program.
    """
    if numbered := _NUMBERED.fullmatch(str(path)):
        return int(numbered[1])
    for number in (1, 2):
        with suppress(OSError):
            if os.path.samestat(path.stat(), os.fstat(number)):
                return number
    return None


def _cannot_be_written(path: Path, problem: OSError) -> ConfigError:
    if isinstance(problem, NotTrusted):
        said = Text("{path} {problem}", path=problem.path, problem=problem.problem)
        return ConfigError(
            Text("the log is not written: {problem}", problem=said), hint=problem.fix
        )
    said = Text("the log {path} cannot be written: {problem}")
    hint = Text("name a file that {user} may write with --log-file", user=user_name(os.geteuid()))
    if not path.parent.is_dir():
        directory = shlex.quote(str(path.parent))
        hint = Text("make the directory first: mkdir -p {directory}", directory=directory)
    return ConfigError(said.filled(path=path, problem=system_words(problem)), hint=hint)


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
    """One thing that happened. `event` is stable; `detail` says what happened to what the other
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

    def document(self, at: datetime, voice: Voice) -> dict[str, object]:
        """Return the entry for programs, as a line of the JSON log has it beside its `pid`."""
        say = voice.say_on_one_line
        hint = {} if self.hint is None else {"hint": visible(say(self.hint))}
        return {
            "time": rfc3339(at),
            "level": self.level.value,
            "event": self.event,
            "lineage": self.lineage,
            "target": self.target,
            "domain": self.domain,
            "outcome": self.outcome,
            "detail": visible(redacted(f"{say(self.detail)}\n{self.below}".rstrip("\n"))),
            **hint,
            **self.more,
        }

    def line(self, at: datetime, voice: Voice) -> str:
        """Return the entry for people, with its moment by the machine's clock."""
        say = voice.say_on_one_line
        words = self.words
        if words is None:
            detail = say(self.detail)
            words = detail if self.lineage is None else f"{self.lineage}: {detail}"
        if self.hint is not None:
            words = say(Text("{said} (hint: {hint})", said=words, hint=self.hint))
        # A traceback stays visibly below its line.
        first, *rest = redacted(f"{words}\n{self.below}".rstrip("\n")).split("\n")
        first = f"[{at.astimezone():%Y-%m-%d %H:%M:%S}] {visible(first)}"
        return "\n".join([first, *(f"    {visible(row)}" for row in rest)])


class RunLog:
    """A run's log. Until it is opened nothing is written and nothing is computed."""

    def __init__(self, voice: Voice, now: Callable[[], datetime] | None = None) -> None:
        self.voice = voice
        self._now = now or (lambda: datetime.now(UTC))
        self._file: LogFile | None = None
        self._format = Format.TEXT
        self._lock = threading.Lock()
        self.trouble: Text | None = None
        """Why the log lacks some of what happened."""

    @property
    def is_open(self) -> bool:
        """Whether there is to be a log."""
        return self._file is not None

    def open(self, path: Path, format_: Format = Format.TEXT, *, is_needed: bool = True) -> None:
        """Begin to write. Raises `ConfigError` if the file cannot be written, unless its disk is
        full, broken or read-only, for which no run should be missed, or the log is not needed: then
        `trouble` says so.
        """
        file = LogFile(path)
        try:
            file.try_out()
        except ConfigError as exc:
            cause = exc.__cause__
            if is_needed and not (isinstance(cause, OSError) and cause.errno in _OF_THE_DISK):
                raise
            self.trouble = exc.message
        self._file, self._format = file, format_

    def write(self, entry: Entry) -> None:
        """Write an entry. A log that can no longer be written stops nothing."""
        file = self._file
        if file is None:
            return
        now = self._now()
        if self._format is Format.JSON:
            document = entry.document(now, self.voice)
            written = as_json({"time": document.pop("time"), "pid": os.getpid(), **document})
        else:
            written = entry.line(now, self.voice)
        try:
            with self._lock:
                file.add(written)
        except OSError as exc:
            self.trouble = _cannot_be_written(file.path, exc).message

    def begin(self, command: str) -> None:
        """Write that a command begins."""
        said, more = Text("certferry {version}: {command} begins"), {"command": command}
        facts = more | {"version": __version__}
        self.write(Entry("run.started", said.filled(**facts), more=facts))

    def end(self, code: int) -> None:
        """Write that a run has ended."""
        said = Text("ended with exit code {code}", code=code)
        self.write(Entry("run.ended", said, more={"exit_code": int(code)}))

    def stop(self) -> None:
        """Write that the run was stopped."""
        self.write(Entry("run.stopped", Text("stopped"), Level.WARNING))

    def complain(self, code: str, message: Text, hint: Text | None) -> None:
        """Write why a run has no result."""
        words = self.voice.say_on_one_line(Text("error: {message}", message=message))
        more = {"code": code}
        self.write(Entry("run.failed", message, Level.ERROR, hint=hint, words=words, more=more))


def rfc3339(moment: datetime) -> str:
    """Write a moment for programs (RFC 3339, UTC)."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
