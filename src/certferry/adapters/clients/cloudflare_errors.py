"""Cloudflare's error codes: what each means for the operator.

Documented: the forms of keys (developers.cloudflare.com, "Token formats"), the limit of requests.
From clients and their issues: the codes and their words, with the inner one of a 6003 (6103, 6111).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from certferry.adapters.clients.json_answers import as_text, objects
from certferry.core.foreign_words import quoted, quoted_code
from certferry.core.secret import Secret
from certferry.errors import DnsAccessDenied, DnsError, DnsRejected, DnsUnavailable
from certferry.ports.adapter import CodeMeaning
from certferry.text import Quoted, Text

SERVICE = "Cloudflare"

DUPLICATES = frozenset({"81057", "81058"})  # the same record, or an identical one, is there
GONE = frozenset({"81044"})

# The Global API Key: 37 hexadecimal digits, or cfk_… since 2026. The Origin CA Key: v1.0-….
GLOBAL_KEY = re.compile(r"[0-9a-f]{37}|cfk_.*", re.IGNORECASE | re.DOTALL)
ORIGIN_CA_KEY = re.compile(r"v1\.0-.*", re.IGNORECASE | re.DOTALL)
TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*", re.ASCII)  # what may follow `Bearer` (RFC 7235 §2.1)

MAKE_TOKEN = Text(
    "make an API token at dash.cloudflare.com/profile/api-tokens, from the template Edit zone DNS: "
    "it needs Zone:Read and DNS:Edit for the zones"
)
_CHECK = Text(
    "the API token is not accepted: it may have ended, been rolled, or not be for this host's "
    "address. {make}",
    make=MAKE_TOKEN,
)
LACKS_PERMISSION = Text("the API token lacks a permission or this zone: {make}", make=MAKE_TOKEN)
_NO_TOKEN = Text(
    "`token` does not hold an API token: is it a Global API Key, or was it not copied"
    " whole? {make}",
    make=MAKE_TOKEN,
)
_CONFLICT = Text(
    "another record at this name excludes it: remove that record, or let a CNAME there lead to a "
    "zone in which the challenge can be written"
)
_PLAN = Text("the zone's plan at Cloudflare does not allow more records: remove some")
_LOOK = Text("look at the zone at dash.cloudflare.com")
_MANY = Text("the account has made too many calls: Cloudflare allows 1200 in five minutes")
LATER = Text("try again in some minutes, and look at www.cloudflarestatus.com")

_DENIED: dict[str, Text] = {
    "1000": _CHECK,  # Invalid API Token
    "6003": _NO_TOKEN,
    "6103": _NO_TOKEN,
    "6111": _NO_TOKEN,
    "9103": _NO_TOKEN,
    "9106": _NO_TOKEN,
    "9107": _NO_TOKEN,
    "9109": _CHECK,  # Invalid access token; Unauthorized; from this location
    "10000": LACKS_PERMISSION,  # Authentication error
    "10001": _NO_TOKEN,
}
_REJECTED: dict[str, Text] = {
    "81053": _CONFLICT,
    "81054": _CONFLICT,
    "81045": _PLAN,
}


CODES: Mapping[str, CodeMeaning] = {
    code: CodeMeaning(advice) for table in (_DENIED, _REJECTED) for code, advice in table.items()
}
"""What is known of the service's codes."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What was answered to a call: `code` is empty for a success."""

    action: str
    status: int
    code: str
    words: Quoted
    body: Mapping[str, Any] = field(repr=False)

    @property
    def is_too_many(self) -> bool:
        """Whether there were too many calls, so that nothing was done."""
        return self.status == HTTPStatus.TOO_MANY_REQUESTS


def reply_of(action: str, status: int, body: Mapping[str, Any], token: Secret) -> Reply:
    """Read an answer. The innermost error of the chain says the most, and the outer one's code is
    what is told and looked up.
    """
    if status < HTTPStatus.BAD_REQUEST and body.get("success") is True:
        return Reply(action, status, "", Quoted(""), body)
    first = next(iter(objects(body.get("errors"))), {})
    said = [first, *objects(first.get("error_chain"))]
    words = "; ".join(filter(None, (as_text(one.get("message")) for one in said)))
    code = quoted_code(as_text(first.get("code")), [token]) or "?"
    return Reply(action, status, code, quoted(words, [token]), body)


def error_of(reply: Reply, about: str | Text) -> DnsError:
    """Give the error that an answer stands for; `about` is the name that was worked on."""
    message = Text(
        "{about}: {service} answered {action} with code {code} (status {status}): {words}",
        about=about,
        service=SERVICE,
        action=reply.action,
        code=reply.code,
        status=reply.status,
        words=reply.words,
    )
    if reply.is_too_many:
        return DnsUnavailable(message, hint=_MANY)
    if reply.code in _DENIED:
        return DnsAccessDenied(message, hint=_DENIED[reply.code])
    if reply.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return DnsAccessDenied(message, hint=_CHECK)
    if reply.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return DnsUnavailable(message, hint=LATER)
    return DnsRejected(message, hint=_REJECTED.get(reply.code, _LOOK))
