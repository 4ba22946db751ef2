"""The lines of a crontab that start a client."""

from __future__ import annotations

from pathlib import Path

import pytest

from certferry.migration.acme_sh import HOME_OPTIONS, SCHEDULED
from certferry.migration.starters import homes_in

USUAL = Path("/srv/usual/.acme.sh")


def found(*crontab: str) -> list[Path | None]:
    """Give the directories that the lines of a crontab use."""
    homes = homes_in(crontab, SCHEDULED, HOME_OPTIONS, Path("/srv/me"), USUAL)
    return list(homes.values())


@pytest.mark.parametrize(
    ("line", "home"),
    [
        ('7 0 * * * "/srv/a"/acme.sh --cron --home "/srv/a" > /dev/null', "/srv/a"),
        ("7 0 * * * acme.sh --cron --home=/srv/a", "/srv/a"),
        ("7 0 * * * acme.sh --cron --home /srv/a --config-home /srv/b", "/srv/b"),
        ("7 0 * * * ~/.acme.sh/acme.sh --cron --home ~/.acme.sh", "/srv/me/.acme.sh"),
        ('7 0 * * * acme.sh --cron --home "${HOME}/x"', "/srv/me/x"),
        ("7 0 * * * LE_CONFIG_HOME=/srv/c /usr/bin/acme.sh --cron", "/srv/c"),
        ("7 0 * * * acme.sh --cron", str(USUAL)),
        ("7 0 * * * acme.sh --cron --home", str(USUAL)),
        ("7 0 * * * acme.sh --cron --home 'unfinished", str(USUAL)),
        ("7 0 * * * . /srv/x/acme.sh.env; acme.sh --cron", None),
        ("7 0 * * * source x && acme.sh --cron", None),
    ],
)
def test_directory_is_the_one_that_the_line_names(line: str, home: str | None) -> None:
    """Else the usual one; where it may come from a file, nobody knows."""
    assert [None if home is None else Path(home)] == found(line)


def test_variable_that_stands_above() -> None:
    """Then a line that names no directory is not clear; others are nobody's business."""
    mine = "7 0 * * * acme.sh --cron"
    theirs = "9 9 * * * acme.sh --cron --home /a"

    assert [None, Path("/a")] == found("LE_WORKING_DIR=/srv/d", "@daily backup", mine, theirs)
