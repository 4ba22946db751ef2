"""DNS at DNSPod, through its token API.

API reference: https://docs.dnspod.cn/api/. DNSPod calls it traditional and may end it one day.
Permissions: a DNSPod token of the main account that owns the domain; tokens cannot be narrowed.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

from certferry import __version__
from certferry.adapters.clients.dnspod import DnspodClient, TxtRecord, Zone
from certferry.adapters.clients.dnspod_calls import DnspodCalls, OutcomeUnknown
from certferry.adapters.clients.hourly_budget import HourlyBudget
from certferry.adapters.clients.http import HttpClient
from certferry.adapters.clients.pacing import Pacer
from certferry.core import identifiers
from certferry.core.rate import Rate, rate_of
from certferry.core.secret import Secret
from certferry.core.survey import FoundZone
from certferry.core.zone_choice import no_zone_for
from certferry.errors import (
    ConfigError,
    DnsAccessDenied,
    DnsError,
    DnsRejected,
    DnsUnavailable,
)
from certferry.ports.adapter import Context, Variable
from certferry.ports.dns import DnsProvider
from certferry.ports.progress import Pause
from certferry.text import Text

log = logging.getLogger(__name__)

SERVICE = "DNSPod"
ENVIRONMENT = (
    Variable("id", ("DP_Id",), Text("the id of a DNSPod API token")),
    Variable("token", ("DP_Key",), Text("the DNSPod API token itself")),
)

# "3,600 requests an hour" is what DNSPod's support told a user (TimothyYe/godns #113, 2021-05). A
# sixth of them may go at once: 600, and then 3,000 an hour, so that no hour has more than 3,600.
REQUESTS_PER_HOUR = 3600
REQUESTS_PER_SECOND = 2.0  # what DNSPod allows is not published; this is modest (fact sheet §1.2)
NO_CONTACT = "nobody@certferry.invalid"  # the form is required; an unread address is honest
CONTACT = re.compile(r"[!-'*-~]+@[!-'*-~]+")  # ASCII without spaces and parentheses

# Seconds between looks for a new record, which lists show after about 30 (fact sheet §1.7).
INDEX_PAUSES = (1.0, 2.0, 4.0, 8.0, 12.0, 13.0)
PAUSES_AFTER_LOSS = (1.0, 3.0)  # seconds before each repetition of a removal
CREATE_ATTEMPTS = 2

_ALL_ZONES = Text("the zones of the account")

BLOCKED = {
    "pause": (Text("paused"), Text("resume it at console.dnspod.cn")),
    "spam": (Text("banned"), Text("ask DNSPod's support why")),
    "lock": (Text("locked"), Text("unlock it at console.dnspod.cn")),
}


@dataclass(frozen=True, slots=True)
class Settings:
    """What an operator writes under `[accounts.<label>]`. `id` is a short number, `token` 32
    hexadecimal digits.
    """

    id: Secret
    token: Secret
    api: Annotated[str, Text("where the API is; `https://api.dnspod.com` for the one abroad")] = (
        "https://dnsapi.cn"
    )
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
    """Give the provider of one account; the context's `contact` stands in when the settings name
    none.

    All runs count their requests in its `memory`. Nothing is sent yet. Raises `ConfigError` for
    what can be no token, or no mail address.
    """
    token_id, token = settings.id.reveal().strip(), settings.token.reveal().strip()
    _must_be_a_token(token_id, token)
    budget = HourlyBudget(
        _rate_of(settings.requests_per_hour),
        memory=context.memory,
        pace=Pacer(_must_be_positive(settings.requests_per_second), pause=context.pause),
        pause=context.pause,
        now=context.now,
    )
    calls = DnspodCalls(
        api=settings.api,
        token_id=token_id,
        token=Secret(token),
        user_agent=user_agent(settings.contact or context.contact or NO_CONTACT),
        http=HttpClient(pace=budget, pause=context.pause),
        pause=context.pause,
        now=context.now,
    )
    return Dnspod(DnspodClient(calls, settings.line), context.pause)


def user_agent(contact: str) -> str:
    """Give the form that DNSPod requires; another may get the account banned (fact sheet §1.2)."""
    if not CONTACT.fullmatch(contact):
        raise ConfigError(
            Text("{contact} is not a mail address that DNSPod accepts", contact=repr(contact)),
            hint=Text("write `contact` like ops@example.com"),
        )
    return f"certferry/{__version__} ({contact})"


def _must_be_a_token(token_id: str, token: str) -> None:
    if token_id.startswith("AKID"):
        raise ConfigError(
            Text("the `id` of the DNSPod account is a key of Tencent Cloud (AKID…)"),
            hint=Text(
                "DNSPod's token API wants a DNSPod token: make one at console.dnspod.cn (API keys, "
                "DNSPod Token), and write its number as `id` and its 32 digits as `token`"
            ),
        )
    if not token_id or not token or "," in token_id + token:
        raise ConfigError(
            Text("`id` and `token` of the DNSPod account are empty, or hold more than their part"),
            hint=Text("of 12345,0123abcd… `id` is what stands before the comma, `token` the rest"),
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


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record goes: `host` is what stands left of the zone, `@` for nothing."""

    name: str
    zone: Zone
    host: str


def place_of(name: str, zones: Iterable[Zone]) -> Place:
    """Find the longest zone that holds the name.

    Raises `ZoneNotFound`, or `DnsRejected` when the only such zones may not be written to.
    """
    by_name = {zone.name: zone for zone in zones}
    holding = [by_name[suffix] for suffix in identifiers.suffixes(name) if suffix in by_name]
    blocked = [zone for zone in holding if zone.status in BLOCKED]
    for zone in holding:
        if zone not in blocked:
            return Place(name, zone, name.removesuffix(zone.name).rstrip(".") or "@")
        log.warning(Text("{problem}; it is not used", problem=_blocked(zone).message))
    raise _blocked(blocked[0]) if blocked else no_zone_for(name, sorted(by_name))


class Dnspod:
    """Writes challenge records into the domains of one DNSPod account. Safe to use from threads.

    A handle is `domain id|record id`. The domains are listed once, when first needed.
    """

    def __init__(self, client: DnspodClient, pause: Pause) -> None:
        self._client = client
        self._pause = pause
        self._listing = threading.Lock()
        self._zones: list[Zone] | None = None
        self._written: set[tuple[str, str, str]] = set()

    def zones(self) -> tuple[FoundZone, ...]:
        """See `ports.survey.ZoneKeeper.zones`."""
        return tuple(
            FoundZone(zone.name, _blocked(zone).message if zone.status in BLOCKED else None)
            for zone in self._listed(about=_ALL_ZONES)
        )

    def name_servers(self, zone: str) -> frozenset[str]:
        """See `ports.examination.Delegated.name_servers`."""
        ids = [one.id for one in self._listed(about=zone) if one.name == zone]
        return self._client.name_servers(ids[0], about=zone) if ids else frozenset()

    def clock_ahead(self) -> timedelta | None:
        """See `ports.examination.Timed.clock_ahead`."""
        return self._client.clock_ahead()

    def add_txt(self, name: str, value: str) -> str:
        """See `ports.dns.DnsProvider.add_txt`."""
        place = self._place(name)
        handle = f"{place.zone.id}|{self._write(place, value)}"
        self._written.add((name, value, handle))
        return handle

    def remove_txt(self, name: str, value: str, handle: str | None) -> bool:
        """See `ports.dns.DnsProvider.remove_txt`.

        Without a handle the value is looked for once: DNSPod lists a record only about 30 seconds
        after it was written, and the caller knows when that was, and whether to ask again.
        """
        zone_id, _, record_id = (handle or "").partition("|")
        if (name, value, handle) in self._written and self._remove(zone_id, record_id, name):
            return True
        place = self._place(name)
        record = self._look_up(place, record_id, value) if zone_id == place.zone.id else None
        # A handle may be older than the record: the value itself must be gone.
        record = record or self._find(place, value)
        return record is not None and self._remove(place.zone.id, record.id, name)

    def _place(self, name: str) -> Place:
        name = name.rstrip(".").lower()
        return place_of(name, self._listed(about=name))

    def _listed(self, about: str | Text) -> list[Zone]:
        with self._listing:
            if self._zones is None:
                self._zones = self._client.zones(about=about)
            return self._zones

    def _write(self, place: Place, value: str) -> str:
        """Write a record and give its id. What is in doubt is looked for before it is repeated."""
        for _ in range(CREATE_ATTEMPTS):
            try:
                record_id = self._client.create_txt(place.zone, place.host, value, place.name)
            except OutcomeUnknown as exc:
                problem = exc.problem
                record = self._find_written(place, value)
            else:
                if record_id is not None:
                    return record_id
                problem = Text("DNSPod says that it is there, and does not list it")
                record = self._find_written(place, value)
            if record is not None:
                return _must_be_enabled(record, place.name)
        raise _in_doubt(place.name, problem)

    def _find_written(self, place: Place, value: str) -> TxtRecord | None:
        """Look for a record that may have been written, until lists would show it."""
        try:
            record = self._find(place, value)
            for pause in INDEX_PAUSES:
                if record is not None:
                    break
                self._pause(pause)
                record = self._find(place, value)
        except (DnsAccessDenied, DnsRejected) as exc:
            # Of the listing, not of the record: that may be there, and must not be forgotten.
            raise _in_doubt(place.name, exc.message) from exc
        return record

    def _look_up(self, place: Place, record_id: str, value: str) -> TxtRecord | None:
        """Give the record of a handle, if it is the one with this name and value: a handle that
        was kept elsewhere may have been changed there, and is another record's then.
        """
        try:
            record = self._client.txt_record(place.zone.id, record_id, place.name)
        except DnsRejected:
            return None  # the list tells as well, only later
        wanted = (place.host, value)
        return record if record is not None and (record.host, record.value) == wanted else None

    def _find(self, place: Place, value: str) -> TxtRecord | None:
        """Look for the record with exactly this value."""
        records = self._client.txt_records(place.zone.id, place.host, place.name)
        return next((record for record in records if record.value == value), None)

    def _remove(self, zone_id: str, record_id: str, name: str) -> bool:
        """Remove by id. This may be repeated without looking first: a list could lag behind."""
        for attempt, pause in enumerate((0.0, *PAUSES_AFTER_LOSS)):
            if pause:
                self._pause(pause)
            try:
                return self._client.remove(zone_id, record_id, name) or attempt > 0
            except OutcomeUnknown as exc:
                problem = exc.problem
        raise _in_doubt(name, problem)


def _must_be_enabled(record: TxtRecord, name: str) -> str:
    """Give the record's id: one that is switched off would never be seen."""
    if record.is_enabled:
        return record.id
    raise DnsRejected(
        Text("{name}: the record is there, but switched off", name=name),
        hint=Text("remove it at console.dnspod.cn"),
    )


def _in_doubt(name: str, problem: Text) -> DnsUnavailable:
    return DnsUnavailable(
        Text(
            "{name}: the change may or may not have taken effect: {problem}",
            name=name,
            problem=problem,
        ),
        hint=Text("try again in some minutes; certferry looks for the record first"),
    )


def _blocked(zone: Zone) -> DnsError:
    state, hint = BLOCKED[zone.status]
    return DnsRejected(
        Text("the domain {zone} is {state} at DNSPod", zone=zone.name, state=state), hint=hint
    )
