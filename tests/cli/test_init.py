"""`certferry init`: the interview, what is proposed, and what is left on the disk."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from textwrap import dedent

import pytest

from certferry.adapters.state import sqlite
from certferry.cli.init_files import Files, put
from certferry.config.load import load
from certferry.config.model import Settings
from certferry.core.secret import Secret
from certferry.errors import ConfigError, StateUnavailable
from certferry.sandbox.authority import Authority
from certferry.sandbox.dnspod import DnspodService
from certferry.sandbox.qiniu import QiniuService
from certferry.sandbox.zones import Zones
from certferry.text import Text
from tests.adapters.sources.old_homes import AcmeShHome, CertbotHome, LegoHome, issued
from tests.cli.terminals import Terminal

DP_ID, DP_KEY = "13490", "6b5976c68aba5b14a0558b77c17c3932"
AK, SK = "access-key-that-is-made-up", "secret-key-that-is-made-up"
KEYS = {"DP_Id": DP_ID, "DP_Key": DP_KEY, "QINIU_ACCESS_KEY": AK, "QINIU_SECRET_KEY": SK}


@dataclass
class Accounts:
    """An account at DNSPod with a zone, one at Qiniu with domains, and a directory to work in."""

    directory: Path
    dnspod: DnspodService
    qiniu: QiniuService
    environ: dict[str, str] = field(default_factory=lambda: dict(KEYS))

    @property
    def config(self) -> Path:
        """The file that is written."""
        return self.directory / "certferry.toml"

    @property
    def keys(self) -> Path:
        """The file that typed keys go to."""
        return self.directory / "certferry.env"

    @property
    def programs(self) -> Path:
        """The only place where programs are found: none of this machine's own is run."""
        return self.directory / "home" / "bin"

    @property
    def state(self) -> Path:
        """Where the state lies."""
        return self.directory / "state.db"

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command without a terminal."""
        done = subprocess.run(
            [*self.command, *arguments],
            cwd=self.directory,
            env={**os.environ, **self.environ, "PATH": str(self.programs)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        self.must_be_discreet(done.stdout + done.stderr)
        return done

    def init(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `init` without questions."""
        return self.run("init", "--settings", "settings.toml", "--yes", *arguments)

    def terminal(self, *arguments: str, columns: int = 100) -> Terminal:
        """Run `init` at a terminal that shows what is typed."""
        return Terminal(
            [*self.command, "init", "--settings", "settings.toml", *arguments],
            columns=columns,
            environ={"TERM": "dumb", **self.environ},
            cwd=self.directory,
            echo=True,
        )

    @property
    def command(self) -> list[str]:
        """The program."""
        return [sys.executable, "-m", "certferry"]

    def keep(self, name: str, values: Mapping[str, str]) -> None:
        """Write an environment file."""
        path = self.directory / name
        path.write_text("".join(f"export {name}='{value}'\n" for name, value in values.items()))
        path.chmod(0o600)

    def name_env_files(self, *names: str) -> None:
        """Have the settings name environment files."""
        path = self.directory / "settings.toml"
        path.write_text(f"env_files = {json.dumps(names)}\n{path.read_text()}")

    def must_be_discreet(self, words: str) -> None:
        """Check that no key is in the words."""
        assert not any(secret in words for secret in KEYS.values())

    def left(self) -> set[str]:
        """Give the names of what is in the directory, beside what was there."""
        return {path.name for path in self.directory.iterdir()} - {"settings.toml", "home"}

    def fingerprints(self, lineage: str) -> list[str]:
        """Give the certificates that are remembered of a lineage."""
        with closing(sqlite.connect(self.state, self.state.with_name("secret.key"))) as store:
            return [version.certificate.fingerprint for version in store.versions(lineage)]


@pytest.fixture
def accounts(tmp_path: Path) -> Iterator[Accounts]:
    """Two domains of one zone, one of nobody's zone, one that is frozen."""
    zones = Zones()
    with DnspodService(zones) as dnspod, QiniuService() as qiniu:
        dnspod.add_account(DP_ID, DP_KEY)
        dnspod.add_domain("example.com")
        qiniu.add_account(AK, SK)
        end = datetime.now(UTC) + timedelta(days=20, hours=1)
        old = Authority("Old").issue(["img.example.com"], end - timedelta(days=90), end)
        qiniu.add_domain("img.example.com", https=qiniu.add_certificate(old, "by hand"))
        qiniu.add_domain(".w.example.com")
        qiniu.add_domain("x.example.net")
        (tmp_path / "settings.toml").write_text(
            dedent(f"""\
            [state]
            url = "sqlite:///state.db"

            [accounts.dnspod]
            api = "{dnspod.url}"
            requests_per_second = 50

            [accounts.qiniu]
            api = "{qiniu.api_url}"
            fusion = "{qiniu.fusion_url}"
            uc = "{qiniu.uc_url}"
            """)
        )
        yield Accounts(tmp_path, dnspod, qiniu)


FOUND = """\
Looking at the domains of the account qiniu …
DOMAIN           KIND  CERTIFICATE   ZONE
img.example.com  cdn   20 days left  example.com
*.w.example.com  cdn   HTTPS is off  example.com
x.example.net    cdn   HTTPS is off  none

warning: x.example.net is left out: no zone of the account dnspod holds it
"""

WRITTEN = """\
Written, for you alone: certferry.toml
example.com: to be issued for img.example.com, *.w.example.com
Next: `certferry plan`
"""

CERTIFICATES = """\
[[certificates]]
name = "example.com"
names = ["img.example.com", "*.w.example.com"]
dns = "dnspod"

[[certificates.deploy]]
to = "qiniu"
# Every domain of the account that the certificate covers.
domains = "auto"

# Left out; correct what stands in the way, and take out the #.
#
# x.example.net: no zone of the account dnspod holds it
# [[certificates]]
# names = ["x.example.net"]
# dns = "…"
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
    with accounts.terminal() as terminal:
        for asked, answer in (
            ("id of a DNSPod API token: ", DP_ID),
            ("DNSPod API token itself: ", DP_KEY),
            ("access key (AK) of the Qiniu account: ", AK),
            ("secret key (SK) of the Qiniu account: ", SK),
            ("CA may write to (nothing, if it may not): ", "ops@example.com"),
            ("Write this to certferry.toml? [y/N]: ", "y"),
        ):
            terminal.until(lambda shown, asked=asked: shown.endswith(asked.rstrip()))  # type: ignore[misc]  # the question of this turn
            terminal.type(f"{answer}\n")
        assert 0 == terminal.end()
        shown = terminal.screen.raw

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


@pytest.mark.parametrize("answer", ["n\n", "\n", "perhaps\n"])
def test_no_is_no(accounts: Accounts, answer: str) -> None:
    """Whoever does not agree has the disk as it was."""
    with accounts.terminal("--email", "ops@example.com") as terminal:
        terminal.until(lambda shown: "[y/N]" in shown)
        terminal.type(answer)
        assert 0 == terminal.end()

    assert "Nothing was written." in terminal.screen.text
    assert set() == accounts.left()


@pytest.mark.parametrize("key", ["\x03", "\x04"])
def test_stopped_in_the_middle(accounts: Accounts, key: str) -> None:
    """Ctrl-C and Ctrl-D end the interview, and nothing is written."""
    accounts.environ.clear()
    with accounts.terminal() as terminal:
        terminal.until(lambda shown: "DNSPod API token" in shown)
        terminal.type(f"{DP_ID}\n")
        terminal.until(lambda shown: "token itself" in shown)
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


def test_without_a_terminal_somebody_must_have_said_yes(accounts: Accounts) -> None:
    """A script is told how to say it."""
    done = accounts.run("init", "--settings", "settings.toml")

    assert 2 == done.returncode
    assert "there is no terminal to ask at; --yes asks nothing" in done.stderr
    assert set() == accounts.left()


def test_missing_keys_are_told_all_at_once(accounts: Accounts) -> None:
    """Each with what it is."""
    accounts.environ = {"DP_Id": DP_ID}

    done = accounts.init()

    assert 2 == done.returncode
    told = re.findall(r"(\w+): not set: the ", done.stderr)
    assert ["DP_Key", "QINIU_ACCESS_KEY", "QINIU_SECRET_KEY"] == told
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
    """Each is told, even at a terminal: an answer could be written nowhere."""
    accounts.environ.clear()
    accounts.keep("cdn-env", {name: KEYS[name] for name in ("DP_Id", "QINIU_ACCESS_KEY")})
    accounts.name_env_files("cdn-env")

    done = accounts.init()
    with accounts.terminal() as terminal:
        terminal.until(lambda screen: "DP_Key: not set" in screen)
        assert 2 == terminal.end()

    assert 2 == done.returncode
    assert ["DP_Key", "QINIU_SECRET_KEY"] == re.findall(r"(\w+): not set: the ", done.stderr)
    assert "put them into one of the env_files of settings.toml" in done.stderr


def test_keys_that_only_the_client_has_beside_files_of_the_settings(accounts: Accounts) -> None:
    """They are named, so that somebody can put them there."""
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
    assert "hint: add it there" in words


def test_mistake_in_a_file_that_the_settings_name(accounts: Accounts) -> None:
    """It is told with its line."""
    accounts.keep("cdn-env", {})
    (accounts.directory / "cdn-env").write_text("DP_Id=$(pass dnspod)\n")
    accounts.name_env_files("cdn-env")

    done = accounts.init()

    assert 2 == done.returncode
    assert f"{accounts.directory / 'cdn-env'}:1: DP_Id: a shell would run a command" in done.stderr


def test_wrong_keys_are_told_and_nothing_is_written(accounts: Accounts) -> None:
    """What the account answers is the error."""
    accounts.environ["DP_Key"] = "0" * 32

    done = accounts.init()

    assert 1 == done.returncode
    assert "DNSPod answered Domain.List with code" in done.stderr
    assert set() == accounts.left()


def test_file_that_is_there_is_kept(accounts: Accounts) -> None:
    """It is replaced only by force, and its copy keeps every byte."""
    accounts.config.write_text("# mine\n")

    refused, forced = accounts.init(), accounts.init("--force")

    assert (2, 0) == (refused.returncode, forced.returncode)
    assert "certferry.toml is there already" in refused.stderr
    copy = accounts.directory / "certferry.toml.bak"
    assert "# mine\n" == copy.read_text()
    assert "What was there before is kept: certferry.toml.bak" in forced.stdout
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
    """Before anything is adopted, for root as well; and before anybody types a key."""
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
    raise StateUnavailable(Text("{path} is full", path=settings.state.path))


def test_output_names_the_file(accounts: Accounts) -> None:
    """Another place is told with the command that finds it; one that is not there is an error."""
    (accounts.directory / "etc").mkdir()

    done, lost = accounts.init("--output", "etc/ferry.toml"), accounts.init("--output", "no/x.toml")

    assert 0 == done.returncode
    assert "Next: `certferry --config etc/ferry.toml plan`" in done.stdout
    assert 2 == lost.returncode
    assert "mkdir -p no" in lost.stderr


# --- from another client


def test_acme_sh_is_gone_on_with(accounts: Accounts) -> None:
    """With its keys, of which the environment knows nothing: they go into the file beside."""
    home = AcmeShHome(accounts.directory / "home")
    home.keep_keys(SAVED_DP_Id=DP_ID, SAVED_DP_Key=DP_KEY)
    made = issued("img.example.com", "*.img.example.com")
    home.add(made, "img.example.com", "*.img.example.com", QINIU_AK=AK, QINIU_SK=SK)
    accounts.environ.clear()

    done = accounts.init("--from", "acme.sh", "--home", "home")

    assert 0 == done.returncode, done.stderr
    assert (
        "Written, for you alone: certferry.toml\n"
        "Written, for you alone: certferry.env\n"
        "img.example.com: adopted, 79 days left\n"
        "Switch off in acme.sh, or it goes on renewing:\n"
        f"  acme.sh --home {home.path} --remove -d img.example.com --ecc\n"
        "The files in home are renewed no more: what reads them needs a deployment to files.\n"
        "Next: `certferry plan`\n"
    ) == done.stdout
    assert [made.fingerprint] == accounts.fingerprints("img.example.com")
    planned = accounts.run("plan")
    assert "issue " not in planned.stdout
    assert "deploy   qiniu → img.example.com" in planned.stdout


def test_what_starts_the_client_is_named(accounts: Accounts) -> None:
    """The line of the crontab, as it stands there; others are nobody's business."""
    LegoHome(accounts.directory / "home").add(issued("img.example.com"), "img.example.com")
    accounts.programs.mkdir()
    line = "7 3 * * * lego --path /etc/lego --domains img.example.com renew"
    program = accounts.programs / "crontab"
    program.write_text(f"#!/bin/sh\necho '# mine'\necho '@daily backup'\necho '{line}'\n")
    program.chmod(0o755)

    done = accounts.init("--from", "lego", "--home", "home")

    assert 0 == done.returncode, done.stderr
    assert "In the crontab it is started by:\n  " + line + "\n" in done.stdout
    assert "backup" not in done.stdout


@pytest.mark.parametrize(
    ("found", "written", "told"),
    [
        ("https://acme-staging-v02.api.letsencrypt.org/directory", "letsencrypt-staging", False),
        ("https://ca.example.com/acme", "https://ca.example.com/acme", False),
        ("https://acme.zerossl.com/v2/DV90", "letsencrypt", True),
        ("nonsense", "letsencrypt", True),
    ],
)
def test_ca_stays_the_same_where_it_can(
    accounts: Accounts, found: str, written: str, told: object
) -> None:
    """One that wants an external account cannot be gone on with, which is said."""
    home = AcmeShHome(accounts.directory / "home")
    home.add(issued("img.example.com"), "img.example.com", Le_API=found)

    done = accounts.init("--from", "acme.sh", "--home", "home")

    assert 0 == done.returncode, done.stderr
    assert written == tomllib.loads(accounts.config.read_text())["acme"]["directory"]
    assert told is (f"certificates have come from {found}" in done.stderr)


@pytest.mark.parametrize("client", ["certbot", "lego"])
def test_others_are_gone_on_with(accounts: Accounts, client: str) -> None:
    """What they do not write down, the environment has."""
    made = issued("img.example.com")
    home = accounts.directory / "home"
    if client == "certbot":
        CertbotHome(home).add(made, "img.example.com")
    else:
        LegoHome(home).add(made, "img.example.com")

    done = accounts.init("--from", client, "--home", str(home))

    assert 0 == done.returncode, done.stderr
    assert [made.fingerprint] == accounts.fingerprints("img.example.com")
    assert "issue " not in accounts.run("plan").stdout


def test_client_that_is_kept_needs_no_dns_account(accounts: Accounts) -> None:
    """Its files are named, and what they hold is known."""
    made = issued("img.example.com")
    CertbotHome(accounts.directory / "home").add(made, "img")
    del accounts.environ["DP_Id"], accounts.environ["DP_Key"]
    settings = accounts.directory / "settings.toml"
    settings.write_text(re.sub(r"\[accounts\.dnspod\]\n(\w.*\n)+", "", settings.read_text()))

    done = accounts.init("--from", "certbot", "--home", "home", "--keep-client")

    assert 0 == done.returncode, done.stderr
    assert "img: adopted to be ferried, 79 days left" in done.stdout
    assert "certbot goes on as before." in done.stdout
    assert [made.fingerprint] == accounts.fingerprints("img")
    assert "adopt " not in accounts.run("plan").stdout


def test_client_that_is_kept_needs_no_keys_of_a_dns_account(accounts: Accounts) -> None:
    """Not even where the settings have one; nobody is asked which zones there are."""
    CertbotHome(accounts.directory / "home").add(issued("img.example.com"), "img")
    del accounts.environ["DP_Id"], accounts.environ["DP_Key"]

    done = accounts.init("--from", "certbot", "--home", "home", "--keep-client")

    assert 0 == done.returncode, done.stderr
    assert "ZONE" not in done.stderr
    assert [] == accounts.dnspod.calls("Domain.List")
    assert 0 == accounts.run("plan").returncode


def test_client_that_is_kept_first_and_taken_over_later(accounts: Accounts) -> None:
    """The same settings and the same keys file do for both, and nothing is issued anew."""
    home = AcmeShHome(accounts.directory / "home")
    made = issued("img.example.com")
    home.add(made, "img.example.com")
    accounts.environ.clear()
    accounts.keep("cdn-env", KEYS)
    accounts.name_env_files("cdn-env")
    words = ("--from", "acme.sh", "--home", "home")
    kept = accounts.init(*words, "--keep-client")
    ferried = accounts.config.read_text()

    done = accounts.init(*words, "--output", "certferry.toml", "--force")

    assert (0, 0) == (kept.returncode, done.returncode), kept.stderr + done.stderr
    assert "fullchain = " in ferried
    assert "fullchain = " not in accounts.config.read_text()
    assert ferried in [path.read_text() for path in accounts.directory.glob("certferry.toml.*")]
    assert "--remove -d img.example.com" in done.stdout
    assert [made.fingerprint] == accounts.fingerprints("img.example.com")
    planned = accounts.run("plan")
    assert 0 == planned.returncode, planned.stderr
    assert "issue " not in planned.stdout


def test_mistake_in_the_settings_is_told_with_its_own_line(accounts: Accounts) -> None:
    """The file that is to be written is not there yet: nobody could look it up."""
    path = accounts.directory / "settings.toml"
    path.write_text(path.read_text() + 'http_timeout = "long"\n')
    last = len(path.read_text().splitlines())

    done = accounts.init()

    assert 2 == done.returncode
    assert f"settings.toml:{last}: [accounts.qiniu] http_timeout: " in done.stderr
    assert "certferry.toml" not in done.stderr
    assert set() == accounts.left()


def test_second_certificate_of_the_same_names_is_not_renewed_for_nobody(
    accounts: Accounts,
) -> None:
    """acme.sh's RSA certificate beside its EC one: it stands there as a comment, is not adopted,
    and is switched off with the other.
    """
    home = AcmeShHome(accounts.directory / "home")
    made = issued("img.example.com")
    home.add(made, "img.example.com")
    home.add(issued("img.example.com", key_type="rsa2048"), "img.example.com", ecc=False)

    done = accounts.init("--from", "acme.sh", "--home", "home")

    assert 0 == done.returncode, done.stderr
    assert [made.fingerprint] == accounts.fingerprints("img.example.com_ecc")
    assert [] == accounts.fingerprints("img.example.com")
    text = accounts.config.read_text()
    assert '\n# name = "img.example.com"\n' in text
    assert "# img.example.com: img.example.com_ecc is for the same names, and goes first" in text
    for words in ("--remove -d img.example.com --ecc\n", "--remove -d img.example.com\n"):
        assert f"acme.sh --home {home.path} {words}" in done.stdout
    assert "img.example.com is left out: " in done.stderr


def test_damaged_entries_are_told_and_the_others_taken(accounts: Accounts) -> None:
    """A part of a certificate is none; only what was taken over is to be switched off."""
    home = AcmeShHome(accounts.directory / "home")
    home.add(issued("img.example.com"), "img.example.com")
    half = home.add(issued("a.example.com"), "a.example.com") / "fullchain.cer"
    half.write_text(half.read_text()[:300])
    home.add(issued("b.example.net"), "b.example.net", Le_Webroot="dns_ali")

    done = accounts.init("--from", "acme.sh", "--home", "home")

    assert 0 == done.returncode, done.stderr
    assert "warning: acme.sh: a.example.com_ecc is left out: " in done.stderr
    assert f"acme.sh --home {home.path} --remove -d img.example.com --ecc\n" in done.stdout
    assert "uninstall-cronjob" not in done.stdout
    settings = load(accounts.config, accounts.environ)
    wishes = {wish.lineage: wish.files is None for wish in settings.certificates}
    assert {"img.example.com": True, "b.example.net": False} == wishes
    assert "acme.sh goes on renewing it" in accounts.config.read_text()


def test_nothing_to_take_is_an_error(accounts: Accounts) -> None:
    """A directory without certificates is probably the wrong one."""
    AcmeShHome(accounts.directory / "home")

    done = accounts.init("--from", "acme.sh", "--home", "home")

    assert 2 == done.returncode
    assert "no certificate of acme.sh's is in home" in done.stderr
    assert set() == accounts.left()


def test_when_the_state_cannot_be_written_nothing_is(accounts: Accounts) -> None:
    """Neither the configuration nor the keys are there without the certificates."""
    home = AcmeShHome(accounts.directory / "home")
    home.keep_keys(SAVED_DP_Id=DP_ID, SAVED_DP_Key=DP_KEY)
    home.add(issued("img.example.com"), "img.example.com", QINIU_AK=AK, QINIU_SK=SK)
    accounts.environ.clear()
    accounts.state.mkdir()

    done = accounts.init("--from", "acme.sh", "--home", "home")

    assert 1 == done.returncode
    assert {"state.db"} == accounts.left()


@pytest.mark.parametrize("words", [("--home", "x"), ("--keep-client",)])
def test_what_is_for_a_client_needs_one(accounts: Accounts, words: tuple[str, ...]) -> None:
    """Half a command is told."""
    done = accounts.init(*words)

    assert 2 == done.returncode
    assert "are for --from, and there is none" in done.stderr


def test_settings_with_certificates_are_refused(accounts: Accounts) -> None:
    """What is to be proposed is not there already."""
    path = accounts.directory / "settings.toml"
    path.write_text(path.read_text() + "\n[[certificates]]\n")

    done = accounts.init()

    assert 2 == done.returncode
    assert "settings.toml declares certificates" in done.stderr


def test_settings_that_leave_no_place_for_keys_are_refused(accounts: Accounts) -> None:
    """An inline table has no line below which a key could stand."""
    path = accounts.directory / "settings.toml"
    path.write_text(f'[accounts]\ndnspod = {{ api = "{accounts.dnspod.url}" }}\n')

    done = accounts.init()

    assert 2 == done.returncode
    assert "[accounts.dnspod] is no table of its own" in done.stderr
