"""What tests of targets share: a strict stand-in of Qiniu with the target on it, and a delivery to
files.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from certferry.adapters.qiniu.target import Qiniu
from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.certificates.lineage import mark
from certferry.core.desired.certificate import FileDelivery
from tests.adapters.qiniu_place import Place, bundle, open_place
from tests.adapters.targets.receivers import (
    program,
)


@pytest.fixture
def place() -> Iterator[Place]:
    """Run a strict stand-in that resets what a change leaves out."""
    with open_place() as opened:
        yield opened


@pytest.fixture
def target(place: Place) -> Qiniu:
    """Give the target under test."""
    return place.target()


@pytest.fixture
def ssl(tmp_path: Path) -> Path:
    """A directory that is not there yet."""
    return tmp_path / "ssl"


@pytest.fixture
def delivery(ssl: Path, tmp_path: Path) -> FileDelivery:
    """Four files there, and a program that writes down that it ran."""
    reload = program(tmp_path, "/bin/sh", "-c", 'echo "$CERTFERRY_FINGERPRINT" >> ran; ls ssl')
    return FileDelivery(str(ssl), reload=reload)


@pytest.fixture
def made() -> CertificateBundle:
    """Give a certificate of the lineage."""
    return bundle("*.example.com")


@pytest.fixture
def label(made: CertificateBundle) -> str:
    """Give its mark, under which it is uploaded."""
    return mark("img", made.certificate.fingerprint)


@pytest.fixture
def ours(target: Qiniu, made: CertificateBundle) -> str:
    """Upload it, and give its id."""
    return target.upload("img", made)
