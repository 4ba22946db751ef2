"""Tencent Cloud's signatures against a computed vector, the vendor's own SDK, and the stand-in."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tencentcloud.common.abstract_client import AbstractClient
from tencentcloud.common.credential import Credential

from certferry.adapters.tencentcloud.dns import (
    SignedCall,
    TencentKeys,
    authorization,
    timestamp,
)
from certferry.core.secret import Secret
from certferry_sandbox.httpd import Headers, Request
from certferry_sandbox.tencentcloud.wire import Refused, signed_by

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
    """Sign a call."""
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
    """Make the request that a signature belongs to."""
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
        (
            request(signed(keys=TencentKeys("AKIDEXAMPLE", Secret("other")))),
            "SignatureFailure",
        ),
        (request(signed(keys=TencentKeys("AKIDOTHER", KEYS.secret_key))), "SecretIdNotFound"),
        (
            request(signed(), moment=MOMENT + timedelta(seconds=301)),
            "SignatureExpire",
        ),
    ],
)
def test_stand_in_refuses_what_is_signed_otherwise(sent: Request, code: str) -> None:
    """Each with the vendor's code."""
    with pytest.raises(Refused) as refused:
        signed_by(sent, {"AKIDEXAMPLE": "SECRETEXAMPLE"}, MOMENT)

    assert refused.value.code == f"AuthFailure.{code}"
