"""`certferry init` beside another package's adapter: what is offered, asked and written."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tests.cli.init_accounts import CHOSEN, END, KEYS, UNTOLD, Accounts
from tests.house.tree import ROOT
from tests.wiring.packages import DNS_GROUP, Packages

RECIPE = ROOT / "tests" / "data" / "third_party" / "src" / "certferry_harbour"
TOKEN = "a-token-that-is-made-up"
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
            ("the token of the Harbour account (input hidden):", TOKEN),
            ("the number of the account:", "seven"),
            ("the number of the account:", "7"),
            ("pepper of the account at Harbour (input hidden):", f"pepper-{TOKEN}"),
            ("servers of the account at Harbour:", "ns1 ns2"),
            *((asked, answer.strip()) for asked, answer in (*UNTOLD, CHOSEN[0], *END[-2:])),
        ):
            terminal.until(lambda shown, asked=asked: shown.endswith(asked))  # type: ignore[misc]  # the question of this turn
            terminal.type(f"{answer}\n")
        assert 0 == terminal.end()
        shown = terminal.screen.raw

    assert "habour is no DNS provider; did you mean harbour?" in shown
    assert "must be a whole number, and is a string" in shown
    assert TOKEN not in shown + accounts.config.read_text()
    written = tomllib.loads(accounts.config.read_text())
    assert {
        "token": "env:HARBOUR_TOKEN",
        "number": 7,
        "pepper": "env:HARBOUR_PEPPER",
        "servers": ["ns1", "ns2"],
    } == written["accounts"]["harbour"]
    assert "dnspod" not in written["accounts"]
    assert ["harbour"] * 2 == [one["dns"] for one in written["certificates"]]
    assert f"HARBOUR_TOKEN={TOKEN}\nHARBOUR_PEPPER=pepper-{TOKEN}\n" == accounts.keys.read_text()
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
            ("the primary name server, with its port where that is not 53:", "192.0.2.1"),
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
    """There is one alone of which there are any; what it lacks is told."""
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
    told = [line.removeprefix("error: ").strip() for line in done.stderr.splitlines()]
    assert missing[answer] == [line for line in told if "not set" in line]


@pytest.mark.usefixtures("packages")
def test_account_of_the_settings_counts_for_more_than_keys(accounts: Accounts) -> None:
    """Who has declared it means it, whatever else is in the environment."""
    settings = accounts.directory / "settings.toml"
    declared = '\n[accounts.mine]\ntype = "harbour"\nnumber = 7\nservers = []\n'
    settings.write_text(settings.read_text() + declared)
    accounts.environ |= {"HARBOUR_TOKEN": TOKEN, "HARBOUR_PEPPER": TOKEN}

    done = accounts.init()

    assert 0 == done.returncode, done
    written = tomllib.loads(accounts.config.read_text())
    assert {"mine", "qiniu"} == written["accounts"].keys()
    assert {"mine"} == {one["dns"] for one in written["certificates"]}


def test_broken_package_is_told_and_not_offered(
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
