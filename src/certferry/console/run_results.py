"""Make the view of a run's results: how many certificates have each result, then two lists, each by
pages: the certificates with problems, and the certificates without.
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
"""The most causes that several certificates share, certificates with other problems, steps of a
certificate, and certificates without problems, on one page. So the page stays below 200 kB for a
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
"""For each result of a certificate, worst first: the class of the badge, the word in the badge, and
the words of a count. The result `IN_ORDER` of `Result` is divided into changed and unchanged.
"""


class CertificateResult(Struct, frozen=True):
    """The result of a certificate in a run, for the run's page."""

    #: The certificate's lineage.
    name: str
    #: The class of the badge.
    tone: str
    #: The word in the badge.
    word: Text
    #: The first steps, after sorting: steps with problems come first.
    steps: tuple[Document, ...]
    #: The number of steps that are not shown.
    more: int


class ResultsPage(Struct, frozen=True):
    """A page of one of the two lists of certificates."""

    #: The certificates on this page.
    certificates: tuple[CertificateResult, ...] = ()
    #: The number of this page, from 1.
    number: int = 1
    #: The number of the last page.
    last: int = 1
    #: The number of certificates on all pages.
    count: int = 0


class SharedCause(Struct, frozen=True):
    """A cause for which steps of several certificates failed, were refused or wait. The page
    explains the cause once.
    """

    #: The problem.
    message: str
    #: The fix, or "".
    hint: str
    #: The lineages of the certificates.
    certificates: tuple[str, ...]
    #: The problem, to find the cause in the state if the cause still stands.
    problem: Problem
    subject: Subject


class ReportView(Struct, frozen=True):
    """The view of a run's report, made of the stored document (the JSON document of `sync`)."""

    #: How many certificates have each result, worst first; `None` without a certificate.
    counts: Text | None = None
    #: The problem of the run itself, or "".
    problem: str = ""
    #: The hint on `problem`, or "".
    hint: str = ""
    #: The causes that several certificates share.
    causes: tuple[SharedCause, ...] = ()
    #: A page of the certificates with problems that `causes` do not explain.
    problems: ResultsPage = ResultsPage()
    #: A page of the certificates without problems.
    in_order: ResultsPage = ResultsPage()


def report_view(
    document: Mapping[str, object] | None, voice: Voice, problems: int = 1, in_order: int = 1
) -> ReportView:
    """Return the view of a report. `problems` and `in_order` are the numbers of the pages of the
    two lists; for a number without a page, take the nearest page.
    """
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
    """Return whether shared causes explain all problems of a certificate. `explained` has a pair of
    name and code for each certificate of these causes.
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
