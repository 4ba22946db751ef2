"""The daily run, as a person reads it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from certferry.cli.lines import Line, Span, Tone, line
from certferry.cli.tables import columns
from certferry.cli.words import HINT, WARNING, Voice, labelled
from certferry.config.findings import Finding
from certferry.config.model import Settings
from certferry.core.schedule import Change, Scheduled
from certferry.text import Text, verbatim

_CHANGES = {
    Change.INSTALLED: Text("Installed: {standing}"),
    Change.REPLACED: Text("Replaced: {standing}"),
    Change.UNCHANGED: Text("Unchanged: {standing}"),
}
_WRITTEN = Text("Written: {standing}")
_NOTHING = Text("Nothing is scheduled; run `certferry schedule install`.")


@dataclass(frozen=True, slots=True)
class Concern:
    """Problems of one kind, and what to do about them."""

    problems: Sequence[Text]
    hint: Text | None


def installed(change: Change, scheduled: Scheduled | None, voice: Voice) -> Iterator[Line]:
    """Tell what an installation has come to."""
    if scheduled is None:  # somebody has taken it away meanwhile
        yield line(voice.say(_NOTHING))
        return
    yield from _one(scheduled, voice)
    yield line()
    yield line(voice.say(outcome_of(change, scheduled)))


def outcome_of(change: Change, scheduled: Scheduled) -> Text:
    """Say what an installation has come to."""
    only_written = change is Change.INSTALLED and scheduled.to_do is not None
    outcome = _WRITTEN if only_written else _CHANGES[change]
    return outcome.filled(standing=_standing(scheduled))


def removal_of(scheduled: Scheduled) -> Text:
    """Say where something was taken away."""
    return Text("Removed from {place}.", place=scheduled.place)


def removed(gone: Sequence[Scheduled], voice: Voice) -> Iterator[Line]:
    """Tell what was taken away."""
    for scheduled in gone:
        yield line(voice.say(removal_of(scheduled)))
    if not gone:
        yield line(voice.say(Text("Nothing was scheduled, and nothing was changed.")))


def told(found: Sequence[Scheduled], voice: Voice) -> Iterator[Line]:
    """Tell what is installed."""
    for scheduled in found:
        yield from _one(scheduled, voice)
        yield line()
    match found:
        case []:
            yield line(voice.say(_NOTHING))
        case [scheduled]:
            yield line(voice.say(_standing(scheduled)))
        case _:
            words = Text(
                "One of these is enough: `certferry schedule remove --systemd` takes away the"
                " timer alone."
            )
            yield line(voice.say(words))


def nothing_to_do(settings: Settings) -> Concern:
    """Tell of a run that would be for nothing."""
    hint = Text("declare them with [[certificates]]; what only a hook deploys is not looked after")
    said = Text("{path} declares no certificates", path=settings.path)
    return Concern([] if settings.certificates else [said], hint)


def lost(findings: Sequence[Finding]) -> Concern:
    """Tell of secrets that the run will not find."""
    hint = Text(
        "write the variables into a file that `env_files` names, or refer to them by file: or"
        " command:"
    )
    return Concern([finding.text for finding in findings], hint)


def missed(findings: Sequence[Finding], path: str) -> Concern:
    """Tell of programs that the run will not find."""
    hint = Text(
        "write the whole path of each; the run looks for programs in {path} alone", path=path
    )
    return Concern([finding.text for finding in findings], hint)


def withheld(findings: Sequence[Finding], *, systemd: bool) -> Concern:
    """Tell of variables that the run needs, and that are not written down for it."""
    # Not `env_files`: they are for secrets, and no library sees what stands there.
    hint = (
        Text(
            "unless it is set there already, write it into a file that only you can read, and name"
            " that file by EnvironmentFile= in a drop-in of certferry.service"
        )
        if systemd
        else Text(
            "unless it is set there already, write NAME=value above the run's line: `crontab -e`"
        )
    )
    return Concern([finding.text for finding in findings], hint)


def not_needed(others: Sequence[Scheduled], *, beside_ours: bool = True) -> Concern:
    """Tell of what starts certferry too, or without us where nothing of ours is installed."""
    facts = [{"place": o.place, "when": o.when, "command": o.command} for o in others]
    if beside_ours:
        return Concern(
            [Text("{place} starts certferry too ({when}): {command}", **each) for each in facts],
            Text("more than one run does no harm, but one of them is not needed"),
        )
    return Concern(
        [Text("{place} starts certferry ({when}): {command}", **each) for each in facts],
        Text("that is enough; `certferry schedule install` would be a second"),
    )


def undone(scheduled: Scheduled) -> Concern:
    """Tell of what is to be done before anything runs."""
    if scheduled.to_do is None:
        return Concern([], None)
    words = Text("{place}: to do: {to_do}", place=scheduled.place, to_do=scheduled.to_do)
    return Concern([words], None)


def warned(concerns: Sequence[Concern], voice: Voice) -> Iterator[Line]:
    """Warn of what there is, one kind after the other."""
    for number, concern in enumerate(one for one in concerns if one.problems):
        if number:
            yield line()
        for problem in concern.problems:
            yield from labelled(voice.say(WARNING), Tone.PENDING, voice.say_on_one_line(problem))
        if concern.hint is not None:
            yield line()
            yield from labelled(voice.say(HINT), Tone.FAINT, voice.say(concern.hint))


def _standing(scheduled: Scheduled) -> Text:
    match scheduled.every_day, scheduled.to_do is None:
        case True, True:
            return Text("certferry runs every day.")
        case True, False:
            return Text("certferry runs every day once what is to do has been done.")
        case False, True:
            return Text("certferry runs at the times written there.")
        case _:
            return Text(
                "certferry runs at the times written there once what is to do has been done."
            )


def _one(scheduled: Scheduled, voice: Voice) -> Iterator[Line]:
    yield line(Span(voice.say(scheduled.place), Tone.STRONG))
    rows = [
        (Text("when"), scheduled.when),
        (Text("next run"), scheduled.next_run and verbatim(_by_the_clock(scheduled.next_run))),
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


def _by_the_clock(moment: datetime) -> str:
    """Give a moment as the machine's clock will show it, as all times of a schedule are."""
    local = moment.astimezone()
    zone = timezone(local.utcoffset() or timedelta())
    return f"{local:%Y-%m-%d %H:%M} {zone}"
