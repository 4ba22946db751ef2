"""The interview of `certferry init`: pairs of keys, services of other packages, and the meaning of
answers.
"""

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
    NO_CHANNEL,
    SECRET,
    SK,
    TOKEN,
    Accounts,
)
from tests.house.tree import ROOT
from tests.support.tiers import sampled
from tests.wiring.packages import DNS_GROUP, Packages

# --- The beginning of the interview, and the check of each pair of keys


KEPT = "(Enter: as before)"


def interviewed(accounts: Accounts, *turns: tuple[str, str], columns: int = 100) -> tuple[int, str]:
    """Answer each question in turn, without keys in the environment."""
    accounts.environ.clear()
    return accounts.interviewed(*turns, columns=columns)


def test_interview_begins_with_an_explanation(accounts: Accounts) -> None:
    """An explanation comes before the first question, and the place of each pair of keys before its
    questions.
    """
    code, screen = interviewed(
        accounts, (ID, f"{DP_ID}\n"), (TOKEN, f"{DP_KEY}\n"), (ACCESS, "\x04")
    )

    assert 130 == code
    words = " ".join(screen.split())
    assert words.startswith("This interview writes certferry.toml. Your accounts stay unchanged")
    assert words.index("DNSPod: console.dnspod.cn → API keys → DNSPod Token") < words.index(ID)
    assert words.index("Qiniu: portal.qiniu.com") < words.index(ACCESS)
    accounts.must_contain_no_secret(screen)
    assert set() == accounts.new_files()


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
def test_keys_without_a_check_are_not_called_accepted(accounts: Accounts, type_: str) -> None:
    """For a service without a harmless request the output has the command that checks the keys, and
    the written file loads.
    """
    accounts.remove_dnspod()
    code, screen = interviewed(
        accounts,
        ("(Enter for 1):", f"{type_}\n"),
        *OTHERS[type_],
        (ACCESS, f"{AK}\n"),
        (SECRET, f"{SK}\n"),
        *NO_CHANNEL,
        CHOSEN[0],
        *END[-2:],
        columns=300,
    )

    assert 0 == code
    label = "my-command" if type_ == "command" else type_
    assert f"{label} cannot be checked yet: `certferry sync --rehearse`" in screen
    assert f"{label} accepts the keys" not in screen
    assert f'dns = "{label}"' in accounts.config.read_text()
    assert "img.example.com: there is no certificate yet" in accounts.run("status").stdout


def test_wrong_pair_of_keys_is_asked_for_again(accounts: Accounts) -> None:
    """Only the wrong pair is asked for again, and the end of the interview lists every next
    step.
    """
    code, screen = interviewed(
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

    assert 0 == code, screen
    words = " ".join(screen.split())
    assert 2 == words.count("Checking the keys of dnspod …")
    assert "DNSPod does not accept this pair of ID and token (10004)" in words
    assert "hint: `token` does not belong to `id`: compare" in words
    assert "dnspod accepts the keys. Qiniu: portal.qiniu.com" in words
    assert "qiniu accepts the keys." in words
    for step in ("certferry plan", "certferry sync", "certferry schedule install"):
        assert f"{step} " in words.partition("Next:")[2]
    assert f"DP_Key={DP_KEY}\n" in accounts.keys.read_text()
    assert 0 == accounts.run("plan").returncode


def test_empty_answer_to_a_required_question(accounts: Accounts) -> None:
    """The question is repeated."""
    code, screen = interviewed(accounts, (ID, "\n"), (ID, f"{DP_ID}\n"), (TOKEN, "\x04"))

    assert 130 == code
    assert 1 == screen.count("an answer is required; `back` returns, Ctrl-C ends the interview")


def test_service_without_an_answer_to_the_check(accounts: Accounts) -> None:
    """The interview continues with the keys; if the account cannot be read either, the keys are
    stored for the next interview.
    """
    for service in (accounts.qiniu.api, accounts.qiniu.fusion, accounts.qiniu.uc):
        service.faults.add(Fault.status(500, b"{}"), times=None)

    code, screen = interviewed(
        accounts,
        (ID, f"{DP_ID}\n"),
        (TOKEN, f"{DP_KEY}\n"),
        (ACCESS, f"{AK}\n"),
        (SECRET, f"{SK}\n"),
        *NO_CHANNEL,
    )

    words = " ".join(screen.split())
    assert 1 == code, screen
    assert "warning: the keys could not be checked: " in words
    assert "The keys are kept in certferry.env, for the next `init`." in words
    assert {"certferry.env"} == accounts.new_files()
    assert f"QINIU_SECRET_KEY={SK}\n" in accounts.keys.read_text()
    accounts.must_contain_no_secret(screen)


# --- A DNS provider of another package: its place in the list, its questions, and the written
# account


RECIPE = ROOT / "tests" / "data" / "third_party" / "src" / "certferry_harbour"
SERVICE_TOKEN = "a-token-that-is-made-up"
WHICH = "Number or name (Enter for 1):"
QINIU = {name: key for name, key in KEYS.items() if name.startswith("QINIU")}


@pytest.fixture
def packages(accounts: Accounts, tmp_path_factory: pytest.TempPathFactory) -> Packages:
    """Return a folder with the recipe's DNS provider as a package.

    Accounts of the provider have a number, a second key and a list beside the token. The settings
    have no DNS account.
    """
    folder = tmp_path_factory.mktemp("packages")
    accounts.environ["PYTHONPATH"] = str(folder)
    accounts.apart = True
    accounts.remove_dnspod()
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
def test_service_of_another_package_is_in_the_interview(accounts: Accounts) -> None:
    """The questions have the package's words, a wrong name and a wrong number are asked for again,
    the plan reads the written account, and no key appears on the screen.
    """
    for name in KEYS.keys() - QINIU.keys():
        del accounts.environ[name]
    with accounts.terminal("--email", "ops@example.com", columns=300) as terminal:
        for question, answer in (
            (WHICH, "habour"),
            (WHICH, "harbour"),
            ("the token of the Harbour account (input hidden):", SERVICE_TOKEN),
            ("the number of the account:", "seven"),
            ("the number of the account:", "7"),
            ("pepper of the account at Harbour (input hidden):", f"pepper-{SERVICE_TOKEN}"),
            ("servers of the account at Harbour:", "ns1 ns2"),
            *(
                (question, answer.strip())
                for question, answer in (*NO_CHANNEL, CHOSEN[0], *END[-2:])
            ),
        ):
            terminal.until(lambda screen, question=question: screen.endswith(question))  # type: ignore[misc]  # the question of this turn
            terminal.type(f"{answer}\n")
        assert 0 == terminal.end()
        screen = terminal.screen.raw

    assert "habour is not a DNS provider; did you mean harbour?" in screen
    assert "must be a whole number, but is a string" in screen
    assert SERVICE_TOKEN not in screen + accounts.config.read_text()
    configuration = tomllib.loads(accounts.config.read_text())
    assert {
        "token": "env:HARBOUR_TOKEN",
        "number": 7,
        "pepper": "env:HARBOUR_PEPPER",
        "servers": ["ns1", "ns2"],
    } == configuration["accounts"]["harbour"]
    assert "dnspod" not in configuration["accounts"]
    assert ["harbour"] * 2 == [entry["dns"] for entry in configuration["certificates"]]
    assert (
        f"HARBOUR_TOKEN={SERVICE_TOKEN}\nHARBOUR_PEPPER=pepper-{SERVICE_TOKEN}\n"
        == accounts.keys.read_text()
    )
    planned = accounts.run("plan")
    assert 0 == planned.returncode, planned
    assert "2 certificates to issue" in planned.stdout


@pytest.mark.usefixtures("packages")
def test_empty_answer_chooses_the_usual_service(accounts: Accounts) -> None:
    """The questions of the usual service follow."""
    for name in KEYS.keys() - QINIU.keys():
        del accounts.environ[name]
    with accounts.terminal("--email", "ops@example.com", columns=300) as terminal:
        terminal.until(lambda screen: screen.endswith(WHICH))
        terminal.type("\n")
        terminal.until(lambda screen: "DNSPod token ID:" in screen)
        terminal.type("\x04")
        assert 130 == terminal.end()

    assert "Harbour account" not in terminal.screen.text


@pytest.mark.usefixtures("packages")
def test_address_and_key_name_are_visible(accounts: Accounts) -> None:
    """Only the secret is hidden, and all answers are stored in the file of keys."""
    for name in KEYS.keys() - QINIU.keys():
        del accounts.environ[name]
    with accounts.terminal("--email", "ops@example.com", columns=300) as terminal:
        for question, answer in (
            (WHICH, "rfc2136"),
            ("the primary name server, with its port unless 53:", "192.0.2.1"),
            ("the name of the TSIG key:", "certferry."),
            ("the secret of the TSIG key, in base64 (input hidden):", "c2VjcmV0"),
            *(
                (question, answer.strip())
                for question, answer in (*NO_CHANNEL, CHOSEN[0], *END[-2:])
            ),
        ):
            terminal.until(lambda screen, question=question: question in screen.rpartition("\n")[2])  # type: ignore[misc]  # the question of this turn
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
def test_service_with_keys_in_the_environment_is_chosen(accounts: Accounts, answer: str) -> None:
    """The only service with any key is chosen, and its missing keys are reported."""
    accounts.environ = {**QINIU, "PYTHONPATH": accounts.environ["PYTHONPATH"], answer: "1"}

    ended = accounts.init()

    assert 2 == ended.returncode
    missing = {
        "DP_Id": ["DP_Key: not set: DNSPod token"],
        "HARBOUR_TOKEN": [
            "[accounts.harbour] number: not set: the number of the account",
            "HARBOUR_PEPPER: not set: pepper of the account at Harbour",
            "[accounts.harbour] servers: not set: servers of the account at Harbour",
        ],
    }
    assert ("a file for --settings" in ended.stderr) is (answer == "HARBOUR_TOKEN")
    lines = [line.removeprefix("error: ").strip() for line in ended.stderr.splitlines()]
    assert missing[answer] == [line for line in lines if "not set" in line]


@pytest.mark.usefixtures("packages")
def test_account_in_the_settings_takes_precedence_over_keys(accounts: Accounts) -> None:
    """A declared account is used even if the environment has keys of another service."""
    settings = accounts.directory / "settings.toml"
    declared = '\n[accounts.mine]\ntype = "harbour"\nnumber = 7\nservers = []\n'
    settings.write_text(settings.read_text() + declared)
    accounts.environ |= {"HARBOUR_TOKEN": SERVICE_TOKEN, "HARBOUR_PEPPER": SERVICE_TOKEN}

    ended = accounts.init()

    assert 0 == ended.returncode, ended
    configuration = tomllib.loads(accounts.config.read_text())
    assert {"mine", "qiniu"} == configuration["accounts"].keys()
    assert {"mine"} == {entry["dns"] for entry in configuration["certificates"]}


def test_broken_package_is_reported_and_omitted(
    accounts: Accounts, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The proposal is the same as without the package."""
    folder: Path = tmp_path_factory.mktemp("packages")
    Packages(folder).install("certferry-bad", "bad_dns", "import no_such", bad=DNS_GROUP)
    accounts.environ["PYTHONPATH"] = str(folder)
    accounts.apart = True

    ended = accounts.init()

    assert 0 == ended.returncode, ended
    assert 1 == ended.stderr.count("bad is not offered: the package certferry-bad: ")
    assert 'dns = "dnspod"' in accounts.config.read_text()


# --- Questions at a terminal: the meaning of answers, and the next question


EIGHT = [*(f"{letter}.example.com" for letter in "abcdefg"), "h.example.net"]


@pytest.mark.parametrize(
    ("answer", "expected"),
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
def test_numbers_ranges_and_names(answer: str, expected: set[int]) -> None:
    """The notations of both languages are understood."""
    assert expected == numbers_in(answer, EIGHT)


@pytest.mark.parametrize("answer", ["9", "0", "3-1", "1-9", "x", "1-", "-1", "1-2-3", "9" * 20])
def test_answer_outside_the_list(answer: str) -> None:
    """The error has the wrong part and the possible answers."""
    with pytest.raises(ConfigError, match=f"{re.escape(answer)} is not understood") as caught:
        numbers_in(f"1,{answer}", EIGHT)

    assert "numbers from 1 to 8" in str(caught.value.message)


@given(st.frozensets(st.integers(min_value=1, max_value=40)))
def test_default_answer_can_be_typed(numbers: frozenset[int]) -> None:
    """The text of the default means the same domains as Enter."""
    assert numbers == numbers_in(as_ranges(numbers), EIGHT * 5)


class Script:
    """Steps with questions, and the operator's answers in turn."""

    def __init__(self, *answers: str) -> None:
        self.interview = Interview(TestConsole().console)
        self.asked: list[str] = []
        self._answers = list(answers)

    def step(self, name: str) -> Step[str]:
        """Return a step with one question, whose answer is appended."""

        def take(answers: str) -> str:
            self.interview.asked += 1
            self.asked.append(name)
            answer = self._answers.pop(0)
            if answer.startswith("back"):
                raise Back(answer.removeprefix("back"))
            return answers + answer

        return Step(name, take)


def silent(name: str) -> Step[str]:
    """Return a step without a question."""
    return Step(name, lambda answers: answers + name)


def test_back_skips_steps_without_a_question() -> None:
    """The previous question is asked again, with the answers before that question."""
    script = Script("1", "back", "2", "3")
    steps = [script.step("a"), silent("-"), script.step("b")]

    assert "2-3" == walk(steps, "", script.interview)
    assert ["a", "b", "a", "b"] == script.asked


def test_back_to_a_named_step() -> None:
    """The named step has no question; all later steps run again."""
    script = Script("1", "2", "back-", "3", "4")
    steps = [script.step("a"), silent("-"), script.step("b"), script.step("c")]

    assert "1-34" == walk(steps, "", script.interview)
    assert ["a", "b", "c", "b", "c"] == script.asked


def test_back_from_the_first_question() -> None:
    """The first question is asked again; within another step, the way back leads out of the
    step.
    """
    script = Script("back", "1")

    assert "1" == walk([script.step("a")], "", script.interview)
    with pytest.raises(Back):
        walk([Script("back").step("a")], "", script.interview, inside=True)
