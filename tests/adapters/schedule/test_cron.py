"""The real `crontab`: what it accepts survives, and what it refuses is told and changes nothing."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certferry.adapters.schedule.cron import Cron, is_here, next_run
from certferry.core.schedule import NIGHT_MOMENTS, Change, DailyTime, Job
from certferry.errors import ScheduleError
from certferry.text import Text
from tests.adapters.schedule.crontab_owner import AS_ROOT, CrontabOwner

NOON = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
JOB = Job(("/usr/bin/certferry", "--config", "/etc/certferry.toml", "--quiet", "sync"))
LINE = b"18 3 * * * /usr/bin/certferry --config /etc/certferry.toml --quiet sync"
ENTRY = LINE + b" # certferry schedule\n"

with_root = pytest.mark.skipif(not AS_ROOT, reason="only root can reach where cron keeps crontabs")

# What crontab lets pass beside entries: comments of any bytes, settings, empty lines.
ACCEPTED = st.one_of(
    st.binary(max_size=20).map(lambda rest: b"#" + rest.replace(b"\n", b"")),
    st.sampled_from(
        [b"", b"MAILTO=a@example.com", b'A="b % c"', b"0 4 * * * backup \xff % \r", b"@daily \\r\b"]
    ),
)
CRONTABS = st.lists(ACCEPTED, max_size=6).map(lambda lines: b"".join(x + b"\n" for x in lines))


def cron(environ: Mapping[str, str], number: int = 3 * 59 + 17) -> Cron:
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

    assert Change.INSTALLED is keeper.install(JOB)
    assert crontab + ENTRY == owner.read()
    assert Change.UNCHANGED is cron(owner.environ, 5).install(JOB)
    assert crontab + ENTRY == owner.read()
    assert keeper.remove() is not None
    assert (crontab or None) == owner.read()
    assert keeper.remove() is None


def test_another_command_replaces_only_our_line(owner: CrontabOwner) -> None:
    """The time of the first installation stays, and so does everything after the line."""
    cron(owner.environ).install(JOB)
    owner.write((owner.read() or b"") + b"A=x\r\n")
    other = Job(("/usr/bin/certferry", "sync"), environment={"HOME": "/srv/50%"})

    assert Change.REPLACED is cron(owner.environ, 5).install(other)
    assert (
        b"18 3 * * * /usr/bin/env HOME=/srv/50\\% /usr/bin/certferry sync # certferry schedule\n"
        b"A=x\r\n"
    ) == owner.read()


def test_what_is_installed_is_found(owner: CrontabOwner) -> None:
    """The command, the time, and the next run of it."""
    keeper = cron(owner.environ)
    assert keeper.find() is None
    keeper.install(JOB)

    found = keeper.find()

    assert found is not None
    assert LINE.decode().partition("* ")[2][4:] == found.command
    assert "every day at 03:18, by this machine's clock" == str(found.when)
    assert datetime(2026, 11, 26, 3, 18, tzinfo=UTC) == found.next_run


def test_a_rhythm_of_the_operators_own_has_no_next_run(owner: CrontabOwner) -> None:
    """What is not understood is shown as it is written."""
    owner.write(b"*/30 2 * * 1 certferry sync # certferry schedule\n")

    found = cron(owner.environ).find()

    assert found is not None
    assert found.next_run is None
    assert not found.every_day
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
    ("number", "time"), [(0, b"1 0"), (59, b"1 1"), (NIGHT_MOMENTS - 1, b"59 5")]
)
def test_the_minute_is_the_random_sources(owner: CrontabOwner, number: int, time: bytes) -> None:
    """It is asked for one of all the moments of the night, and what it gives is written."""
    asked: list[int] = []

    def pick(below: int) -> int:
        asked.append(below)
        return number

    Cron(owner.environ, pick, lambda: NOON, lambda: None).install(JOB)

    assert [NIGHT_MOMENTS] == asked
    assert (owner.read() or b"").startswith(time + b" * * * ")


def test_a_line_of_somebodys_own_is_noticed_and_stays(owner: CrontabOwner) -> None:
    """It is told where and when, without what stands around it; ours is no other."""
    own = b"0 4 * * * KEY=secret /opt/bin/certferry -q sync >>/var/log/x 2>&1\n"
    owner.write(own)
    keeper = cron(owner.environ)
    keeper.install(JOB)

    [other] = keeper.others()

    assert "/opt/bin/certferry -q sync" == other.command
    assert "every day at 04:00, by this machine's clock" == str(other.when)
    assert own + ENTRY == owner.read()


def test_the_next_run_is_always_ahead() -> None:
    """Today if the time is still to come, tomorrow otherwise."""
    assert NOON.replace(hour=12, minute=1) == next_run(DailyTime(12, 1), NOON)
    assert NOON.replace(day=26) == next_run(DailyTime(12, 0), NOON)


def test_without_the_program_the_hint_knows_another_way(tmp_path: Path) -> None:
    """A machine without cron is told so, and that there is systemd."""
    environ = {"PATH": str(tmp_path)}
    assert not is_here(environ)

    with pytest.raises(ScheduleError, match="no program `crontab`") as caught:
        cron(environ).install(JOB)

    assert "--systemd" in str(caught.value.hint)


@with_root
def test_a_user_whom_cron_refuses_is_told_where_that_is_written(owner: CrontabOwner) -> None:
    """The real crontab's own words, and the files that decide."""
    if Path("/etc/cron.allow").exists():
        pytest.skip("this machine says in /etc/cron.allow who has a crontab")
    with owner.denied():
        for act in (lambda: cron(owner.environ).install(JOB), cron(owner.environ).find):
            with pytest.raises(ScheduleError, match="not allowed to use this program") as caught:
                act()
            assert "/etc/cron.deny" in str(caught.value.hint)
            assert "crontab -" not in str(caught.value.hint)

    assert owner.read() is None


@pytest.mark.parametrize(
    ("job", "hint"),
    [
        (
            replace(JOB, environment={"no_proxy": "h.example.com," * 80, "HOME": "/srv"}),
            "is the variable no_proxy: shorten or unset that, or let systemd do it",
        ),
        (Job((*JOB.command, "--config", "/etc/" + "x" * 1000)), "cron; let systemd do it"),
    ],
)
def test_a_line_that_is_too_long_for_cron(owner: CrontabOwner, job: Job, hint: str) -> None:
    """The crontab is in order, and needs no mending: told is what makes the line long."""
    owner.write(b"# whole\n")

    with pytest.raises(ScheduleError, match="command too long") as caught:
        cron(owner.environ).install(job)

    assert f"{hint}: certferry schedule install --systemd" in str(caught.value.hint)
    assert b"# whole\n" == owner.read()


@with_root
def test_somebodys_line_that_is_too_long_already(owner: CrontabOwner) -> None:
    """Ours is not to blame, and the crontab is to be mended."""
    owner.write(b"# whole\n")
    owner.stored.write_bytes(b"0 4 * * * " + b"x" * 1000 + b"\n")

    with pytest.raises(ScheduleError, match="command too long") as caught:
        cron(owner.environ).install(replace(JOB, environment={"no_proxy": "localhost"}))

    assert "mend it with `crontab -e`" in str(caught.value.hint)


@with_root
def test_a_crontab_that_is_broken_already_stays_as_it_is(owner: CrontabOwner) -> None:
    """Where the real crontab refuses the other lines, nothing is replaced."""
    owner.write(b"# whole\n")
    broken = owner.stored.read_bytes() + b"this is no entry\n"
    owner.stored.write_bytes(broken)

    with pytest.raises(ScheduleError, match=r"cannot be written: .*bad minute") as caught:
        cron(owner.environ).install(JOB)

    assert "crontab -e" in str(caught.value.hint)
    assert broken == owner.stored.read_bytes()


@with_root
def test_a_last_line_without_its_end_gets_one(owner: CrontabOwner) -> None:
    """The real crontab accepts no other; ours does not continue what stands there."""
    owner.write(b"# whole\n")
    owner.stored.write_bytes(b"A=b\n0 4 * * * backup")

    cron(owner.environ).install(JOB)

    assert b"A=b\n0 4 * * * backup\n" + ENTRY == owner.read()


@with_root
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_comments_that_a_listing_hides_survive(owner: CrontabOwner, line_end: bytes) -> None:
    """A crontab that was put there by other means begins with comments and no header of cron's."""
    owner.write(b"# whole\n")
    theirs = b"# theirs\n# and theirs\nA=b" + line_end
    owner.stored.write_bytes(theirs)

    cron(owner.environ).install(JOB)
    assert owner.stored.read_bytes().endswith(b"\n" + theirs + ENTRY)

    cron(owner.environ).remove()
    assert theirs == owner.read()


@with_root
def test_hidden_comments_that_are_ambiguous_are_not_guessed(owner: CrontabOwner) -> None:
    """Where no way leads to the bytes, nothing is written."""
    owner.write(b"# whole\n")
    owner.stored.write_bytes(b"# theirs\r\nA=b\n")

    with pytest.raises(ScheduleError, match="cannot be read exactly"):
        cron(owner.environ).install(JOB)

    assert b"# theirs\r\nA=b\n" == owner.stored.read_bytes()


def test_a_crontab_that_cannot_be_edited_is_not_guessed(programs: Path) -> None:
    """The same when there is no editing."""
    with pytest.raises(ScheduleError, match="cannot be read exactly"):
        stand_in(programs, r"""[ "$1" = -l ] && printf '# \\r\n'""").install(JOB)


@pytest.mark.parametrize(
    ("script", "message", "hint"),
    [
        ("echo oh no >&2; exit 3", "cannot be read: oh no", "as the crontab's owner"),
        (
            "exit 3",
            "cannot be read: `crontab` ended with 3 and said nothing",
            "as the crontab's owner",
        ),
        (
            '[ "$1" = -l ] || { echo disk full >&2; exit 1; }',
            "cannot be written: disk full",
            "`crontab -e`",
        ),
        ('[ "$1" = -l ] || cat >/dev/null', "does not hold what was written", "`crontab -l`"),
    ],
)
def test_a_crontab_that_fails_is_told_in_its_own_words(
    programs: Path, script: str, message: str, hint: str
) -> None:
    """Not read, not written, or written and not kept: one message, and a hint that names nothing
    which has just failed.
    """
    with pytest.raises(ScheduleError, match=message) as caught:
        stand_in(programs, script).install(JOB)

    assert hint in str(caught.value.hint)
    assert script.startswith("[") or "crontab -" not in str(caught.value.hint)


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
