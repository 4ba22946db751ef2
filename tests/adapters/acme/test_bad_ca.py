"""A CA that leads astray, answers with wrong certificates, or is interrupted."""

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

# --- A CA, or who speaks in its place, that leads the account's requests astray


ELSEWHERE = "http://ca.example.com/acme"
"""An address at which others could listen."""

ABROAD = "https://10.0.0.5/acme"
"""An address of another service, perhaps in the network of this host."""

Change = Callable[[Request, Response], Response]


def directory(request: Request, response: Response) -> Response:
    """Name another address for new orders."""
    return with_fields(response, newOrder=ELSEWHERE) if request.path == "/dir" else response


def authorizations(request: Request, response: Response) -> Response:
    """Name another address for the proofs."""
    is_order = request.path == "/order-plz"
    return with_fields(response, authorizations=[ELSEWHERE]) if is_order else response


def finalize(request: Request, response: Response) -> Response:
    """Name another address for the CSR."""
    is_order = request.path.startswith("/my-order/")
    return with_fields(response, finalize=ELSEWHERE) if is_order else response


def certificate(request: Request, response: Response) -> Response:
    """Name another address for the certificate."""
    is_order = request.path.startswith(("/my-order/", "/finalize-order/"))
    return with_fields(response, certificate=ELSEWHERE) if is_order else response


def order(request: Request, response: Response) -> Response:
    """Name another address for the order."""
    kept = tuple((name, v) for name, v in response.headers if name != "Location")
    changed = replace(response, headers=(*kept, ("Location", ELSEWHERE)))
    return changed if request.path == "/order-plz" else response


@pytest.mark.parametrize("change", [directory, authorizations, finalize, certificate, order])
def test_address_without_https(bench: Bench, change: Change) -> None:
    """Nothing is sent there, whichever document names it."""
    bench.proxy.rewrite = change

    with pytest.raises(CaUnavailable, match=r"without https: ca\.example\.com"):
        bench.issue()

    assert [] == bench.txt_left


def challenge(request: Request, response: Response) -> Response:
    """Name another address for the answer."""
    if not request.path.startswith("/authZ/"):
        return response
    challenges = json.loads(response.body)["challenges"]
    return with_fields(response, challenges=[{**one, "url": ELSEWHERE} for one in challenges])


@pytest.mark.parametrize("change", [authorizations, challenge, finalize, certificate, order])
def test_address_at_another_host(bench: Bench, change: Change) -> None:
    """A CA's directory says at which hosts it is: nothing is signed for another, and an order there
    is not kept.
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
    kept = bench.state.order(bench.lineage)
    assert kept is None or bench.proxy.url in kept.url


@pytest.mark.parametrize("path", ["GET /dir", "HEAD /nonce-plz", "POST /order-plz"])
def test_redirect(bench: Bench, path: str) -> None:
    """It is not followed: neither out of https, nor with what was signed for one address."""
    with HttpService(lambda _: Response.json({})) as other:
        headers = [("Location", f"{other.url}/x"), ("Replay-Nonce", "QUJD")]
        bench.proxy.faults.add(Fault.status(307, b"", headers=headers), on=path, times=None)

        with pytest.raises(CaUnavailable, match="307 Temporary Redirect"):
            bench.issue()

        assert [] == other.requests()


def test_line_in_netrc(bench: Bench, clean_environment: Path) -> None:
    """Who has a password for the CA's host in ~/.netrc has not given it to certferry."""
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
def test_address_that_is_no_text(bench: Bench, path: str, fields: dict[str, object]) -> None:
    """A broken CA is reported in our words, wherever it names an address."""

    def change(request: Request, response: Response) -> Response:
        return with_fields(response, **fields) if request.path.startswith(path) else response

    bench.proxy.rewrite = change

    with pytest.raises(CaUnavailable, match="does not understand"):
        bench.issue()


def test_proof_of_a_name_that_was_not_ordered(bench: Bench) -> None:
    """It is not written into DNS, the CA gets no answer, and the next run orders anew."""

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


def test_more_proofs_than_names(bench: Bench) -> None:
    """They are not even looked at: a CA could name a hundred thousand."""

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
def test_document_without_a_bottom(bench: Bench, status: int) -> None:
    """JSON that is nested a hundred thousand times is reported as an answer without sense."""
    body = b"[" * 100_000 + b"]" * 100_000
    bench.proxy.faults.add(Fault.status(status, body), on="GET /dir")

    with pytest.raises(CaUnavailable, match="does not understand"):
        bench.issue()


def test_document_of_many_megabytes(bench: Bench) -> None:
    """No answer of a CA is as long as that: it is not read to its end."""
    body = b'{"detail": "' + b"x" * 12_000_000 + b'"}'
    bench.proxy.faults.add(Fault.status(400, body), on="POST /order-plz")

    with pytest.raises(CaUnavailable, match="the answer is longer than"):
        bench.issue()


# --- What comes as a certificate, and is none of ours to read: distinguished from what makes no
# sense


def giving(bench: Bench, text: str) -> None:
    def rewrite(request: Request, response: Response) -> Response:
        is_certificate = request.path.startswith("/certZ/")
        return replace(response, body=text.encode()) if is_certificate else response

    bench.proxy.rewrite = rewrite


def test_certificate_of_another_owner(bench: Bench) -> None:
    """It is reported as the CA's mistake. The order stays until that is written down."""
    giving(bench, make_bundle("evil.example.net", not_before=bench.clock.now()).fullchain_pem)

    with pytest.raises(
        CertificateRejected, match=r"the certificate is for evil\.example\.net;"
    ) as caught:
        bench.issue()

    assert caught.value.hint is not None
    assert [] == bench.txt_left
    assert None is not bench.state.order(bench.lineage)


def test_certificate_with_another_key(bench: Bench) -> None:
    """The right name is not enough."""
    giving(bench, make_bundle(bench.name, not_before=bench.clock.now()).fullchain_pem)

    with pytest.raises(CertificateRejected, match="does not belong to the private key"):
        bench.issue()


def test_certificate_without_its_issuers(bench: Bench) -> None:
    """A leaf alone is trusted by some clients and not by others."""
    bench.proxy.rewrite = leaf_alone

    with pytest.raises(CertificateRejected, match="the issuer certificates are missing"):
        bench.issue()


def test_leaf_of_a_private_ca_whose_issuer_is_in_the_bundle(bench: Bench, tmp_path: Path) -> None:
    """A small company's CA signs with its root, and need not send along what all have there."""
    (issuer,) = bench.issue().chain
    unrelated = make_bundle("evil.example.net", not_before=bench.clock.now()).chain_pem
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(bench.proxy.authority.cert_pem.bytes() + (unrelated + issuer).encode())
    bench.proxy.rewrite = leaf_alone

    issued = bench.issue(issuer=bench.issuer(ca_bundle=bundle))

    assert ((issuer,), True) == (issued.chain, issued.chain_complete)


def leaf_alone(request: Request, response: Response) -> Response:
    if not request.path.startswith("/certZ/"):
        return response
    leaf, end, _ = response.body.partition(b"-----END CERTIFICATE-----\n")
    return replace(response, body=leaf + end)


def test_certificate_that_is_not_valid_yet(bench: Bench) -> None:
    """On this machine, whose clock forbids it: both moments are reported, and the clock is named
    before the CA. That the CA's is ahead was not to be seen, as its directory lay in a cache.
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


def test_clock_that_is_behind_orders_nothing(bench: Bench) -> None:
    """The CA would count a certificate that could not be taken: the clock is to be set first."""
    bench.clock.advance(timedelta(hours=-3))

    with pytest.raises(ClockWrong, match=r"this host's clock is .* behind") as caught:
        bench.issue()

    assert "set this host's clock" in str(caught.value.hint)
    assert [] == bench.proxy.requests("POST /order-plz")
    assert None is bench.state.order(bench.lineage)
    bench.clock.advance(timedelta(hours=3, minutes=-10))
    assert bench.issue().key_matches


def test_issuer_certificate_in_place_of_the_leaf(bench: Bench) -> None:
    """It can be no leaf: the CA's mistake, which looking again does not mend."""
    (issuer,) = make_bundle("evil.example.net", not_before=bench.clock.now()).chain
    giving(bench, issuer)

    with pytest.raises(CertificateRejected, match="an issuer certificate is in the leaf's"):
        bench.issue()

    assert [] == bench.txt_left


def test_text_that_is_no_certificate_may_pass(bench: Bench) -> None:
    """A gateway's page is no certificate; the order is kept, and the next run fetches it."""
    giving(bench, "<html>please log in</html>")

    with pytest.raises(CaUnavailable, match="does not understand"):
        bench.issue()

    bench.proxy.rewrite = lambda _, response: response
    assert bench.issue().key_matches
    assert 1 == bench.proxy.finalized


def test_certificate_of_an_old_order_that_has_expired_is_ordered_anew(bench: Bench) -> None:
    """It was as ordered, once, and is no mistake of the CA's. The new one counts: here it is not
    valid any more either, since only our clock has gone on.
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


# --- Certificates revoked at Pebble: as the account, or with the certificate's own key


SUPERSEDED = RevocationReason.SUPERSEDED


def status(bench: Bench, bundle: CertificateBundle) -> str:
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


def test_refusal_for_another_reason_is_reported(bench: Bench) -> None:
    """It is not tried with the key, which would be refused as well."""
    bundle = bench.issue()
    bench.proxy.faults.add(refusal("badRevocationReason", "not that", 400), on="POST /revoke-cert")

    with pytest.raises(OrderFailed, match="not that"):
        ca_account(bench).revoke(bundle, SUPERSEDED)

    assert 1 == len(bench.proxy.requests("POST /revoke-cert"))
    assert "Valid" == status(bench, bundle)


def test_without_its_key_the_account_alone_can(bench: Bench) -> None:
    """The CA's refusal is reported."""
    bundle = bench.issue()
    without = replace(bundle, privkey_pem=make_key(), key_matches=False)
    bench.proxy.faults.add(refusal("unauthorized", "not yours"), on="POST /revoke-cert")

    with pytest.raises(OrderFailed, match="not yours"):
        ca_account(bench).revoke(without, SUPERSEDED)


def test_key_that_can_sign_no_request(bench: Bench) -> None:
    """As of a certificate that was made elsewhere: it is reported, and nothing is sent."""
    odd = replace(bench.issue(), privkey_pem=pkcs8_pem(ed25519.Ed25519PrivateKey.generate()))
    bench.state.replace_account(account(bench), None)

    with pytest.raises(CertificateError, match="requests to a CA cannot be signed"):
        ca_account(bench).revoke(odd, SUPERSEDED)
    assert [] == bench.proxy.requests("POST /revoke-cert")


def test_ca_that_does_not_answer(bench: Bench) -> None:
    """It is reported, and the certificate is valid as before."""
    bundle = bench.issue()
    bench.proxy.faults.add(Fault.reset_before(), on="POST /revoke-cert", times=None)

    with pytest.raises(CaUnavailable, match="could not be reached"):
        ca_account(bench).revoke(bundle, SUPERSEDED)
    assert "Valid" == status(bench, bundle)


# --- A run that is stopped in the middle. That it may be killed is the contract's to show


MOST_CALLS = 100
SETTLED = timedelta(minutes=2)


def finish(bench: Bench) -> None:
    """Do what the engine does in the next run, and look at the world afterwards."""
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
def test_call_that_fails_leaves_no_record_unknown(
    new_bench: Callable[[], Bench], error: BaseException, *, done: bool
) -> None:
    """What is left in DNS is known to the state, and the next run ends with one certificate and
    no record.
    """
    for call in spread(range(1, MOST_CALLS), 6):
        bench, shock = new_bench(), Shock(call, error, done=done)
        # A failed removal is for the next run, and no failure of this one.
        with contextlib.suppress(type(error)):
            bench.issue_under(shock, bench.name, f"*.{bench.name}")
        if not shock.was_felt:
            break
        known = {record.value for record in bench.state.challenge_records(bench.lineage)}
        assert set(bench.txt_left) <= known
        finish(bench)
    else:
        pytest.fail("the run never came to its end")
    assert call > 10


def test_run_that_is_stopped_at_every_removal_tries_them_all(bench: Bench) -> None:
    """It ends as stopped, and each record that is left is known to the next run."""
    bench.dns.while_removing = Interrupted(Text("stopped"))

    with pytest.raises(Interrupted):
        bench.issue(bench.name, f"*.{bench.name}")

    assert 2 == len(set(bench.dns.added))
    assert 4 == len(bench.dns.removals)  # each of them twice
    assert 2 == bench.rows_left
