"""`certferry schedule`: the installed entries, their environment, and the warnings."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from textwrap import dedent
from zoneinfo import ZoneInfo

import pytest

from certferry.adapters.schedule.cron import Cron
from certferry.adapters.schedule.systemd import SystemdTimer
from certferry.cli.commands import spoken
from certferry.cli.exits import Exit
from certferry.cli.main import program as main_program
from certferry.cli.options import CommandContext
from certferry.cli.schedule import install_at, job_for, program, remove_from, show_all, starts_of
from certferry.config.load import load
from certferry.core.schedule import Installation, Job, Scheduled
from certferry.errors import ScheduleError
from certferry.ports.scheduler import Scheduler
from certferry.present.language import Voice
from certferry.text import Text
from tests.adapters.schedule.crontab_owner import AS_ROOT, CrontabOwner
from tests.cli.consoles import TestConsole
from tests.cli.schedules import KEYS, certferry, entry
from tests.support import forks
from tests.support.command import run_program

# --- The entries of `certferry schedule`


LONGEST = 120  # seconds
OTHERS = b"MAILTO=ops@example.com\n0 4 * * * backup 50\\% \n"


def test_two_runs_a_day_are_installed_once(owner: CrontabOwner, config: Path) -> None:
    """The line has a random time of the night, and the time half a day later; a second installation
    changes nothing and says so.
    """
    owner.write(OTHERS)

    code, out, err = certferry(owner.environ, "--config", config, "schedule", "install")

    assert (Exit.OK, "") == (code, err)
    first = owner.read()
    assert first is not None
    assert first.startswith(OTHERS)
    line = entry(first)
    assert 0 <= int(line["hour"]) < 6
    assert 1 <= int(line["minute"]) <= 59
    assert int(line["then"]) == int(line["hour"]) + 12
    assert f"every day at {int(line['hour']):02}:{int(line['minute']):02}" in out
    moment = r"\d\d:\d\d(:\d\d)?"
    summary = rf"\n\nInstalled: every day at {moment} and {moment}, by this host's clock\.\n\Z"
    assert re.search(summary, out)

    code, out, err = certferry(owner.environ, "--config", config, "schedule", "install")

    assert (Exit.OK, "") == (code, err)
    assert "\n\nUnchanged: every day at " in out
    assert first == owner.read()


def test_another_configuration_keeps_the_time(owner: CrontabOwner, config: Path) -> None:
    """The new line differs in the command only."""
    certferry(owner.environ, "--config", config, "schedule", "install")
    before = owner.read() or b""
    owner.write(before + OTHERS)
    other = config.rename(config.with_name("other 100%.toml"))

    code, out, _ = certferry(owner.environ, "--config", other, "schedule", "install")

    assert Exit.OK == code
    assert "\n\nReplaced: every day at " in out
    after = owner.read() or b""
    assert after.endswith(OTHERS)
    assert entry(before).group("minute", "hour", "second") == entry(after).group(
        "minute", "hour", "second"
    )
    assert b"other 100" in entry(after)["command"]


@pytest.mark.parametrize("when", [b"*/30 2 * * 1", b"0 9 1 1 *", b"@weekly"])
def test_schedule_edited_by_an_operator_is_kept(
    owner: CrontabOwner, config: Path, when: bytes
) -> None:
    """The time of the line stays, and the output describes the time."""
    owner.write(when + b" certferry sync # certferry schedule\n")

    _, shown, _ = certferry(owner.environ, "schedule", "show")
    _, replaced, _ = certferry(owner.environ, "--config", config, "schedule", "install")
    _, unchanged, _ = certferry(owner.environ, "--config", config, "schedule", "install")

    assert (owner.read() or b"").startswith(when + b" ")
    description = f"as edited by hand: {when.decode()}"
    assert f"  when     {description}\n" in shown
    assert replaced.endswith(f"\n\nReplaced: {description}.\n")
    assert unchanged.endswith(f"\n\nUnchanged: {description}.\n")
    for out in (shown, replaced, unchanged):
        assert "every day" not in out


def test_new_installations_choose_different_times(owner: CrontabOwner, config: Path) -> None:
    """Two of four installations have different times: neither a constant nor the same sequence in
    each process.
    """
    command = [sys.executable, "-m", "certferry", "--config", str(config), "schedule"]
    chosen = set()
    for _ in range(4):
        owner.write(None)
        assert Exit.OK == forks.run([*command, "install"], env=owner.environ).returncode
        chosen.add(entry(owner.read()).group("minute", "hour", "second"))

    assert len(chosen) > 1  # the four times are equal by chance in one of 10^13 cases


def test_remove_leaves_other_lines(owner: CrontabOwner, config: Path) -> None:
    """Other lines of the crontab stay the same, byte for byte; a second removal has nothing
    to do.
    """
    owner.write(OTHERS)
    certferry(owner.environ, "--config", config, "schedule", "install")

    code, out, _ = certferry(owner.environ, "schedule", "remove")

    assert Exit.OK == code
    assert out.startswith("Removed from the crontab of ")
    assert owner.read() == OTHERS
    code, out, _ = certferry(owner.environ, "schedule", "remove")
    assert (Exit.OK, "Nothing was scheduled, and nothing was changed.\n") == (code, out)


def test_show_prints_the_schedule(owner: CrontabOwner, config: Path) -> None:
    """The output has the place, the times, the next run and the command."""
    code, out, _ = certferry(owner.environ, "schedule", "show")
    assert (Exit.OK, "Nothing is scheduled; run `certferry schedule install`.\n") == (code, out)
    certferry(owner.environ, "--config", config, "schedule", "install")

    code, out, _ = certferry(owner.environ, "schedule", "show")

    assert Exit.OK == code
    labels = [row.split("  ")[1] for row in out.splitlines() if row.startswith("  ")]
    assert ["when", "next run", "log", "command"] == labels
    assert re.search(r"next run  \d{4}-\d\d-\d\d \d\d:\d\d UTC\n", out)
    assert str(config) in out


@pytest.mark.parametrize("zone", ["Asia/Shanghai", "America/St_Johns"])
def test_next_run_in_the_time_zone_of_the_host(
    owner: CrontabOwner, config: Path, zone: str
) -> None:
    """The time is the line's time, with the difference from UTC."""
    environ = {**owner.environ, "TZ": zone}
    certferry(owner.environ, "--config", config, "schedule", "install")
    line = entry(owner.read())

    result = forks.run([sys.executable, "-m", "certferry", "schedule", "show"], env=environ)

    shown = re.search(r"next run  (?P<at>.*) (?P<offset>[+-].*)\n", result.stdout)
    assert shown is not None, result.stdout
    moment = datetime.fromisoformat(shown["at"] + shown["offset"])
    assert int(line["minute"]) == moment.minute
    assert moment.hour in {int(line["hour"]), int(line["then"])}
    assert moment.astimezone(ZoneInfo(zone)).utcoffset() == moment.utcoffset()
    assert timedelta() <= moment - datetime.now(UTC) + timedelta(minutes=1) <= timedelta(days=0.6)


def test_global_options_are_part_of_the_run(
    owner: CrontabOwner, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run has the log and the language, with absolute paths."""
    monkeypatch.chdir(config.parent)
    options = ["--log-file", "daily.log", "--log-format", "json", "--lang", "zh"]

    certferry(owner.environ, "--config", config.name, *options, "schedule", "install")

    words = shlex.split(entry(owner.read())["command"].decode())
    assert str(config) == words[words.index("--config") + 1]
    assert str(config.parent / "daily.log") == words[words.index("--log-file") + 1]
    assert "json" == words[words.index("--log-format") + 1]
    assert "zh" == words[words.index("--lang") + 1]
    assert "--quiet" in words
    script = words[words.index("-c") + 1]
    assert '"$@" sync --scheduled || ' in script
    assert '"$@" notify failed' in script


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/dev/null"])
def test_log_that_is_no_file(config: Path, name: str) -> None:
    """The run writes to the device itself, and makes no directory for the device."""
    settings = load(config, {})
    command = spoken(main_program, Voice())
    root = command.make_context("certferry", ["--log-file", name, "schedule", "show"])

    job = job_for(settings, root, TestConsole().console)

    assert (str(settings.state.directory),) == job.writes
    assert name == job.command[job.command.index("--log-file") + 1]


def test_directory_of_a_run_with_a_shared_state(tmp_path: Path, clean_environment: Path) -> None:
    """The log and the files for commands are in the usual directory of a state."""
    file = tmp_path / "certferry.toml"
    file.write_text('[state]\nurl = "postgresql://a@127.0.0.1/x"\nkey = "env:KEY"\n')
    root = spoken(main_program, Voice()).make_context("certferry", ["schedule", "show"])

    job = job_for(load(file, os.environ), root, TestConsole().console)

    place = clean_environment / ".local" / "share" / "certferry"
    assert (str(place),) == job.writes
    assert str(place / "certferry.log") in job.command


def test_changes_of_the_schedule_are_in_the_log(owner: CrontabOwner, config: Path) -> None:
    """The log has a line for each change, also in a quiet run."""
    log = config.parent / "x.log"
    words = ("--config", config, "--log-file", log, "-q", "schedule")

    certferry(owner.environ, *words, "install")
    certferry(owner.environ, *words, "install")
    certferry(owner.environ, *words, "remove")

    lines = [row.partition("] ")[2] for row in log.read_text().splitlines()]
    changes = [row for row in lines if not re.search("begins|ended", row)]
    assert ["Installed", "Unchanged", "Removed from the crontab of"] == [
        re.split(r": | \w+\.$", row)[0] for row in changes
    ]


def test_language_of_the_locale_is_part_of_the_run(owner: CrontabOwner, config: Path) -> None:
    """The locale of the installation is missing in a run by cron."""
    environ = {**owner.environ, "LANG": "zh_CN.UTF-8"}

    certferry(environ, "--config", config, "schedule", "install")

    assert b" --lang zh " in entry(owner.read())["command"]


def test_directory_of_the_state_is_part_of_the_run(owner: CrontabOwner, config: Path) -> None:
    """The variable of the directory is stored: with another state all certificates would be issued
    again.
    """
    place = str(config.parent / "data")
    environ = {**owner.environ, "XDG_DATA_HOME": place}

    certferry(environ, "--config", config, "schedule", "install")

    words = shlex.split(entry(owner.read())["command"].decode())
    assert "/usr/bin/env" == words[0]
    assert f"XDG_DATA_HOME={place}" in words


def test_proxies_and_trusted_cas_are_part_of_the_run(owner: CrontabOwner, config: Path) -> None:
    """The variables of the HTTP library are stored, without a warning."""
    environ = {
        **owner.environ,
        "HTTPS_PROXY": "http://proxy.example:3128",
        "no_proxy": "localhost,.example.com",
        "REQUESTS_CA_BUNDLE": "/etc/ssl/our 100%.pem",
    }

    code, _, err = certferry(environ, "--config", config, "schedule", "install")

    assert (Exit.OK, "") == (code, err)
    command = entry(owner.read())["command"]
    words = shlex.split(command.replace(b"\\%", b"%").decode())
    assert "/usr/bin/env" == words[0]
    assert {
        "HTTPS_PROXY=http://proxy.example:3128",
        "no_proxy=localhost,.example.com",
        "REQUESTS_CA_BUNDLE=/etc/ssl/our 100%.pem",
    } <= set(words[1 : words.index("--config")])


def test_password_of_a_proxy_is_not_stored(owner: CrontabOwner, config: Path) -> None:
    """The password is in neither the crontab nor the output, and a warning names the missing
    variable.
    """
    environ = {**owner.environ, "https_proxy": "http://me:geheim@proxy.example:3128"}

    code, out, err = certferry(environ, "--config", config, "schedule", "install")

    assert Exit.OK == code
    assert (
        "warning: https_proxy: the variable may contain a password, so certferry does not store"
        " it for the run\n\nhint: set the variable for the run yourself: above the line in"
        " `crontab -e`, or in a file that only you can read, with EnvironmentFile= in a drop-in"
        " of certferry.service\n"
    ) == err
    assert "geheim" not in out
    assert b"geheim" not in (owner.read() or b"")
    assert b"proxy=" not in (owner.read() or b"")


def test_install_without_cron(config: Path, tmp_path: Path) -> None:
    """On a machine without `crontab` the error has a hint about systemd."""
    environ = {**os.environ, "PATH": str(tmp_path)}

    assert (
        Exit.FAILED,
        "",
        (
            "error: `crontab` cannot be run: No such file or directory\n\n"
            f"hint: nothing was changed; systemd works without cron: certferry --config {config}"
            " schedule install --systemd\n"
        ),
    ) == certferry(environ, "--config", config, "schedule", "install")


def test_show_without_cron(tmp_path: Path) -> None:
    """A missing `crontab` counts as an empty crontab."""
    environ = {**os.environ, "PATH": str(tmp_path)}

    assert Exit.OK == certferry(environ, "schedule", "show")[0]


@pytest.mark.parametrize("action", ["show", "remove"])
def test_unreadable_crontab_is_an_error(tmp_path: Path, action: str) -> None:
    """An unreadable crontab may contain a schedule."""
    script = tmp_path / "crontab"
    script.write_text("#!/bin/sh\necho no spool >&2\nexit 1\n")
    script.chmod(0o755)

    code, out, err = certferry({**os.environ, "PATH": f"{tmp_path}:/bin"}, "schedule", action)

    assert (Exit.FAILED, "") == (code, out)
    assert err.startswith("error: the crontab cannot be read: no spool\n\nhint: ")


class Unreachable:
    """A scheduler that fails in every method."""

    def install(self, job: Job) -> tuple[Installation, Scheduled]:
        raise ScheduleError("gone")

    def remove(self) -> Text | None:
        raise ScheduleError("gone")

    def find(self) -> Scheduled | None:
        raise ScheduleError("gone")


@pytest.fixture
def timer(tmp_path: Path) -> SystemdTimer:
    """Return a scheduler with units in a folder, on a machine without a running systemd."""
    return SystemdTimer(
        tmp_path / "units", os.environ, for_system=True, booted=tmp_path / "nowhere"
    )


def test_units_are_installed_shown_and_removed(timer: SystemdTimer) -> None:
    """The output has the remaining steps as well."""
    console = TestConsole()
    context = CommandContext(console.console)

    install_at(timer, Job(("/bin/true", "sync")), context)
    show_all([timer], console.console)
    remove_from([timer], context)

    when = "twice a day, at a time set by systemd or a drop-in"
    assert 2 == console.out.count(f"  when     {when}\n")
    assert f"\n\nWritten: {when}; first follow the steps below.\n" in console.out
    assert "Installed" not in console.out
    assert "timer: to do: systemctl enable --now certferry.timer\n" in console.err
    assert "Removed from the systemd timer " in console.out


def test_crontab_without_a_cron_daemon(owner: CrontabOwner) -> None:
    """A warning has the remedy, and no next run is promised."""
    cron = Cron(
        owner.environ, lambda _: 0, lambda: datetime.now(UTC), lambda: Text("start the cron daemon")
    )
    console = TestConsole()

    install_at(cron, Job(("/bin/true", "sync")), CommandContext(console.console))
    show_all([cron], console.console)

    assert "next run" not in console.out
    assert re.fullmatch(r"warning: the crontab of \S+: to do: start the cron daemon\n", console.err)


def test_second_scheduler_is_found(timer: SystemdTimer, owner: CrontabOwner) -> None:
    """Both the crontab and the timer are found; an unreachable scheduler causes no warning."""
    cron = Cron(owner.environ, lambda _: 0, lambda: datetime.now(UTC), lambda: None)
    job = Job(("/bin/true", "sync"))
    schedulers: list[Scheduler] = [cron, timer, Unreachable()]
    cron.install(job)
    assert 1 == len(starts_of(schedulers))
    timer.install(job)

    in_cron, in_systemd = starts_of(schedulers)

    assert "crontab" in str(in_cron)
    assert "timer" in str(in_systemd)


def test_unreachable_scheduler_does_not_hide_another(timer: SystemdTimer) -> None:
    """The units are shown and removed, and the failure is reported at the end."""
    timer.install(Job(("/bin/true", "sync")))
    console = TestConsole()

    with pytest.raises(ScheduleError, match="gone"):
        show_all([Unreachable(), timer], console.console)
    with pytest.raises(ScheduleError, match="gone"):
        remove_from([timer, Unreachable()], CommandContext(console.console))

    assert "/bin/true sync" in console.out
    assert "Removed from the systemd timer" in console.out
    assert timer.find() is None


@pytest.mark.skipif(not AS_ROOT, reason="only root has a file system of its own to be tried in")
@pytest.mark.parametrize(
    ("option", "place", "started"),
    [
        ("--systemd", "the systemd timer /etc/systemd/system/", "certferry.timer"),
        ("--serve", "the systemd service /etc/systemd/system/", "certferry-serve.service"),
    ],
)
def test_units_of_the_system(config: Path, option: str, place: str, started: str) -> None:
    """The command runs as a process in a temporary copy of the machine: the units are in
    /etc/systemd/system, and systemd accepts the units.
    """
    script = f"""
        set -e
        mkdir -p /etc/systemd/system
        mount -t tmpfs none /etc/systemd/system
        mount -t tmpfs none /run
        {sys.executable} -m certferry --config {config} schedule install {option}
        systemd-analyze verify --man=no /etc/systemd/system/certferry*
        {sys.executable} -m certferry --config {config} schedule show
        {sys.executable} -m certferry --config {config} schedule remove --systemd
        test -z "$(ls /etc/systemd/system)"
    """

    command = ["unshare", "--mount", "sh", "-c", script]
    result = run_program(command, os.environ, Path.cwd(), longest=LONGEST)

    assert 0 == result.returncode, result.stderr
    assert result.stdout.count(f"{place}{started}") == 3  # installed, shown, removed
    warned = [line for line in result.stderr.splitlines() if "certferry" in line]
    to_do = rf"warning: .*: to do: systemctl enable --now {re.escape(started)}"
    assert [True, True] == [bool(re.fullmatch(to_do, line)) for line in warned]


def test_path_of_the_running_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command is the installed script if the script is running, or else Python with the
    module.
    """
    monkeypatch.chdir(tmp_path)
    (tmp_path / "certferry").touch(0o755)

    assert (str(tmp_path / "certferry"),) == program("./certferry", "/usr/bin/python3")
    for other in ("/x/certferry/__main__.py", "missing/certferry", "-c"):
        assert ("/usr/bin/python3", "-P", "-m", "certferry") == program(other, "/usr/bin/python3")


# --- Warnings of `certferry schedule install`, and refused configurations


def test_each_kind_of_warning_has_a_hint(owner: CrontabOwner, config: Path) -> None:
    """An empty line separates the kinds."""
    (config.parent / "keys.env").write_text("")
    proxy = {"https_proxy": "http://me:geheim@proxy.example:3128"}
    environ = {**owner.environ, **dict(line.split("=") for line in KEYS.split()), **proxy}

    _, _, err = certferry(environ, "-q", "--config", config, "schedule", "install")

    parts = [part.partition(":")[0] for part in err.split("\n\n")]
    assert ["warning", "hint", "warning", "hint"] == parts


def test_failures_without_a_reader_cause_a_warning(owner: CrontabOwner, config: Path) -> None:
    """The single warning has both remedies, and either of a channel and a heartbeat is enough."""
    config.write_text(config.read_text().partition("[notify.ops]")[0])

    _, _, err = certferry(owner.environ, "--config", config, "schedule", "install")

    assert 1 == err.count("neither a channel nor a heartbeat is declared")
    assert "`certferry help notify`" in err
    assert "`certferry help monitoring`" in err
    config.chmod(0o600)
    config.write_text(config.read_text() + '[heartbeat]\nurl = "https://hc.example.com/ping"\n')
    _, _, err = certferry(owner.environ, "--config", config, "schedule", "install")
    assert "" == err


def test_line_needs_no_environment(owner: CrontabOwner, config: Path) -> None:
    """With `env -i` the line starts certferry, which reads the configuration and reports its
    mistake.
    """
    certferry(owner.environ, "--config", config, "schedule", "install")
    command = entry(owner.read())["command"].decode()
    config.write_text(config.read_text() + "\n[frobnicate]\n")

    words = ["/usr/bin/env", "-i", "HOME=/", "/bin/sh", "-c", command]
    result = run_program(words, os.environ, Path("/"), longest=LONGEST)

    assert Exit.USAGE == result.returncode, result.stderr
    assert f"error: {config}:" in result.stderr
    assert "frobnicate" in result.stderr


def test_secrets_of_the_present_environment_cause_a_warning(
    owner: CrontabOwner, config: Path
) -> None:
    """The warning has each reference with its line, and a remedy; variables of environment files
    cause no warning.
    """
    (config.parent / "keys.env").write_text("DP_Id=1\nDP_Key=k\nQINIU_SECRET_KEY=\n")
    environ = {**owner.environ, "QINIU_ACCESS_KEY": "a", "QINIU_SECRET_KEY": "s"}

    _, output, _ = certferry(environ, "--config", config, "schedule", "install")
    code, _, err = certferry(environ, "-q", "--config", config, "schedule", "install")

    assert Exit.OK == code
    assert "first follow the steps below" in output
    assert (
        dedent(f"""\
        warning: {config}:3: [accounts.qiniu] access_key: cron and systemd start the run without QINIU_ACCESS_KEY
        warning: {config}:4: [accounts.qiniu] secret_key: cron and systemd start the run without QINIU_SECRET_KEY

        hint: write the variables into a file listed in `env_files`, or have the configuration read the secrets from file: or command: in place of env:
        """)  # noqa: E501 - a transcript is as wide as it is
        == err
    )
    assert b"sync" in entry(owner.read())["command"]


@pytest.fixture
def program_elsewhere(tmp_path: Path, owner: CrontabOwner) -> dict[str, str]:
    """Return an environment whose PATH has a program outside cron's PATH."""
    path = tmp_path / "sbin" / "mynginx"
    path.parent.mkdir()
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return {**owner.environ, "PATH": f"{owner.environ['PATH']}:{path.parent}"}


def test_program_outside_the_path_of_cron_causes_a_warning(
    owner: CrontabOwner, config: Path, program_elsewhere: Mapping[str, str]
) -> None:
    """The warning has the path to write, unless a PATH above the line in the crontab includes the
    program.
    """
    reload = '{ to = "files", directory = "ssl", reload = "mynginx -s reload" }'
    config.write_text(config.read_text().replace('{ to = "qiniu" }', reload))
    sbin = config.parent / "sbin"

    _, _, installed = certferry(program_elsewhere, "-q", "--config", config, "schedule", "install")

    assert (
        f"warning: {config}:14: [[certificates.deploy]] reload: mynginx is not found when the"
        f" system starts the run; here the program is {sbin}/mynginx\n\n"
        "hint: write the full path of each; the run looks for programs only in /usr/bin:/bin\n"
    ) == installed

    line = owner.read() or b""
    owner.write(f"PATH=/usr/bin:/bin:{sbin}\n".encode() + line)
    assert "" == certferry(program_elsewhere, "--config", config, "schedule", "install")[2]


@pytest.mark.parametrize(
    ("text", "expected"), [("[frobnicate]\n", "frobnicate"), (None, "ours.toml")]
)
def test_wrong_configuration_is_not_scheduled(
    owner: CrontabOwner, tmp_path: Path, text: str | None, expected: str
) -> None:
    """A mistake that would fail every night is reported at once."""
    path = tmp_path / "ours.toml"
    if text is not None:
        path.write_text(text)

    code, _, err = certferry(owner.environ, "--config", path, "schedule", "install")

    assert Exit.USAGE == code
    assert expected in err
    assert owner.read() is None


def test_run_without_certificates_causes_a_warning(owner: CrontabOwner, tmp_path: Path) -> None:
    """The schedule is installed, although a configuration for hooks alone declares no
    certificates.
    """
    path = tmp_path / "certferry.toml"
    path.write_text('[accounts.qiniu]\naccess_key = "file:ak"\nsecret_key = "file:sk"\n')

    code, _, err = certferry(owner.environ, "--config", path, "schedule", "install")

    assert Exit.OK == code
    assert f"warning: {path} declares no certificates\n" in err
    assert "hint: declare the certificates with [[certificates]]" in err
    entry(owner.read())
