"""Keys and certificate requests."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from hypothesis import given
from hypothesis import strategies as st

from certferry.adapters.acme.csr import LONGEST_COMMON_NAME, is_of_type, make_csr, new_key
from certferry.core.certificates.certificate import KeyType
from certferry.core.certificates.pem import common_name
from certferry.core.secret import Secret

KEYS: dict[KeyType, Secret] = {
    key_type: new_key(key_type) for key_type in KeyType if key_type is not KeyType.RSA4096
}

NAMES = st.from_regex(r"(\*\.)?[a-z]{1,30}(\.[a-z]{1,30}){1,3}", fullmatch=True)


@pytest.mark.parametrize("key_type", KEYS)
def test_key_is_of_the_kind_asked_for_and_of_no_other(key_type: KeyType) -> None:
    """In PKCS#8, the form that every target takes."""
    pem = KEYS[key_type]

    assert pem.reveal().startswith("-----BEGIN PRIVATE KEY-----\n")
    assert [key_type] == [other for other in KeyType if is_of_type(pem, other)]


def test_key_of_a_foreign_kind_is_of_none() -> None:
    """A key that was never asked for, or is none, belongs to no order of ours."""
    foreign = ed25519.Ed25519PrivateKey.generate()
    pem = foreign.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    for key_pem in (Secret(pem), Secret(""), Secret("-----BEGIN PRIVATE KEY-----")):
        assert [] == [key_type for key_type in KeyType if is_of_type(key_pem, key_type)]


def test_keys_are_new_each_time() -> None:
    """No two certificates share one."""
    assert new_key(KeyType.EC256) != new_key(KeyType.EC256)


@given(names=st.lists(NAMES, min_size=1, max_size=5, unique=True))
def test_request_carries_the_names_in_order_and_the_first_that_fits_as_common_name(
    names: list[str],
) -> None:
    """The common name is left out only where no name fits; the signature is the key's."""
    csr = make_csr(names, KEYS[KeyType.EC256])

    san = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    key = load_pem_private_key(KEYS[KeyType.EC256].reveal().encode(), password=None)
    fitting = [name for name in names if len(name) <= LONGEST_COMMON_NAME]
    assert names == san.get_values_for_type(x509.DNSName)
    assert (fitting[0] if fitting else "") == common_name(csr.subject)
    assert csr.is_signature_valid
    assert key.public_key() == csr.public_key()


def test_long_first_name_leaves_the_common_name_to_the_next() -> None:
    """Some places refuse a certificate without one."""
    long = ".".join(["a" * 30, "b" * 30, "example.com"])

    csr = make_csr([long, "*.example.com", "example.com"], KEYS[KeyType.EC256])

    assert "*.example.com" == common_name(csr.subject)
