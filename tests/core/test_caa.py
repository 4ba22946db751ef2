"""Which CAA records let a CA issue, and which do not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.core.network import Applicant, CaaRecord, CaaRefusal, allowed_by, why_forbidden

LE = "letsencrypt.org"
ACCOUNT = "https://ca.test/acct/1"
US = Applicant(frozenset({LE}), ACCOUNT)

issuers = st.sampled_from([LE, "other.test", "", "sectigo.com"])
tags = st.sampled_from(["issue", "issuewild", "iodef"])
records = st.lists(st.builds(CaaRecord, st.just(0), tags, issuers), max_size=5)
names = st.sampled_from(["img.example.com", "*.example.com"])


def issue(value: str, tag: str = "issue", flags: int = 0) -> CaaRecord:
    """Give a record."""
    return CaaRecord(flags, tag, value)


@given(names, records)
def test_our_ca_among_those_named_is_enough(name: str, others: list[CaaRecord]) -> None:
    """Beside other CAs, one record that lets the CA issue for this kind of name is enough."""
    tag = "issuewild" if name.startswith("*.") else "issue"

    assert why_forbidden(name, [*others, issue(LE, tag)], US) is None


@given(names, records)
def test_another_ca_may_not_what_is_not_ours(name: str, found: list[CaaRecord]) -> None:
    """A CA that no record names is let in only where no record of the kind says who may."""
    stranger = Applicant(frozenset({"stranger.test"}))
    kinds = {record.tag for record in found}
    says_who = "issue" in kinds or (name.startswith("*.") and "issuewild" in kinds)

    assert says_who == (why_forbidden(name, found, stranger) is CaaRefusal.OTHER_CA)


@pytest.mark.parametrize(
    ("name", "found", "expected"),
    [
        ("a.test", [], None),
        ("a.test", [issue(";")], CaaRefusal.OTHER_CA),
        ("a.test", [issue("LetsEncrypt.org.")], None),
        ("a.test", [issue(LE), issue(";", "issuewild")], None),
        ("*.a.test", [issue(LE), issue(";", "issuewild")], CaaRefusal.OTHER_CA),
        ("*.a.test", [issue(LE)], None),
        ("a.test", [issue(f"{LE}; validationmethods=http-01")], CaaRefusal.OTHER_METHOD),
        ("a.test", [issue(f"{LE}; validationmethods=http-01,dns-01")], None),
        ("a.test", [issue(f"{LE};accounturi=https://ca.test/acct/2")], CaaRefusal.OTHER_ACCOUNT),
        ("a.test", [issue(f"{LE};accounturi={ACCOUNT}")], None),
        ("a.test", [issue("what", "strange", 128)], CaaRefusal.UNKNOWN_TAG),
        ("a.test", [issue("what", "strange")], None),
        ("a.test", [issue("mailto:a@b.test", "iodef", 128)], None),
    ],
)
def test_what_the_standards_say(
    name: str, found: list[CaaRecord], expected: CaaRefusal | None
) -> None:
    """RFC 8659 §4, and the parameters of RFC 8657."""
    assert expected == why_forbidden(name, found, US)


def test_account_is_not_judged_before_there_is_one() -> None:
    """The first order makes it."""
    found = [issue(f"{LE}; accounturi=https://ca.test/acct/2")]

    assert why_forbidden("a.test", found, Applicant(frozenset({LE}))) is None


def test_cas_are_named_once() -> None:
    """In their order, and not what names none."""
    found = [issue("b.test"), issue(";"), issue("a.test", "issuewild"), issue("b.test; x=y")]

    assert ("b.test", "a.test") == allowed_by(found)
