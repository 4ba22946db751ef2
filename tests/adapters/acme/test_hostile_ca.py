"""A CA, or who speaks in its place, that leads the account's requests astray."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from certferry.errors import CaUnavailable, OrderFailed
from certferry_sandbox.faults import Fault
from certferry_sandbox.httpd import HttpService, Request, Response
from tests.adapters.acme.bench import Bench
from tests.adapters.acme.proxy import with_fields

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

    with pytest.raises(CaUnavailable, match=r"another host: 10\.0\.0\.5:443") as told:
        bench.issue()

    assert bench.proxy.url.removeprefix("https://") in str(told.value.hint)
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
    """A broken CA is told of in our words, wherever it names an address."""

    def change(request: Request, response: Response) -> Response:
        return with_fields(response, **fields) if request.path.startswith(path) else response

    bench.proxy.rewrite = change

    with pytest.raises(CaUnavailable, match="not understood"):
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
    """JSON that is nested a hundred thousand times is told as an answer without sense."""
    body = b"[" * 100_000 + b"]" * 100_000
    bench.proxy.faults.add(Fault.status(status, body), on="GET /dir")

    with pytest.raises(CaUnavailable, match="not understood"):
        bench.issue()


def test_document_of_many_megabytes(bench: Bench) -> None:
    """No answer of a CA is as long as that: it is not read to its end."""
    body = b'{"detail": "' + b"x" * 12_000_000 + b'"}'
    bench.proxy.faults.add(Fault.status(400, body), on="POST /order-plz")

    with pytest.raises(CaUnavailable, match="the answer is longer than"):
        bench.issue()
