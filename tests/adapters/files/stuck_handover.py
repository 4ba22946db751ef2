"""Hand over a certificate and sweep old handovers, in a process that can remove only keys.

Usage: python stuck_handover.py WORKSPACE. The program prints the remaining names as JSON.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from certferry.adapters.files.directory import handed_over, sweep_handovers
from tests.adapters.receivers.bench import issue

MANY = range(50)
"""Many files beside the key, so that the key is rarely the first in the directory's order."""

DRAFT = ".certferry-draft-privkey.pem-0"
"""The draft of a run that was killed while writing the key."""


def refuse(event: str, arguments: tuple[object, ...]) -> None:
    """Refuse every removal except of keys, as a read-only mount would."""
    if event == "os.remove" and "privkey.pem" not in os.path.basename(str(arguments[0])):  # noqa: PTH119 - an audit hook must be fast
        raise PermissionError(1, "Operation not permitted")


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def main(workspace: Path) -> None:
    """Print the names that remain after the command, and after a later sweep."""
    sys.addaudithook(refuse)
    with handed_over(issue(), workspace) as directory:
        for number in MANY:
            (directory / str(number)).touch()
    after = names(directory)
    for key in ("privkey.pem", DRAFT):
        (directory / key).touch()
    sweep_handovers(workspace)
    swept = names(directory)
    print(json.dumps({"after": after, "swept": swept}))  # noqa: T201 - the test reads the output


if __name__ == "__main__":
    main(Path(sys.argv[1]))
