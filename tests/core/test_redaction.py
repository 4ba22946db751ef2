"""The masking of secrets in text from elsewhere."""

from __future__ import annotations

import base64
import io
import json
import re
import string
import time

import pytest
from babel.messages.pofile import read_po
from hypothesis import given
from hypothesis import strategies as st

from certferry.core.redaction import MASK, Secret, hold_pieces, quoted, redacted
from certferry.text import LONGEST, cut
from certferry_sandbox.testing.certificates import make_key
from tests.house.tree import ROOT

WORDS = st.text()
VALUES = st.text(st.characters(exclude_characters="•\r\n\\"), min_size=8).filter(str.strip)
SHORT = st.text("ab", min_size=8, max_size=12)
LINES = st.text(st.characters(categories=["L", "N"], include_characters="+/="), min_size=16)


@given(WORDS, st.lists(VALUES, min_size=1), WORDS)
def test_no_secret_is_left(before: str, values: list[str], after: str) -> None:
    """For any number of secrets, side by side or nested."""
    words = redacted(before + "".join(values) + after, map(Secret, values))

    assert not any(value in words for value in values)


@given(st.lists(SHORT, min_size=1), st.text("abc", min_size=8))
def test_secrets_that_overlap(values: list[str], words: str) -> None:
    """Exactly the characters outside all secrets stay."""
    words += "."  # a secret that begins at the end of the words is masked too
    starts = range(len(words))
    inside = {
        n
        for v in values
        for at in starts
        if words.startswith(v, at)
        for n in range(at, at + len(v))
    }
    expected = "".join("•" if n in inside else words[n] for n in starts)

    masked = redacted(words, map(Secret, values))

    assert re.sub("•+", MASK, expected) == masked


def test_secrets_that_share_characters() -> None:
    """The first replacement leaves no part of the second secret."""
    two = [Secret("AAAA-planted"), Secret("planted-BBBBBBBB")]

    assert f"<{MASK}>" == redacted("<AAAA-planted-BBBBBBBB>", two)
    assert MASK == redacted("AAAA-planted-BB", two)


def closed_up(words: str) -> str:
    """Return the words without blanks and invisible characters."""
    return "".join(c for c in words if c.isprintable() and not c.isspace())


@given(st.text(), st.lists(VALUES))
def test_other_words_stay(words: str, values: list[str]) -> None:
    """Text without the beginning of a secret stays unchanged."""
    closed = closed_up(words)
    strange = [v for v in values if closed_up(v)[:8] not in closed or len(closed_up(v)) < 8]
    strange = [v for v in strange if v[:8] not in words]

    assert words == redacted(words, map(Secret, strange))


@given(st.lists(LINES, min_size=2), st.sampled_from(["\n", "\r\n", "\\n"]), st.data())
def test_lines_of_a_secret(lines: list[str], between: str, data: st.DataObject) -> None:
    """Each line is hidden separately, with any line ending."""
    shown = data.draw(st.sampled_from(["\n", " ", "\r\n", "\n    "]))

    words = redacted(shown.join(lines), [Secret(between.join(lines))])

    assert not any(line in words for line in lines)


@given(VALUES, st.integers(min_value=8))
def test_secret_that_was_begun(value: str, printed: int) -> None:
    """A program that stopped in the middle of a secret reveals no part."""
    assert f"key={MASK}" == redacted(f"key={value[:printed]}", [Secret(value)])


def test_secret_that_was_cut() -> None:
    """A very long text is logged in part, and a secret at the cut is masked."""
    value = "kY9x0123456789abcdefghijklmnopqrstuv"
    words = cut("x" * (LONGEST - 20) + value)

    assert "kY9x0123" in words
    assert f"x{MASK}…" in redacted(f"{words}\nTraceback", [Secret(value)])


@given(
    st.text("abc/+=0123", min_size=9), st.sampled_from([" ", "\n", "  ", "\t", "\u200b", "\xa0"])
)
def test_secret_with_blanks_between_its_characters(value: str, blank: str) -> None:
    """A secret spelt with blanks is masked, and the words around stay."""
    spelt = blank.join(value)

    assert f"refused: <{MASK}> (401)" == redacted(f"refused: <{spelt}> (401)", [Secret(value)])
    assert f"refused: {MASK}" == redacted(f"refused: {spelt}", [Secret(value + "dd")])


@pytest.mark.parametrize("shown", [r"'it'\''s a passphrase'", "'it'\"'\"'s a passphrase'"])
def test_secret_as_a_shell_quotes_it(shown: str) -> None:
    """`set -x` of bash and of dash."""
    assert f"+ KEY='{MASK}'" == redacted(f"+ KEY={shown}", [Secret("it's a passphrase")])


def test_short_line_of_a_key() -> None:
    """A short last line is masked only within its frame, since its letters may be any word."""
    key = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49\nfi\n-----END PRIVATE KEY-----\n"

    assert f"{MASK}\n" == redacted(key, [Secret(key)])
    assert f"so\n{MASK}\nfi\n" == redacted("so\nMIGHAgEAMBMGByqGSM49\nfi\n", [Secret(key)])
    assert "fi" == redacted("fi", [Secret("fi")])
    assert f"fi {MASK}" == redacted("fi shrt", [Secret("shrt")])


def test_short_secret_is_masked_as_a_word() -> None:
    """A secret of fewer than eight characters is masked only where it stands alone."""
    words = "The login token validation failed: token=toke"

    assert f"The login token validation failed: token={MASK}" == redacted(words, [Secret("toke")])


@given(st.text(), st.text(" \t\n\r\u3000"))
def test_blank_secret(words: str, blank: str) -> None:
    """A variable with blanks hides no text."""
    assert words == redacted(words, [Secret(blank)])


def test_secrets_of_arbitrary_bytes() -> None:
    """Bytes outside UTF-8 from the environment are compared and masked unchanged."""
    value = b"caf\xe9 au lait".decode(errors="surrogateescape")

    assert 1 == len({Secret(value), Secret(value)})
    assert f"<{MASK}>" == redacted(f"<{value}>", [Secret(value)])


# --- Unknown secrets


LABELS = ("", "RSA ", "EC ", "ENCRYPTED ", "OPENSSH ")


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("between", ["\n", "\r\n", " ", "\\n", "\n   | "])
def test_private_key_of_any_kind(label: str, between: str) -> None:
    """A stranger's key is hidden with any line ending, and the words around stay."""
    frame = f"-----{{}} {label}PRIVATE KEY-----"
    key = between.join([frame.format("BEGIN"), "planted+/0123", "planted=", frame.format("END")])

    assert f"the key: {MASK}, and so on" == redacted(f"the key: {key}, and so on")
    assert f"{MASK} {MASK}" == redacted(f"{key} {key}")


def test_private_key_that_lost_an_end() -> None:
    """A part at the beginning or the end of the output is hidden as well."""
    begin, end = (f"-----{edge} EC PRIVATE KEY-----" for edge in ("BEGIN", "END"))

    assert f"the key: {MASK}" == redacted(f"the key: {begin}\nplanted\npla")
    assert f"{MASK}\nnginx: bad" == redacted(f"nted\nplanted\n{end}\nnginx: bad")
    assert f"{MASK} and {MASK}" == redacted(f"planted\n{end} and {begin}\nplanted")
    assert f"{MASK}\nx" == redacted(f"{begin[7:]}\nplanted\n{end}\nx")


@pytest.mark.parametrize("edge", ["BEGIN", "END"])
def test_line_that_resembles_a_frame(edge: str) -> None:
    """The line is scanned in linear time, since all output of programs is redacted."""
    words = f"-----{edge} " + "PRIVATE KEY " * 5000
    begun = time.perf_counter()

    assert words == redacted(words)
    assert time.perf_counter() - begun < 1


def test_certificate_may_be_seen() -> None:
    """Certificates, public keys and the names of hidden parts stay."""
    words = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\nPRIVATE KEY: read"

    assert words == redacted(words)


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("> Authorization: Bearer planted\n> Host: x", f"> Authorization: {MASK}\n> Host: x"),
        ("proxy-authorization:Basic planted==", f"proxy-authorization:{MASK}"),
        ('Authorization: Digest username="a", x="planted"', f"Authorization: {MASK}"),
        ("{'Authorization': 'QBox a:planted=', 'b': 1}", f"{{'Authorization': '{MASK}', 'b': 1}}"),
        ('{"authorization": "Bearer planted", "b": 1}', f'{{"authorization": "{MASK}", "b": 1}}'),
        (r'"{\"authorization\":\"Bearer planted\"}"', rf'"{{\"authorization\":\"{MASK}\"}}"'),
        ("sent QBox access-key:a-planted-one= to it", f"sent QBox {MASK} to it"),
        ("Sent: Authorization: QBox a:planted=", f"Sent: Authorization: {MASK}"),
        ("set img:a=b and name:value= there", "set img:a=b and name:value= there"),
        ("?login_token=1,planted&x=1", f"?login_token={MASK}&x=1"),
        ("the authorization is pending", "the authorization is pending"),
        ("Failed authorization: DNS problem: x", "Failed authorization: DNS problem: x"),
        ("urn:unauthorized: authorization: gone", "urn:unauthorized: authorization: gone"),
        ("  authorization: Basic planted", f"  authorization: {MASK}"),
        (r"b'GET / HTTP/1.1\r\nAuthorization: planted'", None),
    ],
)
def test_proof_of_identity(words: str, shown: str | None) -> None:
    """The proof is hidden to its end. A mask stays unchanged, since text may be redacted more than
    once.
    """
    if shown is None:
        assert "planted" not in redacted(words)
        return
    assert shown == redacted(words)
    assert f"{shown} and more" == redacted(f"{shown} and more")


@given(st.lists(st.sampled_from(["Authorization: ", "-----BEGIN EC PRIVATE KEY-----", "x", "\n"])))
def test_redacting_twice_changes_nothing(pieces: list[str]) -> None:
    """Redacted text stays unchanged."""
    once = redacted("".join(pieces))

    assert once == redacted(once)


def test_proof_beside_a_secret() -> None:
    """If a known secret and an unknown proof overlap, both are hidden."""
    words = "QBox access-key:a-planted-one="

    assert f"QBox {MASK}" == redacted(words, [Secret("access-key")])
    assert MASK == redacted(words, [Secret("QBox access-key")])


def test_known_key_is_a_single_mask() -> None:
    """A single `•••` replaces frames and body."""
    key = make_key()

    assert f"<{MASK}\n>" == redacted(f"<{key.reveal()}>", [key])


# --- Pieces of a secret


EVERY_SENTENCE = read_po(io.BytesIO((ROOT / "src/certferry/locale/certferry.pot").read_bytes()))


def closed_runs(token: str) -> list[str]:
    """Return for each eight characters of a token whether letters and digits are mixed."""
    runs = [token[at : at + 8] for at in range(len(token) - 7)]
    return ["alike" if run.isalpha() or run.isdigit() else "mixed" for run in runs]


def spelt(body: str) -> dict[str, str]:
    """Return a key in the spellings of programs and services."""
    framed = f"-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n"
    der = base64.b64decode(body)
    return {
        "commas": ",".join(body),
        "eights": json.dumps(re.findall(".{1,8}", body)),
        "backwards": body[::-1],
        "numbered": " ".join(f"{number}={character}" for number, character in enumerate(body)),
        "codes": str([ord(character) for character in body]),
        "entities": "".join(f"&#{ord(character)};" for character in body),
        "escapes": "".join(f"\\u{ord(character):04x}" for character in body),
        "bytes": str(list(der)),
        "numbers as OpenSSL prints them": der.hex(":"),
        "numbers as xxd prints them": der.hex(" ", 2),
        "bits": " ".join(f"{byte:08b}" for byte in body.encode()),
        "Base64 of the file": base64.b64encode(framed.encode()).decode(),
        "Base64 in lines": base64.encodebytes(framed.encode()).decode(),
        "upper case": body.upper(),
    }


@given(st.sampled_from(sorted(spelt(""))), st.integers(0, 100), st.integers(60, 184))
def test_key_in_pieces(way: str, begin: int, length: int) -> None:
    """Words with a third of a key, in any spelling, are masked as a whole."""
    key = make_key()
    body = "".join(key.reveal().splitlines()[1:-1])
    words = spelt(body)[way]
    begin = begin * len(words) // 300
    words = words[begin : begin + length * len(words) // 184]

    assert MASK in redacted(f"refused: {words}", [key])
    assert not hold_pieces(redacted(f"refused: {words}", [key]), [key])


@given(
    st.text(string.ascii_letters + string.digits, min_size=32, max_size=48).filter(
        lambda token: not set(closed_runs(token)) - {"mixed"}
    ),
    st.integers(1, 12),
    st.text(st.characters(codec="utf-8", exclude_categories=["L", "N"]), min_size=1, max_size=3),
    st.sampled_from(["forwards", "backwards", "codes"]),
)
def test_token_in_pieces(token: str, length: int, between: str, way: str) -> None:
    """A service may quote the token of a request in pieces."""
    pieces = [token[at : at + length] for at in range(0, len(token), length)]
    if way == "backwards":
        pieces = [piece[::-1] for piece in reversed(pieces)]
    if way == "codes":
        pieces = [str(ord(letter)) for letter in token]

    assert "•" in quoted(f"refused: {between.join(pieces)}", [Secret(token)])
    shown = quoted(f"refused: {between.join(pieces)}", [Secret(token)]).removeprefix("refused: ")
    assert not hold_pieces(shown, [Secret(token)])


def test_passphrase_in_pieces() -> None:
    """A passphrase of words is masked only as a whole, since its words may be ordinary."""
    words = Secret("production-password-of-qiniu")

    assert "the password of production at qiniu" == redacted(
        "the password of production at qiniu", [words]
    )


def test_no_sentence_holds_a_piece() -> None:
    """Sentences of certferry are never taken for a part of a key."""
    keys = [make_key() for _ in range(20)]
    sentences = [str(message.id) for message in EVERY_SENTENCE if message.id]

    assert len(sentences) > 1000
    assert [] == [sentence for sentence in sentences if hold_pieces(sentence, keys)]
    numbers = "[2026-12-02 03:43:34] 400324 65f0c3a1b2d4e5f60718293a 20:01:0d:b8"
    assert not hold_pieces(numbers, keys)
