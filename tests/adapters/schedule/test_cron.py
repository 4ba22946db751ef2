"""The real `crontab`: what it accepts survives, and what it refuses is told and changes nothing."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certferry.adapters.schedule.cron import Cron, next_run
from certferry.core.schedule import NIGHT_MOMENTS, Installation, Job
from certferry.errors import ScheduleError
from certferry.text import Text
from tests.adapters.schedule.crontab_owner import AS_ROOT, CrontabOwner

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
    """Give a crontab's keeper whose random number is known."""
    return Cron(environ, lambda below: number % below, lambda: NOON, lambda: None)


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A directory for a `crontab` of the test's own."""
    return tmp_path


def stand_in(programs: Path, script: str) -> Cron:
    """Give the keeper of a `crontab` that does what no real one can be made to do."""
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
    assert "every day at 03:18:42 and 15:18:42, by this machine's clock" == str(found.when)
    assert datetime(2026, 11, 25, 15, 18, 42, tzinfo=UTC) == found.next_run


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"7 4 * * * ", b"7 4,16 * * * /bin/sleep 42; "),
        (b"30 21 * * * ", b"30 9,21 * * * /bin/sleep 42; "),
        (b"*/30 2 * * 1 ", b"*/30 2 * * 1 "),
    ],
)
def test_line_of_an_earlier_version_becomes_one_of_this(
    owner: CrontabOwner, before: bytes, after: bytes
) -> None:
    """It ran once a day: its minute stays, and so does a rhythm of the operator's. After that,
    nothing changes any more.
    """
    owner.write(before + b"/usr/bin/certferry --quiet sync # certferry schedule\nA=x\n")

    assert Installation.REPLACED is cron(owner.environ).install(JOB)[0]
    assert after + COMMAND.encode() + b" # certferry schedule\nA=x\n" == owner.read()
    assert Installation.UNCHANGED is cron(owner.environ, 5).install(JOB)[0]


def test_line_that_the_operator_has_made_daily_stays_so(owner: CrontabOwner) -> None:
    """It is one of this version, changed by hand."""
    owner.write(b"30 4 * * * " + COMMAND.encode() + b" # certferry schedule\n")

    change, found = cron(owner.environ).install(JOB)

    assert Installation.UNCHANGED is change
    assert "every day at 04:30, by this machine's clock" == str(found.when)
    assert datetime(2026, 11, 26, 4, 30, tzinfo=UTC) == found.next_run


def test_a_rhythm_of_the_operators_own_has_no_next_run(owner: CrontabOwner) -> None:
    """What is not understood is shown as it is written."""
    owner.write(b"*/30 2 * * 1 certferry sync # certferry schedule\n")

    found = cron(owner.environ).find()

    assert found is not None
    assert found.next_run is None
    assert "as written by hand: */30 2 * * 1" == str(found.when)


def test_without_a_daemon_there_is_no_next_run(owner: CrontabOwner) -> None:
    """What is to be done first is told with what is installed."""
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
    """A machine without cron is told so, and that there is systemd; there is nothing to find."""
    keeper = cron({"PATH": str(tmp_path)})

    with pytest.raises(ScheduleError, match="`crontab` cannot be run: No such file") as caught:
        keeper.install(JOB)

    assert "--systemd" in str(caught.value.hint)
    assert keeper.find() is None
    assert keeper.remove() is None


@with_root
def test_a_user_whom_cron_refuses_is_told(owner: CrontabOwner) -> None:
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
def test_a_crontab_that_fails_is_told_in_its_own_words(
    programs: Path, script: str, message: str
) -> None:
    """Not read or not written: one message, and a hint that names nothing which has just failed."""
    with pytest.raises(ScheduleError, match=message) as caught:
        stand_in(programs, script).install(JOB)

    assert "--systemd" in str(caught.value.hint)
    assert "crontab -" not in str(caught.value.hint)


def test_a_program_that_cannot_be_run_is_told(programs: Path) -> None:
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
