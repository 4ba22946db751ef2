"""The binding of an account's table to an adapter's settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

import pytest

from certferry.config.bind import bind
from certferry.core.redaction import Secret
from certferry.errors import ConfigError
from certferry.wiring.settings import from_environment
from tests.config.conftest import Load


class Line(StrEnum):
    TELECOM = "telecom"
    UNICOM = "unicom"


@dataclass(frozen=True, slots=True)
class Vendor:
    key: Secret
    id: Secret | str
    region: str
    api: str = "https://api.example.com"
    line: Line = Line.TELECOM
    paging: bool = False
    page: int = 100
    pace: float = 2.0
    keep_days: timedelta = timedelta(days=30)
    patience: timedelta = timedelta(seconds=10)
    tags: tuple[str, ...] = ()
    contact: str | None = None


LEAST = 'key = "env:KEY"\nid = "env:ID"\nregion = "z0"\n'
ENVIRON = {"KEY": "hush", "ID": "12345"}

Bound = Callable[..., Vendor]


@pytest.fixture
def bound(loaded: Load) -> Bound:
    def write_and_bind(body: str, *, mode: int = 0o600, **environ: str) -> Vendor:
        settings = loaded(f"[accounts.vendor]\n{body}", mode=mode, **{**ENVIRON, **environ})
        return bind(Vendor, settings.accounts["vendor"], settings.secrets.resolve)

    return write_and_bind


def complaint(bound: Bound, body: str, *, mode: int = 0o600) -> list[str]:
    """Bind a wrong table, and return the lines of the message."""
    with pytest.raises(ConfigError) as caught:
        bound(body, mode=mode)
    return str(caught.value.message).splitlines()


def test_missing_key_has_the_default_of_the_adapter(bound: Bound) -> None:
    """Only fields without a default are required."""
    assert Vendor(key=Secret("hush"), id=Secret("12345"), region="z0") == bound(LEAST)


def test_every_kind_of_field_is_read(bound: Bound) -> None:
    """Numbers become durations by the name of the field, strings become members of an enumeration,
    and lists become tuples.
    """
    vendor = bound(
        """
key = "literal"
id = "678"
region = "z1"
api = "http://127.0.0.1:8080/v2"
line = "unicom"
paging = true
page = 50
pace = 3
keep_days = 0
patience = 1.5
tags = ["a", "b"]
contact = "ops@example.com"
type = "vendor"
"""
    )

    assert (
        Vendor(
            key=Secret("literal"),
            id="678",
            region="z1",
            api="http://127.0.0.1:8080/v2",
            line=Line.UNICOM,
            paging=True,
            page=50,
            pace=3,
            keep_days=timedelta(),
            patience=timedelta(seconds=1.5),
            tags=("a", "b"),
            contact="ops@example.com",
        )
        == vendor
    )


def test_every_mistake_of_an_account_is_reported_at_once(bound: Bound) -> None:
    """The message has a line for each unknown, missing or wrong key, and for each unresolved
    reference.
    """
    assert [
        "certferry.toml:1: [accounts.vendor] region: missing",
        "certferry.toml:2: [accounts.vendor] kye: unknown key; did you mean key?",
        "certferry.toml:3: [accounts.vendor] key: the environment variable GONE is not set",
        "certferry.toml:4: [accounts.vendor] id: is not a kind of reference; did you mean env:?",
        (
            "certferry.toml:5: [accounts.vendor] api: must begin with https://; http:// is only"
            " for loopback addresses"
        ),
        (
            "certferry.toml:6: [accounts.vendor] line: must be one of telecom, unicom; did you mean"
            " unicom?"
        ),
        "certferry.toml:7: [accounts.vendor] paging: must be true or false, but is a string",
        "certferry.toml:8: [accounts.vendor] page: must be a whole number, but is a number",
        "certferry.toml:9: [accounts.vendor] pace: must be a number, but is true or false",
        "certferry.toml:10: [accounts.vendor] keep_days: must be a number of days from 0 to 3650",
        "certferry.toml:11: [accounts.vendor] tags: must be a list, but is a string",
        "certferry.toml:12: [accounts.vendor] contact: must be a string, but is a number",
    ] == complaint(
        bound,
        """\
kye = "x"
key = "env:GONE"
id = "evn:ID"
api = "http://api.example.com"
line = "unicon"
paging = "yes"
page = 1.5
pace = true
keep_days = -1
tags = "a"
contact = 5
""",
    )


@pytest.mark.parametrize("body", [LEAST.replace("key", "type = 'v'\ntpye"), LEAST + "tpye = 'v'"])
def test_misspelled_type_of_an_account(bound: Bound, body: str) -> None:
    """The suggestion has `type`, a key of every account that no adapter declares."""
    assert any(
        line.endswith("tpye: unknown key; did you mean type?") for line in complaint(bound, body)
    )


@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_literal_secret_in_a_readable_file_is_refused(bound: Bound, mode: int) -> None:
    """A literal secret needs a file that only the owner can read; a reference may be in any
    file.
    """
    body = 'key = "HUNTER2"\nid = "678"\nregion = "z0"'

    assert [
        (
            "certferry.toml:2: [accounts.vendor] key: the file contains a secret and other users"
            " can read it; run: chmod 600 certferry.toml"
        )
    ] == complaint(bound, body, mode=mode)
    assert Secret("hush") == bound(body.replace("HUNTER2", "env:KEY"), mode=mode).key


@pytest.mark.parametrize("key", ["“hush”", "hush\n", "hush\u200b"])
def test_key_pasted_with_other_characters(bound: Bound, key: str) -> None:
    """The message comes before the first request to a service, and does not show the key."""
    with pytest.raises(ConfigError, match="a character that no key has") as caught:
        bound(LEAST, KEY=key)

    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("key", ["key", "id"])
def test_secret_of_the_wrong_type_is_masked(bound: Bound, key: str) -> None:
    """A number in the place of a secret counts as a secret."""
    lines = complaint(bound, LEAST.replace(f'{key} = "', f'{key} = 20777 # "'))

    assert [f"{key}: must be a string, but is a number"] == [
        line.partition("[accounts.vendor] ")[2] for line in lines
    ]


def test_keys_from_the_environment_are_bound() -> None:
    """A run without a file binds the same settings."""

    @dataclass(frozen=True, slots=True)
    class Keys:
        access_key: Secret
        secret_key: Secret

    environ = {"DP_Id": "1", "DP_Key": "2", "QINIU_AK": "access", "QINIU_SK": "secret"}
    settings = from_environment(["img.example.com"], environ)

    keys = bind(Keys, settings.accounts["qiniu"], settings.secrets.resolve)

    assert Keys(Secret("access"), Secret("secret")) == keys


@dataclass(frozen=True, slots=True)
class Open:
    provider: str
    options: Mapping[str, Secret | str]
    zones: tuple[str, ...] = ()


def bound_open(loaded: Load, body: str, *, mode: int = 0o600) -> Open:
    settings = loaded(f"[accounts.vendor]\n{body}", mode=mode, **ENVIRON)
    return bind(Open, settings.accounts["vendor"], settings.secrets.resolve)


def test_keys_of_any_name_are_bound(loaded: Load) -> None:
    """References are resolved, a literal under the name of a secret is a secret, and a number
    becomes a string.
    """
    body = (
        'type = "vendor"\nprovider = "gandi"\nzones = ["example.com"]\nauth_token = "hush-hush"\n'
        'auth-key = "env:KEY"\nprotocol = "rest"\nauth_username = "env:ID"\nport = 443\n'
    )

    settings = bound_open(loaded, body)

    assert ("gandi", ("example.com",)) == (settings.provider, settings.zones)
    assert {
        "auth_token": Secret("hush-hush"),
        "auth-key": Secret("hush"),
        "protocol": "rest",
        "auth_username": Secret("12345"),
        "port": "443",
    } == settings.options


def test_wrong_values_of_keys_of_any_name(loaded: Load) -> None:
    """The message has a secret in a readable file, and a value that is neither a string nor a
    number.
    """
    body = 'provider = "gandi"\nauth_token = "hush-hush"\nprotocol = "rest"\nsandbox = true\n'

    with pytest.raises(ConfigError) as reported:
        bound_open(loaded, body, mode=0o644)

    assert "auth_token: the file contains a secret" in str(reported.value)
    assert "sandbox: must be a string" in str(reported.value)
    assert "protocol" not in str(reported.value)
    assert "hush" not in str(reported.value)


def test_file_pasted_in_place_of_a_key_is_reported(bound: Bound) -> None:
    """A value with several lines cannot be a key."""
    with pytest.raises(ConfigError, match="several lines") as reported:
        bound(LEAST, KEY='key "certferry." {\n  secret "hush";\n};')

    assert "hush" not in str(reported.value)


def test_field_of_a_type_outside_toml(loaded: Load) -> None:
    """An adapter with such a field fails in the tests of its author."""

    @dataclass(frozen=True, slots=True)
    class Odd:
        when: Callable[[], None]

    settings = loaded("[accounts.odd]\nwhen = 1")

    with pytest.raises(TypeError, match="no operator could write when"):
        bind(Odd, settings.accounts["odd"], settings.secrets.resolve)
