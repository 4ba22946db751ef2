"""What a monitor is told by `certferry check`, of a machine in a world."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta

import pytest

from certferry.present.check_text import MOST_DETAILS
from certferry_sandbox.world import World
from tests.acceptance.host import Host, certificate
from tests.acceptance.requests_made import RequestsMade
from tests.acceptance.site import Site
from tests.acceptance.test_rollback_and_drift import set_by_hand, with_drift

OK, WARNING, CRITICAL, UNKNOWN = range(4)

PLUGIN = re.compile(
    r"CERTFERRY (?P<status>OK|WARNING|CRITICAL|UNKNOWN) - (?P<said>[^|\n]+)"
    r"(?: \| (?P<data>'[^|\n]+))?\n(?P<more>[^|]*)"
)
DATUM = re.compile(r"'(\w+)'=(-?\d+);(-?\d*);(-?\d*);(\d*);?(\d*)")


def parsed(out: str) -> re.Match[str]:
    """The plugin's output, whose performance data must be of the form that monitors read."""
    found = PLUGIN.fullmatch(out)
    assert found is not None, out
    for datum in (found["data"] or "").split():
        assert DATUM.fullmatch(datum), datum
    return found


def test_a_certificate_from_its_declaration_to_order(host: Host, name: str) -> None:
    """Critical until it is issued, then in order, with what ends first; nothing is asked of any
    service, and no state is made.
    """
    before = host.run("check")
    assert CRITICAL == before.code
    assert "no run of `certferry sync` is recorded" in parsed(before.out)["said"]
    assert f"{name}: no certificate has been issued yet" in before.out
    assert not host.state.exists()
    assert 0 == host.run("sync").code

    after = host.run("check")

    assert (OK, "", RequestsMade()) == (after.code, after.err, after.left)
    found = parsed(after.out)
    days = re.fullmatch(rf"1 served, soonest (\d+) d \({re.escape(name)}\)", found["said"])
    assert days is not None, after.out
    assert ("OK", "") == (found["status"], found["more"])
    assert f"'soonest'={days[1]};" in found["data"]
    assert "'served'=1;;;0;1" in found["data"]

    document = host.run("check", name, "--json").document
    assert ("OK", []) == (document["status"], document["problems"])
    assert (name, int(days[1])) == (document["soonest"]["name"], document["soonest"]["days"])
    assert "OK - 1 个" in host.run("--lang", "zh", "check").out


def test_trouble_that_a_run_has_left_is_a_warning_until_it_is_over(host: Host, name: str) -> None:
    """Without any channel of notifications: what failed, since when, and what to do."""
    assert 0 == host.run("sync").code
    assert 1 == host.run("sync", "--renew", "--all", DP_Key="0" * 32).code

    found = host.run("check", "--json")

    assert WARNING == found.code
    (problem,) = found.document["problems"]
    assert (name, "WARNING", "dns_access_denied") == (
        problem["name"],
        problem["status"],
        problem["code"],
    )
    assert problem["since"] is not None
    assert problem["hint"]
    assert WARNING == host.run("check").code
    assert 0 == host.run("sync", "--renew", "--all").code
    assert OK == host.run("check").code


def test_a_drift_that_is_left_is_a_warning(world: World, host: Host, name: str) -> None:
    """The file leaves it like that, and the monitor says so."""
    host.run("sync")
    first = world.qiniu.bound(name)
    assert first is not None
    host.run("sync", "--renew", "--all")
    with_drift(host, "warn")
    set_by_hand(world, name, first)
    assert 0 == host.run("sync").code

    found = host.run("check", "--json")

    assert WARNING == found.code
    assert ["drifted"] == [one["code"] for one in found.document["problems"]]


def test_runs_that_stay_away(host: Host) -> None:
    """Told after two days, or after as many hours as one asks for."""
    host.run("sync")
    with host.remembering() as store:
        store.save_run(datetime.now(UTC) - timedelta(hours=30), succeeded=True)

    assert OK == host.run("check").code
    late = host.run("check", "--run-within", "24")
    assert WARNING == late.code
    assert "[run_overdue]" in parsed(late.out)["more"]


def test_a_key_file_that_is_gone_is_critical(host: Host) -> None:
    """No run gets anywhere without it, and the last one ended well."""
    host.run("sync")
    host.key_file.unlink()

    found = host.run("check")

    assert CRITICAL == found.code
    assert f"the key file {host.key_file} is missing" in parsed(found.out)["said"]


@pytest.mark.parametrize(
    ("before", "said"),
    [
        (["--log-file", "nowhere/log"], "the log nowhere/log cannot be written"),
        (["-v", "-q"], "-v and -q exclude each other"),
        (["--lang", "fr"], "invalid value for '--lang'"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_a_mistake_before_the_command_is_unknown(
    host: Host, before: list[str], said: str, *, as_json: bool
) -> None:
    """To a monitor 2 would be a catastrophe, and what is on stderr is not shown."""
    found = host.run(*before, "check", *(["--json"] if as_json else []))

    assert (UNKNOWN, "") == (found.code, found.err)
    if as_json:
        assert ("UNKNOWN", True) == (
            found.document["status"],
            found.document["summary"].startswith(said),
        )
    else:
        assert parsed(found.out)["said"].startswith(said)


def test_a_host_whose_clock_is_years_behind(host: Host) -> None:
    """What is recorded lies in the future: nothing can be said, and the fix is told."""
    host.run("sync")
    with host.remembering() as store:
        store.save_run(datetime.now(UTC) + timedelta(days=900), succeeded=True)

    found = host.run("check")

    assert UNKNOWN == found.code
    assert "this host's clock says" in found.out
    assert "set the clock" in found.out


def test_delivered_files_that_are_gone(world: World, name: str, tmp_path: object) -> None:
    """Each that a run has put in its place, and that is not there any more."""
    site = Site(world, tmp_path, name)  # type: ignore[arg-type]  # pytest's own type of it
    assert 0 == site.run("sync").code
    assert OK == site.run("check").code
    (site.ssl / "privkey.pem").unlink()

    found = site.run("check")

    assert WARNING == found.code
    assert f"{site.ssl / 'privkey.pem'} is missing" in found.out


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["check", "nobody"], "config", "there is no certificate called nobody"),
        (["check", "--nonsense"], "usage", "--nonsense"),
        (["check", "--run-within", "0"], "usage", "0"),
        (["check"], "config", "unknown key"),
    ],
    ids=["name", "option", "number", "file"],
)
def test_what_cannot_be_judged_is_unknown(
    host: Host, arguments: list[str], code: str, said: str, *, as_json: bool
) -> None:
    """A name or option that there is not, a file that cannot be read: 3, and never 1 or 2, which a
    monitor would take for a warning and a catastrophe.
    """
    if arguments == ["check"]:
        host.config.write_text(host.config.read_text() + "\n[nonsense]\na = 1\n")

    found = host.run(*arguments, *(["--json"] if as_json else []))

    assert (UNKNOWN, "") == (found.code, found.err)
    if as_json:
        document = json.loads(found.out)
        assert ("UNKNOWN", None) == (document["status"], document["soonest"])
        assert [code] == [one["code"] for one in document["problems"]]
        assert said in document["error"]["message"]
    else:
        assert "UNKNOWN" == parsed(found.out)["status"]
        assert said in found.out


def test_a_state_that_cannot_be_read_is_unknown(host: Host) -> None:
    """What is no state says nothing of certificates."""
    host.state.parent.mkdir(mode=0o700)
    host.state.write_text("this is no database, whatever it is called" * 100)
    host.state.chmod(0o600)

    found = host.run("check")

    assert UNKNOWN == found.code
    assert "is not a state of certferry" in parsed(found.out)["said"]


def test_without_a_certificate_nothing_is_watched(host: Host) -> None:
    """A file that declares none is no reason to say that all is well."""
    text = host.config.read_text()
    host.config.write_text(text.partition("[[certificates]]")[0])

    found = host.run("check")

    assert UNKNOWN == found.code
    assert "no certificate is declared" in parsed(found.out)["said"]


def test_many_problems_are_reported_in_few_lines(host: Host, name: str) -> None:
    """The first line has the cause of all: no run. The problems follow, and the rest is counted: an
    agent passes on a few thousand bytes.
    """
    more = [f"m{number}.{name}" for number in range(40)]
    host.config.write_text(host.config.read_text() + "".join(certificate(one) for one in more))

    found = host.run("check")

    rows = found.out.splitlines()
    assert (CRITICAL, MOST_DETAILS + 2) == (found.code, len(rows))
    assert "no run of `certferry sync` is recorded: 41 certificates |" in rows[0]
    assert "and 17 more" == rows[-1]
    assert len(found.out) < 8192
