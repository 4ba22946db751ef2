"""What is seen of secrets in the words of others."""

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
    """However many there are, one beside another or one within another."""
    words = redacted(before + "".join(values) + after, map(Secret, values))

    assert not any(value in words for value in values)


@given(st.lists(SHORT, min_size=1), st.text("abc", min_size=8))
def test_secrets_that_overlap(values: list[str], words: str) -> None:
    """What is left are exactly the characters that are in no secret, wherever that begins."""
    words += "."  # where words end in the middle of a secret, its beginning is masked too
    starts = range(len(words))
    inside = {
        n
        for v in values
        for at in starts
        if words.startswith(v, at)
        for n in range(at, at + len(v))
    }
    expected = "".join("•" if n in inside else words[n] for n in starts)

    said = redacted(words, map(Secret, values))

    assert re.sub("•+", MASK, expected) == said


def test_secrets_that_share_an_end() -> None:
    """The one that is replaced first does not leave the rest of the other."""
    two = [Secret("AAAA-planted"), Secret("planted-BBBBBBBB")]

    assert f"<{MASK}>" == redacted("<AAAA-planted-BBBBBBBB>", two)
    assert MASK == redacted("AAAA-planted-BB", two)


def closed_up(words: str) -> str:
    """Leave out what is not seen between characters."""
    return "".join(c for c in words if c.isprintable() and not c.isspace())


@given(st.text(), st.lists(VALUES))
def test_other_words_stay(words: str, values: list[str]) -> None:
    """What repeats nothing, not even the beginning of a secret, is as it was."""
    closed = closed_up(words)
    strange = [v for v in values if closed_up(v)[:8] not in closed or len(closed_up(v)) < 8]
    strange = [v for v in strange if v[:8] not in words]

    assert words == redacted(words, map(Secret, strange))


@given(st.lists(LINES, min_size=2), st.sampled_from(["\n", "\r\n", "\\n"]), st.data())
def test_lines_of_a_secret(lines: list[str], between: str, data: st.DataObject) -> None:
    """Each of them is hidden by itself, however the program writes their ends."""
    shown = data.draw(st.sampled_from(["\n", " ", "\r\n", "\n    "]))

    words = redacted(shown.join(lines), [Secret(between.join(lines))])

    assert not any(line in words for line in lines)


@given(VALUES, st.integers(min_value=8))
def test_secret_that_was_begun(value: str, said: int) -> None:
    """A program that was stopped in the middle of it has said nothing."""
    assert f"key={MASK}" == redacted(f"key={value[:said]}", [Secret(value)])


def test_secret_that_was_cut() -> None:
    """Of very long words the beginning is logged, wherever in a secret that ends."""
    value = "kY9x0123456789abcdefghijklmnopqrstuv"
    words = cut("x" * (LONGEST - 20) + value)

    assert "kY9x0123" in words
    assert f"x{MASK}…" in redacted(f"{words}\nTraceback", [Secret(value)])


@given(
    st.text("abc/+=0123", min_size=9), st.sampled_from([" ", "\n", "  ", "\t", "\u200b", "\xa0"])
)
def test_secret_with_blanks_between_its_characters(value: str, blank: str) -> None:
    """A service that spells it out has shown it all the same; the words around it stay."""
    spelt = blank.join(value)

    assert f"refused: <{MASK}> (401)" == redacted(f"refused: <{spelt}> (401)", [Secret(value)])
    assert f"refused: {MASK}" == redacted(f"refused: {spelt}", [Secret(value + "dd")])


@pytest.mark.parametrize("shown", [r"'it'\''s a passphrase'", "'it'\"'\"'s a passphrase'"])
def test_secret_as_a_shell_quotes_it(shown: str) -> None:
    """`set -x` of bash and of dash."""
    assert f"+ KEY='{MASK}'" == redacted(f"+ KEY={shown}", [Secret("it's a passphrase")])


def test_what_is_no_secret_of_a_key() -> None:
    """A word of a few letters may be anything, where it does not stand in its frame."""
    key = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49\nfi\n-----END PRIVATE KEY-----\n"

    assert f"{MASK}\n" == redacted(key, [Secret(key)])
    assert f"so\n{MASK}\nfi\n" == redacted("so\nMIGHAgEAMBMGByqGSM49\nfi\n", [Secret(key)])
    assert "fi" == redacted("fi", [Secret("fi")])
    assert f"fi {MASK}" == redacted("fi shrt", [Secret("shrt")])


def test_short_secret_eats_no_word() -> None:
    """Of fewer than eight characters, it is masked where it stands alone."""
    words = "The login token validation failed: token=toke"

    assert f"The login token validation failed: token={MASK}" == redacted(words, [Secret("toke")])


@given(st.text(), st.text(" \t\n\r\u3000"))
def test_blank_is_no_secret(words: str, blank: str) -> None:
    """A variable that is set to nothing hides nothing."""
    assert words == redacted(words, [Secret(blank)])


def test_secrets_that_are_no_text() -> None:
    """What is no UTF-8 in the environment is compared and masked as what it is."""
    value = b"caf\xe9 au lait".decode(errors="surrogateescape")

    assert 1 == len({Secret(value), Secret(value)})
    assert f"<{MASK}>" == redacted(f"<{value}>", [Secret(value)])


# --- what is not known


LABELS = ("", "RSA ", "EC ", "ENCRYPTED ", "OPENSSH ")


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("between", ["\n", "\r\n", " ", "\\n", "\n   | "])
def test_private_key_of_any_kind(label: str, between: str) -> None:
    """Nothing is left of any owner's key, however its lines end; what is around stays."""
    frame = f"-----{{}} {label}PRIVATE KEY-----"
    key = between.join([frame.format("BEGIN"), "planted+/0123", "planted=", frame.format("END")])

    assert f"the key: {MASK}, and so on" == redacted(f"the key: {key}, and so on")
    assert f"{MASK} {MASK}" == redacted(f"{key} {key}")


def test_private_key_that_lost_an_end() -> None:
    """What was printed of it before the program was stopped, or is kept of a long output."""
    begin, end = (f"-----{edge} EC PRIVATE KEY-----" for edge in ("BEGIN", "END"))

    assert f"the key: {MASK}" == redacted(f"the key: {begin}\nplanted\npla")
    assert f"{MASK}\nnginx: bad" == redacted(f"nted\nplanted\n{end}\nnginx: bad")
    assert f"{MASK} and {MASK}" == redacted(f"planted\n{end} and {begin}\nplanted")
    assert f"{MASK}\nx" == redacted(f"{begin[7:]}\nplanted\n{end}\nx")


@pytest.mark.parametrize("edge", ["BEGIN", "END"])
def test_line_that_nearly_is_a_frame(edge: str) -> None:
    """It is looked at once, however often it names a key: all that a program prints comes here."""
    words = f"-----{edge} " + "PRIVATE KEY " * 5000
    begun = time.perf_counter()

    assert words == redacted(words)
    assert time.perf_counter() - begun < 1


def test_certificate_may_be_seen() -> None:
    """So may a public key, and the name of what is hidden."""
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
    """It is hidden as far as it goes; and what is hidden is not looked at again, so that words may
    pass more than one port.
    """
    if shown is None:
        assert "planted" not in redacted(words)
        return
    assert shown == redacted(words)
    assert f"{shown} and more" == redacted(f"{shown} and more")


@given(st.lists(st.sampled_from(["Authorization: ", "-----BEGIN EC PRIVATE KEY-----", "x", "\n"])))
def test_twice_is_once(pieces: list[str]) -> None:
    """What was redacted stays as it is."""
    once = redacted("".join(pieces))

    assert once == redacted(once)


def test_proof_beside_a_secret() -> None:
    """Where what is known and what is not overlap, nothing of either stays."""
    words = "QBox access-key:a-planted-one="

    assert f"QBox {MASK}" == redacted(words, [Secret("access-key")])
    assert MASK == redacted(words, [Secret("QBox access-key")])


def test_key_that_is_known_and_shown() -> None:
    """One `•••` for all of it, frames and body."""
    key = make_key()

    assert f"<{MASK}\n>" == redacted(f"<{key.reveal()}>", [key])


# --- pieces of a secret


EVERY_SENTENCE = read_po(io.BytesIO((ROOT / "src/certferry/locale/certferry.pot").read_bytes()))


def closed_runs(token: str) -> list[str]:
    """Return of each eight characters of a token whether letters and digits are mixed."""
    runs = [token[at : at + 8] for at in range(len(token) - 7)]
    return ["alike" if one.isalpha() or one.isdigit() else "mixed" for one in runs]


def spelt(body: str) -> dict[str, str]:
    """Return a key as programs and services spell it."""
    framed = f"-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n"
    der = base64.b64decode(body)
    return {
        "commas": ",".join(body),
        "eights": json.dumps(re.findall(".{1,8}", body)),
        "backwards": body[::-1],
        "numbered": " ".join(f"{number}={one}" for number, one in enumerate(body)),
        "codes": str([ord(one) for one in body]),
        "entities": "".join(f"&#{ord(one)};" for one in body),
        "escapes": "".join(f"\\u{ord(one):04x}" for one in body),
        "bytes": str(list(der)),
        "numbers as OpenSSL prints them": der.hex(":"),
        "numbers as xxd prints them": der.hex(" ", 2),
        "bits": " ".join(f"{one:08b}" for one in body.encode()),
        "Base64 of the file": base64.b64encode(framed.encode()).decode(),
        "Base64 in lines": base64.encodebytes(framed.encode()).decode(),
        "upper case": body.upper(),
    }


@given(st.sampled_from(sorted(spelt(""))), st.integers(0, 100), st.integers(60, 184))
def test_key_in_pieces(way: str, begin: int, length: int) -> None:
    """Words that hold a third of a key, in whatever spelling, are masked as a whole."""
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
    """What a service quotes of the token that an account sends with each request."""
    pieces = [token[at : at + length] for at in range(0, len(token), length)]
    if way == "backwards":
        pieces = [piece[::-1] for piece in reversed(pieces)]
    if way == "codes":
        pieces = [str(ord(one)) for one in token]

    assert "•" in quoted(f"refused: {between.join(pieces)}", [Secret(token)])
    shown = quoted(f"refused: {between.join(pieces)}", [Secret(token)]).removeprefix("refused: ")
    assert not hold_pieces(shown, [Secret(token)])


def test_passphrase_in_pieces() -> None:
    """One of words is found as a whole only, since its words may be any."""
    words = Secret("production-password-of-qiniu")

    assert "the password of production at qiniu" == redacted(
        "the password of production at qiniu", [words]
    )


def test_no_sentence_holds_a_piece() -> None:
    """What certferry itself says is never taken for a part of a key."""
    keys = [make_key() for _ in range(20)]
    sentences = [str(message.id) for message in EVERY_SENTENCE if message.id]

    assert len(sentences) > 1000
    assert [] == [one for one in sentences if hold_pieces(one, keys)]
    numbers = "[2026-12-02 03:43:34] 400324 65f0c3a1b2d4e5f60718293a 20:01:0d:b8"
    assert not hold_pieces(numbers, keys)
