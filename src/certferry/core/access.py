"""Who may open the console or use the API: roles, users, sessions, tokens, and what is no password.

Secrets are compared by their hashes alone; what is shown once is not stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

LINK_IS_GOOD_FOR = timedelta(hours=1)
SESSION_IDLE, SESSION_LONGEST = timedelta(hours=12), timedelta(days=7)
SHORTEST_PASSWORD = 12


class Role(StrEnum):
    """What a user or a token may do: read everything, or start runs as well."""

    VIEWER = "viewer"
    OPERATOR = "operator"

    @property
    def may_start_runs(self) -> bool:
        """Whether this role may change anything at all."""
        return self is Role.OPERATOR


@dataclass(frozen=True, slots=True)
class User:
    """A user of the console. `password` is the hash as PHC string, `None` until one was chosen;
    `language` what they chose, `None` for what their browser wishes.
    """

    name: str
    role: Role
    made_at: datetime
    password: str | None = None
    password_at: datetime | None = None
    language: str | None = None
    seen_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class PasswordLink:
    """A link by which a user chooses a password, once: the SHA-256 of what is in it."""

    digest: str
    user: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Session:
    """A browser that is logged in: the SHA-256 of its cookie. It ends with its user's password."""

    digest: str
    user: str
    began_at: datetime
    seen_at: datetime
    address: str
    browser: str = ""

    def is_over(self, now: datetime) -> bool:
        """Return whether it was idle, or lasted, too long."""
        return now - self.seen_at > SESSION_IDLE or now - self.began_at > SESSION_LONGEST


@dataclass(frozen=True, slots=True)
class Token:
    """A token for the API: its SHA-256, and the characters that it `begins` with, by which
    operators know which one it is.
    """

    name: str
    digest: str
    begins: str
    role: Role
    made_at: datetime
    expires_at: datetime | None = None
    used_at: datetime | None = None

    def is_over(self, now: datetime) -> bool:
        """Return whether it has expired."""
        return self.expires_at is not None and now >= self.expires_at
