"""Services of messages with altered answers: each port returns a result and raises no error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from hypothesis import given

from certferry.ports.notifier import Answered, Notifier
from certferry_sandbox.messages.service import MessageService
from certferry_sandbox.testing.contracts.notifier import message, shown
from tests.adapters.notify.channels import CASES, Case, Clock, connect, context
from tests.fuzz.altered_answers import Alteration, Altered, alterations
from tests.fuzz.outcomes import over_sockets


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.kind)
def channel(request: pytest.FixtureRequest) -> Iterator[tuple[Case, Altered, Notifier]]:
    case: Case = request.param
    with ExitStack() as running:
        service: MessageService = running.enter_context(case.service())
        front = running.enter_context(Altered(service.url))
        settings = case.settings(_ServiceBehindFront(service, front))
        yield case, front, connect(case.kind, context(Clock()), **settings)


class _ServiceBehindFront:
    """The service with the addresses of the front."""

    def __init__(self, service: MessageService, front: Altered) -> None:
        self.url = front.url
        self.address = str(getattr(service, "address", "")).replace(service.url, front.url)


@over_sockets
@given(alteration=alterations())
def test_altered_answers(channel: tuple[Case, Altered, Notifier], alteration: Alteration) -> None:
    """Each answer gives a result of ours, without a secret."""
    case, front, notifier = channel
    front.turn = alteration.turns()

    answered = notifier.send(message())

    assert isinstance(answered, Answered)
    assert set() == shown(answered, case.secrets)
