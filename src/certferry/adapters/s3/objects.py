"""Objects in a bucket with Amazon's S3 API, by the library obstore.

Objects are created with the header `If-None-Match: *`, which Amazon, R2, MinIO, Ceph and others
obey. A service that ignores the header is detected before the first state is created there
(`adapters.state.generations`).
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import obstore
from obstore import exceptions
from obstore.store import S3Store

from certferry.core.redaction import redacted
from certferry.errors import CertferryError, ConfigError, DatabaseUnavailable
from certferry.ports.objects import (
    LONGEST_OBJECT,
    MOST_OBJECTS,
    no_end,
    not_readable,
    too_long,
)
from certferry.ports.progress import Pause
from certferry.text import Text

T = TypeVar("T")

_DEFAULT_REGION = "us-east-1"
_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
_RETRIES: Any = {"max_retries": 3, "retry_timeout": timedelta(seconds=30)}
_TIMES = {"timeout": timedelta(seconds=60), "connect_timeout": timedelta(seconds=5)}

LIST = timedelta(seconds=90)
"""How long listing all objects may take, over all pages: the library itself would follow an endless
chain of pages."""

_PAUSES = (0.3, 1.5)  # seconds
_CODE = re.compile(r"<Code>(\w+)</Code>")
_STATUS = re.compile(r"status code: (\d{3})")
_REFUSALS = {"400", "401", "403"}
_NOT_IMPLEMENTED = "501"
_NO_BUCKET = "NoSuchBucket"
_REFUSED = (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError)


_LATER = Text("run again later; if the error persists, check `endpoint` and `region` in `url`")


class S3Objects:
    """The objects under a prefix of a bucket, see `ports.objects.ObjectStore`.

    The keys come from the environment variables that Amazon's own programs use. Raises
    `ConfigError` for a missing key.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str,
        *,
        endpoint: str = "",
        region: str = "",
        pause: Pause = time.sleep,
        for_list: timedelta = LIST,
    ) -> None:
        self._pause = pause
        self._for_list = for_list.total_seconds()
        self.place = f"s3://{bucket}/{prefix}".rstrip("/")
        if missing := [name for name in _KEYS if not os.environ.get(name)]:
            raise ConfigError(
                Text("{name} is not set: the key for the bucket of the state", name=missing[0]),
                hint=Text(
                    "set {names}, with permission to list, read, create and delete there"
                ).filled(names=" and ".join(_KEYS)),
            )
        # The library reads a missing setting from the environment, so the region is always passed.
        config: Any = {
            "region": region or os.environ.get("AWS_REGION") or _DEFAULT_REGION,
            **({"endpoint": endpoint} if endpoint else {}),
        }
        keys = {name.lower(): os.environ[name] for name in _KEYS}
        if token := os.environ.get("AWS_SESSION_TOKEN"):
            keys["aws_session_token"] = token
        client: Any = {**_TIMES, "allow_http": endpoint.startswith("http://")}
        open_as: Callable[..., S3Store] = partial(
            S3Store,
            bucket,
            prefix=prefix.strip("/") or None,
            client_options=client,
            retry_config=_RETRIES,
        )
        self._store = open_as(config={**config, **keys})
        self._by_anybody = open_as(config={**config, "skip_signature": True})

    def names(self) -> Sequence[str]:
        async def listed() -> list[str]:
            names: list[str] = []
            async for page in obstore.list(self._store):
                names += [str(item["path"]) for item in page]
                if len(names) > MOST_OBJECTS:
                    raise no_end(self.place)
            return names

        def in_time() -> list[str]:
            return asyncio.run(asyncio.wait_for(listed(), self._for_list))

        try:
            return sorted(self._called(in_time))
        except TimeoutError:
            raise DatabaseUnavailable(
                Text("the state in {place}: the bucket's list never ends", place=self.place),
                hint=_LATER,
            ) from None

    def read(self, name: str) -> bytes:
        def read() -> bytes:
            try:
                stored = obstore.get(self._store, name)
            except FileNotFoundError as missing:
                if _NO_BUCKET in str(missing):
                    raise
                raise not_readable(self.place, name) from None
            if stored.meta["size"] > LONGEST_OBJECT:
                raise too_long(self.place, name)
            return bytes(stored.bytes())

        return self._called(read)

    def create(self, name: str, content: bytes) -> bool:
        def created() -> bool:
            try:
                obstore.put(self._store, name, content, mode="create", use_multipart=False)
            except exceptions.AlreadyExistsError:
                return False
            return True

        return self._called(created)

    def remove(self, names: Sequence[str]) -> None:
        self._called(lambda: obstore.delete(self._store, list(names)))

    def may_anybody_read(self, name: str) -> bool:
        def is_read() -> bool:
            try:
                obstore.get(self._by_anybody, name)
            except (*_REFUSED, FileNotFoundError):
                return False
            return True

        return self._called(is_read)

    def _called(self, call: Callable[[], T]) -> T:
        """Make a call, and return the result. After a failure that may pass, repeat the call.

        The library itself repeats only reads. Repeating a creation is safe. If the answer to the
        first creation was lost, the second creation says that the object exists. Raises
        `CertferryError`.
        """
        for wait in (*_PAUSES, None):
            try:
                return call()
            except (exceptions.BaseError, FileNotFoundError) as failure:
                error = self._explained(failure)
                if wait is None or not error.retry.allowed:
                    raise error from None
                self._pause(wait)
        raise AssertionError  # the last try returns or raises

    def _explained(self, failure: Exception) -> CertferryError:
        # The part after "Debug source" is cut off, because the part quotes the request.
        cause = " ".join(str(failure).partition("Debug source")[0].split())
        code, status = _CODE.search(cause), _STATUS.search(cause)
        # The words before the cause are cut off as well: the library's attempts and seconds.
        cause = cause.rpartition("retry_timeout: ")[2].partition(" - ")[2] or cause
        words = redacted(cause[:300]) if code is None else code[1]
        message = Text("the state in {place}: {words}", place=self.place, words=words)
        if isinstance(failure, FileNotFoundError) or (status and status[1] == "404"):
            return ConfigError(message, hint=Text("set `url` of [state] to an existing bucket"))
        if isinstance(failure, _REFUSED) or (status and status[1] in _REFUSALS):
            hint = Text(
                "allow the key to list, read, create and delete there, set `region` in `url` to"
                " the bucket's region, and check this host's clock"
            )
            return ConfigError(message, hint=hint)
        if status and status[1] == _NOT_IMPLEMENTED:
            hint = Text(
                "the service lacks a function that a state requires: creating an object only if"
                " absent (`If-None-Match`); use a bucket of another service, or Kodo itself with"
                " `kodo://`"
            )
            return ConfigError(message, hint=hint)
        return DatabaseUnavailable(message, hint=_LATER)
