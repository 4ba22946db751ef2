"""What a run writes into its log file: one line for each thing that happened, for people or for
programs. The events are the same in both, and in both languages.

    [2026-11-24 20:00:00] img: deploy waiting: qiniu → img.example.com: …

As JSON a line has always `time` (RFC 3339, UTC), `pid`, `level`, `event`, `lineage`, `target`,
`domain`, `outcome` and `detail`; some events have more. By `pid`, the process, the lines of runs at
the same time are told apart.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from certferry import __version__
from certferry.cli.lines import visible
from certferry.cli.log_file import LogFile, LogStream, Trouble, cannot_be_written, log_at
from certferry.cli.words import Voice
from certferry.core.redaction import redacted
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
    """One thing that happened. `event` is stable; `words` is the whole line of a person's log,
    `detail` what is left of it where the other fields stand by themselves.
    """

    event: str
    words: str
    detail: str | None = None
    level: Level = Level.INFO
    lineage: str | None = None
    target: str | None = None
    domain: str | None = None
    outcome: str | None = None
    hint: str | None = None
    more: Mapping[str, object] = field(default_factory=dict)


class Journal:
    """A run's log. Until it is opened nothing is written, and nothing is asked of anybody."""

    def __init__(self, voice: Voice, now: Callable[[], datetime] | None = None) -> None:
        self.voice = voice
        self._now = now or _now
        self._file: LogFile | LogStream | None = None
        self._format = Format.TEXT
        self._lock = threading.Lock()
        self.trouble: Trouble | None = None
        """Why the log has not everything that happened."""

    @property
    def is_open(self) -> bool:
        """Whether somebody wants to have a log."""
        return self._file is not None

    def open(self, path: Path, format_: Format = Format.TEXT) -> None:
        """Begin to write. Raises `ConfigError` when the file cannot be written."""
        file = log_at(path)
        file.try_out()
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
            self.trouble = Trouble(cannot_be_written(file.path, exc))

    def begin(self, command: str) -> None:
        """Write down that a command begins."""
        said = Text("certferry {version}: {command} begins", version=__version__, command=command)
        self._tell("run.started", said, command=command, version=__version__)

    def end(self, code: int) -> None:
        """Write down that a run has ended."""
        said = Text("ended with exit code {code}", code=code)
        self._tell("run.ended", said, exit_code=int(code))

    def stop(self) -> None:
        """Write down that somebody stopped the run."""
        self._tell("run.stopped", Text("stopped"), level=Level.WARNING)

    def complain(self, code: str, message: Text, hint: Text | None) -> None:
        """Write down why a run has no result."""
        label = Text("error: {message}", message=message)
        self._tell("run.failed", label, message, hint, level=Level.ERROR, code=code)

    def _tell(
        self,
        event: str,
        said: Text,
        detail: Text | None = None,
        hint: Text | None = None,
        *,
        level: Level = Level.INFO,
        **more: object,
    ) -> None:
        self.write(self._entry(event, said, detail, hint, level, **more))

    def _entry(
        self,
        event: str,
        said: Text,
        detail: Text | None,
        hint: Text | None,
        level: Level,
        **more: object,
    ) -> Entry:
        say = self.voice.say_on_one_line
        told = None if hint is None else say(hint)
        return Entry(event, say(said), say(detail or said), level, hint=told, more=more)

    def _for_people(self, entry: Entry) -> str:
        words = entry.words
        if entry.hint is not None:
            said = Text("{said} (hint: {hint})", said=words, hint=entry.hint)
            words = self.voice.say_on_one_line(said)
        moment = self._now().astimezone().strftime("%Y-%m-%d %H:%M:%S")
        # What follows the first line is a traceback; it stays visibly below its line.
        first, *rest = redacted(words).split("\n")
        return "\n".join([f"[{moment}] {visible(first)}", *(f"    {visible(row)}" for row in rest)])

    def _for_programs(self, entry: Entry) -> str:
        document: dict[str, object] = {
            "time": self._now()
            .astimezone(UTC)
            .isoformat(timespec="seconds")
            .replace("+00:00", "Z"),
            "pid": os.getpid(),
            "level": entry.level.value,
            "event": entry.event,
            "lineage": entry.lineage,
            "target": entry.target,
            "domain": entry.domain,
            "outcome": entry.outcome,
            "detail": _discreetly(entry.detail),
        }
        if entry.hint is not None:
            document["hint"] = _discreetly(entry.hint)
        return json.dumps({**document, **entry.more}, ensure_ascii=False)


def _discreetly(words: str | None) -> str | None:
    return None if words is None else visible(redacted(words))


def _now() -> datetime:
    return datetime.now(UTC)
