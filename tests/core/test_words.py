"""Sentences, secrets, and quoted words of services and programs."""

from __future__ import annotations

import base64
import errno
import os
import pickle
import socket
import ssl
import time
import unicodedata
from datetime import timedelta
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from hypothesis import assume, given
from hypothesis import strategies as st

from certferry.core.redaction import (
    LONGEST,
    MASK,
    Secret,
    may_be_a_secret,
    names_a_secret,
    quoted,
    quoted_code,
    quoted_id,
    speech,
)
from certferry.errors import _SYSTEM_SAYS, DeployError, system_words
from certferry.present.language import voice_in
from certferry.text import LINEAGE, Text, naming, own_words, verbatim
from certferry_sandbox.testing.certificates import make_key
from tests.core.strategies import NOW
from tests.support.quotations import QUOTATIONS, parts_of

# --- Sentences


def test_places_are_filled_after_translation() -> None:
    """The template is translated; names keep their places in any order."""
    text = Text("{domain} is at {target}", domain="img", target="qiniu")

    assert "qiniu 上的 img" == text.render({text.template: "{target} 上的 {domain}"}.__getitem__)


def test_texts_inside_texts_are_translated_too() -> None:
    """A sentence may contain another sentence, alone or in a list."""
    inner = Text("no answer")

    assert "A: NO ANSWER, NO ANSWER" == Text("a: {why}", why=[inner, inner]).render(
        lambda template: template.replace("a:", "A:").replace("no answer", "NO ANSWER")
    )


@pytest.mark.parametrize(
    ("duration", "words"),
    [
        (timedelta(days=29, hours=23), "29 days"),
        (timedelta(days=1), "1 day"),
        (timedelta(days=1, hours=5), "29 hours"),
        (timedelta(minutes=59), "59 minutes"),
        (timedelta(hours=1), "1 hour"),
        (timedelta(seconds=61), "61 seconds"),
        (timedelta(0), "0 seconds"),
        (timedelta(days=-3), "0 seconds"),
    ],
)
def test_durations_are_rounded_down(duration: timedelta, words: str) -> None:
    """The unit is the largest with at least two."""
    assert words == str(Text("{left}", left=duration))


def test_moments_are_in_utc() -> None:
    """A moment names its zone."""
    assert "2026-11-24 12:00 UTC" == str(Text("{at}", at=NOW))


def test_foreign_words_are_never_templates() -> None:
    """A server's message with braces is shown unchanged."""
    words = "bad {token} {"

    assert words == str(verbatim(words))


@given(st.text(min_size=1))
def test_text_of_a_secret_is_a_mask(value: str) -> None:
    """No conversion to text shows a secret."""
    secret = Secret(value)

    for shown in (str(secret), repr(secret), f"{secret:>8}", str(Text("{key}", key=secret))):
        assert "•••" == shown.strip()
    assert value == secret.reveal()
    with pytest.raises(TypeError):
        pickle.dumps(secret)


def test_secrets_compare_by_value() -> None:
    """Two references to the same value are the same secret."""
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert 1 == len({Secret("a"), Secret("a")})
    assert not Secret("")


def test_texts_compare_by_template_and_values() -> None:
    """The same sentence about the same things is the same value."""
    assert Text("{a}", a=1) == Text("{a}", a=1)
    assert Text("{a}", a=1) != Text("{a}", a=2)
    assert Text("{a}", a=1) != "1"
    assert 1 == len({Text("{a}", a=1), Text("{a}", a=1)})
    assert "Text('1')" == repr(Text("{a}", a=1))


def test_name_of_a_lineage_that_is_filled_in_later() -> None:
    """The text reads as in a help until the caller fills in the name, at any depth."""
    advice = Text("run `certferry sync --renew {lineage}`", lineage=LINEAGE)
    hint = Text("{advice}; {request}", advice=advice, request="X-Reqid 1")

    assert "run `certferry sync --renew NAME`; X-Reqid 1" == str(hint)
    assert "run `certferry sync --renew img`; X-Reqid 1" == str(naming(hint, "img"))


def test_error_of_a_package_gets_the_name_too() -> None:
    """Its constructor may take any arguments; the raised error stays unchanged."""

    class OutOfCoins(DeployError):
        def __init__(self, coins: int, needed: int) -> None:
            super().__init__(
                Text("{coins} coins are too few", coins=coins),
                hint=Text("run `certferry sync {lineage}`", lineage=LINEAGE),
            )
            self.needed = needed

    error = OutOfCoins(1, 2)
    named = error.about("img")

    assert isinstance(named, OutOfCoins)
    assert ("1 coins are too few", 2, error.retry) == (str(named), named.needed, named.retry)
    assert ("run `certferry sync img`", "run `certferry sync NAME`") == (
        str(named.hint),
        str(error.hint),
    )


# --- Quotations of a service: short, harmless, and free of possible keys


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
    """An operator needs names, pages, codes, moments and ids."""
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
    """In any spelling of a key, at most nine characters in a row are left."""
    spelt_key = _spellings_of_a_key()[spelling]

    shown = quoted(f"bad input: {spelt_key} (see the manual)")

    assert not any(spelt_key[n : n + 10] in shown for n in range(len(spelt_key) - 10))
    assert shown.startswith("bad input: ")


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
    """Each usual spelling of the secret is masked."""
    assert f"no such token: {MASK}." == quoted(f"no such token: {shown}.", [TOKEN])


@given(st.text())
def test_whatever_is_said(words: str) -> None:
    """The quotation is a short line without control characters or changes of direction."""
    shown = quoted(words)

    assert len(shown) <= LONGEST
    assert not {unicodedata.category(c) for c in shown} & {"Cc", "Cf", "Cs", "Zl", "Zp"}


OF_AN_ID = 12


@given(
    st.binary(min_size=10), st.sampled_from(["{}", "({}): no", "key={}", "https://x.example/{}"])
)
def test_digits_of_a_key(raw: bytes, around: str) -> None:
    """From twenty digits on all are masked. Twelve bytes alone are left, since Qiniu writes the id
    of a certificate so, and every key is longer.
    """
    assume(len(raw) != OF_AN_ID)
    shown = quoted(around.format(raw.hex()))

    assert raw.hex() not in shown
    assert MASK in shown


@pytest.mark.parametrize("way", sorted(QUOTATIONS))
def test_key_in_the_words_of_a_target(way: str) -> None:
    """Every spelling of an unknown key is masked."""
    spelt_key = QUOTATIONS[way](make_key().reveal())

    shown = speech(f"bad input: {spelt_key} (see the manual)")

    assert [] == [part for part in parts_of(spelt_key) if part in shown]


@given(st.text(max_size=40))
def test_masked_words_of_a_target_are_masked_again(words: str) -> None:
    """The account's memory stores masked words and reads them again."""
    assert speech(words).split() == speech(speech(words)).split()


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        ("the origin img.example.com is not found", "the origin img.example.com is not found"),
        ("证书与私钥不匹配,请重新上传", "证书与私钥不匹配,请重新上传"),
        ("should more than 30 days", "should more than 30 days"),
        ("domain have no icp", "domain have no icp"),
        ("certID 5f8a1b2c3d4e5f6a7b8c9d0e not found", "••• ••• not found"),
        ("x509: signed by unknown authority", "•••: signed by unknown authority"),
    ],
)
def test_speech_of_a_target(answer: str, shown: str) -> None:
    """Sentences stay, with a mask for each non-word."""
    assert shown == speech(answer)


def test_very_long_words() -> None:
    """For twelve megabytes only the beginning is read."""
    begun = time.perf_counter()

    shown = quoted("ab-" * 4_000_000 + "!")

    assert len(shown) <= LONGEST
    assert time.perf_counter() - begun < 1


@pytest.mark.parametrize(
    ("identifier", "shown"),
    [("V-0AAAC9kXb1mXkX", "V-0AAAC9kXb1mXkX"), ("a b", ""), ("\x1b[31m", ""), ("x" * 65, "")],
)
def test_id_of_a_request(identifier: str, shown: str) -> None:
    """The id must be a single word."""
    assert shown == quoted_id(identifier)


@pytest.mark.parametrize(
    "code",
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
def test_code_of_an_answer(code: str) -> None:
    """Codes of words and numbers stay, to be searched for."""
    assert code == quoted_code(code)


@pytest.mark.parametrize("spelling", range(len(_spellings_of_a_key())))
def test_key_in_the_place_of_a_code(spelling: int) -> None:
    """A code is stored for ever, so a possible or known key is left out."""
    assert "" == quoted_code(_spellings_of_a_key()[spelling])
    assert "" == quoted_code("correct-horse", [Secret("correct-horse")])
    assert "•••" == quoted_id("correct-horse", [Secret("correct-horse")])


def test_what_is_kept_for_ever() -> None:
    """Our own words and the code are stored, and words of services are left out at any depth."""
    answer = Text("{code} {words}", code=400611, words=quoted("bad PEM"))
    sentence = Text(
        "Qiniu refused {what} ({said}); {all}", what=Text("x"), said=answer, all=[answer]
    )

    assert "Qiniu refused x (400611 bad PEM); 400611 bad PEM" == str(sentence)
    assert "Qiniu refused x (400611 …); 400611 …" == str(own_words(sentence))


# --- Failures of the operating system, in the reader's language


ZH = voice_in("zh")
NOWHERE = "certferry.invalid"  # RFC 6761 section 6.4


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOENT, errno.ENOSPC, errno.ECONNREFUSED])
def test_known_errors_of_the_system(number: int) -> None:
    """In English the words are the system's own, to be searched for; in Chinese they are
    Chinese.
    """
    words = system_words(OSError(number, os.strerror(number), "some/file"))

    assert os.strerror(number) == str(words)
    assert not ZH.say(words).isascii()


def test_words_are_spelt_as_the_system_spells_them() -> None:
    """A misspelt sentence would never be translated."""
    spoken = {os.strerror(number) for number in errno.errorcode}

    assert {
        "Name or service not known",
        "Temporary failure in name resolution",
        "No address associated with hostname",
    } == _SYSTEM_SAYS.keys() - spoken


def test_name_that_does_not_exist() -> None:
    """The resolver has error numbers of its own."""
    with pytest.raises(socket.gaierror) as raised:
        socket.getaddrinfo(NOWHERE, 443, flags=socket.AI_NUMERICHOST)

    assert "未知的名称或服务" == ZH.say(system_words(raised.value))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"), "[SSL: WRONG_"),
        (TimeoutError("timed out"), "timed out"),
        (ConnectionError(), "ConnectionError"),
        (ValueError("a secret"), "ValueError"),
    ],
    ids=["another table's number", "no number", "nothing at all", "not the system's"],
)
def test_other_errors_keep_their_words(error: Exception, words: str) -> None:
    """A foreign number is not interpreted, and the text is never empty."""
    shown = system_words(error)

    assert verbatim(str(shown)) == shown
    assert str(shown).startswith(words)
    assert str(shown) == ZH.say(shown)


# --- Names and values of secrets


@pytest.mark.parametrize(
    "name",
    [
        *("DP_Key", "QINIU_SECRET_KEY", "LB_TOKEN", "DB_PASSWORD", "PGPASSWORD", "KEY", "tokens"),
        *("MYSQL_PWD", "SSHPASS", "SMTP_PASS", "BORG_PASSPHRASE", "GOOGLE_CREDENTIALS_JSON"),
        *(
            "APIKEY",
            "userApiKey",
            "SOME_SecretKey",
            "AWS_ACCESS_KEY_ID",
            "GITHUBTOKEN",
            "DB_PASSWD_2",
        ),
    ],
)
def test_names_that_reveal(name: str) -> None:
    """The usual words, in any case, among the words of a name."""
    assert names_a_secret(name)


@pytest.mark.parametrize(
    "name",
    [
        "LANG",
        "KEYBOARD",
        "XKB_KEYMAP_X",
        "MONKEY",
        "TOKENIZERS_PARALLELISM",
        "PWD",
        "OLDPWD",
        "PATH",
    ],
)
def test_names_without_a_secret(name: str) -> None:
    """Here the usual word is only a part of another word."""
    assert not names_a_secret(name)


@pytest.mark.parametrize(
    ("value", "may"),
    [
        *(("production", False), ("20261125", False), ("k3y", False), (" " * 20, False)),
        *(("hunter22", True), ("abcdefghijkl", True), ("123456789012", True)),
    ],
)
def test_values_that_may_be_secrets(value: str, may: bool) -> None:  # noqa: FBT001 - from the table
    """Ordinary words, dates and blanks are excluded."""
    assert may is may_be_a_secret(value)
