"""Objects in buckets: one contract for Kodo, S3 and the bucket in memory, then each service's
faults.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from certferry.adapters.qiniu.wire import QiniuKeys
from certferry.adapters.s3.objects import S3Objects
from certferry.core.redaction import Secret
from certferry.errors import ConfigError, DatabaseUnavailable
from certferry.ports.objects import ObjectStore
from certferry_sandbox.faults import Fault
from certferry_sandbox.qiniu.answers import Refused
from certferry_sandbox.qiniu.objects import Bucket
from certferry_sandbox.qiniu.service import QiniuService
from certferry_sandbox.s3 import S3Bucket, S3Service
from certferry_sandbox.testing.memory_objects import MemoryObjects
from tests.support.objects import objects_in
from tests.support.tiers import long

CONTENT = b"\r\n--\x00\xff" * 300
AWS = {"AWS_ACCESS_KEY_ID": "access", "AWS_SECRET_ACCESS_KEY": "secret/+key"}


@pytest.fixture
def qiniu() -> Iterator[QiniuService]:
    with QiniuService() as service:
        service.add_account("access", "secret")
        yield service


@pytest.fixture
def bucket(qiniu: QiniuService) -> Bucket:
    return qiniu.add_bucket("states")


@pytest.fixture
def kodo(qiniu: QiniuService, bucket: Bucket) -> ObjectStore:
    del bucket
    return objects_in(qiniu, "states", "a/b")


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Service]:
    for name, value in AWS.items():
        monkeypatch.setenv(name, value)
    with S3Service(*AWS.values()) as service:
        yield service


@pytest.fixture
def s3_bucket(s3: S3Service) -> S3Bucket:
    return s3.add_bucket("states")


@pytest.fixture
def at_s3(s3: S3Service, s3_bucket: S3Bucket) -> ObjectStore:
    del s3_bucket
    return S3Objects("states", "a/b", endpoint=s3.url)


@pytest.fixture(params=["kodo", "at_s3", "memory"])
def objects(request: pytest.FixtureRequest) -> ObjectStore:
    if request.param == "memory":
        return MemoryObjects()
    store: ObjectStore = request.getfixturevalue(request.param)
    return store


# --- The contract


def test_object_is_created_once(objects: ObjectStore) -> None:
    """A second object of the same name leaves the first unchanged, and the list is in order."""
    assert [] == [*objects.names()]
    assert objects.create("0000000002", CONTENT)
    assert objects.create("0000000001", b"")
    assert not objects.create("0000000002", b"other")
    assert CONTENT == objects.read("0000000002")
    assert b"" == objects.read("0000000001")
    assert ["0000000001", "0000000002"] == [*objects.names()]


def test_objects_are_removed(objects: ObjectStore) -> None:
    """A missing object counts as removed."""
    for number in range(4):
        objects.create(str(number), CONTENT)
    objects.remove(["0", "3", "none"])
    assert ["1", "2"] == [*objects.names()]
    objects.remove([])


def test_nobody_reads_a_private_object(objects: ObjectStore) -> None:
    """A request without a signature is refused."""
    objects.create("a", CONTENT)
    assert not objects.may_anybody_read("a")


@pytest.mark.parametrize("service", ["kodo", "at_s3"])
def test_many_objects(request: pytest.FixtureRequest, service: str) -> None:
    """The list spans more than one page, and leaves out objects beside the prefix."""
    objects: ObjectStore = request.getfixturevalue(service)
    stored = request.getfixturevalue("bucket" if service == "kodo" else "s3_bucket").objects
    stored |= {f"a/b/{number:04}": b"" for number in range(2500)}
    stored |= {"a/bc": b"", "a/a/1": b"", "0001": b""}
    assert [f"{number:04}" for number in range(2500)] == [*objects.names()]


def test_listed_object_that_is_not_served_yet(objects: ObjectStore) -> None:
    """The object may be served a moment later, so the error asks to wait and leaves `url` alone."""
    with pytest.raises(
        DatabaseUnavailable, match="lists 0000000007, but cannot return it"
    ) as error:
        objects.read("0000000007")
    assert "url" not in str(error.value.hint)


# --- Kodo


PAGE = b'{"items": [{"key": "a/b/1"}], "marker": "again"}'


def test_list_of_kodo_without_an_end(kodo: ObjectStore, qiniu: QiniuService) -> None:
    """A hundred pages with a repeated marker are read."""
    qiniu.objects.rsf.faults.add(Fault.status(200, PAGE), times=None)
    with pytest.raises(ConfigError, match="kodo://states/a/b lists more than 100000 objects"):
        kodo.names()
    assert 100 == len(qiniu.objects.rsf.requests())


def test_page_of_kodo_with_too_many_objects(kodo: ObjectStore, qiniu: QiniuService) -> None:
    """The objects of a single page count as well."""
    items = b",".join([b'{"key": "a"}'] * 100_001)
    answer = b'{"items": [' + items + b'], "marker": "more"}'
    qiniu.objects.rsf.faults.add(Fault.status(200, answer), times=None)
    with pytest.raises(ConfigError, match="lists more than 100000 objects"):
        kodo.names()
    assert 1 == len(qiniu.objects.rsf.requests())


@pytest.mark.parametrize(
    "answer",
    [
        b'{"items": [{"fsize": 1}]}',
        b'{"items": {"key": "a"}}',
        b'{"items": [], "marker": {}}',
        b"[]",
        b"[" * 200_000,
        b'{"items": ' + b'[{"key": ' * 100_000,
    ],
)
def test_unreadable_list_of_kodo(kodo: ObjectStore, qiniu: QiniuService, answer: bytes) -> None:
    """The error blames Qiniu's answer; the bucket does not count as empty."""
    qiniu.objects.rsf.faults.add(Fault.status(200, answer), times=None)
    with pytest.raises(DatabaseUnavailable, match="certferry cannot read Qiniu's answer"):
        kodo.names()


@pytest.mark.parametrize(
    "hosts", [b"{}", b'{"0": 1}', b"[]", b'["z0"]', b"[" * 200_000, b'[{"rsf": "z0"}]']
)
def test_bucket_of_kodo_without_a_region(
    kodo: ObjectStore, qiniu: QiniuService, hosts: bytes
) -> None:
    """The answer is reported, because the answer names no host to call."""
    answer = Fault.status(200, b'{"hosts": ' + hosts + b"}")
    qiniu.uc.faults.add(answer, on="GET /v4/query", times=None)
    with pytest.raises(DatabaseUnavailable, match=r"cannot read|gives no host"):
        kodo.names()


def test_host_of_kodo_by_plain_http(kodo: ObjectStore, qiniu: QiniuService) -> None:
    """The host is refused: the signed address of an object opens the object for every listener."""
    answer = b'{"hosts": [{"rsf": {"domains": ["http://192.0.2.7:1"]}}]}'
    qiniu.uc.faults.add(Fault.status(200, answer), on="GET /v4/query", times=None)
    with pytest.raises(
        ConfigError, match=r"http://192\.0\.2\.7:1 of kodo://states/a/b without https"
    ):
        kodo.names()


def test_public_bucket_of_kodo(kodo: ObjectStore, bucket: Bucket) -> None:
    """A request without a signature shows that the objects are public."""
    kodo.create("a", CONTENT)
    bucket.is_private = False
    assert kodo.may_anybody_read("a")


def test_lost_answer_of_kodo(kodo: ObjectStore, qiniu: QiniuService) -> None:
    """A second upload of the same bytes is a success."""
    qiniu.objects.up.faults.add(Fault.reset_after())
    assert kodo.create("a", CONTENT)
    assert CONTENT == kodo.read("a")


@pytest.mark.parametrize(
    "fault", [Fault.status(599), Fault.html(), Fault.reset_before(), Fault.too_many(60)]
)
def test_kodo_without_an_answer(kodo: ObjectStore, qiniu: QiniuService, fault: Fault) -> None:
    """Each call reports that the bucket is unavailable."""
    kodo.names()
    for service in qiniu.objects.services:
        service.faults.add(fault, times=None)
    for ask in (kodo.names, lambda: kodo.create("a", b""), lambda: kodo.remove(["a"])):
        with pytest.raises(DatabaseUnavailable, match="kodo://states/a/b"):
            ask()


@pytest.mark.parametrize(
    ("refusal", "message", "hint"),
    [
        (Refused(None, "exceed quota", status=403), "403 exceed quota", "must be allowed to list"),
        (Refused(None, "user frozen", status=419), "419 user frozen", "Qiniu's console"),
    ],
)
def test_bucket_of_kodo_that_refuses_objects(
    kodo: ObjectStore, bucket: Bucket, refusal: Refused, message: str, hint: str
) -> None:
    """The error quotes Qiniu, and is final."""
    bucket.refusal = refusal
    with pytest.raises(ConfigError, match=message) as refused:
        kodo.create("a", CONTENT)
    assert hint in str(refused.value.hint)


def test_bucket_of_another_region(kodo: ObjectStore, bucket: Bucket) -> None:
    """The error quotes the right host from Qiniu's message."""
    bucket.up_elsewhere = "up-z1.qiniup.com"
    with pytest.raises(ConfigError, match=r"incorrect region, please use up-•••\.qiniup\.com"):
        kodo.create("a", CONTENT)


@pytest.mark.parametrize("name", ["another", "other-accounts"])
def test_bucket_outside_the_account(qiniu: QiniuService, name: str) -> None:
    """A missing bucket and a bucket of another account give the same error."""
    qiniu.add_account("another", "key")
    qiniu.add_bucket("other-accounts", account="another")
    with pytest.raises(ConfigError, match="631 no such bucket"):
        objects_in(qiniu, name, "").names()


def test_wrong_secret_key(qiniu: QiniuService, bucket: Bucket) -> None:
    """Every host of Qiniu refuses the key."""
    del bucket
    objects = objects_in(qiniu, "states", "", keys=QiniuKeys(Secret("access"), Secret("wrong")))
    for ask in (objects.names, lambda: objects.create("a", b""), lambda: objects.read("a")):
        with pytest.raises(ConfigError, match="401 bad token"):
            ask()


def test_read_only_key(qiniu: QiniuService, bucket: Bucket) -> None:
    """The key lists the bucket; creating an object is refused."""
    del bucket
    qiniu.add_iam_key("reader", "key", owner="access", reads_only=True)
    objects = objects_in(qiniu, "states", "", keys=QiniuKeys(Secret("reader"), Secret("key")))
    assert [] == [*objects.names()]
    with pytest.raises(ConfigError, match="403 no permission"):
        objects.create("a", b"")


@pytest.mark.parametrize("ahead", [timedelta(hours=-1), timedelta(hours=1)])
def test_wrong_clock_at_kodo(qiniu: QiniuService, bucket: Bucket, ahead: timedelta) -> None:
    """Every refused call names the clock."""
    bucket.objects["a"] = b"x"
    objects = objects_in(qiniu, "states", "", ahead=ahead)
    with pytest.raises(ConfigError, match="clock is"):
        objects.names()
    if ahead < timedelta(0):
        for ask in (lambda: objects.create("b", b""), lambda: objects.read("a")):
            with pytest.raises(ConfigError, match="clock is"):
                ask()


# --- S3


def test_public_bucket_of_s3(at_s3: ObjectStore, s3_bucket: S3Bucket) -> None:
    """A request without a signature shows that the objects are public."""
    at_s3.create("a", CONTENT)
    s3_bucket.is_private = False
    assert at_s3.may_anybody_read("a")


def test_service_that_ignores_the_condition(at_s3: ObjectStore, s3_bucket: S3Bucket) -> None:
    """The service reports success and overwrites the object, so the first use of a bucket has to
    test for it.
    """
    s3_bucket.overwrites = True
    assert at_s3.create("a", CONTENT)
    assert at_s3.create("a", b"other")


def test_service_without_conditional_writes(at_s3: ObjectStore, s3_bucket: S3Bucket) -> None:
    """The error is final, and the hint names the missing header."""
    s3_bucket.lacks_conditions = True
    with pytest.raises(ConfigError, match="NotImplemented") as refused:
        at_s3.create("a", CONTENT)
    assert "`If-None-Match`" in str(refused.value.hint)


def page_of_s3(*keys: str) -> Fault:
    """Return a page that always announces another page, with the same token."""
    contents = "".join(
        f"<Contents><Key>{key}</Key><LastModified>2026-11-01T00:00:00.000Z</LastModified>"
        '<ETag>"e"</ETag><Size>1</Size></Contents>'
        for key in keys
    )
    page = (
        f"<ListBucketResult><IsTruncated>true</IsTruncated>{contents}"
        "<NextContinuationToken>again</NextContinuationToken></ListBucketResult>"
    )
    return Fault.status(200, page.encode(), "application/xml")


def test_list_of_s3_without_an_end(at_s3: ObjectStore, s3: S3Service) -> None:
    """Reading stops at 100,000 objects."""
    s3.faults.add(page_of_s3(*(f"a/b/{number}" for number in range(1000))), times=None)
    with pytest.raises(ConfigError, match="s3://states/a/b lists more than 100000 objects"):
        at_s3.names()


def test_empty_pages_of_s3_without_an_end(s3: S3Service, s3_bucket: S3Bucket) -> None:
    """Empty pages are followed until the time for a list is over."""
    del s3_bucket
    objects = S3Objects("states", "a/b", endpoint=s3.url, for_list=timedelta(seconds=0.5))
    s3.faults.add(page_of_s3(), times=None)
    with pytest.raises(DatabaseUnavailable, match="the bucket's list never ends"):
        objects.names()


def test_lost_answer_of_s3(at_s3: ObjectStore, s3: S3Service) -> None:
    """The object exists afterwards, with the uploaded bytes."""
    s3.faults.add(Fault.reset_after(), on="PUT *")
    at_s3.create("a", CONTENT)
    assert CONTENT == at_s3.read("a")


@long
def test_s3_without_an_answer(at_s3: ObjectStore, s3: S3Service) -> None:
    """Each call reports that the bucket is unavailable; the message leaves out the number of
    retries.
    """
    s3.faults.add(Fault.status(503), times=None)
    for ask in (at_s3.names, lambda: at_s3.may_anybody_read("a")):
        with pytest.raises(DatabaseUnavailable, match="s3://states/a/b") as error:
            ask()
        assert "retr" not in str(error.value)


@pytest.mark.parametrize("refusal", [("QuotaExceeded", 403), ("AccessDenied", 403)])
def test_bucket_of_s3_that_refuses_objects(
    at_s3: ObjectStore, s3_bucket: S3Bucket, refusal: tuple[str, int]
) -> None:
    """The error quotes the code of S3, and is final."""
    s3_bucket.refusal = refusal
    with pytest.raises(ConfigError, match=refusal[0]):
        at_s3.create("a", CONTENT)


def test_missing_bucket_of_s3(s3: S3Service) -> None:
    """The error is final."""
    objects = S3Objects("none", "", endpoint=s3.url)
    for ask in (objects.names, lambda: objects.read("a"), lambda: objects.create("a", b"")):
        with pytest.raises(ConfigError, match="NoSuchBucket"):
            ask()


def test_public_bucket_of_s3_without_the_object(at_s3: ObjectStore, s3_bucket: S3Bucket) -> None:
    """The check for public access does not read a missing object."""
    s3_bucket.is_private = False
    assert not at_s3.may_anybody_read("a")


def test_wrong_clock_at_s3(at_s3: ObjectStore, s3: S3Service) -> None:
    """The hint names the clock."""
    s3.ahead = timedelta(hours=1)
    with pytest.raises(ConfigError, match="RequestTimeTooSkewed") as refused:
        at_s3.names()
    assert "clock" in str(refused.value.hint)


@pytest.mark.parametrize("missing", AWS)
def test_unset_key_of_s3(s3: S3Service, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    """The error names the missing variable."""
    monkeypatch.delenv(missing)
    with pytest.raises(ConfigError, match=f"{missing} is not set"):
        S3Objects("states", "", endpoint=s3.url)


def test_secret_is_in_no_message(s3: S3Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error about a wrong secret leaves the secret out."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-secret")
    s3.add_bucket("states")
    with pytest.raises(ConfigError, match="SignatureDoesNotMatch") as refused:
        S3Objects("states", "", endpoint=s3.url).names()
    assert "another-secret" not in f"{refused.value} {refused.value.hint}"
