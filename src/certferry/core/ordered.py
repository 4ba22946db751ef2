"""A certificate that was ordered and has not come yet."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from certferry.core.certificate import KeyType
from certferry.core.desired import DesiredCertificate


@dataclass(frozen=True, slots=True)
class Ordered:
    """What was ordered, and when. `key_type` is `None` for an order that was made before it was
    written down.
    """

    at: datetime
    names: tuple[str, ...]
    key_type: KeyType | None = None

    def is_for(self, desired: DesiredCertificate) -> bool:
        """Tell whether it is what is declared now: nothing waits for any other order."""
        return (
            desired.files is None
            and set(self.names) == set(desired.names)
            and self.key_type in {None, desired.key_type}
        )
