"""Write the operator's files completely or not at all, and check the permissions of files. A new
file can be read by its owner, and by a service's group only in the case of `_mode_in`.
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
    """Yield the problems with the permissions of the configuration file, the environment files, the
    key file and the state's file.
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
    """Yield a problem if certferry's user may not write the state's file, or may not make files
    beside it. SQLite makes a file beside the state at each write (sqlite.org/tempfiles.html,
    "Rollback Journals").
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
    nothing for a missing file. For a file that others must not read either, `private` is the
    severity of this problem.
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
    """A complete file on the disk, not yet under its final path but in the same directory."""

    #: The path of the written file.
    draft: Path
    #: The final path of the file.
    place: Path

    def put(self) -> None:
        """Move the file to `place`, and replace any file there. Raises `ConfigError`."""
        with _translating_errors(self.place, _ANOTHER_PLACE):
            self.draft.replace(self.place)
            sync_directory(self.place.parent)

    def put_new(self) -> None:
        """Link the file to `place`. Raises `ConfigError`, also if a file is already there."""
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
    """Write a draft of the file at `path`, with the mode of `_mode_in`. If `path` is a symbolic
    link, the draft is for the link's target. The `with` block may put the draft into its place;
    otherwise the draft is removed. Raises `ConfigError` if the draft cannot be written.
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
    """Return the mode of a new file in a directory: usually 0600. If root writes to a directory of
    root with the setgid bit, such as the Debian package's /etc/certferry, return 0640: a service in
    the directory's group has to read the file.
    """
    facts = directory.stat()
    gives_group = facts.st_uid == 0 == os.geteuid() and facts.st_mode & stat.S_ISGID
    return 0o640 if gives_group else 0o600


def change_file(path: Path, before: str, after: str) -> None:
    """Replace the text `before` of a file by `after`, and keep owner, mode, symbolic link and byte
    order mark. Raises `ConfigError` if the file cannot be written, or has another text than
    `before` by now.
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
    """Return the text of the environment file at `path`, if any, with `values` added. Raises
    `ConfigError` for a file that cannot be read, or a value that cannot be written.
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
