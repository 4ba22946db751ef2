"""DNS at DNSPod, through its token API.

API reference: https://docs.dnspod.cn/api/ (docs/facts/dnspod.md §1). DNSPod calls it traditional
and may end it one day.
Permissions: a DNSPod token of the main account that owns the domain; tokens cannot be narrowed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from certferry import __version__
from certferry.adapters.dnspod import errors
from certferry.adapters.dnspod.client import DnspodClient, DnspodRecords, HourlyBudget
from certferry.adapters.dnspod.rate import Rate, rate_of
from certferry.adapters.http.client import HttpClient, pace_in
from certferry.core.secret import Secret
from certferry.errors import ConfigError
from certferry.ports.adapter import Context, Variable
from certferry.ports.dns import DnsProvider
from certferry.text import Text

# What `ports.adapter.Adapter` wants of a module, and more that it may have.
__all__ = ("CODES", "ENVIRONMENT", "SERVICE", "Settings", "connect")

SERVICE = "DNSPod"
CODES = errors.CODES.meanings
WHERE_KEYS_ARE = Text(
    "console.dnspod.cn → API keys → DNSPod Token → create; the token is shown once, when made"
)
ENVIRONMENT = (
    # acme.sh has the halves of a token apart, and lego both in one variable, with a comma.
    Variable("id", ("DP_Id", "DNSPOD_API_KEY"), Text("DNSPod token ID"), is_public=True),
    Variable("token", ("DP_Key", "DNSPOD_API_KEY"), Text("DNSPod token")),
)

# "3,600 requests an hour" is what DNSPod's support told a user in 2021 (§1.2). A
# sixth of them may go at once: 600, and then 3,000 an hour, so that no hour has more than 3,600.
REQUESTS_PER_HOUR = 3600
REQUESTS_PER_SECOND = 2.0  # what DNSPod allows is not published; this is modest (§1.2)
NO_CONTACT = "nobody@certferry.invalid"  # the form is required; an unread address is honest
CONTACT = re.compile(r"[!-'*-~]+@[!-'*-~]+")  # ASCII without spaces and parentheses


@dataclass(frozen=True, slots=True)
class Settings:
    """What an operator writes under `[accounts.<label>]`. `id` is a short number, `token` 32
    hexadecimal digits.
    """

    id: Secret
    token: Secret
    api: Annotated[
        str, Text("the address of the API; `https://api.dnspod.com` for the international one")
    ] = "https://dnsapi.cn"
    contact: Annotated[
        str, Text("a mail address for DNSPod; that of `[acme]`, or the zone's, where there is none")
    ] = ""
    line: Annotated[str, Text("the default line's name; `default` at api.dnspod.com")] = "默认"
    requests_per_second: Annotated[float, Text("the most requests in a second")] = (
        REQUESTS_PER_SECOND
    )
    requests_per_hour: Annotated[int, Text("the most requests in an hour, of all runs")] = (
        REQUESTS_PER_HOUR
    )


def connect(settings: Settings, context: Context) -> DnsProvider:
    """Return the provider of one account; the context's `contact` stands in when the settings name
    none.

    All runs count their requests in its `memory`. Nothing is sent yet. Raises `ConfigError` for
    what can be no token, or no mail address.
    """
    token_id, token = _halves(settings.id.reveal().strip(), settings.token.reveal().strip())
    _must_be_a_token(token_id, token)
    budget = HourlyBudget(
        _rate_of(settings.requests_per_hour),
        memory=context.memory,
        pace=pace_in(context, settings.api, _must_be_positive(settings.requests_per_second)),
        pause=context.pause,
        now=context.now,
    )
    client = DnspodClient(
        api=settings.api,
        token_id=token_id,
        token=Secret(token),
        user_agent=user_agent(settings.contact or context.contact or NO_CONTACT),
        line=settings.line,
        http=HttpClient(pace=budget, pause=context.pause),
        pause=context.pause,
        now=context.now,
    )
    return DnspodRecords(client, context.pause)


def user_agent(contact: str) -> str:
    """Return the form that DNSPod requires; another may get the account banned (§1.2)."""
    if not CONTACT.fullmatch(contact):
        raise ConfigError(
            Text("{contact} is not a mail address that DNSPod accepts", contact=repr(contact)),
            hint=Text("write `contact` like ops@example.com"),
        )
    return f"certferry/{__version__} ({contact})"


def _halves(token_id: str, token: str) -> tuple[str, str]:
    """Split a whole token that stands for both halves, as lego has it."""
    if token_id == token and "," in token:
        token_id, _, token = token.partition(",")
    return token_id.strip(), token.strip()


def _must_be_a_token(token_id: str, token: str) -> None:
    # IKID at the international site.
    if token_id.startswith(("AKID", "IKID")):
        raise ConfigError(
            Text("the `id` of the DNSPod account is a key of Tencent Cloud (AKID…)"),
            hint=Text(
                'write it as an account with type = "tencentcloud", with `secret_id` and'
                " `secret_key`; or make a DNSPod token at console.dnspod.cn (API keys, DNSPod"
                " Token), and write its number as `id` and its 32 digits as `token`"
            ),
        )
    if not token_id or not token or "," in token_id + token:
        raise ConfigError(
            Text("`id` and `token` of the DNSPod account are empty, or hold more than their part"),
            hint=Text("in 12345,0123abcd… the part before the comma is `id`, the rest is `token`"),
        )


def _must_be_positive(requests_per_second: float) -> float:
    if requests_per_second > 0:
        return requests_per_second
    raise ConfigError(
        Text("`requests_per_second` of the DNSPod account is not above zero"),
        hint=Text("leave it out: 2 is modest enough for DNSPod"),
    )


def _rate_of(requests_per_hour: int) -> Rate:
    if requests_per_hour > 0:
        return rate_of(requests_per_hour)
    raise ConfigError(
        Text("`requests_per_hour` of the DNSPod account is not above zero"),
        hint=Text("leave it out: 3600 is the limit that DNSPod's support names"),
    )
