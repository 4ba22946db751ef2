"""Accounts, keys and adapters, connected on first use."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

import pytest

from certferry.adapters.aliyun.alidns import Settings as AlidnsSettings
from certferry.config.load import load, load_text
from certferry.config.model import AccountTable, Settings
from certferry.config.unattended import lost_secrets
from certferry.config.values import DIRECTORIES
from certferry.core.assessment.health import (
    Expected,
    Recorded,
)
from certferry.core.assessment.sightings import Sighting
from certferry.core.certificates.certificate import KeyType
from certferry.core.planning.limits import Hold
from certferry.core.redaction import Secret
from certferry.errors import ConfigError, DnsError, DnsUnavailable, Interrupted, LeaseLost
from certferry.ports.issuer import IssueRequest
from certferry.ports.state import ChallengeRecord
from certferry.reconcile.reads import WithoutOrders
from certferry.text import Text
from certferry.values import replace
from certferry.wiring.accounts import bound
from certferry.wiring.adapters import DNS_PROVIDERS, Described, Guard, installed
from certferry.wiring.authorities import issuer_for, rehearsing
from certferry.wiring.clock import now
from certferry.wiring.recorded import expected
from certferry.wiring.settings import ADAPTERS, load_checked
from certferry_sandbox.testing.contracts.state_issuance import make_order
from certferry_sandbox.testing.memory_state import MemoryState

# --- A domain in the file for two accounts of a service


HEAD = """\
[acme]
profile = "{profile}"
[accounts.one]
type = "{type}"
[accounts.two]
type = "{type}"
[accounts.dnspod]
[[certificates]]
name = "img"
names = ["img.example.com", "*.example.com"]
dns = "dnspod"
"""
DEPLOY = "[[certificates.deploy]]\nto = '{}'\ndomains = {}\n"


def write(
    tmp_path: Path,
    *deployments: tuple[str, list[str]],
    type_: str = "qiniu",
    profile: str = "classic",
) -> Path:
    """Write a file with these deployments of its certificate, for its owner alone."""
    path = tmp_path / "certferry.toml"
    tables = "".join(DEPLOY.format(to, domains) for to, domains in deployments)
    path.write_text(HEAD.format(type=type_, profile=profile) + tables)
    path.chmod(0o600)
    return path


def test_domain_for_two_accounts_is_refused_with_both_lines(tmp_path: Path) -> None:
    """The error comes before any key is read."""
    path = write(
        tmp_path, ("one", ["*.example.com", "img.example.com"]), ("two", ["img.example.com"])
    )

    with pytest.raises(ConfigError) as caught:
        load_checked(path, {})

    assert (
        f"{path}:17: [[certificates.deploy]] domains: img.example.com is also listed for the"
        " account one, at line 12, but Qiniu allows a domain at one account only; remove one of"
        " the two"
    ) == str(caught.value)


def test_domain_for_two_accounts_is_reported_beside_other_errors(tmp_path: Path) -> None:
    """All errors come at once."""
    path = write(
        tmp_path, ("one", ["img.example.com"]), ("two", ["img.example.com"]), profile="shortlived"
    )

    with pytest.raises(ConfigError) as caught:
        load_checked(path, {})

    assert "img.example.com is also listed for the account one" in str(caught.value)
    assert "without a common name" in str(caught.value)


@pytest.mark.parametrize(
    ("two", "type_"),
    [(["a.example.com"], "qiniu"), (["*.example.com"], "qiniu"), (["img.example.com"], "nothing")],
    ids=["another domain", "a glob", "a service that is not known"],
)
def test_domains_that_may_be_listed_for_two_accounts(
    two: list[str], type_: str, tmp_path: Path
) -> None:
    """Globs match the domains of each account; an unknown type is reported on connecting."""
    path = write(tmp_path, ("one", ["img.example.com"]), ("two", two), type_=type_)

    assert load_checked(path, {}).certificates


# --- An account without keys in its table takes them from the variables of other clients


ALIDNS = """\
[accounts.alidns]
[[certificates]]
names = ["example.com"]
dns = "alidns"
"""
KEY, SECRET = "LTAIplanted", "planted-4711"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "certferry.toml"


def settings(file: Path, text: str, **environ: str) -> Settings:
    file.write_text(text)
    file.chmod(0o600)
    return load(file, environ, ADAPTERS)


def account_of(settings: Settings, label: str) -> AccountTable:
    return settings.accounts[label]


def lines_of(settings: Settings, label: str) -> list[str]:
    """Return the lines of the error for an account that cannot be connected."""
    account = account_of(settings, label)
    described = installed().of_account(DNS_PROVIDERS, account)
    with pytest.raises(ConfigError) as caught:
        bound(described, account, settings.secrets.resolve)
    return str(caught.value.message).splitlines()


@pytest.mark.parametrize(
    "names", [("Ali_Key", "Ali_Secret"), ("ALICLOUD_ACCESS_KEY", "ALICLOUD_SECRET_KEY")]
)
def test_a_table_without_keys(file: Path, names: tuple[str, str]) -> None:
    """The keys come from the variables of acme.sh and lego. Programs do not inherit the variables,
    and the operator learns that cron lacks the keys.
    """
    loaded = settings(file, ALIDNS, **dict(zip(names, (KEY, SECRET), strict=True)))

    account = account_of(loaded, "alidns")
    expected = {"access_key_id": f"env:{names[0]}", "access_key_secret": f"env:{names[1]}"}
    assert expected == dict(account.values)
    connected = bound(
        installed().of_account(DNS_PROVIDERS, account), account, loaded.secrets.resolve
    )
    assert isinstance(connected, AlidnsSettings)
    assert KEY == connected.access_key_id.reveal()
    assert set(names) <= loaded.secrets.withheld()
    warnings = [str(finding.text) for finding in lost_secrets(loaded)]
    assert [True, True] == [name in line for name, line in zip(names, warnings, strict=True)]


def test_keys_in_a_file_of_the_environment(file: Path) -> None:
    """Variables from `env_files` count as well, so cron has the keys."""
    keys = file.with_name("keys.env")
    keys.write_text(f"Ali_Key={KEY}\nAli_Secret={SECRET}\n")
    keys.chmod(0o600)

    loaded = settings(file, f'env_files = ["{keys}"]\n{ALIDNS}')

    assert "env:Ali_Secret" == account_of(loaded, "alidns").values["access_key_secret"]
    assert [] == lost_secrets(loaded)


def test_other_settings_of_a_table_without_keys(file: Path) -> None:
    """An address is not a key."""
    text = ALIDNS.replace(
        "[accounts.alidns]\n", '[accounts.mine]\ntype = "alidns"\napi = "https://127.0.0.1"\n'
    ).replace('dns = "alidns"', 'dns = "mine"')

    loaded = settings(file, text, Ali_Key=KEY, Ali_Secret=SECRET)

    assert "env:Ali_Key" == account_of(loaded, "mine").values["access_key_id"]


def test_missing_key_is_reported_with_the_line_to_write(file: Path) -> None:
    """Each missing key has its line. If a table has one key, the other must be in the table as
    well: halves of two accounts would make none.
    """
    line = (
        'missing, and {names} is not set; write `{key} = "env:{first}"`, and `{first}=…` into a'
        " file of `env_files`"
    )
    of_id = line.format(names="Ali_Key / ALICLOUD_ACCESS_KEY", key="access_key_id", first="Ali_Key")
    of_secret = line.format(
        names="Ali_Secret / ALICLOUD_SECRET_KEY", key="access_key_secret", first="Ali_Secret"
    )

    assert [
        f"{file}:1: [accounts.alidns] access_key_id: {of_id}",
        f"{file}:1: [accounts.alidns] access_key_secret: {of_secret}",
    ] == lines_of(settings(file, ALIDNS), "alidns")

    half = ALIDNS.replace("]\n[[", f']\naccess_key_id = "{KEY}"\n[[')
    assert [f"{file}:1: [accounts.alidns] access_key_secret: {of_secret}"] == lines_of(
        settings(file, half, Ali_Key="LTAIanother", Ali_Secret=SECRET), "alidns"
    )


def test_setting_without_a_variable(file: Path) -> None:
    """The setting is reported as missing."""
    text = ALIDNS.replace("alidns", "lexicon")

    [line] = lines_of(settings(file, text), "lexicon")

    assert line.endswith("[accounts.lexicon] provider: missing")


def test_keys_that_others_may_replace(file: Path) -> None:
    """A registration of acme-dns may be a file, so variables are not mixed with the file."""
    environ = {
        "ACMEDNS_BASE_URL": "https://acme-dns.example.com",
        "ACMEDNS_USERNAME": "planted-user",
        "ACMEDNS_PASSWORD": "planted-4711",
        "ACMEDNS_SUBDOMAIN": "planted-sub",
    }
    text = ALIDNS.replace("alidns", "acme-dns")
    in_a_file = text.replace("]\n[[", ']\nstorage = "registrations.json"\n[[')

    whole = account_of(settings(file, text, **environ), "acme-dns").values
    beside = account_of(settings(file, in_a_file, **environ), "acme-dns").values

    assert {"api", "username", "password", "subdomain"} == set(whole)
    assert {"api", "storage"} == set(beside)


# --- The CAs of a run, before the first request


USUAL, OTHER = DIRECTORIES["letsencrypt"], DIRECTORIES["zerossl"]
STAGING = DIRECTORIES["letsencrypt-staging"]
REQUEST = IssueRequest("img", ("img.example.com",), KeyType.EC256)


@pytest.fixture
def issuer_settings(tmp_path: Path) -> Settings:
    """Return settings with two CAs."""
    text = """
acme.fallback = ["zerossl"]
[acme.zerossl]
eab_kid = "kid"
eab_hmac_key = "aG1hYw"
[accounts.dnspod]
[[certificates]]
names = ["img.example.com"]
dns = "dnspod"
"""
    return load_text(text, tmp_path / "certferry.toml", {})


@pytest.mark.parametrize("paused", [USUAL, OTHER])
def test_each_directory_has_a_budget_of_its_own(issuer_settings: Settings, paused: str) -> None:
    """A pause at one CA holds back no order at the other; a request without a directory goes to the
    usual CA.
    """
    state, at = MemoryState(), now()
    state.save_hold(paused, Hold(REQUEST.names, at, at + timedelta(hours=1), for_all=True))
    issuer = issuer_for(issuer_settings, state, lambda _: None, state.now)

    held = {
        directory
        for directory in ("", USUAL, OTHER)
        if issuer.rate_limit_hold(replace(REQUEST, directory=directory)) is not None
    }

    assert held == ({"", USUAL} if paused == USUAL else {OTHER})


def test_rehearsal_asks_the_staging_directory_alone(issuer_settings: Settings) -> None:
    """Certificates of other CAs are not for tests."""
    acme = rehearsing(issuer_settings).acme

    assert [("letsencrypt-staging", STAGING)] == [
        (ca.name, ca.directory) for ca in acme.authorities
    ]


# --- A rehearsal beside a real order


NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)


def test_rehearsal_leaves_a_real_order() -> None:
    """The next run continues the order."""
    state = MemoryState()
    lease = state.acquire("img", NOW)
    order = make_order("img")
    state.save_order(lease, order)
    rehearsed = WithoutOrders(state)

    assert None is rehearsed.order("img")
    rehearsed.save_order(lease, make_order("img"))
    rehearsed.drop_order(lease)

    assert order == state.order("img")


def test_rehearsal_of_a_run_without_its_lease_stops() -> None:
    """Another run may be at work on the same names."""
    state = MemoryState()
    lost = state.acquire("img", NOW)
    state.release(lost)

    with pytest.raises(LeaseLost):
        WithoutOrders(state).save_order(lost, make_order("img"))
    with pytest.raises(LeaseLost):
        WithoutOrders(state).drop_order(lost)


def test_challenge_records_of_a_rehearsal_are_stored() -> None:
    """A later run removes the records that a killed rehearsal left in DNS."""
    state = MemoryState()
    record = ChallengeRecord("img", "_acme-challenge.img.example.com", "value", NOW)

    WithoutOrders(state).save_challenge_record(record)

    assert (record,) == state.challenge_records("img")


# --- Ports of other authors: their failures are reported as such


TOKEN = "planted-token-0123456789"


def guard(within: timedelta = timedelta(seconds=20)) -> Guard:
    whose = Described("bad", "certferry-bad", ModuleType("bad_dns"))
    return Guard(whose, lambda: frozenset({Secret(TOKEN)}), within)


@pytest.mark.parametrize(
    "raised",
    [SystemExit(f"gone {TOKEN}"), GeneratorExit(), asyncio.CancelledError(), ValueError(TOKEN)],
    ids=lambda error: type(error).__name__,
)
def test_any_end_of_the_work_is_the_packages_failure(raised: BaseException) -> None:
    """Thread and process go on, and the error shows no secret."""
    with (
        pytest.raises(DnsError, match="certferry-bad: bad failed") as result,
        guard().over(DnsError, DnsUnavailable),
    ):
        raise raised
    assert type(raised).__name__ in str(result.value)
    assert TOKEN not in str(result.value)

    def connect() -> object:
        raise raised

    with pytest.raises(ConfigError, match="certferry-bad: bad failed"):
        guard().connecting((), connect)


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), Interrupted(Text("stopped"))])
def test_stop_by_the_operator_passes(stop: BaseException) -> None:
    """The stop comes by Ctrl-C or during a pause."""
    with pytest.raises(type(stop)), guard().over(DnsError, DnsUnavailable):
        raise stop


def test_port_that_never_connects() -> None:
    """After a time the port is given up with an error, so that no command waits for ever."""
    never = threading.Event()
    try:
        with pytest.raises(ConfigError, match="bad does not connect within"):
            guard(timedelta(seconds=0.1)).connecting((), never.wait)
    finally:
        never.set()


# --- Facts of settings and disk that complete the recorded state


RECORDED_NOW = datetime(2026, 11, 26, tzinfo=UTC)
FILE = """
[accounts.qiniu]
access_key = "env:AK"
secret_key = "env:SK"
{more}
[accounts.dnspod]
id = "env:ID"
token = "env:TOKEN"
[accounts.gone]
type = "of-a-package-that-is-gone"
[[certificates]]
name = "img"
names = ["img.example.com"]
dns = "dnspod"
deploy = [{{ to = "qiniu" }}, {{ to = "files", directory = "{folder}" }}, {{ to = "gone" }}]
[[certificates]]
name = "static"
fullchain = "{folder}/nowhere/fullchain.pem"
privkey = "{folder}/key/below/a/file.pem"
deploy = [{{ to = "files", directory = "{folder}/static" }}]
"""


def read(tmp_path: Path, recorded: Recorded, more: str = "") -> dict[str, Expected]:
    config = tmp_path / "certferry.toml"
    config.write_text(FILE.format(more=more, folder=tmp_path / "ssl"))
    settings = load(config, {"HOME": str(tmp_path)}, ADAPTERS)
    return {certificate.lineage: certificate for certificate in expected(settings, recorded)}


@pytest.mark.parametrize(("more", "days"), [("", 30), ("min_remaining_days = 10", 10)])
def test_least_life_comes_from_the_accounts(tmp_path: Path, more: str, days: int) -> None:
    """The highest minimum of its targets counts; an account without an adapter has no minimum."""
    certificates = read(tmp_path, Recorded(), more)

    assert timedelta(days=days) == certificates["img"].least_life
    assert timedelta(0) == certificates["static"].least_life
    assert (False, True) == (certificates["img"].is_imported, certificates["static"].is_imported)


def test_missing_files_are_reported(tmp_path: Path) -> None:
    """Files of another client count always, delivered files after their delivery."""
    (tmp_path / "ssl").mkdir()
    (tmp_path / "ssl" / "key").write_text("a file in the place of a directory")
    folder = str(tmp_path / "ssl")
    delivered = Sighting(
        "img", "files", folder, served=True, since=RECORDED_NOW, fingerprint="ab" * 32
    )

    before = read(tmp_path, Recorded())
    after = read(tmp_path, Recorded(sightings=[delivered]))

    theirs = (f"{folder}/nowhere/fullchain.pem", f"{folder}/key/below/a/file.pem")
    assert ((), theirs) == (before["img"].gone, before["static"].gone)
    assert (f"{folder}/fullchain.pem", f"{folder}/privkey.pem") == after["img"].gone
    assert theirs == after["static"].gone


def test_file_in_an_unreadable_directory_is_not_reported(tmp_path: Path) -> None:
    """An impossible name stands for a directory that this user may not enter."""
    (tmp_path / "ssl").mkdir()
    read(tmp_path, Recorded())
    config = tmp_path / "certferry.toml"
    config.write_text(config.read_text().replace("nowhere", "n" * 300))
    settings = load(config, {"HOME": str(tmp_path)}, ADAPTERS)

    [static] = [
        certificate
        for certificate in expected(settings, Recorded())
        if certificate.lineage == "static"
    ]

    assert [] == [path for path in static.gone if "nnn" in path]
