"""Render an installed schedule for a person, and the concerns about the schedule."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from certferry.core.schedule import Installation, Job, Scheduled
from certferry.present.language import Voice
from certferry.present.layout import Line, Span, Tone, line
from certferry.text import Text, offset, verbatim

Concern = tuple[Sequence[Text], Text | None]
"""Problems of one kind, perhaps none, and the hint for them."""

OUTCOMES = {
    Installation.INSTALLED: Text("Installed: {when}."),
    Installation.REPLACED: Text("Replaced: {when}."),
    Installation.UNCHANGED: Text("Unchanged: {when}."),
}


def lines(scheduled: Scheduled, voice: Voice) -> list[Line]:
    """Render an installed schedule: the place, then the known facts. Times are in the machine's
    time zone.
    """
    next_run = scheduled.next_run.astimezone() if scheduled.next_run else None
    begins = f"{next_run:%Y-%m-%d %H:%M} {offset(next_run)}" if next_run else ""
    rows = [
        (Text("when"), scheduled.when),
        (Text("next run"), verbatim(begins)),
        (Text("log"), verbatim(_log_of(scheduled.command))),
        (Text("command"), verbatim(scheduled.command)),
    ]
    shown = [(label, words) for label, fact in rows if (words := voice.say_on_one_line(fact))]
    place = line(Span(voice.say(scheduled.place), Tone.STRONG))
    return [place, *voice.facts(shown, indent="  ")]


LOGROTATE = """\
"{log}" {{
    weekly
    rotate 8
    compress
    # A run that is at work goes on writing into the file that was moved.
    delaycompress
    missingok
    notifempty
    # certferry makes the new file itself, 0640.
    nocreate
}}"""
"""A configuration for logrotate that rotates the log. The configuration sends no signal to
certferry, because certferry opens the file again for each line.
"""


def _log_of(command: str) -> str:
    """Return the log file in a command, or "" if the command names none."""
    try:
        words = shlex.split(command)
    except ValueError:
        return ""
    return dict(itertools.pairwise(words)).get("--log-file", "")


LOST = Text(
    "write the variables into a file listed in `env_files`, or have the configuration read the"
    " secrets from file: or command: in place of env:"
)
"""The hint for secrets that a scheduled run would not find."""
# The hint does not name `env_files`: libraries do not see the variables of these files.
WITHHELD = Text(
    "set the variable for the run yourself: above the line in `crontab -e`, or in a file that"
    " only you can read, with EnvironmentFile= in a drop-in of certferry.service"
)
"""The hint for variables that a scheduled run needs, and that `install` does not store."""
MISSED = Text("write the full path of each; the run looks for programs only in {path}")
"""The hint for programs that a scheduled run would not find."""


def nothing_to_do(path: Path | None) -> Concern:
    """Return the concern that the configuration file declares no certificates."""
    return [Text("{path} declares no certificates", path=path)], Text(
        "declare the certificates with [[certificates]]; scheduled runs skip certificates that"
        " only a hook deploys"
    )


_CONFIGURATION = "/etc/certferry/certferry.toml"
_WRITABLE = (Path("/var/lib/certferry"), Path("/var/log/certferry"))


def beyond_package(job: Job) -> Concern:
    """Return the concern about needs of a job that the Debian package's units do not meet."""
    problems: list[Text] = []
    if _CONFIGURATION not in job.command:
        problems.append(Text("the package's timer reads only {path}", path=_CONFIGURATION))
    if job.runs_programs:
        problems.append(
            Text("the package's timer runs programs as the user certferry, in a sandbox")
        )
    problems += [
        Text("the package's timer cannot write to {path}", path=path)
        for path in map(Path, job.writes)
        if not any(path.is_relative_to(writable) for writable in _WRITABLE)
    ]
    if job.environment:
        problem = Text("the package's timer does not set {names}", names=sorted(job.environment))
        problems.append(problem)
    return problems, Text(
        "write a drop-in: systemctl edit certferry.service; {path} has an example",
        path="/usr/share/doc/certferry/README.Debian",
    )


def not_needed(starts: Sequence[Text]) -> Concern:
    """Return the concern that several schedules start certferry. For at most one schedule in
    `starts`, the concern has no problem.
    """
    message = Text("certferry is started by {places}", places=starts)
    return [message] if len(starts) > 1 else [], Text(
        "keep only one of them; `certferry schedule remove` removes the entries written by"
        " `install`, with --systemd only the timer"
    )


def undone(scheduled: Scheduled) -> Concern:
    """Return the concern that an operator must take a step before the system starts the runs. If no
    step is left, the concern has no problem.
    """
    message = Text("{place}: to do: {to_do}", place=scheduled.place, to_do=scheduled.to_do)
    return [message] if scheduled.to_do else [], None


def warned(concerns: Sequence[Concern], voice: Voice) -> Iterator[Line]:
    """Render the concerns that have problems, one kind after the other."""
    for number, (problems, hint) in enumerate(concern for concern in concerns if concern[0]):
        if number:
            yield line()
        for problem in problems:
            yield from voice.warning(voice.say_on_one_line(problem))
        if hint is not None:
            yield from (line(), *voice.hint(hint))
