"""What monitors read: the line of `certferry check`, and the metrics for Prometheus."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime, timedelta

from certferry import __version__
from certferry.core.assessment.health import (
    CRITICAL_SHARE,
    WARNING_SHARE,
    Checkup,
    Concern,
    Expected,
    Health,
    Recorded,
    Soonest,
)
from certferry.core.certificates.renewal import renew_at
from certferry.core.planning.report import SyncReport
from certferry.present.documents import Document, moment
from certferry.present.language import Voice
from certferry.present.layout import visible
from certferry.present.vocabulary import at_target, one_or_many
from certferry.text import Text, verbatim

SERVICE = "CERTFERRY"

MOST_DETAILS = 25
"""Lines of detail: Nagios takes 8,192 bytes (`MAX_PLUGIN_OUTPUT_LENGTH`), NRPE may take fewer."""

_DAY = timedelta(days=1)


def of_checkup(found: Checkup, now: datetime, voice: Voice) -> Iterator[str]:
    """Write the plugin's line, and a line of detail for each thing that needs a person."""
    yield _first(found.health, summary(found, now, voice), _performance(found, now))
    for concern in found.concerns[:MOST_DETAILS]:
        yield _detail(concern, voice)
    more = len(found.concerns) - MOST_DETAILS
    if more > 0:
        yield voice.say_on_one_line(Text("and {count} more", count=more))


def of_failure(message: Text, hint: Text | None, voice: Voice) -> Iterator[str]:
    """Write that nothing can be said."""
    yield _first(Health.UNKNOWN, voice.say_on_one_line(message), "")
    if hint is not None:
        yield _harmless(voice.say_on_one_line(hint))


def document(found: Checkup, now: datetime, voice: Voice) -> Document:
    """Write it for a program."""
    return {
        "status": found.health.name,
        "summary": summary(found, now, voice),
        "soonest": None if found.soonest is None else _soonest(found.soonest, now),
        "certificates": found.certificates,
        "served": found.served,
        "places": found.places,
        "problems": [_problem(concern, voice) for concern in found.concerns],
    }


def document_of_failure(code: str, message: Text, hint: Text | None, voice: Voice) -> Document:
    """Write for a program that nothing can be said."""
    concern = Concern(Health.UNKNOWN, code, message, hint)
    problem = _problem(concern, voice)
    return {
        "status": Health.UNKNOWN.name,
        "summary": voice.say_on_one_line(message),
        "soonest": None,
        "certificates": None,
        "served": None,
        "places": None,
        "problems": [problem],
        "error": {key: problem[key] for key in ("code", "message", "hint")},
    }


def summary(found: Checkup, now: datetime, voice: Voice) -> str:
    """Say the worst in a sentence, and how the whole stands."""
    counted: list[Text] = []
    if found.concerns:
        counted.append(_worst(found))
    if found.places == found.served and found.places:
        counted.append(Text("{count} served", count=found.served))
    elif found.places:
        counted.append(Text("{served} of {count} served", served=found.served, count=found.places))
    else:
        one, many = Text("1 certificate"), Text("{count} certificates", count=found.certificates)
        counted.append(one_or_many(found.certificates, one, many))
    if found.soonest is not None:
        days = days_left(found.soonest.certificate.not_after, now)
        name = found.soonest.lineage
        counted.append(Text("soonest {days} d ({name})", days=days, name=name))
    return voice.say_on_one_line(Text("{counted}", counted=counted))


def days_left(end: datetime, now: datetime) -> int:
    """Return how many whole days are left; below zero once it is over."""
    return (end - now) // _DAY


def _worst(found: Checkup) -> Text:
    first = found.concerns[0]
    said = Text("{subject}: {message}", subject=_subject(first), message=first.message)
    more = len(found.concerns) - 1
    return said if not more else Text("{said} (and {count} more)", said=said, count=more)


def _first(health: Health, sentence: str, performance: str) -> str:
    line = f"{SERVICE} {health.name} - {_harmless(sentence)}"
    return f"{line} | {performance}" if performance else line


def _performance(found: Checkup, now: datetime) -> str:
    counts = (
        f"'certificates'={found.certificates};;;0",
        f"'served'={found.served};;;0;{found.places}",
        f"'problems'={len(found.concerns)};;;0",
    )
    if found.soonest is None:
        return " ".join(counts)
    certificate = found.soonest.certificate
    left = days_left(certificate.not_after, now)
    warning, critical = (certificate.lifetime // n // _DAY for n in (WARNING_SHARE, CRITICAL_SHARE))
    return " ".join([f"'soonest'={left};{warning};{critical};;", *counts])


def _detail(concern: Concern, voice: Voice) -> str:
    said = Text("{subject}: {message}", subject=_subject(concern), message=concern.message)
    if concern.hint is not None:
        said = Text("{said} (hint: {hint})", said=said, hint=concern.hint)
    return _harmless(f"{concern.health.name} [{concern.code}] {voice.say_on_one_line(said)}")


def _subject(concern: Concern) -> Text:
    if not concern.lineage:
        return verbatim(concern.channel or "certferry")
    if not concern.target:
        return verbatim(concern.lineage)
    where = at_target(concern.target, concern.domain or None)
    return Text("{lineage}: {where}", lineage=concern.lineage, where=where)


def _harmless(words: str) -> str:
    """Take out what would begin performance data, or a line of its own."""
    return visible(words.replace("|", "/").replace("\n", " "))


def _soonest(soonest: Soonest, now: datetime) -> Document:
    end = soonest.certificate.not_after
    return {"name": soonest.lineage, "not_after": moment(end), "days": days_left(end, now)}


def _problem(concern: Concern, voice: Voice) -> Document:
    return {
        "name": concern.lineage or None,
        "target": concern.target or None,
        "domain": concern.domain or None,
        "channel": concern.channel or None,
        "status": concern.health.name,
        "code": concern.code,
        "message": voice.say(concern.message),
        "hint": None if concern.hint is None else voice.say(concern.hint),
        "since": moment(concern.since),
        "deadline": moment(concern.deadline),
    }


Steps = Mapping[tuple[str, str], int]
"""How many steps of an action ended so, over all runs."""

_Sample = tuple[Mapping[str, str], float]

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


def metrics(expected: Collection[Expected], known: Recorded, steps: Steps) -> str:
    """Write what is recorded of the certificates that are expected."""
    families = dict(_families(expected, known, steps))
    return "".join(
        line for name, help_ in _HELP.items() for line in _family(name, help_, families[name])
    )


def counted(report: SyncReport) -> dict[tuple[str, str], int]:
    """Count the steps of a run."""
    found: dict[tuple[str, str], int] = {}
    for lineage in report.lineages:
        for step in lineage.outcomes:
            key = (step.word, step.outcome.value)
            found[key] = found.get(key, 0) + 1
    return found


def _families(
    expected: Collection[Expected], known: Recorded, steps: Steps
) -> Iterator[tuple[str, list[_Sample]]]:
    newest = [
        (one, known.versions[one.lineage][0]) for one in expected if known.versions.get(one.lineage)
    ]
    of_certificate = "certferry_certificate_{}_timestamp_seconds".format
    yield (
        of_certificate("not_after"),
        [({"name": one.lineage}, _at(v.certificate.not_after)) for one, v in newest],
    )
    yield (
        of_certificate("not_before"),
        [({"name": one.lineage}, _at(v.certificate.not_before)) for one, v in newest],
    )
    yield (
        of_certificate("renewal"),
        [
            ({"name": one.lineage}, _at(renew_at(v.certificate, v.window)))
            for one, v in newest
            if not one.is_imported
        ],
    )
    yield (
        of_certificate("upload_deadline"),
        [
            ({"name": one.lineage}, _at(v.certificate.not_after - one.least_life))
            for one, v in newest
            if one.least_life
        ],
    )
    yield from _of_domains({one.lineage for one in expected}, known)
    last = known.last_run
    ended = None if last is None else last.ended_at
    succeeded = None if last is None else last.succeeded_at
    yield "certferry_last_run_timestamp_seconds", _moment(ended)
    yield "certferry_last_success_timestamp_seconds", _moment(succeeded)
    yield (
        "certferry_steps_total",
        [({"action": action, "outcome": end}, n) for (action, end), n in sorted(steps.items())],
    )
    yield "certferry_build_info", [({"version": __version__}, 1)]


def _of_domains(names: Collection[str], known: Recorded) -> Iterator[tuple[str, list[_Sample]]]:
    served: list[_Sample] = []
    info: list[_Sample] = []
    for one in known.sightings:
        if one.lineage not in names or one.is_owned_elsewhere:
            continue
        labels = {"name": one.lineage, "target": one.target, "domain": one.domain}
        served.append((labels, int(one.served)))
        if one.fingerprint is not None:
            info.append(({**labels, "fingerprint_sha256": one.fingerprint}, 1))
    yield "certferry_domain_served", served
    yield "certferry_domain_served_info", info


def _moment(moment: datetime | None) -> list[_Sample]:
    return [] if moment is None else [({}, _at(moment))]


def _at(moment: datetime) -> float:
    return moment.timestamp() // 1


def _family(name: str, help_: str, samples: Iterable[_Sample]) -> Iterator[str]:
    rows = list(samples)
    if not rows:
        return
    yield f"# HELP {name} {help_}\n"
    yield f"# TYPE {name} {'counter' if name.endswith('_total') else 'gauge'}\n"
    for labels, value in rows:
        inner = ",".join(f'{label}="{_escaped(said)}"' for label, said in labels.items())
        yield f"{name}{{{inner}}} {value:.0f}\n" if inner else f"{name} {value:.0f}\n"


def _escaped(said: str) -> str:
    return said.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
