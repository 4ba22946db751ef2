"""Calls to DNSPod: the User-Agent, tokens, the pace, one call at a time, and unexpected answers."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry import __version__
from certferry.adapters.dnspod.dns import Settings, connect
from certferry.core.redaction import Secret
from certferry.errors import CertferryError, ConfigError, DnsRejected, Interrupted
from certferry.ports.dns import DnsProvider
from certferry.ports.progress import Pause
from certferry.text import Text
from certferry_sandbox.faults import Fault
from certferry_sandbox.httpd import HttpService, Request, Response
from certferry_sandbox.testing.context import connected_with
from tests.adapters.dns.zone_account import NOW
from tests.adapters.dnspod.account import TOKEN, TOKEN_ID, DnspodAccount
from tests.adapters.recorded_pauses import RecordedPauses

NAME = "_acme-challenge.img.example.com"


# --- User-Agent


@pytest.mark.parametrize(
    ("contact", "setting", "expected"),
    [
        ("ops@example.com", "", "ops@example.com"),
        ("ops@example.com", "dns@example.com", "dns@example.com"),
        ("", "", "nobody@certferry.invalid"),
    ],
)
def test_user_agent_has_the_documented_form(
    account: DnspodAccount, contact: str, setting: str, expected: str
) -> None:
    """DNSPod may ban an account that sends another form."""
    provider = connect(
        Settings(Secret(TOKEN_ID), Secret(TOKEN), account.service.url, setting),
        connected_with(pause=account.waits, now=lambda: NOW, contact=contact),
    )

    provider.add_txt(NAME, "value")

    agents = {request.headers["User-Agent"] for request in account.service.http.requests()}
    assert {f"certferry/{__version__} ({expected})"} == agents
    assert [] == account.service.refused_user_agents()


@pytest.mark.parametrize(
    "contact",
    ["ops", "ops@", "@example.com", "o ps@example.com", "a@b)\r\nX: y", "运维@example.com"],
)
def test_malformed_contact_is_refused(contact: str) -> None:
    """The error comes before the first request, which would have a malformed User-Agent."""
    with pytest.raises(ConfigError, match="mail address") as refused:
        configured(contact=contact)

    assert refused.value.hint is not None


# --- Tokens that cannot work


def configured(pause: Pause | None = None, **settings: object) -> DnsProvider:
    """Connect with default credentials, to no reachable service unless `api` is given."""
    defaults: dict[str, object] = {"id": Secret(TOKEN_ID), "token": Secret(TOKEN)}
    return connect(
        Settings(**{**defaults, **settings}),  # type: ignore[arg-type]  # wrong types too
        connected_with(pause=pause or RecordedPauses(), now=lambda: NOW, contact="ops@example.com"),
    )


def test_key_of_tencent_cloud_is_refused() -> None:
    """Operators often confuse the two kinds of key."""
    with pytest.raises(ConfigError, match="key of Tencent Cloud") as refused:
        configured(id=Secret("AKIDz8krbsJ5yKBZQpn74WFkmLPx3Qw7Rt2u"))

    assert "DNSPod Token" in str(refused.value.hint)
    assert "AKIDz8" not in f"{refused.value} {refused.value.hint}"


@pytest.mark.parametrize(
    ("token_id", "token"),
    [
        ("", TOKEN),
        (" ", TOKEN),
        (TOKEN_ID, ""),
        (f"{TOKEN_ID},{TOKEN}", TOKEN),
        ("1", f"1,{TOKEN}"),
    ],
)
def test_incomplete_and_joined_tokens_are_refused(token_id: str, token: str) -> None:
    """The hint says where each half belongs, and the error hides both halves."""
    with pytest.raises(ConfigError) as refused:
        configured(id=Secret(token_id), token=Secret(token))

    assert "before the comma" in str(refused.value.hint)
    assert TOKEN not in str(refused.value)


def test_whole_token_in_place_of_both_halves(account: DnspodAccount) -> None:
    """Clients such as lego store the token in one variable, which serves for both settings."""
    whole = Secret(f"{TOKEN_ID},{TOKEN}\n")

    account.connect(id=whole, token=whole).add_txt(NAME, "value")

    assert ["value"] == account.values(NAME)
    with pytest.raises(ConfigError, match="holds more than its part"):
        configured(id=Secret(f"1,{TOKEN},2"), token=Secret(f"1,{TOKEN},2"))


def test_blanks_around_a_token_do_not_matter(account: DnspodAccount) -> None:
    """Files usually end with a newline."""
    provider = account.connect(id=Secret(f"{TOKEN_ID}\n"), token=Secret(f" {TOKEN}\n"))

    provider.add_txt(NAME, "value")

    assert ["value"] == account.values(NAME)


@pytest.mark.parametrize("rate", [0, -1, float("nan")])
def test_rate_must_be_positive(rate: float) -> None:
    """A rate of zero does not mean "as fast as possible"."""
    with pytest.raises(ConfigError, match="must be above zero"):
        configured(requests_per_second=rate)


@pytest.mark.parametrize("requests", [0, -1])
def test_hourly_limit_must_be_positive(requests: int) -> None:
    """A limit of zero does not mean "unlimited"."""
    with pytest.raises(ConfigError, match=r"`requests_per_hour` .* must be above zero") as refused:
        configured(requests_per_hour=requests)

    assert "remove the setting" in str(refused.value.hint)


# --- Pace


def test_calls_are_half_a_second_apart_by_default(account: DnspodAccount) -> None:
    """By default certferry limits itself to two requests per second."""
    provider = connect(
        Settings(Secret(TOKEN_ID), Secret(TOKEN), account.service.url),
        connected_with(pause=account.waits, now=lambda: NOW, contact="ops@example.com"),
    )

    handle = provider.add_txt(NAME, "value")
    provider.remove_txt(NAME, "value", handle)

    # The pauses are only recorded, so each pause is half a second longer than the pause before,
    # less the time of the calls themselves.
    first, second = account.waits.seconds
    assert 0.1 < first <= 0.5 < second <= 1.0


Answer = dict[str, Any]
Answers = Callable[[str, dict[str, str]], Answer]


@contextlib.contextmanager
def service(answers: Answers) -> Iterator[HttpService]:
    """Answer each call by its action and form, with code 1 unless the answer has its own status."""

    def handle(request: Request) -> Response:
        action, form = request.path.removeprefix("/"), dict(parse_qsl(request.body.decode()))
        status = {"code": "1", "message": "Action completed successful"}
        return Response.json({"status": status, **answers(action, form)})

    with HttpService(handle) as running:
        yield running


def one_domain(action: str, form: dict[str, str]) -> Answer:
    """Answer like an account with one domain that accepts every record."""
    if action == "Domain.List":
        domain = {"id": 7, "punycode": "example.com", "status": "enable"}
        return {"info": {"domain_total": 1}, "domains": [domain]}
    return {"record": {"id": 8}}


def test_calls_are_sequential() -> None:
    """Several threads that share a provider make one call at a time."""
    unanswered: list[int] = []

    def answers(action: str, form: dict[str, str]) -> Answer:
        earlier = running.journal[:-1]
        unanswered.append(sum(call.status is None for call in earlier))
        return one_domain(action, form)

    with service(answers) as running, ThreadPoolExecutor(4) as threads:
        running.faults.add(Fault.delay(0.03), times=None)
        provider = configured(api=running.url, requests_per_second=1e6)
        list(threads.map(lambda number: provider.add_txt(NAME, f"value-{number}"), range(4)))

    assert [0] * len(unanswered) == unanswered
    assert len(unanswered) >= 5


def test_stopped_run_ends_a_wait_for_another_call() -> None:
    """A thread that waits behind a slow call notices the stop."""
    stopped, answered, arrived = threading.Event(), threading.Event(), threading.Event()

    def answers(action: str, form: dict[str, str]) -> Answer:
        if action == "Record.Create":
            arrived.set()
            answered.wait(20)
        return one_domain(action, form)

    def pause(seconds: float) -> None:
        if stopped.wait(seconds):
            raise Interrupted(Text("stopped"))

    with service(answers) as running, ThreadPoolExecutor(2) as threads:
        provider = configured(pause=pause, api=running.url, requests_per_second=1e6)
        first = threads.submit(provider.add_txt, NAME, "first")
        assert arrived.wait(20)
        second = threads.submit(provider.add_txt, NAME, "second")
        stopped.set()
        with pytest.raises(Interrupted):
            second.result(20)
        assert not first.done()
        answered.set()
        assert "7|8" == first.result(20)


# --- Answers of an unexpected form


def test_ids_and_totals_of_any_form() -> None:
    """Ids may be numbers or strings, totals may be missing, and items may be malformed."""
    listed: Answer = {
        "info": {"domain_total": "many"},
        "domains": [
            None,
            {"id": "6", "punycode": "", "name": "Example.org", "status": "ENABLE"},
            {"id": 7, "punycode": "example.com", "name": "?", "status": "enable", "remark": False},
        ],
    }

    def answers(action: str, form: dict[str, str]) -> Answer:
        if action == "Domain.List":
            return listed if form["offset"] == "0" else {"info": [], "domains": None}
        return {"record": {"id": 8 if form["domain_id"] == "7" else "9"}}

    with service(answers) as running:
        provider = configured(api=f"{running.url}/", requests_per_second=1e6)
        assert "7|8" == provider.add_txt(NAME, "value")
        assert "6|9" == provider.add_txt("_acme-challenge.example.org", "value")


@pytest.mark.parametrize("record", [None, {}, {"id": ""}, [], "8"])
def test_success_without_an_id_leads_to_a_search(record: object) -> None:
    """A written record must not be lost because its answer lacks the id."""

    def answers(action: str, form: dict[str, str]) -> Answer:
        if action == "Record.Create":
            return {"record": record}
        if action == "Record.List":
            host = form["sub_domain"]
            return {
                "info": {"record_total": "3"},
                "records": [
                    {"id": "1", "name": host, "type": "A", "value": "value"},
                    {"id": "2", "name": f"other.{host}", "type": "TXT", "value": "value"},
                    {"id": "3", "name": host.upper(), "type": "TXT", "value": "value"},
                ],
            }
        return one_domain(action, form)

    with service(answers) as running:
        provider = configured(api=running.url, requests_per_second=1e6)
        assert "7|3" == provider.add_txt(NAME, "value")


@pytest.mark.parametrize(
    "purview",
    [
        None,
        [],
        [{"name": "记录TTL最低"}],
        [{"name": "记录TTL最低", "value": "9" * 5000}],
        [{"name": "记录TTL最低", "value": "²"}],
        [{"name": "域名数量", "value": "7200"}],
    ],
)
def test_malformed_purview_leaves_the_refusal(purview: object) -> None:
    """The TTL can only be raised to a known minimum."""

    def answers(action: str, form: dict[str, str]) -> Answer:
        if action == "Record.Create":
            return {"status": {"code": 32, "message": "TTL"}}
        if action == "Domain.Purview":
            return {"purview": purview}
        return one_domain(action, form)

    with service(answers) as running, pytest.raises(DnsRejected, match="code 32"):
        configured(api=running.url, requests_per_second=1e6).add_txt(NAME, "value")

    assert ["POST /Domain.List", "POST /Record.Create", "POST /Domain.Purview"] == [
        call.request.label for call in running.journal
    ]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["status", "code", "info", "domains", "records", "record", "id", "name", "type"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def odd_service() -> Iterator[tuple[HttpService, dict[str, object]]]:
    answers: dict[str, object] = {}

    def handle(request: Request) -> Response:
        return Response.json(answers.get(request.path, answers["*"]))

    with HttpService(handle) as running:
        yield running, answers


@given(st.dictionaries(st.sampled_from(["/Domain.List", "/Record.Create", "*"]), JSON))
def test_any_json_is_an_answer_or_an_error(
    odd_service: tuple[HttpService, dict[str, object]], answers: dict[str, object]
) -> None:
    """Arbitrary JSON leads to a result or to a `CertferryError`, and never to another exception."""
    running, current = odd_service
    current.clear()
    done = {"status": {"code": "1", "message": ""}}
    current.update({"*": done, **answers})
    if isinstance(answers.get("/Domain.List"), dict):
        current["/Domain.List"] = one_domain("Domain.List", {}) | done | answers["/Domain.List"]  # type: ignore[operator]  # a dict, as checked above

    provider = configured(api=running.url, requests_per_second=1e6)
    with contextlib.suppress(CertferryError):
        provider.add_txt(NAME, "value")
    with contextlib.suppress(CertferryError):
        provider.remove_txt(NAME, "value", None)
