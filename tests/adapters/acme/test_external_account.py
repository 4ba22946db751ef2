"""A CA account bound to an external account (RFC 8555 §7.3.4)."""

from __future__ import annotations

import logging
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from josepy.b64 import b64encode

from certferry.core.desired.certificate import ExternalAccount
from certferry.core.redaction import Secret
from certferry.errors import ConfigError, OrderFailed
from certferry_sandbox.nameserver.service import DnsService
from certferry_sandbox.pebble import Pebble
from certferry_sandbox.zones import Zones
from tests.adapters.acme.account_bench import account
from tests.adapters.acme.bench import Bench

HMAC_KEY = b64encode(bytes(range(32))).decode()


@pytest.fixture(scope="module")
def strict_pebble(dns_service: DnsService) -> Iterator[Pebble]:
    eab = {"customer-1": HMAC_KEY}
    with Pebble(dns_service.resolver_endpoint, nonce_reject=0, eab=eab) as pebble:
        yield pebble


@pytest.fixture
def eab_bench(strict_pebble: Pebble, zones: Zones, tmp_path: Path) -> Iterator[Bench]:
    with Bench(strict_pebble, zones, tmp_path) as bench:
        yield bench


def test_external_account_is_bound(eab_bench: Bench) -> None:
    """With a key identifier and an HMAC key the CA registers an account."""
    external = ExternalAccount("customer-1", Secret(HMAC_KEY))

    assert eab_bench.issue(issuer=eab_bench.issuer(external=external)).key_matches


def test_log_contains_no_secret(eab_bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """HMAC key and private keys stay out of the log, even at every library's debug level."""
    caplog.set_level(logging.DEBUG)
    external = ExternalAccount("customer-1", Secret(HMAC_KEY))

    bundle = eab_bench.issue(issuer=eab_bench.issuer(external=external))

    assert "POST" in caplog.text
    for secret in (
        HMAC_KEY,
        *pem_lines(bundle.privkey_pem),
        *pem_lines(account(eab_bench).key_pem),
    ):
        assert secret not in caplog.text


def pem_lines(key_pem: Secret) -> list[str]:
    return key_pem.reveal().splitlines()[1:-1]


@pytest.mark.parametrize(
    ("external", "problem"),
    [
        (None, "externalAccountRequired"),
        (ExternalAccount("customer-2", Secret(HMAC_KEY)), "references a key that is not known"),
    ],
    ids=["missing", "wrong"],
)
def test_unknown_external_account_is_explained(
    eab_bench: Bench, external: ExternalAccount | None, problem: str
) -> None:
    """The error quotes the CA, and the hint names both settings."""
    with pytest.raises(OrderFailed, match=problem) as failure:
        eab_bench.issue(issuer=eab_bench.issuer(external=external))

    assert "eab_kid" in str(failure.value.hint)
    assert "eab_hmac_key" in str(failure.value.hint)


@pytest.mark.parametrize("key", ["", "a", "abcde", "with/slash", "two words", "\N{EURO SIGN}uro"])
def test_malformed_hmac_key_is_a_configuration_error(key: str) -> None:
    """The error comes before the first request, and hides the key."""
    with pytest.raises(ConfigError, match="not base64url text") as failure:
        ExternalAccount("customer-1", Secret(key))

    assert not key or f" {key}" not in str(failure.value)


@given(st.binary(min_size=1))
def test_hmac_key_in_base64url_is_accepted(key: bytes) -> None:
    """Padding is optional."""
    padded = urlsafe_b64encode(key).decode()

    for text in (padded, padded.rstrip("=")):
        assert text == ExternalAccount("customer-1", Secret(text)).hmac_key.reveal()
