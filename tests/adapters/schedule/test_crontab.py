"""Our entry in any crontab: it comes and goes, and nothing else changes by a byte."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from certferry.adapters.schedule.crontab import (
    MARK,
    Entry,
    other_entries,
    own_entry,
    search_path,
    shell_command,
    with_entry,
    without_entry,
    words_of,
)
from certferry.core.schedule import NIGHT_MOMENTS, DailyTime
from certferry.errors import ScheduleError

TIMES = st.builds(DailyTime, st.integers(0, 23), st.integers(0, 59))
COMMANDS = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0\n")), min_size=1)
TIME = DailyTime(3, 17)

# Lines as people have them, and what only bytes can be.
LINES = st.one_of(
    st.sampled_from(
        [
            b"",
            b"MAILTO=ops@example.com",
            b'MAILTO=""\r',
            b"SHELL=/bin/bash",
            b"# m h  dom mon dow   command",
            b"0 4 * * * /usr/bin/backup # certferry",
            b"0 4 * * * certferry sync",
            b"@daily echo 50\\% done % to its input",
            b"#17 3 * * * certferry sync # certferry schedule",
            b"*/5 * * * * printf 'no # certferry schedule here'\r",
        ]
    ),
    st.binary(max_size=30).filter(lambda line: b"\n" not in line),
)
OTHERS = st.builds(lambda lines, end: b"\n".join(lines) + end, st.lists(LINES), LINES)
OWN = st.builds(
    lambda when, command, end: when + b" " + command + b" " + MARK + end,
    st.sampled_from([b"17 3 * * *", b" 5\t4 * * 1", b"@weekly", b"@hourly", b""]),
    st.sampled_from([b"certferry sync", b"/opt/certferry --config /etc/c.toml -q sync"]),
    st.sampled_from([b"", b"\r", b"  \r"]),
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
    """Say it once more, in other words than the code: an active line that ends with our mark."""
    words = line.strip(b" \t\r")
    return words[-len(MARK) - 1 :] == b" " + MARK and words[:1] != b"#"


def foreign(crontab: bytes) -> list[bytes]:
    """Give the lines that are not ours."""
    lines = closed(crontab).split(b"\n")[:-1] if crontab else []
    return [line for line in lines if not is_ours(line)]


@given(OTHERS, COMMANDS, TIMES)
def test_what_comes_and_goes_leaves_no_trace(
    crontab: bytes, words: list[str], time: DailyTime
) -> None:
    """Installed and removed again, the crontab is what it was, byte for byte."""
    assume(not any(map(is_ours, crontab.split(b"\n"))))
    installed = with_entry(crontab, shell_command(words, {}), time)

    assert installed.startswith(closed(crontab))
    assert 1 == installed[len(closed(crontab)) :].count(b"\n")
    assert closed(crontab) == without_entry(installed)


@given(ANY, COMMANDS, TIMES)
def test_every_line_of_others_survives(crontab: bytes, words: list[str], time: DailyTime) -> None:
    """Whatever is there already, ours or not, no byte and no place of another's line changes."""
    installed = with_entry(crontab, shell_command(words, {}), time)

    assert foreign(crontab) == foreign(installed)
    assert foreign(crontab) == foreign(without_entry(crontab))
    assert foreign(crontab) == foreign(without_entry(installed))


@given(ANY, COMMANDS, TIMES, TIMES)
def test_the_second_time_nothing_changes(
    crontab: bytes, words: list[str], first: DailyTime, second: DailyTime
) -> None:
    """There is one entry of ours, and at another time it keeps its own."""
    command = shell_command(words, {})
    once = with_entry(crontab, command, first)

    assert once == with_entry(once, command, second)
    assert 1 == sum(map(is_ours, once.split(b"\n")))
    assert without_entry(once) == without_entry(without_entry(once))


@given(OTHERS, OTHERS, TIMES, TIMES)
def test_another_command_replaces_the_line_in_its_place(
    before: bytes, after: bytes, first: DailyTime, second: DailyTime
) -> None:
    """The time stays, the place stays, and so does everything around it."""
    assume(not any(map(is_ours, (before + b"\n" + after).split(b"\n"))))
    old = with_entry(before, b"certferry --config /etc/old.toml sync", first) + after
    new = with_entry(old, b"certferry --config /etc/new.toml sync", second)

    assert closed(old.replace(b"/etc/old.toml", b"/etc/new.toml", 1)) == new
    entry = own_entry(new)
    assert entry is not None
    assert first == entry.daily


def test_a_time_that_somebody_has_changed_is_kept() -> None:
    """The operator's own rhythm survives a new command."""
    crontab = b"*/30 2-4 * * 1 certferry sync # certferry schedule\r\nMAILTO=x\n"

    assert b"*/30 2-4 * * 1 certferry -q sync # certferry schedule\nMAILTO=x\n" == with_entry(
        crontab, b"certferry -q sync", TIME
    )


@pytest.mark.parametrize(
    ("when", "every_day"),
    [
        (b"17 3 * * *", True),
        (b"*/30\t2-4 *  * *", True),
        (b"@daily", True),
        (b"@hourly", True),
        (b"*/30 2 * * 1", False),
        (b"0 9 1 1 *", False),
        (b"0 9 */2 * *", False),
        (b"@weekly", False),
        (b"@reboot", False),
        (b"", False),
    ],
)
def test_what_is_called_daily_is(when: bytes, *, every_day: bool) -> None:
    """An entry starts something on each day when no day, month or weekday is left out."""
    assert every_day == Entry(when, b"certferry sync").every_day


def test_a_time_that_no_clock_shows_is_no_time() -> None:
    """A line that came there by other means than `crontab` may say anything."""
    assert DailyTime(23, 59) == Entry(b"59 23 * * *", b"").daily
    for when in (b"60 3 * * *", b"17 24 * * *"):
        assert Entry(when, b"").daily is None


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("0 4 * * * certferry sync", "certferry sync"),
        ("\t@daily /opt/certferry -q --config '/etc/a b.toml' sync img", None),
        ("0 4 * * 1 cd /srv && X=1 /opt/certferry -q sync>>log 2>&1\r", "/opt/certferry -q sync"),
        ("0 4 * * * /usr/bin/python3 -m certferry sync; date", "certferry sync"),
        ("0 4 * * * sh -c '/opt/certferry sync'", "/opt/certferry sync"),
        ('0 4 * * * "/opt/certferry" sync', '/opt/certferry" sync'),
    ],
)
def test_a_run_of_somebodys_own_is_found(line: str, command: str | None) -> None:
    """However it is written; of the command, what is certferry's."""
    command = command or line.removeprefix("\t@daily ").removesuffix(" img")

    assert [command] == [
        entry.command.decode() for entry in other_entries(f"A=b\n{line}\nC=d".encode())
    ]


@pytest.mark.parametrize(
    "line",
    [
        "17 3 * * * certferry --quiet sync # certferry schedule",
        "#0 4 * * * certferry sync",
        "  # 0 4 * * * certferry sync",
        "COMMAND=a b c d e certferry sync",
        "@reboot certferry sync",
        "0 4 * * * certferry status",
        "0 4 * * * certferry status; sync",
        "0 4 * * * certferry plan # before sync",
        "0 4 * * * true # certferry sync",
        "0 4 * * * certferry --config /etc/sync.toml plan",
        "0 4 * * * my-certferry sync",
        "0 4 * * * certferry rsync",
        "0 4 * * * certferry synchronise",
        "certferry sync",
    ],
)
def test_what_is_no_other_run_is_not_found(line: str) -> None:
    """Our own, a comment, a setting, a start of the machine, another command."""
    assert [] == list(other_entries(line.encode()))


@given(ANY)
def test_any_crontab_can_be_searched(crontab: bytes) -> None:
    """Whatever stands there, what is found is nobody's but others'."""
    for entry in other_entries(crontab):
        assert not is_ours(entry.line.removesuffix(MARK + b"\n"))
        assert b"sync" in entry.command


def test_an_entry_that_is_commented_out_is_not_ours_any_more() -> None:
    """What somebody has switched off by hand is a comment of theirs."""
    crontab = b"#17 3 * * * certferry sync # certferry schedule\n"

    assert own_entry(crontab) is None
    assert crontab == without_entry(crontab)


@given(st.integers(0, NIGHT_MOMENTS - 1))
def test_every_moment_lies_in_the_night_and_on_no_full_hour(number: int) -> None:
    """A chosen time is one of the six hours after midnight, when few others begin."""
    time = DailyTime.at_night(number)

    assert 0 <= time.hour < 6
    assert 1 <= time.minute <= 59


def test_the_moments_are_all_different() -> None:
    """Every number gives a time of its own."""
    assert NIGHT_MOMENTS == len({DailyTime.at_night(n) for n in range(NIGHT_MOMENTS)})


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


@given(st.lists(TRICKY, max_size=5), st.dictionaries(st.just("HOME"), TRICKY))
def test_a_command_is_read_as_it_was_written(words: list[str], environment: dict[str, str]) -> None:
    """Word by word, whatever is in them."""
    read = words_of(shell_command(words, environment))

    assert words == list(read[len(read) - len(words) :])
    assert () == words_of(b"certferry 'sync")


# What Debian's cron (3.0pl1-197) put into PATH for a line below each of these.
@pytest.mark.parametrize(
    ("above", "path"),
    [
        (b"", "/usr/bin:/bin"),
        (b'PATH = "/usr/sbin:/usr/bin" \n', "/usr/sbin:/usr/bin"),
        (b'"PATH"=/sbin:/bin  \n', "/sbin:/bin"),
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

    assert path == search_path(crontab + b"PATH=/late\n")


def test_a_word_with_a_line_end_is_refused() -> None:
    """What would break the crontab is told, with what to do."""
    with pytest.raises(ScheduleError, match="line end") as caught:
        shell_command(["certferry", "--config", "/etc/a\nb.toml"], {})

    assert caught.value.hint is not None
