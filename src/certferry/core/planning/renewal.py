"""Every reason to order a certificate, and every hold: a rule that holds an order back.

`REASONS` and `HOLDS` have all rules, in the order of application. `plan_issue` applies the reasons
and some holds. Operators read the list in docs/explanation/when-it-renews.md; a test compares the
page with the code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from msgspec import Struct

from certferry.core.certificates.certificate import (
    RenewalWindow,
    has_names,
    is_overdue,
    plausible_window,
    renew_at,
)
from certferry.core.certificates.lineage import Version
from certferry.core.desired.certificate import DesiredCertificate
from certferry.core.observed.observation import Observation
from certferry.core.planning.limits import authorities_now, paused_until, rejection_pause
from certferry.core.planning.plan import Action, HeldUntil, Issue, TriedInThisRun
from certferry.core.planning.rollbacks import renewals_after_rollback
from certferry.core.planning.timing import Times
from certferry.core.reasons import Reason, ReasonCode
from certferry.core.redaction import quoted
from certferry.text import Text


class Issuing(StrEnum):
    """Whether a run may order a certificate: for a reason, in any case, or not at all."""

    IF_DUE = "if-due"
    ALWAYS = "always"  # `--renew`
    NEVER = "never"


class _Case(Struct, frozen=True):
    """The facts on which a reason depends."""

    desired: DesiredCertificate  #: The declaration.
    observed: Observation  #: The observation.
    now: datetime  #: The moment.

    @property
    def version(self) -> Version:
        """The version in force. Raises `LookupError` before the first certificate."""
        if self.observed.current is None:
            raise LookupError(self.desired.lineage)
        return self.observed.current


_Rule = Callable[[_Case], Reason | None]

# --- The reasons to order. Each function has the name of the reason's code.
#     The docstring says when the reason applies.


def missing(case: _Case) -> Reason | None:
    """The lineage has no certificate yet."""
    if case.observed.current is not None:
        return None
    return Reason(ReasonCode.MISSING, Text("there is no certificate yet"))


def revoked(case: _Case) -> Reason | None:
    """The certificate was revoked, or a revocation was begun."""
    revocation = case.version.revocation
    return None if revocation is None else revocation.why


def names_changed(case: _Case) -> Reason | None:
    """The file declares other names than the certificate has, apart from `www.` added by a CA."""
    had, wanted = case.version.certificate.names, case.desired.names
    if has_names(had, wanted):
        return None
    sentence = Text("the certificate is for {had}; declared: {wanted}", had=had, wanted=wanted)
    return Reason(ReasonCode.NAMES_CHANGED, sentence)


def key_type_changed(case: _Case) -> Reason | None:
    """The file declares another type of key than the certificate has."""
    had, wanted = case.version.certificate.key_type, case.desired.key_type
    if had == wanted:
        return None
    sentence = Text("the key is {had}; declared: {wanted}", had=had, wanted=wanted.value)
    return Reason(ReasonCode.KEY_TYPE_CHANGED, sentence)


def ordered(case: _Case) -> Reason | None:
    """An earlier order for the certificate as declared, also of a killed `--renew`, is open at the
    CA.
    """
    order = case.observed.remembered.ordered
    if order is None or not order.is_for(case.desired) or case.now >= order.at + ORDER_LIFETIME:
        return None
    sentence = Text("ordered at {moment}; the CA has not issued it yet", moment=order.at)
    return Reason(ReasonCode.ORDERED, sentence)


def issuer_expired(case: _Case) -> Reason | None:
    """The certificate that signed the leaf has expired, so clients refuse the chain."""
    return expired_issuer(case.version, case.now)


def renewal_due(case: _Case) -> Reason | None:
    """The moment in the CA's renewal window has come. Without a plausible window, a third of the
    life is left (half, if the life is shorter than ten days).
    """
    version, now = case.version, case.now
    if now < due_at(version, next(iter(case.observed.versions[1:]), None)):
        return None
    current, window = version.certificate, plausible_window(version.certificate, version.window)
    if window is not None:
        return Reason(ReasonCode.RENEWAL_DUE, window_in_words(window))
    sentence = Text("renewal due ({left} left of {lifetime})").filled(
        left=current.remaining(now), lifetime=current.lifetime
    )
    return Reason(ReasonCode.RENEWAL_DUE, sentence)


def upload_deadline_passed(case: _Case) -> Reason | None:
    """A target without a copy would refuse an upload now, because the certificate expires too soon,
    and would accept a new certificate with the same lifetime.
    """
    current = case.version.certificate
    left = current.remaining(case.now)
    for target in case.observed.targets:
        wanted = target.rules.min_remaining
        is_missing = bool(target.domains) and target.remote_of(current.fingerprint) is None
        if is_missing and left < wanted <= current.lifetime:
            sentence = Text(
                "not uploaded yet, with {left} left; the target requires {wanted}"
            ).filled(left=left, wanted=wanted)
            return Reason(ReasonCode.UPLOAD_DEADLINE_PASSED, sentence)
    return None


def rolled_back(case: _Case) -> Reason | None:
    """A domain went back to an earlier certificate, and needs a new certificate now."""
    for domain, moment in renewals_after_rollback(case.observed, case.version, case.now):
        if case.now >= moment:
            sentence = Text(
                "{domain} went back to the previous certificate, which must be renewed",
                domain=domain,
            )
            return Reason(ReasonCode.ROLLED_BACK, sentence)
    return None


def requested(case: _Case) -> Reason | None:
    """An operator asked for a new certificate (`--renew`)."""
    del case
    return Reason(ReasonCode.REQUESTED, Text("renewal requested by an operator"))


def files_changed(case: _Case) -> Reason | None:
    """Another client's files hold a certificate, or issuers, that certferry has not adopted yet."""
    desired, current, offered = case.desired, case.observed.current, case.desired.offered
    if offered is None or desired.files is None:
        return None
    path = desired.files.fullchain
    if current is None or current.fingerprint != offered.fingerprint:
        unknown = Text("{path} contains a new certificate", path=path)
        return Reason(ReasonCode.FILES_CHANGED, unknown)
    if current.fullchain_digest in {None, desired.offered_fullchain}:
        return None
    other = Text("{path} holds other issuer certificates for the same leaf", path=path)
    return Reason(ReasonCode.FILES_CHANGED, other)


AT_ONCE: tuple[_Rule, ...] = (missing, revoked, names_changed, key_type_changed, ordered)
IN_TIME: tuple[_Rule, ...] = (issuer_expired, renewal_due, upload_deadline_passed, rolled_back)
"""The reasons that `just_issued` holds back."""

REASONS: tuple[_Rule, ...] = (*AT_ONCE, *IN_TIME, requested, files_changed)
"""Every reason, in the order of application. `files_changed` is the only reason to adopt."""

# --- The holds: everything that holds an order back


class Rule(NamedTuple):
    """A rule that holds an order back."""

    code: str  #: The hold's word in docs/explanation/when-it-renews.md.
    place: str  #: The function that decides, in this module or by the path below `certferry`.


HOLDS = (
    # Another run is at work on the certificate: two runs would order twice.
    Rule("lease_held", "reconcile.run.held_lease"),
    # Another host's file declares the certificate otherwise, and is newer.
    Rule("declaration_outdated", "reconcile.reconciler.plan_outdated"),
    # The certificate is younger than an hour. So a wrong clock, CA or target causes one order an
    # hour, not one in every run.
    Rule("just_issued", "just_issued"),
    # The certificate came after the end of its predecessor's window. If a CA names only past
    # windows, the CA gets one order a day.
    Rule("window_passed", "window_passed"),
    # The CA issued another certificate than ordered, and counts the order, so runs pause for a day.
    Rule("certificate_rejected", "core.planning.limits.rejection_pause"),
    # The order failed since this run began: repeating the order at once would not help.
    Rule("tried_in_this_run", "_when"),
    # The order failed in an earlier run: scheduled runs pause for 1, 10, 100 minutes, then a day.
    Rule("paused", "core.planning.limits.paused_until"),
    # No target or receiver could take the certificate: each is unreadable, refused by safety, or
    # served by another lineage.
    Rule("no_place", "reconcile.reconciler.plan_lineage"),
    # The CA asked to wait (Retry-After), for these names or for all.
    Rule("ca_hold", "core.planning.limits.Hold"),
    # The CA would refuse the order, by the limits known of the CA and by earlier orders.
    Rule("rate_limits", "core.planning.limits.rate_limit_hold"),
    # An operator confirmed a plan without the order (`--plan`).
    Rule("plan_changed", "core.planning.digest.only_confirmed"),
    # The DNS account refuses the keys or lacks the zone, so the CA could not verify the names.
    Rule("not_provable", "ports.issuer.Issuer.must_be_provable"),
    # The machine's clock is so far behind the CA's that a new certificate would look not yet valid.
    Rule("clock_behind", "core.network.must_not_be_behind"),
    # The CA has none of the declared profiles.
    Rule("no_profile", "adapters.acme.order.Ordering._profile"),
    # CAA records forbid the CA to issue for a name.
    Rule("caa_forbids", "adapters.acme.issuer.AcmeIssuer._must_be_allowed"),
)
"""Every hold, in the order of application."""

ORDER_LIFETIME = timedelta(days=7)
"""How long an order stays open at Let's Encrypt."""

LEAST_GAP = timedelta(hours=1)  # see `just_issued`
BACKDATED = timedelta(days=2)
"""How long before the issuance a certificate's validity may begin: an hour at Let's Encrypt, the
last midnight at other CAs. A certificate whose validity began earlier was adopted.
"""


def just_issued(version: Version, now: datetime) -> bool:
    """Return whether the certificate was issued and stored within the last `LEAST_GAP`."""
    was_new = version.saved_at - version.certificate.not_before <= BACKDATED
    return was_new and version.saved_at <= now < version.saved_at + LEAST_GAP


GAP = timedelta(days=1)
"""The least time between two orders under `window_passed`. Without the limit, a CA that always
names past windows would get an order in every run.
"""


def window_passed(version: Version, before: Version | None) -> bool:
    """Return whether a version came after the end of the window of the version `before`."""
    window = None if before is None else plausible_window(before.certificate, before.window)
    return window is not None and window.end <= version.saved_at


def due_at(version: Version, before: Version | None) -> datetime:
    """Return when the version in force is due; `before` is the version before."""
    moment = renew_at(version.certificate, version.window)
    if not window_passed(version, before):
        return moment
    return max(moment, min(version.saved_at + GAP, renew_at(version.certificate)))


# --- The decision


def why_order(desired: DesiredCertificate, observed: Observation, now: datetime) -> Reason | None:
    """Return the first reason to order or adopt a certificate, or `None`."""
    case = _Case(desired, observed, now)
    if desired.files is not None:
        return files_changed(case)
    reason = _first(AT_ONCE, case)
    if reason is not None or just_issued(case.version, now):
        return reason
    return _first(IN_TIME, case)


def _first(rules: Sequence[_Rule], case: _Case) -> Reason | None:
    return next(filter(None, (rule(case) for rule in rules)), None)


def plan_issue(
    desired: DesiredCertificate, observed: Observation, times: Times, issuing: Issuing
) -> Issue | None:
    """Return the order or adoption, now or later (`Issue.when`).

    Return `None` without a reason, in the pause after a rejected certificate (unless the operator
    asked for a certificate), and if a certificate has come since this run began and tried.
    """
    reason = None if issuing is Issuing.NEVER else _why(desired, observed, times.now, issuing)
    if reason is None:
        return None
    when, current = _when(observed, times, issuing), observed.current
    has_come = current is not None and times.in_this_run(current.saved_at)
    if isinstance(when, TriedInThisRun) and has_come:
        return None
    action = Action.ISSUE if desired.files is None else Action.ADOPT
    authorities = desired.issuance.authorities
    if len(authorities) > 1:
        authorities = authorities_now(authorities, observed, times.now)
    return Issue(desired.names, desired.key_type, reason, action, when, authorities)


def _why(
    desired: DesiredCertificate, observed: Observation, now: datetime, issuing: Issuing
) -> Reason | None:
    reason = why_order(desired, observed, now)
    if desired.files is not None:
        return reason
    if issuing is Issuing.ALWAYS:
        return reason or requested(_Case(desired, observed, now))
    rejected_at = observed.remembered.rejected_at
    is_paused = rejected_at is not None and rejection_pause(rejected_at, now) is not None
    return None if is_paused else reason


def _when(
    observed: Observation, times: Times, issuing: Issuing
) -> TriedInThisRun | HeldUntil | None:
    """Return `None` to order now, or why the order does not come now."""
    tried_at = observed.remembered.issue_tried_at
    if tried_at is not None and times.in_this_run(tried_at):
        return TriedInThisRun(tried_at)
    if not times.keeps_pauses or issuing is not Issuing.IF_DUE:
        return None
    until = paused_until(tried_at, observed.remembered.issue_tries, times.now, times.longest_pause)
    return None if until is None else HeldUntil(until)


# --- In words, and for certificates that another client renews


def window_in_words(window: RenewalWindow) -> Text:
    """Return the sentence on a CA's renewal window, with the URL of the CA's explanation, if
    any.
    """
    sentence = Text(
        "the CA asks for renewal between {start} and {end}", start=window.start, end=window.end
    )
    if window.page is None:
        return sentence
    return Text("{said}: {page}", said=sentence, page=quoted(window.page))


def expired_issuer(version: Version, now: datetime) -> Reason | None:
    """Return the reason if the issuer has expired, so clients refuse the chain; else `None`."""
    if version.issuer_not_after is None or not version.has_expired_issuer(now):
        return None
    sentence = Text("{issuer}, which signed the certificate, expired at {moment}").filled(
        issuer=quoted(version.certificate.issuer), moment=version.issuer_not_after
    )
    return Reason(ReasonCode.ISSUER_EXPIRED, sentence)


def overdue(desired: DesiredCertificate, observed: Observation, now: datetime) -> Reason | None:
    """Return a reason if the certificate comes from the files of another ACME client, and is
    overdue for renewal there or has an expired issuer. Reports show the reason; the reason orders
    nothing. Return `None` if other lineages serve all domains of the lineage.
    """
    current = observed.current
    if desired.files is None or current is None or observed.is_owned_elsewhere:
        return None
    path, end = desired.files.fullchain, current.certificate.not_after
    unsigned = expired_issuer(current, now)
    if unsigned is not None:
        message = Text("{path}: {problem}", path=path, problem=unsigned.message)
        return Reason(unsigned.code, message)
    if not is_overdue(current.certificate, now):
        return None
    if end <= now:
        message = Text("{path}: not renewed, and expired at {moment}", path=path, moment=end)
    else:
        message = Text("{path}: not renewed yet, and expires at {moment}", path=path, moment=end)
    return Reason(ReasonCode.OVERDUE, message)
