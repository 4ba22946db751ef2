"""What a run writes into its log file: one line for each thing that happened, for people or for
programs. The events are the same in both, and in both languages.

    [2026-11-24 20:00:00] img: deploy waiting: qiniu → img.example.com: …

As JSON a line has always `time` (RFC 3339, UTC), `pid`, `level`, `event`, `lineage`, `target`,
`domain`, `outcome` and `detail`; some events have more. By `pid`, the process, the lines of runs at
the same time are told apart.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from certferry import __version__
from certferry.core.redaction import redacted
from certferry.errors import ConfigError
from certferry.present.language import Voice
from certferry.present.layout import as_json, visible
from certferry.present.log_file import LogFile, cannot_be_written, is_trouble_of_its_disk
from certferry.text import Text


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
