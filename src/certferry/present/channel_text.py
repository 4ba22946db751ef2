"""What channels of notifications answered, as a person reads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from certferry.core.notice import ChannelState
from certferry.ports.notifier import AgainAt, Answered, RefusedForGood, Sent
from certferry.present.documents import Document, moment
from certferry.present.language import Voice
from certferry.present.layout import Line, Span, Tone, labelled, line
from certferry.present.vocabulary import HINT
from certferry.text import Text


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
