"""What is quoted of a service: short, harmless, and without anything that could be a key."""

from __future__ import annotations

import base64
import time
import unicodedata
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from hypothesis import assume, given
from hypothesis import strategies as st

from certferry.core.redaction import LONGEST, quoted, quoted_code, quoted_id
from certferry.core.secret import MASK, Secret
from certferry.text import Text, own_words
from certferry_sandbox.testing.certificates import make_key

TOKEN = Secret("correct horse, 1")
"""A secret that looks like words."""


@pytest.mark.parametrize(
    "words",
    [
        "Failed authorization: DNS problem: NXDOMAIN for TXT of _acme-challenge.example.com",
        "see https://letsencrypt.org/docs/failed-authorization-limit/#new-orders-per-account",
        "too many certificates for xn--a-very-long-label-indeed-0123456789.img.example.com: 5",
        "urn:ietf:params:acme:error:externalAccountRequired",
        "retry after 2026-11-27T03:04:05Z, or 2026-11-27 03:04:05 UTC",
        "FailedOperation.DomainOwnedByOtherAccount",
        "RequestId 4F2C0E51-9E6B-4A0B-8C5A-1B6A8E0E0C11",
        "2001:db8:0:1:1:1:1:1 and 192.0.2.1 refused",
        "证书与私钥不匹配,请检查后重新上传,或者在控制台中选择其他证书进行绑定操作",
        "certID 5f8a1b2c3d4e5f6a7b8c9d0e not found",
        "https://acme-v02.api.letsencrypt.org/acme/authz/1234567/98765432109",
        "域名cdn-2x9f7shanghai-node01.example.com不存在",
        "account-level quota_of_certificates reached: 1000/1000",
    ],
)
def test_words_of_every_day_stay(words: str) -> None:
    """Names, pages, codes, moments and ids are what an operator needs."""
    assert words == quoted(words)


def _spellings_of_a_key() -> list[str]:
    pem = make_key().reveal()
    key = serialization.load_pem_private_key(pem.encode(), password=None)
    assert isinstance(key, EllipticCurvePrivateKey)
    number = key.private_numbers().private_value
    raw = number.to_bytes(32)
    body = [line for line in pem.splitlines() if not line.startswith("-----")]
    return [
        *body,
        " ".join(body),
        "\n".join(body),
        base64.b64decode("".join(body)).hex(),
        ":".join(f"{byte:02x}" for byte in raw),
        " ".join(f"{byte:02X}" for byte in raw),
        str(number),
        base64.urlsafe_b64encode(raw).decode(),
        quote("".join(body), safe=""),
        pem,
    ]


@pytest.mark.parametrize("spelling", range(len(_spellings_of_a_key())))
def test_key_that_is_not_known(spelling: int) -> None:
    """However a service quotes one, not ten characters of it in a row are left."""
    written = _spellings_of_a_key()[spelling]

    said = quoted(f"bad input: {written} (see the manual)")

    assert not any(written[n : n + 10] in said for n in range(len(written) - 10))
    assert said.startswith("bad input: ")


@pytest.mark.parametrize(
    "shown",
    [
        TOKEN.reveal(),
        base64.b64encode(TOKEN.reveal().encode()).decode(),
        TOKEN.reveal().encode().hex(),
        quote(TOKEN.reveal()),
        "correct+horse%2C+1",
    ],
)
def test_secret_that_is_known(shown: str) -> None:
    """In each of its usual spellings."""
    assert f"no such token: {MASK}." == quoted(f"no such token: {shown}.", [TOKEN])


@given(st.text())
def test_whatever_is_said(words: str) -> None:
    """One short line that controls and turns nothing, and has no run of a key's characters."""
    said = quoted(words)

    assert len(said) <= LONGEST
    assert not {unicodedata.category(c) for c in said} & {"Cc", "Cf", "Cs", "Zl", "Zp"}


OF_AN_ID = 12


@given(
    st.binary(min_size=10), st.sampled_from(["{}", "({}): no", "key={}", "https://x.example/{}"])
)
def test_digits_of_a_key(raw: bytes, around: str) -> None:
    """From twenty on nothing of them is left, wherever they stand; twelve bytes by themselves are
    written as Qiniu writes the id of a certificate, and no key is that short.
    """
    assume(len(raw) != OF_AN_ID)
    said = quoted(around.format(raw.hex()))

    assert raw.hex() not in said
    assert MASK in said


def test_very_long_words() -> None:
    """Of twelve megabytes the beginning is looked at, and no more."""
    begun = time.perf_counter()

    said = quoted("ab-" * 4_000_000 + "!")

    assert len(said) <= LONGEST
    assert time.perf_counter() - begun < 1


@pytest.mark.parametrize(
    ("said", "shown"),
    [("V-0AAAC9kXb1mXkX", "V-0AAAC9kXb1mXkX"), ("a b", ""), ("\x1b[31m", ""), ("x" * 65, "")],
)
def test_id_of_a_request(said: str, shown: str) -> None:
    """Is one word, whatever it looks like."""
    assert shown == quoted_id(said)


@pytest.mark.parametrize(
    "said",
    [
        "81057",
        "-8",
        "rateLimited",
        "externalAccountRequired",
        "DomainRecordNotBelongToUser",
        "InvalidRecordId.NotFound",
        "InvalidParameter.LoginTokenValidateFailed",
        "OperationDenied.NoPermissionToOperateDomain",
    ],
)
def test_code_of_an_answer(said: str) -> None:
    """Words and numbers are told, and looked up."""
    assert said == quoted_code(said)


@pytest.mark.parametrize("spelling", range(len(_spellings_of_a_key())))
def test_key_in_the_place_of_a_code(spelling: int) -> None:
    """A code is kept for ever: what could be a key is none, and a known one is none."""
    assert "" == quoted_code(_spellings_of_a_key()[spelling])
    assert "" == quoted_code("correct-horse", [Secret("correct-horse")])
    assert "•••" == quoted_id("correct-horse", [Secret("correct-horse")])


def test_what_is_kept_for_ever() -> None:
    """Our own words and the code, wherever in the sentence another service's stand."""
    said = Text("{code} {words}", code=400611, words=quoted("bad PEM"))
    sentence = Text("Qiniu refused {what} ({said}); {all}", what=Text("x"), said=said, all=[said])

    assert "Qiniu refused x (400611 bad PEM); 400611 bad PEM" == str(sentence)
    assert "Qiniu refused x (400611 …); 400611 …" == str(own_words(sentence))
