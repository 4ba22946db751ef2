"""What a CA's directory tells: the time, and what the CA is called in CAA."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from certferry.adapters.acme.examination import SeenDirectory, look_at_directory
from certferry.errors import CaUnavailable
from certferry_sandbox.httpd import HttpService, Request, Response

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
DIRECTORY = {name: f"http://127.0.0.1/{name}" for name in ("newNonce", "newAccount", "newOrder")}


def look(meta: object, *, ahead: timedelta = timedelta(0)) -> SeenDirectory:
    """Look at a directory with this in its `meta`, at a CA whose clock is so far ahead."""
    document = json.dumps(DIRECTORY | ({} if meta is None else {"meta": meta})).encode()

    def answer(request: Request) -> Response:
        return Response(200, document)

    with HttpService(answer, clock=lambda: NOW + ahead) as ca:
        return look_at_directory(ca.url, ca_bundle=None, pause=lambda _: None, now=lambda: NOW)


def test_identities_are_read_in_lower_case() -> None:
    """A CA may have several."""
    seen = look({"caaIdentities": ["LetsEncrypt.org", "other.test"]})

    assert frozenset({"letsencrypt.org", "other.test"}) == seen.identities


@pytest.mark.parametrize(
    "meta", [None, {}, {"caaIdentities": []}, {"caaIdentities": None}, {"caaIdentities": 5}]
)
def test_directory_that_tells_no_identity(meta: object) -> None:
    """They are optional (RFC 8555 §7.1.1); what is no list tells none."""
    assert frozenset() == look(meta).identities


@pytest.mark.parametrize("minutes", [0, 20, -20])
def test_clock_of_the_ca_is_told(minutes: int) -> None:
    """By the Date of its answer."""
    ahead = timedelta(minutes=minutes)

    assert ahead == look(None, ahead=ahead).ahead


def test_address_that_is_no_directory() -> None:
    """It is told in our words."""
    with HttpService(lambda _: Response(200, b"<html>")) as ca, pytest.raises(CaUnavailable):
        look_at_directory(ca.url, ca_bundle=None, pause=lambda _: None, now=lambda: NOW)
