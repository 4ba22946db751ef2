"""The contents of accounts, joined with the declaration, the state and the served certificates."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.core.certificates.certificate import covered_by
from certferry.core.certificates.lineage import label_of
from certferry.core.desired.certificate import DesiredCertificate, DesiredDeployment, Kind
from certferry.core.discovery.inventory import (
    SOON,
    AccountSurvey,
    Bound,
    DiscoveredDomain,
    Discovery,
    FoundCertificate,
    FoundDomain,
    Survey,
    Urgency,
    Wanted,
    discover,
)
from certferry.core.observed.inferred import Owner, UploadOwners
from certferry.core.observed.observation import Served
from certferry.core.observed.records import Remembered, Upload
from certferry.core.planning.planner import Claims
from certferry.errors import Severity, TargetAccessDenied, TargetRejected, TargetUnavailable
from certferry.values import replace
from tests.core.strategies import LINEAGE, NOW, certificate, version

IMG = "img.example.com"
CERTIFICATE = certificate()
OURS = CERTIFICATE.fingerprint
THEIRS = "cd" * 32
LABEL = label_of(LINEAGE, OURS)
END = NOW + timedelta(days=50)
REMEMBERED = Remembered(
    (version(1, CERTIFICATE),), uploads=(Upload(LINEAGE, "qiniu", "id-1", LABEL, OURS, NOW),)
)
LEDGER = UploadOwners([(LINEAGE, REMEMBERED)])
NOTHING = UploadOwners()


def found(name: str = IMG, **facts: Any) -> FoundDomain:
    return replace(FoundDomain(name, Kind.CDN, has_https=True, state="success"), **facts)


def served(
    fingerprint: str | None = OURS, end: datetime | None = END, *, valid: bool = True
) -> Served:
    """Return the answer of an address; without a fingerprint the address is silent."""
    return Served("192.0.2.1", fingerprint, valid, not_after=end, silent=fingerprint is None)


def declared(
    lineage: str, *names: str, to: str = "qiniu", domains: tuple[str, ...] | None = None
) -> DesiredCertificate:
    deployment = DesiredDeployment(to, domains)
    return DesiredCertificate(lineage, names, "dnspod", deployments=(deployment,))


def look(*domains: FoundDomain, **more: Any) -> AccountSurvey:
    certificates = more.pop("certificates", ())
    return AccountSurvey("qiniu", Survey(domains, certificates=certificates), **more)


def the_domain(
    domain: FoundDomain,
    *,
    certificates: tuple[FoundCertificate, ...] = (),
    addresses: tuple[Served, ...] = (),
    declared: tuple[DesiredCertificate, ...] = (),
    ledger: UploadOwners = LEDGER,
) -> DiscoveredDomain:
    account = look(domain, certificates=certificates, served={domain.domain: addresses})
    [discovered] = discover([account], declared, ledger, NOW).domains
    return discovered


# The owner of a bound certificate


def test_bound_certificate_of_ours_has_its_fingerprint() -> None:
    """The account's list gives names and end, the state gives the fingerprint."""
    listed = FoundCertificate("id-1", LABEL, (IMG,), END)

    observed = the_domain(found(bound="id-1"), certificates=(listed,))

    assert Bound(Owner.OURS, "id-1", OURS, (IMG,), END) == observed.bound


def test_bound_certificate_without_a_label_is_foreign() -> None:
    """Its fingerprint is unknown."""
    listed = FoundCertificate("id-9", "by hand", (IMG,), END)

    observed = the_domain(found(bound="id-9"), certificates=(listed,))

    assert Bound(Owner.FOREIGN, "id-9", None, (IMG,), END) == observed.bound


def test_owner_of_a_certificate_that_the_list_lacks() -> None:
    """The owner is unknown, unless the state has the id."""
    assert Bound(None, "id-9") == the_domain(found(bound="id-9")).bound
    assert Bound(Owner.OURS, "id-1", OURS) == the_domain(found(bound="id-1")).bound


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        ((), Bound(Owner.FREE)),
        ((served(THEIRS),), Bound(Owner.FREE, None, THEIRS, None, END)),
        ((served(THEIRS), served(None, None)), Bound(Owner.FREE, None, THEIRS, None, END)),
        ((served(THEIRS), served(OURS)), Bound(Owner.FREE)),
        ((served(THEIRS, valid=False),), Bound(Owner.FREE)),
    ],
    ids=["unseen", "seen", "seen-where-it-answers", "several", "invalid"],
)
def test_end_of_a_free_certificate_comes_from_the_edges(
    addresses: tuple[Served, ...], expected: Bound
) -> None:
    """Lists leave out free certificates. Edges with different answers leave the end unknown."""
    assert expected == the_domain(found(is_free=True), addresses=addresses).bound


def test_hidden_binding_is_ours_if_every_edge_agrees() -> None:
    """Any other served certificate leaves the binding unknown."""
    hidden = found(binding_hidden=True)
    names, end = CERTIFICATE.names, CERTIFICATE.not_after

    ours = the_domain(hidden, addresses=(served(), served(None, None)))

    assert Bound(Owner.OURS, "id-1", OURS, names, end) == ours.bound
    assert the_domain(hidden, addresses=(served(), served(THEIRS))).bound is None
    assert the_domain(hidden, addresses=(served(THEIRS),)).bound is None
    assert the_domain(hidden, addresses=(served(None, None),)).bound is None
    assert the_domain(hidden).bound is None


def test_domain_without_https_is_bound_to_nothing() -> None:
    """The answers of its edges are ignored."""
    plain = found(has_https=False)

    assert the_domain(plain, addresses=(served(),)).bound is None


# Coverage by declared certificates


def test_domain_is_covered_by_every_certificate_with_its_name() -> None:
    """The certificate that is to be deployed comes first."""
    wide, exact = declared("wide", "*.example.com"), declared("exact", IMG, "x.example.com")

    observed = the_domain(found(), declared=(wide, exact))

    assert (("exact", "wide"), "exact") == (observed.covered_by, observed.deployed_by)
    assert not observed.is_uncovered


def test_certificate_that_is_deployed_elsewhere() -> None:
    """The certificate covers the domain, but no deployment serves the domain."""
    observed = the_domain(found(), declared=(declared("exact", IMG, to="other"),))

    assert (("exact",), None) == (observed.covered_by, observed.deployed_by)
    assert Urgency.IN_ORDER != observed.urgency(NOW)


def test_child_of_a_wildcard_domain_is_never_uncovered() -> None:
    """The child takes its parent's certificate, so no declaration can name the child."""
    child = found("a.w.example.com", by_itself=False, problem=TargetRejected("it follows"))

    observed = the_domain(child)

    assert not observed.is_uncovered
    assert Urgency.IN_ORDER == observed.urgency(NOW)


def test_child_of_a_wildcard_domain_is_served_through_its_parent() -> None:
    """A deployment to the parent reaches the child as well."""
    child = found("a.w.example.com", by_itself=False)
    wildcard = ("*.w.example.com",)

    served = the_domain(child, declared=(declared("site", *wildcard, domains=wildcard),))
    other = the_domain(child, declared=(declared("site", *wildcard, domains=(IMG,)),))

    assert ("site", None) == (served.deployed_by, other.deployed_by)


NAMES = st.sampled_from([IMG, "*.example.com", "*.img.example.com", "a.img.example.com"])
DECLARED = st.lists(
    st.builds(
        declared,
        st.sampled_from(["a", "b", "c"]),
        NAMES,
        NAMES,
        to=st.sampled_from(["qiniu", "other"]),
        domains=st.none(),
    ),
    max_size=4,
    unique_by=lambda certificate: certificate.lineage,
)
KINDS = st.sampled_from([Kind.CDN, Kind.DCDN, Kind("kodo")])


@given(DECLARED, NAMES, KINDS)
def test_coverage_agrees_with_names_and_claims(
    declared: list[DesiredCertificate], name: str, kind: Kind
) -> None:
    """The discovery predicts the deployment of a run."""
    observed = the_domain(found(name, kind=kind), declared=tuple(declared))

    covering = {each.lineage for each in declared if covered_by(each.names, name)}
    assert covering == set(observed.covered_by)
    assert len(covering) == len(observed.covered_by)
    assert Claims(declared).owner("qiniu", name, kind) == observed.deployed_by
    assert observed.deployed_by in (None, *observed.covered_by[:1])


@pytest.mark.parametrize(
    ("declared_kind", "takes"), [("cdn", True), ("auto", True), ("kodo", False)]
)
def test_deployment_to_the_cdn_takes_dcdn(declared_kind: str, *, takes: bool) -> None:
    """A certificate works with any product behind a domain."""
    deployment = DesiredDeployment("qiniu", None, Kind(declared_kind))
    declared = (DesiredCertificate("img", (IMG,), "dnspod", deployments=(deployment,)),)

    observed = the_domain(found(kind=Kind.DCDN), declared=declared)

    assert ("img" if takes else None) == observed.deployed_by


# Certificates


def test_certificate_has_the_domains_bound_to_it() -> None:
    """Domains of the same account count; a certificate without a domain is unused."""
    here = look(
        found("b.example.com", bound="id-1"),
        found("a.example.com", bound="id-1"),
        certificates=(FoundCertificate("id-1", LABEL), FoundCertificate("id-2", "x")),
    )
    there = AccountSurvey("other", Survey((), certificates=(FoundCertificate("id-1", "y"),)))

    discovery = discover([here, there], (), LEDGER, NOW)

    bound_to = {(c.account, c.listed.remote_id): c.bound_to for c in discovery.certificates}
    assert ("a.example.com", "b.example.com") == bound_to["qiniu", "id-1"]
    assert {("qiniu", "id-2"), ("other", "id-1")} == {
        (c.account, c.listed.remote_id) for c in discovery.unused
    }


# The order of domains


@pytest.mark.parametrize(
    ("domain", "addresses", "urgency"),
    [
        (found(), (served(valid=False),), Urgency.BROKEN),
        (found(), (served(end=NOW),), Urgency.BROKEN),
        (found(bound="x", not_after=NOW), (), Urgency.BROKEN),
        (found(problem=TargetRejected("frozen")), (served(),), Urgency.TROUBLED),
        (found(bound="x", not_after=NOW + SOON), (), Urgency.ENDING),
        (found(), (served(end=NOW + SOON), served(None, None)), Urgency.ENDING),
        (found(), (served(None, NOW),), Urgency.UNCOVERED),
        (found(bound="x", not_after=NOW + SOON + timedelta(1)), (), Urgency.UNCOVERED),
        (found(has_https=False), (), Urgency.UNCOVERED),
    ],
)
def test_urgency_of_a_domain(
    domain: FoundDomain, addresses: tuple[Served, ...], urgency: Urgency
) -> None:
    """Silent addresses are ignored."""
    assert urgency == the_domain(domain, addresses=addresses).urgency(NOW)


def test_certificate_that_a_deployment_replaces_is_in_order() -> None:
    """A run renews the certificate in its last days, so a near end is in order."""
    soon = found(bound="x", not_after=NOW + timedelta(days=1))

    assert Urgency.IN_ORDER == the_domain(soon, declared=(declared("img", IMG),)).urgency(NOW)


# Properties of any discovery

ENDS = st.sampled_from([None, NOW - timedelta(1), NOW + timedelta(5), END])
ADDRESSES = st.lists(
    st.builds(served, st.sampled_from([OURS, THEIRS, None]), ENDS, valid=st.booleans()), max_size=2
).map(tuple)
DOMAINS = st.lists(
    st.builds(
        found,
        st.sampled_from([IMG, "a.img.example.com", "x.example.com", "*.w.example.com"]),
        bound=st.sampled_from([None, "id-1", "id-2", "gone"]),
        is_free=st.booleans(),
        binding_hidden=st.booleans(),
        by_itself=st.booleans(),
        not_after=ENDS,
        problem=st.sampled_from([None, TargetRejected("frozen")]),
    ),
    max_size=4,
    unique_by=lambda domain: domain.domain,
)
CERTIFICATES = st.lists(
    st.builds(
        FoundCertificate,
        st.sampled_from(["id-1", "id-2", "id-3"]),
        st.sampled_from([LABEL, "by hand", ""]),
        st.none(),
        ENDS,
    ),
    max_size=3,
    unique_by=lambda certificate: certificate.remote_id,
)
LOOKS = st.builds(
    lambda label, domains, certificates, addresses: AccountSurvey(
        label,
        Survey(tuple(domains), certificates=tuple(certificates)),
        {domain.domain: addresses for domain in domains},
    ),
    st.sampled_from(["qiniu", "other"]),
    DOMAINS,
    CERTIFICATES,
    ADDRESSES,
)
DISCOVERIES = st.builds(
    lambda looks, declared: discover(looks, declared, LEDGER, NOW),
    st.lists(LOOKS, max_size=2, unique_by=lambda account: account.label),
    DECLARED,
)


@given(DISCOVERIES)
def test_discovery_is_complete_and_ordered_by_urgency(discovery: Discovery) -> None:
    """Every domain and certificate of every account comes exactly once."""
    looks = discovery.accounts
    assert Counter((a.label, d.domain) for a in looks for d in a.survey.domains) == Counter(
        (domain.account, domain.listed.domain) for domain in discovery.domains
    )
    assert Counter((a.label, c.remote_id) for a in looks for c in a.survey.certificates) == Counter(
        (certificate.account, certificate.listed.remote_id)
        for certificate in discovery.certificates
    )
    urgencies = [domain.urgency(NOW) for domain in discovery.domains]
    assert sorted(urgencies) == urgencies
    bindings = {
        (domain.account, domain.listed.domain, domain.listed.bound) for domain in discovery.domains
    }
    for listed_certificate in discovery.certificates:
        assert {
            (listed_certificate.account, d, listed_certificate.listed.remote_id)
            for d in listed_certificate.bound_to
        } <= bindings


@given(
    DISCOVERIES,
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, timedelta(0), timedelta(days=5), timedelta(days=400)]),
)
def test_filters_of_a_discovery(
    discovery: Discovery, uncovered: object, foreign: object, expiring: timedelta | None
) -> None:
    """Filters leave out rows, and keep the order of all matching rows."""
    wanted = Wanted(uncovered=bool(uncovered), foreign=bool(foreign), expiring=expiring)

    narrowed = discovery.narrowed(wanted, NOW)

    def is_meant(owner: Owner | None, end: datetime | None) -> bool:
        late = expiring is not None and (end is None or end > NOW + expiring)
        return not late and not (foreign and owner is not Owner.FOREIGN)

    assert [
        domain
        for domain in discovery.domains
        if is_meant(domain.owner, domain.not_after) and (domain.is_uncovered or not uncovered)
    ] == list(narrowed.domains)
    shown = {(domain.account, domain.listed.bound) for domain in narrowed.domains}
    assert [
        certificate
        for certificate in discovery.certificates
        if is_meant(certificate.owner, certificate.listed.not_after)
        and ((certificate.account, certificate.listed.remote_id) in shown or not uncovered)
    ] == list(narrowed.certificates)
    assert discovery.accounts == narrowed.accounts


def test_reading_that_failed_is_reported_by_account() -> None:
    """A failure of a whole account is an error; a failure of a part is a warning."""
    silent, denied = TargetUnavailable("no answer"), TargetAccessDenied("no right")
    looks = [AccountSurvey("a", failure=denied), AccountSurvey("b", Survey((), (silent, denied)))]

    assert (
        denied.problem("a"),
        silent.problem("b"),
        denied.problem("b", Severity.WARNING),
    ) == discover(looks, (), NOTHING, NOW).problems
