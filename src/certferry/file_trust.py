"""Whether another user than root and the caller could change a file, or put another in its place.

The rule, for whatever decides what certferry does and for the directories it makes files in: the
file, each link and each directory on the way to it belongs to root or to the caller, and no other
user may write to it. A group may, when it is the private one of root or the caller: called like its
user, and without other members (Debian, Fedora and others give each user such a group, and a umask
of 002). In a sticky directory such as `/tmp` others may write, since they can neither move nor
remove what is root's or the caller's there; but nothing is made there (sshd's StrictModes and sudo
judge in the same way; what a file's owner may do, root's own tools ignore).
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import shlex
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePath

from certferry.text import Text

# Goes through directories that may be passed and not listed; Linux and FreeBSD have it.
_PASS = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY
"""To open a FIFO would wait for a writer, without O_NONBLOCK."""

_PUBLIC = frozenset(map(Path, ("/tmp", "/var/tmp", "/dev/shm")))  # noqa: S108 - not written to
"""Directories that every user is to write to: their mode is not to be changed."""

_MOST_LINKS = 40
"""As many as Linux follows in a path (path_resolution(7))."""


class NotTrusted(PermissionError):
    """Others could change what is at a path: `problem` continues its name, `fix` is what to do.
    `owner` is the user it belongs to, where that is the trouble.
    """

    def __init__(self, path: Path, problem: Text, fix: Text, owner: str | None = None) -> None:
        super().__init__(errno.EPERM, str(problem))
        self.path = path
        self.problem = problem
        self.fix = fix
        self.owner = owner


@dataclass(frozen=True, slots=True)
class Spot:
    """A name in an open directory, where a path has led to; there may be nothing there."""

    directory: int
    name: str
    path: Path
    owners: frozenset[int]
    makes_files: bool
    is_exposed: bool
    """Whether others can put something here; only with `exposed`."""

    def open(self, flags: int = _READ, mode: int = 0o600) -> int:
        """Open what is there, by itself: to be read unless the `flags` say otherwise. It is yet to
        be judged. Raises `OSError`.
        """
        flags |= os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(self.name, flags, mode, dir_fd=self.directory)

    def judge(self, facts: os.stat_result) -> None:
        """Raise `NotTrusted` where others could change what has these facts."""
        _judge(self.path, facts, self.owners, makes_files=self.makes_files)


def open_directory(path: Path, owners: Collection[int] = ()) -> int:
    """Open a directory in which files are made. These `owners` may own it, and those above it,
    beside root and the caller; no link is followed there. Raises `OSError`: `NotTrusted` where
    others could change it.
    """
    with spot(path, owners, makes_files=True) as found:
        descriptor = found.open(os.O_RDONLY | os.O_DIRECTORY)
        try:
            found.judge(os.fstat(descriptor))
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor


def must_be_trusted(path: Path, *, makes_files: bool = False) -> None:
    """Raise `OSError` as `open_directory` does, for a directory in which files are made or for what
    is only read. It is not opened for that: SQLite's locks on a file end when the process that has
    them closes one of its descriptors.
    """
    with spot(path, makes_files=makes_files) as found:
        found.judge(os.stat(found.name, dir_fd=found.directory, follow_symlinks=False))


@contextmanager
def spot(
    path: Path, owners: Collection[int] = (), *, makes_files: bool = False, exposed: bool = False
) -> Iterator[Spot]:
    """Follow a path for a `with` block, each directory and link judged before what it leads to is
    looked for. Raises `OSError` as `open_directory` does.

    With `exposed`, others may own the directories and write to them; from there on no link is
    followed.
    """
    trusted = _root_and_caller().union(owners)
    way = _Way(path.absolute(), trusted, exposed=exposed)
    try:
        name = way.follow()
        yield Spot(way.handle, name, way.path / name, trusted, makes_files, way.is_exposed)
    finally:
        way.close()


class _Way:
    """The directory that has been reached, by its handle and by its path."""

    def __init__(self, wanted: Path, trusted: frozenset[int], *, exposed: bool) -> None:
        self._wanted = wanted
        self._trusted = trusted
        self._may_be_exposed = exposed
        # Who could change the rest of the way, beside root and the caller.
        self._stranger: Text | str | None = None
        self._others_write_here = False
        self.handle = -1
        self.path = Path("/")

    def follow(self) -> str:
        """Go as far as the last name of the path, which is no link then; give the name."""
        left = self._from_here(self._wanted)
        links = 0
        while True:
            name = left.pop()
            target = self._link(name)
            if target is not None:
                links += 1
                if links > _MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                left += self._from_here(target)
            elif not left:
                return name
            else:
                self._enter(name)

    @property
    def is_exposed(self) -> bool:
        """Whether others can put something into the directory."""
        return self._stranger is not None or self._others_write_here

    def close(self) -> None:
        """Let go of the directory."""
        if self.handle >= 0:
            os.close(self.handle)
        self.handle = -1

    def _from_here(self, path: PurePath) -> list[str]:
        """Give the names still to go, the next one last."""
        if path.is_absolute():
            self._stand_in(os.open("/", _PASS), Path("/"))
        names = [name for name in path.parts if name != path.anchor]
        return names[::-1] or ["."]

    def _link(self, name: str) -> PurePath | None:
        """Give where a link leads; `None` for what is none, or not there."""
        try:
            facts = os.stat(name, dir_fd=self.handle, follow_symlinks=False)
        except FileNotFoundError:
            return None
        if not stat.S_ISLNK(facts.st_mode):
            return None
        if self._stranger is not None:
            # It could lead to another's files by now, which root would write to.
            problem = Text("is a symbolic link that {who} can change", who=self._stranger)
            raise NotTrusted(
                self.path / name, problem, Text("name the file or directory that it leads to")
            )
        _judge_owner(self.path / name, facts, _root_and_caller())
        return PurePath(os.readlink(name, dir_fd=self.handle))

    def _enter(self, name: str) -> None:
        entered = os.open(name, _PASS, dir_fd=self.handle)
        self._stand_in(entered, self.path.parent if name == ".." else self.path / name)

    def _stand_in(self, handle: int, path: Path) -> None:
        self.close()
        self.handle, self.path = handle, path
        facts = os.fstat(handle)
        if not self._may_be_exposed:
            self._judge(facts)
        own = _root_and_caller()
        who = _others_who_write(facts, own)
        self._others_write_here = who is not None
        if facts.st_uid not in own and _has_number(facts.st_uid):
            self._stranger = user_name(facts.st_uid)
        elif who is not None and not _is_sticky(facts):
            self._stranger = who

    def _judge(self, facts: os.stat_result) -> None:
        """Judge the directory, which leads to what is told of."""
        if facts.st_uid not in self._trusted and _has_number(facts.st_uid):
            owner = user_name(facts.st_uid)
            problem = Text(
                "lies in {directory}, which belongs to {owner}", directory=self.path, owner=owner
            )
            # No advice to take another user's home away.
            fix = _as_owner(facts.st_uid, _elsewhere())
            raise NotTrusted(self._wanted, problem, fix, owner)
        who = _others_who_write(facts, self._trusted)
        if who is not None and not _is_sticky(facts):
            problem = Text(
                "lies in {directory}, where {who} can replace it (mode {mode})",
                directory=self.path,
                who=who,
                mode=_octal(facts),
            )
            raise NotTrusted(self._wanted, problem, _closed(self.path, facts))


def _judge(
    path: Path, facts: os.stat_result, trusted: frozenset[int], *, makes_files: bool
) -> None:
    """Judge what a path has led to."""
    _judge_owner(path, facts, trusted)
    who = _others_who_write(facts, trusted)
    if who is not None and (makes_files or not _is_sticky(facts)):
        problem = Text("can be changed by {who} (mode {mode})", who=who, mode=_octal(facts))
        fix = _elsewhere() if path in _PUBLIC else _closed(path, facts)
        raise NotTrusted(path, problem, fix)


def _judge_owner(path: Path, facts: os.stat_result, trusted: frozenset[int]) -> None:
    if facts.st_uid in trusted:
        return
    owner, caller = user_name(facts.st_uid), os.geteuid()
    problem = Text("belongs to {owner}, who could change it", owner=owner)
    otherwise = _run("chown", "-h", user_name(caller), path)
    if owner.isdecimal():
        otherwise = Text(
            "chown to {number} on the host what is mounted at {path}", number=caller, path=path
        )
    raise NotTrusted(path, problem, _as_owner(facts.st_uid, otherwise), owner)


def group_that_reads(facts: os.stat_result) -> int:
    """Return the bit by which a service reads what root has given to its group: it has no other way
    (a secret that Kubernetes mounts, or 0640 root:certferry).
    """
    caller, groups = os.geteuid(), {os.getegid(), *os.getgroups()}
    is_given = facts.st_uid == 0 != caller and facts.st_gid in groups
    return stat.S_IRGRP if is_given else 0


def _has_number(user: int) -> bool:
    """Tell whether a user has a number in this user namespace: the directories around a container
    may be those of users outside, who all seem to be one (user_namespaces(7)).
    """
    try:
        ranges = [line.split() for line in Path("/proc/self/uid_map").read_text().splitlines()]
    except OSError:
        return True
    return any(int(first) <= user < int(first) + int(count) for first, _, count in ranges)


def _is_sticky(facts: os.stat_result) -> bool:
    return stat.S_ISDIR(facts.st_mode) and bool(facts.st_mode & stat.S_ISVTX)


def _octal(facts: os.stat_result) -> str:
    return f"{stat.S_IMODE(facts.st_mode):04o}"


def _others_who_write(facts: os.stat_result, trusted: frozenset[int]) -> Text | None:
    if facts.st_mode & stat.S_IWOTH:
        return Text("every user")
    if facts.st_mode & stat.S_IWGRP and not _is_private(facts.st_gid, trusted):
        return Text("the group {group}", group=group_name(facts.st_gid))
    return None


def _is_private(group: int, users: frozenset[int]) -> bool:
    """Tell whether a group is one of these users' own; where it has no name, as in containers, its
    number is its user's, or it is one that the caller was given (Kubernetes' `fsGroup`).
    """
    try:
        entry = grp.getgrgid(group)
    except KeyError:
        return group in users or group in os.getgroups()
    names = {user_name(user) for user in users}
    return entry.gr_name in names and names.issuperset(entry.gr_mem)


def _root_and_caller() -> frozenset[int]:
    return frozenset({0, os.geteuid()})


def user_name(number: int) -> str:
    """Give a user's name, or the number of one that has none."""
    with suppress(KeyError):
        return pwd.getpwuid(number).pw_name
    return str(number)


def group_name(number: int) -> str:
    """Give a group's name, or the number of one that has none."""
    with suppress(KeyError):
        return grp.getgrgid(number).gr_name
    return str(number)


def _run(*words: object) -> Text:
    return Text("run: {command}", command=shlex.join(map(str, words)))


def _closed(path: Path, facts: os.stat_result) -> Text:
    """Advise to take the others' right away, which only root and the owner can do."""
    fix = _run("chmod", "go-w", path)
    if os.geteuid() in {0, facts.st_uid}:
        return fix
    # An emptyDir is made by root with 0777, whatever the pod's user is, and 2777 with `fsGroup`.
    return Text(
        "as root, {fix}; in Kubernetes mount a persistentVolumeClaim, with"
        " securityContext.fsGroup: an emptyDir is open to every user, and gone with its pod",
        fix=fix,
    )


def _as_owner(user: int, otherwise: Text) -> Text:
    """Advise to be the user whose it is: of a service, as a rule. One without a name owns what is
    mounted into a container.
    """
    owner = user_name(user)
    advice = Text("run it as its owner: sudo -u {owner} certferry …; or {otherwise}")
    if owner.isdecimal():
        advice = Text("run the container with --user {owner}, or {otherwise}")
    return advice.filled(owner=owner, otherwise=otherwise)


def _elsewhere() -> Text:
    caller = os.geteuid()
    if caller == 0:
        return Text("keep it where only root can write, such as below /etc or /var/lib")
    return Text("keep it where only {user} and root can write", user=user_name(caller))
