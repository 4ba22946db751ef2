"""Whether other users could read or change the files that a run relies on."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

from certferry.config.model import Settings
from certferry.core.findings import Code, Finding, Severity
from certferry.file_trust import NotTrusted, must_be_trusted
from certferry.system_words import system_words
from certferry.text import Text

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def look_at_files(settings: Settings) -> Iterator[Finding]:
    """Look at the configuration, the files that it names, the key file and the state, as far as
    they are there. Of what was refused when it was read there is nothing left to tell.
    """
    read = [settings.path, *(file.path for file in settings.env_files)]
    for path in filter(None, read):
        yield from _judged(path, private=None)
    yield from _judged(settings.state.key_file, private=Severity.ERROR)
    yield from _judged(settings.state.path, private=Severity.WARNING)
    yield from _written(settings.state.path)


def _written(state: Path) -> Iterator[Finding]:
    """Judge whether a run could write the state, and make it where there is none. SQLite makes a
    file beside it at each write (sqlite.org/tempfiles.html, "Rollback Journals").
    """
    beside = next(folder for folder in state.absolute().parents if folder.exists())
    for path in (state, beside):
        if not path.exists() or os.statvfs(path).f_flag & os.ST_RDONLY:
            continue  # that the disk takes no writes is told where the state is opened
        if not os.access(path, os.W_OK):
            message = Text("{path} cannot be written by the user who runs this", path=str(path))
            fix = Text("let certferry run as the user to whom it belongs, or change its owner")
            yield Finding(Severity.ERROR, Code.STATE_UNUSABLE, str(path), message, fix)


def _judged(path: Path, *, private: Severity | None) -> Iterator[Finding]:
    """Judge one file: no other user may change it, and where it is `private`, none may read it."""
    try:
        facts = path.stat()
        must_be_trusted(path)
    except FileNotFoundError:
        return
    except NotTrusted as open_to:
        message = Text("{path} {problem}", path=str(open_to.path), problem=open_to.problem)
        yield Finding(Severity.ERROR, Code.FILE_OPEN, str(path), message, open_to.fix)
        return
    except OSError as problem:
        message = Text("{path}: {problem}", path=str(path), problem=system_words(problem))
        fix = Text("it must be a file of the user who runs certferry")
        yield Finding(Severity.ERROR, Code.FILE_OPEN, str(path), message, fix)
        return
    mode = stat.S_IMODE(facts.st_mode)
    if private is not None and mode & _OTHERS:
        message = Text(
            "{path} is open to other users (mode {mode})", path=str(path), mode=f"{mode:04o}"
        )
        fix = Text("run: chmod 600 {path}", path=shlex.quote(os.fspath(path)))
        yield Finding(private, Code.FILE_OPEN, str(path), message, fix)
