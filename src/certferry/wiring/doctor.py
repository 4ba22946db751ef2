"""The checks of `certferry doctor`: every port that a run relies on, each looked at by itself."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from certferry.config.certificates import with_equal_names
from certferry.config.model import Settings
from certferry.config.write import examine_files
from certferry.core.assessment.hosts import AWAY
from certferry.core.certificates.names import base_name
from certferry.core.dns_persist import Holder, Offer
from certferry.core.findings import Code, heaviest_first, warning
from certferry.core.network import is_loopback
from certferry.core.observed.runs import RunSource
from certferry.errors import ConfigError, DatabaseUnavailable, IssuanceError, Problem, StateError
from certferry.ports.dns import DnsProvider
from certferry.ports.examination import AccountReport, Reporting
from certferry.ports.progress import Pause
from certferry.ports.scheduler import Scheduler
from certferry.ports.state import StateStore
from certferry.ports.target import DeployTarget
from certferry.reconcile import examination
from certferry.reconcile.issue import provider_of
from certferry.reconcile.run import Ports, Run, problems_of_this_host
from certferry.text import Text
from certferry.wiring.adapters import DNS_PROVIDERS, TARGETS, BrokenAdapter
from certferry.wiring.clock import now
from certferry.wiring.network import chosen_for, propagation_for, resolvers_for
from certferry.wiring.recorded import recorded
from certferry.wiring.workspace import Workspace

if TYPE_CHECKING:
    from certferry.adapters.acme.client import Client
    from certferry.adapters.acme.resolvers import Resolvers
    from certferry.adapters.probe.resolvers import ResolverCheck


def examine(
    workspace: Workspace, run: Run, schedulers: Iterable[Scheduler], *, is_serving: bool = False
) -> tuple[Problem, ...]:
    """Examine everything that a run would rely on, in a process that makes the runs itself or not.
    Changes nothing. Raises `ConfigError`.
    """
    try:
        ports = workspace.connect(run, declares=False)
    except StateError as problem:
        return without_state(workspace.settings, schedulers, problem, is_serving=is_serving)
    checks = checks_of(CheckedRun(workspace.settings, ports, schedulers, run.pause, is_serving))
    return examination.carry_out_checks(checks, progress=run.progress, now=now, stop=run.stop)


def reports_of(workspace: Workspace, run: Run) -> Iterator[AccountReport]:
    """Ask every account that a report can be about. Raises `ConfigError` without one."""
    accounts, reporting = workspace.accounts(run), list[Reporting]()
    for family, connect in ((TARGETS, accounts.target), (DNS_PROVIDERS, accounts.dns)):
        for label in accounts.labels(family):
            with suppress(BrokenAdapter):  # another package's: nothing is reported of it
                port: object = connect(label)
                reporting += [port] if isinstance(port, Reporting) else []
    if not reporting:
        raise ConfigError(
            Text("{path} has no account that can be reported of", path=workspace.settings.path),
            hint=Text("declare one at Qiniu or DNSPod, such as [accounts.qiniu], with its keys"),
        )
    return (port.report() for port in reporting)


@dataclass(frozen=True, slots=True)
class CheckedRun:
    """What is examined: the settings, and the ports that a run of theirs would go through; and
    whether this process makes the runs itself (`is_serving`).
    """

    settings: Settings
    ports: Ports
    schedulers: Iterable[Scheduler]
    pause: Pause
    is_serving: bool = False


def checks_of(run: CheckedRun) -> Iterator[examination.Check]:
    """Return every check. None of them changes anything."""
    settings, ports = run.settings, run.ports
    yield examination.Check(
        platform.node(),
        Text("looking at the files, the state and the schedule"),
        lambda: _machine(run),
    )
    resolvers = ", ".join(server.host for server in settings.verify.resolvers) or "resolv.conf"
    what = Text("asking for a name that does not exist")
    yield examination.Check(resolvers, what, lambda: _resolver_check(settings).honesty())
    if settings.dns.doh:
        yield examination.Check(
            ", ".join(map(_host, settings.dns.doh)), what, partial(_over_https, run)
        )
    if examination.ordered_names(settings.certificates):
        what = Text("looking at the CA, CAA records and DNSSEC")
        yield examination.Check(_host(settings.acme.directory), what, partial(_authority, run))
    for label, dns in ports.dns.items():
        what = Text("looking at the clock, the keys and the zones")
        yield examination.Check(label, what, partial(_dns_account, run, label, dns))
    for label, target in ports.targets.items():
        what = Text("looking at the clock, the keys and the CNAMEs")
        yield examination.Check(label, what, partial(_target_account, run, label, target))
    for desired in settings.certificates:
        what = Text("looking at the certificate and where it is served")
        yield examination.Check(
            desired.lineage,
            what,
            partial(examination.examine_lineage, desired, ports),
            examination.WITHIN_OF_MANY,
        )


def without_state(
    settings: Settings,
    schedulers: Iterable[Scheduler],
    error: StateError,
    *,
    is_serving: bool = False,
) -> tuple[Problem, ...]:
    """Return the findings where the state cannot be opened: a run would end there."""
    is_gone = isinstance(error, DatabaseUnavailable)
    code = Code.DATABASE_UNAVAILABLE if is_gone else Code.STATE_UNUSABLE
    subject = "[state] url" if is_gone else str(settings.state.named)
    found = error.problem(subject, code=code)
    others = [
        *examine_files(settings),
        *examination.examine_schedule(schedulers, is_serving=is_serving),
        *_channels(settings),
    ]
    return heaviest_first([found, *others])


def _scheduled_at(state: StateStore) -> datetime | None:
    """Return when the last scheduled run of this host began, unless that is long ago."""
    last = state.now() - AWAY
    runs = (one for one in state.stored_runs(20, host=state.host) if one.started_at > last)
    return next((one.started_at for one in runs if one.source is RunSource.SCHEDULE), None)


def _machine(run: CheckedRun) -> Iterator[Problem]:
    where = run.settings.state
    declared = [desired.lineage for desired in run.settings.certificates]
    if not declared:
        fix = Text("put the file right, or have certferry propose certificates: certferry init")
        said = Text("no certificate is declared, so nothing is renewed")
        yield Problem(Code.NONE_DECLARED, said, fix, subject=str(run.settings.path))
    yield from examine_files(run.settings)
    for twin in with_equal_names(run.settings.declared, run.settings.places):
        fix = Text("take one of them out, or give it other names")
        yield warning(Code.NAMES_TWICE, twin.subject, twin.message, fix)
    begun_at = _scheduled_at(run.ports.state)
    yield from examination.examine_schedule(run.schedulers, begun_at, is_serving=run.is_serving)
    yield from _channels(run.settings)
    state, now_ = run.ports.state, run.ports.now()
    yield from problems_of_this_host(state)
    known_hosts = {state.host, where.host, *(one.name for one in state.hosts())}
    for host in sorted(run.settings.hosts - known_hosts):
        said = Text("no host called {host} has run certferry with this state", host=host)
        fix = Text("correct `hosts` in the deployment that names it, or run certferry there")
        yield warning(Code.HOST_UNKNOWN, host, said, fix)
    history = [
        entry for entry in state.history(None, examination.ENTRIES) if entry.lineage in declared
    ]
    known = recorded(run.settings, state, now_)
    key = where.key_file or "[state] key"
    yield from examination.examine_records(
        known, history, where.named, key, now_, is_bucket=where.is_bucket
    )


def _channels(settings: Settings) -> Iterator[Problem]:
    return examination.examine_channels(
        has_channel=bool(settings.channels), has_heartbeat=settings.monitoring.heartbeat is not None
    )


def _authority(run: CheckedRun) -> Iterator[Problem]:
    from certferry.adapters.acme.examination import NamesLook
    from certferry.core.network import Applicant

    acme, seen = run.settings.acme, _directory(run)
    yield from examination.examine_clock(_host(acme.directory), seen.ahead)
    resolvers, standing = resolvers_for(run.settings, run.pause), frozenset[str]()
    if resolvers is None:
        return
    holder = _holder(run)
    applicant = Applicant(seen.identities, None if holder is None else holder.url)
    if acme.dns_persist:
        standing, findings = _records(run, resolvers, seen.offer, holder)
        yield from findings
    look = NamesLook(resolvers, applicant, standing)
    yield from look.look(examination.ordered_names(run.settings.certificates))


def _directory(run: CheckedRun) -> Client:
    from certferry.adapters.acme.client import read_directory
    from certferry.adapters.acme.network import IssuerSettings

    ca = run.settings.acme.usual
    settings = IssuerSettings(ca.directory, ca_bundle=ca.ca_bundle, proxy=ca.proxy)
    return read_directory(settings, run.pause, now)


def _standing(run: CheckedRun) -> frozenset[str]:
    """Return the names that records of dns-persist-01 prove, if the CA can be asked."""
    resolvers = resolvers_for(run.settings, run.pause)
    if run.settings.acme.dns_persist and resolvers is not None:
        with suppress(IssuanceError):  # the check of the CA reports it
            return _records(run, resolvers, _directory(run).offer, _holder(run))[0]
    return frozenset()


def _records(
    run: CheckedRun, resolvers: Resolvers, offer: Offer | None, holder: Holder | None
) -> tuple[frozenset[str], list[Problem]]:
    """Return the names that records of dns-persist-01 prove, and what was found of each."""
    from certferry.adapters.acme.persist import findings_of, judged_names, without_records

    certificates = run.settings.certificates
    names = examination.ordered_names(certificates)
    alone = set(
        examination.ordered_names(desired for desired in certificates if not desired.dns_accounts)
    )
    spare = frozenset(map(base_name, names)) - set(map(base_name, alone))
    if offer is None or holder is None:
        return frozenset(), list(without_records(names, spare, offer, holder))
    looked = judged_names(names, offer, holder, resolvers, now)
    proven = frozenset(one.name for one in looked if one.is_proven)
    return proven, list(findings_of(looked, spare, run.ports.now()))


def _holder(run: CheckedRun) -> Holder | None:
    from certferry.adapters.acme.account import holder_in

    with suppress(StateError):  # the check of the machine reports it
        return holder_in(run.ports.state, run.settings.acme.directory)
    return None


def _dns_account(run: CheckedRun, label: str, dns: DnsProvider) -> Iterator[Problem]:
    from certferry.adapters.acme.examination import ZonesLook

    settings, pause = run.settings, run.pause
    yield from examination.examine_account(label, dns)
    resolvers = resolvers_for(settings, pause)
    look = ZonesLook(label, dns, propagation_for(settings, pause, run.ports.now), resolvers)
    standing = _standing(run)
    yield from look.look(
        (name, provider_of(desired, run.ports.dns))
        for desired in settings.certificates
        if label in desired.dns_accounts
        for name in desired.names
        if base_name(name) not in standing
    )


def _target_account(run: CheckedRun, label: str, target: DeployTarget) -> Iterator[Problem]:
    settings = run.settings
    yield from examination.examine_account(label, target)
    yield from _resolver_check(settings).domains(
        examination.cnames_of(label, target, settings.certificates)
    )


def _resolver_check(settings: Settings) -> ResolverCheck:
    """Return the check of the resolvers. Where the CA is on loopback, so is everything."""
    from certferry.adapters.probe.resolvers import ResolverCheck
    from certferry.adapters.probe.tls import ANSWER_WITHIN

    resolvers = [(server.host, server.port) for server in settings.verify.resolvers]
    at_home = is_loopback(urlsplit(settings.acme.directory).hostname or "")
    return ResolverCheck(resolvers, ANSWER_WITHIN, at_home=at_home)


def _over_https(run: CheckedRun) -> Iterator[Problem]:
    from certferry.adapters.acme.examination import look_at_resolvers

    return look_at_resolvers(chosen_for(run.settings, run.pause))


def _host(url: str) -> str:
    return urlsplit(url).netloc
