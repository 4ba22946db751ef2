"""What is proposed for what was found."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.core.certificate import KeyType
from certferry.core.desired import Kind, PemFiles
from certferry.core.identifiers import covered_by
from certferry.core.inherited import Inherited, Installed
from certferry.core.proposal import Places, Proposal, ProposedDeployment, propose_for_domains
from certferry.core.survey import FoundDomain, FoundZone
from certferry.core.takeover import propose_for_inherited
from certferry.testing.certificates import make_bundle
from certferry.text import Text

NOW = datetime(2026, 11, 25, tzinfo=UTC)
FILES = PemFiles("/ssl/fullchain.pem", "/ssl/privkey.pem")
FROZEN = Text("it is frozen")


def domain(name: str, problem: Text | None = None, *, by_itself: bool = True) -> FoundDomain:
    """Find a domain on the CDN."""
    return FoundDomain(name, Kind.CDN, problem=problem, by_itself=by_itself)


def places(*domains: FoundDomain, zones: tuple[str, ...] = ("example.com",)) -> Places:
    """Put domains and zones into two accounts."""
    return Places("dnspod", tuple(map(FoundZone, zones)), "qiniu", domains)


def inherited(lineage: str, *names: str, age: int = 10, **more: object) -> Inherited:
    """Make another client's lineage."""
    bundle = make_bundle(*names, not_before=NOW - timedelta(days=age))
    return Inherited(lineage, bundle, FILES, f"stop {lineage}", **more)  # type: ignore[arg-type]  # the fields of the test


def taken_over(places: Places, *lineages: Inherited) -> Proposal:
    """Propose to go on with lineages."""
    return propose_for_inherited(lineages, places, "acme.sh", keep_client=False)


# --- for domains


def test_domains_of_a_zone_share_a_certificate() -> None:
    """One for each zone, by the longest that holds the domain; what no zone holds is left out."""
    found = places(
        *map(domain, ("b.example.com", "a.example.com", "x.sub.example.com", "x.example.net")),
        zones=("example.com", "sub.example.com"),
    )

    proposal = propose_for_domains(found, 100)

    assert {
        "example.com": ("a.example.com", "b.example.com"),
        "sub.example.com": ("x.sub.example.com",),
    } == {one.lineage: one.names for one in proposal.certificates}
    [left] = proposal.left_out
    assert "x.example.net" == left.name
    assert "no zone of the account dnspod" in str(left.reason)


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
    assert [("a.example.com", FROZEN)] == [(left.name, left.reason) for left in proposal.left_out]


def test_domain_that_follows_another_does_not_narrow_a_deployment() -> None:
    """A child of a wildcard domain takes its parent's certificate, and is never deployed to."""
    child = domain("a.example.com", Text("it follows"), by_itself=False)

    [one] = propose_for_domains(places(domain("*.example.com"), child), 100).certificates

    assert (ProposedDeployment("qiniu"),) == one.deployments


def test_zone_that_is_paused_is_told_as_such() -> None:
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
)
def test_every_domain_is_served_by_exactly_one_certificate_or_left_out(
    names: list[str], frozen: set[str], zones: list[str], most: int
) -> None:
    """No two certificates ever deploy to one domain; none has too many names, or redundant ones."""
    domains = [domain(name, FROZEN if name in frozen else None) for name in names]

    proposal = propose_for_domains(places(*domains, zones=tuple(zones)), most)

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
    every = [name for one in proposal.certificates for name in one.names]
    assert len(every) == len(set(every))


# --- for what another client made


def test_lineage_is_gone_on_with() -> None:
    """The same names and key, proven at the account whose zone holds them."""
    one = inherited("img", "img.example.com", "*.img.example.com")

    [found] = taken_over(places(domain("img.example.com")), one).certificates

    assert ("img", one.names, "dnspod", KeyType.EC256) == (
        found.lineage,
        found.names,
        found.dns,
        found.key_type,
    )
    assert (ProposedDeployment("qiniu"),) == found.deployments
    assert one is found.adopts
    assert () == found.remarks


def test_name_that_cannot_be_proven_leaves_the_lineage_with_its_client() -> None:
    """It is ferried from then on, and says why."""
    one = inherited("img", "img.example.com", "img.example.net")

    [found] = taken_over(places(domain("img.example.com")), one).certificates

    assert ((), FILES, None) == (found.names, found.files, found.key_type)
    [remark] = map(str, found.remarks)
    assert "acme.sh goes on renewing it" in remark
    assert "img.example.net: no zone of the account dnspod holds it" in remark


@pytest.mark.parametrize("domains", [(), ("img.example.com",)])
def test_client_that_is_kept_is_asked_for_its_files(domains: tuple[str, ...]) -> None:
    """Nothing is issued, whatever could be."""
    one = inherited("img", "img.example.com")

    proposal = propose_for_inherited(
        [one], places(*map(domain, domains)), "certbot", keep_client=True
    )

    [found] = proposal.certificates
    assert FILES == found.files
    assert len(domains) == len(found.deployments)


def test_chain_in_two_files_cannot_be_ferried() -> None:
    """What is kept with its client is left out then, and it is said."""
    made = inherited("img", "img.example.com")
    split = Inherited(made.lineage, made.bundle, None, made.stop)

    proposal = propose_for_inherited([split], places(), "lego", keep_client=True)

    assert () == proposal.certificates
    [left] = proposal.left_out
    assert ("img", False) == (left.name, left.is_domain)


def test_two_lineages_for_one_domain_do_not_take_turns() -> None:
    """Of two that cover it the one that has its very name gets it, then the younger one; of two for
    the same names the other is left out.
    """
    old = inherited("old", "img.example.com", age=20)
    new = inherited("new", "img.example.com", age=1)
    wide = inherited("wide", "*.example.com", age=0)
    domains = places(domain("img.example.com"), domain("a.example.com"))

    proposal = taken_over(domains, old, new, wide)

    found = {one.lineage: one for one in proposal.certificates}
    assert {"new", "wide"} == set(found)
    [left] = proposal.left_out
    assert left.certificate is not None
    assert ("old", old, False) == (left.name, left.certificate.adopts, left.is_domain)
    assert "new is for the same names, and goes first" == str(left.reason)
    assert "is left for it to serve" in str(left.certificate.remarks[0])
    assert (ProposedDeployment("qiniu"),) == found["new"].deployments
    assert (ProposedDeployment("qiniu", ("a.example.com",)),) == found["wide"].deployments


@pytest.mark.parametrize("served", [True, False])
@pytest.mark.parametrize("in_turn", [True, False])
def test_of_two_for_the_same_names_one_is_gone_on_with(*, served: bool, in_turn: bool) -> None:
    """Whether a domain is there for it or not, and in whatever order they are found."""
    lineages = [inherited(name, "img.example.com") for name in ("a", "b")]
    domains = [domain("img.example.com")] if served else []

    proposal = taken_over(places(*domains), *(lineages if in_turn else lineages[::-1]))

    assert 1 == len(proposal.certificates) == len(proposal.left_out)
    assert [served] == [bool(one.deployments) for one in proposal.certificates]


@pytest.mark.parametrize(
    ("installed", "target"),
    [(Installed("/opt/img.pem", "/opt/img.key"), "qiniu"), (Installed(), "")],
)
def test_second_one_that_may_be_of_use_stays(installed: Installed, target: str) -> None:
    """Somebody reads its files, or nothing is known of what is served."""
    found = Places("dnspod", (FoundZone("example.com"),), target, (domain("img.example.com"),))
    first, second = (inherited(n, "img.example.com", installed=installed) for n in ("a", "b"))

    proposal = taken_over(found, first, second)

    assert ["a", "b"] == [one.lineage for one in proposal.certificates]


@pytest.mark.parametrize(
    ("reload", "program"),
    [
        ("/opt/ssl/hook.sh qiniu HUNTER2", "/opt/ssl/hook.sh"),
        ("SECRET_TOKEN=HUNTER2 /opt/ssl/hook.sh qiniu", "/opt/ssl/hook.sh"),
        ("A='HUNTER2 x' B=\"HUNTER2\" env C=HUNTER2 '/opt/my qiniu' -k", "/opt/my qiniu"),
        ("export QINIU_SK=HUNTER2; /opt/ssl/hook.sh", "/opt/ssl/hook.sh"),
        ("QINIU_SK='x HUNTER2 /opt/hook.sh", "…"),
        ("QINIU_SK=HUNTER2", "…"),
    ],
)
def test_program_is_named_without_what_may_be_a_key(reload: str, program: str) -> None:
    """Neither its variables nor its arguments are shown, in the file or on a screen."""
    assert program == Installed(reload=reload).program
    one = inherited("img", "img.example.com", installed=Installed(reload=reload))
    for keep in (True, False):
        [found] = propose_for_inherited([one], places(), "acme.sh", keep_client=keep).certificates
        assert any(f"`{program}`" in str(remark) for remark in found.remarks)
        assert not any("HUNTER2" in str(remark) for remark in found.remarks)


def test_copies_in_files_go_on_being_made() -> None:
    """Where the names fit, by a deployment; where not, it is said."""
    fits = Installed("/opt/ssl/img/fullchain.pem", "/opt/ssl/img/privkey.pem", "reload")
    other = Installed("/opt/ssl/img.pem", "/opt/ssl/img.key")

    first, second = taken_over(
        places(),
        inherited("a", "a.example.com", installed=fits),
        inherited("b", "b.example.com", installed=other),
    ).certificates

    assert (ProposedDeployment("files", None, "/opt/ssl/img", "reload"),) == first.deployments
    assert () == second.deployments
    assert any("what reads /opt/ssl/img.pem" in str(remark) for remark in second.remarks)


DISPATCHER = "/opt/ssl/hook.sh QINIU"
OWN_HOOK = "certferry --log-file /var/log/cdn.log hook acme.sh"


@pytest.mark.parametrize(
    ("reload", "kept", "told"),
    [
        ("systemctl reload nginx", "systemctl reload nginx", False),
        (DISPATCHER, "", True),
        (OWN_HOOK, "", False),
        ("certferry hook qiniu", "", False),
        ("", "", False),
    ],
)
def test_what_deployed_to_qiniu_is_not_run_beside_us(reload: str, kept: str, *, told: bool) -> None:
    """The old script would upload, bind and delete as it always did; our own hook would wait for
    the run that it is part of.
    """
    files = Installed("/opt/ssl/img/fullchain.pem", "/opt/ssl/img/privkey.pem", reload)

    [one] = taken_over(places(), inherited("a", "a.example.com", installed=files)).certificates

    assert [kept] == [deployment.reload for deployment in one.deployments]
    assert told == any("`/opt/ssl/hook.sh` is left out" in str(remark) for remark in one.remarks)


@pytest.mark.parametrize(("reload", "told"), [(DISPATCHER, True), (OWN_HOOK, False), ("x", False)])
def test_client_that_goes_on_is_to_run_our_hook(reload: str, *, told: bool) -> None:
    """Where it is kept and still runs the old script, what to change is told."""
    one = inherited("img", "img.example.com", installed=Installed(reload=reload))

    [kept] = propose_for_inherited([one], places(), "acme.sh", keep_client=True).certificates

    advice = "have it run `certferry hook acme.sh` instead"
    assert told == any(advice in str(remark) for remark in kept.remarks)


def test_without_an_account_everything_stays_with_the_client() -> None:
    """Nothing can be proven where no account is known."""
    found = Places("", (), "qiniu", (domain("img.example.com"),))

    [one] = taken_over(found, inherited("img", "img.example.com")).certificates

    assert FILES == one.files
