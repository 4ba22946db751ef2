"""News as an operator reads them in a message, and as a program does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import reduce
from types import MappingProxyType

from certferry.core.assessment.news import Message
from certferry.core.assessment.notices import ChannelState, News, Subject, Topic
from certferry.errors import CertferryError, ClockWrong, DnsError, IssuanceError
from certferry.ports.notifier import AgainAt, Answered, RefusedForGood, Sent
from certferry.present.documents import Document, moment
from certferry.present.language import Voice
from certferry.present.layout import Line, Span, Tone, labelled, line
from certferry.present.vocabulary import HINT, at_target
from certferry.text import Text, verbatim


def answer_lines(
    answers: Mapping[str, Answered], services: Mapping[str, str], voice: Voice
) -> Iterator[Line]:
    """Write a line for each channel, and what to do below those that took no message."""
    for name, answer in answers.items():
        label = f"{name} ({voice.word(services[name])}): "
        match answer:
            case Sent():
                yield line(Span(label, Tone.STRONG), Span(voice.say(Text("sent")), Tone.GOOD))
            case RefusedForGood(problem=problem, hint=hint, partly=partly):
                said = Text("refused: {problem}", problem=problem)
                if partly:
                    said = Text("refused in part: {problem}", problem=problem)
                yield from labelled(label, Tone.STRONG, voice.say(said))
                if hint is not None:
                    yield from labelled(f"  {voice.say(HINT)}", Tone.FAINT, voice.say(hint))
            case AgainAt(moment=moment_, problem=problem):
                said = Text(
                    "not sent, try again after {moment}: {problem}", moment=moment_, problem=problem
                )
                yield from labelled(label, Tone.STRONG, voice.say(said))


def remarks(states: Mapping[str, ChannelState], voice: Voice) -> Iterator[Line]:
    """Say which channels took no message when they were last sent one."""
    for name, state in states.items():
        if state.problem is not None:
            said = Text(
                "takes no messages since {moment}: {problem}",
                moment=state.refused_since,
                problem=state.problem,
            )
            yield from labelled(f"notify.{name}: ", Tone.STRONG, voice.say(said))
            if state.hint is not None:
                yield from labelled(f"  {voice.say(HINT)}", Tone.FAINT, voice.say(state.hint))


def of_channels(states: Mapping[str, ChannelState], voice: Voice) -> list[Document]:
    """Write each channel for programs; one that took its last message has no problem."""
    return [
        {
            "name": name,
            "since": moment(state.refused_since),
            "again_at": moment(state.again_at),
            "problem": None
            if state.problem is None
            else {
                "code": "channel_refused",
                "message": voice.say(state.problem),
                "hint": None if state.hint is None else voice.say(state.hint),
            },
        }
        for name, state in states.items()
    ]


MOST_EVENTS = 100
"""Events in one document for a program; how many more there are is told."""
_MOST_LISTED = 10

_HEADINGS = {
    Topic.TROUBLE: Text("Trouble"),
    Topic.RECOVERED: Text("In order again"),
    Topic.RENEWED: Text("Renewed"),
    Topic.DEPLOYED: Text("Deployed"),
    Topic.DEADLINE: Text("Ends soon"),
    Topic.FOUND: Text("Found"),
}
_STILL = Text("Still in trouble")


def _codes(kind: type[CertferryError]) -> Iterator[str]:
    yield kind.code
    for narrower in kind.__subclasses__():
        yield from _codes(narrower)


_OF_ISSUING = frozenset({*_codes(IssuanceError), *_codes(DnsError), ClockWrong.code})
"""What stops a certificate from being issued."""
_TEST = Text("a message of `certferry notify test`; nothing has happened")


def message(
    news: Sequence[News],
    voice: Voice,
    host: str,
    run: str,
    services: Mapping[str, Text] = MappingProxyType({}),
) -> Message:
    """Write all news of a run as one message. News with one cause are told together. `services` is
    what people call a target, by its label.
    """
    groups = _grouped(news, voice)
    title = Text("certferry on {host}: {what}", host=host, what=_in_short(news, voice))
    events = [_event(one, voice, host, run) for one in news[:MOST_EVENTS]]
    document: Document = {**events[0], "events": events, "omitted": len(news) - len(events)}
    paragraphs = tuple(_paragraph(group, voice, services) for group in groups)
    return Message(voice.say_on_one_line(title), paragraphs, document)


def trial_message(voice: Voice, host: str, now: datetime, run: str) -> Message:
    """Write the message of `certferry notify test`."""
    news = News(Topic.FOUND, Subject(), now, "test", _TEST)
    event = {**_event(news, voice, host, run), "event": "test"}
    title = voice.say_on_one_line(Text("certferry on {host}: test", host=host))
    return Message(title, (voice.say(_TEST),), {**event, "events": [event], "omitted": 0})


def subject_of(subject: Subject) -> Text:
    """Name what something is about: `img: qiniu → img.example.com`."""
    if subject.channel.startswith("["):
        return verbatim(subject.channel)  # where a monitor looks, by its table
    if subject.channel:
        return Text("channel {channel}", channel=subject.channel)
    if not subject.lineage:
        return Text("the whole run")
    if not subject.target:
        return verbatim(subject.lineage)
    where = at_target(subject.target, subject.domain or None)
    return Text("{lineage}: {where}", lineage=subject.lineage, where=where)


def _grouped(news: Sequence[News], voice: Voice) -> list[list[News]]:
    groups: dict[tuple[object, ...], list[News]] = {}
    for one in news:
        hint = None if one.hint is None else voice.say(one.hint)
        key = (one.topic, one.again, voice.say(one.message), hint)
        groups.setdefault(key, []).append(one)
    return list(groups.values())


def _in_short(news: Sequence[News], voice: Voice) -> list[Text]:
    counts: dict[str, int] = {}
    for one in news:
        heading = voice.say(_heading(one))
        counts[heading] = counts.get(heading, 0) + 1
    return [Text("{what} ({count})", what=what, count=count) for what, count in counts.items()]


def _heading(one: News) -> Text:
    return _STILL if one.again else _HEADINGS[one.topic]


def _paragraph(group: Sequence[News], voice: Voice, services: Mapping[str, Text]) -> str:
    return "\n".join(voice.say(line) for line in _lines(group, services))


def _lines(group: Sequence[News], services: Mapping[str, Text]) -> Iterator[Text]:
    first = group[0]
    is_over = first.topic is Topic.RECOVERED
    subjects: list[Text] = [
        _what_is_in_order(one, services) if is_over else subject_of(one.subject)
        for one in group[:_MOST_LISTED]
    ]
    if len(group) > _MOST_LISTED:
        subjects.append(Text("and {count} more", count=len(group) - _MOST_LISTED))
    whom = [reduce(_beside, subjects)] if is_over else subjects
    yield Text("[{heading}] {subjects}", heading=_heading(first), subjects=whom)
    yield first.message
    if first.again:
        yield Text("since {moment}", moment=min(one.since for one in group))
    deadlines = [one.deadline for one in group if one.deadline is not None]
    if deadlines and first.topic is Topic.TROUBLE:
        yield Text("the old certificate is valid until {moment}", moment=min(deadlines))
    if first.hint is not None:
        yield Text("what to do: {hint}", hint=first.hint)


def _beside(one: Text, other: Text) -> Text:
    return Text("{one}; {other}", one=one, other=other)


def _what_is_in_order(one: News, services: Mapping[str, Text]) -> Text:
    """Say what of a certificate was in trouble: the name alone does not tell, when that is over."""
    lineage, target, domain = one.subject.lineage, one.subject.target, one.subject.domain
    if lineage and target:
        if target not in services:
            where = at_target(target, domain or None)
            return Text("{lineage}: deployment to {where}", lineage=lineage, where=where)
        service = services[target]
        if domain:
            service = Text("{service} → {domain}", service=service, domain=domain)
        return Text("{lineage}: deployment to {service}", lineage=lineage, service=service)
    if lineage and one.code in _OF_ISSUING:
        return Text("{lineage}: issuance", lineage=lineage)
    return subject_of(one.subject)


def _event(one: News, voice: Voice, host: str, run: str) -> Document:
    """Write one event, as docs/reference/schema/event.json has it. What is unknown is null."""
    return {
        "event": one.topic.value,
        "certificate": one.subject.lineage or None,
        "target": one.subject.target or None,
        "domain": one.subject.domain or None,
        "channel": one.subject.channel or None,
        "code": one.code or None,
        "message": voice.say(one.message),
        "hint": None if one.hint is None else voice.say(one.hint),
        "since": moment(one.since),
        "deadline": moment(one.deadline),
        "again": one.again,
        "host": host,
        "run": run,
    }
