"""Whether a directory can take our files, and for whom: seen before anything is issued for it."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Callable, Iterable
from pathlib import Path

from certferry.errors import TargetRejected
from certferry.text import Text

RIGHTS = Text("run certferry as a user who may read and write there")


def must_be_writable(directory: Path, hint: Text) -> None:
    """Raise `TargetRejected` for a directory that cannot be written to; `hint` is for one that is
    not there.
    """
    if not directory.exists():
        if directory.is_symlink():
            raise TargetRejected(
                Text("{path} is a symbolic link that leads nowhere", path=directory),
                hint=Text("make the directory that it leads to, or correct `directory`"),
            )
        raise TargetRejected(Text("there is no directory {path}", path=directory), hint=hint)
    if not directory.is_dir():
        raise TargetRejected(
            Text("{path} is not a directory", path=directory),
            hint=Text("correct `directory`, or move away what is there"),
        )
    if os.statvfs(directory).f_flag & os.ST_RDONLY:
        raise TargetRejected(
            Text("{path} lies on a file system that is mounted read-only", path=directory),
            hint=Text(
                "mount it for writing, or correct `directory`; for a run by a systemd timer,"
                " `certferry schedule install --systemd` opens the directories of the file"
            ),
        )
    if not os.access(directory, os.W_OK | os.X_OK, effective_ids=True):
        raise TargetRejected(Text("{path} cannot be written to", path=directory), hint=RIGHTS)


def must_take_files(directory: Path, names: Iterable[str]) -> None:
    """Raise `TargetRejected` where something lies in a file's place that is not to be replaced."""
    for path in (directory / name for name in names):
        if path.is_symlink():
            # certbot's `live` is made of them, and certbot goes astray where one is a file.
            problem = Text("{path} is a symbolic link", path=path)
            hint = Text("certferry writes files of its own; choose another directory")
            raise TargetRejected(problem, hint=hint)
        if path.is_dir():
            problem = Text("{path} is a directory, not a file", path=path)
            raise TargetRejected(problem, hint=Text("move it away, or correct `directory`"))


def user_number(name: str | None) -> int | None:
    """Give a user's number. Raises `TargetRejected` for one that this machine does not know."""
    return _number(name, lambda user: pwd.getpwnam(user).pw_uid, Text("user"))


def group_number(name: str | None) -> int | None:
    """Give a group's number, as `user_number` does."""
    return _number(name, lambda group: grp.getgrnam(group).gr_gid, Text("group"))


def _taken_by_chown(number: int) -> int:
    if number >= 2**32 - 1:  # chown(2): the last one of 32 bits says that nothing is to change
        raise ValueError(number)
    return number


def _number(name: str | None, look_up: Callable[[str], int], what: Text) -> int | None:
    if name is None:
        return None
    try:
        return _taken_by_chown(int(name)) if name.isdecimal() else look_up(name)
    except (KeyError, ValueError):
        raise TargetRejected(
            Text("this machine knows no {what} called {name}", what=what, name=name),
            hint=Text("make it first, or correct `owner` and `group`"),
        ) from None
