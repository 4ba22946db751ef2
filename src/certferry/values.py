"""The function `replace`, for both kinds of values: msgspec's Structs, and dataclasses.

Values are Structs because Python defines a Struct fifty times faster than a frozen dataclass with
slots, and a command imports some 300 classes (docs/decisions/0058). Settings are dataclasses
because other people's adapters describe settings as dataclasses (`ports.adapter`).

    later = replace(version, number=version.number + 1)
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec import Struct, structs

__all__ = ["replace"]

T = TypeVar("T")

if TYPE_CHECKING:
    from dataclasses import replace  # mypy checks the fields of `dataclasses.replace`
else:

    def replace(value: T, /, **changes: Any) -> T:
        """Return a copy of a value with other values for some of its fields."""
        if isinstance(value, Struct):
            return structs.replace(value, **changes)
        return dataclasses.replace(value, **changes)
