"""Runs that end in the middle: ports whose calls fail at a chosen moment, or kill the process."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn, Protocol


class Killed(BaseException):
    """The process is no more: nothing in it is carried out any longer, not even a `finally`."""


class Fate(Protocol):
    """Decides over the calls that go through a port."""

    def before(self) -> None:
        """Before a call is carried out."""
        ...

    def after(self) -> None:
        """After it was carried out, before its caller gets the answer."""
        ...


class Life:
    """Ends the process with its last call, which is carried out, though its caller hears no
    more. All that follow raise `Killed`.
    """

    def __init__(self, calls: int) -> None:
        self.left = calls

    @property
    def is_over(self) -> bool:
        """Whether the process is no more."""
        return self.left <= 0

    def before(self) -> None:
        """Use one call up."""
        if self.is_over:
            raise Killed
        self.left -= 1

    def after(self) -> None:
        """End here after the last one."""
        if self.is_over:
            raise Killed


class Shock:
    """Lets exactly one call fail, before or after it was carried out."""

    def __init__(self, call: int, error: BaseException, *, done: bool) -> None:
        self.calls = 0
        self._call = call
        self._error = error
        self._done = done

    @property
    def was_felt(self) -> bool:
        """Whether there were as many calls."""
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
    """Any port, with a fate that hangs over each of its calls."""

    def __init__(self, port: object, fate: Fate) -> None:
        self._port = port
        self._fate = fate
        # What it is able to do is seen (`isinstance` of a protocol) as it is of the port itself.
        self.__dict__.update((name, self._fated(name)) for name in _methods(port))

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)  # one that the port lacks is lacking here
        return self._fated(name) if callable(found) else found  # a value is no call

    def _fated(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self._fate.before()
            result = getattr(self._port, name)(*args, **kwargs)
            self._fate.after()
            return result

        return call


class Altered:
    """Any port, some of whose calls are others."""

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
    """Return a call that raises this."""

    def call(*_: object, **__: object) -> NoReturn:
        raise error

    return call
