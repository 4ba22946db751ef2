"""A site over a real state with stored certificates, sightings and runs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from certferry.adapters.files.source import PemFileSource
from certferry.config.load import load
from certferry.config.model import Settings
from certferry.console.site import Site
from certferry.core.assessment.sightings import Sighting
from certferry.core.observed.observation import TargetRules
from certferry.core.planning.report import SyncReport
from certferry.ports.progress import each_of
from certferry.ports.state import StateStore
from certferry.reconcile.reconciler import Reconciler
from certferry.reconcile.run import Ports, Run, WaitLimit, history_keeper
from certferry.wiring.settings import ADAPTERS
from certferry.wiring.workspace import Workspace
from certferry_sandbox.testing.certificates import make_bundle
from certferry_sandbox.testing.memory_dns import MemoryDns
from certferry_sandbox.testing.memory_issuer import MemoryIssuer
from certferry_sandbox.testing.memory_receiver import MemoryReceivers
from certferry_sandbox.testing.memory_target import MemoryCdn
from tests.console.serving import Began

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
DOMAINS_OF_EACH = 4

ACCOUNTS = """
[accounts.qiniu]
type = "qiniu"
access_key = "planted-access"
secret_key = "planted-secret"
[accounts.dnspod]
type = "dnspod"
id = "12345"
token = "planted-token"
[state]
url = "sqlite:///{folder}/state.db"
"""


def table(name: str, domains: Sequence[str]) -> str:
    """Declare a certificate and its deployment to the CDN for some domains."""
    names = ", ".join(f'"{domain}"' for domain in domains)
    return (
        f'[[certificates]]\nname = {json.dumps(name)}\nnames = [{names}]\ndns = "dnspod"\n'
        f'[[certificates.deploy]]\nto = "qiniu"\ndomains = [{names}]\n'
    )


class WorkspaceOfFakes(Workspace):
    """A workspace with real settings and a real state. The CDN, the DNS zone and the CA are in
    memory.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        rules, at_once = TargetRules(timedelta(days=30)), timedelta(0)
        self.cdn = MemoryCdn(self.now, processing=at_once, lags=(at_once, at_once), rules=rules)
        self.issuer = MemoryIssuer(self.state, self.now)
        for deployment in (
            deployment
            for certificate in self.certificates
            for deployment in certificate.deployments
        ):
            for domain in deployment.domains or ():
                self.cdn.add_domain(domain)

    def now(self) -> datetime:
        """Return the time of the state."""
        return self.state.now()

    def connect(self, run: Run, *, declares: bool = True) -> Ports:
        """Connect the services in memory."""
        del declares
        return Ports(
            issuer=self.issuer,
            source=PemFileSource(),
            dns={"dnspod": MemoryDns(["example.com"])},
            targets={"qiniu": self.cdn},
            receiver=MemoryReceivers().receiver,
            probe=self.cdn,
            state=self.state,
            now=self.now,
            progress=each_of(history_keeper(self.state, self.now, "tester@host"), run.progress),
            run=run,
        )


@contextmanager
def site_in(folder: Path, tables: str = "", prefix: str = "") -> Iterator[Site]:
    """Yield the site of a file with these tables, and an empty state."""
    path = folder / "certferry.toml"
    path.write_text(ACCOUNTS.format(folder=folder) + tables)
    path.chmod(0o600)
    with WorkspaceOfFakes(load(path, {}, ADAPTERS)) as workspace:
        yield Site(lambda: workspace, Began(), prefix)


def cdn_of(site: Site) -> MemoryCdn:
    """Return the CDN in memory."""
    workspace = site.workspace()
    assert isinstance(workspace, WorkspaceOfFakes)
    return workspace.cdn


def sync(site: Site, *, renew: bool = False) -> None:
    """Run for all declared certificates, as `certferry sync` does."""
    workspace, run = site.workspace(), Run("tester")

    def carry_out() -> SyncReport:
        engine, limit = Reconciler(workspace.connect(run)), WaitLimit(timedelta(seconds=20))
        return engine.sync(workspace.certificates, limit, renew=renew)

    workspace.notifications(run).notify_of(carry_out)


def domains_of(number: int) -> list[str]:
    """Return the domains of the certificate with this number."""
    return [f"d{place}.c{number}.example.com" for place in range(DOMAINS_OF_EACH)]


def tables_of(count: int) -> str:
    """Declare this many certificates."""
    return "".join(table(f"c{number}", domains_of(number)) for number in range(count))


def issue(
    state: StateStore, name: str, domains: Sequence[str], *, age: timedelta, served: bool = True
) -> str:
    """Store a certificate of 90 days with a sighting at each domain, and return the fingerprint."""
    bundle = make_bundle(*domains, not_before=NOW - age)
    lease = state.acquire(name, NOW)
    state.save_version(lease, bundle, NOW - age)
    state.release(lease)
    fingerprint = bundle.certificate.fingerprint
    seen = tuple(
        Sighting(name, "qiniu", domain, served, NOW - age, fingerprint if served else None)
        for domain in domains
    )
    state.update_sightings(lambda before: (*before, *seen))
    return fingerprint


def fill(state: StateStore, count: int) -> None:
    """Store this many certificates of different ages. Every fiftieth certificate is not served."""
    for number in range(count):
        served, age = number % 50 != 49, DAY * (number % 59)
        issue(state, f"c{number}", domains_of(number), age=age, served=served)
    state.save_run(NOW, succeeded=True)
