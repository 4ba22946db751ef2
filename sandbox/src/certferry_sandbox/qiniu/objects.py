"""Kodo: the objects of buckets, at a region's hosts for uploads, lists, deletions and reads
(docs/facts/qiniu.md §6.6).
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email import message_from_bytes, policy
from functools import partial
from http import HTTPStatus
from typing import Any, Self
from urllib.parse import parse_qs, parse_qsl, unquote

from certferry_sandbox.edges import Clock
from certferry_sandbox.httpd import HttpService, Request, Response
from certferry_sandbox.qiniu.answers import Refused, request_id
from certferry_sandbox.qiniu.signing import Accounts, Scheme

EXISTS, NO_SUCH_BUCKET, NO_SUCH_OBJECT = 614, 631, 612  # HTTP statuses
PARTLY = 298  # HTTP status: some operations of a batch failed
MOST_LISTED = 1000  # objects a page

_FIELDS = {"scope", "deadline", "insertOnly"}
"""The fields of an upload's policy that the stand-in implements. Another field is an error."""


@dataclass
class Bucket:
    """A bucket with objects.

    `overwrites`: ignore `insertOnly`; Kodo does not.
    `up_elsewhere`: the upload host of the bucket's true region. If set, `up` refuses
    every upload and names this host.
    `refusal`: the answer to every valid upload.
    """

    uid: int
    is_private: bool = True
    overwrites: bool = False
    up_elsewhere: str = ""
    refusal: Refused | None = None
    objects: dict[str, bytes] = field(default_factory=dict)


class Objects:
    """The objects of all buckets, behind four HTTP services: `up`, `rsf`, `rs` and `io_src`.

    `before`: called with each request before the request is answered.
    """

    def __init__(self, accounts: Accounts, clock: Clock) -> None:
        self._accounts = accounts
        self._clock = clock
        self._lock = threading.RLock()
        self._running = ExitStack()
        self.buckets: dict[str, Bucket] = {}
        self.before: Callable[[Request], object] = lambda _: None
        self.up = self._service(self._upload, clock)
        self.rsf = self._service(self._listing, clock)
        self.rs = self._service(self._batch, clock)
        self.io_src = self._service(self._read, clock)

    def _service(self, work: Callable[[Request], Response], clock: Clock) -> HttpService:
        return HttpService(partial(self._answer, work), clock=clock)

    @property
    def services(self) -> tuple[HttpService, ...]:
        """The four HTTP services."""
        return self.up, self.rsf, self.rs, self.io_src

    def __enter__(self) -> Self:
        with ExitStack() as started:
            for service in self.services:
                started.enter_context(service)
            self._running = started.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def requests(self, pattern: str = "*") -> list[Request]:
        """Return the requests to `services` with a "METHOD /path" that matches a shell pattern."""
        return [request for service in self.services for request in service.requests(pattern)]

    def query(self, request: Request) -> Response:
        """`GET /v4/query?ak=&bucket=` at uc, unsigned: the hosts of a bucket's region."""
        asked = _query_of(request)
        bucket = self.buckets.get(asked.get("bucket", ""))
        try:
            uid = self._accounts.uid(asked["ak"])
        except LookupError:
            uid = -1
        if bucket is None or bucket.uid != uid:
            return Response.json({"error": "no such bucket"}, NO_SUCH_BUCKET)
        hosts = {name: {"domains": [getattr(self, name).url]} for name in _SERVICES}
        hosts["io_src"] = {"domains": [f"{self.io_src.url}/{asked['bucket']}"]}
        region = {"region": "z0", "ttl": 86400, **hosts, "io": {"domains": ["iovip.invalid"]}}
        return Response.json({"hosts": [region]})

    def _answer(self, work: Callable[[Request], Response], request: Request) -> Response:
        self.before(request)
        try:
            with self._lock:
                response = work(request)
        except Refused as refusal:
            response = refusal.response()
        return response.with_header("X-Reqid", request_id(self._clock()))

    def _bucket(self, name: str, uid: int) -> Bucket:
        bucket = self.buckets.get(name)
        if bucket is None or bucket.uid != uid:
            raise Refused(None, "no such bucket", status=NO_SUCH_BUCKET)
        return bucket

    # --- up: a form with the token of its policy

    def _upload(self, request: Request) -> Response:
        if (request.method, request.path) != ("POST", "/"):
            raise Refused.not_found()
        fields = _form_of(request)
        policy_, uid = self._policy_of(fields.get("token", b"").decode())
        name, _, key = str(policy_["scope"]).partition(":")
        bucket = self._bucket(name, uid)
        if bucket.up_elsewhere:
            message = f"incorrect region, please use {bucket.up_elsewhere}, bucket is: {name}"
            raise Refused(None, message, status=HTTPStatus.BAD_REQUEST)
        if not key or fields.get("key", b"").decode() != key:
            raise Refused(None, "key doesn't match with scope", status=HTTPStatus.FORBIDDEN)
        if "file" not in fields:
            raise Refused(None, "file is not specified", status=HTTPStatus.BAD_REQUEST)
        if bucket.refusal is not None:
            raise bucket.refusal
        content, before = fields["file"], bucket.objects.get(key)
        is_kept = bool(policy_.get("insertOnly")) and not bucket.overwrites
        if is_kept and before not in {None, content}:
            raise Refused(None, "file exists", status=EXISTS)
        bucket.objects[key] = content
        return Response.json({"hash": "F", "key": key})

    def _policy_of(self, token: str) -> tuple[dict[str, Any], int]:
        """Check an upload's token. Return the policy, and the account that signed the policy."""
        access_key, _, rest = token.partition(":")
        signature, _, encoded = rest.partition(":")
        uid = self._accounts.signed(access_key, signature, encoded.encode())
        policy_ = json.loads(base64.urlsafe_b64decode(encoded))
        if unknown := policy_.keys() - _FIELDS:
            raise AssertionError(f"the stand-in does not know {unknown}")
        if not isinstance(policy_["deadline"], int):
            raise Refused(None, "bad token", status=HTTPStatus.UNAUTHORIZED)
        self._must_be_in_time(policy_["deadline"])
        return policy_, uid

    def _must_be_in_time(self, deadline: int) -> None:
        if datetime.fromtimestamp(deadline, UTC) < self._clock():
            raise Refused(None, "token out of date", status=HTTPStatus.UNAUTHORIZED)

    # --- rsf and rs: signed like calls of uc

    def _signed(self, request: Request) -> int:
        caller = self._accounts.caller(request, self._clock())
        if caller.scheme is not Scheme.QINIU:
            raise Refused.bad_token()
        return caller.uid

    def _listing(self, request: Request) -> Response:
        uid = self._signed(request)
        if (request.method, request.path) != ("GET", "/list"):
            raise Refused.not_found()
        asked = _query_of(request)
        bucket = self._bucket(asked["bucket"], uid)
        limit = int(asked.get("limit") or MOST_LISTED)
        if not 1 <= limit <= MOST_LISTED:
            raise Refused(None, "invalid limit", status=HTTPStatus.BAD_REQUEST)
        prefix, after = asked.get("prefix", ""), _key_after(asked.get("marker", ""))
        keys = [key for key in sorted(bucket.objects) if key.startswith(prefix) and key > after]
        page = [{"key": key, "fsize": len(bucket.objects[key])} for key in keys[:limit]]
        more = {"marker": _marker(keys[limit - 1])} if len(keys) > limit else {}
        return Response.json({"items": page, **more})

    def _batch(self, request: Request) -> Response:
        uid = self._signed(request)
        if (request.method, request.path) != ("POST", "/batch"):
            raise Refused.not_found()
        operations = [value for name, value in parse_qsl(request.body.decode()) if name == "op"]
        results = [self._delete(operation, uid) for operation in operations]
        is_whole = all(result["code"] == HTTPStatus.OK for result in results)
        return Response.json(results, HTTPStatus.OK if is_whole else PARTLY)

    def _delete(self, operation: str, uid: int) -> dict[str, Any]:
        _, word, encoded = operation.split("/")
        if word != "delete":
            raise Refused.not_found()
        name, _, key = base64.urlsafe_b64decode(encoded).decode().partition(":")
        if self._bucket(name, uid).objects.pop(key, None) is None:
            return {"code": NO_SUCH_OBJECT, "data": {"error": "no such file or directory"}}
        return {"code": int(HTTPStatus.OK)}

    # --- io_src: a private object needs a token over its whole URL

    def _read(self, request: Request) -> Response:
        # Kodo finds the bucket by the host name, the stand-in by the first part of the path.
        name, _, key = unquote(request.path.removeprefix("/")).partition("/")
        bucket = self.buckets[name]
        if bucket.is_private:
            self._must_be_signed(request, bucket)
        if key not in bucket.objects:
            return Response.json({"error": "Document not found"}, HTTPStatus.NOT_FOUND)
        return Response(HTTPStatus.OK, bucket.objects[key], "application/octet-stream")

    def _must_be_signed(self, request: Request, bucket: Bucket) -> None:
        # The signature covers the URL with the client's Host, up to the token.
        url = f"http://{request.headers.get('Host')}{request.path}?{request.query}"
        covered, _, token = url.partition("&token=")
        access_key, _, signature = token.partition(":")
        if self._accounts.signed(access_key, signature, covered.encode()) != bucket.uid:
            raise Refused.bad_token()
        self._must_be_in_time(int(_query_of(request)["e"]))


_SERVICES = ("up", "rsf", "rs")


def _query_of(request: Request) -> dict[str, str]:
    asked = parse_qs(request.query, keep_blank_values=True)
    return {name: values[-1] for name, values in asked.items()}


def _form_of(request: Request) -> dict[str, bytes]:
    """Return the fields of a form (RFC 7578), read with the standard library's mail parser."""
    head = f"Content-Type: {request.headers.get('Content-Type', '')}\r\n\r\n".encode()
    form = message_from_bytes(head + request.body, policy=policy.HTTP)
    if form.get_content_type() != "multipart/form-data" or not form.is_multipart():
        raise Refused(None, "invalid multipart format", status=HTTPStatus.BAD_REQUEST)
    fields = {}
    for part in form.iter_parts():
        name = str(part.get_param("name", "", header="Content-Disposition"))
        fields[name] = _content_of(request.body, part.get_payload(decode=True), name)
    return fields


def _content_of(body: bytes, payload: Any, name: str) -> bytes:
    # The mail parser changes line ends, so the binary file is cut out of the body itself.
    if name != "file":
        return bytes(payload)
    boundary = body.partition(b"\r\n")[0]
    after = body.partition(b'name="file"')[2].partition(b"\r\n\r\n")[2]
    return after.rpartition(b"\r\n" + boundary + b"--")[0]


def _marker(key: str) -> str:
    return base64.urlsafe_b64encode(json.dumps({"k": key}).encode()).decode()


def _key_after(marker: str) -> str:
    return str(json.loads(base64.urlsafe_b64decode(marker))["k"]) if marker else ""
