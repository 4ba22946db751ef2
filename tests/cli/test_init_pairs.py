"""The interview of `certferry init`: what it says first, and each pair of keys tried at once."""

from __future__ import annotations

import pytest

from certferry_sandbox.faults import Fault
from tests.cli.init_accounts import (
    ACCESS,
    AK,
    CHOSEN,
    DP_ID,
    DP_KEY,
    END,
    ID,
    SECRET,
    SK,
    TOKEN,
    UNTOLD,
    Accounts,
)
from tests.support.tiers import sampled

KEPT = "(Enter: as before)"


def interviewed(accounts: Accounts, *turns: tuple[str, str], columns: int = 100) -> tuple[int, str]:
    """Answer each question in turn, without keys in the environment."""
    accounts.environ.clear()
    return accounts.interviewed(*turns, columns=columns)


def test_it_says_what_it_will_do_and_where_each_key_is(accounts: Accounts) -> None:
    """Before the first question; and before each pair, where the service's console has it."""
    code, shown = interviewed(
        accounts, (ID, f"{DP_ID}\n"), (TOKEN, f"{DP_KEY}\n"), (ACCESS, "\x04")
    )

    assert 130 == code
    words = " ".join(shown.split())
    assert words.startswith("This interview writes certferry.toml. It changes nothing")
    assert words.index("DNSPod: console.dnspod.cn → API keys → DNSPod Token") < words.index(ID)
    assert words.index("Qiniu: portal.qiniu.com") < words.index(ACCESS)
    accounts.must_be_discreet(shown)
    assert set() == accounts.left()


OTHERS = {
    "command": [("`present NAME VALUE` or `cleanup …` follow:", "./dns\n")],
    "lexicon": [("the service, as `lexicon --help` calls it:", "powerdns\n")],
    "rfc2136": [
        ("its port where that is not 53:", "127.0.0.1:9\n"),
        ("the name of the TSIG key:", "certferry.\n"),
        ("the secret of the TSIG key, in base64 (input hidden):", "c2VjcmV0\n"),
    ],
}


@pytest.mark.parametrize("type_", sampled(list(OTHERS), 1))
def test_keys_that_cannot_be_tried_yet_are_not_said_to_be_accepted(
    accounts: Accounts, type_: str
) -> None:
    """Of a service without a call that only reads: it is said what tries it, and what is written
    can be read.
    """
    accounts.forget_dnspod()
    code, shown = interviewed(
        accounts,
        ("(Enter for 1):", f"{type_}\n"),
        *OTHERS[type_],
        (ACCESS, f"{AK}\n"),
        (SECRET, f"{SK}\n"),
        *UNTOLD,
        CHOSEN[0],
        *END[-2:],
        columns=300,
    )

    assert 0 == code
    label = "my-command" if type_ == "command" else type_
    assert f"{label} cannot be asked for that yet: `certferry sync --rehearse`" in shown
    assert f"{label} accepts the keys" not in shown
    assert f'dns = "{label}"' in accounts.config.read_text()
    assert "img.example.com: there is no certificate yet" in accounts.run("status").stdout


def test_wrong_pair_is_told_at_once_and_asked_for_again_alone(accounts: Accounts) -> None:
    """The other pair is kept; in the end every next step is told."""
    code, shown = interviewed(
        accounts,
        (ID, f"{DP_ID}\n"),
        (TOKEN, f"{'0' * 32}\n"),
        (f"DNSPod token ID {KEPT}:", "\n"),
        (f"DNSPod token {KEPT} (input hidden):", f"{DP_KEY}\n"),
        (ACCESS, f"{AK}\n"),
        (SECRET, "wrong\n"),
        (f"of the Qiniu account {KEPT}:", "\n"),
        (f"of the Qiniu account {KEPT} (input hidden):", f"{SK}\n"),
        *END,
    )

    assert 0 == code, shown
    words = " ".join(shown.split())
    assert 2 == words.count("Checking the keys of dnspod …")
    assert "DNSPod answered Domain.List with code" in words
    assert "hint: the `token` does not belong to the `id`: compare" in words
    assert "dnspod accepts the keys. Qiniu: portal.qiniu.com" in words
    assert "qiniu accepts the keys." in words
    for step in ("certferry plan", "certferry sync", "certferry schedule install"):
        assert f"{step} " in words.partition("Next:")[2]
    assert f"DP_Key={DP_KEY}\n" in accounts.keys.read_text()
    assert 0 == accounts.run("plan").returncode


def test_empty_answer_is_none_where_a_value_is_needed(accounts: Accounts) -> None:
    """The same question follows."""
    code, shown = interviewed(accounts, (ID, "\n"), (ID, f"{DP_ID}\n"), (TOKEN, "\x04"))

    assert 130 == code
    assert 1 == shown.count("a value is needed here; `back` returns, Ctrl-C ends the interview")


def test_service_that_does_not_answer_has_refused_no_keys(accounts: Accounts) -> None:
    """The interview goes on with them; and when the look fails, they are kept for the next."""
    for service in (accounts.qiniu.api, accounts.qiniu.fusion, accounts.qiniu.uc):
        service.faults.add(Fault.status(500, b"{}"), times=None)

    code, shown = interviewed(
        accounts,
        (ID, f"{DP_ID}\n"),
        (TOKEN, f"{DP_KEY}\n"),
        (ACCESS, f"{AK}\n"),
        (SECRET, f"{SK}\n"),
        *UNTOLD,
    )

    words = " ".join(shown.split())
    assert 1 == code, shown
    assert "warning: the keys could not be checked: " in words
    assert "The keys are kept in certferry.env, for the next `init`." in words
    assert {"certferry.env"} == accounts.left()
    assert f"QINIU_SECRET_KEY={SK}\n" in accounts.keys.read_text()
    accounts.must_be_discreet(shown)
