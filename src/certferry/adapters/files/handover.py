"""A certificate's files while a program works with them, each time in a directory of its own.

It is locked as long as the process that made it lives (flock(2)): one without its lock was left by
a run that was killed, and a private key lies in it.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from certferry.adapters.files import directory as pem_directory
from certferry.adapters.files.directory import OpenDirectory
from certferry.core.certificates.certificate import PRIVKEY, CertificateBundle
from certferry.system_words import system_words
from certferry.text import Text

_PRIVATE_DIRECTORY = 0o700
_PRIVATE = pem_directory.FileAccess(0o600)

_log = logging.getLogger(__name__)


@contextmanager
def handed_over(bundle: CertificateBundle, workspace: Path) -> Iterator[Path]:
    """Put the four files into a directory of the workspace for a `with` block; they are their
    owner's alone, and gone after it. Raises `DeployError`.
    """
    hint = Text("free some space, or let certferry write there")
    with ExitStack() as held:
        with pem_directory.translating_errors(workspace, hint):
            directory = _make(workspace, held)
        try:
            with pem_directory.translating_errors(directory.path, hint):
                for name, content in pem_directory.contents(bundle).items():
                    directory.put(directory.draft(name, content, _PRIVATE), name)
            yield directory.path
        finally:
            _remove(directory.path)


def sweep(workspace: Path) -> None:
    """Remove what killed runs have left there, and nothing that others are at work with. Warn of
    what cannot be removed.
    """
    try:
        with _opened(workspace) as place:
            fcntl.flock(place, fcntl.LOCK_EX)
            _sweep(workspace)
    except FileNotFoundError:
        return
    except OSError as exc:
        _warn(workspace, exc)


def _make(workspace: Path, held: ExitStack) -> OpenDirectory:
    workspace.mkdir(_PRIVATE_DIRECTORY, parents=True, exist_ok=True)
    with _opened(workspace) as place:
        # No sweep meanwhile: until it has its lock it looks like one that was left.
        fcntl.flock(place, fcntl.LOCK_EX)
        _sweep(workspace)
        path = Path(tempfile.mkdtemp(dir=workspace))
        directory = OpenDirectory(held.enter_context(_opened(path)), path)
        fcntl.flock(directory.handle, fcntl.LOCK_EX)
    return directory


def _remove(directory: Path) -> None:
    """Remove it after the program. What that has left there makes no failure of it."""
    try:
        with suppress(FileNotFoundError):
            with _opened(directory) as place:
                _empty(place)
            shutil.rmtree(directory)
    except OSError as exc:
        _warn(directory, exc)


def _sweep(workspace: Path) -> None:
    for directory in workspace.iterdir():
        try:
            with _opened(directory) as place:
                fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _empty(place)
                shutil.rmtree(directory)
        except (BlockingIOError, FileNotFoundError):
            continue  # a run is at work with it, or has removed it meanwhile
        except OSError as exc:
            _warn(directory, exc)


def _empty(place: int) -> None:
    """Remove each file of an open directory that can be removed, the key first: `rmtree` stops at
    the first that cannot. Its path may lead to another directory by now.
    """
    for name in sorted(os.listdir(place), key=lambda name: PRIVKEY not in name):
        with suppress(OSError):
            os.unlink(name, dir_fd=place)


@contextmanager
def _opened(directory: Path) -> Iterator[int]:
    """Open a directory for its lock; closing it releases the lock."""
    place = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        yield place
    finally:
        os.close(place)


def _warn(path: Path, exc: OSError) -> None:
    _log.warning(
        Text(
            "{path} cannot be removed: {problem}; a private key may be in it, and the next run"
            " tries again",
            path=path,
            problem=system_words(exc),
        )
    )
