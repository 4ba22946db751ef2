"""What `certferry discover` says of accounts that could not be looked at, and of nothing found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from certferry.cli.discover import show_discovery, show_tables
from certferry.cli.exits import Exit
from certferry.cli.options import Front
from certferry.core.desired.certificate import Kind
from certferry.core.discovery.inventory import AccountLook, DiscoveredDomain, Discovery, Wanted
from certferry.core.discovery.proposal import Proposal
from certferry.core.discovery.survey import FoundDomain, Survey
from certferry.errors import CertferryError, ConfigError, TargetAccessDenied, TargetUnavailable
from certferry.present.console import Verbosity
from certferry.present.run_log import Format
from certferry.text import Text
from certferry.wiring.discovery import must_be_read
from tests.cli.consoles import TestConsole
from tests.cli.values import IMG, NOON

NO_KEYS = ConfigError(Text("no keys"), hint=Text("set them"))
NO_SECRET = ConfigError(Text("no secret"))
DENIED = TargetAccessDenied(Text("bad token"), hint=Text("check the keys"))
SILENT = TargetUnavailable(Text("no answer"))
DOMAIN = DiscoveredDomain("a", FoundDomain(IMG, Kind.CDN))


def failed(label: str, error: CertferryError) -> AccountLook:
    """An account that could not be looked at."""
    return AccountLook(label, failure=error)


@pytest.mark.parametrize(
    ("looks", "told"),
    [
        ([failed("a", DENIED)], "bad token"),
        ([failed("a", NO_KEYS)], "no keys"),
        ([failed("a", NO_KEYS), failed("b", NO_SECRET)], "no keys\nno secret"),
    ],
    ids=["denied", "settings", "settings-of-all"],
)
def test_where_there_is_nothing_to_show_it_is_the_error(
    looks: list[AccountLook], told: str
) -> None:
    """The only account, or a mistake in the settings of each."""
    with pytest.raises(CertferryError) as caught:
        must_be_read(Discovery(tuple(looks)))

    assert told == str(caught.value)
    assert isinstance(caught.value, ConfigError) == (told != "bad token")


@pytest.mark.parametrize(
    "looks",
    [
        [failed("a", DENIED), failed("b", SILENT)],
        [failed("a", NO_KEYS), failed("b", SILENT)],
        [failed("a", NO_KEYS), AccountLook("b")],
        [AccountLook("a", Survey((), (DENIED,)))],
    ],
    ids=["both", "of-two-kinds", "one", "a-part"],
)
def test_where_there_is_more_to_tell_it_is_shown(looks: list[AccountLook]) -> None:
    """Each account has its own problem, or some hold something."""
    must_be_read(Discovery(tuple(looks)))


def test_account_that_could_not_be_looked_at_is_no_empty_one(tmp_path: Path) -> None:
    """Nothing is said to be there or not; what is wrong is told, in the log as well."""
    desk = TestConsole()
    console, path = desk.console, tmp_path / "log"
    console.run_log.open(path, Format.JSON)
    found = Discovery((failed("a", DENIED), failed("b", SILENT)))

    code = show_discovery(found, Wanted(), console, NOON, as_json=False)

    assert (Exit.FAILED, "") == (code, desk.out)
    assert "error: a: bad token\nhint: check the keys\nerror: b: no answer\n" == desk.err
    logged = [json.loads(row) for row in path.read_text().splitlines()]
    assert [
        ("discover.failed", "a", "bad token", "target_access_denied"),
        ("discover.failed", "b", "no answer", "target_unavailable"),
    ] == [(one["event"], one["target"], one["detail"], one["code"]) for one in logged]


@pytest.mark.parametrize(
    ("verbosity", "said"), [(Verbosity.NORMAL, True), (Verbosity.QUIET, False)]
)
def test_no_tables_are_told_as_such(verbosity: Verbosity, *, said: bool) -> None:
    """On stderr: what is on stdout is to be pasted."""
    desk = TestConsole()

    code = show_tables(Proposal(), [], Front(desk.console, verbosity=verbosity))

    assert (Exit.OK, "") == (code, desk.out)
    assert ("There is no domain to declare a certificate for.\n" if said else "") == desk.err


def test_domains_without_certificates_have_one_table() -> None:
    """Below it stands nothing but the counts."""
    desk = TestConsole()
    found = Discovery((AccountLook("a"),), (DOMAIN,))

    code = show_discovery(found, Wanted(), desk.console, NOON, as_json=False)

    assert Exit.OK == code
    assert [
        "DOMAIN           STATE  HTTPS  OWNER  LEFT  COVERED BY  SERVED",
        "img.example.com  —      off    —      —     none        —",
        "",
        "1 domain: 1 not covered, 0 with a foreign certificate. 0 certificates: 0 unused.",
    ] == desk.out.splitlines()
