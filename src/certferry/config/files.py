"""Reading files an operator names: only regular ones, never waiting, and who else can read them."""

from __future__ import annotations

import os
import pwd
import shlex
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from certferry.errors import ConfigError
from certferry.system_words import system_words
from certferry.text import Text

_OTHERS_READ = stat.S_IRGRP | stat.S_IROTH
_OTHERS_ANYTHING = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class FileContent:
    """A file's bytes and its permission bits, taken from the same open file."""

    data: bytes = field(repr=False)
    mode: int

    @property
    def readable_by_others(self) -> bool:
        """Tell whether its group or everyone may read it."""
        return bool(self.mode & _OTHERS_READ)


@dataclass(frozen=True, slots=True)
class Paths:
    """What relative paths and `~` are taken from."""

    directory: Path
    home: Path

    @classmethod
    def beside(cls, file: Path | None, environ: Mapping[str, str]) -> Paths:
        """Take relative paths from the file's directory; without a file, from the current one."""
        directory = Path.cwd() if file is None else file.absolute().parent
        return cls(directory, home_directory(environ))

    def resolve(self, written: str) -> Path:
        """Give the absolute path that is meant."""
        if written == "~" or written.startswith("~/"):
            return self.home / written[2:]
        return self.directory / written


def home_directory(environ: Mapping[str, str]) -> Path:
    """Give the user's home, from `$HOME` before the password database."""
    home = environ.get("HOME")
    if home:
        return Path(home)
    try:
        return Path(pwd.getpwuid(os.geteuid()).pw_dir)
    except KeyError:
        return Path("/")  # a user id without a name, as containers have them


def read_file(path: Path) -> FileContent:
    """Read a regular file. Raises `ConfigError`, whose message continues the file's name."""
    try:
        # Without O_NONBLOCK, opening a FIFO waits for somebody to write.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError as exc:  # a NUL in its name
        raise ConfigError(Text("is not the name of a file")) from exc
    except OSError as exc:
        raise _unreadable(exc) from exc
    try:
        return _read_open(descriptor)
    except OSError as exc:
        raise _unreadable(exc) from exc
    finally:
        os.close(descriptor)


def read_private_file(path: Path) -> bytes:
    """Read a file that nobody else may read, write or run. Raises `ConfigError`, as `read_file`."""
    content = read_file(path)
    if content.mode & _OTHERS_ANYTHING:
        raise ConfigError(
            Text(
                "is open to other users (mode {mode}); run: chmod 600 {path}",
                mode=f"{content.mode:04o}",
                path=shlex.quote(str(path)),
            )
        )
    return content.data


def _read_open(descriptor: int) -> FileContent:
    facts = os.fstat(descriptor)
    if stat.S_ISDIR(facts.st_mode):
        raise ConfigError(Text("is a directory, not a file"))
    if not stat.S_ISREG(facts.st_mode):
        raise ConfigError(Text("is not a regular file"))
    with open(descriptor, "rb", closefd=False) as file:
        return FileContent(file.read(), stat.S_IMODE(facts.st_mode))


def _unreadable(exc: OSError) -> ConfigError:
    return ConfigError(Text("cannot be read: {problem}", problem=system_words(exc)))
