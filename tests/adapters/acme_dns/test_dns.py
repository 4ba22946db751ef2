"""Registrations at an acme-dns server, and what may go wrong with them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from certferry.core.discovery.inventory import FoundZone
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
from certferry_sandbox.acme_dns import Registered
from certferry_sandbox.faults import Fault
from certferry_sandbox.testing.contracts.dns import OURS, OURS_TOO, THEIRS, VALUE
from tests.adapters.acme_dns.account import SERVED, AcmeDnsAccount, acme_dns_account, connected

UUID = "c36f50e8-4632-44f0-83fe-e070fef28a10"
PASSWORD = "htB9mR9DYgcu9bX_afHF62erXaH2TS7bg9KW3F7Z"


@pytest.fixture
def account() -> Iterator[AcmeDnsAccount]:
    with acme_dns_account() as account:
        yield account


@pytest.fixture
def one(account: AcmeDnsAccount) -> Registered:
    return account.service.register()


def stored(path: Path, document: object) -> Path:
    path.write_text(json.dumps(document, indent=2))
    path.chmod(0o600)
    return path


def test_values_stay_until_newer_ones_push_them_out(
    account: AcmeDnsAccount, one: Registered
) -> None:
    """A removal sends nothing, and says that there is nothing to look for (decision 0029)."""
    provider = account.connect(one)
    for value in (OURS, OURS_TOO):
        handle = provider.add_txt(one.fulldomain, value)
        assert provider.remove_txt(one.fulldomain, value, handle)
    assert [OURS, OURS_TOO] == account.values(one.fulldomain)

    provider.add_txt(one.fulldomain, VALUE)

    assert [OURS_TOO, VALUE] == account.values(one.fulldomain)
    assert 3 == len(account.service.updates())


def test_what_is_needed_is_not_sent_again(account: AcmeDnsAccount, one: Registered) -> None:
    """A second time would push out the value beside it."""
    provider = account.connect(one)
    for value in (OURS, OURS_TOO, OURS):
        provider.add_txt(one.fulldomain, value)

    assert [OURS, OURS_TOO] == account.values(one.fulldomain)


def test_third_value_at_a_time_is_refused(account: AcmeDnsAccount, one: Registered) -> None:
    """It would push out one that the CA has yet to see; once that is done, it may be written."""
    provider = account.connect(one)
    for value in (OURS, OURS_TOO):
        provider.add_txt(one.fulldomain, value)

    with pytest.raises(DnsRejected, match="keeps two values") as reported:
        provider.add_txt(one.fulldomain, THEIRS)
    assert Retry.LATER == reported.value.retry
    assert "register once more" in str(reported.value.hint)
    assert 2 == len(account.service.updates())

    provider.remove_txt(one.fulldomain, OURS, OURS)
    provider.add_txt(one.fulldomain, THEIRS)
    assert [OURS_TOO, THEIRS] == account.values(one.fulldomain)


def test_name_of_the_registration_is_a_zone(account: AcmeDnsAccount, one: Registered) -> None:
    """And no name beside it; the server is not asked."""
    provider = account.connect(one)

    assert FoundZone(one.fulldomain) == provider.zone_of(one.fulldomain)
    assert provider.zones() is None
    with pytest.raises(ZoneNotFound):
        provider.zone_of(f"{one.subdomain}.auth.example.com")


def test_subdomain_alone_answers_for_its_label(account: AcmeDnsAccount, one: Registered) -> None:
    """As acme.sh keeps it: in which zone the server is, need not be known."""
    provider = account.connect(one, subdomain=Secret(one.subdomain))

    provider.add_txt(one.fulldomain, VALUE)

    assert [VALUE] == account.values(one.fulldomain)
    with pytest.raises(ZoneNotFound) as reported:
        provider.zone_of("_acme-challenge.img.example.com")
    record = f"_acme-challenge.img.example.com. CNAME {one.subdomain}.…"
    assert record in str(reported.value.hint)
    assert "`wait`" in str(reported.value.hint)


def test_cname_that_is_missing_is_reported(account: AcmeDnsAccount, one: Registered) -> None:
    """As it is to be set."""
    with pytest.raises(ZoneNotFound) as reported:
        account.connect(one).zone_of("_acme-challenge.img.example.com")

    record = f"_acme-challenge.img.example.com. CNAME {one.fulldomain}."
    assert record in str(reported.value.hint)


def test_file_of_a_client_has_several_registrations(
    account: AcmeDnsAccount, tmp_path: Path
) -> None:
    """Each writes its own name, with its own keys; the domain tells which CNAME is missing. Newer
    clients write an empty address into a file of older ones, which had none.
    """
    first, second, elsewhere = (account.service.register() for _ in range(3))
    path = stored(
        tmp_path / "clientstorage.json",
        {
            "img.example.com": {**first.as_stored(), "server_url": ""},
            "Example.net.": second.as_stored(f"{account.service.url}/"),
            "other.example": elsewhere.as_stored("https://auth.elsewhere.example"),
        },
    )
    provider = account.stored(path)

    provider.add_txt(first.fulldomain, OURS)
    provider.add_txt(second.fulldomain, OURS_TOO)

    assert [OURS] == account.values(first.fulldomain)
    assert [OURS_TOO] == account.values(second.fulldomain)
    with pytest.raises(ZoneNotFound):
        provider.zone_of(elsewhere.fulldomain)
    with pytest.raises(ZoneNotFound) as reported:
        provider.zone_of("_acme-challenge.example.net")
    assert f"CNAME {second.fulldomain}." in str(reported.value.hint)
    with pytest.raises(ZoneNotFound) as reported:
        provider.zone_of("_acme-challenge.example.edu")
    assert "register" in str(reported.value.hint)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("not json", "not an acme-dns client file"),
        ("[" * 100_000, "not an acme-dns client file"),
        ("[]", "not an acme-dns client file"),
        ("{}", "no registration at"),
        ('{"example.com": 1}', "example.com: `username`"),
        ('{"example.com": {"username": "x"}}', "example.com: `username`"),
    ],
)
def test_file_that_can_be_none_is_reported(tmp_path: Path, written: str, said: str) -> None:
    """With the domain of the entry."""
    path = tmp_path / "storage"
    path.write_text(written)
    path.chmod(0o600)

    with pytest.raises(ConfigError, match=said):
        connected(api="https://auth.example.org", storage=path)


def test_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """It holds keys; one that is not there, or that others can change, is reported as well."""
    path = stored(tmp_path / "storage", {})
    for mode, said in ((0o644, "can read"), (0o666, "can")):
        path.chmod(mode)
        with pytest.raises(ConfigError, match=said) as reported:
            connected(api="https://auth.example.org", storage=path)
        assert "chmod" in str(reported.value.hint)
    path.unlink()
    with pytest.raises(ConfigError, match="storage"):
        connected(api="https://auth.example.org", storage=path)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"username": Secret(PASSWORD), "password": Secret(UUID)}, "may be swapped"),
        ({"username": Secret("me")}, "`username`"),
        ({"password": Secret("short")}, "`password`"),
        ({"subdomain": "a_b"}, "`subdomain`"),
        ({"subdomain": ""}, "lacks"),
        ({"username": None}, "lacks"),
        ({"storage": Path("/nowhere")}, "as well"),
        ({"api": "auth.example.org"}, "must be a complete address"),
        ({"api": "https://[::1"}, "must be a complete address"),
        ({"api": "https://me:pass@auth.example.org"}, "must not hold"),
        ({"api": "http://auth.example.org"}, "https://"),
    ],
)
def test_settings_that_can_be_none_are_reported(changed: dict[str, Any], said: str) -> None:
    """Before anything is sent, and without what was written."""
    written = {
        "api": Secret("https://auth.example.org"),
        "username": Secret(UUID),
        "password": Secret(PASSWORD),
        "subdomain": UUID,
    }
    connected(**written)

    with pytest.raises(ConfigError, match=said) as reported:
        connected(**{**written, **changed})

    assert PASSWORD not in f"{reported.value} {reported.value.hint}"


@pytest.mark.parametrize("wrong", ["password", "subdomain", "address"])
def test_keys_that_are_refused_are_reported_once(account: AcmeDnsAccount, wrong: str) -> None:
    """Whichever of them it is, the server says the same; it is not asked again with them."""
    one = account.service.register(["192.0.2.0/24"] if wrong == "address" else [])
    changed: dict[str, Any] = {}
    if wrong == "password":
        changed["password"] = Secret(PASSWORD)
    if wrong == "subdomain":
        changed["subdomain"] = f"other.{SERVED}"
    provider = account.connect(one, **changed)
    name = changed.get("subdomain", one.fulldomain)

    with pytest.raises(DnsAccessDenied, match=f"{name}.*401.*forbidden") as reported:
        provider.add_txt(name, VALUE)
    with pytest.raises(DnsAccessDenied, match="does not ask"):
        provider.add_txt(name, OURS)

    assert "allowfrom" in str(reported.value.hint)
    assert one.password not in f"{reported.value} {reported.value.hint}"
    assert 1 == len(account.service.updates())


@pytest.mark.parametrize(
    ("fault", "kind", "said"),
    [
        (Fault.status(500, b'{"error": "db_error"}'), DnsUnavailable, "500: db_error"),
        (Fault.status(429, b"{}"), DnsUnavailable, "429"),
        (Fault.status(400, b'{"error": "bad_subdomain"}'), DnsRejected, "400: bad_subdomain"),
        (Fault.status(404, b"<html>"), DnsRejected, "404"),
        (Fault.status(200, b"<html>"), DnsUnavailable, "not an acme-dns response"),
        (Fault.status(200, b'{"txt": "other"}'), DnsUnavailable, "not an acme-dns response"),
        (Fault.status(200, b"[" * 100_000), DnsUnavailable, "not an acme-dns response"),
        (Fault.reset_after(), DnsUnavailable, "reset|closed|aborted"),
    ],
)
def test_other_answers_are_reported(
    account: AcmeDnsAccount, one: Registered, fault: Fault, kind: type[DnsError], said: str
) -> None:
    """With the name; and the next try is made."""
    account.service.faults.add(fault, times=1)
    provider = account.connect(one)

    with pytest.raises(kind, match=f"{one.fulldomain}.*({said})") as reported:
        provider.add_txt(one.fulldomain, VALUE)
    provider.add_txt(one.fulldomain, VALUE)

    assert reported.value.hint is not None
    assert VALUE == account.values(one.fulldomain)[-1]


def test_value_that_is_no_challenge_is_refused(account: AcmeDnsAccount, one: Registered) -> None:
    """By the server: it takes 43 characters alone."""
    with pytest.raises(DnsRejected, match="bad_txt"):
        account.connect(one).add_txt(one.fulldomain, "short")


def test_server_shows_the_time(account: AcmeDnsAccount, one: Registered) -> None:
    """So that `doctor` sees whether it runs, without a write."""
    provider = account.connect(one)

    ahead = provider.clock_ahead()
    account.service.faults.add(Fault.reset_before())

    assert ahead is not None
    assert abs(ahead) < timedelta(seconds=30)
    assert [] == account.service.updates()
    with pytest.raises(DnsUnavailable, match="health"):
        provider.clock_ahead()
