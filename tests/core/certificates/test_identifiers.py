"""DNS names: one spelling, one-label wildcards, challenge names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.core.certificates import names as identifiers
from certferry.core.certificates.certificate import covered_by, covers
from certferry.errors import ConfigError
from tests.core.strategies import hostnames, labels


@given(hostnames, st.booleans())
def test_normalising_twice_changes_nothing(name: str, wildcard: bool) -> None:  # noqa: FBT001 - hypothesis passes it by name
    """The one spelling of a name is the spelling of itself."""
    once = identifiers.normalise(f"*.{name}" if wildcard else name)

    assert once == identifiers.normalise(once)


@given(hostnames)
def test_case_and_final_dot_do_not_matter(name: str) -> None:
    """DNS compares without case, and the final dot is only notation."""
    assert identifiers.normalise(name) == identifiers.normalise(f" {name.upper()}. ")


@given(hostnames)
def test_leading_dot_is_a_wildcard(name: str) -> None:
    """Targets that write `.example.com` mean `*.example.com`."""
    assert identifiers.normalise(f"*.{name}") == identifiers.normalise(f".{name}")


def test_unicode_becomes_a_labels() -> None:
    """A name in Chinese is compared in its ASCII form."""
    assert "*.xn--fiqs8s.xn--fiqs8s" == identifiers.normalise("*.中国.中国")


@pytest.mark.parametrize(
    "written",
    [
        "",
        "localhost",
        "https://img.example.com",
        "img.example.com/path",
        "img example.com",
        "-img.example.com",
        "img..example.com",
        "*.*.example.com",
        "img.*.example.com",
        "192.0.2.1",
        "a" * 64 + ".example.com",
        ".".join(["a" * 60] * 5),
        "xn--\u00ad.example.com",
    ],
)
def test_what_is_no_name_is_refused_with_a_hint(written: str) -> None:
    """A mistake in the file is told at once, not by the CA."""
    with pytest.raises(ConfigError) as caught:
        identifiers.normalise(written)

    assert caught.value.hint is not None


@given(labels, hostnames)
def test_wildcard_covers_exactly_one_label(label: str, parent: str) -> None:
    """`*.x` covers `a.x`, but neither `x` nor `b.a.x`."""
    wildcard = f"*.{parent}"

    assert covers(wildcard, f"{label}.{parent}")
    assert not covers(wildcard, parent)
    assert not covers(wildcard, f"b.{label}.{parent}")


@given(labels, hostnames)
def test_wildcard_domain_needs_the_same_wildcard(label: str, parent: str) -> None:
    """A domain that stands for many is covered only by a name that stands for the same."""
    domain = f"*.{parent}"

    assert covers(domain, domain)
    assert not covers(f"{label}.{parent}", domain)
    assert not covers(f"*.{label}.{parent}", domain)
    assert not covered_by([parent, f"{label}.{parent}"], domain)


@given(hostnames)
def test_apex_and_wildcard_share_their_challenge_name(name: str) -> None:
    """Both are proven at `_acme-challenge` below the name itself."""
    apex = identifiers.challenge_name(name)

    assert f"_acme-challenge.{name}" == apex
    assert apex == identifiers.challenge_name(f"*.{name}")


def test_suffixes_go_from_the_name_to_two_labels() -> None:
    """A zone is looked for from the longest candidate down."""
    expected = ("a.b.example.com", "b.example.com", "example.com")

    assert expected == identifiers.suffixes("a.b.example.com")


@given(hostnames)
def test_zone_is_spelled_as_the_names_in_it(name: str) -> None:
    """However it is written; it may be below a label that no host has."""
    assert identifiers.normalise(name) == identifiers.zone_name(f".{name.upper()}.")
    assert identifiers.challenge_name(name) == identifiers.zone_name(f"_acme-challenge.{name}")


def test_zone_in_unicode_becomes_a_labels() -> None:
    """As the names of certificates do; what has none is told."""
    assert "_acme-challenge.xn--fsqu00a.xn--fiqs8s" == identifiers.zone_name(
        "_acme-challenge.例子.中国."
    )
    with pytest.raises(ConfigError, match="is not a domain name"):
        identifiers.zone_name("a\u2028b.com")
