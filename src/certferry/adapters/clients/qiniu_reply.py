"""What all of Qiniu's answers have in common: a status, a code, words, and the request's id
(docs/facts/qiniu.md §3).
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import msgspec

from certferry.adapters.clients.http import answers_too_many
from certferry.adapters.clients.qiniu_records import decode
from certferry.core.foreign_words import quoted, quoted_id
from certferry.ports.http import Answer
from certferry.text import Quoted

SUCCESS_CODES = frozenset({None, 0, 200})
TOO_MANY = frozenset({400039, 403024})


NO_CODE = frozenset({None, 401, 404, 401001, 401002})
"""What says no more than a status of 401 or 404; 401001 is a wrong signature, 401002 a wrong header
(§2.4)."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer's outcome, as far as all of Qiniu's answers have one in common (§3)."""

    status: int
    code: int | None
    words: Quoted
    request_id: str

    @property
    def has_own_code(self) -> bool:
        """Whether the code says more than a status of 401 or 404 does."""
        return self.code not in NO_CODE

    @property
    def is_success(self) -> bool:
        """2xx, and no code that says otherwise. Words alone say nothing."""
        return (
            HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES
            and self.code in SUCCESS_CODES
        )


class _Said(msgspec.Struct, frozen=True):
    code: Any = None
    error: Any = None


def read_reply(answer: Answer) -> Reply:
    """Find code and words in an answer's body, which may have neither."""
    said = _said(answer.body)
    return Reply(
        status=answer.status,
        code=said.code if isinstance(said.code, int) else None,
        words=quoted(said.error if isinstance(said.error, str) else ""),
        request_id=quoted_id(answer.headers.get("X-Reqid", "")),
    )


def too_many(answer: Answer) -> bool:
    """Tell whether Qiniu turned the request down for its rate alone: by status, or by code (§9)."""
    return answers_too_many(answer) or (
        answer.status in {HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN}
        and read_reply(answer).code in TOO_MANY
    )


def _said(body: bytes) -> _Said:
    try:
        return decode(body, _Said)
    except ValueError:  # an array, or no JSON: an answer without a code
        return _Said()
