"""The interview of `certferry init`: pairs of keys, other services, what an answer means."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.cli.interview import Back, Interview, Step, as_ranges, numbers_in, walk
from certferry.errors import ConfigError
from certferry_sandbox.faults import Fault
from tests.cli.consoles import TestConsole
from tests.cli.init_accounts import (
    ACCESS,
    AK,
    CHOSEN,
    DP_ID,
    DP_KEY,
    END,
    ID,
    KEYS,
    SECRET,
    SK,
    TOKEN,
    UNTOLD,
    Accounts,
)
from tests.house.tree import ROOT
from tests.support.tiers import sampled
from tests.wiring.packages import DNS_GROUP, Packages

# --- The interview of `certferry init`: what it says first, and each pair of keys tried at once


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
    assert words.startswith("This interview writes certferry.toml. Your accounts stay unchanged")
    assert words.index("DNSPod: console.dnspod.cn → API keys → DNSPod Token") < words.index(ID)
    assert words.index("Qiniu: portal.qiniu.com") < words.index(ACCESS)
    accounts.must_be_discreet(shown)
    assert set() == accounts.left()


OTHERS = {
    "command": [("`present NAME VALUE` or `cleanup …`:", "./dns\n")],
    "lexicon": [("the service's name, as listed by `lexicon --help`:", "powerdns\n")],
    "rfc2136": [
        ("its port unless 53:", "127.0.0.1:9\n"),
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
    assert f"{label} cannot be checked yet: `certferry sync --rehearse`" in shown
    assert f"{label} accepts the keys" not in shown
    assert f'dns = "{label}"' in accounts.config.read_text()
    assert "img.example.com: there is no certificate yet" in accounts.run("status").stdout


def test_wrong_pair_is_reported_at_once_and_asked_for_again_alone(accounts: Accounts) -> None:
    """The other pair is kept; in the end every next step is reported."""
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
    assert "DNSPod does not accept this pair of ID and token (10004)" in words
    assert "hint: `token` does not belong to `id`: compare" in words
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
    assert 1 == shown.count("an answer is required; `back` returns, Ctrl-C ends the interview")


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


# --- `certferry init` beside another package's adapter: what is offered, asked and written


RECIPE = ROOT / "tests" / "data" / "third_party" / "src" / "certferry_harbour"
SERVICE_TOKEN = "a-token-that-is-made-up"
WHICH = "Number or name (Enter for 1):"
QINIU = {name: key for name, key in KEYS.items() if name.startswith("QINIU")}


@pytest.fixture
def packages(accounts: Accounts, tmp_path_factory: pytest.TempPathFactory) -> Packages:
    """A folder of packages, with the recipe's DNS provider in it, whose accounts have a number, a
    second key and a list beside the token. The settings know no DNS account.
    """
    folder = tmp_path_factory.mktemp("packages")
    accounts.environ["PYTHONPATH"] = str(folder)
    accounts.apart = True
    accounts.forget_dnspod()
    text = (RECIPE / "dns.py").read_text(encoding="utf-8")
    text = text.replace(
        "    token: Secret\n",
        "    token: Secret\n    number: Annotated[int, Text('the number of the account')]\n"
        "    pepper: Secret\n    servers: tuple[str, ...]\n",
    )
    packages = Packages(folder)
    packages.install("certferry-harbour", "harbour_dns", text, harbour=DNS_GROUP)
    return packages


@pytest.mark.usefixtures("packages")
def test_another_service_is_offered_and_asked_for(accounts: Accounts) -> None:
    """In its own words; a wrong name and a wrong number are asked for again; `plan` reads what is
    written, and no key is seen.
    """
    for name in KEYS.keys() - QINIU.keys():
        del accounts.environ[name]
    with accounts.terminal("--email", "ops@example.com", columns=300) as terminal:
        for asked, answer in (
            (WHICH, "habour"),
            (WHICH, "harbour"),
            ("the token of the Harbour account (input hidden):", SERVICE_TOKEN),
            ("the number of the account:", "seven"),
            ("the number of the account:", "7"),
            ("pepper of the account at Harbour (input hidden):", f"pepper-{SERVICE_TOKEN}"),
            ("servers of the account at Harbour:", "ns1 ns2"),
            *((asked, answer.strip()) for asked, answer in (*UNTOLD, CHOSEN[0], *END[-2:])),
        ):
            terminal.until(lambda shown, asked=asked: shown.endswith(asked))  # type: ignore[misc]  # the question of this turn
            terminal.type(f"{answer}\n")
        assert 0 == terminal.end()
        shown = terminal.screen.raw

    assert "habour is not a DNS provider; did you mean harbour?" in shown
    assert "must be a whole number, but is a string" in shown
    assert SERVICE_TOKEN not in shown + accounts.config.read_text()
    written = tomllib.loads(accounts.config.read_text())
    assert {
        "token": "env:HARBOUR_TOKEN",
        "number": 7,
        "pepper": "env:HARBOUR_PEPPER",
        "servers": ["ns1", "ns2"],
    } == written["accounts"]["harbour"]
    assert "dnspod" not in written["accounts"]
    assert ["harbour"] * 2 == [one["dns"] for one in written["certificates"]]
    assert (
        f"HARBOUR_TOKEN={SERVICE_TOKEN}\nHARBOUR_PEPPER=pepper-{SERVICE_TOKEN}\n"
        == accounts.keys.read_text()
    )
    planned = accounts.run("plan")
    assert 0 == planned.returncode, planned
    assert "2 certificates to issue" in planned.stdout


@pytest.mark.usefixtures("packages")
def test_nothing_is_the_usual_service(accounts: Accounts) -> None:
    """Its questions follow, and none of the other's."""
    for name in KEYS.keys() - QINIU.keys():
        del accounts.environ[name]
    with accounts.terminal("--email", "ops@example.com", columns=300) as terminal:
        terminal.until(lambda shown: shown.endswith(WHICH))
        terminal.type("\n")
        terminal.until(lambda shown: "DNSPod token ID:" in shown)
        terminal.type("\x04")
        assert 130 == terminal.end()

    assert "Harbour account" not in terminal.screen.text


@pytest.mark.usefixtures("packages")
def test_address_is_seen_while_it_is_typed(accounts: Accounts) -> None:
    """And so is the name of a key, but not what is secret; all of them are kept with the keys."""
    for name in KEYS.keys() - QINIU.keys():
        del accounts.environ[name]
    with accounts.terminal("--email", "ops@example.com", columns=300) as terminal:
        for asked, answer in (
            (WHICH, "rfc2136"),
            ("the primary name server, with its port unless 53:", "192.0.2.1"),
            ("the name of the TSIG key:", "certferry."),
            ("the secret of the TSIG key, in base64 (input hidden):", "c2VjcmV0"),
            *((asked, answer.strip()) for asked, answer in (*UNTOLD, CHOSEN[0], *END[-2:])),
        ):
            terminal.until(lambda shown, asked=asked: asked in shown.rpartition("\n")[2])  # type: ignore[misc]  # the question of this turn
            terminal.type(f"{answer}\n")
        assert 0 == terminal.end()

    assert "RFC2136_NAMESERVER=192.0.2.1\n" in accounts.keys.read_text()
    assert {
        "server": "env:RFC2136_NAMESERVER",
        "key_name": "env:RFC2136_TSIG_KEY",
        "key_secret": "env:RFC2136_TSIG_SECRET",
    } == tomllib.loads(accounts.config.read_text())["accounts"]["rfc2136"]


@pytest.mark.parametrize("answer", ["DP_Id", "HARBOUR_TOKEN"])
@pytest.mark.usefixtures("packages")
def test_service_whose_keys_are_there_is_not_asked_for(accounts: Accounts, answer: str) -> None:
    """There is one alone of which there are any; what it lacks is reported."""
    accounts.environ = {**QINIU, "PYTHONPATH": accounts.environ["PYTHONPATH"], answer: "1"}

    done = accounts.init()

    assert 2 == done.returncode
    missing = {
        "DP_Id": ["DP_Key: not set: DNSPod token"],
        "HARBOUR_TOKEN": [
            "[accounts.harbour] number: not set: the number of the account",
            "HARBOUR_PEPPER: not set: pepper of the account at Harbour",
            "[accounts.harbour] servers: not set: servers of the account at Harbour",
        ],
    }
    assert ("a file for --settings" in done.stderr) is (answer == "HARBOUR_TOKEN")
    lines = [line.removeprefix("error: ").strip() for line in done.stderr.splitlines()]
    assert missing[answer] == [line for line in lines if "not set" in line]


@pytest.mark.usefixtures("packages")
def test_account_of_the_settings_counts_for_more_than_keys(accounts: Accounts) -> None:
    """Who has declared it means it, whatever else is in the environment."""
    settings = accounts.directory / "settings.toml"
    declared = '\n[accounts.mine]\ntype = "harbour"\nnumber = 7\nservers = []\n'
    settings.write_text(settings.read_text() + declared)
    accounts.environ |= {"HARBOUR_TOKEN": SERVICE_TOKEN, "HARBOUR_PEPPER": SERVICE_TOKEN}

    done = accounts.init()

    assert 0 == done.returncode, done
    written = tomllib.loads(accounts.config.read_text())
    assert {"mine", "qiniu"} == written["accounts"].keys()
    assert {"mine"} == {one["dns"] for one in written["certificates"]}


def test_broken_package_is_reported_and_not_offered(
    accounts: Accounts, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Everything else is as without it."""
    folder: Path = tmp_path_factory.mktemp("packages")
    Packages(folder).install("certferry-bad", "bad_dns", "import no_such", bad=DNS_GROUP)
    accounts.environ["PYTHONPATH"] = str(folder)
    accounts.apart = True

    done = accounts.init()

    assert 0 == done.returncode, done
    assert 1 == done.stderr.count("bad is not offered: the package certferry-bad: ")
    assert 'dns = "dnspod"' in accounts.config.read_text()


# --- Questions on a terminal: what an answer means, and which question follows it


EIGHT = [*(f"{letter}.example.com" for letter in "abcdefg"), "h.example.net"]


@pytest.mark.parametrize(
    ("answer", "meant"),
    [
        ("2", {2}),
        ("1-3,7", {1, 2, 3, 7}),
        ("1–3、7", {1, 2, 3, 7}),
        (" 3 1 ,2 ", {1, 2, 3}),
        ("all", set(range(1, 9))),
        ("全部", set(range(1, 9))),
        ("none", set()),
        ("无", set()),
        ("b.example.com", {2}),
        ("*.EXAMPLE.com, h.example.net", set(range(1, 9))),
        ("h.*,1", {1, 8}),
    ],
)
def test_numbers_and_ranges(answer: str, meant: set[int]) -> None:
    """As operators of both languages write them."""
    assert meant == numbers_in(answer, EIGHT)


@pytest.mark.parametrize("answer", ["9", "0", "3-1", "1-9", "x", "1-", "-1", "1-2-3", "9" * 20])
def test_what_is_no_number_of_the_list(answer: str) -> None:
    """It is named, with what can be answered."""
    with pytest.raises(ConfigError, match=f"{re.escape(answer)} is not understood") as caught:
        numbers_in(f"1,{answer}", EIGHT)

    assert "numbers from 1 to 8" in str(caught.value.message)


@given(st.frozensets(st.integers(min_value=1, max_value=40)))
def test_what_is_shown_as_usual_can_be_typed(numbers: frozenset[int]) -> None:
    """Enter and its own words mean the same."""
    assert numbers == numbers_in(as_ranges(numbers), EIGHT * 5)


class Script:
    """Steps that ask, by what an operator answers to each in turn."""

    def __init__(self, *answers: str) -> None:
        self.interview = Interview(TestConsole().console)
        self.asked: list[str] = []
        self._answers = list(answers)

    def step(self, name: str) -> Step[str]:
        """Ask one question, whose answer is added to what is known."""

        def take(known: str) -> str:
            self.interview.asked += 1
            self.asked.append(name)
            answer = self._answers.pop(0)
            if answer.startswith("back"):
                raise Back(answer.removeprefix("back"))
            return known + answer

        return Step(name, take)


def silent(name: str) -> Step[str]:
    """Return a step that asks nothing."""
    return Step(name, lambda known: known + name)


def test_back_passes_over_what_asked_nothing() -> None:
    """The question before is asked again, with what was known then."""
    script = Script("1", "back", "2", "3")
    steps = [script.step("a"), silent("-"), script.step("b")]

    assert "2-3" == walk(steps, "", script.interview)
    assert ["a", "b", "a", "b"] == script.asked


def test_back_to_a_step_that_is_named() -> None:
    """Though it asked nothing; what followed it is taken anew."""
    script = Script("1", "2", "back-", "3", "4")
    steps = [script.step("a"), silent("-"), script.step("b"), script.step("c")]

    assert "1-34" == walk(steps, "", script.interview)
    assert ["a", "b", "c", "b", "c"] == script.asked


def test_back_from_the_first_question() -> None:
    """There is no question before: it is asked again; inside another step it leads out of it."""
    script = Script("back", "1")

    assert "1" == walk([script.step("a")], "", script.interview)
    with pytest.raises(Back):
        walk([Script("back").step("a")], "", script.interview, inside=True)
