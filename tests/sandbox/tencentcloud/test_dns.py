"""The stand-in of Tencent Cloud refuses the same requests as the service, with the same codes."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from certferry.adapters.tencentcloud.tc3 import SignedCall, TencentKeys, authorization, timestamp
from certferry.core.redaction import Secret
from certferry_sandbox.tencentcloud.service import TencentCloudService
from certferry_sandbox.zones import Zones
from tests.support.manual_clock import ManualClock

KEYS = TencentKeys("AKIDEXAMPLE", Secret("SECRETEXAMPLE"))
TXT = {"Domain": "example.com", "RecordType": "TXT", "RecordLine": "默认", "Value": "abc"}


@pytest.fixture
def service(clock: ManualClock) -> Iterator[TencentCloudService]:
    """Run a service with a key whose account has example.com, on a free plan."""
    with TencentCloudService(Zones(clock)) as service:
        service.add_key(KEYS.secret_id, KEYS.secret_key.reveal())
        service.add_domain("example.com")
        yield service


def answer_to(
    service: TencentCloudService,
    action: str,
    fields: object = None,
    *,
    method: str = "POST",
    **headers: str,
) -> dict[str, Any]:
    """Make a signed call; given headers replace the usual headers."""
    host, now = service.url.partition("://")[2], datetime.now(UTC)
    body = json.dumps({} if fields is None else fields).encode()
    declared = headers.get("Content_Type", "application/json")
    sent = {
        "Content-Type": declared,
        "X-TC-Action": action,
        "X-TC-Version": "2021-03-23",
        "X-TC-Timestamp": timestamp(now),
        "Authorization": authorization(KEYS, SignedCall("dnspod", host, "/", declared, body), now),
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    connection = http.client.HTTPConnection(host, timeout=10)
    connection.request(method, "/", body, sent)
    answer = connection.getresponse()
    assert 200 == answer.status
    response: dict[str, Any] = json.loads(answer.read())["Response"]
    connection.close()
    assert response["RequestId"]
    return response


def code_of(response: dict[str, Any]) -> str:
    """Return the code of an error, or the empty text."""
    return str(response.get("Error", {}).get("Code", ""))


@pytest.mark.parametrize(
    ("call", "code"),
    [
        ({"action": "DescribeDomainList", "method": "GET"}, "MissingParameter"),
        ({"action": ""}, "MissingParameter"),
        ({"action": "DescribeNothing"}, "InvalidAction"),
        ({"action": "DescribeDomainList", "X_TC_Version": "2020-01-01"}, "NoSuchVersion"),
        ({"action": "DescribeDomainList", "Content_Type": "text/plain"}, "UnsupportedProtocol"),
        ({"action": "DescribeDomainList", "fields": []}, "InvalidParameter"),
        ({"action": "DescribeDomainList", "fields": {"Type": "VIP"}}, "InvalidParameterValue"),
        (
            {"action": "DescribeDomainList", "fields": {"Limit": 3001}},
            "InvalidParameterValue.LimitInvalid",
        ),
        ({"action": "DescribeDomainList", "fields": {"Limit": "5"}}, "InvalidParameter"),
        ({"action": "DescribeDomainList", "fields": {"Size": 5}}, "UnknownParameter"),
        ({"action": "DescribeRecordList"}, "MissingParameter"),
        (
            {"action": "DescribeRecordList", "fields": {"Domain": "example.net"}},
            "InvalidParameterValue.DomainNotExists",
        ),
        (
            {"action": "DescribeRecordList", "fields": {"Domain": "example.com", "Subdomain": "x"}},
            "ResourceNotFound.NoDataOfRecord",
        ),
        (
            {"action": "DescribeRecord", "fields": {"Domain": "example.com", "RecordId": 1}},
            "InvalidParameter.RecordIdInvalid",
        ),
        ({"action": "DescribeDomainList", "Authorization": ""}, "AuthFailure.InvalidAuthorization"),
    ],
)
def test_call_that_is_wrong(service: TencentCloudService, call: dict[str, Any], code: str) -> None:
    """Each error has its code, and the call changes nothing."""
    assert code == code_of(answer_to(service, **call))


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"SubDomain": "a b"}, "InvalidParameter.SubdomainInvalid"),
        ({"SubDomain": ".".join("abcdefghijk")}, "LimitExceeded.SubdomainLevelLimit"),
        ({"RecordType": "MX"}, "InvalidParameter.RecordTypeInvalid"),
        ({"RecordLine": "电信"}, "InvalidParameter.RecordLineInvalid"),
        ({"RecordLineId": "10=1"}, "InvalidParameter.RecordLineInvalid"),
        ({"Value": ""}, "InvalidParameter.RecordValueInvalid"),
        ({"RecordType": "A"}, "InvalidParameter.RecordValueInvalid"),
        ({"TTL": 60}, "LimitExceeded.RecordTtlLimit"),
        ({"TTL": 604_801}, "LimitExceeded.RecordTtlLimit"),
        ({"SubDomain": "there", "Value": "abc"}, "InvalidParameter.DomainRecordExist"),
        (
            {"SubDomain": "there", "RecordType": "CNAME", "Value": "x.test."},
            "InvalidParameter.RecordValueInvalid",
        ),
        ({"Weight": 1}, "UnknownParameter"),
    ],
)
def test_record_that_is_wrong(
    service: TencentCloudService, changed: dict[str, Any], code: str
) -> None:
    """Each error has its code, and the record is not added."""
    assert "" == code_of(answer_to(service, "CreateRecord", {**TXT, "SubDomain": "there"}))
    before = len(answer_to(service, "DescribeRecordList", {"Domain": "example.com"})["RecordList"])

    assert code == code_of(answer_to(service, "CreateRecord", {**TXT, **changed}))

    listed = answer_to(service, "DescribeRecordList", {"Domain": "example.com"})["RecordList"]
    assert before == len(listed)


def test_too_many_records_at_a_host(service: TencentCloudService) -> None:
    """The plan limits the number."""
    key = service.add_key(KEYS.secret_id, KEYS.secret_key.reveal())
    key.domains[0].records_per_name = 1

    assert "" == code_of(answer_to(service, "CreateRecord", TXT))
    assert "LimitExceeded.SubdomainRollLimit" == code_of(
        answer_to(service, "CreateRecord", {**TXT, "Value": "another"})
    )


@pytest.mark.parametrize(
    ("status", "code"),
    [("spam", "FailedOperation.DomainIsSpam"), ("lock", "FailedOperation.DomainIsLocked")],
)
def test_domain_that_takes_no_records(service: TencentCloudService, status: Any, code: str) -> None:
    """The domain is listed."""
    service.add_domain("example.org", status=status)

    assert code == code_of(answer_to(service, "CreateRecord", {**TXT, "Domain": "example.org"}))
    listed = answer_to(service, "DescribeDomainList")["DomainList"]
    assert status.upper() == listed[1]["Status"]


def test_call_too_many_in_a_second(service: TencentCloudService, clock: ManualClock) -> None:
    """The refused call counts too; a second later calls are accepted again."""
    service.calls_per_second = 2

    codes = [code_of(answer_to(service, "DescribeDomainList")) for _ in range(3)]
    clock.advance(1)

    assert ["", "", "RequestLimitExceeded"] == codes
    assert "" == code_of(answer_to(service, "DescribeDomainList"))
