"""`certferry init`: the interview, what is proposed, and what is left on the disk."""

from __future__ import annotations

import re
import stat
import tomllib
from pathlib import Path

import pytest

from certferry.cli.init.files import Files, put
from certferry.config.load import load
from certferry.config.model import Settings
from certferry.core.redaction import Secret
from certferry.errors import ConfigError, StateUnavailable
from certferry.text import Text
from certferry_sandbox.faults import Fault
from tests.cli.init_accounts import (
    CHOSEN,
    DP_ID,
    DP_KEY,
    END,
    KEYS,
    NEXT_STEPS,
    SK,
    TOKEN,
    TYPED,
    UNTOLD,
    WHICH_WAY,
    WRITE,
    Accounts,
)
from tests.migration.old_homes import AcmeShHome, issued
from tests.support.tiers import sampled

FOUND = """\
Reading the zones of the account dnspod …
Reading the domains of the account qiniu …
DOMAIN           KIND  CERTIFICATE   DNSPod ZONE
img.example.com  cdn   20 days left  example.com
*.w.example.com  cdn   20 days left  example.com
x.example.net    cdn   HTTPS is off  none

warning: x.example.net is left out: no zone of the account dnspod contains the name
"""

WRITTEN = (
    """\
Written (mode 0600): certferry.toml
img.example.com: will be issued for img.example.com, *.w.example.com
"""
    + NEXT_STEPS
)

CERTIFICATES = """\
[[certificates]]
name = "img.example.com"
names = ["img.example.com", "*.w.example.com"]
dns = "dnspod"

[[certificates.deploy]]
to = "qiniu"
# Every domain of the account that the certificate covers.
domains = "auto"

# Left out; solve the problem, then remove the #.
#
# x.example.net: no zone of the account dnspod contains the name
# [[certificates]]
# name = "x.example.net"
# names = ["x.example.net"]
# dns = "…"
#
# [[certificates.deploy]]
# to = "qiniu"
# domains = ["x.example.net"]
"""


def test_keys_in_the_environment_are_referred_to(accounts: Accounts) -> None:
    """What is found is shown, and what is proposed stands in a file that loads."""
    done = accounts.init("--email", "ops@example.com")

    assert (0, WRITTEN, FOUND) == (done.returncode, done.stdout, done.stderr)
    text = accounts.config.read_text()
    assert text.endswith(CERTIFICATES)
    assert 0o600 == stat.S_IMODE(accounts.config.stat().st_mode)
    assert not accounts.keys.exists()
    accounts.must_be_discreet(text)
    settings = load(accounts.config, accounts.environ)
    assert "ops@example.com" == settings.acme.email
    assert "env:QINIU_SECRET_KEY" == settings.accounts["qiniu"].values["secret_key"]
    assert [] == accounts.qiniu.writes()
    assert [] == accounts.dnspod.writes()


def test_large_account_is_looked_at_with_signs_of_life(accounts: Accounts) -> None:
    """Hundreds of domains take a minute: now and then it is reported how far it is."""
    for number in range(50):
        accounts.qiniu.add_domain(f"n{number}.example.com")

    done = accounts.init("--email", "ops@example.com")

    message = [row for row in done.stderr.splitlines() if "…" in row]
    assert [
        "Reading the zones of the account dnspod …",
        "Reading the domains of the account qiniu …",
        "… 50 of 53 domains",
    ] == message


def test_certificates_that_may_not_be_listed_are_no_obstacle(accounts: Accounts) -> None:
    """What is not known of them is reported, and the domains are proposed all the same."""
    for service in (accounts.qiniu.api, accounts.qiniu.fusion):
        refused = Fault.status(403, b'{"error":"no right"}')
        service.faults.add(refused, on="GET /sslcert", times=None)

    done = accounts.init()

    assert (0, WRITTEN) == (done.returncode, done.stdout)
    assert "warning: not everything could be read: " in done.stderr
    assert "img.example.com  cdn   unknown       example.com" in done.stderr


def test_plan_is_what_was_proposed(accounts: Accounts) -> None:
    """`certferry plan` right afterwards: the one certificate, and its two domains."""
    accounts.init()

    planned = accounts.run("plan")

    assert (0, "") == (planned.returncode, planned.stderr)
    assert "issue    img.example.com, *.w.example.com" in planned.stdout
    assert "1 certificate to issue, 2 deployments." in planned.stdout


def test_interview(accounts: Accounts) -> None:
    """Keys are typed unseen, and go into a file of their own; the rest is shown, and agreed to."""
    accounts.environ.clear()
    address = ("Contact email for the CA (optional; Enter to skip):", "ops@example.com\n")

    code, shown = accounts.interviewed(*TYPED, address, *END, arguments=())

    assert 0 == code, shown
    assert all(f"{len(key)} characters were read." in shown for key in (DP_KEY, SK))
    accounts.must_be_discreet(shown)
    assert "ops@example.com" in shown
    assert 'names = ["img.example.com", "*.w.example.com"]' in shown
    text = accounts.config.read_text()
    accounts.must_be_discreet(text)
    assert 'env_files = ["certferry.env"]' in text
    for path in (accounts.config, accounts.keys):
        assert 0o600 == stat.S_IMODE(path.stat().st_mode)
    written = dict(row.split("=", 1) for row in accounts.keys.read_text().splitlines())
    assert KEYS == written
    # The keys are where the file says: nothing has to be in the environment.
    assert 0 == accounts.run("plan").returncode


def test_address_that_is_none_is_asked_for_again(accounts: Accounts) -> None:
    """Before anything is looked at: it would cost everything that was typed."""
    asked = "Contact email for the CA (optional; Enter to skip):"

    code, shown = accounts.interviewed(
        (asked, "foo bar\n"), (asked, "ops@example.com\n"), *END, arguments=()
    )

    assert 0 == code
    assert "must be an address, for example ops@example.com" in shown
    assert 'email = "ops@example.com"' in accounts.config.read_text()


def test_address_on_the_command_line_that_is_none(accounts: Accounts) -> None:
    """It is reported as a mistake of the command line, not of a file that is not there."""
    done = accounts.init("--email", "foo bar")

    assert 2 == done.returncode
    assert "error: --email: must be an address, for example ops@example.com\n" in done.stderr


def test_account_without_domains(accounts: Accounts) -> None:
    """Perhaps it is the wrong one: it is said that there is nothing."""
    accounts.qiniu.add_account("another-key", "another-secret")
    accounts.environ |= {"QINIU_ACCESS_KEY": "another-key", "QINIU_SECRET_KEY": "another-secret"}

    done = accounts.init()

    assert 0 == done.returncode
    assert "warning: the account qiniu has no domains\n" in done.stderr


@pytest.mark.parametrize("answer", sampled(["n\n", "perhaps\n"], 1))
def test_no_is_no(accounts: Accounts, answer: str) -> None:
    """An operator who does not agree has the disk as it was."""
    code, shown = accounts.interviewed(
        *UNTOLD,
        *CHOSEN,
        (WRITE, answer),
        (
            "What next:\n  1  choose the domains again\n  2  stop, and write nothing\n" + WHICH_WAY,
            "2\n",
        ),
    )

    assert 0 == code
    assert "Nothing was written." in shown
    assert set() == accounts.left()


@pytest.mark.parametrize("key", sampled(["\x03", "\x04"], 1))
def test_stopped_in_the_middle(accounts: Accounts, key: str) -> None:
    """Ctrl-C and Ctrl-D end the interview, and nothing is written."""
    accounts.environ.clear()
    with accounts.terminal() as terminal:
        terminal.until(lambda shown: "DNSPod token ID" in shown)
        terminal.type(f"{DP_ID}\n")
        terminal.until(lambda shown: shown.endswith(TOKEN))
        if key == "\x03":
            terminal.process.send_signal(2)  # it has no controlling terminal that would
        else:
            terminal.type(key)
        assert 130 == terminal.end()

    assert set() == accounts.left()


def test_it_speaks_the_readers_language(accounts: Accounts) -> None:
    """The comments in the file are said in the same language as everything else."""
    done = accounts.run("--lang", "zh", "init", "--settings", "settings.toml", "--yes")

    assert 0 == done.returncode, done.stderr
    load(accounts.config, accounts.environ)
    comments = [row for row in accounts.config.read_text().splitlines() if row.startswith("# ")]
    in_words = [row for row in comments if " = " not in row and "[[" not in row]
    assert len(in_words) > 4  # the header, the CA, the domains, what is left out
    for words in (*in_words, *done.stdout.splitlines(), *done.stderr.strip().splitlines()[:2]):
        assert re.search("[\u4e00-\u9fff]", words), words


def test_without_a_terminal_the_operator_must_have_said_yes(accounts: Accounts) -> None:
    """A script reads how to say it."""
    done = accounts.run("init", "--settings", "settings.toml")

    assert 2 == done.returncode
    assert "without a terminal, use --yes to write the proposal" in done.stderr
    assert set() == accounts.left()


def test_missing_keys_are_reported_all_at_once(accounts: Accounts) -> None:
    """Each with what it is."""
    accounts.environ = {"DP_Id": DP_ID}

    done = accounts.init()

    assert 2 == done.returncode
    message = re.findall(r"(\w+): not set: ", done.stderr)
    assert ["DP_Key", "QINIU_ACCESS_KEY", "QINIU_SECRET_KEY"] == message
    assert "--env-file" in done.stderr


def test_keys_in_a_file_are_referred_to_where_they_are(accounts: Accounts) -> None:
    """The file is named, not copied."""
    accounts.environ.clear()
    accounts.keep("cdn-env", KEYS)

    done = accounts.init("--env-file", "cdn-env")

    assert 0 == done.returncode, done.stderr
    assert [str(accounts.directory / "cdn-env")] == tomllib.loads(accounts.config.read_text())[
        "env_files"
    ]
    assert {"cdn-env", "certferry.toml"} == accounts.left()
    assert 0 == accounts.run("plan").returncode


def test_keys_in_a_file_that_the_settings_name(accounts: Accounts) -> None:
    """They are found there, and naming that very file once more does no harm."""
    accounts.environ.clear()
    accounts.keep("cdn-env", KEYS)
    accounts.name_env_files("cdn-env")

    for words in [], ["--env-file", "cdn-env", "--force"]:
        done = accounts.init(*words)

        assert 0 == done.returncode, done.stderr
        assert ["cdn-env"] == tomllib.loads(accounts.config.read_text())["env_files"]
        assert 'token = "env:DP_Key"' in accounts.config.read_text()
        assert 0 == accounts.run("plan").returncode


def test_keys_that_are_in_no_file_that_the_settings_name(accounts: Accounts) -> None:
    """Each is reported, even at a terminal: an answer could be written nowhere."""
    accounts.environ.clear()
    accounts.keep("cdn-env", {name: KEYS[name] for name in ("DP_Id", "QINIU_ACCESS_KEY")})
    accounts.name_env_files("cdn-env")

    done = accounts.init()
    with accounts.terminal() as terminal:
        terminal.until(lambda screen: "DP_Key: not set" in screen)
        assert 2 == terminal.end()

    assert 2 == done.returncode
    assert ["DP_Key", "QINIU_SECRET_KEY"] == re.findall(r"(\w+): not set: ", done.stderr)
    assert "add them to a file in env_files of settings.toml" in done.stderr


def test_keys_that_only_the_client_has_beside_files_of_the_settings(accounts: Accounts) -> None:
    """They are named, so that the operator can put them there."""
    home = AcmeShHome(accounts.directory / "home")
    home.keep_keys(SAVED_DP_Id=DP_ID, SAVED_DP_Key=DP_KEY)
    home.add(issued("img.example.com"), "img.example.com")
    accounts.environ.clear()
    accounts.keep("cdn-env", {name: KEYS[name] for name in KEYS if name.startswith("QINIU")})
    accounts.name_env_files("cdn-env")

    done = accounts.init("--from", "acme.sh", "--home", "home")

    assert 2 == done.returncode
    assert "settings.toml names its own env_files, and only acme.sh has DP_Id, DP_Key" in " ".join(
        done.stderr.split()
    )
    accounts.keep("cdn-env", KEYS)
    assert 0 == accounts.init("--from", "acme.sh", "--home", "home").returncode


def test_another_file_than_those_that_the_settings_name(accounts: Accounts) -> None:
    """It is named, and so is what to do."""
    accounts.keep("cdn-env", {})
    accounts.keep("other-env", KEYS)
    accounts.name_env_files("cdn-env")

    done = accounts.init("--env-file", "other-env")

    assert 2 == done.returncode
    words = " ".join(done.stderr.split())
    assert f"names its own env_files, without {accounts.directory / 'other-env'}" in words
    assert "hint: add the keys there" in words


def test_mistake_in_a_file_that_the_settings_name(accounts: Accounts) -> None:
    """It is reported with its line."""
    accounts.keep("cdn-env", {})
    (accounts.directory / "cdn-env").write_text("DP_Id=$(pass dnspod)\n")
    accounts.name_env_files("cdn-env")

    done = accounts.init()

    assert 2 == done.returncode
    assert f"{accounts.directory / 'cdn-env'}:1: DP_Id: a shell would run a command" in done.stderr


def test_wrong_keys_are_reported_and_nothing_is_written(accounts: Accounts) -> None:
    """What the account answers is the error."""
    accounts.environ["DP_Key"] = "0" * 32

    done = accounts.init()

    assert 1 == done.returncode
    assert "DNSPod does not accept this pair of ID and token" in done.stderr
    assert set() == accounts.left()


def test_file_that_is_there_is_kept(accounts: Accounts) -> None:
    """It is replaced only by force, and its copy keeps every byte."""
    accounts.config.write_text("# mine\n")

    refused, forced = accounts.init(), accounts.init("--force")

    assert (2, 0) == (refused.returncode, forced.returncode)
    assert "certferry.toml already exists" in refused.stderr
    copy = accounts.directory / "certferry.toml.bak"
    assert "# mine\n" == copy.read_text()
    assert "The previous file is kept: certferry.toml.bak" in forced.stdout
    assert "[[certificates]]" in accounts.config.read_text()


def test_link_is_written_through(accounts: Accounts) -> None:
    """By force it is what it leads to that is replaced; its copy lies beside the link."""
    kept = accounts.directory / "home" / "ferry.toml"
    kept.parent.mkdir()
    kept.write_text("# mine\n")
    accounts.config.symlink_to("home/ferry.toml")

    done = accounts.init("--force")

    assert 0 == done.returncode, done.stderr
    assert accounts.config.is_symlink()
    assert "[[certificates]]" in kept.read_text()
    assert 0o600 == stat.S_IMODE(kept.stat().st_mode)
    assert "# mine\n" == (accounts.directory / "certferry.toml.bak").read_text()


def test_place_that_takes_nothing_is_found_first(accounts: Accounts) -> None:
    """Before anything is adopted, for root as well; and before the operator types a key."""
    home = AcmeShHome(accounts.directory / "home")
    home.add(issued("img.example.com"), "img.example.com")
    elsewhere = ("--output", "/proc/certferry.toml")

    done = accounts.init("--from", "acme.sh", "--home", "home", *elsewhere)

    assert 2 == done.returncode
    assert "/proc/certferry.toml cannot be written" in done.stderr
    assert "nothing was changed" in done.stderr
    assert set() == accounts.left()

    accounts.environ.clear()
    with accounts.terminal(*elsewhere) as terminal:
        assert 2 == terminal.end()
    assert "DNSPod" not in terminal.screen.text
    assert "cannot be written" in terminal.screen.text


def test_the_file_lies_ready_before_anything_is_adopted(accounts: Accounts) -> None:
    """Where the disk is full by then nothing else is done; the keys that were written go, too."""
    files, done = Files(Path("/proc/certferry.toml")), list[Settings]()
    text = accounts.directory.joinpath("settings.toml").read_text()

    with pytest.raises(ConfigError, match="cannot be written"):
        put(files, text, {}, KEYS, done.append)
    assert [] == done

    files = Files(accounts.config)
    accounts.config.write_text("# mine\n")
    with pytest.raises(StateUnavailable):
        put(files, text, {"DP_Id": Secret(DP_ID)}, KEYS, _nowhere)
    assert "# mine\n" == accounts.config.read_text()
    assert {"certferry.toml"} == accounts.left()


def _nowhere(settings: Settings) -> None:
    raise StateUnavailable(Text("{path} is full", path=settings.state.named))


def test_output_names_the_file(accounts: Accounts) -> None:
    """Another place is shown with the command that finds it, and what that does below it where both
    are too wide for a line; one that is not there is an error.
    """
    (accounts.directory / "etc").mkdir()

    done, lost = accounts.init("--output", "etc/ferry.toml"), accounts.init("--output", "no/x.toml")

    assert 0 == done.returncode
    schedule = "  certferry --config etc/ferry.toml schedule install\n    runs `sync` twice a day, "
    assert schedule in done.stdout
    assert "  certferry help notify\n" in done.stdout
    assert 2 == lost.returncode
    assert "mkdir -p no" in lost.stderr
