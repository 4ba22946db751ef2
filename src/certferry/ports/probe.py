"""The door to what the world is served."""

from __future__ import annotations

from typing import Protocol

from certferry.core.observed import Served


class Probe(Protocol):
    """Looks at a domain from outside."""

    def look(self, domain: str) -> tuple[Served, ...]:
        """Shake hands with every address of the domain, once each, and say what each presents.

        An address that does not answer is reported, not raised; so is a domain without addresses,
        as one `Served` with an empty address. Never raises.
        """
        ...
