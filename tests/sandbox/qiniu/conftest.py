"""A strict Qiniu stand-in for tests, its clock, and its client."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from certferry_sandbox.qiniu.service import QiniuService
from tests.sandbox import qiniu_calls as calls
from tests.sandbox.qiniu_calls import Client, Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stand_in(clock: Clock) -> Iterator[QiniuService]:
    with calls.service(clock) as running:
        yield running


@pytest.fixture
def client(stand_in: QiniuService) -> Client:
    return Client(stand_in)
