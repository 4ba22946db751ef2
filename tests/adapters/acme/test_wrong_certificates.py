"""What comes as a certificate, and is none of ours to read: told apart from what makes no sense."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from certferry.core.believable import must_be_as_ordered
from certferry.errors import CaUnavailable, CertificateRejected
from certferry.sandbox.httpd import Request, Response
from certferry.testing.certificates import make_bundle
from tests.adapters.acme.bench import Bench
from tests.adapters.acme.proxy import with_fields


def giving(bench: Bench, text: str) -> None:
    """Let the CA answer with this where the certificate is fetched."""

    def rewrite(request: Request, response: Response) -> Response:
        is_certificate = request.path.startswith("/certZ/")
        return replace(response, body=text.encode()) if is_certificate else response

    bench.proxy.rewrite = rewrite


def test_certificate_of_somebody_else_is_given_and_not_believed(bench: Bench) -> None:
    """Its key is not ours, which is seen before anything is kept."""
    other = make_bundle("evil.example.net", not_before=bench.clock.now())
    giving(bench, other.fullchain_pem)

    bundle = bench.issue()

    assert not bundle.key_matches
    with pytest.raises(CertificateRejected, match=r"evil\.example\.net"):
        must_be_as_ordered(bundle, (bench.name,), bench.clock.now())


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
    """It was as ordered, once: nobody made a mistake."""
    first = bench.issue()
    bench.clock.advance(first.certificate.remaining(bench.clock.now()) + timedelta(hours=1))
    bench.proxy.rewrite = without_end

    second = bench.issue()

    assert first.certificate.fingerprint != second.certificate.fingerprint
    assert 2 == bench.proxy.finalized


def without_end(request: Request, response: Response) -> Response:
    """Let an order be valid for as long as anybody asks for it."""
    is_order = request.path.startswith("/my-order/")
    return with_fields(response, expires=None) if is_order else response
