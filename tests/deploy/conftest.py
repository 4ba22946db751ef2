"""A world shared by the tests of the deployments, and a job on a runner in that world."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.conftest import (  # noqa: F401 - fixtures, found here by their names
    host,
    name,
    new_name,
    one_world,
    shared_world,
    world,
)
from tests.acceptance.host import Host
from tests.deploy.job import Job


@pytest.fixture
def job(host: Host, tmp_path: Path) -> Job:  # noqa: F811 - the fixture, not the function
    """Return a job on a self-hosted runner whose repository has the machine's configuration."""
    return Job(tmp_path, host.config, host.world.environment)
