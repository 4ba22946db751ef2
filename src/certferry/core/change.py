"""One thing that a step changes, before and after: for programs as it is, for people in words."""

from __future__ import annotations

import re
from dataclasses import dataclass

from certferry.core.abbreviations import short
from certferry.text import Text

CERTIFICATE = "certificate"
"""What changes where another certificate is bound or delivered."""

UNKNOWN = Text("unknown")
"""What something is that the target does not tell."""

NOTHING, TO_COME = "—", "…"
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that a step changes. A certificate is told by its fingerprint, and nothing else:
    `before` is `None` where there was none, or where it is not known; `after` where it is still to
    be issued. `remote_id` is the target's id of the certificate that is bound, where there is one.
    `untold`: the target does not say what there is.
    """

    what: str
    before: str | None
    after: str | None
    untold: bool = False
    remote_id: str | None = None

    @property
    def was(self) -> str:
        """What there was, in words for people."""
        if self.before is not None:
            return _shown(self.before)
        if self.remote_id is not None:
            return short(self.remote_id)
        return UNKNOWN.template if self.untold else NOTHING

    @property
    def becomes(self) -> str:
        """What there will be, in words for people."""
        return TO_COME if self.after is None else _shown(self.after)


def _shown(value: str) -> str:
    return short(value) if _DIGEST.fullmatch(value) else value
