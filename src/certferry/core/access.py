"""Access to the console and the API: roles, users, sessions, tokens, and the rules for passwords.

The state stores only hashes of passwords, tokens, cookies and links. certferry shows a token or a
link once.
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

from msgspec import Struct

from certferry.text import Text

LINK_IS_GOOD_FOR = timedelta(hours=1)
SESSION_IDLE, SESSION_LONGEST = timedelta(hours=12), timedelta(days=7)
LONGEST_TOKEN = timedelta(days=3650)
TOKEN = "cf_"  # noqa: S105 - a prefix, not a token
"""How every token begins, so that secret scanners find tokens in files."""

SHORTEST_PASSWORD, LONGEST_PASSWORD = 12, 1000
"""The least and the most characters of a password. NIST SP 800-63B-4, section 3.1.1.2, asks for at
least 8, or 15 without a second factor.
"""

_NAME = re.compile(r"[A-Za-z0-9._@-]{1,64}")


class Role(StrEnum):
    """The rights of a user or a token."""

    #: Reads everything.
    VIEWER = "viewer"
    #: Reads everything and starts runs.
    OPERATOR = "operator"

    @property
    def may_start_runs(self) -> bool:
        """Whether the role may start runs, or change anything else."""
        return self is Role.OPERATOR


class User(Struct, frozen=True):
    """A user of the console."""

    #: The name for logging in, see `is_name`.
    name: str
    role: Role  #: The user's rights.
    made_at: datetime  #: When an operator added the user.
    #: The hash of the password as PHC string; `None` until the user has chosen a password.
    password: str | None = None
    #: When the user chose the password.
    password_at: datetime | None = None
    #: The language chosen by the user; `None` for the browser's preference.
    language: str | None = None
    #: When the user last sent a request, to the minute.
    seen_at: datetime | None = None


class PasswordLink(Struct, frozen=True):
    """A link by which a user chooses a password, once."""

    #: The SHA-256 of the secret in the link.
    digest: str
    user: str  #: The user's name.
    expires_at: datetime  #: From this moment the link is invalid.


@dataclass(frozen=True, slots=True)
class Session:
    """A logged-in browser. A new password ends every session of the user, except the session in
    which the user changed the password.
    """

    #: The SHA-256 of the cookie.
    digest: str
    user: str  #: The user's name.
    began_at: datetime  #: When the user logged in.
    seen_at: datetime  #: The last request, to the minute.
    address: str  #: The browser's network address.
    browser: str = ""  #: The browser's name for people; empty if unknown.

    def is_over(self, now: datetime) -> bool:
        """Return whether the session was idle, or has lasted, for too long."""
        return now - self.seen_at > SESSION_IDLE or now - self.began_at > SESSION_LONGEST


class Token(Struct, frozen=True):
    """A token for the API."""

    name: str  #: The operator's name for the token.
    #: The SHA-256 of the token.
    digest: str
    #: The first characters, by which operators recognise a token.
    begins: str
    role: Role  #: The rights of a program with the token.
    made_at: datetime  #: When an operator made the token.
    expires_at: datetime | None = None  #: The end of the token; `None` for no end.
    used_at: datetime | None = None  #: The last request, to the hour; `None` before the first.

    def is_over(self, now: datetime) -> bool:
        """Return whether the token has expired."""
        return self.expires_at is not None and now >= self.expires_at


def is_name(name: str) -> bool:
    """Return whether a user or a token may have this name. The state compares names without case,
    so `Anna` and `anna` are the same name.
    """
    return _NAME.fullmatch(name) is not None


def digest_of_secret(secret: str) -> str:
    """Return the SHA-256, in lower-case hex, of a token, a cookie or the secret of a link.

    A plain hash is enough: certferry makes these secrets itself, too long to be guessed.
    """
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()


# --- The rules for passwords

_FEWEST_SURPRISES = 5
"""The least result of `_surprises` for an accepted password. Attackers guess simpler passwords
first.
"""

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
"""Usual additions to a word in a password: a year, signs."""

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
# The most frequent words of leaked passwords, and frequent long words: M. Burnett's ten million
# (2015), as in zxcvbn 4.5 and Django 5.2.

_SUGGESTED = """
certferry certificate letsencrypt admin operator viewer root user guest
login console server system service test demo default changeme temp company
"""
# Words that come to mind at the login page of a server or of certferry.

_COMMON = sorted(f"{_FREQUENT} {_SUGGESTED}".split(), key=len, reverse=True)
_MOST_WORDS_CUT = 2
"""How many different words are cut from a password at most, before `_surprises` counts the rest. If
the password is a sentence of more words, enough remains for a good password.
"""


def password_mistake(password: str, name: str) -> Text | None:
    """Return why a user with this name may not have the password; `None` for a good password."""
    plain = _plain(password)
    if len(password) < SHORTEST_PASSWORD:
        return Text("a password needs at least {count} characters", count=SHORTEST_PASSWORD)
    if len(password) > LONGEST_PASSWORD:
        return Text("a password can have at most {count} characters", count=LONGEST_PASSWORD)
    rest = _without([*filter(None, map(_plain, (name, *re.split(r"[._@-]", name))))], plain)
    if rest != plain and _surprises(rest) < _FEWEST_SURPRISES:
        return Text("the password is too close to the user name")
    if _repeats(plain) or _surprises(_without(_COMMON, plain)) < _FEWEST_SURPRISES:
        return Text("the password, or a similar one, is among the first that attackers try")
    return None


def _plain(words: str) -> str:
    """Return the text in lower case without separators: neither capitals nor separators make
    guessing harder.
    """
    return _BETWEEN.sub("", unicodedata.normalize("NFC", words).casefold())


def _without(words: Sequence[str], plain: str) -> str:
    """Return the password without the first `_MOST_WORDS_CUT` of `words` that the password
    contains, each wherever the word occurs. If a word was found, also remove years and signs
    (`_ADDED`). Look-alikes such as 0 and o count as equal.
    """
    letters, count = plain.translate(_AS_LETTERS), 0
    for word in words:
        if count < _MOST_WORDS_CUT and (spelt := word.translate(_AS_LETTERS)) in letters:
            count += 1
            while (place := letters.find(spelt)) >= 0:
                plain, letters = (
                    text[:place] + text[place + len(word) :] for text in (plain, letters)
                )
    return _ADDED.sub("", plain) if count else plain


def _surprises(plain: str) -> int:
    """Return the number of characters that do not follow from the character before, the first
    character included.

    A character follows by the alphabet, by the order of keys on a keyboard, or as a repetition.
    """
    return len(plain) and 1 + sum(
        first != second and (first, second) not in _FOLLOW for first, second in pairwise(plain)
    )


def _repeats(plain: str) -> bool:
    """Return whether a password consists of repetitions of a text of fewer than `SHORTEST_PASSWORD`
    characters, the last repetition perhaps cut off.
    """
    return any(
        plain[period:] == plain[:-period]
        for period in range(1, min(SHORTEST_PASSWORD, len(plain) // 2 + 1))
    )
