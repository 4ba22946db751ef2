"""The guesses about DNSPod are judged by reading calls alone, and named without names."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from certferry.core.secret import Secret
from certferry.core.trial import Trial, Verdict
from certferry.sandbox.faults import Fault
from certferry.wiring.trial import try_dnspod
from tests.adapters.dnspod.account import TOKEN, TOKEN_ID, DnspodAccount, dnspod_account

HOLDS, DOES_NOT_HOLD, CANNOT_TELL = Verdict.HOLDS, Verdict.DOES_NOT_HOLD, Verdict.CANNOT_TELL


@pytest.fixture
def account() -> Iterator[DnspodAccount]:
    """An account with a free and a paid domain."""
    with dnspod_account() as opened:
        opened.service.add_domain("example.com")
        opened.service.add_domain("example.org", grade="DP_Plus")
        yield opened


def tried(account: DnspodAccount, token: str = TOKEN, api: str | None = None) -> Trial:
    """Try everything at the account."""
    return try_dnspod(
        Secret(f" {TOKEN_ID}"),
        Secret(f"{token}\n"),
        {"api": api or account.service.url},
        pause=account.waits,
        now=account.now,
    )


def verdicts(trial: Trial) -> list[Verdict]:
    """Give the verdicts in their order."""
    return [judgement.verdict for judgement in trial.judgements]


def told(trial: Trial) -> list[str]:
    """Give everything that was seen, a sentence each."""
    return [str(seen) for judgement in trial.judgements for seen in judgement.seen]


def test_dnspod_as_it_is_documented(account: DnspodAccount) -> None:
    """Three requests, none of which changes anything."""
    trial = tried(account)

    assert [HOLDS, HOLDS, HOLDS, CANNOT_TELL] == verdicts(trial)
    assert ["Info.Version", "Domain.List"] == account.actions()
    assert (3, True) == (trial.requests, trial.let_in)
    assert [] == account.service.refused_user_agents()
    assert told(trial) == [
        "Info.Version: code 1",
        "GET /: 404",
        "Domain.List: code 1",
        "DP_Free: TTL 600",
        "DP_Plus: TTL 60",
        "not tried: only a change shows it",
    ]


def test_token_that_is_refused(account: DnspodAccount) -> None:
    """It is sent once; the code is told, and nothing that DNSPod says beside it."""
    trial = tried(account, "f" * 32)

    assert [CANNOT_TELL, HOLDS, CANNOT_TELL, CANNOT_TELL] == verdicts(trial)
    assert not trial.let_in
    assert 1 == len(account.actions())
    assert ["Info.Version: code 10004", "GET /: 404"] == told(trial)[:2]
    assert "not asked, since the token was refused" == told(trial)[2]


def test_account_without_domains() -> None:
    """There is nothing to learn of plans then."""
    with dnspod_account() as account:
        assert [HOLDS, HOLDS, CANNOT_TELL, CANNOT_TELL] == verdicts(tried(account))


def test_unknown_plan(account: DnspodAccount) -> None:
    """A plan is named by DNSPod's word for it; what could be another name is not."""
    body = b"""{"status":{"code":"1","message":"ok"},"domains":[{"grade":"DP_Huge","ttl":1},
        {"grade":"www.example.com","ttl":"soon"},7]}"""
    account.service.faults.add(Fault.status(200, body), on="POST /Domain.List")
    trial = tried(account)

    assert DOES_NOT_HOLD is verdicts(trial)[2]
    assert ["?: TTL ?", "DP_Huge: TTL 1"] == told(trial)[3:5]


def test_list_that_is_none(account: DnspodAccount) -> None:
    """It is no list of domains, and no mistake either."""
    body = b'{"status":{"code":"1","message":"ok"},"domains":{"www.example.com":1}}'
    account.service.faults.add(Fault.status(200, body), on="POST /Domain.List")

    assert CANNOT_TELL is verdicts(tried(account))[2]


def test_front_page_that_is_there(account: DnspodAccount) -> None:
    """Any other status refutes the guess."""
    account.service.faults.add(Fault.status(200, b"{}"), on="GET /")
    trial = tried(account)

    assert DOES_NOT_HOLD is verdicts(trial)[1]
    assert "GET /: 200" in told(trial)


def test_call_that_fails(account: DnspodAccount) -> None:
    """It is told, and costs no other guess its answer."""
    account.service.faults.add(Fault.html(502), on="POST /Info.Version")
    trial = tried(account)

    assert [CANNOT_TELL, HOLDS, HOLDS, CANNOT_TELL] == verdicts(trial)
    assert "status 502" in told(trial)[0]


def test_no_connection(account: DnspodAccount) -> None:
    """Without a network there is a report still."""
    trial = tried(account, api="http://127.0.0.1:1")

    assert [CANNOT_TELL] * 4 == verdicts(trial)
    assert not trial.let_in
    assert "no connection to 127.0.0.1:1" in told(trial)[1]


def test_nothing_of_the_accounts_is_named(account: DnspodAccount) -> None:
    """No domain and no token is in any sentence."""
    said = "\n".join(told(tried(account)))

    assert [] == [name for name in ("example", TOKEN_ID, TOKEN, "ops@") if name in said]
