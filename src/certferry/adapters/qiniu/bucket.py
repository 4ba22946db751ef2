"""Objects in a private Kodo bucket: created once, listed, read with a signed URL, deleted
(docs/facts/qiniu.md §6.6).

- `GET /v4/query`, asked once a run, names the hosts of the bucket's region for uploads, lists and
  changes, and the bucket's source host. Private objects are read from the source host, because a
  CDN domain bound to the bucket may cache the absence of an object.
- The token of an upload allows a single name, and only a new object (`insertOnly`). If an object
  with other bytes has the name, Qiniu answers 614. An upload of the same bytes succeeds again, so
  the bytes of each object must contain a random number.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from certferry.adapters.cdn.answers import HOST, decode
from certferry.adapters.http.exchange import HttpFailure, Request
from certferry.adapters.http.http_client import HttpClient, ahead_of, is_server_error
from certferry.adapters.qiniu import wire
from certferry.core.network import is_loopback, judge_clock
from certferry.errors import CertferryError, ConfigError, DatabaseUnavailable
from certferry.ports.adapter import Answer, json_object
from certferry.ports.objects import MOST_OBJECTS, no_end, not_readable
from certferry.text import Text

TOKEN_IS_GOOD_FOR = timedelta(minutes=20)
"""How long an upload token or the URL of a read is valid: the 15 minutes that a clock may be off
(§2.3), and the time of a call.
"""

EXISTS, NO_SUCH_BUCKET, NO_SUCH_OBJECT = 614, 631, 612
SOME_FAILED = 298  # for a batch
_LISTED_AT_ONCE = 1000  # Qiniu's limit


class _Item(msgspec.Struct, frozen=True):
    """An object in a list."""

    key: str


class _Page(msgspec.Struct, frozen=True):
    """A page of a list; the last page lacks a `marker`."""

    items: tuple[_Item, ...] | None = None
    marker: str | None = None


class KodoObjects:
    """The objects under a prefix of a bucket, see `ports.objects.ObjectStore`."""

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
        keys: list[str] = []
        marker = ""
        # The number of pages is limited as well: pages may be empty, and markers may repeat.
        for _ in range(MOST_OBJECTS // _LISTED_AT_ONCE):
            asked = {"bucket": self._bucket, "prefix": self._prefix, "limit": _LISTED_AT_ONCE}
            query = urlencode(asked | ({"marker": marker} if marker else {}))
            answer = self._called("GET", f"{self._host('rsf')}/list?{query}")
            try:
                page = decode(answer.body, _Page)
            except ValueError:
                raise self._not_understood() from None
            keys += [item.key for item in page.items or ()]
            marker = page.marker or ""
            if not marker:
                return sorted(key.removeprefix(self._prefix) for key in keys)
            if len(keys) > MOST_OBJECTS:
                break
        raise no_end(self.place)

    def read(self, name: str) -> bytes:
        url = self._url(name)
        url += f"?e={self._deadline()}"
        answer = self._exchange(lambda: Request("GET", f"{url}&token={self._token(url.encode())}"))
        if answer.status in {NO_SUCH_OBJECT, HTTPStatus.NOT_FOUND}:
            raise not_readable(self.place, name)
        if answer.status != HTTPStatus.OK:
            raise self._refused(answer)
        return answer.body

    def create(self, name: str, content: bytes) -> bool:
        key = self._prefix + name
        policy = {"scope": f"{self._bucket}:{key}", "deadline": self._deadline(), "insertOnly": 1}
        encoded = base64.urlsafe_b64encode(json.dumps(policy).encode())
        fields = {"key": key, "token": f"{self._token(encoded)}:{encoded.decode()}"}
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
            ("op", f"/delete/{base64.urlsafe_b64encode(entry).decode()}") for entry in entries
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
        if answer.status != HTTPStatus.OK:
            raise self._refused(answer)
        match json_object(answer.body):
            case {"hosts": [dict(region), *_]}:
                return region
        raise self._not_understood()

    def _host(self, service: str) -> str:
        try:
            host = str(self._region[service]["domains"][0])
            url = host if "://" in host else f"https://{host}"
            parts = urlsplit(url)
            name = parts.hostname or ""
            if not (is_loopback(name) or re.match(rf"{HOST}|[0-9.]{{7,15}}$", name)):
                raise ValueError  # noqa: TRY301 - treated like a malformed address
        except (KeyError, IndexError, TypeError, ValueError):
            sentence = Text("Qiniu gives no host ({service}) for the bucket {bucket}")
            raise DatabaseUnavailable(
                sentence.filled(service=service, bucket=self._bucket)
            ) from None
        if parts.scheme == "https" or (parts.scheme == "http" and is_loopback(name)):
            return url
        raise ConfigError(
            Text(
                "certferry would have to ask {host} of {place} without https",
                host=host,
                place=self.place,
            ),
            hint=Text("nothing was sent; check which service answers in Qiniu's place"),
        )

    def _url(self, name: str) -> str:
        return f"{self._host('io_src')}/{quote(self._prefix + name)}"

    def _deadline(self) -> int:
        return int((self._now() + TOKEN_IS_GOOD_FOR).timestamp())

    def _token(self, message: bytes) -> str:
        return wire.token(self._keys, message)

    def _called(self, method: str, url: str, body: bytes | None = None) -> Answer:
        request = Request(method, url, body=body)
        answer = self._exchange(lambda: wire.sign_qiniu(request, self._keys, self._now()))
        if answer.status not in {HTTPStatus.OK, SOME_FAILED}:
            raise self._refused(answer)
        return answer

    def _exchange(self, prepare: Callable[[], Request]) -> Answer:
        # Every call may be repeated. A second upload of the same bytes succeeds as the first did.
        try:
            return self._http.exchange(prepare, repeatable=True)
        except HttpFailure as failure:
            sentence = Text("the state in {place} cannot be reached: {problem}")
            raise DatabaseUnavailable(
                sentence.filled(place=self.place, problem=failure.problem)
            ) from None

    def _not_understood(self) -> DatabaseUnavailable:
        return DatabaseUnavailable(
            Text("the state in {place}: certferry cannot read Qiniu's answer", place=self.place),
            hint=Text("run it again later"),
        )

    def _refused(self, answer: Answer) -> CertferryError:
        reply = wire.read_reply(answer)
        sentence = Text("the state in {place}: Qiniu says {status} {words}")
        message = sentence.filled(place=self.place, status=answer.status, words=reply.shown)
        if is_server_error(answer) or wire.too_many(answer):
            return DatabaseUnavailable(message, hint=Text("run it again later"))
        if answer.status in {NO_SUCH_BUCKET, HTTPStatus.NOT_FOUND}:
            hint = Text("set `url` of [state] to a private bucket of the account")
            return ConfigError(message, hint=hint)
        if answer.status not in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            hint = Text("check the bucket and the account in Qiniu's console")
            return ConfigError(message, hint=hint)
        clock = judge_clock("", "Qiniu", ahead_of(answer.headers, self._now()) or timedelta(0))
        if clock is not None and clock.is_error:
            return ConfigError(clock.message, hint=clock.hint)
        hint = Text("the account's keys must be allowed to list, upload, read and delete there")
        return ConfigError(message, hint=hint)


def _form(fields: dict[str, str], name: str, content: bytes) -> tuple[dict[str, str], bytes]:
    """Return headers and body of a form with a file (RFC 7578)."""
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
