"""What comes as a certificate, and is none of ours to read: told apart from what makes no sense."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from certferry.errors import CaUnavailable, CertificateRejected, ClockWrong
from certferry_sandbox.httpd import Request, Response
from certferry_sandbox.testing.certificates import make_bundle
from tests.adapters.acme.bench import Bench
from tests.adapters.acme.proxy import with_fields


def giving(bench: Bench, text: str) -> None:
    """Let the CA answer with this where the certificate is fetched."""

    def rewrite(request: Request, response: Response) -> Response:
        is_certificate = request.path.startswith("/certZ/")
        return replace(response, body=text.encode()) if is_certificate else response

    bench.proxy.rewrite = rewrite


def test_certificate_of_another_owner(bench: Bench) -> None:
    """It is told as the CA's mistake. The order stays until that is written down."""
    giving(bench, make_bundle("evil.example.net", not_before=bench.clock.now()).fullchain_pem)

    with pytest.raises(CertificateRejected, match=r"it is for evil\.example\.net;") as caught:
        bench.issue()

    assert caught.value.hint is not None
    assert [] == bench.txt_left
    assert None is not bench.state.order(bench.lineage)


def test_certificate_with_another_key(bench: Bench) -> None:
    """The right name is not enough."""
    giving(bench, make_bundle(bench.name, not_before=bench.clock.now()).fullchain_pem)

    with pytest.raises(CertificateRejected, match="does not belong to our private key"):
        bench.issue()


def test_certificate_without_its_issuers(bench: Bench) -> None:
    """A leaf alone is trusted by some clients and not by others."""
    bench.proxy.rewrite = leaf_alone

    with pytest.raises(CertificateRejected, match="not followed by its issuer certificates"):
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
    """Cut the chain off behind its first certificate."""
    if not request.path.startswith("/certZ/"):
        return response
    leaf, end, _ = response.body.partition(b"-----END CERTIFICATE-----\n")
    return replace(response, body=leaf + end)


def test_certificate_that_is_not_valid_yet(bench: Bench) -> None:
    """On this machine, whose clock forbids it: both moments are told, and the clock is named before
    the CA. That the CA's is ahead was not to be seen, as its directory lay in a cache.
    """

    def cached(request: Request, response: Response) -> Response:
        is_directory = request.path == "/dir"
        aged = (*response.headers, ("Age", "172800"))
        return replace(response, headers=aged) if is_directory else response

    bench.proxy.rewrite = cached
    bench.clock.advance(timedelta(days=-2))

    with pytest.raises(CertificateRejected, match=r"it is valid from .* and here it is ") as caught:
        bench.issue()

    assert "see first whether this machine's clock is right" in str(caught.value.hint)


def test_clock_that_is_behind_orders_nothing(bench: Bench) -> None:
    """The CA would count a certificate that could not be taken: the clock is to be set first."""
    bench.clock.advance(timedelta(hours=-3))

    with pytest.raises(ClockWrong, match=r"this machine's clock is .* behind") as caught:
        bench.issue()

    assert "set this machine's clock" in str(caught.value.hint)
    assert [] == bench.proxy.requests("POST /order-plz")
    assert None is bench.state.order(bench.lineage)
    bench.clock.advance(timedelta(hours=3, minutes=-10))
    assert bench.issue().key_matches


def test_issuer_certificate_in_place_of_the_leaf(bench: Bench) -> None:
    """It can be no leaf: the CA's mistake, which looking again does not mend."""
    (issuer,) = make_bundle("evil.example.net", not_before=bench.clock.now()).chain
    giving(bench, issuer)

    with pytest.raises(CertificateRejected, match="an issuer certificate stands where the leaf"):
        bench.issue()

    assert [] == bench.txt_left


def test_text_that_is_no_certificate_may_pass(bench: Bench) -> None:
    """A gateway's page is no certificate; the order is kept, and the next run fetches it."""
    giving(bench, "<html>please log in</html>")

    with pytest.raises(CaUnavailable, match="not understood"):
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

    with pytest.raises(CertificateRejected, match="it is valid from"):
        bench.issue()

    assert 2 == bench.proxy.finalized


def without_end(request: Request, response: Response) -> Response:
    """Let an order be valid for as long as the client asks for it."""
    is_order = request.path.startswith("/my-order/")
    return with_fields(response, expires=None) if is_order else response
