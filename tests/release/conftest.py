"""Fixtures of the release's tests: the image of the working tree, and containers in a
shared world.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from certferry import __version__
from release import Release, wheels
from release import image as maker
from release.__main__ import export
from tests.acceptance.conftest import (  # noqa: F401 - fixtures, found here by their names
    host,
    name,
    new_name,
    one_world,
    shared_world,
    world,
)
from tests.acceptance.host import Host
from tests.house.tree import ROOT
from tests.release.container import Container, Image

EPOCH = 1_790_000_000
"""The date of the release: the bytes of an archive depend on the date."""


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """Return the image of the working tree, made by the first worker and unpacked by each
    worker.
    """
    own = tmp_path_factory.getbasetemp()
    shared = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "image"
    shared.mkdir(exist_ok=True)
    with (shared / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        archive = shared / "made" / f"certferry-{__version__}-oci.tar"
        if not archive.exists():
            make_image(shared / "made")
    return Image.unpack(archive, tmp_path_factory.mktemp("unpacked"))


def make_image(folder: Path) -> Path:
    """Make a wheel and an image of the working tree in a new folder, and return the image's
    archive.
    """
    parts = [folder / part for part in ("tree", "dist", "work")]
    for part in parts:
        part.mkdir(parents=True)
    release = Release(__version__, EPOCH, *parts)
    export(ROOT, release.tree)
    wheels.make(release)
    [archive] = maker.make(release)
    return archive.rename(folder / archive.name)


@pytest.fixture
def container(image: Image, host: Host, tmp_path: Path) -> Container:  # noqa: F811 - the fixture
    """Return containers of the image, with the host's configuration and an empty volume for the
    state.
    """
    folders = [tmp_path / part for part in ("configuration", "volume", "containers")]
    for folder in folders:
        folder.mkdir()
    configuration, volume, bundles = folders
    container_of_host = Container(image, bundles, configuration, volume, host.world.environment)
    container_of_host.take(host.directory)
    return container_of_host
