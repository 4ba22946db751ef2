"""The port to a bucket of objects that are created once and never changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from certferry.errors import ConfigError, DatabaseUnavailable
from certferry.text import Text

MOST_OBJECTS = 100_000
"""The most objects listed under a prefix; a state has about fifty."""

LONGEST_OBJECT = 256 * 2**20  # the most bytes of an object that are read


class ObjectStore(Protocol):
    """The objects under one prefix of a bucket. Names of objects lack the prefix. After a failure
    every method raises `StateUnavailable` if a later try may succeed, else `ConfigError`.
    """

    #: The bucket's name in messages: the URL of the bucket without options.
    place: str

    def names(self) -> Sequence[str]:
        """Return the sorted names of all objects; raise `ConfigError` above `MOST_OBJECTS`."""

    def read(self, name: str) -> bytes:
        """Return the content of an object. Raises `StateUnavailable` for an absent object: callers
        read only listed objects, and a service may return a listed object a moment later. Raises
        `ConfigError` for an object longer than `LONGEST_OBJECT`.
        """

    def create(self, name: str, content: bytes) -> bool:
        """Create an object and return True. If the object exists already, leave the object
        unchanged and return False.
        """

    def remove(self, names: Sequence[str]) -> None:
        """Delete objects; absent objects count as deleted."""

    def may_anybody_read(self, name: str) -> bool:
        """Return whether the service gives an object to a request without a signature."""


def no_end(place: str) -> ConfigError:
    """Return the error for a list with more objects than any state has."""
    return ConfigError(
        Text("{place} lists more than {count} objects", place=place, count=MOST_OBJECTS),
        hint=Text("give the state a bucket of its own, or a prefix in `url`"),
    )


def too_long(place: str, name: str) -> ConfigError:
    """Return the error for an object longer than any state (`LONGEST_OBJECT`)."""
    return ConfigError(
        Text("{name} in {place} is too long for a state", name=name, place=place),
        hint=Text("find out who writes there besides certferry"),
    )


def not_readable(place: str, name: str) -> DatabaseUnavailable:
    """Return the error for an object that was listed but cannot be read."""
    return DatabaseUnavailable(
        Text("{place} lists {name}, but cannot return it yet", place=place, name=name),
        hint=Text("run again later; if the error persists, the service lists deleted objects"),
    )
