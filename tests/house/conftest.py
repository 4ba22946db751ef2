"""Archives and wheels of the checkout, built once for all tests."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

from tests.house.tree import ROOT


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the source archive of certferry."""
    folder = tmp_path_factory.mktemp("sources")
    [built] = SdistBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    return Path(built)


@pytest.fixture(scope="session")
def wheel(sources: Path) -> Path:
    """Return the wheel built from the source archive, as a registry builds wheels."""
    return wheel_of(sources)


def wheel_of(sources: Path) -> Path:
    """Build the wheel of a sources' archive, beside it."""
    with tarfile.open(sources) as archive:
        archive.extraction_filter = getattr(
            tarfile, "data_filter", None
        )  # missing in Python 3.11.2
        archive.extractall(sources.parent)  # noqa: S202 - made by this project
    unpacked = sources.with_name(sources.name.removesuffix(".tar.gz"))
    [built] = WheelBuilder(str(unpacked)).build(
        directory=str(sources.parent), versions=["standard"]
    )
    return Path(built)


@pytest.fixture(scope="session")
def wheels(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return the wheels of certferry and of the sandbox, each built from its source archive."""
    folder = tmp_path_factory.mktemp("sandbox")
    sandbox = SdistBuilder(str(ROOT / "sandbox"))
    [built] = sandbox.build(directory=str(folder), versions=["standard"])
    return wheel, wheel_of(Path(built))
