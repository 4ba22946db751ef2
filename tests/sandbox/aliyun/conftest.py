"""A strict stand-in of Alibaba Cloud for tests, its clock, and its client."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from certferry_sandbox.aliyun.service import AliyunService
from certferry_sandbox.zones import Zones
from tests.sandbox.aliyun_calls import KEY_ID, KEY_SECRET, Client, Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stand_in(clock: Clock) -> Iterator[AliyunService]:
    with AliyunService(Zones(), clock=clock) as running:
        running.add_account(KEY_ID, KEY_SECRET)
        yield running


@pytest.fixture
def client(stand_in: AliyunService, clock: Clock) -> Client:
    return Client(stand_in, clock)
