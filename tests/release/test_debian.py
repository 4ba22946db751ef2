"""The Debian package on minimal machines of the three suites, as an operator installs the
package.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from certferry import __version__
from release import Release, debian, wheels
from release.__main__ import export
from tests.release.machines import PARTS, Machine, machine_of
from tests.support.ports import lasting_port
from tests.support.programs import program_path
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
EPOCH = 1_790_000_000
NEXT = "99.0.0"
pytestmark = [pytest.mark.thorough, pytest.mark.timeout(900)]


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the package of the working tree, once for all processes of a test run."""
    folder = tmp_path_factory.getbasetemp().parent / "debian-package"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return next(folder.glob("dist/*.deb"), None) or _made(folder)


def _made(folder: Path) -> Path:
    parts = [folder / part for part in ("tree", "dist", "work")]
    for part in parts:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
    release = Release(__version__, EPOCH, *parts)
    export(ROOT, release.tree)
    wheels.make(release)
    (built,) = debian.make(release)
    shutil.rmtree(release.work)
    return built


@pytest.fixture(params=PARTS)
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machine]:
    with machine_of(request.param, tmp_path) as built:
        yield built


@pytest.fixture
def trixie(tmp_path: Path) -> Iterator[Machine]:
    with machine_of("trixie", tmp_path) as built:
        yield built


def newer(package: Path, folder: Path) -> Path:
    """Make a package that differs in the version number only."""
    tree, later = folder / "newer", folder / "certferry-newer.deb"
    subprocess.run(["dpkg-deb", "-R", package, tree], check=True)
    own = tree / "opt/certferry/package/certferry/__init__.py"
    for path in (tree / "DEBIAN/control", tree / "DEBIAN/postinst", own):
        path.write_text(path.read_text("utf-8").replace(__version__, NEXT), "utf-8")
    command = ["dpkg-deb", "--root-owner-group", "-Znone", "--build"]
    subprocess.run([*command, tree, later], check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(tree)
    return later


def test_a_new_machine(machine: Machine, package: Path) -> None:
    """A single command installs certferry, switched off, and prints the next step. Only the
    package's user can read the configuration and write the state.
    """
    output = machine.install(package)

    todo = "edit /etc/certferry/certferry.toml, then: systemctl enable --now certferry.timer"
    assert todo in output
    assert f"certferry {__version__}\n" == machine.run("certferry --version")
    assert "Usage: certferry" in machine.run("certferry --help")
    assert "640 root:certferry" == machine.mode_of("/etc/certferry/certferry.toml")
    assert "700 certferry:certferry" == machine.mode_of("/var/lib/certferry")
    assert "certferry init" in machine.run("certferry sync", code=2)
    init = "certferry init --output /etc/certferry/certferry.toml </dev/null"
    assert "is there already" not in machine.run(init, code=2)
    machine.run("certferry state init")
    owners = machine.run("stat -c '%U %a' /var/lib/certferry/*").splitlines()
    assert {"certferry 600"} == set(owners)
    path = "import sys; sys.path.append('/opt/certferry/current')"
    machine.run(f'python3 -IS -c "{path}; import certferry.console, obstore, psycopg"')


def test_systemd_units(trixie: Machine, package: Path) -> None:
    """The system's manager accepts the units, which run as the package's user."""
    trixie.install(package)
    names = sorted(path.name for path in trixie.path("/usr/lib/systemd/system").glob("certferry*"))
    checked = subprocess.run(
        [
            *("systemd-analyze", "verify", "--man=no", "--recursive-errors=no"),
            *(f"--root={trixie.root}", *names),
        ],
        capture_output=True,
        text=True,
        check=False,
    )

    assert sorted(debian.units()) == names
    assert ("", 0) == (checked.stderr, checked.returncode)


def test_upgrade_with_a_state(machine: Machine, package: Path, tmp_path: Path) -> None:
    """State and configuration stay the same, byte for byte, and the new version opens the state."""
    machine.install(package)
    machine.run("certferry state init && echo '# mine' >> /etc/certferry/certferry.toml")
    hash_command = "cat /etc/certferry/certferry.toml /var/lib/certferry/secret.key | sha256sum"
    before = machine.run(hash_command)

    machine.install(newer(package, tmp_path))

    assert f"certferry {NEXT}\n" == machine.run("certferry --version")
    assert before == machine.run(hash_command)
    machine.run("certferry history")
    assert ["certferry"] == sorted(set(machine.run("stat -c %U /var/lib/certferry/*").split()))
    folders = {path.name for path in machine.path("/opt/certferry").iterdir()}
    assert {"package", "current", NEXT} == folders


def test_upgrade_during_a_run_of_the_console(
    trixie: Machine, package: Path, tmp_path: Path
) -> None:
    """A running process continues with the files of its version, including files that the process
    opens later; the next upgrade removes the files.
    """
    trixie.install(package)
    port = lasting_port()
    trixie.path("/etc/certferry/certferry.toml").write_text(
        f'[console]\nlisten = "127.0.0.1:{port}"\nurl = "http://127.0.0.1:{port}/"\n'
    )
    with subprocess.Popen(trixie.command("exec certferry serve --no-schedule")) as serving:
        try:
            assert eventually(lambda: _answer(port, "/healthz") is not None)
            later = newer(package, tmp_path)
            trixie.install(later)
            assert f"certferry {NEXT}\n" == trixie.run("certferry --version")
            page = _answer(port, "/login")
            assert page is not None
            assert "<html" in page
            assert trixie.path(f"/opt/certferry/{__version__}").exists()
        finally:
            # `unshare` ignores signals, and its child, which belongs to another user, would outlive
            # the signal.
            children = Path(f"/proc/{serving.pid}/task/{serving.pid}/children").read_text("ascii")
            for child in children.split():
                os.kill(int(child), signal.SIGKILL)
    trixie.run(f"apt-get install -y --reinstall /srv/{later.name}")
    assert not trixie.path(f"/opt/certferry/{__version__}").exists()
    assert f"certferry {NEXT}\n" == trixie.run("certferry --version")


def _answer(port: int, path: str) -> str | None:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as answer:
        return str(answer.read().decode())
    except OSError:
        return None


def test_remove_keeps_configuration_and_state(machine: Machine, package: Path) -> None:
    """The program is removed; configuration and state stay, and a new installation uses both."""
    machine.install(package)
    machine.run("certferry state init && echo '# mine' >> /etc/certferry/certferry.toml")

    machine.run("apt-get remove -y certferry")

    assert not machine.path("/opt/certferry").exists()
    assert not machine.path("/usr/bin/certferry").exists()
    assert machine.path("/var/lib/certferry/secret.key").exists()
    machine.run(f"apt-get install -y /srv/{package.name}")
    assert machine.path("/etc/certferry/certferry.toml").read_text().endswith("# mine\n")
    machine.run("certferry history")


@pytest.mark.parametrize("answer", ["", "true", "false"])
def test_purge(trixie: Machine, package: Path, answer: str) -> None:
    """The state is removed only if the answer allows the removal; the configuration is always
    removed.
    """
    trixie.install(package)
    trixie.run("certferry state init")
    if answer:
        line = f"certferry certferry/remove-state boolean {answer}"
        trixie.run(f"echo '{line}' | debconf-set-selections")

    output = trixie.run("apt-get purge -y certferry")

    is_gone = "true" == answer
    assert is_gone is not trixie.path("/var/lib/certferry/secret.key").exists()
    assert is_gone is not ("/var/lib/certferry is kept" in output)
    assert not trixie.path("/etc/certferry").exists()
    assert not trixie.path("/opt/certferry").exists()


@pytest.mark.parametrize("foreign", ["pyvenv.cfg", "somebody-elses"])
def test_foreign_directory_in_opt(trixie: Machine, package: Path, foreign: str) -> None:
    """The installation fails with a single sentence and a remedy, and the directory stays
    unchanged.
    """
    trixie.path("/opt/certferry").mkdir(parents=True)
    trixie.path(f"/opt/certferry/{foreign}").write_text("mine\n")

    output = trixie.install(package, code=100)

    (sentence,) = [line for line in output.splitlines() if line.startswith("certferry: ")]
    assert "install the package again" in sentence
    assert [foreign] == [path.name for path in trixie.path("/opt/certferry").iterdir()]
    trixie.run("rm -rf /opt/certferry")
    trixie.run(f"apt-get install -y /srv/{package.name} && certferry --version")


def test_schedule_of_the_package(trixie: Machine, package: Path) -> None:
    """`schedule install` switches the package's timer on, and creates no other schedule. Doctor and
    `schedule show` recognize the timer, for root and for the package's user.
    """
    trixie.install(package)
    trixie.run("certferry schedule install")

    assert trixie.path("/etc/systemd/system/timers.target.wants/certferry.timer").is_symlink()
    assert not trixie.path("/etc/systemd/system/certferry.timer").exists()
    assert "" == trixie.run("crontab -l 2>/dev/null || true")
    assert "/usr/lib/systemd/system/certferry.timer" in trixie.run("certferry schedule show")
    for user in ("", "setpriv --reuid=certferry --regid=certferry --init-groups "):
        document = json.loads(
            trixie.run(f"HOME=/var/lib/certferry {user}certferry doctor --json 2>/dev/null", code=1)
        )
        assert "schedule_missing" not in {finding["code"] for finding in document["findings"]}
    trixie.run("certferry schedule remove")
    assert not trixie.path("/etc/systemd/system/timers.target.wants/certferry.timer").exists()


def test_time_to_start(trixie: Machine, package: Path) -> None:
    """`certferry --version` takes at most 1.6 times as long as an empty program of Python."""
    trixie.install(package)
    measure = (
        "import subprocess, time\n"
        "def best(*command):\n"
        "    def one():\n"
        "        began = time.perf_counter()\n"
        "        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)\n"
        "        return time.perf_counter() - began\n"
        "    return min(one() for _ in range(40))\n"
        "print(best('certferry', '--version') / best('python3', '-c', 'pass'))\n"
    )
    trixie.path("/srv/measure.py").write_text(measure)

    assert float(trixie.run("python3 /srv/measure.py")) < 1.6


def test_lintian_has_no_error(package: Path) -> None:
    """The package passes Debian's own checker."""
    program_path("lintian")
    checked = subprocess.run(
        ["lintian", "--fail-on", "error", "--allow-root", str(package)],
        capture_output=True,
        text=True,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
        check=False,
    )

    assert 0 == checked.returncode, checked.stdout
