"""DNS at the stand-in of Alibaba Cloud, over real HTTP: its requirements and its refusals."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest
import requests

from certferry_sandbox.aliyun.dns import AlidnsService
from certferry_sandbox.zones import Zones

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
COMMON = {
    "AccessKeyId": "LTAI5t",
    "Format": "JSON",
    "SignatureMethod": "HMAC-SHA1",
    "SignatureNonce": "1",
    "SignatureVersion": "1.0",
    "Timestamp": "2026-11-24T12:00:00Z",
    "Version": "2015-01-09",
    "Action": "DescribeDomains",
}
ADD = {"Action": "AddDomainRecord", "DomainName": "example.com", "Type": "TXT"}

Answer = tuple[int, dict[str, Any]]
Send = Callable[..., Answer]


@pytest.fixture
def service() -> Iterator[AlidnsService]:
    """Run a service with two accounts; the second may not write."""
    with AlidnsService(Zones(), now=lambda: NOW) as service:
        service.add_account("LTAI5t", "secret")
        other = service.add_account("LTAI5u", "secret", allowed=["DescribeDomains"])
        service.add_domain("example.com")
        service.add_domain("example.org", account=other)
        yield service


@pytest.fixture
def send(service: AlidnsService) -> Send:
    """Return a function that signs and posts parameters by the documents."""

    def send(secret: str = "secret", **changes: str | None) -> Answer:  # noqa: S107 - for the stand-in
        params = {k: v for k, v in {**COMMON, **changes}.items() if v is not None}
        pairs = "&".join(f"{k}={quote(params[k], safe='~')}" for k in sorted(params))
        signed = f"POST&%2F&{quote(pairs, safe='~')}".encode()
        digest = hmac.new(f"{secret}&".encode(), signed, hashlib.sha1).digest()
        params.setdefault("Signature", base64.b64encode(digest).decode())
        answer = requests.post(f"{service.url}/", data=params, timeout=5)
        return answer.status_code, answer.json()

    return send


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"Action": None}, "MissingAction"),
        ({"SignatureNonce": None}, "MissingSignatureNonce"),
        ({"Timestamp": None}, "MissingTimestamp"),
        ({"Version": "2015-01-10"}, "InvalidVersion"),
        ({"SignatureMethod": "HMAC-SHA256"}, "InvalidSignatureMethod"),
        ({"Timestamp": "2026-11-24 12:00:00"}, "InvalidTimeStamp.Format"),
        ({"Timestamp": "2026-11-24T11:44:00Z"}, "InvalidTimeStamp.Expired"),
        ({"Timestamp": "2026-11-24T12:16:00Z"}, "InvalidTimeStamp.Expired"),
        ({"AccessKeyId": "LTAI5x"}, "InvalidAccessKeyId.NotFound"),
        ({"AccessKeyId": "STS.NT"}, "MissingSecurityToken"),
        ({"secret": "other"}, "SignatureDoesNotMatch"),
        ({"Action": "DescribeEverything"}, "InvalidAction.NotFound"),
        ({"PageSize": "101"}, "InvalidParameter"),
        ({"PageSize": "-1"}, "InvalidParameter"),
        ({"PageNumbers": "1"}, "UnsupportedParameter"),
        ({"AccessKeyId": "LTAI5u", **ADD, "RR": "a", "Value": "v"}, "Forbidden.RAM"),
        ({**ADD, "RR": "a"}, "MissingParameter"),
        ({**ADD, "RR": "a", "Value": "v", "TTL": "599"}, "QuotaExceeded.TTL"),
        ({**ADD, "RR": "a", "Value": "v", "TTL": "86401"}, "QuotaExceeded.TTL"),
        ({**ADD, "RR": "a", "Value": "v", "Type": "WKS"}, "InvalidParameter"),
        ({**ADD, "RR": "a", "Value": "v", "DomainName": "example.org"}, "IncorrectDomainUser"),
        ({**ADD, "RR": "a", "Value": "v", "DomainName": "a.test"}, "InvalidDomainName.NoExist"),
        ({"Action": "DeleteDomainRecord", "RecordId": "1"}, "DomainRecordNotBelongToUser"),
        ({"Action": "DescribeDomainRecordInfo", "RecordId": "1"}, "DomainRecordNotBelongToUser"),
        (
            {
                "Action": "DescribeSubDomainRecords",
                "SubDomain": "a.example.net",
                "DomainName": "example.com",
            },
            "InvalidDomainName.Format",
        ),
    ],
)
def test_wrong_call_is_refused(send: Send, changes: dict[str, str | None], code: str) -> None:
    """Each error has its code from the documents."""
    status, body = send(**changes)

    assert code == body["Code"]
    assert status >= 400


def test_signature_is_checked_to_the_byte(send: Send) -> None:
    """A single different character is enough; the answer quotes the right text to sign."""
    status, body = send(Signature="uRpHwaSEt3J+6KQD//svCh/x+pI=")

    assert (400, "SignatureDoesNotMatch") == (status, body["Code"])
    assert "is:POST&%2F&AccessKeyId%3DLTAI5t%26Action%3DDescribeDomains" in body["Message"]


def test_nonce_is_taken_once(send: Send) -> None:
    """An exact repetition of a call is refused."""
    assert 200 == send()[0]
    assert "SignatureNonceUsed" == send()[1]["Code"]


@pytest.mark.parametrize("form", ["a", "a=1&a=2"])
def test_malformed_form(service: AlidnsService, form: str) -> None:
    """Missing parts are not guessed."""
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = requests.post(f"{service.url}/", data=form, headers=kind, timeout=5)

    assert "InvalidParameter" == answer.json()["Code"]


def test_other_address(service: AlidnsService) -> None:
    """The API has a single address."""
    assert 404 == requests.post(f"{service.url}/AddDomainRecord", timeout=5).status_code
