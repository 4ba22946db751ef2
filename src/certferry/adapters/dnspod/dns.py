"""DNS at DNSPod, through its token API.

API reference: https://docs.dnspod.cn/api/ (docs/facts/dnspod.md §1). DNSPod calls the API
traditional and may end the API some day.
Permissions: a DNSPod token of the main account that owns the domain; tokens cannot be narrowed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated

from msgspec import Struct

from certferry import __version__
from certferry.adapters.dns.answers import must_be_positive
from certferry.adapters.dns.keys import KeyForms, Mistaken
from certferry.adapters.dnspod.dnspod_client import CODES, DnspodClient, DnspodRecords
from certferry.adapters.dnspod.dnspod_client import NAME as SERVICE
from certferry.adapters.http.http_client import HttpClient, pace_in
from certferry.core.redaction import Secret
from certferry.errors import ConfigError
from certferry.ports.adapter import Context, Pace, Variable
from certferry.ports.dns import DnsProvider
from certferry.ports.progress import Pause
from certferry.ports.state import AccountMemory
from certferry.text import Text

# The attributes of `ports.adapter.Adapter`, required and optional.
__all__ = ("CODES", "ENVIRONMENT", "SERVICE", "Settings", "connect")

RANK = 10
WHERE_KEYS_ARE = Text(
    "console.dnspod.cn → API keys → DNSPod Token → create; the token is shown only once, at "
    "creation"
)
ENVIRONMENT = (
    # acme.sh has a variable for each half of a token. lego has a single variable, with a comma
    # between the halves.
    Variable(
        "id",
        ("DP_Id", "DNSPOD_API_KEY"),
        Text("DNSPod token ID"),
        is_public=True,
        pattern=r"\d+",
        acme_sh="DP_Id",
    ),
    Variable("token", ("DP_Key", "DNSPOD_API_KEY"), Text("DNSPod token"), acme_sh="DP_Key"),
)

# DNSPod's support wrote "3,600 requests an hour" to a user in 2021 (§1.2). A sixth (600) may go at
# once. The other requests go evenly, 3,000 in an hour, so no hour has more than 3,600.
REQUESTS_PER_HOUR = 3600
REQUESTS_PER_SECOND = 2.0  # a modest rate: DNSPod publishes no limit (§1.2)
NO_CONTACT = "nobody@certferry.invalid"  # DNSPod requires an address; an unread address is honest
_MODEST = Text("remove the setting: the default of 2 is low enough for DNSPod")
_LIMIT = Text("remove the setting: DNSPod's support gives 3600 as the limit")
CONTACT = re.compile(r"[!-'*-~]+@[!-'*-~]+")  # ASCII without spaces and parentheses


KEYS = KeyForms(
    SERVICE,
    Text("in 12345,0123abcd… the part before the comma is `id`, the rest is `token`"),
    (
        Mistaken(
            "id",
            "^[AI]KID",  # IKID at the international site
            Text("is a key of Tencent Cloud (AKID…)"),
            Text(
                'declare the key as an account with type = "tencentcloud", with `secret_id` '
                "and `secret_key`; or create a DNSPod token at console.dnspod.cn (API keys, "
                "DNSPod Token): its number is `id`, its 32 digits are `token`"
            ),
        ),
        Mistaken("id token", "^$|,", Text("is empty, or holds more than its part")),
    ),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings under `[accounts.<label>]`; `id` is a short number, `token` 32 hex digits."""

    id: Secret
    token: Secret
    api: Annotated[
        str, Text("the address of the API; `https://api.dnspod.com` for the international site")
    ] = "https://dnsapi.cn"
    contact: Annotated[
        str,
        Text("an email address for DNSPod; default: the address under `[acme]`, else the zone's"),
    ] = ""
    line: Annotated[str, Text("the name of the default line; `default` at api.dnspod.com")] = "默认"
    requests_per_second: Annotated[float, Text("the most requests per second")] = (
        REQUESTS_PER_SECOND
    )
    requests_per_hour: Annotated[int, Text("the most requests per hour, over all runs")] = (
        REQUESTS_PER_HOUR
    )


def connect(settings: Settings, context: Context) -> DnsProvider:
    """Return the provider of one account, without sending a request. Raises `ConfigError`."""
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
    """Return a User-Agent in DNSPod's form. Another form may get the account banned (§1.2).

    Raises `ConfigError`.
    """
    if not CONTACT.fullmatch(contact):
        raise ConfigError(
            Text("DNSPod does not accept {contact} as an email address", contact=repr(contact)),
            hint=Text("write `contact` like ops@example.com"),
        )
    return f"certferry/{__version__} ({contact})"


def _whole_token(token_id: str, token: str) -> str:
    """Return the token as `id,token`. Raises `ConfigError` for a malformed half."""
    if token_id == token and "," in token:  # lego's variable gave the whole token for each half
        token_id, token = (half.strip() for half in token.split(",", 1))
    KEYS.must_fit(id=token_id, token=token)
    return f"{token_id},{token}"


# The budget of requests per hour and account. The count is a note in the state, so hosts that share
# a state share the budget.

HOUR = timedelta(hours=1)
BURST_SHARE = 6  # a sixth of an hour's requests may go at once; our choice
MOST = HOUR // timedelta(microseconds=1)  # requests an hour: a timedelta counts microseconds

CLOCKS_APART = timedelta(minutes=1)
"""How far hosts' clocks may differ. If a stored moment is ahead by more than this and a burst, the
clock that wrote the moment was wrong.
"""


class Rate(Struct, frozen=True):
    """A rate: a burst of requests, then one request per interval."""

    #: Requests that may go at once.
    burst: int
    #: Time from one request to the next after the burst.
    interval: timedelta

    @property
    def room(self) -> timedelta:
        """The time that a burst's requests would take, one per interval."""
        return self.burst * self.interval


class Turn(Struct, frozen=True):
    """The answer to a caller that wants to send a request."""

    #: Zero: send now. Else ask again after this time.
    wait: timedelta
    #: The note to store.
    note: str


def rate_of(requests: int) -> Rate:
    """Return the rate with at most `requests` in any hour, also in an hour with a burst."""
    requests = min(requests, MOST)
    burst = max(1, requests // BURST_SHARE)
    rest = max(1, requests - burst)
    microseconds = (MOST + rest - 1) // rest  # rounded up, to stay below the limit
    return Rate(burst, timedelta(microseconds=microseconds))


def take_turn(rate: Rate, note: str | None, now: datetime) -> Turn:
    """Judge by the note of earlier requests whether a request may be sent now, and return the
    answer with the new note.

    A caller that must wait has used up no turn, and must ask again. The wait is at most `interval`
    plus `CLOCKS_APART`.
    """
    used_until = _used_until(rate, note, now)
    wait = used_until - now + rate.interval - rate.room
    if wait > timedelta(0):
        return Turn(wait, used_until.isoformat())
    return Turn(timedelta(0), (max(used_until, now) + rate.interval).isoformat())


def _used_until(rate: Rate, note: str | None, now: datetime) -> datetime:
    """Return the moment until which earlier requests have used up the rate: each request moves the
    moment ahead by an interval.

    If the note is unreadable, or the moment too far ahead, count a whole burst as just sent. The
    next request then waits an interval, and the hour still keeps to the limit.
    """
    if note is None:
        return now
    moment = _moment(note)
    if moment is None or moment - now > rate.room + CLOCKS_APART:
        return now + rate.room
    return moment


def _moment(note: str) -> datetime | None:
    """Read an ISO 8601 moment that has a UTC offset; return `None` for any other text."""
    try:
        moment = datetime.fromisoformat(note)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None


NOTE = "spent"
"""Name of the stored note with the moment of `_used_until`."""


class HourlyBudget(Struct, frozen=True):
    """A `Pace` that waits for the hourly rate shared by all runs, then for `pace`."""

    #: The hourly rate of the account.
    rate: Rate
    #: Holds the note, and has the clock shared by all runs.
    memory: AccountMemory
    #: The pace per second.
    pace: Pace
    #: Waits, and raises if the run is stopped.
    pause: Pause

    def wait(self) -> None:
        # The run waits outside `update`, because `update` locks the note for other runs. A turn is
        # taken only after the wait, so a run stopped during the wait uses up no turn.
        while (wait := self._ask()) > timedelta(0):
            self.pause(wait.total_seconds())
        self.pace.wait()

    def _ask(self) -> timedelta:
        """Take a turn and return zero, or return how long to wait before asking again."""
        wait = timedelta(0)

        def change(note: str | None) -> str:
            nonlocal wait
            turn = take_turn(self.rate, note, self.memory.now())
            wait = turn.wait
            return turn.note

        self.memory.update(NOTE, change)
        return wait
