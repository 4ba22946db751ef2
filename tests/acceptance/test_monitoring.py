"""Reports to monitors: a heartbeat, and a file of metrics that the real promtool reads."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator

import pytest

from certferry_sandbox.faults import Fault
from certferry_sandbox.heartbeat import CHECK, HeartbeatService
from certferry_sandbox.messages import event_receiver
from certferry_sandbox.messages.event_receiver import EventReceiver
from tests.acceptance.host import Host, Run
from tests.support.programs import program_path
from tests.support.tiers import long, sampled, thorough

OK, FAILED = 0, 1
WARNING = 1
SAMPLE = re.compile(r"^(\w+)(\{.*\})? (-?\d+)$", re.MULTILINE)


@pytest.fixture
def service() -> Iterator[HeartbeatService]:
    with HeartbeatService() as running:
        yield running
        assert [] == running.mistakes


@pytest.fixture
def monitored(host: Host, service: HeartbeatService) -> Host:
    declare(host, f'[heartbeat]\nurl = "{service.address}"\n')
    return host


def declare(host: Host, tables: str) -> None:
    host.config.write_text(f"{host.config.read_text()}\n{tables}")


def must_hide(run: Run, service: HeartbeatService) -> None:
    """Assert that the run hides the address of the check: the address would be enough to report
    success.
    """
    assert [] == [secret for secret in (CHECK, service.url) if secret in run.out + run.err]


def test_a_run_reports_its_beginning_and_its_end(
    monitored: Host, service: HeartbeatService, name: str
) -> None:
    """Both pings of a run carry the same `rid`, and the second ping carries the run's last lines. A
    run that ends in a wait counts as success.
    """
    waits = monitored.run("sync", "--no-wait")
    assert 75 == waits.code
    ends = monitored.run("sync")
    assert OK == ends.code

    kinds = [ping.kind for ping in service.pings]
    assert ["start", "success", "start", "success"] == kinds
    runs = [ping.rid for ping in service.pings]
    assert runs[0] == runs[1] != runs[2] == runs[3]
    assert name in service.pings[1].said
    assert "verify" in service.pings[3].said
    for run in (waits, ends):
        must_hide(run, service)


def test_a_failed_run_reports_a_failure(monitored: Host, service: HeartbeatService) -> None:
    """The ping names the failure and its reason, and hides the secret."""
    run = monitored.run("sync", DP_Key="0" * 32)

    assert FAILED == run.code
    assert ["start", "fail"] == [ping.kind for ping in service.pings]
    assert "failed" in service.pings[1].said
    assert "0" * 32 not in service.pings[1].said
    must_hide(run, service)


def test_a_run_that_ends_early_reports_a_failure(
    monitored: Host, service: HeartbeatService
) -> None:
    """An unset variable ends the run at once, and the ping says so."""
    run = monitored.run("sync", DP_Key="")

    assert 2 == run.code
    assert ["start", "fail"] == [ping.kind for ping in service.pings]
    assert "DP_Key" in service.pings[1].said


def test_only_run_ended_early(host: Host) -> None:
    """`check` and `status` report the beginning of the run, beside the error that ended the run."""
    assert "no run of `certferry sync` is recorded" in host.run("check").out
    assert 0 == host.run("state", "init").code
    assert 0 != host.run("sync", DP_Key="").code

    check, status = host.run("check").out, host.run("status").out

    assert "no run of `certferry sync` has ended: one started at 20" in check
    assert "no run has ended yet: one started at 20" in status


def test_only_a_run_for_all_certificates_is_a_heartbeat(
    monitored: Host, service: HeartbeatService, name: str
) -> None:
    """A ping after a run by hand for one certificate would hide that the schedule starts no run."""
    monitored.run("sync", name, "--no-wait")
    monitored.run("plan")
    monitored.run("check")

    assert [] == service.pings


def test_long_words_are_cut_to_the_services_limit(host: Host, name: str) -> None:
    """The end of the words is kept, in whole characters; the service tells its limit in bytes."""
    with HeartbeatService(limit=41) as service:
        declare(host, f'[heartbeat]\nurl = "{service.address}"\n')
        assert 75 == host.run("--lang", "zh", "sync", "--no-wait").code

    assert [] == service.mistakes
    assert 0 < len(service.pings[1].said.encode()) <= 41


def test_no_more_than_five_pings_a_minute(monitored: Host, service: HeartbeatService) -> None:
    """The service counts five pings a minute; pings for the ends of runs take precedence."""
    assert OK == monitored.run("sync").code
    for _ in range(3):
        again = monitored.run("sync")
        assert (OK, "") == (again.code, again.err)

    kinds = [ping.kind for ping in service.pings]
    assert ["start", "success", "start", "success", "success"] == kinds


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault.status(404), "the service does not know the check"),
        (Fault.status(200, b"OK (not found)", "text/plain"), "the service does not know the check"),
        (
            Fault.status(200, b"OK (rate limited)", "text/plain"),
            "the service received too many pings",
        ),
        (Fault.status(500), "the service answered with status 500"),
        (Fault.status(301, headers=[("Location", "http://127.0.0.1:9/")]), "redirect"),
        (Fault.status(200, b"x" * 2_000_000, "text/plain"), "answer"),
        (Fault.reset_before(), "heartbeat"),
    ],
    ids=["unknown", "unknown in 200", "often", "broken", "redirect", "megabytes", "reset"],
)
def test_a_heartbeat_that_is_down_changes_nothing_of_a_run(
    monitored: Host, service: HeartbeatService, fault: Fault, words: str
) -> None:
    """The run does all its work and ends with the certificates' exit code. A single warning names
    the heartbeat's problem and its remedy; `check` and `status` report the problem until the
    service takes a ping.
    """
    service.faults.add(fault, times=None)

    run = monitored.run("sync")

    assert OK == run.code
    [warning] = [row for row in run.err.splitlines() if "[heartbeat]" in row]
    assert warning.startswith("warning: [heartbeat]: ")
    assert words in warning
    assert "(hint: " in warning
    must_hide(run, service)
    check = monitored.run("check")
    assert WARNING == check.code
    assert 1 == check.out.count("[heartbeat_missed]")
    (problem,) = monitored.run("check", "--json").document["problems"]
    assert (None, "[heartbeat]") == (problem["domain"], problem["channel"])
    shown = monitored.run("status")
    assert (OK, 1) == (shown.code, shown.out.count("[heartbeat]: since "))
    (trouble,) = monitored.run("status", "--json").document["troubles"]
    assert ("heartbeat_missed", "[heartbeat]") == (trouble["code"], trouble["channel"])
    service.faults.clear()
    assert (OK, "") == (monitored.run("sync").code, monitored.run("sync").err)
    assert [] == monitored.run("status", "--json").document["troubles"]
    assert OK == monitored.run("check").code


def test_problems_of_monitors_are_reported_once_by_the_channels(
    monitored: Host, service: HeartbeatService
) -> None:
    """A single message reports both problems, in the run after the discovery. Four more runs are
    silent, although the minute has no ping left, and a final message reports the recovery.
    Meanwhile `status` lists both problems.
    """
    service.faults.add(Fault.status(404), times=None)
    with EventReceiver() as hook:
        declare(monitored, '[metrics]\nfile = "nowhere/certferry.prom"\n')
        declare(monitored, f'[notify.hook]\ntype = "webhook"\nurl = "{hook.address}"\n')
        declare(monitored, f'secret = "{event_receiver.SECRET}"\n')

        for _ in range(6):
            run = monitored.run("sync")
            assert OK == run.code
            must_hide(run, service)
        [begun] = hook.events
        status = monitored.run("status")
        document = monitored.run("status", "--json").document
        service.faults.clear()
        (monitored.directory / "nowhere").mkdir()
        with monitored.remembering() as store:
            store.update_account_note("[heartbeat]", "sent", lambda _: None)  # a minute later
        assert [OK, OK] == [monitored.run("sync").code for _ in range(2)]
        assert [] == monitored.run("status", "--json").document["troubles"]
        [_, over] = hook.events

    codes = {"heartbeat_missed", "metrics_missed"}
    assert codes == {event["code"] for event in begun["events"]}
    assert all(event["hint"] for event in begun["events"])
    assert [("recovered", code) for code in sorted(codes)] == sorted(
        (event["event"], event["code"]) for event in over["events"]
    )
    assert re.search(
        r"^\[heartbeat\]: since .*: the service does not know the check$", status.out, re.MULTILINE
    )
    assert re.search(r"^\[metrics\]: since .*nowhere", status.out, re.MULTILINE)
    assert 2 == status.out.count("hint: ")
    assert codes == {trouble["code"] for trouble in document["troubles"]}
    must_hide(status, service)


NOTES = {
    "deep": "[" * 99_999,
    "no zone": '["2026-01-01T00:00:00"]',
    "a number in a list": "[5]",
    "an object": "{}",
    "a number": "5",
    "a word": "x",
    "endless": '[["a", "b", 1e999]]',
}


@pytest.mark.parametrize("kind", sampled([*NOTES], 3))
def test_notes_that_another_program_wrote(
    monitored: Host, service: HeartbeatService, kind: str
) -> None:
    """Foreign notes are ignored: the run ends in order, pings, and counts anew."""
    note = NOTES[kind]
    declare(monitored, '[metrics]\nfile = "certferry.prom"\n')
    assert OK == monitored.run("sync").code
    with monitored.remembering() as store:
        for account, name in (("[heartbeat]", "sent"), ("[certificates]", "files")):
            store.update_account_note(account, name, lambda _: note)
        store.update_host_note("[metrics]", "steps", lambda _: note)

    run = monitored.run("sync")

    assert (OK, "") == (run.code, run.err)
    assert OK == monitored.run("check").code


@thorough
@long
def test_a_heartbeat_that_hangs_holds_a_run_up_for_seconds(
    monitored: Host, service: HeartbeatService
) -> None:
    """The delay stays within the promised time."""
    monitored.run("sync", certificate_name(monitored))
    service.faults.add(Fault.delay(60), times=None)
    began = time.monotonic()

    run = monitored.run_apart("sync")

    assert OK == run.code
    assert "[heartbeat]" in run.err
    assert time.monotonic() - began < 20


def certificate_name(host: Host) -> str:
    match = re.search(r'^name = "(.*)"$', host.config.read_text(), re.MULTILINE)
    assert match is not None
    return match[1]


def test_malformed_heartbeat_address(host: Host) -> None:
    """A wrong address in the file is refused; behind a variable the address is a single warning
    with its remedy, and the run continues.
    """
    declare(host, '[heartbeat]\nurl = "hc-ping.com/secret-check"\n')
    refused = host.run("plan")
    host.rewrite('"hc-ping.com/secret-check"', '"env:HC"')

    run = host.run("sync", HC="hc-ping.com/secret-check")

    assert 2 == refused.code
    assert "[heartbeat] url: must be a URL, for example https://host/path" in refused.err
    assert "secret-check" not in refused.err

    assert OK == run.code
    assert 1 == run.err.count("warning: ")
    assert "[heartbeat]: `url` must be a complete address" in run.err
    assert "secret-check" not in run.err


def samples(text: str) -> dict[str, int]:
    """Return the samples of a file, by name and labels."""
    return {name + labels: int(value) for name, labels, value in SAMPLE.findall(text)}


def promtool(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program_path("promtool"), *arguments],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )


def test_prometheus_can_read_the_metrics(host: Host, name: str) -> None:
    """The file uses the names of docs/how-to/monitoring.md and true times, and promtool does not
    complain. Another user's collector can read the file.
    """
    file = host.directory / "certferry.prom"
    declare(host, f'[metrics]\nfile = "{file}"\n')
    assert OK == host.run("sync").code

    text = file.read_text()

    assert 0o644 == file.stat().st_mode & 0o777
    checked = promtool("check", "metrics", text=text)
    assert (0, "", "") == (checked.returncode, checked.stdout, checked.stderr)
    values = samples(text)
    status = host.run("status", "--json").document["certificates"][0]
    place = f'name="{name}",target="qiniu",domain="{name}"'
    fingerprint = status["fingerprint"]
    of = f'_timestamp_seconds{{name="{name}"}}'
    ends = values[f"certferry_certificate_not_after{of}"]
    begins = values[f"certferry_certificate_not_before{of}"]
    assert begins < values[f"certferry_certificate_renewal{of}"] < ends
    assert ends - 30 * 86400 == values[f"certferry_certificate_upload_deadline{of}"]
    assert 1 == values[f"certferry_domain_served{{{place}}}"]
    assert (
        1 == values[f'certferry_domain_served_info{{{place},fingerprint_sha256="{fingerprint}"}}']
    )
    assert abs(time.time() - values["certferry_last_run_timestamp_seconds"]) < 60
    assert (
        values["certferry_last_run_timestamp_seconds"]
        == values["certferry_last_success_timestamp_seconds"]
    )
    issued = 'certferry_steps_total{action="issue",outcome="done"}'
    assert 1 == values[issued]
    host.run("sync")
    after = samples(file.read_text())
    assert 1 == after[issued]
    assert (
        values["certferry_last_run_timestamp_seconds"]
        <= (after["certferry_last_run_timestamp_seconds"])
    )
    unchanged = 'certferry_steps_total{action="verify",outcome="unchanged"}'
    assert values.get(unchanged, 0) + 1 == after[unchanged], after


def test_metrics_after_a_failure(host: Host) -> None:
    """The time of the last run is present, and the time of the last success is absent."""
    file = host.directory / "certferry.prom"
    declare(host, f'[metrics]\nfile = "{file}"\n')
    assert FAILED == host.run("sync", DP_Key="0" * 32).code

    values = samples(file.read_text())

    assert "certferry_last_run_timestamp_seconds" in values
    assert "certferry_last_success_timestamp_seconds" not in values
    assert 1 == values['certferry_steps_total{action="issue",outcome="failed"}']
    causes = {name: count for name, count in values.items() if name.startswith("certferry_causes")}
    assert {'certferry_causes{code="dns_access_denied",severity="error"}': 1} == causes
    assert 0 == promtool("check", "metrics", text=file.read_text()).returncode


@pytest.mark.parametrize(
    ("file", "message", "fix"),
    [
        ("nowhere/certferry.prom", "No such file", "create the directory"),
        (
            "/proc/certferry.prom",
            "/proc/certferry.prom cannot be written",
            "allow certferry's user to write",
        ),
        ("taken.prom", "taken.prom cannot be written", "is a directory"),
    ],
    ids=["no directory", "not allowed", "a directory"],
)
def test_metrics_that_cannot_be_written_change_nothing_of_a_run(
    host: Host, file: str, message: str, fix: str
) -> None:
    """A single warning names the fix; the certificates are issued and deployed, and `check` reports
    the problem.
    """
    (host.directory / "taken.prom").mkdir()
    declare(host, f'[metrics]\nfile = "{file}"\n')

    run = host.run("sync")

    assert OK == run.code
    assert 1 == run.err.count("warning: ")
    words = " ".join(run.err.split())
    assert "[metrics]: " in words
    assert message.lower() in words.lower()
    assert fix in words
    assert "[metrics_missed]" in host.run("check").out
    host.rewrite(f'file = "{file}"', 'file = "good.prom"')
    assert (OK, "") == (host.run("sync").code, host.run("sync").err)
    assert OK == host.run("check").code
    assert [] == [path.name for path in host.directory.glob(".*.prom*")]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('[metrics]\nfile = "certferry.txt"', "must end with .prom"),
        ("[metrics]", "file: missing"),
        ("[heartbeat]", "url: missing"),
        ('[heartbeat]\nuri = "https://x"', "did you mean url"),
    ],
)
def test_tables_that_are_wrong_are_reported_when_the_file_is_read(
    host: Host, table: str, message: str
) -> None:
    """The message suggests the nearest valid spelling."""
    declare(host, table + "\n")

    run = host.run("plan")

    assert 2 == run.code
    assert message in run.err


@pytest.mark.parametrize("options", [(), ("-v",)], ids=["plain", "-v"])
def test_a_malformed_header_shows_no_address(
    monitored: Host, service: HeartbeatService, options: tuple[str, ...]
) -> None:
    """urllib3 warns with the check's whole address: only -v shows the warning, with the address
    masked.
    """
    for _ in range(2):
        headers = [("Connection", "close"), ("X-Proxy", "one\r\na line of no header")]
        service.faults.add(Fault.status(200, b"OK", headers=headers))
    log = monitored.directory / "log"

    run = monitored.run(*options, "--log-file", str(log), "sync", "--no-wait")

    for words in (run.err, log.read_text()):
        assert bool(options) == ("Failed to parse headers" in words)
        assert CHECK not in words
