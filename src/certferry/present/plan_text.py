"""A plan as a person reads it: what would be done and why, what stands in the way, the count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta

from certferry.core.certificates.certificate import short
from certferry.core.observed.observation import Change
from certferry.core.planning.drift import Drifted
from certferry.core.planning.outcomes import served_by
from certferry.core.planning.plan import Plan
from certferry.core.planning.removals import left_to_later_runs
from certferry.core.planning.rollbacks import RolledBack
from certferry.core.planning.steps import (
    Action,
    Blocked,
    Clean,
    Deploy,
    Issue,
    Retire,
    Rollback,
    Step,
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
from certferry.text import Text

INDENT = "  "
VERB = 8
"""Cells for the word a line begins with: `issue`, `deploy`, `verify`, `retire`, `blocked`."""

_AGAIN = Text(" (tried again; kept if it is still used)")

_BELOW = len(INDENT) + VERB + 1


def lines(plans: Sequence[Plan], voice: Voice) -> Iterator[Line]:
    """Write plans. What is as declared is only counted."""
    for plan in plans:
        beside = plan.notices or plan.remarks or plan.left_out
        told_too = beside or plan.drifts or plan.rolled_back or plan.ceded
        if plan.steps or told_too or not plan.is_settled:
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
    for refusal in plan.refusals:
        step, problem = refusal.step, voice.say(refusal.reason.message)
        yield from _trouble("refused", step.target, step.domain, problem, refusal.hint, voice)
    for obstacle in plan.obstacles:
        problem, hint = voice.say(obstacle.error.message), obstacle.error.hint
        yield from _trouble("blocked", obstacle.target, obstacle.domain, problem, hint, voice)
    yield from _left(plan, voice)
    for target, lineages in plan.ceded:
        words = f"{voice.say(at_target(target, None))}: {voice.say(served_by(lineages))}"
        yield from labelled(_verb(voice.word("skipped"), Tone.PENDING).words, Tone.PENDING, words)
    beside = (("unread", plan.notices), ("in vain", plan.remarks), ("skipped", plan.left_out))
    for word, notices in beside:
        for notice in notices:
            problem, hint = voice.say(notice.error.message), notice.error.hint
            yield from _trouble(
                word, notice.target, notice.domain, problem, hint, voice, Tone.PENDING
            )


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
    match plan.held_back:
        case Issue(due=Blocked(error=CertferryError() as error)):
            problem = voice.say(error.message)
            yield from _trouble("waiting", None, None, problem, error.hint, voice, Tone.PENDING)


def _left_as_found(drifted: Drifted, voice: Voice) -> Iterator[Line]:
    policy = Text('left as it is (drift = "{policy}")', policy=drifted.policy.value)
    subject = f"{voice.say(at_target(drifted.target, drifted.domain))}: {voice.say(policy)}"
    yield line(_verb(voice.word("drifted"), Tone.PENDING), subject)
    yield from _changes(drifted.changes, voice)


def _reasons(plan: Plan) -> list[Text]:
    """Say why: the reason to issue, or else every reason there is, once; where domains have
    different ones, each step says its own.
    """
    issue = plan.issue or plan.held_back
    if issue is not None:
        return [issue.reason.message]
    firsts = [rollout.steps[0].reason.message for rollout in plan.rollouts]
    reasons = firsts or [step.reason.message for step in plan.steps]
    if not reasons and plan.is_settled:
        if plan.drifts:
            return [Text("changed outside certferry, and left like that")]
        if plan.rolled_back:
            return [Text("as declared, but for what was rolled back")]
        if plan.ceded and not plan.unchanged:
            return [Text("not needed")]
        unread = Text("as declared, as far as it could be read")
        return [unread if plan.notices else Text("as declared")]
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
        case Blocked(error=CertferryError() as error):
            return voice.say_on_one_line(Text(" (waited too long: {why})", why=error.message))
        case _:
            return ""


def _advice(step: Step, voice: Voice) -> Iterator[Line]:
    """Say what to do about a step that was waited for in vain."""
    match getattr(step, "due", None):
        case Blocked(error=CertferryError(hint=Text() as hint)):
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
    problem: str,
    hint: Text | None,
    voice: Voice,
    tone: Tone = Tone.BAD,
) -> Iterator[Line]:
    words = problem
    if target is not None:
        words = f"{voice.say(at_target(target, domain))}: {once(domain or target, problem)}"
    verb_span = _verb(voice.word(verb), tone)
    yield from labelled(verb_span.words, verb_span.tone, words)
    if hint is not None:
        yield from labelled(voice.say(HINT), Tone.FAINT, voice.say(hint), _BELOW)


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
    if any(plan.obstacles for plan in plans):
        return Text("{counts}. Nothing was changed; see to what is blocked first.", counts=counts)
    return Text("{counts}. Nothing was changed; run `certferry sync`.", counts=counts)


def _is_as_declared(plan: Plan) -> bool:
    return plan.is_settled and not (plan.steps or plan.drifts or plan.rolled_back)


def _is_nothing_to_run(plan: Plan) -> bool:
    """Tell whether a run would change nothing; a stuck domain keeps its account's old copies."""
    stuck = {step for rollout in plan.in_vain for step in rollout.steps}
    accounts = {rollout.target for rollout in plan.in_vain}
    kept = {step for step in plan.retirements if step.target in accounts}
    return not set(plan.pending) - stuck - kept


def _counts(plans: Sequence[Plan]) -> list[Text]:
    """Count what would be done. A look that follows a deployment goes with it."""
    stuck = sum(len(plan.in_vain) for plan in plans)
    rollouts = [one for plan in plans for one in plan.rollouts if one not in plan.in_vain]
    versions = Counter(plan.issue.action for plan in plans if plan.issue is not None)
    issues, adoptions = versions[Action.ISSUE], versions[Action.ADOPT]
    deployments = sum(rollout.deploy is not None for rollout in rollouts)
    looks = len(rollouts) - deployments
    retirements = sum(isinstance(step, Retire) for plan in plans for step in plan.pending)
    again = sum(step.again for plan in plans for step in plan.retirements)
    held = sum(plan.held_back is not None for plan in plans)
    refused = sum(len(plan.refusals) for plan in plans)
    blocked = sum(len(plan.obstacles) for plan in plans)
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
