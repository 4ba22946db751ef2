"""The lines of a crontab that start a client, and the directory that each has it use."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

_HOME = re.compile(r"^(?:~|\$HOME|\$\{HOME\})(?=/|$)")
_READS_SETTINGS = re.compile(r"(?:^|[;&\s])(?:\.|source)\s+\S")


def homes_in(
    crontab: Sequence[str],
    scheduled: re.Pattern[str],
    options: Iterable[str],
    user_home: Path,
    usual: Path,
) -> Mapping[str, Path | None]:
    """Give each line that starts the client with the directory that it names, by one of these
    options or variables, the first before the others; `usual` where it names none, and `None` where
    it may get one from elsewhere.

    `~` and `$HOME` are the user's, as for the shell that runs it.
    """
    options = tuple(options)
    is_set_above = any(line.lstrip().startswith(options) for line in crontab)
    homes: dict[str, Path | None] = {}
    for line in filter(scheduled.search, crontab):
        named = _named(line, options)
        if named is not None:
            homes[line] = Path(_HOME.sub(lambda _: str(user_home), named))
        else:
            homes[line] = None if is_set_above or _READS_SETTINGS.search(line) else usual
    return homes


def _named(line: str, options: Iterable[str]) -> str | None:
    try:
        words = shlex.split(line)
    except ValueError:
        return None
    for option in options:
        for word, following in zip(words, [*words[1:], ""], strict=True):
            name, equals, value = word.partition("=")
            written = value if equals else following
            if name == option and written:
                return written
    return None
