"""`scripts/try-real` asks over HTTP, reads only, and tells nothing that has a name."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from certferry import __version__
from certferry.cli.exits import Exit
from certferry.cli.try_real import run
from certferry.sandbox.dnspod import DnspodService
from certferry.sandbox.faults import Fault
from certferry.sandbox.httpd import utc_now
from certferry.sandbox.qiniu import QiniuService
from certferry.sandbox.qiniu_habits import HABITS
from certferry.sandbox.zones import Zones
from tests.cli.consoles import TestConsole
from tests.sandbox.qiniu_calls import issue, service
from tests.support.waiting import eventually

GUIDES = Path(__file__).parents[2] / "docs" / "how-to"
SAMPLE = re.compile(r"^```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WHEN = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC")
LEFT_OUT = "…"

MOST_REQUESTS = 25
READING = {"Info.Version", "User.Detail", "Domain.List"}
ACCESS_KEY, SECRET_KEY = (
    "an-access-key-of-40-characters-as-they-a",
    "its-secret-key-that-none-may-see",
)
TOKEN_ID, TOKEN = "313490", "6b5976c68aba5b14a0558b77c17c3932"
EMAIL = "somebody@example.org"
BUCKETS = ("pictures", "films-2026")
LABEL = "by hand"
DOMAINS = ("www.example.com", "plain.example.com", "source.example.com")


@dataclass
class Services:
    """Both stand-ins, an account at each, and who has the keys to them."""

    qiniu: QiniuService
    dnspod: DnspodService
    environ: dict[str, str] = field(
        default_factory=lambda: {
            "QINIU_ACCESS_KEY": ACCESS_KEY,
            "QINIU_SECRET_KEY": SECRET_KEY,
            "DP_Id": TOKEN_ID,
            "DP_Key": TOKEN,
        }
    )

    @property
    def addresses(self) -> dict[str, str]:
        """Give where each service is, by its option."""
        qiniu = self.qiniu
        return {
            "--api": qiniu.api_url,
            "--fusion": qiniu.fusion_url,
            "--uc": qiniu.uc_url,
            "--api-backup": qiniu.api_backup_url,
            "--uc-backup": qiniu.uc_backup_url,
            "--pili": qiniu.pili_url,
            "--dnspod": self.dnspod.url,
        }

    @property
    def options(self) -> list[str]:
        """Give the options that lead there."""
        return [word for pair in self.addresses.items() for word in pair]

    def trial(self, *arguments: str, **environ: str) -> Trial:
        """Run the program in this process."""
        known = {name: value for name, value in (self.environ | environ).items() if value}
        console = TestConsole(environ=known)
        code = run([*self.options, *arguments], console.console)
        return Trial(code, console.out, console.err)


@dataclass(frozen=True)
class Trial:
    """How it ended, and what it wrote."""

    code: int
    out: str
    err: str

    def verdict(self, number: str) -> str:
        """Give the verdict on a guess."""
        [found] = re.findall(rf"^- {re.escape(number)} .*\*\*(.*)\*\*$", self.out, re.MULTILINE)
        return str(found)


@pytest.fixture
def services() -> Iterator[Services]:
    """Accounts that hold what most hold."""
    qiniu = service()
    qiniu.add_account(ACCESS_KEY, SECRET_KEY)
    issued = issue(*DOMAINS, start=utc_now() - timedelta(hours=20))
    cert_id = qiniu.add_certificate(issued, LABEL, account=ACCESS_KEY)
    qiniu.add_domain(DOMAINS[0], https=cert_id, tls_versions=["TLSv1.2"], account=ACCESS_KEY)
    qiniu.add_domain(DOMAINS[1], account=ACCESS_KEY)
    qiniu.add_bucket_domain(DOMAINS[2], BUCKETS[0], https=cert_id, account=ACCESS_KEY)
    qiniu.add_bucket(BUCKETS[1], account=ACCESS_KEY)
    dnspod = DnspodService(Zones())
    dnspod.add_account(TOKEN_ID, TOKEN, EMAIL)
    dnspod.add_domain("example.com")
    with qiniu, dnspod:
        yield Services(qiniu, dnspod)


def test_only_reading_calls_are_made(services: Services) -> None:
    """As a process, with the keys in its environment: a report on stdout, and nothing written."""
    done = subprocess.run(
        [sys.executable, "-m", "certferry.cli.try_real", *services.options],
        env={**os.environ, **services.environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert (Exit.OK, "asking Qiniu, DNSPod…\n") == (done.returncode, done.stderr)
    assert "Holds: 13. Does not hold: 3. Cannot be told by reading: 6." in done.stdout
    requests = services.qiniu.requests()
    assert {"GET"} == {request.method for request in requests}
    assert not any(request.body for request in requests)
    assert len(requests) <= MOST_REQUESTS
    assert f"(Qiniu: {len(requests)}, DNSPod: 3)" in done.stdout
    assert {call.action for call in services.dnspod.calls()} <= READING
    assert [] == services.dnspod.refused_user_agents()


def test_what_is_answered_otherwise_is_judged_otherwise(services: Services) -> None:
    """Whatever the verdicts are, the program has done its work."""
    before = services.trial()
    for habit in ("null_lists", "bindings_at_backup", "unknown_paths_401", "flags_hidden"):
        HABITS[habit](services.qiniu)
    after = services.trial()

    assert (Exit.OK, Exit.OK) == (before.code, after.code)
    changed = {"1.1": "holds", "1.3": "does not hold", "1.6": "does not hold", "1.12": "holds"}
    for number, verdict in changed.items():
        assert before.verdict(number) != verdict == after.verdict(number), number


def test_no_secret_and_no_name_is_in_the_report(services: Services) -> None:
    """Neither the keys nor the account's names."""
    trial = services.trial()
    written = trial.out + trial.err
    found = [
        *("example", *BUCKETS, LABEL, EMAIL, ACCESS_KEY, SECRET_KEY, TOKEN_ID, TOKEN),
        *(stored.id for stored in services.qiniu.certificates.stored()),
        *(stored.fingerprint for stored in services.qiniu.certificates.stored()),
        str(services.qiniu.accounts.uid(ACCESS_KEY)),
        *(one.headers["Authorization"].partition(" ")[2] for one in services.qiniu.requests()),
    ]

    assert "No secret is in this text" in trial.out
    assert [] == [name for name in found if name in written]


def test_chinese(services: Services) -> None:
    """The same report, in the language that is asked for."""
    trial = services.trial("--lang", "zh")

    assert Exit.OK == trial.code
    assert "成立 13 条，不成立 3 条，只读请求无法判断 6 条。" in trial.out
    assert "成立" == trial.verdict("1.3")
    assert trial.err.startswith("正在询问 Qiniu")


@pytest.mark.parametrize("guide", ["before-production.md", "before-production.zh-CN.md"])
def test_the_guide_shows_what_is_printed(services: Services, guide: str) -> None:
    """Its sample is this report, with lines left out and the real hosts' names in it."""
    trial = services.trial("--lang", "zh" if "zh" in guide else "en")
    printed = iter(as_of_the_real_hosts(trial.out, services).splitlines())
    [sample] = SAMPLE.findall((GUIDES / guide).read_text(encoding="utf-8"))
    shown = [line for line in dated(sample).splitlines() if line not in {"", LEFT_OUT}]

    missing = [line for line in shown if line not in printed]

    assert len(shown) > 10
    assert [] == missing


def as_of_the_real_hosts(report: str, services: Services) -> str:
    """Give a report as it would be written of the real services, at no certain time."""
    real = (
        "api.qiniu.com",
        "fusion.qiniuapi.com",
        "uc.qiniuapi.com",
        "api.qiniuapi.com",
        "kodo-config.qiniuapi.com",
        "pili.qiniuapi.com",
        "dnsapi.cn",
    )
    for url, name in zip(services.addresses.values(), real, strict=True):
        report = report.replace(url.partition("://")[2], name)
    return dated(report)


def dated(report: str) -> str:
    """Take the moment and the version out."""
    return WHEN.sub("now", report.replace(__version__, "version"))


@pytest.mark.parametrize("wrong", ["QINIU_ACCESS_KEY", "QINIU_SECRET_KEY"])
def test_wrong_keys(services: Services, wrong: str) -> None:
    """The report says what was answered, a sentence what that means; few calls are made."""
    trial = services.trial(**{wrong: "somebody-elses"})

    assert Exit.FAILED == trial.code
    assert "error: Qiniu answered no call with success" in trial.err
    assert "401 bad token" in trial.out
    assert "cannot be told" == trial.verdict("1.8")
    assert "somebody-elses" not in trial.out + trial.err
    assert 7 == len(services.qiniu.requests())


def test_wrong_token(services: Services) -> None:
    """DNSPod is not asked again, and what Qiniu answered is judged all the same."""
    trial = services.trial(DP_Key="f" * 32)

    assert Exit.FAILED == trial.code
    assert "error: DNSPod answered no call with success" in trial.err
    assert "Info.Version: code 10004" in trial.out
    assert "holds" == trial.verdict("1.8")
    assert 1 == len(services.dnspod.calls())


def test_no_keys(services: Services) -> None:
    """No service is asked, and every variable that would do is named."""
    trial = services.trial(**dict.fromkeys(services.environ, ""))

    assert (Exit.USAGE, "") == (trial.code, trial.out)
    for pair in ("QINIU_ACCESS_KEY / QINIU_AK", "QINIU_SECRET_KEY / QINIU_SK"):
        assert f"{pair}: not set" in trial.err
    for name in ("DP_Id / DNSPOD_API_KEY", "DP_Key / DNSPOD_API_KEY"):
        assert f"{name}: not set" in trial.err
    assert [] == services.qiniu.requests()


def test_half_a_pair(services: Services) -> None:
    """A key without its other half is a mistake, and what is missing is named alone."""
    trial = services.trial(QINIU_SECRET_KEY="", DP_Id="", DP_Key="")

    assert Exit.USAGE == trial.code
    assert "QINIU_SECRET_KEY / QINIU_SK: not set" in trial.err
    assert "DP_Id" not in trial.err


def test_keys_of_one_service(services: Services) -> None:
    """The other is left out; the short names of Qiniu's variables do as well."""
    others = {"QINIU_ACCESS_KEY": "", "QINIU_SECRET_KEY": "", "DP_Id": "", "DP_Key": ""}
    trial = services.trial(**others, QINIU_AK=ACCESS_KEY, QINIU_SK=SECRET_KEY)

    assert Exit.OK == trial.code
    assert "### DNSPod" not in trial.out
    assert [] == services.dnspod.calls()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--uc", "http://uc.qiniuapi.com"], "invalid value for '--uc': must begin with https://"),
        (["--lang", "fr"], "invalid value for '--lang': 'fr' is not one of 'zh', 'en'"),
        (["--write"], "no such option '--write'"),
        (["now"], "got unexpected extra argument (now)"),
    ],
)
def test_mistyped_command_line(services: Services, arguments: list[str], error: str) -> None:
    """One error and one hint; certferry asks no service."""
    trial = services.trial(*arguments)

    assert Exit.USAGE == trial.code
    assert f"error: {error}" in trial.err
    assert "hint: run `scripts/try-real --help`" in trial.err
    assert [] == services.qiniu.requests()


def test_language_of_the_environment_that_there_is_not(services: Services) -> None:
    """It is said, as by certferry itself."""
    trial = services.trial(CERTFERRY_LANG="fr")

    assert Exit.USAGE == trial.code
    assert "CERTFERRY_LANG=fr is not supported" in trial.err


@pytest.mark.parametrize(("lang", "words"), [("en", "Usage: scripts/try-real"), ("zh", "只读请求")])
def test_help(
    services: Services, lang: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It tells what is asked, and which variables are read; not the addresses for tests."""
    assert Exit.OK == services.trial("--lang", lang, "--help").code

    told = capsys.readouterr().out
    assert words in told
    assert "QINIU_AK" in told
    assert "--api" not in told


def test_stopped(services: Services) -> None:
    """Ctrl-C ends it at once, without a report and without a traceback."""
    services.qiniu.api.faults.add(Fault.delay(30), times=None)
    process = subprocess.Popen(
        [sys.executable, "-m", "certferry.cli.try_real", *services.options],
        env={**os.environ, **services.environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert eventually(lambda: bool(services.qiniu.requests()))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()

    assert (Exit.STOPPED, "") == (process.returncode, out)
    assert "asking Qiniu, DNSPod…\nstopped\n" == err
