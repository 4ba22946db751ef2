"""The look at public logs with settings and state: domains, and notices of several hosts."""

from __future__ import annotations

from datetime import timedelta

import pytest

from certferry.config.document import document_of
from certferry.config.load import as_far_as_read
from certferry.config.model import Settings
from certferry.core.assessment.notices import Notice, Subject, Topic
from certferry.core.assessment.transparency import FOREIGN, after_read
from certferry.core.observed.public_logs import WatchedDomain
from certferry.errors import Problem
from certferry.reconcile.run import Run
from certferry.text import Text
from certferry.wiring.transparency import (
    look_at_logs,
    shown,
    watched_domains,
    with_current_alarms,
)
from certferry_sandbox.certspotter import CertSpotterService
from certferry_sandbox.testing.certificates import make_bundle
from certferry_sandbox.testing.memory_state import MemoryState
from tests.config.conftest import FILE
from tests.core.assessment.test_transparency import OWN, logged
from tests.core.strategies import NOW

CERTIFICATES = """
[[certificates]]
names = ["img.example.com", "*.example.com"]
dns = "dnspod"
[[certificates]]
name = "static"
fullchain = "fullchain.pem"
privkey = "privkey.pem"
"""


def settings(*lines: str) -> Settings:
    text = "\n".join(["[ct]", *lines, CERTIFICATES])
    return as_far_as_read(document_of(FILE, text), {})[0]


class Shared(MemoryState):
    """A state that hosts share."""

    is_shared = True


@pytest.fixture
def state() -> MemoryState:
    return MemoryState()


def with_an_alarm(state: MemoryState) -> None:
    """Store an old certificate of another CA, found after the first look."""
    now = state.now()
    watched = WatchedDomain("example.com", now, "1", now, now, now)
    old = logged(not_before=now - timedelta(days=9), not_after=now + timedelta(days=9))
    state.save_look(None, watched, after_read(watched, [old], OWN, 0, now)[1])


def test_domains_of_declared_and_of_imported_names(state: MemoryState) -> None:
    """The names of another client's certificate come from the newest stored version."""
    bundle = make_bundle("static.example.org", not_before=NOW)
    state.save_version(state.acquire("static", NOW), bundle, NOW)

    declared = settings("watch = true")

    assert ("example.com", "example.org") == watched_domains(declared, state)
    assert ("example.com",) == watched_domains(declared, state, {})


def test_alarm_stands_until_the_file_expects_the_certificate(state: MemoryState) -> None:
    """The notice follows the file at once, also in commands that only read."""
    with_an_alarm(state)
    other = Notice(Topic.TROUBLE, Subject("img"), NOW, Problem("other", Text("other")))
    line = 'expected = [{ issuer = "Harbour CA", names = "*" }]'

    stands = with_current_alarms(settings("watch = true"), state)((other,))
    expected = with_current_alarms(settings("watch = true", line), state)(stands)
    off = with_current_alarms(settings("watch = false"), state)(stands)

    assert [other.problem.code, FOREIGN] == [notice.problem.code for notice in stands]
    assert ((other,), (other,)) == (expected, off)


def test_host_without_the_domain_leaves_the_notice() -> None:
    """In a shared state another host watches the domain, and judges its certificates."""
    state = Shared()
    with_an_alarm(state)
    stands = with_current_alarms(settings("watch = true"), state)(())

    assert stands == with_current_alarms(settings("watch = false"), state)(stands)


def test_look_of_a_whole_run(state: MemoryState) -> None:
    """A run of all certificates looks, and no other run does. The token goes to the service."""
    with CertSpotterService() as service:
        service.token = "secret-of-the-operator"
        lines = ["watch = true", f'api = "{service.url}"', f'token = "{service.token}"']

        look_at_logs(settings(*lines), state, Run(), is_whole=False)
        assert [] == service.http.requests()
        look_at_logs(settings(*lines), state, Run(), is_whole=True)

    (watched,) = shown(settings(*lines), state).domains
    assert watched.problem is None
    assert watched.looked_at is not None


def test_token_that_is_missing_is_a_silence(state: MemoryState) -> None:
    """A wrong setting fails no run, and is stored with the domain as the reason of the silence."""
    declared = settings("watch = true", 'token = "env:MISSING"')

    look_at_logs(declared, state, Run(), is_whole=True)

    (watched,) = shown(declared, state).domains
    assert "MISSING is not set" in str(watched.problem)
    assert watched.looked_at is None


def test_stopped_run_begins_no_look(state: MemoryState) -> None:
    """The certificates of the run are done, and their report must not be lost."""
    stopped = Run()
    stopped.stop()
    with CertSpotterService() as service:
        declared = settings("watch = true", f'api = "{service.url}"')
        look_at_logs(declared, state, stopped, is_whole=True)

        assert [] == service.http.requests()
    assert () == state.watched_domains()
