"""Messages to operators: a message at the beginning of trouble and a message at its end, through
every channel; `certferry notify test` shows each service's answer.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from certferry.values import replace
from certferry_sandbox.faults import Fault
from certferry_sandbox.httpd import HttpService, Response
from certferry_sandbox.messages import (
    dingtalk,
    event_receiver,
    feishu,
    mail_server,
    pushplus,
    serverchan,
    telegram,
)
from certferry_sandbox.messages.bark import KEY as BARK_KEY
from certferry_sandbox.messages.bark import BarkService
from certferry_sandbox.messages.dingtalk import DingtalkService
from certferry_sandbox.messages.event_receiver import EventReceiver
from certferry_sandbox.messages.feishu import FeishuService
from certferry_sandbox.messages.mail_server import MailServer
from certferry_sandbox.messages.pushplus import PushplusService
from certferry_sandbox.messages.serverchan import ServerchanService
from certferry_sandbox.messages.telegram import TelegramService
from certferry_sandbox.messages.wecom import WecomService
from certferry_sandbox.world import World
from tests.acceptance.host import Host, Run
from tests.support.tiers import thorough

OK, FAILED, USAGE = 0, 1, 2
HTTP_SERVICES = (
    DingtalkService,
    FeishuService,
    WecomService,
    ServerchanService,
    PushplusService,
    BarkService,
    TelegramService,
    EventReceiver,
)


@dataclass
class Channels:
    """Every service that takes messages, and the tables with a channel for each."""

    services: dict[str, Any]
    mail: MailServer
    folder: Path

    @property
    def tables(self) -> str:
        """Return a table for each service. Addresses and keys are literals in the file, as the
        format permits.
        """
        services = self.services
        (self.folder / "mail-ca.pem").write_text(self.mail.authority.root_pem)
        script = "import sys; open(sys.argv[1], 'ab').write(sys.stdin.buffer.read() + b'\\\\n')"
        return f"""
[notify.dingtalk]
url = "{services["dingtalk"].address}"
secret = "{dingtalk.SECRET}"
[notify.feishu]
url = "{services["feishu"].address}"
secret = "{feishu.SECRET}"
[notify.wecom]
url = "{services["wecom"].address}"
language = "zh"
[notify.serverchan]
key = "{serverchan.KEY}"
api = "{services["serverchan"].url}"
[notify.pushplus]
key = "{pushplus.TOKEN}"
api = "{services["pushplus"].url}"
[notify.bark]
key = "{BARK_KEY}"
api = "{services["bark"].url}"
[notify.telegram]
key = "{telegram.TOKEN}"
chat = "{telegram.CHAT}"
api = "{services["telegram"].url}"
[notify.mail]
type = "email"
url = "{self.mail.url}"
user = "{mail_server.USER}"
password = "{mail_server.PASSWORD}"
from = "{mail_server.USER}"
to = ["night@example.com"]
ca_bundle = "mail-ca.pem"
[notify.hook]
type = "webhook"
url = "{services["hook"].address}"
secret = "{event_receiver.SECRET}"
[notify.program]
type = "command"
command = ["{sys.executable}", "-c", "{script}", "{self.folder / "events"}"]
"""

    @property
    def taken(self) -> dict[str, list[str]]:
        events = self.folder / "events"
        return {
            **{name: list(service.taken) for name, service in self.services.items()},
            "mail": self.mail.taken,
            "program": events.read_text().splitlines() if events.exists() else [],
        }

    @property
    def counts(self) -> set[int]:
        """Return the different numbers of messages: a single number, if all services agree."""
        return {len(messages) for messages in self.taken.values()}

    @property
    def secrets(self) -> tuple[str, ...]:
        """Return the secrets that runs must hide."""
        addresses = [
            service.address for service in self.services.values() if hasattr(service, "address")
        ]
        return (
            *addresses,
            *(address.partition("://")[2].partition("/")[2] for address in addresses),
            dingtalk.SECRET,
            feishu.SECRET,
            serverchan.KEY,
            pushplus.TOKEN,
            BARK_KEY,
            telegram.TOKEN,
            mail_server.PASSWORD,
            event_receiver.SECRET,
        )


@pytest.fixture
def channels(tmp_path: Path) -> Iterator[Channels]:
    """Run all services."""
    with ExitStack() as running:
        names = (
            "dingtalk", "feishu", "wecom", "serverchan", "pushplus", "bark", "telegram", "hook",
        )  # fmt: skip
        services = {
            name: running.enter_context(service())
            for name, service in zip(names, HTTP_SERVICES, strict=True)
        }
        yield Channels(services, running.enter_context(MailServer()), tmp_path)


def declare(host: Host, tables: str) -> None:
    host.config.write_text(host.config.read_text() + tables)


def must_hide(run: Run, channels: Channels) -> None:
    """Assert that a run hides the secrets and the addresses of the services."""
    ports = {service.url.rpartition("://")[2] for service in channels.services.values()}
    assert set() == {
        secret for secret in {*channels.secrets, *ports} if secret in run.out + run.err
    }


def test_a_wrong_dns_key_is_reported_once_and_so_is_its_end(host: Host, channels: Channels) -> None:
    """Each channel gets a message with place, reason and remedy at the first failed run, and a
    message at the recovery. All messages hide the secrets.
    """
    declare(host, channels.tables)
    wrong = {"DP_Key": "0" * 32}

    first = host.run("-v", "sync", **wrong)
    assert (FAILED, {1}) == (first.code, channels.counts)
    quiet = [host.run("sync", **wrong) for _ in range(5)]
    assert {FAILED} == {run.code for run in quiet}
    assert {1} == channels.counts
    mended = host.run("sync")
    assert (OK, {2}) == (mended.code, channels.counts), mended
    after = host.run("sync")
    assert (OK, {2}) == (after.code, channels.counts)

    (name,) = _lineages(host)
    for channel, (trouble, over) in channels.taken.items():
        assert name in trouble, channel
        assert name in over, channel
        assert "dns_access_denied" in trouble or "DNSPod" in trouble, channel
    (event, end) = channels.services["hook"].events
    assert ("trouble", name, "dns_access_denied") == (
        event["event"],
        event["certificate"],
        event["code"],
    )
    assert ("recovered", event["since"]) == (end["event"], end["since"])
    assert event["hint"] is not None
    assert "恢复" in channels.taken["wecom"][1]
    for run in (first, *quiet, mended, after):
        must_hide(run, channels)
    sent = "".join(message for messages in channels.taken.values() for message in messages)
    assert set() == {secret for secret in (*channels.secrets, "0" * 32) if secret in sent}


def _lineages(host: Host) -> list[str]:
    with host.remembering() as store:
        return list(store.lineages())


def test_every_channel_is_tried(host: Host, channels: Channels) -> None:
    """Each service takes the message, and the output reports so; a channel that is named is tried
    alone.
    """
    declare(host, channels.tables)

    tried = host.run("notify", "test")

    assert (OK, "") == (tried.code, tried.err)
    assert 10 == tried.out.count(": sent\n")
    assert "dingtalk (DingTalk): sent" in tried.out
    assert {1} == channels.counts
    assert "test" == channels.services["hook"].events[0]["event"]
    must_hide(tried, channels)

    alone = host.run("-q", "notify", "test", "bark")

    assert (OK, "", "") == (alone.code, alone.out, alone.err)
    assert 2 == len(channels.taken["bark"])
    assert 1 == len(channels.taken["feishu"])


def test_every_channel_refuses(host: Host, channels: Channels) -> None:
    """With wrong secrets the output lists each refusal and its remedy, and the exit code is 1.
    `status` reports the refusals until a channel takes a message again.
    """
    tables = channels.tables
    for secret in channels.secrets[3:]:
        tables = tables.replace(secret, secret[:-4] + "zzzz")
    for name in ("wecom",):
        address = channels.services[name].address
        tables = tables.replace(address, address[:-4] + "zzzz")
    tables = tables.replace("sys.stdin.buffer.read()", "sys.no()")
    declare(host, tables)

    tried = host.run("notify", "test")

    assert FAILED == tried.code
    assert 10 == tried.out.count(": refused: "), tried.out
    assert {0} == channels.counts
    must_hide(tried, channels)

    status = host.run("status")
    document = host.run("status", "--json").document
    assert 10 == status.out.count("takes no messages since")
    assert {"channel_refused"} == {channel["problem"]["code"] for channel in document["channels"]}
    must_hide(status, channels)

    host.config.write_text(host.config.read_text().replace(tables, channels.tables))
    assert OK == host.run("notify", "test").code
    assert "takes no messages" not in host.run("status").out


def test_a_channel_that_is_down_changes_nothing_of_a_run(host: Host, channels: Channels) -> None:
    """The exit code depends on the certificates alone. A warning names the channel, and the next
    run with news sends the lost events.
    """
    declare(host, f'[notify.hook]\ntype = "webhook"\nurl = "{channels.services["hook"].address}"\n')
    declare(host, f'secret = "{event_receiver.SECRET}"\non = ["renewed", "deployed"]\n')
    hook = channels.services["hook"]
    hook.faults.add(Fault.reset_before())

    down = host.run("sync")
    later = _after_a_minute(host)

    assert (OK, OK) == (down.code, later.code)
    assert "notify hook: " in down.err
    (document,) = hook.events
    assert ["renewed", "deployed"] == [event["event"] for event in document["events"]]
    assert 0 == document["omitted"]
    must_hide(down, channels)


def _after_a_minute(host: Host) -> Run:
    """Run at the time of the next try: the test ends the channel's pause."""
    with host.remembering() as store:
        store.update_channel("hook", lambda before, _: (replace(before, again_at=None), None))
    return host.run("sync")


@thorough
def test_a_channel_that_hangs(host: Host, channels: Channels) -> None:
    """A run waits for a silent channel for less than ten seconds."""
    declare(host, f'[notify.ops]\ntype = "bark"\nkey = "{BARK_KEY}"\n')
    declare(host, f'api = "{channels.services["bark"].url}"\n')
    channels.services["bark"].faults.add(Fault.delay(60))
    begun = time.monotonic()
    host.run("--lang", "zh", "sync", DP_Key="0" * 32)
    quick = time.monotonic() - begun

    assert quick < 20


def test_missing_secret_of_a_channel(host: Host, world: World) -> None:
    """Cron may lack the variable: certificates are renewed all the same, and the channel's problem
    is reported.
    """
    declare(host, '[notify.ops]\ntype = "dingtalk"\nurl = "env:NO_SUCH_WEBHOOK"\n')
    declare(host, 'on = ["renewed"]\n')

    run = host.run("sync")

    assert OK == run.code
    assert "NO_SUCH_WEBHOOK is not set" in run.err
    assert "NO_SUCH_WEBHOOK is not set" in host.run("status").out


def test_an_error_that_ends_a_run_is_reported(host: Host, channels: Channels) -> None:
    """An unset variable ends the run before its report: with a state the error is reported once,
    and so is its end.
    """
    declare(host, f'[notify.hook]\ntype = "webhook"\nurl = "{channels.services["hook"].address}"\n')
    declare(host, f'secret = "{event_receiver.SECRET}"\n')
    hook = channels.services["hook"]

    assert USAGE == host.run("sync", QINIU_SECRET_KEY="").code
    assert [] == hook.events
    assert OK == host.run("sync").code
    assert [USAGE] * 2 == [host.run("sync", QINIU_SECRET_KEY="").code for _ in range(2)]
    assert [("trouble", None, "config")] == [
        (event["event"], event["certificate"], event["code"]) for event in hook.events
    ]
    assert OK == host.run("sync").code
    assert ["trouble", "recovered"] == [event["event"] for event in hook.events]


def test_a_command_in_a_message(host: Host, channels: Channels) -> None:
    """The command names the file, because the message's reader is in another directory."""
    declare(host, f'[notify.hook]\ntype = "webhook"\nurl = "{channels.services["hook"].address}"\n')
    declare(host, f'secret = "{event_receiver.SECRET}"\n')
    assert OK == host.run("sync").code
    host.state.unlink()  # its key is there

    host.run("sync")

    [hint, *_] = (event["hint"] for event in channels.services["hook"].events)
    assert f"`certferry --config {host.config} restore FILE`" in hint


def test_a_hook_reports_as_well(host: Host, channels: Channels) -> None:
    """A run that another client began reports like any other run."""
    declare(host, f'[notify.hook]\ntype = "webhook"\nurl = "{channels.services["hook"].address}"\n')
    declare(host, f'secret = "{event_receiver.SECRET}"\n')

    assert FAILED == host.run("hook", "qiniu", "--no-wait", DP_Key="0" * 32).code
    assert ["trouble"] == [event["event"] for event in channels.services["hook"].events]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ('[notify.ops]\ntype = "dingtalc"\n', "did you mean dingtalk?"),
        ('[notify.ops]\ntype = "bark"\nkei = "x"\n', "did you mean key?"),
        ('[notify.ops]\ntype = "bark"\nkey = "x"\non = ["troubles"]\n', "trouble"),
        ('[notify.ops]\ntype = "bark"\n', "missing"),
        ('[notify.ops]\ntype = "email"\nurl = "smtps://a"\nto = ["b"]\n', "from"),
    ],
)
def test_a_mistake_in_a_table(host: Host, table: str, words: str) -> None:
    """The mistake is reported with its line, before any action."""
    declare(host, table)

    run = host.run("sync")

    assert USAGE == run.code
    assert words in run.err
    assert "[notify.ops]" in run.err
    assert (0, 0) == (run.left.orders, run.left.qiniu_writes)


def test_a_channel_that_is_not_declared(host: Host) -> None:
    """The message names the nearest channel, or says that no channel is declared."""
    none = host.run("-q", "notify", "test")
    declare(host, '[notify.ops]\ntype = "bark"\nkey = "x"\n')
    other = host.run("-q", "notify", "test", "opps")

    assert (USAGE, USAGE) == (none.code, other.code)
    assert "no channel is declared" == none.complaint.error
    assert "ops" in other.complaint.hint


MALFORMED_HEADERS = (("Connection", "close"), ("X-Proxy", "one\r\na line of no header"))
MALFORMED = Fault.status(200, b"{}", headers=MALFORMED_HEADERS)
"""An answer that makes urllib3 warn with the whole requested address."""


@pytest.mark.parametrize("options", [(), ("-q",), ("-v",)], ids=["plain", "-q", "-v"])
def test_a_malformed_header_shows_no_key(
    host: Host, channels: Channels, options: tuple[str, ...]
) -> None:
    """Stderr and the log show no key: the libraries' warnings appear only with -v, and masked."""
    declare(host, channels.tables)
    log = host.directory / "log"
    for service in channels.services.values():
        service.faults.add(MALFORMED)

    run = host.run(*options, "--log-file", str(log), "notify", "test")

    assert FAILED == run.code
    logged = log.read_text()
    is_loud = options == ("-v",)
    for words in (run.err, logged):
        assert is_loud == ("Failed to parse headers" in words)
        assert is_loud == ("urllib3" in words)
    keys = [secret for secret in channels.secrets if not secret.startswith("http")]
    assert [] == [key for key in keys if key in run.out + run.err + logged]
    assert all(len(service.journal) == 1 for service in channels.services.values())


def test_a_proxy_with_a_malformed_header_shows_no_key(host: Host, channels: Channels) -> None:
    """The proxy answers in the place of the service."""
    declare(host, channels.tables)
    log = host.directory / "log"
    answer = Response(200, b"{}", headers=MALFORMED_HEADERS)
    with HttpService(lambda _: answer) as proxy:
        options = ("--log-file", str(log), "notify", "test", "telegram")
        run = host.run(*options, http_proxy=proxy.url, NO_PROXY="")

        assert 1 == len(proxy.journal)
    assert FAILED == run.code
    for words in (run.out, run.err, log.read_text()):
        assert telegram.TOKEN not in words
        assert "Failed to parse" not in words
