"""The state in one SQLite file on a local disk, shared by every certferry on the host."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from certferry.adapters.state.account_notes import AccountNotes
from certferry.adapters.state.acme import Accounts, ChallengeRecords, IssueTries, Orders
from certferry.adapters.state.database import Database
from certferry.adapters.state.failures import in_our_words
from certferry.adapters.state.history import History
from certferry.adapters.state.leases import Leases
from certferry.adapters.state.migrations import carry_out, migrate, read_migrations
from certferry.adapters.state.private_files import make_directory, make_file
from certferry.adapters.state.remembered import Lineages
from certferry.adapters.state.sealing import Sealing
from certferry.adapters.state.targets import Rollouts, Uploads
from certferry.adapters.state.versions import Versions
from certferry.ports.state import StateStore


def connect(path: Path, key_file: Path) -> StateStore:
    """Open the state, made and migrated when necessary; the key file is made by the first secret.

    What is made can be read by its owner only: directories 0700, files 0600. Raises `StateError`
    (`StateUnavailable`, `StateTooNew`).
    """
    with in_our_words(path):
        make_directory(path.parent)
        make_file(path, b"")
    database = Database(path)
    try:
        migrate(database, read_migrations())
        database.use_write_ahead_log()
    except BaseException:
        database.close()
        raise
    return SqliteState(database, Sealing(key_file))


def connect_to_look(path: Path, key_file: Path) -> StateStore:
    """Open the state for somebody who only reads: where there is none, none is made, and an empty
    one is read. Raises `StateError`.
    """
    with in_our_words(path):
        if _is_made(path):
            return connect(path, key_file)
    return SqliteState(_NoDatabase(path), Sealing(key_file))


def _is_made(path: Path) -> bool:
    """Tell whether there is a state. Raises `OSError` when it cannot be known: behind a closed
    door, or where a link leads nowhere, as to a disk that is not there just now.
    """
    for place in (path, *path.parents):
        try:
            place.stat()  # no `exists`: from Python 3.14 on it says no, whatever the trouble is
        except FileNotFoundError:
            if place.is_symlink() and not (place == path and path.resolve().parent.is_dir()):
                raise
        else:
            return place == path
    return False


class _NoDatabase(Database):
    """One that nobody has made yet: each thread finds an empty one, in its memory."""

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        carry_out(connection, read_migrations())
        return connection


class SqliteState:
    """Every door of `StateStore`, each leading to its group of tables."""

    def __init__(self, database: Database, sealing: Sealing) -> None:
        leases = Leases(database)
        self.acquire = leases.acquire
        self.extend = leases.extend
        self.release = leases.release

        self.remembered = Lineages(database, sealing).remembered

        versions = Versions(database, sealing)
        self.lineages = versions.lineages
        self.versions = versions.versions
        self.bundle = versions.bundle
        self.save_version = versions.save_version

        accounts = Accounts(database, sealing)
        self.account = accounts.account
        self.save_account = accounts.save_account
        self.forget_account = accounts.forget_account

        orders = Orders(database, sealing)
        self.order = orders.order
        self.save_order = orders.save_order
        self.drop_order = orders.drop_order

        records = ChallengeRecords(database)
        self.challenge_records = records.challenge_records
        self.lineages_in_challenge_records = records.lineages_in_challenge_records
        self.save_challenge_record = records.save_challenge_record
        self.drop_challenge_record = records.drop_challenge_record

        tries = IssueTries(database)
        self.issue_tried_at = tries.issue_tried_at
        self.save_issue_try = tries.save_issue_try

        uploads = Uploads(database)
        self.uploads = uploads.uploads
        self.save_upload = uploads.save_upload
        self.drop_upload = uploads.drop_upload

        rollouts = Rollouts(database)
        self.rollouts = rollouts.rollouts
        self.rollout = rollouts.rollout
        self.open_rollouts = rollouts.open_rollouts
        self.save_rollout = rollouts.save_rollout

        notes = AccountNotes(database)
        self.account_note = notes.account_note
        self.update_account_note = notes.update_account_note

        history = History(database)
        self.append_history = history.append_history
        self.history = history.history

        self.close = database.close
