"""The stand-in that waits for heartbeats: it takes what the real one takes, and nothing else."""

from __future__ import annotations

import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator

import pytest

from certferry_sandbox.heartbeat import CHECK, HeartbeatService

RID = str(uuid.uuid4())


@pytest.fixture
def service() -> Iterator[HeartbeatService]:
    """A service that keeps eight bytes of what is said."""
    with HeartbeatService(limit=8) as running:
        yield running


def ping(url: str, said: bytes | None = b"", method: str = "POST") -> tuple[int, str, str | None]:
    """Send one ping; give the status, the body, and the limit in its headers."""
    request = urllib.request.Request(url, data=said, method=method)  # noqa: S310 - a stand-in's
    try:
        with urllib.request.urlopen(request) as answer:  # noqa: S310 - the stand-in's
            return answer.status, answer.read().decode(), answer.headers["Ping-Body-Limit"]
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode(), None


def test_each_kind_of_ping_is_counted(service: HeartbeatService) -> None:
    """With its run, and its words as far as they are kept; too many words are a mistake."""
    for suffix in ("/start", "", "/fail", "/75"):
        assert (200, "OK", "8") == ping(f"{service.address}{suffix}?rid={RID}", b"12345678")
    assert (200, "OK", "8") == ping(f"{service.address}", None, "GET")

    assert ["start", "success", "fail", "75", "success"] == [p.kind for p in service.pings]
    assert {RID, ""} == {p.rid for p in service.pings}
    assert [] == service.mistakes


def test_more_than_five_a_minute_are_not_counted(service: HeartbeatService) -> None:
    """It says so, and answers 200 all the same."""
    answers = [ping(service.address)[1] for _ in range(6)]

    assert [*["OK"] * 5, "OK (rate limited)"] == answers
    assert 5 == len(service.pings)


def test_what_is_no_ping_is_refused(service: HeartbeatService) -> None:
    """Another address, run, status or method; a check that it does not know gets 200."""
    unknown = service.address.replace(CHECK, str(uuid.uuid4()))

    assert (200, "OK (not found)", "8") == ping(unknown)
    assert 404 == ping(f"{service.address}/stop")[0]
    assert 404 == ping(f"{service.address}/256")[0]
    assert 404 == ping(f"{service.url}/no-uuid")[0]
    assert 400 == ping(f"{service.address}?rid=1")[0]
    assert 405 == ping(service.address, b"", "DELETE")[0]
    assert [] == service.pings
    assert 5 == len(service.mistakes)


def test_words_that_are_too_long_are_a_mistake(service: HeartbeatService) -> None:
    """The limit stands in every answer."""
    assert (200, "OK", "8") == ping(service.address, b"123456789")

    assert ["12345678"] == [one.said for one in service.pings]
    assert 1 == len(service.mistakes)
