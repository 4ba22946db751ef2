"""Open a state: the state at a URL, in a file, or in a bucket."""

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
"""The module that opens a state, by the beginning of the state's URL. Imported only when needed."""

Location = str | Path | ObjectStore
"""The location of a state: the URL of a database, the path of a SQLite database, or the objects of
a bucket."""

_BEGINNING = re.compile(r"[a-z][a-z0-9+.-]*:/{2,3}", re.IGNORECASE)  # RFC 3986 §3


def connect(
    url: Location,
    key: Path | Secret,
    *,
    host: str = "localhost",
    reads_only: bool = False,
    password: Secret | None = None,
) -> StateStore:
    """Open the state at a location.

    `key` is the state's key, or the path of the key file; the file is made for the state's first
    secret. `host` is this host's name, stored in rows that belong to one host. `password` is the
    password of a database server.

    A state in a SQLite database or in a bucket is made and migrated if necessary; with
    `reads_only`, an absent state stays absent, and reads as empty. A state on a server is made and
    migrated only by `prepare`.

    Raises `ConfigError` for an unknown kind of URL and for a server without a state, and
    `StateError` (`StateUnavailable`, `StateTooNew`). A server's error that waiting cannot cure is a
    `ConfigError`.
    """
    server = {} if password is None else {"password": password}
    opened: StateStore = _module(url).connect(
        _named(url), key, host, reads_only=reads_only, **server
    )
    return opened


def open_whole(
    url: Location, key: Path | Secret, *, host: str = "localhost", password: Secret | None = None
) -> SqlState:
    """Open an existing state, to move the state or to change the key. Unlike `connect`, this
    function also opens a moved state, and the destination of an unfinished move. Raises as
    `connect`.
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
    """Migrate the state at a URL; with `init`, make an absent state. Return whether anything
    changed. Raises as `connect`, and without `init` also for an absent state.
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
        # Without the URL, because the URL may contain a password.
        raise ConfigError(
            Text("there is no state at {beginning}", beginning=beginning),
            hint=Text(
                "write sqlite:/// and a path, for example sqlite:////var/lib/certferry/state.db"
            ),
        )
    try:
        return import_module(_MODULES[beginning])
    except ModuleNotFoundError as missing:
        if (missing.name or "").split(".")[0] != "psycopg":
            raise
        message = Text("the library for PostgreSQL is not installed")
        raise ConfigError(message, hint=how_to_install_with("postgresql")) from missing


def may_exist(path: Path) -> bool:
    """Return whether a state may exist at a path. The answer is true for a path in a directory that
    this user cannot enter.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def empty_state() -> StateStore:
    """Return an empty state in memory, for a caller without a stored state."""
    module: Any = import_module(_MODULES[_SQLITE])
    made: StateStore = module.in_memory()
    return made
