"""Work outside `sync`: plans, statuses and surveys, which only read, and rehearsals of orders."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from msgspec import Struct

from certferry import errors
from certferry.core.assessment.health import Recorded
from certferry.core.assessment.hosts import HostStanding, standings_of, with_away
from certferry.core.assessment.notices import Notice
from certferry.core.assessment.status import (
    LineageStatus,
    Standing,
    status_of,
    unread,
    with_failures,
    with_hold,
    without_renewal,
)
from certferry.core.certificates.lineage import Version
from certferry.core.desired.certificate import DesiredCertificate
from certferry.core.discovery.inventory import AccountSurvey, Survey
from certferry.core.events import Activity, Asking, Begun, LineageEnded, StepEnded
from certferry.core.network import must_be_right
from certferry.core.observed.observation import Observation, Served
from certferry.core.observed.records import HostRecord, HostWork
from certferry.core.planning.digest import digest_of_plans
from certferry.core.planning.plan import Action, Issue, Plan, PlanFinding, Weight
from certferry.core.planning.renewal import Issuing
from certferry.core.planning.report import LineageReport, Outcome, StepOutcome, SyncReport
from certferry.core.planning.timing import Times
from certferry.ports.examination import Timed
from certferry.ports.issuer import Issuer, IssueRequest
from certferry.ports.probe import Probe
from certferry.ports.progress import Clock
from certferry.ports.state import AcmeOrder, Lease, StateStore
from certferry.ports.survey import Looked
from certferry.reconcile.issue import provider_of
from certferry.reconcile.observe import as_known, observe, with_file_names
from certferry.reconcile.reconciler import LineageReconciler, RunRules, plan_lineage
from certferry.reconcile.run import (
    Ports,
    Run,
    notices_of_unended,
    others_of,
    problems_of_this_host,
    side_by_side,
)
from certferry.text import Text
from certferry.values import replace

T = TypeVar("T")


def of_each(
    reader: Callable[[DesiredCertificate], T], declared: Sequence[DesiredCertificate], ports: Ports
) -> list[T]:
    """Return the results of `reader` for each certificate, in order, and report progress. Raises
    `Interrupted`, and an error of `reader`.
    """
    ports.progress(Begun(len(declared)))

    def read_and_report(desired: DesiredCertificate) -> T:
        result = reader(desired)
        ports.progress(LineageEnded(desired.lineage))
        return result

    return side_by_side(read_and_report, declared, ports.run)


def plans_of(
    ports: Ports, certificates: Sequence[DesiredCertificate], *, renew: bool = False
) -> list[Plan]:
    """Return the plans with which `sync` would begin. Raises `StateError` and `Interrupted`."""
    return plans_to_confirm(ports, certificates, renew=renew)[0]


def plans_to_confirm(
    ports: Ports, certificates: Sequence[DesiredCertificate], *, renew: bool = False
) -> tuple[list[Plan], dict[str, str]]:
    """Return the plans with which `sync` would begin, and by lineage the digest of the plan.

    If a certificate is to be adopted from files, the returned plan includes the refusals that will
    follow the adoption; the digest is of the plan without these refusals. Raises `StateError`, for
    example for a lost key, and `Interrupted`.
    """
    issuing = Issuing.ALWAYS if renew else Issuing.IF_DUE
    ports.state.must_unseal()
    proofs = Proofs(ports)

    def planned(desired: DesiredCertificate) -> tuple[Plan, Plan]:
        shown, first = _plan_now(desired, ports, issuing)
        return proofs.added_to(shown, desired), first

    plans = of_each(planned, certificates, ports)
    return [shown for shown, _ in plans], {
        plan.lineage: digest_of_plans([plan]) for _, plan in plans
    }


def statuses_of(
    ports: Ports, certificates: Sequence[DesiredCertificate], recorded: Recorded
) -> list[LineageStatus]:
    """Return the status of each lineage with its domains. Raises `StateError` and `Interrupted`."""

    def stands(desired: DesiredCertificate) -> LineageStatus:
        try:
            return _status_now(desired, ports, recorded)
        except errors.StateForeign as error:  # only this lineage has a foreign row
            return unread(desired, error)

    return of_each(stands, certificates, ports)


def _status_now(desired: DesiredCertificate, ports: Ports, recorded: Recorded) -> LineageStatus:
    """Return the status of a lineage and its domains. If the certificate comes from another
    client's files, the names are the files' names, or the stored names if the files are unreadable.
    """
    unreadable, desired = None, ports.part_of(desired)
    try:
        desired = with_file_names(desired, ports)
    except (errors.CertificateError, errors.PlanRefused) as error:
        unreadable = error
        desired = as_known(desired, ports.source, ports.state, read=False)
    observed = observe(desired, ports, every_edge=True)
    now, timeout = ports.now(), ports.verify_timeout
    status = status_of(desired, observed, now, timeout, unreadable=unreadable)
    if desired.lineage in ports.outdated:
        status = without_renewal(status, ports.outdated[desired.lineage].error.problem())
    if status.standing is Standing.MISSING:
        status = with_hold(status, LineageReconciler(desired, ports).plan(observed))
    if all(subject.lineage != desired.lineage for subject in recorded.troubles):
        return status
    # Plan as a scheduled run does. Only such a plan says until when a step waits after a failure.
    plan = LineageReconciler(desired, ports, RunRules(keeps_pauses=True)).plan(observed)
    return with_failures(status, recorded, observed, plan)


def recorded(state: StateStore) -> Recorded:
    """Return the records of all certificates and of runs. If the state's key is unusable, the
    returned records have a `problem`. Raises `StateError` if the records cannot be read.
    """
    problem = None
    try:
        state.must_unseal()
    except errors.StateError as error:
        problem = error.problem()
    stood = [_here(notice, state.host) for notice in state.notices()]
    last_run = state.last_run()
    hosts = state.hosts() if last_run is None else ()
    return Recorded(
        state.versions_in_use(),
        state.sightings(),
        (*notices_of_unended(state), *with_away(stood, others_of(state), state.now())),
        last_run,
        problem,
        begun_at=next((host.seen_at for host in hosts if host.name == state.host), None),
    )


def standings_of_hosts(state: StateStore, declared: int) -> tuple[HostStanding, ...]:
    """Return the standing of every host, this host included even before its first run.

    `declared` is the number of certificates in this host's file.
    """
    by_name = {host.name: host for host in (HostRecord(state.host), *state.hosts())}
    hosts = [by_name[name] for name in sorted(by_name)]
    work = {**state.work_of_hosts()}
    work[state.host] = replace(work.get(state.host, HostWork()), declares=declared)
    return standings_of(hosts, state.host, problems_of_this_host(state), state.now(), work)


def _here(notice: Notice, host: str) -> Notice:
    """Return a notice; without the host's name if this host is the host of the certificate."""
    subject = notice.subject
    is_here = subject.lineage and subject.host == host
    return replace(notice, subject=replace(subject, host="")) if is_here else notice


def _plan_now(desired: DesiredCertificate, ports: Ports, issuing: Issuing) -> tuple[Plan, Plan]:
    """Return two plans of one lineage. If a certificate is to be adopted from files, the first plan
    has the refusals that will follow the adoption, and the second plan lacks these refusals.
    Otherwise the plans are equal.
    """
    desired = ports.part_of(desired)
    try:
        desired = with_file_names(desired, ports)
        observed = observe(desired, ports)
    except (errors.CertificateError, errors.PlanRefused, errors.StateForeign) as error:
        finding = PlanFinding.of(Weight.BLOCKED, error)
        blocked = Plan(desired.lineage, desired.names, findings=(finding,))
        return blocked, blocked
    plan = LineageReconciler(desired, ports, RunRules(issuing)).plan(observed)
    step = plan.issue_now
    if step is None or step.action is not Action.ADOPT:
        return plan, plan
    return _with_refusals_to_come(plan, desired, observed, ports), plan


def _with_refusals_to_come(
    plan: Plan, desired: DesiredCertificate, observed: Observation, ports: Ports
) -> Plan:
    now, offered = ports.now(), desired.offered
    if offered is None:
        return plan
    digest, issuer_end = desired.offered_fullchain, desired.offered_issuer_end
    adopted = Version(0, offered, now, fullchain_digest=digest, issuer_not_after=issuer_end)
    after = replace(observed, versions=(adopted, *observed.versions))
    adopting = plan_lineage(desired, after, Times.at(now), Issuing.NEVER)
    refusals = adopting.having(Weight.REFUSED)
    refused = {(refusal.target, refusal.domain) for refusal in refusals}
    rollouts = tuple(r for r in plan.rollouts if (r.target, r.domain) not in refused)
    return replace(plan, rollouts=rollouts, findings=(*plan.findings, *refusals))


@dataclass(eq=False)
class Proofs:
    """Finds errors that would stop the orders in plans, by asking the DNS accounts and the CA.

    One object serves all plans made together, so the clock of each account's service is asked at
    most once. A plan without an order due now usually costs no request. Changes nothing at the
    services.
    """

    #: The DNS accounts and the CA to ask.
    ports: Ports
    #: By account, the error about the clock; `None` for a right clock.
    _clocks: dict[str, errors.CertferryError | None] = field(default_factory=dict, init=False)
    #: Protects `_clocks`.
    _guard: threading.Lock = field(default_factory=threading.Lock, init=False)

    def added_to(self, plan: Plan, desired: DesiredCertificate) -> Plan:
        """Return the plan with the results for the plan's order. Raises `Interrupted`.

        - An error would stop the order: add the error as a finding.
        - Nothing would stop the order: add the names already proven by permanent records.
        - The plan has no order, because no target has a domain for the certificate: add a finding
          if the DNS accounts lack a zone for the names as well.
        """
        step, accounts = plan.issue_now, ", ".join(desired.dns_accounts)
        if step is None and _is_for_nothing(plan) and accounts:
            proof = self._proof(desired)
            if not isinstance(proof, errors.ZoneNotFound):
                return plan
            return _with(plan, proof, accounts)
        if step is None or step.action is not Action.ISSUE or step not in plan.ready:
            return plan
        if accounts:
            activity = Text("asking {accounts} for the zones of the names", accounts=accounts)
            self.ports.progress(Asking(desired.lineage, activity))
        clocks = map(self._clock, desired.dns_accounts)
        proof = next(filter(None, clocks), None) or self._proof(desired)
        if not isinstance(proof, errors.CertferryError):
            return replace(plan, issue=replace(step, standing=tuple(sorted(proof))))
        return _with(plan, proof, accounts or None)

    def _proof(self, desired: DesiredCertificate) -> frozenset[str] | errors.CertferryError:
        dns = provider_of(desired, self.ports.dns)
        try:
            return self.ports.issuer.must_be_provable(desired.names, dns)
        except (errors.DnsError, errors.IssuanceError) as problem:
            return problem

    def _clock(self, label: str) -> errors.CertferryError | None:
        """Return the error if this machine's clock differs from the clock of the account's service,
        or if the service cannot be asked; otherwise `None`.

        Services refuse requests with a wrong time, and the refusal looks like a refusal of the
        keys.
        """
        dns = self.ports.dns[label]
        with self._guard:
            if label not in self._clocks:
                self._clocks[label] = None
                try:
                    ahead = dns.clock_ahead() if isinstance(dns, Timed) else None
                    if ahead is not None:
                        must_be_right(label, ahead)
                except (errors.ClockWrong, errors.DnsError) as problem:
                    self._clocks[label] = problem
            return self._clocks[label]


def _is_for_nothing(plan: Plan) -> bool:
    """Return whether the plan has no domain for the certificate, and a target said why."""
    blocked = [finding.error for finding in plan.having(Weight.BLOCKED) if finding.domain is None]
    is_refused = any(isinstance(error, errors.TargetRejected) for error in blocked)
    return is_refused and not (plan.rollouts or plan.unchanged)


def _with(plan: Plan, error: errors.CertferryError, accounts: str | None) -> Plan:
    finding = PlanFinding.of(Weight.BLOCKED, error, accounts)
    return replace(plan, findings=(*plan.findings, finding))


class Rehearsed(Struct, frozen=True):
    """The result of a rehearsal."""

    #: The outcome of each rehearsed order.
    report: SyncReport
    #: The plans with which a real run would begin.
    plans: tuple[Plan, ...]


def rehearse(
    ports: Ports, certificates: Sequence[DesiredCertificate], issuer: Issuer, *, renew: bool
) -> Rehearsed:
    """Have `issuer` issue a test certificate for each order that `sync` would make now or after a
    wait (with `renew`: `sync --renew`), and return the results. Raises `StateError`,
    `StateNotStored` and `Interrupted`.
    """
    plans = plans_of(ports, certificates, renew=renew)
    orders = ((plan.issue_now or plan.issue_later) for plan in plans)  # orders now, or after a wait
    due = [
        (desired, step)
        for desired, step in zip(certificates, orders, strict=True)
        if step is not None and step.action is Action.ISSUE
    ]
    at_staging = replace(ports, issuer=issuer)
    reports = side_by_side(lambda order: _rehearsed(*order, at_staging), due, ports.run)
    return Rehearsed(SyncReport(tuple(reports)), tuple(plans))


def _rehearsed(desired: DesiredCertificate, step: Issue, ports: Ports) -> LineageReport:
    """Have the issuer in `ports` issue a test certificate, and discard the certificate. Return the
    report: done, waiting or failed. Raises `Interrupted` and `StateNotStored`.
    """
    request = IssueRequest(
        lineage=desired.lineage,
        names=step.names,
        key_type=step.key_type,
        profiles=desired.issuance.profiles,
        dns=",".join(desired.dns_accounts),
    )
    result = StepOutcome(Action.ISSUE, Outcome.DONE, Text("rehearsed"))
    try:
        held = ports.issuer.rate_limit_hold(request)
        if held is not None:
            raise held
        with ports.lease(desired.lineage) as lease:
            dns = provider_of(desired, ports.dns)
            bundle = ports.issuer.issue(request, dns, lease, ports.progress)
    except errors.StateNotStored:
        raise
    except (errors.CertferryError, errors.LeaseLost) as error:
        waits = error.is_early or isinstance(error, errors.LeaseHeld)
        outcome = Outcome.WAITING if waits else Outcome.FAILED
        result = result.with_error(error.about(desired.lineage), outcome)
    else:
        ca = bundle.certificate.issuer
        detail = Text("rehearsed: {ca} issued a test certificate", ca=ca)
        result = replace(result, detail=detail)
    ports.progress(StepEnded(desired.lineage, result))
    return LineageReport(desired.lineage, None, (result,))


class WithoutOrders:
    """A `StateStore` that hides orders, so a rehearsal leaves real orders alone."""

    def __init__(self, state: StateStore) -> None:
        self._state = state

    def order(self, _lineage: str) -> AcmeOrder | None:
        return None

    def save_order(self, lease: Lease, _order: object) -> None:
        self._state.extend(lease)

    def drop_order(self, lease: Lease, **_: object) -> None:
        self._state.extend(lease)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._state, name)


Surveys = Mapping[str, Callable[[Looked], Survey]]
"""By account label, the function that lists the domains: see `ports.survey.Surveyed.survey`."""

SIGNS_OF_LIFE, MOST_SIGNS = 25, 40
"""The least number of domains between two progress reports (about ten domains are read in a
second), and the most reports.
"""

LONG = timedelta(seconds=30)
"""The shortest remaining time worth reporting."""

Say = Callable[[Text], None]


def survey_accounts(
    surveys: Surveys, probe: Probe, now: Clock, run: Run
) -> tuple[AccountSurvey, ...]:
    """Return the surveys of all accounts, with `failure` for each unreadable account.

    Raises only `Interrupted`.
    """
    run.progress(Begun(len(surveys)))

    def survey_account(label: str) -> AccountSurvey:
        since = now()

        def say(activity: Text) -> None:
            run.progress(Activity(label, activity, since))

        say(Text("reading the account's domains"))
        counted = Text("{count} of {total} domains read")
        try:
            survey = surveys[label](partial(_count, say, counted, now, now()))
        except errors.CertferryError as error:
            say(error.message)
            run.progress(LineageEnded(label))
            return AccountSurvey(label, failure=error)
        served = _served(survey, probe, now, say)
        say(Text("checked"))
        run.progress(LineageEnded(label))
        return AccountSurvey(label, survey, served)

    return tuple(side_by_side(survey_account, list(surveys), run))


def _served(survey: Survey, probe: Probe, now: Clock, say: Say) -> dict[str, tuple[Served, ...]]:
    """Return the certificates at the edges, by domain. Domains known to lack HTTPS are not asked.

    The domains are asked in groups, and progress is reported before each group.
    """
    names = [d.domain for d in survey.domains if d.has_https or d.binding_hidden]
    served: dict[str, tuple[Served, ...]] = {}
    counted, begun = Text("edges of {count} of {total} domains checked"), now()
    at_once = _apart(len(names))
    for start in range(0, len(names), at_once):
        _count(say, counted, now, begun, start, len(names))
        served |= probe.served(names[start : start + at_once])
    return served


def _count(say: Say, counted: Text, now: Clock, begun: datetime, count: int, total: int) -> None:
    """Report the number of finished domains, with the expected time left if at least `LONG`. Report
    only at every `_apart`-th domain, and not at the last domain.
    """
    if count % _apart(total) or count == total:
        return
    message = counted.filled(count=count, total=total)
    left = (now() - begun) / max(count, 1) * (total - count)
    if count and left >= LONG:
        left = timedelta(seconds=round(left.total_seconds()))
        message = Text("{said}, about {left} left", said=message, left=left)
    say(message)


def _apart(domains: int) -> int:
    """Return the number of domains between two progress reports."""
    return max(SIGNS_OF_LIFE, -(-domains // MOST_SIGNS))
