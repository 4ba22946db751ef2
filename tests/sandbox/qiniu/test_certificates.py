"""Certificates at the Qiniu stand-in: what is taken, what is refused, listing and deletion."""

from __future__ import annotations

import re
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
from tests.sandbox.qiniu_calls import OK, START, Client, Clock, code, issue, refusal

DAY = timedelta(days=1)


def blocks(pem: str) -> list[str]:
    """Split a chain into its certificates."""
    end = "-----END CERTIFICATE-----\n"
    return [part + end for part in pem.split(end) if part]


def sec1(issued: Issued) -> str:
    """Give the key of an EC certificate labelled `EC PRIVATE KEY`."""
    key = serialization.load_pem_private_key(issued.privkey_pem.encode(), None)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    ).decode()


def encrypted(issued: Issued) -> str:
    """Give the key under a passphrase."""
    key = serialization.load_pem_private_key(issued.privkey_pem.encode(), None)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"pass"),
    ).decode()


def signed_by(issuer: x509.Name, issuer_key: Any, key: Any) -> str:
    """Make a bare certificate for www.example.com that the issuer's key signs."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "www.example.com")])
    return (
        x509.CertificateBuilder(issuer, subject, key.public_key(), 1, START - DAY, START + 89 * DAY)
        .sign(issuer_key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
        .decode()
    )


def pkcs8(key: Any) -> str:
    """Give a key as Qiniu likes it."""
    return key.private_bytes(  # type: ignore[no-any-return]  # the tests' keys are of any kind
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


@pytest.mark.parametrize("key_type", ["ec256", "rsa2048"])
def test_good_certificate_is_taken(client: Client, key_type: Any) -> None:
    """An id of 24 hex digits comes back, and the certificate can be read with chain and key."""
    issued = issue("www.example.com", "*.img.example.com", key_type=key_type)
    answer = client.upload(issued, "mine")

    assert OK == code(answer)
    cert_id = answer.json()["certID"]
    assert re.fullmatch("[0-9a-f]{24}", cert_id)

    read = client.certificate(cert_id).json()["cert"]
    assert issued.fullchain_pem == read["ca"]
    assert issued.privkey_pem == read["pri"]
    expected = {
        "certid": cert_id,
        "name": "mine",
        "common_name": "www.example.com",
        "dnsnames": ["www.example.com", "*.img.example.com"],
        "create_time": int(START.timestamp()),
        "not_before": int((START - DAY).timestamp()),
        "not_after": int((START + 89 * DAY).timestamp()),
        "encrypt": "RSA" if key_type == "rsa2048" else "ECDSA",
    }
    assert expected == {key: read[key] for key in expected}


def test_same_certificate_twice_gets_two_ids(client: Client) -> None:
    """There is no recognition of duplicates."""
    issued = issue()

    assert 2 == len({client.upload(issued).json()["certID"] for _ in range(2)})


def test_root_at_the_end_is_fine(client: Client) -> None:
    """The root is optional."""
    issued = issue()

    assert OK == code(client.upload(issued, ca=issued.fullchain_pem + calls.authority().root_pem))


def test_chain_without_pem_is_404906(client: Client) -> None:
    """The first look is whether it is PEM at all."""
    assert refusal(404906) == code(client.upload(issue(), ca="certificate"))
    assert refusal(404906) == code(client.upload(issue(), ca=""))


def test_pem_that_is_no_certificate_is_404907(client: Client) -> None:
    """The second is whether it can be parsed."""
    broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"

    assert refusal(404907) == code(client.upload(issue(), ca=broken))


@pytest.mark.parametrize("pri", ["", "key", "-----BEGIN PRIVATE KEY-----\nAA==\n"])
def test_unreadable_key_is_400327(client: Client, pri: str) -> None:
    """The key must parse."""
    assert refusal(400327) == code(client.upload(issue(), pri=pri))


def test_encrypted_key_is_400327(client: Client) -> None:
    """The key must not need a passphrase."""
    issued = issue()

    assert refusal(400327) == code(client.upload(issued, pri=encrypted(issued)))


def test_key_of_another_kind_is_400327(client: Client) -> None:
    """RSA and EC keys are known; whether others are is not, so they are refused."""
    pri = pkcs8(ed25519.Ed25519PrivateKey.generate())

    assert refusal(400327) == code(client.upload(issue(), pri=pri))


def test_key_of_another_certificate_is_400328(client: Client) -> None:
    """The key must be the leaf's."""
    assert refusal(400328) == code(client.upload(issue(), pri=issue().privkey_pem))
    rsa_key = issue(key_type="rsa2048").privkey_pem
    assert refusal(400328) == code(client.upload(issue(), pri=rsa_key))


def test_sec1_key_is_refused_unless_allowed(client: Client, stand_in: QiniuService) -> None:
    """`EC PRIVATE KEY` gets 400327 by default, and is taken when the switch is off."""
    issued = issue()
    assert refusal(400327) == code(client.upload(issued, pri=sec1(issued)))

    stand_in.certificates.rules.refuse_sec1_keys = False
    assert OK == code(client.upload(issued, pri=sec1(issued)))


@pytest.mark.parametrize(
    ("start", "days", "expected"),
    [
        (START + timedelta(seconds=1), 90, 400321),
        (START - 90 * DAY - timedelta(seconds=1), 90, 400329),
        (START - 61 * DAY, 90, 400322),
        (START, 6, 400322),
    ],
)
def test_validity_is_checked(client: Client, start: Any, days: float, expected: int) -> None:
    """Not yet valid, expired, and fewer than 30 days left each have their code."""
    assert refusal(expected) == code(client.upload(issue(start=start, days=days)))


def test_life_that_must_be_left_is_a_setting(client: Client, stand_in: QiniuService) -> None:
    """Exactly 30 days are enough; with another setting, fewer are."""
    assert OK == code(client.upload(issue(start=START - 60 * DAY)))

    stand_in.certificates.rules.min_remaining = 7 * DAY
    assert OK == code(client.upload(issue(start=START - 83 * DAY)))


def test_leaf_alone_is_400338(client: Client) -> None:
    """The chain is not completed by the service."""
    issued = issue()

    assert refusal(400338) == code(client.upload(issued, ca=blocks(issued.fullchain_pem)[0]))


def test_parent_without_constraints_is_400323(client: Client) -> None:
    """A certificate that does not say it is a CA's is no certificate's issuer."""
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    name = issue().leaf.subject
    chain = signed_by(name, keys[1], keys[0]) + signed_by(name, keys[1], keys[1])

    assert refusal(400323) == code(client.upload(issue(), ca=chain, pri=pkcs8(keys[0])))


def test_wrong_order_is_refused(client: Client) -> None:
    """The leaf comes first: an intermediate in its place does not go with the key."""
    issued = issue()
    leaf, intermediate = blocks(issued.fullchain_pem)

    assert refusal(400328) == code(client.upload(issued, ca=intermediate + leaf))


def test_parent_that_is_none_is_400338(client: Client) -> None:
    """A foreign certificate in the middle breaks the chain."""
    issued = issue()
    leaf, intermediate = blocks(issued.fullchain_pem)
    stranger = Authority("Stranger").intermediate_pem

    assert refusal(400338) == code(client.upload(issued, ca=leaf + stranger + intermediate))


def test_parent_of_the_same_name_with_another_key_is_400323(
    client: Client, stand_in: QiniuService
) -> None:
    """The parent's signature counts, not its name, however well the parent itself is trusted."""
    issued, impostor = issue(), Authority("Trusted")
    stand_in.trust(impostor.root_pem)
    chain = blocks(issued.fullchain_pem)[0] + impostor.intermediate_pem

    assert refusal(400323) == code(client.upload(issued, ca=chain))


def test_private_authority_is_400323(client: Client, stand_in: QiniuService) -> None:
    """An authority that is not trusted is refused, with and without its root in the chain."""
    private = Authority("Private")
    issued = issue(by=private)

    assert refusal(400323) == code(client.upload(issued))
    with_root = issued.fullchain_pem + private.root_pem
    assert refusal(400323) == code(client.upload(issued, ca=with_root))
    stand_in.trust(private.root_pem)
    assert OK == code(client.upload(issued))


def test_self_signed_certificate_is_400323(client: Client) -> None:
    """A root in the leaf's place leads nowhere."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = signed_by(issue().leaf.subject, key, key)

    assert refusal(400323) == code(client.upload(issue(), ca=pem, pri=pkcs8(key)))


def test_leaf_cannot_issue(client: Client) -> None:
    """A parent must be a CA certificate: a chain through another leaf is refused."""
    parent, key = issue(), ec.generate_private_key(ec.SECP256R1())
    parent_key = serialization.load_pem_private_key(parent.privkey_pem.encode(), None)
    chain = signed_by(parent.leaf.subject, parent_key, key) + parent.fullchain_pem

    assert refusal(400323) == code(client.upload(issue(), ca=chain, pri=pkcs8(key)))


def test_empty_common_name_is_400348_unless_allowed(client: Client, stand_in: QiniuService) -> None:
    """A subject without a common name is refused by default."""
    issued = issue(common_name="")
    assert refusal(400348) == code(client.upload(issued))

    stand_in.certificates.rules.refuse_empty_common_name = False
    assert OK == code(client.upload(issued))


def test_quota_is_400500(client: Client, stand_in: QiniuService) -> None:
    """An account keeps no more than its quota; a deletion makes room."""
    stand_in.certificates.quota = 1
    first = client.upload(issue()).json()["certID"]

    assert refusal(400500) == code(client.upload(issue()))
    client.delete(first)
    assert OK == code(client.upload(issue()))


def test_first_broken_rule_gives_the_code(client: Client, stand_in: QiniuService) -> None:
    """The order is PEM, key, validity, chain, common name, quota."""
    stand_in.certificates.quota = 0
    private = Authority("Private")
    late = issue(start=START - 100 * DAY, common_name="", by=private)

    assert refusal(404906) == code(client.upload(late, ca="", pri=""))
    assert refusal(400327) == code(client.upload(late, pri=""))
    assert refusal(400329) == code(client.upload(late))
    assert refusal(400323) == code(client.upload(issue(common_name="", by=private)))
    assert refusal(400348) == code(client.upload(issue(common_name="")))
    assert refusal(400500) == code(client.upload(issue()))


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
def test_body_of_another_shape_is_400000(
    client: Client, stand_in: QiniuService, body: Any, words: str
) -> None:
    """The body must be an object with strings."""
    answer = client.qbox("POST", stand_in.fusion_url + "/sslcert", body)

    assert refusal(400000) == code(answer)
    assert words in answer.json()["error"]


def test_keys_are_found_in_any_case(client: Client, stand_in: QiniuService) -> None:
    """Qiniu's Go server does not care about the case of JSON keys."""
    issued = issue()
    body = {"Name": "n", "CA": issued.fullchain_pem, "Pri": issued.privkey_pem}

    assert OK == code(client.qbox("POST", stand_in.fusion_url + "/sslcert", body))


def test_list_is_paged_to_its_end(client: Client, stand_in: QiniuService) -> None:
    """Pages of `limit` in order of upload, no chain and no key, until the marker is empty."""
    ids = [calls.seed(stand_in, ["a.test"], f"c{number}") for number in range(5)]
    found, marker, pages = [], "", 0
    while pages == 0 or marker:
        page = client.certificates(f"?marker={marker}&limit=2").json()
        found += page["certs"]
        marker, pages = page["marker"], pages + 1

    assert ids == [item["certid"] for item in found]
    assert 3 == pages
    assert not any({"ca", "pri"} & item.keys() for item in found)


def test_full_last_page_is_followed_by_null(client: Client, stand_in: QiniuService) -> None:
    """When the list ends with a full page, the next one has null in place of an array."""
    for _ in range(2):
        calls.seed(stand_in, ["a.test"])
    full = client.certificates("?limit=2").json()
    last = client.certificates(f"?limit=2&marker={full['marker']}").json()

    assert 2 == len(full["certs"])
    assert full["marker"]
    assert {"code": 200, "error": "", "certs": None, "marker": ""} == last


def test_default_page_is_small(client: Client, stand_in: QiniuService) -> None:
    """Without a limit, ten come."""
    for _ in range(11):
        calls.seed(stand_in, ["a.test"])

    assert 10 == len(client.certificates().json()["certs"])


def test_marker_survives_a_deletion(client: Client, stand_in: QiniuService) -> None:
    """What follows a marker does not depend on the certificate it was made from."""
    ids = [calls.seed(stand_in, ["a.test"]) for _ in range(3)]
    first = client.certificates("?limit=1").json()
    client.delete(ids[0])
    rest = client.certificates(f"?marker={first['marker']}").json()

    assert ids[1:] == [item["certid"] for item in rest["certs"]]


def test_marker_that_does_not_advance(client: Client, stand_in: QiniuService) -> None:
    """With the switch off, every page is the first one, with one and the same marker."""
    for _ in range(2):
        calls.seed(stand_in, ["a.test"])
    stand_in.certificates.pager.advances = False
    first = client.certificates("?limit=1").json()

    assert first["marker"]
    assert first == client.certificates(f"?limit=1&marker={first['marker']}").json()


@pytest.mark.parametrize(
    ("query", "expected"),
    [("?limit=0", 400000), ("?limit=1001", 400000), ("?limit=x", 400000), ("?marker=!", 400021)],
)
def test_senseless_paging_is_refused(client: Client, query: str, expected: int) -> None:
    """Limits are 1 to 1000, markers are those that were given out."""
    assert refusal(expected) == code(client.certificates(query))


def test_accounts_do_not_see_each_other(client: Client, stand_in: QiniuService) -> None:
    """A certificate of another account is not listed, and 404908 by its id."""
    stand_in.add_account("other-key", "other-secret")
    other = Client(stand_in, "other-key", "other-secret")
    cert_id = client.upload(issue()).json()["certID"]

    assert None is other.certificates().json()["certs"]
    assert refusal(404908) == code(other.certificate(cert_id))
    assert refusal(404908) == code(other.delete(cert_id))
    assert OK == code(client.delete(cert_id))


def test_sub_account_sees_its_owners_certificates(client: Client, stand_in: QiniuService) -> None:
    """A key of a sub-account works on the account it belongs to."""
    stand_in.add_iam_key("IAM-key", "iam-secret", owner=calls.ACCESS_KEY)
    cert_id = client.upload(issue()).json()["certID"]

    assert OK == code(Client(stand_in, "IAM-key", "iam-secret").certificate(cert_id))


def test_unknown_certificate_is_400401(client: Client) -> None:
    """Neither read nor deleted."""
    assert refusal(400401) == code(client.certificate("0" * 24))
    assert refusal(400401) == code(client.delete("0" * 24))


def test_deleted_certificate_is_gone(client: Client, stand_in: QiniuService) -> None:
    """A deletion is a plain 200, and final."""
    cert_id = client.upload(issue()).json()["certID"]

    assert OK == code(client.delete(cert_id))
    assert refusal(400401) == code(client.certificate(cert_id))
    assert [] == stand_in.certificates.stored()


def test_bound_certificate_is_not_deleted(
    client: Client, stand_in: QiniuService, clock: Clock
) -> None:
    """Bound to a CDN domain: 400611; the old one stays in use until the change is through."""
    old, new = (calls.seed(stand_in, ["www.example.com"]) for _ in range(2))
    stand_in.add_domain("www.example.com", https=old)
    assert refusal(400611) == code(client.delete(old))

    assert OK == code(client.httpsconf("www.example.com", new))
    assert refusal(400611) == code(client.delete(old))
    assert refusal(400611) == code(client.delete(new))

    clock.advance(1)
    assert OK == code(client.delete(old))
    assert refusal(400611) == code(client.delete(new))


def test_certificate_of_a_source_domain_is_not_deleted(
    client: Client, stand_in: QiniuService
) -> None:
    """Bound to a Kodo domain: 400911."""
    cert_id = calls.seed(stand_in, ["src.example.com"])
    stand_in.add_bucket_domain("src.example.com", "bucket", https=cert_id)

    assert refusal(400911) == code(client.delete(cert_id))


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
def test_wildcard_covers_one_label(names: list[str], domain: str, expected: object) -> None:
    """A wildcard reaches one label deep, and a wildcard domain wants the wildcard itself."""
    assert expected is covers(names, domain)
