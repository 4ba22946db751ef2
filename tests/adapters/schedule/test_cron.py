"""The crontab, and the daemon that reads it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime, time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from certferry.adapters.schedule.cron import (
    MARK,
    Cron,
    CronEntry,
    next_run,
    own_entries,
    shell_command,
    watched,
    with_entry,
    without_entry,
)
from certferry.core.schedule import NIGHT_MOMENTS, Installation, Job, night_time, twice
from certferry.errors import ScheduleError
from certferry.text import Text
from certferry.values import replace
from tests.adapters.schedule.crontab_owner import AS_ROOT, CrontabOwner

# --- The real `crontab`: accepted lines survive, and a refusal is reported and changes nothing


NOON = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
COMMAND = "/usr/bin/certferry --config /etc/certferry.toml --quiet sync --scheduled"
JOB = Job(tuple(COMMAND.split()))
LINE = b"18 3,15 * * * /bin/sleep 42; " + COMMAND.encode()
ENTRY = LINE + b" # certferry schedule\n"
DRAWN = (3 * 59 + 17) * 60 + 42

with_root = pytest.mark.skipif(not AS_ROOT, reason="only root can reach where cron keeps crontabs")

# Lines that crontab accepts beside entries, and that a listing shows exactly.
ACCEPTED = st.one_of(
    st.binary(max_size=20).map(lambda text: b"#" + text.translate(None, b"\n\r\b\\")),
    st.sampled_from(
        [b"", b"MAILTO=a@example.com", b'A="b % c"', b"0 4 * * * backup \xff % x", b"@daily \\n"]
    ),
)
CRONTABS = st.lists(ACCEPTED, max_size=6).map(lambda lines: b"".join(x + b"\n" for x in lines))


def cron(environ: Mapping[str, str], number: int = DRAWN) -> Cron:
    return Cron(environ, lambda below: number % below, lambda: NOON, lambda: None)


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A directory for a `crontab` program of the test."""
    return tmp_path


def cron_with_script(programs: Path, script: str) -> Cron:
    """Return the keeper of a `crontab` program that runs this script."""
    program = programs / "crontab"
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    program.chmod(0o755)
    return cron({"PATH": f"{programs}:/usr/bin:/bin"})


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(CRONTABS)
def test_installation_and_removal_restore_a_real_crontab(
    owner: CrontabOwner, crontab: bytes
) -> None:
    """After two installations and a removal, the crontab is the same byte for byte."""
    owner.write(crontab or None)
    keeper = cron(owner.environ)

    assert Installation.INSTALLED is keeper.install(JOB)[0]
    assert crontab + ENTRY == owner.read()
    assert Installation.UNCHANGED is cron(owner.environ, 5).install(JOB)[0]
    assert crontab + ENTRY == owner.read()
    assert keeper.remove() is not None
    assert (crontab or None) == owner.read()
    assert keeper.remove() is None


def test_another_command_replaces_only_our_line(owner: CrontabOwner) -> None:
    """The time of the first installation stays, and so do all other lines."""
    cron(owner.environ).install(JOB)
    owner.write((owner.read() or b"") + b"A=x\n")
    other = Job(("/usr/bin/certferry", "sync"), environment={"HOME": "/srv/50%"})

    assert Installation.REPLACED is cron(owner.environ, 5).install(other)[0]
    assert (
        b"18 3,15 * * * /bin/sleep 42; /usr/bin/env HOME=/srv/50\\% /usr/bin/certferry sync"
        b" # certferry schedule\nA=x\n"
    ) == owner.read()


def test_installed_entry(owner: CrontabOwner) -> None:
    """The installed entry gives the command, the time and the next run."""
    keeper = cron(owner.environ)
    assert keeper.find() is None
    keeper.install(JOB)

    scheduled = keeper.find()

    assert scheduled is not None
    assert COMMAND == scheduled.command
    assert "every day at 03:18:42 and 15:18:42, by this host's clock" == str(scheduled.when)
    assert datetime(2026, 11, 25, 15, 18, 42, tzinfo=UTC) == scheduled.next_run


def test_entry_with_another_command_keeps_its_times(owner: CrontabOwner) -> None:
    """The operator's times and the other lines stay; a second installation changes nothing."""
    owner.write(b"*/30 2 * * 1 /usr/bin/certferry sync # certferry schedule\nA=x\n")

    assert Installation.REPLACED is cron(owner.environ).install(JOB)[0]
    expected = b"*/30 2 * * 1 " + COMMAND.encode() + b" # certferry schedule\nA=x\n"
    assert expected == owner.read()
    assert Installation.UNCHANGED is cron(owner.environ, 5).install(JOB)[0]


def test_entry_that_the_operator_made_daily(owner: CrontabOwner) -> None:
    """The times are the operator's choice."""
    owner.write(b"30 4 * * * " + COMMAND.encode() + b" # certferry schedule\n")

    change, scheduled = cron(owner.environ).install(JOB)

    assert Installation.UNCHANGED is change
    assert "every day at 04:30, by this host's clock" == str(scheduled.when)
    assert datetime(2026, 11, 26, 4, 30, tzinfo=UTC) == scheduled.next_run


def test_unusual_times_have_no_next_run(owner: CrontabOwner) -> None:
    """Times beyond certferry's understanding are shown as in the crontab."""
    owner.write(b"*/30 2 * * 1 certferry sync # certferry schedule\n")

    scheduled = cron(owner.environ).find()

    assert scheduled is not None
    assert scheduled.next_run is None
    assert "as edited by hand: */30 2 * * 1" == str(scheduled.when)


def test_without_a_daemon_there_is_no_next_run(owner: CrontabOwner) -> None:
    """The schedule names the daemon to start instead of a next run."""
    to_do = Text("start it")
    keeper = Cron(owner.environ, lambda _: 0, lambda: NOON, lambda: to_do)
    keeper.install(JOB)

    scheduled = keeper.find()

    assert scheduled is not None
    assert to_do is scheduled.to_do
    assert scheduled.next_run is None


@pytest.mark.parametrize(
    ("number", "time"),
    [
        (0, b"1 0,12 * * * /usr"),
        (59 * 60 + 9, b"1 1,13 * * * /bin/sleep 9; /usr"),
        (NIGHT_MOMENTS - 1, b"59 5,17 * * * /bin/sleep 59; /usr"),
    ],
)
def test_random_moment_of_an_entry(owner: CrontabOwner, number: int, time: bytes) -> None:
    """The random source picks one of all seconds of the night, and the entry starts then."""
    limits: list[int] = []

    def pick(below: int) -> int:
        limits.append(below)
        return number

    Cron(owner.environ, pick, lambda: NOON, lambda: None).install(JOB)

    assert [NIGHT_MOMENTS] == limits
    assert (owner.read() or b"").startswith(time)


def test_next_run_is_in_the_future() -> None:
    """The next run is today if one of the times is still ahead, otherwise tomorrow."""
    assert NOON.replace(hour=12, minute=1) == next_run([time(12, 1)], NOON)
    assert NOON.replace(day=26) == next_run([time(12, 0)], NOON)
    assert NOON.replace(hour=15) == next_run([time(3), time(15)], NOON)
    assert NOON.replace(day=26, hour=3) == next_run([time(3), time(11)], NOON)


def test_machine_without_cron(tmp_path: Path) -> None:
    """Installation fails with a hint about systemd; finding and removing return without an
    error.
    """
    keeper = cron({"PATH": str(tmp_path)})

    with pytest.raises(ScheduleError, match="`crontab` cannot be run: No such file") as caught:
        keeper.install(JOB)

    assert "--systemd" in str(caught.value.hint)
    assert keeper.find() is None
    assert keeper.remove() is None


@with_root
def test_user_denied_by_cron(owner: CrontabOwner) -> None:
    """The error quotes the real crontab, and the hint offers systemd."""
    if Path("/etc/cron.allow").exists():
        pytest.skip("this machine says in /etc/cron.allow who has a crontab")
    with owner.denied():
        for act in (lambda: cron(owner.environ).install(JOB), cron(owner.environ).find):
            with pytest.raises(ScheduleError, match="not allowed to use this program") as caught:
                act()
            assert "certferry schedule install --systemd" in str(caught.value.hint)

    assert owner.read() is None


def test_line_too_long_for_cron(owner: CrontabOwner) -> None:
    """The error quotes cron, the hint offers systemd, and the crontab stays."""
    owner.write(b"# whole\n")

    with pytest.raises(ScheduleError, match="command too long") as caught:
        cron(owner.environ).install(replace(JOB, environment={"no_proxy": "h.example.com," * 80}))

    assert "certferry schedule install --systemd" in str(caught.value.hint)
    assert b"# whole\n" == owner.read()


@with_root
def test_broken_crontab_stays_unchanged(owner: CrontabOwner) -> None:
    """The real crontab refuses the other lines, so the crontab stays as before."""
    owner.write(b"# whole\n")
    broken = owner.stored.read_bytes() + b"this is no entry\n"
    owner.stored.write_bytes(broken)

    with pytest.raises(ScheduleError, match=r"cannot be written: .*bad minute") as caught:
        cron(owner.environ).install(JOB)

    assert "nothing was changed" in str(caught.value.hint)
    assert broken == owner.stored.read_bytes()


@with_root
def test_last_line_without_a_line_end(owner: CrontabOwner) -> None:
    """The real crontab requires the line end; without it, the new entry would continue the last
    line.
    """
    owner.write(b"# whole\n")
    owner.stored.write_bytes(b"A=b\n0 4 * * * backup")

    cron(owner.environ).install(JOB)

    assert b"A=b\n0 4 * * * backup\n" + ENTRY == owner.read()


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo oh no >&2; exit 3", "cannot be read: oh no"),
        ("exit 3", "cannot be read: exit code 3"),
        ('[ "$1" = -l ] || { echo disk full >&2; exit 1; }', "cannot be written: disk full"),
    ],
)
def test_failed_crontab_is_quoted(programs: Path, script: str, message: str) -> None:
    """A failure to read or write gives one message, and the hint offers systemd."""
    with pytest.raises(ScheduleError, match=message) as caught:
        cron_with_script(programs, script).install(JOB)

    assert "--systemd" in str(caught.value.hint)
    assert "crontab -" not in str(caught.value.hint)


def test_crontab_that_is_no_program(programs: Path) -> None:
    """The error differs from the error about a missing program."""
    program = programs / "crontab"
    program.write_bytes(b"\x00\x01")
    program.chmod(0o755)
    keeper = cron({"PATH": str(programs)})

    with pytest.raises(ScheduleError, match="`crontab` cannot be run"):
        keeper.find()


def test_busybox_without_a_crontab(programs: Path) -> None:
    """BusyBox's message for a missing crontab counts as an empty schedule."""
    words = "crontab: can't open 'root': No such file or directory"

    assert cron_with_script(programs, f'echo "{words}" >&2; exit 1').find() is None


def test_real_crontab_is_installed() -> None:
    """The tests above have run with a real crontab."""
    assert shutil.which("crontab")


# --- certferry's entry in any crontab: installation and removal leave the other lines unchanged


TIMES = st.builds(time, st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
COMMANDS = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0\n")), min_size=1)
TIME = time(3, 17)

# Common lines, and lines of arbitrary bytes.
LINES = st.one_of(
    st.sampled_from(
        [
            b"",
            b"MAILTO=ops@example.com",
            b'MAILTO=""',
            b"SHELL=/bin/bash",
            b"# m h  dom mon dow   command",
            b"0 4 * * * /usr/bin/backup # certferry",
            b"0 4 * * * certferry sync",
            b"@daily echo 50\\% done % to its input",
            b"#17 3 * * * certferry sync # certferry schedule",
            b"*/5 * * * * printf 'no # certferry schedule here'",
        ]
    ),
    st.binary(max_size=30).filter(lambda line: b"\n" not in line),
)
OTHERS = st.builds(lambda lines, end: b"\n".join(lines) + end, st.lists(LINES), LINES)
OWN = st.builds(
    lambda when, command, end: when + b" " + command + b" " + MARK + end,
    st.sampled_from([b"17 3 * * *", b" 5\t4 * * 1", b"@weekly", b"@hourly"]),
    st.sampled_from([b"certferry sync", b"/opt/certferry --config /etc/c.toml -q sync"]),
    st.sampled_from([b"", b"\t "]),
)
ANY = st.builds(
    lambda lines, end: b"".join(line + b"\n" for line in lines) + end,
    st.lists(LINES | OWN, max_size=8),
    LINES | OWN,
)


def closed(crontab: bytes) -> bytes:
    """Return a crontab with a line end after its last line, as cron requires."""
    return crontab + b"\n" if crontab and not crontab.endswith(b"\n") else crontab


def is_ours(line: bytes) -> bool:
    """Decide independently of the code: an entry that ends with certferry's mark."""
    ends = line.rstrip(b" \t")[-len(MARK) - 1 :] == b" " + MARK
    fields = line.removesuffix(MARK).split()
    return ends and fields[0][:1] in b"0123456789*~@" and len(fields) > 1


def foreign(crontab: bytes) -> list[bytes]:
    """Return the lines of other owners."""
    lines = closed(crontab).split(b"\n")[:-1] if crontab else []
    return [line for line in lines if not is_ours(line)]


@given(OTHERS, COMMANDS, TIMES)
def test_installation_and_removal_restore_any_crontab(
    crontab: bytes, words: list[str], at: time
) -> None:
    """After installation and removal, the crontab is the same byte for byte."""
    assume(not any(map(is_ours, crontab.split(b"\n"))))
    installed = with_entry(crontab, shell_command(words, {}), at)

    assert installed.startswith(closed(crontab))
    assert 1 == installed[len(closed(crontab)) :].count(b"\n")
    assert closed(crontab) == without_entry(installed)


@given(ANY, COMMANDS, TIMES)
def test_every_line_of_others_survives(crontab: bytes, words: list[str], at: time) -> None:
    """Every other line keeps its bytes and its place, whether or not the crontab has an entry of
    certferry.
    """
    installed = with_entry(crontab, shell_command(words, {}), at)

    assert foreign(crontab) == foreign(installed)
    assert foreign(crontab) == foreign(without_entry(crontab))
    assert foreign(crontab) == foreign(without_entry(installed))


@given(ANY, COMMANDS, TIMES, TIMES)
def test_second_installation_changes_nothing(
    crontab: bytes, words: list[str], first: time, second: time
) -> None:
    """An existing entry keeps its time, whatever the random number."""
    command = shell_command(words, {})
    installed_once = with_entry(crontab, command, first)

    assert installed_once == with_entry(installed_once, command, second)
    assert without_entry(installed_once) == without_entry(without_entry(installed_once))


@given(OTHERS, OTHERS, TIMES, TIMES)
def test_another_command_replaces_the_entry_in_place(
    before: bytes, after: bytes, first: time, second: time
) -> None:
    """The time, the place and the lines around the entry stay."""
    assume(not any(map(is_ours, (before + b"\n" + after).split(b"\n"))))
    old = with_entry(before, b"certferry --config /etc/old.toml sync", first) + after
    new = with_entry(old, b"certferry --config /etc/new.toml sync", second)

    assert closed(old.replace(b"/etc/old.toml", b"/etc/new.toml", 1)) == closed(new)
    assert [twice(first)] == [entry.times for entry in own_entries(new)]


def test_times_changed_by_the_user_stay() -> None:
    """The operator's times survive a new command."""
    crontab = b"*/30 2-4 * * 1 certferry sync # certferry schedule\nMAILTO=x\n"

    assert b"*/30 2-4 * * 1 certferry -q sync # certferry schedule\nMAILTO=x\n" == with_entry(
        crontab, b"certferry -q sync", TIME
    )


def test_impossible_times_are_ignored() -> None:
    """A line may reach the crontab without the checks of `crontab`."""
    assert (time(23, 59),) == CronEntry(b"59 23 * * *", b"").times
    assert (time(3, 17, 5), time(15, 17, 5)) == CronEntry(b"17 3,15 * * *", b"", delay=5).times
    for when in (b"60 3 * * *", b"17 24 * * *", b"17 3,24 * * *", b"17 1,9,17 * * *"):
        assert () == CronEntry(when, b"").times


def test_commented_entry_belongs_to_the_user() -> None:
    """A disabled line is the user's comment."""
    crontab = b"#17 3 * * * certferry sync # certferry schedule\n"

    assert [] == own_entries(crontab)
    assert crontab == without_entry(crontab)


@given(st.integers(0, NIGHT_MOMENTS - 1))
def test_random_moments_are_at_night_off_the_full_hour(number: int) -> None:
    """A random time is within six hours after midnight, when few other jobs begin."""
    at = night_time(number)

    assert 0 <= at.hour < 6
    assert 1 <= at.minute <= 59


def test_every_random_number_gives_another_moment() -> None:
    """Each number has a distinct time."""
    assert NIGHT_MOMENTS == len({night_time(n) for n in range(NIGHT_MOMENTS)})


@given(TIMES)
def test_the_two_moments_of_a_day_are_half_a_day_apart(at: time) -> None:
    """The pair is in the order of the day, and includes the given time."""
    first, second = twice(at)

    assert at in (first, second)
    assert 12 == second.hour - first.hour
    assert first == second.replace(hour=first.hour)


def as_cron_reads(command: bytes) -> bytes:
    """Read percent signs as cron does: a bare sign ends the command, an escaped sign stands for
    itself.

    The loop of `child_process()` in Vixie cron's do_command.c does the same, and every cron has
    that loop.
    """
    output, escaped = bytearray(), False
    for byte in command:
        character = bytes([byte])
        if escaped:
            if character == b"%":
                output.pop()
            output += character
            escaped = False
        elif character == b"%":
            break
        else:
            output += character
            escaped = character == b"\\"
    return bytes(output)


TRICKY = st.text(
    st.sampled_from("a%\\'\"$` #!~*é\r\t")
    | st.characters(codec="utf-8", exclude_characters="\0\n"),
    max_size=12,
)


@given(st.lists(TRICKY, max_size=5), st.dictionaries(st.just("HOME"), TRICKY))
def test_command_arrives_unchanged(words: list[str], environment: dict[str, str]) -> None:
    """Each word reaches the program through cron's percent signs and the shell's quotes."""
    command = shell_command(["/usr/bin/printf", "%s\\0", "x", *words], environment)
    line = as_cron_reads(command + b" " + MARK)

    result = subprocess.run(
        ["/bin/sh", "-c", line], env={"HOME": "/"}, capture_output=True, check=True
    )

    assert ["x", *words] == result.stdout.decode().split("\0")[:-1]


# Debian's cron (3.0pl1-197) gave a line below each of these texts this PATH.
@pytest.mark.parametrize(
    ("words", "environment"),
    [
        (["certferry", "--config", "/etc/a\n* * * * * touch /tmp/x"], {}),
        (["certferry"], {"HTTPS_PROXY": "http://proxy:3128\n* * * * * touch /tmp/x #"}),
    ],
    ids=["path", "variable"],
)
def test_line_end_in_a_command_is_refused(words: list[str], environment: dict[str, str]) -> None:
    """A line end would begin another entry; the error shows the word on a single line."""
    with pytest.raises(ScheduleError, match="line end") as caught:
        shell_command(words, environment)

    assert r"\n* * * * * touch" in str(caught.value.message)


@pytest.mark.parametrize(
    ("above", "path"),
    [
        (b"", "/usr/bin:/bin"),
        (b'PATH = "/usr/sbin:/usr/bin" \n', "/usr/sbin:/usr/bin"),
        (b"PATH=\n", ""),
        (b'PATH=""\n', ""),
        (b"\tPATH=/x:$HOME/bin:/usr/bin\n", "/x:$HOME/bin:/usr/bin"),
        (b"PATH=/x\nMAILTO=me\nPATH=/y\n", "/y"),
        (b"#PATH=/x\nMYPATH=/y\n0 4 * * * PATH=/z backup\n", "/usr/bin:/bin"),
    ],
)
def test_path_of_an_entry(above: bytes, path: str) -> None:
    """The last PATH above the entry counts; a PATH below, or within another command, is ignored."""
    crontab = with_entry(above, b"certferry sync", TIME)

    assert [path] == [entry.path for entry in own_entries(crontab + b"PATH=/late\n")]


@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
@pytest.mark.parametrize("code", [0, 1, 137])
def test_failed_run_is_followed_by_its_report(tmp_path: Path, shell: str, code: int) -> None:
    """The report gets the run's exit code and options, and the line keeps the run's exit code."""
    program, calls = tmp_path / "a 'run' $HOME", tmp_path / "calls"
    program.write_text(
        f'#!/bin/sh\necho "$MONITOR_EXIT_STATUS:$*" >>{calls}\n'
        f'case "$*" in *sync*) exit {code};; esac\n'
    )
    program.chmod(0o755)
    program_and_options = (str(program), "--config", "/etc/c 100%.toml")
    words = watched(
        (*program_and_options, "sync", "--scheduled"), (*program_and_options, "notify", "failed")
    )
    # cron turns `\%` into a percent sign.
    line = shell_command(words, {"HOME": "/"}).decode().replace("\\%", "%")

    ended = subprocess.run([shell, "-c", line], check=False)

    reported = [f"{code}:--config /etc/c 100%.toml notify failed"] if code else []
    assert code == ended.returncode
    assert [
        ":--config /etc/c 100%.toml sync --scheduled",
        *reported,
    ] == calls.read_text().splitlines()
