"""Certificates in public logs, from the first look to the end of an alarm, on a machine in a
world.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests

from certferry.core.certificates.pem import digests_of_leaf, parse_certificates
from certferry_sandbox.authority import Authority
from certferry_sandbox.certspotter import CertSpotterService
from certferry_sandbox.faults import Fault
from certferry_sandbox.httpd import HttpService, Response
from certferry_sandbox.messages.event_receiver import SECRET, EventReceiver
from tests.acceptance.host import Host

DOMAIN = "example.com"
OK, FAILED, WARNING = 0, 1, 1
NOW = datetime.now(UTC)
OLD, LATER = NOW - timedelta(days=20), NOW + timedelta(days=60)


@pytest.fixture
def logs() -> Iterator[CertSpotterService]:
    with CertSpotterService() as service:
        yield service


@pytest.fixture
def watching(host: Host, logs: CertSpotterService) -> Host:
    """Return a machine that looks at the logs."""
    text = host.config.read_text()
    host.config.write_text(f'{text}\n[ct]\nwatch = true\napi = "{logs.url}"\nexpected = [\n]\n')
    return host


def log_foreign(logs: CertSpotterService, *names: str, since: datetime = OLD) -> str:
    """Log a certificate of another CA, and return the log's id."""
    leaf = Authority("Harbour").issue(names, since, LATER).leaf
    return logs.log(leaf, "Harbour CA")


def half_a_day_passes(state: Path) -> None:
    """Make the stored looks and discoveries earlier: the clock of a machine is real."""
    with closing(sqlite3.connect(state, isolation_level=None)) as raw:
        for table, column in (("watched_domain", "looked_at"), ("found_certificate", "found_at")):
            raw.execute(
                f"UPDATE {table} SET {column} ="  # noqa: S608 - constants of this test
                f" strftime('%Y-%m-%dT%H:%M:%f000Z', {column}, '-12 hours')"
            )


def standings(host: Host) -> dict[str, str]:
    document = host.run("ct", "--json").document
    return {each["names"][0]: each["standing"] for each in document["certificates"]}


def test_from_the_baseline_to_the_end_of_an_alarm(
    watching: Host, logs: CertSpotterService, hook: EventReceiver, name: str
) -> None:
    """The first look raises no alarm. Later, certferry's own certificate is known, a foreign one
    for the same name raises an alarm everywhere, once, and the printed line ends the alarm.
    """
    watching.config.write_text(
        watching.config.read_text()
        + f'\n[notify.ops]\ntype = "webhook"\nurl = "{hook.address}"\nsecret = "{SECRET}"\n'
    )
    log_foreign(logs, "old.example.com")
    assert OK == watching.run("sync").code
    assert {"old.example.com": "baseline"} == standings(watching)
    assert OK == watching.run("check").code
    sent = len(hook.events)

    with watching.remembering() as state:
        own = state.bundle(name, 1).cert_pem
    logs.log(parse_certificates(own)[0])
    log_foreign(logs, name, "shop.example.com")
    asked = len(logs.http.requests())
    assert OK == watching.run("sync").code
    assert asked == len(logs.http.requests())
    half_a_day_passes(watching.state)
    assert OK == watching.run("sync").code

    shown = watching.run("ct")
    assert FAILED == shown.code
    assert {"old.example.com": "baseline", name: "alarm"} == standings(watching)
    line = f'{{ issuer = "Harbour CA", names = ["{name}", "shop.example.com"] }}'
    assert line in shown.out
    assert "Harbour CA 签发" not in shown.out
    assert "告警" in watching.run("--lang", "zh", "ct").out
    check = watching.run("check", "--json")
    assert (WARNING, ["certificate_not_ordered"]) == (
        check.code,
        [problem["code"] for problem in check.document["problems"]],
    )
    assert line in watching.run("status").out
    assert OK == watching.run("sync").code
    events = [event for message in hook.events[sent:] for event in message["events"]]
    assert ["certificate_not_ordered"] == [event["code"] for event in events]
    assert DOMAIN == events[0]["domain"]

    watching.rewrite("expected = [\n", f"expected = [\n    {line},\n")
    assert OK == watching.run("check").code
    assert OK == watching.run("ct").code
    assert {"old.example.com": "baseline", name: "expected"} == standings(watching)
    assert OK == watching.run("sync").code
    assert "recovered" == hook.events[-1]["events"][0]["event"]


def test_record_that_would_have_prevented_the_certificate(
    watching: Host, logs: CertSpotterService, name: str
) -> None:
    """After an alarm `doctor` prints the CAA record with the account; before, nothing."""
    pebble = watching.world.pebble.directory_url
    directory = requests.get(pebble, verify=str(watching.world.pebble.ca_bundle), timeout=30).json()
    directory["meta"]["caaIdentities"] = ["ca.test"]
    with HttpService(lambda _: Response(200, json.dumps(directory).encode())) as ca:
        watching.rewrite(pebble, f"{ca.url}/dir")
        assert OK == watching.run("sync").code
        assert "caa_open" not in watching.run("doctor", "--json").out
        half_a_day_passes(watching.state)
        log_foreign(logs, name)
        assert OK == watching.run("sync").code

        findings = watching.run("doctor", "--json").document["findings"]

        with watching.remembering() as state:
            account = state.account(f"{ca.url}/dir")
    assert account is not None
    [finding] = [each for each in findings if each["code"] == "caa_open"]
    assert DOMAIN == finding["subject"]
    value = f"ca.test; accounturi={account.url}; validationmethods=dns-01"
    assert f'`{DOMAIN}. CAA 0 issue "{value}"`' in finding["fix"]


def test_silent_service_holds_nothing_up(watching: Host, logs: CertSpotterService) -> None:
    """A failed look fails no run; the silence is shown, and a trouble after three days."""
    for fault in (Fault.html(200), Fault.status(500), Fault.status(200, b"[" * 9999)):
        logs.http.faults.add(fault, times=2)
        assert OK == watching.run("sync").code
        (domain,) = watching.run("ct", "--json").document["domains"]
        assert (DOMAIN, None, False) == (domain["domain"], domain["looked_at"], domain["silent"])
        assert domain["problem"]["message"]
        logs.http.faults.clear()
    with closing(sqlite3.connect(watching.state, isolation_level=None)) as raw:
        raw.execute("UPDATE watched_domain SET since = '2026-01-01T00:00:00.000000Z'")

    assert WARNING == watching.run("check").code
    assert FAILED == watching.run("ct").code
    assert "since 2026-01-01 00:00 UTC" in watching.run("ct").out
    assert OK == watching.run("sync").code
    assert OK == watching.run("check").code


def test_run_of_one_certificate_asks_no_service(
    watching: Host, logs: CertSpotterService, name: str
) -> None:
    """Only runs of all certificates look, and without `watch` no run does."""
    assert OK == watching.run("sync", name).code
    watching.rewrite("watch = true", "watch = false")
    assert OK == watching.run("sync").code

    assert [] == logs.http.requests()
    off = watching.run("ct")
    assert OK == off.code
    assert "watch = true" in off.err


def test_own_certificate_whose_download_failed(
    watching: Host, logs: CertSpotterService, name: str
) -> None:
    """The log shows the certificate of an order; the state has the order's key alone."""
    assert OK == watching.run("sync").code
    with watching.remembering() as state:
        own = state.bundle(name, 1).cert_pem
    with closing(sqlite3.connect(watching.state, isolation_level=None)) as raw:
        tables = ("sighting", "upload", "rollout", "version_pem", "version")
        for table in tables:
            raw.execute(f"DELETE FROM {table}")  # noqa: S608 - constants of this test
    logs.log(parse_certificates(own)[0])
    half_a_day_passes(watching.state)

    assert OK == watching.run("sync").code

    assert {} == standings(watching)
    with watching.remembering() as state:
        assert digests_of_leaf(own) == state.own_among(digests_of_leaf(own))
