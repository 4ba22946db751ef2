"""Receivers for tests: bundles, an operator's programs, and the files in a directory."""

from __future__ import annotations

import stat
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from certferry.adapters.files.directory import NAMES, contents
from certferry.adapters.receivers import files
from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.desired.certificate import FileDelivery, Program
from certferry.ports.receiver import Receiver
from certferry_sandbox.testing.certificates import make_bundle

LINEAGE = "img"


def no_pause(seconds: float) -> None:
    """Return at once: the run is never stopped."""


def issue(*names: str) -> CertificateBundle:
    names = names or ("img.example.com", "*.img.example.com")
    return make_bundle(*names, not_before=datetime.now(UTC) - timedelta(days=1))


def program(folder: Path, *arguments: str, timeout: float = 30) -> Program:
    return Program(arguments, str(folder), timedelta(seconds=timeout))


def python(folder: Path, source: str, timeout: float = 30) -> Program:
    """Run a Python program in a folder, isolated so that it starts fast."""
    return program(folder, sys.executable, "-I", "-S", "-c", source, timeout=timeout)


def directory(delivery: FileDelivery) -> Receiver:
    return files.FilesReceiver(delivery, pause=no_pause)


def delivered_files(folder: Path) -> dict[str, bytes]:
    """Read the existing files of the four."""
    return {name: (folder / name).read_bytes() for name in NAMES if (folder / name).is_file()}


def holds(folder: Path, bundle: CertificateBundle) -> bool:
    """Return whether the directory holds this certificate's four files and the receipt alone."""
    expected = {*NAMES, ".certferry"}
    present = {path.name for path in folder.iterdir()}
    return delivered_files(folder) == contents(bundle) and present == expected


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)
