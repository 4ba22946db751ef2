"""A plan as a person reads it: what would be done and why, what stands in the way, the count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta

from certferry.core.certificates.certificate import short
from certferry.core.observed.observation import Change
from certferry.core.planning.drift import Drifted
from certferry.core.planning.plan import Plan, Weight
from certferry.core.planning.removals import left_to_later_runs
from certferry.core.planning.report import served_by
from certferry.core.planning.rollbacks import RolledBack
from certferry.core.planning.steps import (
    Action,
    Clean,
    Deploy,
    HeldUntil,
    Issue,
    Retire,
    Rollback,
    Step,
    TimedOut,
    Verify,
)
from certferry.core.reasons import Reason, ReasonCode
from certferry.core.waiting import Waiting
from certferry.errors import CertferryError
from certferry.present.language import Voice
from certferry.present.layout import Line, Span, Tone, columns, labelled, line, padded
from certferry.present.vocabulary import (
    HINT,
    at_target,
    copy_at_target,
    in_brackets,
    once,
    one_or_many,
)
from certferry.problem import Problem, Severity
from certferry.text import Text

INDENT = "  "
VERB = 8
"""Cells for the word a line begins with: `issue`, `deploy`, `verify`, `retire`, `blocked`."""

_AGAIN = Text(" (tried again; kept if it is still used)")

_BELOW = len(INDENT) + VERB + 1


def lines(plans: Sequence[Plan], voice: Voice) -> Iterator[Line]:
    """Write plans. What is as declared is only counted."""
    for plan in plans:
        beside = plan.findings or plan.drifts or plan.rolled_back or plan.owned_elsewhere
        if plan.steps or beside or not plan.is_settled:
            yield from _lines(plan, voice)
            yield line()
    yield line(voice.say(_conclusion(plans)))


def _lines(plan: Plan, voice: Voice) -> Iterator[Line]:
    reasons = _reasons(plan)
    headline = voice.say_on_one_line(Text("{reasons}", reasons=reasons))
    yield line(Span(plan.lineage, Tone.STRONG), ": ", headline)
    for step in plan.steps:
        subject = _subject(step, reasons, voice) + _when(step, voice)
        yield line(_verb(voice.word(step.action), Tone.GOOD), subject)
        if isinstance(step, Issue) and step.standing:
            proven = Text(
                "proven by records that stay (dns-persist-01, experimental), without a DNS"
                " account: {names}",
                names=step.standing,
            )
            yield line(" " * _BELOW, voice.say(proven))
        if isinstance(step, Deploy) and step.changes:
            yield from _changes(step.changes, voice)
        yield from _advice(step, voice)
    yield from _held_back(plan, voice)
    for target, count in plan.retire_later:
        verb, more = _verb(voice.word(Action.RETIRE), Tone.GOOD), left_to_later_runs(count)
        yield line(verb, f"{voice.say(at_target(target, None))}: {voice.say(more)}")
    yield from _findings(plan, voice, Weight.REFUSED, Weight.BLOCKED)
    yield from _left(plan, voice)
    for target, lineages in plan.owned_elsewhere:
        words = f"{voice.say(at_target(target, None))}: {voice.say(served_by(lineages))}"
        yield from labelled(_verb(voice.word("skipped"), Tone.PENDING).words, Tone.PENDING, words)
    yield from _findings(plan, voice, Weight.UNREAD, Weight.UNMATCHED, Weight.SKIPPED)


def _findings(plan: Plan, voice: Voice, *weights: Weight) -> Iterator[Line]:
    for weight in weights:
        tone = Tone.BAD if weight.severity is Severity.ERROR else Tone.PENDING
        word = weight.value.replace("_", " ")
        for one in plan.having(weight):
            yield from _trouble(word, one.target, one.domain, one.problem, voice, tone)


def _left(plan: Plan, voice: Voice) -> Iterator[Line]:
    """Tell of domains that are left as they are, although the file alone says otherwise."""
    for drifted in plan.drifts:
        yield from _left_as_found(drifted, voice)
    for back in plan.rolled_back:
        yield from _kept(back, voice)


def _kept(back: RolledBack, voice: Voice) -> Iterator[Line]:
    words = f"{voice.say(at_target(back.target, back.domain))}: {voice.say(back.words)}"
    yield from labelled(_verb(voice.word("kept"), Tone.PENDING).words, Tone.PENDING, words)


def _held_back(plan: Plan, voice: Voice) -> Iterator[Line]:
    match plan.issue:
        case Issue(due=HeldUntil(error=CertferryError() as error)):
            problem = Problem(error.code, error.message, error.hint)
            yield from _trouble("waiting", None, None, problem, voice, Tone.PENDING)


def _left_as_found(drifted: Drifted, voice: Voice) -> Iterator[Line]:
    policy = Text('left as it is (drift = "{policy}")', policy=drifted.policy.value)
    subject = f"{voice.say(at_target(drifted.target, drifted.domain))}: {voice.say(policy)}"
    yield line(_verb(voice.word("drifted"), Tone.PENDING), subject)
    yield from _changes(drifted.changes, voice)


def _reasons(plan: Plan) -> list[Text]:
    """Say why: the reason to issue, or else every reason there is, once; where domains have
    different ones, each step says its own.
    """
    issue = plan.issue_now or plan.issue_later
    if issue is not None:
        return [issue.reason.message]
    firsts = [rollout.steps[0].reason.message for rollout in plan.rollouts]
    reasons = firsts or [step.reason.message for step in plan.steps]
    if not reasons and plan.is_settled:
        if plan.drifts:
            return [Text("changed outside certferry, and left like that")]
        if plan.rolled_back:
            return [Text("as declared, but for what was rolled back")]
        if plan.owned_elsewhere and not plan.unchanged:
            return [Text("not needed")]
        unread = Text("as declared, as far as it could be read")
        return [unread if plan.having(Weight.UNREAD) else Text("as declared")]
    if len(dict.fromkeys(firsts)) > 1:
        # A list of them would not say which domain has which.
        return [Text("not as declared, for the reasons below")]
    return list(dict.fromkeys(reasons)) or [Text("cannot be done as configured")]


def _verb(word: str, tone: Tone) -> Span:
    return Span(f"{INDENT}{padded(word, VERB)} ", tone)


def _subject(step: Step, told_reasons: Sequence[Text], voice: Voice) -> str:
    match step:
        case Issue():
            return voice.say(Text("{names}", names=step.names)) + _at(step, voice)
        case Deploy():
            where = voice.say(at_target(step.target, step.domain)) + in_brackets(step.kind)
            return where + _why(step.reason, told_reasons, voice)
        case Rollback():
            where = step.domain + in_brackets(step.kind)
            return where + _why(step.reason, told_reasons, voice)
        case Verify():
            return step.domain + in_brackets(step.kind)
        case Clean():
            return voice.say(step.reason.message)
        case Retire():
            copy = voice.say(_copy(step))
            return copy + voice.say(_AGAIN) if step.again else copy


def _at(step: Issue, voice: Voice) -> str:
    """Say where it is ordered, where that is not the usual CA alone."""
    if len(step.authorities) < 2:  # noqa: PLR2004 - more than one
        return ""
    first, *others = (authority.name for authority in step.authorities)
    return voice.say_on_one_line(
        Text(" (at {ca}; if that fails, at {others})", ca=first, others=others)
    )


def _when(step: Step, voice: Voice) -> str:
    """Say what keeps a step waiting, or why it is not carried out again in vain."""
    match getattr(step, "due", None):
        case Waiting(why=why):
            return voice.say_on_one_line(Text(" (waiting: {why})", why=why))
        case TimedOut(error):
            return voice.say_on_one_line(Text(" (waited too long: {why})", why=error.message))
        case _:
            return ""


def _advice(step: Step, voice: Voice) -> Iterator[Line]:
    """Say what to do about a step that was waited for in vain."""
    match getattr(step, "due", None):
        case TimedOut(CertferryError(hint=Text() as hint)):
            yield from labelled(voice.say(HINT), Tone.FAINT, voice.say(hint), _BELOW)


def _copy(step: Retire) -> Text:
    """Name what goes; of what is not ours, what it needs to be found in the target's console."""
    if not step.unmanaged:
        return copy_at_target(step.label, step.target)
    label, place, remote_id = step.label or "—", step.target, short(step.remote_id)
    if step.left is None:
        return Text("{label} at {target} ({id})", label=label, target=place, id=remote_id)
    if step.left < timedelta(0):
        return Text("{label} at {target} ({id}, expired)", label=label, target=place, id=remote_id)
    return Text(
        "{label} at {target} ({id}, {left} left)",
        label=label,
        target=place,
        id=remote_id,
        left=step.left,
    )


def _why(reason: Reason, told_reasons: Sequence[Text], voice: Voice) -> str:
    """Give the reason of a deployment where the headline has not said it."""
    if reason.code is ReasonCode.NEW_CERTIFICATE or reason.message in told_reasons:
        return ""
    return voice.say_on_one_line(Text(" ({why})", why=reason.message))


def _changes(changes: Sequence[Change], voice: Voice) -> list[Line]:
    rows = [
        (
            Span(voice.word(change.what), Tone.FAINT),
            Span(f"{voice.word(change.was)} → {voice.word(change.becomes)}"),
        )
        for change in changes
    ]
    return columns(rows, " " * _BELOW)


def _trouble(
    verb: str,
    target: str | None,
    domain: str | None,
    problem: Problem,
    voice: Voice,
    tone: Tone,
) -> Iterator[Line]:
    words = voice.say(problem.message)
    if target is not None:
        words = f"{voice.say(at_target(target, domain))}: {once(domain or target, words)}"
    yield from labelled(_verb(voice.word(verb), tone).words, tone, words)
    if problem.hint is not None:
        yield from labelled(voice.say(HINT), Tone.FAINT, voice.say(problem.hint), _BELOW)


def _conclusion(plans: Sequence[Plan]) -> Text:
    if not plans:
        return Text("No certificate is declared.")
    if all(map(_is_as_declared, plans)):
        return one_or_many(
            len(plans),
            Text("Nothing to do: 1 certificate is as declared."),
            Text("Nothing to do: {count} certificates are as declared.", count=len(plans)),
        )
    counts = _counts(plans)
    if all(_is_nothing_to_run(plan) for plan in plans):
        return Text("{counts}. Nothing was changed.", counts=counts)
    if any(plan.having(Weight.BLOCKED) for plan in plans):
        return Text("{counts}. Nothing was changed; see to what is blocked first.", counts=counts)
    return Text("{counts}. Nothing was changed; run `certferry sync`.", counts=counts)


def _is_as_declared(plan: Plan) -> bool:
    return plan.is_settled and not (plan.steps or plan.drifts or plan.rolled_back)


def _is_nothing_to_run(plan: Plan) -> bool:
    """Tell whether a run would change nothing; a stuck domain keeps its account's old copies."""
    stuck = {step for rollout in plan.timed_out for step in rollout.steps}
    accounts = {rollout.target for rollout in plan.timed_out}
    kept = {step for step in plan.retirements if step.target in accounts}
    return not set(plan.pending) - stuck - kept


def _counts(plans: Sequence[Plan]) -> list[Text]:
    """Count what would be done. A look that follows a deployment goes with it."""
    stuck = sum(len(plan.timed_out) for plan in plans)
    rollouts = [one for plan in plans for one in plan.rollouts if one not in plan.timed_out]
    issuing = (plan.issue_now for plan in plans)
    versions = Counter(step.action for step in issuing if step is not None)
    issues, adoptions = versions[Action.ISSUE], versions[Action.ADOPT]
    deployments = sum(rollout.deploy is not None for rollout in rollouts)
    looks = len(rollouts) - deployments
    retirements = sum(isinstance(step, Retire) for plan in plans for step in plan.pending)
    again = sum(step.again for plan in plans for step in plan.retirements)
    held = sum(plan.issue_later is not None for plan in plans)
    refused = sum(len(plan.having(Weight.REFUSED)) for plan in plans)
    blocked = sum(len(plan.having(Weight.BLOCKED)) for plan in plans)
    left = sum(len(plan.drifts) for plan in plans)
    back = sum(len(plan.rolled_back) for plan in plans)
    counted = (
        (
            issues,
            Text("1 certificate to issue"),
            Text("{count} certificates to issue", count=issues),
        ),
        (
            adoptions,
            Text("1 certificate to adopt"),
            Text("{count} certificates to adopt", count=adoptions),
        ),
        (
            held,
            Text("1 certificate to issue later"),
            Text("{count} certificates to issue later", count=held),
        ),
        (deployments, Text("1 deployment"), Text("{count} deployments", count=deployments)),
        (looks, Text("1 domain to verify"), Text("{count} domains to verify", count=looks)),
        (retirements, Text("1 to retire"), Text("{count} to retire", count=retirements)),
        (again, Text("1 to try again"), Text("{count} to try again", count=again)),
        (left, Text("1 left as found"), Text("{count} left as found", count=left)),
        (back, Text("1 rolled back"), Text("{count} rolled back", count=back)),
        (refused, Text("1 refused"), Text("{count} refused", count=refused)),
        (stuck, Text("1 stuck"), Text("{count} stuck", count=stuck)),
        (blocked, Text("1 blocked"), Text("{count} blocked", count=blocked)),
    )
    return [one_or_many(count, one, many) for count, one, many in counted if count]
