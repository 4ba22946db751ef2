"""Certificates at the Qiniu stand-in: uploads, refusals, lists and removals.

Qiniu's adapter and the contract of targets show the other properties that certferry relies on.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import NameOID

from certferry_sandbox.authority import Authority, Issued
from certferry_sandbox.qiniu.certificates import covers
from certferry_sandbox.qiniu.service import QiniuService
from tests.sandbox import qiniu_calls as calls
from tests.sandbox.qiniu_calls import OK, START, Client, code, issue, refusal

DAY = timedelta(days=1)
TRADITIONAL = serialization.PrivateFormat.TraditionalOpenSSL
PKCS8 = serialization.PrivateFormat.PKCS8
NOT_PARSED = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"

Chain = tuple[str, str]
"""The fields `ca` and `pri` of an upload."""


def blocks(pem: str) -> list[str]:
    end = "-----END CERTIFICATE-----\n"
    return [part + end for part in pem.split(end) if part]


def pem_of(key: Any, form: Any = PKCS8, passphrase: bytes | None = None) -> str:
    hidden = (
        serialization.NoEncryption()
        if passphrase is None
        else serialization.BestAvailableEncryption(passphrase)
    )
    return key.private_bytes(serialization.Encoding.PEM, form, hidden).decode()  # type: ignore[no-any-return]  # the tests' keys are of any kind


def key_of(issued: Issued) -> Any:
    return serialization.load_pem_private_key(issued.privkey_pem.encode(), None)


def signed_by(issuer: x509.Name, issuer_key: Any, key: Any) -> str:
    """Return a bare certificate for www.example.com, signed by the issuer's key."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "www.example.com")])
    return (
        x509.CertificateBuilder(issuer, subject, key.public_key(), 1, START - DAY, START + 89 * DAY)
        .sign(issuer_key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
        .decode()
    )


def sent(issued: Issued, *, ca: str | None = None, pri: str | None = None) -> Chain:
    """Return an upload with another chain or key."""
    return (issued.fullchain_pem if ca is None else ca, issued.privkey_pem if pri is None else pri)


def in_order(*numbers: int) -> Chain:
    """Return the certificates of a good chain in another order; number 2 is a stranger's."""
    issued = issue()
    there = [*blocks(issued.fullchain_pem), Authority("Stranger").intermediate_pem]
    return sent(issued, ca="".join(there[number] for number in numbers))


def under_an_impostor(stand_in: QiniuService) -> Chain:
    """Return a leaf under a trusted CA with its issuer's name and another key."""
    issued, impostor = issue(), Authority("Trusted")
    stand_in.trust(impostor.root_pem)
    return sent(issued, ca=blocks(issued.fullchain_pem)[0] + impostor.intermediate_pem)


def under_itself() -> Chain:
    key = ec.generate_private_key(ec.SECP256R1())
    return signed_by(issue().leaf.subject, key, key), pem_of(key)


def under_a_leaf() -> Chain:
    """Return a leaf that another leaf signed."""
    parent, key = issue(), ec.generate_private_key(ec.SECP256R1())
    return signed_by(parent.leaf.subject, key_of(parent), key) + parent.fullchain_pem, pem_of(key)


def under_one_without_constraints() -> Chain:
    """Return a leaf that a certificate without the mark of a CA signed."""
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    name = issue().leaf.subject
    chain = signed_by(name, keys[1], keys[0]) + signed_by(name, keys[1], keys[1])
    return chain, pem_of(keys[0])


def of_a_private_ca(*, with_root: bool) -> Chain:
    """Return a certificate of an untrusted authority."""
    private = Authority("Private")
    issued = issue(by=private)
    return sent(issued, ca=issued.fullchain_pem + (private.root_pem if with_root else ""))


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (lambda _: sent(issue(), ca="certificate"), 404906),
        (lambda _: sent(issue(), ca=""), 404906),
        (lambda _: sent(issue(), ca=NOT_PARSED), 404907),
        (lambda _: sent(issue(), pri=""), 400327),
        (lambda _: sent(issue(), pri="key"), 400327),
        (lambda _: sent(issue(), pri="-----BEGIN PRIVATE KEY-----\nAA==\n"), 400327),
        (lambda _: sent(issue(), pri=pem_of(key_of(issue()), passphrase=b"pass")), 400327),
        (lambda _: sent(issue(), pri=pem_of(ed25519.Ed25519PrivateKey.generate())), 400327),
        (lambda _: sent(issue(), pri=issue().privkey_pem), 400328),
        (lambda _: sent(issue(), pri=issue(key_type="rsa2048").privkey_pem), 400328),
        (lambda _: in_order(1, 0), 400328),
        (lambda _: sent(issue(start=START + timedelta(seconds=1))), 400321),
        (lambda _: sent(issue(start=START - 90 * DAY - timedelta(seconds=1))), 400329),
        (lambda _: sent(issue(start=START - 61 * DAY)), 400322),
        (lambda _: sent(issue(start=START, days=6)), 400322),
        (lambda _: in_order(0), 400338),
        (lambda _: in_order(0, 2, 1), 400338),
        (under_an_impostor, 400323),
        (lambda _: under_itself(), 400323),
        (lambda _: under_a_leaf(), 400323),
        (lambda _: under_one_without_constraints(), 400323),
        (lambda _: of_a_private_ca(with_root=False), 400323),
        (lambda _: of_a_private_ca(with_root=True), 400323),
    ],
)
def test_certificate_that_is_refused(
    client: Client, stand_in: QiniuService, made: Callable[[QiniuService], Chain], expected: int
) -> None:
    """The answer has the code of the first broken rule, and the upload is dropped."""
    ca, pri = made(stand_in)

    assert refusal(expected) == code(client.upload(issue(), ca=ca, pri=pri))
    assert [] == stand_in.certificates.stored()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "invalid character"),
        (b"\xff{}", "invalid character"),
        (b"[]", "UploadCertArgs"),
        ({"ca": 1}, "UploadCertArgs.ca of type string"),
        ({"pri": ["x"]}, "cannot unmarshal array"),
        ({"common_name": True}, "UploadCertArgs.common_name"),
        ({"name": "n" * 129}, "name too long"),
    ],
)
def test_body_of_another_shape(
    client: Client, stand_in: QiniuService, body: Any, words: str
) -> None:
    """The body must be an object with strings."""
    answer = client.qbox("POST", stand_in.fusion_url + "/sslcert", body)

    assert refusal(400000) == code(answer)
    assert words in answer.json()["error"]


def test_first_broken_rule_gives_the_code(client: Client, stand_in: QiniuService) -> None:
    """The order is PEM, key, validity, chain, common name, quota."""
    stand_in.certificates.quota = 0
    private = Authority("Private")
    late = issue(start=START - 100 * DAY, common_name="", by=private)

    assert [404906, 400327, 400329, 400323, 400348, 400500] == [
        code(answer)[1]
        for answer in (
            client.upload(late, ca="", pri=""),
            client.upload(late, pri=""),
            client.upload(late),
            client.upload(issue(common_name="", by=private)),
            client.upload(issue(common_name="")),
            client.upload(issue()),
        )
    ]


def test_switches_of_the_rules(client: Client, stand_in: QiniuService) -> None:
    """`EC PRIVATE KEY`, a missing common name and a short remaining life are refused until switched
    off. Exactly 30 days are enough, and keys of the JSON may have any case.
    """
    issued, rules = issue(), stand_in.certificates.rules

    def upload() -> list[int | None]:
        answers = [
            client.upload(issued, pri=pem_of(key_of(issued), TRADITIONAL)),
            client.upload(issue(common_name="")),
            client.upload(issue(start=START - 83 * DAY)),
        ]
        return [code(answer)[1] for answer in answers]

    assert [400327, 400348, 400322] == upload()
    rules.refuse_sec1_keys = rules.refuse_empty_common_name = False
    rules.min_remaining = 7 * DAY
    assert [200, 200, 200] == upload()
    rules.min_remaining = 30 * DAY
    assert OK == code(client.upload(issue(start=START - 60 * DAY)))
    body = {"Name": "n", "CA": issued.fullchain_pem, "Pri": issued.privkey_pem}
    assert OK == code(client.qbox("POST", stand_in.fusion_url + "/sslcert", body))


@pytest.mark.parametrize("key_type", ["ec256", "rsa2048"])
def test_good_certificate_is_taken(client: Client, key_type: Any) -> None:
    """Each upload has a new id of 24 hex digits, by which all fields are readable."""
    issued = issue("www.example.com", "*.img.example.com", key_type=key_type)
    with_root = client.upload(issued, ca=issued.fullchain_pem + calls.authority().root_pem)
    answer = client.upload(issued, "mine")

    assert OK == code(answer) == code(with_root)
    cert_id = answer.json()["certID"]
    assert re.fullmatch("[0-9a-f]{24}", cert_id)
    assert cert_id != with_root.json()["certID"]
    certificate = client.certificate(cert_id).json()["cert"]
    expected = {
        "certid": cert_id,
        "name": "mine",
        "common_name": "www.example.com",
        "dnsnames": ["www.example.com", "*.img.example.com"],
        "create_time": int(START.timestamp()),
        "not_before": int((START - DAY).timestamp()),
        "not_after": int((START + 89 * DAY).timestamp()),
        "encrypt": "RSA" if key_type == "rsa2048" else "ECDSA",
        "ca": issued.fullchain_pem,
        "pri": issued.privkey_pem,
    }
    assert expected == {key: certificate[key] for key in expected}


@pytest.mark.parametrize(
    ("query", "expected"),
    [("?limit=0", 400000), ("?limit=1001", 400000), ("?limit=x", 400000), ("?marker=!", 400021)],
)
def test_senseless_paging(client: Client, query: str, expected: int) -> None:
    """Limits are 1 to 1000, and markers come from earlier answers."""
    assert refusal(expected) == code(client.certificates(query))


def test_accounts_do_not_see_each_other(client: Client, stand_in: QiniuService) -> None:
    """Another account's certificate is not listed, and gives 404908 by its id. A key of a
    sub-account works on its main account. An id without an account gives 400401.
    """
    stand_in.add_account("other-key", "other-secret")
    stand_in.add_iam_key("IAM-key", "iam-secret", owner=calls.ACCESS_KEY)
    other = Client(stand_in, "other-key", "other-secret")
    cert_id = client.upload(issue()).json()["certID"]

    assert None is other.certificates().json()["certs"]
    assert refusal(404908) == code(other.certificate(cert_id)) == code(other.delete(cert_id))
    assert OK == code(Client(stand_in, "IAM-key", "iam-secret").certificate(cert_id))
    assert OK == code(client.delete(cert_id))
    for gone_id in (cert_id, "0" * 24):
        assert refusal(400401) == code(client.certificate(gone_id)) == code(client.delete(gone_id))


@pytest.mark.parametrize(
    ("names", "domain", "expected"),
    [
        (["www.example.com"], "www.example.com", True),
        (["WWW.example.com"], "www.example.com", True),
        (["*.example.com"], "www.example.com", True),
        (["*.example.com"], "a.www.example.com", False),
        (["*.example.com"], "example.com", False),
        (["example.com"], "www.example.com", False),
        (["*.example.com"], ".example.com", True),
        (["example.com", "www.example.com"], ".example.com", False),
        (["*.example.com"], ".www.example.com", False),
        ([], "www.example.com", False),
    ],
)
def test_wildcard_covers_a_single_label(names: list[str], domain: str, expected: object) -> None:
    """A wildcard reaches one label deep, and a wildcard domain needs the same wildcard."""
    assert expected is covers(names, domain)
