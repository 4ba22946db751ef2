"""Whether another user than root and the caller could change a file, or put another in its place.
The file, each link and each directory on the way must belong to root or the caller, and only they
may write there; or a group that is private: called like its user, without other members (Debian,
Fedora). An access control list is read where the mode lets a group write. In a sticky directory
such as `/tmp` others may write, but nothing is made there (as sshd's StrictModes and sudo judge).
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import shlex
import stat
import struct
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePath

from certferry.text import Text

# Goes through directories that may be passed and not listed; Linux and FreeBSD have it.
_PASS = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# To open a FIFO would wait for a writer, without O_NONBLOCK.
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
# Their mode is not to be changed: every user is to write there.
_PUBLIC = frozenset(map(Path, ("/tmp", "/var/tmp", "/dev/shm")))  # noqa: S108 - not written to
_MOST_LINKS = 40  # as many as Linux follows in a path (path_resolution(7))


PACKAGE_USER = "certferry"
"""The user and the group of the Debian package (release/debian/postinst)."""


class NotTrusted(PermissionError):
    """Others could change `path`, which `problem` says and `fix` ends; `owner`: who owns it."""

    def __init__(self, path: Path, problem: Text, fix: Text, owner: str | None = None) -> None:
        super().__init__(errno.EPERM, str(problem))
        self.path = path
        self.problem = problem
        self.fix = fix
        self.owner = owner


@dataclass(frozen=True, slots=True)
class PathCheck:
    """A `name` in an open `directory`, perhaps of nothing; `is_exposed`: others may change it."""

    directory: int
    name: str
    path: Path
    owners: frozenset[int]
    is_exposed: bool

    def open(self, flags: int = _READ, mode: int = 0o600) -> int:
        """Open what is there, to read it by default, and judge nothing. Raises `OSError`."""
        flags |= os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(self.name, flags, mode, dir_fd=self.directory)

    def judge(self, facts: os.stat_result, *, makes_files: bool = False) -> None:
        """Raise `NotTrusted` where others could change what has these facts."""
        _must_be_owned(self.path, facts, self.owners)
        place = f"/proc/self/fd/{self.directory}/{self.name}" if self.directory >= 0 else self.name
        who = _other_writers(facts, self.owners, place)
        if who is not None and (makes_files or not _is_sticky(facts)):
            problem = Text("can be changed by {who} (mode {mode})", who=who, mode=_octal(facts))
            fix = _elsewhere() if self.path in _PUBLIC else _closed(self.path, facts)
            raise NotTrusted(self.path, problem, fix)


def open_directory(path: Path, owners: Collection[int] = ()) -> int:
    """Open a directory to make files in, owned by root, the caller or these `owners`, through no
    link of theirs. Raises `OSError`, such as `NotTrusted`.
    """
    with checked_path(path, owners) as found:
        descriptor = found.open(os.O_RDONLY | os.O_DIRECTORY)
        try:
            found.judge(os.fstat(descriptor), makes_files=True)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor


def must_be_trusted(path: Path, *, makes_files: bool = False) -> None:
    """Raise `OSError` as `open_directory` does, or for what is only read. Nothing is opened:
    closing a file would end SQLite's locks on it.
    """
    with checked_path(path) as found:
        facts = os.stat(found.name, dir_fd=found.directory, follow_symlinks=False)
        found.judge(facts, makes_files=makes_files)


@contextmanager
def checked_path(
    path: Path, owners: Collection[int] = (), *, exposed: bool = False
) -> Iterator[PathCheck]:
    """Follow a path for a `with` block, judging each step before the next. Raises `OSError`. With
    `exposed`, directories may be open to others, and no link below such a one is followed.
    """
    own = frozenset({0, os.geteuid()})
    wanted, trusted = path.absolute(), own.union(owners)
    left, links, handle, here = [*reversed(wanted.parts)], 0, -1, Path("/")
    others: Text | None = None
    stranger: Text | str | None = None
    with ExitStack() as opened:
        while True:
            name = left.pop()
            facts = _facts(name, handle)
            if facts is not None and stat.S_ISLNK(facts.st_mode):
                links += 1
                if stranger is not None:
                    problem = Text("is a symbolic link that {who} can change", who=stranger)
                    fix = Text("name the file or directory that it leads to")
                    raise NotTrusted(here / name, problem, fix)
                if links > _MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                _must_be_owned(here / name, facts, own)
                left += reversed(PurePath(os.readlink(name, dir_fd=handle)).parts or (".",))
                continue
            if not left:
                break
            handle = os.open(name, _PASS, dir_fd=handle)
            opened.callback(os.close, handle)
            here = here.parent if name == ".." else here / name
            facts = os.fstat(handle)
            others = _other_writers(facts, own, f"/proc/self/fd/{handle}/.")
            if _is_strangers(facts, own):
                stranger = user_name(facts.st_uid)
            elif others is not None and not _is_sticky(facts):
                stranger = others
            if not exposed:
                _must_keep(here, facts, wanted, trusted, f"/proc/self/fd/{handle}/.")
        is_exposed = stranger is not None or others is not None
        yield PathCheck(handle, name, here / name, trusted, is_exposed)


def _facts(name: str, directory: int) -> os.stat_result | None:
    with suppress(FileNotFoundError):
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    return None


def _must_keep(
    directory: Path, facts: os.stat_result, wanted: Path, trusted: frozenset[int], place: str
) -> None:
    """Raise `NotTrusted` of what is wanted, where others could put another in its place."""
    who = _other_writers(facts, trusted, place)
    if _is_strangers(facts, trusted):
        problem = Text("lies in {directory}, which belongs to {owner}")
        # No advice to take another user's home away.
        fix = _as_owner(facts.st_uid, _elsewhere())
        owner = user_name(facts.st_uid)
        raise NotTrusted(wanted, problem.filled(directory=directory, owner=owner), fix, owner)
    if who is not None and not _is_sticky(facts):
        problem = Text("lies in {directory}, where {who} can replace it (mode {mode})")
        problem = problem.filled(directory=directory, who=who, mode=_octal(facts))
        raise NotTrusted(wanted, problem, _closed(directory, facts))


def _must_be_owned(path: Path, facts: os.stat_result, trusted: frozenset[int]) -> None:
    if facts.st_uid in trusted:
        return
    owner, caller = user_name(facts.st_uid), os.geteuid()
    otherwise = Text("run: {command}", command=f"chown -h {user_name(caller)} {_quoted(path)}")
    if owner.isdecimal():
        otherwise = Text("chown to {number} on the host what is mounted at {path}")
        otherwise = otherwise.filled(number=caller, path=path)
    problem = Text("belongs to {owner}, who could change it", owner=owner)
    raise NotTrusted(path, problem, _as_owner(facts.st_uid, otherwise), owner)


def group_that_reads(facts: os.stat_result) -> int:
    """Return the bit by which a service reads what root has given to its group: it has no other way
    (a secret that Kubernetes mounts, or 0640 root:certferry). Root accepts
    the package's group.
    """
    groups = {os.getegid(), *os.getgroups()}
    if os.geteuid() == 0:
        groups = set()
        with suppress(KeyError):
            groups = {grp.getgrnam(PACKAGE_USER).gr_gid}
    return stat.S_IRGRP if facts.st_uid == 0 and facts.st_gid in groups else 0


def _is_strangers(facts: os.stat_result, trusted: frozenset[int]) -> bool:
    """Return whether another user owns it, and has a number in this user namespace: the directories
    around a container may be those of users outside, who all seem to be one (user_namespaces(7)).
    """
    if facts.st_uid in trusted:
        return False
    try:
        ranges = [line.split() for line in Path("/proc/self/uid_map").read_text().splitlines()]
    except OSError:
        return True
    return any(0 <= facts.st_uid - int(first) < int(count) for first, _, count in ranges)


def _is_sticky(facts: os.stat_result) -> bool:
    return stat.S_ISDIR(facts.st_mode) and bool(facts.st_mode & stat.S_ISVTX)


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


def _octal(facts: os.stat_result) -> str:
    return f"{stat.S_IMODE(facts.st_mode):04o}"


def _other_writers(facts: os.stat_result, trusted: frozenset[int], place: str) -> Text | None:
    """Return who else may write to what lies at a place, which is judged by these facts."""
    if facts.st_mode & stat.S_IWOTH:
        return Text("every user")
    if not facts.st_mode & stat.S_IWGRP:
        return None  # the right of the group bounds what an access control list gives (acl(5))
    entries = _writers_in_list(place)
    is_owning = entries is None or any(tag == _OWNING_GROUP for tag, _ in entries)
    if is_owning and not _is_private(facts.st_gid, trusted):
        return Text("the group {group}", group=group_name(facts.st_gid))
    for tag, number in entries or ():
        if tag == _USER and number not in trusted:
            user = user_name(number)
            return Text("the user {user} (by its access control list)", user=user)
        if tag == _GROUP and not _is_private(number, trusted):
            group = group_name(number)
            return Text("the group {group} (by its access control list)", group=group)
    return None


_LIST = "system.posix_acl_access"
_HEADER = 4  # bytes of the version before the entries
_ENTRY, _WRITE = struct.Struct("<HHI"), 2
_USER, _OWNING_GROUP, _GROUP = 0x02, 0x04, 0x08  # tags of entries (linux/posix_acl.h)


def _writers_in_list(place: str) -> list[tuple[int, int]] | None:
    """Return the tags and numbers to which an access control list gives the right to write; `None`
    where there is no list.
    """
    try:
        raw = os.getxattr(place, _LIST, follow_symlinks=False)
    except (OSError, AttributeError):  # none here, or a file system or system without lists
        return None
    entries = _ENTRY.iter_unpack(raw[_HEADER:])
    return [(tag, number) for tag, rights, number in entries if rights & _WRITE]


def _is_private(group: int, users: frozenset[int]) -> bool:
    """Return whether a group is one of these users' own; where it has no name, as in containers,
    its number is its user's, or the caller was given it (Kubernetes' `fsGroup`).
    """
    try:
        entry = grp.getgrgid(group)
    except KeyError:
        return group in users or group in os.getgroups()
    names = {user_name(user) for user in users}
    return entry.gr_name in names and names.issuperset(entry.gr_mem)


def user_name(number: int) -> str:
    """Return a user's name, or the number of one that has none."""
    with suppress(KeyError):
        return pwd.getpwuid(number).pw_name
    return str(number)


def group_name(number: int) -> str:
    """Return a group's name, or the number of one that has none."""
    with suppress(KeyError):
        return grp.getgrgid(number).gr_name
    return str(number)


def _closed(path: Path, facts: os.stat_result) -> Text:
    """Return the advice to take the others' right away, which only root and the owner can do."""
    fix = Text("run: {command}", command=f"chmod go-w {_quoted(path)}")
    if os.geteuid() in {0, facts.st_uid}:
        return fix
    # An emptyDir is made by root with 0777, whatever the pod's user is, and 2777 with `fsGroup`.
    return Text(
        "as root, {fix}; in Kubernetes mount a persistentVolumeClaim, with"
        " securityContext.fsGroup: an emptyDir is open to every user, and gone with its pod",
        fix=fix,
    )


def _as_owner(user: int, otherwise: Text) -> Text:
    """Return the advice to run as the owner; one without a name owns what a container mounts."""
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
