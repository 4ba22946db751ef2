"""The port to who may open the console: users, links, sessions, tokens, and guesses."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from certferry.core.access import PasswordLink, Role, Session, Token, User


class AccessStore(Protocol):
    """Users with their sessions, and tokens; names are found in any case (Anna is anna). All
    raise `StateError`; every change is one transaction.
    """

    def users(self) -> tuple[User, ...]:
        """Return every user, by name."""

    def user(self, name: str) -> User | None:
        """Return a user."""

    def add_user(self, user: User) -> bool:
        """Store a new user; return whether the name was free."""

    def change_role(self, name: str, role: Role) -> bool:
        """Store a user's role; return whether there is such a user."""

    def change_language(self, name: str, language: str | None) -> None:
        """Store which language a user chose."""

    def remove_user(self, name: str) -> bool:
        """Delete a user with the links and sessions; return whether there was one."""

    def save_link(self, link: PasswordLink) -> None:
        """Store a link, in place of the user's other one; nothing where there is no such user."""

    def forget_password(self, name: str) -> None:
        """Delete the hash of a user's password, with the user's link and sessions."""

    def link(self, digest: str, now: datetime) -> PasswordLink | None:
        """Return a link that is still good."""

    def choose_password(self, digest: str, password: str, now: datetime) -> User | None:
        """Spend a link: store the hash of its user's password, and end their sessions. Return the
        user, `None` where the link is no longer good.
        """

    def change_password(self, name: str, password: str, now: datetime, keep: str) -> None:
        """Store a new password's hash, delete the user's link, and end their sessions but the one
        to `keep`; nothing where that session has ended meanwhile.
        """

    def save_session(self, session: Session, verified: str | None = None) -> None:
        """Store that a browser is logged in; nothing where there is no such user any more, or where
        the user's hash is no longer the one that was `verified`. Deletes the sessions that are
        over, and stores when the user was seen.
        """

    def session(self, digest: str, now: datetime) -> tuple[Session, User] | None:
        """Return a session that is not over, with its user as they are now. Stores that it was
        seen, at most once a minute.
        """

    def end_session(self, digest: str) -> None:
        """Delete a session."""

    def end_sessions(self, name: str) -> None:
        """Delete every session of a user."""

    def tokens(self) -> tuple[Token, ...]:
        """Return every token, by name."""

    def add_token(self, token: Token) -> bool:
        """Store a new token; return whether the name was free."""

    def remove_token(self, name: str) -> bool:
        """Delete a token; return whether there was one."""

    def token(self, digest: str, now: datetime) -> Token | None:
        """Return a token that is not over. Stores that it was used, at most once an hour."""

    def count_guess(self, whose: str, now: datetime) -> int:
        """Count a failed login of an address or a name (`address 192.0.2.7`, `name anna`), before
        anything is verified; return how many there were in the last 15 minutes (counted by the
        minute), this one included. Older ones are deleted.
        """

    def forget_guesses(self, whose: str) -> None:
        """Delete what is counted of a name, after a login that succeeded."""

    def take_back_guess(self, whose: str, counted_at: datetime) -> None:
        """Count one guess less that was counted at a moment: it was none, for the login succeeded.
        The others of its address stay, since they may be guesses at other names.
        """
