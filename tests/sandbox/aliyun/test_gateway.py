"""The gateway of the stand-in of Alibaba Cloud: signatures, rights, parameters, limits."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from certferry_sandbox.aliyun.service import (
    DNS_ALONE,
    READ_ONLY,
    WITHOUT_CAS,
    AliyunService,
)
from certferry_sandbox.faults import Fault
from tests.sandbox.aliyun_calls import OK, Client, Clock, issue, refusal

IMG = "img.example.com"
HOLES = {
    "Action": "MissingAction",
    "Version": "MissingVersion",
    "AccessKeyId": "MissingAccessKeyId",
    "SignatureMethod": "MissingSignatureMethod",
    "SignatureVersion": "MissingSignatureVersion",
    "SignatureNonce": "MissingSignatureNonce",
    "Timestamp": "MissingTimestamp",
}


@pytest.mark.parametrize("product", ["cdn", "dcdn"])
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        *(({name: None}, (400, code)) for name, code in HOLES.items()),
        ({"Version": "2015-01-09"}, (404, "InvalidVersion")),
        ({"SignatureMethod": "HMAC-SHA256"}, (400, "InvalidSignatureMethod")),
        ({"SignatureVersion": "2.0"}, (400, "InvalidSignatureMethod")),
        ({"Timestamp": "2026-05-01 12:00:00"}, (400, "InvalidTimeStamp.Format")),
        ({"Timestamp": "2026-05-01T11:44:00Z"}, (400, "InvalidTimeStamp.Expired")),
        ({"Timestamp": "2026-05-01T12:16:00Z"}, (400, "InvalidTimeStamp.Expired")),
        ({"AccessKeyId": "LTAI5x"}, (404, "InvalidAccessKeyId.NotFound")),
        ({"AccessKeyId": "STS.NT"}, (400, "MissingSecurityToken")),
        ({"Signature": "uRpHwaSEt3J+6KQD//svCh/x+pI="}, (400, "SignatureDoesNotMatch")),
        ({"PageNumbers": "1"}, (400, "UnsupportedParameter")),
        ({"DomainStatus": "offline"}, OK),
    ],
)
def test_wrong_call_is_refused(
    client: Client, product: str, changes: dict[str, str | None], expected: tuple[int, str]
) -> None:
    """Every endpoint refuses a call that is not signed, dated or named as the pages say."""
    assert expected == refusal(client.product(product, "DescribeUserDomains", **changes))


@pytest.mark.parametrize(
    ("product", "action"),
    [
        ("cdn", "DescribeDcdnUserDomains"),
        ("dcdn", "DescribeUserDomains"),
        ("cas", "DescribeUserDomains"),
        ("cdn", "DescribeEverything"),
        ("cdn", "BatchSetCdnDomainServerCertificate"),
        ("cas", "CreateDeploymentJob"),
    ],
)
def test_action_of_another_product(
    client: Client, stand_in: AliyunService, product: str, action: str
) -> None:
    """An endpoint knows its own actions only; a deployment through CAS, which costs, is none."""
    endpoint = {"cdn": stand_in.cdn, "dcdn": stand_in.dcdn, "cas": stand_in.cas}[product]

    assert (404, "InvalidAction.NotFound") == refusal(client.send(endpoint, action, {}))


def test_other_secret(stand_in: AliyunService, clock: Clock) -> None:
    """The answer quotes the right text to sign, which has the key's id and no secret."""
    status, body = Client(stand_in, clock, secret="other").cas("ListUserCertificateOrder")

    assert (400, "SignatureDoesNotMatch") == (status, body["Code"])
    assert "is:POST&%2F&AccessKeyId%3D" in body["Message"]
    assert "cas.aliyuncs.com" == body["HostId"]


def test_nonce_is_taken_once_for_all_products(client: Client) -> None:
    """A repeated nonce is refused, also at another product."""
    assert OK == refusal(client.cdn("DescribeUserDomains", SignatureNonce="again"))
    assert (400, "SignatureNonceUsed") == refusal(
        client.cas("ListUserCertificateOrder", SignatureNonce="again")
    )


def test_parameters_in_the_query(client: Client, stand_in: AliyunService) -> None:
    """Reads take GET; a POST may have all parameters in the query, as the vendor's SDK does."""
    calls: list[tuple[str, bool]] = [("GET", True), ("POST", True), ("POST", False)]
    for method, in_query in calls:
        answer = client.send(
            stand_in.cdn, "DescribeUserDomains", {}, method=method, in_query=in_query
        )
        assert OK == refusal(answer)


def test_parameter_in_query_and_form(stand_in: AliyunService) -> None:
    """A parameter in both places is refused, because only one of them would be signed."""
    answer = requests.post(f"{stand_in.cdn.url}/?Action=a", data={"Action": "b"}, timeout=10)

    assert "InvalidParameter" == answer.json()["Code"]


def test_write_by_get(client: Client, stand_in: AliyunService) -> None:
    """The calls with private keys go by POST."""
    stand_in.add_domain(IMG)
    for endpoint, action in (
        (stand_in.cdn, "SetCdnDomainSSLCertificate"),
        (stand_in.dcdn, "SetDcdnDomainSSLCertificate"),
        (stand_in.cas, "UploadUserCertificate"),
    ):
        answer = client.send(endpoint, action, {}, method="GET")
        assert (403, "UnsupportedHTTPMethod") == refusal(answer)


def test_caller_without_json(client: Client, stand_in: AliyunService) -> None:
    """XML is the default."""
    answer = requests.get(f"{stand_in.cdn.url}/", timeout=10)
    assert "MissingAction" == answer.json()["Code"]
    with pytest.raises(ValueError, match="Expecting value"):
        client.cdn("DescribeUserDomains", Format=None)


READS: dict[str, Any] = {
    "dns": ("dns", "DescribeDomains"),
    "cdn": ("cdn", "DescribeUserDomains"),
    "dcdn": ("dcdn", "DescribeDcdnUserDomains"),
    "cas": ("cas", "ListUserCertificateOrder"),
}


@pytest.mark.parametrize(
    ("policy", "reads", "writes"),
    [
        (DNS_ALONE, {"dns"}, set()),
        (WITHOUT_CAS, {"dns", "cdn", "dcdn"}, {"cdn"}),
        (READ_ONLY, {"dns", "cdn", "dcdn", "cas"}, set()),
        (("*",), {"dns", "cdn", "dcdn", "cas"}, {"cdn", "cas"}),
        (("cdn:SetCdnDomainSSLCertificate",), set(), {"cdn"}),
    ],
)
def test_rights_of_a_ram_user(
    stand_in: AliyunService,
    clock: Clock,
    policy: tuple[str, ...],
    reads: set[str],
    writes: set[str],
) -> None:
    """A RAM user sees the account's domains and certificates, as far as the policy allows."""
    stand_in.add_domain(IMG)
    number = stand_in.add_certificate(issue(IMG), "old")
    stand_in.add_ram_user("LTAI5tRam", "ram-secret", allowed=policy)
    user = Client(stand_in, clock, "LTAI5tRam", "ram-secret")
    endpoints = {"cdn": stand_in.cdn, "dcdn": stand_in.dcdn, "cas": stand_in.cas}
    assert stand_in.dns is not None
    endpoints["dns"] = stand_in.dns

    answers = {
        name: refusal(user.send(endpoints[place], action, {}))
        for name, (place, action) in READS.items()
    }
    changes = {
        "cdn": refusal(user.bind(IMG, number)),
        "cas": refusal(user.upload(issue(IMG))),
    }

    refused = (403, "Forbidden.RAM")
    assert {name: OK if name in reads else refused for name in answers} == answers
    assert {name: OK if name in writes else refused for name in changes} == changes


def test_refusal_of_a_right_names_the_action(stand_in: AliyunService, clock: Clock) -> None:
    """The answer has the action for the policy, and the code of the product."""
    stand_in.add_ram_user("LTAI5tRam", "ram-secret", allowed=DNS_ALONE)
    stand_in.cas.forbidden = ("NoPermission", 403)

    status, body = Client(stand_in, clock, "LTAI5tRam", "ram-secret").cas(
        "ListUserCertificateOrder"
    )

    assert (403, "NoPermission") == (status, body["Code"])
    assert "yundun-cert:ListUserCertificateOrder" == body["AccessDeniedDetail"]["AuthAction"]


def test_ram_user_needs_an_account(stand_in: AliyunService) -> None:
    """A RAM user belongs to an account."""
    with pytest.raises(KeyError):
        stand_in.add_ram_user("LTAI5tRam", "ram-secret", allowed=(), owner="LTAI5tNone")


def test_limits(client: Client, stand_in: AliyunService, clock: Clock) -> None:
    """CAS takes ten calls a second, and refuses further calls until the second is over."""
    stand_in.limit_rates()
    answers = [refusal(client.cas("ListUserCertificateOrder")) for _ in range(12)]
    clock.advance(1)
    answers.append(refusal(client.cas("ListUserCertificateOrder")))

    throttled = (400, "Throttling.User")
    assert [*[OK] * 10, throttled, throttled, OK] == answers


def test_limit_of_binding(client: Client, stand_in: AliyunService) -> None:
    """Thirty bindings a second; other calls have their own limits."""
    stand_in.limit_rates()
    codes = [refusal(client.bind("none.example.com", 1))[1] for _ in range(31)]

    assert [*["InvalidDomain.NotFound"] * 30, "Throttling.User"] == codes
    assert OK == refusal(client.cdn("DescribeUserDomains"))


def test_scripted_answer(client: Client, stand_in: AliyunService) -> None:
    """A test scripts the next answer of an action; the call may take effect all the same."""
    stand_in.add_domain(IMG)
    number = stand_in.add_certificate(issue(IMG), "old")
    stand_in.cdn.answer_next("Set*", "ServiceUnavailable", "later", status=503, does_the_work=True)

    assert (503, "ServiceUnavailable") == refusal(client.bind(IMG, number))
    assert "configuring" == stand_in.domain(IMG).state
    assert ["SetCdnDomainSSLCertificate"] == [call.action for call in stand_in.writes()]


@pytest.mark.parametrize(
    ("fault", "is_done"), [(Fault.reset_before(), False), (Fault.reset_after(), True)]
)
def test_lost_answer(
    client: Client, stand_in: AliyunService, fault: Fault, *, is_done: bool
) -> None:
    """Faults are armed by action, and the upload is done or not."""
    stand_in.cas.faults.add(fault, on="UploadUserCertificate")

    with pytest.raises(requests.ConnectionError):
        client.upload(issue(IMG))

    assert is_done == bool(stand_in.store.stored())


def test_pages_of_a_gateway(client: Client, stand_in: AliyunService) -> None:
    """HTML and a 5xx without JSON come from a gateway before the service."""
    stand_in.dcdn.faults.add(Fault.html(), on="DescribeDcdnUserDomains")

    with pytest.raises(requests.JSONDecodeError):
        client.dcdn("DescribeDcdnUserDomains")
    assert OK == refusal(client.dcdn("DescribeDcdnUserDomains"))
