"""Have a certificate handed over, and sweep what is left, where nothing can be removed but the key.

Usage: python stuck_handover.py WORKSPACE. One line of JSON tells what was left each time.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from certferry.adapters.files.directory import handed_over, sweep_handovers
from tests.adapters.receivers.bench import issue

MANY = range(50)
"""Files beside the key: it is the first in the directory's order hardly ever."""

DRAFT = ".certferry-draft-privkey.pem-0"
"""What a run that is killed while it writes the key leaves."""


def refuse(event: str, given: tuple[object, ...]) -> None:
    """Let nothing be removed but keys, as a read-only mount would."""
    if event == "os.remove" and "privkey.pem" not in os.path.basename(str(given[0])):  # noqa: PTH119 - a hook is no place to be slow
        raise PermissionError(1, "Operation not permitted")


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def main(workspace: Path) -> None:
    """Tell what is left after the command, and what of another is after a sweep."""
    sys.addaudithook(refuse)
    with handed_over(issue(), workspace) as directory:
        for number in MANY:
            (directory / str(number)).touch()
    after = names(directory)
    for key in ("privkey.pem", DRAFT):
        (directory / key).touch()
    sweep_handovers(workspace)
    swept = names(directory)
    print(json.dumps({"after": after, "swept": swept}))  # noqa: T201 - it is what the test hears


if __name__ == "__main__":
    main(Path(sys.argv[1]))
