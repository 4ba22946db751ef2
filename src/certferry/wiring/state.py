"""The state named in the settings: open, make, upgrade, check, copy, move."""

from __future__ import annotations

import logging
import os
import pwd
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from certferry.adapters.state import connect as states
from certferry.config.mistakes import REFERENCE, config_error
from certferry.config.model import Settings, StateSettings
from certferry.config.secrets import SecretReference
from certferry.core.findings import Code
from certferry.core.redaction import Secret
from certferry.errors import (
    ConfigError,
    Problem,
    Reported,
    StateError,
    StateNotStored,
    StateUnavailable,
)
from certferry.file_trust import PACKAGE_USER
from certferry.ports.state import StateStore
from certferry.present.status_text import history_break
from certferry.text import Text
from certferry.wiring.clock import now

if TYPE_CHECKING:
    from certferry.adapters.state.backup import Restored
    from certferry.adapters.state.move import Address, Moved, Rotated

_log = logging.getLogger(__name__)


def act_as_owner(state: StateSettings) -> None:
    """If the process runs as root, and the state's directory belongs to the Debian package's user,
    go on as that user. A file owned by root there would make the next scheduled run fail.
    """
    if state.path is None or os.geteuid() != 0:
        return
    with suppress(KeyError, OSError):  # the user or the directory is missing
        user = pwd.getpwnam(PACKAGE_USER)
        if user.pw_uid == state.path.parent.stat().st_uid:
            os.initgroups(PACKAGE_USER, user.pw_gid)
            os.setresgid(user.pw_gid, user.pw_gid, 0)
            # Programs started by certferry run as the user as well; the saved id is for
            # `as_caller`.
            os.setresuid(user.pw_uid, user.pw_uid, 0)


@contextmanager
def as_caller() -> Iterator[None]:
    """In a `with` block, act with the rights of the user who started the process, even after
    `act_as_owner`.
    """
    user, group = os.geteuid(), os.getegid()
    os.seteuid(os.getresuid()[2])
    os.setegid(os.getresgid()[2])
    try:
        yield
    finally:
        os.setegid(group)
        os.seteuid(user)


def opened_state(settings: Settings, *, reads_only: bool = False) -> StateStore:
    """Open the state. Raises `ConfigError` and `StateError`: see `adapters.state.connect`."""
    act_as_owner(settings.state)
    return states.connect(
        _location_of(settings),
        _key_of(settings),
        host=settings.state.host,
        reads_only=reads_only,
        password=_password_of(settings),
    )


@contextmanager
def closed_in_order(state: StateStore) -> Iterator[StateStore]:
    """Close a state after a `with` block. If the block raised, raise the block's error, and at most
    log an error of closing.
    """
    try:
        yield state
    except BaseException as ended_by:
        try:
            state.close()
        except Reported as error:
            if not isinstance(ended_by, StateNotStored):  # `StateNotStored` is the same failure
                _log.warning(Text("{problem}; {hint}", problem=error.message, hint=error.hint))
        raise
    state.close()


def _location_of(settings: Settings) -> states.Location:
    if not settings.state.is_bucket:
        return settings.state.database
    from certferry.wiring.buckets import objects_of

    return objects_of(settings)


def prepared_state(settings: Settings, *, init: bool) -> bool:
    """Make the state (`init`), or upgrade the state; return whether anything changed. See
    `adapters.state.connect.prepare`.
    """
    act_as_owner(settings.state)
    return states.prepare(
        _location_of(settings),
        _key_of(settings),
        host=settings.state.host,
        init=init,
        password=_password_of(settings),
    )


def may_be_there(state: StateSettings) -> bool:
    """Return whether a state may exist. For a state on a server or in a bucket the answer is always
    True, because only a connection can tell.
    """
    return state.path is None or states.may_exist(state.path)


def _key_of(settings: Settings) -> Path | Secret:
    """Return the state's key, or the file of the key. Raises `ConfigError` for an unusable key
    before a server is contacted.
    """
    key = settings.state.key
    if isinstance(key, Path):
        return key
    from certferry.adapters.state.sealing import key_of

    secret = _resolved("key", key, settings)
    key_of(secret)
    return secret


def _password_of(settings: Settings) -> Secret | None:
    password = settings.state.password
    return None if password is None else _resolved("password", password, settings)


def _resolved(name: str, reference: SecretReference, settings: Settings) -> Secret:
    try:
        return settings.secrets.resolve(reference)
    except ConfigError as error:
        mistake = settings.state.place.mistake(name, error.message)
        raise config_error([mistake], error.hint or REFERENCE) from error


def archive_of(settings: Settings) -> tuple[bytes, tuple[str, ...]]:
    """See `adapters.state.backup.back_up`. Raises `ConfigError` unless the state is a file."""
    from certferry.adapters.state import backup

    hint = Text(
        "copy the database with pg_dump --format=custom --file=FILE; keep `key` of [state]"
        " separately"
    )
    return backup.back_up(_file_of(settings.state, hint), _key_of(settings), now())


def restored(archive: bytes, source: Path, settings: Settings) -> Restored:
    """See `adapters.state.backup.restore`. Raises `ConfigError` unless the state is a file."""
    from certferry.adapters.state import backup

    hint = Text(
        "restore the database with pg_restore, and set `key` of [state] to the key of the backup"
    )
    path = _file_of(settings.state, hint)
    return backup.restore(archive, source, path, _key_of(settings))


def _file_of(state: StateSettings, hint: Text) -> Path:
    if state.is_bucket:
        raise ConfigError(
            Text("{place} is a bucket, which keeps each change of the state", place=state.named),
            hint=Text(
                "to back up, copy the newest object; to go back, delete every object newer than"
                " the wanted one; keep `key` of [state] separately"
            ),
        )
    if state.path is None:
        message = Text("{place} is a database on a server, not a file", place=state.named)
        raise ConfigError(message, hint=hint)
    act_as_owner(state)
    return state.path


def moved_state(here: Settings, there: Settings) -> Moved:
    """See `adapters.state.move.move`."""
    from certferry.adapters.state import move

    return move.move(_address_of(here), _address_of(there), here.state.host, now())


def changed_key(settings: Settings, new: SecretReference | None) -> Rotated:
    """See `adapters.state.move.rotate`. If `new` is None, a new key is made."""
    from certferry.adapters.state import move

    key = Secret(new_key()) if new is None else settings.secrets.resolve(new)
    return move.rotate(_address_of(settings), key, settings.state.host, now())


def _address_of(settings: Settings) -> Address:
    from certferry.adapters.state.move import Address

    act_as_owner(settings.state)
    return Address(_location_of(settings), _key_of(settings), _password_of(settings))


Check = Callable[[StateStore], Iterator[Problem]]
"""Reads a state and yields the state's problems."""


def unopened_keys(state: StateStore) -> Iterator[Problem]:
    """Yield a problem for each stored private key that cannot be decrypted. If the state's own key
    is wrong, yield only that problem. Raises `StateUnavailable`.
    """
    try:
        state.must_unseal()
    except StateUnavailable:
        raise
    except StateError as error:
        yield error.problem("[state]", code=Code.SEAL_BROKEN)
        return
    for subject, failure in state.unopened():
        yield failure.problem(subject, code=Code.SEAL_BROKEN)


def foreign_rows(state: StateStore) -> Iterator[Problem]:
    """Yield a problem for each row written or changed by another program. Yield nothing if the
    state's key is wrong: foreign rows cannot be recognised then, and `unopened_keys` reports the
    key. Raises `StateUnavailable`.
    """
    try:
        state.must_unseal()
    except StateUnavailable:
        raise
    except StateError:
        return
    for subject, error in state.foreign():
        yield error.problem(subject)


def broken_history(state: StateStore) -> Iterator[Problem]:
    """For each certificate's history that another program changed, yield a problem that names the
    first change. If another program deleted whole histories, yield a single problem for all.

    If the state's key cannot be used, yield only that problem. Raises `StateUnavailable`.
    """
    try:
        breaks = state.verify_history().breaks
    except StateUnavailable:
        raise
    except StateError as error:
        yield error.problem("[history]", code=Code.SEAL_BROKEN)
        return
    for breach in breaks:
        fix = Text("check which other program may write to the database")
        yield Problem(Code.HISTORY_BROKEN, history_break(breach), fix, subject=breach.lineage)


def damage(state: StateStore) -> Iterator[Problem]:
    """Yield the problems of the state as a whole, such as a damaged database."""
    for error in state.damage():
        yield error.problem("[state] url")


CHECKS: Sequence[Check] = (unopened_keys, foreign_rows, broken_history, damage)


def checked_state(settings: Settings) -> tuple[Problem, ...]:
    """Return the problems found by the checks. Raises the errors of `opened_state`, and
    `ConfigError` if there is no state.
    """
    if not may_be_there(settings.state):
        raise ConfigError(
            Text("there is no state at {path}", path=settings.state.named),
            hint=Text("the first `certferry sync` or `certferry state init` creates the state"),
        )
    with closing(opened_state(settings, reads_only=True)) as state:
        return tuple(problem for check in CHECKS for problem in check(state))


def new_key() -> str:
    """See `adapters.state.sealing.new_key`."""
    from certferry.adapters.state import sealing

    return sealing.new_key()
