"""Open the state that a URL names."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

from certferry.errors import ConfigError
from certferry.ports.state import StateStore
from certferry.text import Text

_SQLITE = "sqlite:///"
_MODULES = {_SQLITE: "certferry.adapters.state.sqlite"}
"""What opens the URLs that begin like this, imported when one is opened."""

_BEGINNING = re.compile(r"[a-z][a-z0-9+.-]*:/{2,3}", re.IGNORECASE)  # RFC 3986 §3


def connect(
    url: str | Path, key_file: Path, *, host: str = "localhost", reads_only: bool = False
) -> StateStore:
    """Open the state at a URL, or in the SQLite database at a path; it is made and migrated when
    necessary, and the key file with the first secret. `host` is what this host is called in the
    keys of what belongs to it. For a caller who `reads_only`, none is made: where there is no
    state, an empty one is read.

    Raises `ConfigError` for another kind of URL, and `StateError` (`StateUnavailable`,
    `StateTooNew`).
    """
    named = _BEGINNING.match(str(url))
    beginning = _SQLITE if named is None else named[0]
    if beginning not in _MODULES:
        # The URL is not shown: it may hold a password.
        raise ConfigError(
            Text("there is no state at {beginning}", beginning=beginning),
            hint=Text("write sqlite:/// and a path, such as sqlite:////var/lib/certferry/state.db"),
        )
    module: Any = import_module(_MODULES[beginning])
    opened: StateStore = module.connect(str(url), key_file, host, reads_only=reads_only)
    return opened


def may_exist(path: Path) -> bool:
    """Return whether there is a state at a path, or may be: in a directory that may not be entered,
    none can be seen.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def empty_state() -> StateStore:
    """Return a state in memory that is gone with its caller: for what cannot be remembered."""
    module: Any = import_module(_MODULES[_SQLITE])
    made: StateStore = module.in_memory()
    return made
