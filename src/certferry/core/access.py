"""Who may open the console or use the API: roles, users, sessions, tokens, and what is no password.

Secrets are compared by their hashes alone; what is shown once is not stored.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import pairwise

from certferry.text import Text

LINK_IS_GOOD_FOR = timedelta(hours=1)
SESSION_IDLE, SESSION_LONGEST = timedelta(hours=12), timedelta(days=7)
LONGEST_TOKEN = timedelta(days=3650)
TOKEN = "cf_"  # noqa: S105 - how one begins, and none
"""How a token begins, so that tools find one in a file."""

SHORTEST_PASSWORD, LONGEST_PASSWORD = 12, 1000
"""In characters. NIST SP 800-63B-4, section 3.1.1.2, asks for 8; for 15 without a second factor."""

_NAME = re.compile(r"[A-Za-z0-9._@-]{1,64}")


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


def is_name(name: str) -> bool:
    """Return whether users and tokens may be called so; upper and lower case are one."""
    return _NAME.fullmatch(name) is not None


def digest_of_secret(secret: str) -> str:
    """Return what is stored of a secret that certferry made: it is too long to be guessed, so that
    a plain SHA-256 is enough.
    """
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()


# --- What is no password

_FEWEST_SURPRISES = 5
"""Characters that do not follow from the one before: what has fewer is guessed among the first."""

_RUNS = (
    "abcdefghijklmnopqrstuvwxyz 01234567890 qwertyuiop[] asdfghjkl; zxcvbnm,./ !@#$%^&*()"
    " 1q2w3e4r5t6y7u8i9o0p q1w2e3r4t5y6u7i8o9p0 qazwsxedcrfvtgbyhnujm 1qaz2wsx3edc4rfv5tgb6yhn7ujm"
    " qawsedrftgyhujikolp qwaszxerdfcvtyghbn a1s2d3f4g5h6j7k8l9 z1x2c3v4b5n6m7 1qa2ws3ed4rf5tg6yh"
)
_FOLLOW = frozenset(
    pair for run in _RUNS.split() for way in (run, run[::-1]) for pair in pairwise(way)
)
_AS_LETTERS = str.maketrans("@4301!$57", "aaeoiisst")
_BETWEEN = re.compile(r"[\s._-]+")
_ADDED = re.compile(r"(?:19|20)\d\d|[\W_]+")
"""What stands beside a word in a password because one asked for it: a year, signs."""

_FREQUENT = """
password passwort qwerty dragon baseball football monkey letmein please shadow master mustang
superman jordan killer hunter harley buster batman soccer tigger charlie sunshine iloveyou hockey
ranger computer starwars pepper freedom princess maggie ginger cheese summer winter spring autumn
chelsea dallas matrix yankees corvette austin access thunder merlin secret diamond hello hammer
silver golden internet samantha scooter orange cookie maverick phoenix mickey snoopy guitar
whatever chicken mercedes ferrari falcon cowboy welcome samsung steelers arsenal eagles tigers
hannah bulldog junior london purple lakers iceman money banana boston tennis coffee mother brandy
oliver player forever midnight chicago angel rabbit natasha wizard raiders casper flower jasmine
panther pokemon tiger canada startrek rainbow newyork liverpool doctor rocket dolphin captain
jaguar lovers mountain warrior elephant success lucky michael jessica jennifer daniel thomas
andrew joshua love woaini woaini1314 tianya 5201314 1314520 gfhjkm ghbdtn parol privet motdepasse
contrasena finalfantasy sonyericsson justinbieber playstation counterstrike onedirection
transformers supernatural international professional administrator christopher minecraft jamesbond
linkedin hannahmontana needforspeed peanutbutter cookiemonster leavemealone ihatethisgame
jesuslovesme ilovemyfamily ingodwetrust michaeljackson manchesterunited residentevil moderncombat
edwardcullen avrillavigne greenlantern mortalkombat morganstanley sanfrancisco stratocaster
ticketmaster thecakeisalie systemofadown punksnotdead whosyourdaddy iseedeadpeople devilmaycry
warhammer lost4815162342 4815162342lost ichliebedich sonnenschein weihnachtsbaum kartoffelpuffer
knackwurst telechargement internazionale massimiliano seniseviyorum przyjaciolki weronika
cosmopolitan nightcrawler websolutions temppassword megaparol fallenangel vladimirovna neworleans
correcthorsebatterystaple correcthorsebattery 010203040506 102030405060
"""
# Words of passwords that leaked, the most frequent ones and those with 12 characters: M. Burnett's
# ten million (2015), as zxcvbn 4.5 and Django 5.2 have them.

_SUGGESTED = """
certferry certificate letsencrypt admin operator viewer root user guest
login console server system service test demo default changeme temp company
"""
# What a server and this program suggest.

_COMMON = sorted(f"{_FREQUENT} {_SUGGESTED}".split(), key=len, reverse=True)
_NO_SENTENCE = 2
"""So many words; more of them are a sentence, which is a good password."""


def password_mistake(password: str, name: str) -> Text | None:
    """Return why a user may not have a password, `None` for one that they may have."""
    plain = _plain(password)
    if len(password) < SHORTEST_PASSWORD:
        return Text("a password has {count} characters or more", count=SHORTEST_PASSWORD)
    if len(password) > LONGEST_PASSWORD:
        return Text("a password has {count} characters at most", count=LONGEST_PASSWORD)
    rest = _without([*filter(None, map(_plain, (name, *re.split(r"[._@-]", name))))], plain)
    if rest != plain and _surprises(rest) < _FEWEST_SURPRISES:
        return Text("this password is little more than the name")
    if _repeats(plain) or _surprises(_without(_COMMON, plain)) < _FEWEST_SURPRISES:
        return Text("this password, or one like it, is among the first that are tried")
    return None


def _plain(words: str) -> str:
    """Write without what makes no guess harder: upper case, and what stands between words."""
    return _BETWEEN.sub("", unicodedata.normalize("NFC", words).casefold())


def _without(words: Sequence[str], plain: str) -> str:
    """Cut the first few of these words that stand in a password out of it, wherever they do, and
    what is usually added to them.
    """
    letters, found = plain.translate(_AS_LETTERS), 0
    for word in words:
        if found < _NO_SENTENCE and (spelt := word.translate(_AS_LETTERS)) in letters:
            found += 1
            while (place := letters.find(spelt)) >= 0:
                plain, letters = (
                    one[:place] + one[place + len(word) :] for one in (plain, letters)
                )
    return _ADDED.sub("", plain) if found else plain


def _surprises(plain: str) -> int:
    """Count the characters that do not follow from the one before: in the alphabet, on a keyboard,
    or as the same again.
    """
    return len(plain) and 1 + sum(
        first != second and (first, second) not in _FOLLOW for first, second in pairwise(plain)
    )


def _repeats(plain: str) -> bool:
    """Return whether a password is a shorter one again and again."""
    return any(
        plain[period:] == plain[:-period]
        for period in range(1, min(SHORTEST_PASSWORD, len(plain) // 2 + 1))
    )
