"""The sandbox's CA: the roots of the stand-ins, and Pebble."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from certferry.errors import CaUnavailable, ConfigError
from certferry_sandbox.authority import Authority, Issued
from certferry_sandbox.pebble import Pebble
from certferry_sandbox.qiniu.certificates import common_name, dns_names

# --- Certificates made at run time, in the form of a public CA


NOW = datetime(2026, 5, 1, tzinfo=UTC)
MONTH = timedelta(days=30)


def verify(issued: Issued, authority: Authority, name: str, now: datetime) -> None:
    leaf, *issuers = x509.load_pem_x509_certificates(issued.fullchain_pem.encode())
    root = x509.load_pem_x509_certificate(authority.root_pem.encode())
    verifier = PolicyBuilder().store(Store([root])).time(now)
    verifier.build_server_verifier(x509.DNSName(name)).verify(leaf, issuers)


@pytest.mark.parametrize(
    ("key_type", "kind"), [("ec256", ec.EllipticCurvePrivateKey), ("rsa2048", rsa.RSAPrivateKey)]
)
def test_issued_certificate_verifies(key_type: Any, kind: type) -> None:
    """The chain leads to the root for every name, only within the validity."""
    authority = Authority("Test")
    issued = authority.issue(["a.test", "*.a.test"], NOW, NOW + MONTH, key_type)

    for name in ("a.test", "www.a.test"):
        verify(issued, authority, name, NOW)
    with pytest.raises(VerificationError):
        verify(issued, authority, "a.test", NOW + MONTH + timedelta(seconds=1))
    with pytest.raises(VerificationError):
        verify(issued, Authority("Test"), "a.test", NOW)
    key = serialization.load_pem_private_key(issued.privkey_pem.encode(), None)
    assert isinstance(key, kind)
    assert issued.privkey_pem.startswith("-----BEGIN PRIVATE KEY-----")
    assert key.public_key() == issued.leaf.public_key()


def test_validity_and_names_follow_the_request() -> None:
    """Moments are whole seconds, names keep their order, the first name is the common name, and the
    serial number is new.
    """
    authority = Authority("Test")
    start = NOW + timedelta(microseconds=7)
    first, second = (authority.issue(["b.test", "a.test"], start, NOW + MONTH) for _ in range(2))

    assert (NOW, NOW + MONTH) == (first.leaf.not_valid_before_utc, first.leaf.not_valid_after_utc)
    assert (["b.test", "a.test"], "b.test") == (dns_names(first.leaf), common_name(first.leaf))
    assert first.leaf.serial_number != second.leaf.serial_number
    assert first.fingerprint != second.fingerprint


# --- Pebble as a process: its environment, its end and its failures


NOWHERE = "127.0.0.1:9"  # the discard port, for a CA without any proof
DEADLINE = 10.0


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def write(script: str) -> None:
        program = tmp_path / "pebble"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    return write


def until(condition: Callable[[], bool]) -> bool:
    """Poll until the condition holds, or the deadline has passed."""
    end = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def processes_of(directory: Path) -> list[int]:
    processes = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(directory).encode() in entry.read_bytes():
                processes.append(int(entry.parent.name))
        except OSError:
            continue
    return processes


def test_variables_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that makes every challenge valid would make every test of DNS worthless."""
    monkeypatch.setenv("PEBBLE_VA_ALWAYS_VALID", "1")
    with Pebble(NOWHERE) as pebble:
        assert "ALWAYS" not in pebble.log.upper()


def test_pebble_ends_with_a_killed_parent() -> None:
    """After SIGKILL of the parent, neither process nor files stay behind."""
    program = (
        "import sys, time\n"
        "from certferry_sandbox.pebble import Pebble\n"
        f"pebble = Pebble({NOWHERE!r}).start()\n"
        "print(pebble.ca_bundle, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        directory = Path(parent.stdout.readline().decode().strip()).parent
        assert processes_of(directory)
        parent.send_signal(signal.SIGKILL)

    assert until(lambda: not processes_of(directory))
    assert until(lambda: not directory.exists())


def test_missing_program_is_reported_with_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hint names the package to install."""
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(ConfigError, match="`pebble` is not installed") as caught:
        Pebble(NOWHERE).start()
    assert "apt install pebble" in str(caught.value.hint)


def test_process_that_breaks_is_reported_with_its_last_words(
    programs: Callable[[str], None], tmp_path: Path
) -> None:
    """The error has the log, and the temporary folder is removed."""
    programs(f'echo "$2" > {tmp_path}/config; echo out of luck; exit 3')

    with pytest.raises(CaUnavailable, match="out of luck"):
        Pebble(NOWHERE).start()
    assert not Path((tmp_path / "config").read_text().strip()).parent.exists()
