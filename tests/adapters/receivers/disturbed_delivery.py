"""Deliver one new certificate to a directory while another program writes there.

Usage: python disturbed_delivery.py DIRECTORY NAME HOW

As soon as the four files have their names, and before certferry reads them back, the file NAME is
overwritten (HOW is `edit`) or opened to every user (`open`). Prints as JSON the delivery's message,
the drift that the next observation reports, and whether `reload` was run.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from certferry.adapters.files.directory import NAMES
from certferry.core.desired.certificate import FileDelivery
from certferry.errors import DeployError
from tests.adapters.receivers.bench import LINEAGE, directory, issue, program


def interfere(path: Path, how: str) -> None:
    """Interfere once: after the last rename, when certferry reads the first file back."""
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
    """Deliver, and observe afterwards."""
    reload = program(folder.parent, "touch", "reloaded")
    delivery = FileDelivery(str(folder), reload=reload)
    bundle = issue()
    interfere(folder / name, how)
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
    reported = main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
    print(json.dumps(reported), flush=True)  # noqa: T201 - the test reads this line
