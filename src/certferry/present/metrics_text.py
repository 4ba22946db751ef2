"""What is recorded, in Prometheus' text format (prometheus.io/docs, "Exposition formats").

Moments and not days left: a file that is not written any more shows the truth all the same
(docs/facts/receivers.md §3). The names are promised in docs/how-to/monitoring.md, and the rules in
docs/monitoring go by them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime

from certferry import __version__
from certferry.core.health import Expected, Recorded
from certferry.core.renewal import renew_at
from certferry.core.report import SyncReport

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
            key = (step.action.value, step.outcome.value)
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
            if not one.is_ferried
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
        if one.lineage not in names or one.is_ceded:
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
