"""Failures of DNSPod: lost answers, endless answers, and every status code."""

from __future__ import annotations

import itertools
import re
from datetime import timedelta

import pytest

from certferry.adapters.dns.answers import MOST_PAGES
from certferry.adapters.dnspod.dns import Settings, connect
from certferry.core.redaction import Secret
from certferry.errors import CertferryError, DnsAccessDenied, DnsRejected, DnsUnavailable, Retry
from certferry.ports.dns import DnsProvider
from certferry_sandbox import httpd
from certferry_sandbox.faults import Fault
from certferry_sandbox.testing.context import connected_with
from tests.adapters.dnspod.account import TOKEN, TOKEN_ID, DnspodAccount
from tests.adapters.recorded_pauses import RecordedPauses

# --- Lost answers, broken answers, and status codes


NAME = "_acme-challenge.img.example.com"
CREATE = "POST /Record.Create"

BROKEN = [
    Fault.reset_before(),
    Fault.reset_after(),
    Fault.truncated(),
    Fault.html(502),
    Fault.status(503, b"overloaded"),
    Fault.status(200, b'{"status":{"code":"1"'),
    Fault.status(200, b'{"status":"1"}'),
    Fault.status(200, b"[]"),
    Fault.status(200, b"\xff\xfe"),
    Fault.status(200, b'{"status":{"code":[]}}'),
]
LOST = [*BROKEN, Fault.status(408, b"Request Timeout"), Fault.html(408)]
"""A gateway's 408 may come while the service still works on the request (RFC 9110 §15.5.9)."""


def ids(faults: list[Fault]) -> list[str]:
    return [f"{fault.kind.value}-{fault.code or number}" for number, fault in enumerate(faults)]


# reads


@pytest.mark.parametrize("fault", BROKEN, ids=ids(BROKEN))
@pytest.mark.parametrize("action", ["Domain.List", "Record.List", "Domain.Purview"])
def test_read_without_an_answer_is_repeated(
    account: DnspodAccount, provider: DnsProvider, action: str, fault: Fault
) -> None:
    """A read changes nothing, so a repetition is harmless."""
    account.service.add_domain("example.org", min_ttl=1800)
    account.zones.create("_acme-challenge.example.org", "TXT", "there already")
    account.service.faults.add(fault, on=f"POST /{action}")

    provider.add_txt("_acme-challenge.example.org", "value")
    provider.remove_txt("_acme-challenge.example.org", "there already", None)

    assert ["value"] == account.values("_acme-challenge.example.org")
    assert 2 == len(account.service.calls(action))


@pytest.mark.parametrize("fault", BROKEN, ids=ids(BROKEN))
def test_silent_service_is_given_up(
    account: DnspodAccount, provider: DnsProvider, fault: Fault
) -> None:
    """The repetitions end, and a later run may try again."""
    account.service.faults.add(fault, on="POST /Domain.List", times=None)

    with pytest.raises(DnsUnavailable, match=NAME) as lost:
        provider.add_txt(NAME, "value")

    assert Retry.LATER == lost.value.retry
    assert lost.value.hint is not None
    assert len(account.service.calls()) <= 4


@pytest.mark.parametrize(
    ("code", "pauses"), [("3", [1.0]), ("-99", [10.0]), ("-2", [60.0]), ("777", [1.0])]
)
def test_read_is_repeated_after_a_temporary_code(
    account: DnspodAccount, provider: DnsProvider, code: str, pauses: list[float]
) -> None:
    """The code determines the pause; an unknown code gets a single second attempt."""
    account.service.answer_next("Domain.List", code, "not now")

    provider.add_txt(NAME, "value")

    assert pauses == [seconds for seconds in account.waits.seconds if seconds >= 1]
    assert ["value"] == account.values(NAME)


@pytest.mark.parametrize(
    ("code", "requests", "error"),
    [
        ("3", 3, DnsUnavailable),
        ("-99", 3, DnsUnavailable),
        ("-2", 3, DnsUnavailable),
        ("777", 2, DnsRejected),
        ("-55", 1, DnsRejected),
        ("6", 2, DnsRejected),
    ],
)
def test_repetitions_of_a_read_are_limited(
    account: DnspodAccount, provider: DnsProvider, code: str, requests: int, error: type[Exception]
) -> None:
    """Undocumented negative codes end the attempts at once; other codes allow a few attempts."""
    account.service.answer_next("Domain.List", code, "not now", times=99)

    with pytest.raises(error, match=rf"Domain.List with code {code}: not now"):
        provider.add_txt(NAME, "value")

    assert requests == len(account.service.calls())


@pytest.mark.parametrize(
    ("fault", "words"),
    [(Fault.status(418, b"no"), "HTTP status 418"), (Fault.html(403), r"web page \(status 403\)")],
    ids=["words", "page"],
)
def test_refusal_by_a_gateway_is_final(
    account: DnspodAccount, provider: DnsProvider, fault: Fault, words: str
) -> None:
    """A gateway would refuse the same request again."""
    account.service.faults.add(fault, on=CREATE, times=None)

    with pytest.raises(DnsUnavailable, match=words):
        provider.add_txt(NAME, "value")

    assert ["Domain.List", "Record.Create"] == account.actions()


def test_error_recommends_a_long_pause_after_too_many_calls(
    account: DnspodAccount, provider: DnsProvider
) -> None:
    """Two pauses of a minute were too short, so the next run should wait ten minutes."""
    account.service.answer_next("Record.Create", "-2", times=99)

    with pytest.raises(DnsUnavailable) as limited:
        provider.add_txt(NAME, "value")

    assert Retry.at(account.now() + timedelta(minutes=10)) == limited.value.retry
    assert [60, 60] == [seconds for seconds in account.waits.seconds if seconds >= 1]


def test_write_is_repeated_after_too_many_calls(
    account: DnspodAccount, provider: DnsProvider
) -> None:
    """The code guarantees that DNSPod did nothing."""
    account.service.answer_next("Record.Create", "-2")

    provider.add_txt(NAME, "value")

    assert ["value"] == account.values(NAME)
    assert 0 == len(account.service.calls("Record.List"))


# writes


@pytest.mark.parametrize("index_delay", [0, 30])
@pytest.mark.parametrize("fault", LOST, ids=ids(LOST))
def test_lost_answer_to_a_write_leaves_a_single_record(
    account: DnspodAccount, provider: DnsProvider, fault: Fault, index_delay: float
) -> None:
    """A search comes before a second write, even when DNSPod lists new records late."""
    account.service.index_delay = index_delay
    account.service.faults.add(fault, on=CREATE)

    handle = provider.add_txt(NAME, "value")

    assert [handle.partition("|")[2]] == account.ids(NAME)
    assert ["value"] == account.values(NAME)
    first_two = [action for action in account.actions() if action.startswith("Record.")][:2]
    assert ["Record.Create", "Record.List"] == first_two


@pytest.mark.parametrize("does_the_work", [True, False])
@pytest.mark.parametrize("code", ["3", "-99"])
def test_code_of_an_uncertain_write_leaves_a_single_record(
    account: DnspodAccount, provider: DnsProvider, code: str, does_the_work: object
) -> None:
    """DNSPod may answer with an unknown error after the write."""
    account.service.answer_next("Record.Create", code, does_the_work=bool(does_the_work))

    handle = provider.add_txt(NAME, "value")

    assert [handle.partition("|")[2]] == account.ids(NAME)


def test_slow_answer_is_an_answer(account: DnspodAccount, provider: DnsProvider) -> None:
    """A delay within the timeout leads to no repetition."""
    account.service.faults.add(Fault.delay(0.3), on="POST /*", times=2)

    provider.add_txt(NAME, "value")

    assert ["Domain.List", "Record.Create"] == account.actions()


# status codes


@pytest.mark.parametrize(
    ("code", "error", "advice"),
    [
        ("-3", DnsRejected, "resellers"),
        ("-4", DnsRejected, "resellers"),
        ("-7", DnsRejected, "main account"),
        ("-15", DnsRejected, "banned the domain"),
        ("2", DnsRejected, "bug in certferry"),
        ("6", DnsRejected, "check the domain"),
        ("7", DnsRejected, "check the domain"),
        ("21", DnsRejected, "unlock"),
        ("22", DnsRejected, "name"),
        ("23", DnsRejected, "plan"),
        ("24", DnsRejected, "plan"),
        ("25", DnsRejected, "plan"),
        ("26", DnsRejected, "line"),
        ("27", DnsRejected, "bug in certferry"),
        ("31", DnsRejected, "CNAME"),
        ("34", DnsRejected, "bug in certferry"),
        ("82", DnsRejected, "check the domain"),
        ("500025", DnsRejected, "plan"),
        ("500026", DnsRejected, "plan"),
        ("777", DnsRejected, "check the domain"),
        ("-55", DnsRejected, "check the domain"),
    ],
)
def test_refusal_carries_code_words_and_advice(
    account: DnspodAccount,
    provider: DnsProvider,
    code: str,
    error: type[CertferryError],
    advice: str,
) -> None:
    """The error names the record, the call, the reason and the remedy; the write is sent once."""
    account.service.answer_next("Record.Create", code, "their words")

    with pytest.raises(error) as refused:
        provider.add_txt(NAME, "value")

    expected = f"{NAME}: DNSPod answered Record.Create with code {code}: their words"
    assert expected == str(refused.value.message)
    assert advice in str(refused.value.hint)
    assert Retry.NEVER == refused.value.retry
    assert ["Domain.List", "Record.Create"] == account.actions()


@pytest.mark.parametrize(
    "code",
    ["-1", "-8", "50", "51", "52", "53", "54", "83", "85", "10002", "10003", "10004", "20004"],
)
@pytest.mark.parametrize("action", ["Domain.List", "Record.Create", "Record.Remove"])
def test_refused_credentials_are_sent_once(
    account: DnspodAccount, provider: DnsProvider, action: str, code: str
) -> None:
    """More than thirty refusals in five minutes would lock the account's owner out."""
    account.service.answer_next(action, code, "no entry", times=99)

    with pytest.raises(DnsAccessDenied, match=rf"{code}\b") as denied:
        provider.remove_txt(NAME, "value", provider.add_txt(NAME, "value"))
    sent = len(account.service.calls())

    for call in (
        lambda: provider.add_txt(NAME, "value"),
        lambda: provider.remove_txt(NAME, "value", "1|2"),
        lambda: provider.remove_txt(NAME, "value", None),
    ):
        with pytest.raises(DnsAccessDenied, match="does not ask") as again:
            call()
        assert str(denied.value) in str(again.value)
        assert denied.value.hint == again.value.hint
    assert sent == len(account.service.calls())
    assert 1 == len(account.service.calls(action))
    assert Retry.NEVER == denied.value.retry
    assert denied.value.hint is not None


def test_refused_login_method_counts_as_refused_credentials(
    account: DnspodAccount, provider: DnsProvider
) -> None:
    """Code 8 means "gone", unless the message speaks of the login."""
    handle = provider.add_txt(NAME, "value")
    account.service.answer_next("Record.Remove", "8", "Prohibit req by email, Request by token")

    with pytest.raises(DnsAccessDenied):
        provider.remove_txt(NAME, "value", handle)


@pytest.mark.parametrize(
    ("token_id", "token", "code", "advice"),
    [
        ("my-id", TOKEN, "10002", "`id` of the account (DP_Id) is not the ID of a DNSPod token"),
        ("99999", TOKEN, "10003", "the token does not exist"),
        (TOKEN_ID, "0" * 32, "10004", "`token` does not belong to `id`"),
    ],
)
def test_each_wrong_credential_has_its_own_advice(
    account: DnspodAccount, token_id: str, token: str, code: str, advice: str
) -> None:
    """The operator reads which half is wrong, and where to check that half."""
    provider = account.connect(id=Secret(token_id), token=Secret(token))

    with pytest.raises(
        DnsAccessDenied, match=re.escape(f"this pair of ID and token ({code})")
    ) as denied:
        provider.add_txt(NAME, "value")

    assert advice in str(denied.value.hint)
    assert "console.dnspod.cn" in str(denied.value.hint)
    assert 1 == len(account.service.calls())


def test_malformed_token_id_is_explained(account: DnspodAccount) -> None:
    """Code 10002: the hint shows the form of a token's id, and rejects keys of Tencent Cloud."""
    with pytest.raises(
        DnsAccessDenied, match="does not accept this pair of ID and token"
    ) as denied:
        account.connect(id=Secret("ops@example.com")).add_txt(NAME, "value")

    hint = str(denied.value.hint)
    assert "(DP_Id)" in hint
    assert "the short number" in hint
    assert "Tencent Cloud (AKID…) do not work" in hint


def test_unknown_line_is_explained(account: DnspodAccount) -> None:
    """Code 26: the hint names the default line of either service."""
    with pytest.raises(DnsRejected, match="code 26: Record line invalid") as refused:
        account.connect(line="境外").add_txt(NAME, "value")

    hint = str(refused.value.hint)
    assert "remove `line` to use 默认" in hint
    assert "`default` at api.dnspod.com" in hint


def test_errors_hide_the_token(account: DnspodAccount, provider: DnsProvider) -> None:
    """DNSPod may repeat the token in its message."""
    account.service.answer_next("Record.Create", "34", f"bad request: {TOKEN_ID},{TOKEN}")

    with pytest.raises(DnsRejected) as refused:
        provider.add_txt(NAME, "value")

    assert TOKEN not in str(refused.value)
    assert "•••" in str(refused.value)


# --- Endless lists, of DNSPod or of a gateway in its place


ZONE = "example.com"
MANY = 10**9


@pytest.mark.parametrize("action", ["Domain.List", "Record.List"])
def test_endless_list(action: str) -> None:
    """Each page has a new entry and announces more, until the search gives up."""
    numbers = itertools.count(1)

    def answer(request: httpd.Request) -> httpd.Response:
        is_endless = request.path == f"/{action}"
        number = next(numbers) if is_endless else 1
        total = MANY if is_endless else 1
        return httpd.Response.json(
            {
                "status": {"code": "1", "message": "Action completed successful"},
                "info": {"domain_total": total, "record_total": total},
                "domains": [{"id": number, "punycode": ZONE, "status": "enable"}],
                "records": [{"id": number, "name": "_acme-challenge", "type": "TXT", "value": "?"}],
            }
        )

    with httpd.HttpService(answer) as service:
        settings = Settings(
            Secret(TOKEN_ID), Secret(TOKEN), api=service.url, requests_per_second=1e6
        )
        provider = connect(
            settings, connected_with(pause=RecordedPauses(), contact="ops@example.com")
        )
        with pytest.raises(DnsUnavailable, match="never ends"):
            provider.remove_txt(f"_acme-challenge.{ZONE}", "value", None)

    assert MOST_PAGES + 1 == next(numbers)


def test_incomplete_list() -> None:
    """A service that repeats the first page, with more entries announced, is an error."""

    def answer(request: httpd.Request) -> httpd.Response:
        del request
        return httpd.Response.json(
            {
                "status": {"code": "1", "message": "Action completed successful"},
                "info": {"domain_total": 3},
                "domains": [{"id": 1, "punycode": "another.example", "status": "enable"}],
            }
        )

    with httpd.HttpService(answer) as service:
        settings = Settings(
            Secret(TOKEN_ID), Secret(TOKEN), api=service.url, requests_per_second=1e6
        )
        provider = connect(
            settings, connected_with(pause=RecordedPauses(), contact="ops@example.com")
        )
        with pytest.raises(DnsUnavailable, match="never ends"):
            provider.add_txt(f"_acme-challenge.{ZONE}", "value")

        assert 2 == len(service.journal)
