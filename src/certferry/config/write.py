"""Write the operator's own files: whole or not at all, and for their owner alone."""

from __future__ import annotations

import codecs
import errno
import os
import re
import shlex
import stat
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

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
    """Check the permissions of the configuration, its env files, the key file and the state."""
    read = [settings.path, *(file.path for file in settings.env_files)]
    for path in filter(None, read):
        yield from _judged(path, private=None)
    state = settings.state
    if state.key_file is not None:
        yield from _judged(state.key_file, private=Severity.ERROR)
    if state.path is not None:
        yield from _judged(state.path, private=Severity.WARNING)
        yield from _written(state.path)


def _written(state: Path) -> Iterator[Problem]:
    """Judge whether a run could write the state, and make it where there is none. SQLite makes a
    file beside it at each write (sqlite.org/tempfiles.html, "Rollback Journals").
    """
    beside = next(folder for folder in state.absolute().parents if folder.exists())
    for path in (state, beside):
        if not path.exists() or os.statvfs(path).f_flag & os.ST_RDONLY:
            continue  # that the disk takes no writes is reported where the state is opened
        if not os.access(path, os.W_OK):
            message = Text("{path} cannot be written by the user who runs this", path=str(path))
            fix = Text("let certferry run as the user to whom it belongs, or change its owner")
            yield Problem(Code.STATE_UNUSABLE, message, fix, subject=str(path))


def _judged(path: Path, *, private: Severity | None) -> Iterator[Problem]:
    """Judge one file: no other user may change it, and where it is `private`, none may read it."""
    try:
        facts = path.stat()
        must_be_trusted(path)
    except FileNotFoundError:
        return
    except OSError as exc:
        message = Text("{path}: {problem}", path=str(path), problem=system_words(exc))
        fix = Text("it must be a file of the user who runs certferry")
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
_ANOTHER_PLACE = Text("name another place")
_NOTHING_CHANGED = Text("name another place with --output FILE; nothing was changed")


@dataclass(frozen=True, slots=True)
class Draft:
    """A file that lies beside its place, whole and on the disk, until it is put there."""

    draft: Path
    place: Path

    def put(self) -> None:
        """Move it to its place. Raises `ConfigError`."""
        with _translating_errors(self.place, _ANOTHER_PLACE):
            self.draft.replace(self.place)
            sync_directory(self.place.parent)

    def put_new(self) -> None:
        """Link it to its place, if no other file is there. Raises `ConfigError`."""
        with _translating_errors(self.place, _ANOTHER_PLACE):
            try:
                os.link(self.draft, self.place)
            except FileExistsError:
                problem = Text("{path} is there already", path=self.place)
                hint = Text("--force replaces it; or name another file")
                raise ConfigError(problem, hint=hint) from None
            sync_directory(self.place.parent)


@contextmanager
def drafted(path: Path, content: bytes, hint: Text = _NOTHING_CHANGED) -> Iterator[Draft]:
    """Write a file beside its place, or beside what a link there leads to, with mode 0600 (see
    `_mode_in`); it is gone after the `with` block unless it was put. Raises `ConfigError` for
    whatever prevents writing.
    """
    place = path.resolve()
    with _translating_errors(path, hint):
        with checked_path(path):  # else it could not be read where it is
            pass
        if place.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        draft = Draft(draft_beside(place, content, _mode_in(place.parent)), place)
    try:
        yield draft
    finally:
        draft.draft.unlink(missing_ok=True)


def _mode_in(directory: Path) -> int:
    """Return 0600, or 0640 where root has made the directory its group's (setgid): a service in
    that group reads what root writes, as in the /etc/certferry of the Debian package.
    """
    facts = directory.stat()
    gives_group = facts.st_uid == 0 == os.geteuid() and facts.st_mode & stat.S_ISGID
    return 0o640 if gives_group else 0o600


def change_file(path: Path, before: str, after: str) -> None:
    """Replace a text that was read, keeping owner, mode and link. Raises `ConfigError`."""
    place = path.resolve()
    with _translating_errors(path, Text("nothing was changed")):
        facts, content = place.stat(), place.read_bytes()
        mark = codecs.BOM_UTF8 if content.startswith(codecs.BOM_UTF8) else b""
        if content.removeprefix(mark) != before.encode():
            problem = Text("{path} has been changed meanwhile", path=path)
            raise ConfigError(problem, hint=Text("nothing was changed; run the command again"))
        replace_file(place, mark + after.encode(), stat.S_IMODE(facts.st_mode), owner=facts)
        sync_directory(place.parent)


def write_private(path: Path, text: str) -> None:
    """Write a text file, with mode 0600. Raises `ConfigError`."""
    with drafted(path, text.encode()) as draft:
        draft.put()


def drafted_copy(path: Path, copy: Path) -> AbstractContextManager[Draft]:
    """Write a copy of a file as `drafted` does. Raises `ConfigError`."""
    with _translating_errors(path, _NOTHING_CHANGED):
        content = path.read_bytes()
    return drafted(copy, content)


def with_assignments(path: Path, values: Mapping[str, Secret]) -> str:
    """Return an environment file's text, new or old, with more values. Raises `ConfigError`."""
    before = ""
    if path.exists():
        before = read_file(path, private=True)[0].decode("utf-8-sig")
        if before and not before.endswith("\n"):
            before += "\n"
    return before + "".join(f"{name}={_shell(v.reveal())}\n" for name, v in values.items())


def _shell(value: str) -> str:
    """Write a value so that a shell and certferry read the same."""
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
