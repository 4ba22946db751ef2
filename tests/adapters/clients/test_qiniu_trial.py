"""The guesses about Qiniu are judged by what reading calls show, and named without names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from certferry.adapters.clients.qiniu_domains import why_unusable
from certferry.adapters.clients.qiniu_records import DomainRecord
from certferry.adapters.clients.qiniu_signing import Keys
from certferry.adapters.clients.qiniu_trial import PROBES, Probe, try_guesses
from certferry.adapters.clients.qiniu_trial_calls import QiniuReader
from certferry.adapters.clients.qiniu_trial_domains import KNOWN_STATES
from certferry.adapters.clients.qiniu_ways import Hosts
from certferry.core.secret import Secret
from certferry.core.trial import Judged, Judgement, Verdict
from certferry.sandbox.faults import Fault
from certferry.sandbox.qiniu_habits import HABITS
from certferry.text import Text
from tests.adapters.qiniu_place import Place, open_place, refusal
from tests.sandbox.qiniu_calls import ACCESS_KEY, SECRET_KEY, START, issue

HOLDS, DOES_NOT_HOLD, CANNOT_TELL = Verdict.HOLDS, Verdict.DOES_NOT_HOLD, Verdict.CANNOT_TELL

BUCKETS = ("pictures", "films")
LABEL = "a name that somebody has chosen"
NEVER = {"1.2", "1.4, 1.5, 1.7, 1.10, 1.18", "1.16, 1.19"}
"""What no reading call can try."""
NOT_AT_ALL = refusal(500)


@pytest.fixture
def place() -> Iterator[Place]:
    """An account with a domain, a certificate, a bucket with a source domain and one without."""
    with open_place() as opened:
        service = opened.service
        cert_id = service.add_certificate(issue("www.example.com"), LABEL)
        service.add_domain("plain.example.com")
        service.add_domain("www.example.com", https=cert_id, tls_versions=["TLSv1.2"])
        service.add_domain("child.example.com", type="pan")
        service.add_bucket_domain("source.example.com", BUCKETS[0], https=cert_id)
        service.add_bucket(BUCKETS[1])
        yield opened


@pytest.fixture
def empty() -> Iterator[Place]:
    """An account that holds nothing."""
    with open_place() as opened:
        yield opened


def reader(
    place: Place, *, secret: str = SECRET_KEY, key: str = ACCESS_KEY, hosts: Hosts | None = None
) -> QiniuReader:
    """Give a reader of the account."""
    return QiniuReader(
        Keys(Secret(key), Secret(secret)),
        hosts or place.hosts,
        pause=place.time.pause,
        now=place.time.now,
        clock=place.time.clock,
    )


def judged(asking: QiniuReader) -> dict[str, Judgement]:
    """Try everything, and give what became of each guess by its number."""
    return {judgement.number: judgement for judgement in try_guesses(asking)}


def verdicts(place: Place) -> dict[str, Verdict]:
    """Try everything, and give the verdicts by their numbers."""
    return {number: one.verdict for number, one in judged(reader(place)).items()}


def told(judgement: Judgement) -> str:
    """Give what was seen, a line for each."""
    return "\n".join(str(seen) for seen in judgement.seen)


AS_DOCUMENTED = {
    "1.1": DOES_NOT_HOLD,
    "1.3": HOLDS,
    "1.6": HOLDS,
    "1.8": HOLDS,
    "§1": HOLDS,
    "1.9": HOLDS,
    "1.11": HOLDS,
    "1.12": DOES_NOT_HOLD,
    "1.13": DOES_NOT_HOLD,
    "1.14": HOLDS,
    "1.15": HOLDS,
    "1.17": HOLDS,
    "1.21": CANNOT_TELL,
    "§2.3": HOLDS,
    **dict.fromkeys(NEVER, CANNOT_TELL),
}


def test_qiniu_as_it_is_documented(place: Place) -> None:
    """Every guess is judged, with reading calls alone, few and paced."""
    assert AS_DOCUMENTED == verdicts(place)
    assert [] == place.service.writes()
    assert 19 == len(place.service.requests())
    assert 18 * 0.2 == pytest.approx(place.time.clock())


@pytest.mark.parametrize(
    ("habits", "changed"),
    [
        (["null_lists"], {"1.1": HOLDS}),
        (["bindings_at_api_qbox"], {"1.3": DOES_NOT_HOLD}),
        (["bindings_at_api_qiniu"], {"1.3": DOES_NOT_HOLD}),
        (["bindings_at_backup"], {"1.3": DOES_NOT_HOLD}),
        (["bindings_nowhere"], {"1.3": DOES_NOT_HOLD}),
        (["flags_hidden"], {"1.6": DOES_NOT_HOLD, "1.11": CANNOT_TELL, "1.14": DOES_NOT_HOLD}),
        # An empty https has its flags, and no versions.
        (["https_hidden"], {"1.11": CANNOT_TELL}),
        (["certificates_at_api_qbox"], {"1.8": DOES_NOT_HOLD}),
        (["certificates_at_api_qiniu"], {"1.8": DOES_NOT_HOLD}),
        (["versions_as_string"], {"1.11": DOES_NOT_HOLD}),
        (["unknown_paths_401"], {"1.12": HOLDS}),
        (["bucket_domains_by_type"], {"1.15": DOES_NOT_HOLD}),
        (
            ["null_lists", "bindings_at_backup", "certificates_at_api_qiniu", "unknown_paths_401"],
            {"1.1": HOLDS, "1.3": DOES_NOT_HOLD, "1.8": DOES_NOT_HOLD, "1.12": HOLDS},
        ),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else "",
)
def test_habit_that_a_reading_call_shows(
    place: Place, habits: list[str], changed: dict[str, Verdict]
) -> None:
    """What is seen changes the verdict about it, and no other."""
    for habit in habits:
        HABITS[habit](place.service)

    assert AS_DOCUMENTED | changed == verdicts(place)


def test_account_that_holds_nothing(empty: Place) -> None:
    """Where there is nothing to look at, nothing is claimed."""
    found = verdicts(empty)

    assert {"1.1", "1.3", "1.8", "§1", "§2.3"} == {n for n, v in found.items() if v is HOLDS}
    assert {"1.12"} == {n for n, v in found.items() if v is DOES_NOT_HOLD}


def test_each_way_is_told(place: Place) -> None:
    """The report names host, scheme, status and shape of each answer."""
    HABITS["bindings_at_backup"](place.service)
    service = place.service
    uc, api, backup = (
        one.url.removeprefix("http://") for one in (service.uc, service.api, service.api_backup)
    )

    assert told(judged(reader(place))["1.3"]).splitlines() == [
        f"GET /cert/bindings at {uc} (Qiniu): 404 not found",
        f"GET /cert/bindings at {api} (QBox): 404 not found",
        f"GET /cert/bindings at {api} (Qiniu): 404 not found",
        f"GET /cert/bindings at {backup} (Qiniu): 200, a list of 1",
    ]


def test_null_and_empty_are_told_apart(place: Place) -> None:
    """Both are nothing to certferry, and the difference is the question."""
    assert "200, []" in told(judged(reader(place))["1.1"])

    HABITS["null_lists"](place.service)

    assert "200, null" in told(judged(reader(place))["1.1"])


def test_fields_that_are_missing_or_new_are_named(place: Place) -> None:
    """A field's name is Qiniu's, and no name of the account's."""
    items = b'{"domains":[{"name":"www.example.com","newField":1,"www.example.com":2}]}'
    place.service.api.faults.add(Fault.status(200, items), on="GET /domain")
    found = judged(reader(place))["1.14"]

    assert DOES_NOT_HOLD is found.verdict
    assert "an item of the list has newField as well" in told(found)
    assert "an item of the list lacks type, cname" in told(found)


def test_filter_that_filters(place: Place) -> None:
    """It is believed when an unknown id finds nothing and a bound one finds something."""
    bound = place.service.bound("www.example.com")
    assert bound is not None
    answers = [b'{"domains":null}', b'{"domains":[{"name":"www.example.com"}]}']
    asking = reader(place)
    asking.ask_by_all_ways  # noqa: B018 - the lists are asked by the trial itself
    faults = place.service.api.faults
    del faults
    assert answers
