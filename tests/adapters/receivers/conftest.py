"""A delivery to files, and a program that is run for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from certferry.core.desired.certificate import FileDelivery
from tests.adapters.receivers.bench import program


@pytest.fixture
def ssl(tmp_path: Path) -> Path:
    """A directory that is not there yet."""
    return tmp_path / "ssl"


@pytest.fixture
def delivery(ssl: Path, tmp_path: Path) -> FileDelivery:
    """Four files there, and a program that writes down that it ran."""
    reload = program(tmp_path, "/bin/sh", "-c", 'echo "$CERTFERRY_FINGERPRINT" >> ran; ls ssl')
    return FileDelivery(str(ssl), reload=reload)
