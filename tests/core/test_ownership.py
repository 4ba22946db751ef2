"""Who serves a domain that several certificates cover."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from certferry.core import identifiers
from certferry.core.desired import DesiredCertificate, DesiredDeployment
from certferry.core.ownership import owns, with_rivals

NAMES = ("img.example.com", "*.example.com", "*.img.example.com", "a.img.example.com")
DOMAINS = (*NAMES, "b.example.com", "b.img.example.com")


def wish(
    lineage: str, *names: str, domains: tuple[str, ...] | None = None, target: str = "qiniu"
) -> DesiredCertificate:
    """A certificate, deployed to what it covers or to what is named."""
    deployment = DesiredDeployment(target, domains)
    return DesiredCertificate(lineage, names, "dnspod", deployments=(deployment,))


def owners(wishes: list[DesiredCertificate], domain: str) -> list[str]:
    """Who would serve the domain."""
    return [
        one.lineage
        for one in with_rivals(wishes)
        for deployment in one.deployments
        if _takes(one, domain) and owns(deployment, one.names, domain)
    ]


def _takes(one: DesiredCertificate, domain: str) -> bool:
    """Whether the certificate alone would be deployed to the domain."""
    named = one.deployments[0].domains
    if named is not None:
        return domain in named
    return identifiers.covered_by(one.names, domain)


@st.composite
def wish_lists(draw: st.DrawFn) -> list[DesiredCertificate]:
    """Certificates that overlap in every way; no two name the same domain."""
    names = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True)
    wishes = [wish(f"l{number}", *draw(names)) for number in range(draw(st.integers(1, 4)))]
    if draw(st.booleans()):
        wishes.append(wish("named", *NAMES, domains=(draw(st.sampled_from(DOMAINS)),)))
    return draw(st.permutations(wishes))


@given(wish_lists(), st.sampled_from(DOMAINS))
def test_covered_domain_has_exactly_one_owner(
    wishes: list[DesiredCertificate], domain: str
) -> None:
    """Nobody fights over a domain, and none falls between two certificates."""
    wanted = any(_takes(one, domain) for one in wishes)

    assert int(wanted) == len(owners(wishes, domain))


def test_who_names_a_domain_has_it() -> None:
    """A name in the file says more than a certificate that happens to cover it."""
    wishes = [
        wish("exact", "img.example.com"),
        wish("named", "*.example.com", domains=("img.example.com",)),
    ]

    for order in itertools.permutations(wishes):
        assert ["named"] == owners(list(order), "img.example.com")


def test_exact_name_comes_before_a_wildcard() -> None:
    """Whichever is declared first."""
    wishes = [wish("wide", "*.example.com"), wish("exact", "img.example.com")]

    for order in itertools.permutations(wishes):
        assert ["exact"] == owners(list(order), "img.example.com")
        assert ["wide"] == owners(list(order), "b.example.com")


def test_equal_claims_go_to_the_first() -> None:
    """Two certificates for the same names are served in the order of the file."""
    first, second = wish("first", "*.example.com"), wish("second", "*.example.com")

    assert ["first"] == owners([first, second], "b.example.com")


def test_other_targets_are_no_rivals() -> None:
    """The same domain may be served from two places."""
    wishes = [wish("one", "img.example.com"), wish("two", "img.example.com", target="other")]

    assert ["one", "two"] == owners(wishes, "img.example.com")
