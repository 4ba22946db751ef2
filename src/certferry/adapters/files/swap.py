"""Several files of a directory change in one rename, and the earlier files can come back.

A rename changes one name, so two renames have a moment between them, and a run killed in this
moment would leave a key without its certificate. `put_together` therefore

1. puts the new files into the folder `AFTER`, and hard links to the present files into `BEFORE`;
2. makes each name a link through `LIVE`, which leads to `BEFORE`, so contents stay the same;
3. renames a link to `AFTER` over `LIVE`, which changes all names at once;
4. renames each new file from `AFTER` over its name, so contents stay the same again.

After a kill, `finish` goes on from the folder to which `LIVE` leads. Every folder is opened without
following links and belongs to this user, so another owner of the directory cannot divert a rename.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

from certferry.adapters.files.directory import FileAccess, OpenDirectory, held
from certferry.ports.state import must_still_hold

LIVE, BEFORE, AFTER = ".certferry-live", ".certferry-before", ".certferry-after"
EARLIER = ".certferry-earlier"
"""The folder with hard links to the files from before a delivery, until the delivery is over."""

_KEPT = ".certferry-earlier-draft"
_LINK = ".certferry-draft-link"
_FOLDER = 0o755


def put_together(place: OpenDirectory, drafts: Mapping[str, str]) -> None:
    """Rename drafts, by final name. If several of the names exist, all names change at once. Raises
    `OSError`.
    """
    must_still_hold()
    with held(*_made(place, AFTER)) as after:
        for name, drafted in drafts.items():
            os.replace(drafted, name, src_dir_fd=place.handle, dst_dir_fd=after.handle)
        after.sync()
    _exchange(place, tuple(drafts))


def keep(place: OpenDirectory, names: Collection[str]) -> None:
    """Keep the present files of these names in `EARLIER`. Raises `OSError`."""
    must_still_hold()
    with held(*_made(place, _KEPT)) as earlier:
        for name in names:
            _link(place, earlier, name)
        earlier.sync()
    _remove_folder(place, EARLIER)
    os.replace(_KEPT, EARLIER, src_dir_fd=place.handle, dst_dir_fd=place.handle)
    place.sync()


def is_kept(place: OpenDirectory) -> bool:
    """Return whether `EARLIER` has the files from before an unfinished delivery."""
    opened = _opened(place, EARLIER)
    if opened is not None:
        os.close(opened[0])
    return opened is not None


def put_back(place: OpenDirectory, names: Collection[str]) -> None:
    """Put the files in `EARLIER` back, at once; remove the files of `names` that were missing then.
    Raises `OSError`.
    """
    must_still_hold()
    opened = _opened(place, EARLIER)
    if opened is None:
        return
    with held(*opened) as earlier, held(*_made(place, AFTER)) as after:
        kept = [name for name in names if _link(earlier, after, name)]
        after.sync()
    for name in names:
        if name not in kept:
            place.remove(name)
    _exchange(place, kept)


def forget(place: OpenDirectory) -> None:
    """Remove `EARLIER`. Raises `OSError`."""
    _remove_folder(place, EARLIER)


def finish(place: OpenDirectory, names: Collection[str]) -> None:
    """Finish a change that a killed run left, with the files to which the names lead now. Raises
    `OSError`.
    """
    must_still_hold()
    opened = _opened_live(place)
    if opened is not None:
        with held(*opened) as folder:
            for name in names:
                if is_on_the_way(place, name):
                    os.replace(name, name, src_dir_fd=folder.handle, dst_dir_fd=place.handle)
        place.sync()
    place.remove(LIVE)
    for leftover in (BEFORE, AFTER, _KEPT):
        _remove_folder(place, leftover)


def read(place: OpenDirectory, name: str) -> bytes | None:
    """Return a file's content, also during a change; `None` as `OpenDirectory.observe`."""
    if not is_on_the_way(place, name):
        return place.read(name)
    opened = _opened_live(place)
    if opened is None:
        return None
    with held(*opened) as folder:
        return folder.read(name)


def is_on_the_way(place: OpenDirectory, name: str) -> bool:
    """Return whether a name is a link of a change in progress."""
    return _target(place, name) == f"{LIVE}/{name}"


def _exchange(place: OpenDirectory, names: Collection[str]) -> None:
    """Rename the files in `AFTER` to the same names in the directory, all at once."""
    with held(*_made(place, BEFORE)) as before:
        linked = [name for name in names if _link(place, before, name)]
        before.sync()
    # A single changed name needs no detour, and a new name changes no pair.
    if len(linked) > 1:
        _point(place, BEFORE)
        for name in linked:
            _symlink(place, f"{LIVE}/{name}", name)
        place.sync()
        _point(place, AFTER)
        place.sync()
    opened = _opened(place, AFTER)
    if opened is not None:
        with held(*opened) as after:
            for name in names:
                must_still_hold()
                os.replace(name, name, src_dir_fd=after.handle, dst_dir_fd=place.handle)
    place.sync()
    place.remove(LIVE)
    _remove_folder(place, BEFORE)
    _remove_folder(place, AFTER)


def _point(place: OpenDirectory, folder: str) -> None:
    _symlink(place, folder, LIVE)


def _symlink(place: OpenDirectory, target: str, name: str) -> None:
    """Make a link, replacing a file or link of the name."""
    place.remove(_LINK)
    os.symlink(target, _LINK, dir_fd=place.handle)
    os.replace(_LINK, name, src_dir_fd=place.handle, dst_dir_fd=place.handle)


def _link(source: OpenDirectory, folder: OpenDirectory, name: str) -> bool:
    """Put a second name of a file into a folder, or a copy if the file system refuses; return
    whether the file exists. Raises `OSError`.
    """
    try:
        handles = {"src_dir_fd": source.handle, "dst_dir_fd": folder.handle}
        os.link(name, name, **handles, follow_symlinks=False)
    except FileNotFoundError:
        return False
    except OSError:
        content, found = source.read(name), source.observe(name)
        if content is None or found is None:
            raise
        folder.replace(name, content, FileAccess(*_of(found.access)))
    return True


def _of(access: FileAccess) -> tuple[int, int | None, int | None]:
    """Return the access for a copy. A user without root keeps the ownership of new files."""
    return (access.mode, access.uid, access.gid) if os.geteuid() == 0 else (access.mode, None, None)


def _target(place: OpenDirectory, name: str) -> str:
    """Return the target of a link; empty for anything else."""
    try:
        return os.readlink(name, dir_fd=place.handle)
    except OSError:
        return ""


def _made(place: OpenDirectory, name: str) -> tuple[int, Path]:
    """Make an empty folder in place of a leftover, and open the folder."""
    _remove_folder(place, name)
    os.mkdir(name, _FOLDER, dir_fd=place.handle)
    opened = _opened(place, name)
    if opened is None:
        raise FileNotFoundError(name)
    os.fchmod(opened[0], _FOLDER)  # regardless of the umask: servers read through the folder
    return opened


def _opened(place: OpenDirectory, name: str) -> tuple[int, Path] | None:
    """Open a folder of this user; `None` if missing, or if the folder is a link or another's."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        handle = os.open(name, flags, dir_fd=place.handle)
    except OSError:
        return None
    if os.fstat(handle).st_uid == os.geteuid():
        return handle, place.path / name
    os.close(handle)
    return None


def _opened_live(place: OpenDirectory) -> tuple[int, Path] | None:
    """Open the folder to which `LIVE` leads; `None` without a change in progress."""
    folder = _target(place, LIVE)
    return _opened(place, folder) if folder in {BEFORE, AFTER} else None


def _remove_folder(place: OpenDirectory, name: str) -> None:
    with suppress(FileNotFoundError):
        if stat.S_ISDIR(os.lstat(name, dir_fd=place.handle).st_mode):
            shutil.rmtree(name, dir_fd=place.handle)
        else:
            place.remove(name)
