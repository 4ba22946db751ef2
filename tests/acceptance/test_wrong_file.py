"""A configuration that cannot be read reaches those whom it names, and does no harm on the way."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from certferry_sandbox.heartbeat import HeartbeatService
from certferry_sandbox.messages.event_receiver import SECRET, EventReceiver
from certferry_sandbox.world import World
from tests.acceptance.host import Host, certificate

OK, USAGE = 0, 2


@pytest.fixture
def hook() -> Iterator[EventReceiver]:
    """A service that takes messages."""
    with EventReceiver() as service:
        yield service


@pytest.fixture
def heart() -> Iterator[HeartbeatService]:
    """A service that takes pings."""
    with HeartbeatService() as service:
        yield service


@pytest.fixture
def host(
    world: World, tmp_path: Path, name: str, hook: EventReceiver, heart: HeartbeatService
) -> Host:
    """A machine with a state, a channel and a heartbeat."""
    host = Host(world, tmp_path, certificate(name, to=None))
    declare(
        host,
        f'[notify.hook]\ntype = "webhook"\nurl = "{hook.address}"\nsecret = "{SECRET}"\n'
        f'[heartbeat]\nurl = "{heart.address}"\n',
    )
    assert OK == host.run("sync").code
    heart.pings.clear()
    return host


def declare(host: Host, tables: str) -> None:
    """Add tables to the configuration."""
    host.config.write_text(host.config.read_text() + tables)


def events(hook: EventReceiver) -> list[tuple[str, str]]:
    """What the service was told."""
    return [(event["event"], event["code"]) for event in hook.events]


def kinds(heart: HeartbeatService) -> list[str]:
    """How the service was pinged."""
    return [ping.kind for ping in heart.pings]


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("names = [", "nams = [", "did you mean names?"),
        ('dns = "dnspod"', 'dns = "dnspod', "is not TOML"),
        ("[[certificates]]", 'env_files = ["gone"]\n[[certificates]]', "env_files"),
        ("[acme]", "# \u56fe\u7247\n[acme", "is not TOML"),
    ],
    ids=["misspelt", "no quote", "wrong place", "no bracket"],
)
def test_a_mistake_in_the_file_is_told_once_and_so_is_its_end(
    host: Host, hook: EventReceiver, heart: HeartbeatService, right: str, wrong: str, said: str
) -> None:
    """By the channels and the heartbeat that it names, wherever else it is wrong."""
    whole = host.config.read_text()
    host.rewrite(right, wrong)

    runs = [host.run("-q", "sync") for _ in range(2)]

    assert [USAGE] * 2 == [run.code for run in runs]
    assert [("trouble", "config")] == events(hook)
    assert said in hook.events[0]["message"]
    assert ["start", "fail"] == kinds(heart)[:2]
    assert "fail" == kinds(heart)[-1]
    assert SECRET not in "".join(run.err for run in runs)
    host.config.write_text(whole)
    assert OK == host.run("sync").code
    assert [("trouble", "config"), ("recovered", "config")] == events(hook)


def test_a_mistake_in_what_is_tried_by_hand_is_not_told(
    host: Host, hook: EventReceiver, heart: HeartbeatService
) -> None:
    """A run for one certificate, and a command that only looks, have an operator before them."""
    host.rewrite("names = [", "nams = [")

    assert [USAGE] * 2 == [host.run(*words).code for words in (["sync", "img"], ["plan"])]

    assert ([], []) == (events(hook), heart.pings)


def test_a_file_without_certificates_has_failed(
    host: Host, hook: EventReceiver, heart: HeartbeatService
) -> None:
    """Cut off, it must not look like one in which all is in order."""
    text = host.config.read_text()
    at, to = text.index("[[certificates]]"), text.index("[notify.hook]")
    host.config.write_text(text[:at] + text[to:])

    run = host.run("-q", "sync")

    assert USAGE == run.code
    assert f"{host.config} declares no certificate" == run.complaint.error
    assert "certferry init" in run.complaint.hint
    assert ["start", "fail"] == kinds(heart)
    assert [("trouble", "none_declared")] == events(hook)


def test_an_empty_file_has_failed(host: Host) -> None:
    """Its exit code tells, since it names no channel."""
    host.config.write_text("")

    run = host.run("sync", "--json")

    assert (USAGE, "none_declared") == (run.code, run.document["error"]["code"])


# --- a file that others may write


def test_a_file_that_others_may_write_is_told_without_a_state(
    host: Host, hook: EventReceiver, heart: HeartbeatService
) -> None:
    """Once a day, and so is its end; where the state lies is not taken from it."""
    other = host.directory / "other.db"
    whole = host.config.read_text()
    host.rewrite(f"sqlite:///{host.state}", f"sqlite:///{other}")
    host.config.chmod(0o666)

    runs = [host.run("-q", "sync") for _ in range(2)]

    assert [USAGE] * 2 == [run.code for run in runs]
    assert [("trouble", "config")] == events(hook)
    assert "chmod go-w" in hook.events[0]["hint"]
    assert "fail" in kinds(heart)
    assert not other.exists()
    host.config.write_text(whole)
    host.config.chmod(0o600)
    assert OK == host.run("sync").code
    assert [("trouble", "config"), ("recovered", "config")] == events(hook)


def test_a_file_that_others_may_write_starts_no_program_and_gives_no_secret_away(
    host: Host, hook: EventReceiver, heart: HeartbeatService
) -> None:
    """Another user may have put in what is run, what is sent, and where to."""
    ran = host.directory / "ran"
    touch = f'["{sys.executable}", "-c", "open({str(ran)!r}, \'w\')"]'
    text = host.config.read_text()
    host.config.write_text(
        text[: text.index("[notify.hook]")]
        + f'[notify.program]\ntype = "command"\ncommand = {touch}\n'
        f'[notify.stolen]\ntype = "webhook"\nurl = "{hook.address}"\nsecret = "env:DP_Key"\n'
        f'[notify.bark]\nkey = "env:DP_Key"\napi = "{hook.url}"\n'
        f'[heartbeat]\nurl = "command:touch {ran}"\n'
    )
    host.config.chmod(0o666)

    assert USAGE == host.run("sync").code

    assert not ran.exists()
    assert ([], []) == (hook.taken, heart.pings)
    assert [] == hook.journal


def test_a_killed_run_is_told_though_the_file_is_wrong_by_now(
    host: Host, hook: EventReceiver
) -> None:
    """What the system saw reaches the channel all the same."""
    host.rewrite("names = [", "nams = [")

    told = host.run("notify", "failed", MONITOR_SERVICE_RESULT="oom-kill")

    assert USAGE == told.code
    assert [("trouble", "run_cut_short")] == events(hook)
