"""Secrets, and masks over secrets in words.

- `Secret` holds a password, token or private key, and prints as `•••`.
- `redacted` masks private keys in PEM, headers and tokens that prove an identity, and given
  secrets. Use the function for a program's output (before any splitting, cutting or quoting), for
  sentences, and for the records of the log.
- `quoted` prepares a service's words for a sentence. `speech` does the same more strictly, for a
  service that was sent private keys.

    message = Text("{service} refused", service=quoted(words, [token]))
"""

from __future__ import annotations

import base64
import hmac
import re
import string
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from weakref import WeakValueDictionary

from certferry.text import Quoted, Text

MASK = "•••"

_NAMES_A_SECRET = re.compile(
    # Match whole words between `_`: KEYBOARD and KEYMAP are harmless. PWD alone is a directory.
    r"(?!pwd\Z)(?:.*_)?"
    r"(?:(?:[^\W_]*(?:access|api|auth|private|secret|ssh))?keys?|[^\W_]*(?:secret|token)s?"
    r"|[^\W_]*passw[^\W_]*|(?:ssh)?pass|[^\W_]*passphrases?|pwd|[^\W_]*credentials?)(?:_|\Z)",
    re.IGNORECASE,
)

_SHORTEST_GUESSED = 8
"""The fewest characters of a secret with letters and digits, in a variable with a name such as
`API_KEY`.
"""
_LONGER_THAN_WORDS = 12
"""The fewest characters of a secret without letters or without digits, in a variable with a name
such as `API_KEY`. The word `production` has fewer, a generated password has more.
"""


class Secret:
    """A password, token or private key. Prints as `•••`, and refuses to be pickled."""

    __slots__ = ("__weakref__", "_pieces", "_value")

    def __init__(self, value: str) -> None:
        self._value = value
        self._pieces: frozenset[str] | None = None
        _ALIVE[id(self)] = self

    def reveal(self) -> str:
        """Return the value itself, for use."""
        return self._value

    @property
    def pieces(self) -> frozenset[str]:
        """The strings that betray a part of the secret, see `_pieces_of`. Computed once, because a
        key has thousands of pieces.
        """
        if self._pieces is None:
            self._pieces = frozenset(_pieces_of(self._value))
        return self._pieces

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
        # Invalid UTF-8 in the environment arrives as surrogates (PEP 383).
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
    """Return every secret held by the process, for masking the log."""
    # `values()` would fail if another thread made a secret meanwhile.
    alive = (reference() for reference in _ALIVE.valuerefs())
    return frozenset(secret for secret in alive if secret is not None)


def names_a_secret(name: str) -> bool:
    """Return whether a name suggests a secret value, such as `DP_Key`."""
    return _NAMES_A_SECRET.match(name) is not None


def may_be_a_secret(value: str) -> bool:
    """Return whether the value of a variable with a secret's name is long enough for a secret.

    Shorter values, such as `production`, stay visible.
    """
    value = value.strip()
    mixed = any(map(str.isalpha, value)) and any(map(str.isdigit, value))
    return len(value) >= (_SHORTEST_GUESSED if mixed else _LONGER_THAN_WORDS)


_UNRESERVED = frozenset(string.ascii_letters + string.digits + "-._~")
"""Characters unchanged by percent-encoding (RFC 3986 §2.3)."""

_SHORTEST = 4
"""The fewest characters of a masked secret: a shorter secret could equal any word by chance."""
_SHORTEST_WITHIN = 8
"""The fewest characters of a secret that is also masked inside a word, or if its end is cut off."""
_SHORTEST_LINE = 16
"""The fewest characters of a masked line of a secret: shorter lines are like `fi` or `=`."""

_BETWEEN_LINES = re.compile(r"[\r\n]+|\\n")  # a key on a single line has `\n` for the ends of lines
_FRAME = "-----"  # PEM's frame, which is public
_KEY = "PRIVATE KEY"

# The frames of RFC 7468, of PGP (a BLOCK), and of SSH2 (four hyphens). The groups are atomic and
# possessive. Other groups would try each `PRIVATE KEY` of a long line as the last.
_BEGIN, _END = (
    rf"-{{4,5}} ?{edge} (?>[^-\r\n]*?{_KEY})[^-\r\n]*+-{{4,5}}" for edge in ("BEGIN", "END")
)

_VALUE = (
    # A value reaches to the closing quote, or to the end of the line. A mask stays a mask.
    rf"(\\?[\"'])(?!{MASK})([^\r\n]+?)(?=\1)"
    rf"|(?!\\?[\"']?{MASK})(\S[^\r\n]*)"
)

_HEADER_BEGINS = r"(?:^[ \t]*|[\"'{\[,<>][ \t]*|\\[rn])"
"""The places in which a header's name stands: at the beginning of a line, or after a quote or a
bracket. In other places the word `authorization` is part of a sentence, such as "Failed
authorization: DNS problem".
"""

_SIGNED = r"[\w-]+:[\w-]+="
"""A key's name and a signature in Base64, as sent to CDNs and clouds."""

_SCHEMES = rf"(?:(?:basic|bearer|digest|\w+-hmac-sha256)[ \t]+\S|\w+[ \t]+{_SIGNED})"
"""The beginnings of an Authorization header's value (RFC 9110 §11.1)."""

_MASKED = (
    # A key without an END line reaches to the end of the words. A key without a BEGIN line begins
    # with the words.
    re.compile(rf"{_BEGIN}.*?(?:{_END}|\Z)", re.DOTALL),
    re.compile(rf"\A(?:(?!{_BEGIN}).)*?{_END}", re.DOTALL),
    re.compile(r"\b[A-Za-z]\w+ ([\w-]{8,}:[\w-]{8,}=)"),  # shorter matches occur in sentences
    re.compile(r"login_token=([^&\s'\"]+)", re.IGNORECASE),
    re.compile(
        rf"{_HEADER_BEGINS}(?:proxy-)?authorization(?:\\?[\"'])?[ \t]*:[ \t]*(?:{_VALUE})",
        re.IGNORECASE | re.MULTILINE,
    ),
    re.compile(rf"authorization[ \t]*:[ \t]*(?!{MASK})({_SCHEMES}[^\r\n]*)", re.IGNORECASE),
)
"""Patterns of private keys, signed proofs, login tokens and Authorization headers.

The mask covers the last group that took part in a match, or the whole match of a pattern without
groups. The patterns are for words from elsewhere: a `Secret` already prints as a mask."""

_CUT = re.compile("…")  # see `text.cut`
_QUERY_VALUE = re.compile(r"=([^&#]*)")

_Spans = Iterator[tuple[int, int]]


def redacted(words: str, secrets: Iterable[Secret] = ()) -> str:
    """Return words with `•••` over the matches of `_MASKED`, and over the occurrences of secrets.

    A secret occurs in each of the spellings of `_spellings`. If a secret is an address, the parts
    of `_proofs_in` count as secrets, too. If the end of the words or `…` cuts a spelling off, the
    beginning of the spelling counts. One mask covers overlapping occurrences. If the masked words
    still hold a piece of a secret (`hold_pieces`), the result is `•••` alone.
    """
    distinct = set(secrets)
    spans = sorted({*_patterns(words), *_repeated(words, distinct)})
    shown: list[str] = []
    end = 0
    for start, stop in spans:
        if start > end or not shown:
            shown += words[end:start], MASK
        end = max(end, stop)
    masked = "".join(shown) + words[end:]
    return MASK if hold_pieces(masked, distinct) else masked


def discreet(words: str) -> str:
    """Return a log's words, `redacted` with all secrets held by the process."""
    return redacted(words, secrets_in_use())


def without_secrets(sentence: Text, hide: Callable[[str], str] = discreet) -> Text:
    """Return a sentence for storage, with `hide` applied to every string among the values, also in
    sentences and lists among the values.

    By default `hide` masks the secrets held by the process.
    """
    if not sentence.values:
        return sentence
    return sentence.filled(
        **{name: _hidden(value, hide) for name, value in sentence.values.items()}
    )


def redacted_fact(fact: str | Text) -> str | Text:
    """Return a fact of the history for storage, with masks over the patterns of `redacted`.

    A sentence stays a sentence if masks in the values are enough, and becomes a string otherwise.
    """
    if isinstance(fact, Text):
        sentence = without_secrets(fact, redacted)
        if redacted(str(sentence)) == str(sentence):
            return sentence
    return redacted(str(fact))


def _hidden(value: object, hide: Callable[[str], str]) -> object:
    match value:
        case Text():
            return without_secrets(value, hide)
        case str():
            return hide(value)
        case list() | tuple():
            return [_hidden(item, hide) for item in value]
    return value


def _patterns(words: str) -> _Spans:
    for pattern in _MASKED:
        for match in pattern.finditer(words):
            yield match.span(match.lastindex or 0)


def repeats(words: str, secrets: Iterable[Secret]) -> bool:
    """Return whether words contain a spelling of a secret, see `_spellings`."""
    return any(
        True
        for secret in secrets
        for spelling in _spellings(secret.reveal())
        for _ in _whole(words, spelling)
    )


_PIECE = 8
"""The length of a piece of a secret. Other words do not have eight letters and digits of the secret
in the same order by chance, even with other signs in between.
"""
_LONGER_PIECE = 16
"""The length of a piece of a secret's bytes as numbers, and of a piece of a key's letters without
digits. Dates and words contain shorter pieces by chance.
"""

_NUMBERS = ("{}", "{:02x}", "0x{:02x}", "x{:02x}", "u{:04x}", "{:o}", "{:08b}")
"""Programs' notations of bytes and characters: decimal, hexadecimal, escaped, octal, binary."""

_CLOSED = re.compile(r"[^0-9a-z]+")
_NOT_LETTERS = re.compile(r"[^a-z]+")
_FRAMED = re.compile(rf"{_BEGIN}(.*?){_END}", re.DOTALL)


def hold_pieces(words: str, secrets: Iterable[Secret]) -> bool:
    """Return whether words hold a piece of a secret, see `_pieces_of`.

    A piece is also recognised with signs and blanks in between, backwards, in Base64, and as
    numbers. A piece of a PEM key is recognised with digits in between as well. An encrypted piece
    is not recognised.
    """
    sought = [secret.pieces for secret in secrets]
    if not any(sought):
        return False
    closed = _CLOSED.sub("", words.lower())
    present = {
        *_parts(closed, _PIECE),
        *_parts(closed, _LONGER_PIECE),
        *_parts(_NOT_LETTERS.sub("", closed), _LONGER_PIECE),
    }
    return any(not present.isdisjoint(pieces) for pieces in sought)


def _pieces_of(value: str) -> Iterator[str]:
    """Yield the pieces of a secret in lower case, forwards and backwards.

    A piece has `_PIECE` or `_LONGER_PIECE` characters in a row, without signs and blanks.

    - A PEM key has all pieces of the text between the frames.
    - Another secret has only the pieces with both letters and digits, because other pieces may be
      plain words or numbers.
    - An address has only the pieces of the parts in `_proofs_in`.
    - A text of fewer than 16 letters and digits has no pieces.
    - In the notations of `_as_numbers`, a piece begins at every eighth character.
    """
    framed = _FRAMED.search(value)
    parts = [value] if "://" not in value else [*_proofs_in(value)]
    if framed is not None:
        parts = [framed[1]]
    for part in parts:
        closed = _CLOSED.sub("", part.lower())
        if len(closed) < 2 * _PIECE:
            continue
        raws = [part.encode(errors="surrogatepass")]
        if framed is not None:
            letters = _NOT_LETTERS.sub("", closed)
            yield from (*_parts(letters, _LONGER_PIECE), *_parts(letters[::-1], _LONGER_PIECE))
            with suppress(ValueError):
                raws.append(base64.b64decode(part))
        for piece in (*_parts(closed, _PIECE), *_parts(closed[::-1], _PIECE)):
            if framed is not None or not (piece.isalpha() or piece.isdigit()):
                yield piece
        for spelling in chain.from_iterable(map(_as_numbers, raws)):
            yield from _parts(spelling, _LONGER_PIECE, step=_PIECE)
            yield from _parts(spelling[::-1], _LONGER_PIECE, step=_PIECE)


def _as_numbers(raw: bytes) -> Iterator[str]:
    """Yield bytes in each notation of `_NUMBERS` without separators, and in Base64 behind zero, one
    and two other bytes.
    """
    for number in _NUMBERS:
        yield "".join(map(number.format, raw))
    for before in range(3):
        encoded = base64.b64encode(b"." * before + raw).decode()
        yield _CLOSED.sub("", encoded[4 if before else 0 :].lower())


def _parts(closed: str, length: int, step: int = 1) -> Iterator[str]:
    return (closed[at : at + length] for at in range(0, len(closed) - length + 1, step))


def _repeated(words: str, secrets: Iterable[Secret]) -> _Spans:
    places = [at for at, character in enumerate(words) if not _is_blank(character)]
    compact = "" if len(places) == len(words) else "".join(words[at] for at in places)
    for secret in secrets:
        value = secret.reveal()
        for part in (value, *_proofs_in(value)):
            for spelling in set(_spellings(part)):
                yield from _spans(words, spelling)
                if compact and len(spelling) >= _SHORTEST_WITHIN:
                    yield from _spread(compact, places, spelling)


def _proofs_in(value: str) -> Iterator[str]:
    """Yield the parts of an address (a URL) that may be secrets, such as a password or a UUID.
    Yield nothing for other values.
    """
    authority, _, rest = value.partition("://")[2].partition("/")
    path, _, query = rest.partition("?")
    caller = authority.rpartition("@")[0].split(":")
    pieces = (*caller, *path.split("/"), *_QUERY_VALUE.findall(query))
    yield from filter(may_be_a_secret, pieces)


def _spread(compact: str, places: Sequence[int], spelling: str) -> _Spans:
    """Yield the spans of a spelling that blanks interrupt."""
    closed = "".join(character for character in spelling if not _is_blank(character))
    if len(closed) >= _SHORTEST_WITHIN:
        for start, end in _spans(compact, closed):
            yield places[start], places[end - 1] + 1


def _is_blank(character: str) -> bool:
    return character.isspace() or not character.isprintable()


def _spans(words: str, spelling: str) -> _Spans:
    """Yield the spans of a spelling in words, and of beginnings of the spelling that the end of the
    words or `…` cuts off.
    """
    if spelling[:_SHORTEST_WITHIN] not in words:
        return  # decides the usual case, no occurrence, cheaply
    yield from _whole(words, spelling)
    for end in (len(words), *(cut.start() for cut in _CUT.finditer(words))):
        if length := _begun_before(end, words, spelling):
            yield end - length, end


def _whole(words: str, spelling: str) -> _Spans:
    start = words.find(spelling)
    while start >= 0:
        end = start + len(spelling)
        if len(spelling) >= _SHORTEST_WITHIN or _stands_alone(words, start, end):
            yield start, end
        start = words.find(spelling, start + 1)


def _stands_alone(words: str, start: int, end: int) -> bool:
    return not (words[:start][-1:].isalnum() or words[end:][:1].isalnum())


def _spellings(value: str) -> Iterator[str]:
    """Yield the strings by which `redacted` recognises a secret: each line of at least
    `_SHORTEST_LINE` characters, and for a secret of a single line also the spellings in programs'
    output and in a shell's trace.
    """
    value = value.strip("\r\n")
    if not value.strip():
        return
    lines = map(str.strip, _BETWEEN_LINES.split(value))
    yield from (line for line in lines if len(line) >= _SHORTEST_LINE and _FRAME not in line)
    if len(value) >= _SHORTEST and not {"\r", "\n"} & set(value):
        # The value itself, and bash's and dash's quoting under `set -x`.
        yield from (value.replace("'", shown) for shown in ("'", r"'\''", "'\"'\"'"))
        yield repr(value)[1:-1]  # as the message of a KeyError shows the value
        yield from _encoded(value.encode(errors="surrogatepass"))


def _encoded(raw: bytes) -> Iterator[str]:
    """Yield a value in the encodings of services: Base64, hexadecimal, percent-encoding."""
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield from (encode(raw).decode(), encode(raw).decode().rstrip("="))
    yield from (raw.hex(), raw.hex().upper())
    escaped = "".join(chr(b) if chr(b) in _UNRESERVED else f"%{b:02X}" for b in raw)
    yield from (escaped, escaped.lower(), escaped.replace("%20", "+"))


def _begun_before(end: int, words: str, spelling: str) -> int:
    """Return how many characters from the beginning of a spelling stand right before a cut at
    `end`. Return 0 for fewer than `_SHORTEST_WITHIN` characters: so few may match by chance.
    """
    lengths = range(min(len(spelling), end), _SHORTEST_WITHIN - 1, -1)
    return next((n for n in lengths if words.endswith(spelling[:n], 0, end)), 0)


LONGEST = 1000
"""How many characters of a service's words are kept."""
_READ = 2 * LONGEST
"""How many characters of a service's words are read; the rest is dropped."""

_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})
"""Unicode's categories of characters that control a terminal, reverse the writing, are surrogates,
or have no public meaning."""

_WORD = r"(?:[A-Z]?[a-z]{1,18}(?:[A-Z][a-z]{1,18})*|[A-Z]{1,12}|v?\d{1,15})"
_PLAIN = re.compile(rf"[-_/+=%~]*{_WORD}(?:[-_/+=~]+{_WORD})*[-_/+=%~]*")
"""Words and small numbers joined by marks, such as a path, or `accountDoesNotExist`."""

_TOKEN = re.compile(
    # A host's name: labels joined by dots, with an ending like a top-level domain.
    r"(?P<host>(?<![\w+=%~.-])(?:[a-z0-9_*-]{1,63}\.)+[a-z][a-z0-9-]{1,62}(?![\w+=%~-]))"
    # A UUID (RFC 9562), most services' id of a request; or 24 lowercase hexadecimal digits, a
    # CDN's id of a certificate.
    r"|(?P<id>(?<![\w+/=%~.-])"
    r"(?:[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}|[0-9a-f]{24})(?![\w+/=%~-]))"
    # At least twenty characters of Base64, hexadecimal digits or percent-encoding, with the short
    # last line of a key.
    r"|(?P<run>[A-Za-z0-9+/=_%~-]{20,}(?:\s+[A-Za-z0-9+/]{1,19}={1,2})?)"
    # OpenSSL's print of a key's numbers.
    r"|(?P<digits>(?<![\w:])[0-9A-Fa-f]{2}(?:[: ]+[0-9A-Fa-f]{2}){9,})",
    re.ASCII,  # a Chinese word may touch a name
)

_ID = re.compile(r"[\w.:/+=-]{1,64}", re.ASCII)


def quoted(message: object, secrets: Iterable[Secret] = ()) -> Quoted:
    """Return a service's words for a sentence, on a single line of at most `LONGEST` characters.

    Control characters are removed. `•••` replaces given secrets, the patterns of `redacted`, a
    key's numbers as printed by OpenSSL, and runs of at least twenty characters that could be a key.
    Names of hosts, ids, and plain words, also joined as in a path, stay.
    """
    words = _visible(str(message)[:_READ])
    words = _TOKEN.sub(_unless_known, redacted(words, secrets))
    return Quoted(words if len(words) <= LONGEST else words[: LONGEST - 1] + "…")


_ALONE = re.compile(
    r"[A-Za-z0-9]+"
    # Everything outside ASCII, Chinese, and the marks of Chinese and English sentences.
    r"|[^\x00-\x7f\u3400-\u9fff\u3000-\u303f\uff01-\uff0f\uff1a-\uff1f\u2018-\u201d—…•]+"
)
"""Single words of a sentence. Names and paths consist of several words."""

_OF_SPEECH = re.compile(
    r"(?i:a|an|as|at|be|by|cn|do|go|hk|id|if|in|io|ip|is|it|me|my|no|of|ok|on|or|so|to|up|us|we)"
    r"|[A-Z]?[a-z]{3,20}[0-9]{0,2}|[A-Z]{3,12}|[0-9]{1,8}"
)
"""Words and numbers of natural language. A group of two or more Base64 characters or hexadecimal
digits matches only if the group looks like a word or a number.
"""

_MOST_OTHERS, _MOST_NUMBERS = 3, 3
"""How many other words, and how many numbers, natural language may contain: more may spell a key.
"""


def speech(message: object) -> Quoted:
    """Return the words of a service that was sent private keys: only natural words and small
    numbers.

    `•••` replaces each word that is not natural. If there are more than three of these words, or
    more than three numbers, `•••` replaces everything. The function compares with no key, so a key
    of another run is masked as well, in most spellings.
    """
    words = quoted(message)
    alone = _ALONE.findall(words)
    others = [word for word in alone if not _OF_SPEECH.fullmatch(word)]
    if len(others) > _MOST_OTHERS or sum(map(str.isdigit, alone)) > _MOST_NUMBERS:
        return Quoted(MASK)
    return Quoted(_ALONE.sub(lambda word: word[0] if word[0] not in others else MASK, words))


def quoted_id(value: str, secrets: Iterable[Secret] = ()) -> str:
    """Return the id of a request, with `•••` over secrets. Return "" unless the id is a single word
    of at most 64 letters, digits and the marks `_.:/+=-`.

    The function does not use `quoted`, which masks an id that looks like a key.
    """
    return redacted(value, secrets) if _ID.fullmatch(value) else ""


def quoted_code(value: str, secrets: Iterable[Secret] = ()) -> str:
    """Return the code of an answer; "" if the code has other characters than an id, or could be a
    secret.
    """
    return value if _ID.fullmatch(value) and quoted(value, secrets) == value else ""


def _visible(words: str) -> str:
    spaced = " ".join(words.split())
    return "".join(c for c in spaced if unicodedata.category(c) not in _UNSEEN)


def _unless_known(token: re.Match[str]) -> str:
    if token.lastgroup in {"host", "id"}:
        return token[0]
    return token[0] if token.lastgroup == "run" and _PLAIN.fullmatch(token[0]) else MASK
