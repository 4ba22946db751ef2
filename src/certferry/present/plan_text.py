"""Render plans for a person: the steps with their reasons, the findings, and the counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta

from msgspec import Struct

from certferry.core.certificates.certificate import short
from certferry.core.observed.observation import Change
from certferry.core.planning import plan as planned
from certferry.core.planning.removals import left_to_later_runs
from certferry.core.planning.report import served_by
from certferry.core.reasons import Reason, ReasonCode, Waiting
from certferry.errors import CertferryError, Severity
from certferry.present.language import Voice, at_target, in_brackets, once, one_or_many
from certferry.present.layout import Line, Span, Tone, columns, labelled, line, padded
from certferry.text import Text
from certferry.values import replace

INDENT = "  "
VERB = 8
"""The width, in cells, of the column for the first word of a line, such as `issue` or `blocked`."""

_AGAIN = Text(" (tried again; kept if still in use)")

_BELOW = len(INDENT) + VERB + 1


def lines(plans: Sequence[planned.Plan], voice: Voice, digest: str | None = None) -> Iterator[Line]:
    """Write plans, and a conclusion with the counts. Plans with nothing to show are only counted.

    With `digest`, also write the command that carries out exactly these plans, unless a run would
    change nothing.
    """
    for plan in plans:
        if not is_only_counted(plan):
            yield line(Span(plan.lineage, Tone.STRONG), ": ", headline(plan, voice))
            for entry in entries(plan, voice):
                yield from _entry_lines(entry, voice)
            yield line()
    if digest is not None and not all(map(is_nothing_to_run, plans)):
        message = Text("Exactly this plan: certferry sync --plan {digest}", digest=digest)
        yield line(voice.say(message))
    yield line(voice.say(conclusion(plans)))


def is_only_counted(plan: planned.Plan) -> bool:
    """Return whether a plan is only counted, because it has no steps, findings or remarks."""
    beside = plan.findings or plan.drifts or plan.rolled_back or plan.owned_elsewhere
    return plan.is_settled and not (plan.steps or beside)


def headline(plan: planned.Plan, voice: Voice) -> str:
    """Return the reasons for a plan's steps on one line. For a plan without steps, say how the
    certificate stands.
    """
    return voice.say_on_one_line(Text("{reasons}", reasons=_reasons(plan)))


class PlanEntry(Struct, frozen=True):
    """A line of a plan, with details below."""

    #: The line's first word, untranslated: an action, an outcome or a kind of finding.
    word: str
    #: The rest of the line.
    said: str
    #: The tone of the first word.
    tone: Tone = Tone.PENDING
    #: The settings that change, for lines below.
    changes: Sequence[Change] = ()
    #: The hint, for a line below.
    hint: Text | None = None
    #: A line below: the names that permanent records prove.
    below: Text | None = None


def entries(plan: planned.Plan, voice: Voice) -> Iterator[PlanEntry]:
    """Yield the lines of a plan: the steps, the findings, and everything that differs from the
    declaration and that a run leaves unchanged.
    """
    reasons = _reasons(plan)
    for step in plan.steps:
        yield _step(step, reasons, voice)
    match plan.issue:
        case planned.Issue(when=planned.HeldUntil(error=CertferryError() as error)):
            yield _entry("waiting", None, error.message, voice, hint=error.hint)
    for target, count in plan.retire_later:
        where, later = at_target(target), left_to_later_runs(count)
        yield _entry(planned.Action.RETIRE, where, later, voice, Tone.GOOD)
    yield from _findings(plan, voice, planned.Weight.REFUSED, planned.Weight.BLOCKED)
    # Changes by other tools, left in place by the policy `drift`.
    for drifted in plan.drifts:
        policy = Text('left unchanged (drift = "{policy}")', policy=drifted.policy.value)
        entry = _entry("drifted", at_target(drifted.target, drifted.domain), policy, voice)
        yield replace(entry, changes=drifted.changes)
    for back in plan.rolled_back:
        yield _entry("kept", at_target(back.target, back.domain), back.words, voice)
    for target, lineages in plan.owned_elsewhere:
        yield _entry("skipped", at_target(target), served_by(lineages), voice)
    yield from _findings(
        plan, voice, planned.Weight.UNREAD, planned.Weight.UNMATCHED, planned.Weight.SKIPPED
    )


def _step(step: planned.Step, reasons: Sequence[Text], voice: Voice) -> PlanEntry:
    when, why, hint, below = getattr(step, "when", None), None, None, None
    match when:
        case Waiting():
            why = Text(" (waiting: {why})", why=when.why)
        case planned.TimedOut(error):
            why, hint = Text(" (waited too long: {why})", why=error.message), error.hint
    subject = _subject(step, reasons, voice) + (voice.say_on_one_line(why) if why else "")
    if isinstance(step, planned.Issue) and step.standing:
        below = Text(
            "proven by permanent records (dns-persist-01, experimental), without a DNS account:"
            " {names}",
            names=step.standing,
        )
    changes = step.changes if isinstance(step, planned.Deploy) else ()
    return PlanEntry(step.action, subject, Tone.GOOD, changes, hint, below)


def _findings(plan: planned.Plan, voice: Voice, *weights: planned.Weight) -> Iterator[PlanEntry]:
    for weight in weights:
        tone = Tone.BAD if weight.severity is Severity.ERROR else Tone.PENDING
        for finding in plan.having(weight):
            where = None if finding.target is None else at_target(finding.target, finding.domain)
            message = once(finding.domain or finding.target, voice.say(finding.problem.message))
            word, hint = weight.value.replace("_", " "), finding.problem.hint
            yield _entry(word, where, message, voice, tone, hint=hint)


def _entry(
    word: str,
    where: Text | None,
    message: Text | str,
    voice: Voice,
    tone: Tone = Tone.PENDING,
    *,
    hint: Text | None = None,
) -> PlanEntry:
    """Return an entry whose line begins with `where`, if given: a target, or a domain there."""
    words = message if isinstance(message, str) else voice.say(message)
    words = words if where is None else f"{voice.say(where)}: {words}"
    return PlanEntry(word, words, tone, hint=hint)


def _entry_lines(entry: PlanEntry, voice: Voice) -> Iterator[Line]:
    verb = f"{INDENT}{padded(voice.word(entry.word), VERB)} "
    yield from labelled(verb, entry.tone, entry.said)
    if entry.below is not None:
        yield line(" " * _BELOW, voice.say(entry.below))
    yield from _changes(entry.changes, voice) if entry.changes else ()
    yield from voice.hint(entry.hint, _BELOW)


def _reasons(plan: planned.Plan) -> list[Text]:
    """Return the reasons for a plan's steps. If the certificate is issued, return the reason for
    this alone. Else return the reasons of the rollouts, or of the other steps if there are no
    rollouts.

    If rollouts have different reasons, return one sentence that refers to the reasons below. For a
    plan without steps, say how the certificate stands.
    """
    issue = plan.issue_now or plan.issue_later
    if issue is not None:
        return [issue.reason.message]
    firsts = [rollout.steps[0].reason.message for rollout in plan.rollouts]
    reasons = firsts or [step.reason.message for step in plan.steps]
    if not reasons and plan.is_settled:
        if plan.is_outdated:
            return [Text("left to a host with a newer declaration")]
        if plan.drifts:
            return [Text("changed outside certferry, and left unchanged")]
        if plan.rolled_back:
            return [Text("as declared, except the rolled-back domains")]
        if plan.owned_elsewhere and not plan.unchanged:
            return [Text("not needed")]
        unread = Text("as declared, as far as readable")
        return [unread if plan.having(planned.Weight.UNREAD) else Text("as declared")]
    if len(dict.fromkeys(firsts)) > 1:
        # A list of the reasons would not show which reason belongs to which domain.
        return [Text("not as declared, for the reasons below")]
    return list(dict.fromkeys(reasons)) or [Text("cannot be done as configured")]


def _subject(step: planned.Step, reasons: Sequence[Text], voice: Voice) -> str:
    match step:
        # If the order may go to several CAs, name the CAs.
        case planned.Issue(authorities=[first, *others]) if others:
            names, ca = voice.say(Text("{names}", names=step.names)), first.name
            message = Text(" (at {ca}; if that fails, at {others})")
            message = message.filled(ca=ca, others=[other.name for other in others])
            return names + voice.say_on_one_line(message)
        case planned.Issue():
            return voice.say(Text("{names}", names=step.names))
        case planned.Deploy():
            where = voice.say(at_target(step.target, step.domain)) + in_brackets(step.kind)
            return where + _why(step.reason, reasons, voice)
        case planned.Rollback():
            where = step.domain + in_brackets(step.kind)
            return where + _why(step.reason, reasons, voice)
        case planned.Verify():
            return step.domain + in_brackets(step.kind)
        case planned.Clean():
            return voice.say(step.reason.message)
        case planned.Retire():
            copy = voice.say(_copy(step))
            return copy + voice.say(_AGAIN) if step.again else copy


def copy_at(label: str | None, target: str | None) -> Text:
    """Name a target's copy of a certificate."""
    return Text("{label} at {target}", label=label, target=target)


def _copy(step: planned.Retire) -> Text:
    """Name the copy to remove. For a copy that certferry does not manage, add in brackets the id in
    the target's console, and the time that the copy is still valid.
    """
    if not step.unmanaged:
        return copy_at(step.label, step.target)
    message = Text("{label} at {target} ({id}, {left} left)")
    if step.left is None:
        message = Text("{label} at {target} ({id})")
    elif step.left < timedelta(0):
        message = Text("{label} at {target} ({id}, expired)")
    label, remote_id = step.label or "—", short(step.remote_id)
    return message.filled(label=label, target=step.target, id=remote_id, left=step.left)


def _why(reason: Reason, reasons: Sequence[Text], voice: Voice) -> str:
    """Return the reason of a step in brackets, after a space. Return "" if the plan's headline has
    the reason, or if the reason is the new certificate.
    """
    if reason.code is ReasonCode.NEW_CERTIFICATE or reason.message in reasons:
        return ""
    return voice.say_on_one_line(Text(" ({why})", why=reason.message))


def _changes(changes: Sequence[Change], voice: Voice) -> list[Line]:
    rows = [
        (
            Span(voice.word(change.setting), Tone.FAINT),
            Span(f"{voice.word(change.was)} → {voice.word(change.becomes)}"),
        )
        for change in changes
    ]
    return columns(rows, " " * _BELOW)


def conclusion(plans: Sequence[planned.Plan]) -> Text:
    """Return a sentence with the counts of changes, and with the next command if there is one to
    run.
    """
    if not plans:
        return Text("No certificate is declared; `certferry add DOMAIN` declares one.")
    if all(map(_is_as_declared, plans)):
        return counted(plans)
    counts = _counts(plans)
    if all(is_nothing_to_run(plan) for plan in plans):
        return Text("{counts}. Nothing was changed.", counts=counts)
    if any(plan.having(planned.Weight.BLOCKED) for plan in plans):
        return Text(
            "{counts}. Nothing was changed; first resolve the blocked steps.", counts=counts
        )
    return Text("{counts}. Nothing was changed; run `certferry sync`.", counts=counts)


def counted(plans: Sequence[planned.Plan]) -> Text:
    """Return the counts of changes as a sentence."""
    if not plans:
        return Text("No certificate is declared.")
    if all(map(_is_as_declared, plans)):
        return one_or_many(
            len(plans),
            Text("Nothing to do: 1 certificate is as declared."),
            Text("Nothing to do: {count} certificates are as declared."),
        )
    return Text("{counts}.", counts=_counts(plans))


def _is_as_declared(plan: planned.Plan) -> bool:
    others = plan.drifts or plan.rolled_back or plan.is_outdated
    return plan.is_settled and not (plan.steps or others)


def is_nothing_to_run(plan: planned.Plan) -> bool:
    """Return whether a run would change nothing. Stuck rollouts (`Plan.timed_out`) do not count,
    because a run only reports them. Removals from an account with a stuck rollout do not count,
    because a run keeps the old copies there.
    """
    stuck = {step for rollout in plan.timed_out for step in rollout.steps}
    accounts = {rollout.target for rollout in plan.timed_out}
    kept = {step for step in plan.retirements if step.target in accounts}
    return not set(plan.pending) - stuck - kept


def _counts(plans: Sequence[planned.Plan]) -> list[Text]:
    """Return a count with words for each kind of change or finding that occurs. The Deploy and the
    Verify of one domain count as one deployment.
    """
    rollouts = [
        rollout for plan in plans for rollout in plan.rollouts if rollout not in plan.timed_out
    ]
    orders = [plan.issue_now.action for plan in plans if plan.issue_now is not None]
    issues, adoptions = orders.count(planned.Action.ISSUE), orders.count(planned.Action.ADOPT)
    later = sum(plan.issue_later is not None for plan in plans)
    deployments = sum(rollout.deploy is not None for rollout in rollouts)
    looks = len(rollouts) - deployments
    retirements = sum(isinstance(step, planned.Retire) for plan in plans for step in plan.pending)
    again = sum(step.again for plan in plans for step in plan.retirements)
    left = sum(len(plan.drifts) for plan in plans)
    back = sum(len(plan.rolled_back) for plan in plans)
    outdated = sum(plan.is_outdated and plan.is_settled for plan in plans)
    refused = sum(len(plan.having(planned.Weight.REFUSED)) for plan in plans)
    stuck = sum(len(plan.timed_out) for plan in plans)
    blocked = sum(len(plan.having(planned.Weight.BLOCKED)) for plan in plans)
    counted = (
        (issues, Text("1 certificate to issue"), Text("{count} certificates to issue")),
        (adoptions, Text("1 certificate to import"), Text("{count} certificates to import")),
        (later, Text("1 certificate to issue later"), Text("{count} certificates to issue later")),
        (deployments, Text("1 deployment"), Text("{count} deployments")),
        (looks, Text("1 domain to verify"), Text("{count} domains to verify")),
        (retirements, Text("1 to retire"), Text("{count} to retire")),
        (again, Text("1 to try again"), Text("{count} to try again")),
        (left, Text("1 left unchanged"), Text("{count} left unchanged")),
        (back, Text("1 rolled back"), Text("{count} rolled back")),
        (outdated, Text("1 left to another host"), Text("{count} left to other hosts")),
        (refused, Text("1 refused"), Text("{count} refused")),
        (stuck, Text("1 stuck"), Text("{count} stuck")),
        (blocked, Text("1 blocked"), Text("{count} blocked")),
    )
    return [one_or_many(count, rollout, plural) for count, rollout, plural in counted if count]
