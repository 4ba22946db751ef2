"""The certificates that are proposed for the domains of a target."""

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
    TargetAccount,
    propose_beside,
    propose_for_domains,
    with_https,
)
from certferry.text import Text
from certferry.values import replace
from tests.core.discovery.account_contents import FROZEN, domain, places


def test_domains_of_a_zone_share_a_certificate() -> None:
    """The longest zone that holds a domain gives its certificate; a domain outside all zones is
    left out.
    """
    contents = places(
        *map(domain, ("b.example.com", "a.example.com", "x.sub.example.com", "x.example.net")),
        zones=("example.com", "sub.example.com"),
    )

    proposal = propose_for_domains(contents, 100)

    assert {
        "a.example.com": ("a.example.com", "b.example.com"),
        "x.sub.example.com": ("x.sub.example.com",),
    } == {certificate.lineage: certificate.names for certificate in proposal.certificates}
    [left] = proposal.left_out
    assert "x.example.net" == left.name
    assert "no zone of the account dnspod" in str(left.reason)


def grouped(
    grouping: Grouping, *names: str, zones: tuple[str, ...] = ("example.com",)
) -> dict[str, tuple[str, ...]]:
    """Return the names of each proposed certificate by its lineage."""
    contents = places(*map(domain, names), zones=zones)
    proposal = propose_for_domains(contents, 100, names, grouping)
    return {certificate.lineage: certificate.names for certificate in proposal.certificates}


def test_several_domains_below_a_name_share_a_wildcard() -> None:
    """A single domain keeps its own name. A name two labels below keeps its own as well, and gives
    no name to the certificate.
    """
    names = ("a.example.com", "b.example.com", "x.y.example.com", "img.example.net")

    assert {
        "wildcard.example.com": ("*.example.com", "x.y.example.com"),
        "img.example.net": ("img.example.net",),
    } == grouped(Grouping.WILDCARD, *names, zones=("example.com", "example.net"))


def test_lineage_of_a_proposed_certificate_is_a_covered_name() -> None:
    """The first name gives the lineage. For a wildcard alone, a name below gives the lineage, or
    the bare name if covered.
    """
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
    """The account could not prove such a name; the same holds for unknown zones."""
    names = ("a.example.com", "b.example.com")

    apart = grouped(Grouping.WILDCARD, *names, zones=names)
    contents = Places("harbour", None, (TargetAccount("qiniu", tuple(map(domain, names))),))
    unknown = propose_for_domains(contents, 100, names, Grouping.WILDCARD)

    assert {name: (name,) for name in names} == apart
    assert [(name,) for name in names] == [
        certificate.names for certificate in unknown.certificates
    ]


def test_certificate_for_each_domain() -> None:
    """A wildcard domain and a domain below get separate certificates."""
    names = ("*.example.com", "a.example.com", "b.example.com")

    proposal = propose_for_domains(places(*map(domain, names)), 100, names, Grouping.EACH)

    assert {
        "wildcard.example.com": ("*.example.com",),
        "a.example.com": ("a.example.com",),
        "b.example.com": ("b.example.com",),
    } == {certificate.lineage: certificate.names for certificate in proposal.certificates}
    assert ("*.example.com",) == _deployed_to(proposal.certificates, "wildcard.example.com")


def test_domain_that_is_not_wanted_stays_unchanged() -> None:
    """A wildcard covers the domain, but the operator chose no HTTPS there."""
    off = domain("c.example.com")
    contents = places(
        replace(domain("a.example.com"), has_https=True),
        replace(domain("b.example.com"), has_https=True),
        off,
    )
    wanted = with_https(contents.domains)

    proposal = propose_for_domains(contents, 100, wanted, Grouping.WILDCARD)

    assert {"a.example.com", "b.example.com"} == wanted
    assert ("a.example.com", "b.example.com") == _deployed_to(
        proposal.certificates, "wildcard.example.com"
    )
    [left] = proposal.left_out
    assert ("c.example.com", HTTPS_OFF) == (left.name, left.reason)


def _deployed_to(
    certificates: Sequence[ProposedCertificate], lineage: str
) -> tuple[str, ...] | None:
    [match] = [certificate for certificate in certificates if certificate.lineage == lineage]
    [deployment] = match.deployments
    return deployment.domains


def test_unknown_zones_separate_the_names() -> None:
    """A name and its wildcard share a certificate: names above may be outside the account's
    zones.
    """
    domains = tuple(map(domain, ("img.example.com", "*.img.example.com", "a.example.net")))

    proposal = propose_for_domains(Places("harbour", None, (TargetAccount("qiniu", domains),)), 100)

    assert [
        ("a.example.net", ("a.example.net",)),
        ("img.example.com", ("img.example.com", "*.img.example.com")),
    ] == [(certificate.lineage, certificate.names) for certificate in proposal.certificates]
    assert () == proposal.left_out


def test_domain_under_a_wildcard_is_not_named_again() -> None:
    """A CA refuses an order with both names; the wildcard serves both domains."""
    proposal = propose_for_domains(places(domain("*.example.com"), domain("a.example.com")), 100)

    [certificate] = proposal.certificates
    assert ("*.example.com",) == certificate.names
    assert (ProposedDeployment("qiniu"),) == certificate.deployments


def test_domain_that_cannot_be_changed_is_left_out_of_a_wildcards_deployment() -> None:
    """A deployment to the frozen domain would fail in every run."""
    contents = places(domain("*.example.com"), domain("a.example.com", FROZEN))

    proposal = propose_for_domains(contents, 100)

    [certificate] = proposal.certificates
    assert (ProposedDeployment("qiniu", ("*.example.com",)),) == certificate.deployments
    assert [("a.example.com", FROZEN.message)] == [
        (left.name, left.reason) for left in proposal.left_out
    ]


def test_domains_of_two_accounts_share_a_certificate() -> None:
    """The certificate of the zone has a deployment to each account with domains. A domain at both
    accounts is deployed at both, and an account without domains has no deployment.
    """
    qiniu = TargetAccount("qiniu", (domain("img.example.com"), domain("www.example.com")))
    other = TargetAccount("harbour", (domain("www.example.com"), domain("off.example.com")))
    contents = Places("dnspod", (FoundZone("example.com"),), (qiniu, other, TargetAccount("empty")))
    wanted = {"img.example.com", "www.example.com"}

    [certificate] = propose_for_domains(contents, 100, wanted, Grouping.WILDCARD).certificates

    assert ("*.example.com",) == certificate.names
    assert (
        ProposedDeployment("qiniu"),
        ProposedDeployment("harbour", ("www.example.com",)),
    ) == certificate.deployments


def test_child_of_a_wildcard_domain_leaves_the_deployment_whole() -> None:
    """The child takes its parent's certificate, and is never deployed to."""
    child = domain("a.example.com", FROZEN, by_itself=False)

    [certificate] = propose_for_domains(places(domain("*.example.com"), child), 100).certificates

    assert (ProposedDeployment("qiniu"),) == certificate.deployments


def test_domains_that_are_left_out_have_a_proposal() -> None:
    """Each has its certificate, with the DNS account if known; for a child of a wildcard domain the
    proposal is empty.
    """
    contents = places(
        domain("a.example.com", FROZEN),
        domain("b.example.com", FROZEN, by_itself=False),
        domain("c.example.net"),
    )

    left_out = {left.name: left.certificate for left in propose_for_domains(contents, 100).left_out}

    assert left_out["b.example.com"] is None
    for name, dns in (("a.example.com", "dnspod"), ("c.example.net", "…")):
        certificate = left_out[name]
        assert certificate is not None
        assert ((name,), dns) == (certificate.names, certificate.dns)
        assert (ProposedDeployment("qiniu", (name,)),) == certificate.deployments


def test_paused_zone_is_reported() -> None:
    """A paused zone takes no records, so its names cannot be proven."""
    paused = FoundZone("example.com", Text("it is paused"))
    contents = Places("dnspod", (paused,), (TargetAccount("qiniu", (domain("a.example.com"),)),))

    [left] = propose_for_domains(contents, 100).left_out

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
    """Two certificates never deploy to the same domain, and an unwanted domain gets none. A
    certificate has at most the allowed names, all of them its own.
    """
    domains = [domain(name, FROZEN if name in frozen else None) for name in names]

    wanted = set(names) - unwanted

    proposal = propose_for_domains(places(*domains, zones=tuple(zones)), most, wanted, grouping)

    served: Counter[str] = Counter()
    for certificate in proposal.certificates:
        assert 1 <= len(certificate.names) <= most
        for deployment in certificate.deployments:
            chosen = deployment.domains
            covered = [name for name in names if covered_by(certificate.names, name)]
            served.update(covered if chosen is None else chosen)
            assert chosen is None or set(chosen) <= set(covered)
    left_out = Counter(left.name for left in proposal.left_out)
    assert Counter(names) == served + left_out
    lineages = [certificate.lineage for certificate in proposal.certificates]
    assert len(lineages) == len(set(lineages))
    assert all(
        covered_by(certificate.names, certificate.lineage) for certificate in proposal.certificates
    )
    every = [name for certificate in proposal.certificates for name in certificate.names]
    assert len(every) == len(set(every))


def test_accounts_get_certificates_beside_declared_ones() -> None:
    """Each certificate has a new lineage, its own account, and the DNS account of its zone. A
    domain outside all zones is left out.
    """
    paused = FoundZone("example.org", Text("it is paused"))
    zones = {
        "dnspod": (FoundZone("example.com"), paused),
        "other": (FoundZone("example.org"), FoundZone("example.net")),
    }
    contents = {
        "a": [domain("img.example.com"), domain("img.example.org")],
        "b": [domain("www.example.com"), domain("www.example.info")],
    }

    proposal = propose_beside(["img.example.com", "img.example.com-2"], contents, zones, 100)

    assert [
        ("img.example.com-3", ("img.example.com",), "dnspod", "a"),
        ("img.example.org", ("img.example.org",), "other", "a"),
        ("www.example.com", ("www.example.com",), "dnspod", "b"),
    ] == [
        (certificate.lineage, certificate.names, certificate.dns, certificate.deployments[0].to)
        for certificate in proposal.certificates
    ]
    assert ["www.example.info"] == [left.name for left in proposal.left_out]


def test_proposal_without_a_dns_account() -> None:
    """Each name counts as in a zone of its own, and the operator fills in the account."""
    contents = {"qiniu": [domain("img.example.com"), domain("www.example.com")]}

    proposal = propose_beside([], contents, {}, 100)

    assert [("img.example.com", UNKNOWN), ("www.example.com", UNKNOWN)] == [
        (certificate.lineage, certificate.dns) for certificate in proposal.certificates
    ]
    assert all("Fill in" in str(certificate.remarks[0]) for certificate in proposal.certificates)
