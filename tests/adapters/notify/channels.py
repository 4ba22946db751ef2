"""Notification channels at the stand-ins of their services, connected as in a run."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from certferry.adapters.programs.run import run_to_end
from certferry.core.desired.certificate import Program
from certferry.core.redaction import Secret
from certferry.ports.adapter import Context, Ended
from certferry.ports.notifier import Notifier
from certferry.values import replace
from certferry.wiring.adapters import CHANNELS, installed
from certferry.wiring.channels import short_http
from certferry_sandbox.messages import (
    dingtalk,
    event_receiver,
    feishu,
    pushplus,
    serverchan,
    telegram,
    wecom,
)
from certferry_sandbox.messages.bark import KEY as BARK_KEY
from certferry_sandbox.messages.bark import BarkService
from certferry_sandbox.messages.dingtalk import DingtalkService
from certferry_sandbox.messages.event_receiver import EventReceiver
from certferry_sandbox.messages.feishu import FeishuService
from certferry_sandbox.messages.pushplus import PushplusService
from certferry_sandbox.messages.serverchan import ServerchanService
from certferry_sandbox.messages.service import MessageService
from certferry_sandbox.messages.telegram import TelegramService
from certferry_sandbox.messages.wecom import WecomService
from certferry_sandbox.testing.context import connected_with

QUIET = datetime(2026, 11, 26, 12, 7, tzinfo=UTC)
"""A minute that is neither the full nor the half hour."""


AT_ANY_PACE = 1000.0


class Clock:
    """A clock that a test sets."""

    def __init__(self, now: datetime = QUIET) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def pass_time(self, duration: timedelta) -> None:
        self.now += duration


def context(now: Callable[[], datetime] | None = None) -> Context:
    base = connected_with() if now is None else connected_with(now=now)
    return replace(
        base, http=lambda _: short_http(time.sleep, "the service", AT_ANY_PACE), run=_run
    )


def _run(arguments: Sequence[str], within: timedelta, given: bytes = b"") -> Ended:
    program = Program(tuple(arguments), "/", within)
    return run_to_end(program, {}, time.sleep, hidden=(), given=given)


def connect(kind: str, given: Context | None = None, **settings: Any) -> Notifier:
    adapter = installed().find(CHANNELS, kind).adapter
    notifier: Notifier = adapter.connect(adapter.Settings(**settings), given or context())
    return notifier


@dataclass(frozen=True)
class Case:
    """A type of channel: the stand-in, right settings, refused settings, and secrets."""

    kind: str
    service: Callable[[], MessageService]
    settings: Callable[[Any], dict[str, Any]]
    wrong: Callable[[Any], dict[str, Any]]
    secrets: tuple[str, ...]


def _address(service: Any) -> dict[str, Any]:
    return {"url": Secret(service.address)}


def _elsewhere(service: Any) -> dict[str, Any]:
    return {"url": Secret(service.address[:-6] + "000000")}


CASES = (
    Case(
        "dingtalk",
        DingtalkService,
        lambda service: {**_address(service), "secret": Secret(dingtalk.SECRET)},
        lambda service: {**_address(service), "secret": Secret("SECwrong-wrong-wrong")},
        (dingtalk.TOKEN, dingtalk.SECRET, "access_token", "SECwrong-wrong-wrong"),
    ),
    Case(
        "feishu",
        FeishuService,
        lambda service: {**_address(service), "secret": Secret(feishu.SECRET)},
        lambda service: {**_address(service), "secret": Secret("wrong-wrong-wrong")},
        (feishu.TOKEN, feishu.SECRET, "wrong-wrong-wrong"),
    ),
    Case("wecom", WecomService, _address, _elsewhere, (wecom.KEY, "key=")),
    Case(
        "serverchan",
        ServerchanService,
        lambda service: {"api": service.url, "key": Secret(serverchan.KEY)},
        lambda service: {"api": service.url, "key": Secret("SCT1wrongwrongwrong")},
        (serverchan.KEY, "SCT1wrongwrongwrong"),
    ),
    Case(
        "serverchan",
        ServerchanService,
        lambda service: {"api": service.url, "key": Secret(serverchan.THIRD_KEY)},
        lambda service: {"api": service.url, "key": Secret("sctp9twrongwrongwrong")},
        (serverchan.THIRD_KEY, "sctp9twrongwrongwrong"),
    ),
    Case(
        "pushplus",
        PushplusService,
        lambda service: {"api": service.url, "key": Secret(pushplus.TOKEN)},
        lambda service: {"api": service.url, "key": Secret("wrong-wrong-wrong")},
        (pushplus.TOKEN, "wrong-wrong-wrong"),
    ),
    Case(
        "bark",
        BarkService,
        lambda service: {"api": service.url, "key": Secret(BARK_KEY)},
        lambda service: {"api": service.url, "key": Secret("wrong-wrong-wrong")},
        (BARK_KEY, "wrong-wrong-wrong"),
    ),
    Case(
        "telegram",
        TelegramService,
        lambda service: {"api": service.url, "key": Secret(telegram.TOKEN), "chat": telegram.CHAT},
        lambda service: {"api": service.url, "key": Secret("7:wrong-wrong"), "chat": telegram.CHAT},
        (telegram.TOKEN, "7:wrong-wrong"),
    ),
    Case(
        "webhook",
        EventReceiver,
        lambda service: {**_address(service), "secret": Secret(event_receiver.SECRET)},
        lambda service: {**_address(service), "secret": Secret("wrong-wrong-wrong")},
        (event_receiver.SECRET, event_receiver.PATH, "wrong-wrong-wrong"),
    ),
)


@contextmanager
def nothing_listens() -> Iterator[int]:
    """Yield a port that refuses every connection until the block ends."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]
