"""The port to a bucket: objects that are created once, and never changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from certferry.errors import ConfigError, DatabaseUnavailable
from certferry.text import Text

MOST_OBJECTS = 100_000
"""So many are listed under a prefix; a state has about fifty."""

LONGEST_OBJECT = 256 * 2**20  # bytes of an object that is read


class ObjectStore(Protocol):
    """The objects under one prefix of a bucket, by the rest of their names. All raise
    `StateUnavailable` where waiting helps, and `ConfigError` where it does not.
    """

    place: str
    """How messages name it: the URL without its options."""

    def names(self) -> Sequence[str]:
        """Return the names of all objects, in their order; of more than `MOST_OBJECTS` none."""

    def read(self, name: str) -> bytes:
        """Return the content of an object. Raises `StateUnavailable` for one that is not there: it
        was listed, and a service may take a moment to serve what it lists.
        """

    def create(self, name: str, content: bytes) -> bool:
        """Create an object; return whether it was this call that did. One that is there stays as
        it is.
        """

    def remove(self, names: Sequence[str]) -> None:
        """Delete objects; those that are not there count as deleted."""

    def may_anybody_read(self, name: str) -> bool:
        """Return whether an object is served to a request without a signature."""


def no_end(place: str) -> ConfigError:
    """Return the error for a list that has more objects than a state can."""
    return ConfigError(
        Text("{place} lists more than {count} objects", place=place, count=MOST_OBJECTS),
        hint=Text("give the state a bucket, or a prefix in `url`, of its own"),
    )


def too_long(place: str, name: str) -> ConfigError:
    """Return the error for an object that is longer than a state can be."""
    return ConfigError(
        Text("{name} in {place} is longer than any state", name=name, place=place),
        hint=Text("find out who writes there besides certferry"),
    )


def not_readable(place: str, name: str) -> DatabaseUnavailable:
    """Return the error for an object that was listed and is not there."""
    return DatabaseUnavailable(
        Text("{place} lists {name}, and does not have it to read yet", place=place, name=name),
        hint=Text("run it again later; if it stays so, that service lists what it has deleted"),
    )
