"""Answers that are lost, late, refused or not from a CA at all."""

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
def test_single_bad_exchange_is_survived(bench: Bench, path: str, fault: str) -> None:
    """Wherever it happens, the run goes on, and the CA issues one certificate."""
    bench.proxy.faults.add(FAULTS[fault], on=path)

    assert bench.issue().key_matches
    assert 1 == bench.proxy.finalized
    assert [] == bench.txt_left


@pytest.mark.parametrize("path", PATHS)
def test_path_that_stays_broken_fails_the_run_for_now(bench: Bench, path: str) -> None:
    """After a few attempts the CA counts as unavailable, and the next run may succeed."""
    bench.proxy.faults.add(Fault.reset_before(), on=path, times=None)

    with pytest.raises(CaUnavailable, match="could not be reached") as failure:
        bench.issue()

    assert Retry.LATER == failure.value.retry
    assert 3 == len([c for c in bench.proxy.journal if c.status is None])
    assert [] == bench.txt_left
    bench.proxy.faults.clear()
    assert bench.issue().key_matches


def test_rate_limit_says_when_to_come_back(bench: Bench) -> None:
    """Retry-After in seconds is a moment in the error; nothing is tried again before."""
    bench.proxy.faults.add(
        refusal("rateLimited", "too many orders for us", 429, "3600"), on="POST /order-plz"
    )

    with pytest.raises(RateLimited, match="too many orders for us") as failure:
        bench.issue()

    moment = failure.value.retry.after
    assert moment is not None
    assert timedelta(minutes=59) < moment - bench.clock.now() <= timedelta(hours=1)
    assert 1 == len(bench.proxy.requests("POST /order-plz"))


def test_rate_limit_until_a_date_says_when_to_come_back(bench: Bench) -> None:
    """Retry-After as an HTTP date is the same moment."""
    moment = bench.clock.now().replace(microsecond=0) + timedelta(days=2)
    fault = refusal("rateLimited", "later", 429, format_datetime(moment, usegmt=True))
    bench.proxy.faults.add(fault, on="POST /order-plz")

    with pytest.raises(RateLimited) as failure:
        bench.issue()
    assert Retry.at(moment) == failure.value.retry


def test_busy_ca_that_asks_for_a_moment_gets_it(bench: Bench) -> None:
    """The run waits for a short Retry-After."""
    bench.proxy.faults.add(
        refusal("rateLimited", "service busy", 503, "4"), on="POST /order-plz", times=2
    )

    assert bench.issue().key_matches
    assert [4.0, 4.0] == [pause for pause in bench.clock.pauses if pause > 3]


def test_busy_ca_that_asks_for_long_is_left_alone(bench: Bench) -> None:
    """A long Retry-After is for the engine to wait for."""
    bench.proxy.faults.add(refusal("serverInternal", "maintenance", 503, "1800"), on="GET /dir")

    with pytest.raises(CaUnavailable, match="maintenance") as failure:
        bench.issue()

    assert failure.value.retry.after is not None
    assert 1 == len(bench.proxy.journal)


def test_ca_without_a_single_good_nonce_is_given_up(bench: Bench) -> None:
    """Fresh nonces are tried often, not for ever."""
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
def test_order_that_fails_after_its_csr_is_reported_and_forgotten(
    bench: Bench, problem: dict[str, str] | None, error: type[IssuanceError], retry: Retry
) -> None:
    """With the order's own problem, when it has one; the next run begins a new order."""

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


def test_csr_that_is_refused_fails_the_order(bench: Bench) -> None:
    """The same key would be refused again, so the order is forgotten with it."""
    bench.proxy.faults.add(refusal("badCSR", "weak key", 400), on="POST /finalize-order/*")

    with pytest.raises(OrderFailed, match="weak key") as failure:
        bench.issue()
    assert "key_type" in str(failure.value.hint)
    assert bench.state.order(bench.lineage) is None


def test_certificate_that_is_none_is_reported(bench: Bench) -> None:
    """The order stays: its certificate may be shown properly the next time."""
    bench.proxy.faults.add(
        Fault.status(200, b"hello", headers=[("Replay-Nonce", "QUJD")]), on="POST /certZ/*"
    )

    with pytest.raises(CaUnavailable, match="certificate cannot be read"):
        bench.issue()
    assert bench.state.order(bench.lineage) is not None


def test_no_listener_is_reported(bench: Bench) -> None:
    """The cause in the system's words, and where the address comes from."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    with pytest.raises(CaUnavailable, match="Connection refused") as failure:
        bench.issue(issuer=bench.issuer(directory=f"https://127.0.0.1:{port}/dir"))
    assert "directory" in str(failure.value.hint)


def test_untrusted_directory_is_reported(bench: Bench) -> None:
    """The hint names `ca_bundle`, and a hopeless handshake is not repeated."""
    with pytest.raises(CaUnavailable, match="certificate verify failed") as failure:
        bench.issue(issuer=bench.issuer(ca_bundle=None))

    assert "ca_bundle" in str(failure.value.hint)
    assert [] == bench.clock.pauses


def test_address_that_is_none_is_reported(bench: Bench) -> None:
    """The hint says what `directory` must be."""
    with pytest.raises(CaUnavailable) as failure:
        bench.issue(issuer=bench.issuer(directory="ca.example/dir"))
    assert "https address" in str(failure.value.hint)


def test_proxy_that_is_not_there_is_reported(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment's proxy is used, so its failure is named."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")

    with pytest.raises(CaUnavailable) as failure:
        bench.issue()
    assert "HTTPS_PROXY" in str(failure.value.hint)


def test_proxy_of_another_kind_is_reported(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to write in its place, and without another try."""
    monkeypatch.setenv("HTTPS_PROXY", "socks5h://127.0.0.1:9")

    with pytest.raises(CaUnavailable, match="does not support: socks5h") as failure:
        bench.issue()
    assert "set HTTPS_PROXY to the proxy's http:// address" in str(failure.value.hint)
    assert [] == bench.clock.pauses


def test_ca_bundle_that_is_missing_is_a_configuration_error(bench: Bench, tmp_path: Path) -> None:
    """It is found before anything is sent, and when it has gone since, that is reported."""
    bundle = tmp_path / "ca.pem"
    with pytest.raises(ConfigError, match="there is no file"):
        bench.issuer(ca_bundle=bundle)

    bundle.touch()
    issuer = bench.issuer(ca_bundle=bundle)
    bundle.unlink()
    with pytest.raises(CaUnavailable, match="TLS CA certificate bundle"):
        bench.issue(issuer=issuer)


def test_order_without_an_address_is_reported(bench: Bench) -> None:
    """The Location is where it is looked at again (RFC 8555 §7.4)."""

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
def test_address_of_something_else_is_reported(bench: Bench, status: int, body: bytes) -> None:
    """It is not an ACME directory, and the hint says so."""
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


class Babbler(AcmeService):
    """A CA that speaks JSON and makes no sense."""

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
def babbler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Babbler, Path]]:
    """The CA, and the bundle that trusts it."""
    bundle = tmp_path_factory.mktemp("babbler") / "ca.pem"
    with Babbler() as babbler:
        babbler.authority.cert_pem.write_to_path(bundle)
        yield babbler, bundle


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(document=JSON, status=st.sampled_from([200, 200, 201, 400, 403, 409, 429, 500]))
def test_whatever_the_ca_says_only_our_errors_pass_the_port(
    babbler: tuple[Babbler, Path], document: object, status: int
) -> None:
    """No exception of a library, for any document in place of every answer."""
    ca, bundle = babbler
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


def test_orders_beyond_what_a_ca_bears_wait_for_their_turn(tmp_path: Path) -> None:
    """At most twenty are in flight at once, and all get their turn."""
    crowd = Crowd()
    clock, zones, state = Clock(), Zones(), MemoryState()
    with AcmeService(crowd.answer) as ca:
        ca.authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        issuer = AcmeIssuer(
            settings=IssuerSettings(ca.directory_url, ca_bundle=tmp_path / "ca.pem"),
            state=state,
            propagation=AtOnce(zones, clock),
            pause=crowd.pause,
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

    assert MOST_ORDERS == crowd.most
    assert MOST_ORDERS + 5 == crowd.answered


class Crowd:
    """Lets no client out until the place is full and others have had to wait."""

    def __init__(self) -> None:
        self.inside = self.most = self.answered = self.waiting = 0
        self._changed = threading.Condition()

    def answer(self, request: Request) -> Response:
        """Keep the client until the place is full, and another one waits outside."""
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


def test_answer_that_drips_is_given_up() -> None:
    """Every byte comes in time and the whole never does: the run gives it up, and asks no more."""
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
    said = f"the CA could not be reached: {host}: the answer was not complete within"
    assert said in str(error)
    assert Retry.LATER == error.retry


def test_list_in_the_place_of_an_address_is_reported_as_none() -> None:
    """A CA's answer may hold one; nothing is sent then."""
    clock = Clock()
    network = Network(IssuerSettings(""), clock.pause, clock.now)

    with contextlib.closing(network), pytest.raises(requests.RequestException):
        network.get(("https://127.0.0.1/order",))
