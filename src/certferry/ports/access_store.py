"""The port to the console's access data: users, links, sessions, tokens and failed logins."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from certferry.core.access import PasswordLink, Role, Session, Token, User


class AccessStore(Protocol):
    """Users, sessions and tokens. Names are compared without case: Anna is anna. A row that another
    program wrote or changed counts as absent, except that a removal deletes the row.

    Every method may raise `StateError`. Every change is one transaction.
    """

    def users(self) -> tuple[User, ...]:
        """Return every user, sorted by name."""

    def user(self, name: str) -> User | None:
        """Return the user with this name, or `None`."""

    def add_user(self, user: User) -> bool:
        """Store a new user; return whether the name was free."""

    def change_role(self, name: str, role: Role) -> bool:
        """Store a user's role; return whether the user exists."""

    def change_language(self, name: str, language: str | None) -> None:
        """Store the language that a user chose."""

    def remove_user(self, name: str) -> bool:
        """Delete a user with all links and sessions; return whether the user existed."""

    def save_link(self, link: PasswordLink) -> None:
        """Store a link in place of the user's earlier link. Ignore an unknown user."""

    def forget_password(self, name: str) -> None:
        """Delete the hash of a user's password, the user's link, and the user's sessions."""

    def link(self, digest: str, now: datetime) -> PasswordLink | None:
        """Return the link with this digest; `None` if the link is unknown or no longer valid."""

    def choose_password(self, digest: str, password: str, now: datetime) -> User | None:
        """Store the password hash of the user of a link, delete the link, and end the user's
        sessions. Return the user. If the link is unknown or no longer valid, change nothing and
        return `None`.
        """

    def change_password(self, name: str, password: str, now: datetime, keep: str) -> None:
        """Store a user's new password hash, delete the user's link, and end every session of the
        user except `keep`, given by its digest. Change nothing if the session `keep` has ended
        meanwhile.
        """

    def save_session(self, session: Session, verified: str | None = None) -> None:
        """Store that a browser is logged in, and when the user was seen. Store neither if the user
        is gone, or if the user's password hash is no longer `verified` (`None`: not compared).
        Delete expired sessions in any case.
        """

    def session(self, digest: str, now: datetime) -> tuple[Session, User] | None:
        """Return the session with this digest, and the session's user; `None` if the session is
        unknown or over. Store when the session was used, at most once a minute.
        """

    def end_session(self, digest: str) -> None:
        """Delete a session."""

    def end_sessions(self, name: str) -> None:
        """Delete every session of a user."""

    def tokens(self) -> tuple[Token, ...]:
        """Return every token, sorted by name."""

    def add_token(self, token: Token) -> bool:
        """Store a new token; return whether the name was free."""

    def remove_token(self, name: str) -> bool:
        """Delete a token; return whether the token existed."""

    def token(self, digest: str, now: datetime) -> Token | None:
        """Return the token with this digest; `None` if the token is unknown or has expired. Store
        when the token was used, at most once an hour.
        """

    def count_guess(self, whose: str, now: datetime) -> int:
        """Count a login of an address or a name (`address 192.0.2.7`, `name anna`) as failed,
        before the password is verified. Return the number of failed logins within 15 minutes,
        counted by the minute, with the new login. A count in the future is from another host's
        clock, and included. Counts from other times are deleted now and then.
        """

    def forget_guesses(self, whose: str) -> None:
        """Delete the failed logins of a name, after a successful login."""

    def take_back_guess(self, whose: str, counted_at: datetime) -> None:
        """Remove one failed login of the minute of `counted_at`, because the login succeeded. Other
        failed logins from the address stay, because they may be guesses at other names.
        """
