"""What a program said, cut at its beginning: the rest of a secret is not shown."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from certferry.adapters.programs.run import MOST_OUTPUT, run
from certferry.core.secret import Secret
from certferry.errors import DeployError
from tests.adapters.receivers.bench import no_pause, python

SECRET = "0123456789-0123456789-0123456789-planted"

# A line of secrets that is longer than what is kept: wherever it is cut, it is cut within one.
SOURCE = f"""
print("x" * {{before}} + "{SECRET}" * {4 * MOST_OUTPUT // len(SECRET)})
print("why")
raise SystemExit(1)
"""


@pytest.mark.parametrize("before", range(0, len(SECRET), 9))
def test_first_line_that_lost_its_beginning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, before: int
) -> None:
    """The rest of a secret is neither logged nor quoted; the lines after it are."""
    caplog.set_level(logging.INFO)
    does = python(tmp_path, SOURCE.format(before=before))

    with pytest.raises(DeployError) as failed:
        run(does, {}, no_pause, hidden=[Secret(SECRET)])

    first, *_, last = (record.getMessage() for record in caplog.records)
    assert "bytes of its output are left out" in first
    assert last.endswith(": why")
    assert "planted" not in caplog.text + str(failed.value)
