"""From an account's table to an adapter's settings."""

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
    """Bind a table that is wrong; give the message, line by line."""
    with pytest.raises(ConfigError) as caught:
        bound(body, mode=mode)
    return str(caught.value.message).splitlines()


def test_what_is_not_written_has_the_adapters_default(bound: Bound) -> None:
    """Only fields without a default have to be written."""
    assert Vendor(key=Secret("hush"), id=Secret("12345"), region="z0") == bound(LEAST)


def test_every_kind_of_field_is_read(bound: Bound) -> None:
    """Durations become timedeltas by their names, words become choices, lists tuples."""
    written = bound(
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
        == written
    )


def test_every_mistake_of_an_account_is_reported_at_once(bound: Bound) -> None:
    """Unknown, missing, wrong, and references that lead nowhere: one line each."""
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
def test_the_key_that_every_account_has_is_known(bound: Bound, body: str) -> None:
    """A misspelled `type` is understood, though no adapter declares it."""
    assert any(
        line.endswith("tpye: unknown key; did you mean type?") for line in complaint(bound, body)
    )


@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_a_secret_that_others_can_read_is_refused(bound: Bound, mode: int) -> None:
    """A literal may stand only where no other user can read; no secret, it may stand anywhere."""
    body = 'key = "HUNTER2"\nid = "678"\nregion = "z0"'

    assert [
        (
            "certferry.toml:2: [accounts.vendor] key: the file contains a secret and other users"
            " can read it; run: chmod 600 certferry.toml"
        )
    ] == complaint(bound, body, mode=mode)
    assert Secret("hush") == bound(body.replace("HUNTER2", "env:KEY"), mode=mode).key


@pytest.mark.parametrize("key", ["“hush”", "hush\n", "hush\u200b"])
def test_key_that_was_pasted_with_something_around_it(bound: Bound, key: str) -> None:
    """It cannot be sent: that is reported before certferry asks a service, and without the key."""
    with pytest.raises(ConfigError, match="a character that no key has") as caught:
        bound(LEAST, KEY=key)

    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("key", ["key", "id"])
def test_a_secret_of_the_wrong_type_is_not_shown(bound: Bound, key: str) -> None:
    """A number where a secret belongs is still a secret."""
    lines = complaint(bound, LEAST.replace(f'{key} = "', f'{key} = 20777 # "'))

    assert [f"{key}: must be a string, but is a number"] == [
        line.partition("[accounts.vendor] ")[2] for line in lines
    ]


def test_keys_from_the_environment_alone_are_bound_too() -> None:
    """The no-file mode ends in the same settings."""

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


def test_keys_of_any_name_are_taken(loaded: Load) -> None:
    """A reference is followed, a literal whose key tells of a secret is one, a number is a word."""
    body = (
        'type = "vendor"\nprovider = "gandi"\nzones = ["example.com"]\nauth_token = "hush-hush"\n'
        'auth-key = "env:KEY"\nprotocol = "rest"\nauth_username = "env:ID"\nport = 443\n'
    )

    found = bound_open(loaded, body)

    assert ("gandi", ("example.com",)) == (found.provider, found.zones)
    assert {
        "auth_token": Secret("hush-hush"),
        "auth-key": Secret("hush"),
        "protocol": "rest",
        "auth_username": Secret("12345"),
        "port": "443",
    } == found.options


def test_keys_of_any_name_are_checked(loaded: Load) -> None:
    """A secret that others can read is refused, and what is neither word nor number."""
    body = 'provider = "gandi"\nauth_token = "hush-hush"\nprotocol = "rest"\nsandbox = true\n'

    with pytest.raises(ConfigError) as reported:
        bound_open(loaded, body, mode=0o644)

    assert "auth_token: the file contains a secret" in str(reported.value)
    assert "sandbox: must be a string" in str(reported.value)
    assert "protocol" not in str(reported.value)
    assert "hush" not in str(reported.value)


def test_file_pasted_in_place_of_a_key_is_reported(bound: Bound) -> None:
    """It has lines; the key alone has none."""
    with pytest.raises(ConfigError, match="several lines") as reported:
        bound(LEAST, KEY='key "certferry." {\n  secret "hush";\n};')

    assert "hush" not in str(reported.value)


def test_a_field_that_no_operator_could_write_is_the_authors_mistake(loaded: Load) -> None:
    """An adapter whose settings cannot come from a file fails at its author's desk."""

    @dataclass(frozen=True, slots=True)
    class Odd:
        when: Callable[[], None]

    settings = loaded("[accounts.odd]\nwhen = 1")

    with pytest.raises(TypeError, match="no operator could write when"):
        bind(Odd, settings.accounts["odd"], settings.secrets.resolve)
