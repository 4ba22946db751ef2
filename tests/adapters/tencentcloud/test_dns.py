"""Tencent Cloud's DNS: signatures, and the contract of DNS services."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tencentcloud.common.abstract_client import AbstractClient
from tencentcloud.common.credential import Credential

from certferry.adapters.dns.answers import MOST_PAGES
from certferry.adapters.dnspod.dnspod_client import DnspodRecords
from certferry.adapters.tencentcloud.tc3 import SignedCall, TencentKeys, authorization, timestamp
from certferry.core.redaction import Secret
from certferry.errors import (
    ConfigError,
    DnsAccessDenied,
    DnsError,
    DnsRejected,
    DnsUnavailable,
    Retry,
    ZoneNotFound,
)
from certferry_sandbox.faults import Fault
from certferry_sandbox.httpd import Headers, Request
from certferry_sandbox.tencentcloud.wire import Refused, signed_by
from tests.adapters.tencentcloud.account import (
    SECRET_ID,
    SECRET_KEY,
    TencentCloudAccount,
    tencentcloud_account,
)

# --- DNSPod through Tencent Cloud's API 3.0: the calls, and the meaning of each refusal


NAME = "_acme-challenge.img.example.com"


@pytest.fixture
def account() -> Iterator[TencentCloudAccount]:
    with tencentcloud_account() as account:
        account.service.add_domain("example.com")
        yield account


@pytest.fixture
def provider(account: TencentCloudAccount) -> DnspodRecords:
    return connected(account)


def connected(account: TencentCloudAccount) -> DnspodRecords:
    """Connect as another process would."""
    provider = account.connect()
    assert isinstance(provider, DnspodRecords)
    return provider


# the record


def test_record_is_a_plain_txt_on_the_default_line(
    account: TencentCloudAccount, provider: DnspodRecords
) -> None:
    """The call gives the domain's name and number, every site's id of the default line, and the raw
    value.
    """
    handle = provider.add_txt(NAME, "gfj9Xq-_Rg85nM")

    [record] = account.zones.records(name=NAME, rtype="TXT")
    [create] = account.service.calls("CreateRecord")
    [domain] = account.key.domains
    assert create.fields == {
        "Domain": "example.com",
        "DomainId": domain.id,
        "SubDomain": "_acme-challenge.img",
        "RecordType": "TXT",
        "RecordLine": "默认",
        "RecordLineId": "0",
        "Value": "gfj9Xq-_Rg85nM",
        "TTL": 600,
    }
    assert ("gfj9Xq-_Rg85nM", 600) == (record.value, record.ttl)
    assert f"{domain.id}|{record.id}" == handle


def test_another_process_reads_a_record_before_removing_it(
    account: TencentCloudAccount, provider: DnspodRecords
) -> None:
    """The process reads the record by id, because a list may lag, and then stops searching."""
    account.service.records.index_delay = 30.0
    handle = provider.add_txt(NAME, "value")
    before = len(account.actions())

    assert account.connect().remove_txt(NAME, "value", handle)
    assert ["DescribeDomainList", "DescribeRecord", "DeleteRecord"] == account.actions()[before:]
    assert [] == account.values(NAME)


def test_handle_of_another_type_of_record_removes_nothing(
    account: TencentCloudAccount, provider: DnspodRecords
) -> None:
    """A record of another type stays; so does a handle without a number."""
    [domain] = account.key.domains
    other = account.zones.create(NAME, "A", "192.0.2.1")

    for record_id in (str(other.id), "12x", ""):
        assert not provider.remove_txt(NAME, "value", f"{domain.id}|{record_id}")
    assert [other] == account.zones.records(name=NAME)


@pytest.mark.parametrize(
    ("grade", "min_ttl", "ttls"), [("DP_Plus", None, [60]), ("DP_Plus", 600, [60, 600])]
)
def test_ttl_of_each_plan(
    account: TencentCloudAccount,
    provider: DnspodRecords,
    grade: str,
    min_ttl: int | None,
    ttls: list[int],
) -> None:
    """The call is repeated once with a free plan's time to live, if the plan refuses the lowest."""
    account.service.add_domain("example.org", grade=grade, min_ttl=min_ttl)

    provider.add_txt("_acme-challenge.example.org", "value")

    assert ttls == [call.fields["TTL"] for call in account.service.calls("CreateRecord")]


@pytest.mark.parametrize("fault", [Fault.reset_after(), Fault.html(), Fault.truncated()])
def test_lost_answer_leaves_one_record(
    account: TencentCloudAccount, provider: DnspodRecords, fault: Fault
) -> None:
    """The record is looked up before a second call, so the name has a single record."""
    provider.zones()
    account.service.faults.add(fault, on="POST /*")

    provider.add_txt(NAME, "value")

    assert ["value"] == account.values(NAME)


def test_internal_error_after_a_change(
    account: TencentCloudAccount, provider: DnspodRecords
) -> None:
    """The service may have made the change despite the error, so the record is looked up."""
    account.service.answer_next("CreateRecord", "InternalError.DbError", does_the_work=True)

    handle = provider.add_txt(NAME, "value")

    assert ["value"] == account.values(NAME)
    account.service.answer_next("DeleteRecord", "InternalError", does_the_work=True)
    assert provider.remove_txt(NAME, "value", handle)


def test_reading_is_repeated_after_an_internal_error(
    account: TencentCloudAccount, provider: DnspodRecords
) -> None:
    """Reading is given up after three tries."""
    account.service.answer_next("DescribeDomainList", "InternalError", times=2)
    provider.add_txt(NAME, "value")

    account.service.answer_next("DescribeRecordList", "InternalError", times=3)
    with pytest.raises(DnsUnavailable, match="InternalError"):
        provider.remove_txt(NAME, "other", None)


@pytest.mark.parametrize("body", [b"", b"[]", b"[" * 100_000, b'{"Response": 1}', b"\xff"])
def test_unreadable_answer(
    account: TencentCloudAccount, provider: DnspodRecords, body: bytes
) -> None:
    """A read is repeated, then given up; a change is looked up before the next try."""
    account.service.faults.add(Fault.status(200, body), on="POST /*", times=3)
    with pytest.raises(DnsUnavailable, match=r"cannot be read \(HTTP status 200\)"):
        provider.add_txt(NAME, "value")
    provider.zones()

    account.service.faults.add(Fault.status(200, body), on="POST /*")
    provider.add_txt(NAME, "value")

    assert ["value"] == account.values(NAME)
    assert account.service.calls("DescribeRecordList")


def test_rate_limit_of_a_gateway(account: TencentCloudAccount, provider: DnspodRecords) -> None:
    """The change is repeated after the pause that the gateway asks for."""
    account.service.faults.add(Fault.too_many(retry_after=2), on="POST /*")

    provider.add_txt(NAME, "value")

    assert ["value"] == account.values(NAME)


def test_rate_limit_of_the_service(account: TencentCloudAccount, provider: DnspodRecords) -> None:
    """The refusal has status 200 and the call had no effect, so the call is repeated."""
    account.service.calls_per_second = 1
    for number in range(3):
        provider.add_txt(NAME, f"value-{number}")

    assert ["value-0", "value-1", "value-2"] == account.values(NAME)
    account.service.answer_next("CreateRecord", "RequestLimitExceeded", times=9)
    with pytest.raises(DnsUnavailable, match="RequestLimitExceeded"):
        provider.add_txt(NAME, "value-9")


# the zone


def test_zones_with_their_servers_and_problems(
    account: TencentCloudAccount, provider: DnspodRecords
) -> None:
    """The list is read in pages, and zones have A-labels."""
    account.service.records.page_limit = 2
    account.service.add_domain("示例.com", status="spam")
    account.service.add_domain("dev.example.com", status="pause")

    zones = {zone.name: zone.problem is None for zone in provider.zones()}

    assert {"example.com": True, "xn--fsq092h.com": False, "dev.example.com": False} == zones
    assert frozenset({"f1g1ns1.dnspod.net", "f1g1ns2.dnspod.net"}) == provider.name_servers(
        "example.com"
    )
    assert frozenset() == provider.name_servers("example.net")
    assert 2 == len(account.service.calls("DescribeDomainList"))


def test_account_without_domains(account: TencentCloudAccount) -> None:
    """The service answers with an error; certferry takes the answer as an empty list."""
    account.key.domains.clear()

    assert () == connected(account).zones()
    with pytest.raises(ZoneNotFound):
        account.connect().add_txt(NAME, "value")


def test_list_without_an_end_is_reported(account: TencentCloudAccount) -> None:
    """Reading stops after a number of pages."""
    account.service.records.page_limit = 1
    for number in range(MOST_PAGES + 1):
        account.service.add_domain(f"example{number}.net")

    with pytest.raises(DnsUnavailable, match="never ends"):
        account.connect().add_txt(NAME, "value")


# refusals


@pytest.mark.parametrize(
    ("code", "kind", "advice"),
    [
        ("InvalidParameterValue.DomainNotExists", ZoneNotFound, "set `dns`"),
        (
            "OperationDenied.NoPermissionToOperateDomain",
            ZoneNotFound,
            "set `dns`",
        ),
        ("FailedOperation.DomainIsLocked", DnsRejected, "unlock"),
        ("FailedOperation.DomainIsSpam", DnsRejected, "support"),
        ("FailedOperation.NotRealNamedUser", DnsRejected, "not verified"),
        ("LimitExceeded.SubdomainRollLimit", DnsRejected, "plan"),
        ("InvalidParameter.SubdomainInvalid", DnsRejected, "check the domain"),
        ("InvalidParameter.OperationIsTooFrequent", DnsUnavailable, "a few minutes"),
        ("InvalidParameter.AccountIsBanned", DnsAccessDenied, "banned"),
        ("InvalidParameter.RequestIpLimited", DnsAccessDenied, "address"),
        ("AuthFailure.TokenFailure", DnsAccessDenied, "temporary"),
        ("UnauthorizedOperation", DnsAccessDenied, "QcloudDNSPodFullAccess"),
    ],
)
def test_refusal_has_a_kind_and_a_hint(
    account: TencentCloudAccount,
    provider: DnspodRecords,
    code: str,
    kind: type[DnsError],
    advice: str,
) -> None:
    """The error names the code and the request."""
    account.service.answer_next("CreateRecord", code)

    with pytest.raises(kind, match=code) as refused:
        provider.add_txt(NAME, "value")

    assert advice in str(refused.value.hint)
    assert "(request -)" not in str(refused.value)
    assert [] == account.values(NAME)


@pytest.mark.parametrize("place", ["Code", "Message", "RequestId"])
def test_key_is_in_no_message(
    account: TencentCloudAccount, provider: DnspodRecords, place: str
) -> None:
    """The key is masked even if the service repeats it, in each field of the answer."""
    reported = {"Code": "LimitExceeded", "Message": "no", "RequestId": "a-1", place: SECRET_KEY}
    error = {"Code": reported["Code"], "Message": reported["Message"]}
    body = json.dumps({"Response": {"Error": error, "RequestId": reported["RequestId"]}})
    account.service.faults.add(Fault.status(200, body.encode()), times=None)

    with pytest.raises(DnsError) as refused:
        provider.add_txt(NAME, "value")

    assert SECRET_KEY not in f"{refused.value} {refused.value.hint}"


@pytest.mark.parametrize(
    "wrong", [{"secret_key": Secret("0" * 32)}, {"secret_id": Secret("AKIDunknown")}]
)
def test_refused_key_is_not_sent_again(
    account: TencentCloudAccount, wrong: dict[str, Secret]
) -> None:
    """The account is called once for three records; the hint names the other kind of key."""
    provider = account.connect(**wrong)

    for _ in range(3):
        with pytest.raises(DnsAccessDenied) as refused:
            provider.add_txt(NAME, "value")

    assert Retry.NEVER == refused.value.retry
    assert "type dnspod" in str(refused.value.hint)
    assert 1 == len(account.service.calls())


def test_key_of_the_other_site(account: TencentCloudAccount) -> None:
    """Each site knows its own keys only; the hint gives the other site's address."""
    with pytest.raises(DnsAccessDenied, match="SecretIdNotFound") as refused:
        account.connect(secret_id=Secret("IKIDabroad")).add_txt(NAME, "value")

    assert "https://dnspod.intl.tencentcloudapi.com" in str(refused.value.hint)


def test_read_only_key(
    account: TencentCloudAccount,
) -> None:
    """The key lists domains, and a change is refused."""
    account.key.reads_only = True

    with pytest.raises(DnsAccessDenied, match="UnauthorizedOperation"):
        account.connect().add_txt(NAME, "value")


@pytest.mark.parametrize("ahead", [timedelta(minutes=6), -timedelta(hours=1)])
def test_wrong_clock_is_not_blamed_on_the_key(
    account: TencentCloudAccount, provider: DnspodRecords, ahead: timedelta
) -> None:
    """The service accepts a signature for five minutes; the difference of the clocks needs no
    key.
    """
    account.ahead = ahead

    with pytest.raises(DnsRejected, match="SignatureExpire") as refused:
        provider.add_txt(NAME, "value")

    assert "clock" in str(refused.value.hint)
    assert -ahead == provider.clock_ahead()
    account.ahead = timedelta(0)
    provider.add_txt(NAME, "value")


def test_unreachable_service_is_reported(account: TencentCloudAccount) -> None:
    """Reading the clock, a change and a first call each report the service."""
    provider, another = connected(account), account.connect()
    provider.zones()
    account.service.stop()

    with pytest.raises(DnsUnavailable, match="the time"):
        provider.clock_ahead()
    with pytest.raises(DnsUnavailable, match=NAME):
        provider.add_txt(NAME, "value")
    with pytest.raises(DnsUnavailable):
        another.add_txt(NAME, "value")


# the settings


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        ({"secret_id": Secret("13490")}, 'type = "dnspod"'),
        ({"secret_id": Secret("13490,6b5976c68aba5b14a0558b77c17c3932")}, 'type = "dnspod"'),
        ({"secret_id": Secret("LTAI5tabcdefghijklmnopqr")}, "begins with AKID"),
        ({"secret_key": Secret(f"AKID{'a1' * 16}")}, "32 characters"),
        ({"secret_key": Secret(f"IKID{'a1' * 16}")}, "32 characters"),
        ({"secret_id": Secret(f"{SECRET_ID} {SECRET_KEY}")}, "copy both"),
        ({"secret_key": Secret(" ")}, "copy both"),
        ({"requests_per_second": 0.0}, "remove the setting"),
    ],
)
def test_invalid_key_is_reported_before_any_call(
    account: TencentCloudAccount, settings: dict[str, Secret], advice: str
) -> None:
    """Common mistakes are a DNSPod token, another vendor's key, and id and key in each other's
    place.
    """
    with pytest.raises(ConfigError) as wrong:
        account.connect(**settings)

    assert advice in str(wrong.value.hint)
    assert [] == account.service.calls()
    assert not any(part in str(wrong.value) for part in (SECRET_ID, SECRET_KEY))


# --- Tencent Cloud's signatures against a computed vector, the vendor's SDK, and the stand-in


MOMENT = datetime.fromtimestamp(1_767_225_600, UTC)
HOST = "dnspod.tencentcloudapi.com"
BODY = json.dumps(
    {
        "Domain": "example.com",
        "RecordType": "TXT",
        "RecordLine": "默认",
        "Value": "abc",
        "SubDomain": "_acme-challenge",
        "TTL": 600,
    }
).encode()
KEYS = TencentKeys("AKIDEXAMPLE", Secret("SECRETEXAMPLE"))


def signed(body: bytes = BODY, moment: datetime = MOMENT, keys: TencentKeys = KEYS) -> str:
    call = SignedCall("dnspod", HOST, "/", "application/json", body)
    return authorization(keys, call, moment)


def test_vector_of_the_page_of_facts() -> None:
    """docs/facts/dnspod.md §2.1 has the signature of a call, byte for byte."""
    assert signed() == (
        "TC3-HMAC-SHA256 Credential=AKIDEXAMPLE/2026-01-01/dnspod/tc3_request, "
        "SignedHeaders=content-type;host, "
        "Signature=ab0090b1911db4ba81252d218e537972b0ec4f6ef7842968e358018556f0a3ba"
    )


def sdk_signature(body: bytes, moment: datetime, secret_key: str) -> str:
    """Let the vendor's client sign a call, without sending it."""
    request = SimpleNamespace(
        method="POST",
        uri="/",
        data=body.decode(),
        header={
            "Content-Type": "application/json",
            "Host": HOST,
            "X-TC-Timestamp": timestamp(moment),
        },
    )
    client = AbstractClient(Credential("AKIDEXAMPLE", secret_key), "")
    date = f"{moment:%Y-%m-%d}"
    signer = client._get_tc3_signature  # noqa: SLF001 - the SDK's signer has no public name
    return str(signer({}, request, date, "dnspod", secret_key))


MOMENTS = st.integers(1_600_000_000, 4_000_000_000).map(lambda n: datetime.fromtimestamp(n, UTC))
SECRETS = st.from_regex(r"[A-Za-z0-9]{1,40}", fullmatch=True)


@given(body=st.text(), moment=MOMENTS, secret_key=SECRETS)
def test_signature_equals_the_sdks(body: str, moment: datetime, secret_key: str) -> None:
    """The signatures agree for any body, moment and key."""
    data = body.encode(errors="replace")

    ours = signed(data, moment, TencentKeys("AKIDEXAMPLE", Secret(secret_key)))

    assert ours.endswith(f"Signature={sdk_signature(data, moment, secret_key)}")


def request(authorized: str, body: bytes = BODY, moment: datetime = MOMENT) -> Request:
    fields = {
        "Host": HOST,
        "Content-Type": "application/json",
        "X-TC-Timestamp": timestamp(moment),
        "Authorization": authorized,
    }
    return Request("POST", "/", "", Headers(fields.items()), body)


@given(body=st.binary(), moment=MOMENTS, secret_key=SECRETS)
def test_stand_in_accepts_a_signed_call(body: bytes, moment: datetime, secret_key: str) -> None:
    """The stand-in recognises the key of the signature."""
    authorized = signed(body, moment, TencentKeys("AKIDEXAMPLE", Secret(secret_key)))

    keys = {"AKIDEXAMPLE": secret_key}
    assert signed_by(request(authorized, body, moment), keys, moment) == "AKIDEXAMPLE"


@pytest.mark.parametrize(
    ("signed_request", "code"),
    [
        (request(""), "InvalidAuthorization"),
        (request(signed().replace("dnspod/tc3", "cvm/tc3")), "InvalidAuthorization"),
        (request(signed().replace("content-type;host", "host")), "InvalidAuthorization"),
        (request(signed(), BODY + b" "), "SignatureFailure"),
        (request(signed(moment=MOMENT - timedelta(days=1))), "SignatureFailure"),
        (request(signed(keys=TencentKeys("AKIDEXAMPLE", Secret("other")))), "SignatureFailure"),
        (request(signed(keys=TencentKeys("AKIDOTHER", KEYS.secret_key))), "SecretIdNotFound"),
        (request(signed(), moment=MOMENT + timedelta(seconds=301)), "SignatureExpire"),
    ],
)
def test_stand_in_refuses_a_wrong_signature(signed_request: Request, code: str) -> None:
    """The stand-in answers each mistake with the vendor's code."""
    with pytest.raises(Refused) as refused:
        signed_by(signed_request, {"AKIDEXAMPLE": "SECRETEXAMPLE"}, MOMENT)

    assert refused.value.code == f"AuthFailure.{code}"
