"""What has to be known of an account before there is one: its adapter's settings, as questions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from certferry.config.bind import (
    Dataclass,
    is_secret,
    may_be_left_empty,
    may_be_seen,
    meanings,
    must_be_written,
    read_answer,
)
from certferry.ports.adapter import Adapter, Variable
from certferry.text import Text


@dataclass(frozen=True, slots=True)
class Question:
    """A key of an account, and what it is. A secret is kept under the first of the `names` that
    variables of the environment may have. What has none is no secret: `read` gives the value that
    stands in the file for an answer, or raises `ConfigError`. What `may_be_seen` is shown while it
    is typed, wherever it is kept; what `may_be_empty` has a default.
    """

    key: str
    what: Text
    names: tuple[str, ...] = ()
    read: Callable[[str], object] = str
    may_be_seen: bool = False
    may_be_empty: bool = False


def questions_of(type_: str, adapter: Adapter) -> tuple[Question, ...]:
    """Give what must be asked for an account of this type: what the environment may hold, then
    every other key that has no default.
    """
    variables = adapter.ENVIRONMENT
    return (
        *(
            Question(
                one.key,
                one.what,
                tuple(one.names),
                may_be_seen=one.is_public or may_be_seen(adapter.Settings, one.key),
            )
            for one in variables
        ),
        *_others(type_, adapter, variables),
    )


def questions_of_channel(type_: str, adapter: Adapter) -> tuple[Question, ...]:
    """Give what is asked for a channel of notifications: every key that has no default, then what
    some of its services want as well, such as a password.
    """
    settings: type[Dataclass] = adapter.Settings
    more = _asked_for(type_, adapter, may_be_left_empty(settings))
    return (
        *_others(type_, adapter, ()),
        *(replace(question, may_be_empty=True) for question in more),
    )


def _others(type_: str, adapter: Adapter, variables: Sequence[Variable]) -> Iterator[Question]:
    settings: type[Dataclass] = adapter.Settings
    known = {variable.key for variable in variables}
    yield from _asked_for(
        type_, adapter, [key for key in must_be_written(settings) if key not in known]
    )


def _asked_for(type_: str, adapter: Adapter, keys: Sequence[str]) -> Iterator[Question]:
    settings: type[Dataclass] = adapter.Settings
    said = meanings(settings)
    for key in keys:
        unsaid = Text("{key} of the account at {service}", key=key, service=adapter.SERVICE)
        what = said.get(key, unsaid)
        if is_secret(settings, key):
            yield Question(key, what, (_variable(type_, key),))
        else:
            yield Question(key, what, read=partial(read_answer, settings, key))


def _variable(type_: str, key: str) -> str:
    """Make a name for a variable that the adapter has none for."""
    return "".join(c if c.isalnum() else "_" for c in f"{type_}_{key}").upper()
