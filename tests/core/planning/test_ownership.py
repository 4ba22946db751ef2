"""Who serves a domain that several certificates cover."""

from __future__ import annotations

import itertools
from fnmatch import fnmatchcase

from hypothesis import given
from hypothesis import strategies as st

from certferry.core.certificates.certificate import covered_by
from certferry.core.desired.certificate import DesiredCertificate, DesiredDeployment, Kind
from certferry.core.planning.rollouts import Claims

NAMES = ("img.example.com", "*.example.com", "*.img.example.com", "a.img.example.com")
GLOBS = ("*.example.com", "a.*", "*.img.*", "*img.example.com")
DOMAINS = (*NAMES, "b.example.com", "b.img.example.com")


def wish(
    lineage: str,
    *names: str,
    domains: tuple[str, ...] | None = None,
    target: str = "qiniu",
    kind: Kind = Kind.AUTO,
    globs: tuple[str, ...] = (),
    exclude: tuple[str, ...] = (),
) -> DesiredCertificate:
    """A certificate, deployed to what it covers, to what is named, or to what globs match."""
    domains = () if globs and domains is None else domains
    deployment = DesiredDeployment(target, domains, kind, globs=globs, exclude=exclude)
    return DesiredCertificate(lineage, names, "dnspod", deployments=(deployment,))


def owners(wishes: list[DesiredCertificate], domain: str, kind: Kind = Kind.CDN) -> list[str]:
    """Who would serve the domain, which is such at its target."""
    claims = Claims(wishes)
    return [
        one.lineage
        for one in wishes
        for deployment in one.deployments
        if _takes(one.names, deployment, domain, kind)
        and claims.owns(one.lineage, deployment, domain, kind)
    ]


def _takes(names: tuple[str, ...], one: DesiredDeployment, domain: str, kind: Kind) -> bool:
    """Whether the certificate alone would be deployed to the domain."""
    as_written = {Kind.DCDN: {Kind.CDN}}.get(kind, set())
    if one.kind not in {Kind.AUTO, kind} | as_written:
        return False
    if domain in (one.domains or ()):
        return True
    if any(_like(glob, domain) for glob in one.exclude):
        return False
    is_meant = one.domains is None or any(_like(glob, domain) for glob in one.globs)
    return is_meant and covered_by(names, domain)


def _like(glob: str, domain: str) -> bool:
    return fnmatchcase(domain, glob)


@st.composite
def wish_lists(draw: st.DrawFn) -> list[DesiredCertificate]:
    """Certificates that overlap in every way; no two name the same domain."""
    names = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True)
    kinds = st.sampled_from([Kind.AUTO, Kind.AUTO, Kind.CDN, Kind.DCDN, Kind("kodo")])
    globs = st.lists(st.sampled_from(GLOBS), max_size=2, unique=True).map(tuple)
    wishes = [
        wish(f"l{number}", *draw(names), kind=draw(kinds), globs=draw(globs), exclude=draw(globs))
        for number in range(draw(st.integers(1, 4)))
    ]
    if draw(st.booleans()):
        wishes.append(wish("named", *NAMES, domains=(draw(st.sampled_from(DOMAINS)),)))
    return draw(st.permutations(wishes))


@given(wish_lists(), st.sampled_from(DOMAINS), st.sampled_from([Kind.CDN, Kind.DCDN, Kind("kodo")]))
def test_covered_domain_has_exactly_one_owner(
    wishes: list[DesiredCertificate], domain: str, kind: Kind
) -> None:
    """No two certificates contend for a domain, and none falls between two."""
    wanted = any(_takes(one.names, one.deployments[0], domain, kind) for one in wishes)

    assert int(wanted) == len(owners(wishes, domain, kind))


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


def test_longer_glob_comes_before_a_shorter_one_and_before_none() -> None:
    """Who describes a domain more closely means it, and not who merely covers it."""
    wishes = [
        wish("auto", "img.example.com", "*.example.com"),
        wish("wide", "*.example.com", globs=("*.example.com",)),
        wish("near", "*.example.com", globs=("b*", "im*.example.com")),
    ]

    for order in itertools.permutations(wishes):
        assert ["near"] == owners(list(order), "img.example.com")
        assert ["wide"] == owners(list(order), "a.example.com")
        assert ["auto"] == owners(
            [wishes[0], wish("x", "*.example.com", globs=("a*",))], "img.example.com"
        )


def test_name_comes_before_any_glob() -> None:
    """A domain that is named has its place, however closely others describe it."""
    named = wish("named", "*.example.com", domains=("img.example.com",))
    glob = wish("glob", "img.example.com", globs=("img.example.co*",))

    assert ["named"] == owners([glob, named], "img.example.com")


def test_what_is_excluded_goes_to_the_next() -> None:
    """It is none's claim that `exclude` takes away."""
    first = wish("first", "*.example.com", exclude=("img.*",))
    second = wish("second", "*.example.com")

    assert ["second"] == owners([first, second], "img.example.com")
    assert ["first"] == owners([first, second], "b.example.com")
    assert None is Claims([first]).owner("qiniu", "img.example.com", Kind.CDN)


def test_glob_claims_nothing_that_its_certificate_does_not_cover() -> None:
    """Whatever it matches."""
    wishes = [
        wish("narrow", "img.example.com", globs=("*.example.com",)),
        wish("wide", "*.example.com"),
    ]

    assert ["wide"] == owners(wishes, "b.example.com")


def test_equal_claims_go_to_the_first() -> None:
    """Two certificates for the same names are served in the order of the file."""
    first, second = wish("first", "*.example.com"), wish("second", "*.example.com")

    assert ["first"] == owners([first, second], "b.example.com")


def test_other_targets_are_no_rivals() -> None:
    """The same domain may be served from two places."""
    wishes = [wish("one", "img.example.com"), wish("two", "img.example.com", target="other")]

    assert ["one", "two"] == owners(wishes, "img.example.com")


def test_kinds_of_domain_are_no_rivals() -> None:
    """A deployment for CDN domains only leaves source domains to other certificates."""
    wishes = [
        wish("cdn", "*.example.com", kind=Kind.CDN),
        wish("kodo", "*.example.com", kind=Kind("kodo")),
    ]

    assert ["cdn"] == owners(wishes, "img.example.com", Kind.CDN)
    assert ["kodo"] == owners(wishes, "img.example.com", Kind("kodo"))
    assert ["cdn"] == owners(wishes, "img.example.com", Kind.DCDN)


def test_one_certificate_with_two_deployments_serves_a_domain_once() -> None:
    """The one that names it decides how."""
    named = DesiredDeployment("qiniu", ("img.example.com",))
    wide = DesiredDeployment("qiniu")
    one = DesiredCertificate("one", ("*.example.com",), deployments=(wide, named))
    claims = Claims([one])

    assert claims.owns("one", named, "img.example.com", Kind.CDN)
    assert not claims.owns("one", wide, "img.example.com", Kind.CDN)
    assert claims.owns("one", wide, "b.example.com", Kind.CDN)


def test_domain_that_is_not_declared_is_left_to_the_caller() -> None:
    """As without a configuration, where a client's certificate is all there is."""
    assert Claims().owns("one", DesiredDeployment("qiniu"), "img.example.com", Kind.CDN)
