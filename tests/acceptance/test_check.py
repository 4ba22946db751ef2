"""Answers of `certferry check` to a monitor, on a machine in a world."""

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
    r"CERTFERRY (?P<status>OK|WARNING|CRITICAL|UNKNOWN) - (?P<summary>[^|\n]+)"
    r"(?: \| (?P<data>'[^|\n]+))?\n(?P<more>[^|]*)"
)
DATUM = re.compile(r"'(\w+)'=(-?\d+);(-?\d*);(-?\d*);(\d*);?(\d*)")


def parsed(out: str) -> re.Match[str]:
    """Parse the plugin's output, and assert that monitors can read its performance data."""
    match = PLUGIN.fullmatch(out)
    assert match is not None, out
    for datum in (match["data"] or "").split():
        assert DATUM.fullmatch(datum), datum
    return match


def test_a_certificate_from_its_declaration_to_order(host: Host, name: str) -> None:
    """The check is critical before the order, and in order afterwards, with the soonest end.
    `check` sends no request and makes no state.
    """
    before = host.run("check")
    assert CRITICAL == before.code
    assert "no run of `certferry sync` is recorded" in parsed(before.out)["summary"]
    assert f"{name}: no certificate has been issued yet" in before.out
    assert not host.state.exists()
    assert 0 == host.run("sync").code

    after = host.run("check")

    assert (OK, "", RequestsMade()) == (after.code, after.err, after.left)
    result = parsed(after.out)
    days = re.fullmatch(rf"1 served, soonest (\d+) d \({re.escape(name)}\)", result["summary"])
    assert days is not None, after.out
    assert ("OK", "") == (result["status"], result["more"])
    assert f"'soonest'={days[1]};" in result["data"]
    assert "'served'=1;;;0;1" in result["data"]

    document = host.run("check", name, "--json").document
    assert ("OK", []) == (document["status"], document["problems"])
    assert (name, int(days[1])) == (document["soonest"]["name"], document["soonest"]["days"])
    assert "OK - 1 个" in host.run("--lang", "zh", "check").out


def test_refused_keys_are_critical_until_a_run_succeeds(host: Host, name: str) -> None:
    """The problem names the failure, its beginning and its remedy, until a run succeeds."""
    assert 0 == host.run("sync").code
    assert 1 == host.run("sync", "--renew", "--all", DP_Key="0" * 32).code

    check = host.run("check", "--json")

    assert CRITICAL == check.code
    (problem,) = check.document["problems"]
    assert (name, "CRITICAL", "dns_access_denied") == (
        problem["name"],
        problem["status"],
        problem["code"],
    )
    assert problem["since"] is not None
    assert problem["hint"]
    assert CRITICAL == host.run("check").code
    assert 0 == host.run("sync", "--renew", "--all").code
    assert OK == host.run("check").code


def test_key_refused_for_several_certificates_is_one_cause(host: Host, name: str) -> None:
    """`check` counts a single cause, `status` begins with the cause and lists each failure with
    `--all`, and both documents list the certificates of the cause.
    """
    names = [name, *(f"m{number}.{name}" for number in range(4))]
    more = "".join(certificate(certificate_name, to=None) for certificate_name in names[1:])
    host.config.write_text(host.config.read_text() + more)
    assert 1 == host.run("sync", DP_Key="0" * 32).code

    check, status = host.run("check"), host.run("status")

    line = check.out.splitlines()[0]
    assert "5 certificates" in line
    assert "more)" not in line
    assert status.out.startswith("cause: ")
    assert 1 == status.out.count("DNSPod does not accept")
    assert "5 certificates (" in status.out
    assert "and 2 more)" in status.out
    assert 5 == host.run("status", "--all").out.count("the last try at")
    assert "原因：" in host.run("--lang", "zh", "status").out
    (of_check,) = host.run("check", "--json").document["causes"]
    (of_status,) = host.run("status", "--json").document["causes"]
    for cause in (of_check, of_status):
        assert "dns_access_denied" == cause["code"]
        assert sorted(names) == sorted(cause["certificates"])
    assert 0 == host.run("sync").code
    assert OK == host.run("check").code


def test_a_drift_that_is_left_is_a_warning(world: World, host: Host, name: str) -> None:
    """With `drift = "warn"` a run leaves the drift alone, and the check warns."""
    host.run("sync")
    first = world.qiniu.bound(name)
    assert first is not None
    host.run("sync", "--renew", "--all")
    with_drift(host, "warn")
    set_by_hand(world, name, first)
    assert 0 == host.run("sync").code

    check = host.run("check", "--json")

    assert WARNING == check.code
    assert ["drifted"] == [problem["code"] for problem in check.document["problems"]]


def test_overdue_runs(host: Host) -> None:
    """The check warns after two days, or after the hours of `--run-within`."""
    host.run("sync")
    with host.remembering() as store:
        store.save_run(datetime.now(UTC) - timedelta(hours=30), succeeded=True)

    assert OK == host.run("check").code
    late = host.run("check", "--run-within", "24")
    assert WARNING == late.code
    assert "[run_overdue]" in parsed(late.out)["more"]


def test_a_key_file_that_is_gone_is_critical(host: Host) -> None:
    """The last run ended well, but every later run needs the key file."""
    host.run("sync")
    host.key_file.unlink()

    check = host.run("check")

    assert CRITICAL == check.code
    assert f"the key file {host.key_file} is missing" in parsed(check.out)["summary"]


@pytest.mark.parametrize(
    ("before", "message"),
    [
        (["--log-file", "nowhere/log"], "the log nowhere/log cannot be written"),
        (["-v", "-q"], "-v and -q exclude each other"),
        (["--lang", "fr"], "invalid value for '--lang'"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_a_mistake_before_the_command_is_unknown(
    host: Host, before: list[str], message: str, *, as_json: bool
) -> None:
    """The answer is 3, on stdout: a monitor takes 2 for a catastrophe and does not show stderr."""
    check = host.run(*before, "check", *(["--json"] if as_json else []))

    assert (UNKNOWN, "") == (check.code, check.err)
    if as_json:
        assert ("UNKNOWN", True) == (
            check.document["status"],
            check.document["summary"].startswith(message),
        )
    else:
        assert parsed(check.out)["summary"].startswith(message)


def test_a_host_whose_clock_is_years_behind(host: Host) -> None:
    """All records lie in the future: the standing is unknown, and the message says how to correct
    the clock.
    """
    host.run("sync")
    with host.remembering() as store:
        store.save_run(datetime.now(UTC) + timedelta(days=900), succeeded=True)

    check = host.run("check")

    assert UNKNOWN == check.code
    assert "this host's clock says" in check.out
    assert "set the clock" in check.out


def test_delivered_files_that_are_gone(world: World, name: str, tmp_path: object) -> None:
    """The check warns of a delivered file that is missing."""
    site = Site(world, tmp_path, name)  # type: ignore[arg-type]  # pytest declares another type
    assert 0 == site.run("sync").code
    assert OK == site.run("check").code
    (site.ssl / "privkey.pem").unlink()

    check = site.run("check")

    assert WARNING == check.code
    assert f"{site.ssl / 'privkey.pem'} is missing" in check.out


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["check", "nobody"], "config", "there is no certificate called nobody"),
        (["check", "--nonsense"], "usage", "--nonsense"),
        (["check", "--run-within", "0"], "usage", "0"),
        (["check"], "config", "unknown key"),
    ],
    ids=["name", "option", "number", "file"],
)
def test_what_cannot_be_judged_is_unknown(
    host: Host, arguments: list[str], code: str, words: str, *, as_json: bool
) -> None:
    """An unknown name or option and an unreadable file end with 3, because a monitor takes 1 for a
    warning and 2 for a catastrophe.
    """
    if arguments == ["check"]:
        host.config.write_text(host.config.read_text() + "\n[nonsense]\na = 1\n")

    check = host.run(*arguments, *(["--json"] if as_json else []))

    assert (UNKNOWN, "") == (check.code, check.err)
    if as_json:
        document = json.loads(check.out)
        assert ("UNKNOWN", None) == (document["status"], document["soonest"])
        assert [code] == [problem["code"] for problem in document["problems"]]
        assert words in document["error"]["message"]
    else:
        assert "UNKNOWN" == parsed(check.out)["status"]
        assert words in check.out


def test_a_state_that_cannot_be_read_is_unknown(host: Host) -> None:
    """A file that is not a state says nothing about certificates."""
    host.state.parent.mkdir(mode=0o700)
    host.state.write_text("this is no database, whatever it is called" * 100)
    host.state.chmod(0o600)

    check = host.run("check")

    assert UNKNOWN == check.code
    assert "is not a state of certferry" in parsed(check.out)["summary"]


def test_without_a_certificate_nothing_is_watched(host: Host) -> None:
    """A file that declares no certificate is UNKNOWN, not OK."""
    text = host.config.read_text()
    host.config.write_text(text.partition("[[certificates]]")[0])

    check = host.run("check")

    assert UNKNOWN == check.code
    assert "no certificate is declared" in parsed(check.out)["summary"]


def test_many_problems_are_reported_in_few_lines(host: Host, name: str) -> None:
    """The first line names the common cause: no run. Some problems follow, and the last line counts
    the others, because an agent passes on a few thousand bytes.
    """
    more = [f"m{number}.{name}" for number in range(40)]
    host.config.write_text(
        host.config.read_text() + "".join(certificate(domain) for domain in more)
    )

    check = host.run("check")

    rows = check.out.splitlines()
    assert (CRITICAL, MOST_DETAILS + 2) == (check.code, len(rows))
    assert "no run of `certferry sync` is recorded: 41 certificates |" in rows[0]
    assert "and 17 more" == rows[-1]
    assert len(check.out) < 8192
