"""Reading certificates, chains and keys."""

from __future__ import annotations

from base64 import b64decode, b64encode
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from certferry.core.certificate import CertificateBundle, parse_bundle
from certferry.core.secret import Secret
from certferry.errors import CertificateError
from certferry.sandbox.authority import Authority, Issued
from certferry.testing.certificates import make_bundle
from tests.core.strategies import NOW

NAMES = ("img.example.com", "*.img.example.com")


@pytest.fixture(scope="module")
def authority() -> Authority:
    """A CA with a root and an intermediate."""
    return Authority("Test CA")


@pytest.fixture(scope="module")
def issued(authority: Authority) -> Issued:
    """A leaf with its chain and key."""
    return authority.issue(NAMES, NOW, NOW + timedelta(days=90))


def test_facts_of_a_leaf_are_read(issued: Issued) -> None:
    """Names in order, validity in UTC, and the fingerprint as the identity."""
    bundle = parse_bundle(issued.fullchain_pem, Secret(issued.privkey_pem))

    leaf = bundle.certificate
    assert NAMES == leaf.names
    assert NAMES[0] == leaf.common_name
    assert (NOW, NOW + timedelta(days=90)) == (leaf.not_before, leaf.not_after)
    assert "ec256" == leaf.key_type
    assert 64 == len(leaf.fingerprint)
    assert leaf.covers("a.img.example.com")
    assert bundle.key_matches
    assert bundle.chain_complete


def test_root_is_left_out(authority: Authority, issued: Issued) -> None:
    """A chain that brings its root is taken without it."""
    plain = parse_bundle(issued.fullchain_pem, Secret(issued.privkey_pem))
    with_root = parse_bundle(issued.fullchain_pem + authority.root_pem, Secret(issued.privkey_pem))

    assert plain == with_root
    assert plain.fullchain_pem == plain.cert_pem + plain.chain_pem


def test_leaf_alone_is_incomplete(issued: Issued) -> None:
    """Without its issuer certificate a chain is told to be incomplete, for safety to refuse."""
    leaf = parse_bundle(issued.fullchain_pem, Secret(issued.privkey_pem)).cert_pem

    assert not parse_bundle(leaf, Secret(issued.privkey_pem)).chain_complete


def test_chain_in_the_wrong_order_is_incomplete(authority: Authority, issued: Issued) -> None:
    """An issuer certificate that issued something else does not complete a chain."""
    other = Authority("Other CA").issue(NAMES, NOW, NOW + timedelta(days=90))
    stranger = parse_bundle(other.fullchain_pem, Secret(other.privkey_pem)).chain_pem
    leaf = parse_bundle(issued.fullchain_pem, Secret(issued.privkey_pem)).cert_pem

    assert not parse_bundle(leaf + stranger, Secret(issued.privkey_pem)).chain_complete


def ca_alone(bundle: CertificateBundle) -> str:
    """Give the issuer certificate of a public CA's kind: it has no subject alternative name."""
    issuer = x509.load_pem_x509_certificate(bundle.chain_pem.encode())
    with pytest.raises(x509.ExtensionNotFound):
        issuer.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return bundle.chain_pem


def test_issuer_certificate_first_is_the_wrong_order() -> None:
    """It is said before anything is said of names, which an issuer certificate has none of."""
    bundle = make_bundle(*NAMES, not_before=NOW)
    turned = ca_alone(bundle) + bundle.cert_pem

    with pytest.raises(CertificateError, match="the chain is in the wrong order") as caught:
        parse_bundle(turned, bundle.privkey_pem)

    assert "the leaf first" in str(caught.value.hint)


def test_issuer_certificate_is_no_leaf() -> None:
    """A chain without its leaf is told as what it is."""
    bundle = make_bundle(*NAMES, not_before=NOW)

    with pytest.raises(CertificateError, match="an issuer certificate stands where the leaf"):
        parse_bundle(ca_alone(bundle), bundle.privkey_pem)


def test_name_in_the_subject_alone_is_told() -> None:
    """The hint is about names, and not about the order."""
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
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()

    with pytest.raises(CertificateError, match="no subject alternative names") as caught:
        parse_bundle(leaf.public_bytes(serialization.Encoding.PEM).decode(), Secret(privkey))

    assert "with every name as a subject alternative name" in str(caught.value.hint)


def test_foreign_key_is_told(authority: Authority, issued: Issued) -> None:
    """A key of another certificate is read, and told not to match."""
    other = authority.issue(NAMES, NOW, NOW + timedelta(days=90), key_type="rsa2048")

    bundle = parse_bundle(issued.fullchain_pem, Secret(other.privkey_pem))

    assert not bundle.key_matches


def test_keys_become_pkcs8(issued: Issued) -> None:
    """Whatever form a key came in, it leaves in the one that every target takes."""
    key = serialization.load_pem_private_key(issued.privkey_pem.encode(), None)
    traditional = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    ).decode()

    bundle = parse_bundle(issued.fullchain_pem, Secret(traditional))

    assert bundle.privkey_pem.reveal().startswith("-----BEGIN PRIVATE KEY-----")
    assert bundle.key_matches


def test_rsa_leaf_tells_its_key_type(authority: Authority) -> None:
    """The key type is the operator's word for it."""
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


def test_unreadable_key_is_told_without_showing_it(issued: Issued) -> None:
    """An error about a key never quotes it, also not through its cause."""
    for key in ("no key at all", _with_passphrase(), issued.privkey_pem.replace("M", "")):
        with pytest.raises(CertificateError) as caught:
            parse_bundle(issued.fullchain_pem, Secret(key))

        assert caught.value.hint is not None
        assert key not in str(caught.value)
        assert caught.value.__cause__ is None


def test_unreadable_certificate_is_told(issued: Issued) -> None:
    """What is no PEM, and a key in the certificate's place, are named as such."""
    for pem in ("", "nonsense", issued.privkey_pem):
        with pytest.raises(CertificateError):
            parse_bundle(pem, Secret(issued.privkey_pem))


@given(at=st.integers(min_value=0), cut=st.booleans())
@settings(deadline=None, max_examples=60)
@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
def test_damaged_certificate_is_told_in_words(issued: Issued, at: int, *, cut: bool) -> None:
    """Whichever byte of its DER is another or the last one, no parser's own words are shown."""
    first, rest = issued.fullchain_pem.split("-----END CERTIFICATE-----\n", 1)
    der = bytearray(b64decode(first.partition("\n")[2]))
    at %= len(der)
    der[at] ^= 0xFF
    body = b64encode(der[:at] if cut else der).decode()
    pem = f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n{rest}"

    try:
        parse_bundle(pem, Secret(issued.privkey_pem))
    except CertificateError as error:
        told = f"{error} {error.hint}"
        assert not any(word in told for word in ("ParseError", "kind:", "ASN.1"))
