"""The checks of `certferry doctor`: every file, account and service that a run needs."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from msgspec import Struct

from certferry.config.certificates import with_equal_names
from certferry.config.model import Settings
from certferry.config.write import examine_files
from certferry.core.assessment.hosts import AWAY
from certferry.core.certificates.names import base_name
from certferry.core.dns_persist import Holder, Offer
from certferry.core.findings import Code, heaviest_first, warning
from certferry.core.network import is_loopback
from certferry.core.observed.stored_runs import RunSource
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
from certferry.wiring.registry import USUAL
from certferry.wiring.transparency import shown
from certferry.wiring.workspace import Workspace

if TYPE_CHECKING:
    from certferry.adapters.acme.acme_client import Client
    from certferry.adapters.acme.resolvers import Resolvers
    from certferry.adapters.probe.edge_addresses import ResolverCheck


def examine(
    workspace: Workspace, run: Run, schedulers: Iterable[Scheduler], *, is_serving: bool = False
) -> tuple[Problem, ...]:
    """Examine the files, accounts and services that a run needs, and return the findings, heaviest
    first. `is_serving`: this process starts the scheduled runs itself. Changes nothing at services.
    Raises `ConfigError`.
    """
    try:
        ports = workspace.connect(run, declares=False)
    except StateError as problem:
        return without_state(workspace.settings, schedulers, problem, is_serving=is_serving)
    checks = checks_of(CheckedRun(workspace.settings, ports, schedulers, run.pause, is_serving))
    return examination.carry_out_checks(checks, progress=run.progress, now=now, stop=run.stop)


def reports_of(workspace: Workspace, run: Run) -> Iterator[AccountReport]:
    """Return an iterator over the reports of all accounts that offer a report. Each report is made
    when the caller takes the report. Raises `ConfigError` if no account offers a report, or if an
    account has wrong settings.
    """
    accounts, reporting = workspace.accounts(run), list[Reporting]()
    for family, connect in ((TARGETS, accounts.target), (DNS_PROVIDERS, accounts.dns)):
        for label in accounts.labels(family):
            with suppress(BrokenAdapter):  # a broken package has no report
                port: object = connect(label)
                reporting += [port] if isinstance(port, Reporting) else []
    if not reporting:
        raise ConfigError(
            Text("{path} has no account for a report", path=workspace.settings.path),
            hint=Text(
                "declare an account, for example [accounts.{type}], with its keys",
                type=USUAL[TARGETS.group],
            ),
        )
    return (port.report() for port in reporting)


class CheckedRun(Struct, frozen=True):
    """The settings, ports and schedulers that the checks examine."""

    settings: Settings  #: The settings of the file.
    ports: Ports  #: The ports of a run with the settings.
    schedulers: Iterable[Scheduler]  #: The schedulers of this machine.
    pause: Pause  #: Waits, and ends when the run is stopped.
    is_serving: bool = False  #: Whether this process starts the scheduled runs itself.


def checks_of(run: CheckedRun) -> Iterator[examination.Check]:
    """Yield every check. Checks change nothing."""
    settings, ports = run.settings, run.ports
    yield examination.Check(
        platform.node(),
        Text("checking the files, the state and the schedule"),
        lambda: _machine(run),
    )
    resolvers = ", ".join(server.host for server in settings.verify.resolvers) or "resolv.conf"
    activity = Text("asking for a name that does not exist")
    yield examination.Check(resolvers, activity, lambda: _resolver_check(settings).honesty())
    if settings.dns.doh:
        yield examination.Check(
            ", ".join(map(_host, settings.dns.doh)), activity, partial(_over_https, run)
        )
    if examination.ordered_names(settings.certificates):
        activity = Text("checking the CA, CAA records and DNSSEC")
        yield examination.Check(_host(settings.acme.directory), activity, partial(_authority, run))
    for label, dns in ports.dns.items():
        activity = Text("checking the clock, the keys and the zones")
        yield examination.Check(label, activity, partial(_dns_account, run, label, dns))
    for label, target in ports.targets.items():
        activity = Text("checking the clock, the keys and the CNAMEs")
        yield examination.Check(label, activity, partial(_target_account, run, label, target))
    for desired in settings.certificates:
        activity = Text("checking the certificate and its domains")
        yield examination.Check(
            desired.lineage,
            activity,
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
    """Return the findings that need no state: `error`, which says why the state cannot be opened,
    and the findings about the files, the schedule and the channels.
    """
    is_gone = isinstance(error, DatabaseUnavailable)
    code = Code.DATABASE_UNAVAILABLE if is_gone else Code.STATE_UNUSABLE
    subject = "[state] url" if is_gone else str(settings.state.named)
    problem = error.problem(subject, code=code)
    others = [
        *examine_files(settings),
        *examination.examine_schedule(schedulers, is_serving=is_serving),
        *_channels(settings),
    ]
    return heaviest_first([problem, *others])


def _scheduled_at(state: StateStore) -> datetime | None:
    """Return the start of this host's last scheduled run; `None` unless the run is among the last
    20 runs and started within `AWAY`.
    """
    last = state.now() - AWAY
    runs = (
        stored_run
        for stored_run in state.stored_runs(20, host=state.host)
        if stored_run.started_at > last
    )
    return next(
        (stored_run.started_at for stored_run in runs if stored_run.source is RunSource.SCHEDULE),
        None,
    )


def _machine(run: CheckedRun) -> Iterator[Problem]:
    where = run.settings.state
    declared = [desired.lineage for desired in run.settings.certificates]
    if not declared:
        fix = Text("correct the file, or have certferry propose certificates: certferry init")
        message = Text("no certificate is declared, so nothing is renewed")
        yield Problem(Code.NONE_DECLARED, message, fix, subject=str(run.settings.path))
    yield from examine_files(run.settings)
    for twin in with_equal_names(run.settings.declared, run.settings.places):
        fix = Text("remove one of the two certificates, or give it other names")
        yield warning(Code.NAMES_TWICE, twin.subject, twin.message, fix)
    begun_at = _scheduled_at(run.ports.state)
    yield from examination.examine_schedule(run.schedulers, begun_at, is_serving=run.is_serving)
    yield from _channels(run.settings)
    state, now_ = run.ports.state, run.ports.now()
    yield from problems_of_this_host(state)
    known_hosts = {state.host, where.host, *(host_seen.name for host_seen in state.hosts())}
    for host in sorted(run.settings.hosts - known_hosts):
        message = Text("no host called {host} has run certferry with this state", host=host)
        fix = Text("correct `hosts` in the deployment that names it, or run certferry there")
        yield warning(Code.HOST_UNKNOWN, host, message, fix)
    history = [
        entry for entry in state.history(None, examination.ENTRIES) if entry.lineage in declared
    ]
    records = recorded(run.settings, state, now_)
    key = where.key_file or "[state] key"
    yield from examination.examine_records(
        records, history, where.named, key, now_, is_bucket=where.is_bucket
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
    alarms = shown(run.settings, run.ports.state).alarms
    domains = sorted({alarm.domain for alarm in alarms})
    yield from look.open_to_others(domains, by_records=acme.dns_persist)


def _directory(run: CheckedRun) -> Client:
    from certferry.adapters.acme.acme_client import read_directory
    from certferry.adapters.acme.network import IssuerSettings

    ca = run.settings.acme.usual
    settings = IssuerSettings(ca.directory, ca_bundle=ca.ca_bundle, proxy=ca.proxy)
    return read_directory(settings, run.pause, now)


def _standing(run: CheckedRun) -> frozenset[str]:
    """Return the names that permanent records (dns-persist-01) prove. Return an empty set if the
    file does not use permanent records or forbids lookups, or if the CA does not answer.
    """
    resolvers = resolvers_for(run.settings, run.pause)
    if run.settings.acme.dns_persist and resolvers is not None:
        with suppress(IssuanceError):  # the check of the CA reports the error
            return _records(run, resolvers, _directory(run).offer, _holder(run))[0]
    return frozenset()


def _records(
    run: CheckedRun, resolvers: Resolvers, offer: Offer | None, holder: Holder | None
) -> tuple[frozenset[str], list[Problem]]:
    """Return the names proven by records of dns-persist-01, and the problems of the records."""
    from certferry.adapters.acme.persist import findings_of, judged_names, without_records

    certificates = run.settings.certificates
    names = examination.ordered_names(certificates)
    alone = set(
        examination.ordered_names(desired for desired in certificates if not desired.dns_accounts)
    )
    spare = frozenset(map(base_name, names)) - set(map(base_name, alone))
    if offer is None or holder is None:
        return frozenset(), list(without_records(names, spare, offer, holder))
    judged = judged_names(names, offer, holder, resolvers, now)
    proven = frozenset(record.name for record in judged if record.is_proven)
    return proven, list(findings_of(judged, spare, run.ports.now()))


def _holder(run: CheckedRun) -> Holder | None:
    from certferry.adapters.acme.account import holder_in

    with suppress(StateError):  # the check of the machine reports the error
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
    """Return the check of the resolvers. If the CA is on loopback, as in a test, loopback addresses
    in answers count as genuine.
    """
    from certferry.adapters.probe.edge_addresses import ResolverCheck
    from certferry.adapters.probe.tls import ANSWER_WITHIN

    resolvers = [(server.host, server.port) for server in settings.verify.resolvers]
    at_home = is_loopback(urlsplit(settings.acme.directory).hostname or "")
    return ResolverCheck(resolvers, ANSWER_WITHIN, at_home=at_home)


def _over_https(run: CheckedRun) -> Iterator[Problem]:
    from certferry.adapters.acme.examination import look_at_resolvers

    return look_at_resolvers(chosen_for(run.settings, run.pause))


def _host(url: str) -> str:
    return urlsplit(url).netloc
