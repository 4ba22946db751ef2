"""A value that never prints itself, and what must not be seen of it in the words of others."""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Iterator

MASK = "•••"

_TELLS_A_SECRET = re.compile(
    # Whole words of a name, between `_`: a KEYBOARD and a KEYMAP are none. PWD is where one is.
    r"(?!pwd\Z)(?:.*_)?"
    r"(?:(?:[^\W_]*(?:access|api|auth|private|secret|ssh))?keys?|[^\W_]*(?:secret|token)s?"
    r"|[^\W_]*passw[^\W_]*|(?:ssh)?pass|[^\W_]*passphrases?|pwd|[^\W_]*credentials?)(?:_|\Z)",
    re.IGNORECASE,
)

_SHORTEST = 4
"""Characters from which a secret is masked: less could be in any word by chance."""
_SHORTEST_BEGINNING = 8
"""Characters from which the beginning of one is."""
_SHORTEST_GUESSED = 8
"""Characters from which letters with digits are taken for a secret because of a name alone."""
_LONGER_THAN_WORDS = 12
"""Characters from which anything is: `production` is shorter, and generated passwords are not."""
_SHORTEST_LINE = 16
"""Characters from which one of its lines is, and is not something like `fi` or `=`."""

_BETWEEN_LINES = re.compile(r"[\r\n]+|\\n")  # a key in one line has its lines' ends as `\n`
_FRAME = "-----"  # of PEM: what stands there is no secret, and tells what was


class Secret:
    """A password, token or private key. `str`, `repr` and formatting give `•••`.

    It refuses to be pickled: a secret leaves the process only where `reveal` is written.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Give the value itself, to whoever has to send or use it."""
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


def tells_a_secret(name: str) -> bool:
    """Tell whether something is called as what holds secrets is, `DP_Key` among them."""
    return _TELLS_A_SECRET.match(name) is not None


def may_be_a_secret(value: str) -> bool:
    """Tell whether what is called so may be one. `production` is a word, and is to stay one."""
    value = value.strip()
    mixed = any(map(str.isalpha, value)) and any(map(str.isdigit, value))
    return len(value) >= (_SHORTEST_GUESSED if mixed else _LONGER_THAN_WORDS)


def masked(words: str, secrets: Iterable[Secret]) -> str:
    """Give words with `•••` where they repeat a secret, one of its lines, or at their own end the
    beginning of one: who said it may have been stopped in the middle. Of secrets that overlap
    nothing stays.
    """
    spellings = {spelling for secret in secrets for spelling in _spellings(secret.reveal())}
    spans = sorted(span for spelling in spellings for span in _spans(words, spelling))
    shown: list[str] = []
    end = 0
    for start, stop in spans:
        if start > end or not shown:
            shown += words[end:start], MASK
        end = max(end, stop)
    return "".join(shown) + words[end:]


def _spans(words: str, spelling: str) -> Iterator[tuple[int, int]]:
    """Give where words repeat a spelling, wherever that begins, and where they are cut within."""
    start = words.find(spelling)
    while start >= 0:
        yield start, start + len(spelling)
        start = words.find(spelling, start + 1)
    if begun := _begun_at_the_end(words, spelling):
        yield len(words) - begun, len(words)


def _spellings(value: str) -> Iterator[str]:
    """Give what a secret looks like where a program prints it, or a shell shows what it does."""
    value = value.strip("\r\n")
    if not value.strip():
        return
    lines = map(str.strip, _BETWEEN_LINES.split(value))
    yield from (line for line in lines if len(line) >= _SHORTEST_LINE and _FRAME not in line)
    if len(value) >= _SHORTEST and not {"\r", "\n"} & set(value):
        # As it is, and as bash and dash quote it with `set -x`.
        yield from (value.replace("'", quote) for quote in ("'", r"'\''", "'\"'\"'"))


def _begun_at_the_end(words: str, spelling: str) -> int:
    """Give how many characters of a spelling the words end with, if it is more than chance."""
    lengths = range(min(len(spelling), len(words)), _SHORTEST_BEGINNING - 1, -1)
    return next((n for n in lengths if words.endswith(spelling[:n])), 0)
