"""A delivery to files, and a program that is run for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from certferry.core.desired.certificate import FileDelivery
from tests.adapters.receivers.bench import program


@pytest.fixture
def ssl(tmp_path: Path) -> Path:
    """A directory that the delivery creates."""
    return tmp_path / "ssl"


@pytest.fixture
def delivery(ssl: Path, tmp_path: Path) -> FileDelivery:
    """A delivery to `ssl`, with a program that records each of its runs."""
    reload = program(tmp_path, "/bin/sh", "-c", 'echo "$CERTFERRY_FINGERPRINT" >> ran; ls ssl')
    return FileDelivery(str(ssl), reload=reload)
