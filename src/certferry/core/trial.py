"""What services answered when guesses about them were tried, told without a name of the operator's.

The guesses are those of docs/facts/qiniu.md §10 and docs/facts/dnspod.md §3: what other programs'
code and logs say of the real services, and was not seen here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from certferry.text import Text

Judged = tuple[bool | None, tuple[Text, ...]]
"""Whether a guess holds, `None` where nothing was learned, and what was seen."""


class Verdict(StrEnum):
    """What became of a guess."""

    HOLDS = "holds"
    DOES_NOT_HOLD = "does not hold"
    CANNOT_TELL = "cannot tell"

    @classmethod
    def of(cls, answer: bool | None) -> Verdict:  # noqa: FBT001 - what is judged, not a switch
        """Return the verdict for yes, no, and `None` where nothing was learned."""
        if answer is None:
            return cls.CANNOT_TELL
        return cls.HOLDS if answer else cls.DOES_NOT_HOLD


@dataclass(frozen=True, slots=True)
class Judgement:
    """A guess and what became of it. `number` is the one that it has on those pages. `seen` are
    statuses and shapes: never a key, an id, a body, or the name of a domain, a bucket or a
    certificate.
    """

    number: str
    guess: Text
    verdict: Verdict
    seen: tuple[Text, ...] = ()


@dataclass(frozen=True, slots=True)
class Trial:
    """All that was tried at one service, with how many requests. `let_in`: at least one of them
    was answered with success, so that a refusal of another says something.
    """

    service: str
    requests: int
    let_in: bool
    judgements: tuple[Judgement, ...]
