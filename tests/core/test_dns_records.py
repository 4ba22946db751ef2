"""CAA records, and the records of draft-ietf-acme-dns-persist-02."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.core.dns_persist import (
    LONGEST_STRING,
    Fault,
    Holder,
    Offer,
    PersistRecord,
    Verdict,
    account_uri,
    judge,
    record_for,
    with_wildcards,
)
from certferry.core.network import Applicant, CaaRecord, CaaRefusal, allowed_by, why_forbidden
from certferry.values import replace

# --- CAA records that allow or forbid a CA


LE = "letsencrypt.org"
ACCOUNT = "https://ca.test/acct/1"
US = Applicant(frozenset({LE}), ACCOUNT)

issuers = st.sampled_from([LE, "other.test", "", "sectigo.com"])
tags = st.sampled_from(["issue", "issuewild", "iodef"])
records = st.lists(st.builds(CaaRecord, st.just(0), tags, issuers), max_size=5)
names = st.sampled_from(["img.example.com", "*.example.com"])


def issue(value: str, tag: str = "issue", flags: int = 0) -> CaaRecord:
    return CaaRecord(flags, tag, value)


@given(names, records)
def test_record_for_our_ca_beside_others_is_enough(name: str, others: list[CaaRecord]) -> None:
    """A single record for our CA and this kind of name allows the order, beside records for other
    CAs.
    """
    tag = "issuewild" if name.startswith("*.") else "issue"

    assert why_forbidden(name, [*others, issue(LE, tag)], US) is None


@given(names, records)
def test_ca_without_a_record(name: str, caa_records: list[CaaRecord]) -> None:
    """The CA may issue only if no record of the kind names any CA."""
    stranger = Applicant(frozenset({"stranger.test"}))
    kinds = {record.tag for record in caa_records}
    says_who = "issue" in kinds or (name.startswith("*.") and "issuewild" in kinds)

    assert says_who == (why_forbidden(name, caa_records, stranger) is CaaRefusal.OTHER_CA)


@pytest.mark.parametrize(
    ("name", "caa_records", "expected"),
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
def test_rules_of_the_standards(
    name: str, caa_records: list[CaaRecord], expected: CaaRefusal | None
) -> None:
    """RFC 8659 §4, and the parameters of RFC 8657."""
    assert expected == why_forbidden(name, caa_records, US)


def test_record_for_an_account_before_the_first_order() -> None:
    """The first order creates the account, so the record's account is ignored before."""
    caa_records = [issue(f"{LE}; accounturi=https://ca.test/acct/2")]

    assert why_forbidden("a.test", caa_records, Applicant(frozenset({LE}))) is None


def test_cas_are_named_once() -> None:
    """Each CA comes once, in the order of the records; an empty value is left out."""
    caa_records = [issue("b.test"), issue(";"), issue("a.test", "issuewild"), issue("b.test; x=y")]

    assert ("b.test", "a.test") == allowed_by(caa_records)


# --- The record of dns-persist-01, by draft-ietf-acme-dns-persist-02


NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
OFFER = Offer(("authority.example", "ca.example.net"), "https://ca.example/account-hash/")
THUMBPRINT = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"  # RFC 7638 §3.1
HOLDER = Holder("https://ca.example/acct/123", (THUMBPRINT,))
HASHED = "https://ca.example/account-hash/sha-256/5SQm7n6tPh2-PlLbCKGnViTXX5z19SCN4cPGQHSk-kw"
FOR_ANY = "https://ca.example/account-hash/sha-256/NpDnSwUthQK8zCgFdefYxAdAVPnygMLbs9US6oO-5ug"
VALUE = f"authority.example; accounturi={HASHED}"

labels = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
persist_names = st.lists(labels, min_size=2, max_size=5).map(".".join)
thumbprints = st.from_regex(r"[A-Za-z0-9_-]{43}", fullmatch=True)
urls = st.from_regex(r"https://ca\.example/acct/[0-9]{1,9}", fullmatch=True)
holders = st.builds(Holder, urls, st.lists(thumbprints, min_size=1, max_size=3).map(tuple))


def judged(*values: str, wildcard: bool = False, holder: Holder = HOLDER) -> Verdict:
    return judge(values, "example.com", OFFER, holder, NOW, wildcard=wildcard)


def test_vectors_of_the_draft() -> None:
    """§10.2: the hash for a single name, and the hash for all names."""
    assert HASHED == account_uri("example.com", OFFER.prefix, HOLDER.url, THUMBPRINT)
    assert FOR_ANY == account_uri("*", OFFER.prefix, HOLDER.url, THUMBPRINT)


def test_records_of_the_draft() -> None:
    """§10.1 and §10.4: the record for the name alone, and for its wildcard."""
    place = "_validation-persist.example.com"

    assert PersistRecord(place, VALUE) == record_for("example.com", OFFER, HOLDER, wildcard=False)
    assert PersistRecord(place, f"{VALUE}; policy=wildcard") == record_for(
        "example.com", OFFER, HOLDER, wildcard=True
    )


@given(
    name=persist_names, holder=holders, wildcard=st.booleans(), is_wildcard_asked_for=st.booleans()
)
def test_record_to_set_proves_its_name(
    name: str, holder: Holder, *, wildcard: bool, is_wildcard_asked_for: bool
) -> None:
    """The printed record is accepted; a wildcard also needs `policy`."""
    record = record_for(name, OFFER, holder, wildcard=wildcard)

    verdict = judge([record.value], name, OFFER, holder, NOW, wildcard=is_wildcard_asked_for)

    assert Verdict(Fault.NO_WILDCARD if is_wildcard_asked_for and not wildcard else None) == verdict


@given(persist_names, persist_names, holders, holders)
def test_record_proves_its_name_and_account_alone(
    name: str, other: str, holder: Holder, stranger: Holder
) -> None:
    """The hash binds the name and the account."""
    record = record_for(name, OFFER, holder, wildcard=True)

    if name != other:
        verdict = judge([record.value], other, OFFER, holder, NOW, wildcard=False)
        assert Fault.OTHER_ACCOUNT is verdict.fault
    if holder.url != stranger.url:
        verdict = judge([record.value], name, OFFER, stranger, NOW, wildcard=False)
        assert Fault.OTHER_ACCOUNT is verdict.fault


@given(st.text(), st.text())
def test_any_text_may_stand_in_dns(before: str, after: str) -> None:
    """Any other text is ignored, and the right record beside the text counts."""
    assert Verdict(None) == judged(before, VALUE, f"authority.example; {after}")


def test_record_of_an_earlier_key() -> None:
    """A CA stores the earlier keys of an account, and still accepts their records (§4.2)."""
    after = replace(HOLDER, thumbprints=("A" * 43, THUMBPRINT))

    assert Verdict(None) == judged(VALUE, holder=after)
    assert VALUE != record_for("example.com", OFFER, after, wildcard=False).value


def test_record_for_any_name() -> None:
    """An operator may choose the form with the same value at every name (§4.1)."""
    assert Verdict(None) == judged(f"ca.example.net; accounturi={FOR_ANY}")


@pytest.mark.parametrize(
    ("fault", "value"),
    [
        (Fault.MISSING, f"other.example; accounturi={HASHED}"),
        (Fault.MISSING, f"AUTHORITY.example; accounturi={HASHED}"),
        (Fault.MISSING, "v=spf1 -all"),
        (Fault.MALFORMED, "authority.example"),
        (Fault.MALFORMED, "authority.example;"),
        (Fault.MALFORMED, f"{VALUE};"),
        (Fault.MALFORMED, f"{VALUE}; policy"),
        (Fault.MALFORMED, f"{VALUE}; accounturi={HASHED}"),
        (Fault.MALFORMED, f"{VALUE}; persistUntil=tomorrow"),
        (Fault.MALFORMED, f"{VALUE}; persistUntil=-1"),
        (Fault.OTHER_ACCOUNT, f"authority.example; accounturi={HASHED.lower()}"),
        (Fault.OLDER_DRAFT, f"authority.example; accounturi={HOLDER.url}"),
        (Fault.NO_WILDCARD, VALUE),
        (Fault.NO_WILDCARD, f"{VALUE}; policy=specific"),
        (Fault.OVER, f"{VALUE}; policy=wildcard; persistUntil=1721952000"),
        (None, f"{VALUE}; policy=WildCard; later-tag=1"),
        (None, f"{VALUE}; policy=wildcard; persistUntil={'9' * 5000}"),
    ],
)
def test_fault_of_a_record(fault: Fault | None, value: str) -> None:
    """Each fault has its own code, and the record closest to valid decides."""
    assert fault is judged(value, wildcard=True).fault
    assert fault is judged("authority.example", value, wildcard=True).fault or (
        fault is Fault.MISSING
    )


def test_record_that_ends() -> None:
    """The latest end counts; a record that ends during an order has ended already."""
    ends = NOW + timedelta(days=90)
    until = [f"{VALUE}; persistUntil={int(moment.timestamp())}" for moment in (NOW, ends)]
    soon = f"{VALUE}; persistUntil={int((NOW + timedelta(minutes=5)).timestamp())}"

    assert Verdict(None, ends) == judged(*until)
    assert Verdict(None) == judged(*until, VALUE)
    assert Fault.OVER is judged(soon).fault


def test_value_that_takes_two_strings() -> None:
    """A zone file limits a string to 255 octets (§9.1)."""
    record = PersistRecord("_validation-persist.example.com", "x" * (LONGEST_STRING + 1))

    assert f'{record.name}. TXT "{"x" * LONGEST_STRING}" "x"' == record.as_zone_line


def test_names_share_the_record_of_their_wildcard() -> None:
    """Each base name has a single record, with wildcards allowed if a name is a wildcard."""
    ordered_names = ["a.test", "*.b.test", "b.test"]

    assert {"a.test": False, "b.test": True} == with_wildcards(ordered_names)
