"""acme-dns as a DNS provider: registrations, stored credentials, and the errors of the server."""

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
def registration(account: AcmeDnsAccount) -> Registered:
    return account.service.register()


def stored(path: Path, document: object) -> Path:
    path.write_text(json.dumps(document, indent=2))
    path.chmod(0o600)
    return path


def test_values_stay_until_newer_values_replace_them(
    account: AcmeDnsAccount, registration: Registered
) -> None:
    """A removal sends no request, because newer values replace older values (decision 0029)."""
    provider = account.connect(registration)
    for value in (OURS, OURS_TOO):
        handle = provider.add_txt(registration.fulldomain, value)
        assert provider.remove_txt(registration.fulldomain, value, handle)
    assert [OURS, OURS_TOO] == account.values(registration.fulldomain)

    provider.add_txt(registration.fulldomain, VALUE)

    assert [OURS_TOO, VALUE] == account.values(registration.fulldomain)
    assert 3 == len(account.service.updates())


def test_value_in_use_is_sent_only_once(account: AcmeDnsAccount, registration: Registered) -> None:
    """A repeated update would replace the other value at the name."""
    provider = account.connect(registration)
    for value in (OURS, OURS_TOO, OURS):
        provider.add_txt(registration.fulldomain, value)

    assert [OURS, OURS_TOO] == account.values(registration.fulldomain)


def test_third_value_is_refused_until_a_removal(
    account: AcmeDnsAccount, registration: Registered
) -> None:
    """acme-dns keeps two values: a third would replace a value that the CA still has to check."""
    provider = account.connect(registration)
    for value in (OURS, OURS_TOO):
        provider.add_txt(registration.fulldomain, value)

    with pytest.raises(DnsRejected, match="keeps two values") as reported:
        provider.add_txt(registration.fulldomain, THEIRS)
    assert Retry.LATER == reported.value.retry
    assert "register once more" in str(reported.value.hint)
    assert 2 == len(account.service.updates())

    provider.remove_txt(registration.fulldomain, OURS, OURS)
    provider.add_txt(registration.fulldomain, THEIRS)
    assert [OURS_TOO, THEIRS] == account.values(registration.fulldomain)


def test_name_of_the_registration_is_its_own_zone(
    account: AcmeDnsAccount, registration: Registered
) -> None:
    """The provider answers for this single name, from the settings alone."""
    provider = account.connect(registration)

    assert FoundZone(registration.fulldomain) == provider.zone_of(registration.fulldomain)
    assert provider.zones() is None
    with pytest.raises(ZoneNotFound):
        provider.zone_of(f"{registration.subdomain}.auth.example.com")


def test_bare_subdomain_matches_the_first_label(
    account: AcmeDnsAccount, registration: Registered
) -> None:
    """acme.sh stores no zone of the server, so the hint shows the CNAME with an ellipsis."""
    provider = account.connect(registration, subdomain=Secret(registration.subdomain))

    provider.add_txt(registration.fulldomain, VALUE)

    assert [VALUE] == account.values(registration.fulldomain)
    with pytest.raises(ZoneNotFound) as reported:
        provider.zone_of("_acme-challenge.img.example.com")
    record = f"_acme-challenge.img.example.com. CNAME {registration.subdomain}.…"
    assert record in str(reported.value.hint)
    assert "`wait`" in str(reported.value.hint)


def test_missing_cname_is_reported(account: AcmeDnsAccount, registration: Registered) -> None:
    """The hint shows the CNAME record to set."""
    with pytest.raises(ZoneNotFound) as reported:
        account.connect(registration).zone_of("_acme-challenge.img.example.com")

    record = f"_acme-challenge.img.example.com. CNAME {registration.fulldomain}."
    assert record in str(reported.value.hint)


def test_client_file_with_several_registrations(account: AcmeDnsAccount, tmp_path: Path) -> None:
    """Each registration updates its own name with its own credentials, and the domain selects the
    CNAME for the hint.

    Newer clients write an empty `server_url` into files of older clients, which lacked the field.
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
    ("content", "message"),
    [
        ("not json", "not an acme-dns client file"),
        ("[" * 100_000, "not an acme-dns client file"),
        ("[]", "not an acme-dns client file"),
        ("{}", "no registration at"),
        ('{"example.com": 1}', "example.com: `username`"),
        ('{"example.com": {"username": "x"}}', "example.com: `username`"),
    ],
)
def test_unusable_client_file_is_reported(tmp_path: Path, content: str, message: str) -> None:
    """The error names the domain of the broken entry."""
    path = tmp_path / "storage"
    path.write_text(content)
    path.chmod(0o600)

    with pytest.raises(ConfigError, match=message):
        connected(api="https://auth.example.org", storage=path)


def test_client_file_with_open_permissions_is_refused(tmp_path: Path) -> None:
    """The file holds credentials. A missing file is reported as well."""
    path = stored(tmp_path / "storage", {})
    for mode, message in ((0o644, "can read"), (0o666, "can")):
        path.chmod(mode)
        with pytest.raises(ConfigError, match=message) as reported:
            connected(api="https://auth.example.org", storage=path)
        assert "chmod" in str(reported.value.hint)
    path.unlink()
    with pytest.raises(ConfigError, match="storage"):
        connected(api="https://auth.example.org", storage=path)


@pytest.mark.parametrize(
    ("changed", "message"),
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
def test_unusable_settings_are_reported(changed: dict[str, Any], message: str) -> None:
    """The error comes before the first request and hides the password."""
    settings = {
        "api": Secret("https://auth.example.org"),
        "username": Secret(UUID),
        "password": Secret(PASSWORD),
        "subdomain": UUID,
    }
    connected(**settings)

    with pytest.raises(ConfigError, match=message) as reported:
        connected(**{**settings, **changed})

    assert PASSWORD not in f"{reported.value} {reported.value.hint}"


@pytest.mark.parametrize("wrong", ["password", "subdomain", "address"])
def test_refused_credentials_are_sent_once(account: AcmeDnsAccount, wrong: str) -> None:
    """The server answers every wrong credential alike; later calls fail without a request."""
    registration = account.service.register(["192.0.2.0/24"] if wrong == "address" else [])
    changed: dict[str, Any] = {}
    if wrong == "password":
        changed["password"] = Secret(PASSWORD)
    if wrong == "subdomain":
        changed["subdomain"] = f"other.{SERVED}"
    provider = account.connect(registration, **changed)
    name = changed.get("subdomain", registration.fulldomain)

    with pytest.raises(DnsAccessDenied, match=f"{name}.*401.*forbidden") as reported:
        provider.add_txt(name, VALUE)
    with pytest.raises(DnsAccessDenied, match="does not ask"):
        provider.add_txt(name, OURS)

    assert "allowfrom" in str(reported.value.hint)
    assert registration.password not in f"{reported.value} {reported.value.hint}"
    assert 1 == len(account.service.updates())


@pytest.mark.parametrize(
    ("fault", "kind", "message"),
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
def test_failed_update_is_reported(
    account: AcmeDnsAccount,
    registration: Registered,
    fault: Fault,
    kind: type[DnsError],
    message: str,
) -> None:
    """The error contains the name, and the next call sends the update again."""
    account.service.faults.add(fault, times=1)
    provider = account.connect(registration)

    with pytest.raises(kind, match=f"{registration.fulldomain}.*({message})") as reported:
        provider.add_txt(registration.fulldomain, VALUE)
    provider.add_txt(registration.fulldomain, VALUE)

    assert reported.value.hint is not None
    assert VALUE == account.values(registration.fulldomain)[-1]


def test_malformed_value_is_refused(account: AcmeDnsAccount, registration: Registered) -> None:
    """The server accepts only values of 43 characters."""
    with pytest.raises(DnsRejected, match="bad_txt"):
        account.connect(registration).add_txt(registration.fulldomain, "short")


def test_clock_of_the_server(account: AcmeDnsAccount, registration: Registered) -> None:
    """`doctor` reads the server's time, and so learns without an update whether the server runs."""
    provider = account.connect(registration)

    ahead = provider.clock_ahead()
    account.service.faults.add(Fault.reset_before())

    assert ahead is not None
    assert abs(ahead) < timedelta(seconds=30)
    assert [] == account.service.updates()
    with pytest.raises(DnsUnavailable, match="health"):
        provider.clock_ahead()
