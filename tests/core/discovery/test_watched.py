"""The certificates that the addresses of a host present, compared."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from certferry.core.certificates.chain import EdgeProblemCode, Presented
from certferry.core.discovery.watched import HostObservation, changes, judged
from certferry.core.network import Host
from certferry.core.observed.observation import Served
from certferry.errors import Problem
from certferry.text import Text
from tests.core.strategies import NOW

HOST = Host("img.example.com")
DAY = timedelta(days=1)
EXPIRED = Problem(EdgeProblemCode.EXPIRED, Text("expired"))
OTHER_NAME = Problem(EdgeProblemCode.NAME_NOT_COVERED, Text("another name"))


def edge(
    number: int,
    certificate: str = "new",
    *,
    age: int = 1,
    left: int = 89,
    issuer: str = "E7",
    problem: Problem | None = None,
) -> Served:
    """Return an address with a certificate, its age and its remaining life in days."""
    begins, ends = NOW - age * DAY, NOW + left * DAY
    leaf = Presented(certificate, "img", issuer, (HOST.name,), begins, ends)
    above = Presented(issuer, issuer, "Root", (), begins, ends)
    return Served(
        f"192.0.2.{number}",
        certificate,
        valid=problem is None,
        problem=problem,
        not_after=ends,
        chain=(leaf, above),
    )


def silent(number: int) -> Served:
    """Return a silent address."""
    problem = Problem(EdgeProblemCode.TIMED_OUT, Text("no answer"))
    return Served(f"192.0.2.{number}", None, valid=False, problem=problem, silent=True)


edges = st.builds(
    edge,
    st.integers(1, 9),
    st.sampled_from(["new", "old", "other"]),
    age=st.integers(1, 90),
    left=st.integers(-10, 90),
    issuer=st.sampled_from(["E7", "R10"]),
    problem=st.sampled_from([None, None, EXPIRED, OTHER_NAME]),
)
hosts_edges = st.lists(edges | st.builds(silent, st.integers(1, 9)), max_size=8)


def reported(look: HostObservation) -> list[tuple[EdgeProblemCode, str, bool]]:
    return [
        (EdgeProblemCode(c.problem.code), str(c.problem.message), c.problem.is_error)
        for c in look.problems
    ]


@given(hosts_edges, st.none() | st.integers(1, 30).map(lambda days: days * DAY))
def test_host_is_in_order_only_with_every_address(
    served: list[Served], within: timedelta | None
) -> None:
    """A single silent or wrong address makes the host wrong."""
    look = judged(HOST, served, NOW, within)

    if look.ok:
        assert served
        assert all(address.valid for address in served)
        assert not any(concern.problem.is_error for concern in look.problems)


@given(hosts_edges)
def test_addresses_with_equal_answers_have_no_differences(served: list[Served]) -> None:
    """Equal answers give no concern; each concern names its addresses."""
    look = judged(HOST, served, NOW)
    presented = {(address.fingerprint, address.chain) for address in served if address.fingerprint}

    if len(presented) <= 1:
        assert not look.problems
    for concern in look.problems:
        assert set(concern.addresses) <= {address.address for address in served}
        assert concern.addresses


@given(hosts_edges)
def test_equal_observations_are_no_change(served: list[Served]) -> None:
    """`--follow` prints no line without a change, for any order of the addresses."""
    look, again = judged(HOST, served, NOW), judged(HOST, served[::-1], NOW)
    distinct = len({address.address for address in served}) == len(served)

    if distinct:
        assert not changes(look, look)
        assert not changes(look, again).addresses


def test_addresses_that_lag_are_counted() -> None:
    """A lag during a change at a CDN is no failure; the end of the old certificate is reported."""
    new = [edge(number) for number in range(9)]
    old = [edge(number, "old", age=70, left=20) for number in range(9, 12)]

    look = judged(HOST, [*new, *old], NOW)

    until = f"{NOW + 20 * DAY:%Y-%m-%d %H:%M} UTC"
    sentence = f"3 of 12 addresses serve an older certificate (expires {until})"
    assert [(EdgeProblemCode.OLDER_CERTIFICATE, sentence, False)] == reported(look)
    assert ("192.0.2.9", "192.0.2.10", "192.0.2.11") == look.problems[0].addresses
    assert look.ok


def test_lag_with_a_certificate_that_ends_soon_is_a_failure() -> None:
    """A halted change would end in an error for visitors."""
    look = judged(HOST, [edge(1), edge(2, "old", age=84, left=6)], NOW)

    assert [True] == [failure for _, _, failure in reported(look)]
    assert not look.ok
    assert judged(HOST, [edge(1), edge(2, "old", age=84, left=6)], NOW, 5 * DAY).ok


def test_certificate_of_another_name_is_different() -> None:
    """The certificate of another name is never called older, whatever its dates are."""
    look = judged(HOST, [edge(1), edge(2, "cdn's", age=300, problem=OTHER_NAME)], NOW)

    assert [(EdgeProblemCode.CERTIFICATES_DIFFER, True)] == [
        (code, failure) for code, _, failure in reported(look)
    ]


def test_expired_predecessor_is_called_older() -> None:
    """The change left the address behind."""
    look = judged(HOST, [edge(1), edge(2, "old", age=91, left=-1, problem=EXPIRED)], NOW)

    assert [(EdgeProblemCode.OLDER_CERTIFICATE, True)] == [
        (code, failure) for code, _, failure in reported(look)
    ]


def test_chains_that_differ_are_reported() -> None:
    """The certificate is the same, and valid with both chains, so visitors are served."""
    look = judged(HOST, [edge(1), edge(2), edge(3, issuer="R10")], NOW)

    sentence = "1 of 3 addresses serve the certificate with another chain"
    assert [(EdgeProblemCode.CHAINS_DIFFER, sentence, False)] == reported(look)
    assert look.ok


def test_certificate_that_ends_within_the_operators_limit_is_a_failure() -> None:
    """The operator gives the limit in days."""
    served = [edge(1, left=13), edge(2, left=13)]

    assert judged(HOST, served, NOW).ok
    assert judged(HOST, served, NOW, 12 * DAY).ok
    look = judged(HOST, served, NOW, 14 * DAY)

    assert [(EdgeProblemCode.ENDS_SOON, "the certificate ends in 13 days", True)] == reported(look)
    assert not look.ok
    sentence = "2 of 3 addresses serve a certificate that ends in 13 days"
    assert (EdgeProblemCode.ENDS_SOON, sentence, True) in reported(
        judged(HOST, [*served, edge(3, "newer", age=0)], NOW, 14 * DAY)
    )


def test_unreadable_certificate_is_compared_by_its_fingerprint() -> None:
    """The certificate is different, with an unknown age."""
    unread = Served("192.0.2.2", "odd", valid=True)

    assert [EdgeProblemCode.CERTIFICATES_DIFFER] == [
        code for code, _, _ in reported(judged(HOST, [edge(1), unread], NOW))
    ]
    assert judged(HOST, [unread], NOW).ok


def test_address_that_changes_is_news() -> None:
    """A new certificate and a new fault are news; the passing of time is none."""
    before = judged(HOST, [edge(1, "old", age=60, left=30), edge(2, "old", age=60, left=30)], NOW)
    after = judged(HOST, [edge(1), edge(2, "old", age=60, left=30)], NOW)

    changed = changes(before, after)

    assert ["192.0.2.1"] == [now.address for now, _ in changed.addresses]
    assert ["old"] == [before.fingerprint for _, before in changed.addresses if before]
    assert changed.problems


def test_addresses_that_a_cdn_exchanges_are_no_news() -> None:
    """Each answer of its DNS may name other addresses; only a new certificate or fault is
    reported.
    """
    before = judged(HOST, [edge(1), edge(2)], NOW)

    assert not changes(before, judged(HOST, [edge(3), edge(4)], NOW))
    ((now, earlier),) = changes(before, judged(HOST, [edge(3), silent(4)], NOW)).addresses
    assert ("192.0.2.4", None) == (now.address, earlier)


def test_text_of_a_host() -> None:
    """The port is left out for HTTPS, and IPv6 addresses stand in brackets."""
    hosts = [Host("a.example.com"), Host("a.example.com", 8443), Host("2001:db8::1", 8443)]

    assert ["a.example.com", "a.example.com:8443", "[2001:db8::1]:8443"] == list(map(str, hosts))
