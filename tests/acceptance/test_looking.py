"""The commands that only look leave the machine as it was."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest

from tests.acceptance.footprint import assert_nothing_written
from tests.acceptance.host import Host
from tests.adapters.probe.odd_edge import odd_edge
from tests.support.tiers import sampled


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
    """Before the first sync there is nothing to remember: not even an empty state is made."""
    words = [name if word == "img.example.com" else word for word in command]
    before = sorted(host.directory.rglob("*"))

    run = host.run(*words)

    assert code == run.code, run
    assert_nothing_written(run.left)
    assert before == sorted(host.directory.rglob("*"))


@pytest.mark.parametrize("command", sampled(["plan", "status", "discover", "watch"], 2))
def test_ctrl_c_waits_for_no_silent_host(host: Host, name: str, command: str) -> None:
    """A command that only looks has nothing to put right: it ends long before an answer is given
    up.
    """
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

    told = [row for row in err.splitlines() if not row.startswith("qiniu: ")]
    assert (130, "", ["stopped"]) == (process.returncode, out, told)


def with_a_negative_serial(der: bytes) -> bytes:
    """Make the first byte of the serial number one with a sign (X.690 §8.3)."""
    version = b"\xa0\x03\x02\x01\x02"  # of an X.509 v3 certificate; the serial number follows
    head, _, rest = der.partition(version)
    return head + version + rest[:2] + b"\x80" + rest[3:]


def test_foreign_certificate_that_a_library_warns_of(host: Host, name: str, tmp_path: Path) -> None:
    """The address has a problem, and the operator's terminal gets no line of the library's."""
    address = "127.0.59.7"
    host.world.zones.seed(f"{name}.qiniudns.com", "A", address)

    with odd_edge(address, host.world.qiniu.edges.port, name, with_a_negative_serial, tmp_path):
        seen = host.run_apart("watch", name)
        status = host.run_apart("status")

    assert (1, "") == (seen.code, seen.err)
    assert address in seen.out
    assert (1, "") == (status.code, status.err), status
