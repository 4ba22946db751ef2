"""DNSPod's status codes: what each means for the operator, and whether a call is worth repeating.

The codes and their meanings are those of docs/facts/dnspod.md §1.4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from certferry.errors import DnsAccessDenied, DnsError, DnsRejected, DnsUnavailable
from certferry.ports.adapter import CodeMeaning
from certferry.text import Quoted, Text

DONE = "1"
LIMITED = "-2"
CLOSED = "-99"
UNKNOWN_ERROR = "3"
RECORD_GONE = "8"  # of Record.Info and Record.Remove alone
NO_DOMAINS = "9"  # of Domain.List alone
NO_RECORDS = "10"
EXISTS = "104"
TTL_REFUSED = frozenset({"29", "32"})

_MEANT = frozenset({DONE, RECORD_GONE, NO_DOMAINS, NO_RECORDS, EXISTS})


@dataclass(frozen=True, slots=True)
class Reply:
    """What DNSPod answered: its status, and the rest of the body."""

    action: str
    code: str
    message: Quoted
    body: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def says_exists(self) -> bool:
        """Whether Record.Create found the identical record there.

        The number is reported widely but not documented, so the words count as well.
        """
        return self.code == EXISTS or "already exist" in self.message.lower()

    @property
    def is_denied(self) -> bool:
        """Whether the credentials were refused, so that nothing more may be sent with them."""
        by_email = self.code == RECORD_GONE and "by email" in self.message.lower()
        return self.code in _DENIED or by_email

    @property
    def is_in_doubt(self) -> bool:
        """Whether the call may have been carried out all the same."""
        return self.code in _PAUSES_IN_DOUBT

    @property
    def pauses(self) -> tuple[float, ...]:
        """The seconds before each repetition of a read that was answered so."""
        if self.is_in_doubt:
            return _PAUSES_IN_DOUBT[self.code]
        is_known = self.code in _MEANT or self.code in _REJECTED or self.is_denied
        return () if is_known or self.code.startswith("-") else _PAUSES_OF_STRANGE_CODE


_TOKEN = Text(
    "compare `id` and `token` with the DNSPod tokens listed at console.dnspod.cn under API keys; "
    "a token is shown only when it is made. Keys of Tencent Cloud (AKID…) do not work here"
)
_BANNED = Text("leave the account alone for an hour, and correct `id` and `token` before that")
_LOOK = Text("look at the domain at console.dnspod.cn")
_PLAN = Text("the domain's DNSPod plan does not allow it: free some, or choose another plan")
_BUG = Text("this is a mistake in certferry: please report it")
_LATER = Text("try again in some minutes")

_DENIED: dict[str, Text] = {
    "-1": _TOKEN,
    "-8": _BANNED,
    "50": _TOKEN,
    "51": _TOKEN,
    "52": _TOKEN,
    "53": _TOKEN,
    "54": _TOKEN,
    "83": Text("the account is locked: unlock it at console.dnspod.cn"),
    "85": Text("this host's address is not on the token's list of allowed addresses: add it there"),
    "10002": Text(
        "the account's `id` (DP_Id) is not the id of a DNSPod token: that is a short number, which "
        "console.dnspod.cn shows under API keys. Keys of Tencent Cloud (AKID…) do not work here"
    ),
    "10003": Text("there is no such token: {check}", check=_TOKEN),
    "10004": Text("the `token` does not belong to the `id`: {check}", check=_TOKEN),
    "20004": _TOKEN,
}

_REJECTED: dict[str, Text] = {
    "-3": Text("this call is for resellers only: use a token of the account that owns the domain"),
    "-4": Text("this call is for resellers only: use a token of the account that owns the domain"),
    "-7": Text("the token may not do this: use one of the main account, or upgrade the domain"),
    "-15": Text("DNSPod has banned the domain: ask its support"),
    "2": _BUG,
    "21": Text("the domain is locked: unlock it at console.dnspod.cn"),
    "22": Text("DNSPod does not accept this name"),
    "23": _PLAN,
    "24": _PLAN,
    "25": _PLAN,
    "26": Text(
        "the domain has no line with the name that the account's `line` gives: leave `line` out, "
        "which means 默认 (the default line), or write `default` at api.dnspod.com"
    ),
    "27": _BUG,
    "29": _PLAN,
    "31": Text(
        "another record at this name excludes it: remove that record, or let a CNAME there lead "
        "to a zone in which the challenge can be written"
    ),
    "32": _PLAN,
    "34": _BUG,
    "500025": _PLAN,
    "500026": _PLAN,
}

_UNAVAILABLE: dict[str, Text] = {
    LIMITED: Text("the account has made too many calls: let it rest for some minutes"),
    UNKNOWN_ERROR: _LATER,
    CLOSED: Text("DNSPod has closed this for the moment: try again later"),
}

# Seconds before each repetition of a read.
_PAUSES_IN_DOUBT = {UNKNOWN_ERROR: (1.0, 3.0), CLOSED: (10.0, 20.0)}
_PAUSES_OF_STRANGE_CODE = (1.0,)


CODES: Mapping[str, CodeMeaning] = {
    code: CodeMeaning(advice)
    for table in (_DENIED, _REJECTED, _UNAVAILABLE)
    for code, advice in table.items()
}
"""What is known of the service's codes."""


def error_of(reply: Reply, about: str | Text) -> DnsError:
    """Give the error that a status code stands for; `about` is the name that was worked on."""
    message = Text(
        "{about}: DNSPod answered {action} with code {code}: {words}",
        about=about,
        action=reply.action,
        code=reply.code,
        words=reply.message,
    )
    if reply.is_denied:
        return DnsAccessDenied(message, hint=_DENIED.get(reply.code, _TOKEN))
    if reply.code in _UNAVAILABLE:
        return DnsUnavailable(message, hint=_UNAVAILABLE[reply.code])
    return DnsRejected(message, hint=_REJECTED.get(reply.code, _LOOK))
