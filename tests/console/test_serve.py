"""`certferry serve` as a process: where it listens, signals, systemd, and what it refuses."""

from __future__ import annotations

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
    """Run what must not begin to serve."""
    return run_here(["--config", str(config), "serve", *arguments], os.environ)


def logged_in(config: Path, where: str) -> requests.Session:
    """Return the browser of a new user."""
    added = run_here(["--config", str(config), "console", "user", "add", "anna"], os.environ)
    form = {"password": "sieben blaue Schafe", "again": "sieben blaue Schafe"}
    browser = requests.Session()
    headers = {"Origin": f"http://{where}"}
    answer = browser.post(added.out.strip(), form, headers=headers, timeout=10)
    assert answer.url == f"http://{where}/", answer.text
    return browser


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_in_order_when_it_is_told_to(tmp_path: Path, number: int) -> None:
    """Within ten seconds, with 0, also while a page is open."""
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
def test_a_run_that_goes_on_comes_to_a_safe_point(tmp_path: Path) -> None:
    """The process ends in time, and the run is stopped, not dead."""
    where = address()
    config = write(tmp_path, f'listen = "{where}"')
    with serving(config) as served:
        assert served.prints("the next try is at"), served.output
        code, seconds = served.ended(signal.SIGTERM)

    assert (code, seconds < 10) == (0, True), served.output
    with Workspace(load(config, os.environ)) as workspace:
        [run] = workspace.state.stored_runs(5)
    assert (run.state, run.source) == (RunState.STOPPED, RunSource.SCHEDULE)


def test_the_first_run_is_made_at_once_and_heals_the_health(tmp_path: Path) -> None:
    """A state without a run is not well; a run in progress or ended makes it well, until the state
    has moved elsewhere.
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


def test_metrics_are_those_of_the_file(tmp_path: Path) -> None:
    """In the format of Prometheus; a neighbour on the machine needs no token."""
    where = address()
    with serving(write(tmp_path, f'listen = "{where}"'), "--no-schedule"):
        answer = requests.get(f"http://{where}/metrics", timeout=10)

    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert "certferry_build_info{" in answer.text


# where it listens


def test_a_unix_socket_is_for_its_group_and_gone_at_the_end(tmp_path: Path) -> None:
    """What a killed process has left stands in the way of no other."""
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


def test_systemd_hands_its_sockets_over(tmp_path: Path) -> None:
    """They count, whatever the file says, and no program that is started has them."""
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
    """Where systemd would hear of a service."""
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as found:
        found.bind(str(tmp_path / "notify"))
        found.settimeout(10)
        yield found


def test_systemd_hears_how_it_stands(tmp_path: Path, notified: socket.socket) -> None:
    """Ready, alive, being read anew, ready, ending."""
    config = write(tmp_path, f'listen = "{address()}"')
    environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "600000"}
    with serving(config, "--no-schedule", environ=environ) as served:

        def next_but_alive() -> bytes:
            while (said := notified.recv(1000)) == b"WATCHDOG=1":
                pass
            return said

        assert next_but_alive() == b"READY=1"
        assert notified.recv(1000) == b"WATCHDOG=1"
        served.process.send_signal(signal.SIGHUP)
        assert next_but_alive().startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        assert next_but_alive() == b"READY=1"
        served.process.send_signal(signal.SIGTERM)
        assert next_but_alive() == b"STOPPING=1"


# the certificate


def fingerprint_at(where: str, folder: Path, name: str = "ops.example.com") -> str:
    """Return what is served, and verify it as a browser does."""
    context = ssl.create_default_context(cafile=str(folder / "root.pem"))
    host, port = where.split(":")
    with (
        socket.create_connection((host, int(port)), 10) as plain,
        context.wrap_socket(plain, server_hostname=name) as tls,
    ):
        der = tls.getpeercert(binary_form=True) or b""
    return fingerprint(der)


TLS = 'fullchain = "fullchain.pem"\nprivkey = "privkey.pem"\nurl = "https://ops.example.com"\n'


def test_a_renewed_certificate_is_served_without_a_restart(tmp_path: Path) -> None:
    """One that cannot be used leaves the one before."""
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


def test_a_wrong_file_leaves_the_old_one_in_force(tmp_path: Path) -> None:
    """It says why, with the line, on every page too; a right one is in force at once."""
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


# what it refuses


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
def test_what_cannot_be_served_is_one_sentence(
    tmp_path: Path, console: str, arguments: tuple[str, ...], words: str
) -> None:
    """With exit code 2, before anything listens."""
    write_certificate(tmp_path, "ops.example.com")
    ended = refused(write(tmp_path, console), *arguments)

    assert (ended.code, ended.out) == (2, "")
    assert words in " ".join(ended.err.split())
    assert "Traceback" not in ended.err


def test_a_mistyped_address_is_no_trouble_of_the_runs(tmp_path: Path) -> None:
    """One who types it reads of it; `check` says nothing of it later."""
    config = write(tmp_path)

    ended = refused(config, "--listen", "foo")

    assert (ended.code, "--listen: 'foo' is not an address with a port" in ended.err) == (2, True)
    assert "foo" not in run_here(["--config", str(config), "check"], os.environ).out


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    """Another program has it."""
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


def test_without_its_libraries_the_command_that_installs_them(tmp_path: Path) -> None:
    """And every other command is there."""
    config = write(tmp_path)

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", WITHOUT_UVICORN, "--config", str(config), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    ended = run("serve")

    assert (ended.returncode, "--with console" in ended.stderr) == (2, True), ended.stderr
    assert run("serve", "--help").returncode == 0
    assert run("schedule", "show").returncode == 0


@pytest.mark.parametrize("console", ["listne = 1", 'listen = "unix:missing/c.sock"'])
def test_what_keeps_it_from_beginning_reaches_the_channels(tmp_path: Path, console: str) -> None:
    """Once a day, however often systemd tries: nothing is renewed meanwhile. Where another program
    makes the runs, that is none of its business.
    """
    with EventReceiver() as hook:
        told = f'[notify.hook]\ntype = "webhook"\nurl = "{hook.address}"\nsecret = "{SECRET}"'
        config = write(tmp_path, f"{console}\n{told}")

        assert refused(config, "--no-schedule").code == 2
        assert hook.events == []
        assert [refused(config).code, refused(config).code] == [2, 2]
        assert [event["event"] for event in hook.events] == ["trouble"]


# the health check of a container


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
def test_health_is_asked_where_the_console_listens(tmp_path: Path, console: str) -> None:
    """Exit code 0 once a run was begun, and 1 before it and where no console answers; the file
    alone says where that is.
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


def test_memory_of_verified_passwords_is_given_back() -> None:
    """Each takes 19 MiB, in any of many threads; the whole console may have 150 MB."""
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
