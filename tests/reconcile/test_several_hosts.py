"""Hosts with files of their own share a state in PostgreSQL: one issues, many install, and each
leaves another host's declarations alone.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from certferry.adapters.files.directory import write_bundle
from certferry.adapters.files.source import PemFileSource
from certferry.adapters.receivers.files import FilesReceiver
from certferry.adapters.state.connect import connect
from certferry.core.desired.certificate import (
    Delivery,
    DesiredCertificate,
    FileDelivery,
    PemFiles,
    Program,
    Retirement,
)
from certferry.core.desired.declaration import delivered, digest_of_declaration, outdated
from certferry.core.planning.plan import Weight
from certferry.core.planning.planner import Claims
from certferry.core.planning.renewal import Issuing
from certferry.core.planning.report import Outcome, StepOutcome, SyncReport
from certferry.core.redaction import Secret
from certferry.errors import DeclarationOutdated
from certferry.ports.state import AcmeOrder, ChallengeRecord, StateStore
from certferry.present.language import Voice
from certferry.present.plan_text import conclusion, headline
from certferry.reconcile.issue import sweep_ownerless
from certferry.reconcile.reads import plans_of
from certferry.reconcile.reconciler import LineageReconciler, RunRules
from certferry.reconcile.run import Ports
from certferry.values import replace
from certferry_sandbox.testing.certificates import make_bundle
from tests.reconcile.model import ModelWorld
from tests.support.postgresql import KEY, Postgresql

IMG = "img.example.com"
TICK = 0.002
"""The seconds until the database's clock shows another moment."""


@dataclass
class Host:
    """A host with its own directory, in a world with a CDN and a CA in memory."""

    name: str
    world: ModelWorld
    state: StateStore
    folder: Path
    declared: tuple[DesiredCertificate, ...] = ()
    outdated_for: timedelta = timedelta(0)

    def ports(self) -> Ports:
        """Connect a run like a workspace."""
        digests = {one.lineage: digest_of_declaration(one) for one in self.declared}
        self.state.declare(digests, "/etc/certferry.toml", lambda _: False)
        time.sleep(TICK)
        state: Any = self.state
        since = self.world.now() - self.outdated_for  # the database's clock is the world's
        others = outdated(state.contested(digests), self.name)
        return replace(
            self.world.ports(self.name),
            issuer=self.world.issuer.seen_by(state),
            state=state,
            source=PemFileSource(),
            receiver=self._receiver,
            claims=Claims(self.declared),
            outdated={lineage: replace(one, since=since) for lineage, one in others.items()},
        )

    def _receiver(self, delivery: Delivery) -> FilesReceiver:
        assert isinstance(delivery, FileDelivery)
        return FilesReceiver(delivery, pause=lambda _: None)

    @property
    def directory(self) -> Path:
        """Return the directory of the host's certificates."""
        return self.folder / "tls"

    def files(self, *reload: str) -> FileDelivery:
        """Return a delivery to the host's files, with the program to reload them."""
        program = Program(reload or ("touch", "reloaded"), str(self.folder), timedelta(minutes=1))
        return FileDelivery(str(self.directory), reload=program)

    def sync(self, *declared: DesiredCertificate, issuing: Issuing = Issuing.IF_DUE) -> SyncReport:
        """Make a run of this file to the end."""
        self.declared = declared or self.declared
        ports = self.ports()
        runs = [LineageReconciler(one, ports, RunRules(issuing)) for one in self.declared]
        self.world.pass_to_the_end(*runs)
        return SyncReport(tuple(one.report() for one in runs))

    def fullchain(self) -> str:
        """Return the file that the host's web server would read."""
        return (self.directory / "fullchain.pem").read_text()


@pytest.fixture
def hosts(postgresql: Postgresql, tmp_path: Path) -> Iterator[tuple[Host, Host]]:
    """Yield two hosts before their first declaration."""
    url, world = postgresql.url(postgresql.new_state()), ModelWorld()
    world.cdn.add_domain(IMG)
    with ExitStack() as opened:

        def host(name: str) -> Host:
            folder = tmp_path / name
            folder.mkdir()
            state = opened.enter_context(closing(connect(url, KEY, host=name)))
            return Host(name, world, state, folder)

        yield host("web-1"), host("web-2")


def declared(host: Host, *, cdn: bool = True, **changes: Any) -> DesiredCertificate:
    """Declare a certificate for the CDN and for this host's files."""
    desired = host.world.desired()
    deployments = desired.deployments if cdn else ()
    return replace(desired, deployments=(*deployments, delivered(host.files())), **changes)


def step(report: SyncReport, target: str | None = "files") -> StepOutcome:
    """Return the only outcome at a target for the only certificate."""
    (outcome,) = (result for result in report.lineages[0].outcomes if result.target == target)
    return outcome


def test_one_issues_and_many_install(hosts: tuple[Host, Host]) -> None:
    """Each host has the version in its files, its own program reloaded them, and its own record
    exists.
    """
    first, second = hosts
    assert first.sync(declared(first)).ok
    assert second.sync(declared(second)).ok

    assert 1 == first.world.issuer.issued
    assert first.fullchain() == second.fullchain()
    assert all((host.folder / "reloaded").exists() for host in hosts)
    for host in hosts:
        places = {(one.target, one.domain) for one in host.state.remembered("img").rollouts}
        assert ("files", str(host.directory)) in places
        assert Outcome.UNCHANGED is step(host.sync()).outcome


def test_failure_of_one_host_hides_no_other(hosts: tuple[Host, Host]) -> None:
    """The failing host has its own record and pauses, and a host in order reports no failure."""
    first, second = hosts
    broken = delivered(first.files("false"))
    one = replace(declared(first), deployments=(*first.world.desired().deployments, broken))
    assert Outcome.FAILED is step(first.sync(one)).outcome
    assert second.sync(declared(second)).ok
    assert Outcome.FAILED is step(first.sync()).outcome

    (record,) = (r for r in first.state.remembered("img").rollouts if r.target == "files")
    assert record.failed_at is not None
    (record,) = (r for r in second.state.remembered("img").rollouts if r.target == "files")
    assert record.failed_at is None


def test_host_with_the_older_file_leaves_the_lineage_alone(hosts: tuple[Host, Host]) -> None:
    """The host orders and binds nothing, names the host with the other file, and installs the
    certificate in force in its own files; after an hour the difference is a failure. With the same
    file the host goes on.
    """
    first, second = hosts
    names = (IMG,)
    second.sync(declared(second, names=names))
    first.sync(declared(first))
    issued, bound = first.world.issuer.issued, first.world.cdn.bound_to(IMG)

    report = second.sync()
    assert report.ok
    assert (issued, bound) == (
        first.world.issuer.issued,
        first.world.cdn.bound_to(IMG),
    )
    assert first.fullchain() == second.fullchain()
    said = step(report, None)
    assert (Outcome.UNCHANGED, DeclarationOutdated.code) == (said.outcome, said.code)
    assert "web-1" in str(said.detail)
    (plan,) = plans_of(second.ports(), second.declared)
    assert [Weight.SKIPPED] == [one.weight for one in plan.findings]

    assert "left to a host with a newer declaration" in headline(plan, Voice())
    assert "1 left to another host." in str(conclusion([plan]))

    refused = step(second.sync(issuing=Issuing.ALWAYS), None)
    assert (Outcome.REFUSED, DeclarationOutdated.code) == (refused.outcome, refused.code)
    assert issued == first.world.issuer.issued
    (asked,) = plans_of(second.ports(), second.declared, renew=True)
    assert [Weight.REFUSED] == [one.weight for one in asked.findings]

    second.outdated_for = timedelta(hours=2)
    failed = step(second.sync(), None)
    assert (None, Outcome.FAILED) == (failed.action, failed.outcome)
    assert isinstance(failed.error, DeclarationOutdated)
    assert first.sync().ok

    assert second.sync(declared(second)).ok
    assert issued == first.world.issuer.issued


def test_host_that_comes_with_an_older_file_brings_nothing_back(
    hosts: tuple[Host, Host],
) -> None:
    """An earlier declaration stays superseded, also if another host declares it now."""
    first, second = hosts
    first.sync(declared(first, names=(IMG,)))
    first.sync(declared(first))
    issued = first.world.issuer.issued

    second.sync(declared(second, names=(IMG,)))
    assert issued == first.world.issuer.issued
    assert first.fullchain() == second.fullchain()


def test_order_of_the_newer_file_is_left_alone(hosts: tuple[Host, Host]) -> None:
    """A host with the older file drops no order for the newer file's names."""
    first, second = hosts
    second.sync(declared(second, names=(IMG,)))
    first.declared = (declared(first),)
    now, names = first.world.now(), first.declared[0].names
    with first.ports().lease("img") as lease:
        order = AcmeOrder("img", "https://ca", "https://ca/1", names, Secret("key"), now)
        first.state.save_order(lease, order)
    assert second.sync().ok
    assert order == first.state.order("img")


def test_records_of_what_another_host_declares_are_not_swept(hosts: tuple[Host, Host]) -> None:
    """The records may belong to the other host's order; without a declaring host the records are
    removed.
    """
    first, second = hosts
    first.declared, second.declared = (declared(first),), (declared(second, lineage="api"),)
    first.ports()
    name, now = f"_acme-challenge.{IMG}", first.world.now()
    handle = first.world.dns.add_txt(name, "value")
    first.state.save_challenge_record(ChallengeRecord("img", name, "value", now, handle))

    sweep_ownerless(second.declared, second.ports())
    assert ["value"] == first.world.challenge_values()

    first.declared = (declared(first, lineage="api"),)
    first.ports()
    sweep_ownerless(second.declared, second.ports())
    assert [] == first.world.challenge_values()


def test_copies_of_what_another_host_declares_are_kept(hosts: tuple[Host, Host]) -> None:
    """`all-unused` removes none of the copies."""
    first, second = hosts
    kept = first.world.desired(retire=Retirement.NEVER)
    for _ in range(4):
        first.sync(kept, issuing=Issuing.ALWAYS)
        first.world.pass_time(timedelta(days=1))
    copies = set(first.world.cdn.remote_ids)
    first.world.cdn.add_domain("api.example.com")
    names, retire = ("api.example.com",), Retirement.ALL_UNUSED
    assert second.sync(first.world.desired(names=names, retire=retire, lineage="api")).ok
    assert copies < first.world.cdn.remote_ids


def imported(host: Host) -> DesiredCertificate:
    """Declare another client's certificate for the CDN and for this host's files."""
    source = host.folder / "source"
    files = PemFiles(f"{source}/fullchain.pem", f"{source}/privkey.pem")
    return declared(host, names=(), dns="", files=files)


def leave(host: Host, age: timedelta) -> str:
    """Write a certificate into the source files, as another client does; return its fullchain."""
    bundle = make_bundle(IMG, "*.img.example.com", not_before=host.world.now() - age)
    write_bundle(bundle, host.folder / "source")
    return bundle.fullchain_pem


def test_files_as_a_source_belong_to_the_host_that_has_them(hosts: tuple[Host, Host]) -> None:
    """Another host reports no missing files, and installs the certificate from the state. The host
    with the files reports their loss.
    """
    first, second = hosts
    held = leave(first, timedelta(days=2))
    assert first.sync(imported(first)).ok
    assert second.sync(imported(second)).ok
    assert held == second.fullchain()

    held = leave(first, timedelta(days=1))
    assert second.sync().lineages[0].is_unchanged
    assert first.sync().ok
    assert second.sync().ok
    assert held == second.fullchain()

    shutil.rmtree(first.folder / "source")
    assert second.sync().ok
    assert Outcome.FAILED is step(first.sync(), None).outcome


def test_files_on_two_hosts(hosts: tuple[Host, Host]) -> None:
    """The newer certificate counts, and its host owns the source from then on: two clients do not
    alternate at the CDN.
    """
    first, second = hosts
    leave(first, timedelta(days=3))
    leave(second, timedelta(days=4))
    first.sync(imported(first))
    assert second.sync(imported(second)).ok
    assert first.fullchain() == second.fullchain()
    assert 1 == len(first.state.versions("img"))

    newer = leave(second, timedelta(days=1))
    for host in (second, first, second):
        assert host.sync().ok
        assert newer == host.fullchain()
    assert 2 == len(first.state.versions("img"))
