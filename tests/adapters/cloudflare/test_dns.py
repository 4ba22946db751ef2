"""Cloudflare as a DNS provider."""

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
GLOBAL_KEY = "c2547eb745079dac9320b638f5e225cf483cc"  # in the form of a real key


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
    """Cloudflare expects TXT content as a quoted string around the bare value."""
    provider.add_txt(NAME, "gfj9Xq-_Rg85nM")

    [create] = account.service.calls(account.CREATE)
    wanted = {"type": "TXT", "name": NAME, "content": '"gfj9Xq-_Rg85nM"'}
    assert {**wanted, "ttl": 120, "proxied": False} == json.loads(create.body)
    assert ["gfj9Xq-_Rg85nM"] == account.values(NAME)


def test_record_of_another_client_without_quotes(
    account: CloudflareAccount, provider: DnsProvider
) -> None:
    """Cloudflare returns content as written, so quoted and unquoted values are equal."""
    account.zones.create(NAME, "TXT", "value")  # shown without quotes

    handle = provider.add_txt(NAME, "value")

    assert ["value"] == account.values(NAME)
    assert provider.remove_txt(NAME, "value", handle)


def test_zone_is_searched_by_name_from_the_longest(
    account: CloudflareAccount, provider: DnsProvider
) -> None:
    """The number of requests is the same for an account with thousands of zones."""
    provider.add_txt(NAME, "value")

    queries = [request.query.partition("&")[0] for request in account.service.calls(account.ZONES)]
    assert [f"name={NAME}", "name=img.example.com", "name=example.com"] == queries


def test_listed_zones_are_known_without_a_search(
    account: CloudflareAccount, provider: DnsProvider
) -> None:
    """A run lists the zones before the order."""
    cast("ZoneKeeper", provider).zones()

    provider.add_txt(NAME, "value")

    assert 1 == len(account.calls(account.ZONES))


@pytest.mark.parametrize("code", [81057, 81058])
def test_old_and_new_code_of_an_identical_record(
    account: CloudflareAccount, provider: DnsProvider, code: int
) -> None:
    """Either code means that the record exists, so the write succeeded."""
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
def test_zone_that_resolvers_find_elsewhere(
    account: CloudflareAccount, provider: DnsProvider, status: str, kind: str, words: str
) -> None:
    """Resolvers would never see a record in the zone, so certferry writes nothing."""
    account.service.add_zone("example.org", status=status, type=kind)

    with pytest.raises(DnsRejected, match=words) as refused:
        provider.add_txt("_acme-challenge.example.org", "value")

    assert "set `dns` to the account" in str(refused.value.hint)
    assert [] == account.calls(account.CREATE)
    problems = {zone.name: zone.problem for zone in cast("ZoneKeeper", provider).zones()}
    assert None is problems["example.com"]
    assert words in str(problems["example.org"])


@pytest.mark.parametrize("statuses", [("pending", "active"), ("active", "pending")])
def test_zone_of_the_same_name_in_two_accounts(
    account: CloudflareAccount, provider: DnsProvider, statuses: tuple[str, str]
) -> None:
    """The delegated zone is used, whatever the order of the list."""
    for status in statuses:
        account.service.add_zone("example.org", status=status)

    provider.add_txt("_acme-challenge.example.org", "value")

    assert ["value"] == account.values("_acme-challenge.example.org")
    problems = {zone.name: zone.problem for zone in cast("ZoneKeeper", provider).zones()}
    assert {"example.com": None, "example.org": None} == problems


def test_pending_zone_below_an_active_zone(
    account: CloudflareAccount, provider: DnsProvider
) -> None:
    """The record goes into the active parent zone."""
    account.service.add_zone("dev.example.com", status="pending")

    provider.add_txt("_acme-challenge.dev.example.com", "value")

    [record] = account.zones.records("example.com", name="_acme-challenge.dev.example.com")
    assert "value" == record.value


def test_token_for_another_zone(account: CloudflareAccount) -> None:
    """The error lists the zones that the token can see."""
    account.service.add_zone("example.org")
    account.service.add_token("B" * 40, zones=["example.org"])

    with pytest.raises(ZoneNotFound) as missing:
        account.connect(token=Secret("B" * 40)).add_txt(NAME, "value")

    assert "the account has example.org" in str(missing.value.hint)


def test_token_without_zone_read(account: CloudflareAccount) -> None:
    """Without Zone:Read Cloudflare answers with an empty list instead of an error."""
    account.service.add_token("B" * 40, may=[EDIT])

    with pytest.raises(ZoneNotFound, match="sees no zone") as missing:
        account.connect(token=Secret("B" * 40)).add_txt(NAME, "value")

    assert "Zone:Read" in str(missing.value.hint)


def test_token_without_dns_edit(account: CloudflareAccount) -> None:
    """The zone is found, and Cloudflare refuses the record."""
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
def test_wrong_kind_of_key_is_reported_before_the_first_request(
    account: CloudflareAccount, token: str, words: str
) -> None:
    """The error identifies the kind of key, and the hint says where to create a token."""
    with pytest.raises(ConfigError, match=words) as wrong:
        account.connect(token=Secret(token))

    assert "token" in str(wrong.value.hint)
    assert [] == account.calls()


@pytest.mark.parametrize("prefix", ["cfut_", "cfat_"])
def test_tokens_of_the_new_form(account: CloudflareAccount, prefix: str) -> None:
    """Tokens of users and of accounts have a prefix, 40 characters and a checksum."""
    token = f"{prefix}{'a' * 48}"
    account.service.add_token(token)

    assert account.connect(token=Secret(f"{token}\n")).add_txt(NAME, "value")


def test_malformed_token(account: CloudflareAccount) -> None:
    """A truncated key: the error joins the outer error's code and the inner error's message."""
    with pytest.raises(DnsAccessDenied, match="code 6003") as denied:
        account.connect(token=Secret("abc")).add_txt(NAME, "value")

    assert "Invalid format for Authorization header" in str(denied.value)
    assert "Global API Key" in str(denied.value.hint)


def test_unknown_token(account: CloudflareAccount) -> None:
    """The token was rolled, has expired, or is restricted to other addresses."""
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
    """The error names the record, the reason and the remedy; the write is sent once."""
    account.service.answer_next(account.CREATE, code, "their words", status=status)

    with pytest.raises(error) as refused:
        provider.add_txt(NAME, "value")

    expected = f"answered POST dns_records with code {code} (status {status}): their words"
    assert f"{NAME}: Cloudflare {expected}" == str(refused.value.message)
    assert advice in str(refused.value.hint)
    assert Retry.NEVER == refused.value.retry
    assert 1 == len(account.calls(account.CREATE))


@pytest.mark.parametrize(("retry_after", "pause"), [(240, 240), (None, 300)])
def test_long_pause_is_left_to_the_next_run(
    account: CloudflareAccount, provider: DnsProvider, retry_after: int | None, pause: int
) -> None:
    """Cloudflare counts calls over five minutes, and Retry-After gives the length of the pause."""
    account.service.faults.add(
        Fault.too_many(retry_after=retry_after), on=account.CREATE, times=None
    )

    with pytest.raises(DnsUnavailable, match="status 429") as limited:
        provider.add_txt(NAME, "value")

    assert Retry.at(account.now() + timedelta(seconds=pause)) == limited.value.retry
    assert "1200 in five minutes" in str(limited.value.hint)
    assert [] == account.values(NAME)


def test_errors_hide_the_token(account: CloudflareAccount, provider: DnsProvider) -> None:
    """Cloudflare may repeat the token in its message."""
    account.service.answer_next(account.CREATE, 1004, f"bad: {TOKEN}")

    with pytest.raises(DnsRejected) as refused:
        provider.add_txt(NAME, "value")

    assert TOKEN not in str(refused.value)


def test_endless_list(account: CloudflareAccount, provider: DnsProvider) -> None:
    """The search gives up a list that always announces another zone."""
    for number in range(201):
        zone = {"id": f"x{number}"}
        body = json.dumps({"success": True, "result": [zone], "result_info": {"total_pages": 1e9}})
        account.service.faults.add(Fault.status(200, body.encode()), on=account.ZONES)

    with pytest.raises(DnsUnavailable, match="never ends"):
        provider.add_txt(NAME, "value")

    assert 200 == len(account.calls())


@pytest.mark.parametrize("second", [[], [{"id": "x"}]], ids=["empty", "the same"])
def test_incomplete_list(
    account: CloudflareAccount, provider: DnsProvider, second: list[dict[str, str]]
) -> None:
    """A page without new entries, with more pages announced, is an error."""
    for zones in ([{"id": "x"}], second):
        body = json.dumps({"success": True, "result": zones, "result_info": {"total_pages": 3}})
        account.service.faults.add(Fault.status(200, body.encode()), on=account.ZONES)

    with pytest.raises(DnsUnavailable, match="never ends"):
        provider.add_txt(NAME, "value")

    assert 2 == len(account.calls())


def test_zone_with_a_path_as_id(account: CloudflareAccount, provider: DnsProvider) -> None:
    """An id of another form never becomes part of a URL."""
    zone = {"id": "../../user/tokens", "name": "example.com", "status": "active"}
    body = json.dumps({"success": True, "result": [zone], "result_info": {"total_pages": 1}})
    account.service.faults.add(Fault.status(200, body.encode()), on=account.ZONES, times=None)

    with pytest.raises(ZoneNotFound, match="sees no zone"):
        provider.add_txt(NAME, "value")

    assert {"GET /client/v4/zones"} == set(account.calls())
