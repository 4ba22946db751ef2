"""Write the operator's files completely or not at all, and check the files' permissions. Only the
owner can read a new file, except in the case of `_mode_in`.
"""

from __future__ import annotations

import codecs
import errno
import os
import re
import shlex
import stat
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from msgspec import Struct

from certferry.config.files import read_file
from certferry.config.model import Settings
from certferry.core.findings import Code
from certferry.core.redaction import Secret
from certferry.errors import ConfigError, Problem, Severity, system_words
from certferry.file_trust import NotTrusted, checked_path, must_be_trusted
from certferry.text import Text
from certferry.whole_file import draft_beside, replace_file, sync_directory

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def examine_files(settings: Settings) -> Iterator[Problem]:
    """Yield the problems with the permissions of the configuration, the env files, the key file and
    the state.
    """
    paths = [settings.path, *(file.path for file in settings.env_files)]
    for path in filter(None, paths):
        yield from _judged(path, private=None)
    state = settings.state
    if state.key_file is not None:
        yield from _judged(state.key_file, private=Severity.ERROR)
    if state.path is not None:
        yield from _judged(state.path, private=Severity.WARNING)
        yield from _written(state.path)


def _written(state: Path) -> Iterator[Problem]:
    """Yield a problem if a run could not write the state, or could not make a missing state. SQLite
    also makes a file beside the state at each write (sqlite.org/tempfiles.html, "Rollback
    Journals").
    """
    beside = next(folder for folder in state.absolute().parents if folder.exists())
    for path in (state, beside):
        if not path.exists() or os.statvfs(path).f_flag & os.ST_RDONLY:
            continue  # opening the state reports a read-only disk
        if not os.access(path, os.W_OK):
            message = Text("certferry's user cannot write {path}", path=str(path))
            fix = Text("run certferry as the file's owner, or change the owner")
            yield Problem(Code.STATE_UNUSABLE, message, fix, subject=str(path))


def _judged(path: Path, *, private: Severity | None) -> Iterator[Problem]:
    """Yield a problem if other users can change a file, or if the file cannot be checked. Yield
    nothing for a missing file. `private` is the severity of the problem that others have any right
    to the file; with `None` others may read the file.
    """
    try:
        facts = path.stat()
        must_be_trusted(path)
    except FileNotFoundError:
        return
    except OSError as exc:
        message = Text("{path}: {problem}", path=str(path), problem=system_words(exc))
        fix = Text("the file must belong to certferry's user")
        if isinstance(exc, NotTrusted):
            fix = exc.fix
            message = Text("{path} {problem}", path=str(exc.path), problem=exc.problem)
        yield Problem(Code.FILE_OPEN, message, fix, subject=str(path))
        return
    mode = stat.S_IMODE(facts.st_mode)
    if private is not None and mode & _OTHERS:
        message = Text(
            "{path} is open to other users (mode {mode})", path=str(path), mode=f"{mode:04o}"
        )
        fix = Text("run: chmod 600 {path}", path=shlex.quote(os.fspath(path)))
        yield Problem(Code.FILE_OPEN, message, fix, private, str(path))


_NEEDS_NO_QUOTES = re.compile(r"[A-Za-z0-9_./:@%+,-]+")
_ANOTHER_PLACE = Text("choose another place")
_NOTHING_CHANGED = Text("choose another place with --output FILE; nothing was changed")


class Draft(Struct, frozen=True):
    """A complete file on the disk, written beside its final place."""

    #: The path of the written file.
    draft: Path
    #: The final path of the file.
    place: Path

    def put(self) -> None:
        """Move the file to the place. Raises `ConfigError`."""
        with _translating_errors(self.place, _ANOTHER_PLACE):
            self.draft.replace(self.place)
            sync_directory(self.place.parent)

    def put_new(self) -> None:
        """Link the file to the place. Raises `ConfigError`, also if a file is already there."""
        with _translating_errors(self.place, _ANOTHER_PLACE):
            try:
                os.link(self.draft, self.place)
            except FileExistsError:
                problem = Text("{path} already exists", path=self.place)
                hint = Text("use --force to replace the file, or choose another file")
                raise ConfigError(problem, hint=hint) from None
            sync_directory(self.place.parent)


@contextmanager
def drafted(path: Path, content: bytes, hint: Text = _NOTHING_CHANGED) -> Iterator[Draft]:
    """Write a draft beside `path`, or beside the target of a link at `path`, with mode 0600 (see
    `_mode_in`). The `with` block may put the draft into its place; any other draft is removed.
    Raises `ConfigError` for any failure to write.
    """
    place = path.resolve()
    with _translating_errors(path, hint):
        with checked_path(path):  # otherwise certferry would later refuse to read the file there
            pass
        if place.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        draft = Draft(draft_beside(place, content, _mode_in(place.parent)), place)
    try:
        yield draft
    finally:
        draft.draft.unlink(missing_ok=True)


def _mode_in(directory: Path) -> int:
    """Return the mode of a new file: 0600. If root writes to a directory that root has given to a
    group (setgid), return 0640, because a service in the group reads the file. The Debian package's
    /etc/certferry is such a directory.
    """
    facts = directory.stat()
    gives_group = facts.st_uid == 0 == os.geteuid() and facts.st_mode & stat.S_ISGID
    return 0o640 if gives_group else 0o600


def change_file(path: Path, before: str, after: str) -> None:
    """Replace the text of a file, and keep owner, mode, link and byte order mark. Raises
    `ConfigError`, also if the file's text is no longer `before`, the text as read earlier.
    """
    place = path.resolve()
    with _translating_errors(path, Text("nothing was changed")):
        facts, content = place.stat(), place.read_bytes()
        mark = codecs.BOM_UTF8 if content.startswith(codecs.BOM_UTF8) else b""
        if content.removeprefix(mark) != before.encode():
            problem = Text("another program has changed {path} meanwhile", path=path)
            raise ConfigError(problem, hint=Text("nothing was changed; run the command again"))
        replace_file(place, mark + after.encode(), stat.S_IMODE(facts.st_mode), owner=facts)
        sync_directory(place.parent)


def write_private(path: Path, text: str) -> None:
    """Write or replace a text file, with the mode of `_mode_in`. Raises `ConfigError`."""
    with drafted(path, text.encode()) as draft:
        draft.put()


def drafted_copy(path: Path, copy: Path) -> AbstractContextManager[Draft]:
    """Return the `drafted` context of a copy of the file at `path`. Raises `ConfigError`."""
    with _translating_errors(path, _NOTHING_CHANGED):
        content = path.read_bytes()
    return drafted(copy, content)


def with_assignments(path: Path, values: Mapping[str, Secret]) -> str:
    """Return the text of an environment file, new or existing, with `values` added. Raises
    `ConfigError`.
    """
    before = ""
    if path.exists():
        before = read_file(path, private=True)[0].decode("utf-8-sig")
        if before and not before.endswith("\n"):
            before += "\n"
    return before + "".join(f"{name}={_shell(value.reveal())}\n" for name, value in values.items())


def _shell(value: str) -> str:
    """Return a value in quotes if needed, so that a shell and certferry read the same value. Raises
    `ConfigError` for a value with a character that cannot be printed.
    """
    if _NEEDS_NO_QUOTES.fullmatch(value):
        return value
    if not value.isprintable():
        raise ConfigError(Text("a key contains a character that cannot be printed"))
    if "'" not in value:
        return f"'{value}'"
    return '"' + re.sub(r'(["\\$`])', r"\\\1", value) + '"'


@contextmanager
def _translating_errors(path: Path, hint: Text) -> Iterator[None]:
    try:
        yield
    except NotTrusted as exc:
        problem = Text("{path} {problem}", path=exc.path, problem=exc.problem)
        raise ConfigError(problem, hint=Text("{one}; {other}", one=exc.fix, other=hint)) from exc
    except OSError as exc:
        message = Text("{path} cannot be written: {problem}", path=path, problem=system_words(exc))
        raise ConfigError(message, hint=hint) from exc
