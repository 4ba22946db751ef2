"""A known private key in words that do not show it as PEM: in base64 of any kind however wrapped,
in hexadecimal digits, or as bytes; as PKCS#8 or as OpenSSL's own form, whole or a part.
"""

from __future__ import annotations

import base64
import itertools
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

from cryptography.exceptions import UnsupportedAlgorithm
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

_BETWEEN = re.compile(r"(?:\\[nr]|[\s:=])+")  # what wraps a key, fills it up, or parts its bytes
_STANDARD = str.maketrans("-_", "+/")  # from the alphabet of URLs (RFC 4648 §5)
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
    forms = list(_in_words(_private(key)))
    pieces = _pieces(forms)
    for public in _pieces(_in_words(_public(key))):  # a certificate has these too
        pieces.pop(public, None)
    text, places = _unwrapped(words)
    at = 0
    while at <= len(text) - _PIECE:
        found = pieces.get(text[at : at + _PIECE])
        if found is None:
            at += 1
            continue
        # What is public goes along where it stands beside what is not.
        around = [_around(text, at, forms[number], begun) for number, begun in found]
        start, end = min(a for a, _ in around), max(b for _, b in around)
        yield places[start], places[end - 1] + 1
        at = end - _PIECE + 1


def _key(privkey_pem: Secret) -> PrivateKeyTypes:
    pem = privkey_pem.reveal().replace("\\n", "\n").encode(errors="surrogatepass")
    # Whether an RSA key is sound is not asked: that takes up to a third of a second.
    return load_pem_private_key(pem, None, unsafe_skip_rsa_key_validation=True)


def _private(key: PrivateKeyTypes) -> Iterator[bytes]:
    for kind in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL):
        for encoding in (Encoding.DER, Encoding.PEM):
            try:
                yield key.private_bytes(encoding, kind, NoEncryption())
            except ValueError:  # Ed25519 has no other form
                continue


def _public(key: PrivateKeyTypes) -> Iterator[bytes]:
    for encoding in (Encoding.DER, Encoding.PEM):
        yield key.public_key().public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)


def _in_words(forms: Iterable[bytes]) -> Iterator[str]:
    for data in forms:
        for before, foreign in _BEFORE:
            yield _unwrapped(base64.b64encode(bytes(before) + data).decode()[foreign:])[0]
        for said in (data.hex(), data.hex().upper(), data.decode(errors="surrogateescape")):
            yield _unwrapped(said)[0]


def _pieces(forms: Iterable[str]) -> dict[str, list[tuple[int, int]]]:
    """Give each piece with the forms that have it, and where it begins there."""
    pieces: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for number, form in enumerate(forms):
        for at in range(len(form) - _PIECE + 1):
            pieces[form[at : at + _PIECE]].append((number, at))
    return dict(pieces)


def _around(text: str, at: int, form: str, begun: int) -> tuple[int, int]:
    """Give how far a text and a form agree, around a place where they do."""
    back = _agreeing(reversed(text[:at]), reversed(form[:begun]))
    return at - back, at + _agreeing(text[at:], form[begun:])


def _agreeing(one: Iterable[str], other: Iterable[str]) -> int:
    pairs = zip(one, other, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def _unwrapped(words: str) -> tuple[str, list[int]]:
    """Give words without what wraps a key, in one alphabet, and where each character was."""
    places: list[int] = []
    end = 0
    for gap in _BETWEEN.finditer(words):
        places += range(end, gap.start())
        end = gap.end()
    places += range(end, len(words))
    return "".join(words[place] for place in places).translate(_STANDARD), places
