"""Where the configuration file is: the first place of a fixed order that has one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from certferry.config.files import home_directory, is_anothers

VARIABLE = "CERTFERRY_CONFIG"
NAME = "certferry.toml"


def find_file(chosen: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Give the file to read: the chosen one, the environment's, or the first that exists.

    The first two count whether they exist or not: an operator who names a file wants no other.
    """
    if chosen is not None:
        return chosen
    if environ.get(VARIABLE):
        return Path(environ[VARIABLE])
    # A link that leads nowhere is found too, so that reading it tells what is wrong.
    return next((path for path in usual_places(environ) if os.path.lexists(path)), None)


def usual_places(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Give the places that are searched, in order.

    Where `$XDG_CONFIG_HOME` says that settings lie elsewhere, that comes before `~/.config`. Root
    does not look where it stands when that is another user's directory.
    """
    home = home_directory(environ) / ".config"
    chosen = environ.get("XDG_CONFIG_HOME") or str(home)
    folders = dict.fromkeys([Path(chosen), home, Path("/etc")])
    here = () if is_left_alone_here() else (Path(NAME),)
    return (*here, *(folder / "certferry" / NAME for folder in folders))


def is_left_alone_here() -> bool:
    """Tell whether the caller is root, in a directory in which others could put a configuration:
    it says what is run.
    """
    return os.geteuid() == 0 and is_anothers(Path())
