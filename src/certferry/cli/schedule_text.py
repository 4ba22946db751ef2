"""The daily run, as a person reads it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from certferry.cli.lines import Line, Span, Tone, line
from certferry.cli.tables import columns
from certferry.cli.words import HINT, WARNING, Voice, labelled
from certferry.config.findings import Finding
from certferry.core.schedule import Change, Scheduled
from certferry.text import Text

_CHANGES = {
    Change.INSTALLED: Text("Installed: certferry runs every day."),
    Change.REPLACED: Text("Replaced: the daily run is now this one."),
    Change.UNCHANGED: Text("Unchanged: the daily run is installed already."),
}
_MEND = Text(
    "write the variables into a file that `env_files` names, or refer to them by file: or command:"
)


def installed(change: Change, scheduled: Scheduled | None, voice: Voice) -> Iterator[Line]:
    """Tell what an installation has come to."""
    if scheduled is not None:
        yield from _one(scheduled, voice)
        yield line()
    yield line(voice.say(_CHANGES[change]))


def removed(gone: Sequence[Scheduled], voice: Voice) -> Iterator[Line]:
    """Tell what was taken away."""
    for scheduled in gone:
        yield line(voice.say(Text("Removed from {place}.", place=scheduled.place)))
    if not gone:
        yield line(voice.say(Text("Nothing was scheduled, and nothing was changed.")))


def told(found: Sequence[Scheduled], voice: Voice) -> Iterator[Line]:
    """Tell what is installed."""
    for scheduled in found:
        yield from _one(scheduled, voice)
        yield line()
    match len(found):
        case 0:
            yield line(voice.say(Text("Nothing is scheduled; run `certferry schedule install`.")))
        case 1:
            yield line(voice.say(Text("certferry runs every day.")))
        case _:
            words = Text("Each of these runs; one is enough: `certferry schedule remove`.")
            yield line(voice.say(words))


def lost(findings: Sequence[Finding], voice: Voice) -> Iterator[Line]:
    """Warn of secrets that the run will not find."""
    for finding in findings:
        yield from labelled(voice.say(WARNING), Tone.PENDING, voice.say(finding.text))
    if findings:
        yield line()
        yield from labelled(voice.say(HINT), Tone.FAINT, voice.say(_MEND))


def _one(scheduled: Scheduled, voice: Voice) -> Iterator[Line]:
    yield line(Span(voice.say(scheduled.place), Tone.STRONG))
    rows = [
        (Text("when"), scheduled.when),
        (Text("next run"), scheduled.next_run and Text("{at}", at=scheduled.next_run)),
        (Text("command"), Text("{command}", command=scheduled.command)),
        (Text("to do"), scheduled.to_do),
    ]
    yield from columns(
        [
            (Span(voice.say(label), Tone.FAINT), Span(voice.say_on_one_line(words)))
            for label, words in rows
            if words
        ],
        indent="  ",
    )
