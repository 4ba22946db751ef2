"""The parsing of certificates, chains and keys."""

from __future__ import annotations

import hashlib
from base64 import b64decode, b64encode
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from certferry.core.certificates.certificate import CertificateBundle, covered_by
from certferry.core.certificates.pem import (
    certificate_pem,
    digests_of_key,
    digests_of_leaf,
    parse_bundle,
    parse_chain,
    pkcs8_pem,
    with_issuer,
)
from certferry.core.redaction import Secret
from certferry.errors import CertificateError
from certferry_sandbox.authority import Authority, Issued
from certferry_sandbox.testing.certificates import make_bundle
from tests.core.certificates.odd_kinds import SM2, SM2_SM3, UNKNOWN_CURVE, on_curve, signed_as
from tests.core.strategies import NOW

NAMES = ("img.example.com", "*.img.example.com")
LIFE = timedelta(days=90)
_DER = serialization.Encoding.DER


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority("Test CA")


@pytest.fixture(scope="module")
def issued(authority: Authority) -> Issued:
    return authority.issue(NAMES, NOW, NOW + timedelta(days=90))


def test_facts_of_a_leaf_are_read(issued: Issued) -> None:
    """The names come in order, the validity in UTC, and the fingerprint as the identity."""
    bundle = parse_bundle(issued.fullchain_pem, Secret(issued.privkey_pem))

    leaf = bundle.certificate
    assert NAMES == leaf.names
    assert NAMES[0] == leaf.common_name
    assert (NOW, NOW + timedelta(days=90)) == (leaf.not_before, leaf.not_after)
    assert "ec256" == leaf.key_type
    assert 64 == len(leaf.fingerprint)
    assert covered_by(leaf.names, "a.img.example.com")
    assert bundle.key_matches
    assert bundle.chain_complete


def test_root_is_left_out(authority: Authority, issued: Issued) -> None:
    """A chain with its root is stored without the root."""
    plain = parse_bundle(issued.fullchain_pem, Secret(issued.privkey_pem))
    with_root = parse_bundle(issued.fullchain_pem + authority.root_pem, Secret(issued.privkey_pem))

    assert plain == with_root
    assert plain.fullchain_pem == plain.cert_pem + plain.chain_pem


def test_leaf_alone_is_incomplete(issued: Issued) -> None:
    """A chain without the issuer certificate is incomplete, so that safety rules refuse the
    chain.
    """
    leaf = parse_bundle(issued.fullchain_pem, Secret(issued.privkey_pem)).cert_pem

    assert not parse_bundle(leaf, Secret(issued.privkey_pem)).chain_complete


def test_issuer_certificate_of_another_ca_completes_no_chain(
    authority: Authority, issued: Issued
) -> None:
    """The issuer certificate must have signed the leaf."""
    other = Authority("Other CA").issue(NAMES, NOW, NOW + timedelta(days=90))
    stranger = parse_bundle(other.fullchain_pem, Secret(other.privkey_pem)).chain_pem
    leaf = parse_bundle(issued.fullchain_pem, Secret(issued.privkey_pem)).cert_pem

    assert not parse_bundle(leaf + stranger, Secret(issued.privkey_pem)).chain_complete


def test_leaf_that_issued_another_completes_no_chain(issued: Issued) -> None:
    """Every holder of a certificate could sign with its key; clients refuse such a chain."""
    signer = serialization.load_pem_private_key(issued.privkey_pem.encode(), password=None)
    pem, key_pem = signed_by(issued.leaf.subject, signer, may_issue=False)

    assert not parse_bundle(pem + issued.fullchain_pem, key_pem).chain_complete


def test_certificate_that_may_issue_is_no_leaf_even_with_its_key(issued: Issued) -> None:
    """A server with such a certificate could sign certificates for every name."""
    signer = serialization.load_pem_private_key(issued.privkey_pem.encode(), password=None)
    pem, key_pem = signed_by(issued.leaf.subject, signer, may_issue=True)

    with pytest.raises(CertificateError, match="an issuer certificate is in the leaf's"):
        parse_bundle(pem, key_pem)


def signed_by(issuer: x509.Name, signer: object, *, may_issue: bool) -> tuple[str, Secret]:
    """Return a certificate that another key has signed, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "evil.example.net")]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=90))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("evil.example.net")]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=may_issue, path_length=None), critical=True)
        .sign(signer, hashes.SHA256())  # type: ignore[arg-type]  # a private key
    )
    return certificate_pem(certificate), pkcs8_pem(key)


def ca_alone(bundle: CertificateBundle) -> str:
    """Return an issuer certificate of a public CA's kind, without a subject alternative name."""
    issuer = x509.load_pem_x509_certificate(bundle.chain_pem.encode())
    with pytest.raises(x509.ExtensionNotFound):
        issuer.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return bundle.chain_pem


def test_issuer_certificate_first_is_the_wrong_order() -> None:
    """The order is reported first, since an issuer certificate has no names to compare."""
    bundle = make_bundle(*NAMES, not_before=NOW)
    turned = ca_alone(bundle) + bundle.cert_pem

    with pytest.raises(CertificateError, match="the chain is in the wrong order") as caught:
        parse_bundle(turned, bundle.privkey_pem)

    assert "the leaf first" in str(caught.value.hint)


def test_issuer_certificate_is_no_leaf() -> None:
    """A chain without its leaf is reported as such."""
    bundle = make_bundle(*NAMES, not_before=NOW)

    with pytest.raises(CertificateError, match="an issuer certificate is in the leaf's"):
        parse_bundle(ca_alone(bundle), bundle.privkey_pem)


def test_name_in_the_subject_alone_is_reported() -> None:
    """The hint is about names, and the order is in order."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAMES[0])])
    leaf = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    privkey = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()

    with pytest.raises(CertificateError, match="no subject alternative names") as caught:
        parse_bundle(leaf.public_bytes(serialization.Encoding.PEM).decode(), Secret(privkey))

    assert "with every name as a subject alternative name" in str(caught.value.hint)


def test_foreign_key_is_reported(authority: Authority, issued: Issued) -> None:
    """A key of another certificate is read, and reported as different."""
    other = authority.issue(NAMES, NOW, NOW + timedelta(days=90), key_type="rsa2048")

    bundle = parse_bundle(issued.fullchain_pem, Secret(other.privkey_pem))

    assert not bundle.key_matches


def test_keys_become_pkcs8(issued: Issued) -> None:
    """A key in any form is stored in the form that every target takes."""
    key = serialization.load_pem_private_key(issued.privkey_pem.encode(), None)
    traditional = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    ).decode()

    bundle = parse_bundle(issued.fullchain_pem, Secret(traditional))

    assert bundle.privkey_pem.reveal().startswith("-----BEGIN PRIVATE KEY-----")
    assert bundle.key_matches


def test_rsa_leaf_shows_its_key_type(authority: Authority) -> None:
    """The key type has the operator's word."""
    issued = authority.issue(NAMES, NOW, NOW + timedelta(days=90), key_type="rsa2048")

    bundle = parse_bundle(issued.fullchain_pem, Secret(issued.privkey_pem))

    assert "rsa2048" == bundle.certificate.key_type


def _with_passphrase() -> str:
    return (
        ec.generate_private_key(ec.SECP256R1())
        .private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"correct horse"),
        )
        .decode()
    )


def test_unreadable_key_is_reported_without_its_text(issued: Issued) -> None:
    """An error about a key never quotes the key, even in its cause."""
    for key in ("no key at all", _with_passphrase(), issued.privkey_pem.replace("M", "")):
        with pytest.raises(CertificateError) as caught:
            parse_bundle(issued.fullchain_pem, Secret(key))

        assert caught.value.hint is not None
        assert key not in str(caught.value)
        assert caught.value.__cause__ is None


def refused(fullchain: str, privkey: str) -> CertificateError:
    """Return the error of a pair that is refused."""
    with pytest.raises(CertificateError) as caught:
        parse_bundle(fullchain, Secret(privkey))
    assert caught.value.__cause__ is None
    return caught.value


@pytest.mark.parametrize(
    ("curve", "name"),
    [(SM2, "SM2"), (UNKNOWN_CURVE, "1.2.840.10045.3.1.127")],
    ids=["SM2", "unknown"],
)
def test_kind_that_cannot_be_read_is_reported(issued: Issued, curve: bytes, name: str) -> None:
    """A key or certificate on an unknown curve is called by the curve's name, never damaged. The
    hint names the supported kinds.
    """
    of_key = refused(issued.fullchain_pem, on_curve(issued.privkey_pem, curve))
    of_certificate = refused(on_curve(issued.fullchain_pem, curve), issued.privkey_pem)

    assert f"certferry cannot read this kind of private key: {name}" == str(of_key)
    assert f"certferry cannot read this kind of certificate: {name}" == str(of_certificate)
    for error in (of_key, of_certificate):
        assert "RSA, or ECDSA with P-256 or P-384" in str(error.hint)


def test_signature_that_cannot_be_read_is_reported(issued: Issued) -> None:
    """The signer of the leaf cannot be proven, so the error names the kind, not an incomplete
    chain.
    """
    leaf, end, chain = issued.fullchain_pem.partition("-----END CERTIFICATE-----\n")
    error = refused(signed_as(leaf + end, SM2_SM3) + chain, issued.privkey_pem)

    assert "certferry cannot read this kind of certificate: SM2" == str(error)


def test_unreadable_root_is_left_out(authority: Authority, issued: Issued) -> None:
    """Clients get no root, so an unknown curve or a damaged extension in the root is ignored."""
    plain = parse_bundle(issued.fullchain_pem, Secret(issued.privkey_pem))
    roots = (on_curve(authority.root_pem), with_odd_extension(authority.root_pem))

    for root in roots:
        assert plain == parse_bundle(issued.fullchain_pem + root, Secret(issued.privkey_pem))


def with_odd_extension(pem: str) -> str:
    """Return a certificate whose basic constraints are damaged: their SEQUENCE is a SET."""
    der = bytearray(x509.load_pem_x509_certificate(pem.encode()).public_bytes(_DER))
    at = der.index(bytes.fromhex("0603551d13"))
    der[der.index(0x30, at)] = 0x31
    body = b64encode(der).decode()
    corrupt = f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n"
    with pytest.raises(ValueError, match="error parsing asn1"):
        _ = x509.load_pem_x509_certificate(corrupt.encode()).extensions
    return corrupt


def test_unreadable_certificate_is_reported(issued: Issued) -> None:
    """Text that is no PEM, and a key in place of the certificate, are reported."""
    for pem in ("", "nonsense", issued.privkey_pem):
        with pytest.raises(CertificateError):
            parse_bundle(pem, Secret(issued.privkey_pem))


@given(at=st.integers(min_value=0), cut=st.booleans())
@settings(deadline=None, max_examples=60)
@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
def test_damaged_certificate_is_reported_in_words(issued: Issued, at: int, *, cut: bool) -> None:
    """For any changed or missing byte of the DER, the error shows no words of the parser."""
    first, chain = issued.fullchain_pem.split("-----END CERTIFICATE-----\n", 1)
    der = bytearray(b64decode(first.partition("\n")[2]))
    at %= len(der)
    der[at] ^= 0xFF
    body = b64encode(der[:at] if cut else der).decode()
    pem = f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n{chain}"

    try:
        parse_bundle(pem, Secret(issued.privkey_pem))
    except CertificateError as error:
        sentences = f"{error} {error.hint}"
        assert not any(word in sentences for word in ("ParseError", "kind:", "ASN.1"))


def test_leaf_of_the_year_1(authority: Authority) -> None:
    """The date counts as damage; a moment computed from the year 1 would leave the calendar."""
    far = datetime(2055, 1, 1, tzinfo=UTC)  # from 2050 on with four digits (RFC 5280 §4.1.2.5)
    issued = authority.issue(NAMES, NOW, far)
    der = issued.leaf.public_bytes(_DER).replace(b"20550101000000Z", b"00010101000000Z")
    pem = certificate_pem(x509.load_der_x509_certificate(der))

    assert "damaged" in str(refused(pem, issued.privkey_pem))


def signed_by_a_root(root_name: str) -> tuple[str, str, Secret]:
    """Return a leaf, its self-signed issuer, and the leaf's key: a small company's CA."""
    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root = named(root_name)
    builder = x509.CertificateBuilder().not_valid_before(NOW).not_valid_after(NOW + LIFE)
    builder = builder.serial_number(1).issuer_name(root)
    issuer = builder.subject_name(root).public_key(root_key.public_key())
    issuer = issuer.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    leaf = builder.subject_name(named(NAMES[0])).public_key(key.public_key())
    names = x509.SubjectAlternativeName([x509.DNSName(NAMES[0])])
    leaf = leaf.add_extension(names, critical=False)
    leaf_pem, root_pem = (
        certificate_pem(unsigned.sign(root_key, hashes.SHA256())) for unsigned in (leaf, issuer)
    )
    return leaf_pem, root_pem, pkcs8_pem(key)


def named(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def test_root_that_is_the_leafs_issuer_stays(authority: Authority) -> None:
    """The chain of a private CA without an intermediate is complete with its root, also when read
    again. Another root of the same name is left out.
    """
    leaf, root, key = signed_by_a_root("Company Root")
    _, namesake, _ = signed_by_a_root("Company Root")

    bundle = parse_bundle(leaf + authority.root_pem + namesake + root, key)

    assert ((root,), True) == (bundle.chain, bundle.chain_complete)
    assert bundle == parse_bundle(bundle.fullchain_pem, key)
    stranger = parse_bundle(leaf + authority.root_pem + namesake, key)
    assert ((), False) == (stranger.chain, stranger.chain_complete)


@pytest.mark.parametrize(
    "beside", [b"", b"not PEM", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_issuer_of_a_leaf_that_came_alone(beside: bytes) -> None:
    """The issuer is searched in a bundle of certificates; an unreadable bundle adds nothing."""
    leaf, root, _ = signed_by_a_root("Company Root")
    alone = parse_chain(leaf)

    completed = with_issuer(alone, root.encode() + beside)

    is_readable = b"BEGIN" not in beside
    assert (root if is_readable else leaf) == certificate_pem(completed[-1])
    assert alone == with_issuer(alone, beside)


# --- Digests of own certificates


def test_digests_of_a_leaf_are_those_of_the_precertificate(authority: Authority) -> None:
    """SCTs come into the certificate after the log has seen the precertificate."""
    begin, key = NOW.replace(microsecond=0), ec.generate_private_key(ec.SECP256R1())
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(authority.intermediate.subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=90))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("a.example.com")]), critical=True)
    )
    logged = builder.sign(key, hashes.SHA256())
    scts = x509.UnrecognizedExtension(
        x509.PrecertificateSignedCertificateTimestamps.oid, b"\x04\x02\x00\x00"
    )
    served = builder.add_extension(scts, critical=False).sign(key, hashes.SHA256())

    assert hashes_of(logged) == digests_of_leaf(certificate_pem(served))
    assert hashes_of(logged) == digests_of_leaf(certificate_pem(logged))
    assert digests_of_key(pkcs8_pem(key)) < digests_of_leaf(certificate_pem(served))


def hashes_of(certificate: x509.Certificate) -> set[str]:
    key = certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    parts = (key, certificate.tbs_certificate_bytes)
    return {hashlib.sha256(part).hexdigest() for part in parts}


def test_unreadable_key_and_certificate_have_no_digest() -> None:
    """No CA certifies an unreadable key."""
    assert frozenset() == digests_of_key(Secret("no key"))
    assert frozenset() == digests_of_leaf("no certificate")
