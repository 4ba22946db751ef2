"""DNSPod's zones and TXT records, as its token API shows and changes them
(docs/facts/dnspod.md §1).

One call at a time and few per second; credentials are never sent again once they were refused;
every call carries the documented User-Agent (§1.2).
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from certferry.adapters.dns.answers import Call, Lost, as_text, not_again, parsed
from certferry.adapters.dns.records import OutcomeUnknown, Turns
from certferry.adapters.dnspod.errors import (
    DONE,
    LIMITED,
    NO_DOMAINS,
    NO_RECORDS,
    RECORD_GONE,
    TTL_REFUSED,
    Reply,
    error_of,
)
from certferry.adapters.dnspod.rate import Rate, Turn, take_turn
from certferry.adapters.http.client import HttpClient, HttpFailure, Pace, Request, ask_the_time
from certferry.core.redaction import quoted, quoted_code
from certferry.core.secret import Secret
from certferry.errors import DnsError, DnsUnavailable, Retry
from certferry.ports.http import Answer
from certferry.ports.progress import Pause
from certferry.ports.state import AccountMemory
from certferry.text import Text

MOST_PAGES = 200  # of a list: a hundred thousand domains or records
NUMBER = re.compile(r"[0-9]{1,15}")

Item = dict[str, Any]
Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Listing:
    """A call that gives a list in pages: what it is called, where its items stand and what each is
    known by, and where their number stands.
    """

    action: str
    items: str
    key: str
    counts: str
    total: str

    def read(self, page: Callable[[int], Body | None], about: str | Text) -> list[Item]:
        """Read a list to its end, which is no page, an empty one, or the told total. `page` gives
        what follows so many items. Raises `DnsUnavailable` for a list without an end, and for one
        whose pages bring nothing new: half a list is not the whole.
        """
        found: dict[str, Item] = {}
        for _ in range(MOST_PAGES):
            before = len(found)
            body = page(before)
            if body is None:
                break
            items = items_in(body, self.items)
            found.update((as_text(item.get(self.key)), item) for item in items)
            if not items or len(found) >= self._total(body):
                break
            if len(found) == before:
                raise _endless(about)
        else:
            raise _endless(about)
        return list(found.values())

    def _total(self, body: Body) -> float:
        """Give how many items there are in all; endless when the answer does not say."""
        counts = body.get(self.counts)
        total = number_of(counts.get(self.total)) if isinstance(counts, dict) else None
        return math.inf if total is None else total


def _endless(about: str | Text) -> DnsUnavailable:
    return DnsUnavailable(Text("{about}: a list at DNSPod does not come to an end", about=about))


def items_in(body: Body, key: str) -> list[Item]:
    """Give the items of a list in an answer, as far as they are any."""
    items = body.get(key)
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def number_of(value: object) -> int | None:
    """Read a number, which may be written as a text."""
    written = as_text(value)
    return int(written) if NUMBER.fullmatch(written) else None


NAME = "DNSPod"
PAUSES_IN_DOUBT = (1.0, 3.0)  # seconds before each repetition of a read that cannot be parsed
RESTS = (60.0, 60.0)  # seconds of silence after too many calls (§1.4)
LONG_REST = timedelta(minutes=10)  # until the next run, when the short ones were not enough

Params = Mapping[str, str | int]


class DnspodCalls:
    """Calls with one account's token. Safe to share between threads.

    Its methods raise `DnsUnavailable`, `DnsAccessDenied` without sending anything when the token
    was refused before, and what `pause` raises. A refusal is remembered as long as the object
    lives. `about` is the name to mention in errors.
    """

    def __init__(
        self,
        *,
        api: str,
        token_id: str,
        token: Secret,
        user_agent: str,
        http: HttpClient,
        pause: Pause,
        now: Callable[[], datetime],
    ) -> None:
        self._api = api.rstrip("/")
        self._token_id = token_id
        self._token = token
        self._user_agent = user_agent
        self._http = http
        self._pause = pause
        self._now = now
        self._turns = Turns(pause)
        self._denied: DnsError | None = None

    def read(self, action: str, about: str | Text, **params: str | int) -> Reply:
        """Ask until there is an answer, within reason."""
        for attempt in itertools.count():
            outcome = self._call(action, params, about, repeatable=True)
            if attempt >= len(outcome.pauses):
                break
            self._pause(outcome.pauses[attempt])
        if isinstance(outcome, Lost):
            raise Call(NAME, action, about).lost(outcome.problem, maybe_done=False)
        return outcome

    def clock_ahead(self) -> timedelta | None:
        """Return how far DNSPod's clock is ahead, by `GET /`, which wants no token and answers 404
        (§1.1).
        """
        request = Request("GET", f"{self._api}/", {"User-Agent": self._user_agent})
        try:
            return ask_the_time(self._http, request, self._now)
        except HttpFailure as failure:
            call = Call(NAME, "GET", Text("the time of the service"))
            raise call.lost(failure.problem, maybe_done=False) from None

    def write(self, action: str, about: str | Text, **params: str | int) -> Reply:
        """Ask once. Raises `OutcomeUnknown` when it may have been done or not."""
        outcome = self._call(action, params, about, repeatable=False)
        if isinstance(outcome, Lost):
            call = Call(NAME, action, about, is_write=True)
            raise call.lost(outcome.problem, maybe_done=outcome.maybe_done)
        if outcome.is_in_doubt:
            raise OutcomeUnknown(error_of(outcome, about).message)
        return outcome

    def _call(
        self, action: str, params: Params, about: str | Text, *, repeatable: bool
    ) -> Reply | Lost:
        """Make a call when it is our turn; after too many calls rest, and the others rest too."""
        rests = iter(RESTS)
        with self._turns.ours():
            while True:
                outcome = self._exchange(action, params, about, repeatable=repeatable)
                if isinstance(outcome, Lost) or outcome.code != LIMITED:
                    return outcome
                rest = next(rests, None)
                if rest is None:
                    raise self._too_many(outcome, about)
                self._pause(rest)

    def _too_many(self, reply: Reply, about: str | Text) -> DnsError:
        error = error_of(reply, about)
        error.retry = Retry.at(self._now() + LONG_REST)
        return error

    def _exchange(
        self, action: str, params: Params, about: str | Text, *, repeatable: bool
    ) -> Reply | Lost:
        if self._denied is not None:
            raise not_again(NAME, self._denied)
        try:
            answer = self._http.exchange(
                lambda: self._request(action, params), repeatable=repeatable
            )
        except HttpFailure as exc:
            return Lost(exc.problem, maybe_done=exc.maybe_done)
        outcome = self._parse(action, answer)
        if isinstance(outcome, Reply) and outcome.is_denied:
            self._denied = error_of(outcome, about)
        return outcome

    def _request(self, action: str, params: Params) -> Request:
        form = {
            "login_token": f"{self._token_id},{self._token.reveal()}",
            "format": "json",
            "lang": "en",
            "error_on_empty": "no",
            **params,
        }
        headers = {
            "User-Agent": self._user_agent,
            "Content-Type": "application/x-www-form-urlencoded",
        }
        return Request("POST", f"{self._api}/{action}", headers, urlencode(form).encode())

    def _parse(self, action: str, answer: Answer) -> Reply | Lost:
        """Read an answer, whatever its Content-Type says (§1.1)."""
        if answer.status != HTTPStatus.OK:
            return Lost(
                Text(
                    "DNSPod answered {action} with HTTP status {status}",
                    action=action,
                    status=answer.status,
                ),
                maybe_done=answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR,
            )
        body = parsed(answer.body) or {}
        status = body.get("status")
        code = as_text(status.get("code")) if isinstance(status, dict) else ""
        if not isinstance(status, dict) or not quoted_code(code, [self._token]):
            problem = Text("DNSPod's answer to {action} cannot be read", action=action)
            return Lost(problem, maybe_done=True, pauses=PAUSES_IN_DOUBT)
        words = quoted(as_text(status.get("message")), [self._token])
        return Reply(action, code, words, body)


PAGE = 500  # items; the most that the international sibling gives at once (§1.8)
TTL = 600  # seconds; the free plans' minimum (§1.5)
# Seconds; the professional plans' minimum. The enterprise plans allow 1, which gains nothing: a
# challenge's record is new each time, and what takes long is its way to all name servers.
PAID_TTL = 60
PAID_PLANS = frozenset(  # the grades that Domain.List documents, without D_Free and DP_Free
    f"{era}_{plan}" for era in ("d", "dp") for plan in ("plus", "extra", "expert", "ultra")
)
MINIMUM_TTL = "记录TTL最低"  # its name in Domain.Purview (§1.5)


@dataclass(frozen=True, slots=True)
class Zone:
    """A domain of the account. `name` is in A-labels; `status` is enable, pause, spam or lock.

    `grade` is DNSPod's word for the plan, such as DP_Free.
    """

    id: str
    name: str
    status: str
    grade: str = ""

    @property
    def ttl(self) -> int:
        """Return the seconds that a record may be kept for: few, and allowed by the plan."""
        return PAID_TTL if self.grade.lower() in PAID_PLANS else TTL


@dataclass(frozen=True, slots=True)
class TxtRecord:
    """A TXT record; `host` is what stands left of the zone, `@` for nothing."""

    id: str
    host: str
    value: str
    is_enabled: bool


_DOMAINS = Listing("Domain.List", "domains", "id", "info", "domain_total")
_RECORDS = Listing("Record.List", "records", "id", "info", "record_total")
_EMPTY = {_DOMAINS: NO_DOMAINS, _RECORDS: NO_RECORDS}


class DnspodClient:
    """The domains of one account. `line` is the default line's name. Safe to share between threads.

    Its methods raise `DnsAccessDenied`, `DnsRejected` and `DnsUnavailable`; the writing ones also
    `OutcomeUnknown`. `about` is the name to mention in errors.
    """

    def __init__(self, calls: DnspodCalls, line: str) -> None:
        self._calls = calls
        self._line = line
        self._ttls: dict[str, int] = {}

    def zones(self, about: str | Text) -> list[Zone]:
        """List every domain of the account (Domain.List)."""
        return [
            Zone(
                id=as_text(item.get("id")),
                name=(as_text(item.get("punycode")) or as_text(item.get("name"))).lower(),
                status=as_text(item.get("status")).lower(),
                grade=as_text(item.get("grade")),
            )
            for item in self._pages(_DOMAINS, about, type="all")
        ]

    def name_servers(self, zone: Zone, about: str | Text) -> frozenset[str]:
        """List the hosts that DNSPod serves a domain by: its NS records of the apex, which DNSPod
        itself has put there (§1.5).
        """
        items = self._pages(_RECORDS, about, domain_id=zone.id, sub_domain="@")
        hosts = (as_text(i.get("value")) for i in items if i.get("type") == "NS")
        return frozenset(filter(None, (host.rstrip(".").lower() for host in hosts)))

    def clock_ahead(self) -> timedelta | None:
        """See `DnspodCalls.clock_ahead`."""
        return self._calls.clock_ahead()

    def txt_records(self, zone: Zone, host: str, about: str | Text) -> list[TxtRecord]:
        """List the TXT records at exactly this host (Record.List).

        A new record may be missing here for about 30 seconds (§1.7).
        """
        items = self._pages(_RECORDS, about, domain_id=zone.id, sub_domain=host)
        return [
            TxtRecord(
                id=as_text(item.get("id")),
                host=host,
                value=as_text(item.get("value")),
                is_enabled=as_text(item.get("enabled")) != "0",
            )
            for item in items
            if item.get("type") == "TXT" and as_text(item.get("name")).lower() == host
        ]

    def txt_record(self, zone: Zone, record_id: str, about: str | Text) -> TxtRecord | None:
        """Read one record by its id, which needs no list; `None` when it is gone, or no TXT record.

        Record.Info's fields are those of the vendor's page (DNSPod/dnspod-api-doc,
        source/records.rst).
        """
        reply = self._calls.read("Record.Info", about, domain_id=zone.id, record_id=record_id)
        if reply.code == RECORD_GONE and not reply.is_denied:
            return None
        item = _settled(reply, about).body.get("record")
        if not isinstance(item, dict) or item.get("record_type") != "TXT":
            return None
        return TxtRecord(
            id=record_id,
            host=as_text(item.get("sub_domain")).lower(),
            value=as_text(item.get("value")),
            is_enabled=as_text(item.get("enabled")) != "0",
        )

    def create_txt(self, zone: Zone, host: str, value: str, about: str | Text) -> str | None:
        """Write a TXT record and give its id, or `None` when the identical one is there already.

        A TTL that the domain's plan does not allow is raised once: to the plan's minimum, or to the
        free plans' where it names none that is higher.
        """
        ttl = self._ttls.get(zone.id, zone.ttl)
        reply = self._create(zone.id, host, value, ttl, about)
        if reply.code in TTL_REFUSED:
            minimum = self._minimum_ttl(zone.id, about)
            raised = minimum if minimum > ttl else TTL
            if raised > ttl:
                self._ttls[zone.id] = raised
                reply = self._create(zone.id, host, value, raised, about)
        if reply.says_exists:
            return None
        record = _settled(reply, about).body.get("record")
        return as_text(record.get("id")) or None if isinstance(record, dict) else None

    def remove(self, zone: Zone, record_id: str, about: str | Text) -> bool:
        """Remove a record by its id, and tell whether it was there (Record.Remove)."""
        reply = self._calls.write("Record.Remove", about, domain_id=zone.id, record_id=record_id)
        if reply.code == RECORD_GONE and not reply.is_denied:
            return False
        _settled(reply, about)
        return True

    def _create(self, zone_id: str, host: str, value: str, ttl: int, about: str | Text) -> Reply:
        return self._calls.write(
            "Record.Create",
            about,
            domain_id=zone_id,
            sub_domain=host,
            record_type="TXT",
            record_line=self._line,
            value=value,
            ttl=ttl,
        )

    def _minimum_ttl(self, zone_id: str, about: str | Text) -> int:
        """Learn the least TTL that the domain's plan allows (Domain.Purview); 0 if it says none."""
        reply = self._calls.read("Domain.Purview", about, domain_id=zone_id)
        told = [
            number_of(item.get("value")) or 0
            for item in items_in(_settled(reply, about).body, "purview")
            if item.get("name") == MINIMUM_TTL
        ]
        return max(told, default=0)

    def _pages(self, listing: Listing, about: str | Text, **params: str) -> list[Item]:
        def page(after: int) -> Body | None:
            reply = self._calls.read(listing.action, about, **params, offset=after, length=PAGE)
            return None if reply.code == _EMPTY[listing] else _settled(reply, about).body

        return listing.read(page, about)


def _settled(reply: Reply, about: str | Text) -> Reply:
    if reply.code == DONE:
        return reply
    raise error_of(reply, about)


NOTE = "spent"


class HourlyBudget:
    """A `Pace` that takes each request's turn from what the account may send, and then from `pace`.

    What is spent stands in one note of the account's memory, so that other runs count as well.
    `now` is the wall clock, the only one that runs share: set forward, it lets one burst more go.
    """

    def __init__(
        self,
        rate: Rate,
        *,
        memory: AccountMemory,
        pace: Pace,
        pause: Pause,
        now: Callable[[], datetime],
    ) -> None:
        self._rate = rate
        self._memory = memory
        self._pace = pace
        self._pause = pause
        self._now = now

    def wait(self) -> None:
        """Return when the next request may be sent. Raises whatever `pause` raises."""
        # The wait is outside of `update`: the note must not be kept from other runs meanwhile.
        # Nothing is taken before it, so a run that is stopped in it leaves its turn to them.
        while (wait := self._ask()) > timedelta(0):
            self._pause(wait.total_seconds())
        self._pace.wait()

    def _ask(self) -> timedelta:
        """Take a turn, or learn how long it is until there may be one."""
        wait = timedelta(0)

        def change(note: str | None) -> str:
            nonlocal wait
            turn: Turn = take_turn(self._rate, note, self._now())
            wait = turn.wait
            return turn.note

        self._memory.update(NOTE, change)
        return wait
