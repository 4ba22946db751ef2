"""Requests to a CA whose answers are lost, late, refused, or malformed."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from email.utils import format_datetime
from itertools import product
from pathlib import Path

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certferry.adapters.acme.issuer import MOST_ORDERS, AcmeIssuer
from certferry.adapters.acme.network import IssuerSettings, Network
from certferry.adapters.acme.problems import as_error
from certferry.core.certificates.certificate import KeyType
from certferry.errors import (
    AuthorizationFailed,
    CaUnavailable,
    CertferryError,
    ConfigError,
    IssuanceError,
    OrderFailed,
    RateLimited,
    Retry,
)
from certferry.ports.issuer import IssueRequest
from certferry.values import replace
from certferry_sandbox.faults import Fault
from certferry_sandbox.httpd import Request, Response
from certferry_sandbox.testing.memory_dns import MemoryDns
from certferry_sandbox.testing.memory_state import MemoryState
from certferry_sandbox.zones import Zones
from tests.adapters.acme.bench import Bench
from tests.adapters.acme.ports import AtOnce, Clock
from tests.adapters.acme.proxy import ERROR, AcmeService, refusal, with_fields
from tests.adapters.http.peers import endless_body, peer
from tests.support.tiers import sampled

PATHS = [
    "GET /dir",
    "HEAD /nonce-plz",
    "POST /sign-me-up",
    "POST /order-plz",
    "POST /authZ/*",
    "POST /chalZ/*",
    "POST /my-order/*",
    "POST /finalize-order/*",
    "POST /certZ/*",
]


FAULTS = {
    "lost on the way": Fault.reset_before(),
    "answer lost": Fault.reset_after(),
    "half an answer": Fault.truncated(),
    "a gateway's page": Fault.html(503),
}


@pytest.mark.parametrize(("path", "fault"), sampled([*product(PATHS, FAULTS)], 12))
def test_single_failed_request_is_repeated(bench: Bench, path: str, fault: str) -> None:
    """After a failure of any request the run continues, and the CA issues a single certificate."""
    bench.proxy.faults.add(FAULTS[fault], on=path)

    assert bench.issue().key_matches
    assert 1 == bench.proxy.finalized
    assert [] == bench.txt_left


@pytest.mark.parametrize("path", PATHS)
def test_lasting_failure_of_a_path_is_temporary(bench: Bench, path: str) -> None:
    """After a few attempts the CA counts as unavailable, and the next run may succeed."""
    bench.proxy.faults.add(Fault.reset_before(), on=path, times=None)

    with pytest.raises(CaUnavailable, match="could not be reached") as failure:
        bench.issue()

    assert Retry.LATER == failure.value.retry
    assert 3 == len([c for c in bench.proxy.journal if c.status is None])
    assert [] == bench.txt_left
    bench.proxy.faults.clear()
    assert bench.issue().key_matches


def test_rate_limit_with_seconds(bench: Bench) -> None:
    """The error has the moment of the next attempt, and the request is sent once."""
    bench.proxy.faults.add(
        refusal("rateLimited", "too many orders for us", 429, "3600"), on="POST /order-plz"
    )

    with pytest.raises(RateLimited, match="too many orders for us") as failure:
        bench.issue()

    moment = failure.value.retry.after
    assert moment is not None
    assert timedelta(minutes=59) < moment - bench.clock.now() <= timedelta(hours=1)
    assert 1 == len(bench.proxy.requests("POST /order-plz"))


def test_rate_limit_with_a_date(bench: Bench) -> None:
    """An HTTP date in Retry-After is such a moment as well."""
    moment = bench.clock.now().replace(microsecond=0) + timedelta(days=2)
    fault = refusal("rateLimited", "later", 429, format_datetime(moment, usegmt=True))
    bench.proxy.faults.add(fault, on="POST /order-plz")

    with pytest.raises(RateLimited) as failure:
        bench.issue()
    assert Retry.at(moment) == failure.value.retry


def test_short_retry_after_is_awaited(bench: Bench) -> None:
    """The run waits for the CA instead of failing."""
    bench.proxy.faults.add(
        refusal("rateLimited", "service busy", 503, "4"), on="POST /order-plz", times=2
    )

    assert bench.issue().key_matches
    assert [4.0, 4.0] == [pause for pause in bench.clock.pauses if pause > 3]


def test_long_retry_after_ends_the_run(bench: Bench) -> None:
    """A later run continues after the long pause."""
    bench.proxy.faults.add(refusal("serverInternal", "maintenance", 503, "1800"), on="GET /dir")

    with pytest.raises(CaUnavailable, match="maintenance") as failure:
        bench.issue()

    assert failure.value.retry.after is not None
    assert 1 == len(bench.proxy.journal)


def test_ca_that_refuses_every_nonce_is_given_up(bench: Bench) -> None:
    """The number of attempts with fresh nonces is limited."""
    bench.proxy.faults.add(refusal("badNonce", "no", 400), on="POST /sign-me-up", times=None)

    with pytest.raises(CaUnavailable, match="badNonce"):
        bench.issue()
    assert 40 == len(bench.proxy.requests("POST /sign-me-up"))


@pytest.mark.parametrize(
    ("problem", "error", "retry"),
    [
        ({"type": f"{ERROR}caa", "detail": "CAA says no"}, AuthorizationFailed, Retry.LATER),
        ({"type": f"{ERROR}serverInternal", "detail": "oops"}, CaUnavailable, Retry.LATER),
        ({"type": f"{ERROR}badCSR", "detail": "weak key"}, OrderFailed, Retry.NEVER),
        (None, OrderFailed, Retry.LATER),
    ],
)
def test_order_that_fails_after_its_csr_is_forgotten(
    bench: Bench, problem: dict[str, str] | None, error: type[IssuanceError], retry: Retry
) -> None:
    """The error has the order's own problem, if any, and the next run makes a new order."""

    def rewrite(request: Request, response: Response) -> Response:
        if not request.path.startswith("/finalize-order/"):
            return response
        return with_fields(response, status="invalid", error=problem)

    bench.proxy.rewrite = rewrite

    with pytest.raises(
        error, match=problem["detail"] if problem else "without a reason"
    ) as reported:
        bench.issue()

    assert retry == reported.value.retry
    assert bench.state.order(bench.lineage) is None


def test_refused_csr_fails_the_order(bench: Bench) -> None:
    """The CA would refuse the same key again, so the order is forgotten together with its key."""
    bench.proxy.faults.add(refusal("badCSR", "weak key", 400), on="POST /finalize-order/*")

    with pytest.raises(OrderFailed, match="weak key") as failure:
        bench.issue()
    assert "key_type" in str(failure.value.hint)
    assert bench.state.order(bench.lineage) is None


def test_unreadable_certificate_is_reported(bench: Bench) -> None:
    """The order stays, because a later download may succeed."""
    bench.proxy.faults.add(
        Fault.status(200, b"hello", headers=[("Replay-Nonce", "QUJD")]), on="POST /certZ/*"
    )

    with pytest.raises(CaUnavailable, match="certificate cannot be read"):
        bench.issue()
    assert bench.state.order(bench.lineage) is not None


def test_refused_connection_is_reported(bench: Bench) -> None:
    """The error quotes the system, and the hint names the setting of the address."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    with pytest.raises(CaUnavailable, match="Connection refused") as failure:
        bench.issue(issuer=bench.issuer(directory=f"https://127.0.0.1:{port}/dir"))
    assert "directory" in str(failure.value.hint)


def test_untrusted_directory_is_reported(bench: Bench) -> None:
    """The hint names `ca_bundle`, and the handshake is attempted once."""
    with pytest.raises(CaUnavailable, match="certificate verify failed") as failure:
        bench.issue(issuer=bench.issuer(ca_bundle=None))

    assert "ca_bundle" in str(failure.value.hint)
    assert [] == bench.clock.pauses


def test_malformed_address_is_reported(bench: Bench) -> None:
    """The hint describes a valid `directory`."""
    with pytest.raises(CaUnavailable) as failure:
        bench.issue(issuer=bench.issuer(directory="ca.example/dir"))
    assert "https address" in str(failure.value.hint)


def test_unreachable_proxy_is_reported(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment's proxy is used, and the hint names its variable."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")

    with pytest.raises(CaUnavailable) as failure:
        bench.issue()
    assert "HTTPS_PROXY" in str(failure.value.hint)


def test_unsupported_proxy_is_reported(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hint has the right form, and the request is attempted once."""
    monkeypatch.setenv("HTTPS_PROXY", "socks5h://127.0.0.1:9")

    with pytest.raises(CaUnavailable, match="does not support: socks5h") as failure:
        bench.issue()
    assert "set HTTPS_PROXY to the proxy's http:// address" in str(failure.value.hint)
    assert [] == bench.clock.pauses


def test_missing_ca_bundle_is_a_configuration_error(bench: Bench, tmp_path: Path) -> None:
    """The error comes before any request, and a file that vanishes later is reported too."""
    bundle = tmp_path / "ca.pem"
    with pytest.raises(ConfigError, match="there is no file"):
        bench.issuer(ca_bundle=bundle)

    bundle.touch()
    issuer = bench.issuer(ca_bundle=bundle)
    bundle.unlink()
    with pytest.raises(CaUnavailable, match="TLS CA certificate bundle"):
        bench.issue(issuer=issuer)


def test_order_without_an_address_is_reported(bench: Bench) -> None:
    """Only the Location header gives the order's URL (RFC 8555 §7.4)."""

    def rewrite(request: Request, response: Response) -> Response:
        headers = tuple((name, v) for name, v in response.headers if name != "Location")
        return replace(response, headers=headers) if request.path == "/order-plz" else response

    bench.proxy.rewrite = rewrite

    with pytest.raises(CaUnavailable, match="no Location"):
        bench.issue()


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b"<html>"),
        (200, b"[]"),
        (200, b"{}"),
        (200, b'{"newNonce": 1, "newAccount": 2, "newOrder": 3}'),
        (404, b"<html>"),
    ],
)
def test_address_of_another_service_is_reported(bench: Bench, status: int, body: bytes) -> None:
    """The hint says that the address is no ACME directory."""
    bench.proxy.faults.add(Fault.status(status, body), on="GET /dir")

    with pytest.raises(CaUnavailable, match="does not understand") as failure:
        bench.issue()
    assert "address of an ACME directory" in str(failure.value.hint)


ORDER_FIELDS = ["status", "authorizations", "finalize", "expires", "certificate", "error"]
AUTHORIZATION_FIELDS = ["identifier", "challenges", "token", "url"]
PROBLEM_FIELDS = ["type", "detail", "subproblems"]
FIELDS = [*ORDER_FIELDS, *AUTHORIZATION_FIELDS, *PROBLEM_FIELDS]

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=5)
    ),
    max_leaves=12,
)


class NonsenseCa(AcmeService):
    """A CA with any JSON as its answer."""

    def __init__(self) -> None:
        self.status = 200
        self.document: object = None
        super().__init__(self._answer)

    def _answer(self, request: Request) -> Response:
        if request.path == "/dir":
            resources = ("newNonce", "newAccount", "newOrder")
            return Response.json({name: f"{self.url}/{name}" for name in resources})
        response = Response.json(self.document, self.status if request.method == "POST" else 200)
        headers = {"Replay-Nonce": "QUJD", "Location": f"{self.url}/somewhere"}
        for name, value in headers.items():
            response = response.with_header(name, value)
        return response


@pytest.fixture(scope="module")
def nonsense_ca(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[NonsenseCa, Path]]:
    """The CA, and a bundle with its root."""
    bundle = tmp_path_factory.mktemp("babbler") / "ca.pem"
    with NonsenseCa() as nonsense_ca:
        nonsense_ca.authority.cert_pem.write_to_path(bundle)
        yield nonsense_ca, bundle


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(document=JSON, status=st.sampled_from([200, 200, 201, 400, 403, 409, 429, 500]))
def test_any_answer_leads_to_an_error_of_certferrys(
    nonsense_ca: tuple[NonsenseCa, Path], document: object, status: int
) -> None:
    """Any document in place of every answer leads to an `IssuanceError`."""
    ca, bundle = nonsense_ca
    ca.document, ca.status = document, status
    clock, zones, state = Clock(), Zones(), MemoryState()
    issuer = AcmeIssuer(
        settings=IssuerSettings(ca.directory_url, ca_bundle=bundle),
        state=state,
        propagation=AtOnce(zones, clock),
        pause=clock.pause,
        now=clock.now,
    )
    lease = state.acquire("img", clock.now())
    request = IssueRequest("img", ("img.example.com",), KeyType.EC256)

    with pytest.raises(CertferryError) as failure:
        issuer.issue(request, MemoryDns(["example.com"]), lease, lambda _: None)
    assert isinstance(failure.value, IssuanceError)


def test_number_of_simultaneous_orders_is_limited(tmp_path: Path) -> None:
    """At most twenty orders run at once, and the other orders wait."""
    full_ca = FullCa()
    clock, zones, state = Clock(), Zones(), MemoryState()
    with AcmeService(full_ca.answer) as ca:
        ca.authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        issuer = AcmeIssuer(
            settings=IssuerSettings(ca.directory_url, ca_bundle=tmp_path / "ca.pem"),
            state=state,
            propagation=AtOnce(zones, clock),
            pause=full_ca.pause,
            now=clock.now,
        )

        def issue(number: int) -> None:
            lineage = f"img-{number}"
            request = IssueRequest(lineage, (f"{lineage}.example.com",), KeyType.EC256)
            lease = state.acquire(lineage, clock.now())
            with pytest.raises(CaUnavailable):
                issuer.issue(request, MemoryDns(["example.com"]), lease, lambda _: None)

        with ThreadPoolExecutor(MOST_ORDERS + 5) as threads:
            list(threads.map(issue, range(MOST_ORDERS + 5)))

    assert MOST_ORDERS == full_ca.most
    assert MOST_ORDERS + 5 == full_ca.answered


class FullCa:
    """Answers no client before the limit is reached and further clients have waited."""

    def __init__(self) -> None:
        self.inside = self.most = self.answered = self.waiting = 0
        self._changed = threading.Condition()

    def answer(self, request: Request) -> Response:
        """Delay the answer until the limit is reached and another client waits."""
        with self._changed:
            self.inside += 1
            self.most = max(self.most, self.inside)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self.most >= MOST_ORDERS and self.waiting, 20)
            self.inside -= 1
            self.answered += 1
        return Response(404)

    def pause(self, seconds: float) -> None:
        with self._changed:
            self.waiting += 1
            self._changed.notify_all()
            self._changed.wait(0.01)


def test_answer_byte_by_byte_is_given_up() -> None:
    """Every byte arrives in time and the answer never ends: the client gives up once."""
    clock = Clock()
    whole = timedelta(seconds=0.3)
    network = Network(IssuerSettings(""), clock.pause, clock.now, whole)

    with (
        contextlib.closing(network),
        peer(endless_body(b"Content-Length: 1000000")) as host,
        pytest.raises(requests.RequestException) as caught,
    ):
        network.get(f"http://{host}/dir")

    assert [] == clock.pauses
    error = as_error(caught.value, clock.now())
    message = f"the CA could not be reached: {host}: the answer was not complete within"
    assert message in str(error)
    assert Retry.LATER == error.retry


def test_list_instead_of_an_address_is_an_error() -> None:
    """A CA's answer may contain a list; the error comes before the request."""
    clock = Clock()
    network = Network(IssuerSettings(""), clock.pause, clock.now)

    with contextlib.closing(network), pytest.raises(requests.RequestException):
        network.get(("https://127.0.0.1/order",))
