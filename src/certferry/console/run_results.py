"""The results of a run as its page shows them: how many certificates have each result, the
certificates with problems, and the others, each by pages.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import cast

from msgspec import Struct

from certferry.core.assessment.notices import Subject
from certferry.core.planning.report import Outcome, Result
from certferry.errors import Problem
from certferry.present.documents import Document, rendered
from certferry.present.language import Voice
from certferry.text import Text, verbatim

SHOWN_CAUSES, SHOWN_PROBLEMS, SHOWN_STEPS, SHOWN_IN_ORDER = 20, 20, 10, 50
"""A page shows at most this many causes of several certificates, certificates with other problems,
steps of each certificate, and certificates without problems. So the page stays below 200 kB in a
run of any size. Links lead to the other certificates.
"""

CHANGED, UNCHANGED = "changed", "unchanged"
RESULTS = {
    Result.FAILED.value: ("error", Text("failed"), Text("{count} failed")),
    Result.REFUSED.value: ("error", Text("refused"), Text("{count} refused")),
    Result.STOPPED.value: ("warning", Text("not reached"), Text("{count} not reached")),
    Result.WAITING.value: ("notice", Text("waiting"), Text("{count} waiting")),
    Result.ELSEWHERE.value: (
        "",
        Text("left to another host"),
        Text("{count} left to another host"),
    ),
    CHANGED: ("ok", Text("changed"), Text("{count} changed")),
    UNCHANGED: ("", Text("unchanged"), Text("{count} unchanged")),
}
"""For each result of a certificate, worst first: the class of the badge, the word, and the
sentence of a count. A certificate in order is changed or unchanged.
"""


class CertificateResult(Struct, frozen=True):
    """The result of a certificate, as a run's page shows it."""

    name: str
    #: The badge.
    tone: str
    word: Text
    #: The first steps, those with problems first.
    steps: tuple[Document, ...]
    #: The number of steps that are not shown.
    more: int


class ResultsPage(Struct, frozen=True):
    """A page of certificates."""

    certificates: tuple[CertificateResult, ...] = ()
    #: The number of this page, from 1, and of the last page.
    number: int = 1
    last: int = 1
    #: The number of certificates on all pages.
    count: int = 0


class SharedCause(Struct, frozen=True):
    """Why steps of several certificates are not done: explained once for all."""

    message: str
    hint: str
    certificates: tuple[str, ...]
    #: The problem, to find the cause in the state if the cause still stands.
    problem: Problem
    subject: Subject


class ReportView(Struct, frozen=True):
    """A report as shown, made from the document printed by the command."""

    #: How many certificates have each result, worst first; `None` without a certificate.
    counts: Text | None = None
    #: The problem of the run itself, and the hint.
    problem: str = ""
    hint: str = ""
    #: The causes of several certificates.
    causes: tuple[SharedCause, ...] = ()
    #: The certificates with further problems, and the certificates without problems.
    problems: ResultsPage = ResultsPage()
    in_order: ResultsPage = ResultsPage()


def report_view(
    document: Mapping[str, object] | None, voice: Voice, problems: int = 1, in_order: int = 1
) -> ReportView:
    """Return how a report is shown, with the pages of these numbers, or the nearest pages."""
    whole = document or {}
    entries = cast("list[Document]", whole.get("certificates") or [])
    result_of = {id(entry): _result_of(entry) for entry in entries}
    order = {result: place for place, result in enumerate(RESULTS)}
    entries = sorted(entries, key=lambda entry: order[result_of[id(entry)]])
    counts = Counter(result_of.values())
    sentences = [
        sentence.filled(count=counts[result])
        for result, (_, _, sentence) in RESULTS.items()
        if counts[result]
    ]

    def page(entries: Sequence[Document], asked: int, most: int) -> ResultsPage:
        last = max(-(-len(entries) // most), 1)
        number = min(max(asked, 1), last)
        shown = entries[(number - 1) * most : number * most]
        results = tuple(_shown_result(entry, result_of[id(entry)], voice) for entry in shown)
        return ResultsPage(results, number, last, len(entries))

    causes = [
        cause
        for cause in cast("list[Document]", whole.get("causes") or [])
        if len(_names_of(cause)) > 1
    ][:SHOWN_CAUSES]
    explained = {(name, cause.get("code")) for cause in causes for name in _names_of(cause)}
    in_trouble = [
        entry for entry in entries if not (entry.get("ok") or _is_explained(entry, explained))
    ]
    problem = rendered(cast("Document", whole.get("problem") or {}), voice)
    return ReportView(
        counts=Text("{counts}", counts=sentences) if sentences else None,
        problem=str(problem.get("message") or ""),
        hint=str(problem.get("hint") or ""),
        causes=tuple(_shared_cause(cause, voice) for cause in causes),
        problems=page(in_trouble, problems, SHOWN_PROBLEMS),
        in_order=page([each for each in entries if each.get("ok")], in_order, SHOWN_IN_ORDER),
    )


def _names_of(cause: Document) -> Sequence[str]:
    return cast("Sequence[str]", cause.get("certificates") or ())


def _is_explained(entry: Document, explained: Collection[tuple[str, object]]) -> bool:
    """Return whether shared causes explain all problems of a certificate; `explained` are the names
    and codes in these causes.
    """
    fine = {Outcome.DONE.value, Outcome.UNCHANGED.value}
    open_steps = [step for step in _steps_of(entry) if step["outcome"] not in fine]
    return bool(open_steps) and all(
        (str(entry["name"]), step.get("code")) in explained for step in open_steps
    )


def _shared_cause(cause: Document, voice: Voice) -> SharedCause:
    shown = rendered(cause, voice)
    message, hint = str(shown.get("message") or ""), str(shown.get("hint") or "")
    target = str(cause.get("target") or "")
    if target not in message:
        message = voice.say(Text("{subject}: {message}", subject=target, message=message))
    problem = Problem(str(cause.get("code") or ""), verbatim(message))
    return SharedCause(message, hint, tuple(_names_of(cause)), problem, Subject(target=target))


def _result_of(entry: Document) -> str:
    """Return the result of a certificate in a report, as in `RESULTS`."""
    result = entry.get("result")
    if not entry.get("ok"):
        return str(result) if result in RESULTS else Result.FAILED.value
    if result == Result.ELSEWHERE.value:
        return Result.ELSEWHERE.value
    is_changed = any(step["outcome"] == Outcome.DONE.value for step in _steps_of(entry))
    return CHANGED if is_changed else UNCHANGED


_WORST_FIRST = (
    *(Outcome.FAILED, Outcome.REFUSED, Outcome.WAITING, Outcome.SKIPPED, Outcome.ELSEWHERE),
    *(Outcome.DONE, Outcome.UNCHANGED),
)


def _steps_of(entry: Document) -> Sequence[Document]:
    return cast("Sequence[Document]", entry.get("steps") or ())


def _shown_result(entry: Document, result: str, voice: Voice) -> CertificateResult:
    order = {outcome.value: place for place, outcome in enumerate(_WORST_FIRST)}
    steps = sorted(_steps_of(entry), key=lambda step: order.get(str(step["outcome"]), 0))
    shown = tuple(rendered(step, voice) for step in steps[:SHOWN_STEPS])
    tone, word, _ = RESULTS[result]
    return CertificateResult(str(entry["name"]), tone, word, shown, len(steps) - len(shown))
