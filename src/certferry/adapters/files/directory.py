"""Read and write certificate files in an open directory.

Files are opened relative to the open directory, and links are not followed. Therefore neither a
path changed meanwhile nor a link in place of a file can divert a read or a write to another file.
"""

from __future__ import annotations

import errno
import fcntl
import grp
import hashlib
import logging
import os
import pwd
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from datetime import UTC
from pathlib import Path

from msgspec import Struct

from certferry.core.certificates import certificate as certificates
from certferry.errors import CertferryError, DeployError, Retry, TargetRejected, system_words
from certferry.file_trust import NotTrusted, checked_path, open_directory
from certferry.ports.state import must_still_hold
from certferry.text import Text

_log = logging.getLogger(__name__)

LARGEST = 1 << 20
"""Maximum number of bytes of a file to read. Certificate files have a few thousand bytes."""

_DRAFT = ".certferry-draft-"
_PRIVATE, _PUBLIC = 0o600, 0o644
_PRIVATE_DIRECTORY = 0o700
_DIRECTORY = 0o755


class OpenDirectory(Struct, frozen=True):
    """An open directory. Every method raises `OSError`."""

    #: The file descriptor.
    handle: int
    #: The directory's path, for messages.
    path: Path

    def observe(self, name: str) -> FoundFile | None:
        """Return a file's digest and access; `None` if missing, irregular or too large."""
        opened = self._read(name)
        if opened is None:
            return None
        data, facts = opened
        access = FileAccess(stat.S_IMODE(facts.st_mode), facts.st_uid, facts.st_gid)
        return FoundFile(digest(data), access)

    def read(self, name: str) -> bytes | None:
        """Return a file's content; `None` as in `observe`."""
        opened = self._read(name)
        return None if opened is None else opened[0]

    def draft(self, name: str, content: bytes, access: FileAccess) -> str:
        """Write the content to disk under a temporary name, and return the temporary name.

        Owner and mode are set before the content is written. After an error, the temporary file is
        removed. Raises `OSError`, `LeaseLost`, and `TargetRejected` if the owner cannot be changed.
        """
        must_still_hold()
        drafted = f"{_DRAFT}{name}-{secrets.token_hex(8)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(drafted, flags, _PRIVATE, dir_fd=self.handle)
        try:
            with os.fdopen(descriptor, "wb") as file:
                _change_owner(descriptor, self.path / name, access)
                os.fchmod(descriptor, access.mode)
                file.write(content)
                file.flush()
                os.fsync(descriptor)
        except BaseException:
            self.remove(drafted)
            raise
        return drafted

    def put(self, drafted: str, name: str) -> None:
        """Rename a draft to its final name, replacing a file or link of that name."""
        must_still_hold()
        os.replace(drafted, name, src_dir_fd=self.handle, dst_dir_fd=self.handle)

    def replace(self, name: str, content: bytes, access: FileAccess) -> None:
        """Replace a file atomically, by `draft` and `put`."""
        drafted = self.draft(name, content, access)
        try:
            self.put(drafted, name)
        except BaseException:
            self.remove(drafted)
            raise

    def remove(self, name: str) -> None:
        """Remove a file, if it exists."""
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self.handle)

    def sweep(self) -> None:
        """Remove drafts left by killed runs."""
        for name in os.listdir(self.handle):  # noqa: PTH208 - pathlib takes no handle
            if name.startswith(_DRAFT):
                self.remove(name)

    def sync(self) -> None:
        """Flush the directory to disk, because a rename lasts only once flushed."""
        os.fsync(self.handle)

    def _read(self, name: str) -> tuple[bytes, os.stat_result] | None:
        # O_NOFOLLOW: `put` replaces links, so reading follows none. O_NONBLOCK: a FIFO would block.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(name, flags, dir_fd=self.handle)
        except FileNotFoundError:
            return None
        except OSError as exc:
            if exc.errno in {errno.ELOOP, errno.ENXIO}:
                return None
            raise
        with os.fdopen(descriptor, "rb") as file:
            facts = os.fstat(descriptor)
            if not stat.S_ISREG(facts.st_mode) or facts.st_size > LARGEST:
                return None
            return file.read(LARGEST), facts


def opened(path: Path, owners: Collection[int] = ()) -> AbstractContextManager[OpenDirectory]:
    """Open a directory for a `with` block. Raises `OSError` as `file_trust.open_directory` does."""
    return _held(open_directory(path, owners), path)


def opened_where_it_is(path: Path) -> AbstractContextManager[OpenDirectory]:
    """Open a directory for a `with` block. The directory may belong to another user. Raises
    `OSError`, also for a link in the path that another user could change.
    """
    with checked_path(path, exposed=True) as checked:
        return _held(checked.open(os.O_RDONLY | os.O_DIRECTORY), path)


@contextmanager
def _held(handle: int, path: Path) -> Iterator[OpenDirectory]:
    try:
        yield OpenDirectory(handle, path)
    finally:
        os.close(handle)


@contextmanager
def made(path: Path, owners: Collection[int]) -> Iterator[OpenDirectory]:
    """Open a directory as `opened` does; create a missing directory, readable by every user."""
    with checked_path(path, owners) as checked:
        try:
            os.mkdir(checked.name, _PRIVATE_DIRECTORY, dir_fd=checked.directory)
            is_new = True
        except FileExistsError:
            is_new = False
    with opened(path, owners) as place:
        if is_new:
            os.fchmod(place.handle, _DIRECTORY)  # regardless of the umask
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
            with _held(os.open("..", flags, dir_fd=place.handle), path.parent) as above:
                above.sync()  # the new name lasts only once flushed
        yield place


def _change_owner(descriptor: int, path: Path, access: FileAccess) -> None:
    # fchown(2): -1 keeps the owner or the group
    uid, gid = (-1 if number is None else number for number in (access.uid, access.gid))
    try:
        if (uid, gid) != (-1, -1):
            os.fchown(descriptor, uid, gid)
    except PermissionError as exc:
        message = Text("cannot change the owner of {path}: {problem}")
        hint = Text(
            "only root can give a file to another user or to a group without being a member: run "
            "certferry as root, or remove `owner` and `group`; the earlier files are unchanged"
        )
        message = message.filled(path=path, problem=system_words(exc))
        raise TargetRejected(message, hint=hint) from exc


NAMES = (certificates.CHAIN, certificates.PRIVKEY, certificates.FULLCHAIN, certificates.CERT)
"""The names of the four files, in the order of renaming. The key and the full chain follow one
another, because a server reads both.
"""

EXPORTED = (certificates.CERT, certificates.CHAIN, certificates.FULLCHAIN, certificates.PRIVKEY)

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class FileAccess(Struct, frozen=True):
    """The wanted or observed mode, owner and group of a file."""

    #: The permission bits.
    mode: int
    #: The owner's number; `None`: any owner.
    uid: int | None = None
    #: The group's number; `None`: any group.
    gid: int | None = None

    def allows(self, observed: FileAccess) -> bool:
        """Return whether a file's `observed` mode, owner and group are as wanted in `self`."""
        owners = self.uid in {None, observed.uid} and self.gid in {None, observed.gid}
        return owners and self.mode == observed.mode

    @property
    def in_words(self) -> str:
        """The mode, then the numbers of owner and group."""
        owners = [number for number in (self.uid, self.gid) if number is not None]
        return " ".join([f"{self.mode:04o}", ":".join(map(str, owners))]).rstrip()


class FoundFile(Struct, frozen=True):
    """A file in a directory."""

    #: SHA-256 of the content, in lower-case hex.
    digest: str
    #: Mode, owner and group.
    access: FileAccess


def contents(bundle: certificates.CertificateBundle) -> dict[str, bytes]:
    """Return the content of each of the four files by name, the private key included."""
    return {
        certificates.CHAIN: bundle.chain_pem.encode(),
        certificates.PRIVKEY: bundle.privkey_pem.reveal().encode(),
        certificates.FULLCHAIN: bundle.fullchain_pem.encode(),
        certificates.CERT: bundle.cert_pem.encode(),
    }


def variables(
    lineage: str, bundle: certificates.CertificateBundle, directory: Path
) -> Mapping[str, str]:
    """Return the environment variables for a program that finds a certificate's files in
    `directory`.
    """
    certificate = bundle.certificate
    # CERTFERRY_CERT, CERTFERRY_CHAIN, CERTFERRY_FULLCHAIN, CERTFERRY_PRIVKEY
    paths = {f"CERTFERRY_{Path(n).stem.upper()}": str(directory / n) for n in EXPORTED}
    return paths | {
        "CERTFERRY_LINEAGE": lineage,
        "CERTFERRY_NAMES": " ".join(certificate.names),
        "CERTFERRY_FINGERPRINT": certificate.fingerprint,
        "CERTFERRY_NOT_AFTER": certificate.not_after.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "CERTFERRY_DIRECTORY": str(directory),
    }


def digest(data: bytes) -> str:
    """Return the SHA-256 in lower-case hex."""
    return hashlib.sha256(data).hexdigest()


def _fix(exc: NotTrusted) -> Text:
    """Return the hint for an untrusted path. For root, the hint also says how to give the files to
    the owner of the directory.
    """
    if exc.owner is None or os.geteuid() != 0:
        return exc.fix
    return Text(
        'if the files should belong to {owner}, write owner = "{owner}" beside `directory`; '
        "otherwise set `directory` to a directory that root owns, for example below /etc/ssl",
        owner=exc.owner,
    )


@contextmanager
def translating_errors(path: Path, hint: Text, *, has_owner: bool = False) -> Iterator[None]:
    """Raise an `OSError` of the `with` block as `DeployError` or `TargetRejected`, with `hint`.
    `has_owner`: the operator can set an owner for the files, so the hint may propose `owner`.
    """
    try:
        yield
    except NotTrusted as exc:
        message = Text("{path} {problem}", path=exc.path, problem=exc.problem)
        raise TargetRejected(message, hint=_fix(exc) if has_owner else exc.fix) from exc
    except OSError as exc:
        if exc.errno in _FULL:
            message = Text("{path} cannot be written: the disk is full", path=path)
            raise DeployError(message, hint=hint, retry=Retry.LATER) from exc
        message = Text("{path} cannot be read or written: {problem}")
        message = message.filled(path=path, problem=system_words(exc))
        raise TargetRejected(message, hint=hint) from exc


RIGHTS = Text("run certferry as a user with read and write permission there")


def must_be_writable(directory: Path, hint: Text) -> None:
    """Raise `TargetRejected` if a directory cannot be written. `hint` is the advice for a missing
    directory.
    """
    if not directory.exists():
        problem = Text("there is no directory {path}")
        if directory.is_symlink():
            problem = Text("{path} is a symbolic link without a target")
            hint = Text("create the directory that the link points to, or correct `directory`")
    elif not directory.is_dir():
        problem = Text("{path} is not a directory")
        hint = Text("correct `directory`, or move the file away")
    elif os.statvfs(directory).f_flag & os.ST_RDONLY:
        problem = Text("{path} is on a read-only file system")
        hint = Text(
            "mount the file system for writing, or correct `directory`; for a run by a systemd "
            "timer, `certferry schedule install --systemd` opens the directories named in the "
            "configuration"
        )
    elif os.access(directory, os.W_OK | os.X_OK, effective_ids=True):
        return
    else:
        problem, hint = Text("{path} cannot be written to"), RIGHTS
    raise TargetRejected(problem.filled(path=directory), hint=hint)


def must_take_files(directory: Path, names: Iterable[str]) -> None:
    """Raise `TargetRejected` if a link or a directory has the name of a file to write."""
    for path in (directory / name for name in names):
        if path.is_symlink():
            # certbot's `live` consists of links, and certbot breaks if a file replaces a link.
            problem = Text("{path} is a symbolic link", path=path)
            hint = Text("certferry writes files of its own; choose another directory")
            raise TargetRejected(problem, hint=hint)
        if path.is_dir():
            problem = Text("{path} is a directory, not a file", path=path)
            raise TargetRejected(problem, hint=Text("move the file away, or correct `directory`"))


def user_number(name: str | None) -> int | None:
    """Return a user's number; `None` for `None`. Raises `TargetRejected` for an unknown user."""
    return _number(name, lambda user: pwd.getpwnam(user).pw_uid, Text("user"))


def group_number(name: str | None) -> int | None:
    """Return a group's number, as `user_number` does."""
    return _number(name, lambda group: grp.getgrnam(group).gr_gid, Text("group"))


def _number(name: str | None, look_up: Callable[[str], int], kind: Text) -> int | None:
    if name is None:
        return None
    try:
        # chown(2): the highest 32-bit number means "no change".
        is_number = name.isdecimal() and int(name) < 2**32 - 1
        return int(name) if is_number else look_up(name)
    except (KeyError, ValueError):
        problem = Text("this host has no {what} called {name}", what=kind, name=name)
        hint = Text("create the user or group first, or correct `owner` and `group`")
        raise TargetRejected(problem, hint=hint) from None


def write_bundle(bundle: certificates.CertificateBundle, directory: Path) -> list[Path]:
    """Write certbot's four files, and return the paths. Raises `CertferryError`.

    Only the owner can ever read the key. Links that another user could change are refused.
    """
    texts = contents(bundle)
    with _exporting(directory):
        # Refuse an untrusted link before any directory is created.
        with suppress(FileNotFoundError), checked_path(directory, exposed=True):
            pass
        directory.mkdir(mode=_PRIVATE_DIRECTORY, parents=True, exist_ok=True)
    with _exporting(directory), opened_where_it_is(directory) as place:
        for name in EXPORTED:
            with _exporting(directory / name):
                access = FileAccess(_PRIVATE if name == certificates.PRIVKEY else _PUBLIC)
                place.replace(name, texts[name], access)
        place.sync()
    return [directory / name for name in EXPORTED]


@contextmanager
def _exporting(path: Path) -> Iterator[None]:
    try:
        yield
    except NotTrusted as exc:
        message = Text("{path} {problem}", path=exc.path, problem=exc.problem)
        raise CertferryError(message, hint=exc.fix) from exc
    except OSError as exc:
        problem = Text("{path} cannot be written: {problem}", path=path, problem=system_words(exc))
        hint = Text("the earlier files are unchanged")
        raise CertferryError(problem, hint=hint) from exc


@contextmanager
def handed_over(bundle: certificates.CertificateBundle, workspace: Path) -> Iterator[Path]:
    """Put the four files into a private directory for a `with` block, and yield the directory's
    path. Raises `DeployError`.

    The directory is locked. The lock ends with the process (flock(2)), so an unlocked directory is
    a leftover, and may be removed.
    """
    hint = Text("free some space, or allow certferry to write there")
    with ExitStack() as held:
        with translating_errors(workspace, hint):
            directory = _make(workspace, held)
        try:
            with translating_errors(directory.path, hint):
                for name, content in contents(bundle).items():
                    directory.put(directory.draft(name, content, FileAccess(_PRIVATE)), name)
            yield directory.path
        finally:
            _remove(directory.path)


def sweep_handovers(workspace: Path) -> None:
    """Remove directories left by killed runs; warn if a directory cannot be removed."""
    try:
        with _opened(workspace) as place:
            fcntl.flock(place.handle, fcntl.LOCK_EX)
            _sweep(workspace)
    except FileNotFoundError:
        return
    except OSError as exc:
        _warn(workspace, exc)


def _make(workspace: Path, held: ExitStack) -> OpenDirectory:
    workspace.mkdir(_PRIVATE_DIRECTORY, parents=True, exist_ok=True)
    with _opened(workspace) as place:
        # Hold the lock of `workspace` until the new directory is locked. Otherwise another process
        # could remove the new directory as a leftover.
        fcntl.flock(place.handle, fcntl.LOCK_EX)
        _sweep(workspace)
        directory = held.enter_context(_opened(Path(tempfile.mkdtemp(dir=workspace))))
        fcntl.flock(directory.handle, fcntl.LOCK_EX)
    return directory


def _remove(directory: Path) -> None:
    """Remove a directory of handed-over files. A failure is only logged."""
    try:
        with suppress(FileNotFoundError):
            with _opened(directory) as place:
                _empty(place.handle)
            shutil.rmtree(directory)
    except OSError as exc:
        _warn(directory, exc)


def _sweep(workspace: Path) -> None:
    for directory in workspace.iterdir():
        try:
            with _opened(directory) as place:
                fcntl.flock(place.handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _empty(place.handle)
                shutil.rmtree(directory)
        except (BlockingIOError, FileNotFoundError):
            continue  # in use by a run, or removed meanwhile
        except OSError as exc:
            _warn(directory, exc)


def _empty(place: int) -> None:
    """Remove the files of an open directory, the private key first. A file that cannot be removed
    is left. The caller's `rmtree` would stop at that file.
    """
    for name in sorted(os.listdir(place), key=lambda name: certificates.PRIVKEY not in name):
        with suppress(OSError):
            os.unlink(name, dir_fd=place)


def _opened(directory: Path) -> AbstractContextManager[OpenDirectory]:
    """Open a directory to lock; closing the directory releases the lock."""
    return _held(os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW), directory)


def _warn(path: Path, exc: OSError) -> None:
    problem = Text(
        "{path} cannot be removed: {problem}; the file may contain a private key, and the next "
        "run tries again"
    )
    _log.warning(problem.filled(path=path, problem=system_words(exc)))
