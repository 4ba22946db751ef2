"""What monitors read: the line of `certferry check`, and the metrics for Prometheus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from enum import Enum

from certferry import __version__
from certferry.core.assessment import health
from certferry.core.certificates.certificate import renew_at
from certferry.core.planning.report import SyncReport
from certferry.errors import Problem
from certferry.present.documents import Document, moment, of_problem, of_subject
from certferry.present.language import Voice, certificate_count, of_lineage, on_host
from certferry.present.layout import visible
from certferry.text import Text, verbatim

SERVICE = "CERTFERRY"

MOST_DETAILS = 25
"""Lines of detail: Nagios takes 8,192 bytes (`MAX_PLUGIN_OUTPUT_LENGTH`), NRPE may take fewer."""

_DAY = timedelta(days=1)


class PluginStatus(Enum):
    """How bad it is, by exit code (Monitoring Plugins' guidelines, "Plugin Return Codes")."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


def plugin_status_of(concerns: Iterable[health.Concern]) -> PluginStatus:
    """Judge concerns together. What is certainly bad comes before what cannot be judged."""
    found = list(concerns)
    if any(one.problem.is_error for one in found):
        return PluginStatus.CRITICAL
    if any(one.is_unjudged for one in found):
        return PluginStatus.UNKNOWN
    return PluginStatus.WARNING if found else PluginStatus.OK


def of_checkup(found: health.Checkup, now: datetime, voice: Voice) -> Iterator[str]:
    """Write the plugin's line, and a line of detail for each thing that needs a person."""
    status = plugin_status_of(found.concerns)
    yield f"{_first(status, summary(found, now, voice))} | {_performance(found, now)}"
    for concern in found.concerns[:MOST_DETAILS]:
        yield _detail(concern, voice)
    more = len(found.concerns) - MOST_DETAILS
    if more > 0:
        yield voice.say_on_one_line(Text("and {count} more", count=more))


def of_failure(problem: Problem, voice: Voice) -> Iterator[str]:
    """Write that nothing can be judged."""
    yield _first(PluginStatus.UNKNOWN, voice.say_on_one_line(problem.message))
    if problem.hint is not None:
        yield _harmless(voice.say_on_one_line(problem.hint))


def document(found: health.Checkup, now: datetime, voice: Voice) -> Document:
    """Write it for a program."""
    return {
        "status": plugin_status_of(found.concerns).name,
        "summary": summary(found, now, voice),
        "soonest": found.soonest
        and {
            "name": found.soonest.lineage,
            "not_after": moment(found.soonest.certificate.not_after),
            "days": days_left(found.soonest.certificate.not_after, now),
        },
        "certificates": found.certificates,
        "served": found.served,
        "places": found.places,
        "problems": [_problem(concern, plugin_status_of([concern])) for concern in found.concerns],
    }


def document_of_failure(problem: Problem, voice: Voice) -> Document:
    """Write for a program that nothing can be judged."""
    return {
        "status": PluginStatus.UNKNOWN.name,
        "summary": voice.say_on_one_line(problem.message),
        "soonest": None,
        "certificates": None,
        "served": None,
        "places": None,
        "problems": [_problem(health.Concern(problem), PluginStatus.UNKNOWN)],
        "error": of_problem(problem),
    }


def summary(found: health.Checkup, now: datetime, voice: Voice) -> str:
    """Write the worst in a sentence, and how the whole stands."""
    counted: list[Text] = []
    for worst in found.concerns[:1]:
        more, said = len(found.concerns) - 1, _in_words(worst)
        counted.append(Text("{said} (and {count} more)", said=said, count=more) if more else said)
    if found.places == found.served and found.places:
        counted.append(Text("{count} served", count=found.served))
    elif found.places:
        counted.append(Text("{served} of {count} served", served=found.served, count=found.places))
    else:
        counted.append(certificate_count(found.certificates))
    if found.soonest is not None:
        days = days_left(found.soonest.certificate.not_after, now)
        name = found.soonest.lineage
        counted.append(Text("soonest {days} d ({name})", days=days, name=name))
    return voice.say_on_one_line(Text("{counted}", counted=counted))


def days_left(end: datetime, now: datetime) -> int:
    """Return how many whole days are left; below zero once it is over."""
    return (end - now) // _DAY


def _first(status: PluginStatus, sentence: str) -> str:
    return f"{SERVICE} {status.name} - {_harmless(sentence)}"


def _performance(found: health.Checkup, now: datetime) -> str:
    counts = (
        f"'certificates'={found.certificates};;;0",
        f"'served'={found.served};;;0;{found.places}",
        f"'problems'={len(found.concerns)};;;0",
    )
    if found.soonest is None:
        return " ".join(counts)
    certificate = found.soonest.certificate
    left = days_left(certificate.not_after, now)
    warning, critical = (
        certificate.lifetime // n // _DAY for n in (health.WARNING_SHARE, health.CRITICAL_SHARE)
    )
    return " ".join([f"'soonest'={left};{warning};{critical};;", *counts])


def _detail(concern: health.Concern, voice: Voice) -> str:
    problem, status = concern.problem, plugin_status_of([concern])
    said = _in_words(concern)
    if problem.hint is not None:
        said = Text("{said} (hint: {hint})", said=said, hint=problem.hint)
    return _harmless(f"{status.name} [{problem.code}] {voice.say_on_one_line(said)}")


def concern_subject(concern: health.Concern) -> Text:
    """Return what a concern is about."""
    about = concern.subject
    if about.lineage:
        return on_host(of_lineage(about.lineage, about.target, about.domain), about.host)
    return verbatim(about.channel or about.host or "certferry")


def _in_words(concern: health.Concern) -> Text:
    said = concern.problem.message
    return Text("{subject}: {message}", subject=concern_subject(concern), message=said)


def _harmless(words: str) -> str:
    """Take out what would begin performance data, or a line of its own."""
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
"""How many steps of an action ended so, over all runs."""

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
    "certferry_last_run_timestamp_seconds": "When the last run ended.",
    "certferry_last_success_timestamp_seconds": "When the last run ended in which nothing failed.",
    "certferry_steps_total": "Steps of all runs, by action and outcome.",
    "certferry_build_info": "The version that wrote this.",
}
NAMES = tuple(_HELP)


def metrics(
    expected: Collection[health.Expected], known: health.Recorded, steps: Steps, host: str = ""
) -> str:
    """Write what is recorded of the certificates that are expected; `host` is a label of each where
    several hosts share it.
    """
    names = {one.lineage for one in expected}
    last = known.last_run
    of_runs = (None, None) if last is None else (last.ended_at, last.succeeded_at)
    families: list[_Samples] = [
        *_of_certificates(expected, known),
        *_of_domains(names, known),
        *map(_moment, of_runs),
        [({"action": action, "outcome": end}, n) for (action, end), n in sorted(steps.items())],
        [({"version": __version__}, 1)],
    ]
    return "".join(
        line
        for (name, help_), samples in zip(_HELP.items(), families, strict=True)
        for line in _family(name, help_, samples, {"host": host} if host else {})
    )


def counted(report: SyncReport) -> Counter[tuple[str, str]]:
    """Count the steps of a run."""
    return Counter(
        (step.word, step.outcome.value) for lineage in report.lineages for step in lineage.outcomes
    )


def _of_certificates(
    expected: Collection[health.Expected], known: health.Recorded
) -> tuple[_Samples, ...]:
    end: _Samples = []
    begin: _Samples = []
    renewal: _Samples = []
    deadline: _Samples = []
    for one in expected:
        for version in known.versions.get(one.lineage, ())[:1]:
            labels, certificate = {"name": one.lineage}, version.certificate
            end.append((labels, _at(certificate.not_after)))
            begin.append((labels, _at(certificate.not_before)))
            if not one.is_imported:
                renewal.append((labels, _at(renew_at(certificate, version.window))))
            if one.least_life:
                deadline.append((labels, _at(certificate.not_after - one.least_life)))
    return end, begin, renewal, deadline


def _of_domains(names: Collection[str], known: health.Recorded) -> tuple[_Samples, _Samples]:
    served: _Samples = []
    info: _Samples = []
    for one in known.sightings:
        if one.lineage not in names or one.is_owned_elsewhere:
            continue
        labels = {"name": one.lineage, "target": one.target, "domain": one.domain}
        served.append((labels, int(one.served)))
        if one.fingerprint is not None:
            info.append(({**labels, "fingerprint_sha256": one.fingerprint}, 1))
    return served, info


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
            f'{label}="{_escaped(said)}"' for label, said in {**of_all, **labels}.items()
        )
        yield f"{name}{{{inner}}} {value:.0f}\n" if inner else f"{name} {value:.0f}\n"


def _escaped(said: str) -> str:
    return said.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
