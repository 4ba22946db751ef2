"""Guesses about Qiniu's lists of certificates, buckets and bindings: which host answers what
(docs/facts/qiniu.md §10).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from certferry.adapters.qiniu import trial_calls as domains
from certferry.adapters.qiniu.trial_calls import (
    NotAsked,
    QiniuReader,
    Question,
    Seen,
    fields_of,
    listed_domains,
    told_of,
)
from certferry.adapters.qiniu.wire import SOURCE_FORM, CallGroup
from certferry.core.network import WANTED
from certferry.core.trial import Judged, Judgement, Verdict
from certferry.text import Text

BUCKETS = Question("/buckets")
BINDINGS = Question("/cert/bindings")
HUBS = Question("/v2/hubs", field="items")
CERTIFICATES = Question("/sslcert", "/sslcert?marker=&limit=200", field="certs")

MOST_BUCKETS = 3  # of an account's, asked for their domains
SHORT_NAME = 23  # characters that a widespread client keeps to (§4.1)
GATE = timedelta(days=30)  # less than this is said to be refused (§4.6)


def null_lists(reader: QiniuReader) -> Judged:
    """Judge whether an empty list is null (1.1), where any is empty."""
    lists = [
        listed_domains(reader),
        reader.first_success(CallGroup.CERTIFICATES, CERTIFICATES),
        reader.first_success(CallGroup.BUCKETS, BUCKETS),
        reader.first_success(CallGroup.BINDINGS, BINDINGS),
        *_source_domains(reader),
    ]
    seen = told_of(lists)
    if any(one.has_null for one in lists):
        return True, seen
    return False if any(one.has_empty for one in lists) else None, seen


def bindings(reader: QiniuReader) -> Judged:
    """Judge whether uc answers for the bindings (1.3)."""
    by_way = reader.ask_by_all_ways(CallGroup.BINDINGS, BINDINGS)
    holds, seen = by_way[0].is_answered, told_of(by_way)
    if reader.with_iam_key:
        # Such keys are said to be refused by these calls wherever they are (§6.2).
        return holds or None, (*seen, Text("the access key is a sub-account's (IAM-)"))
    return holds, seen


def hubs(reader: QiniuReader) -> Judged:
    """Judge whether Pili answers for the hubs (1.19), where it has an address."""
    by_way = reader.ask_by_all_ways(CallGroup.LIVE, HUBS)
    return (by_way[0].is_answered if by_way else None), told_of(by_way)


def certificates(reader: QiniuReader) -> Judged:
    """Judge whether fusion answers for the certificates (1.8)."""
    by_way = reader.ask_by_all_ways(CallGroup.CERTIFICATES, CERTIFICATES)
    return by_way[0].is_answered, told_of(by_way)


def bucket_domains(reader: QiniuReader) -> Judged:
    """Judge whether both calls for a bucket's domains are answered, by uc's other host too (1.15).

    A 404 of `/v3/domains` may mean a bucket without domains, or a host without the call.
    """
    buckets = reader.ask_by_all_ways(CallGroup.BUCKETS, BUCKETS)
    asked = [
        reader.ask(_of_bucket(bucket, way.form), way)
        for bucket in _bucket_names(reader)[:1]
        for way in reader.ways(CallGroup.BUCKET_DOMAINS)
    ]
    answers = [one.is_answered for one in buckets]
    answers += [None if one.status == HTTPStatus.NOT_FOUND else one.is_answered for one in asked]
    kinds = (_kind(one) for one in asked if one.objects)
    return _all_of(answers) if asked else None, (*told_of([*buckets, *asked]), *kinds)


def names(reader: QiniuReader) -> Judged:
    """Judge whether there is a name that a widespread client would not dare (1.9)."""
    listed = reader.first_success(CallGroup.CERTIFICATES, CERTIFICATES)
    lengths = [len(name) for one in listed.objects if isinstance(name := one.get("name"), str)]
    if not lengths:
        return None, (listed.told,)
    seen = Text("the longest name has {count} characters", count=max(lengths))
    return max(lengths) > SHORT_NAME or None, (seen,)


def gate(reader: QiniuReader) -> Judged:
    """Judge whether any certificate was taken that had less life left than is said (1.21)."""
    listed = reader.first_success(CallGroup.CERTIFICATES, CERTIFICATES)
    lives = [life for one in listed.objects if (life := _life_at_upload(one)) is not None]
    if not lives:
        return None, (listed.told,)
    seen = Text("the shortest life that was left at an upload: {life}", life=min(lives))
    return False if min(lives) < GATE else None, (seen,)


def _life_at_upload(record: dict[str, Any]) -> timedelta | None:
    created, end = record.get("create_time"), record.get("not_after")
    if not isinstance(created, int) or not isinstance(end, int) or not 0 < created < end:
        return None
    return timedelta(seconds=end - created)


def _source_domains(reader: QiniuReader) -> Iterator[Seen]:
    """Ask a few buckets for their source domains, which most have none of."""
    ways = [way for way in reader.ways(CallGroup.BUCKET_DOMAINS) if way.form == SOURCE_FORM]
    for bucket in _bucket_names(reader)[:MOST_BUCKETS]:
        yield from (reader.ask(_of_bucket(bucket, way.form), way) for way in ways)


def _bucket_names(reader: QiniuReader) -> list[str]:
    listed = reader.first_success(CallGroup.BUCKETS, BUCKETS).items
    return [name for name in listed if isinstance(name, str)]


def _of_bucket(bucket: str, form: str) -> Question:
    if form == SOURCE_FORM:
        path = f"/domain?{urlencode({'bucket': bucket, 'type': 'source'})}"
        return Question("/domain?bucket=BUCKET&type=source", path, names=(bucket,))
    path = f"/v3/domains?{urlencode({'tbl': bucket})}"
    return Question("/v3/domains?tbl=BUCKET", path, names=(bucket,))


def _kind(seen: Seen) -> Text:
    fields = fields_of(seen.objects[0])
    return Text("a domain of GET {call} has {fields}", call=seen.question.told, fields=fields)


def _all_of(answers: Iterable[bool | None]) -> bool | None:
    found = set(answers)
    if False in found:
        return False
    return None if None in found else True


_NOT_ASKED = Text("not asked, since none of the first calls was answered with success")


@dataclass(frozen=True, slots=True)
class Probe:
    """A guess, and how it is judged. Where no call was let in, one that `needs_keys` says nothing
    of the guess.
    """

    number: str
    guess: Text
    judge: Callable[[QiniuReader], Judged]
    needs_keys: bool = True


def try_guesses(
    reader: QiniuReader, probes: Sequence[Probe] | None = None
) -> tuple[Judgement, ...]:
    """Try every guess, or these, and return what became of each. Raises what a pause raises."""
    _knock(reader)
    return tuple(_judgement(probe, reader) for probe in (PROBES if probes is None else probes))


def _knock(reader: QiniuReader) -> None:
    """Ask by every way for what any account has; keys that no way takes end the trial."""
    reader.ask_by_all_ways(CallGroup.DOMAINS, domains.DOMAINS)
    reader.ask_by_all_ways(CallGroup.CERTIFICATES, CERTIFICATES)
    reader.ask_by_all_ways(CallGroup.BUCKETS, BUCKETS)
    if not reader.let_in:
        reader.close()


def _judgement(probe: Probe, reader: QiniuReader) -> Judgement:
    holds: bool | None = None
    seen: tuple[Text, ...]
    try:
        holds, seen = probe.judge(reader)
    except NotAsked:
        seen = (_NOT_ASKED,)
    except Exception as problem:  # noqa: BLE001 - whatever it is, the other probes go on
        # What it says is left out: it may quote the answer.
        kind = type(problem).__name__
        seen = (Text("the answer differs from the expected one ({kind})", kind=kind),)
    if probe.needs_keys and not reader.let_in:
        holds = None
    return Judgement(probe.number, probe.guess, Verdict.of(holds), tuple(dict.fromkeys(seen)))


def _clock(reader: QiniuReader) -> Judged:
    """Judge this machine's clock by the first answer that told the time."""
    timed = [(seen.way.host, seen.ahead) for seen in reader.seen if seen.ahead is not None]
    if not timed:
        return None, (Text("no answer told the time"),)
    host, ahead = timed[0]
    # The answer's Date is cut to the second, so less than one says nothing.
    amount = timedelta(seconds=abs(int(ahead.total_seconds())))
    seen = (
        Text("{host} is {amount} ahead of this machine", host=host, amount=amount)
        if ahead > timedelta(0)
        else Text("{host} is {amount} behind this machine", host=host, amount=amount)
    )
    return amount <= WANTED, (seen,)


def _untried(why: Text) -> Callable[[QiniuReader], Judged]:
    return lambda _: (None, (why,))


PROBES = (
    Probe("1.1", Text("an empty list may come as null"), null_lists),
    Probe(
        "1.3",
        Text("uc.qiniuapi.com answers /cert/bindings, under the Qiniu scheme"),
        bindings,
    ),
    Probe(
        "1.6",
        Text("the detail of a domain with HTTPS shows its redirect and its HTTP/2"),
        domains.settings,
    ),
    Probe(
        "1.8",
        Text("fusion.qiniuapi.com answers /sslcert, under the QBox scheme"),
        certificates,
    ),
    Probe(
        "§1",
        Text("api.qiniu.com answers /domain, under the Qiniu scheme"),
        domains.first_scheme,
    ),
    Probe("1.9", Text("a certificate's name may have more than 23 characters"), names),
    Probe("1.11", Text("TLS versions are an array"), domains.versions),
    Probe("1.12", Text("a path below a domain that is no call answers 401"), domains.nonsense),
    Probe(
        "1.13",
        Text("GET /domain?certId= lists only the domains of that certificate"),
        domains.certificate_filter,
    ),
    Probe("1.14", Text("a domain has the fields that are known of"), domains.fields),
    Probe(
        "1.15",
        Text("both calls list a bucket's domains, and kodo-config.qiniuapi.com answers for uc"),
        bucket_domains,
    ),
    Probe("1.17", Text("certferry knows the state of every domain"), domains.states),
    Probe(
        "1.19",
        Text("pili.qiniuapi.com lists the account's hubs, under the Qiniu scheme"),
        hubs,
    ),
    Probe("1.21", Text("a certificate with less than 30 days left is refused"), gate),
    Probe("§2.3", Text("this machine's clock is right, to 30 seconds"), _clock, needs_keys=False),
    Probe(
        "1.2",
        Text("/cert/bind takes the QBox scheme, or after a 401 the other"),
        _untried(Text("not tried: it writes; its first use will tell")),
    ),
    Probe(
        "1.4, 1.5, 1.7, 1.10, 1.18",
        Text("how uploads and changes are refused, and how long they take"),
        _untried(Text("not tried: only an upload or a change shows it")),
    ),
    Probe(
        "1.16",
        Text("calls that certferry makes no use of"),
        _untried(Text("not called")),
    ),
)
