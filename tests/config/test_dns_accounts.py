"""`dns` of a certificate: one account, or a table from zones to accounts."""

from __future__ import annotations

import pytest

from tests.config.conftest import Load, Refusal

ACCOUNTS = """\
[accounts]
dnspod = {}
tc = { type = "tencentcloud" }
"""


NOT_COVERED = (
    'none of its zones holds *.delegated.net: add "delegated.net" = "dnspod", with the account that'
    " writes there. Where a CNAME leads the challenge into another zone, that is the other zone's"
    " account"
)


def declared(dns: str, *names: str) -> str:
    """Give a file with one certificate; `dns` is in its ninth line."""
    listed = ", ".join(f'"{name}"' for name in names)
    return f"{ACCOUNTS}\n\n\n[[certificates]]\nnames = [{listed}]\ndns = {dns}\n"


def test_table_from_zones_to_accounts(loaded: Load) -> None:
    """The longest zone comes first, in A-labels; the accounts are those of the table."""
    dns = '{ "Example.com" = "dnspod", "a.example.com" = "tc", "例子.cn" = "dnspod" }'

    [wish] = loaded(declared(dns, "*.a.example.com", "img.example.com", "例子.cn")).certificates

    assert (
        ("a.example.com", "tc"),
        ("example.com", "dnspod"),
        ("xn--fsqu00a.cn", "dnspod"),
    ) == wish.dns_zones
    assert ("", ("tc", "dnspod")) == (wish.dns, wish.dns_accounts)


def test_table_of_its_own(loaded: Load) -> None:
    """A header does as well as braces."""
    text = declared('{ "example.com" = "dnspod" }', "example.com").replace("dns = {", "# {")

    [wish] = loaded(f'{text}[certificates.dns]\n"example.com" = "tc"\n').certificates

    assert (("example.com", "tc"),) == wish.dns_zones


def test_one_account(loaded: Load) -> None:
    """As ever."""
    [wish] = loaded(declared('"dnspod"', "example.com")).certificates

    assert ("dnspod", (), ("dnspod",)) == (wish.dns, wish.dns_zones, wish.dns_accounts)


@pytest.mark.parametrize(
    ("dns", "problem"),
    [
        (
            '{ "example.com" = "dnspod" }',
            f"dns: {NOT_COVERED}",
        ),
        ("{}", "dns: no zone with its account is in it"),
        ("3", "dns: must be a string, and is a number"),
    ],
)
def test_table_without_the_zone_of_a_name(refusal: Refusal, dns: str, problem: str) -> None:
    """It is told at the line of the table, with what to write there."""
    [line] = refusal(declared(dns, "img.example.com", "*.delegated.net"))

    assert f"certferry.toml:9: [[certificates]] {problem}" == line


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ('"example.net" = "dnsopd"', "did you mean dnspod?"),
        ('"example.net" = 3', "must be a string"),
        ('"*.example.com" = "dnspod"', "a zone has no `*`"),
        ('"https://example.com/" = "dnspod"', "is not a domain name"),
        ('"EXAMPLE.com" = "dnspod"', "in another spelling"),
    ],
)
def test_wrong_entry_is_told_at_its_line(refusal: Refusal, entry: str, problem: str) -> None:
    """With the zone as its key."""
    text = declared('{ "example.com" = "dnspod" }', "example.com").replace("dns = {", "# {")

    lines = refusal(f'{text}[certificates.dns]\n"example.com." = "tc"\n{entry}\n')

    assert 1 == len(lines), lines
    assert lines[0].startswith("certferry.toml:12: ")
    assert problem in lines[0]


def test_certificate_without_account(loaded: Load, refusal: Refusal) -> None:
    """Records that stay may prove it where `dns_persist` says so, and not to the CAs of
    `fallback`.
    """
    text = '[acme]\ndns_persist = true\n\n[[certificates]]\nnames = ["example.com"]\n'

    [wish] = loaded(text).certificates
    assert ("", (), True) == (wish.dns, wish.dns_accounts, wish.issuance.dns_persist)

    apart = declared('{ "example.com" = "dnspod" }', "img.other.net")
    [wish] = loaded(f"[acme]\ndns_persist = true\n\n{apart}").certificates
    assert (("example.com", "dnspod"),) == wish.dns_zones
    fallback = 'fallback = ["letsencrypt-staging"]'
    assert "none of its zones holds img.other.net" in "".join(
        refusal(f"[acme]\ndns_persist = true\n{fallback}\n\n{apart}")
    )
    assert "dns: missing: the account that writes" in "".join(
        refusal(text.replace("true", "false"))
    )
    with_fallback = text.replace("true", f"true\n{fallback}")
    assert "those of `fallback` need the account" in "".join(refusal(with_fallback))


def test_records_on_a_host_that_may_not_ask(refusal: Refusal) -> None:
    """They are looked up before an order: `wait` says that nothing is."""
    text = "[acme]\ndns_persist = true\n[dns]\nwait = 120\n"

    assert "certferry.toml:2: [acme] dns_persist: not with `wait` under [dns]" in " ".join(
        refusal(text)
    )
