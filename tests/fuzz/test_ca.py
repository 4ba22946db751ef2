"""A CA with altered answers: the issuer raises only certferry's own errors."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from random import Random
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from certferry.adapters.acme.acme_client import read_directory
from certferry.adapters.acme.problems import Refused, as_error, moment_of
from certferry.errors import IssuanceError
from certferry_sandbox.httpd import Request, Response
from certferry_sandbox.testing.memory_state import MemoryState
from tests.adapters.acme.bench import Bench, Ca
from tests.adapters.acme.proxy import ERROR
from tests.fuzz.altered_answers import HEADER_VALUES, Alteration, alterations, altered
from tests.fuzz.outcomes import in_memory, only_ours, over_sockets

# An example is an order at a real CA, and takes more than a second on a busy machine.
pytestmark = pytest.mark.timeout(600)

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
PROBLEM: dict[str, Any] = {
    "type": f"{ERROR}compound",
    "title": "several",
    "detail": "one of them: see the parts",
    "instance": "https://ca.example/terms",
    "status": 403,
    "subproblems": [
        {
            "type": f"{ERROR}caa",
            "detail": "CAA record forbids it",
            "identifier": {"type": "dns", "value": "www.example.com"},
        },
        {"type": f"{ERROR}rejectedIdentifier", "detail": "no", "subproblems": []},
    ],
}
ENDS = (
    "",
    "/dir",
    "nonce",
    "sign-me-up",
    "order-plz",
    "/authZ/",
    "/chalZ/",
    "/my-order/",
    "/certZ/",
)
"""The altered answers of a run, by a part of the path; the empty text matches all."""


@pytest.fixture(scope="module")
def bench(ca: Ca, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Return a bench at a CA that accepts every good nonce."""
    with Bench(ca.pebble, ca.zones, tmp_path_factory.mktemp("bench")) as made:
        yield made


def issued(bench: Bench) -> str:
    bench.proxy.rewrite = lambda _, response: response
    bench.state = MemoryState(is_alive=lambda _: False)
    return bench.issue().cert_pem


@over_sockets
@given(alteration=alterations())
def test_a_directory_is_looked_at(bench: Bench, alteration: Alteration) -> None:
    """The directory gives the time and the CA's names, or an error."""
    turn = alteration.turns()
    bench.proxy.rewrite = lambda _, response: turn(response)

    settings = bench.settings()
    only_ours(lambda: read_directory(settings, lambda _: None, lambda: NOW).identities)


@over_sockets
@given(alteration=alterations(), end=st.sampled_from(ENDS), refuses=st.booleans())
def test_a_certificate_is_ordered(
    bench: Bench, alteration: Alteration, end: str, refuses: object
) -> None:
    """Directory, account, order, authorization, challenge and chain may each be altered."""
    turn = alteration.turns()
    refusal = Response(403, json.dumps(PROBLEM).encode(), "application/problem+json")

    def rewrite(request: Request, response: Response) -> Response:
        if end not in request.path:
            return response
        altered_response = turn(response)
        return turn(refusal) if refuses and altered_response != response else altered_response

    bench.state = MemoryState(is_alive=lambda _: False)
    bench.proxy.rewrite = rewrite
    only_ours(bench.issue, bench.issue, bench.sweep)


@over_sockets
@given(alteration=alterations())
def test_renewal_information(bench: Bench, alteration: Alteration) -> None:
    """The CA's answer about a certificate's renewal may be anything."""
    leaf = issued(bench)
    turn = alteration.turns()
    bench.proxy.rewrite = lambda _, response: turn(response)

    only_ours(partial(bench.issuer().renewal_info, leaf))


@in_memory
@given(seed=st.integers(0, 2**32 - 1), status=st.sampled_from([400, 403, 404, 429, 500, 503]))
def test_a_problem_document(seed: int, status: int) -> None:
    """Every document becomes an error with a sentence."""
    chance = Random(seed)  # noqa: S311 - for alterations, not for security
    body = json.dumps(PROBLEM).encode()
    for _ in range(chance.randint(1, 3)):
        body = altered(body, chance)
    response = requests.Response()
    response.status_code = status
    response.headers["Retry-After"] = chance.choice(HEADER_VALUES)
    response.raw = io.BytesIO(body)

    error = as_error(Refused.from_response(response), NOW)

    assert isinstance(error, IssuanceError)
    assert str(error)


@in_memory
@given(st.text(max_size=40) | st.from_regex(r"\d{1,400}") | st.dates().map(str))
def test_moment_of_the_next_try(header: str) -> None:
    """The header gives a moment, or is ignored."""
    only_ours(partial(moment_of, header, NOW))


@pytest.mark.parametrize("depth", [10, 300, 100_000])
def test_a_problem_within_a_problem(depth: int) -> None:
    """For any depth of nesting, an operator reads the first few problems."""
    part = b'{"type":"urn:ietf:params:acme:error:compound","detail":"d","subproblems":['
    response = requests.Response()
    response.status_code = 403
    response.raw = io.BytesIO(part * depth + b"]}" * depth)

    error = as_error(Refused.from_response(response), NOW)

    assert isinstance(error, IssuanceError)
    assert len(str(error)) < 1000
