"""The reading commands: status, check, watch; the machine stays unchanged."""

from __future__ import annotations

import json
import re
import signal
import socket
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from certferry_sandbox.faults import Fault
from certferry_sandbox.testing.certificates import make_bundle
from certferry_sandbox.world import World
from tests.acceptance.host import Host, certificate
from tests.acceptance.requests_made import assert_nothing_written
from tests.adapters.probe.odd_edge import odd_edge
from tests.support.tiers import sampled

# --- The reading commands leave the machine unchanged


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["plan"], 0),
        (["plan", "--check"], 4),
        (["status"], 1),
        (["discover"], 0),
        (["history"], 0),
        (["export", "img.example.com", "--dir", "exported"], 1),
    ],
    ids=["plan", "check", "status", "discover", "history", "export"],
)
def test_no_state_is_made(host: Host, name: str, command: list[str], code: int) -> None:
    """Before the first sync a reading command leaves the directory unchanged and makes no state."""
    words = [name if word == "img.example.com" else word for word in command]
    before = sorted(host.directory.rglob("*"))

    run = host.run(*words)

    assert code == run.code, run
    assert_nothing_written(run.left)
    assert before == sorted(host.directory.rglob("*"))


@pytest.mark.parametrize("command", sampled(["plan", "status", "discover", "watch"], 2))
def test_ctrl_c_waits_for_no_silent_host(host: Host, name: str, command: str) -> None:
    """A reading command has no work to undo, and ends long before the time-out of an answer."""
    with socket.create_server(("127.0.57.3", 0)) as silent:
        address, port = silent.getsockname()
        silent.settimeout(20)
        host.rewrite(host.world.qiniu.api_url, f"http://{address}:{port}")
        host.rewrite(f"port = {host.world.qiniu.edges.port}\n", f"port = {port}\n")
        words = [command] if command != "watch" else [command, name]
        if command == "watch":
            host.world.zones.seed(f"{name}.qiniudns.com", "A", address)
        with host.begin(*words) as process:
            guest, _ = silent.accept()
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=8)
        guest.close()

    reported = [row for row in err.splitlines() if not row.startswith("qiniu: ")]
    assert (130, "", ["stopped"]) == (process.returncode, out, reported)


def with_a_negative_serial(der: bytes) -> bytes:
    """Set the sign bit in the first byte of the serial number (X.690 §8.3)."""
    version = b"\xa0\x03\x02\x01\x02"  # of an X.509 v3 certificate; the serial number follows
    head, _, tail = der.partition(version)
    return head + version + tail[:2] + b"\x80" + tail[3:]


def test_foreign_certificate_that_a_library_warns_of(host: Host, name: str, tmp_path: Path) -> None:
    """The address has a problem, and the library's warning does not reach the terminal."""
    address = "127.0.59.7"
    host.world.zones.seed(f"{name}.qiniudns.com", "A", address)

    with odd_edge(address, host.world.qiniu.edges.port, name, with_a_negative_serial, tmp_path):
        watch = host.run_apart("watch", name)
        status = host.run_apart("status")

    assert (1, "") == (watch.code, watch.err)
    assert address in watch.out
    assert (1, "") == (status.code, status.err), status


# --- `certferry status`: the last failure of each row, missing files, and the order of the rows


OK, FAILED = 0, 1
WRONG = "0123456789abcdef" * 2


def of(document: Any, lineage: str) -> Any:
    return next(each for each in document["certificates"] if each["name"] == lineage)


def minutes_ago(moment: str) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(moment)) / timedelta(minutes=1)


def test_refused_key_is_reported_until_a_run_has_mended_it(host: Host, name: str) -> None:
    """The status shows the code, message and hint of the run, the beginning and the next try, until
    a run succeeds.
    """
    before = host.run("status", "--json")
    failed = host.run("sync", "--json", DP_Key=WRONG)
    (step,) = (s for s in of(failed.document, name)["steps"] if s["outcome"] == "failed")

    reported, status = host.run("status"), host.run("status", "--json")

    assert (FAILED, False, None) == (
        before.code,
        before.document["ok"],
        before.document["last_run"],
    )
    assert (FAILED, FAILED, False) == (reported.code, status.code, status.document["ok"])
    row = of(status.document, name)
    failure = row["last_failure"]
    assert ("missing", step["code"], step["detail"], step["hint"]) == (
        row["state"],
        failure["code"],
        failure["message"],
        failure["hint"],
    )
    assert minutes_ago(failure["since"]) < 2
    assert minutes_ago(failure["at"]) < 2
    assert datetime.fromisoformat(failure["again_at"]) > datetime.fromisoformat(failure["at"])
    assert re.search(
        rf"{name}: the last try at .* UTC failed: {re.escape(step['detail'])}", reported.out
    )
    assert "the next run after " in reported.out
    last = status.document["last_run"]
    assert None is last["succeeded_at"]
    assert re.search(r"^last success +none$", reported.out, re.MULTILINE)

    assert OK == host.run("sync").code
    mended, document = host.run("status"), host.run("status", "--json").document

    assert (OK, True) == (mended.code, document["ok"])
    assert None is of(document, name)["last_failure"]
    assert "failed" not in mended.out
    assert document["last_run"]["ended_at"] == document["last_run"]["succeeded_at"]


def test_refused_upload_is_a_failure_and_stands_first(world: World, host: Host, name: str) -> None:
    """The domain is failed rather than pending, and stands before a certificate in order."""
    assert OK == host.run("sync").code
    second = f"b.{name}"
    world.add_http_domain(second)
    host.config.write_text(host.config.read_text() + certificate(second))
    refusal = Fault.status(400, b'{"code":400322,"error":"cert pem parse failed"}')
    world.qiniu.api.faults.add(refusal, on="POST /sslcert", times=None)
    world.qiniu.fusion.faults.add(refusal, on="POST /sslcert", times=None)
    run = host.run("sync", "--json")
    assert FAILED == run.code
    assert f"certferry sync --renew {second}`" in str(run.document)

    reported, document = host.run("status"), host.run("status", "--json").document

    (domain,) = of(document, second)["domains"]
    assert "failed" == domain["state"]
    assert domain["last_failure"]["code"].startswith("target_")
    assert FAILED == reported.code
    assert re.search(rf"^  {second} +failed ", reported.out, re.MULTILINE)
    assert f"{second}: the last try at " in reported.out
    assert reported.out.index(f"\n{second} ") < reported.out.index(f"\n{name} ")
    assert [name, second] == [each["name"] for each in document["certificates"]]
    assert None is of(document, name)["domains"][0]["last_failure"]


def test_lost_key_file_is_reported(host: Host, name: str) -> None:
    """The status still shows the certificates."""
    assert OK == host.run("sync").code
    host.key_file.rename(host.key_file.with_suffix(".lost"))

    reported, document = host.run("status"), host.run("status", "--json")

    assert (FAILED, FAILED) == (reported.code, document.code)
    assert document.document["problem"]["code"].startswith("state")
    assert not document.document["ok"]
    assert f"error: {document.document['problem']['message'].splitlines()[0]}" in reported.out
    assert re.search(rf"^  {name} +verified ", reported.out, re.MULTILINE)


def test_files_that_are_gone_are_reported(host: Host) -> None:
    """If a source's files are gone, the status shows the certificate from the last reading, and
    says so. If a target's files are gone, the target has drifted.
    """
    bundle = make_bundle("static.example.com", not_before=datetime.now(UTC) - timedelta(days=1))
    source, target = host.directory / "source", host.directory / "target"
    source.mkdir()
    (source / "fullchain.pem").write_text(bundle.fullchain_pem)
    (source / "privkey.pem").write_text(bundle.privkey_pem.reveal())
    (source / "privkey.pem").chmod(0o600)
    head, _, _ = host.config.read_text().partition("[[certificates]]")
    host.config.write_text(
        f"""{head}
[[certificates]]
name = "static"
fullchain = "{source / "fullchain.pem"}"
privkey = "{source / "privkey.pem"}"
[[certificates.deploy]]
to = "files"
directory = "{target}"
"""
    )
    assert OK == host.run("sync").code
    for file in target.iterdir():
        file.unlink()
    drifted = of(host.run("status", "--json").document, "static")
    (source / "fullchain.pem").unlink()

    reported, document = host.run("status"), host.run("status", "--json").document

    (domain,) = drifted["domains"]
    assert ("drifted", "delivery_drifted") == (domain["state"], domain["problem"]["code"])
    assert ("valid", None) == (drifted["state"], drifted["problem"])
    row = of(document, "static")
    assert (FAILED, "unreadable") == (reported.code, row["state"])
    assert "fullchain.pem" in row["problem"]["message"]
    assert re.search(r"^static +unreadable ", reported.out, re.MULTILINE)
    assert "shown below: the certificate read from the files at " in reported.out


def test_people_read_local_times(host: Host, name: str) -> None:
    """The texts and the table have local times with an offset; programs get UTC."""
    assert OK == host.run("sync").code
    with closing(sqlite3.connect(host.state)) as database:
        moment = "2026-11-24T20:30:00.000000Z"
        database.execute("UPDATE last_run SET ended_at = ?, succeeded_at = ?", (moment, moment))
        database.commit()

    reported = host.run_apart("status", TZ="Asia/Shanghai")
    document = host.run_apart("status", "--json", TZ="Asia/Shanghai").document

    assert re.search(r"^last run +2026-11-25 04:30 \+08:00$", reported.out, re.MULTILINE), reported
    assert "2026-11-24T20:30:00Z" == document["last_run"]["ended_at"]
    assert "UTC" not in reported.out
    assert name in reported.out


# --- `certferry watch` in the whole world: hosts of a file, and a change during --follow


def test_hosts_of_a_file_are_looked_at(
    world: World, host: Host, tmp_path: Path, new_name: Callable[[], str]
) -> None:
    """Each host is reported once with its certificates; a wrong host makes the exit code 1."""
    right, missing = new_name(), new_name()
    world.add_https_domain(right)
    file = tmp_path / "hosts.txt"
    file.write_text(f"# ours\n{right}\nhttps://{missing}/logo.png\n{right}.\n")

    run = host.run("watch", "--file", str(file), "--json")

    document = json.loads(run.out)
    assert (1, False) == (run.code, document["ok"])
    assert [right, missing] == [watched["host"] for watched in document["hosts"]]
    edges, (nowhere,) = (watched["addresses"] for watched in document["hosts"])
    assert {True} == {edge["ok"] for edge in edges}
    assert {None} == {edge["problem"] for edge in edges}
    assert "not_in_dns" == nowhere["problem"]["code"]


def test_following_reports_a_change_and_ends_with_ctrl_c(
    world: World, host: Host, new_name: Callable[[], str]
) -> None:
    """The first document shows all edges, and the second document the edge that is gone; Ctrl-C
    ends the command with 130.
    """
    name = new_name()
    world.add_https_domain(name)
    edge = world.qiniu.edges[0]

    with host.begin("watch", name, "--follow", "--every", "1", "--json") as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        edge.down = True
        try:
            second = json.loads(process.stdout.readline())
        finally:
            edge.down = False
        process.send_signal(signal.SIGINT)
        later, err = process.communicate(timeout=20)

    assert (130, "stopped\n") == (process.returncode, err)
    assert {name} >= {json.loads(line)["host"] for line in later.splitlines()}
    assert (name, False) == (second["host"], second["ok"])
    codes = {edge_report["address"]: edge_report["problem"] for edge_report in second["addresses"]}
    assert "refused" == codes[edge.address]["code"]
    assert first["at"] < second["at"]


def test_mistakes_of_usage_are_reported(host: Host) -> None:
    """The mistakes are a missing host, a pause without --follow, and a word that is no host."""
    nothing = host.run("watch")
    pause = host.run("watch", "img.example.com", "--every", "5")
    wrong = host.run("watch", "img", "--json")

    assert (2, 2, 2) == (nothing.code, pause.code, wrong.code)
    assert "give a HOST" in nothing.err
    assert "--every needs --follow" in pause.err
    assert "config" == json.loads(wrong.out)["error"]["code"]


def test_many_hosts_are_announced(host: Host, new_name: Callable[[], str]) -> None:
    """A look at many hosts takes a while: its beginning is on stderr, except with -q."""
    names = [new_name() for _ in range(16)]

    assert "checking 16 hosts\n" == host.run("watch", *names).err
    assert not host.run("-q", "watch", *names).err
