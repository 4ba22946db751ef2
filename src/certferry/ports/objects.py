"""The port to a bucket: objects that are created once, and never changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class ObjectStore(Protocol):
    """The objects under one prefix of a bucket, by the rest of their names. All raise
    `StateUnavailable` where waiting helps, and `ConfigError` where it does not.
    """

    place: str
    """How messages name it: the URL without its options."""

    def names(self) -> Sequence[str]:
        """Return the names of all objects, in their order."""

    def read(self, name: str) -> bytes:
        """Return the content of an object."""

    def create(self, name: str, content: bytes) -> bool:
        """Create an object; return whether it was this call that did. One that is there stays as
        it is.
        """

    def remove(self, names: Sequence[str]) -> None:
        """Delete objects; those that are not there count as deleted."""

    def may_anybody_read(self, name: str) -> bool:
        """Return whether an object is served to a request without a signature."""
