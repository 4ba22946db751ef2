"""Our entry in any crontab: it comes and goes, and nothing else changes by a byte."""

from __future__ import annotations

import subprocess
from datetime import time
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from certferry.adapters.schedule.cron import (
    MARK,
    CronEntry,
    own_entries,
    shell_command,
    watched,
    with_entry,
    without_entry,
)
from certferry.core.schedule import NIGHT_MOMENTS, night_time, twice
from certferry.errors import ScheduleError

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
    """Give a crontab whose last line has its end, as cron requires."""
    return crontab + b"\n" if crontab and not crontab.endswith(b"\n") else crontab


def is_ours(line: bytes) -> bool:
    """Say it once more, in other words than the code: an entry that ends with our mark."""
    ends = line.rstrip(b" \t")[-len(MARK) - 1 :] == b" " + MARK
    fields = line.removesuffix(MARK).split()
    return ends and fields[0][:1] in b"0123456789*~@" and len(fields) > 1


def foreign(crontab: bytes) -> list[bytes]:
    """Give the lines that are not ours."""
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
def test_a_run_that_fails_is_followed_by_who_tells_it(
    tmp_path: Path, shell: str, code: int
) -> None:
    """Told how it ended, with the same options; the line's own exit code stays the run's."""
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

    told = [f"{code}:--config /etc/c 100%.toml notify failed"] if code else []
    assert code == ended.returncode
    assert [":--config /etc/c 100%.toml sync --scheduled", *told] == calls.read_text().splitlines()
