"""Pebble, a small certificate authority that speaks ACME, as a child process.

Keep at most 20 orders in flight. With 50 orders and more, Pebble 2.6 has locked up for good
(docs/facts/libraries.md §1.2), and every later request hangs. Spread more load over several
Pebbles; each is ready in about half a second.

Pebble queries a challenge record three times at once, over UDP without EDNS, and waits two seconds.
Pebble never changes to TCP. An answer has room for eight values, so at most eight values at one
name can be proven at the same time.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

import requests
import trustme

from certferry.errors import CaUnavailable, ConfigError
from certferry.text import Text

HOST = "127.0.0.1"
START_DEADLINE = 30.0  # seconds; half a second is usual
STOP_DEADLINE = 10.0  # seconds until `end` kills the whole process group
CALL_TIMEOUT = 10.0  # seconds
POLL_INTERVAL = 0.02  # seconds
ATTEMPTS_AT_FREE_PORTS = 5
LOG_LINES = 20  # last lines of the log in an error message

# Only this process holds the supervisor's standard input open. When the pipe closes, for instance
# because this process was killed, the watcher kills Pebble and removes Pebble's files. A
# parent-death signal would fire too early: at the end of the thread that started Pebble (prctl(2)).
SUPERVISOR = """
directory=$1; shift
exec 3<&0
"$@" </dev/null 3<&- & pebble=$!
{ read -r _; rm -rf -- "$directory"; kill -KILL "$pebble"; } <&3 & watcher=$!
wait "$pebble"; status=$?
kill "$watcher" 2>/dev/null
exit "$status"
"""


@dataclass(frozen=True)
class _Process:
    """A running Pebble: the supervisor, the directory of files, and two ports."""

    supervisor: subprocess.Popen[bytes]
    directory: Path
    port: int
    management_port: int

    @property
    def log(self) -> str:
        return (self.directory / "pebble.log").read_text(errors="replace")

    def end(self) -> None:
        """End Pebble, by force after `STOP_DEADLINE`, and remove Pebble's files."""
        try:
            self.supervisor.communicate(timeout=STOP_DEADLINE)  # closes the standard input
        except subprocess.TimeoutExpired:
            os.killpg(self.supervisor.pid, signal.SIGKILL)
            self.supervisor.communicate()
        shutil.rmtree(self.directory, ignore_errors=True)


class Pebble:
    """A certificate authority on loopback, for the length of a `with` block.

    Pebble proves names by queries to `dns_server` ("address:port"). Roots are new at every start.

    - `nonce_reject`: the percentage of good nonces that Pebble refuses.
    - `authz_reuse`: the percentage of valid authorizations that a new order takes over. Zero still
      means 1 %, and Pebble has no setting to prevent that (letsencrypt/pebble, `wfe/wfe.go`).
    - `retry_after`: the Retry-After of orders and authorizations in progress; zero sends none.
    - `eab`: base64url MAC keys by key identifier. If given, an account needs an external account
      binding (RFC 8555 §7.3.4).
    - `alternate_roots`: the number of roots, and of chains, beside the usual root and chain.
    """

    def __init__(
        self,
        dns_server: str,
        *,
        certificate_validity: timedelta | None = None,
        nonce_reject: int = 5,
        authz_reuse: int = 0,
        strict: bool = True,
        retry_after: timedelta = timedelta(0),
        eab: Mapping[str, str] | None = None,
        alternate_roots: int = 0,
    ) -> None:
        self._dns_server = dns_server
        self._strict = strict
        self._settings = _settings(certificate_validity, retry_after, eab or {})
        self._environment = {
            "PEBBLE_VA_NOSLEEP": "1",
            "PEBBLE_WFE_NONCEREJECT": str(nonce_reject),
            "PEBBLE_AUTHZREUSE": str(authz_reuse),
            "PEBBLE_ALTERNATE_ROOTS": str(alternate_roots),
        }
        self._session = requests.Session()
        self._session.trust_env = False  # ignore proxies and CA bundles from the environment
        self._process: _Process | None = None
        self._last_log = ""

    def start(self) -> Self:
        """Start Pebble and wait until the directory answers.

        Raises ConfigError if the program is missing, and CaUnavailable if Pebble does not start.
        """
        _must_be_installed()
        for attempt in range(1, ATTEMPTS_AT_FREE_PORTS + 1):
            self._process = self._spawn()
            if self._answers(self._process):
                break
            log = self._process.log
            self.stop()
            # Another program can take a free port before Pebble listens there.
            if "address already in use" not in log or attempt == ATTEMPTS_AT_FREE_PORTS:
                raise CaUnavailable(
                    Text("pebble did not start: {log}", log=_tail(log)),
                    hint=Text("run `pebble -version` to check whether pebble works"),
                )
        return self

    def stop(self) -> None:
        """End Pebble and remove its files; a second call does nothing."""
        if self._process is None:
            return
        self._last_log = self._process.log
        self._process.end()
        self._process = None
        self._session.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def directory_url(self) -> str:
        """The URL of the ACME directory."""
        return f"https://{HOST}:{self._running.port}/dir"

    @property
    def ca_bundle(self) -> Path:
        """The PEM file of the CA that issued the directory's TLS certificate."""
        return self._running.directory / "ca.pem"

    @property
    def log(self) -> str:
        """Pebble's output so far; after `stop`, the whole output."""
        return self._last_log if self._process is None else self._process.log

    def root_pem(self, number: int = 0) -> bytes:
        """Return the root certificate. Numbers from 1 on return the alternate roots."""
        answer = self._manage(f"roots/{number}")
        answer.raise_for_status()
        return answer.content

    def certificate_status(self, serial_hex: str) -> str:
        """Return "Valid" or "Revoked". Raises KeyError for a certificate of another CA."""
        answer = self._manage(f"cert-status-by-serial/{serial_hex}")
        if answer.status_code == requests.codes.not_found:
            raise KeyError(serial_hex)
        answer.raise_for_status()
        return str(answer.json()["Status"])

    def _manage(self, path: str) -> requests.Response:
        url = f"https://{HOST}:{self._running.management_port}/{path}"
        return self._session.get(url, verify=str(self.ca_bundle), timeout=CALL_TIMEOUT)

    @property
    def _running(self) -> _Process:
        if self._process is None:
            raise RuntimeError("pebble is not running")
        return self._process

    def _spawn(self) -> _Process:
        directory = Path(tempfile.mkdtemp(prefix="certferry-pebble-"))
        port, management_port = _two_free_ports()
        _write_files(directory, self._settings, port, management_port)
        command = ["pebble", "-config", str(directory / "config.json")]
        command += ["-dnsserver", self._dns_server, f"-strict={str(self._strict).lower()}"]
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("PEBBLE_")}
        with (directory / "pebble.log").open("wb") as log:
            supervisor = subprocess.Popen(
                ["sh", "-c", SUPERVISOR, "sh", str(directory), *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=inherited | self._environment,
                start_new_session=True,  # Ctrl-C reaches only the parent, which ends Pebble
            )
        return _Process(supervisor, directory, port, management_port)

    def _answers(self, process: _Process) -> bool:
        deadline = time.monotonic() + START_DEADLINE
        while process.supervisor.poll() is None and time.monotonic() < deadline:
            # The CA bundle is new at each start, so another server on the port fails the TLS check.
            with contextlib.suppress(requests.RequestException):
                self._session.get(
                    self.directory_url, verify=str(self.ca_bundle), timeout=CALL_TIMEOUT
                ).raise_for_status()
                return True
            time.sleep(POLL_INTERVAL)
        return False


def _settings(
    certificate_validity: timedelta | None, retry_after: timedelta, eab: Mapping[str, str]
) -> dict[str, Any]:
    seconds = int(retry_after.total_seconds())
    settings: dict[str, Any] = {
        "retryAfter": {"authz": seconds, "order": seconds},
        "externalAccountBindingRequired": bool(eab),
        "externalAccountMACKeys": dict(eab),
    }
    if certificate_validity is not None:
        settings["certificateValidityPeriod"] = int(certificate_validity.total_seconds())
    return settings


def _write_files(
    directory: Path, settings: Mapping[str, Any], port: int, management_port: int
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(directory / "ca.pem")
    listener = authority.issue_cert(HOST, "localhost")
    listener.private_key_and_cert_chain_pem.write_to_path(directory / "listener.pem")
    config = {
        "listenAddress": f"{HOST}:{port}",
        "managementListenAddress": f"{HOST}:{management_port}",
        "certificate": str(directory / "listener.pem"),
        "privateKey": str(directory / "listener.pem"),
        **settings,
    }
    (directory / "config.json").write_text(json.dumps({"pebble": config}))


def _must_be_installed() -> None:
    if shutil.which("pebble") is None:
        raise ConfigError(
            Text(
                "the program `pebble` is not installed; the sandbox uses it as certificate"
                " authority"
            ),
            hint=Text("install the package: apt install pebble"),
        )


def _two_free_ports() -> tuple[int, int]:
    with socket.create_server((HOST, 0)) as first, socket.create_server((HOST, 0)) as second:
        return first.getsockname()[1], second.getsockname()[1]


def _tail(log: str) -> str:
    return "\n".join(log.splitlines()[-LOG_LINES:]) or "it wrote nothing"
