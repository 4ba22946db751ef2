"""CAS at the stand-in of Alibaba Cloud: uploads, lists, reads, deletions, and their switches."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes

from certferry_sandbox.aliyun.cas import ABROAD
from certferry_sandbox.aliyun.service import AliyunService
from certferry_sandbox.authority import Authority
from tests.sandbox.aliyun_calls import NAMES, OK, Client, Clock, issue, refusal

IMG = NAMES[0]


def listed(client: Client, **params: str) -> list[dict[str, Any]]:
    """Return the list of uploads."""
    _, body = client.cas("ListUserCertificateOrder", **{"OrderType": "UPLOAD", **params})
    found: list[dict[str, Any]] = body["CertificateOrderList"]
    return found


def names(client: Client, **params: str) -> list[str]:
    return [item["Name"] for item in listed(client, **params)]


@pytest.fixture
def other(stand_in: AliyunService, clock: Clock) -> Client:
    """Return a client of another account."""
    stand_in.add_account("LTAI5tOther", "other-secret")
    return Client(stand_in, clock, "LTAI5tOther", "other-secret")


def test_upload_is_listed(client: Client) -> None:
    """The list has the certificate's names, number, serial, fingerprints and dates."""
    issued = issue(*NAMES)

    _, body = client.upload(issued, "mine")

    [item] = listed(client)
    leaf = issued.leaf
    assert (body["CertId"], "mine", ",".join(NAMES)) == (
        item["CertificateId"],
        item["Name"],
        item["Sans"],
    )
    assert leaf.serial_number == int(item["SerialNo"], 16)
    assert issued.fingerprint.upper() == item["Sha2"]
    sha1 = leaf.fingerprint(hashes.SHA1())  # noqa: S303 - the vendor shows this hash
    assert sha1.hex().upper() == item["Fingerprint"]
    assert int(leaf.not_valid_after_utc.timestamp()) * 1000 == item["CertEndTime"]
    assert ("2026-07-29", "ISSUED", True, False) == (
        item["EndDate"],
        item["Status"],
        item["Upload"],
        item["Expired"],
    )


ANOTHER = issue("www.example.org")
FORMAT = (400, "CertificateFormatException")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"Name": None}, (400, "MissingParameter")),
        ({"Cert": ""}, (400, "MissingParameter")),
        ({"Key": None}, (400, "MissingParameter")),
        ({"Name": "n" * 64}, (400, "DataTooLongException")),
        ({"Name": "n" * 63}, OK),
        ({"Cert": "no certificate"}, FORMAT),
        ({"Cert": issue(IMG).fullchain_pem.replace("\n", "")}, FORMAT),
        ({"Key": "no key"}, FORMAT),
        ({"Key": ANOTHER.privkey_pem}, FORMAT),
        ({"Cert": ANOTHER.fullchain_pem}, FORMAT),
        ({"Label": "x"}, (400, "UnsupportedParameter")),
    ],
)
def test_upload_is_checked(client: Client, changes: Any, expected: tuple[int, str]) -> None:
    """Name, certificate and key are checked, and a refused upload leaves nothing."""
    assert expected == refusal(client.upload(issue(IMG), **changes))
    assert (expected == OK) == bool(listed(client))


def test_chain_is_checked(client: Client) -> None:
    """Each certificate of the chain issues the certificate before."""
    issued, foreign = issue(IMG), Authority("Foreign")
    leaf = issued.fullchain_pem.partition("-----END CERTIFICATE-----\n")[0]
    chain = f"{leaf}-----END CERTIFICATE-----\n{foreign.intermediate_pem}"

    assert (400, "CertificateChainNotMatch") == refusal(client.upload(issued, Cert=chain))


def test_expired_upload(client: Client, clock: Clock) -> None:
    """A certificate whose validity is over is refused."""
    clock.advance(timedelta(days=91).total_seconds())

    assert (400, "CertificateExpired") == refusal(client.upload(issue(IMG)))


def test_name_is_unique_in_an_account(client: Client, other: Client) -> None:
    """A repeated name is refused, for any certificate; other accounts do not matter."""
    issued = issue(IMG)
    client.upload(issued, "mine")

    assert (400, "NameRepeat") == refusal(client.upload(issued, "mine"))
    assert (400, "NameRepeat") == refusal(client.upload(issue(IMG), "mine"))
    assert OK == refusal(other.upload(issued, "mine"))


def test_equal_copies(client: Client, stand_in: AliyunService) -> None:
    """The store keeps equal copies under several names, unless switched to refuse the copies."""
    issued = issue(IMG)
    client.upload(issued, "first")
    assert OK == refusal(client.upload(issued, "second"))

    stand_in.store.habits.refuses_equal = True

    assert (400, "AlreadyExists.cert") == refusal(client.upload(issued, "third"))


def test_client_token(client: Client) -> None:
    """A repeated token returns the earlier certificate."""
    answers = [client.upload(issue(IMG), "mine", ClientToken="t") for _ in range(2)]

    assert 1 == len({body["CertId"] for _, body in answers})
    assert ["mine"] == names(client)


def test_full_account(client: Client, other: Client, stand_in: AliyunService) -> None:
    """Each account has room for `quota` certificates."""
    stand_in.store.quota = 1
    client.upload(issue(IMG), "first")

    assert (400, "InsufficientQuota") == refusal(client.upload(issue(IMG), "second"))
    assert OK == refusal(other.upload(issue(IMG), "second"))


def test_kinds_of_lists(client: Client, stand_in: AliyunService) -> None:
    """Without `OrderType` the list has orders and no certificate."""
    client.upload(issue(IMG), "mine")
    stand_in.add_certificate(issue(IMG), "bought", is_upload=False)

    assert ["mine"] == names(client)
    assert ["bought", "mine"] == names(client, OrderType="CERT")
    assert [] == names(client, OrderType="CPACK")
    assert [] == client.cas("ListUserCertificateOrder")[1]["CertificateOrderList"]
    answer = client.cas("ListUserCertificateOrder", OrderType="ALL")
    assert (400, "InvalidParameter") == refusal(answer)


def test_expired_certificates_are_another_list(
    client: Client, clock: Clock, stand_in: AliyunService
) -> None:
    """Without `Status` the list has valid certificates only, unless switched."""
    stand_in.add_certificate(issue(IMG), "mine")
    clock.advance(timedelta(days=70).total_seconds())
    assert ["WILLEXPIRED"] == [item["Status"] for item in listed(client)]
    assert [] == names(client, Status="ISSUED")
    clock.advance(timedelta(days=30).total_seconds())

    assert [] == names(client)
    assert ["mine"] == names(client, Status="EXPIRED")
    stand_in.store.habits.lists_expired = True
    assert ["mine"] == names(client)


def test_pages(client: Client, stand_in: AliyunService) -> None:
    """At most fifty certificates a page, the latest first."""
    issued = issue(IMG)
    for number in range(51):
        stand_in.add_certificate(issued, f"c{number}")

    _, body = client.cas("ListUserCertificateOrder", OrderType="UPLOAD")

    assert (50, 51, 1, 50) == (
        len(body["CertificateOrderList"]),
        body["TotalCount"],
        body["CurrentPage"],
        body["ShowSize"],
    )
    assert ["c0"] == names(client, CurrentPage="2")
    assert ["c20", "c19"] == names(client, CurrentPage="16", ShowSize="2")
    assert [] == names(client, CurrentPage="3")
    for wrong in ({"ShowSize": "51"}, {"ShowSize": "0"}, {"CurrentPage": "0"}):
        answer = client.cas("ListUserCertificateOrder", **wrong)
        assert (400, "InvalidParameter") == refusal(answer)


def test_search(client: Client) -> None:
    """A keyword is a part of a name of the certificate, or of the resource."""
    client.upload(issue("a.example.com"), "a")
    _, body = client.upload(issue("b.example.org"), "b")

    assert ["a"] == names(client, Keyword="example.com")
    assert ["b"] == names(client, Keyword=body["ResourceId"])


def test_late_list(client: Client, stand_in: AliyunService, clock: Clock) -> None:
    """The list may lag behind uploads and deletions; reads by number do not."""
    stand_in.store.list_lag = timedelta(seconds=5)
    _, body = client.upload(issue(IMG), "mine")
    number = str(body["CertId"])
    assert [] == names(client)
    assert OK == refusal(client.cas("GetUserCertificateDetail", CertId=number))
    clock.advance(6)
    assert ["mine"] == names(client)

    client.cas("DeleteUserCertificate", CertId=number)

    assert ["mine"] == names(client)
    clock.advance(6)
    assert [] == names(client)


def test_detail(client: Client) -> None:
    """A read has chain and key, unless filtered."""
    issued = issue(*NAMES, key_type="rsa2048")
    number = str(client.upload(issued, "mine")[1]["CertId"])

    _, whole = client.cas("GetUserCertificateDetail", CertId=number)
    _, filtered = client.cas("GetUserCertificateDetail", CertId=number, CertFilter="true")

    assert (issued.fullchain_pem, issued.privkey_pem) == (whole["Cert"], whole["Key"])
    assert {"Cert", "Key"} == set(whole) - set(filtered)
    assert (int(number), f"{number}-cn-hangzhou", IMG, "RSA", False) == (
        filtered["Id"],
        filtered["CertIdentifier"],
        filtered["Common"],
        filtered["Algorithm"],
        filtered["BuyInAliyun"],
    )


@pytest.mark.parametrize("action", ["GetUserCertificateDetail", "DeleteUserCertificate"])
def test_foreign_and_unknown_numbers(client: Client, other: Client, action: str) -> None:
    """Another account's certificate does not exist; a text is no number."""
    foreign = str(other.upload(issue(IMG))[1]["CertId"])

    for number in (foreign, "1"):
        assert (400, "NotFound") == refusal(client.cas(action, CertId=number))
    assert (400, "InvalidParameter") == refusal(client.cas(action, CertId="x"))
    assert (400, "MissingParameter") == refusal(client.cas(action))
    assert ["test"] == names(other)


def test_deletion(client: Client, stand_in: AliyunService) -> None:
    """A certificate is deleted once; a bound one is kept only with a switch."""
    stand_in.add_domain(IMG)
    bound = client.upload(issue(IMG), "bound")[1]["CertId"]
    client.bind(IMG, bound)
    stand_in.store.habits.refuses_bound = True
    delete = {"CertId": str(bound)}

    protected = (400, "InvalidStatus.DeleteProtection")
    assert protected == refusal(client.cas("DeleteUserCertificate", **delete))
    stand_in.store.habits.refuses_bound = False
    assert OK == refusal(client.cas("DeleteUserCertificate", **delete))
    assert (400, "NotFound") == refusal(client.cas("DeleteUserCertificate", **delete))
    assert [] == listed(client)


@pytest.mark.parametrize("form", ["even", "padded", "short", "upper"])
def test_serial_numbers(client: Client, stand_in: AliyunService, form: Any) -> None:
    """The same number has several spellings; as a number, it stays the same."""
    issued = next(i for i in iter(lambda: issue(IMG), None) if i.leaf.serial_number < 2**156)
    client.upload(issued)
    stand_in.store.habits.serials = form

    [item] = listed(client)

    serial = item["SerialNo"]
    digits = f"{issued.leaf.serial_number:x}"
    spellings = {
        "even": digits.zfill(len(digits) + len(digits) % 2),
        "padded": digits.zfill(40),
        "short": digits,
        "upper": digits.zfill(len(digits) + len(digits) % 2).upper(),
    }
    assert spellings[form] == serial
    assert issued.leaf.serial_number == int(serial, 16)


@pytest.mark.parametrize(
    ("form", "expected"),
    [("both", {"Fingerprint", "Sha2"}), ("sha1", {"Fingerprint"}), ("none", set())],
)
def test_fingerprints(
    client: Client, stand_in: AliyunService, form: Any, expected: set[str]
) -> None:
    """CAS may tell fewer fingerprints."""
    client.upload(issue(IMG))
    stand_in.store.habits.fingerprints = form

    [item] = listed(client)

    assert expected == {"Fingerprint", "Sha2"} & set(item)


def test_region(clock: Clock) -> None:
    """A certificate abroad does not exist for a binding with the mainland's region."""
    with AliyunService(clock=clock, region=ABROAD) as abroad:
        abroad.add_account("LTAI5tSandboxAccount", "sandbox-secret")
        client = Client(abroad, clock)
        abroad.add_domain(IMG)
        number = client.upload(issue(IMG))[1]["CertId"]

        assert (400, "Certificate.NotFind") == refusal(client.bind(IMG, number))
        assert OK == refusal(client.bind(IMG, number, CertRegion=ABROAD))
        _, detail = client.cas("GetUserCertificateDetail", CertId=str(number))
        assert f"{number}-{ABROAD}" == detail["CertIdentifier"]
