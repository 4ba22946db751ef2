"""A world that the tests of the deployments share, and a job on a runner in it."""

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
    """A job on a runner of one's own, in whose repository the machine's configuration lies."""
    return Job(tmp_path, host.config, host.world.environment)
