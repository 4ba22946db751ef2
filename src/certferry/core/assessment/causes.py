"""Causes. A cause joins all concerns (matters for a person) that an operator ends by one fix.

For example, an account refuses the key, so twenty certificates stay undeployed. `checkup` finds
twenty concerns, and later twenty more about certificates that end soon. `causes_of` returns one
cause for all forty:

    cause = causes_of(checkup.concerns)[0]
    cause.problem.message   # why, and cause.problem.hint: how to fix the cause
    cause.lineages          # the twenty certificates
    cause.deadline          # the first of the twenty ends

Causes are never stored, but derived from the concerns whenever they are shown. Every concern
belongs to exactly one cause. `causes_of_run` makes causes of the steps of a run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from operator import attrgetter

from msgspec import Struct

from certferry import errors
from certferry.core.assessment.health import Concern, urgency, worst_first
from certferry.core.assessment.notices import Subject, end_of_served
from certferry.core.certificates.certificate import first_of
from certferry.core.planning.report import UNDECLARED, Outcome, StepOutcome, SyncReport
from certferry.core.reasons import ReasonCode
from certferry.errors import Problem, Severity
from certferry.text import Quoted, Text
from certferry.values import replace

_CHAIN = (
    "never_issued",
    ReasonCode.TOO_LITTLE_LIFE.value,
    "upload_deadline",
    "earlier_ends",
    "ends_soon",
    "expired",
)
"""The codes of concerns that follow from an earlier failure, in the order in which the concerns
appear with time.
"""

OF_ACCOUNTS = frozenset(
    error.code for error in (errors.TargetAccessDenied, errors.TargetUnavailable, errors.ClockWrong)
)
"""The codes of failures of a target's whole account. All certificates there share one cause,
although the target words each refusal differently.
"""

_OF_STATE = frozenset({errors.StateUnavailable.code, errors.DatabaseUnavailable.code})
"""The codes of failures of the state, whatever the step was for."""

_OF_RUNS = frozenset({"run_missing", "run_overdue", errors.StateUnavailable.code})
"""The codes of concerns that explain why runs renew and deploy nothing."""

_EXPLAIN_NOTHING = frozenset({"drifted", "files_gone", "revocation_begun", "revoked", UNDECLARED})
"""The codes of concerns that do not prevent renewals and deployments."""

_NAMES = frozenset({"domain", "lineage", "name", "names", "path", "record", "zone"})
"""The names of a sentence's values that say which subject is affected, and not what is wrong."""


class Cause(Struct, frozen=True):
    """A problem that an operator has to fix, with all concerns that come from the problem."""

    #: The problem of the first concern, with the worst severity and the earliest `since` of
    #: `everything`.
    problem: Problem
    #: The lineage, target, domain, channel and host that all `concerns` share; each is empty if the
    #: concerns differ.
    subject: Subject
    #: The concerns with this cause, worst first.
    concerns: tuple[Concern, ...]
    #: The concerns that follow from `concerns`, worst first.
    consequences: tuple[Concern, ...] = ()

    @property
    def everything(self) -> Iterator[Concern]:
        """The concerns, then the consequences."""
        yield from self.concerns
        yield from self.consequences

    @property
    def deadline(self) -> datetime | None:
        """The first deadline of everything that the cause touches."""
        deadlines = (concern.deadline for concern in self.everything if concern.deadline)
        return min(deadlines, default=None)

    @property
    def is_of_account(self) -> bool:
        """Whether the cause is the failure of a target's whole account."""
        return self.problem.code in OF_ACCOUNTS and bool(self.subject.target)

    def next_end(self, now: datetime) -> Concern | None:
        """Return the concern with the first deadline, leaving out missed uploads.

        If every deadline is a missed upload, return the last of these concerns. Return `None`
        without a deadline.
        """
        dated = [concern for concern in _first_to_end(self.everything) if concern.deadline]
        ahead = (c for c in dated if not c.is_upload or (c.deadline and c.deadline > now))
        return next(ahead, next(reversed(dated), None))

    @property
    def lineages(self) -> tuple[str, ...]:
        """The certificates touched by the cause, the earliest deadline first."""
        return tuple(dict.fromkeys(about.lineage for about in self._subjects if about.lineage))

    @property
    def places(self) -> tuple[tuple[str, str], ...]:
        """The target and the domain of each place touched by the cause."""
        places = ((about.target, about.domain) for about in self._subjects if about.target)
        return tuple(dict.fromkeys(places))

    @property
    def watched(self) -> tuple[str, ...]:
        """The watched hosts (`[[watch]]`) touched by the cause."""
        return tuple(about.domain for about in self._subjects if about.watch)

    @property
    def _subjects(self) -> Iterator[Subject]:
        return (concern.subject for concern in _first_to_end(self.everything))


class Severities(Struct, frozen=True):
    """The severities of known causes, for pages that find the problems of these causes by
    themselves: a plan, an examination, the end of a run.
    """

    #: By code and by the name of what the problem is about: a domain, an account, a channel, or a
    #: certificate.
    by_name: Mapping[tuple[str, str], Severity]

    def of(self, problem: Problem, about: Subject) -> Severity:
        """Return the severity of the cause with the problem's code at `about`, or at the problem's
        own subject. If there is none, return the severity of the problem.
        """
        names = [about.domain, about.target, about.channel, problem.subject]
        if not about.domain:  # another domain of the certificate may have another cause
            names.append(about.lineage)
        known = (self.by_name.get((problem.code, name)) for name in names if name)
        return next((severity for severity in known if severity is not None), problem.severity)


def severities_of(causes: Iterable[Cause]) -> Severities:
    """Return the severities of causes. If several causes have the same code and name, the worst
    decides.
    """
    by_name: dict[tuple[str, str], Severity] = {}
    for cause in causes:
        for concern in cause.concerns:
            about = concern.subject
            names = [about.domain, about.lineage, about.channel]
            if cause.is_of_account or not (about.lineage or about.domain):
                names.append(about.target)
            for key in ((concern.problem.code, name) for name in names if name):
                before = by_name.get(key, Severity.OK)
                by_name[key] = max(before, cause.problem.severity, key=lambda one: one.rank)
    return Severities(by_name)


def causes_of(concerns: Iterable[Concern]) -> tuple[Cause, ...]:
    """Return the causes of concerns, the worst first, and among equals the first to end."""
    roots = defaultdict[Key, list[Concern]](list)
    explaining = defaultdict[str, dict[tuple[str, str], Key]](dict)
    chains = defaultdict[str, list[Concern]](list)
    for concern in worst_first(concerns):
        code, about = concern.problem.code, concern.subject
        if code in _CHAIN:
            chains[about.lineage].append(concern)
            continue
        key = key_of(concern)
        roots[key].append(concern)
        if code in _OF_RUNS and not about.lineage:
            explaining[""].setdefault(("", ""), key)
        elif about.lineage and code not in _EXPLAIN_NOTHING:
            explaining[about.lineage].setdefault((about.target, about.domain), key)
    consequences = defaultdict[Key, list[Concern]](list)
    of_runs = explaining[""].get(("", ""))
    for lineage, chain in chains.items():
        for concern, key in _explained(chain, explaining[lineage], of_runs):
            (roots if key == key_of(concern) else consequences)[key].append(concern)
    causes = [_cause(found, consequences[key]) for key, found in roots.items()]
    return tuple(sorted(causes, key=_worst_first))


def _worst_first(cause: Cause) -> tuple[object, ...]:
    """Return the key by which causes sort: by the `urgency` of a concern with the cause's problem
    and deadline. Among equally urgent causes without a deadline, causes of more certificates come
    first.
    """
    reach = 0 if cause.deadline else min(-len(cause.lineages), -1)
    is_dark = any(concern.serves_nothing for concern in cause.everything)
    concern = Concern(cause.problem, cause.subject, cause.deadline, is_dark)
    *urgent, subject, code = urgency(concern)
    return (*urgent, reach, subject, code)


def causes_by_lineage(causes: Iterable[Cause]) -> dict[str, Cause]:
    """Return, by lineage, the first of the causes that affect the lineage's certificate."""
    first: dict[str, Cause] = {}
    for cause in causes:
        for lineage in cause.lineages:
            first.setdefault(lineage, cause)
    return first


def causes_of_run(report: SyncReport) -> tuple[Cause, ...]:
    """Return the causes of a run's steps that failed, were refused, or wait because of an error.

    A failure to store the run's end is a concern without a certificate.
    """
    concerns = [
        concern
        for lineage in report.lineages
        for step in lineage.outcomes
        if (concern := concern_of(step, lineage.lineage, lineage.ends)) is not None
    ]
    if report.problem is not None:
        concerns.append(Concern(report.problem.problem()))
    return causes_of(concerns)


def shared(causes: Iterable[Cause]) -> tuple[Cause, ...]:
    """Return the causes of several certificates."""
    return tuple(cause for cause in causes if len(cause.lineages) > 1)


def concern_of(step: StepOutcome, lineage: str, ends: Sequence[datetime] = ()) -> Concern | None:
    """Return the concern about a step that failed, was refused, or waits because of an error.
    Return `None` for any other step.

    `ends` are the ends of the lineage's certificates, the newest first.
    """
    is_bad = step.outcome in {Outcome.FAILED, Outcome.REFUSED}
    is_held = step.outcome is Outcome.WAITING and step.error is not None
    if step.code is None or not (is_bad or is_held):
        return None
    severity = Severity.ERROR if is_bad else Severity.WARNING
    problem = Problem(step.code, step.detail, step.hint, severity)
    subject = Subject(lineage, step.target or "", step.domain or "")
    return Concern(problem, subject, end_of_served(step, ends))


def is_not_done(step: StepOutcome) -> bool:
    """Return whether a step failed only because the state was unavailable. A later run carries out
    the step.
    """
    return step.outcome is Outcome.FAILED and isinstance(step.error, errors.StateUnavailable)


Key = tuple[object, ...]
"""A value that is equal for all concerns with the same cause."""


def key_of(concern: Concern) -> Key:
    """Return the key by which `causes_of` groups concerns that no other concern explains."""
    problem, about = concern.problem, concern.subject
    message = problem.message
    # If a call is left out because an earlier call failed, the sentence contains the earlier
    # sentence.
    while isinstance(earlier := message.values.get("earlier"), Text):
        message = earlier
    is_of_account = problem.code in OF_ACCOUNTS and bool(about.target)
    # An outage is no part of a cause of domains that still serve a certificate.
    is_dark = concern.serves_nothing and problem.code in _CHAIN
    words = None if is_of_account else _shared_words(message, (about.lineage, about.domain))
    target = "" if problem.code in _OF_STATE else about.target
    return (problem.code, target, about.host, about.channel, about.watch, words, is_dark)


def _shared_words(message: Text, own: Collection[str]) -> Hashable:
    """Return a message's template and values, without the values that may differ within a cause:
    names (`own` and `_NAMES`), moments, and the words of a service.
    """
    shared: list[tuple[str, Hashable]] = []
    for name, value in message.values.items():
        if isinstance(value, Text):
            shared.append((name, _shared_words(value, own)))
        elif name not in _NAMES and value not in own and not isinstance(value, datetime | Quoted):
            shared.append((name, str(value)))
    return message.template, frozenset(shared)


def _explained(
    chain: Iterable[Concern], explaining: Mapping[tuple[str, str], Key], of_runs: Key | None
) -> Iterator[tuple[Concern, Key]]:
    """Yield each consequence of a lineage with the key of the cause. If no failure explains the
    consequences, the first consequence in the order of `_CHAIN` is the cause of the others.
    """
    root: Concern | None = None
    for concern in sorted(chain, key=lambda concern: _CHAIN.index(concern.problem.code)):
        key = _explanation(concern, explaining) or of_runs
        if key is None:
            root = root or concern
            is_alike = root.problem.code == concern.problem.code
            key = key_of(concern if is_alike else root)
        yield concern, key


def _explanation(concern: Concern, explaining: Mapping[tuple[str, str], Key]) -> Key | None:
    """Return the key of the failure that explains a consequence; `None` if no failure does.

    The failure is searched at the same domain, then at the same target, then at the whole lineage.
    A consequence without a target is explained by any failure. `TOO_LITTLE_LIFE` is explained only
    by a failure of the whole lineage.
    """
    about = concern.subject
    near = [(about.target, about.domain), (about.target, ""), ("", "")]
    if concern.problem.code == ReasonCode.TOO_LITTLE_LIFE:
        near = near[-1:]  # a certificate is too old only if no newer certificate was issued
    key = next((explaining[place] for place in near if place in explaining), None)
    return next(iter(explaining.values()), None) if key is None and not about.target else key


def _cause(concerns: Sequence[Concern], consequences: Sequence[Concern]) -> Cause:
    problems = [concern.problem for concern in (*concerns, *consequences)]
    worst = max((problem.severity for problem in problems), key=lambda severity: severity.rank)
    since = min((problem.since for problem in problems if problem.since), default=None)
    subjects = [concern.subject for concern in concerns]
    shared = {
        name: getattr(subjects[0], name)
        for name in subjects[0].__struct_fields__
        if len({*map(attrgetter(name), subjects)}) == 1
    }
    message = _message_of([concern.problem.message for concern in concerns])
    problem = replace(concerns[0].problem, message=message, severity=worst, since=since)
    return Cause(problem, Subject(**shared), tuple(concerns), worst_first(consequences))


def _message_of(messages: Sequence[Text]) -> Text:
    """Return the first message. If a name differs between the messages, the first name and the
    number of the other names stand in the name's place.
    """
    first = messages[0]
    alike = [message for message in messages if message.template == first.template]
    values = dict(first.values)
    for place, value in first.values.items():
        others = [message.values[place] for message in alike]
        if isinstance(value, Text):
            values[place] = _message_of([other for other in others if isinstance(other, Text)])
        elif place in _NAMES and isinstance(value, str) and {value} != {*map(str, others)}:
            values[place] = first_of(list(dict.fromkeys(map(str, others))), 1)
    return first.filled(**values)


def _first_to_end(concerns: Iterable[Concern]) -> list[Concern]:
    """Return the concerns by deadline, then those without a deadline."""
    return sorted(concerns, key=lambda concern: (concern.deadline is None, concern.deadline))
