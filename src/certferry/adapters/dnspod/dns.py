"""DNS at DNSPod, through its token API.

API reference: https://docs.dnspod.cn/api/ (docs/facts/dnspod.md §1). DNSPod calls it traditional
and may end it one day.
Permissions: a DNSPod token of the main account that owns the domain; tokens cannot be narrowed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated

from certferry import __version__
from certferry.adapters.dns.answers import must_be_positive
from certferry.adapters.dnspod.client import CODES, DnspodClient, DnspodRecords
from certferry.adapters.dnspod.client import NAME as SERVICE
from certferry.adapters.http.client import HttpClient, pace_in
from certferry.core.redaction import Secret
from certferry.errors import ConfigError
from certferry.ports.adapter import Context, Pace, Variable
from certferry.ports.dns import DnsProvider
from certferry.ports.progress import Pause
from certferry.ports.state import AccountMemory
from certferry.text import Text

# What `ports.adapter.Adapter` wants of a module, and more that it may have.
__all__ = ("CODES", "ENVIRONMENT", "SERVICE", "Settings", "connect")

WHERE_KEYS_ARE = Text(
    "console.dnspod.cn → API keys → DNSPod Token → create; the token is shown once, when made"
)
ENVIRONMENT = (
    # acme.sh has the halves of a token apart, and lego both in one variable, with a comma.
    Variable(
        "id", ("DP_Id", "DNSPOD_API_KEY"), Text("DNSPod token ID"), is_public=True, pattern=r"\d+"
    ),
    Variable("token", ("DP_Key", "DNSPOD_API_KEY"), Text("DNSPod token")),
)

# "3,600 requests an hour" is what DNSPod's support wrote to a user in 2021 (§1.2). A
# sixth of them may go at once: 600, and then 3,000 an hour, so that no hour has more than 3,600.
REQUESTS_PER_HOUR = 3600
REQUESTS_PER_SECOND = 2.0  # what DNSPod allows is not published; this is modest (§1.2)
NO_CONTACT = "nobody@certferry.invalid"  # the form is required; an unread address is honest
_MODEST = Text("leave it out: 2 is modest enough for DNSPod")
_LIMIT = Text("leave it out: 3600 is the limit that DNSPod's support names")
CONTACT = re.compile(r"[!-'*-~]+@[!-'*-~]+")  # ASCII without spaces and parentheses


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings under `[accounts.<label>]`: a short number, and 32 hexadecimal digits."""

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
    """Return the provider of one account; nothing is sent yet. Raises `ConfigError`."""
    token = _whole_token(settings.id.reveal().strip(), settings.token.reveal().strip())
    for key, rate, advice in (
        ("requests_per_second", settings.requests_per_second, _MODEST),
        ("requests_per_hour", settings.requests_per_hour, _LIMIT),
    ):
        must_be_positive(key, rate, SERVICE, advice)
    budget = HourlyBudget(
        rate_of(settings.requests_per_hour),
        memory=context.memory,
        pace=pace_in(context, settings.api, settings.requests_per_second),
        pause=context.pause,
    )
    agent = user_agent(settings.contact or context.contact or NO_CONTACT)
    http = HttpClient(pace=budget, pause=context.pause)
    client = DnspodClient(settings.api, Secret(token), agent, settings.line, http, context)
    return DnspodRecords(client, context.pause)


def user_agent(contact: str) -> str:
    """Return the form that DNSPod requires; another may get the account banned (§1.2)."""
    if not CONTACT.fullmatch(contact):
        raise ConfigError(
            Text("{contact} is not a mail address that DNSPod accepts", contact=repr(contact)),
            hint=Text("write `contact` like ops@example.com"),
        )
    return f"certferry/{__version__} ({contact})"


def _whole_token(token_id: str, token: str) -> str:
    """Return a token as DNSPod takes it. Raises `ConfigError` for what cannot be one."""
    if token_id == token and "," in token:  # lego has the whole of it for both halves
        token_id, token = (half.strip() for half in token.split(",", 1))
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
    return f"{token_id},{token}"


# How many requests an account may send in an hour, counted by what is remembered of those before: a
# note that the hosts which share a state share as well.

HOUR = timedelta(hours=1)
BURST_SHARE = 6  # a sixth of an hour's requests at once; our choice
MOST = HOUR // timedelta(microseconds=1)  # intervals are no finer than that

CLOCKS_APART = timedelta(minutes=1)
"""What a clock that was set back may cost. A moment further ahead than a burst and this was written
by a clock that was wrong.
"""


@dataclass(frozen=True, slots=True)
class Rate:
    """A burst of requests, then one each interval: in any hour a burst and an hour's intervals."""

    burst: int
    interval: timedelta

    @property
    def room(self) -> timedelta:
        """Return how far ahead of the clock time may be used up."""
        return self.burst * self.interval


@dataclass(frozen=True, slots=True)
class Turn:
    """Whether a request may be sent now, or when to ask again, and the `note` to store for it."""

    wait: timedelta
    note: str


def rate_of(requests: int) -> Rate:
    """Return the rate that lets no hour have more requests, even one that begins with a burst."""
    requests = min(requests, MOST)
    burst = max(1, requests // BURST_SHARE)
    rest = max(1, requests - burst)
    microseconds = (MOST + rest - 1) // rest  # rounded up: an hour must never have one more
    return Rate(burst, timedelta(microseconds=microseconds))


def take_turn(rate: Rate, note: str | None, now: datetime) -> Turn:
    """Return whether a request may be sent now, by the note of those before it. A caller that waits
    has taken nothing, and waits for an interval and `CLOCKS_APART` at most.
    """
    used_until = _used_until(rate, note, now)
    wait = used_until - now + rate.interval - rate.room
    if wait > timedelta(0):
        return Turn(wait, used_until.isoformat())
    return Turn(timedelta(0), (max(used_until, now) + rate.interval).isoformat())


def _used_until(rate: Rate, note: str | None, now: datetime) -> datetime:
    """Read the moment up to which time is used up. What cannot be read, or cannot be true, counts
    as a burst just sent: no request waits for longer than an interval, and no hour gets too many.
    """
    if note is None:
        return now
    moment = _moment(note)
    if moment is None or moment - now > rate.room + CLOCKS_APART:
        return now + rate.room
    return moment


def _moment(note: str) -> datetime | None:
    """Read an RFC 3339 moment, or `None`."""
    try:
        moment = datetime.fromisoformat(note)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None


NOTE = "spent"


@dataclass(frozen=True, slots=True)
class HourlyBudget:
    """A `Pace` that takes each request's turn from the hour of all runs, by a note in the account's
    memory, by its clock, and then from `pace`.
    """

    rate: Rate
    memory: AccountMemory
    pace: Pace
    pause: Pause

    def wait(self) -> None:
        # The wait is outside of `update`: the note must not be kept from other runs meanwhile.
        # Nothing is taken before it, so a run that is stopped in it leaves its turn to them.
        while (wait := self._ask()) > timedelta(0):
            self.pause(wait.total_seconds())
        self.pace.wait()

    def _ask(self) -> timedelta:
        """Take a turn, or learn how long it is until there may be one."""
        wait = timedelta(0)

        def change(note: str | None) -> str:
            nonlocal wait
            turn = take_turn(self.rate, note, self.memory.now())
            wait = turn.wait
            return turn.note

        self.memory.update(NOTE, change)
        return wait
