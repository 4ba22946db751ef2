"""The crontab and the daemon that follows it."""

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

# --- The real `crontab`: what it accepts survives, and what it refuses is reported and changes
# nothing


NOON = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
COMMAND = "/usr/bin/certferry --config /etc/certferry.toml --quiet sync --scheduled"
JOB = Job(tuple(COMMAND.split()))
LINE = b"18 3,15 * * * /bin/sleep 42; " + COMMAND.encode()
ENTRY = LINE + b" # certferry schedule\n"
DRAWN = (3 * 59 + 17) * 60 + 42

with_root = pytest.mark.skipif(not AS_ROOT, reason="only root can reach where cron keeps crontabs")

# What crontab lets pass beside entries, and a listing shows exactly.
ACCEPTED = st.one_of(
    st.binary(max_size=20).map(lambda rest: b"#" + rest.translate(None, b"\n\r\b\\")),
    st.sampled_from(
        [b"", b"MAILTO=a@example.com", b'A="b % c"', b"0 4 * * * backup \xff % x", b"@daily \\n"]
    ),
)
CRONTABS = st.lists(ACCEPTED, max_size=6).map(lambda lines: b"".join(x + b"\n" for x in lines))


def cron(environ: Mapping[str, str], number: int = DRAWN) -> Cron:
    return Cron(environ, lambda below: number % below, lambda: NOON, lambda: None)


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A directory for a `crontab` of the test's own."""
    return tmp_path


def stand_in(programs: Path, script: str) -> Cron:
    """Return the keeper of a `crontab` that does what no real one can be made to do."""
    program = programs / "crontab"
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    program.chmod(0o755)
    return cron({"PATH": f"{programs}:/usr/bin:/bin"})


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(CRONTABS)
def test_a_real_crontab_is_the_same_afterwards(owner: CrontabOwner, crontab: bytes) -> None:
    """Installed twice and removed, it is what it was, byte for byte."""
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
    """The time of the first installation stays, and so does everything after the line."""
    cron(owner.environ).install(JOB)
    owner.write((owner.read() or b"") + b"A=x\n")
    other = Job(("/usr/bin/certferry", "sync"), environment={"HOME": "/srv/50%"})

    assert Installation.REPLACED is cron(owner.environ, 5).install(other)[0]
    assert (
        b"18 3,15 * * * /bin/sleep 42; /usr/bin/env HOME=/srv/50\\% /usr/bin/certferry sync"
        b" # certferry schedule\nA=x\n"
    ) == owner.read()


def test_what_is_installed_is_found(owner: CrontabOwner) -> None:
    """The command, the time, and the next run of it."""
    keeper = cron(owner.environ)
    assert keeper.find() is None
    keeper.install(JOB)

    found = keeper.find()

    assert found is not None
    assert COMMAND == found.command
    assert "every day at 03:18:42 and 15:18:42, by this host's clock" == str(found.when)
    assert datetime(2026, 11, 25, 15, 18, 42, tzinfo=UTC) == found.next_run


def test_entry_with_another_command_keeps_its_rhythm(owner: CrontabOwner) -> None:
    """The operator's rhythm and the other lines stay; a second installation changes nothing."""
    owner.write(b"*/30 2 * * 1 /usr/bin/certferry sync # certferry schedule\nA=x\n")

    assert Installation.REPLACED is cron(owner.environ).install(JOB)[0]
    expected = b"*/30 2 * * 1 " + COMMAND.encode() + b" # certferry schedule\nA=x\n"
    assert expected == owner.read()
    assert Installation.UNCHANGED is cron(owner.environ, 5).install(JOB)[0]


def test_line_that_the_operator_has_made_daily_stays_so(owner: CrontabOwner) -> None:
    """The rhythm is the operator's choice."""
    owner.write(b"30 4 * * * " + COMMAND.encode() + b" # certferry schedule\n")

    change, found = cron(owner.environ).install(JOB)

    assert Installation.UNCHANGED is change
    assert "every day at 04:30, by this host's clock" == str(found.when)
    assert datetime(2026, 11, 26, 4, 30, tzinfo=UTC) == found.next_run


def test_a_rhythm_of_the_operators_own_has_no_next_run(owner: CrontabOwner) -> None:
    """What is not understood is shown as it is written."""
    owner.write(b"*/30 2 * * 1 certferry sync # certferry schedule\n")

    found = cron(owner.environ).find()

    assert found is not None
    assert found.next_run is None
    assert "as edited by hand: */30 2 * * 1" == str(found.when)


def test_without_a_daemon_there_is_no_next_run(owner: CrontabOwner) -> None:
    """What is to be done first is reported with what is installed."""
    to_do = Text("start it")
    keeper = Cron(owner.environ, lambda _: 0, lambda: NOON, lambda: to_do)
    keeper.install(JOB)

    found = keeper.find()

    assert found is not None
    assert to_do is found.to_do
    assert found.next_run is None


@pytest.mark.parametrize(
    ("number", "time"),
    [
        (0, b"1 0,12 * * * /usr"),
        (59 * 60 + 9, b"1 1,13 * * * /bin/sleep 9; /usr"),
        (NIGHT_MOMENTS - 1, b"59 5,17 * * * /bin/sleep 59; /usr"),
    ],
)
def test_the_second_is_the_random_sources(owner: CrontabOwner, number: int, time: bytes) -> None:
    """It is asked for one of all the seconds of the night, and what it gives is written."""
    asked: list[int] = []

    def pick(below: int) -> int:
        asked.append(below)
        return number

    Cron(owner.environ, pick, lambda: NOON, lambda: None).install(JOB)

    assert [NIGHT_MOMENTS] == asked
    assert (owner.read() or b"").startswith(time)


def test_the_next_run_is_always_ahead() -> None:
    """Today if one of the times is still to come, tomorrow otherwise."""
    assert NOON.replace(hour=12, minute=1) == next_run([time(12, 1)], NOON)
    assert NOON.replace(day=26) == next_run([time(12, 0)], NOON)
    assert NOON.replace(hour=15) == next_run([time(3), time(15)], NOON)
    assert NOON.replace(day=26, hour=3) == next_run([time(3), time(11)], NOON)


def test_without_the_program_the_hint_knows_another_way(tmp_path: Path) -> None:
    """A machine without cron says so, and names systemd; there is nothing to find."""
    keeper = cron({"PATH": str(tmp_path)})

    with pytest.raises(ScheduleError, match="`crontab` cannot be run: No such file") as caught:
        keeper.install(JOB)

    assert "--systemd" in str(caught.value.hint)
    assert keeper.find() is None
    assert keeper.remove() is None


@with_root
def test_a_user_whom_cron_refuses_is_reported(owner: CrontabOwner) -> None:
    """The real crontab's own words, and another way."""
    if Path("/etc/cron.allow").exists():
        pytest.skip("this machine says in /etc/cron.allow who has a crontab")
    with owner.denied():
        for act in (lambda: cron(owner.environ).install(JOB), cron(owner.environ).find):
            with pytest.raises(ScheduleError, match="not allowed to use this program") as caught:
                act()
            assert "certferry schedule install --systemd" in str(caught.value.hint)

    assert owner.read() is None


def test_a_line_that_is_too_long_for_cron(owner: CrontabOwner) -> None:
    """Cron's own words, and another way; the crontab stays."""
    owner.write(b"# whole\n")

    with pytest.raises(ScheduleError, match="command too long") as caught:
        cron(owner.environ).install(replace(JOB, environment={"no_proxy": "h.example.com," * 80}))

    assert "certferry schedule install --systemd" in str(caught.value.hint)
    assert b"# whole\n" == owner.read()


@with_root
def test_a_crontab_that_is_broken_already_stays_as_it_is(owner: CrontabOwner) -> None:
    """Where the real crontab refuses the other lines, nothing is replaced."""
    owner.write(b"# whole\n")
    broken = owner.stored.read_bytes() + b"this is no entry\n"
    owner.stored.write_bytes(broken)

    with pytest.raises(ScheduleError, match=r"cannot be written: .*bad minute") as caught:
        cron(owner.environ).install(JOB)

    assert "nothing was changed" in str(caught.value.hint)
    assert broken == owner.stored.read_bytes()


@with_root
def test_a_last_line_without_its_end_gets_one(owner: CrontabOwner) -> None:
    """The real crontab accepts no other; ours does not continue what stands there."""
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
def test_a_crontab_that_fails_is_reported_in_its_own_words(
    programs: Path, script: str, message: str
) -> None:
    """Not read or not written: one message, and a hint that names nothing which has just failed."""
    with pytest.raises(ScheduleError, match=message) as caught:
        stand_in(programs, script).install(JOB)

    assert "--systemd" in str(caught.value.hint)
    assert "crontab -" not in str(caught.value.hint)


def test_a_program_that_cannot_be_run_is_reported(programs: Path) -> None:
    """A file that is no program is not called missing."""
    program = programs / "crontab"
    program.write_bytes(b"\x00\x01")
    program.chmod(0o755)
    keeper = cron({"PATH": str(programs)})

    with pytest.raises(ScheduleError, match="`crontab` cannot be run"):
        keeper.find()


def test_busyboxes_words_for_no_crontab_are_understood(programs: Path) -> None:
    """Without a crontab there is nothing to find, whichever cron says so."""
    words = "crontab: can't open 'root': No such file or directory"

    assert stand_in(programs, f'echo "{words}" >&2; exit 1').find() is None


def test_the_real_program_is_here() -> None:
    """These tests have run with a real crontab."""
    assert shutil.which("crontab")


# --- Our entry in any crontab: it comes and goes, and nothing else changes by a byte


TIMES = st.builds(time, st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
COMMANDS = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0\n")), min_size=1)
TIME = time(3, 17)

# Lines as people have them, and what only bytes can be.
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
    """Return a crontab whose last line has its end, as cron requires."""
    return crontab + b"\n" if crontab and not crontab.endswith(b"\n") else crontab


def is_ours(line: bytes) -> bool:
    """Repeat it, in other words than the code: an entry that ends with our mark."""
    ends = line.rstrip(b" \t")[-len(MARK) - 1 :] == b" " + MARK
    fields = line.removesuffix(MARK).split()
    return ends and fields[0][:1] in b"0123456789*~@" and len(fields) > 1


def foreign(crontab: bytes) -> list[bytes]:
    """Return the lines that are not ours."""
    lines = closed(crontab).split(b"\n")[:-1] if crontab else []
    return [line for line in lines if not is_ours(line)]


@given(OTHERS, COMMANDS, TIMES)
def test_what_comes_and_goes_leaves_no_trace(crontab: bytes, words: list[str], at: time) -> None:
    """Installed and removed again, the crontab is what it was, byte for byte."""
    assume(not any(map(is_ours, crontab.split(b"\n"))))
    installed = with_entry(crontab, shell_command(words, {}), at)

    assert installed.startswith(closed(crontab))
    assert 1 == installed[len(closed(crontab)) :].count(b"\n")
    assert closed(crontab) == without_entry(installed)


@given(ANY, COMMANDS, TIMES)
def test_every_line_of_others_survives(crontab: bytes, words: list[str], at: time) -> None:
    """Whatever is there already, ours or not, no byte and no place of another's line changes."""
    installed = with_entry(crontab, shell_command(words, {}), at)

    assert foreign(crontab) == foreign(installed)
    assert foreign(crontab) == foreign(without_entry(crontab))
    assert foreign(crontab) == foreign(without_entry(installed))


@given(ANY, COMMANDS, TIMES, TIMES)
def test_the_second_time_nothing_changes(
    crontab: bytes, words: list[str], first: time, second: time
) -> None:
    """Whatever number is drawn: an entry keeps the time that it has."""
    command = shell_command(words, {})
    once = with_entry(crontab, command, first)

    assert once == with_entry(once, command, second)
    assert without_entry(once) == without_entry(without_entry(once))


@given(OTHERS, OTHERS, TIMES, TIMES)
def test_another_command_replaces_the_line_in_its_place(
    before: bytes, after: bytes, first: time, second: time
) -> None:
    """The time stays, the place stays, and so does everything around it."""
    assume(not any(map(is_ours, (before + b"\n" + after).split(b"\n"))))
    old = with_entry(before, b"certferry --config /etc/old.toml sync", first) + after
    new = with_entry(old, b"certferry --config /etc/new.toml sync", second)

    assert closed(old.replace(b"/etc/old.toml", b"/etc/new.toml", 1)) == closed(new)
    assert [twice(first)] == [entry.times for entry in own_entries(new)]


def test_a_time_that_the_user_has_changed_is_kept() -> None:
    """The operator's own rhythm survives a new command."""
    crontab = b"*/30 2-4 * * 1 certferry sync # certferry schedule\nMAILTO=x\n"

    assert b"*/30 2-4 * * 1 certferry -q sync # certferry schedule\nMAILTO=x\n" == with_entry(
        crontab, b"certferry -q sync", TIME
    )


def test_a_time_that_no_clock_shows_is_no_time() -> None:
    """A line that came there by other means than `crontab` may say anything."""
    assert (time(23, 59),) == CronEntry(b"59 23 * * *", b"").times
    assert (time(3, 17, 5), time(15, 17, 5)) == CronEntry(b"17 3,15 * * *", b"", delay=5).times
    for when in (b"60 3 * * *", b"17 24 * * *", b"17 3,24 * * *", b"17 1,9,17 * * *"):
        assert () == CronEntry(when, b"").times


def test_an_entry_that_is_commented_out_is_not_ours_any_more() -> None:
    """A line that the user has switched off by hand is a comment of theirs."""
    crontab = b"#17 3 * * * certferry sync # certferry schedule\n"

    assert [] == own_entries(crontab)
    assert crontab == without_entry(crontab)


@given(st.integers(0, NIGHT_MOMENTS - 1))
def test_every_moment_lies_in_the_night_and_on_no_full_hour(number: int) -> None:
    """A chosen time is one of the six hours after midnight, when few others begin."""
    at = night_time(number)

    assert 0 <= at.hour < 6
    assert 1 <= at.minute <= 59


def test_the_moments_are_all_different() -> None:
    """Every number gives a time of its own."""
    assert NIGHT_MOMENTS == len({night_time(n) for n in range(NIGHT_MOMENTS)})


@given(TIMES)
def test_the_two_moments_of_a_day_are_half_a_day_apart(at: time) -> None:
    """Whichever of them is known, in the order of the day."""
    first, second = twice(at)

    assert at in (first, second)
    assert 12 == second.hour - first.hour
    assert first == second.replace(hour=first.hour)


def as_cron_reads(command: bytes) -> bytes:
    """Take the percent signs as cron does: bare, one ends the command; escaped, it is itself.

    Written from the loop in `child_process()` of Vixie cron's do_command.c, which every cron keeps.
    """
    read, escaped = bytearray(), False
    for byte in command:
        character = bytes([byte])
        if escaped:
            if character == b"%":
                read.pop()
            read += character
            escaped = False
        elif character == b"%":
            break
        else:
            read += character
            escaped = character == b"\\"
    return bytes(read)


TRICKY = st.text(
    st.sampled_from("a%\\'\"$` #!~*é\r\t")
    | st.characters(codec="utf-8", exclude_characters="\0\n"),
    max_size=12,
)


@given(st.lists(TRICKY, max_size=5), st.dictionaries(st.just("HOME"), TRICKY))
def test_a_command_arrives_as_it_was_meant(words: list[str], environment: dict[str, str]) -> None:
    """Through cron's percent signs and the shell's quotes, each word reaches the program."""
    command = shell_command(["/usr/bin/printf", "%s\\0", "x", *words], environment)
    line = as_cron_reads(command + b" " + MARK)

    result = subprocess.run(
        ["/bin/sh", "-c", line], env={"HOME": "/"}, capture_output=True, check=True
    )

    assert ["x", *words] == result.stdout.decode().split("\0")[:-1]


# What Debian's cron (3.0pl1-197) put into PATH for a line below each of these.
@pytest.mark.parametrize(
    ("words", "environment"),
    [
        (["certferry", "--config", "/etc/a\n* * * * * touch /tmp/x"], {}),
        (["certferry"], {"HTTPS_PROXY": "http://proxy:3128\n* * * * * touch /tmp/x #"}),
    ],
    ids=["path", "variable"],
)
def test_a_line_end_makes_no_line_of_the_crontab(
    words: list[str], environment: dict[str, str]
) -> None:
    """It is refused before anything is written, and the word is named on one line."""
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
def test_the_path_of_a_line_is_the_last_one_above_it(above: bytes, path: str) -> None:
    """A PATH below it, or in another command, counts for others."""
    crontab = with_entry(above, b"certferry sync", TIME)

    assert [path] == [entry.path for entry in own_entries(crontab + b"PATH=/late\n")]


@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
@pytest.mark.parametrize("code", [0, 1, 137])
def test_a_run_that_fails_is_followed_by_its_report(tmp_path: Path, shell: str, code: int) -> None:
    """Reported how it ended, with the same options; the line's own exit code stays the run's."""
    program, calls = tmp_path / "a 'run' $HOME", tmp_path / "calls"
    program.write_text(
        f'#!/bin/sh\necho "$MONITOR_EXIT_STATUS:$*" >>{calls}\n'
        f'case "$*" in *sync*) exit {code};; esac\n'
    )
    program.chmod(0o755)
    both = (str(program), "--config", "/etc/c 100%.toml")
    words = watched((*both, "sync", "--scheduled"), (*both, "notify", "failed"))
    # What cron makes of the line: `\%` is a percent sign.
    line = shell_command(words, {"HOME": "/"}).decode().replace("\\%", "%")

    ended = subprocess.run([shell, "-c", line], check=False)

    reported = [f"{code}:--config /etc/c 100%.toml notify failed"] if code else []
    assert code == ended.returncode
    assert [
        ":--config /etc/c 100%.toml sync --scheduled",
        *reported,
    ] == calls.read_text().splitlines()
