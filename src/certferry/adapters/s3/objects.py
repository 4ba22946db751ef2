"""Objects in a bucket that speaks the API of Amazon S3, by the library obstore.

Create-only is `If-None-Match: *`, which Amazon, R2, MinIO, Ceph and others honour; a service that
ignores it is found out when the state is first made (`adapters.state.generations`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import obstore
from obstore import exceptions
from obstore.store import S3Store

from certferry.core.redaction import redacted
from certferry.errors import CertferryError, ConfigError, DatabaseUnavailable
from certferry.text import Text

T = TypeVar("T")

_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
_RETRIES = {"max_retries": 3, "retry_timeout": timedelta(seconds=30)}
_TIMES = {"timeout": timedelta(seconds=20), "connect_timeout": timedelta(seconds=5)}

_REFUSED = (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError)


class S3Objects:
    """See `ObjectStore`: the objects under a prefix of a bucket. The keys are in the environment,
    under the names that Amazon's own programs use.
    """

    def __init__(self, bucket: str, prefix: str, *, endpoint: str = "", region: str = "") -> None:
        self.place = f"s3://{bucket}/{prefix}".rstrip("/")
        if missing := [name for name in _KEYS if not os.environ.get(name)]:
            raise ConfigError(
                Text("{name} is not set: the key of the bucket of the state", name=missing[0]),
                hint=Text(
                    "set {names}, with the right to list, read, create and delete there"
                ).filled(names=" and ".join(_KEYS)),
            )
        options: dict[str, Any] = {
            "prefix": prefix or None,
            "region": region or os.environ.get("AWS_REGION") or "us-east-1",
            "client_options": {**_TIMES, "allow_http": endpoint.startswith("http://")},
            "retry_config": _RETRIES,
        }
        if endpoint:
            options["endpoint"] = endpoint
        secret = {name.lower(): os.environ[name] for name in _KEYS}
        if token := os.environ.get("AWS_SESSION_TOKEN"):
            secret["aws_session_token"] = token
        self._store = S3Store(bucket, **options, **secret)
        self._by_anybody = S3Store(bucket, **options, skip_signature=True)

    def names(self) -> Sequence[str]:
        """See `ObjectStore.names`."""

        def listed() -> list[str]:
            return [str(one["path"]) for page in obstore.list(self._store) for one in page]

        return sorted(self._called(listed))

    def read(self, name: str) -> bytes:
        """See `ObjectStore.read`."""
        return self._called(lambda: bytes(obstore.get(self._store, name).bytes()))

    def create(self, name: str, content: bytes) -> bool:
        """See `ObjectStore.create`."""

        def created() -> bool:
            try:
                obstore.put(self._store, name, content, mode="create", use_multipart=False)
            except exceptions.AlreadyExistsError:
                return False
            return True

        return self._called(created)

    def remove(self, names: Sequence[str]) -> None:
        """See `ObjectStore.remove`."""
        self._called(lambda: obstore.delete(self._store, list(names)))

    def may_anybody_read(self, name: str) -> bool:
        """See `ObjectStore.may_anybody_read`."""
        try:
            obstore.get(self._by_anybody, name)
        except exceptions.BaseError:
            return False
        return True

    def _called(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except exceptions.BaseError as failure:
            raise self._explained(failure) from None

    def _explained(self, failure: exceptions.BaseError) -> CertferryError:
        words = redacted(" ".join(str(failure).split())[:300])
        message = Text("the state in {place}: {words}", place=self.place, words=words)
        if isinstance(failure, _REFUSED):
            hint = Text("the key must be allowed to list, read, create and delete there")
            return ConfigError(message, hint=hint)
        if isinstance(failure, exceptions.NotFoundError):
            return ConfigError(message, hint=Text("`url` of [state] names a bucket that is there"))
        return DatabaseUnavailable(message, hint=Text("run it again later"))
