"""Names, globs, identifiers and lineages."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.core.certificates import names as identifiers
from certferry.core.certificates.certificate import covered_by, covers
from certferry.core.certificates.lineage import (
    is_owner,
    label_of,
    labels_of,
    owner_of,
    owners,
    short_label_of,
)
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
from tests.core.strategies import hostnames, labels

# --- Patterns over domain names


pieces = st.sampled_from(["*", "a", "b", ".", "img", "x.com"])
globs = st.lists(pieces, min_size=1, max_size=8).map("".join)
domains = st.lists(st.sampled_from(["a", "b", ".", "*.", "img", "x.com"]), max_size=8).map("".join)
names = st.builds(lambda name, wild: f"*.{name}" if wild else name, hostnames, st.booleans())


@given(globs.map(lambda glob: re.sub(r"\*+", "*", glob)).filter(is_glob), domains)
def test_star_stands_for_any_characters_or_none(glob: str, domain: str) -> None:
    """A glob matches as the obvious regular expression does, for all characters."""
    obvious = ".*".join(re.escape(part) for part in glob.split("*"))

    assert (re.fullmatch(obvious, domain) is not None) == matches(glob, domain)


@given(names, names)
def test_name_matches_itself_alone(domain: str, other: str) -> None:
    """A name and its wildcard domain each have a pattern of their own."""
    pattern = pattern_of(domain)

    assert not is_glob(pattern)
    assert domain == domain_of(pattern)
    assert matches(pattern, domain)
    assert (domain == other) == matches(pattern, other)


@given(hostnames, hostnames)
def test_star_below_a_name(name: str, below: str) -> None:
    """A star before a name matches every name below at any depth, and the wildcard domain, but
    neither the name itself nor a name with the same end.
    """
    glob = read_pattern(f"*.{name}")

    assert matches(glob, f"{below}.{name}")
    assert matches(glob, f"*.{name}")
    assert not matches(glob, name)
    assert not matches(f"*.{name}", f"x{name}")
    assert not matches(read_pattern(f".{name}"), f"{below}.{name}")


@given(globs, globs, domains)
def test_wide_pattern_takes_all_matches_of_a_narrow_pattern(
    wide: str, narrow: str, domain: str
) -> None:
    """The answer is yes only if proven, so that a guess never empties a deployment."""
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
def test_pattern_that_takes_all_matches_of_another(
    wide: str, narrow: str, *, expected: bool
) -> None:
    """A star before a name matches the wildcard domain and more."""
    assert expected is takes_all(wide, narrow)


@given(st.one_of(names.map(pattern_of), globs))
def test_reading_a_pattern_twice_changes_nothing(spelling: str) -> None:
    """The normal spelling of a pattern is read unchanged."""
    try:
        once = read_pattern(spelling)
    except ConfigError:
        return

    assert once == read_pattern(once) == read_pattern(f" {spelling.upper()} ")


@pytest.mark.parametrize(
    ("spelling", "expected"),
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
def test_spelling_of_a_pattern(spelling: str, expected: str) -> None:
    """A pattern is stored in lower case, with A-labels, without a final dot, and with single
    stars.
    """
    assert expected == read_pattern(spelling)


@pytest.mark.parametrize(
    ("spelling", "problem"),
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
def test_text_that_is_no_pattern_is_refused_with_a_hint(spelling: str, problem: str) -> None:
    """Other signs of a shell, addresses and parts of names in another script are refused."""
    with pytest.raises(ConfigError) as caught:
        read_pattern(spelling)

    assert problem in str(caught.value)
    assert caught.value.hint


def test_no_pattern_takes_long() -> None:
    """A regular expression would need exponential time for this pattern."""
    assert not matches("*a" * 100 + "*b", "a" * 250)


def test_first_pattern_that_matches() -> None:
    """The order of the file decides."""
    patterns = ("img.example.com", "*.example.com", "*")

    assert "*.example.com" == match_of(patterns, "www.example.com")
    assert "img.example.com" == match_of(patterns, "img.example.com")
    assert None is match_of(patterns[:2], "example.com")


def test_longer_globs_describe_a_domain_more_closely() -> None:
    """A domain without globs has the lowest rank, and only matching globs count."""
    assert 0 == closeness((), "img-1.example.com")
    wide = closeness(("*.example.com",), "img-1.example.com")
    near = closeness(("*", "img-*.example.com"), "img-1.example.com")
    assert 0 < closeness(("*",), "img-1.example.com") < wide < near
    assert 0 == closeness(("img-*.example.com",), "www.example.com")


# --- DNS names: their spelling, their wildcards, their challenge names


@given(hostnames, st.booleans())
def test_normalising_twice_changes_nothing(name: str, wildcard: bool) -> None:  # noqa: FBT001 - hypothesis passes by name
    """The normal spelling of a name is read unchanged."""
    once = identifiers.normalise(f"*.{name}" if wildcard else name)

    assert once == identifiers.normalise(once)


@given(hostnames)
def test_name_in_capitals_with_a_final_dot(name: str) -> None:
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
    "spelling",
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
def test_text_that_is_no_name_is_refused_with_a_hint(spelling: str) -> None:
    """An error in the file is reported while reading, before the CA sees the name."""
    with pytest.raises(ConfigError) as caught:
        identifiers.normalise(spelling)

    assert caught.value.hint is not None


@given(labels, hostnames)
def test_wildcard_covers_a_single_label(label: str, parent: str) -> None:
    """`*.x` covers `a.x`, but neither `x` nor `b.a.x`."""
    wildcard = f"*.{parent}"

    assert covers(wildcard, f"{label}.{parent}")
    assert not covers(wildcard, parent)
    assert not covers(wildcard, f"b.{label}.{parent}")


@given(labels, hostnames)
def test_wildcard_domain_needs_the_same_wildcard(label: str, parent: str) -> None:
    """A wildcard domain is covered only by the same wildcard name."""
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
    """The search for a zone begins with the longest candidate."""
    expected = ("a.b.example.com", "b.example.com", "example.com")

    assert expected == identifiers.suffixes("a.b.example.com")


@given(hostnames)
def test_zone_is_spelled_as_the_names_in_it(name: str) -> None:
    """Any spelling gives the same zone, also below a label with an underscore."""
    assert identifiers.normalise(name) == identifiers.zone_name(f".{name.upper()}.")
    assert identifiers.challenge_name(name) == identifiers.zone_name(f"_acme-challenge.{name}")


def test_zone_in_unicode_becomes_a_labels() -> None:
    """A zone is converted as the names of certificates are; an invalid label is refused."""
    assert "_acme-challenge.xn--fsqu00a.xn--fiqs8s" == identifiers.zone_name(
        "_acme-challenge.例子.中国."
    )
    with pytest.raises(ConfigError, match="is not a domain name"):
        identifiers.zone_name("a\u2028b.com")


# --- Labels of our uploads, long and short


LINEAGES = st.text(min_size=1, max_size=80)
FINGERPRINTS = st.text("0123456789abcdef", min_size=64, max_size=64)


@given(LINEAGES, FINGERPRINTS)
def test_label_shows_its_lineage(lineage: str, fingerprint: str) -> None:
    """Both forms name the lineage, so that clean-up by other tools recognises our uploads."""
    assert labels_of(lineage, fingerprint) == (
        label_of(lineage, fingerprint),
        short_label_of(lineage, fingerprint),
    )
    for label in labels_of(lineage, fingerprint):
        assert owner_of(label) in owners(lineage)


@given(LINEAGES, FINGERPRINTS)
def test_short_label_has_23_characters(lineage: str, fingerprint: str) -> None:
    """Qiniu accepts that length from a widely used client: letters, digits and dashes alone."""
    label = short_label_of(lineage, fingerprint)

    assert 23 == len(label)
    assert label.isascii()


@given(st.text(max_size=40))
def test_other_labels_are_untrusted(label: str) -> None:
    """A name that an operator chose by hand has no owner."""
    assert owner_of(label) is None or label.startswith(("certferry-", "cf-"))


def test_labels_that_are_almost_marks() -> None:
    """A missing digit, another prefix and upper case each make a label foreign."""
    for label in ("cf-0123456-0123456789a", "cf-0123456-0123456789AB", "cx-0123456-0123456789ab"):
        assert None is owner_of(label)


@given(FINGERPRINTS)
def test_name_that_is_cut_in_a_label_proves_nothing(fingerprint: str) -> None:
    """Two long names with the same beginning share their long label; their short labels differ."""
    ours, theirs = "static.assets.example.com.cn", "static.assets.example.com.hk"
    assert owner_of(label_of(theirs, fingerprint)) in owners(ours)

    assert not is_owner(ours, label_of(theirs, fingerprint))
    assert not is_owner(ours, label_of(ours, fingerprint))
    assert is_owner(ours, short_label_of(ours, fingerprint))
    assert is_owner("img", label_of("img", fingerprint))
