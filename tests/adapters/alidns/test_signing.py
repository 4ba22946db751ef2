"""The RPC signature: the vendor's own examples and SDK, and an implementation apart from both."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from urllib.parse import parse_qsl, urlsplit

from aliyunsdkcore.auth.composer.rpc_signature_composer import get_signed_url
from hypothesis import given
from hypothesis import strategies as st

from certferry.adapters.alidns.dns import common, form, new_nonce, signature
from certferry.core.secret import Secret
from certferry_sandbox.alidns.wire import expected_signature, read_form

# Both are in the vendor's documents, with the key testid / testsecret.
DESCRIBE_REGIONS = (
    "Timestamp=2016-02-23T12:46:24Z&Format=XML&AccessKeyId=testid&Action=DescribeRegions"
    "&SignatureMethod=HMAC-SHA1&SignatureNonce=3ee8c1b8-83d3-44af-a94f-4e0ad82fd6cf"
    "&Version=2014-05-26&SignatureVersion=1.0"
)
DESCRIBE_DOMAIN_RECORDS = (
    "Format=XML&AccessKeyId=testid&Action=DescribeDomainRecords&SignatureMethod=HMAC-SHA1"
    "&DomainName=example.com&SignatureNonce=f59ed6a9-83fc-473b-9cc6-99c95df3856e"
    "&SignatureVersion=1.0&Version=2015-01-09&Timestamp=2016-03-24T16:41:54Z"
)
SECRET = Secret("testsecret")

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def test_example_of_the_signature_page() -> None:
    """The one that every client of Alibaba Cloud is checked against."""
    params = dict(parse_qsl(DESCRIBE_REGIONS))

    assert "OLeaidS1JvxuMvnyHOwuJ+uX5qY=" == signature("GET", params, SECRET)


def test_example_of_the_dns_documents() -> None:
    """The one of Alibaba Cloud DNS itself."""
    params = dict(parse_qsl(DESCRIBE_DOMAIN_RECORDS))

    assert "uRpHwaSEt3J+6KQD//svCh/x+pI=" == signature("GET", params, SECRET)


@given(params=st.dictionaries(TEXTS.filter(bool), TEXTS, max_size=6), secret=TEXTS)
def test_any_parameters(params: dict[str, str], secret: str) -> None:
    """What the form says is what was signed, by an implementation apart from the client's."""
    sent = {**params, "Signature": ""}
    del sent["Signature"]
    pairs = read_form(form("POST", sent, Secret(secret)))

    told = dict(pairs)[b"Signature"].decode()
    assert told == expected_signature("POST", pairs, secret)[0]
    assert sent == {k.decode(): v.decode() for k, v in pairs if k != b"Signature"}


@given(params=st.dictionaries(TEXTS.filter(bool), TEXTS, max_size=6), secret=TEXTS)
def test_signature_is_the_sdks(params: dict[str, str], secret: str) -> None:
    """The vendor's own: its URL, with a moment and a number that it chooses, signed once more."""
    params.pop("Signature", None)  # what it signs cannot hold a signature
    url, _ = get_signed_url(params, "testid", secret, "JSON", "POST", {})
    sent = dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))

    assert sent.pop("Signature") == signature("POST", sent, Secret(secret))


def test_moment_is_told_in_utc() -> None:
    """Whatever zone the clock is in."""
    moment = datetime(2026, 11, 24, 20, 0, 5, tzinfo=timezone(timedelta(hours=8)))

    assert "2026-11-24T12:00:05Z" == common("id", now=moment, nonce="n")["Timestamp"]
    assert datetime(2026, 11, 24, 12, 0, 5, tzinfo=UTC) == moment


def test_number_that_is_taken_once_never_comes_again() -> None:
    """A second request with it would be refused."""
    assert 100 == len({new_nonce() for _ in range(100)})
