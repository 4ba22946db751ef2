"""Cloudflare as a provider: what is its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import cast

import pytest

from certferry.core.redaction import Secret
from certferry.errors import (
    ConfigError,
    DnsAccessDenied,
    DnsError,
    DnsRejected,
    DnsUnavailable,
    Retry,
    ZoneNotFound,
)
from certferry.ports.dns import DnsProvider
from certferry.ports.survey import ZoneKeeper
from certferry_sandbox.cloudflare import EDIT, READ
from certferry_sandbox.faults import Fault
from tests.adapters.cloudflare.account import TOKEN, CloudflareAccount, cloudflare_account

NAME = "_acme-challenge.img.example.com"
GLOBAL_KEY = "c2547eb745079dac9320b638f5e225cf483cc"  # as long as a real one


@pytest.fixture
def account() -> Iterator[CloudflareAccount]:
    with cloudflare_account() as account:
        account.add_zone("example.com")
        yield account


@pytest.fixture
def provider(account: CloudflareAccount) -> DnsProvider:
    return account.connect()


def test_record_is_quoted_and_never_proxied(
    account: CloudflareAccount, provider: DnsProvider
) -> None:
    """Cloudflare wants TXT content as a quoted string; the value itself has no quotes."""
    provider.add_txt(NAME, "gfj9Xq-_Rg85nM")

    [create] = account.service.calls(account.CREATE)
    wanted = {"type": "TXT", "name": NAME, "content": '"gfj9Xq-_Rg85nM"'}
    assert {**wanted, "ttl": 120, "proxied": False} == json.loads(create.body)
    assert ["gfj9Xq-_Rg85nM"] == account.values(NAME)


def test_record_that_another_client_wrote_without_quotes(
    account: CloudflareAccount, provider: DnsProvider
) -> None:
    """Content is given back as it was written, so both spellings are one value."""
    account.zones.create(NAME, "TXT", "value")  # shown without quotes

    handle = provider.add_txt(NAME, "value")

    assert ["value"] == account.values(NAME)
    assert provider.remove_txt(NAME, "value", handle)


def test_zone_is_asked_for_by_name_from_the_longest_on(
    account: CloudflareAccount, provider: DnsProvider
) -> None:
    """An account with thousands of zones costs no more than one with one."""
    provider.add_txt(NAME, "value")

    asked = [request.query.partition("&")[0] for request in account.service.calls(account.ZONES)]
    assert [f"name={NAME}", "name=img.example.com", "name=example.com"] == asked


def test_zones_that_have_been_listed_are_not_asked_for_by_name(
    account: CloudflareAccount, provider: DnsProvider
) -> None:
    """A run lists them before it orders."""
    cast("ZoneKeeper", provider).zones()

    provider.add_txt(NAME, "value")

    assert 1 == len(account.calls(account.ZONES))


@pytest.mark.parametrize("code", [81057, 81058])
def test_both_codes_for_an_identical_record(
    account: CloudflareAccount, provider: DnsProvider, code: int
) -> None:
    """The old one and the new one."""
    account.zones.create(NAME, "TXT", "value")
    account.service.answer_next(account.CREATE, code, "An identical record already exists.")

    provider.add_txt(NAME, "value")

    assert ["value"] == account.values(NAME)


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        ("pending", "full", "is not delegated to Cloudflare"),
        ("initializing", "full", "is not delegated to Cloudflare"),
        ("moved", "full", "is not delegated to Cloudflare"),
        ("active", "partial", "is not the DNS service"),
        ("active", "secondary", "is not the DNS service"),
    ],
)
def test_zone_that_is_not_served_by_cloudflare(
    account: CloudflareAccount, provider: DnsProvider, status: str, kind: str, words: str
) -> None:
    """A record there would be seen by no resolver: nothing is written, and `init` reports it."""
    account.service.add_zone("example.org", status=status, type=kind)

    with pytest.raises(DnsRejected, match=words) as refused:
        provider.add_txt("_acme-challenge.example.org", "value")

    assert "set `dns` to the account" in str(refused.value.hint)
    assert [] == account.calls(account.CREATE)
    found = {zone.name: zone.problem for zone in cast("ZoneKeeper", provider).zones()}
    assert None is found["example.com"]
    assert words in str(found["example.org"])


@pytest.mark.parametrize("statuses", [("pending", "active"), ("active", "pending")])
def test_zone_of_one_name_in_two_accounts(
    account: CloudflareAccount, provider: DnsProvider, statuses: tuple[str, str]
) -> None:
    """The one that is served is taken, whichever comes first."""
    for status in statuses:
        account.service.add_zone("example.org", status=status)

    provider.add_txt("_acme-challenge.example.org", "value")

    assert ["value"] == account.values("_acme-challenge.example.org")
    found = {zone.name: zone.problem for zone in cast("ZoneKeeper", provider).zones()}
    assert {"example.com": None, "example.org": None} == found


def test_zone_below_one_that_is_not_served(
    account: CloudflareAccount, provider: DnsProvider
) -> None:
    """The parent holds the name then, and a warning says so."""
    account.service.add_zone("dev.example.com", status="pending")

    provider.add_txt("_acme-challenge.dev.example.com", "value")

    [record] = account.zones.records("example.com", name="_acme-challenge.dev.example.com")
    assert "value" == record.value


def test_token_for_another_zone(account: CloudflareAccount) -> None:
    """It does not see this one, which is reported with those that it sees."""
    account.service.add_zone("example.org")
    account.service.add_token("B" * 40, zones=["example.org"])

    with pytest.raises(ZoneNotFound) as missing:
        account.connect(token=Secret("B" * 40)).add_txt(NAME, "value")

    assert "the account has example.org" in str(missing.value.hint)


def test_token_that_sees_no_zones(account: CloudflareAccount) -> None:
    """Without Zone:Read the list is empty, and no error of Cloudflare's tells why."""
    account.service.add_token("B" * 40, may=[EDIT])

    with pytest.raises(ZoneNotFound, match="sees no zone") as missing:
        account.connect(token=Secret("B" * 40)).add_txt(NAME, "value")

    assert "Zone:Read" in str(missing.value.hint)


def test_token_that_may_only_read(account: CloudflareAccount) -> None:
    """The zone is found and the record is refused."""
    account.service.add_token("B" * 40, may=[READ])

    with pytest.raises(DnsAccessDenied, match="code 10000") as denied:
        account.connect(token=Secret("B" * 40)).add_txt(NAME, "value")

    assert "DNS:Edit" in str(denied.value.hint)


@pytest.mark.parametrize(
    ("token", "words"),
    [
        (GLOBAL_KEY, "is the Global API Key"),
        (f" {GLOBAL_KEY.upper()}\n", "is the Global API Key"),
        (f"cfk_{'a' * 48}", "is the Global API Key"),
        ("v1.0-e24fd090c02efcfecb4de8f4ff246fd5c75b48946fdf0ce26c59f91d0d90797b", "Origin CA Key"),
        (f"Bearer {TOKEN}", "holds more than an API token"),
        (f'"{TOKEN}"', "holds more than an API token"),
        ("", "is empty"),
        ("令牌", "holds more than an API token"),
    ],
    ids=["global", "capitals", "prefixed", "origin", "bearer", "quoted", "empty", "unicode"],
)
def test_wrong_kind_of_key_is_reported_before_anything_is_sent(
    account: CloudflareAccount, token: str, words: str
) -> None:
    """With what it is, and where the right one is made."""
    with pytest.raises(ConfigError, match=words) as wrong:
        account.connect(token=Secret(token))

    assert "token" in str(wrong.value.hint)
    assert [] == account.calls()


@pytest.mark.parametrize("prefix", ["cfut_", "cfat_"])
def test_tokens_of_the_new_form(account: CloudflareAccount, prefix: str) -> None:
    """A user's and an account's, with 40 characters and a check sum behind."""
    token = f"{prefix}{'a' * 48}"
    account.service.add_token(token)

    assert account.connect(token=Secret(f"{token}\n")).add_txt(NAME, "value")


def test_what_is_no_token_by_the_service_itself(account: CloudflareAccount) -> None:
    """The inner error is reported with the outer one's code: a key with something missing."""
    with pytest.raises(DnsAccessDenied, match="code 6003") as denied:
        account.connect(token=Secret("abc")).add_txt(NAME, "value")

    assert "Invalid format for Authorization header" in str(denied.value)
    assert "Global API Key" in str(denied.value.hint)


def test_token_that_is_not_known(account: CloudflareAccount) -> None:
    """Rolled, ended, or with an address that is not this host's."""
    with pytest.raises(DnsAccessDenied, match=r"code 9109 .* Invalid access token") as denied:
        account.denied().add_txt(NAME, "value")

    assert "expired, been rolled" in str(denied.value.hint)


@pytest.mark.parametrize(
    ("code", "status", "error", "advice"),
    [
        (1000, 401, DnsAccessDenied, "does not accept"),
        (9103, 403, DnsAccessDenied, "is not an API token"),
        (10000, 403, DnsAccessDenied, "permission"),
        (777, 403, DnsAccessDenied, "does not accept"),
        (81045, 400, DnsRejected, "plan"),
        (81053, 400, DnsRejected, "CNAME"),
        (1004, 400, DnsRejected, "check the zone"),
    ],
)
def test_refusal_carries_code_words_and_advice(
    account: CloudflareAccount,
    provider: DnsProvider,
    code: int,
    status: int,
    error: type[DnsError],
    advice: str,
) -> None:
    """The write is not repeated; the operator reads which name, why, and what to do."""
    account.service.answer_next(account.CREATE, code, "their words", status=status)

    with pytest.raises(error) as refused:
        provider.add_txt(NAME, "value")

    expected = f"answered POST dns_records with code {code} (status {status}): their words"
    assert f"{NAME}: Cloudflare {expected}" == str(refused.value.message)
    assert advice in str(refused.value.hint)
    assert Retry.NEVER == refused.value.retry
    assert 1 == len(account.calls(account.CREATE))


@pytest.mark.parametrize(("asked", "rest"), [(240, 240), (None, 300)])
def test_long_rest_is_left_to_the_next_run(
    account: CloudflareAccount, provider: DnsProvider, asked: int | None, rest: int
) -> None:
    """Calls are counted over five minutes, and Retry-After says how long the rest is."""
    account.service.faults.add(Fault.too_many(retry_after=asked), on=account.CREATE, times=None)

    with pytest.raises(DnsUnavailable, match="status 429") as limited:
        provider.add_txt(NAME, "value")

    assert Retry.at(account.now() + timedelta(seconds=rest)) == limited.value.retry
    assert "1200 in five minutes" in str(limited.value.hint)
    assert [] == account.values(NAME)


def test_token_is_in_no_message(account: CloudflareAccount, provider: DnsProvider) -> None:
    """Not even when the service itself repeats it."""
    account.service.answer_next(account.CREATE, 1004, f"bad: {TOKEN}")

    with pytest.raises(DnsRejected) as refused:
        provider.add_txt(NAME, "value")

    assert TOKEN not in str(refused.value)


def test_list_without_an_end(account: CloudflareAccount, provider: DnsProvider) -> None:
    """A service that always has one more zone is given up."""
    for number in range(201):
        zone = {"id": f"x{number}"}
        body = json.dumps({"success": True, "result": [zone], "result_info": {"total_pages": 1e9}})
        account.service.faults.add(Fault.status(200, body.encode()), on=account.ZONES)

    with pytest.raises(DnsUnavailable, match="never ends"):
        provider.add_txt(NAME, "value")

    assert 200 == len(account.calls())


@pytest.mark.parametrize("second", [[], [{"id": "x"}]], ids=["empty", "the same"])
def test_half_a_list_is_not_the_whole(
    account: CloudflareAccount, provider: DnsProvider, second: list[dict[str, str]]
) -> None:
    """A page that brings nothing new, with more pages announced, is no end."""
    for zones in ([{"id": "x"}], second):
        body = json.dumps({"success": True, "result": zones, "result_info": {"total_pages": 3}})
        account.service.faults.add(Fault.status(200, body.encode()), on=account.ZONES)

    with pytest.raises(DnsUnavailable, match="never ends"):
        provider.add_txt(NAME, "value")

    assert 2 == len(account.calls())


def test_zone_with_an_id_that_leads_elsewhere(
    account: CloudflareAccount, provider: DnsProvider
) -> None:
    """What is no id is never made part of an address."""
    zone = {"id": "../../user/tokens", "name": "example.com", "status": "active"}
    body = json.dumps({"success": True, "result": [zone], "result_info": {"total_pages": 1}})
    account.service.faults.add(Fault.status(200, body.encode()), on=account.ZONES, times=None)

    with pytest.raises(ZoneNotFound, match="sees no zone"):
        provider.add_txt(NAME, "value")

    assert {"GET /client/v4/zones"} == set(account.calls())
