"""Guesses about Qiniu's lists of certificates, buckets and bindings: which host answers what
(docs/facts/qiniu.md §10).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from certferry.adapters.clients.qiniu_trial_calls import (
    QiniuReader,
    Question,
    Seen,
    fields_of,
    told_of,
)
from certferry.adapters.clients.qiniu_trial_domains import listed_domains
from certferry.adapters.clients.qiniu_ways import SOURCE_FORM, CallGroup
from certferry.core.trial import Judged
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
