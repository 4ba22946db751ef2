"""DNSPod's status codes: what each means for the operator, and whether a call is worth repeating.

The codes and their meanings are those of docs/facts/dnspod.md §1.4.
"""

from __future__ import annotations

from certferry.adapters.dns.answers import Codes
from certferry.text import Text

DONE = "1"
LIMITED = "-2"
CLOSED = "-99"
UNKNOWN_ERROR = "3"
RECORD_GONE = "8"  # of Record.Info and Record.Remove alone
NO_DOMAINS = "9"  # of Domain.List alone
NO_RECORDS = "10"
EXISTS = "104"
TTL_REFUSED = frozenset({"29", "32"})

# After these the call may have been carried out all the same; a read is repeated after so many
# seconds.
IN_DOUBT = {UNKNOWN_ERROR: (1.0, 3.0), CLOSED: (10.0, 20.0)}
_AFTER_STRANGE_CODE = (1.0,)
_MEANT = frozenset({DONE, RECORD_GONE, NO_DOMAINS, NO_RECORDS, EXISTS})

BLOCKED = {
    "pause": (Text("paused"), Text("resume it at console.dnspod.cn")),
    "spam": (Text("banned"), Text("ask DNSPod's support why")),
    "lock": (Text("locked"), Text("unlock it at console.dnspod.cn")),
}
"""The states in which a domain cannot be used: its word, and what to do."""

TOKEN_HINT = Text(
    "compare `id` and `token` with the DNSPod tokens listed at console.dnspod.cn under API keys; "
    "a token is shown only when it is made. Keys of Tencent Cloud (AKID…) do not work here"
)
_BANNED = Text("leave the account alone for an hour, and correct `id` and `token` before that")
_LOOK = Text("look at the domain at console.dnspod.cn")
_PLAN = Text("the domain's DNSPod plan does not allow it: free some, or choose another plan")
_BUG = Text("this is a mistake in certferry: please report it")
_LATER = Text("try again in some minutes")

_DENIED: dict[str, Text] = {
    "-1": TOKEN_HINT,
    "-8": _BANNED,
    "50": TOKEN_HINT,
    "51": TOKEN_HINT,
    "52": TOKEN_HINT,
    "53": TOKEN_HINT,
    "54": TOKEN_HINT,
    "83": Text("the account is locked: unlock it at console.dnspod.cn"),
    "85": Text("this host's address is not on the token's list of allowed addresses: add it there"),
    "10002": Text(
        "the account's `id` (DP_Id) is not the id of a DNSPod token: that is a short number, which "
        "console.dnspod.cn shows under API keys. Keys of Tencent Cloud (AKID…) do not work here"
    ),
    "10003": Text("there is no such token: {check}", check=TOKEN_HINT),
    "10004": Text("the `token` does not belong to the `id`: {check}", check=TOKEN_HINT),
    "20004": TOKEN_HINT,
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

CODES = Codes(
    Text("{about}: DNSPod answered {action} with code {code}: {words}"),
    _LOOK,
    _DENIED,
    _REJECTED,
    _UNAVAILABLE,
)


def pauses_after(code: str) -> tuple[float, ...]:
    """Return the seconds before each repetition of a read that was answered so."""
    if code in IN_DOUBT:
        return IN_DOUBT[code]
    is_known = code in _MEANT or CODES.knows(code)
    return () if is_known or code.startswith("-") else _AFTER_STRANGE_CODE
