"""`certferry init`: the interview, the proposal, and the written files."""

from __future__ import annotations

import re
import stat
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from textwrap import dedent

import pytest

from certferry.cli.init.files import Files, put
from certferry.config.load import load
from certferry.config.model import Settings
from certferry.core.redaction import Secret
from certferry.errors import ConfigError, StateUnavailable
from certferry.text import Text
from certferry_sandbox.authority import Authority
from certferry_sandbox.faults import Fault
from certferry_sandbox.qiniu.service import QiniuService
from tests.cli.init_accounts import (
    CHOSEN,
    DP_ID,
    DP_KEY,
    END,
    KEYS,
    NEXT_STEPS,
    NO_CHANNEL,
    SK,
    TOKEN,
    TYPED,
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


def test_keys_in_the_environment_become_references(accounts: Accounts) -> None:
    """The output lists the domains of the account, and the written file loads and declares the
    proposed certificates.
    """
    ended = accounts.init("--email", "ops@example.com")

    assert (0, WRITTEN, FOUND) == (ended.returncode, ended.stdout, ended.stderr)
    text = accounts.config.read_text()
    assert text.endswith(CERTIFICATES)
    assert 0o600 == stat.S_IMODE(accounts.config.stat().st_mode)
    assert not accounts.keys.exists()
    accounts.must_contain_no_secret(text)
    settings = load(accounts.config, accounts.environ)
    assert "ops@example.com" == settings.acme.email
    assert "env:QINIU_SECRET_KEY" == settings.accounts["qiniu"].values["secret_key"]
    assert [] == accounts.qiniu.writes()
    assert [] == accounts.dnspod.writes()


def test_large_account_shows_progress(accounts: Accounts) -> None:
    """Hundreds of domains take a minute, so the output has a count now and then."""
    for number in range(50):
        accounts.qiniu.add_domain(f"n{number}.example.com")

    ended = accounts.init("--email", "ops@example.com")

    progress = [row for row in ended.stderr.splitlines() if "…" in row]
    assert [
        "Reading the zones of the account dnspod …",
        "Reading the domains of the account qiniu …",
        "… 50 of 53 domains",
    ] == progress


def test_unreadable_certificates_of_the_account(accounts: Accounts) -> None:
    """A warning names the missing facts, and the domains are proposed all the same."""
    for service in (accounts.qiniu.api, accounts.qiniu.fusion):
        refused = Fault.status(403, b'{"error":"no right"}')
        service.faults.add(refused, on="GET /sslcert", times=None)

    ended = accounts.init()

    assert (0, WRITTEN) == (ended.returncode, ended.stdout)
    assert "warning: not everything could be read: " in ended.stderr
    assert "img.example.com  cdn   unknown       example.com" in ended.stderr


def test_plan_after_init(accounts: Accounts) -> None:
    """`certferry plan` shows the proposed certificate and its two domains."""
    accounts.init()

    planned = accounts.run("plan")

    assert (0, "") == (planned.returncode, planned.stderr)
    assert "issue    img.example.com, *.w.example.com" in planned.stdout
    assert "1 certificate to issue, 2 deployments." in planned.stdout


def test_domains_of_every_declared_account(accounts: Accounts) -> None:
    """A certificate of the zone has a deployment to each account with domains. An account that
    refuses the keys causes a warning, and stays declared.
    """
    settings = accounts.directory / "settings.toml"
    with QiniuService() as other, QiniuService() as closed:
        other.add_account("other-key", "other-secret")
        begin, end = (datetime.now(UTC) + timedelta(days=days) for days in (-70, 20))
        old = Authority("Old").issue(["www.example.com"], begin, end)
        other.add_domain("www.example.com", https=other.add_certificate(old, "by hand"))
        for label, service in (("shop", other), ("closed", closed)):
            settings.write_text(
                settings.read_text()
                + dedent(f"""\
                [accounts.{label}]
                type = "qiniu"
                access_key = "env:OTHER_KEY"
                secret_key = "env:OTHER_SECRET"
                api = "{service.api_url}"
                fusion = "{service.fusion_url}"
                uc = "{service.uc_url}"
                """)
            )
        accounts.environ |= {"OTHER_KEY": "other-key", "OTHER_SECRET": "other-secret"}

        ended = accounts.init()

        assert 0 == ended.returncode, ended.stderr
        assert "www.example.com  cdn" in ended.stderr
        assert "warning: closed: " in ended.stderr
        declared = load(accounts.config, accounts.environ)
        [certificate] = declared.certificates
        assert {"*.example.com", "*.w.example.com"} == {*certificate.names}
        assert ["qiniu", "shop"] == [deployed.target for deployed in certificate.deployments]
        assert {"dnspod", "qiniu", "shop", "closed"} == {*declared.accounts}


def test_interview(accounts: Accounts) -> None:
    """Typed keys stay hidden and are written to their own file; the configuration is shown before
    the confirmation.
    """
    accounts.environ.clear()
    address = ("Contact email for the CA (optional; Enter to skip):", "ops@example.com\n")

    code, screen = accounts.interviewed(*TYPED, address, *END, arguments=())

    assert 0 == code, screen
    assert all(f"{len(key)} characters were read." in screen for key in (DP_KEY, SK))
    accounts.must_contain_no_secret(screen)
    assert "ops@example.com" in screen
    assert 'names = ["img.example.com", "*.w.example.com"]' in screen
    text = accounts.config.read_text()
    accounts.must_contain_no_secret(text)
    assert 'env_files = ["certferry.env"]' in text
    for path in (accounts.config, accounts.keys):
        assert 0o600 == stat.S_IMODE(path.stat().st_mode)
    keys_in_file = dict(row.split("=", 1) for row in accounts.keys.read_text().splitlines())
    assert KEYS == keys_in_file
    # The environment has no keys, so the plan reads the keys of the file.
    assert 0 == accounts.run("plan").returncode


def test_wrong_address_is_asked_for_again(accounts: Accounts) -> None:
    """The mistake is found before any request, so typed answers are not lost."""
    question = "Contact email for the CA (optional; Enter to skip):"

    code, screen = accounts.interviewed(
        (question, "foo bar\n"), (question, "ops@example.com\n"), *END, arguments=()
    )

    assert 0 == code
    assert "must be an address, for example ops@example.com" in screen
    assert 'email = "ops@example.com"' in accounts.config.read_text()


def test_wrong_address_on_the_command_line(accounts: Accounts) -> None:
    """The error is about the option."""
    ended = accounts.init("--email", "foo bar")

    assert 2 == ended.returncode
    assert "error: --email: must be an address, for example ops@example.com\n" in ended.stderr


def test_account_without_domains(accounts: Accounts) -> None:
    """A warning says that the account, perhaps the wrong account, has no domains."""
    accounts.qiniu.add_account("another-key", "another-secret")
    accounts.environ |= {"QINIU_ACCESS_KEY": "another-key", "QINIU_SECRET_KEY": "another-secret"}

    ended = accounts.init()

    assert 0 == ended.returncode
    assert "warning: the account qiniu has no domains\n" in ended.stderr


@pytest.mark.parametrize("answer", sampled(["n\n", "perhaps\n"], 1))
def test_refusal_writes_nothing(accounts: Accounts, answer: str) -> None:
    """Any answer except yes leaves the directory unchanged."""
    code, screen = accounts.interviewed(
        *NO_CHANNEL,
        *CHOSEN,
        (WRITE, answer),
        (
            "What next:\n  1  choose the domains again\n  2  stop, and write nothing\n" + WHICH_WAY,
            "2\n",
        ),
    )

    assert 0 == code
    assert "Nothing was written." in screen
    assert set() == accounts.new_files()


@pytest.mark.parametrize("key", sampled(["\x03", "\x04"], 1))
def test_interrupted_interview_writes_nothing(accounts: Accounts, key: str) -> None:
    """Ctrl-C and Ctrl-D end the interview without a file."""
    accounts.environ.clear()
    with accounts.terminal() as terminal:
        terminal.until(lambda screen: "DNSPod token ID" in screen)
        terminal.type(f"{DP_ID}\n")
        terminal.until(lambda screen: screen.endswith(TOKEN))
        if key == "\x03":
            # Without a controlling terminal no key sends the signal.
            terminal.process.send_signal(2)
        else:
            terminal.type(key)
        assert 130 == terminal.end()

    assert set() == accounts.new_files()


def test_proposal_in_chinese(accounts: Accounts) -> None:
    """The comments of the file have the language of the output."""
    ended = accounts.run("--lang", "zh", "init", "--settings", "settings.toml", "--yes")

    assert 0 == ended.returncode, ended.stderr
    load(accounts.config, accounts.environ)
    comments = [row for row in accounts.config.read_text().splitlines() if row.startswith("# ")]
    in_words = [row for row in comments if " = " not in row and "[[" not in row]
    assert len(in_words) > 4  # the header, the CA, the domains, the omitted domain
    for words in (*in_words, *ended.stdout.splitlines(), *ended.stderr.strip().splitlines()[:2]):
        assert re.search("[\u4e00-\u9fff]", words), words


def test_proposal_without_a_terminal_needs_yes(accounts: Accounts) -> None:
    """The error has the option for scripts."""
    ended = accounts.run("init", "--settings", "settings.toml")

    assert 2 == ended.returncode
    assert "without a terminal, use --yes to write the proposal" in ended.stderr
    assert set() == accounts.new_files()


def test_missing_keys_are_reported_together(accounts: Accounts) -> None:
    """The error lists each key with its description."""
    accounts.environ = {"DP_Id": DP_ID}

    ended = accounts.init()

    assert 2 == ended.returncode
    missing = re.findall(r"(\w+): not set: ", ended.stderr)
    assert ["DP_Key", "QINIU_ACCESS_KEY", "QINIU_SECRET_KEY"] == missing
    assert "--env-file" in ended.stderr


def test_keys_of_an_environment_file_stay_in_the_file(accounts: Accounts) -> None:
    """The configuration names the file, and the keys are not copied."""
    accounts.environ.clear()
    accounts.write_env_file("cdn-env", KEYS)

    ended = accounts.init("--env-file", "cdn-env")

    assert 0 == ended.returncode, ended.stderr
    assert [str(accounts.directory / "cdn-env")] == tomllib.loads(accounts.config.read_text())[
        "env_files"
    ]
    assert {"cdn-env", "certferry.toml"} == accounts.new_files()
    assert 0 == accounts.run("plan").returncode


def test_keys_of_a_file_in_the_settings(accounts: Accounts) -> None:
    """The keys are read from the file of the settings, with and without the same file as an
    option.
    """
    accounts.environ.clear()
    accounts.write_env_file("cdn-env", KEYS)
    accounts.name_env_files("cdn-env")

    for options in [], ["--env-file", "cdn-env", "--force"]:
        ended = accounts.init(*options)

        assert 0 == ended.returncode, ended.stderr
        assert ["cdn-env"] == tomllib.loads(accounts.config.read_text())["env_files"]
        assert 'token = "env:DP_Key"' in accounts.config.read_text()
        assert 0 == accounts.run("plan").returncode


def test_keys_missing_in_the_files_of_the_settings(accounts: Accounts) -> None:
    """The error lists each key, even at a terminal, because answers would have no file."""
    accounts.environ.clear()
    accounts.write_env_file("cdn-env", {name: KEYS[name] for name in ("DP_Id", "QINIU_ACCESS_KEY")})
    accounts.name_env_files("cdn-env")

    ended = accounts.init()
    with accounts.terminal() as terminal:
        terminal.until(lambda screen: "DP_Key: not set" in screen)
        assert 2 == terminal.end()

    assert 2 == ended.returncode
    assert ["DP_Key", "QINIU_SECRET_KEY"] == re.findall(r"(\w+): not set: ", ended.stderr)
    assert "add them to a file in env_files of settings.toml" in ended.stderr


def test_keys_of_the_client_beside_files_of_the_settings(accounts: Accounts) -> None:
    """The error lists the keys, which the operator adds to a file of the settings."""
    home = AcmeShHome(accounts.directory / "home")
    home.keep_keys(SAVED_DP_Id=DP_ID, SAVED_DP_Key=DP_KEY)
    home.add(issued("img.example.com"), "img.example.com")
    accounts.environ.clear()
    accounts.write_env_file(
        "cdn-env", {name: KEYS[name] for name in KEYS if name.startswith("QINIU")}
    )
    accounts.name_env_files("cdn-env")

    ended = accounts.init("--from", "acme.sh", "--home", "home")

    assert 2 == ended.returncode
    assert "settings.toml names its own env_files, and only acme.sh has DP_Id, DP_Key" in " ".join(
        ended.stderr.split()
    )
    accounts.write_env_file("cdn-env", KEYS)
    assert 0 == accounts.init("--from", "acme.sh", "--home", "home").returncode


def test_second_environment_file_beside_files_of_the_settings(accounts: Accounts) -> None:
    """The error names the file, and the hint has the remedy."""
    accounts.write_env_file("cdn-env", {})
    accounts.write_env_file("other-env", KEYS)
    accounts.name_env_files("cdn-env")

    ended = accounts.init("--env-file", "other-env")

    assert 2 == ended.returncode
    words = " ".join(ended.stderr.split())
    assert f"names its own env_files, without {accounts.directory / 'other-env'}" in words
    assert "hint: add the keys there" in words


def test_mistake_in_a_file_of_the_settings(accounts: Accounts) -> None:
    """The error has the line of the mistake."""
    accounts.write_env_file("cdn-env", {})
    (accounts.directory / "cdn-env").write_text("DP_Id=$(pass dnspod)\n")
    accounts.name_env_files("cdn-env")

    ended = accounts.init()

    assert 2 == ended.returncode
    assert f"{accounts.directory / 'cdn-env'}:1: DP_Id: a shell would run a command" in ended.stderr


def test_wrong_keys_leave_no_file(accounts: Accounts) -> None:
    """The error is the service's answer."""
    accounts.environ["DP_Key"] = "0" * 32

    ended = accounts.init()

    assert 1 == ended.returncode
    assert "DNSPod does not accept this pair of ID and token" in ended.stderr
    assert set() == accounts.new_files()


def test_existing_file_is_replaced_by_force_only(accounts: Accounts) -> None:
    """The copy has every byte of the previous file."""
    accounts.config.write_text("# mine\n")

    refused, forced = accounts.init(), accounts.init("--force")

    assert (2, 0) == (refused.returncode, forced.returncode)
    assert "certferry.toml already exists" in refused.stderr
    copy = accounts.directory / "certferry.toml.bak"
    assert "# mine\n" == copy.read_text()
    assert "The previous file is kept: certferry.toml.bak" in forced.stdout
    assert "[[certificates]]" in accounts.config.read_text()


def test_linked_file_is_replaced(accounts: Accounts) -> None:
    """With `--force` the file behind the link is replaced, and the copy is beside the link."""
    real = accounts.directory / "home" / "ferry.toml"
    real.parent.mkdir()
    real.write_text("# mine\n")
    accounts.config.symlink_to("home/ferry.toml")

    ended = accounts.init("--force")

    assert 0 == ended.returncode, ended.stderr
    assert accounts.config.is_symlink()
    assert "[[certificates]]" in real.read_text()
    assert 0o600 == stat.S_IMODE(real.stat().st_mode)
    assert "# mine\n" == (accounts.directory / "certferry.toml.bak").read_text()


def test_unwritable_place_is_reported_first(accounts: Accounts) -> None:
    """The error comes before any adoption and before the first question, for root as well."""
    home = AcmeShHome(accounts.directory / "home")
    home.add(issued("img.example.com"), "img.example.com")
    elsewhere = ("--output", "/proc/certferry.toml")

    ended = accounts.init("--from", "acme.sh", "--home", "home", *elsewhere)

    assert 2 == ended.returncode
    assert "/proc/certferry.toml cannot be written" in ended.stderr
    assert "nothing was changed" in ended.stderr
    assert set() == accounts.new_files()

    accounts.environ.clear()
    with accounts.terminal(*elsewhere) as terminal:
        assert 2 == terminal.end()
    assert "DNSPod" not in terminal.screen.text
    assert "cannot be written" in terminal.screen.text


def test_files_are_complete_before_the_adoption(accounts: Accounts) -> None:
    """With a full disk nothing is adopted; after a failed adoption the configuration is the
    previous file, and the written keys are removed.
    """
    files, adopted = Files(Path("/proc/certferry.toml")), list[Settings]()
    text = accounts.directory.joinpath("settings.toml").read_text()

    with pytest.raises(ConfigError, match="cannot be written"):
        put(files, text, {}, KEYS, adopted.append)
    assert [] == adopted

    files = Files(accounts.config)
    accounts.config.write_text("# mine\n")
    with pytest.raises(StateUnavailable):
        put(files, text, {"DP_Id": Secret(DP_ID)}, KEYS, _nowhere)
    assert "# mine\n" == accounts.config.read_text()
    assert {"certferry.toml"} == accounts.new_files()


def _nowhere(settings: Settings) -> None:
    raise StateUnavailable(Text("{path} is full", path=settings.state.named))


def test_output_in_another_place(accounts: Accounts) -> None:
    """The next steps have the path of the file, with descriptions on their own lines if necessary;
    a missing directory is an error.
    """
    (accounts.directory / "etc").mkdir()

    ended, failed = (
        accounts.init("--output", "etc/ferry.toml"),
        accounts.init("--output", "no/x.toml"),
    )

    assert 0 == ended.returncode
    schedule = "  certferry --config etc/ferry.toml schedule install\n    runs `sync` twice a day, "
    assert schedule in ended.stdout
    assert "  certferry help notify\n" in ended.stdout
    assert 2 == failed.returncode
    assert "mkdir -p no" in failed.stderr
