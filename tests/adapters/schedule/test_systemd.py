"""systemd's units: their installation, and the manager that runs them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from certferry.adapters.schedule.cron import daemon_to_start
from certferry.adapters.schedule.systemd import (
    SERVICE,
    TIMER,
    TIMER_TEXT,
    PackagedTimer,
    SystemdServer,
    SystemdTimer,
    units_directory,
)
from certferry.core.schedule import Installation, Job
from certferry.errors import ScheduleError
from certferry.file_trust import user_name
from certferry.values import replace
from tests.adapters.schedule.crontab_owner import cron_daemon
from tests.support.programs import needs

# --- The units: systemd accepts them, and their removal leaves no trace


UNITS = ["certferry-failed.service", "certferry.service", "certferry.timer"]


def make_program(path: Path) -> str:
    """Create an executable program, because systemd checks for one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n", encoding="ascii")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A job whose words contain every character that a unit could misread."""
    odd = tmp_path / "50% of #é; =[x]"
    return Job(
        command=(make_program(odd / "certferry"), "--config", str(odd / "c.toml"), "sync"),
        environment={"XDG_DATA_HOME": str(odd)},
        writes=(str(odd / "state"),),
        on_failure=(str(odd / "certferry"), "--config", str(odd / "c.toml"), "notify", "failed"),
    )


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """The directory of the units, which does not exist yet, as for a user without units."""
    return tmp_path / "systemd" / "user"


def timer(directory: Path, *, for_system: bool = True, **environ: str) -> SystemdTimer:
    """Return the keeper of units on a machine where systemd does not run."""
    return SystemdTimer(
        directory,
        {**os.environ, **environ},
        for_system=for_system,
        booted=directory / "none",
        lingering=directory / "none",
    )


def server(directory: Path, *, for_system: bool = True) -> SystemdServer:
    """Return the keeper of the permanent service, on a machine where systemd does not run."""
    nowhere = directory / "none"
    return SystemdServer(
        directory, os.environ, for_system=for_system, booted=nowhere, lingering=nowhere
    )


def verified(directory: Path, *scope: str, units: Sequence[str] = UNITS) -> tuple[int, str]:
    """Let systemd read the units; return its exit code and its messages about certferry."""
    result = subprocess.run(
        ["systemd-analyze", *scope, "verify", "--man=no", *(directory / name for name in units)],
        capture_output=True,
        text=True,
        # Hide systemd's messages about the machine's own units.
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{directory}:", "XDG_RUNTIME_DIR": str(directory)},
        check=False,
    )
    ours = [line for line in result.stderr.splitlines() if "certferry" in line]
    return result.returncode, "\n".join(ours)


def test_reloaded_program_outlives_the_run(directory: Path, job: Job) -> None:
    """`KillMode=process` spares programs that a reload starts; a job without programs needs no
    exception.
    """
    timer(directory).install(replace(job, runs_programs=True))
    assert "\nKillMode=process\n" in (directory / "certferry.service").read_text()

    timer(directory).install(job)
    assert "KillMode" not in (directory / "certferry.service").read_text()


@needs("systemd-analyze")
@pytest.mark.parametrize("runs_programs", [False, True])
@pytest.mark.parametrize("for_system", [True, False])
def test_systemd_accepts_the_units(
    directory: Path, job: Job, *, for_system: bool, runs_programs: bool
) -> None:
    """`systemd-analyze verify` is silent for any name of a path."""
    timer(directory, for_system=for_system).install(replace(job, runs_programs=runs_programs))

    assert (0, "") == verified(directory, *([] if for_system else ["--user"]))


@needs("systemd-analyze")
@pytest.mark.parametrize("runs_programs", [False, True])
@pytest.mark.parametrize("for_system", [True, False])
def test_systemd_accepts_the_permanent_service(
    directory: Path, job: Job, *, for_system: bool, runs_programs: bool
) -> None:
    """The unit is valid; beside the directory for the socket, the unit may write the declared
    directory.
    """
    own = str(directory / "of the proxy")
    job = replace(job, runs_programs=runs_programs, sockets=("/run/certferry", own))
    server(directory, for_system=for_system).install(job)

    scope = [] if for_system else ["--user"]
    assert (0, "") == verified(directory, *scope, units=["certferry-serve.service"])
    unit = (directory / "certferry-serve.service").read_text()
    assert "\nExecReload=/bin/sh -c 'kill -HUP $MAINPID'\n" in unit  # works without procps as well
    assert ("\nRuntimeDirectory=certferry\n" in unit) is for_system
    assert f'\nReadWritePaths=-"{own}"\n' in unit


@needs("systemd-analyze")
@pytest.mark.parametrize(
    ("keeper", "word", "unit", "most"),
    [
        (timer, "sync", "certferry.service", 25),
        (server, "serve", "certferry-serve.service", 26),  # it may listen at port 443
    ],
    ids=["sync", "serve"],
)
def test_systemd_rates_the_service_as_guarded(
    directory: Path,
    tmp_path: Path,
    keeper: Callable[[Path], SystemdTimer | SystemdServer],
    word: str,
    unit: str,
    most: int,
) -> None:
    """`systemd-analyze security` rates the exposure of root's service below 2.5 of 10, or 2.6 for
    the permanent service. The version of Debian 12 counts the clock's device, and rates 0.2 higher.
    """
    program = make_program(tmp_path / "certferry")
    keeper(directory).install(Job((program, word), writes=("/var/lib",)))

    version = subprocess.run(["systemd-analyze", "--version"], capture_output=True, check=True)
    if int(version.stdout.split()[1]) < 253:
        most += 2
    words = ("systemd-analyze", "security", "--offline=yes", f"--threshold={most}", "--no-pager")
    result = subprocess.run([*words, directory / unit], capture_output=True, text=True, check=False)

    assert 0 == result.returncode, result.stdout + result.stderr


def test_permanent_service_beside_the_timer(directory: Path, job: Job) -> None:
    """Installing and removing the service leaves the timer alone."""
    timer(directory).install(job)
    change, installed = server(directory).install(job)

    assert (Installation.INSTALLED, "certferry-serve.service") == (
        change,
        Path(str(installed.place.values["path"])).name,
    )
    assert server(directory).install(job)[0] is Installation.UNCHANGED
    assert server(directory).remove() is not None
    assert server(directory).find() is None
    assert sorted(path.name for path in directory.iterdir()) == UNITS


def test_timer_makes_up_for_a_missed_run(directory: Path, job: Job) -> None:
    """The timer starts twice a day, at another moment on each machine, and after a boot if the
    machine was off.
    """
    timer(directory).install(job)

    lines = (directory / "certferry.timer").read_text().splitlines()

    moments = {"OnCalendar=*-*-* 00,12:00:00", "RandomizedDelaySec=6h", "AccuracySec=1s"}
    assert moments | {"Persistent=true"} <= set(lines)


@needs("systemd-analyze")
def test_systemd_elapses_twice_a_day() -> None:
    """By systemd's own reading, the timer gives two runs a day."""
    [calendar] = [row for row in TIMER_TEXT.splitlines() if row.startswith("OnCalendar=")]
    begin = "--base-time=2026-11-26 03:00:00 UTC"
    words = ["systemd-analyze", "calendar", "--iterations=4", begin]
    result = subprocess.run(
        [*words, calendar.removeprefix("OnCalendar=")],
        capture_output=True,
        text=True,
        env={**os.environ, "TZ": "UTC", "LC_ALL": "C"},
        check=True,
    )

    elapses = re.findall(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d", result.stdout)
    assert [
        *("2026-11-26 12:00:00", "2026-11-27 00:00:00"),
        *("2026-11-27 12:00:00", "2026-11-28 00:00:00"),
    ] == elapses


def test_units_of_an_earlier_version_are_replaced(directory: Path, job: Job) -> None:
    """The earlier units ran once a day; a new installation writes the units of this version."""
    keeper = timer(directory)
    keeper.install(job)
    unit = directory / "certferry.timer"
    unit.write_text(unit.read_text().replace("*-*-* 00,12:00:00", "daily"))

    assert Installation.REPLACED is keeper.install(job)[0]
    assert TIMER_TEXT == unit.read_text()
    assert Installation.UNCHANGED is keeper.install(job)[0]


def test_state_directory_is_created_for_the_sandbox(directory: Path, job: Job) -> None:
    """The sandbox cannot open a missing directory, so installation creates it for its owner
    alone.
    """
    timer(directory).install(job)

    assert 0o700 == Path(job.writes[0]).stat().st_mode & 0o777
    assert "ProtectSystem=strict" in (directory / "certferry.service").read_text()


def test_second_installation_writes_nothing(directory: Path, job: Job) -> None:
    """The files keep their inodes and times."""
    keeper = timer(directory)
    assert Installation.INSTALLED is keeper.install(job)[0]
    before = [(directory / name).stat() for name in UNITS]

    assert Installation.UNCHANGED is keeper.install(job)[0]

    after = [(directory / name).stat() for name in UNITS]
    assert [(x.st_ino, x.st_mtime_ns) for x in before] == [(x.st_ino, x.st_mtime_ns) for x in after]
    assert UNITS == sorted(path.name for path in directory.iterdir())


def test_another_job_replaces_the_units(directory: Path, job: Job) -> None:
    """The schedule shows the new command."""
    keeper = timer(directory)
    keeper.install(job)

    change, _ = keeper.install(Job(("/usr/bin/certferry", "--lang", "zh", "sync")))

    assert Installation.REPLACED is change
    scheduled = keeper.find()
    assert scheduled is not None
    assert "/usr/bin/certferry --lang zh sync" == scheduled.command


def test_units_without_a_running_systemd(directory: Path, job: Job) -> None:
    """The units are written, and the schedule names the command that starts them."""
    linger = f" && loginctl enable-linger {user_name(os.getuid())}"
    for for_system, systemctl, then in (
        (True, "systemctl", ""),
        (False, "systemctl --user", linger),
    ):
        keeper = timer(directory, for_system=for_system)
        keeper.install(job)
        scheduled = keeper.find()

        assert scheduled is not None
        assert f"{systemctl} enable --now certferry.timer{then}" == str(scheduled.to_do)


def test_removal_leaves_no_trace(directory: Path, job: Job) -> None:
    """The units and the link that started them go; other units stay."""
    keeper = timer(directory)
    keeper.install(job)
    (directory / "nginx.service").write_text("[Service]\n")
    wants = directory / "timers.target.wants"
    wants.mkdir()
    (wants / "certferry.timer").symlink_to(directory / "certferry.timer")

    assert keeper.remove() is not None

    assert ["nginx.service", "timers.target.wants"] == sorted(p.name for p in directory.iterdir())
    assert [] == list(wants.iterdir())
    assert keeper.find() is None
    assert keeper.remove() is None


@pytest.mark.parametrize("name", UNITS)
def test_unit_of_another_program_stays_unchanged(directory: Path, job: Job, name: str) -> None:
    """A unit of the same name by another program is neither replaced nor removed."""
    directory.mkdir(parents=True)
    (directory / name).write_text("[Unit]\n# mine\n")

    with pytest.raises(ScheduleError, match="was not written by certferry") as caught:
        timer(directory).install(job)
    assert caught.value.hint is not None
    assert timer(directory).remove() is None
    assert timer(directory).find() is None

    assert [name] == [path.name for path in directory.iterdir()]
    assert "[Unit]\n# mine\n" == (directory / name).read_text()


def test_masked_timer_stays_masked(directory: Path, job: Job) -> None:
    """An operator who masks the unit forbids its start."""
    directory.mkdir(parents=True)
    (directory / "certferry.timer").symlink_to("/dev/null")

    with pytest.raises(ScheduleError, match="was not written by certferry"):
        timer(directory).install(job)


def test_unwritable_directory_is_reported(tmp_path: Path, job: Job) -> None:
    """A single error names the path."""
    (tmp_path / "file").touch()

    with pytest.raises(ScheduleError, match=f"{tmp_path}/file.*: Not a directory"):
        timer(tmp_path / "file" / "user").install(job)


def test_failed_replacement_of_a_unit(directory: Path, job: Job) -> None:
    """The other unit is not written either."""
    (directory / "certferry.timer").mkdir(parents=True)

    with pytest.raises(ScheduleError, match=r"certferry\.timer: Is a directory"):
        timer(directory).install(job)

    assert ["certferry.timer"] == [path.name for path in directory.iterdir()]


def test_directory_of_a_users_units() -> None:
    """systemd.unit(5) names `$XDG_CONFIG_HOME` and `~/.config`."""
    home = Path("/srv/a")

    assert Path("/srv/a/.config/systemd/user") == units_directory({}, home)
    assert Path("/x/systemd/user") == units_directory({"XDG_CONFIG_HOME": "/x"}, home)


# ---------------------------------------------------------------------------------------------
# A running manager: tests have no systemd, so this `systemctl` stands in for it. The program
# follows systemctl(1) for the commands below, refuses other commands, and records each call.

SYSTEMCTL = """#!/bin/sh
here=$(dirname "$0")
echo "$*" >>"$here/journal"
[ "$1" = --user ] && shift
if [ -e "$here/fails" ] && [ "$1" = "$(cat "$here/fails")" ]; then
    echo "Failed to connect to bus: No medium found" >&2; exit 1
fi
case "$*" in
    daemon-reload) ;;
    "is-enabled certferry.timer") [ -e "$here/on" ] ;;
    "enable --now certferry.timer") touch "$here/on" ;;
    "disable --now certferry.timer") rm "$here/on" ;;
    "is-active certferry.timer") [ -e "$here/on" ] ;;
    "show --timestamp=unix --property=NextElapseUSecRealtime --value certferry.timer")
        echo @1795588800 ;;
    *) echo "Unknown command verb '$1'" >&2; exit 1 ;;
esac
"""


class Systemd:
    """A running systemd, and the commands that it received."""

    def __init__(self, folder: Path, directory: Path, *, for_system: bool = True) -> None:
        self.folder = folder
        (folder / "systemctl").write_text(SYSTEMCTL, encoding="ascii")
        (folder / "systemctl").chmod(0o755)
        environ = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
        self.lingering = folder / "linger"
        self.timer = SystemdTimer(
            directory, environ, for_system=for_system, booted=folder, lingering=self.lingering
        )

    def reported(self) -> list[str]:
        """Return the commands since the last call that changed something."""
        journal = self.folder / "journal"
        lines = journal.read_text().splitlines() if journal.exists() else []
        journal.unlink(missing_ok=True)
        return [line for line in lines if "is-" not in line and "show" not in line]


@pytest.fixture
def manager(tmp_path: Path, directory: Path) -> Systemd:
    (tmp_path / "manager").mkdir()
    return Systemd(tmp_path / "manager", directory)


def test_running_systemd_is_reloaded_once(manager: Systemd, job: Job) -> None:
    """The first installation reloads systemd and enables the timer; the second sends no command."""
    manager.timer.install(job)
    assert ["daemon-reload", "enable --now certferry.timer"] == manager.reported()

    manager.timer.install(job)
    assert [] == manager.reported()


def test_stopped_timer_is_started(manager: Systemd, job: Job) -> None:
    """Installation starts the timer, even if the units are unchanged."""
    manager.timer.install(job)
    (manager.folder / "on").unlink()
    manager.reported()

    assert Installation.UNCHANGED is manager.timer.install(job)[0]
    assert ["daemon-reload", "enable --now certferry.timer"] == manager.reported()


def test_running_timer_has_a_next_run(manager: Systemd, job: Job) -> None:
    """The next run comes from systemd, and nothing is left to do."""
    manager.timer.install(job)

    scheduled = manager.timer.find()

    assert scheduled is not None
    assert scheduled.to_do is None
    assert datetime.fromtimestamp(1795588800, UTC) == scheduled.next_run


def test_removal_stops_a_running_timer(manager: Systemd, job: Job) -> None:
    """Removal disables the timer first, so that the link goes, and reloads systemd at the end."""
    manager.timer.install(job)
    manager.reported()

    manager.timer.remove()

    assert ["disable --now certferry.timer", "daemon-reload"] == manager.reported()


@pytest.fixture
def packaged(manager: Systemd, directory: Path, tmp_path: Path) -> PackagedTimer:
    """The timer of a package, not yet enabled."""

    class Here(PackagedTimer):
        packages = tmp_path / "package"

    Here.packages.mkdir()
    (Here.packages / SERVICE).write_text("[Service]\nExecStart=/usr/bin/certferry sync\n")
    (Here.packages / TIMER).write_text("[Timer]\n")
    environ = {**os.environ, "PATH": f"{manager.folder}:{os.environ['PATH']}"}
    return Here(directory, environ, for_system=True, booted=manager.folder)


def test_timer_of_a_package_is_switched_on_and_off(
    packaged: PackagedTimer, manager: Systemd, directory: Path, job: Job
) -> None:
    """Installation enables the package's timer without writing a unit: a second schedule would
    order twice.
    """
    assert packaged.find() is None

    change, scheduled = packaged.install(job)

    assert (Installation.INSTALLED, "/usr/bin/certferry sync") == (change, scheduled.command)
    assert ["enable --now certferry.timer"] == manager.reported()
    assert not directory.exists()
    assert Installation.UNCHANGED is packaged.install(job)[0]
    assert scheduled == packaged.find()
    assert scheduled.place == packaged.remove()
    assert ["disable --now certferry.timer"] == manager.reported()
    assert packaged.find() is None
    assert packaged.remove() is None


def test_earlier_units_beside_a_package_are_removed(
    packaged: PackagedTimer, manager: Systemd, directory: Path, job: Job
) -> None:
    """Units below /etc would hide the package's units."""
    manager.timer.install(job)

    change, scheduled = packaged.install(job)

    assert [] == list(directory.iterdir())
    assert (Installation.REPLACED, "/usr/bin/certferry sync") == (change, scheduled.command)


def test_user_without_root(tmp_path: Path, directory: Path, job: Job) -> None:
    """Every command goes to the user's systemd."""
    manager = Systemd(tmp_path, directory, for_system=False)

    manager.timer.install(job)

    assert ["--user daemon-reload", "--user enable --now certferry.timer"] == manager.reported()


def test_lingering_of_a_user(tmp_path: Path, directory: Path, job: Job) -> None:
    """A user's systemd ends with the last session unless it lingers; until then, the schedule names
    the command for lingering.
    """
    manager = Systemd(tmp_path, directory, for_system=False)
    manager.timer.install(job)
    scheduled = manager.timer.find()
    assert scheduled is not None
    assert f"loginctl enable-linger {user_name(os.getuid())}" == str(scheduled.to_do)
    assert scheduled.next_run is not None

    manager.lingering.mkdir()
    (manager.lingering / user_name(os.getuid())).touch()

    scheduled = manager.timer.find()
    assert scheduled is not None
    assert scheduled.to_do is None


@pytest.mark.parametrize(("act", "verb"), [("install", "enable"), ("remove", "disable")])
def test_refusal_of_systemd_is_quoted(
    manager: Systemd, job: Job, directory: Path, act: str, verb: str
) -> None:
    """The units stay, so that another installation can continue, and so that systemd knows the file
    of each unit it starts.
    """
    if act == "remove":
        manager.timer.install(job)
    (manager.folder / "fails").write_text(verb)

    with pytest.raises(ScheduleError, match=rf"{verb} .*Failed to connect to bus") as caught:
        manager.timer.install(job) if act == "install" else manager.timer.remove()

    assert "fix the problem, then try again" == str(caught.value.hint)
    assert UNITS == sorted(path.name for path in directory.iterdir())


def test_failed_reload_after_a_removal(manager: Systemd, job: Job, directory: Path) -> None:
    """The units are removed all the same."""
    manager.timer.install(job)
    (manager.folder / "fails").write_text("daemon-reload")

    with pytest.raises(ScheduleError, match=r"daemon-reload.*Failed to connect"):
        manager.timer.remove()

    assert [] == list(directory.iterdir())


def test_irremovable_unit_is_named(directory: Path, job: Job) -> None:
    """The error quotes the system."""
    keeper = timer(directory)
    keeper.install(job)
    wants = directory / "timers.target.wants" / "certferry.timer"
    wants.mkdir(parents=True)

    with pytest.raises(ScheduleError, match=f"{wants}: Is a directory"):
        keeper.remove()


def test_missing_systemctl_is_reported(tmp_path: Path, directory: Path, job: Job) -> None:
    """A running systemd without its command is the reported problem."""
    keeper = SystemdTimer(
        directory, {"PATH": str(tmp_path / "none")}, for_system=True, booted=tmp_path
    )

    for act in (lambda: keeper.install(job), keeper.find, keeper.remove):
        with pytest.raises(ScheduleError, match="`systemctl` cannot be run"):
            act()


# --- Whether a cron daemon runs: a missing daemon is reported only if all processes are visible


@pytest.fixture
def processes(tmp_path: Path) -> Path:
    """The processes of a system: its first process, and another."""
    run(tmp_path, 1, "systemd")
    run(tmp_path, 17, "cron-helper")
    (tmp_path / "uptime").touch()
    return tmp_path


def run(processes: Path, number: int, name: str) -> None:
    process = processes / str(number)
    process.mkdir()
    (process / "comm").write_text(f"{name}\n")


def test_machine_without_a_cron_daemon(processes: Path) -> None:
    """The hint names the service as this machine calls it."""
    assert re.fullmatch(
        "start the cron daemon, which does not seem to run: service crond? start",
        str(daemon_to_start(processes)),
    )


@pytest.mark.parametrize("name", ["cron", "crond"])
def test_running_cron_daemon(processes: Path, name: str) -> None:
    """The process has the daemon's name; a process that ends meanwhile is skipped."""
    run(processes, 4711, name)
    (processes / "4712/comm").mkdir(parents=True)

    assert daemon_to_start(processes) is None


def test_hidden_processes(processes: Path) -> None:
    """Without /proc, or without other users' processes, a missing daemon is not reported."""
    (processes / "1/comm").unlink()

    assert daemon_to_start(processes) is None
    assert daemon_to_start(processes / "none") is None


@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked for in /proc")
def test_real_process_counts_as_a_daemon() -> None:
    """A process of this machine with the daemon's name is found."""
    with cron_daemon():
        assert daemon_to_start() is None
