"""A known key where it is not shown as PEM."""

from __future__ import annotations

import base64
import hashlib
import re
import textwrap
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from certferry.core.discretion import discreet
from certferry.core.key_traces import key_spans
from certferry.core.pem import pkcs8_pem
from certferry.core.secret import MASK, Secret
from certferry.testing.certificates import make_bundle, make_key

KEYS: dict[str, PrivateKeyTypes] = {
    "P-256": ec.generate_private_key(ec.SECP256R1()),
    "P-384": ec.generate_private_key(ec.SECP384R1()),
    "RSA": rsa.generate_private_key(65537, 2048),
}
FORMS = {"PKCS#8": PrivateFormat.PKCS8, "traditional": PrivateFormat.TraditionalOpenSSL}

of_every_key = pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
in_every_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


def written(key: PrivateKeyTypes, encoding: Encoding, form: PrivateFormat) -> bytes:
    """Write a key in one of its forms."""
    return key.private_bytes(encoding, form, NoEncryption())


def encoded(data: bytes) -> str:
    """Write bytes in base64, on one line."""
    return base64.b64encode(data).decode()


def with_colons(data: bytes) -> str:
    """Write bytes as `openssl pkey -text` does."""
    return "\n".join(textwrap.wrap(data.hex(":"), 45))


SPELLINGS: dict[str, Callable[[bytes], str]] = {
    "one line": encoded,
    "of URLs": lambda data: base64.urlsafe_b64encode(data).decode(),
    "76 columns": lambda data: base64.encodebytes(data).decode().rstrip(),
    "32 columns": lambda data: "\r\n".join(textwrap.wrap(encoded(data), 32)),
    "escaped ends": lambda data: "\\n".join(textwrap.wrap(encoded(data), 64)),
    "hexadecimal": bytes.hex,
    "HEXADECIMAL": lambda data: data.hex(" ").upper(),
    "with colons": with_colons,
    "raw": lambda data: data.decode(errors="surrogateescape"),
}
in_every_spelling = pytest.mark.parametrize("spelled", SPELLINGS.values(), ids=SPELLINGS)


@of_every_key
@in_every_form
@in_every_spelling
def test_key_in_another_spelling(
    key: PrivateKeyTypes, form: PrivateFormat, spelled: Callable[[bytes], str]
) -> None:
    """Its DER is hidden, all of it, and what is around it is not."""
    said = spelled(written(key, Encoding.DER, form))

    shown = discreet(f"before\n{said}\nafter", [pkcs8_pem(key)])

    # A last byte that is a space, a colon or a dot of itself counts as what stands behind.
    assert ["before", MASK, "after"] == re.split(r"[\s:=.]+", shown)


def rows(data: bytes, row: Callable[[bytes], str], length: int = 16) -> str:
    """Write bytes in rows, each with where it is before it, as `hexdump` and `od` do."""
    starts = range(0, len(data), length)
    return "\n".join(f"{at:08x}  {row(data[at : at + length])}" for at in starts)


def seen(data: bytes) -> str:
    """Write bytes with a dot for what cannot be seen."""
    return "".join(chr(byte) if 32 <= byte < 127 else "." for byte in data)


def swapped(data: bytes) -> str:
    """Write bytes as words of two of them, as a little-endian machine reads them."""
    pairs = (data[at : at + 2] for at in range(0, len(data), 2))
    return " ".join(pair[::-1].hex().rjust(4, "0") for pair in pairs)


DUMPS: dict[str, Callable[[bytes], str]] = {
    "hexdump -C": lambda data: rows(data, lambda row: f"{row.hex(' '):<48}  |{seen(row)}|"),
    "its column": lambda data: rows(data, lambda row: f"|{seen(row)}|"),
    "xxd": lambda data: rows(data, lambda row: f"{row.hex(' ', 2):<40}  {seen(row)}"),
    "xxd -i": lambda data: "".join(
        "\n  " + "".join(f"0x{byte:02x}, " for byte in data[at : at + 12]).rstrip()
        for at in range(0, len(data), 12)
    ),
    "od -c": lambda data: rows(
        data, lambda row: "".join(rf"{chr(b) if b >= 32 else chr(92) + 'n':>4}" for b in row)
    ),
    "od -a": lambda data: rows(
        data, lambda row: "".join(f"{chr(b) if b >= 32 else 'nl':>4}" for b in row)
    ),
    "od -x": lambda data: rows(data, swapped),
    "string of C": lambda data: "".join(rf"\x{byte:02x}" for byte in data),
    "numbered lines": lambda data: rows(b"".join(data.splitlines()), bytes.decode),
}
in_every_dump = pytest.mark.parametrize("dumped", DUMPS.values(), ids=DUMPS)


def number_in(key: PrivateKeyTypes, pem: bytes) -> bytes:
    """Find the characters of a private number in a PEM, without the ends of its lines."""
    if isinstance(key, rsa.RSAPrivateKey):
        number = key.private_numbers().p.to_bytes(128)
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        number = key.private_numbers().private_value.to_bytes(key.key_size // 8)
    else:
        assert isinstance(key, ed25519.Ed25519PrivateKey)
        number = key.private_bytes_raw()
    body = b"".join(pem.splitlines()[1:-1])
    at = base64.b64decode(body).index(number)
    return body[-(-at * 4 // 3) : (at + len(number)) * 4 // 3]


def is_left(number: bytes, shown: str, length: int) -> bool:
    """Say whether so many characters of a number can still be read together."""
    parts = [re.sub(r"\bnl\b|[\s.,|]|0x|\\[xn]", "", part) for part in shown.split(MASK)]
    read = (number[at : at + length] for at in range(len(number) - length + 1))
    spelled = {
        said
        for part in read
        for said in (part.decode(), part.hex(), swapped(part).replace(" ", ""))
    }
    return any(said in part for said in spelled for part in parts)


@pytest.mark.parametrize("before", [b"", b"a"])
@in_every_form
@in_every_dump
@of_every_key
def test_key_in_a_dump(
    key: PrivateKeyTypes,
    form: PrivateFormat,
    dumped: Callable[[bytes], str],
    before: bytes,
) -> None:
    """None of its rows shows its number, however few of its characters stand together."""
    pem = written(key, Encoding.PEM, form)
    said = dumped(before + pem)
    number = number_in(key, pem)
    assert is_left(number, said, 6)

    assert not is_left(number, discreet(said, [pkcs8_pem(key)]), 6)


@pytest.mark.parametrize("before", range(16))
def test_row_that_begins_or_ends_within_a_number(before: int) -> None:
    """Fewer than four characters of the number are left, wherever the rows are parted."""
    # Always the same one: four characters could be those of something else by chance.
    number = int.from_bytes(hashlib.sha256(b"certferry").digest())
    key = ec.derive_private_key(number, ec.SECP256R1())
    pem = written(key, Encoding.PEM, PrivateFormat.PKCS8)

    for dumped in DUMPS.values():
        shown = discreet(dumped(b"#" * before + pem), [pkcs8_pem(key)])
        assert not is_left(number_in(key, pem), shown, 4)


@pytest.mark.parametrize(
    "escaped", [{"+": "%2B", "/": "%2F"}, {"+": "%2b", "/": "%2f"}, {"/": r"\/"}]
)
@of_every_key
def test_base64_that_is_escaped(key: PrivateKeyTypes, escaped: dict[str, str]) -> None:
    """In an address or in JSON, all of it is hidden."""
    said = encoded(written(key, Encoding.DER, PrivateFormat.PKCS8)).rstrip("=")

    for plain, instead in escaped.items():
        said = said.replace(plain, instead)

    shown = discreet(f"<{said}>", [pkcs8_pem(key)])

    assert f"<{MASK}>" == shown


@of_every_key
@in_every_form
@pytest.mark.parametrize("before", [b"", b"a", b"ab", b"abc"])
def test_file_in_base64(key: PrivateKeyTypes, form: PrivateFormat, before: bytes) -> None:
    """Also with something before it in the same base64, as in a file with certificate and key."""
    said = encoded(before + written(key, Encoding.PEM, form))

    shown = discreet(said, [pkcs8_pem(key)]).rstrip("=")

    assert shown.endswith(MASK)
    assert len(shown) <= len(encoded(before).rstrip("=") + MASK)


@in_every_form
@pytest.mark.parametrize("part", [slice(None, 40), slice(20, 60), slice(36, 56), slice(24, None)])
def test_part_of_a_key(form: PrivateFormat, part: slice) -> None:
    """What a program was stopped in, or cut out of it."""
    key = KEYS["P-384"]
    said = encoded(written(key, Encoding.DER, form))[part]

    assert MASK == discreet(said, [pkcs8_pem(key)]).rstrip("=")


def test_number_alone() -> None:
    """As it is in JSON Web Keys (RFC 7518 section 6.2.2), where all else is public."""
    key = KEYS["P-256"]
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    number = key.private_numbers().private_value.to_bytes(32)
    said = base64.urlsafe_b64encode(number).decode().rstrip("=")

    shown = discreet(f'{{"d": "{said}"}}', [pkcs8_pem(key)])

    assert MASK in shown
    assert len(shown) <= len(f'{{"d": "{MASK}"}}') + 2  # bits that are not its alone


@of_every_key
def test_what_is_public_of_a_key(key: PrivateKeyTypes) -> None:
    """A certificate, whose public key is a part of the private one's file, is no trace of it."""
    for encoding in (Encoding.DER, Encoding.PEM):
        public = key.public_key().public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)
        for before in (b"", b"a", b"ab"):
            said = f"{encoded(before + public)} {public.hex()} {with_colons(public)}"
            assert [] == list(key_spans(said, pkcs8_pem(key)))


@of_every_key
@pytest.mark.parametrize("before", [b"", *(bytes([digit]) for digit in range(16))])
def test_what_a_certificate_has_beside_its_public_key(key: PrivateKeyTypes, before: bytes) -> None:
    """It may begin or end as what stands there in the private key's file."""
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    starts = range(16)
    around = [part for n in starts for part in (before + public[n:40], public[n:26] + before)]
    said = "!".join(spelled(part) for part in around for spelled in (bytes.hex, encoded))

    assert [] == list(key_spans(said, pkcs8_pem(key)))


def test_certificate_of_a_key() -> None:
    """A program may print the other files, in any spelling."""
    bundle = make_bundle("img.example.com", not_before=datetime.now(UTC))
    der = base64.b64decode("".join(bundle.cert_pem.splitlines()[1:-1]))
    pem = bundle.fullchain_pem.encode()
    dumps = [dumped(pem) for dumped in DUMPS.values()]
    spellings = [spelled(data) for spelled in SPELLINGS.values() for data in (der, pem)]

    for said in (bundle.fullchain_pem, *dumps, *spellings):
        assert [] == list(key_spans(said, bundle.privkey_pem))


def test_key_of_somebody_else() -> None:
    """Nobody can know it where it has no frame; it may share what every key of its kind has."""
    body = make_key().reveal().splitlines()[2]

    assert body == discreet(body, [make_key()])


def test_key_with_one_form_only() -> None:
    """Ed25519 has PKCS#8 alone (RFC 8410 section 7)."""
    key = ed25519.Ed25519PrivateKey.generate()
    said = encoded(written(key, Encoding.DER, PrivateFormat.PKCS8))
    pem = written(key, Encoding.PEM, PrivateFormat.PKCS8)

    assert MASK == discreet(said, [pkcs8_pem(key)]).rstrip("=")
    for dumped in DUMPS.values():
        assert not is_left(number_in(key, pem), discreet(dumped(pem), [pkcs8_pem(key)]), 6)


@pytest.mark.parametrize("body", ["AAAA", "kein Schlüssel", "\udce9"])
def test_secret_that_only_looks_like_a_key(body: str) -> None:
    """It is hidden as any secret."""
    secret = Secret(f"-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n")

    assert f"<{MASK}\n>" == discreet(f"<{secret.reveal()}>", [secret])


def test_key_on_one_line_of_a_file() -> None:
    """As `env_files` may hold it."""
    key = KEYS["P-256"]
    secret = Secret(pkcs8_pem(key).reveal().replace("\n", "\\n"))
    said = encoded(written(key, Encoding.DER, PrivateFormat.TraditionalOpenSSL))

    assert MASK == discreet(said, [secret]).rstrip("=")
