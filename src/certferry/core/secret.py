"""A value that never prints itself, and the names and values by which one is known."""

from __future__ import annotations

import hmac
import re
from weakref import WeakValueDictionary

MASK = "•••"

_NAMES_A_SECRET = re.compile(
    # Whole words of a name, between `_`: a KEYBOARD and a KEYMAP are none. PWD is where one is.
    r"(?!pwd\Z)(?:.*_)?"
    r"(?:(?:[^\W_]*(?:access|api|auth|private|secret|ssh))?keys?|[^\W_]*(?:secret|token)s?"
    r"|[^\W_]*passw[^\W_]*|(?:ssh)?pass|[^\W_]*passphrases?|pwd|[^\W_]*credentials?)(?:_|\Z)",
    re.IGNORECASE,
)

_SHORTEST_GUESSED = 8
"""Characters from which letters with digits are taken for a secret because of a name alone."""
_LONGER_THAN_WORDS = 12
"""Characters from which anything is: `production` is shorter, and generated passwords are not."""


class Secret:
    """A password, token or private key. `str`, `repr` and formatting give `•••`. It refuses to be
    pickled: a secret leaves the process only where `reveal` is written.
    """

    __slots__ = ("__weakref__", "_value")

    def __init__(self, value: str) -> None:
        self._value = value
        _ALIVE[id(self)] = self

    def reveal(self) -> str:
        """Return the value itself, to send or use it."""
        return self._value

    def __str__(self) -> str:
        return MASK

    __repr__ = __str__

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        # What is no UTF-8 in the environment comes as surrogates (PEP 383).
        mine, others = self._value, other._value
        return hmac.compare_digest(
            mine.encode(errors="surrogatepass"), others.encode(errors="surrogatepass")
        )

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __reduce__(self) -> str:
        msg = "a secret is not pickled"
        raise TypeError(msg)


_ALIVE: WeakValueDictionary[int, Secret] = WeakValueDictionary()


def secrets_in_use() -> frozenset[Secret]:
    """Return every secret that the process holds: what no log is to show."""
    # Not `values()`, which another thread's new secret would break off.
    found = (reference() for reference in _ALIVE.valuerefs())
    return frozenset(one for one in found if one is not None)


def names_a_secret(name: str) -> bool:
    """Return whether something is called as what holds secrets is, `DP_Key` among them."""
    return _NAMES_A_SECRET.match(name) is not None


def may_be_a_secret(value: str) -> bool:
    """Return whether what is called so may be one. `production` is a word, and is to stay one."""
    value = value.strip()
    mixed = any(map(str.isalpha, value)) and any(map(str.isdigit, value))
    return len(value) >= (_SHORTEST_GUESSED if mixed else _LONGER_THAN_WORDS)
