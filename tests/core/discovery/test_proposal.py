"""What is proposed to declare for what was found at a target."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from certferry.core.certificates.certificate import covered_by
from certferry.core.discovery.inventory import FoundZone
from certferry.core.discovery.proposal import (
    HTTPS_OFF,
    UNKNOWN,
    Grouping,
    Places,
    ProposedCertificate,
    ProposedDeployment,
    propose_beside,
    propose_for_domains,
    with_https,
)
from certferry.text import Text
from certferry.values import replace
from tests.core.discovery.account_contents import FROZEN, domain, places


def test_domains_of_a_zone_share_a_certificate() -> None:
    """One for each zone, by the longest that holds the domain; what no zone holds is left out."""
    found = places(
        *map(domain, ("b.example.com", "a.example.com", "x.sub.example.com", "x.example.net")),
        zones=("example.com", "sub.example.com"),
    )

    proposal = propose_for_domains(found, 100)

    assert {
        "a.example.com": ("a.example.com", "b.example.com"),
        "x.sub.example.com": ("x.sub.example.com",),
    } == {one.lineage: one.names for one in proposal.certificates}
    [left] = proposal.left_out
    assert "x.example.net" == left.name
    assert "no zone of the account dnspod" in str(left.reason)


def grouped(
    grouping: Grouping, *names: str, zones: tuple[str, ...] = ("example.com",)
) -> dict[str, tuple[str, ...]]:
    """Return the names of each proposed certificate by what it is called."""
    found = places(*map(domain, names), zones=zones)
    proposal = propose_for_domains(found, 100, names, grouping)
    return {one.lineage: one.names for one in proposal.certificates}


def test_several_domains_below_one_name_share_a_wildcard() -> None:
    """One alone keeps its own name, and so does what is two labels below, after which the
    certificate of the others is not called.
    """
    names = ("a.example.com", "b.example.com", "x.y.example.com", "img.example.net")

    assert {
        "wildcard.example.com": ("*.example.com", "x.y.example.com"),
        "img.example.net": ("img.example.net",),
    } == grouped(Grouping.WILDCARD, *names, zones=("example.com", "example.net"))


def test_certificate_is_called_by_a_name_that_it_covers() -> None:
    """Its first one; of a wildcard alone, by one below it, and by the bare name if it has that."""
    assert {"wildcard.example.com": ("*.example.com",)} == grouped(
        Grouping.WILDCARD, "a.example.com", "b.example.com"
    )
    assert {"example.com": ("example.com", "*.example.com")} == grouped(
        Grouping.WILDCARD, "a.example.com", "b.example.com", "example.com"
    )
    assert {"a.example.com": ("a.example.com", "b.example.com")} == grouped(
        Grouping.NAMES, "a.example.com", "b.example.com"
    )


def test_wildcard_above_the_accounts_zone_is_not_proposed() -> None:
    """The account could not prove it; nor where it is not known which zones there are."""
    names = ("a.example.com", "b.example.com")

    apart = grouped(Grouping.WILDCARD, *names, zones=names)
    found = Places("harbour", None, "qiniu", tuple(map(domain, names)))
    unknown = propose_for_domains(found, 100, names, Grouping.WILDCARD)

    assert {name: (name,) for name in names} == apart
    assert [(name,) for name in names] == [one.names for one in unknown.certificates]


def test_one_certificate_for_each_domain() -> None:
    """Also for a wildcard domain and one below it: each goes to its own domain alone."""
    names = ("*.example.com", "a.example.com", "b.example.com")

    found = propose_for_domains(places(*map(domain, names)), 100, names, Grouping.EACH)

    assert {
        "wildcard.example.com": ("*.example.com",),
        "a.example.com": ("a.example.com",),
        "b.example.com": ("b.example.com",),
    } == {one.lineage: one.names for one in found.certificates}
    assert ("*.example.com",) == _deployed_to(found.certificates, "wildcard.example.com")


def test_domain_that_is_not_wanted_stays_as_it_is() -> None:
    """Though a wildcard covers it: no operator asked for HTTPS there."""
    off = domain("c.example.com")
    found = places(
        replace(domain("a.example.com"), has_https=True),
        replace(domain("b.example.com"), has_https=True),
        off,
    )
    wanted = with_https(found.domains)

    proposal = propose_for_domains(found, 100, wanted, Grouping.WILDCARD)

    assert {"a.example.com", "b.example.com"} == wanted
    assert ("a.example.com", "b.example.com") == _deployed_to(
        proposal.certificates, "wildcard.example.com"
    )
    [left] = proposal.left_out
    assert ("c.example.com", HTTPS_OFF) == (left.name, left.reason)


def _deployed_to(
    certificates: Sequence[ProposedCertificate], lineage: str
) -> tuple[str, ...] | None:
    [one] = [one for one in certificates if one.lineage == lineage]
    [deployment] = one.deployments
    return deployment.domains


def test_zones_that_are_not_known_part_the_names() -> None:
    """A name and its wildcard have a certificate: what is above them may be no zone."""
    domains = tuple(map(domain, ("img.example.com", "*.img.example.com", "a.example.net")))

    proposal = propose_for_domains(Places("harbour", None, "qiniu", domains), 100)

    assert [
        ("a.example.net", ("a.example.net",)),
        ("img.example.com", ("img.example.com", "*.img.example.com")),
    ] == [(one.lineage, one.names) for one in proposal.certificates]
    assert () == proposal.left_out


def test_domain_under_a_wildcard_is_not_named_again() -> None:
    """A CA refuses an order with both; the wildcard's domain serves both."""
    proposal = propose_for_domains(places(domain("*.example.com"), domain("a.example.com")), 100)

    [one] = proposal.certificates
    assert ("*.example.com",) == one.names
    assert (ProposedDeployment("qiniu"),) == one.deployments


def test_domain_that_cannot_be_changed_is_left_out_of_a_wildcards_deployment() -> None:
    """Otherwise every run would complain of it."""
    found = places(domain("*.example.com"), domain("a.example.com", FROZEN))

    proposal = propose_for_domains(found, 100)

    [one] = proposal.certificates
    assert (ProposedDeployment("qiniu", ("*.example.com",)),) == one.deployments
    assert [("a.example.com", FROZEN.message)] == [
        (left.name, left.reason) for left in proposal.left_out
    ]


def test_domain_that_follows_another_does_not_narrow_a_deployment() -> None:
    """A child of a wildcard domain takes its parent's certificate, and is never deployed to."""
    child = domain("a.example.com", FROZEN, by_itself=False)

    [one] = propose_for_domains(places(domain("*.example.com"), child), 100).certificates

    assert (ProposedDeployment("qiniu"),) == one.deployments


def test_domain_that_takes_anothers_certificate_is_not_to_be_declared() -> None:
    """Of the others that are left out, each has what it would get, with its account if known."""
    found = places(
        domain("a.example.com", FROZEN),
        domain("b.example.com", FROZEN, by_itself=False),
        domain("c.example.net"),
    )

    left_out = {left.name: left.certificate for left in propose_for_domains(found, 100).left_out}

    assert left_out["b.example.com"] is None
    for name, dns in (("a.example.com", "dnspod"), ("c.example.net", "…")):
        one = left_out[name]
        assert one is not None
        assert ((name,), dns) == (one.names, one.dns)
        assert (ProposedDeployment("qiniu", (name,)),) == one.deployments


def test_zone_that_is_paused_is_reported_as_such() -> None:
    """A zone that no record can be written into proves nothing."""
    paused = FoundZone("example.com", Text("it is paused"))
    found = Places("dnspod", (paused,), "qiniu", (domain("a.example.com"),))

    [left] = propose_for_domains(found, 100).left_out

    assert "it is paused" == str(left.reason)


LABEL = st.sampled_from(["a", "b", "c"])
NAME = st.lists(LABEL, max_size=3).map(lambda labels: ".".join([*labels, "example.com"]))
DOMAIN = st.builds(lambda name, wild: f"*.{name}" if wild else name, NAME, st.booleans())
ZONES = st.lists(NAME, unique=True, max_size=4)


@given(
    names=st.lists(DOMAIN, unique=True, max_size=30),
    frozen=st.sets(DOMAIN, max_size=3),
    zones=ZONES,
    most=st.integers(min_value=1, max_value=5),
    grouping=st.sampled_from(Grouping),
    unwanted=st.sets(DOMAIN, max_size=5),
)
def test_every_domain_is_served_by_exactly_one_certificate_or_left_out(
    names: list[str],
    frozen: set[str],
    zones: list[str],
    most: int,
    grouping: Grouping,
    unwanted: set[str],
) -> None:
    """No two certificates ever deploy to one domain, and none to one that is not wanted; none has
    too many names, or a name that is none of its own.
    """
    domains = [domain(name, FROZEN if name in frozen else None) for name in names]

    wanted = set(names) - unwanted

    proposal = propose_for_domains(places(*domains, zones=tuple(zones)), most, wanted, grouping)

    served: Counter[str] = Counter()
    for one in proposal.certificates:
        assert 1 <= len(one.names) <= most
        for deployment in one.deployments:
            chosen = deployment.domains
            covered = [name for name in names if covered_by(one.names, name)]
            served.update(covered if chosen is None else chosen)
            assert chosen is None or set(chosen) <= set(covered)
    left_out = Counter(left.name for left in proposal.left_out)
    assert Counter(names) == served + left_out
    lineages = [one.lineage for one in proposal.certificates]
    assert len(lineages) == len(set(lineages))
    assert all(covered_by(one.names, one.lineage) for one in proposal.certificates)
    every = [name for one in proposal.certificates for name in one.names]
    assert len(every) == len(set(every))


def test_accounts_have_their_own_certificates_beside_what_is_declared() -> None:
    """Each goes to its account, under a name that is not taken, by the DNS account whose zone it
    is; what no zone holds is left out.
    """
    paused = FoundZone("example.org", Text("it is paused"))
    zones = {
        "dnspod": (FoundZone("example.com"), paused),
        "other": (FoundZone("example.org"), FoundZone("example.net")),
    }
    found = {
        "a": [domain("img.example.com"), domain("img.example.org")],
        "b": [domain("www.example.com"), domain("www.example.info")],
    }

    proposal = propose_beside(["img.example.com", "img.example.com-2"], found, zones, 100)

    assert [
        ("img.example.com-3", ("img.example.com",), "dnspod", "a"),
        ("img.example.org", ("img.example.org",), "other", "a"),
        ("www.example.com", ("www.example.com",), "dnspod", "b"),
    ] == [(one.lineage, one.names, one.dns, one.deployments[0].to) for one in proposal.certificates]
    assert ["www.example.info"] == [left.name for left in proposal.left_out]


def test_without_a_dns_account_it_is_to_be_filled_in() -> None:
    """Each name is then taken to be in a zone of its own."""
    found = {"qiniu": [domain("img.example.com"), domain("www.example.com")]}

    proposal = propose_beside([], found, {}, 100)

    assert [("img.example.com", UNKNOWN), ("www.example.com", UNKNOWN)] == [
        (one.lineage, one.dns) for one in proposal.certificates
    ]
    assert all("Fill in" in str(one.remarks[0]) for one in proposal.certificates)
