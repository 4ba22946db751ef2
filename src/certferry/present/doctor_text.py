"""What `certferry doctor` found, as a person reads it: each finding, its fix, and the count."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from importlib.metadata import version

from certferry import __version__
from certferry.ports.examination import AccountReport
from certferry.present.language import Voice, once, one_or_many
from certferry.present.layout import Line, Tone, labelled, line
from certferry.problem import Problem, Severity
from certferry.text import Text

FIX = Text("fix: ")
_INDENT = 2


def lines(findings: Sequence[Problem], voice: Voice) -> Iterator[Line]:
    """Write every finding, and the count."""
    for finding in findings:
        yield from _finding(finding, voice)
    if findings:
        yield line()
    yield line(voice.say(_conclusion(findings)))


def error_lines(findings: Sequence[Problem], voice: Voice) -> Iterator[Line]:
    """Write the errors alone."""
    for finding in findings:
        if finding.is_error:
            yield from _finding(finding, voice)


def _finding(finding: Problem, voice: Voice) -> Iterator[Line]:
    """Write one finding: its subject, its message, its code, its fix."""
    words = once(finding.subject, voice.say(finding.message))
    if finding.subject.startswith("/"):
        words = words.removeprefix(f"{finding.subject} ")  # a path is long
    said = f"{finding.subject}: {words} [{finding.code}]"
    if finding.severity is Severity.NOTICE:
        yield from labelled(voice.say(Text("info: ")), Tone.FAINT, said)
    else:
        yield from voice.error(said) if finding.is_error else voice.warning(said)
    if finding.hint is not None:
        yield from labelled(voice.say(FIX), Tone.FAINT, voice.say(finding.hint), _INDENT)


def _conclusion(findings: Sequence[Problem]) -> Text:
    counts = Counter(finding.severity for finding in findings)
    counted = [
        one_or_many(counts[severity], one, many)
        for severity, one, many in (
            (Severity.ERROR, Text("1 error"), Text("{count} errors")),
            (Severity.WARNING, Text("1 warning"), Text("{count} warnings")),
        )
        if counts[severity]
    ]
    if not counted:
        return Text("Everything that a run relies on is in order. Nothing was changed.")
    return Text("{counts}. Nothing was changed.", counts=counted)


LIBRARIES = ("acme", "cryptography", "dnspython", "msgspec", "requests", "urllib3")


def report(reports: Iterable[AccountReport], now: datetime, voice: Voice) -> Iterator[Line]:
    """Write the text for an issue, in Markdown: versions, and what each account answered."""
    heading = Text("certferry {version}, report of {moment}", version=__version__, moment=now)
    yield line("## ", voice.say(heading))
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    system = f"Python {platform.python_version()}, {platform.system()}, {libraries}"
    yield from (line(), line(system))
    said = Text(
        "Reading calls only. No secret is in this text, no id, and no name of a domain, a bucket or"
        " a certificate."
    )
    yield from (line(), line(voice.say(said)))
    for one in reports:
        yield from (line(), line("### ", one.service), line())
        yield from (line("- ", voice.say(said)) for said in one.lines)
