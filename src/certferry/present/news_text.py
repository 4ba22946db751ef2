"""Notifications as an operator reads them in a message, and as a program does."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import reduce
from types import MappingProxyType

from certferry.core.assessment import notices as noticed
from certferry.errors import CertferryError, ClockWrong, DnsError, IssuanceError, Problem
from certferry.ports.notifier import AgainAt, Answered, RefusedForGood, Sent
from certferry.present.documents import Document, moment, of_problem, of_subject, rendered
from certferry.present.language import Voice, at_target, of_lineage, on_host
from certferry.present.layout import Line, Span, Tone, line
from certferry.text import Text, verbatim


def answer_lines(
    answers: Mapping[str, Answered], services: Mapping[str, str], voice: Voice
) -> Iterator[Line]:
    """Write a line for each channel, and what to do below those that took no message."""
    for name, answer in answers.items():
        label = f"{name} ({voice.word(services[name])})"
        match answer:
            case Sent():
                sent = Span(voice.say(Text("sent")), Tone.GOOD)
                yield line(Span(f"{label}: ", Tone.STRONG), sent)
            case RefusedForGood(problem=problem, hint=hint, partly=partly):
                said = Text("refused: {problem}", problem=problem)
                if partly:
                    said = Text("refused in part: {problem}", problem=problem)
                yield from voice.about(label, said)
                yield from voice.hint(hint, 2)
            case AgainAt(moment=moment_, problem=problem):
                said = Text("not sent, try again after {moment}: {problem}")
                yield from voice.about(label, said.filled(moment=moment_, problem=problem))


def remarks(states: Mapping[str, noticed.ChannelState], voice: Voice) -> Iterator[Line]:
    """Write which channels took no message when they were last sent one."""
    for name, state in states.items():
        refusal = state.refusal
        if refusal is not None:
            said = Text("takes no messages since {moment}: {problem}")
            said = said.filled(moment=refusal.since, problem=refusal.message)
            yield from voice.about(f"notify.{name}", said)
            yield from voice.hint(refusal.hint, 2)


MOST_EVENTS = 100
"""Events in one document for a program, which says how many more there are."""
_MOST_LISTED = 10

TOPICS = {
    noticed.Topic.TROUBLE: Text("Trouble"),
    noticed.Topic.RECOVERED: Text("In order again"),
    noticed.Topic.RENEWED: Text("Renewed"),
    noticed.Topic.DEPLOYED: Text("Deployed"),
    noticed.Topic.DEADLINE: Text("Ends soon"),
    noticed.Topic.FOUND: Text("Found"),
}
"""What notices of each topic are called."""
_STILL = Text("Still in trouble")


def _codes(kind: type[CertferryError]) -> Iterator[str]:
    yield kind.code
    for narrower in kind.__subclasses__():
        yield from _codes(narrower)


OF_DNS = frozenset(_codes(DnsError))
"""What a DNS service stops a certificate with from being issued."""
_OF_ISSUING = frozenset({*_codes(IssuanceError), *OF_DNS, ClockWrong.code})
"""What stops a certificate from being issued."""
_TEST = Text("a message of `certferry notify test`; nothing has happened")


def message(
    notifications: Sequence[noticed.Notification],
    voice: Voice,
    host: str,
    run: str,
    services: Mapping[str, Text] = MappingProxyType({}),
) -> noticed.Message:
    """Write notifications as one message, by cause; `services` are people's words for targets."""
    counts = Counter(voice.say(_heading(one)) for one in notifications)
    what = [Text("{what} ({count})", what=what, count=n) for what, n in counts.items()]
    title = Text("certferry on {host}: {what}", host=host, what=what)
    events = [_event(one, voice, host, run) for one in notifications[:MOST_EVENTS]]
    omitted = len(notifications) - len(events)
    paragraphs = (
        "\n".join(voice.say(line) for line in _lines(group, services))
        for group in _grouped(notifications, voice)
    )
    return noticed.Message(
        voice.say_on_one_line(title),
        tuple(paragraphs),
        {**events[0], "events": events, "omitted": omitted},
    )


def trial_message(voice: Voice, host: str, now: datetime, run: str) -> noticed.Message:
    """Write the message of `certferry notify test`."""
    test = noticed.Notification(
        noticed.Notice(noticed.Topic.FOUND, noticed.Subject(), now, Problem("test", _TEST))
    )
    event = {**_event(test, voice, host, run), "event": "test"}
    title = voice.say_on_one_line(Text("certferry on {host}: test", host=host))
    return noticed.Message(title, (voice.say(_TEST),), {**event, "events": [event], "omitted": 0})


def subject_of(subject: noticed.Subject) -> Text:
    """Name what something is about: `img: qiniu → img.example.com`."""
    if subject.channel.startswith("["):
        return verbatim(subject.channel)  # where a monitor looks, by its table
    if subject.channel:
        return Text("channel {channel}", channel=subject.channel)
    if subject.lineage:
        place = of_lineage(subject.lineage, subject.target, subject.domain)
        return on_host(place, subject.host)
    return Text("host {host}", host=subject.host) if subject.host else Text("the whole run")


def _grouped(
    notifications: Sequence[noticed.Notification], voice: Voice
) -> Iterable[Sequence[noticed.Notification]]:
    groups = defaultdict[tuple[object, ...], list[noticed.Notification]](list)
    for one in notifications:
        problem = one.notice.problem
        key = (one.notice.topic, one.again, voice.say(problem.message))
        groups[*key, problem.hint and voice.say(problem.hint)].append(one)
    return groups.values()


def _heading(one: noticed.Notification) -> Text:
    return _STILL if one.again else TOPICS[one.notice.topic]


def _lines(group: Sequence[noticed.Notification], services: Mapping[str, Text]) -> Iterator[Text]:
    first, notices = group[0], [one.notice for one in group]
    topic, problem = notices[0].topic, notices[0].problem
    is_over = topic is noticed.Topic.RECOVERED
    subjects: list[Text] = [
        on_host(_what_is_in_order(one, services), one.subject.host)
        if is_over
        else subject_of(one.subject)
        for one in notices[:_MOST_LISTED]
    ]
    if len(group) > _MOST_LISTED:
        subjects.append(Text("and {count} more", count=len(group) - _MOST_LISTED))
    whom: object = subjects
    if is_over:
        whom = reduce(lambda one, other: Text("{one}; {other}", one=one, other=other), subjects)
    yield Text("[{heading}] {subjects}", heading=_heading(first), subjects=whom)
    yield problem.message
    if first.again:
        yield Text("since {moment}", moment=min(one.since for one in notices))
    deadlines = [one.deadline for one in notices if one.deadline is not None]
    if deadlines and topic is noticed.Topic.TROUBLE:
        yield Text("the old certificate is valid until {moment}", moment=min(deadlines))
    if problem.hint is not None:
        yield Text("what to do: {hint}", hint=problem.hint)


def _what_is_in_order(one: noticed.Notice, services: Mapping[str, Text]) -> Text:
    """Name what of a certificate was in trouble: the name alone says too little."""
    lineage, target, domain = one.subject.lineage, one.subject.target, one.subject.domain
    if lineage and target:
        if target not in services:
            where = at_target(target, domain)
            return Text("{lineage}: deployment to {where}", lineage=lineage, where=where)
        service = services[target]
        if domain:
            service = Text("{service} → {domain}", service=service, domain=domain)
        return Text("{lineage}: deployment to {service}", lineage=lineage, service=service)
    if lineage and one.problem.code in _OF_ISSUING:
        return Text("{lineage}: issuance", lineage=lineage)
    return subject_of(one.subject)


def _event(one: noticed.Notification, voice: Voice, host: str, run: str) -> Document:
    """Write one event, as docs/reference/schema/event.json has it. What is unknown is null."""
    notice = one.notice
    return {
        "event": notice.topic.value,
        **of_subject(notice.subject, "certificate"),
        **rendered(of_problem(notice.problem), voice),
        "code": notice.problem.code or None,
        "since": moment(notice.since),
        "deadline": moment(notice.deadline),
        "again": one.again,
        "host": host,
        "run": run,
    }
