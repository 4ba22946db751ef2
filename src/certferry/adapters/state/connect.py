"""Open the state that a URL names, or that is in a bucket."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

from certferry.adapters.state.store import SqlState
from certferry.core.redaction import Secret
from certferry.errors import ConfigError
from certferry.extras import how_to_install_with
from certferry.ports.objects import ObjectStore
from certferry.ports.state import StateStore
from certferry.text import Text

_SQLITE = "sqlite:///"
_SERVERS = ("postgresql://", "postgresql:///", "postgres://", "postgres:///")
_MODULES = {_SQLITE: "certferry.adapters.state.sqlite"}
_MODULES |= dict.fromkeys(_SERVERS, "certferry.adapters.state.postgresql")
"""What opens the URLs that begin like this, imported when one is opened."""

Location = str | Path | ObjectStore
"""Where a state is: the URL of a database, the path of a SQLite database, or the objects of a
bucket."""

_BEGINNING = re.compile(r"[a-z][a-z0-9+.-]*:/{2,3}", re.IGNORECASE)  # RFC 3986 §3


def connect(
    url: Location,
    key: Path | Secret,
    *,
    host: str = "localhost",
    reads_only: bool = False,
    password: Secret | None = None,
) -> StateStore:
    """Open the state at a location. `key` opens what is sealed: it is given, or in a file that is
    made with the first secret. `host` is what this host is called in
    the keys of what belongs to it.

    A SQLite database is made and migrated when necessary; for a caller who `reads_only` none is
    made: where there is no state, an empty one is read. So it is in a bucket. That of a server is
    made by `prepare` alone, and takes a `password`.

    Raises `ConfigError` for a URL of another kind, or one that leads to no state, and `StateError`
    (`StateUnavailable`, `StateTooNew`); of a server, `ConfigError` where waiting does not help.
    """
    server = {} if password is None else {"password": password}
    opened: StateStore = _module(url).connect(
        _named(url), key, host, reads_only=reads_only, **server
    )
    return opened


def open_whole(
    url: Location, key: Path | Secret, *, host: str = "localhost", password: Secret | None = None
) -> SqlState:
    """Open a state to carry or change all of it: also one that was moved, or into which a move did
    not end. None is made. Raises as `connect`.
    """
    server = {} if password is None else {"password": password}
    opened: SqlState = _module(url).open_whole(_named(url), key, host, **server)
    return opened


def prepare(
    url: Location,
    key: Path | Secret,
    *,
    host: str = "localhost",
    init: bool,
    password: Secret | None = None,
) -> bool:
    """Make the state at a URL (`init`), or bring the one that is there up to date. Return whether
    there was anything to do. Raises as `connect`.
    """
    server = {} if password is None else {"password": password}
    done: bool = _module(url).prepare(_named(url), key, host, init=init, **server)
    return done


def _named(url: Location) -> str | ObjectStore:
    return str(url) if isinstance(url, Path) else url


def _module(url: Location) -> Any:
    if not isinstance(url, str | Path):
        return import_module("certferry.adapters.state.generations")
    named = _BEGINNING.match(str(url))
    beginning = _SQLITE if named is None else named[0]
    if beginning not in _MODULES:
        # The URL is not shown: it may hold a password.
        raise ConfigError(
            Text("there is no state at {beginning}", beginning=beginning),
            hint=Text("write sqlite:/// and a path, such as sqlite:////var/lib/certferry/state.db"),
        )
    try:
        return import_module(_MODULES[beginning])
    except ModuleNotFoundError as missing:
        if (missing.name or "").split(".")[0] != "psycopg":
            raise
        said = Text("the library for PostgreSQL is not installed")
        raise ConfigError(said, hint=how_to_install_with("postgresql")) from missing


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
