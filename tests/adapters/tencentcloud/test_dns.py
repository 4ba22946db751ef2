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
from certferry.adapters.tencentcloud.dns import SignedCall, TencentKeys, authorization, timestamp
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

# --- DNSPod through Tencent Cloud's API 3.0: what is sent, and what each refusal means


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
    """The domain is named and numbered, the line's id is that of every site, and the value raw."""
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


def test_another_process_looks_at_a_record_before_it_removes_it(
    account: TencentCloudAccount, provider: DnspodRecords
) -> None:
    """By its id, since a list may not show it yet; and then it asks for nothing more."""
    account.service.records.index_delay = 30.0
    handle = provider.add_txt(NAME, "value")
    before = len(account.actions())

    assert account.connect().remove_txt(NAME, "value", handle)
    assert ["DescribeDomainList", "DescribeRecord", "DeleteRecord"] == account.actions()[before:]
    assert [] == account.values(NAME)


def test_handle_of_another_type_of_record_removes_nothing(
    account: TencentCloudAccount, provider: DnspodRecords
) -> None:
    """Nor does one that is no number."""
    [domain] = account.key.domains
    other = account.zones.create(NAME, "A", "192.0.2.1")

    for record_id in (str(other.id), "12x", ""):
        assert not provider.remove_txt(NAME, "value", f"{domain.id}|{record_id}")
    assert [other] == account.zones.records(name=NAME)


@pytest.mark.parametrize(
    ("grade", "min_ttl", "ttls"), [("DP_Plus", None, [60]), ("DP_Plus", 600, [60, 600])]
)
def test_ttl_is_the_plans_least_or_that_of_a_free_one(
    account: TencentCloudAccount,
    provider: DnspodRecords,
    grade: str,
    min_ttl: int | None,
    ttls: list[int],
) -> None:
    """What a plan refuses is raised once."""
    account.service.add_domain("example.org", grade=grade, min_ttl=min_ttl)

    provider.add_txt("_acme-challenge.example.org", "value")

    assert ttls == [call.fields["TTL"] for call in account.service.calls("CreateRecord")]


@pytest.mark.parametrize("fault", [Fault.reset_after(), Fault.html(), Fault.truncated()])
def test_lost_answer_is_looked_for_before_the_record_is_written_again(
    account: TencentCloudAccount, provider: DnspodRecords, fault: Fault
) -> None:
    """One record, whichever way its answer got lost."""
    provider.zones()
    account.service.faults.add(fault, on="POST /")

    provider.add_txt(NAME, "value")

    assert ["value"] == account.values(NAME)


def test_error_of_the_services_own_may_have_done_the_work(
    account: TencentCloudAccount, provider: DnspodRecords
) -> None:
    """An internal error says nothing of what became of the call."""
    account.service.answer_next("CreateRecord", "InternalError.DbError", does_the_work=True)

    handle = provider.add_txt(NAME, "value")

    assert ["value"] == account.values(NAME)
    account.service.answer_next("DeleteRecord", "InternalError", does_the_work=True)
    assert provider.remove_txt(NAME, "value", handle)


def test_reading_is_repeated_after_an_internal_error(
    account: TencentCloudAccount, provider: DnspodRecords
) -> None:
    """And given up after some tries."""
    account.service.answer_next("DescribeDomainList", "InternalError", times=2)
    provider.add_txt(NAME, "value")

    account.service.answer_next("DescribeRecordList", "InternalError", times=3)
    with pytest.raises(DnsUnavailable, match="InternalError"):
        provider.remove_txt(NAME, "other", None)


@pytest.mark.parametrize("body", [b"", b"[]", b"[" * 100_000, b'{"Response": 1}', b"\xff"])
def test_answer_that_cannot_be_read_says_nothing_of_the_work(
    account: TencentCloudAccount, provider: DnspodRecords, body: bytes
) -> None:
    """A read is made again, and given up; a record is looked for before it is written again."""
    account.service.faults.add(Fault.status(200, body), on="POST /", times=3)
    with pytest.raises(DnsUnavailable, match=r"cannot be read \(HTTP status 200\)"):
        provider.add_txt(NAME, "value")
    provider.zones()

    account.service.faults.add(Fault.status(200, body), on="POST /")
    provider.add_txt(NAME, "value")

    assert ["value"] == account.values(NAME)
    assert account.service.calls("DescribeRecordList")


def test_gateway_that_counts_calls_is_waited_for(
    account: TencentCloudAccount, provider: DnspodRecords
) -> None:
    """As where the service itself does."""
    account.service.faults.add(Fault.too_many(retry_after=2), on="POST /")

    provider.add_txt(NAME, "value")

    assert ["value"] == account.values(NAME)


def test_many_calls_in_a_second_are_made_again(
    account: TencentCloudAccount, provider: DnspodRecords
) -> None:
    """They were turned down undone, with status 200."""
    account.service.calls_per_second = 1
    for number in range(3):
        provider.add_txt(NAME, f"value-{number}")

    assert ["value-0", "value-1", "value-2"] == account.values(NAME)
    account.service.answer_next("CreateRecord", "RequestLimitExceeded", times=9)
    with pytest.raises(DnsUnavailable, match="RequestLimitExceeded"):
        provider.add_txt(NAME, "value-9")


# the zone


def test_zones_are_listed_with_their_servers_and_what_is_in_their_way(
    account: TencentCloudAccount, provider: DnspodRecords
) -> None:
    """In pages, and by their A-labels."""
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


def test_account_without_domains_has_none(account: TencentCloudAccount) -> None:
    """Which the service calls an error."""
    account.key.domains.clear()

    assert () == connected(account).zones()
    with pytest.raises(ZoneNotFound):
        account.connect().add_txt(NAME, "value")


def test_list_without_an_end_is_reported(account: TencentCloudAccount) -> None:
    """It is not read for ever."""
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
def test_refusal_has_its_kind_and_its_advice(
    account: TencentCloudAccount,
    provider: DnspodRecords,
    code: str,
    kind: type[DnsError],
    advice: str,
) -> None:
    """And it names the code and the request."""
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
    """Not even when the service itself repeats it, in whatever place of its answer."""
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
    """One call, however often the account is asked; the hint tells of the other kind of key."""
    provider = account.connect(**wrong)

    for _ in range(3):
        with pytest.raises(DnsAccessDenied) as refused:
            provider.add_txt(NAME, "value")

    assert Retry.NEVER == refused.value.retry
    assert "type dnspod" in str(refused.value.hint)
    assert 1 == len(account.service.calls())


def test_key_of_the_other_site_gets_its_address(account: TencentCloudAccount) -> None:
    """Each site knows its own keys alone, and says of others that there are none."""
    with pytest.raises(DnsAccessDenied, match="SecretIdNotFound") as refused:
        account.connect(secret_id=Secret("IKIDabroad")).add_txt(NAME, "value")

    assert "https://dnspod.intl.tencentcloudapi.com" in str(refused.value.hint)


def test_key_that_may_only_read_is_refused_with_which_policy_it_needs(
    account: TencentCloudAccount,
) -> None:
    """The domains can be listed with it, and nothing written."""
    account.key.reads_only = True

    with pytest.raises(DnsAccessDenied, match="UnauthorizedOperation"):
        account.connect().add_txt(NAME, "value")


@pytest.mark.parametrize("ahead", [timedelta(minutes=6), -timedelta(hours=1)])
def test_wrong_clock_is_not_blamed_on_the_key(
    account: TencentCloudAccount, provider: DnspodRecords, ahead: timedelta
) -> None:
    """A signature is good for five minutes; how far the clock is off can be asked without a key."""
    account.ahead = ahead

    with pytest.raises(DnsRejected, match="SignatureExpire") as refused:
        provider.add_txt(NAME, "value")

    assert "clock" in str(refused.value.hint)
    assert -ahead == provider.clock_ahead()
    account.ahead = timedelta(0)
    provider.add_txt(NAME, "value")


def test_service_that_does_not_answer_is_reported(account: TencentCloudAccount) -> None:
    """For the clock, for reading, and for what was never sent."""
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
        ({"secret_id": Secret(f"{SECRET_ID} {SECRET_KEY}")}, "copy both"),
        ({"secret_key": Secret(" ")}, "copy both"),
        ({"requests_per_second": 0.0}, "remove the setting"),
    ],
)
def test_what_can_be_no_key_is_reported_before_anything_is_sent(
    account: TencentCloudAccount, settings: dict[str, Secret], advice: str
) -> None:
    """A DNSPod token among them, which is the usual mistake."""
    with pytest.raises(ConfigError) as wrong:
        account.connect(**settings)

    assert advice in str(wrong.value.hint)
    assert [] == account.service.calls()
    assert not any(part in str(wrong.value) for part in (SECRET_ID, SECRET_KEY))


# --- Tencent Cloud's signatures against a computed vector, the vendor's own SDK, and the
# stand-in


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
    """docs/facts/dnspod.md §2.1 has the signature of one call, byte for byte."""
    assert signed() == (
        "TC3-HMAC-SHA256 Credential=AKIDEXAMPLE/2026-01-01/dnspod/tc3_request, "
        "SignedHeaders=content-type;host, "
        "Signature=ab0090b1911db4ba81252d218e537972b0ec4f6ef7842968e358018556f0a3ba"
    )


def sdk_signature(body: bytes, moment: datetime, secret_key: str) -> str:
    """Ask the vendor's client for the signature of a call, and for nothing else."""
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
def test_signature_is_the_sdks(body: str, moment: datetime, secret_key: str) -> None:
    """Whatever the body, the moment and the key."""
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
def test_stand_in_accepts_what_is_signed(body: bytes, moment: datetime, secret_key: str) -> None:
    """It finds out by itself who signed."""
    authorized = signed(body, moment, TencentKeys("AKIDEXAMPLE", Secret(secret_key)))

    keys = {"AKIDEXAMPLE": secret_key}
    assert signed_by(request(authorized, body, moment), keys, moment) == "AKIDEXAMPLE"


@pytest.mark.parametrize(
    ("sent", "code"),
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
def test_stand_in_refuses_what_is_signed_otherwise(sent: Request, code: str) -> None:
    """Each with the vendor's code."""
    with pytest.raises(Refused) as refused:
        signed_by(sent, {"AKIDEXAMPLE": "SECRETEXAMPLE"}, MOMENT)

    assert refused.value.code == f"AuthFailure.{code}"
