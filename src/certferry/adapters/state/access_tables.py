"""The tables of access to the console: users, links for choosing a password, sessions, tokens, and
failed logins. The names of users and tokens are case-insensitive.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial

from certferry.adapters.state import columns
from certferry.adapters.state.columns import MOMENT
from certferry.adapters.state.database import Reader, Table, Tables, Transaction, writes
from certferry.adapters.state.row_proofs import LINK, SESSION, TOKEN, USER
from certferry.adapters.state.sealing import Sealing
from certferry.core import access
from certferry.values import replace

_ROLE = columns.Column(from_value=partial(columns.read_as, access.Role))
_USERS = Table(
    "console_user",
    access.User,
    "id",
    role=_ROLE,
    made_at=MOMENT,
    password_at=MOMENT,
    seen_at=MOMENT,
)
_LINKS = Table("console_user_link", access.PasswordLink, "user_id", user=None, expires_at=MOMENT)
_SESSIONS = Table(
    "console_user_session", access.Session, "digest", user=None, began_at=MOMENT, seen_at=MOMENT
)
_TOKENS = Table(
    "console_token",
    access.Token,
    "id",
    role=_ROLE,
    made_at=MOMENT,
    expires_at=MOMENT,
    used_at=MOMENT,
)

SEEN_EVERY, USED_EVERY = timedelta(minutes=1), timedelta(hours=1)
"""The shortest time between two writes of the last use: for a session, and for a token."""

_GUESSES_COUNT_FOR = timedelta(minutes=15)
_MOST_GUESSES = 1_000_000
"""A larger stored count of guesses in a minute was made by another program: each guess is hashed,
and a minute has no time for so many.
"""


class AccessTables(Tables):
    """See `AccessStore`. A user or a token written by another program counts as absent. A new user
    or token with the same name replaces the other program's row.
    """

    _sealing: Sealing

    def users(self) -> tuple[access.User, ...]:
        return _USERS.read(USER.ours(self._sealing, self._database, "ORDER BY id"))

    def user(self, name: str) -> access.User | None:
        return self._user(self._database, _id_of(name))

    @writes
    def add_user(self, transaction: Transaction, user: access.User) -> bool:
        id_ = _id_of(user.name)
        if self._user(transaction, id_) is not None:
            return False
        transaction.remove("console_user", id=id_)
        USER.save(self._sealing, transaction, **_USERS.values(user, id=id_))
        return True

    @writes
    def change_role(self, transaction: Transaction, name: str, role: access.Role) -> bool:
        USER.change(self._sealing, transaction, {"id": _id_of(name)}, role=role)
        return self._user(transaction, _id_of(name)) is not None

    @writes
    def change_language(self, transaction: Transaction, name: str, language: str | None) -> None:
        transaction.update("console_user", {"id": _id_of(name)}, language=language)

    @writes
    def remove_user(self, transaction: Transaction, name: str) -> bool:
        """See `AccessStore.remove_user`. The database deletes the links and sessions (foreign
        keys).
        """
        return _remove(transaction, "console_user", name)

    @writes
    def save_link(self, transaction: Transaction, link: access.PasswordLink) -> None:
        if self._user(transaction, user := _id_of(link.user)):
            LINK.save(self._sealing, transaction, **_LINKS.values(link, user_id=user))

    @writes
    def forget_password(self, transaction: Transaction, name: str) -> None:
        USER.change(
            self._sealing, transaction, {"id": _id_of(name)}, password=None, password_at=None
        )
        for table in ("console_user_session", "console_user_link"):
            transaction.remove(table, user_id=_id_of(name))

    def link(self, digest: str, now: datetime) -> access.PasswordLink | None:
        return self._database.read(lambda reader: self._link(reader, digest, now))

    @writes
    def choose_password(
        self, transaction: Transaction, digest: str, password: str, now: datetime
    ) -> access.User | None:
        link = self._link(transaction, digest, now)
        if link is None:
            return None
        self._save_password(transaction, user := _id_of(link.user), password, now)
        transaction.remove("console_user_session", user_id=user)
        return self._user(transaction, user)

    @writes
    def change_password(
        self, transaction: Transaction, name: str, password: str, now: datetime, keep: str
    ) -> None:
        # The session is gone if an operator has reset the user since the request began.
        if self._session(transaction, keep, now) is None:
            return
        self._save_password(transaction, user := _id_of(name), password, now)
        transaction.execute(
            "DELETE FROM console_user_session WHERE user_id = ? AND digest <> ?", user, keep
        )

    @writes
    def save_session(
        self, transaction: Transaction, session: access.Session, verified: str | None = None
    ) -> None:
        now = session.seen_at
        transaction.execute(
            "DELETE FROM console_user_session WHERE seen_at < ? OR began_at < ?",
            MOMENT.write(now - access.SESSION_IDLE),
            MOMENT.write(now - access.SESSION_LONGEST),
        )
        stored = self._user(transaction, user := _id_of(session.user))
        # While the password was verified, an operator may have reset the user.
        if stored is not None and verified in {None, stored.password}:
            SESSION.save(self._sealing, transaction, **_SESSIONS.values(session, user_id=user))
            transaction.update("console_user", {"id": user}, seen_at=MOMENT.write(now))

    def session(self, digest: str, now: datetime) -> tuple[access.Session, access.User] | None:
        stored = self._database.read(lambda reader: self._session(reader, digest, now))
        if stored is None or now - stored[0].seen_at < SEEN_EVERY:
            return stored
        session, user = stored
        self._save_seen(digest, user.name, now)
        return replace(session, seen_at=now), replace(user, seen_at=now)

    @writes
    def _save_seen(self, transaction: Transaction, digest: str, name: str, now: datetime) -> None:
        moment = MOMENT.write(now)
        SESSION.change(self._sealing, transaction, {"digest": digest}, seen_at=moment)
        transaction.update("console_user", {"id": _id_of(name)}, seen_at=moment)

    @writes
    def end_session(self, transaction: Transaction, digest: str) -> None:
        transaction.remove("console_user_session", digest=digest)

    @writes
    def end_sessions(self, transaction: Transaction, name: str) -> None:
        transaction.remove("console_user_session", user_id=_id_of(name))

    def tokens(self) -> tuple[access.Token, ...]:
        return _TOKENS.read(TOKEN.ours(self._sealing, self._database, "ORDER BY id"))

    @writes
    def add_token(self, transaction: Transaction, token: access.Token) -> bool:
        id_ = _id_of(token.name)
        if TOKEN.find(self._sealing, transaction, id=id_) is not None:
            return False
        transaction.remove("console_token", id=id_)
        TOKEN.save(self._sealing, transaction, **_TOKENS.values(token, id=id_))
        return True

    @writes
    def remove_token(self, transaction: Transaction, name: str) -> bool:
        return _remove(transaction, "console_token", name)

    def token(self, digest: str, now: datetime) -> access.Token | None:
        row = TOKEN.find(self._sealing, self._database, digest=digest)
        token = None if row is None else _TOKENS.first([row])
        if token is not None and token.is_over(now):
            return None
        if token and (token.used_at is None or now - token.used_at >= USED_EVERY):
            self._save_used(digest, now)
            return replace(token, used_at=now)
        return token

    @writes
    def _save_used(self, transaction: Transaction, digest: str, now: datetime) -> None:
        transaction.update("console_token", {"digest": digest}, used_at=MOMENT.write(now))

    @writes
    def count_guess(self, transaction: Transaction, whose: str, now: datetime) -> int:
        """See `AccessStore.count_guess`: count guesses by the minute. Impossible counts, stored by
        another program, are ignored, because such counts would lock users out for ever.
        """
        minute = now.replace(second=0, microsecond=0)
        transaction.add(
            "console_guess",
            "ON CONFLICT (whose, minute) DO UPDATE SET guesses = CASE WHEN"
            f" console_guess.guesses BETWEEN 0 AND {_MOST_GUESSES} THEN console_guess.guesses + 1"
            " ELSE 1 END",
            whose=whose,
            minute=MOMENT.write(minute),
            guesses=1,
        )
        # Another host's clock may be ahead.
        counts = tuple(MOMENT.write(minute + way * _GUESSES_COUNT_FOR) for way in (-1, 1))
        query = (
            "SELECT guesses FROM console_guess WHERE whose = ? AND minute BETWEEN ? AND ?"
            " AND guesses BETWEEN 1 AND ?"
        )
        rows = transaction.rows(query, whose, *counts, _MOST_GUESSES)
        counted: int = sum(row["guesses"] for row in rows)
        if counted == 1:  # only once per attack, because the deletion reads the whole table
            others = "DELETE FROM console_guess WHERE minute NOT BETWEEN ? AND ?"
            transaction.execute(others, *counts)
        return counted

    @writes
    def forget_guesses(self, transaction: Transaction, whose: str) -> None:
        transaction.remove("console_guess", whose=whose)

    @writes
    def take_back_guess(self, transaction: Transaction, whose: str, counted_at: datetime) -> None:
        minute = MOMENT.write(counted_at.replace(second=0, microsecond=0))
        query = "UPDATE console_guess SET guesses = guesses - 1 WHERE whose = ? AND minute = ?"
        transaction.execute(f"{query} AND guesses > 0", whose, minute)

    def _user(self, reader: Reader, user: str) -> access.User | None:
        row = USER.find(self._sealing, reader, id=user)
        return None if row is None else _USERS.first([row])

    def _link(self, reader: Reader, digest: str, now: datetime) -> access.PasswordLink | None:
        row = LINK.find(self._sealing, reader, digest=digest)
        user = None if row is None else self._user(reader, row["user_id"])
        if row is None or user is None:
            return None
        link = _LINKS.first([row], user=user.name)
        return link if link and link.expires_at > now else None

    def _session(
        self, reader: Reader, digest: str, now: datetime
    ) -> tuple[access.Session, access.User] | None:
        row = SESSION.find(self._sealing, reader, digest=digest)
        user = None if row is None else self._user(reader, row["user_id"])
        if row is None or user is None:
            return None
        session = _SESSIONS.first([row], user=user.name)
        return None if session is None or session.is_over(now) else (session, user)

    def _save_password(
        self, transaction: Transaction, user: str, password: str, now: datetime
    ) -> None:
        """Store the hash of a password, and delete the user's link for choosing a password."""
        row = {"password": password, "password_at": MOMENT.write(now)}
        USER.change(self._sealing, transaction, {"id": user}, **row)
        transaction.remove("console_user_link", user_id=user)


def _id_of(name: str) -> str:
    return name.lower()


def _remove(transaction: Transaction, table: str, name: str) -> bool:
    """Delete the row with a name, even a row of another program. Return whether the row existed."""
    rows = transaction.rows(f"SELECT 1 FROM {table} WHERE id = ?", _id_of(name))  # noqa: S608 - a constant
    transaction.remove(table, id=_id_of(name))
    return bool(rows)
