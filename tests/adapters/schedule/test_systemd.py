"""systemd's units, written, installed, and the daemon behind them."""

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

# --- The units: systemd itself accepts them, and they come and go without a trace


UNITS = ["certferry-failed.service", "certferry.service", "certferry.timer"]


def make_program(path: Path) -> str:
    """Make a program, since systemd looks whether there is one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n", encoding="ascii")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A job with everything in its words that a unit can hold and could be read otherwise."""
    odd = tmp_path / "50% of #é; =[x]"
    return Job(
        command=(make_program(odd / "certferry"), "--config", str(odd / "c.toml"), "sync"),
        environment={"XDG_DATA_HOME": str(odd)},
        writes=(str(odd / "state"),),
        on_failure=(str(odd / "certferry"), "--config", str(odd / "c.toml"), "notify", "failed"),
    )


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where the units lie: not there yet, as for a user who has none."""
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
    """Return the keeper of the service that goes on, where systemd does not run."""
    nowhere = directory / "none"
    return SystemdServer(
        directory, os.environ, for_system=for_system, booted=nowhere, lingering=nowhere
    )


def verified(directory: Path, *scope: str, units: Sequence[str] = UNITS) -> tuple[int, str]:
    """Let systemd read the units; give its verdict and everything it says."""
    result = subprocess.run(
        ["systemd-analyze", *scope, "verify", "--man=no", *(directory / name for name in units)],
        capture_output=True,
        text=True,
        # What the machine's own units have wrong is not said.
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{directory}:", "XDG_RUNTIME_DIR": str(directory)},
        check=False,
    )
    ours = [line for line in result.stderr.splitlines() if "certferry" in line]
    return result.returncode, "\n".join(ours)


def test_what_a_reload_starts_outlives_the_run(directory: Path, job: Job) -> None:
    """By itself it would end with the service. Where no program is run, nothing is left to end."""
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
    """`systemd-analyze verify` has nothing to say, whatever the paths are called."""
    timer(directory, for_system=for_system).install(replace(job, runs_programs=runs_programs))

    assert (0, "") == verified(directory, *([] if for_system else ["--user"]))


@needs("systemd-analyze")
@pytest.mark.parametrize("runs_programs", [False, True])
@pytest.mark.parametrize("for_system", [True, False])
def test_systemd_accepts_the_service_that_goes_on(
    directory: Path, job: Job, *, for_system: bool, runs_programs: bool
) -> None:
    """As it accepts the others; beside its own directory for the socket."""
    own = str(directory / "of the proxy")
    job = replace(job, runs_programs=runs_programs, sockets=("/run/certferry", own))
    server(directory, for_system=for_system).install(job)

    scope = [] if for_system else ["--user"]
    assert (0, "") == verified(directory, *scope, units=["certferry-serve.service"])
    written = (directory / "certferry-serve.service").read_text()
    assert "\nExecReload=/bin/sh -c 'kill -HUP $MAINPID'\n" in written  # without procps as well
    assert ("\nRuntimeDirectory=certferry\n" in written) is for_system
    assert f'\nReadWritePaths=-"{own}"\n' in written


@needs("systemd-analyze")
@pytest.mark.parametrize(
    ("keeper", "word", "unit", "most"),
    [
        (timer, "sync", "certferry.service", 25),
        (server, "serve", "certferry-serve.service", 26),  # it may listen at port 443
    ],
    ids=["sync", "serve"],
)
def test_systemd_finds_the_service_well_guarded(
    directory: Path,
    tmp_path: Path,
    keeper: Callable[[Path], SystemdTimer | SystemdServer],
    word: str,
    unit: str,
    most: int,
) -> None:
    """`systemd-analyze security` rates the exposure of root's service below 2.5 of 10, or 2.6;
    that of Debian 12, which counts the clock's device, 0.2 higher.
    """
    program = make_program(tmp_path / "certferry")
    keeper(directory).install(Job((program, word), writes=("/var/lib",)))

    asked = subprocess.run(["systemd-analyze", "--version"], capture_output=True, check=True)
    if int(asked.stdout.split()[1]) < 253:
        most += 2
    words = ("systemd-analyze", "security", "--offline=yes", f"--threshold={most}", "--no-pager")
    result = subprocess.run([*words, directory / unit], capture_output=True, text=True, check=False)

    assert 0 == result.returncode, result.stdout + result.stderr


def test_the_service_that_goes_on_comes_and_goes_beside_the_timer(
    directory: Path, job: Job
) -> None:
    """Neither takes the other away, and both are found."""
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


def test_the_timer_makes_up_for_a_missed_run(directory: Path, job: Job) -> None:
    """Twice a day, not at the same moment on every machine, and later if the machine was off."""
    timer(directory).install(job)

    lines = (directory / "certferry.timer").read_text().splitlines()

    moments = {"OnCalendar=*-*-* 00,12:00:00", "RandomizedDelaySec=6h", "AccuracySec=1s"}
    assert moments | {"Persistent=true"} <= set(lines)


@needs("systemd-analyze")
def test_systemd_elapses_twice_a_day() -> None:
    """As systemd itself reads what the timer says."""
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
    """They ran once a day; installed again, they are those of this version."""
    keeper = timer(directory)
    keeper.install(job)
    unit = directory / "certferry.timer"
    unit.write_text(unit.read_text().replace("*-*-* 00,12:00:00", "daily"))

    assert Installation.REPLACED is keeper.install(job)[0]
    assert TIMER_TEXT == unit.read_text()
    assert Installation.UNCHANGED is keeper.install(job)[0]


def test_the_state_is_there_before_the_sandbox_opens_it(directory: Path, job: Job) -> None:
    """A sandbox cannot open a directory that is missing; it is made, for its owner alone."""
    timer(directory).install(job)

    assert 0o700 == Path(job.writes[0]).stat().st_mode & 0o777
    assert "ProtectSystem=strict" in (directory / "certferry.service").read_text()


def test_the_second_time_nothing_is_written(directory: Path, job: Job) -> None:
    """The files are the same ones, not written again."""
    keeper = timer(directory)
    assert Installation.INSTALLED is keeper.install(job)[0]
    before = [(directory / name).stat() for name in UNITS]

    assert Installation.UNCHANGED is keeper.install(job)[0]

    after = [(directory / name).stat() for name in UNITS]
    assert [(x.st_ino, x.st_mtime_ns) for x in before] == [(x.st_ino, x.st_mtime_ns) for x in after]
    assert UNITS == sorted(path.name for path in directory.iterdir())


def test_another_job_replaces_the_units(directory: Path, job: Job) -> None:
    """What is shown is what will be run."""
    keeper = timer(directory)
    keeper.install(job)

    change, _ = keeper.install(Job(("/usr/bin/certferry", "--lang", "zh", "sync")))

    assert Installation.REPLACED is change
    found = keeper.find()
    assert found is not None
    assert "/usr/bin/certferry --lang zh sync" == found.command


def test_where_systemd_does_not_run_it_is_said_what_to_type(directory: Path, job: Job) -> None:
    """Written is not running."""
    linger = f" && loginctl enable-linger {user_name(os.getuid())}"
    for for_system, systemctl, then in (
        (True, "systemctl", ""),
        (False, "systemctl --user", linger),
    ):
        keeper = timer(directory, for_system=for_system)
        keeper.install(job)
        found = keeper.find()

        assert found is not None
        assert f"{systemctl} enable --now certferry.timer{then}" == str(found.to_do)


def test_what_is_removed_leaves_no_trace(directory: Path, job: Job) -> None:
    """The units and the link that started them go; what lies beside them stays."""
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
def test_unit_of_another_program_stays_as_it_is(directory: Path, job: Job, name: str) -> None:
    """A unit of the same name that certferry did not write is neither replaced nor removed."""
    directory.mkdir(parents=True)
    (directory / name).write_text("[Unit]\n# mine\n")

    with pytest.raises(ScheduleError, match="was not written by certferry") as caught:
        timer(directory).install(job)
    assert caught.value.hint is not None
    assert timer(directory).remove() is None
    assert timer(directory).find() is None

    assert [name] == [path.name for path in directory.iterdir()]
    assert "[Unit]\n# mine\n" == (directory / name).read_text()


def test_a_masked_timer_stays_masked(directory: Path, job: Job) -> None:
    """Who has masked the unit does not want it started."""
    directory.mkdir(parents=True)
    (directory / "certferry.timer").symlink_to("/dev/null")

    with pytest.raises(ScheduleError, match="was not written by certferry"):
        timer(directory).install(job)


def test_a_directory_that_cannot_be_written_is_reported(tmp_path: Path, job: Job) -> None:
    """One message with the path, and nothing half done."""
    (tmp_path / "file").touch()

    with pytest.raises(ScheduleError, match=f"{tmp_path}/file.*: Not a directory"):
        timer(tmp_path / "file" / "user").install(job)


def test_a_unit_that_cannot_be_replaced_leaves_the_other_alone(directory: Path, job: Job) -> None:
    """Both or none."""
    (directory / "certferry.timer").mkdir(parents=True)

    with pytest.raises(ScheduleError, match=r"certferry\.timer: Is a directory"):
        timer(directory).install(job)

    assert ["certferry.timer"] == [path.name for path in directory.iterdir()]


def test_a_users_units_lie_where_systemd_looks() -> None:
    """systemd.unit(5): below `$XDG_CONFIG_HOME`, or `~/.config`."""
    home = Path("/srv/a")

    assert Path("/srv/a/.config/systemd/user") == units_directory({}, home)
    assert Path("/x/systemd/user") == units_directory({"XDG_CONFIG_HOME": "/x"}, home)


# ---------------------------------------------------------------------------------------------
# A manager that runs: there is none where tests run, so this `systemctl` stands in for it. It
# knows what systemctl(1) says of these commands, refuses every other, and keeps its journal.

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


class Manager:
    """A running systemd, and what it was reported."""

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
        """Return what changed something, since the last time this was asked."""
        journal = self.folder / "journal"
        lines = journal.read_text().splitlines() if journal.exists() else []
        journal.unlink(missing_ok=True)
        return [line for line in lines if "is-" not in line and "show" not in line]


@pytest.fixture
def manager(tmp_path: Path, directory: Path) -> Manager:
    (tmp_path / "manager").mkdir()
    return Manager(tmp_path / "manager", directory)


def test_a_running_systemd_is_asked_once(manager: Manager, job: Job) -> None:
    """Read again and enabled the first time; not bothered the second time."""
    manager.timer.install(job)
    assert ["daemon-reload", "enable --now certferry.timer"] == manager.reported()

    manager.timer.install(job)
    assert [] == manager.reported()


def test_a_timer_that_was_stopped_is_started(manager: Manager, job: Job) -> None:
    """Installed means that it runs, also when the files are there already."""
    manager.timer.install(job)
    (manager.folder / "on").unlink()
    manager.reported()

    assert Installation.UNCHANGED is manager.timer.install(job)[0]
    assert ["daemon-reload", "enable --now certferry.timer"] == manager.reported()


def test_a_running_timer_shows_its_next_run(manager: Manager, job: Job) -> None:
    """The manager knows when; nothing is left to do."""
    manager.timer.install(job)

    found = manager.timer.find()

    assert found is not None
    assert found.to_do is None
    assert datetime.fromtimestamp(1795588800, UTC) == found.next_run


def test_a_running_timer_is_stopped_before_it_goes(manager: Manager, job: Job) -> None:
    """Disabled first, so that no link is left, and read again at the end."""
    manager.timer.install(job)
    manager.reported()

    manager.timer.remove()

    assert ["disable --now certferry.timer", "daemon-reload"] == manager.reported()


@pytest.fixture
def packaged(manager: Manager, directory: Path, tmp_path: Path) -> PackagedTimer:
    """The timer of a package, which is not enabled yet."""

    class Here(PackagedTimer):
        packages = tmp_path / "package"

    Here.packages.mkdir()
    (Here.packages / SERVICE).write_text("[Service]\nExecStart=/usr/bin/certferry sync\n")
    (Here.packages / TIMER).write_text("[Timer]\n")
    environ = {**os.environ, "PATH": f"{manager.folder}:{os.environ['PATH']}"}
    return Here(directory, environ, for_system=True, booted=manager.folder)


def test_a_packages_timer_is_switched_on_and_off(
    packaged: PackagedTimer, manager: Manager, directory: Path, job: Job
) -> None:
    """No unit is written: a second schedule beside the package's would order twice."""
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


def test_units_of_the_time_before_the_package_go(
    packaged: PackagedTimer, manager: Manager, directory: Path, job: Job
) -> None:
    """Units below /etc would hide the package's."""
    manager.timer.install(job)

    change, scheduled = packaged.install(job)

    assert [] == list(directory.iterdir())
    assert (Installation.REPLACED, "/usr/bin/certferry sync") == (change, scheduled.command)


def test_the_users_own_manager_is_asked(tmp_path: Path, directory: Path, job: Job) -> None:
    """Without root, every word goes to the user's systemd."""
    manager = Manager(tmp_path, directory, for_system=False)

    manager.timer.install(job)

    assert ["--user daemon-reload", "--user enable --now certferry.timer"] == manager.reported()


def test_a_user_who_logs_out_keeps_the_timer(tmp_path: Path, directory: Path, job: Job) -> None:
    """A user's manager ends with the last session unless it lingers; until then it is to do."""
    manager = Manager(tmp_path, directory, for_system=False)
    manager.timer.install(job)
    found = manager.timer.find()
    assert found is not None
    assert f"loginctl enable-linger {user_name(os.getuid())}" == str(found.to_do)
    assert found.next_run is not None

    manager.lingering.mkdir()
    (manager.lingering / user_name(os.getuid())).touch()

    found = manager.timer.find()
    assert found is not None
    assert found.to_do is None


@pytest.mark.parametrize(("act", "verb"), [("install", "enable"), ("remove", "disable")])
def test_a_manager_that_refuses_is_quoted(
    manager: Manager, job: Job, directory: Path, act: str, verb: str
) -> None:
    """The units are in place: another installation goes on from there, and a unit whose file is
    gone would still be started.
    """
    if act == "remove":
        manager.timer.install(job)
    (manager.folder / "fails").write_text(verb)

    with pytest.raises(ScheduleError, match=rf"{verb} .*Failed to connect to bus") as caught:
        manager.timer.install(job) if act == "install" else manager.timer.remove()

    assert "fix the problem, then try again" == str(caught.value.hint)
    assert UNITS == sorted(path.name for path in directory.iterdir())


def test_a_manager_that_still_knows_removed_units_is_reloaded(
    manager: Manager, job: Job, directory: Path
) -> None:
    """The units are gone all the same."""
    manager.timer.install(job)
    (manager.folder / "fails").write_text("daemon-reload")

    with pytest.raises(ScheduleError, match=r"daemon-reload.*Failed to connect"):
        manager.timer.remove()

    assert [] == list(directory.iterdir())


def test_a_unit_that_cannot_be_removed_is_named(directory: Path, job: Job) -> None:
    """With what the system says of it."""
    keeper = timer(directory)
    keeper.install(job)
    wants = directory / "timers.target.wants" / "certferry.timer"
    wants.mkdir(parents=True)

    with pytest.raises(ScheduleError, match=f"{wants}: Is a directory"):
        keeper.remove()


def test_a_missing_systemctl_is_reported(tmp_path: Path, directory: Path, job: Job) -> None:
    """Where systemd runs and its command is not found, that is the problem."""
    keeper = SystemdTimer(
        directory, {"PATH": str(tmp_path / "none")}, for_system=True, booted=tmp_path
    )

    for act in (lambda: keeper.install(job), keeper.find, keeper.remove):
        with pytest.raises(ScheduleError, match="`systemctl` cannot be run"):
            act()


# --- Whether a cron daemon runs: reported only where it can be seen that there is none


@pytest.fixture
def processes(tmp_path: Path) -> Path:
    """The processes of a system: its first one, and another."""
    run(tmp_path, 1, "systemd")
    run(tmp_path, 17, "cron-helper")
    (tmp_path / "uptime").touch()
    return tmp_path


def run(processes: Path, number: int, name: str) -> None:
    process = processes / str(number)
    process.mkdir()
    (process / "comm").write_text(f"{name}\n")


def test_a_machine_without_one_is_shown_how_to_start_it(processes: Path) -> None:
    """By the name that the service has there."""
    assert re.fullmatch(
        "start the cron daemon, which does not seem to run: service crond? start",
        str(daemon_to_start(processes)),
    )


@pytest.mark.parametrize("name", ["cron", "crond"])
def test_a_daemon_that_runs_is_seen(processes: Path, name: str) -> None:
    """By the name of its process; one that ends meanwhile does not matter."""
    run(processes, 4711, name)
    (processes / "4712/comm").mkdir(parents=True)

    assert daemon_to_start(processes) is None


def test_where_processes_are_hidden_nothing_is_said(processes: Path) -> None:
    """No /proc, or one without the processes of others."""
    (processes / "1/comm").unlink()

    assert daemon_to_start(processes) is None
    assert daemon_to_start(processes / "none") is None


@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked for in /proc")
def test_a_real_process_is_seen() -> None:
    """On this machine, with a process that is called so."""
    with cron_daemon():
        assert daemon_to_start() is None
