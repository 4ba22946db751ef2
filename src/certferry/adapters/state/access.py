"""Who may open the console: users with their links and sessions, tokens, and failed logins. Names
of users and tokens are found in any case.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from certferry.adapters.state import columns
from certferry.adapters.state.columns import MOMENT
from certferry.adapters.state.database import Reader, Table, Tables, Transaction, writes
from certferry.core import access

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
"""How often at most it is stored that a session was seen, and that a token was used."""

_GUESSES_COUNT_FOR = timedelta(minutes=15)
_NEW = "ON CONFLICT (id) DO NOTHING"


class AccessTables(Tables):
    """See `AccessStore`."""

    def users(self) -> tuple[access.User, ...]:
        return _USERS.found(self._database, "ORDER BY id")

    def user(self, name: str) -> access.User | None:
        return _user(self._database, _id_of(name))

    @writes
    def add_user(self, transaction: Transaction, user: access.User) -> bool:
        is_free = _user(transaction, _id_of(user.name)) is None
        transaction.add("console_user", _NEW, **_USERS.values(user, id=_id_of(user.name)))
        return is_free

    @writes
    def change_role(self, transaction: Transaction, name: str, role: access.Role) -> bool:
        transaction.update("console_user", {"id": _id_of(name)}, role=role)
        return _user(transaction, _id_of(name)) is not None

    @writes
    def change_language(self, transaction: Transaction, name: str, language: str | None) -> None:
        transaction.update("console_user", {"id": _id_of(name)}, language=language)

    @writes
    def remove_user(self, transaction: Transaction, name: str) -> bool:
        """See `AccessStore.remove_user`: the tables of links and sessions refer to the user's."""
        was_there = _user(transaction, _id_of(name)) is not None
        transaction.remove("console_user", id=_id_of(name))
        return was_there

    @writes
    def save_link(self, transaction: Transaction, link: access.PasswordLink) -> None:
        if _user(transaction, user := _id_of(link.user)):
            _LINKS.save(transaction, link, user_id=user)

    @writes
    def forget_password(self, transaction: Transaction, name: str) -> None:
        transaction.update("console_user", {"id": _id_of(name)}, password=None, password_at=None)
        for table in ("console_user_session", "console_user_link"):
            transaction.remove(table, user_id=_id_of(name))

    def link(self, digest: str, now: datetime) -> access.PasswordLink | None:
        return self._database.read(lambda reader: _link(reader, digest, now))

    @writes
    def choose_password(
        self, transaction: Transaction, digest: str, password: str, now: datetime
    ) -> access.User | None:
        link = _link(transaction, digest, now)
        if link is None:
            return None
        _save_password(transaction, user := _id_of(link.user), password, now)
        transaction.remove("console_user_session", user_id=user)
        return _user(transaction, user)

    @writes
    def change_password(
        self, transaction: Transaction, name: str, password: str, now: datetime, keep: str
    ) -> None:
        # An operator may have reset the user since the request began.
        if _session(transaction, keep, now) is None:
            return
        _save_password(transaction, user := _id_of(name), password, now)
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
        found = _user(transaction, user := _id_of(session.user))
        # A password takes a while to verify: an operator may have reset the user meanwhile.
        if found is not None and verified in {None, found.password}:
            _SESSIONS.save(transaction, session, user_id=user)
            transaction.update("console_user", {"id": user}, seen_at=MOMENT.write(now))

    def session(self, digest: str, now: datetime) -> tuple[access.Session, access.User] | None:
        found = self._database.read(lambda reader: _session(reader, digest, now))
        if found is None or now - found[0].seen_at < SEEN_EVERY:
            return found
        session, user = found
        self._save_seen(digest, user.name, now)
        return replace(session, seen_at=now), replace(user, seen_at=now)

    @writes
    def _save_seen(self, transaction: Transaction, digest: str, name: str, now: datetime) -> None:
        moment = MOMENT.write(now)
        transaction.update("console_user_session", {"digest": digest}, seen_at=moment)
        transaction.update("console_user", {"id": _id_of(name)}, seen_at=moment)

    @writes
    def end_session(self, transaction: Transaction, digest: str) -> None:
        transaction.remove("console_user_session", digest=digest)

    @writes
    def end_sessions(self, transaction: Transaction, name: str) -> None:
        transaction.remove("console_user_session", user_id=_id_of(name))

    def tokens(self) -> tuple[access.Token, ...]:
        return _TOKENS.found(self._database, "ORDER BY id")

    @writes
    def add_token(self, transaction: Transaction, token: access.Token) -> bool:
        is_free = not _TOKENS.found(transaction, "WHERE id = ?", _id_of(token.name))
        transaction.add("console_token", _NEW, **_TOKENS.values(token, id=_id_of(token.name)))
        return is_free

    @writes
    def remove_token(self, transaction: Transaction, name: str) -> bool:
        was_there = bool(_TOKENS.found(transaction, "WHERE id = ?", _id_of(name)))
        transaction.remove("console_token", id=_id_of(name))
        return was_there

    def token(self, digest: str, now: datetime) -> access.Token | None:
        found = _TOKENS.found(self._database, "WHERE digest = ?", digest)
        token = next((one for one in found if not one.is_over(now)), None)
        if token and (token.used_at is None or now - token.used_at >= USED_EVERY):
            self._save_used(digest, now)
            return replace(token, used_at=now)
        return token

    @writes
    def _save_used(self, transaction: Transaction, digest: str, now: datetime) -> None:
        transaction.update("console_token", {"digest": digest}, used_at=MOMENT.write(now))

    @writes
    def count_guess(self, transaction: Transaction, whose: str, now: datetime) -> int:
        """See `AccessStore.count_guess`: guesses are counted by the minute."""
        minute = now.replace(second=0, microsecond=0)
        transaction.add(
            "console_guess",
            "ON CONFLICT (whose, minute) DO UPDATE SET guesses = console_guess.guesses + 1",
            whose=whose,
            minute=MOMENT.write(minute),
            guesses=1,
        )
        oldest = MOMENT.write(minute - _GUESSES_COUNT_FOR)
        query = "SELECT guesses FROM console_guess WHERE whose = ? AND minute >= ?"
        counted: int = sum(row["guesses"] for row in transaction.rows(query, whose, oldest))
        if counted == 1:  # seldom: it reads all of the table, which guesses at once would repeat
            transaction.execute("DELETE FROM console_guess WHERE minute < ?", oldest)
        return counted

    @writes
    def forget_guesses(self, transaction: Transaction, whose: str) -> None:
        transaction.remove("console_guess", whose=whose)

    @writes
    def take_back_guess(self, transaction: Transaction, whose: str, counted_at: datetime) -> None:
        minute = MOMENT.write(counted_at.replace(second=0, microsecond=0))
        query = "UPDATE console_guess SET guesses = guesses - 1 WHERE whose = ? AND minute = ?"
        transaction.execute(f"{query} AND guesses > 0", whose, minute)


def _id_of(name: str) -> str:
    return name.lower()


def _user(reader: Reader, user: str) -> access.User | None:
    return next(iter(_USERS.found(reader, "WHERE id = ?", user)), None)


def _link(reader: Reader, digest: str, now: datetime) -> access.PasswordLink | None:
    condition = "WHERE digest = ? AND expires_at > ?"
    query = (
        "SELECT own.*, name FROM console_user_link AS own"  # noqa: S608 - a constant
        f" JOIN console_user ON id = user_id {condition}"
    )
    rows = reader.rows(query, digest, MOMENT.write(now))
    return next((_LINKS.of_row(row, user=row["name"]) for row in rows), None)


def _session(
    reader: Reader, digest: str, now: datetime
) -> tuple[access.Session, access.User] | None:
    for row in reader.rows("SELECT * FROM console_user_session WHERE digest = ?", digest):
        user = _user(reader, row["user_id"])
        if user is not None:
            session = _SESSIONS.of_row(row, user=user.name)
            return None if session.is_over(now) else (session, user)
    return None


def _save_password(transaction: Transaction, user: str, password: str, now: datetime) -> None:
    """Store the hash of a password; a link of that user is good no more."""
    row = {"password": password, "password_at": MOMENT.write(now)}
    transaction.update("console_user", {"id": user}, **row)
    transaction.remove("console_user_link", user_id=user)
