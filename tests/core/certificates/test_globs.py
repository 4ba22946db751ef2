"""Patterns over domain names: what each matches, and what is none."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.core.certificates.names import (
    closeness,
    domain_of,
    is_glob,
    match_of,
    matches,
    pattern_of,
    read_pattern,
    takes_all,
)
from certferry.errors import ConfigError
from tests.core.strategies import hostnames

pieces = st.sampled_from(["*", "a", "b", ".", "img", "x.com"])
globs = st.lists(pieces, min_size=1, max_size=8).map("".join)
domains = st.lists(st.sampled_from(["a", "b", ".", "*.", "img", "x.com"]), max_size=8).map("".join)
names = st.builds(lambda name, wild: f"*.{name}" if wild else name, hostnames, st.booleans())


@given(globs.map(lambda glob: re.sub(r"\*+", "*", glob)).filter(is_glob), domains)
def test_star_stands_for_any_characters_or_none(glob: str, domain: str) -> None:
    """As the slow and obvious expression has it, whatever the characters are."""
    obvious = ".*".join(re.escape(part) for part in glob.split("*"))

    assert (re.fullmatch(obvious, domain) is not None) == matches(glob, domain)


@given(names, names)
def test_name_matches_itself_alone(domain: str, other: str) -> None:
    """The wildcard domain of a name is another than the name, and has a pattern of its own."""
    pattern = pattern_of(domain)

    assert not is_glob(pattern)
    assert domain == domain_of(pattern)
    assert matches(pattern, domain)
    assert (domain == other) == matches(pattern, other)


@given(hostnames, hostnames)
def test_star_below_a_name(name: str, below: str) -> None:
    """Every name below it at any depth, and its wildcard domain; neither it nor one that ends
    alike.
    """
    glob = read_pattern(f"*.{name}")

    assert matches(glob, f"{below}.{name}")
    assert matches(glob, f"*.{name}")
    assert not matches(glob, name)
    assert not matches(f"*.{name}", f"x{name}")
    assert not matches(read_pattern(f".{name}"), f"{below}.{name}")


@given(globs, globs, domains)
def test_wide_pattern_takes_all_that_a_narrow_one_matches(
    wide: str, narrow: str, domain: str
) -> None:
    """Or else it does not say so: a deployment is never emptied by a guess."""
    if takes_all(wide, narrow) and matches(narrow, domain):
        assert matches(wide, domain)


@pytest.mark.parametrize(
    ("wide", "narrow", "expected"),
    [
        ("*", "img.example.com", True),
        ("*", "*.example.com", True),
        ("*", ".example.com", True),
        ("*.example.com", "img-*.example.com", True),
        ("*.example.com", ".example.com", True),
        ("img-*.example.com", "*.example.com", False),
        (".example.com", "*.example.com", False),
        ("img.example.com", "img.example.com", True),
        ("img.example.com", "im*.example.com", False),
    ],
)
def test_which_pattern_takes_all_of_another(wide: str, narrow: str, *, expected: bool) -> None:
    """The wildcard domain is only one of those that its name with a star matches."""
    assert expected is takes_all(wide, narrow)


@given(st.one_of(names.map(pattern_of), globs))
def test_reading_twice_changes_nothing(written: str) -> None:
    """The one spelling of a pattern is the spelling of itself."""
    try:
        once = read_pattern(written)
    except ConfigError:
        return

    assert once == read_pattern(once) == read_pattern(f" {written.upper()} ")


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("IMG.Example.com.", "img.example.com"),
        (".Example.com", ".example.com"),
        ("*.Example.com.", "*.example.com"),
        ("**.example.com", "*.example.com"),
        ("*.例子.com", "*.xn--fsqu00a.com"),
        ("img-*", "img-*"),
        ("*", "*"),
    ],
)
def test_spelling(written: str, expected: str) -> None:
    """Lower case, A-labels, no final dot; two stars say no more than one."""
    assert expected == read_pattern(written)


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("img?.example.com", "'img?.example.com' is not understood"),
        ("[ab].example.com", "is not understood"),
        ("{a,b}.example.com", "is not understood"),
        ("!img.example.com", "is not understood"),
        ("https://*.example.com", "can match no domain name"),
        ("*..example.com", "can match no domain name"),
        (".*.example.com", "can match no domain name"),
        ("*例.com", "can match no domain name"),
        ("*." + "a" * 260, "can match no domain name"),
        ("* .example.com", "can match no domain name"),
        ("auto", "'auto' is not a domain name"),
        ("https://img.example.com", "is not a domain name"),
        ("", "is not a domain name"),
    ],
)
def test_what_is_no_pattern_is_refused_with_a_hint(written: str, problem: str) -> None:
    """A shell's other signs, addresses, parts of names in another script."""
    with pytest.raises(ConfigError) as caught:
        read_pattern(written)

    assert problem in str(caught.value)
    assert caught.value.hint


def test_no_pattern_takes_long() -> None:
    """One that an expression would try in ever more ways."""
    assert not matches("*a" * 100 + "*b", "a" * 250)


def test_first_pattern_that_matches() -> None:
    """In the order of the file."""
    patterns = ("img.example.com", "*.example.com", "*")

    assert "*.example.com" == match_of(patterns, "www.example.com")
    assert "img.example.com" == match_of(patterns, "img.example.com")
    assert None is match_of(patterns[:2], "example.com")


def test_longer_globs_describe_a_domain_more_closely() -> None:
    """Nothing at all says least, and only what matches counts."""
    assert 0 == closeness((), "img-1.example.com")
    wide = closeness(("*.example.com",), "img-1.example.com")
    near = closeness(("*", "img-*.example.com"), "img-1.example.com")
    assert 0 < closeness(("*",), "img-1.example.com") < wide < near
    assert 0 == closeness(("img-*.example.com",), "www.example.com")
