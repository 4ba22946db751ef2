"""Objects in a private bucket of Kodo: created once, listed, read with a signed URL, deleted
(docs/facts/qiniu.md §6.6).

- Where a bucket's region answers is asked once a run: `GET /v4/query` names the hosts for uploads,
  lists, changes, and the source host of the bucket, from which a private object is read without a
  domain that is bound to it. A bound CDN domain may cache that there is no such object.
- An upload's token carries the policy: this key alone, and `insertOnly`. A key that is there with
  other bytes is refused with 614; the same bytes are a success, so each object needs a nonce.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

from certferry.adapters.http.client import (
    HttpClient,
    HttpFailure,
    Request,
    ahead_of,
    is_server_error,
)
from certferry.adapters.qiniu import wire
from certferry.core.network import judge_clock
from certferry.errors import CertferryError, ConfigError, DatabaseUnavailable
from certferry.ports.adapter import Answer, json_object
from certferry.text import Text

TOKEN_IS_GOOD_FOR = timedelta(minutes=20)
"""Qiniu takes a clock that is 15 minutes off (§2.3); no call takes longer than the rest."""

LONGEST = 256 * 2**20  # bytes of an object that is read

EXISTS, NO_SUCH_BUCKET, NO_SUCH_OBJECT = 614, 631, 612
SOME_FAILED = 298  # of a batch
_LISTED_AT_ONCE = 1000  # the most there may be


class KodoObjects:
    """See `ObjectStore`: the objects under a prefix of a bucket."""

    def __init__(
        self,
        bucket: str,
        prefix: str,
        keys: wire.QiniuKeys,
        *,
        uc: str,
        http: HttpClient,
        now: Callable[[], datetime],
    ) -> None:
        self.place = f"kodo://{bucket}/{prefix}".rstrip("/")
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._keys = keys
        self._uc = uc
        self._http = http
        self._now = now

    def names(self) -> Sequence[str]:
        found: list[str] = []
        marker = ""
        while True:
            asked = {"bucket": self._bucket, "prefix": self._prefix, "limit": _LISTED_AT_ONCE}
            query = urlencode(asked | ({"marker": marker} if marker else {}))
            page = self._called("GET", f"{self._host('rsf')}/list?{query}")
            found += [str(item["key"]) for item in page.get("items") or ()]
            marker = str(page.get("marker") or "")
            if not marker:
                return sorted(key.removeprefix(self._prefix) for key in found)

    def read(self, name: str) -> bytes:
        url = self._url(name)
        url += f"?e={self._deadline()}"
        answer = self._exchange(lambda: Request("GET", f"{url}&token={self._token(url.encode())}"))
        if answer.status != HTTPStatus.OK:
            raise self._refused(answer)
        return answer.body

    def create(self, name: str, content: bytes) -> bool:
        key = self._prefix + name
        policy = {"scope": f"{self._bucket}:{key}", "deadline": self._deadline(), "insertOnly": 1}
        written = base64.urlsafe_b64encode(json.dumps(policy).encode())
        fields = {"key": key, "token": f"{self._token(written)}:{written.decode()}"}
        headers, body = _form(fields, name, content)
        answer = self._exchange(lambda: Request("POST", f"{self._host('up')}/", headers, body))
        if answer.status == EXISTS:
            return False
        if answer.status != HTTPStatus.OK:
            raise self._refused(answer)
        return True

    def remove(self, names: Sequence[str]) -> None:
        entries = (f"{self._bucket}:{self._prefix}{name}".encode() for name in names)
        operations = [
            ("op", f"/delete/{base64.urlsafe_b64encode(one).decode()}") for one in entries
        ]
        if operations:
            self._called("POST", f"{self._host('rs')}/batch", urlencode(operations).encode())

    def may_anybody_read(self, name: str) -> bool:
        answer = self._exchange(lambda: Request("GET", self._url(name)))
        return answer.status == HTTPStatus.OK

    @cached_property
    def _region(self) -> dict[str, Any]:
        access_key = self._keys.access_key.reveal()
        query = urlencode({"ak": access_key, "bucket": self._bucket})
        answer = self._exchange(lambda: Request("GET", f"{self._uc}/v4/query?{query}"))
        hosts = (json_object(answer.body) or {}).get("hosts")
        if answer.status != HTTPStatus.OK or not hosts:
            raise self._refused(answer)
        region: dict[str, Any] = hosts[0]
        return region

    def _host(self, service: str) -> str:
        try:
            host = str(self._region[service]["domains"][0])
        except (KeyError, IndexError, TypeError):
            said = Text("Qiniu names no host ({service}) for the bucket {bucket}")
            raise DatabaseUnavailable(said.filled(service=service, bucket=self._bucket)) from None
        return host if "://" in host else f"https://{host}"

    def _url(self, name: str) -> str:
        return f"{self._host('io_src')}/{quote(self._prefix + name)}"

    def _deadline(self) -> int:
        return int((self._now() + TOKEN_IS_GOOD_FOR).timestamp())

    def _token(self, message: bytes) -> str:
        return wire.token(self._keys, message)

    def _called(self, method: str, url: str, body: bytes | None = None) -> dict[str, Any]:
        request = Request(method, url, body=body)
        answer = self._exchange(lambda: wire.sign_qiniu(request, self._keys, self._now()))
        if answer.status not in {HTTPStatus.OK, SOME_FAILED}:
            raise self._refused(answer)
        return json_object(answer.body) or {}

    def _exchange(self, prepare: Callable[[], Request]) -> Answer:
        # Every call may be repeated: an object that is created twice is the same, or not created.
        try:
            return self._http.exchange(prepare, repeatable=True)
        except HttpFailure as failure:
            said = Text("the state in {place} cannot be reached: {problem}")
            raise DatabaseUnavailable(
                said.filled(place=self.place, problem=failure.problem)
            ) from None

    def _refused(self, answer: Answer) -> CertferryError:
        reply = wire.read_reply(answer)
        said = Text("the state in {place}: Qiniu says {status} {words}")
        message = said.filled(place=self.place, status=answer.status, words=reply.words)
        if is_server_error(answer) or wire.too_many(answer):
            return DatabaseUnavailable(message, hint=Text("run it again later"))
        if answer.status in {NO_SUCH_BUCKET, NO_SUCH_OBJECT, HTTPStatus.NOT_FOUND}:
            hint = Text("`url` of [state] names a private bucket of this account")
            return ConfigError(message, hint=hint)
        if answer.status not in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            hint = Text("see in Qiniu's console what is wrong with the bucket, or the account")
            return ConfigError(message, hint=hint)
        clock = judge_clock("", "Qiniu", ahead_of(answer.headers, self._now()) or timedelta(0))
        if clock is not None and clock.is_error:
            return ConfigError(clock.message, hint=clock.hint)
        hint = Text("the account's keys must be allowed to list, upload, read and delete there")
        return ConfigError(message, hint=hint)


def _form(fields: dict[str, str], name: str, content: bytes) -> tuple[dict[str, str], bytes]:
    """Return the headers and the body of a form with a file (RFC 7578)."""
    boundary = os.urandom(16).hex()
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
        for key, value in fields.items()
    ]
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    end = f"\r\n--{boundary}--\r\n".encode()
    body = b"".join([*parts, head.encode(), content, end])
    return {"Content-Type": f"multipart/form-data; boundary={boundary}"}, body
