"""A value that never prints itself; and a mask over what must not leave the program in words:
private keys in PEM, header lines and tokens that prove an identity, and the secrets that are known.

One function does it for all words: what a program printed, before that is split into lines, cut or
quoted; each sentence, where it is said; the records of the log.
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
    """A password, token or private key: prints as `•••`, and refuses to be pickled."""

    __slots__ = ("__weakref__", "_pieces", "_value")

    def __init__(self, value: str) -> None:
        self._value = value
        self._pieces: frozenset[str] | None = None
        _ALIVE[id(self)] = self

    def reveal(self) -> str:
        """Return the value itself, to send or use it."""
        return self._value

    @property
    def pieces(self) -> frozenset[str]:
        """What betrays a part of it: see `_pieces_of`. Computed once, for a key has thousands."""
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


_UNRESERVED = frozenset(string.ascii_letters + string.digits + "-._~")
"""What percent-encoding leaves as it is (RFC 3986 §2.3)."""

_SHORTEST = 4
"""Characters from which a secret is masked: a shorter one could be any word by chance."""
_SHORTEST_WITHIN = 8
"""Characters from which a part of a word, or its beginning, is masked."""
_SHORTEST_LINE = 16
"""Characters from which one of its lines is, and is not something like `fi` or `=`."""

_BETWEEN_LINES = re.compile(r"[\r\n]+|\\n")  # a key in one line has its lines' ends as `\n`
_FRAME = "-----"  # of PEM: what stands there is no secret
_KEY = "PRIVATE KEY"

# RFC 7468, and what resembles it: PGP's (a BLOCK), and that of SSH2 with four hyphens.
# Atomic and possessive: else each `PRIVATE KEY` of a long line would be tried as the last one.
_BEGIN, _END = (
    rf"-{{4,5}} ?{edge} (?>[^-\r\n]*?{_KEY})[^-\r\n]*+-{{4,5}}" for edge in ("BEGIN", "END")
)

_VALUE = (
    # Up to the quote that closes it, or to the end of the line; what is hidden already stays so.
    rf"(\\?[\"'])(?!{MASK})([^\r\n]+?)(?=\1)"
    rf"|(?!\\?[\"']?{MASK})(\S[^\r\n]*)"
)

_HEADER_BEGINS = r"(?:^[ \t]*|[\"'{\[,<>][ \t]*|\\[rn])"
"""Where a header can begin: "Failed authorization: DNS problem" is a sentence."""

_SIGNED = r"[\w-]+:[\w-]+="
"""The name of a key and what was signed with it, in Base64: how CDNs and clouds have it proven."""

_SCHEMES = rf"(?:(?:basic|bearer|digest|\w+-hmac-sha256)[ \t]+\S|\w+[ \t]+{_SIGNED})"
"""What begins a header's value wherever it is quoted (RFC 9110 §11.1)."""

_MASKED = (
    # A key whose end or beginning was cut off reaches as far as the words do.
    re.compile(rf"{_BEGIN}.*?(?:{_END}|\Z)", re.DOTALL),
    re.compile(rf"\A(?:(?!{_BEGIN}).)*?{_END}", re.DOTALL),
    re.compile(r"\b[A-Za-z]\w+ ([\w-]{8,}:[\w-]{8,}=)"),  # shorter ones stand in sentences
    re.compile(r"login_token=([^&\s'\"]+)", re.IGNORECASE),
    re.compile(
        rf"{_HEADER_BEGINS}(?:proxy-)?authorization(?:\\?[\"'])?[ \t]*:[ \t]*(?:{_VALUE})",
        re.IGNORECASE | re.MULTILINE,
    ),
    re.compile(rf"authorization[ \t]*:[ \t]*(?!{MASK})({_SCHEMES}[^\r\n]*)", re.IGNORECASE),
)
"""Private keys, signed proofs, tokens of a login, any Authorization header. What must not be seen
is the last group, or all of it. A `Secret` hides itself; this is for what others quote."""

_CUT = re.compile("…")  # see `text.cut`
_QUERY_VALUE = re.compile(r"=([^&#]*)")

_Spans = Iterator[tuple[int, int]]


def redacted(words: str, secrets: Iterable[Secret] = ()) -> str:
    """Return words with `•••` for what must not be seen, be it known or not, and where they repeat
    a secret, one of its lines, or at their end or before a `…` the beginning of one: who said it
    may have been stopped in the middle. Where two overlap, nothing of either stays. Words that
    still hold pieces of a secret are `•••` as a whole.
    """
    known = set(secrets)
    spans = sorted({*_patterns(words), *_repeated(words, known)})
    shown: list[str] = []
    end = 0
    for start, stop in spans:
        if start > end or not shown:
            shown += words[end:start], MASK
        end = max(end, stop)
    masked = "".join(shown) + words[end:]
    return MASK if hold_pieces(masked, known) else masked


def discreet(words: str) -> str:
    """Return the words of a log without any secret that the process holds."""
    return redacted(words, secrets_in_use())


def without_secrets(said: Text, hide: Callable[[str], str] = discreet) -> Text:
    """Return a sentence for what is stored: `hide` has removed secrets from its values, by default
    all that the process holds.
    """
    if not said.values:
        return said
    return said.filled(**{name: _hidden(one, hide) for name, one in said.values.items()})


def _hidden(value: object, hide: Callable[[str], str]) -> object:
    match value:
        case Text():
            return without_secrets(value, hide)
        case str():
            return hide(value)
        case list() | tuple():
            return [_hidden(one, hide) for one in value]
    return value


def _patterns(words: str) -> _Spans:
    for pattern in _MASKED:
        for found in pattern.finditer(words):
            yield found.span(found.lastindex or 0)


def repeats(words: str, secrets: Iterable[Secret]) -> bool:
    """Return whether words repeat a whole secret, or one of its lines, in whatever spelling."""
    return any(
        True
        for secret in secrets
        for spelling in _spellings(secret.reveal())
        for _ in _whole(words, spelling)
    )


_PIECE = 8
"""Letters and digits of a secret that are no chance, one after the other, whatever is between."""
_LONGER_PIECE = 16
"""The same of its bytes written as numbers, and of a key's letters alone: dates are numbers too."""

_NUMBERS = ("{}", "{:02x}", "0x{:02x}", "x{:02x}", "u{:04x}", "{:o}", "{:08b}")
"""How programs write bytes and characters: decimal, hexadecimal, escaped, octal, binary."""

_CLOSED = re.compile(r"[^0-9a-z]+")
_NOT_LETTERS = re.compile(r"[^a-z]+")
_FRAMED = re.compile(rf"{_BEGIN}(.*?){_END}", re.DOTALL)


def hold_pieces(words: str, secrets: Iterable[Secret]) -> bool:
    """Return whether words hold a part of a secret, with anything between its characters, numbered,
    backwards, in Base64 or as numbers. What was enciphered is not recognised.
    """
    sought = [secret.pieces for secret in secrets]
    if not any(sought):
        return False
    closed = _CLOSED.sub("", words.lower())
    seen = {
        *_parts(closed, _PIECE),
        *_parts(closed, _LONGER_PIECE),
        *_parts(_NOT_LETTERS.sub("", closed), _LONGER_PIECE),
    }
    return any(not seen.isdisjoint(pieces) for pieces in sought)


def _pieces_of(value: str) -> Iterator[str]:
    """Yield the pieces of a secret that is no word and no address: those of a key, and of a token
    those that have letters and digits. Of its numbers every eighth begins one.
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
    """Yield bytes as numbers without what separates them, and in Base64 from any place in it."""
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
    """Return the parts of an address that prove an identity, such as Feishu's UUIDs."""
    authority, _, rest = value.partition("://")[2].partition("/")
    path, _, query = rest.partition("?")
    caller = authority.rpartition("@")[0].split(":")
    pieces = (*caller, *path.split("/"), *_QUERY_VALUE.findall(query))
    yield from filter(may_be_a_secret, pieces)


def _spread(compact: str, places: Sequence[int], spelling: str) -> _Spans:
    """Return where words repeat a spelling with blanks between its characters."""
    closed = "".join(character for character in spelling if not _is_blank(character))
    if len(closed) >= _SHORTEST_WITHIN:
        for start, end in _spans(compact, closed):
            yield places[start], places[end - 1] + 1


def _is_blank(character: str) -> bool:
    return character.isspace() or not character.isprintable()


def _spans(words: str, spelling: str) -> _Spans:
    """Return where words repeat a spelling, wherever that begins, and where they are cut within."""
    if spelling[:_SHORTEST_WITHIN] not in words:
        return  # nearly always
    yield from _whole(words, spelling)
    for end in (len(words), *(cut.start() for cut in _CUT.finditer(words))):
        if begun := _begun_before(end, words, spelling):
            yield end - begun, end


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
    """Return what a secret looks like where a program prints it, or a shell shows what it does."""
    value = value.strip("\r\n")
    if not value.strip():
        return
    lines = map(str.strip, _BETWEEN_LINES.split(value))
    yield from (line for line in lines if len(line) >= _SHORTEST_LINE and _FRAME not in line)
    if len(value) >= _SHORTEST and not {"\r", "\n"} & set(value):
        # As it is, and as bash and dash quote it with `set -x`.
        yield from (value.replace("'", shown) for shown in ("'", r"'\''", "'\"'\"'"))
        yield repr(value)[1:-1]  # as the message of a KeyError has it
        yield from _encoded(value.encode(errors="surrogatepass"))


def _encoded(raw: bytes) -> Iterator[str]:
    """Return what services and libraries make of a value before they send or quote it."""
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield from (encode(raw).decode(), encode(raw).decode().rstrip("="))
    yield from (raw.hex(), raw.hex().upper())
    escaped = "".join(chr(b) if chr(b) in _UNRESERVED else f"%{b:02X}" for b in raw)
    yield from (escaped, escaped.lower(), escaped.replace("%20", "+"))


def _begun_before(end: int, words: str, spelling: str) -> int:
    """Return how many characters of a spelling stand before a cut, if it is more than chance."""
    lengths = range(min(len(spelling), end), _SHORTEST_WITHIN - 1, -1)
    return next((n for n in lengths if words.endswith(spelling[:n], 0, end)), 0)


LONGEST = 1000
"""Characters that are kept. The rest helps no operator."""
_READ = 2 * LONGEST
"""Characters that are looked at, before anything else is done with them."""

_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})
"""Unicode's categories of what controls a terminal, turns writing around, or is nothing."""

_WORD = r"(?:[A-Z]?[a-z]{1,18}(?:[A-Z][a-z]{1,18})*|[A-Z]{1,12}|v?\d{1,15})"
_PLAIN = re.compile(rf"[-_/+=%~]*{_WORD}(?:[-_/+=~]+{_WORD})*[-_/+=%~]*")
"""Words and small numbers with marks between them, such as a path's, or `accountDoesNotExist`."""

_TOKEN = re.compile(
    # What has dots and ends like a host's name is one, with the scheme that stands before it.
    r"(?P<host>(?<![\w+=%~.-])(?:[a-z0-9_*-]{1,63}\.)+[a-z][a-z0-9-]{1,62}(?![\w+=%~-]))"
    # RFC 9562: how most services write the id of a request.
    # Twenty-four lower-case hexadecimal digits: how Qiniu writes the id of a certificate.
    r"|(?P<id>(?<![\w+/=%~.-])"
    r"(?:[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}|[0-9a-f]{24})(?![\w+/=%~-]))"
    # Twenty of what base64, hexadecimal digits and percent-encoding are made of; with it the short
    # last line of a key.
    r"|(?P<run>[A-Za-z0-9+/=_%~-]{20,}(?:\s+[A-Za-z0-9+/]{1,19}={1,2})?)"
    # As OpenSSL prints the numbers of a key.
    r"|(?P<digits>(?<![\w:])[0-9A-Fa-f]{2}(?:[: ]+[0-9A-Fa-f]{2}){9,})",
    re.ASCII,  # a Chinese word may stand right beside a name
)

_ID = re.compile(r"[\w.:/+=-]{1,64}", re.ASCII)


def quoted(said: object, secrets: Iterable[Secret] = ()) -> Quoted:
    """Return a service's words for a sentence: at most a kilobyte on one line, without what
    controls or turns the writing, with `•••` for the secrets that are known and for each run of
    twenty characters or more that could be a key. Hosts, addresses of pages and words are none.
    """
    words = _visible(str(said)[:_READ])
    words = _TOKEN.sub(_unless_known, redacted(words, secrets))
    return Quoted(words if len(words) <= LONGEST else words[: LONGEST - 1] + "…")


_ALONE = re.compile(
    r"[A-Za-z0-9]+"
    # What is neither ASCII, nor Chinese, nor a mark of Chinese or English sentences.
    r"|[^\x00-\x7f\u3400-\u9fff\u3000-\u303f\uff01-\uff0f\uff1a-\uff1f\u2018-\u201d—…•]+"
)
"""Words of a sentence, each by itself: names and paths are several."""

_OF_SPEECH = re.compile(
    r"(?i:a|an|as|at|be|by|cn|do|go|hk|id|if|in|io|ip|is|it|me|my|no|of|ok|on|or|so|to|up|us|we)"
    r"|[A-Z]?[a-z]{3,20}[0-9]{0,2}|[A-Z]{3,12}|[0-9]{1,8}"
)
"""Words of sentences. Base64 and hexadecimal digits, alone, in twos or in eights, are none."""

_MOST_OTHERS, _MOST_NUMBERS = 3, 3
"""Words and numbers from which on words are taken for something that was spelt."""


def speech(said: object) -> Quoted:
    """Return the words of a service that holds private keys: words and up to three numbers alone,
    with `•••` for everything else, and for the whole where that is much. A key is recognised by no
    knowledge of the key, so the mask holds in later runs too, for every key and most spellings.
    """
    words = quoted(said)
    alone = _ALONE.findall(words)
    others = [word for word in alone if not _OF_SPEECH.fullmatch(word)]
    if len(others) > _MOST_OTHERS or sum(map(str.isdigit, alone)) > _MOST_NUMBERS:
        return Quoted(MASK)
    return Quoted(_ALONE.sub(lambda word: word[0] if word[0] not in others else MASK, words))


def quoted_id(said: str, secrets: Iterable[Secret] = ()) -> str:
    """Return the id of a request, one word that may look like a key; "" when it is no such."""
    return redacted(said, secrets) if _ID.fullmatch(said) else ""


def quoted_code(said: str, secrets: Iterable[Secret] = ()) -> str:
    """Return the code of an answer, of words and numbers; "" when it could be a key."""
    return said if _ID.fullmatch(said) and quoted(said, secrets) == said else ""


def _visible(words: str) -> str:
    spaced = " ".join(words.split())
    return "".join(c for c in spaced if unicodedata.category(c) not in _UNSEEN)


def _unless_known(token: re.Match[str]) -> str:
    if token.lastgroup in {"host", "id"}:
        return token[0]
    return token[0] if token.lastgroup == "run" and _PLAIN.fullmatch(token[0]) else MASK
