"""What a look, or a command that writes files, leaves in the log: what is wrong, a line for each;
what has been changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from certferry.cli.journal import Entry, Journal, Level
from certferry.cli.words import at_target, once
from certferry.core.observed import Served
from certferry.core.plan import Plan
from certferry.core.reasons import ReasonCode
from certferry.core.status import LineageStatus, Standing
from certferry.text import Text

_WRONG = {Standing.FAILED, Standing.UNKNOWN}


@dataclass(frozen=True, slots=True)
class _Finding:
    """What is wrong with a domain, with its target as a whole, or with the certificate itself."""

    lineage: str
    target: str | None
    domain: str | None
    outcome: str
    message: Text
    hint: Text | None = None
    code: str | None = None
    level: Level = Level.ERROR


def log_plans(plans: Sequence[Plan], journal: Journal) -> None:
    """Write down what safety refuses, and what keeps a wish from coming true."""
    for plan in plans:
        for finding in _of_plan(plan):
            journal.write(_entry("plan", finding, journal))


def log_statuses(statuses: Sequence[LineageStatus], journal: Journal) -> None:
    """Write down why a domain does not stand as it should."""
    for status in statuses:
        for finding in _of_status(status):
            journal.write(_entry("status", finding, journal))


def log_export(lineage: str, paths: Sequence[Path], fingerprint: str, journal: Journal) -> None:
    """Write down which files were written, and of which certificate."""
    files = [str(path) for path in paths]
    said = journal.voice.say_on_one_line(Text("written: {path}", path=files))
    more = {"files": files, "fingerprint": fingerprint}
    words = f"{lineage}: {said}"
    journal.write(Entry("export.done", words, said, lineage=lineage, outcome="done", more=more))


def log_looks(looks: Mapping[str, Sequence[Served]], journal: Journal) -> None:
    """Write down what is wrong at an address."""
    for host, served in looks.items():
        for address in served:
            if address.problem is not None:
                detail = journal.voice.say_on_one_line(address.problem)
                words = f"{host} {address.address}".rstrip() + f": {once(host, detail)}"
                more = {"address": address.address}
                entry = Entry("watch.failed", words, detail, Level.ERROR, domain=host, more=more)
                journal.write(entry)


def log_change(event: str, said: Text, journal: Journal, lineage: str | None = None) -> None:
    """Write down something that is otherwise on this machine than it was."""
    words = journal.voice.say_on_one_line(said)
    journal.write(Entry(event, words, words, lineage=lineage, outcome="done"))


def _of_plan(plan: Plan) -> Iterator[_Finding]:
    for refusal in plan.refusals:
        step, reason = refusal.step, refusal.reason
        place = (plan.lineage, step.target, step.domain)
        yield _Finding(*place, "refused", reason.message, refusal.hint, reason.code.value)
    for obstacle in plan.obstacles:
        where, error = obstacle.domain, obstacle.error
        words = ("blocked", error.message, error.hint, error.code)
        yield _Finding(plan.lineage, obstacle.target, where, *words)
    for notice in plan.notices:
        error = notice.error
        words = ("unread", error.message, error.hint, error.code)
        yield _Finding(plan.lineage, notice.target, notice.domain, *words, level=Level.WARNING)


def _of_status(status: LineageStatus) -> Iterator[_Finding]:
    reason = status.reason
    if reason is not None and reason.code is ReasonCode.OVERDUE:
        code, level = reason.code.value, Level.WARNING
        yield _Finding(status.lineage, None, None, code, reason.message, code=code, level=level)
    for domain in status.domains:
        if domain.problem is not None:
            standing = domain.standing
            level = Level.ERROR if standing in _WRONG else Level.WARNING
            place = (status.lineage, domain.target, domain.domain)
            yield _Finding(*place, standing.value, domain.problem, level=level)


def _entry(command: str, found: _Finding, journal: Journal) -> Entry:
    say, word = journal.voice.say_on_one_line, journal.voice.word
    detail = said = say(found.message)
    if found.target is not None:
        place = say(at_target(found.target, found.domain))
        said = f"{place}: {once(found.domain or found.target, detail)}"
    return Entry(
        f"{command}.{found.outcome}",
        f"{found.lineage}: {word(found.outcome)}: {said}",
        detail,
        found.level,
        found.lineage,
        found.target,
        found.domain,
        found.outcome,
        None if found.hint is None else say(found.hint),
        {} if found.code is None else {"code": found.code},
    )
