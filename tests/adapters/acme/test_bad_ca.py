"""A CA that names foreign addresses, sends wrong certificates, or is interrupted."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from certferry.core.certificates.certificate import CertificateBundle, KeyType
from certferry.core.certificates.lineage import RevocationReason
from certferry.core.certificates.pem import pkcs8_pem
from certferry.errors import (
    CaUnavailable,
    CertificateError,
    CertificateRejected,
    ClockWrong,
    Interrupted,
    OrderFailed,
    StateUnavailable,
)
from certferry.text import Text
from certferry.values import replace
from certferry_sandbox.faults import Fault
from certferry_sandbox.httpd import HttpService, Request, Response
from certferry_sandbox.testing.certificates import make_bundle, make_key
from certferry_sandbox.testing.interruptions import Shock
from tests.adapters.acme.account_bench import account, ca_account
from tests.adapters.acme.bench import Bench
from tests.adapters.acme.proxy import refusal, with_fields
from tests.support.tiers import spread

# --- Foreign addresses in the documents of a CA


ELSEWHERE = "http://ca.example.com/acme"
"""A plain-text address, where others could listen."""

ABROAD = "https://10.0.0.5/acme"
"""The address of another service, possibly in this host's network."""

Change = Callable[[Request, Response], Response]


def directory(request: Request, response: Response) -> Response:
    """Name a foreign address for new orders."""
    return with_fields(response, newOrder=ELSEWHERE) if request.path == "/dir" else response


def authorizations(request: Request, response: Response) -> Response:
    """Name a foreign address for the authorizations."""
    is_order = request.path == "/order-plz"
    return with_fields(response, authorizations=[ELSEWHERE]) if is_order else response


def finalize(request: Request, response: Response) -> Response:
    """Name a foreign address for the CSR."""
    is_order = request.path.startswith("/my-order/")
    return with_fields(response, finalize=ELSEWHERE) if is_order else response


def certificate(request: Request, response: Response) -> Response:
    """Name a foreign address for the certificate."""
    is_order = request.path.startswith(("/my-order/", "/finalize-order/"))
    return with_fields(response, certificate=ELSEWHERE) if is_order else response


def order(request: Request, response: Response) -> Response:
    """Name a foreign address for the order."""
    others = tuple((name, v) for name, v in response.headers if name != "Location")
    changed = replace(response, headers=(*others, ("Location", ELSEWHERE)))
    return changed if request.path == "/order-plz" else response


@pytest.mark.parametrize("change", [directory, authorizations, finalize, certificate, order])
def test_address_without_https(bench: Bench, change: Change) -> None:
    """No request goes to the address, whichever document names the address."""
    bench.proxy.rewrite = change

    with pytest.raises(CaUnavailable, match=r"without https: ca\.example\.com"):
        bench.issue()

    assert [] == bench.txt_left


def challenge(request: Request, response: Response) -> Response:
    """Name a foreign address for the challenge."""
    if not request.path.startswith("/authZ/"):
        return response
    challenges = json.loads(response.body)["challenges"]
    return with_fields(response, challenges=[{**entry, "url": ELSEWHERE} for entry in challenges])


@pytest.mark.parametrize("change", [authorizations, challenge, finalize, certificate, order])
def test_address_at_another_host(bench: Bench, change: Change) -> None:
    """The hosts of the directory are the CA's hosts: requests to other hosts are never signed, and
    an order at another host is never stored.
    """

    def rewrite(request: Request, response: Response) -> Response:
        changed = change(request, response)
        body = changed.body.replace(ELSEWHERE.encode(), ABROAD.encode())
        headers = tuple((n, v.replace(ELSEWHERE, ABROAD)) for n, v in changed.headers)
        return replace(changed, body=body, headers=headers)

    bench.proxy.rewrite = rewrite

    with pytest.raises(CaUnavailable, match=r"another host: 10\.0\.0\.5:443") as reported:
        bench.issue()

    assert bench.proxy.url.removeprefix("https://") in str(reported.value.hint)
    assert [] == bench.txt_left
    order_left = bench.state.order(bench.lineage)
    assert order_left is None or bench.proxy.url in order_left.url


@pytest.mark.parametrize("path", ["GET /dir", "HEAD /nonce-plz", "POST /order-plz"])
def test_redirect(bench: Bench, path: str) -> None:
    """Redirects are never followed, because a signature is meant for a single address."""
    with HttpService(lambda _: Response.json({})) as other:
        headers = [("Location", f"{other.url}/x"), ("Replay-Nonce", "QUJD")]
        bench.proxy.faults.add(Fault.status(307, b"", headers=headers), on=path, times=None)

        with pytest.raises(CaUnavailable, match="307 Temporary Redirect"):
            bench.issue()

        assert [] == other.requests()


def test_entry_in_netrc(bench: Bench, clean_environment: Path) -> None:
    """A password for the CA's host in ~/.netrc is never sent."""
    netrc = clean_environment / ".netrc"
    netrc.write_text("default login someone password else\n")
    netrc.chmod(0o600)

    bench.issue()

    assert not any("Authorization" in request.headers for request in bench.proxy.requests())


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/order-plz", {"authorizations": [5]}),
        ("/my-order/", {"finalize": -(2**63)}),
        ("/my-order/", {"certificate": ["a"]}),
        ("/authZ/", {"challenges": [{"type": "dns-01", "token": "QUJD" * 8, "url": 5}]}),
    ],
)
def test_address_of_another_type(bench: Bench, path: str, fields: dict[str, object]) -> None:
    """Every malformed address is reported in certferry's words."""

    def change(request: Request, response: Response) -> Response:
        return with_fields(response, **fields) if request.path.startswith(path) else response

    bench.proxy.rewrite = change

    with pytest.raises(CaUnavailable, match="does not understand"):
        bench.issue()


def test_authorization_for_another_name(bench: Bench) -> None:
    """The record is never written, the CA gets no answer, and the next run makes a new order."""

    def change(request: Request, response: Response) -> Response:
        if not request.path.startswith("/authZ/"):
            return response
        return with_fields(response, identifier={"type": "dns", "value": "bank.example.com"})

    bench.proxy.rewrite = change

    with pytest.raises(OrderFailed, match=r"bank\.example\.com, which was not ordered"):
        bench.issue()

    assert [] == bench.dns.added
    assert [] == bench.proxy.requests("POST /chalZ/*")
    assert bench.state.order(bench.lineage) is None


def test_more_authorizations_than_names(bench: Bench) -> None:
    """The authorizations are not read, because a CA could name a hundred thousand of them."""

    def change(request: Request, response: Response) -> Response:
        if request.path != "/order-plz":
            return response
        urls = [f"{bench.proxy.url}/authZ/{number}" for number in range(1000)]
        return with_fields(response, authorizations=urls)

    bench.proxy.rewrite = change

    with pytest.raises(OrderFailed, match="more proofs than there are names"):
        bench.issue()

    assert [] == bench.proxy.requests("POST /authZ/*")


@pytest.mark.parametrize("status", [200, 400])
def test_deeply_nested_document(bench: Bench, status: int) -> None:
    """JSON with a hundred thousand levels is reported as a malformed answer."""
    body = b"[" * 100_000 + b"]" * 100_000
    bench.proxy.faults.add(Fault.status(status, body), on="GET /dir")

    with pytest.raises(CaUnavailable, match="does not understand"):
        bench.issue()


def test_document_of_many_megabytes(bench: Bench) -> None:
    """The client stops reading at the longest allowed answer."""
    body = b'{"detail": "' + b"x" * 12_000_000 + b'"}'
    bench.proxy.faults.add(Fault.status(400, body), on="POST /order-plz")

    with pytest.raises(CaUnavailable, match="the answer is longer than"):
        bench.issue()


# --- Wrong certificates, and answers that are no certificate


def answer_with(bench: Bench, text: str) -> None:
    def rewrite(request: Request, response: Response) -> Response:
        is_certificate = request.path.startswith("/certZ/")
        return replace(response, body=text.encode()) if is_certificate else response

    bench.proxy.rewrite = rewrite


def test_certificate_of_another_owner(bench: Bench) -> None:
    """The error blames the CA, and the order stays until the error is stored."""
    answer_with(bench, make_bundle("evil.example.net", not_before=bench.clock.now()).fullchain_pem)

    with pytest.raises(
        CertificateRejected, match=r"the certificate is for evil\.example\.net;"
    ) as caught:
        bench.issue()

    assert caught.value.hint is not None
    assert [] == bench.txt_left
    assert None is not bench.state.order(bench.lineage)


def test_certificate_with_another_key(bench: Bench) -> None:
    """A matching name is not enough."""
    answer_with(bench, make_bundle(bench.name, not_before=bench.clock.now()).fullchain_pem)

    with pytest.raises(CertificateRejected, match="does not belong to the private key"):
        bench.issue()


def test_certificate_without_its_issuers(bench: Bench) -> None:
    """Only some clients trust a bare leaf."""
    bench.proxy.rewrite = bare_leaf

    with pytest.raises(CertificateRejected, match="the issuer certificates are missing"):
        bench.issue()


def test_leaf_with_its_issuer_in_the_ca_bundle(bench: Bench, tmp_path: Path) -> None:
    """A private CA may omit its root from the chain, because all of its clients have the root."""
    (issuer,) = bench.issue().chain
    unrelated = make_bundle("evil.example.net", not_before=bench.clock.now()).chain_pem
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(bench.proxy.authority.cert_pem.bytes() + (unrelated + issuer).encode())
    bench.proxy.rewrite = bare_leaf

    issued = bench.issue(issuer=bench.issuer(ca_bundle=bundle))

    assert ((issuer,), True) == (issued.chain, issued.chain_complete)


def bare_leaf(request: Request, response: Response) -> Response:
    if not request.path.startswith("/certZ/"):
        return response
    leaf, end, _ = response.body.partition(b"-----END CERTIFICATE-----\n")
    return replace(response, body=leaf + end)


def test_certificate_from_the_future(bench: Bench) -> None:
    """The error has both times, and the hint names this host's clock before the CA. A cached
    directory hides the difference between the clocks here.
    """

    def cached(request: Request, response: Response) -> Response:
        is_directory = request.path == "/dir"
        aged = (*response.headers, ("Age", "172800"))
        return replace(response, headers=aged) if is_directory else response

    bench.proxy.rewrite = cached
    bench.clock.advance(timedelta(days=-2))

    with pytest.raises(
        CertificateRejected, match=r"the certificate is valid from .* but this host's time is "
    ) as caught:
        bench.issue()

    assert "first check this host's clock" in str(caught.value.hint)


def test_slow_clock_prevents_an_order(bench: Bench) -> None:
    """The CA would count a certificate that this host refuses, so the clock must be set first."""
    bench.clock.advance(timedelta(hours=-3))

    with pytest.raises(ClockWrong, match=r"this host's clock is .* behind") as caught:
        bench.issue()

    assert "set this host's clock" in str(caught.value.hint)
    assert [] == bench.proxy.requests("POST /order-plz")
    assert None is bench.state.order(bench.lineage)
    bench.clock.advance(timedelta(hours=3, minutes=-10))
    assert bench.issue().key_matches


def test_issuer_certificate_in_place_of_the_leaf(bench: Bench) -> None:
    """The error blames the CA, and a second download would bring the same certificate."""
    (issuer,) = make_bundle("evil.example.net", not_before=bench.clock.now()).chain
    answer_with(bench, issuer)

    with pytest.raises(CertificateRejected, match="an issuer certificate is in the leaf's"):
        bench.issue()

    assert [] == bench.txt_left


def test_web_page_instead_of_a_certificate(bench: Bench) -> None:
    """The order is kept, and the next run downloads the certificate."""
    answer_with(bench, "<html>please log in</html>")

    with pytest.raises(CaUnavailable, match="does not understand"):
        bench.issue()

    bench.proxy.rewrite = lambda _, response: response
    assert bench.issue().key_matches
    assert 1 == bench.proxy.finalized


def test_expired_certificate_of_an_old_order(bench: Bench) -> None:
    """The certificate matched the order once, so the CA is not blamed, and a new order follows. The
    new certificate is expired as well here, because only this host's clock has advanced.
    """
    first = bench.issue()
    bench.clock.advance(first.certificate.remaining(bench.clock.now()) + timedelta(hours=1))
    bench.proxy.rewrite = without_end

    with pytest.raises(CertificateRejected, match="the certificate is valid from"):
        bench.issue()

    assert 2 == bench.proxy.finalized


def without_end(request: Request, response: Response) -> Response:
    is_order = request.path.startswith("/my-order/")
    return with_fields(response, expires=None) if is_order else response


# --- Revocation at Pebble, by the account or with the certificate's own key


SUPERSEDED = RevocationReason.SUPERSEDED


def status(bench: Bench, bundle: CertificateBundle) -> str:
    return bench.proxy.upstream.certificate_status(bundle.certificate.serial)


@pytest.mark.parametrize("reason", list(RevocationReason))
def test_account_revokes_a_certificate(bench: Bench, reason: RevocationReason) -> None:
    """The request contains the number of the reason (RFC 5280 §5.3.1)."""
    bundle = bench.issue()
    assert "Valid" == status(bench, bundle)

    ca_account(bench).revoke(bundle, reason)

    assert "Revoked" == status(bench, bundle)
    assert reason.code == bench.proxy.payload("POST /revoke-cert")["reason"]
    assert 1 == len(bench.proxy.requests("POST /revoke-cert"))


@pytest.mark.parametrize("key_type", [KeyType.EC256, KeyType.EC384, KeyType.RSA2048])
def test_certificates_own_key_revokes_without_an_account(bench: Bench, key_type: KeyType) -> None:
    """Keys of every type can sign the request."""
    bundle = bench.issue(key_type=key_type)
    bench.state.replace_account(account(bench), None)

    ca_account(bench).revoke(bundle, SUPERSEDED)

    assert "Revoked" == status(bench, bundle)


def test_certificates_own_key_revokes_after_a_refusal(bench: Bench) -> None:
    """Another account has ordered the certificate, so the CA refuses the present account first."""
    bundle = bench.issue()
    ca_account(bench).deactivate()
    bench.state.drop_order(bench.lease())
    bench.issue(f"www.{bench.name}")  # by a new account

    ca_account(bench).revoke(bundle, SUPERSEDED)

    assert "Revoked" == status(bench, bundle)
    assert 2 == len(bench.proxy.requests("POST /revoke-cert"))


def test_revoked_certificate_counts_as_success(bench: Bench) -> None:
    """An earlier run may have been killed before the CA's answer."""
    bundle = bench.issue()
    bench.proxy.faults.add(Fault.reset_after(), on="POST /revoke-cert")

    ca_account(bench).revoke(bundle, SUPERSEDED)
    ca_account(bench).revoke(bundle, SUPERSEDED)

    assert "Revoked" == status(bench, bundle)


def test_refusal_for_another_reason_is_reported(bench: Bench) -> None:
    """The certificate's key is not tried, because the CA would refuse the same request again."""
    bundle = bench.issue()
    bench.proxy.faults.add(refusal("badRevocationReason", "not that", 400), on="POST /revoke-cert")

    with pytest.raises(OrderFailed, match="not that"):
        ca_account(bench).revoke(bundle, SUPERSEDED)

    assert 1 == len(bench.proxy.requests("POST /revoke-cert"))
    assert "Valid" == status(bench, bundle)


def test_refused_revocation_without_the_private_key(bench: Bench) -> None:
    """Without the private key only the account can revoke, and the CA's refusal is reported."""
    bundle = bench.issue()
    without = replace(bundle, privkey_pem=make_key(), key_matches=False)
    bench.proxy.faults.add(refusal("unauthorized", "not yours"), on="POST /revoke-cert")

    with pytest.raises(OrderFailed, match="not yours"):
        ca_account(bench).revoke(without, SUPERSEDED)


def test_key_of_an_unsupported_type(bench: Bench) -> None:
    """A foreign key may be unable to sign ACME requests; the error comes before any request."""
    odd = replace(bench.issue(), privkey_pem=pkcs8_pem(ed25519.Ed25519PrivateKey.generate()))
    bench.state.replace_account(account(bench), None)

    with pytest.raises(CertificateError, match="requests to a CA cannot be signed"):
        ca_account(bench).revoke(odd, SUPERSEDED)
    assert [] == bench.proxy.requests("POST /revoke-cert")


def test_ca_that_does_not_answer(bench: Bench) -> None:
    """The error is reported, and the certificate stays valid."""
    bundle = bench.issue()
    bench.proxy.faults.add(Fault.reset_before(), on="POST /revoke-cert", times=None)

    with pytest.raises(CaUnavailable, match="could not be reached"):
        ca_account(bench).revoke(bundle, SUPERSEDED)
    assert "Valid" == status(bench, bundle)


# --- Stopped runs. The contract test covers kills


MOST_CALLS = 100
SETTLED = timedelta(minutes=2)


def finish(bench: Bench) -> None:
    """Sweep and issue, as the next run does, and check the result."""
    bench.clock.advance(SETTLED)
    bench.sweep()
    bundle = bench.issue(bench.name, f"*.{bench.name}")

    assert (bench.name, f"*.{bench.name}") == bundle.certificate.names
    assert bundle.key_matches
    assert 1 == bench.proxy.finalized
    assert [] == bench.txt_left
    assert 0 == bench.rows_left


@pytest.mark.parametrize(
    ("error", "done"),
    [(KeyboardInterrupt(), True), (StateUnavailable(Text("disk full")), False)],
    ids=["Ctrl-C after any call", "disk full at any call"],
)
def test_failed_call_leaves_every_record_known(
    new_bench: Callable[[], Bench], error: BaseException, *, done: bool
) -> None:
    """The state knows every remaining record, and the next run removes them and issues once."""
    for call in spread(range(1, MOST_CALLS), 6):
        bench, shock = new_bench(), Shock(call, error, done=done)
        # The next run repeats a failed removal.
        with contextlib.suppress(type(error)):
            bench.issue_under(shock, bench.name, f"*.{bench.name}")
        if not shock.was_felt:
            break
        stored = {record.value for record in bench.state.challenge_records(bench.lineage)}
        assert set(bench.txt_left) <= stored
        finish(bench)
    else:
        pytest.fail("the run never ended")
    assert call > 10


def test_stopped_run_tries_every_removal(bench: Bench) -> None:
    """The run ends as stopped, and the state knows each remaining record."""
    bench.dns.while_removing = Interrupted(Text("stopped"))

    with pytest.raises(Interrupted):
        bench.issue(bench.name, f"*.{bench.name}")

    assert 2 == len(set(bench.dns.added))
    assert 4 == len(bench.dns.removals)  # each record twice
    assert 2 == bench.rows_left
