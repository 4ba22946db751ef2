"""Ports whose calls fail at a chosen moment, or kill the process there, for tests of recovery."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn, Protocol


class Killed(BaseException):
    """The process was killed: nothing in the process runs any more, not even a `finally`."""


class Fate(Protocol):
    """Decides whether a call through a port goes well."""

    def before(self) -> None:
        """Called before the work of a call."""
        ...

    def after(self) -> None:
        """Called after the work, before the caller gets the answer."""
        ...


class Life:
    """Ends the process with the last call: the work is done, and the caller gets no answer. Later
    calls raise `Killed`.
    """

    def __init__(self, calls: int) -> None:
        self.left = calls

    @property
    def is_over(self) -> bool:
        """Whether the process was killed."""
        return self.left <= 0

    def before(self) -> None:
        """Count a call."""
        if self.is_over:
            raise Killed
        self.left -= 1

    def after(self) -> None:
        """End the process after the last call."""
        if self.is_over:
            raise Killed


class Shock:
    """Lets exactly one call fail, before or after the call's work."""

    def __init__(self, call: int, error: BaseException, *, done: bool) -> None:
        self.calls = 0
        self._call = call
        self._error = error
        self._done = done

    @property
    def was_felt(self) -> bool:
        """Whether the failing call was reached."""
        return self.calls >= self._call

    def before(self) -> None:
        """Fail before the work."""
        self.calls += 1
        if self.calls == self._call and not self._done:
            raise self._error

    def after(self) -> None:
        """Fail after the work."""
        if self.calls == self._call and self._done:
            raise self._error


def _methods(port: object) -> list[str]:
    known = (name for name in dir(type(port)) if not name.startswith("_"))
    return [name for name in known if callable(getattr(type(port), name))]


class Port:
    """A port with a fate for each call."""

    def __init__(self, port: object, fate: Fate) -> None:
        self._port = port
        self._fate = fate
        # `isinstance` of a protocol then answers as for the port itself.
        self.__dict__.update((name, self._fated(name)) for name in _methods(port))

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)  # raises AttributeError as the port would
        return self._fated(name) if callable(found) else found  # a value, not a call

    def _fated(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self._fate.before()
            result = getattr(self._port, name)(*args, **kwargs)
            self._fate.after()
            return result

        return call


class Altered:
    """A port with replacements for some calls."""

    def __init__(self, port: Any, **calls: Callable[..., Any]) -> None:
        self._port = port
        self.__dict__.update(
            (name, partial(self._now, name))
            for name in _methods(port)
            if not hasattr(type(self), name)
        )
        self.__dict__.update(calls)

    def _now(self, name: str, *args: Any, **kwargs: Any) -> Any:
        return getattr(self._port, name)(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)


def failing(error: BaseException) -> Callable[..., NoReturn]:
    """Return a call that raises the error."""

    def call(*_: object, **__: object) -> NoReturn:
        raise error

    return call
