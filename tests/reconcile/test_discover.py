"""Accounts that are looked at side by side, whatever becomes of one of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import pytest

from certferry.core.desired.certificate import Kind
from certferry.core.discovery.inventory import AccountLook
from certferry.core.discovery.survey import FoundDomain, Survey
from certferry.core.events import Activity, Event
from certferry.core.observed.observation import Served
from certferry.core.waiting import Begun, Ended
from certferry.errors import ConfigError, Interrupted, TargetUnavailable
from certferry.ports.survey import Looked
from certferry.reconcile.discover import MOST_SIGNS, SIGNS_OF_LIFE, Surveys, survey_accounts
from certferry.reconcile.run import Run
from certferry.text import Text
from tests.reconcile.company import now

SILENT = TargetUnavailable(Text("no answer"))


class Edges:
    """A `Probe` that finds one address everywhere, and counts how many domains it was asked for."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def served(self, domains: Sequence[str]) -> dict[str, tuple[Served, ...]]:
        """See `ports.probe.Probe.served`."""
        self.asked.append(len(domains))
        return {domain: (Served("192.0.2.1", "ab" * 32, valid=True),) for domain in domains}


class Desk:
    """What a look works with, and what it told."""

    def __init__(self) -> None:
        self.edges = Edges()
        self.told: list[tuple[str, str]] = []
        self.counted: list[Event] = []
        self.run = Run(progress=self._hear)
        self.clock: Callable[[], datetime] = now

    def survey(self, surveys: Surveys) -> tuple[AccountLook, ...]:
        """Survey accounts."""
        return survey_accounts(surveys, self.edges, self.clock, self.run)

    def _hear(self, event: Event) -> None:
        if isinstance(event, Begun | Ended):
            self.counted.append(event)
            return
        assert isinstance(event, Activity)
        self.told.append((event.lineage, str(event.what)))


def holding(*domains: FoundDomain) -> Callable[[Looked], Survey]:
    """An account with these domains."""

    def survey(looked: Looked) -> Survey:
        for count, _ in enumerate(domains, start=1):
            looked(count, len(domains))
        return Survey(domains)

    return survey


def failing(trouble: BaseException) -> Callable[[Looked], Survey]:
    """An account that cannot be looked at."""

    def survey(looked: Looked) -> Survey:
        del looked
        raise trouble

    return survey


def domain(name: str, *, https: bool = True, hidden: bool = False) -> FoundDomain:
    """A domain of the CDN."""
    return FoundDomain(name, Kind.CDN, has_https=https, binding_hidden=hidden)


@pytest.mark.parametrize("trouble", [SILENT, ConfigError(Text("no keys"))])
def test_account_that_fails_hides_no_other(trouble: Exception) -> None:
    """It is told with what the others hold, in the order they were asked for."""
    desk = Desk()
    img = domain("img.example.com")

    bad, good = desk.survey({"bad": failing(trouble), "good": holding(img)})

    assert ("bad", trouble) == (bad.label, bad.failure)
    assert (img,) == good.survey.domains
    assert {"img.example.com"} == set(good.served)
    assert ("bad", str(trouble)) in desk.told
    assert [Begun(2), Ended("bad"), Ended("good")] == sorted(desk.counted, key=str)


def test_edges_are_looked_at_where_there_may_be_https() -> None:
    """A domain without it has no certificate to present."""
    desk = Desk()
    plain = domain("plain.example.com", https=False)
    hidden = domain("hidden.example.com", https=False, hidden=True)

    [look] = desk.survey({"qiniu": holding(plain, hidden, domain("img.example.com"))})

    assert {"hidden.example.com", "img.example.com"} == set(look.served)


def test_accounts_are_looked_at_side_by_side() -> None:
    """A slow one does not keep the next one waiting."""
    both = threading.Barrier(2, timeout=20)

    def survey(looked: Looked) -> Survey:
        del looked
        both.wait()
        return Survey(())

    assert 2 == len(Desk().survey({"a": survey, "b": survey}))


def test_a_sign_of_life_comes_at_once_and_then_every_few_domains() -> None:
    """First that the account is looked at, then how far it is, with its domains and their edges."""
    desk = Desk()
    total = 2 * SIGNS_OF_LIFE + 1
    domains = [domain(f"d{number}.example.com") for number in range(total)]

    desk.survey({"qiniu": holding(*domains)})

    steps = (SIGNS_OF_LIFE, 2 * SIGNS_OF_LIFE)
    assert [
        "looking at the domains of the account",
        *(f"{count} of {total} domains read" for count in steps),
        *(f"edges of {count} of {total} domains looked at" for count in (0, *steps)),
        "looked at",
    ] == [what for _, what in desk.told]
    assert [SIGNS_OF_LIFE, SIGNS_OF_LIFE, 1] == desk.edges.asked


def test_how_long_the_rest_takes_is_told_of_a_long_look() -> None:
    """Ten thousand domains are a quarter of an hour: forty signs of life, each with what is left at
    the pace so far.
    """
    desk, total, passed = Desk(), 10_000, timedelta(0)

    def survey(looked: Looked) -> Survey:
        nonlocal passed
        for count in range(1, total + 1):
            passed += timedelta(seconds=0.1)
            looked(count, total)
        return Survey(())

    desk.clock = lambda: now() + passed

    desk.survey({"qiniu": survey})

    told = [what for _, what in desk.told if "read" in what]
    assert MOST_SIGNS - 1 == len(told)
    assert "250 of 10000 domains read, about 16 minutes left" == told[0]
    assert "9750 of 10000 domains read" == told[-1]


@pytest.mark.parametrize("trouble", [KeyboardInterrupt(), Interrupted(Text("stopped"))])
def test_what_is_stopped_stops_them_all(trouble: BaseException) -> None:
    """A look leaves nothing to put right, so the run waits for no other account."""
    desk = Desk()

    with pytest.raises(type(trouble)):
        desk.survey({"a": failing(trouble), "b": holding()})

    assert desk.run.is_stopped
