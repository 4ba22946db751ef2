"""What is left of a certificate's files that a program has worked with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from certferry.adapters.files import directory as handover
from tests.adapters.files import stuck_handover
from tests.adapters.receivers.bench import issue


def test_key_is_removed_though_nothing_else_can_be(tmp_path: Path) -> None:
    """After the program, and when a run that was killed had left it; with what else is left it is
    told.
    """
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, stuck_handover.__file__, str(tmp_path / "handover")]
    heard = subprocess.run(
        command, env=environ, capture_output=True, text=True, check=True, timeout=60
    )

    stuck = sorted(["cert.pem", "chain.pem", "fullchain.pem", *map(str, stuck_handover.MANY)])
    assert {"after": stuck, "swept": stuck} == json.loads(heard.stdout)
    assert "cannot be removed: Operation not permitted" in heard.stderr


def test_key_of_another_directory_stays(tmp_path: Path) -> None:
    """What a program has put in the place of its directory is not emptied."""
    elsewhere = tmp_path / "ssl"
    elsewhere.mkdir()
    (elsewhere / "privkey.pem").write_text("another's key")

    with handover.handed_over(issue(), tmp_path / "handover") as directory:
        directory.rename(tmp_path / "moved")
        directory.symlink_to(elsewhere)
    handover.sweep_handovers(tmp_path / "handover")

    assert "another's key" == (elsewhere / "privkey.pem").read_text()
