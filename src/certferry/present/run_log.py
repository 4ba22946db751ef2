"""Write the log file of a run, and send records of Python's `logging` to stderr and to that file.

The log file has one line for each event, as text for people or as JSON. Both forms have the same
events. A line for people:

    [2026-11-24 20:00:00] img: deploy waiting: cdn → img.example.com: …

A line of JSON always has `time` (RFC 3339, UTC), `pid`, `level`, `event`, `lineage`, `target`,
`domain`, `outcome` and `detail`; some events have more keys. `pid` is the process, so a reader can
separate simultaneous runs.
"""

from __future__ import annotations

import copy
import errno
import logging
import os
import re
import shlex
import stat
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from types import TracebackType

from msgspec import Struct, field

from certferry import __version__
from certferry.core.redaction import discreet, redacted
from certferry.errors import ConfigError, system_words
from certferry.file_trust import NotTrusted, PathCheck, checked_path, user_name
from certferry.present.language import Voice
from certferry.present.layout import as_json, plain, visible
from certferry.text import Text, cut, verbatim

_MODE = 0o640
"""The mode of a new log: the owner can write, and the group, such as Debian's `adm`, can read."""

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK

_NUMBERED = re.compile(r"/(?:dev|proc/self)/fd/([0-9]{1,9})")
_OF_THE_DISK = frozenset({errno.EDQUOT, errno.EIO, errno.ENOSPC, errno.EROFS})


class LogFile:
    """A file to append lines to, or a stream: a pipe, a terminal, a device."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stream: int | None = None

    def try_out(self) -> None:
        """Open or create the file. Raise `ConfigError` if the file is unwritable.

        A stream stays open: if certferry closed a FIFO, its reader would take this for the end.
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
        """Append a line. Lines of several processes do not mix if the system writes each line at
        once (`O_APPEND`). Raise `OSError` if the file is unwritable.
        """
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
        # `exposed` allows a directory in which other users can write, such as the system's log
        # directory, which may belong to the logger's user and group.
        with checked_path(self.path, exposed=True) as check:
            descriptor = _opened(check, stream=is_stream(self.path))
            facts = os.fstat(descriptor)
            if check.is_exposed and (not stat.S_ISREG(facts.st_mode) or facts.st_nlink > 1):
                # Other users could have put a hard link to another file here, or
                # a pipe without a reader.
                os.close(descriptor)
                problem = Text(
                    "is not a regular file with one name, and others can write to its directory"
                )
                raise NotTrusted(
                    check.path, problem, Text("move the file away, or choose another log")
                )
            return descriptor


def _opened(check: PathCheck, *, stream: bool) -> int:
    if stream:
        # Without blocking, opening a FIFO that has no reader fails at once. Later, writing blocks
        # until a slow reader has read.
        descriptor = check.open(_FLAGS)
        os.set_blocking(descriptor, True)
        return descriptor
    with suppress(FileExistsError):
        descriptor = check.open(_FLAGS | os.O_CREAT | os.O_EXCL, _MODE)
        # the process's umask may have removed the group's right to read
        os.fchmod(descriptor, _MODE)
        return descriptor
    # Another program may have moved the file away since, so the file is created again if needed.
    return check.open(_FLAGS | os.O_CREAT, _MODE)


def is_stream(path: Path) -> bool:
    """Return whether a path is a pipe, a socket or a character device, or names an open
    descriptor.
    """
    if _inherited(path) is not None:
        return True
    try:
        mode = path.stat().st_mode
    except OSError:  # opening the path will report the error
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISSOCK(mode)


def _inherited(path: Path) -> int | None:
    """Return the open descriptor that a path names: by its number, or because the path leads to the
    same file as stdout or stderr. Return `None` for any other path.

    Such a path must not be opened again. Opening fails for a socket or another user's pipe, and a
    file opened twice would be written at two positions.
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
        why = Text("{path} {problem}", path=problem.path, problem=problem.problem)
        return ConfigError(
            Text("certferry writes no log: {problem}", problem=why), hint=problem.fix
        )
    message = Text("the log {path} cannot be written: {problem}")
    hint = Text(
        "choose a file that {user} can write, with --log-file", user=user_name(os.geteuid())
    )
    if not path.parent.is_dir():
        directory = shlex.quote(str(path.parent))
        hint = Text("create the directory first: mkdir -p {directory}", directory=directory)
    return ConfigError(message.filled(path=path, problem=system_words(problem)), hint=hint)


class Format(StrEnum):
    """The form of a log: lines for people, or JSON."""

    TEXT = "text"
    JSON = "json"


class Level(StrEnum):
    """The importance of a line."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Entry(Struct, frozen=True):
    """An event of the log."""

    #: The event's name, for programs.
    event: str
    #: The message.
    detail: Text
    #: The importance of the event.
    level: Level = Level.INFO
    #: The certificate's lineage, if the event is about one.
    lineage: str | None = None
    #: The target, if the event is about one.
    target: str | None = None
    #: The domain, if the event is about one.
    domain: str | None = None
    #: How the step ended, or how the thing stands.
    outcome: str | None = None
    #: The advice for the reader.
    hint: Text | None = None
    #: The line for a person; `None`: the lineage and the detail.
    words: str | None = None
    #: Further lines for a person, such as a traceback; may be empty.
    below: str = ""
    #: Further keys of the JSON line.
    more: Mapping[str, object] = field(default_factory=dict)

    def document(self, at: datetime, voice: Voice) -> dict[str, object]:
        """Return the entry for programs: a line of the JSON log without `pid`."""
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
        """Return the entry for people, with the time in the machine's time zone. The entry has
        several lines if `below` has text.
        """
        say = voice.say_on_one_line
        words = self.words
        if words is None:
            detail = say(self.detail)
            words = detail if self.lineage is None else f"{self.lineage}: {detail}"
        if self.hint is not None:
            words = say(Text("{said} (hint: {hint})", said=words, hint=self.hint))
        # Further lines, such as a traceback, are indented, so each unindented line is an entry.
        first, *rest = redacted(f"{words}\n{self.below}".rstrip("\n")).split("\n")
        first = f"[{at.astimezone():%Y-%m-%d %H:%M:%S}] {visible(first)}"
        return "\n".join([first, *(f"    {visible(row)}" for row in rest)])


class RunLog:
    """A run's log. Until the log is opened, writing does nothing."""

    def __init__(self, voice: Voice, now: Callable[[], datetime] | None = None) -> None:
        self.voice = voice
        self._now = now or (lambda: datetime.now(UTC))
        self._file: LogFile | None = None
        self._format = Format.TEXT
        self._lock = threading.Lock()
        self.trouble: Text | None = None
        """The reason why the log is incomplete; `None` as long as no writing has failed."""

    @property
    def is_open(self) -> bool:
        """Whether a log is written."""
        return self._file is not None

    def open(self, path: Path, format_: Format = Format.TEXT, *, is_needed: bool = True) -> None:
        """Begin to write the log.

        Raise `ConfigError` if the log is unwritable. If the log is not needed, or if the disk is
        full, broken or read-only, raise nothing, and keep the reason in `trouble`.
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
        """Write an entry. If the log has become unwritable, raise nothing, and keep the reason in
        `trouble`.
        """
        file = self._file
        if file is None:
            return
        now = self._now()
        if self._format is Format.JSON:
            document = entry.document(now, self.voice)
            row = as_json({"time": document.pop("time"), "pid": os.getpid(), **document})
        else:
            row = entry.line(now, self.voice)
        try:
            with self._lock:
                file.add(row)
        except OSError as exc:
            self.trouble = _cannot_be_written(file.path, exc).message

    def begin(self, command: str) -> None:
        """Log that a command begins."""
        message, more = Text("certferry {version}: {command} begins"), {"command": command}
        facts = more | {"version": __version__}
        self.write(Entry("run.started", message.filled(**facts), more=facts))

    def end(self, code: int) -> None:
        """Log that a command has ended, with the exit code."""
        message = Text("ended with exit code {code}", code=code)
        self.write(Entry("run.ended", message, more={"exit_code": int(code)}))

    def stop(self) -> None:
        """Log that a signal stopped the command."""
        self.write(Entry("run.stopped", Text("stopped"), Level.WARNING))

    def complain(self, code: str, message: Text, hint: Text | None) -> None:
        """Log the error that ended a command without a result."""
        words = self.voice.say_on_one_line(Text("error: {message}", message=message))
        more = {"code": code}
        self.write(Entry("run.failed", message, Level.ERROR, hint=hint, words=words, more=more))


def rfc3339(moment: datetime) -> str:
    """Return a moment for programs (RFC 3339, UTC)."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


_OURS = "certferry"

BELOW = "\n    "
"""The text between the lines of one record: a line break and an indent."""

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]

_LEVELS = {logging.DEBUG: Level.DEBUG, logging.INFO: Level.INFO, logging.WARNING: Level.WARNING}


class DiscreetFormatter(logging.Formatter):
    """Formats records for stderr, with times in UTC, without secrets and control characters. The
    second and later lines of a record are indented.

    With `for_operators`, a warning in certferry's own words (`Text`) looks like the warnings of
    commands: without a time.
    """

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%SZ"
    default_msec_format = None

    def __init__(
        self, template: str, voice: Voice | None = None, *, for_operators: bool = False
    ) -> None:
        super().__init__(template)
        self._voice = voice or Voice()
        self._for_operators = for_operators

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's lines."""
        is_warning = record.levelno == logging.WARNING and not record.exc_info
        if self._for_operators and is_warning and isinstance(record.msg, Text):
            return discreet("\n".join(map(plain, self._voice.warning(record.msg))))
        rendered = copy.copy(record)
        rendered.msg, rendered.args = said_by(record, self._voice), None
        return BELOW.join(map(visible, discreet(super().format(rendered)).split("\n")))

    def formatException(self, ei: _ExcInfo) -> str:  # noqa: N802 - the name is logging's
        """Return a traceback, shortened if very long."""
        return cut(super().formatException(ei))


class Ours(logging.Filter):
    """Passes certferry's records and, with `with_warnings`, the warnings and errors of libraries.
    Other records of libraries are dropped, because `urllib3`, `requests` and `acme` log URLs,
    bodies, nonces and signatures there.
    """

    def __init__(self, *, with_warnings: bool) -> None:
        super().__init__()
        self._with_warnings = with_warnings

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record passes."""
        is_ours = record.name.partition(".")[0] == _OURS
        return is_ours or (self._with_warnings and record.levelno >= logging.WARNING)


class StderrHandler(logging.Handler):
    """Writes records to the `sys.stderr` of the moment, which a live display may have replaced."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record. Errors of writing are ignored."""
        with suppress(OSError, ValueError):
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()


class RunLogHandler(logging.Handler):
    """Writes records of a level or above, and the output of programs, into the log file."""

    def __init__(self, run_log: RunLog, level: int) -> None:
        super().__init__()
        self._run_log = run_log
        self._from = level

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        program: str | None = getattr(record, "program", None)
        message = said_by(record, self._run_log.voice)
        message = discreet(message)
        if program is not None:
            detail = verbatim(message.removeprefix(f"{program}: "))
            more = {"program": program}
            self._run_log.write(Entry("program.output", detail, words=message, more=more))
        elif record.levelno >= self._from:
            info = record.exc_info
            traceback = ""
            if info:
                traceback = discreet(cut(logging.Formatter().formatException(info)))
            level = _LEVELS.get(record.levelno, Level.ERROR)
            more = {"logger": record.name}
            self._run_log.write(Entry("log", verbatim(message), level, below=traceback, more=more))


def begin_logging(level: int, run_log: RunLog | None = None) -> None:
    """Send certferry's records of `level` or above to stderr. At DEBUG, also send the warnings and
    errors of libraries. Replace the handlers of `logging` that were set before.

    If `run_log` is open, it gets the same records, certferry's warnings and errors at any `level`,
    and the output of programs.
    """
    voice = None if run_log is None else run_log.voice
    to_stderr = StderrHandler(level)
    template = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    for_operators = level >= logging.WARNING
    to_stderr.setFormatter(DiscreetFormatter(template, voice, for_operators=for_operators))
    handlers: list[logging.Handler] = [to_stderr]
    if run_log is not None and run_log.is_open:
        handlers.append(RunLogHandler(run_log, min(level, logging.WARNING)))
    for handler in handlers:
        handler.addFilter(Ours(with_warnings=level <= logging.DEBUG))
    if run_log is not None and run_log.is_open:
        level = min(level, logging.INFO)
    logging.basicConfig(level=max(level, logging.WARNING), handlers=handlers, force=True)
    logging.getLogger(_OURS).setLevel(level)


def said_by(record: logging.LogRecord, voice: Voice) -> str:
    """Return a record's message. A `Text` is rendered in the voice's language. Any other message is
    shortened if very long.
    """
    if isinstance(record.msg, Text):
        return voice.say(record.msg)
    try:
        return cut(record.getMessage())
    except Exception:  # noqa: BLE001 - a library's message and values may not fit together
        return cut(str(record.msg))
