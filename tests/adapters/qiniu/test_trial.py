"""The guesses about Qiniu are judged by what reading calls show, and named without names
(docs/facts/qiniu.md §10).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from certferry.adapters.qiniu.records import DomainRecord, why_unusable
from certferry.adapters.qiniu.trial import PROBES, Probe, try_guesses
from certferry.adapters.qiniu.trial_calls import KNOWN_STATES, QiniuReader
from certferry.adapters.qiniu.wire import Hosts, Keys
from certferry.core.secret import Secret
from certferry.core.trial import Judged, Judgement, Verdict
from certferry.sandbox.faults import Fault
from certferry.sandbox.qiniu_habits import HABITS
from certferry.text import Text
from tests.adapters.qiniu.place import Place, open_place, refusal
from tests.sandbox.qiniu_calls import ACCESS_KEY, SECRET_KEY, START, issue

HOLDS, DOES_NOT_HOLD, CANNOT_TELL = Verdict.HOLDS, Verdict.DOES_NOT_HOLD, Verdict.CANNOT_TELL

BUCKETS = ("pictures", "films")
LABEL = "a name that an operator has chosen"
NEVER = {"1.2", "1.4, 1.5, 1.7, 1.10, 1.18", "1.16"}
"""What no reading call can try."""


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
    "1.19": HOLDS,
    "1.21": CANNOT_TELL,
    "§2.3": HOLDS,
    **dict.fromkeys(NEVER, CANNOT_TELL),
}


def test_qiniu_as_it_is_documented(place: Place) -> None:
    """Every guess is judged, with reading calls alone, few and paced."""
    assert AS_DOCUMENTED == verdicts(place)
    assert [] == place.service.writes()
    assert 20 == len(place.service.requests())
    assert 19 * 0.2 == pytest.approx(place.time.clock())


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

    assert {"1.1", "1.3", "1.8", "1.19", "§1", "§2.3"} == {
        n for n, v in found.items() if v is HOLDS
    }
    assert {"1.12"} == {n for n, v in found.items() if v is DOES_NOT_HOLD}


def test_mirror_without_pili(place: Place) -> None:
    """Nothing is asked of it, and nothing judged."""
    found = judged(reader(place, hosts=replace(place.hosts, pili="")))["1.19"]

    assert (CANNOT_TELL, "") == (found.verdict, told(found))
    assert 0 == place.count("GET /v2/hubs")


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


WHOLE_LIST = Fault.status(200, b'{"domains":[{"name":"a.example.com","protocol":"https"},{}]}')
DETAIL = Fault.status(200, b'{"name":"a.example.com","https":{"certId":"694d196e"}}')
NONE = Fault.status(200, b'{"domains":null}')
ONE = Fault.status(200, b'{"domains":[{"name":"a.example.com"}]}')
BROKEN = refusal(500)


@pytest.mark.parametrize(
    ("unknown", "bound", "expected"),
    [
        (NONE, ONE, HOLDS),
        (NONE, WHOLE_LIST, HOLDS),
        (NONE, NONE, DOES_NOT_HOLD),
        (WHOLE_LIST, WHOLE_LIST, DOES_NOT_HOLD),
        (BROKEN, ONE, CANNOT_TELL),
        (NONE, BROKEN, CANNOT_TELL),
        (BROKEN, BROKEN, CANNOT_TELL),
    ],
)
def test_filter_is_judged_by_numbers(
    place: Place, unknown: Fault, bound: Fault, expected: Verdict
) -> None:
    """It is believed when an id that no certificate has finds nothing, and one that is bound
    something.
    """
    faults = place.service.api.faults
    faults.add(DETAIL, on="GET /domain/a.example.com")
    for answer in (WHOLE_LIST, BROKEN, unknown, bound):
        faults.add(answer, on="GET /domain")

    assert expected is judged(reader(place))["1.13"].verdict


def test_filter_without_a_bound_certificate(place: Place) -> None:
    """A domain that hides its certificate leaves the question open, and one call unasked."""
    faults = place.service.api.faults
    faults.add(Fault.status(200, b'{"name":"a.example.com"}'), on="GET /domain/a.example.com")
    for answer in (WHOLE_LIST, BROKEN, NONE):
        faults.add(answer, on="GET /domain")
    found = judged(reader(place))

    assert CANNOT_TELL is found["1.13"].verdict
    assert (DOES_NOT_HOLD, "`https` is hidden") == (
        found["1.6"].verdict,
        told(found["1.6"]).splitlines()[-1],
    )


def test_state_that_is_not_known(place: Place) -> None:
    """It is named, and words that could be a name are not."""
    items = b"""{"domains":[{"name":"a","operatingState":"success"},{"operatingState":"resting"},
        {"operatingState":"a.example.com"},{"operatingState":7},[],null]}"""
    place.service.api.faults.add(Fault.status(200, items), on="GET /domain")
    found = judged(reader(place))["1.17"]

    assert (DOES_NOT_HOLD, "states: resting, success\nunknown: resting") == (
        found.verdict,
        told(found),
    )


@pytest.mark.parametrize("state", sorted(KNOWN_STATES))
def test_known_states_are_those_that_have_words(state: str) -> None:
    """What the trial calls known, certferry does not call by Qiniu's own word."""
    problem = why_unusable("a", DomainRecord("a", operating_state=state))

    assert problem is None or problem.message != Text(
        "{domain} is {state} at Qiniu", domain="a", state=state
    )


def test_certificate_that_was_taken_near_its_end(place: Place) -> None:
    """One upload with less life left than is said refutes the gate."""
    near = issue("old.example.com", start=START - timedelta(days=70), days=90)
    place.service.add_certificate(near, "old")
    found = judged(reader(place))["1.21"]

    assert DOES_NOT_HOLD is found.verdict
    assert "the shortest life that was left at an upload: 20 days" == told(found)


def test_certificates_without_name_and_dates(place: Place) -> None:
    """What the list does not tell is no answer."""
    place.service.fusion.faults.add(Fault.status(200, b'{"certs":[{"certid":"x"}]}'))
    found = judged(reader(place))

    assert (CANNOT_TELL, CANNOT_TELL) == (found["1.9"].verdict, found["1.21"].verdict)


@pytest.mark.parametrize(("key", "secret"), [("nobody", SECRET_KEY), (ACCESS_KEY, "wrong")])
def test_keys_that_are_wrong(place: Place, key: str, secret: str) -> None:
    """A refusal says nothing of a guess then, and nothing more is asked."""
    asking = reader(place, key=key, secret=secret)
    found = judged(asking)

    assert not asking.let_in
    assert 7 == asking.requests == len(place.service.requests())
    assert {"§2.3"} == {number for number, one in found.items() if one.verdict is not CANNOT_TELL}
    assert "401 bad token" in told(found["1.8"])
    assert told(found["1.3"]).startswith("not asked")


def test_keys_of_a_sub_account(place: Place) -> None:
    """These are said to be refused for the bindings wherever they are: that judges no host."""
    place.service.add_iam_key("IAM-key", "iam-secret", owner=ACCESS_KEY)
    found = judged(reader(place, key="IAM-key", secret="iam-secret"))["1.3"]

    assert CANNOT_TELL is found.verdict
    assert told(found).endswith("the access key is a sub-account's (IAM-)")


def test_clock_that_is_wrong(place: Place) -> None:
    """It is told by how much, also where that is why Qiniu refuses every key."""
    asking = QiniuReader(
        Keys(Secret(ACCESS_KEY), Secret(SECRET_KEY)),
        place.hosts,
        pause=place.time.pause,
        now=lambda: place.time.now() + timedelta(minutes=20),
        clock=place.time.clock,
    )
    found = judged(asking)

    assert DOES_NOT_HOLD is found["§2.3"].verdict
    assert "is 20 minutes behind this machine" in told(found["§2.3"])
    assert "403 request time is too skewed" in told(found["§1"])


def test_clock_that_is_behind(place: Place) -> None:
    """The other direction has its own sentence."""
    asking = QiniuReader(
        Keys(Secret(ACCESS_KEY), Secret(SECRET_KEY)),
        place.hosts,
        pause=place.time.pause,
        now=lambda: place.time.now() - timedelta(seconds=90),
        clock=place.time.clock,
    )

    assert "is 90 seconds ahead of this machine" in told(judged(asking)["§2.3"])


def test_host_without_a_connection(place: Place) -> None:
    """It is tried once, its ways are told to be unreached, and nothing is claimed of them."""
    hosts = replace(place.hosts, uc="http://127.0.0.1:1")
    asking = reader(place, hosts=hosts)
    found = judged(asking)

    assert (CANNOT_TELL, CANNOT_TELL) == (found["1.3"].verdict, found["1.15"].verdict)
    assert (HOLDS, HOLDS) == (found["1.8"].verdict, found["§1"].verdict)
    assert "GET /cert/bindings at 127.0.0.1:1 (Qiniu): no connection to 127.0.0.1:1" in told(
        found["1.3"]
    )
    assert 1 == asking.requests - len(place.service.requests())


def test_no_host_at_all(place: Place) -> None:
    """Without a network there is a report still."""
    nowhere = "http://127.0.0.1:1"
    found = judged(reader(place, hosts=Hosts(nowhere, nowhere, nowhere)))

    assert {CANNOT_TELL} == {one.verdict for one in found.values()}
    assert "no answer told the time" == told(found["§2.3"])


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault.html(404), "404, a web page"),
        (Fault.status(200, b"<"), "200, no JSON"),
        (Fault.status(200, b'{"a":1}'), "200, an object"),
        (Fault.status(200, b"7"), "200, neither list nor object"),
        (refusal(404), "404 its words"),
        (refusal(400, 400001, "invalid domain"), "400 invalid domain, code 400001"),
        (refusal(401, 401001, "bad token"), "401 bad token, code 401001"),
        (refusal(401, 401, ""), "401"),
        (Fault.too_many(), "429 too many requests"),
        (Fault.reset_before(), "closed the connection without an answer"),
    ],
)
def test_answer_of_any_kind_is_told(place: Place, fault: Fault, words: str) -> None:
    """By its status and shape; it costs no other guess its answer."""
    place.service.uc.faults.add(fault, on="GET /cert/bindings")
    found = judged(reader(place))

    assert words in told(found["1.3"]).splitlines()[0]
    assert AS_DOCUMENTED.keys() == found.keys()
    assert (HOLDS, HOLDS) == (found["1.8"].verdict, found["1.15"].verdict)


@pytest.mark.parametrize(
    "words",
    [
        "no such bucket pictures",
        "no such domain www.example.com",
        "certificate 694d196ee691b4be3e838346 is not yours",
        "user 1380000001 may not do this",
        "key testaccesskeytestaccesskeytestaccesskey",
        "ops@example.com",
        "不允许",
    ],
)
def test_words_that_could_be_a_name_are_left_out(place: Place, words: str) -> None:
    """A server that quotes gets its status told, and nothing that it says."""
    place.service.uc.faults.add(refusal(403, words=words), on="GET /v3/domains")
    found = told(judged(reader(place))["1.15"])

    assert f"GET /v3/domains?tbl=BUCKET at {place.hosts.uc[7:]} (Qiniu): 403\n" in found


def test_probe_that_fails_stops_no_other(place: Place) -> None:
    """What an answer of an unthought kind leads to is told by its kind, and quotes nothing."""

    def fail(_: QiniuReader) -> Judged:
        raise TypeError("www.example.com")

    broken = replace(PROBES[0], judge=fail)
    last = Probe("last", Text("the last"), lambda _: (True, ()))
    first, second = try_guesses(reader(place), [broken, last])

    assert (CANNOT_TELL, "the answer differs from the expected one (TypeError)") == (
        first.verdict,
        told(first),
    )
    assert HOLDS is second.verdict


def test_detail_that_is_refused(place: Place) -> None:
    """The list is judged without it."""
    place.service.api.faults.add(refusal(500), on="GET /domain/*")
    found = judged(reader(place))

    assert [CANNOT_TELL] * 3 == [found[number].verdict for number in ("1.6", "1.11", "1.14")]
    assert "500 its words" in told(found["1.6"])


def test_nothing_of_the_accounts_is_named(place: Place) -> None:
    """No domain, bucket, certificate or key is in any sentence."""
    said = "\n".join(told(one) for one in judged(reader(place)).values())
    service = place.service
    names = [
        *("example.com", *BUCKETS, LABEL, ACCESS_KEY, SECRET_KEY),
        *(one.id for one in service.certificates.stored()),
        *(one.headers["Authorization"].partition(" ")[2] for one in service.requests()),
    ]

    assert len(said) > 1000
    assert [] == [name for name in names if name in said]
