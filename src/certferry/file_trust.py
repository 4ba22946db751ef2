"""Check whether a user other than root and the caller could change or replace a file.

The file, and each link and directory on the path, must belong to root or the caller. Only these two
users, or a private group, may write there. A private group has the name of a user and no other
member (Debian, Fedora). If the mode lets a group write, the access control list is read too. A
sticky directory such as `/tmp` may be open to others on the way to a file, but is refused as a
place for new files. sshd's StrictModes and sudo have similar rules. `checked_path` can relax two
rules: by further owners, and by passing directories that are open to others.
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
from pathlib import Path, PurePath

from msgspec import Struct

from certferry.text import Text

# O_PATH (Linux, FreeBSD) opens a directory that the caller may enter but not list.
_PASS = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK, because opening a FIFO would wait for a writer.
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
# Every user must be able to write to these directories, so the advice leaves their mode alone.
_PUBLIC = frozenset(map(Path, ("/tmp", "/var/tmp", "/dev/shm")))  # noqa: S108 - not written to
_MOST_LINKS = 40  # as many as Linux follows in a path (path_resolution(7))


PACKAGE_USER = "certferry"
"""The user and the group of the Debian package (release/debian/postinst)."""


class NotTrusted(PermissionError):
    """Other users could change or replace `path`.

    `problem` says how, and `fix` is the advice. If a wrong owner of `path`, or of a directory
    above, is the problem, `owner` is the owner's name; otherwise None.
    """

    def __init__(self, path: Path, problem: Text, fix: Text, owner: str | None = None) -> None:
        super().__init__(errno.EPERM, str(problem))
        self.path = path
        self.problem = problem
        self.fix = fix
        self.owner = owner


class PathCheck(Struct, frozen=True):
    """A path whose directories were checked: the open directory of a file, and the file's name in
    the directory. The file may be absent.
    """

    #: The open directory's descriptor; -1 for the path `/`.
    directory: int
    #: The file's name in the directory.
    name: str
    #: The whole path without links, for messages.
    path: Path
    #: The numbers (uids) of the users that may own the file.
    owners: frozenset[int]
    #: Whether other users may write to the directory, or replace a directory on the path.
    is_exposed: bool

    def open(self, flags: int = _READ, mode: int = 0o600) -> int:
        """Open the file, by default for reading, and return the descriptor. Raise `OSError`.

        This method does not check the file's owner and mode; see `judge`.
        """
        flags |= os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(self.name, flags, mode, dir_fd=self.directory)

    def judge(self, facts: os.stat_result, *, makes_files: bool = False) -> None:
        """Raise `NotTrusted` if the owner or the rights in `facts` let others change the file.

        With `makes_files` (the path is a directory for new files), a sticky directory that is open
        to others is refused as well.
        """
        _must_be_owned(self.path, facts, self.owners)
        place = f"/proc/self/fd/{self.directory}/{self.name}" if self.directory >= 0 else self.name
        who = _other_writers(facts, self.owners, place)
        if who is not None and (makes_files or not _is_sticky(facts)):
            problem = Text("can be changed by {who} (mode {mode})", who=who, mode=_octal(facts))
            fix = _elsewhere() if self.path in _PUBLIC else _closed(self.path, facts)
            raise NotTrusted(self.path, problem, fix)


def open_directory(path: Path, owners: Collection[int] = ()) -> int:
    """Open a directory to make files in, and return the descriptor. Root, the caller or `owners`
    must own the directory and each directory above; only root or the caller may own a link on the
    path. Raise `OSError`, such as `NotTrusted`.
    """
    with checked_path(path, owners) as check:
        descriptor = check.open(os.O_RDONLY | os.O_DIRECTORY)
        try:
            check.judge(os.fstat(descriptor), makes_files=True)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor


def must_be_trusted(path: Path, *, makes_files: bool = False) -> None:
    """Raise `OSError`, such as `NotTrusted`, if others could change the file or directory, or if
    `path` does not exist. With `makes_files`, judge a directory for new files.

    The function does not open the file, because closing the file would end SQLite's locks on the
    file.
    """
    with checked_path(path) as check:
        facts = os.stat(check.name, dir_fd=check.directory, follow_symlinks=False)
        check.judge(facts, makes_files=makes_files)


@contextmanager
def checked_path(
    path: Path, owners: Collection[int] = (), *, exposed: bool = False
) -> Iterator[PathCheck]:
    """Follow a path, and yield the check with the last directory open. Raise `OSError`.

    Each directory and link is judged before the next; the file itself is not judged. With
    `exposed`, directories may be open to others, but a link below such a directory is refused.
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
                    fix = Text("use the path of the file or directory behind the link")
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
    """Raise `NotTrusted` if others could replace an entry of this directory."""
    who = _other_writers(facts, trusted, place)
    if _is_strangers(facts, trusted):
        problem = Text("lies in {directory}, which belongs to {owner}")
        # The advice leaves the directory's owner alone: the directory may be another user's home.
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
        otherwise = Text("on the host, chown to {number} the file or directory mounted at {path}")
        otherwise = otherwise.filled(number=caller, path=path)
    problem = Text("belongs to {owner}, who can change it", owner=owner)
    raise NotTrusted(path, problem, _as_owner(facts.st_uid, otherwise), owner)


def group_that_reads(facts: os.stat_result) -> int:
    """Return the mode bit for reading by the group if root gave the file to a group of this
    process, else 0.

    A service often has no other way to a secret: Kubernetes mounts secrets with such a group, and
    operators write 0640 root:certferry. If this process is root's, only the group of the package
    counts.
    """
    groups = {os.getegid(), *os.getgroups()}
    if os.geteuid() == 0:
        groups = set()
        with suppress(KeyError):
            groups = {grp.getgrnam(PACKAGE_USER).gr_gid}
    return stat.S_IRGRP if facts.st_uid == 0 and facts.st_gid in groups else 0


def _is_strangers(facts: os.stat_result, trusted: frozenset[int]) -> bool:
    """Return whether an untrusted user of this user namespace owns the file.

    A container's directories may belong to users outside the namespace, who all appear as one user
    (user_namespaces(7)). If the map of users cannot be read, every untrusted user counts.
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
    """Return the first user or group beside `trusted` that may write to the file at `place`, or
    None. `facts` are the file's owner, group and mode.
    """
    if facts.st_mode & stat.S_IWOTH:
        return Text("every user")
    if not facts.st_mode & stat.S_IWGRP:
        return None  # the group's right bounds every right of an access control list (acl(5))
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
_HEADER = 4  # the number of bytes before the entries, which hold a version
_ENTRY, _WRITE = struct.Struct("<HHI"), 2
_USER, _OWNING_GROUP, _GROUP = 0x02, 0x04, 0x08  # tags of entries (linux/posix_acl.h)


def _writers_in_list(place: str) -> list[tuple[int, int]] | None:
    """Return the entries of an access control list that give the right to write, each as its tag
    and the number of the user or group. Return None without a list.
    """
    try:
        raw = os.getxattr(place, _LIST, follow_symlinks=False)
    except (OSError, AttributeError):  # no list, or a file system or operating system without lists
        return None
    entries = _ENTRY.iter_unpack(raw[_HEADER:])
    return [(tag, number) for tag, rights, number in entries if rights & _WRITE]


def _is_private(group: int, users: frozenset[int]) -> bool:
    """Return whether a group is private to one of the users.

    A group in a container may lack a name. The group's number must then equal the number of one of
    `users`, or be among the caller's groups (Kubernetes' `fsGroup`).
    """
    try:
        entry = grp.getgrgid(group)
    except KeyError:
        return group in users or group in os.getgroups()
    names = {user_name(user) for user in users}
    return entry.gr_name in names and names.issuperset(entry.gr_mem)


def user_name(number: int) -> str:
    """Return a user's name, or the number of an unknown user."""
    with suppress(KeyError):
        return pwd.getpwuid(number).pw_name
    return str(number)


def group_name(number: int) -> str:
    """Return a group's name, or the number of an unknown group."""
    with suppress(KeyError):
        return grp.getgrgid(number).gr_name
    return str(number)


def _closed(path: Path, facts: os.stat_result) -> Text:
    """Return the advice to remove the right of others to write. Only root and the owner can carry
    out the advice.
    """
    fix = Text("run: {command}", command=f"chmod go-w {_quoted(path)}")
    if os.geteuid() in {0, facts.st_uid}:
        return fix
    # Kubernetes makes an emptyDir as root with 0777, and with 2777 under `fsGroup`, for every pod.
    return Text(
        "as root, {fix}; in Kubernetes mount a persistentVolumeClaim, with"
        " securityContext.fsGroup: an emptyDir is open to every user, and is deleted with the pod",
        fix=fix,
    )


def _as_owner(user: int, otherwise: Text) -> Text:
    """Return the advice to run as the owner, with `otherwise` as the alternative. An owner without
    a name usually owns a directory mounted into a container.
    """
    owner = user_name(user)
    advice = Text("run certferry as the owner: sudo -u {owner} certferry …; or {otherwise}")
    if owner.isdecimal():
        advice = Text("run the container with --user {owner}, or {otherwise}")
    return advice.filled(owner=owner, otherwise=otherwise)


def _elsewhere() -> Text:
    caller = os.geteuid()
    if caller == 0:
        return Text("keep it where only root can write, for example below /etc or /var/lib")
    return Text("keep it where only {user} and root can write", user=user_name(caller))
