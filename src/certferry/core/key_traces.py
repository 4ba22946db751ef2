"""A known private key in words that do not show it as PEM: in base64 of any kind however wrapped,
in hexadecimal digits, in a dump, or as bytes; as PKCS#8 or as OpenSSL's own form, whole or a part.
"""

from __future__ import annotations

import base64
import contextlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from certferry.core.secret import Secret

_PIECE = 20
"""Characters that tell a key: 10 bytes or more. In fewer, what names the kind of a certificate's
signature (RFC 5758 section 3.2) looks like what names the kind of a key."""

_PUBLIC_PIECE = 12
"""Characters of a public key that make a piece public. Seen at every third place, they are in each
piece of which 14 are public; in others six or more are the private key's."""
_SHORT_PIECE = 8
"""Characters of base64 that tell one of its private numbers: a row of a dump has no more than 16,
and may begin or end within the number."""
_BESIDE = 3
"""Bytes on each side of a number that count with it, since a row may hold its first characters or
its last alone. Four of these are in each piece then, which no certificate has by chance."""

_BETWEEN = re.compile(r"(?:\\[nrx]|\\(?=/)|,\s*+0[xX]|\snl(?=\s)|[\s:=.])+")
"""What wraps a key, fills it up, or parts its bytes; the end of a line is a dot in a dump, and `nl`
in that of `od -a`."""
_OF_ADDRESS = {"%2B": "::+", "%2F": "::/", "%3D": ":::", "%0A": ":::", "%0D": ":::"}
_IN_ADDRESS = re.compile("|".join(_OF_ADDRESS), re.IGNORECASE)
"""What base64 has that is escaped in an address (RFC 3986 section 2.1), at the same length: a colon
is left out."""
_STANDARD = str.maketrans("-_", "+/")  # from the alphabet of URLs (RFC 4648 §5)
_ENCODINGS = (Encoding.DER, Encoding.PEM)
_Pieces = dict[str, list[tuple[int, int]]]
_BEFORE = ((0, 0), (1, 2), (2, 3))
"""Bytes that may stand before a key in a group of three, and how many of the base64 characters are
not the key's alone then (RFC 4648 §4)."""


def key_spans(words: str, privkey_pem: Secret) -> Iterator[tuple[int, int]]:
    """Give where words show the key, or a part of it that is not public; nothing where the secret
    is no key that can be read, as with a passphrase.
    """
    try:
        key = _key(privkey_pem)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return
    pieces, forms = _pieces(key)
    text, places = _unwrapped(words)
    at = 0
    while at <= len(text) - _SHORT_PIECE:
        piece = text[at : at + _PIECE]
        found = pieces.get(piece) or pieces.get(piece[:_SHORT_PIECE])
        if found is None:
            at += 1
            continue
        # What is public goes along where it stands beside what is not.
        around = [_around(text, at, forms[number], begun) for number, begun in found]
        start, end = min(a for a, _ in around), max(b for _, b in around)
        yield places[start], places[end - 1] + 1
        at = end - _SHORT_PIECE + 1


def _key(privkey_pem: Secret) -> PrivateKeyTypes:
    pem = privkey_pem.reveal().replace("\\n", "\n").encode(errors="surrogatepass")
    # Whether an RSA key is sound is not asked: that takes up to a third of a second.
    return load_pem_private_key(pem, None, unsafe_skip_rsa_key_validation=True)


def _private(key: PrivateKeyTypes) -> Iterator[tuple[bytes, bytes]]:
    """Give it in DER and in PEM, in each of its forms."""
    for kind in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL):
        with contextlib.suppress(ValueError):  # Ed25519 has no other form
            der, pem = (key.private_bytes(it, kind, NoEncryption()) for it in _ENCODINGS)
            yield der, pem


def _public(key: PrivateKeyTypes) -> Iterator[bytes]:
    yield key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _numbers(key: PrivateKeyTypes) -> Iterator[bytes]:
    """Give what is secret of a key, and neither its kind nor its public half."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        yield key.private_numbers().private_value.to_bytes((key.key_size + 7) // 8)
    elif isinstance(key, rsa.RSAPrivateKey):
        of = key.private_numbers()
        for number in (of.d, of.p, of.q, of.dmp1, of.dmq1, of.iqmp):
            yield number.to_bytes((number.bit_length() + 7) // 8)
    elif isinstance(key, ed25519.Ed25519PrivateKey):
        yield key.private_bytes_raw()


def _places(key: PrivateKeyTypes, der: bytes) -> Iterator[tuple[int, int]]:
    """Give where the private numbers are in a key, each with some bytes on both sides."""
    for number in _numbers(key):
        if (at := der.find(number)) >= 0:
            yield max(at - _BESIDE, 0), at + len(number) + _BESIDE


def _in_pem(at: int, pem: bytes) -> int:
    """Give where the first bits of a byte are, in lines of 64 characters (RFC 7468 section 2)."""
    character = at * 4 // 3
    return pem.index(b"\n") + 1 + character + character // 64


def _in_words(forms: Iterable[bytes]) -> Iterator[str]:
    for data in forms:
        yield from _in_base64(data)
        yield from (data.hex(), data.hex().upper(), *_in_words_of_two_bytes(data))
        yield _unwrapped(data.decode(errors="surrogateescape"))[0]


def _in_base64(data: bytes) -> Iterator[str]:
    for before, foreign in _BEFORE:
        yield base64.b64encode(bytes(before) + data).decode()[foreign:].rstrip("=")


def _in_words_of_two_bytes(data: bytes) -> Iterator[str]:
    """Give it as `od -x` and `hexdump` do on almost every machine: the second byte first."""
    for first in (0, 1):  # what stands before the key may have an odd length
        words = bytearray(data[first:])
        words += bytes(len(words) % 2)
        words[::2], words[1::2] = words[1::2], words[::2]
        yield words.hex()


def _pieces(key: PrivateKeyTypes) -> tuple[_Pieces, list[str]]:
    """Give what tells a key, and its forms, to which that refers."""
    ders, pems, der_parts, pem_parts = set(), set(), set(), set()
    for der, pem in _private(key):
        ders.add(der)
        pems.add(pem)
        for start, end in _places(key, der):
            der_parts.add(der[start:end])
            # Two more: a piece in hexadecimal digits is ten characters, and four count as above.
            pem_parts.add(pem[_in_pem(start, pem) - 2 : _in_pem(end, pem) + 2])
    # RSA's own form is all in PKCS#8 (RFC 5958): looking for it twice takes twice as long.
    whole = [der for der in ders if not any(der != other and der in other for other in ders)]
    of_der, of_pem = list(_in_words(whole)), list(_in_words(pems))
    numbers = [form for part in der_parts for form in _in_base64(part)]

    # A certificate has what is public, with something else on both sides, which may by chance begin
    # as in a key: so less of a piece than all is enough.
    public = _cut(_in_words(_public(key)), _PUBLIC_PIECE).keys()
    pieces = {
        piece: found
        for piece, found in _cut(of_der, _PIECE).items()
        if not any(piece[at : at + _PUBLIC_PIECE] in public for at in (0, 3, 6))
    }
    # Of PEM only the numbers: its lines end elsewhere in a certificate, which thus has other pieces
    # of what is public.
    told = _cut(_in_words(pem_parts), _PIECE).keys()
    in_pem = _cut(of_pem, _PIECE, len(of_der))
    pieces |= {piece: found for piece, found in in_pem.items() if piece in told}
    pieces |= _cut(numbers, _SHORT_PIECE, len(of_der) + len(of_pem))
    return pieces, of_der + of_pem + numbers


def _cut(forms: Iterable[str], length: int, first: int = 0) -> _Pieces:
    """Give each piece with the forms that have it, counted from the first, and where it begins."""
    pieces: _Pieces = defaultdict(list)
    for number, form in enumerate(forms, first):
        for at in range(len(form) - length + 1):
            pieces[form[at : at + length]].append((number, at))
    return dict(pieces)


def _around(text: str, at: int, form: str, begun: int) -> tuple[int, int]:
    """Give how far a text and a form agree, around a place where they do."""
    behind = zip(text[at : at + len(form)], form[begun:], strict=False)
    before = zip(text[max(at - begun, 0) : at][::-1], form[:begun][::-1], strict=False)
    return at - _agreeing(before), at + _agreeing(behind)


def _agreeing(pairs: Iterable[tuple[str, str]]) -> int:
    number = 0
    for one, other in pairs:
        if one != other:
            break
        number += 1
    return number


def _unwrapped(words: str) -> tuple[str, list[int]]:
    """Give words without what wraps a key, in one alphabet, and where each character was."""
    words = _IN_ADDRESS.sub(lambda found: _OF_ADDRESS[found[0].upper()], words)
    places: list[int] = []
    end = 0
    for gap in _BETWEEN.finditer(words):
        places += range(end, gap.start())
        end = gap.end()
    places += range(end, len(words))
    return "".join(words[place] for place in places).translate(_STANDARD), places
