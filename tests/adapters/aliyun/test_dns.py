"""Alibaba Cloud DNS: the requests, the errors, and the signature."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from urllib.parse import parse_qsl, urlsplit

import pytest
from aliyunsdkcore.auth.composer.rpc_signature_composer import get_signed_url
from hypothesis import given
from hypothesis import strategies as st

from certferry.adapters.aliyun.dns import VERSION
from certferry.adapters.aliyun.rpc import common, form, new_nonce, signature
from certferry.core.redaction import Secret
from certferry.errors import (
    ConfigError,
    DnsAccessDenied,
    DnsError,
    DnsRejected,
    DnsUnavailable,
    Retry,
)
from certferry.ports.dns import DnsProvider
from certferry_sandbox.aliyun.gateway import expected_signature, read_form
from certferry_sandbox.faults import Fault
from tests.adapters.aliyun.account import KEY_ID, KEY_SECRET, AlidnsAccount, alidns_account

# --- Alibaba Cloud DNS as a provider


NAME = "_acme-challenge.img.example.com"


@pytest.fixture
def account() -> Iterator[AlidnsAccount]:
    with alidns_account() as account:
        account.add_zone("example.com")
        yield account


@pytest.fixture
def provider(account: AlidnsAccount) -> DnsProvider:
    return account.connect()


def test_record_is_a_plain_txt_on_the_default_line(
    account: AlidnsAccount, provider: DnsProvider
) -> None:
    """The value is sent unquoted, with the smallest TTL of the free plan."""
    provider.add_txt(NAME, "gfj9Xq-_Rg85nM")

    [create] = account.service.calls("AddDomainRecord")
    wanted = {"DomainName": "example.com", "RR": "_acme-challenge.img", "Type": "TXT"}
    assert {**wanted, "Value": "gfj9Xq-_Rg85nM", "TTL": "600"}.items() <= create.params.items()
    assert ["DescribeDomains", "AddDomainRecord", "DescribeDomainRecordInfo"] == account.calls()


def test_every_attempt_has_a_new_signature(account: AlidnsAccount, provider: DnsProvider) -> None:
    """The service refuses a repeated nonce, and a lost attempt may have used its nonce."""
    account.service.faults.add(Fault.reset_after(), on="DescribeDomains", times=2)

    provider.add_txt(NAME, "value")

    nonces = [call.params["SignatureNonce"] for call in account.service.calls("DescribeDomains")]
    assert 3 == len(set(nonces))


@pytest.mark.parametrize("code", ["Throttling", "Throttling.User", "Throttling.Api"])
@pytest.mark.parametrize("action", ["DescribeDomains", "AddDomainRecord", "DeleteDomainRecord"])
def test_throttled_call_is_repeated(
    account: AlidnsAccount, provider: DnsProvider, action: str, code: str
) -> None:
    """Throttling is a refusal: the service did nothing, so even a write may be repeated."""
    account.service.answer_next(action, code, "Request was denied due to user flow control.")

    provider.remove_txt(NAME, "value", provider.add_txt(NAME, "value"))

    assert [] == account.values(NAME)
    assert 2 == len(account.calls(action))


def test_throttling_that_lasts_is_left_to_the_next_run(
    account: AlidnsAccount, provider: DnsProvider
) -> None:
    """After four attempts the call fails with a hint."""
    account.service.answer_next("AddDomainRecord", "Throttling.User", times=99)

    with pytest.raises(DnsUnavailable, match="Throttling") as limited:
        provider.add_txt(NAME, "value")

    assert Retry.LATER == limited.value.retry
    assert "too many calls" in str(limited.value.hint)
    assert 4 == len(account.calls("AddDomainRecord"))


def test_international_domain_is_found_by_its_a_labels(
    account: AlidnsAccount, provider: DnsProvider
) -> None:
    """The account lists the domain in Unicode."""
    account.add_zone("例子.com")

    handle = provider.add_txt("_acme-challenge.xn--fsqu00a.com", "value")

    assert ["value"] == account.values("_acme-challenge.xn--fsqu00a.com")
    assert account.connect().remove_txt("_acme-challenge.xn--fsqu00a.com", "value", handle)


@pytest.mark.parametrize("reported", ['"\\ud800"', '"a\\u0000b"', '""', "null", "{}"])
def test_domain_with_an_unusable_name_in_the_list(
    account: AlidnsAccount, provider: DnsProvider, reported: str
) -> None:
    """The A-labels replace a name that is empty, a lone surrogate, or of another type."""
    domain = f'{{"DomainName":{reported},"PunyCode":"example.com"}}'
    body = f'{{"TotalCount":1,"Domains":{{"Domain":[{domain}]}}}}'
    account.service.faults.add(Fault.status(200, body.encode()), on="DescribeDomains")

    provider.add_txt(NAME, "value")

    assert ["value"] == account.values(NAME)


def test_disabled_record_is_an_error(account: AlidnsAccount, provider: DnsProvider) -> None:
    """Name servers hide a disabled record, so a wait for the value would end in a timeout."""
    account.zones.create(NAME, "TXT", "value", enabled=False)

    with pytest.raises(DnsRejected, match="switched off"):
        provider.add_txt(NAME, "value")


@pytest.mark.parametrize(
    ("code", "error", "advice"),
    [
        ("InvalidAccessKeyId.NotFound", DnsAccessDenied, "the AccessKey does not exist"),
        ("InvalidAccessKeyId.Inactive", DnsAccessDenied, "is disabled"),
        ("SignatureDoesNotMatch", DnsAccessDenied, "does not belong to"),
        ("InvalidSecurityToken.Expired", DnsAccessDenied, "temporary key"),
        ("MissingSecurityToken", DnsAccessDenied, "temporary key"),
        ("Forbidden", DnsAccessDenied, "AliyunDNSFullAccess"),
        ("Forbidden.RAM", DnsAccessDenied, "AliyunDNSFullAccess"),
        ("NoPermission", DnsAccessDenied, "AliyunDNSFullAccess"),
        ("Forbidden.RiskControl", DnsAccessDenied, "notices"),
        ("Forbidden.DomainLocked", DnsRejected, "check the domain"),
        ("DomainRecordConflict", DnsRejected, "CNAME"),
        ("QuotaExceeded.Record", DnsRejected, "plan"),
        ("QuotaExceeded.TTL", DnsRejected, "plan"),
        ("InvalidTimeStamp.Expired", DnsRejected, "clock"),
        ("IncorrectDomainUser", DnsRejected, "check the domain"),
        ("SomethingNew", DnsRejected, "check the domain"),
    ],
)
def test_refusal_carries_code_words_and_advice(
    account: AlidnsAccount, provider: DnsProvider, code: str, error: type[DnsError], advice: str
) -> None:
    """The error names the domain, the call, the reason and the remedy; the write is sent once."""
    account.service.answer_next("AddDomainRecord", code, "their words")

    with pytest.raises(error) as refused:
        provider.add_txt(NAME, "value")

    expected = f"{NAME}: Alibaba Cloud DNS answered AddDomainRecord with code {code}: their words"
    assert expected == str(refused.value.message)
    assert advice in str(refused.value.hint)
    assert Retry.NEVER == refused.value.retry
    assert ["DescribeDomains", "AddDomainRecord"] == account.calls()


@pytest.mark.parametrize("code", ["UnKnownError", "InternalError"])
def test_code_of_an_uncertain_write_starts_a_search(
    account: AlidnsAccount, provider: DnsProvider, code: str
) -> None:
    """The codes arrive with status 400, although the service may have written the record."""
    account.service.answer_next("AddDomainRecord", code, does_the_work=True)

    provider.add_txt(NAME, "value")

    assert ["value"] == account.values(NAME)
    assert 1 == len(account.calls("AddDomainRecord"))


def test_unavailable_service_is_left_to_the_next_run(
    account: AlidnsAccount, provider: DnsProvider
) -> None:
    """The error quotes the service."""
    account.service.answer_next("DescribeDomains", "ServiceBusy", status=503, times=9)

    with pytest.raises(DnsUnavailable, match="ServiceBusy") as lost:
        provider.add_txt(NAME, "value")

    assert Retry.LATER == lost.value.retry
    assert lost.value.hint is not None


def test_clock_of_this_host_is_wrong(account: AlidnsAccount) -> None:
    """The service refuses requests whose timestamp is more than 15 minutes off."""
    provider = account.connect(late=timedelta(minutes=16))

    with pytest.raises(DnsRejected, match=r"InvalidTimeStamp\.Expired") as refused:
        provider.add_txt(NAME, "value")

    assert "clock of this host" in str(refused.value.hint)


def test_wrong_secret_is_reported_without_the_key_id(account: AlidnsAccount) -> None:
    """The service quotes the signed string, which contains the key's id; certferry hides the id."""
    with pytest.raises(DnsAccessDenied, match="SignatureDoesNotMatch") as denied:
        account.connect(access_key_secret=Secret("0" * 30)).add_txt(NAME, "value")

    assert "server string to sign" in str(denied.value)
    assert KEY_ID not in str(denied.value)
    assert "does not belong to `access_key_id`" in str(denied.value.hint)


def test_unknown_key(account: AlidnsAccount) -> None:
    """An unknown key and a wrong secret have different errors."""
    with pytest.raises(DnsAccessDenied, match=r"InvalidAccessKeyId\.NotFound"):
        account.connect(access_key_id=Secret("LTAI5tNobody")).add_txt(NAME, "value")


@pytest.mark.parametrize(
    ("code", "words"), [("SomethingNew", f"bad: {KEY_SECRET}"), (KEY_SECRET, "bad")]
)
def test_errors_hide_the_secret(
    account: AlidnsAccount, provider: DnsProvider, code: str, words: str
) -> None:
    """The service may repeat the secret in its message or in place of the code."""
    account.service.answer_next("AddDomainRecord", code, words)

    with pytest.raises(DnsRejected) as refused:
        provider.add_txt(NAME, "value")

    assert KEY_SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("key_id", "secret", "words", "advice"),
    [
        ("STS.NTdefghijk", "s" * 30, "temporary key", "RAM user"),
        ("AKIDz8krbsJ5yKBZQpn74WFkmLPx3gnPhESA", "s" * 32, "Tencent Cloud", "ram.console"),
        ("s" * 30, KEY_ID, "id of an AccessKey", "`access_key_id`"),
        ("", "s", "empty", "ram.console"),
        (KEY_ID, " ", "empty", "ram.console"),
    ],
    ids=["sts", "tencent", "swapped", "no-id", "no-secret"],
)
def test_wrong_kind_of_key_is_reported_before_the_first_request(
    account: AlidnsAccount, key_id: str, secret: str, words: str, advice: str
) -> None:
    """The error identifies the kind of key, and the hint says where to create the right key."""
    with pytest.raises(ConfigError, match=words) as wrong:
        account.connect(access_key_id=Secret(key_id), access_key_secret=Secret(secret))

    assert advice in str(wrong.value.hint)
    assert [] == account.calls()


def test_whitespace_around_a_key_is_removed(account: AlidnsAccount) -> None:
    """Copied keys and files often end with whitespace."""
    provider = account.connect(
        access_key_id=Secret(f" {KEY_ID}\n"), access_key_secret=Secret(f"{KEY_SECRET}\n")
    )

    assert provider.add_txt(NAME, "value")


@pytest.mark.parametrize("total", [b"1e999", b'"many"', b"999999999"])
def test_endless_list(account: AlidnsAccount, provider: DnsProvider, total: bytes) -> None:
    """The search gives up a list that always announces another domain."""
    for number in range(201):
        domain = b'{"DomainName":"a%d.example"}' % number
        body = b'{"TotalCount":%s,"Domains":{"Domain":[%s]}}' % (total, domain)
        account.service.faults.add(Fault.status(200, body), on="DescribeDomains")

    with pytest.raises(DnsUnavailable, match="never ends"):
        provider.add_txt(NAME, "value")

    assert 200 == len(account.calls())


@pytest.mark.parametrize("second", [b"", b'{"DomainName":"a.example"}'], ids=["empty", "the same"])
def test_incomplete_list(account: AlidnsAccount, provider: DnsProvider, second: bytes) -> None:
    """A page without new entries, before the announced total, is an error."""
    for domains in (b'{"DomainName":"a.example"}', second):
        body = b'{"TotalCount":3,"Domains":{"Domain":[%s]}}' % domains
        account.service.faults.add(Fault.status(200, body), on="DescribeDomains")

    with pytest.raises(DnsUnavailable, match="never ends"):
        provider.add_txt(NAME, "value")

    assert 2 == len(account.calls())


# --- The RPC signature: checked against the vendor's examples, the vendor's SDK, and an independent
# implementation


# The vendor's documents contain both examples, with the key testid / testsecret.
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


def test_example_of_the_signature_documentation() -> None:
    """Every client of Alibaba Cloud is checked against this example."""
    params = dict(parse_qsl(DESCRIBE_REGIONS))

    assert "OLeaidS1JvxuMvnyHOwuJ+uX5qY=" == signature("GET", params, SECRET)


def test_example_of_the_dns_documentation() -> None:
    """Alibaba Cloud DNS documents its own example."""
    params = dict(parse_qsl(DESCRIBE_DOMAIN_RECORDS))

    assert "uRpHwaSEt3J+6KQD//svCh/x+pI=" == signature("GET", params, SECRET)


@given(params=st.dictionaries(TEXTS.filter(bool), TEXTS, max_size=6), secret=TEXTS)
def test_any_parameters(params: dict[str, str], secret: str) -> None:
    """An independent implementation finds the signature correct for the parameters of the form."""
    sent = {**params, "Signature": ""}
    del sent["Signature"]
    pairs = read_form(form("POST", sent, Secret(secret)))

    reported = dict(pairs)[b"Signature"].decode()
    assert reported == expected_signature("POST", pairs, secret)[0]
    assert sent == {k.decode(): v.decode() for k, v in pairs if k != b"Signature"}


@given(params=st.dictionaries(TEXTS.filter(bool), TEXTS, max_size=6), secret=TEXTS)
def test_signature_equals_the_sdks(params: dict[str, str], secret: str) -> None:
    """The SDK chooses a timestamp and a nonce; certferry signs the same parameters again."""
    params.pop("Signature", None)  # the SDK adds `Signature` to the parameters
    url, _ = get_signed_url(params, "testid", secret, "JSON", "POST", {})
    sent = dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))

    assert sent.pop("Signature") == signature("POST", sent, Secret(secret))


def test_timestamp_is_in_utc() -> None:
    """The clock may be in any time zone."""
    moment = datetime(2026, 11, 24, 20, 0, 5, tzinfo=timezone(timedelta(hours=8)))

    assert "2026-11-24T12:00:05Z" == common("id", VERSION, now=moment, nonce="n")["Timestamp"]
    assert datetime(2026, 11, 24, 12, 0, 5, tzinfo=UTC) == moment


def test_nonces_are_unique() -> None:
    """The service refuses a second request with the same nonce."""
    assert 100 == len({new_nonce() for _ in range(100)})
