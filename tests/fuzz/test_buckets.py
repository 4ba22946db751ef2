"""A state in a bucket under altered answers.

Only certferry's own errors are raised, and an answer takes little more memory than its bytes.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count

import pytest
from hypothesis import given

from certferry.adapters.http.http_client import HttpClient, Pacer
from certferry.adapters.qiniu.bucket import KodoObjects
from certferry.adapters.qiniu.wire import QiniuKeys
from certferry.adapters.s3.objects import S3Objects
from certferry.core.redaction import Secret
from certferry.ports.objects import ObjectStore
from certferry_sandbox.httpd import Response
from certferry_sandbox.qiniu.service import QiniuService
from certferry_sandbox.s3 import S3Service
from tests.fuzz.altered_answers import Alteration, Altered, alterations
from tests.fuzz.outcomes import only_ours, over_sockets

KEYS = ("access", "secret")
AWS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
FRESH = count()
MOST_MEMORY = 32 * 2**20
"""Bytes: every altered answer is shorter than a megabyte."""


def at_once(_: float) -> None:
    """Return without a pause."""


@dataclass(frozen=True)
class AlteredBucket:
    """A bucket, with a front before each host of its service."""

    fronts: dict[str, Altered]
    objects: Callable[[], ObjectStore]

    def alter(self, alteration: Alteration) -> None:
        """Begin an altered conversation with all hosts; answers name each host by its front."""
        turn = alteration.turns()
        for front in self.fronts.values():
            front.turn = lambda response: turn(self._fronted(response))

    def _fronted(self, response: Response) -> Response:
        body = response.body
        for url, front in self.fronts.items():
            body = body.replace(url.encode(), front.url.encode())
        return Response(response.status, body, response.content_type, response.headers)

    def is_used(self, alteration: Alteration) -> None:
        """Make every call, each in a conversation of its own with the same alteration."""
        for call in (
            lambda objects: objects.names(),
            lambda objects: objects.read("0000000001"),
            lambda objects: objects.read("none"),
            lambda objects: objects.create(f"{next(FRESH):010}", b"\x00\xff"),
            lambda objects: objects.create("0000000001", b"other"),
            lambda objects: objects.remove(["0000000002", "none"]),
            lambda objects: objects.may_anybody_read("0000000001"),
        ):
            self.alter(alteration)
            tracemalloc.start()
            try:
                only_ours(partial(call, self.objects()))
                _, most = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert most < MOST_MEMORY


@pytest.fixture(scope="module")
def kodo() -> Iterator[AlteredBucket]:
    with QiniuService() as service, ExitStack() as running:
        service.add_account(*KEYS)
        service.add_bucket("states").objects["a/b/0000000001"] = b"one"
        hosts = (service.uc, *service.objects.services)
        fronts = {host.url: running.enter_context(Altered(host.url)) for host in hosts}

        def objects() -> ObjectStore:
            http = HttpClient(pace=Pacer(1e6, pause=at_once), pause=at_once)
            uc = fronts[service.uc.url].url
            keys = QiniuKeys(*map(Secret, KEYS))
            now = partial(datetime.now, UTC)
            return KodoObjects("states", "a/b", keys, uc=uc, http=http, now=now)

        yield AlteredBucket(fronts, objects)


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[AlteredBucket]:
    for name, value in zip(AWS, KEYS, strict=True):
        monkeypatch.setenv(name, value)
    with S3Service(*KEYS) as service, Altered(service.url) as front:
        service.add_bucket("states").objects["a/b/0000000001"] = b"one"

        def objects() -> ObjectStore:
            within = timedelta(seconds=5)
            return S3Objects("states", "a/b", endpoint=front.url, pause=at_once, for_list=within)

        yield AlteredBucket({service.url: front}, objects)


@over_sockets
@given(alteration=alterations())
def test_kodo_is_used(kodo: AlteredBucket, alteration: Alteration) -> None:
    """The region of the bucket, lists, objects, batches and refusals."""
    kodo.is_used(alteration)


@over_sockets
@given(alteration=alterations())
def test_s3_is_used(s3: AlteredBucket, alteration: Alteration) -> None:
    """Lists, objects and refusals: XML, altered as bytes."""
    s3.is_used(alteration)


@pytest.mark.parametrize("bucket", ["kodo", "s3"])
def test_unaltered_answers(bucket: str, request: pytest.FixtureRequest) -> None:
    """Unaltered calls succeed, so alterations begin from a valid answer."""
    altered: AlteredBucket = request.getfixturevalue(bucket)
    altered.alter(Alteration(10**6, 10**6, 0))
    objects = altered.objects()

    assert "0000000001" in objects.names()
    assert b"one" == objects.read("0000000001")
    assert not objects.create("0000000001", b"other")
    assert not objects.may_anybody_read("0000000001")
