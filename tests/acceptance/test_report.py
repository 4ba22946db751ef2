"""`certferry doctor --report` over HTTP: reading requests alone, and a text free of names."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from certferry import __version__
from certferry.cli.exits import Exit
from certferry_sandbox.dnspod.service import DnspodService
from certferry_sandbox.faults import Fault
from certferry_sandbox.httpd import utc_now
from certferry_sandbox.qiniu.habits import HABITS
from certferry_sandbox.qiniu.service import QiniuService
from certferry_sandbox.zones import Zones
from tests.sandbox.qiniu_calls import issue, service
from tests.support.command import Ended, run_here
from tests.support.forks import start
from tests.support.waiting import eventually
from tests.wiring.packages import Packages

GUIDES = Path(__file__).parents[2] / "docs" / "how-to"
SAMPLE = re.compile(r"^```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WHEN = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC")
LEFT_OUT = "…"

MOST_REQUESTS = 10
ACCESS_KEY, SECRET_KEY = (
    "an-access-key-of-40-characters-as-they-a",
    "its-secret-key-that-none-may-see",
)
TOKEN_ID, TOKEN = "313490", "6b5976c68aba5b14a0558b77c17c3932"
EMAIL = "somebody@example.org"
BUCKETS = ("pictures", "films-2026")
HUB = "studio"
LABEL = "by hand"
DOMAINS = ("www.example.com", "plain.example.com", "source.example.com", "live.example.com")


@dataclass
class Services:
    """Both stand-ins, an account at each, and the file with the accounts."""

    qiniu: QiniuService
    dnspod: DnspodService
    directory: Path

    @property
    def addresses(self) -> dict[str, str]:
        """Return the address of each of Qiniu's hosts, by setting."""
        names = ("api", "fusion", "uc", "api_backup", "uc_backup", "pili")
        return {name: getattr(self.qiniu, f"{name}_url") for name in names}

    @property
    def config(self) -> Path:
        """Write the file, with keys from the environment, and return its path."""
        qiniu = "\n".join(f'{name} = "{url}"' for name, url in self.addresses.items())
        path = self.directory / "certferry.toml"
        path.write_text(
            f'[state]\nurl = "sqlite:///{self.directory}/state.db"\n'
            '[accounts.cdn-of-somebody]\ntype = "qiniu"\naccess_key = "env:QINIU_AK"\n'
            f'secret_key = "env:QINIU_SK"\n{qiniu}\n'
            '[accounts.zones-of-somebody]\ntype = "dnspod"\nid = "env:DP_Id"\n'
            f'token = "env:DP_Key"\napi = "{self.dnspod.url}"\n'
        )
        path.chmod(0o600)
        return path

    @staticmethod
    def environ(**other: str) -> dict[str, str]:
        """Return the environment of a run; empty variables are left out."""
        keys = dict(
            zip(
                ("QINIU_AK", "QINIU_SK", "DP_Id", "DP_Key"),
                (ACCESS_KEY, SECRET_KEY, TOKEN_ID, TOKEN),
                strict=True,
            )
        )
        variables = {"PATH": os.environ["PATH"], "NO_PROXY": "*", **keys, **other}
        return {name: value for name, value in variables.items() if value}

    def report(self, *arguments: str, **environ: str) -> Ended:
        words = ["--config", str(self.config), *arguments, "doctor", "--report"]
        return run_here(words, self.environ(**environ))


def judged(ended: Ended, assumed: str) -> str:
    [verdict] = re.findall(rf"^- §.*{re.escape(assumed)}.*[:：] ?(.*)$", ended.out, re.MULTILINE)
    return str(verdict)


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    qiniu = service()
    qiniu.add_account(ACCESS_KEY, SECRET_KEY)
    issued = issue(*DOMAINS, start=utc_now() - timedelta(hours=20))
    cert_id = qiniu.add_certificate(issued, LABEL, account=ACCESS_KEY)
    qiniu.add_domain(DOMAINS[0], https=cert_id, tls_versions=["TLSv1.2"], account=ACCESS_KEY)
    qiniu.add_domain(DOMAINS[1], account=ACCESS_KEY)
    qiniu.add_bucket_domain(DOMAINS[2], BUCKETS[0], https=cert_id, account=ACCESS_KEY)
    qiniu.add_bucket(BUCKETS[1], account=ACCESS_KEY)
    qiniu.add_live_domain(DOMAINS[3], HUB, https=cert_id, account=ACCESS_KEY)
    dnspod = DnspodService(Zones())
    dnspod.add_account(TOKEN_ID, TOKEN, EMAIL)
    dnspod.add_domain("example.com")
    with qiniu, dnspod:
        yield Services(qiniu, dnspod, tmp_path)


def test_only_reading_calls_are_made(services: Services) -> None:
    """The report on stdout has versions and shapes; nothing is written, not even a state."""
    done = services.report()

    assert (Exit.OK, "querying the accounts…\n") == (done.code, done.err)
    requests = services.qiniu.requests()
    assert {"GET"} == {request.method for request in requests}
    assert len(requests) <= MOST_REQUESTS
    assert ["Domain.List"] == [call.action for call in services.dnspod.calls()]
    assert [] == services.dnspod.refused_user_agents()
    assert ["certferry.toml"] == [path.name for path in services.directory.iterdir()]
    for reported in (
        f"certferry {__version__}",
        "Python 3.",
        "requests 2.",
        "### Qiniu",
        "### DNSPod",
    ):
        assert reported in done.out
    for call in (
        "/domain?marker&limit",
        "/domain/…",
        "/v3/domains?tbl",
        "/v2/hubs",
        "/Domain.List",
    ):
        assert re.search(rf"^- (GET|POST) {re.escape(call)} at .*: 200", done.out, re.MULTILINE), (
            call
        )
    assert ", `{marker: string, domains: [2 × {name: string, " in done.out


def test_other_answers_change_the_verdicts(services: Services) -> None:
    """Each line judges an assumption of certferry by the answers; the command succeeds whatever the
    verdicts.
    """
    before = services.report()
    for habit in ("bindings_at_backup", "flags_hidden"):
        HABITS[habit](services.qiniu)
    services.qiniu.add_certificate(
        issue(*DOMAINS, start=utc_now() - timedelta(days=70)), LABEL, account=ACCESS_KEY
    )
    after = services.report()

    assert (Exit.OK, Exit.OK) == (before.code, after.code)
    for assumed, first, then in (
        ("answers /cert/bindings", "yes", "no"),
        ("show its redirect", "yes", "no"),
        ("less than 30 days left", "not seen", "no"),
        ("answers /domain", "yes", "yes"),
        ("answers /v2/hubs", "yes", "yes"),
        ("the state of every domain", "yes", "yes"),
        ("clock is right", "yes", "yes"),
        ("knows every domain's plan", "yes", "yes"),
    ):
        assert (first, then) == (judged(before, assumed), judged(after, assumed)), assumed


@pytest.mark.parametrize("wrong", ["", "QINIU_AK", "QINIU_SK", "DP_Key"])
def test_no_secret_and_no_name_is_in_the_report(services: Services, wrong: str) -> None:
    """The report has no key, name, id or label of an account, even after a refused key."""
    done = services.report(**({wrong: "f" * 32} if wrong else {}))
    printed = done.out + done.err
    hidden = [
        *("example", *BUCKETS, HUB, LABEL, EMAIL, ACCESS_KEY, SECRET_KEY, TOKEN_ID, TOKEN),
        *("somebody", "f" * 32),
        *(stored.id for stored in services.qiniu.certificates.stored()),
        *(stored.fingerprint for stored in services.qiniu.certificates.stored()),
        str(services.qiniu.accounts.uid(ACCESS_KEY)),
        *(
            request.headers["Authorization"].partition(" ")[2]
            for request in services.qiniu.requests()
            if "Authorization" in request.headers
        ),
    ]

    assert "The text contains no secret" in done.out
    assert [] == [name for name in hidden if name in printed]


def test_a_host_of_the_operators_is_not_named(services: Services) -> None:
    """A mirror may bear the operator's name: the report says only that the host does not answer."""
    config = services.config
    text = config.read_text().replace(services.qiniu.api_url, "https://mirror.example.invalid")
    config.write_text(text)
    done = run_here(["--config", str(config), "doctor", "--report"], services.environ())

    assert Exit.FAILED == done.code
    assert "- GET / at …: no answer (ConnectionError)" in done.out
    assert "example" not in done.out + done.err


def test_report_in_chinese(services: Services) -> None:
    """The report is the same in another language."""
    done = services.report("--lang", "zh")

    assert Exit.OK == done.code
    assert "是" == judged(done, "/cert/bindings")
    assert "文中不含密钥" in done.out
    assert "正在查询各账号…\n" == done.err


@pytest.mark.parametrize("guide", ["before-production.md", "before-production.zh-CN.md"])
def test_the_guide_shows_what_is_printed(services: Services, guide: str) -> None:
    """The guide's sample is the report, shortened, with the names of the real hosts."""
    done = services.report("--lang", "zh" if "zh" in guide else "en")
    printed = as_of_the_real_hosts(done.out, services).splitlines()
    [sample] = SAMPLE.findall((GUIDES / guide).read_text(encoding="utf-8"))
    shown = [line for line in dated(sample).splitlines() if line not in {"", LEFT_OUT}]

    assert len(shown) > 10
    assert [] == [line for line in shown if line not in printed]


def as_of_the_real_hosts(report: str, services: Services) -> str:
    """Return a report with the names of the real services, and with its times masked."""
    real = {
        "api": "api.qiniu.com",
        "fusion": "fusion.qiniuapi.com",
        "uc": "uc.qiniuapi.com",
        "pili": "pili.qiniuapi.com",
    }
    urls = {services.addresses[key]: name for key, name in real.items()}
    for url, name in {**urls, services.dnspod.url: "dnsapi.cn"}.items():
        report = report.replace(url.partition("://")[2], name)
    return dated(report)


def dated(report: str) -> str:
    return WHEN.sub("now", report.replace(__version__, "version"))


@pytest.mark.parametrize("wrong", ["QINIU_AK", "QINIU_SK"])
def test_a_refused_key(services: Services, wrong: str) -> None:
    """The report shows the answers, and a sentence says what they mean; few calls are made, and
    each has the id for Qiniu's support.
    """
    done = services.report(**{wrong: "somebody-elses"})

    assert Exit.FAILED == done.code
    assert "error: Qiniu answered no call successfully" in done.err
    assert re.search(
        r"^- GET /sslcert\?marker&limit at .*: 401, X-Reqid \S+, `{error: string}`$",
        done.out,
        re.MULTILINE,
    )
    assert "answers /sslcert under" not in done.out
    assert "yes" == judged(done, "knows every domain's plan")
    assert len(services.qiniu.requests()) <= 8


def test_a_refused_token(services: Services) -> None:
    """DNSPod gets a single request, and Qiniu's answers are reported all the same."""
    done = services.report(DP_Key="f" * 32)

    assert Exit.FAILED == done.code
    assert "error: DNSPod answered no call successfully" in done.err
    assert re.search(r"^- POST /Domain.List at .*: 200, code 10004, `.*`$", done.out, re.MULTILINE)
    assert "yes" == judged(done, "answers /sslcert")
    assert 1 == len(services.dnspod.calls())


def test_a_service_that_does_not_answer(services: Services) -> None:
    """The first failure ends the account's calls; the other account is reported."""
    config = services.config
    services.qiniu.__exit__(None, None, None)
    done = run_here(["--config", str(config), "doctor", "--report"], services.environ())
    services.qiniu.__enter__()

    assert Exit.FAILED == done.code
    assert "error: Qiniu answered no call successfully" in done.err
    assert re.search(r"^- GET / at .*: no answer \(ConnectionError\)$", done.out, re.MULTILINE)
    assert "/sslcert" not in done.out
    assert "yes" == judged(done, "knows every domain's plan")


def test_no_keys(tmp_path: Path) -> None:
    """In an empty environment the message names every possible variable; no service is asked."""
    done = run_here(["doctor", "--report"], {"HOME": str(tmp_path)}, tmp_path)

    assert (Exit.USAGE, "") == (done.code, done.out)
    for pair in ("QINIU_ACCESS_KEY / QINIU_AK", "QINIU_SECRET_KEY / QINIU_SK", "DP_Id", "DP_Key"):
        assert pair in done.err


def test_half_a_pair(tmp_path: Path) -> None:
    """A key without its other half is a mistake; the message names only the missing half."""
    done = run_here(["doctor", "--report"], {"HOME": str(tmp_path), "QINIU_AK": "a"}, tmp_path)

    assert (Exit.USAGE, "") == (done.code, done.out)
    assert "QINIU_SECRET_KEY" in done.err
    assert "DP_Id" not in done.err


def test_no_account_to_report_of(tmp_path: Path) -> None:
    """A file with accounts of other services alone is refused, with the reason."""
    config = tmp_path / "certferry.toml"
    config.write_text('[accounts.cf]\ntype = "cloudflare"\ntoken = "env:T"\n')
    config.chmod(0o600)
    words = ["--config", str(config), "doctor", "--report"]
    done = run_here(words, {"HOME": str(tmp_path), "T": "0123456789abcdef"}, tmp_path)

    assert (Exit.USAGE, "") == (done.code, done.out)
    assert "has no account for a report" in done.err


def test_a_broken_package_hides_no_account(services: Services, tmp_path: Path) -> None:
    """The account of a package that cannot be imported is left out."""
    Packages(tmp_path).install("certferry-bad", "bad_dns", "import no_such", bad="certferry.dns")
    config = services.config
    config.write_text(f'{config.read_text()}[accounts.other]\ntype = "bad"\n')
    done = subprocess.run(
        [sys.executable, "-m", "certferry", "--config", config, "doctor", "--report"],
        env=services.environ(PYTHONPATH=str(tmp_path)),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert Exit.OK == done.returncode, done
    assert "### Qiniu" in done.stdout
    assert "### DNSPod" in done.stdout


@pytest.mark.parametrize("more", ["--json", "www"])
def test_report_with_names_or_json(tmp_path: Path, more: str) -> None:
    """A report is a text about accounts, so names and --json are refused."""
    done = run_here(["doctor", "--report", more], {"HOME": str(tmp_path)}, tmp_path)

    assert Exit.USAGE == done.code
    assert "--report cannot be combined with names or --json" in done.out + done.err


def test_report_that_is_stopped(services: Services) -> None:
    """Ctrl-C ends the command at once, without a report and without a traceback."""
    services.qiniu.api.faults.add(Fault.delay(30), times=None)
    process = start(
        [sys.executable, "-m", "certferry", "--config", str(services.config), "doctor", "--report"],
        env=services.environ(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert eventually(lambda: bool(services.qiniu.requests()))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()

    assert (Exit.STOPPED, "") == (process.returncode, out)
    assert err.startswith("querying the accounts…\nstopped")
