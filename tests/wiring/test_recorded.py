"""The declarations of several hosts, as a run stores and reports them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from certferry.adapters.state.connect import connect
from certferry.config.load import load_text
from certferry.config.model import Settings
from certferry.core.assessment.sightings import Sighting
from certferry.core.certificates.lineage import Version
from certferry.core.desired.certificate import DesiredCertificate, DesiredDeployment, Kind
from certferry.core.planning.planner import Claims
from certferry.core.planning.report import SyncReport
from certferry.errors import ConfigError
from certferry.ports.state import StateStore
from certferry.values import replace
from certferry.wiring.recorded import (
    domains_elsewhere,
    forget,
    must_be_declared_nowhere,
    outdated_in,
    undeclared,
    with_undeclared,
)
from certferry_sandbox.testing.certificates import make_bundle
from tests.support.postgresql import KEY, Postgresql
from tests.support.waiting import eventually

NOW = datetime.now(UTC)


@dataclass
class Host:
    """A host with its configuration file."""

    state: StateStore
    file: Path

    def settings(self, *lineages: str, more: str = "") -> Settings:
        """Return the settings of a file that declares these lineages."""
        table = (
            '[[certificates]]\nname = "{name}"\nnames = ["{name}.example.com"{more}]\ndns = "d"\n'
        )
        tables = "".join(table.format(name=name, more=more) for name in lineages)
        text = f'[accounts.d]\ntype = "dnspod"\n{tables}'
        self.file.write_text(text)
        return load_text(text, self.file, {})

    def run(self, *lineages: str, more: str = "") -> tuple[set[str], set[str]]:
        """Make a run of the file for all lineages; return the outdated and the undeclared ones."""
        settings = self.settings(*lineages, more=more)
        old = outdated_in(settings, self.state, writes=True)
        report = with_undeclared(SyncReport(()), settings, self.state)
        return {*old}, {lineage.lineage for lineage in report.undeclared or ()}

    def issue(self, lineage: str) -> Version:
        """Store a certificate."""
        lease = self.state.acquire(lineage, NOW)
        try:
            bundle = make_bundle(f"{lineage}.example.com", not_before=NOW - timedelta(days=1))
            return self.state.save_version(lease, bundle, NOW)
        finally:
            self.state.release(lease)


@pytest.fixture
def hosts(postgresql: Postgresql, tmp_path: Path) -> Iterator[tuple[Host, Host]]:
    """Return two hosts whose files have different paths."""
    url = postgresql.url(postgresql.new_state())
    with ExitStack() as opened:

        def host(name: str) -> Host:
            state = opened.enter_context(closing(connect(url, KEY, host=name)))
            return Host(state, tmp_path / f"{name}.toml")

        yield host("web-1"), host("web-2")


def test_lineage_of_another_hosts_file(hosts: tuple[Host, Host]) -> None:
    """The lineage is declared as long as the other file has it, and cannot be forgotten before."""
    first, second = hosts
    first.issue("img")
    assert (set(), set()) == first.run("img", "api")
    assert (set(), set()) == second.run("api")
    with pytest.raises(ConfigError, match="web-1"):
        must_be_declared_nowhere("img", second.settings("api"), second.state)

    assert (set(), {"img"}) == first.run("api")
    assert (set(), {"img"}) == second.run("api")
    must_be_declared_nowhere("img", second.settings("api"), second.state)
    forget("img", second.state)
    assert (set(), set()) == first.run("api")
    first.run("img", "api")
    assert (set(), {"img"}) == first.run("api")


def test_lineage_that_is_removed_from_the_file(hosts: tuple[Host, Host]) -> None:
    """Reading commands report the lineage as undeclared before the next run."""
    first, _ = hosts
    first.issue("img")
    first.run("img", "api")
    lineages = undeclared(first.settings("api"), first.state, NOW)
    assert ["img"] == [lineage.lineage for lineage in lineages]


def test_file_that_is_older_than_another_hosts(hosts: tuple[Host, Host]) -> None:
    """The older file does not count, also for reading commands, until both are equal."""
    first, second = hosts
    first.run("img")
    second.run("img")
    more = ', "*.img.example.com"'
    assert eventually(lambda: (set(), set()) == second.run("img", more=more))

    assert {"img"} == {*outdated_in(first.settings("img"), first.state, writes=False)}
    assert ({"img"}, set()) == first.run("img")
    assert {} == outdated_in(first.settings("img", more=more), first.state, writes=False)
    assert (set(), set()) == first.run("img", more=more)
    assert {"img"} == {*outdated_in(first.settings("img"), first.state, writes=False)}


def test_domains_of_another_hosts_file(hosts: tuple[Host, Host]) -> None:
    """Domains that a run of the other host observed are known, unless this file has the lineage
    too. Deliveries on the other host itself are left out.
    """
    first, second = hosts
    first.run("img", "api")
    second.run("api")
    places = [("img", "qiniu", "img.example.com"), ("api", "qiniu", "api.example.com")]
    places += [("img", "qiniu", ""), ("img", "files", "/etc/tls")]
    first.state.update_sightings(
        lambda _: tuple(Sighting(*place, served=True, since=NOW) for place in places)
    )

    img = {("qiniu", "img.example.com"): "img"}
    assert img == domains_elsewhere(second.settings("api"), second.state)
    assert {} == domains_elsewhere(second.settings("api", "img"), second.state)
    assert {} == domains_elsewhere(first.settings("api"), first.state)


def test_domain_of_another_hosts_file() -> None:
    """Patterns and `auto` leave the domain to the other host; a deployment that names the domain
    takes it.
    """
    auto, named = DesiredDeployment("qiniu"), DesiredDeployment("qiniu", ("img.example.com",))
    elsewhere = {("qiniu", "img.example.com"): "img"}
    for deployment, owner in ((auto, "img"), (named, "all")):
        wildcard = DesiredCertificate("all", ("*.example.com",), deployments=(deployment,))
        claims = Claims([wildcard], elsewhere)
        assert owner == claims.owner("qiniu", "img.example.com", Kind.CDN)
        assert (owner == "all") == claims.owns("all", deployment, "img.example.com", Kind.CDN)
    assert "all" == Claims([replace(wildcard, deployments=(auto,))], elsewhere).owner(
        "qiniu", "b.example.com", Kind.CDN
    )
