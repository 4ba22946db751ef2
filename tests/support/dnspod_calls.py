"""Calls of the tests of the DNSPod stand-in: a token, requests, and parts of answers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

USER_AGENT = "certferry/0.1 (ops@example.com)"
TOKEN_ID, TOKEN = "13490", "6b5976c68aba5b14a0558b77c17c3932"
LOGIN = f"{TOKEN_ID},{TOKEN}"
NOW = datetime(2026, 1, 31, 20, 30, tzinfo=UTC)
TIMEOUT = 10.0

Answer = dict[str, Any]
CallApi = Callable[..., Answer]


def code(answer: Answer) -> str:
    return str(answer["status"]["code"])


def create(call: CallApi, **fields: str | int) -> Answer:
    """Create a TXT record at _acme-challenge.example.com; `fields` replace the defaults."""
    defaults: dict[str, str | int] = {
        "domain": "example.com",
        "sub_domain": "_acme-challenge",
        "record_type": "TXT",
        "record_line": "默认",
        "value": "v",
        "ttl": 600,
    }
    return call("Record.Create", **(defaults | fields))
