"""A value that never prints itself."""

from __future__ import annotations

import hmac

MASK = "•••"


class Secret:
    """A password, token or private key. `str`, `repr` and formatting give `•••`.

    It refuses to be pickled: a secret leaves the process only where `reveal` is written.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Give the value itself, to whoever has to send or use it."""
        return self._value

    def __str__(self) -> str:
        return MASK

    __repr__ = __str__

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __reduce__(self) -> str:
        msg = "a secret is not pickled"
        raise TypeError(msg)
