"""Deliver one new certificate to a directory in which another program writes at the same time.

Usage: python disturbed_delivery.py DIRECTORY NAME HOW

As soon as the four files have their names, and before certferry reads them back, the file of this
name is written anew by another hand (HOW is `edit`) or opened to every user (`open`). Tells as JSON
what the delivery said, what the next look says, and whether `reload` was run.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from certferry.adapters.files.directory import NAMES
from certferry.core.desired.certificate import FileDelivery
from certferry.errors import DeployError
from tests.adapters.receivers.bench import LINEAGE, directory, issue, program


def meddle(path: Path, how: str) -> None:
    """Wait for the last name to be taken and the first file to be read, then interfere, once."""
    renamed: set[str] = set()

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event == "os.rename":
            renamed.add(Path(str(arguments[1])).name)
        read_back = event == "open" and arguments[0] == NAMES[0]
        if read_back and renamed >= set(NAMES):
            renamed.clear()
            if how == "open":
                path.chmod(0o666)
            else:
                path.write_text("theirs")

    sys.addaudithook(hook)


def main(folder: Path, name: str, how: str) -> dict[str, object]:
    """Deliver, and look."""
    reload = program(folder.parent, "touch", "reloaded")
    delivery = FileDelivery(str(folder), reload=reload)
    bundle = issue()
    meddle(folder / name, how)
    reported: dict[str, object] = {"message": "delivered"}
    try:
        directory(delivery).deliver(LINEAGE, bundle)
    except DeployError as error:
        reported = {"message": str(error.message), "hint": str(error.hint)}
    drift = directory(delivery).observe(None).drift
    reported["drift"] = None if drift is None else str(drift.reason.code)
    reported["reloaded"] = (folder.parent / "reloaded").exists()
    return reported


if __name__ == "__main__":
    said = main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
    print(json.dumps(said), flush=True)  # noqa: T201 - it is what the test hears
