"""Certificates revoked at Pebble: as the account, or with the certificate's own key."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from certferry.core.certificates.certificate import CertificateBundle, KeyType
from certferry.core.certificates.lineage import RevocationReason
from certferry.core.certificates.pem import pkcs8_pem
from certferry.errors import CaUnavailable, CertificateError, OrderFailed
from certferry_sandbox.faults import Fault
from certferry_sandbox.testing.certificates import make_key
from tests.adapters.acme.account_bench import account, ca_account
from tests.adapters.acme.bench import Bench
from tests.adapters.acme.proxy import refusal

SUPERSEDED = RevocationReason.SUPERSEDED


def status(bench: Bench, bundle: CertificateBundle) -> str:
    """What the CA says of a certificate."""
    return bench.proxy.upstream.certificate_status(bundle.certificate.serial)


@pytest.mark.parametrize("reason", list(RevocationReason))
def test_certificate_is_revoked_as_the_account(bench: Bench, reason: RevocationReason) -> None:
    """With the number of the reason (RFC 5280 §5.3.1)."""
    bundle = bench.issue()
    assert "Valid" == status(bench, bundle)

    ca_account(bench).revoke(bundle, reason)

    assert "Revoked" == status(bench, bundle)
    assert reason.code == bench.proxy.payload("POST /revoke-cert")["reason"]
    assert 1 == len(bench.proxy.requests("POST /revoke-cert"))


@pytest.mark.parametrize("key_type", [KeyType.EC256, KeyType.EC384, KeyType.RSA2048])
def test_without_an_account_the_certificates_own_key_does(bench: Bench, key_type: KeyType) -> None:
    """Whatever its kind."""
    bundle = bench.issue(key_type=key_type)
    bench.state.replace_account(account(bench), None)

    ca_account(bench).revoke(bundle, SUPERSEDED)

    assert "Revoked" == status(bench, bundle)


def test_account_that_may_not_leaves_it_to_the_key(bench: Bench) -> None:
    """As when another account had ordered it: this one is refused first."""
    bundle = bench.issue()
    ca_account(bench).deactivate()
    bench.state.drop_order(bench.lease())
    bench.issue(f"www.{bench.name}")  # by a new account

    ca_account(bench).revoke(bundle, SUPERSEDED)

    assert "Revoked" == status(bench, bundle)
    assert 2 == len(bench.proxy.requests("POST /revoke-cert"))


def test_certificate_that_is_revoked_already_is_done(bench: Bench) -> None:
    """As after a run that was killed before it heard the answer."""
    bundle = bench.issue()
    bench.proxy.faults.add(Fault.reset_after(), on="POST /revoke-cert")

    ca_account(bench).revoke(bundle, SUPERSEDED)
    ca_account(bench).revoke(bundle, SUPERSEDED)

    assert "Revoked" == status(bench, bundle)


def test_refusal_for_another_reason_is_told(bench: Bench) -> None:
    """It is not tried with the key, which would be refused as well."""
    bundle = bench.issue()
    bench.proxy.faults.add(refusal("badRevocationReason", "not that", 400), on="POST /revoke-cert")

    with pytest.raises(OrderFailed, match="not that"):
        ca_account(bench).revoke(bundle, SUPERSEDED)

    assert 1 == len(bench.proxy.requests("POST /revoke-cert"))
    assert "Valid" == status(bench, bundle)


def test_without_its_key_the_account_alone_can(bench: Bench) -> None:
    """The CA's refusal is told."""
    bundle = bench.issue()
    without = replace(bundle, privkey_pem=make_key(), key_matches=False)
    bench.proxy.faults.add(refusal("unauthorized", "not yours"), on="POST /revoke-cert")

    with pytest.raises(OrderFailed, match="not yours"):
        ca_account(bench).revoke(without, SUPERSEDED)


def test_key_that_can_sign_no_request(bench: Bench) -> None:
    """As of a certificate that was made elsewhere: it is told, and nothing is sent."""
    odd = replace(bench.issue(), privkey_pem=pkcs8_pem(ed25519.Ed25519PrivateKey.generate()))
    bench.state.replace_account(account(bench), None)

    with pytest.raises(CertificateError, match="no request to a CA can be signed"):
        ca_account(bench).revoke(odd, SUPERSEDED)
    assert [] == bench.proxy.requests("POST /revoke-cert")


def test_ca_that_does_not_answer(bench: Bench) -> None:
    """It is told, and the certificate is valid as before."""
    bundle = bench.issue()
    bench.proxy.faults.add(Fault.reset_before(), on="POST /revoke-cert", times=None)

    with pytest.raises(CaUnavailable, match="could not be reached"):
        ca_account(bench).revoke(bundle, SUPERSEDED)
    assert "Valid" == status(bench, bundle)
