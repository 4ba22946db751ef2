"""Looking at Qiniu with globs: which domains are read, and which are left alone."""

from __future__ import annotations

import pytest

from certferry.adapters.qiniu.target import Qiniu
from certferry.core.desired.certificate import DesiredDeployment, Kind
from certferry.core.observed.inferred import with_unmatched
from certferry.core.observed.observation import DomainState, ObservedTarget
from certferry.errors import TargetUnavailable
from certferry.ports.target import Scope
from certferry_sandbox.faults import Fault
from tests.adapters.qiniu.place import WWW, Place, refusal

IMG = "img.example.com"
SRC = "src.example.com"
NAMES = ("example.com", "*.example.com")


def look(
    *globs: str,
    domains: tuple[str, ...] | None = (),
    exclude: tuple[str, ...] = (),
    kind: Kind = Kind.AUTO,
) -> Scope:
    """Look at what these match, and at what is named."""
    return Scope("img", NAMES, domains, kind, (), globs=globs, exclude=exclude)


def names(found: ObservedTarget) -> list[str]:
    """Give the domains that were observed."""
    return [domain.domain for domain in found.domains]


def test_children_and_trial_domains_are_left_alone(place: Place, target: Qiniu) -> None:
    """A child has its parent's certificate, whatever the globs; it is neither read nor excluded."""
    place.service.add_domain(".example.com")
    place.service.add_domain(IMG, type="pan", parent=".example.com")
    place.service.add_domain(WWW, type="test")

    found = target.observe(look("*.example.com", exclude=("www.*",)))

    assert ["*.example.com"] == names(found)
    assert () == found.excluded
    assert 0 == place.count(f"GET /domain/{IMG}")


def test_glob_that_matches_children_alone_matches_nothing(place: Place, target: Qiniu) -> None:
    """There is nothing to bind; their parent is to be named."""
    place.service.add_domain(".example.com")
    place.service.add_domain(IMG, type="pan", parent=".example.com")
    deployment = DesiredDeployment("qiniu", (), globs=("img.*",))

    found = with_unmatched(target.observe(look("img.*")), deployment)

    assert ("img.*",) == found.unmatched


def test_what_is_excluded_is_not_read(place: Place, target: Qiniu) -> None:
    """Nothing that befalls it can be told, and no request is made for it."""
    for name in (IMG, WWW, SRC):
        place.service.add_domain(name)
    place.service.api.faults.add(refusal(400, 400001), on=f"GET /domain/{WWW}", times=None)

    found = target.observe(look(domains=None, exclude=("w*",)))

    assert [IMG, SRC] == names(found)
    assert (WWW,) == found.excluded
    assert 0 == place.count(f"GET /domain/{WWW}")


def test_names_come_first_and_are_read_once(place: Place, target: Qiniu) -> None:
    """Also where a glob matches them; one that is missing is told beside what is found."""
    place.service.add_domain(IMG)
    place.service.add_domain(WWW)

    found = target.observe(look("*.example.com", domains=(WWW, "a.example.com")))

    assert [WWW, "a.example.com", IMG] == names(found)
    assert DomainState.UNAVAILABLE is found.domains[1].state
    assert 1 == place.count(f"GET /domain/{WWW}")


def test_source_domains_are_found_and_excluded(place: Place, target: Qiniu) -> None:
    """By the same patterns; what both halves of Qiniu know is a CDN domain."""
    place.service.add_bucket_domain(SRC, "pictures")
    place.service.add_bucket_domain("src-2.example.com", "pictures")
    place.service.add_domain(IMG)

    both = target.observe(look("*", exclude=("src-*",)))
    cdn = target.observe(look("*", exclude=("src-*",), kind=Kind.CDN))
    kodo = target.observe(look("*", exclude=("src-*",), kind=Kind("kodo")))

    assert [IMG, SRC] == names(both)
    assert ("src-2.example.com",) == both.excluded == kodo.excluded
    assert [IMG] == names(cdn)
    assert () == cdn.excluded
    assert [SRC] == names(kodo)


def test_kodo_that_is_away_hides_no_named_domain(place: Place, target: Qiniu) -> None:
    """What is named at the CDN is told, and that there may be more."""
    place.service.add_domain(WWW)
    place.service.uc.faults.add(Fault.status(503), times=None)

    found = target.observe(look("src.*", domains=(WWW,)))

    assert [WWW] == names(found)
    [unread] = found.unread
    assert isinstance(unread, TargetUnavailable)


@pytest.mark.parametrize(
    ("state", "said"), [("frozen", "frozen"), ("offlined", "offline"), ("deleted", "deleted")]
)
@pytest.mark.parametrize("wanted", [look("*.example.com"), look(domains=None)])
def test_domain_that_is_switched_off_is_left_out(
    wanted: Scope, state: str, said: str, place: Place, target: Qiniu
) -> None:
    """It was not named; it is told, and why."""
    place.service.add_domain(IMG)
    place.service.add_domain(WWW, state=state)

    found = target.observe(wanted)

    assert [IMG] == names(found)
    [left_out] = found.left_out
    assert WWW == left_out.domain
    assert f"{WWW} is {said} at Qiniu" == str(left_out.problem)
