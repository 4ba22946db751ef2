"""Read regular files named by an operator, and check whether other users can change the files. A
FIFO or a device is refused without waiting for it.
"""

from __future__ import annotations

import errno
import os
import pwd
import shlex
import stat
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from certferry.errors import ConfigError, system_words
from certferry.file_trust import NotTrusted, PathCheck, checked_path, group_that_reads
from certferry.text import Text

OTHERS_READ = stat.S_IRGRP | stat.S_IROTH
_OTHERS_ANYTHING = stat.S_IRWXG | stat.S_IRWXO

_LONGEST_UNTRUSTED = 1024 * 1024
"""Maximum number of bytes read from a file that other users can write: far above the size of the
largest configuration.
"""


class Paths(Struct, frozen=True):
    """The directories at which relative paths and `~` start."""

    directory: Path  #: Start of relative paths.
    home: Path  #: Replaces `~`.

    @classmethod
    def beside(cls, file: Path | None, environ: Mapping[str, str]) -> Paths:
        """Return paths relative to the file's directory; without a file, to the current
        directory.
        """
        directory = Path.cwd() if file is None else file.absolute().parent
        return cls(directory, home_directory(environ))

    def resolve(self, path: str) -> Path:
        """Return the absolute path."""
        if path == "~" or path.startswith("~/"):
            return self.home / path[2:]
        return self.directory / path


def home_directory(environ: Mapping[str, str]) -> Path:
    """Return the user's home: `$HOME`, or else the home in the password database."""
    home = environ.get("HOME")
    if home:
        return Path(home)
    try:
        return Path(pwd.getpwuid(os.geteuid()).pw_dir)
    except KeyError:
        return Path("/")  # a user id without a name, as in containers


def read_file(path: Path, *, private: bool = False) -> tuple[bytes, int]:
    """Return the content and the mode of a regular file. Raises `ConfigError` if the file cannot be
    read, if other users can change the file, or if they can read a `private` file. The error's
    message is to stand after the file's name.

    The group of a service may read the file (`group_that_reads`). The returned mode leaves out this
    group's right.
    """
    try:
        with checked_path(path) as check:
            descriptor = check.open()
            try:
                return _read_open(check, descriptor, private=private)
            finally:
                os.close(descriptor)
    except NotTrusted as exc:
        problem = Text("{problem}; {fix}", problem=exc.problem, fix=exc.fix)
        raise ConfigError(problem) from exc
    except ValueError as exc:  # a NUL in the name
        raise ConfigError(Text("is not a file name")) from exc
    except OSError as exc:
        problem = Text("cannot be read: {problem}", problem=system_words(exc))
        raise ConfigError(problem) from exc


def read_untrusted_file(path: Path) -> bytes:
    """Return the first `_LONGEST_UNTRUSTED` bytes of a regular file that another user may have
    written. Raises `OSError`.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return file.read(_LONGEST_UNTRUSTED)


def decode_text(path: Path, data: bytes) -> str:
    """Decode the content of a file as UTF-8, with or without a byte order mark. Raises
    `ConfigError`, with a message that is to stand after the file's name.
    """
    is_utf16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    if b"\0" in data and not is_utf16:
        hint = Text(
            "put the file back from a backup: a crash or a full disk can leave a file in this state"
        )
        raise ConfigError(Text("is not text: the file contains a null byte"), hint=hint)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        # Editors on Chinese Windows often save files as GBK.
        source, quoted = ("utf-16" if is_utf16 else "gbk"), shlex.quote(str(path))
        command = f"iconv -f {source} -t utf-8 {quoted} > {shlex.quote(f'{path}.utf8')}"
        hint = Text("save the file as UTF-8; if the encoding is {encoding}: {command}")
        hint = hint.filled(encoding=source.upper(), command=command)
        raise ConfigError(Text("is not UTF-8 text"), hint=hint) from exc


def _read_open(check: PathCheck, descriptor: int, *, private: bool) -> tuple[bytes, int]:
    facts = os.fstat(descriptor)
    if stat.S_ISDIR(facts.st_mode):
        raise ConfigError(Text("is a directory, not a file"))
    if not stat.S_ISREG(facts.st_mode):
        raise ConfigError(Text("is not a regular file"))
    mode = stat.S_IMODE(facts.st_mode)
    if private and mode & (_OTHERS_ANYTHING & ~group_that_reads(facts)):
        problem = Text("is open to other users (mode {mode}); run: chmod 600 {path}")
        raise ConfigError(problem.filled(mode=f"{mode:04o}", path=shlex.quote(str(check.path))))
    check.judge(facts)
    with open(descriptor, "rb", closefd=False) as file:
        return file.read(), mode & ~group_that_reads(facts)
