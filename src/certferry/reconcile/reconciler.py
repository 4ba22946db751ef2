"""The main job: for each lineage, observe the world, compare with the declaration, carry out the
difference, and observe again until the certificate is served.

Each round of this work, a pass, observes and plans anew, so a run may be killed at any moment.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from types import MappingProxyType

from msgspec import Struct, field

from certferry import errors
from certferry.core.assessment.hosts import AWAY
from certferry.core.assessment.sightings import Sighted, after_run, sighted, with_delivered
from certferry.core.certificates.certificate import renew_at
from certferry.core.certificates.lineage import Versions
from certferry.core.desired.certificate import DesiredCertificate
from certferry.core.desired.declaration import Outdated
from certferry.core.events import Begun, LineageEnded, StepEnded
from certferry.core.observed.observation import Observation
from certferry.core.observed.records import HostRecord, Remembered
from certferry.core.planning import plan as plans
from certferry.core.planning import report as reports
from certferry.core.planning.digest import must_be_confirmed, only_confirmed
from certferry.core.planning.division import awaits_another, has_open_work, in_turn, verified_since
from certferry.core.planning.planner import make_plan
from certferry.core.planning.renewal import Issuing
from certferry.core.planning.safety import without_refused
from certferry.core.planning.timing import VERIFY_TIMEOUT, Times
from certferry.core.reasons import Waiting, wait_for
from certferry.ports.progress import Progress
from certferry.ports.state import Lease
from certferry.reconcile.apply import carry_out, store_waits
from certferry.reconcile.attempts import record_attempts
from certferry.reconcile.issue import sweep_ownerless, within_rate_limits
from certferry.reconcile.observe import (
    ReadAhead,
    observe,
    store_source,
    with_file_names,
    with_remembered,
    with_renewal_info,
)
from certferry.reconcile.removals import without_order
from certferry.reconcile.run import Ports, Removals, StepContext, WaitLimit, WorkQueue, others_of
from certferry.text import Text
from certferry.values import replace

AT_LEAST = VERIFY_TIMEOUT
"""The shortest time-out of the wait for another run's lease. The other run may be ordering and
uploading a certificate, which may take longer than a short time-out for domains.
"""

SOON = timedelta(seconds=1)

_log = logging.getLogger(__name__)


def plan_lineage(
    desired: DesiredCertificate, observed: Observation, times: Times, issuing: Issuing
) -> plans.Plan:
    """Return the plan without the steps that safety refuses. An order is left out as well if
    deployments are declared and none could take the certificate.
    """
    plan = make_plan(desired, observed, times, issuing)
    plan = without_refused(plan, desired, observed, times.now)
    could_take_it = plan.rollouts or plan.unchanged or plan.drifts
    if plan.issue_now is not None and desired.deployments and not could_take_it:
        return plan_lineage(desired, observed, times, Issuing.NEVER)
    return plan


def plan_outdated(
    plan: plans.Plan, outdated: Outdated, now: datetime, *, renews: bool
) -> plans.Plan:
    """Return the plan of an outdated declaration, by which this host only delivers to receivers. A
    finding says why, and replaces the findings about the whole certificate. The finding is a
    refusal if the operator asked for a renewal (`renews`). The plan cleans no challenge records.
    """
    weight = plans.Weight.SKIPPED if outdated.is_tolerated(now) else plans.Weight.BLOCKED
    weight = plans.Weight.REFUSED if renews else weight
    finding = plans.PlanFinding.of(weight, outdated.error)
    of_receivers = (finding for finding in plan.findings if finding.target is not None)
    return replace(plan, clean=None, findings=(finding, *of_receivers))


class Outcomes:
    """The latest outcome of each step of a lineage, and the waits until the next pass."""

    def __init__(self, lineage: str, progress: Progress) -> None:
        self._lineage = lineage
        self._progress = progress
        self._latest: dict[reports.StepKey, reports.StepOutcome] = {}
        self._trouble: reports.StepOutcome | None = None
        self._waits: dict[reports.StepKey, Waiting] = {}
        self.has_looked = False

    def begin_pass(self) -> None:
        """Forget the last pass's waits, and the error that stopped the last pass (`trouble`)."""
        self._trouble = None
        self._waits.clear()

    def note(self, outcome: reports.StepOutcome) -> None:
        """Store an outcome; report the outcome if it differs from the step's last outcome."""
        self.has_looked = True
        self._waits.pop(outcome.key, None)
        if outcome.waiting is not None:
            self._waits[outcome.key] = outcome.waiting
        if self._latest.get(outcome.key) != outcome:
            self._latest[outcome.key] = outcome
            self._progress(StepEnded(self._lineage, outcome))

    def note_plan(self, plan: plans.Plan, observed: Observation) -> None:
        """Store outcomes for the steps not carried out in this pass, and drop obsolete outcomes."""
        self.has_looked = True
        unread = {(rollout.target, rollout.domain) for rollout in plan.rollouts if rollout.unread}
        earlier = {key: _under(past, plan, observed) for key, past in self._latest.items()}
        after = {key: past for key, past in earlier.items() if past is not None}
        for standing in reports.standings(plan, observed):
            # An unread target hides how far the change is, so a waiting deployment stays waiting.
            is_unread = (standing.target, standing.domain) in unread
            outcome = self._as_begun(standing) if is_unread else standing
            last = after.get(outcome.key)
            is_done = last is not None and last.outcome is reports.Outcome.DONE
            if not (is_done and outcome.outcome is reports.Outcome.UNCHANGED):
                after[outcome.key] = outcome
        for outcome in reports.standings_left_alone(plan):
            last = after.get(outcome.key)
            if last is None or last.waiting is not None:
                after[outcome.key] = outcome
        self._latest = {key: past for key, past in self._latest.items() if key in after}
        for key, outcome in after.items():
            if outcome is not self._latest.get(key):
                self.note(outcome)

    def _as_begun(self, standing: reports.StepOutcome) -> reports.StepOutcome:
        deployment = replace(standing, action=plans.Action.DEPLOY)
        begun = self._latest.get(deployment.key)
        is_begun = begun is not None and begun.outcome is reports.Outcome.WAITING
        return deployment if is_begun else standing

    def trouble(self, outcome: reports.StepOutcome) -> None:
        """Store and report why a pass was stopped; drop waiting steps if another host goes on."""
        if outcome.outcome is reports.Outcome.ELSEWHERE:
            self._latest = {
                key: latest
                for key, latest in self._latest.items()
                if latest.outcome is not reports.Outcome.WAITING
            }
        self._progress(StepEnded(self._lineage, outcome))
        self._trouble, self.has_looked = outcome, True

    def all(self) -> tuple[reports.StepOutcome, ...]:
        """Return every step's latest outcome, and the trouble of the last pass, if any."""
        return tuple(filter(None, (*self._latest.values(), self._trouble)))

    def next_look(self) -> Waiting | None:
        """Return the earliest wait of the last pass; `None` if no further pass follows."""
        if self._trouble is not None:
            return self._trouble.waiting
        return min(self._waits.values(), key=lambda waiting: waiting.until, default=None)


_ONCE = {plans.Action.ISSUE, plans.Action.ADOPT, plans.Action.ROLLBACK, plans.Action.RETIRE}
"""Actions of steps that are absent from later plans; their outcomes stay."""


def _under(
    earlier: reports.StepOutcome, plan: plans.Plan, observed: Observation
) -> reports.StepOutcome | None:
    """Return an earlier outcome as changed by a later plan; `None` if the outcome is obsolete."""
    target, domain = earlier.target or "", earlier.domain or ""
    located = observed.find(target, domain)
    is_unread = any(t.label == target and t.failure for t in observed.targets)
    if domain and located is None and is_unread:
        return earlier
    at_place = [r for r in plan.rollouts if (r.target, r.domain) == (target, domain)]
    is_deployed = any(rollout.deploy is not None for rollout in at_place)
    if earlier.action is plans.Action.VERIFY and is_deployed:
        return None
    if earlier.outcome is reports.Outcome.DONE:
        return earlier
    if earlier.action is plans.Action.DEPLOY and domain:
        if is_deployed or earlier.outcome is reports.Outcome.UNCHANGED:
            return earlier  # the plan still has the step, or the receiver has the files
        if located is None or not (at_place or (target, domain) in plan.unchanged):
            return None
        text = reports.what_was_bound(located[1], observed)
        return reports.StepOutcome(plans.Action.DEPLOY, reports.Outcome.DONE, text, target, domain)
    return earlier if earlier.action in _ONCE and earlier.waiting is None else None


class RunRules(Struct, frozen=True):
    """The rules that all lineages of a run share."""

    issuing: Issuing = Issuing.IF_DUE  #: Whether to order certificates.
    #: Whether pauses after failures hold, as in a scheduled run; otherwise each step is tried.
    keeps_pauses: bool = False
    #: Counts the copies that the run has tried to remove.
    removals: Removals = field(default_factory=Removals)
    #: Reads the stored rows of many lineages at once; `None` reads each lineage's rows alone.
    ahead: ReadAhead | None = None
    #: Digests of confirmed plans, by lineage (`must_be_confirmed`).
    confirmed: Mapping[str, str] = field(default_factory=dict)
    #: When the oldest run in progress at other hosts began; `None` without a run there.
    others_since: datetime | None = None


class LineageReconciler:
    """Brings one lineage to its desired state, pass by pass."""

    def __init__(
        self, desired: DesiredCertificate, ports: Ports, rules: RunRules | None = None
    ) -> None:
        self._rules = rules = RunRules() if rules is None else rules
        self._ahead = rules.ahead
        self._digest = rules.confirmed.get(desired.lineage)
        self._confirmed: plans.Plan | None = None
        self.desired = ports.part_of(desired)
        self._outdated = ports.outdated.get(desired.lineage)
        self._ports = ports
        self._begun = ports.now()
        self._others_since = min(rules.others_since or self._begun, self._begun)
        self._issuing = Issuing.NEVER if self._outdated else rules.issuing
        self._outcomes = Outcomes(desired.lineage, ports.progress)
        self._versions: Versions = ()
        self._lease_busy_since: datetime | None = None
        self._held_until: datetime | None = None
        self._certain: frozenset[plans.Doubt] = frozenset()
        self._keeping: set[str] = set()
        self._failed: set[tuple[str, str]] = set()
        self.seen: Sighted | None = None
        self.awaits_another = False

    def report(self) -> reports.LineageReport:
        """Return the lineage's result so far."""
        outcomes, versions = self._outcomes, self._versions
        fingerprint = versions[0].fingerprint if versions else None
        ends = tuple(version.certificate.not_after for version in versions)
        return reports.LineageReport(
            self.desired.lineage, fingerprint, outcomes.all(), outcomes.has_looked, ends
        )

    def reconcile(self) -> Waiting | None:
        """Make a pass; return the wait before the next pass, `None` after the last pass. Raises
        `Interrupted` and `StateNotStored`, which end the whole run.
        """
        self._outcomes.begin_pass()
        try:
            self._make_pass()
            self._lease_busy_since = None
        except (errors.Interrupted, errors.StateNotStored) as stopped:
            self._outcomes.trouble(reports.StepOutcome.of(None, stopped, reports.Outcome.SKIPPED))
            raise
        except (errors.LeaseHeld, errors.LeaseLost) as error:
            since = self._lease_busy_since = self._lease_busy_since or self._ports.now()
            if self._rules.keeps_pauses and isinstance(error, errors.LeaseHeld) and error.host:
                self._outcomes.trouble(self._left_to_host(error, since))
            else:
                self._outcomes.trouble(lease_busy(error, self._ports, since))
        except errors.PlanRefused as refused:
            self._outcomes.trouble(reports.StepOutcome.of(None, refused, reports.Outcome.REFUSED))
        except errors.CertferryError as error:
            self._outcomes.trouble(reports.StepOutcome.of(None, error))
        except (Exception, SystemExit):  # noqa: BLE001 - logged whole; see below
            # A mistake of ours in one lineage must not stop the others.
            _log.exception(Text("{lineage}: unexpected error", lineage=self.desired.lineage))
            detail = Text("a bug in certferry; please report the traceback above")
            self._outcomes.trouble(reports.StepOutcome(None, reports.Outcome.FAILED, detail))
        return self._outcomes.next_look()

    def _left_to_host(self, held: errors.LeaseHeld, since: datetime) -> reports.StepOutcome:
        """Return the outcome for a lineage left to the host with the lease. If the host has not
        extended the lease since this run's previous pass, the host may be dead: the outcome then
        has a wait for the end of the lease, so another pass follows.
        """
        left = reports.StepOutcome(None, reports.Outcome.ELSEWHERE, held.message)
        left = replace(left, host=held.host, since=held.since)
        before, self._held_until = self._held_until, held.until
        if held.until is None or held.until != before:
            return left
        now = self._ports.now()
        deadline = max(held.until, now + SOON)
        return replace(left, waiting=wait_for(held.message, since, now, deadline))

    def _make_pass(self) -> None:
        ahead, self._ahead = self._ahead, None
        remembered = None if ahead is None else ahead.remembered(self.desired.lineage)
        if self._is_left_to_others:
            if remembered is None:
                remembered = self._ports.state.remembered(self.desired.lineage)
            if self._is_with_another(remembered):
                return
            if has_open_work(remembered):
                self._work_unless_another_does(remembered)
                return
        observed, plan = self._observe_and_plan(remembered)
        # A doubt (drift, a time-out) may come from another run's work, so a doubt needs the lease.
        is_open = (
            self._lease_busy_since is not None or plans.doubts_in(plan, observed) - self._certain
        )
        if not is_open and all(isinstance(step, plans.Verify) for step in plan.ready):
            self._must_be_confirmed(plan)
            self._follow(plan, observed)
            return
        with self._ports.lease(self.desired.lineage) as lease:
            self._work(*self._recheck(observed, plan, anew=bool(is_open)), lease)

    def _work_unless_another_does(self, before: Remembered) -> None:
        """Take the lease, and make the pass unless another host has done the work or will do it.
        Raises `LeaseHeld` before any service is asked if another run has the lease.
        """
        with self._ports.lease(self.desired.lineage) as lease:
            remembered = self._ports.state.remembered(self.desired.lineage)
            if self._is_with_another(remembered):
                return
            observed, plan = self._observe_and_plan(remembered, lease, anew=remembered != before)
            if plans.doubts_in(plan, observed) - self._certain:
                observed, plan = self._recheck(observed, plan, anew=True)
            self._work(observed, plan, lease)

    def _observe_and_plan(
        self, remembered: Remembered | None, lease: Lease | None = None, *, anew: bool = False
    ) -> tuple[Observation, plans.Plan]:
        """Observe, ask the CA for the renewal time if due, drop an obsolete order, and plan."""
        observed = self._with_renewal_info(self._observe(anew=anew, remembered=remembered))
        ordered = observed.remembered.ordered
        if ordered is not None and not (ordered.is_for(self.desired) or self._outdated):
            observed = without_order(observed, self.desired.lineage, self._ports, lease)
        return observed, self.plan(observed)

    def _work(self, observed: Observation, plan: plans.Plan, lease: Lease) -> None:
        """Carry out a plan made under the lease; after an order, plan anew for the other steps."""
        self._must_be_confirmed(plan)
        if plan.issue_now is not None:
            for outcome in carry_out(plan.ready, self._context(observed, lease)):
                self._outcomes.note(outcome)
            observed = self._in_force(with_remembered(observed, self.desired, self._ports))
            observed = self._with_renewal_info(observed)
            plan = self.plan(observed)
        self._follow(plan, observed, lease)

    def _must_be_confirmed(self, plan: plans.Plan) -> None:
        """Raise `PlanChanged` if an operator has confirmed a plan and the first plan differs. Keep
        the first plan, which limits all later plans (see `plan`).
        """
        if self._digest is not None and self._confirmed is None:
            must_be_confirmed([plan], self._digest)
            self._confirmed = plan

    @property
    def _is_left_to_others(self) -> bool:
        """Whether the run may leave the lineage to another host: in a scheduled run over a shared
        state, until the run has observed the lineage. An operator who starts a run wants this host
        to observe.
        """
        by_itself = self._rules.keeps_pauses and self._issuing is Issuing.IF_DUE
        return by_itself and self.seen is None and self._ports.state.is_shared

    def _is_with_another(self, remembered: Remembered) -> bool:
        """Return whether another host has done, or will do, all work of this pass."""
        return self._awaits_another(remembered) or self._was_verified_by_another(remembered)

    def _awaits_another(self, remembered: Remembered) -> bool:
        """Return whether the lineage needs no first pass, because another host already waits for
        the edges to serve the certificate. A pass at the end of the run observes the lineage.
        """
        if self.awaits_another or self._outcomes.has_looked:
            return False
        self.awaits_another = awaits_another(self.desired, remembered, self._others_since)
        return self.awaits_another

    def _was_verified_by_another(self, remembered: Remembered) -> bool:
        """Report every domain as verified if another host has verified all since the run began.
        Return whether another host has.
        """
        standing = verified_since(self.desired, remembered, self._begun)
        if standing:
            self._versions = remembered.versions
        for outcome in standing:
            self._outcomes.note(outcome)
        return bool(standing)

    def _recheck(
        self, before: Observation, plan: plans.Plan, *, anew: bool
    ) -> tuple[Observation, plans.Plan]:
        """Observe and plan under the lease; if changes or doubts appear, repeat without caches."""
        observed = self._observe(anew=anew)
        if observed != before:
            plan = self.plan(observed)
        doubts = plans.doubts_in(plan, observed)
        is_news = observed.remembered != before.remembered or doubts - self._certain
        if is_news and not anew:
            return self._recheck(observed, plan, anew=True)
        self._certain |= doubts
        return observed, plan

    def _observe(self, *, anew: bool = False, remembered: Remembered | None = None) -> Observation:
        if self.desired.files is not None:
            self.desired = with_file_names(self.desired, self._ports)
            store_source(self.desired, self._ports.state)
        return self._in_force(observe(self.desired, self._ports, anew=anew, remembered=remembered))

    def _in_force(self, observed: Observation) -> Observation:
        """Keep the versions for the report, and return the observation."""
        self._versions = observed.versions
        return observed

    def plan(self, observed: Observation) -> plans.Plan:
        """Return the plan. If a plan was confirmed, the result has only writes of that plan."""
        plan, confirmed = self._plan(observed, self._issuing), self._confirmed
        if confirmed is None:
            return plan
        if plan.issue_now is not None and confirmed.issue_now is None:
            plan = self._plan(observed, Issuing.NEVER)
        return only_confirmed(plan, confirmed)

    def _plan(self, observed: Observation, issuing: Issuing) -> plans.Plan:
        """Return the plan. If CAs' limits forbid an order, the order waits and the rest goes on."""
        times = Times(
            now=self._ports.now(),
            begun=self._begun,
            timeout=self._ports.verify_timeout,
            keeps_pauses=self._rules.keeps_pauses,
        )
        plan = plan_lineage(self.desired, observed, times, issuing)
        if self._outdated is not None:
            renews = self._rules.issuing is Issuing.ALWAYS
            return plan_outdated(plan, self._outdated, times.now, renews=renews)
        step = plan.issue_now
        if step is None or step.action is not plans.Action.ISSUE:
            return plan
        step = within_rate_limits(step, self.desired, observed, self._ports.issuer, times.now)
        if step.when is None:
            return replace(plan, issue=step)
        without = plan_lineage(self.desired, observed, times, Issuing.NEVER)
        return replace(without, issue=step)

    def _with_renewal_info(self, observed: Observation) -> Observation:
        may_order = self._issuing is not Issuing.NEVER
        return with_renewal_info(self.desired, observed, self._ports) if may_order else observed

    def _follow(self, plan: plans.Plan, observed: Observation, lease: Lease | None = None) -> None:
        """Carry out every ready step, and report how the other steps stand."""
        self._outcomes.note_plan(plan, observed)
        self.seen = sighted(self.desired.lineage, observed, self._ports.now())
        if self._outdated is not None:
            self.seen = replace(self.seen, only_receivers=True)
        context = self._context(observed, lease)
        store_waits(plan, context)
        for outcome in carry_out(plan.ready, context):
            self._outcomes.note(outcome)

    def _context(self, observed: Observation, lease: Lease | None) -> StepContext:
        in_run = (self._keeping, self._failed, self._rules.removals)
        return StepContext(self.desired, observed, self._ports, lease, *in_run)


def lease_busy(
    error: errors.LeaseHeld | errors.LeaseLost, ports: Ports, since: datetime
) -> reports.StepOutcome:
    """Return the outcome of a pass that did not get the lease, or lost the lease: a wait for the
    other run, or a failure after too long a wait. `since` is when the waiting began.
    """
    now, longest = ports.now(), max(ports.verify_timeout, AT_LEAST)
    deadline = since + longest
    if now < deadline:
        outcome = reports.StepOutcome.of(None, error, reports.Outcome.WAITING)
        return replace(outcome, waiting=wait_for(error.message, since, now, deadline))
    message = Text("{held}; the wait of {time} ended before that work")
    hint = Text("look for another `certferry` that hangs (`pgrep -a certferry`), and stop it")
    if isinstance(error, errors.LeaseHeld) and error.host:
        hint = Text(
            "look for a `certferry` on {host} that hangs (`pgrep -a certferry`), and stop the"
            " process",
            host=error.host,
        )
    hanging = errors.LeaseHeld(message.filled(held=error.message, time=longest), hint=hint)
    return reports.StepOutcome.of(None, hanging)


class Reconciler:
    """Reconciles certificates; `confirmed` are the digests of confirmed plans, by lineage."""

    def __init__(self, ports: Ports, confirmed: Mapping[str, str] = MappingProxyType({})) -> None:
        self.ports = ports
        self._confirmed = confirmed
        self._seen: Mapping[str, Sighted] = {}

    def sync(
        self,
        certificates: Sequence[DesiredCertificate],
        wait_limit: WaitLimit,
        *,
        renew: bool = False,
        scheduled: bool = False,
        before: reports.SyncReport | None = None,
    ) -> reports.SyncReport:
        """Reconcile the certificates, store the run's end, and return the report. If storing fails,
        the report has the error. `before`: the report of the run's earlier tries. A `scheduled` run
        keeps the pauses after failures. Raises `StateError` and `StateNotStored`.
        """
        self.ports.state.must_unseal()
        issuing = Issuing.ALWAYS if renew else Issuing.IF_DUE
        report = self.run(certificates, wait_limit, issuing, keeps_pauses=scheduled)
        whole = (before or report).with_newer(report)
        return replace(self._stored(report, whole), renewing=renew)

    def _stored(self, report: reports.SyncReport, whole: reports.SyncReport) -> reports.SyncReport:
        """Store the run's end, sightings and failures; add an error of storing to the report."""
        try:
            succeeded = whole.has_succeeded and not whole.leaves_failures
            self.ports.state.save_run(self.ports.now(), succeeded=succeeded)
            self._store_sightings(whole)
            if not report.ok:
                ports = self.ports
                record_attempts(report, ports.state, ports.now(), ports.progress)
        except (KeyboardInterrupt, errors.Interrupted):
            self.ports.run.stop()
            return replace(report, complete=False)
        except errors.StateError as error:
            return replace(report, problem=error)
        return report

    def _store_sightings(self, report: reports.SyncReport) -> None:
        """Store which places had the certificate, for commands that ask no service."""
        after = partial(after_run, seen=with_delivered(self._seen, report.lineages))
        before = self.ports.state.sightings()
        if after(before) != before:
            self.ports.state.update_sightings(after)

    def run(
        self,
        certificates: Sequence[DesiredCertificate],
        wait_limit: WaitLimit,
        issuing: Issuing,
        *,
        keeps_pauses: bool = False,
    ) -> reports.SyncReport:
        """Reconcile every certificate until all have ended, or the limit is reached. Return the
        report, incomplete if the run was stopped. Raises `StateError` and `StateNotStored`.
        """
        ports = self.ports
        others = others_of(ports.state)
        own_first = self._in_turn(certificates, others)
        running = [host.running_since for host in others if host.running_since is not None]
        rules = RunRules(
            issuing,
            keeps_pauses=keeps_pauses,
            ahead=ReadAhead(ports.state, (desired.lineage for desired in own_first)),
            confirmed=self._confirmed,
            others_since=min(running, default=None),
        )
        lineages = [LineageReconciler(desired, ports, rules) for desired in own_first]
        left: dict[LineageReconciler, None] = {}

        def ended(reconciler: LineageReconciler) -> None:
            if reconciler not in left and (
                reconciler.awaits_another or reconciler.report().is_elsewhere
            ):
                left[reconciler] = None
            else:
                ports.progress(LineageEnded(reconciler.desired.lineage))

        ports.progress(Begun(len(lineages)))
        complete = False
        try:
            queue = WorkQueue(lineages, ports.run, ports.now, wait_limit, ended=ended)
            queue.carry_out()
            # The other host may have issued a certificate to install here, or may have died.
            queue.add(left)
            queue.carry_out()
            sweep_ownerless(certificates, ports)
            complete = True
        except (KeyboardInterrupt, errors.Interrupted):
            ports.run.stop()
        self._seen = {each.desired.lineage: each.seen for each in lineages if each.seen is not None}
        ends = {each.desired.lineage: each.report() for each in lineages}
        return reports.SyncReport(tuple(ends[each.lineage] for each in certificates), complete)

    def _in_turn(
        self, certificates: Sequence[DesiredCertificate], others: Sequence[HostRecord]
    ) -> Sequence[DesiredCertificate]:
        """Return the certificates in this host's order, so hosts begin with different lineages."""
        state, now = self.ports.state, self.ports.now()
        if not state.is_shared:
            return certificates
        hosts = {host.name for host in others if host.seen_at and now - host.seen_at <= AWAY}
        renewals = {
            lineage: renew_at(newest.certificate, newest.window)
            for lineage, versions in state.versions_in_use().items()
            for newest in versions[:1]
        }
        by_name = {desired.lineage: desired for desired in certificates}
        return [by_name[name] for name in in_turn([*by_name], state.host, hosts, renewals, now)]
