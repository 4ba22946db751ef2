"""Render output for monitors: the lines and the JSON document of `certferry check`, and metrics for
Prometheus.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from enum import Enum

from certferry import __version__
from certferry.core.assessment import health
from certferry.core.assessment.causes import Cause, causes_of
from certferry.core.certificates.certificate import renew_at
from certferry.core.planning.report import SyncReport
from certferry.errors import Problem
from certferry.present.documents import Document, moment, of_cause, of_problem, of_subject
from certferry.present.language import Voice, certificate_count
from certferry.present.layout import visible
from certferry.present.status_text import cause_in_words, concern_in_words
from certferry.text import Text

SERVICE = "CERTFERRY"

MOST_DETAILS = 25
"""The most concerns that get a line of detail: Nagios reads only 8,192 bytes of output
(`MAX_PLUGIN_OUTPUT_LENGTH`), and NRPE may read less.
"""

_DAY = timedelta(days=1)


class PluginStatus(Enum):
    """A monitoring plugin's exit code (Monitoring Plugins' guidelines, "Plugin Return Codes")."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


def plugin_status_of(concerns: Iterable[health.Concern]) -> PluginStatus:
    """Return the exit code for all concerns together: CRITICAL if one is an error, else UNKNOWN if
    one makes the other judgments uncertain, else WARNING for any concern, else OK.
    """
    listed = list(concerns)
    if any(concern.problem.is_error for concern in listed):
        return PluginStatus.CRITICAL
    if any(concern.is_unjudged for concern in listed):
        return PluginStatus.UNKNOWN
    return PluginStatus.WARNING if listed else PluginStatus.OK


def of_checkup(checkup: health.Checkup, now: datetime, voice: Voice) -> Iterator[str]:
    """Yield the plugin's line, then a line for each concern. Concerns beyond `MOST_DETAILS` are
    only counted.
    """
    status = plugin_status_of(checkup.concerns)
    causes = causes_of(checkup.concerns)
    yield f"{_first(status, summary(checkup, causes, now, voice))} | {_performance(checkup, now)}"
    for concern in checkup.concerns[:MOST_DETAILS]:
        yield _detail(concern, voice)
    more = len(checkup.concerns) - MOST_DETAILS
    if more > 0:
        yield voice.say_on_one_line(Text("and {count} more", count=more))


def of_failure(problem: Problem, voice: Voice) -> Iterator[str]:
    """Yield the plugin's line of a check that failed before it could judge anything, then the hint
    if the problem has one.
    """
    yield _first(PluginStatus.UNKNOWN, voice.say_on_one_line(problem.message))
    if problem.hint is not None:
        yield _harmless(voice.say_on_one_line(problem.hint))


def document(checkup: health.Checkup, now: datetime, voice: Voice) -> Document:
    """Return the checkup as a JSON document."""
    causes = causes_of(checkup.concerns)
    numbers = {id(concern): number for number, concern in enumerate(checkup.concerns)}
    return {
        "status": plugin_status_of(checkup.concerns).name,
        "summary": summary(checkup, causes, now, voice),
        "soonest": checkup.soonest
        and {
            "name": checkup.soonest.lineage,
            "not_after": moment(checkup.soonest.certificate.not_after),
            "days": days_left(checkup.soonest.certificate.not_after, now),
        },
        "certificates": checkup.certificates,
        "served": checkup.served,
        "places": checkup.places,
        "delivered": checkup.delivered,
        "receivers": checkup.receivers,
        "causes": [_of_cause(cause, numbers) for cause in causes],
        "problems": [
            _problem(concern, plugin_status_of([concern])) for concern in checkup.concerns
        ],
    }


def document_of_failure(problem: Problem, voice: Voice) -> Document:
    """Return the JSON document of a check that failed before it could judge anything."""
    return {
        "status": PluginStatus.UNKNOWN.name,
        "summary": voice.say_on_one_line(problem.message),
        "soonest": None,
        "certificates": None,
        "served": None,
        "places": None,
        "delivered": None,
        "receivers": None,
        "causes": [],
        "problems": [_problem(health.Concern(problem), PluginStatus.UNKNOWN)],
        "error": of_problem(problem),
    }


def summary(checkup: health.Checkup, causes: Sequence[Cause], now: datetime, voice: Voice) -> str:
    """Return the checkup on one line. `causes` are the causes of the checkup, the worst first.

    The line has the worst cause, if any, and the first certificate to end. Between them it has the
    number of served places, or else of certificates; the latter only if the worst cause does not
    touch all certificates.
    """
    counted: list[Text] = []
    for worst in causes[:1]:
        more, sentence = len(causes) - 1, _with_reach(worst)
        counted.append(
            Text("{said} (and {count} more)", said=sentence, count=more) if more else sentence
        )
    if checkup.places == checkup.served and checkup.places:
        counted.append(Text("{count} served", count=checkup.served))
    elif checkup.places:
        counted.append(
            Text("{served} of {count} served", served=checkup.served, count=checkup.places)
        )
    if checkup.receivers == checkup.delivered and checkup.receivers:
        counted.append(Text("{count} delivered", count=checkup.delivered))
    elif checkup.receivers:
        delivered = {"delivered": checkup.delivered, "count": checkup.receivers}
        counted.append(Text("{delivered} of {count} delivered", **delivered))
    has_places = checkup.places or checkup.receivers
    if not has_places and (not causes or len(causes[0].lineages) < checkup.certificates):
        counted.append(certificate_count(checkup.certificates))
    if checkup.soonest is not None:
        days = days_left(checkup.soonest.certificate.not_after, now)
        name = checkup.soonest.lineage
        counted.append(Text("soonest {days} d ({name})", days=days, name=name))
    return voice.say_on_one_line(Text("{counted}", counted=counted))


def days_left(end: datetime, now: datetime) -> int:
    """Return the days from `now` to `end`, rounded down to whole days: negative after the end."""
    return (end - now) // _DAY


def _first(status: PluginStatus, sentence: str) -> str:
    return f"{SERVICE} {status.name} - {_harmless(sentence)}"


def _performance(checkup: health.Checkup, now: datetime) -> str:
    counts = (
        f"'certificates'={checkup.certificates};;;0",
        f"'served'={checkup.served};;;0;{checkup.places}",
        f"'problems'={len(checkup.concerns)};;;0",
    )
    if checkup.soonest is None:
        return " ".join(counts)
    certificate = checkup.soonest.certificate
    left = days_left(certificate.not_after, now)
    warning, critical = (
        certificate.lifetime // n // _DAY for n in (health.WARNING_SHARE, health.CRITICAL_SHARE)
    )
    return " ".join([f"'soonest'={left};{warning};{critical};;", *counts])


def _detail(concern: health.Concern, voice: Voice) -> str:
    problem, status = concern.problem, plugin_status_of([concern])
    sentence = concern_in_words(concern)
    if problem.hint is not None:
        sentence = Text("{said} (hint: {hint})", said=sentence, hint=problem.hint)
    return _harmless(f"{status.name} [{problem.code}] {voice.say_on_one_line(sentence)}")


def _with_reach(cause: Cause) -> Text:
    """Return a cause in one sentence, with the number of its certificates if there are several."""
    sentence, count = cause_in_words(cause), len(cause.lineages)
    if count > 1:
        certificates = certificate_count(count)
        return Text("{said}: {certificates}", said=sentence, certificates=certificates)
    return sentence


def _of_cause(cause: Cause, numbers: Mapping[int, int]) -> Document:
    """Return a cause as a document. `numbers` has the position of each concern in the document's
    list of problems, by the `id()` of the concern's object.
    """
    return {
        **of_cause(cause),
        "status": plugin_status_of(cause.everything).name,
        "problems": sorted(numbers[id(concern)] for concern in cause.everything),
    }


def _harmless(words: str) -> str:
    """Replace control characters, line ends, and bars: a bar begins a plugin's performance data."""
    return visible(words.replace("|", "/").replace("\n", " "))


def _problem(concern: health.Concern, status: PluginStatus) -> Document:
    return {
        **of_subject(concern.subject, "name"),
        "status": status.name,
        **of_problem(concern.problem),
        "since": moment(concern.problem.since),
        "deadline": moment(concern.deadline),
    }


Steps = Mapping[tuple[str, str], int]
"""Counts of steps over all runs, by action and outcome."""

_Samples = list[tuple[Mapping[str, str], float]]

_HELP = {
    "certferry_certificate_not_after_timestamp_seconds": "When the newest certificate ends.",
    "certferry_certificate_not_before_timestamp_seconds": "When the newest certificate began.",
    "certferry_certificate_renewal_timestamp_seconds": "When it is renewed.",
    "certferry_certificate_upload_deadline_timestamp_seconds": (
        "Until when its targets take the newest certificate."
    ),
    "certferry_domain_served": "Whether the domain had its certificate at the last look.",
    "certferry_domain_served_info": "Which certificate the domain was last seen to have.",
    "certferry_watched_in_order": "Whether the watched host was in order at the last look.",
    "certferry_watched_not_after_timestamp_seconds": (
        "When the first certificate at the watched host ends."
    ),
    "certferry_last_run_timestamp_seconds": "When the last run ended.",
    "certferry_last_success_timestamp_seconds": "When the last run ended in which nothing failed.",
    "certferry_causes": "The causes of trouble, by code and severity.",
    "certferry_steps_total": "Steps of all runs, by action and outcome.",
    "certferry_build_info": "The version that wrote this.",
}
NAMES = tuple(_HELP)


def metrics(
    expected: Collection[health.Expected],
    recorded: health.Recorded,
    causes: Iterable[Cause],
    steps: Steps,
    host: str = "",
) -> str:
    """Return metrics in the text format of Prometheus: about the expected certificates and their
    domains, the causes of trouble, runs and steps. If `host` is not empty, each sample has the
    label `host`.
    """
    names = {certificate.lineage for certificate in expected}
    last = recorded.last_run
    of_runs = (None, None) if last is None else (last.ended_at, last.succeeded_at)
    families: list[_Samples] = [
        *_of_certificates(expected, recorded),
        *_of_domains(names, recorded),
        *_of_watched(recorded),
        *map(_moment, of_runs),
        _of_causes(causes),
        [({"action": action, "outcome": end}, n) for (action, end), n in sorted(steps.items())],
        [({"version": __version__}, 1)],
    ]
    return "".join(
        line
        for (name, help_), samples in zip(_HELP.items(), families, strict=True)
        for line in _family(name, help_, samples, {"host": host} if host else {})
    )


def counted(report: SyncReport) -> Counter[tuple[str, str]]:
    """Count the steps of a run by action and outcome."""
    return Counter(
        (step.word, step.outcome.value) for lineage in report.lineages for step in lineage.outcomes
    )


def _of_certificates(
    expected: Collection[health.Expected], recorded: health.Recorded
) -> tuple[_Samples, ...]:
    end: _Samples = []
    begin: _Samples = []
    renewal: _Samples = []
    deadline: _Samples = []
    for wanted in expected:
        for version in recorded.versions.get(wanted.lineage, ())[:1]:
            labels, certificate = {"name": wanted.lineage}, version.certificate
            end.append((labels, _at(certificate.not_after)))
            begin.append((labels, _at(certificate.not_before)))
            if not wanted.is_imported:
                renewal.append((labels, _at(renew_at(certificate, version.window))))
            if wanted.least_life:
                deadline.append((labels, _at(certificate.not_after - wanted.least_life)))
    return end, begin, renewal, deadline


def _of_causes(causes: Iterable[Cause]) -> _Samples:
    counts = Counter((cause.problem.code, cause.problem.severity.value) for cause in causes)
    return [
        ({"code": code, "severity": severity}, count)
        for (code, severity), count in sorted(counts.items())
    ]


def _of_domains(names: Collection[str], recorded: health.Recorded) -> tuple[_Samples, _Samples]:
    served: _Samples = []
    info: _Samples = []
    for sighting in recorded.sightings:
        if sighting.lineage not in names or sighting.is_owned_elsewhere:
            continue
        labels = {"name": sighting.lineage, "target": sighting.target, "domain": sighting.domain}
        served.append((labels, int(sighting.served)))
        if sighting.fingerprint is not None:
            info.append(({**labels, "fingerprint_sha256": sighting.fingerprint}, 1))
    return served, info


def _of_watched(recorded: health.Recorded) -> tuple[_Samples, _Samples]:
    valid: _Samples = []
    end: _Samples = []
    for look in recorded.watching.looks if recorded.watching is not None else ():
        labels = {"domain": str(look.host), "watch": look.watch}
        valid.append((labels, int(look.problem is None)))
        if look.not_after is not None:
            end.append((labels, _at(look.not_after)))
    return valid, end


def _moment(moment: datetime | None) -> _Samples:
    return [] if moment is None else [({}, _at(moment))]


def _at(moment: datetime) -> float:
    return moment.timestamp() // 1


def _family(name: str, help_: str, samples: _Samples, of_all: Mapping[str, str]) -> Iterator[str]:
    if not samples:
        return
    yield f"# HELP {name} {help_}\n"
    yield f"# TYPE {name} {'counter' if name.endswith('_total') else 'gauge'}\n"
    for labels, value in samples:
        inner = ",".join(
            f'{label}="{_escaped(value_text)}"'
            for label, value_text in {**of_all, **labels}.items()
        )
        yield f"{name}{{{inner}}} {value:.0f}\n" if inner else f"{name} {value:.0f}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
