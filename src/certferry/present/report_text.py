"""Render the result of a sync for a person.

The result has a line for each step, and a closing sentence. Many domains or certificates with the
same result share a line, and so do many steps with the same cause.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator, Sequence

from certferry.core.assessment.causes import (
    causes_of_run,
    concern_of,
    is_not_done,
    shared,
)
from certferry.core.assessment.health import Concern
from certferry.core.certificates.certificate import first_of, short
from certferry.core.planning import report as reports
from certferry.core.planning.plan import Action, Plan
from certferry.present import plan_text
from certferry.present.language import WORDS, Voice, at_target, certificate_count, once, one_or_many
from certferry.present.layout import Line, Span, Tone, line, padded
from certferry.present.plan_text import INDENT, VERB, copy_at
from certferry.present.status_text import of_causes
from certferry.text import Text, verbatim

_FEW = 3
"""Up to this many certificates with the same result each get lines of their own; if there are more,
they share a line. The same holds for domains of a certificate with the same details.
"""

_ROLLOUT = {Action.DEPLOY, Action.VERIFY}
_USUAL = (reports.BOUND, reports.SEEN)
"""The details of steps that ended as usual: the domain is bound, or the certificate is served."""

OUTCOME = 9
"""The width, in cells, of the column for the outcome. The longest is `unchanged`."""

BELOW = len(INDENT) + VERB + 1 + OUTCOME + 1
"""The width, in cells, of the columns before the subject of a step."""

_TONES = {
    reports.Outcome.FAILED: Tone.BAD,
    reports.Outcome.REFUSED: Tone.BAD,
    reports.Outcome.SKIPPED: Tone.PENDING,
    reports.Outcome.WAITING: Tone.PENDING,
    reports.Outcome.ELSEWHERE: Tone.FAINT,
    reports.Outcome.DONE: Tone.GOOD,
    reports.Outcome.UNCHANGED: Tone.FAINT,
}
"""The tone of each outcome. The outcomes are in order of importance, the worst first."""


def lines(
    report: reports.SyncReport, voice: Voice, undeclared_of: str | None = None
) -> Iterator[Line]:
    """Write a report. `undeclared_of` names the ACME client whose certificate was deployed without
    a declaration.
    """
    yield from lineages(report, voice)
    yield from _not_written_down(report, voice)
    yield line(voice.say(_conclusion(report, undeclared_of)))


def lineages(report: reports.SyncReport, voice: Voice) -> Iterator[Line]:
    """Write the steps of each lineage, then each cause that several lineages share. If more than
    `_FEW` lineages went well, count them instead. Do the same for lineages left to other hosts.
    """
    well = [lineage for lineage in report.lineages if _is_plainly_well(lineage)]
    left = [lineage for lineage in report.lineages if lineage.ok and lineage.is_elsewhere]
    if len(well) > _FEW:
        yield from _together(well, voice)
    if len(left) > _FEW:
        yield from _left_together(left, voice)
    folded = {lineage.lineage for many in (well, left) if len(many) > _FEW for lineage in many}
    causes = shared(causes_of_run(report))
    below = {concern for cause in causes for concern in cause.everything}
    for lineage in report.lineages:
        if lineage.lineage not in folded:
            yield from _lines(lineage, voice, below)
    yield from of_causes(causes, voice)
    if report.lineages:
        yield line()


def what_is_wrong(report: reports.SyncReport, voice: Voice) -> Iterator[Line]:
    """Write only failures and refusals, with their hints. A cause that several lineages share is
    written once.
    """
    yield from _not_written_down(report, voice)
    causes = [cause for cause in shared(causes_of_run(report)) if cause.problem.is_error]
    below = {concern for cause in causes for concern in cause.everything}
    for lineage in report.lineages:
        for step in lineage.outcomes:
            is_bad = step.outcome in {reports.Outcome.FAILED, reports.Outcome.REFUSED}
            if is_bad and concern_of(step, lineage.lineage, lineage.ends) not in below:
                yield from voice.error(in_one_line(lineage.lineage, step, voice))
                yield from voice.hint(step.hint)
    yield from of_causes(causes, voice)


def outcome_of(step: reports.StepOutcome, voice: Voice) -> str:
    """Return the word for a step's outcome. The word is "not done" if the step failed only because
    the state was unavailable.
    """
    return voice.say(_NOT_DONE) if is_not_done(step) else voice.word(step.outcome)


_NOT_DONE = Text("not done")


def _not_written_down(report: reports.SyncReport, voice: Voice) -> Iterator[Line]:
    # If steps were not done because of the same problem, the report shows the problem there.
    steps = [step for each in report.lineages for step in each.outcomes if is_not_done(step)]
    if report.problem is not None and report.problem.code not in {step.code for step in steps}:
        message = Text("could not record the end of the run: {problem}")
        yield from voice.error(message.filled(problem=report.problem.message))
        yield from voice.hint(report.problem.hint)


def in_one_line(lineage: str, step: reports.StepOutcome, voice: Voice) -> str:
    """Return a step's lineage, action, outcome, subject and detail on one line: `img: deploy
    waiting: cdn → img.example.com: …`.
    """
    detail = once(lineage, subject_and_detail(step, voice)).replace("\n", " ")
    if step.outcome is reports.Outcome.ELSEWHERE:
        return f"{lineage}: {voice.word(step.outcome)}: {detail}"
    return f"{lineage}: {voice.word(step.word)} {outcome_of(step, voice)}: {detail}"


def head_of(step: reports.StepOutcome, voice: Voice) -> Line:
    """Return a step's action and outcome, each padded to the width of its column."""
    outcome = Span(f"{padded(outcome_of(step, voice), OUTCOME)} ", _TONES[step.outcome])
    return line(f"{INDENT}{padded(voice.word(step.word), VERB)} ", outcome)


def subject_and_detail(step: reports.StepOutcome, voice: Voice) -> str:
    """Return the subject of a step (a domain, a target or a copy), if any, and the detail."""
    detail = once(step.domain or step.target, voice.say(step.detail))
    subject = _subject(step)
    return detail if subject is None else f"{voice.say(subject)}: {detail}"


def _lines(
    lineage: reports.LineageReport, voice: Voice, below: Container[Concern | None]
) -> Iterator[Line]:
    if not lineage.was_observed:
        unobserved = Span(voice.say(Text("not checked")), Tone.PENDING)
        yield line(Span(lineage.lineage, Tone.STRONG), ": ", unobserved)
        return
    name, ends = lineage.lineage, lineage.ends
    steps = [step for step in lineage.outcomes if concern_of(step, name, ends) not in below]
    if lineage.outcomes and not steps:
        return  # each of the lineage's steps stands below, with a cause of several lineages
    worst = worst_of(lineage.outcomes)
    bad = [step for step in lineage.outcomes if step.outcome is worst]
    outcome = outcome_of(bad[0], voice) if bad and all(is_not_done(s) for s in bad) else ""
    outcome = outcome or voice.word(worst)
    if worst is reports.Outcome.SKIPPED and any(map(_was_stopped, lineage.outcomes)):
        outcome = voice.say(Text("stopped"))  # an order may go on, so `skipped` would be wrong
    yield line(Span(lineage.lineage, Tone.STRONG), ": ", Span(outcome, _TONES[worst]))
    folded = _folded(steps, voice)
    for step in steps:
        if step.key in folded:
            words = folded[step.key]
            if words is not None:
                yield (*head_of(step, voice), Span(words))
            continue
        first, *rest = subject_and_detail(step, voice).split("\n")
        # The details of these steps contain the outcome, so the two columns are left out.
        is_left = step.outcome is reports.Outcome.ELSEWHERE
        head = line(INDENT) if is_left or _was_stopped(step) else head_of(step, voice)
        yield (*head, Span(first))
        yield from (line(" " * BELOW, more) for more in rest)
        yield from voice.hint(step.hint, BELOW)


def _was_stopped(step: reports.StepOutcome) -> bool:
    return step.action is None and step.outcome is reports.Outcome.SKIPPED


def _is_plainly_well(lineage: reports.LineageReport) -> bool:
    """Return whether every step of a lineage ended well and as usual, so the lineage can be counted
    with others.
    """
    return (
        lineage.ok
        and bool(lineage.outcomes)
        and all(
            step.hint is None
            and not step.left
            and not step.unmanaged
            and step.action in {Action.ISSUE, Action.RETIRE, *_ROLLOUT}
            and (step.action not in _ROLLOUT or step.detail in _USUAL)
            for step in lineage.outcomes
        )
    )


def _together(well: Sequence[reports.LineageReport], voice: Voice) -> Iterator[Line]:
    steps = [step for lineage in well for step in lineage.outcomes]
    worst = worst_of(steps)
    count = voice.say(Text("{count} certificates", count=len(well)))
    yield line(Span(count, Tone.STRONG), ": ", Span(voice.word(worst), _TONES[worst]))
    others: dict[tuple[Action | None, reports.Outcome], list[reports.StepOutcome]] = {}
    for step in steps:
        if step.action not in _ROLLOUT:
            others.setdefault((step.action, step.outcome), []).append(step)
    for alike in others.values():
        yield (*head_of(alike[0], voice), Span(voice.say(certificate_count(len(alike)))))
    for details, domains in _by_details(steps, voice).items():
        yield (*head_of(domains[-1][-1], voice), Span(voice.say(_domains(domains, details))))


def _left_together(left: Sequence[reports.LineageReport], voice: Voice) -> Iterator[Line]:
    """Write how many certificates are left to other hosts. Then write, for each of these hosts, the
    names of the first certificates left to it.
    """
    of_host: dict[str | None, list[str]] = {}
    for lineage in left:
        for step in lineage.having(reports.Outcome.ELSEWHERE):
            of_host.setdefault(step.host, []).append(lineage.lineage)
    count = voice.say(certificate_count(len(left)))
    outcome = reports.Outcome.ELSEWHERE
    yield line(Span(count, Tone.STRONG), ": ", Span(voice.word(outcome), _TONES[outcome]))
    for host, names in sorted(of_host.items(), key=str):
        message = Text("{host}: {names}", host=host, names=first_of(names, _FEW))
        yield line(INDENT, voice.say(message))


def _domains(domains: Sequence[object], details: Sequence[str]) -> Text:
    singular, plural = Text("1 domain: {said}"), Text("{count} domains: {said}")
    return one_or_many(len(domains), singular, plural, said=list(details))


def _by_details(
    steps: Sequence[reports.StepOutcome], voice: Voice
) -> dict[tuple[str, ...], list[list[reports.StepOutcome]]]:
    """Return the domains whose Deploy and Verify steps went well or wait, grouped by the details of
    these steps. A domain is the list of its steps. Steps with a hint are left out.
    """
    by_domain: dict[reports.StepKey, list[reports.StepOutcome]] = {}
    for step in steps:
        is_well = step.outcome in {
            reports.Outcome.DONE,
            reports.Outcome.UNCHANGED,
            reports.Outcome.WAITING,
        }
        if is_well and step.hint is None and step.domain is not None and step.action in _ROLLOUT:
            by_domain.setdefault((Action.DEPLOY, step.target, step.domain), []).append(step)
    alike: dict[tuple[str, ...], list[list[reports.StepOutcome]]] = {}
    for of_domain in by_domain.values():
        details = (once(step.domain, voice.say(step.detail)) for step in of_domain)
        alike.setdefault(tuple(details), []).append(of_domain)
    return alike


def _folded(
    steps: Sequence[reports.StepOutcome], voice: Voice
) -> dict[reports.StepKey, str | None]:
    """Return, by step, the words that replace the step's line. If more than `_FEW` domains have the
    same details, the last step of these domains gets words for all of them, and each other step of
    these domains gets None: no line.
    """
    words: dict[reports.StepKey, str | None] = {}
    for details, domains in _by_details(steps, voice).items():
        if len(domains) > _FEW:
            words |= {step.key: None for of_domain in domains for step in of_domain}
            last, described = domains[-1][-1], _domains(domains, details)
            if last.outcome is reports.Outcome.WAITING:
                names = first_of([str(domain_steps[0].domain) for domain_steps in domains], _FEW)
                described = Text("{said}: {names}", said=described, names=names)
            words[last.key] = voice.say(described)
    return words


def worst_of(outcomes: Sequence[reports.StepOutcome]) -> reports.Outcome:
    """Return the worst outcome (by the order of `_TONES`) among the steps that are not notices.
    Return UNCHANGED if there are no such steps.
    """
    outcomes_found = {step.outcome for step in outcomes if not step.notice} or {
        reports.Outcome.UNCHANGED
    }
    return next(outcome for outcome in _TONES if outcome in outcomes_found)


def _subject(step: reports.StepOutcome) -> Text | None:
    if step.target is None:
        return None
    if step.action is Action.RETIRE and step.label is not None:
        if not step.unmanaged:
            return copy_at(step.label, step.target)
        label, copy = step.label or "—", short(step.remote_id or "")
        return Text("{label} at {target} ({id})", label=label, target=step.target, id=copy)
    if step.action is Action.VERIFY and step.domain is not None:
        return verbatim(step.domain)
    return at_target(step.target, step.domain)


def _conclusion(report: reports.SyncReport, undeclared_of: str | None) -> Text:
    outcome, advice = _outcome(report), _how_to_go_on(report, undeclared_of)
    return outcome if advice is None else Text("{said} {advice}", said=outcome, advice=advice)


def _outcome(report: reports.SyncReport) -> Text:
    if not report.complete:
        return Text("Stopped.")
    if not report.lineages:
        return Text("No certificate is declared.")
    unchanged = all(lineage.is_unchanged for lineage in report.lineages)
    if unchanged and report.outdated:
        return one_or_many(
            report.outdated,
            Text("Nothing changed: 1 certificate is left to a host with a newer declaration."),
            Text(
                "Nothing changed: {count} certificates are left to hosts with newer declarations."
            ),
        )
    if unchanged and report.left:
        return one_or_many(
            report.left,
            Text(
                "Nothing changed: 1 domain differs from the file, everything else is as declared."
            ),
            Text(
                "Nothing changed: {count} domains differ from the file, everything else is as"
                " declared."
            ),
        )
    if unchanged:
        return one_or_many(
            len(report.lineages),
            Text("Nothing changed: 1 certificate is as declared."),
            Text("Nothing changed: {count} certificates are as declared."),
        )
    scope = certificate_count(len(report.lineages))
    return Text("{scope}: {counts}.", scope=scope, counts=_counts(report))


def _how_to_go_on(report: reports.SyncReport, undeclared_of: str | None) -> Text | None:
    is_done = report.complete and report.ok
    if undeclared_of is not None and not is_done:
        return Text(
            "No file declares the certificate, so no later run continues: have {client} run"
            " the hook again.",
            client=undeclared_of,
        )
    if report.complete:
        steps = [s for lineage in report.lineages for s in lineage.having(reports.Outcome.WAITING)]
        held = [s.error.retry.after for s in steps if s.error and s.error.retry.after]
        if held and len(held) == len(steps):
            return Text("A run after {moment} continues.", moment=min(held))
        return Text("Run `certferry sync` again to continue.") if steps else None
    if not report.renewing:
        return Text("The next `certferry sync` continues from here.")
    return Text(
        "The next `certferry sync` continues from here; a renewal not yet ordered needs `--renew`"
        " again."
    )


def _counts(report: reports.SyncReport) -> list[Text]:
    steps = [step for lineage in report.lineages for step in lineage.outcomes]
    counts = Counter(_NOT_DONE if is_not_done(step) else WORDS[step.outcome] for step in steps)
    text, labels = Text("{count} {outcome}"), (*(WORDS[end] for end in reports.Outcome), _NOT_DONE)
    return [text.filled(count=counts[word], outcome=word) for word in labels if counts[word]]


def rehearsal_lines(
    report: reports.SyncReport, plans: Sequence[Plan], voice: Voice
) -> Iterator[Line]:
    """Write how each rehearsed order ended, a closing sentence, and the plans."""
    yield from lineages(report, voice)
    yield line(voice.say(_rehearsed(report)))
    yield line()
    yield from plan_text.lines(plans, voice)


def _rehearsed(report: reports.SyncReport) -> Text:
    if not report.lineages:
        return Text("Nothing was rehearsed: no order is due (`--renew` orders all certificates).")
    bad = sum(not lineage.ok for lineage in report.lineages)
    if bad:
        return one_or_many(
            bad,
            Text("The rehearsal of 1 certificate failed; nothing was deployed."),
            Text("The rehearsals of {count} certificates failed; nothing was deployed."),
        )
    return one_or_many(
        len(report.lineages),
        Text("1 certificate was rehearsed and discarded. What `certferry sync` would do:"),
        Text("{count} certificates were rehearsed and discarded. What `certferry sync` would do:"),
    )
