"""Render the messages of channels: as text for an operator, and as events for a program."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import reduce
from types import MappingProxyType

from certferry.core.assessment import notices as noticed
from certferry.core.assessment.dispatch import Notification, paragraphs
from certferry.core.certificates.certificate import first_of
from certferry.errors import CertferryError, ClockWrong, DnsError, IssuanceError, Problem
from certferry.ports.notifier import AgainAt, Answered, RefusedForGood, Sent
from certferry.present.documents import Document, moment, of_problem, of_subject, rendered
from certferry.present.language import Voice, at_target, of_lineage, on_host
from certferry.present.layout import Line, Span, Tone, line
from certferry.present.status_text import MOST_NAMED
from certferry.text import Text, verbatim


def answer_lines(
    answers: Mapping[str, Answered], services: Mapping[str, Text], voice: Voice
) -> Iterator[Line]:
    """Write a line for each channel that was tried, and the hint below a refusal. `services` has
    the name of each channel's service, by channel.
    """
    for name, answer in answers.items():
        label = f"{name} ({voice.say(services[name])})"
        match answer:
            case Sent():
                sent = Span(voice.say(Text("sent")), Tone.GOOD)
                yield line(Span(f"{label}: ", Tone.STRONG), sent)
            case RefusedForGood(problem=problem, hint=hint, partly=partly):
                message_ = Text("refused: {problem}", problem=problem)
                if partly:
                    message_ = Text("refused in part: {problem}", problem=problem)
                yield from voice.about(label, message_)
                yield from voice.hint(hint, 2)
            case AgainAt(moment=moment_, problem=problem):
                message_ = Text("not sent, try again after {moment}: {problem}")
                yield from voice.about(label, message_.filled(moment=moment_, problem=problem))


def remarks(states: Mapping[str, noticed.ChannelState], voice: Voice) -> Iterator[Line]:
    """Write a line and the hint for each channel that refused its last message. Other channels get
    no line.
    """
    for name, state in states.items():
        refusal = state.refusal
        if refusal is not None:
            message_ = Text("takes no messages since {moment}: {problem}")
            message_ = message_.filled(moment=refusal.since, problem=refusal.message)
            yield from voice.about(f"notify.{name}", message_)
            yield from voice.hint(refusal.hint, 2)


MOST_EVENTS = 100
"""A document for a program has at most this many events, and under `omitted` the number of the
others.
"""
_MOST_LISTED = 10

TOPICS = {
    noticed.Topic.TROUBLE: Text("Needs attention"),
    noticed.Topic.RECOVERED: Text("In order again"),
    noticed.Topic.RENEWED: Text("Renewed"),
    noticed.Topic.DEPLOYED: Text("Deployed"),
    noticed.Topic.DEADLINE: Text("Ends soon"),
    noticed.Topic.FOUND: Text("Found"),
}
"""The heading of notices of each topic."""
_STILL = Text("Still needs attention")


def _codes(kind: type[CertferryError]) -> Iterator[str]:
    yield kind.code
    for narrower in kind.__subclasses__():
        yield from _codes(narrower)


OF_DNS = frozenset(_codes(DnsError))
"""Codes of problems with DNS, which stop an issuance."""
_OF_ISSUING = frozenset({*_codes(IssuanceError), *OF_DNS, ClockWrong.code})
"""Codes of problems that stop an issuance."""
_TEST = Text("a message of `certferry notify test`; nothing needs attention")


def message(
    notifications: Sequence[Notification],
    voice: Voice,
    host: str,
    run: str,
    services: Mapping[str, Text] = MappingProxyType({}),
) -> noticed.Message:
    """Return one message for one or more notifications, with the paragraphs of
    `dispatch.paragraphs`. `services` has the name of each target's service, by target.
    """
    counts = Counter(voice.say(_heading(notification)) for notification in notifications)
    topics = [Text("{what} ({count})", what=topic, count=n) for topic, n in counts.items()]
    title = Text("certferry on {host}: {what}", host=host, what=topics)
    events = [
        _event(notification, voice, host, run) for notification in notifications[:MOST_EVENTS]
    ]
    omitted = len(notifications) - len(events)
    written = (
        "\n".join(voice.say(line) for line in _lines(group, services))
        for group in paragraphs(notifications)
    )
    return noticed.Message(
        voice.say_on_one_line(title),
        tuple(written),
        {**events[0], "events": events, "omitted": omitted},
    )


def trial_message(voice: Voice, host: str, now: datetime, run: str) -> noticed.Message:
    """Return the message of `certferry notify test`."""
    test = Notification(
        noticed.Notice(noticed.Topic.FOUND, noticed.Subject(), now, Problem("test", _TEST))
    )
    event = {**_event(test, voice, host, run), "event": "test"}
    title = voice.say_on_one_line(Text("certferry on {host}: test", host=host))
    return noticed.Message(title, (voice.say(_TEST),), {**event, "events": [event], "omitted": 0})


def subject_of(subject: noticed.Subject) -> Text:
    """Name a subject: a place of a certificate (`img: cdn → img.example.com`), a channel, a host,
    or the whole run.
    """
    if subject.channel.startswith("["):
        return verbatim(subject.channel)  # a heartbeat or another monitor, named by its table
    if subject.channel:
        return Text("channel {channel}", channel=subject.channel)
    if subject.lineage:
        place = of_lineage(subject.lineage, subject.target, subject.domain)
        return on_host(place, subject.host)
    if subject.domain:
        return verbatim(subject.domain)  # of public logs, or a watched host
    return Text("host {host}", host=subject.host) if subject.host else Text("the whole run")


def _heading(notification: Notification) -> Text:
    return _STILL if notification.again else TOPICS[notification.notice.topic]


def _lines(group: Sequence[Notification], services: Mapping[str, Text]) -> Iterator[Text]:
    notices = [notification.notice for notification in group]
    topic, is_again = notices[0].topic, any(notification.again for notification in group)
    begun = min(notices, key=lambda notice: notice.since)
    problem = (begun if topic is noticed.Topic.RECOVERED else notices[0]).problem
    heading = _STILL if is_again else TOPICS[topic]
    yield Text("[{heading}] {subjects}", heading=heading, subjects=_whom(notices, services))
    yield problem.message
    if is_again:
        yield Text("since {moment}", moment=begun.since)
    deadlines = [notice.deadline for notice in notices if notice.deadline is not None]
    if deadlines and topic is noticed.Topic.TROUBLE and not notices[0].subject.watch:
        of_one = Text("the old certificate is valid until {moment}", moment=min(deadlines))
        of_several = Text("the first deadline is {moment}", moment=min(deadlines))
        yield of_several if len(notices) > 1 else of_one
    if problem.hint is not None:
        yield Text("what to do: {hint}", hint=problem.hint)


def _whom(notices: Sequence[noticed.Notice], services: Mapping[str, Text]) -> object:
    """Name the subjects of notices of one topic.

    If trouble or a recovery touches many certificates, return their number with the first names.
    For any other long list, return the first subjects and the number of the others.
    """
    topic, target = notices[0].topic, notices[0].subject.target
    names = list(dict.fromkeys(n.subject.lineage for n in notices if n.subject.lineage))
    of_cause = topic in {noticed.Topic.TROUBLE, noticed.Topic.RECOVERED}
    most = MOST_NAMED if of_cause else _MOST_LISTED
    if of_cause and len(notices) > most and len(names) > 1:
        many = Text("{count} certificates ({names})", count=len(names), names=first_of(names, most))
        is_at_one = bool(target) and {target} == {notice.subject.target for notice in notices}
        return Text("{subject}: {message}", subject=target, message=many) if is_at_one else many
    is_over = topic is noticed.Topic.RECOVERED
    subjects: list[Text] = [
        on_host(_what_is_in_order(notice, services), notice.subject.host)
        if is_over
        else subject_of(notice.subject)
        for notice in notices[:most]
    ]
    if len(notices) > most:
        subjects.append(Text("and {count} more", count=len(notices) - most))
    if not is_over:
        return subjects
    return reduce(lambda left, right: Text("{one}; {other}", one=left, other=right), subjects)


def _what_is_in_order(notice: noticed.Notice, services: Mapping[str, Text]) -> Text:
    """Name the part of a certificate's work that is healthy again: a deployment or the issuance.
    For other subjects, name the subject alone.
    """
    lineage, target, domain = notice.subject.lineage, notice.subject.target, notice.subject.domain
    if lineage and target:
        if target not in services:
            where = at_target(target, domain)
            return Text("{lineage}: deployment to {where}", lineage=lineage, where=where)
        service = services[target]
        if domain:
            service = Text("{service} → {domain}", service=service, domain=domain)
        return Text("{lineage}: deployment to {service}", lineage=lineage, service=service)
    if lineage and notice.problem.code in _OF_ISSUING:
        return Text("{lineage}: issuance", lineage=lineage)
    return subject_of(notice.subject)


def _event(notification: Notification, voice: Voice, host: str, run: str) -> Document:
    """Return a notification as a document for programs (docs/reference/schema/event.json). Unknown
    values are null.
    """
    notice = notification.notice
    return {
        "event": notice.topic.value,
        **of_subject(notice.subject, "certificate"),
        **rendered(of_problem(notice.problem), voice),
        "code": notice.problem.code or None,
        "since": moment(notice.since),
        "deadline": moment(notice.deadline),
        "again": notification.again,
        "host": host,
        "run": run,
    }
