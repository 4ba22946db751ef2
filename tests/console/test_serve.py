"""`certferry serve` as a process: listening, signals, systemd, and refusals."""

from __future__ import annotations

import gc
import os
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import requests

from certferry.config.load import load
from certferry.core.certificates.certificate import fingerprint
from certferry.core.observed.stored_runs import RunSource, RunState
from certferry.wiring.workspace import Workspace
from certferry_sandbox.messages.event_receiver import SECRET, EventReceiver
from tests.console.processes import OverSocket, address, serving, write, write_certificate
from tests.support.command import Ended, run_here
from tests.support.ports import HOST, free_port
from tests.support.tiers import long
from tests.support.waiting import eventually


def status(where: str) -> int:
    return requests.get(f"http://{where}/healthz", timeout=10).status_code


def refused(config: Path, *arguments: str) -> Ended:
    """Run `certferry serve`, which must refuse to start."""
    return run_here(["--config", str(config), "serve", *arguments], os.environ)


def logged_in(config: Path, where: str) -> requests.Session:
    """Add a user, and return the logged-in browser."""
    added = run_here(["--config", str(config), "console", "user", "add", "anna"], os.environ)
    form = {"password": "sieben blaue Schafe", "again": "sieben blaue Schafe"}
    browser = requests.Session()
    headers = {"Origin": f"http://{where}"}
    answer = browser.post(added.out.strip(), form, headers=headers, timeout=10)
    assert answer.url == f"http://{where}/", answer.text
    return browser


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_the_process_in_order(tmp_path: Path, number: int) -> None:
    """The process ends within ten seconds with exit code 0, even with an open connection."""
    where = address()
    with serving(write(tmp_path, f'listen = "{where}"'), "--no-schedule") as served:
        assert status(where) == 503
        host, port = where.split(":")
        with socket.create_connection((host, int(port))) as kept:
            kept.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            kept.recv(1000)
            code, seconds = served.ended(number)

    assert (code, seconds < 10) == (0, True), served.output
    assert "Traceback" not in served.output


@long
def test_run_in_progress_stops_with_the_process(tmp_path: Path) -> None:
    """The process ends within ten seconds, and the run is stored as stopped."""
    where = address()
    config = write(tmp_path, f'listen = "{where}"')
    with serving(config) as served:
        assert served.prints("the next try is at"), served.output
        code, seconds = served.ended(signal.SIGTERM)

    assert (code, seconds < 10) == (0, True), served.output
    with Workspace(load(config, os.environ)) as workspace:
        [run] = workspace.state.stored_runs(5)
    assert (run.state, run.source) == (RunState.STOPPED, RunSource.SCHEDULE)


def test_first_run_begins_at_once_and_makes_the_health_good(tmp_path: Path) -> None:
    """The health is bad before the first run and good from its start on. After a move of the state,
    the health is bad again.
    """
    where = address()
    with serving(write(tmp_path, f'listen = "{where}"')) as served:
        assert eventually(lambda: status(where) == 200), served.output
        answer = requests.get(f"http://{where}/healthz", timeout=10)
        assert answer.text == "ok\n"
        with closing(sqlite3.connect(tmp_path / "state.db")) as state, state:
            state.execute(
                "INSERT INTO moved VALUES ('/srv/state.db', '2026-11-29T00:00:00.000000Z', NULL)"
            )
        assert status(where) == 503


def test_metrics_are_served(tmp_path: Path) -> None:
    """The format is that of Prometheus. A program of the same machine needs no token."""
    where = address()
    with serving(write(tmp_path, f'listen = "{where}"'), "--no-schedule"):
        answer = requests.get(f"http://{where}/metrics", timeout=10)

    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert "certferry_build_info{" in answer.text


# --- listening


def test_unix_socket_is_for_its_group(tmp_path: Path) -> None:
    """A socket left by a killed process is replaced. While a process listens, a second process is
    refused.
    """
    path = tmp_path / "c.sock"
    with closing(socket.socket(socket.AF_UNIX)) as stale:
        stale.bind(str(path))
    with serving(write(tmp_path, 'listen = "unix:c.sock"'), "--no-schedule") as served:
        assert path.stat().st_mode & 0o777 == 0o660
        with closing(OverSocket(path)) as connection:
            connection.request("GET", "/healthz")
            assert connection.getresponse().status == 503

        again = refused(tmp_path / "certferry.toml", "--no-schedule")
        assert (again.code, path.is_socket()) == (2, True)
        assert "another program is already listening" in again.err
        served.ended(signal.SIGTERM)

    assert not path.exists()


AS_SYSTEMD = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.argv[2], sys.argv[2:])
"""


def test_socket_from_systemd(tmp_path: Path) -> None:
    """The socket from systemd takes the place of `listen` in the file."""
    with closing(socket.create_server((HOST, 0))) as listening:
        port, number = listening.getsockname()[1], listening.fileno()
        with serving(
            write(tmp_path, 'listen = "unix:/nowhere/c.sock"'),
            "--no-schedule",
            started_by=[sys.executable, "-c", AS_SYSTEMD, str(number)],
            pass_fds=[number],
        ) as served:
            assert status(f"{HOST}:{port}") == 503
            assert f"{HOST}:{port}" in served.output


@pytest.fixture
def notified(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket for messages to systemd."""
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(10)
        yield listening


def test_systemd_gets_the_state_of_the_process(tmp_path: Path, notified: socket.socket) -> None:
    """The process sends READY, WATCHDOG, RELOADING, READY and STOPPING, in order."""
    config = write(tmp_path, f'listen = "{address()}"')
    environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "600000"}
    with serving(config, "--no-schedule", environ=environ) as served:

        def next_but_alive() -> bytes:
            while (message := notified.recv(1000)) == b"WATCHDOG=1":
                pass
            return message

        assert next_but_alive() == b"READY=1"
        assert notified.recv(1000) == b"WATCHDOG=1"
        served.process.send_signal(signal.SIGHUP)
        assert next_but_alive().startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        assert next_but_alive() == b"READY=1"
        served.process.send_signal(signal.SIGTERM)
        assert next_but_alive() == b"STOPPING=1"


# --- the certificate


def fingerprint_at(where: str, folder: Path, name: str = "ops.example.com") -> str:
    """Verify the served certificate as a browser does, and return the fingerprint."""
    context = ssl.create_default_context(cafile=str(folder / "root.pem"))
    host, port = where.split(":")
    with (
        socket.create_connection((host, int(port)), 10) as plain,
        context.wrap_socket(plain, server_hostname=name) as tls,
    ):
        der = tls.getpeercert(binary_form=True) or b""
    return fingerprint(der)


TLS = 'fullchain = "fullchain.pem"\nprivkey = "privkey.pem"\nurl = "https://ops.example.com"\n'


def test_renewed_certificate_is_served_without_a_restart(tmp_path: Path) -> None:
    """After SIGHUP the process serves the new certificate. If the new certificate is unusable, the
    earlier certificate stays in use.
    """
    where = address()
    first = write_certificate(tmp_path, "ops.example.com")
    with serving(write(tmp_path, f'{TLS}listen = "{where}"'), "--no-schedule") as served:
        assert first == fingerprint_at(where, tmp_path)
        second = write_certificate(tmp_path, "*.example.com")
        served.process.send_signal(signal.SIGHUP)
        assert eventually(lambda: fingerprint_at(where, tmp_path) == second)

        write_certificate(tmp_path, "other.example.org")
        served.process.send_signal(signal.SIGHUP)
        assert served.prints("but the host name in `url` is ops.example.com")
        assert second == fingerprint_at(where, tmp_path)


def test_wrong_file_leaves_the_earlier_file_in_force(tmp_path: Path) -> None:
    """The log and every page have the reason. A correct file is in force at once."""
    where = address()
    config = write(tmp_path, f'listen = "{where}"')
    with serving(config, "--no-schedule") as served:
        anna = logged_in(config, where)
        write(tmp_path, f'listen = "{where}"\nlistne = "x"')
        served.process.send_signal(signal.SIGHUP)
        assert served.prints("did you mean listen?"), served.output
        assert "the previous configuration stays in use" in served.output
        assert status(where) == 503
        for path in ("", "discover"):
            assert "did you mean listen?" in anna.get(f"http://{where}/{path}", timeout=10).text

        write(tmp_path, f'listen = "{address()}"')
        served.process.send_signal(signal.SIGHUP)
        assert served.prints("restart the console"), served.output
        assert "did you mean" not in anna.get(f"http://{where}/", timeout=10).text


# --- refusals


def _refusals() -> Iterator[tuple[str, tuple[str, ...], str]]:
    yield 'listen = "unix:missing/c.sock"', (), "does not exist"
    yield 'listen = "unix:certferry.toml"', (), "is not a socket"
    yield 'listen = "192.0.2.1:80"\ncertificate = "ops"', (), "there is no certificate yet"
    yield 'fullchain = "none.pem"\nprivkey = "none.pem"', (), "none.pem"
    yield 'fullchain = "privkey.pem"\nprivkey = "privkey.pem"', (), "contains a private key"
    yield f'{TLS}listen = "192.0.2.1:443"', (), "192.0.2.1:443: Cannot assign"
    yield TLS.replace("ops.", "other."), (), "but the host name in `url` is other.example.com"
    yield "", ("--listen", "0.0.0.0:80"), "there is no certificate"
    yield "", ("--listen", "80"), "is not an address with a port"
    yield 'listen = "unix:c"\nuser_header = "X-U"', ("--listen", "127.0.0.1:80"), "only with a unix"
    yield 'url = "nothing"', (), "must be a URL"


@pytest.mark.parametrize(("console", "arguments", "words"), list(_refusals()))
def test_wrong_settings_are_refused(
    tmp_path: Path, console: str, arguments: tuple[str, ...], words: str
) -> None:
    """The command ends with exit code 2 and a single sentence."""
    write_certificate(tmp_path, "ops.example.com")
    ended = refused(write(tmp_path, console), *arguments)

    assert (ended.code, ended.out) == (2, "")
    assert words in " ".join(ended.err.split())
    assert "Traceback" not in ended.err


def test_refused_settings_close_the_state(tmp_path: Path) -> None:
    """The state was opened to look for the console's certificate; the refusal closes the state."""
    config = write(tmp_path, 'listen = "192.0.2.1:80"\ncertificate = "ops"')
    gc.disable()  # the collector would close the state too, at any moment
    try:
        assert 2 == refused(config).code
        opened = [path.resolve() for path in Path("/proc/self/fd").iterdir()]
    finally:
        gc.enable()

    assert [] == [path for path in opened if path.is_relative_to(tmp_path)]


def test_wrong_address_on_the_command_line(tmp_path: Path) -> None:
    """The command reports the mistake, and `certferry check` does not repeat the report."""
    config = write(tmp_path)

    ended = refused(config, "--listen", "foo")

    assert (ended.code, "--listen: 'foo' is not an address with a port" in ended.err) == (2, True)
    assert "foo" not in run_here(["--config", str(config), "check"], os.environ).out


def test_port_of_another_program(tmp_path: Path) -> None:
    """The refusal names the address."""
    with closing(socket.create_server((HOST, 0))) as other:
        where = f"{HOST}:{other.getsockname()[1]}"
        ended = refused(write(tmp_path), "--listen", where)

    assert ended.code == 2
    assert f"another program is already listening on {where}" in ended.err


WITHOUT_UVICORN = """
import sys
sys.modules["uvicorn"] = None
from certferry.cli.main import main
sys.exit(main())
"""


def test_serve_without_its_libraries(tmp_path: Path) -> None:
    """`serve` shows how to install the libraries, and other commands work."""
    config = write(tmp_path)

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", WITHOUT_UVICORN, "--config", str(config), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    ended = run("serve")

    assert (ended.returncode, "--with console" in ended.stderr) == (2, True), ended.stderr
    assert run("serve", "--help").returncode == 0
    assert run("schedule", "show").returncode == 0


@pytest.mark.parametrize("console", ["listne = 1", 'listen = "unix:missing/c.sock"'])
def test_failed_start_is_sent_to_the_channels(tmp_path: Path, console: str) -> None:
    """Channels get a single message, however often systemd tries to start. With `--no-schedule`,
    channels get no message, because another program makes the runs.
    """
    with EventReceiver() as hook:
        told = f'[notify.hook]\ntype = "webhook"\nurl = "{hook.address}"\nsecret = "{SECRET}"'
        config = write(tmp_path, f"{console}\n{told}")

        assert refused(config, "--no-schedule").code == 2
        assert hook.events == []
        assert [refused(config).code, refused(config).code] == [2, 2]
        assert [event["event"] for event in hook.events] == ["trouble"]


# --- the health check of a container


@pytest.mark.parametrize(
    "console",
    [
        'listen = "{host}:{port}"\nurl = "https://ops.example.com/certs/"',
        'listen = "unix:c.sock"',
        """listen = "0.0.0.0:{port}"
        url = "https://ops.example.com/"
        fullchain = "fullchain.pem"
        privkey = "privkey.pem"
        """,
    ],
    ids=["port", "socket", "certificate"],
)
def test_health_command_reads_the_address_from_the_file(tmp_path: Path, console: str) -> None:
    """`certferry console health` reads the address from the file. The exit code is 0 after the
    beginning of a run, and 1 before the first run or without a console.
    """
    write_certificate(tmp_path, "ops.example.com")
    config = write(tmp_path, console.format(host=HOST, port=free_port()))

    def health() -> Ended:
        return run_here(["--config", str(config), "console", "health"], os.environ)

    nothing = health()
    with serving(config, "--no-schedule"):
        no_run = health()
    with serving(config):
        assert eventually(lambda: health().code == 0), health().err

    assert (nothing.code, no_run.code) == (1, 1)
    assert "the console at" in nothing.err
    assert "this host has had no run" in no_run.err


def test_memory_of_verified_passwords_is_freed() -> None:
    """The verification of a password takes 19 MiB in a thread, and the memory limit of the whole
    console is 150 MB.
    """
    program = """
import re, threading
from pathlib import Path
from certferry.cli import serve
from certferry.wiring.passwords import hashed

def held():
    return int(re.findall(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[0])

serve._keep_memory_together()
before = held()
for _ in range(3):
    threads = [threading.Thread(target=hashed, args=("x" * 14,)) for _ in range(2)]
    [one.start() for one in threads], [one.join() for one in threads]
print(held() - before)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert int(ended.stdout) < 10_000  # kB
