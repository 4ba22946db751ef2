"""DNSPod's zones and TXT records by the token API, and the meanings of the API's error codes.

Source: docs/facts/dnspod.md §1, §1.4. To avoid a ban, calls are made one at a time, few calls are
made in a second, refused credentials are not sent again, and every call has the documented
User-Agent (§1.2).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from certferry.adapters.dns import answers
from certferry.adapters.dns.txt_records import (
    ALL_ZONES,
    AccountTurns,
    TxtRecord,
    TxtRecords,
    Zone,
    hosts_of,
)
from certferry.adapters.http.exchange import Request, journal
from certferry.adapters.http.http_client import HttpClient
from certferry.adapters.http.journal import judged, reported
from certferry.core.findings import Code, warning
from certferry.core.redaction import Secret, quoted, quoted_code
from certferry.errors import DnsAccessDenied, DnsError, DnsRejected, Problem, Retry
from certferry.ports.adapter import Answer, Context, json_object
from certferry.ports.examination import AccountReport
from certferry.ports.progress import Pause
from certferry.text import Text

NAME = "DNSPod"
NUMBER = re.compile(r"[0-9]{1,15}")
RESTS = (60.0, 60.0)  # seconds of silence after too many calls (§1.4)
LONG_REST = timedelta(minutes=10)  # until the next run, after the short rests failed
# Seconds between searches for a new record. Lists show a record after about 30 s (§1.7, §2.2).
INDEX_PAUSES = (1.0, 2.0, 4.0, 8.0, 12.0, 13.0)

DEFAULT_LINES = frozenset({"默认", "default"})
"""The names of the line whose records every region sees: at dnsapi.cn and at api.dnspod.com."""

PAGE = 500  # items; the most per page at the international sibling (§1.8)
TTL = 600  # seconds; the free plans' minimum (§1.5)
# Seconds; the minimum of the professional plans. The enterprise plans allow 1, which would gain
# nothing: a challenge's record is new, so no cache holds an older answer.
PAID_TTL = 60
PAID_PLANS = frozenset(  # the grades that Domain.List documents, without D_Free and DP_Free
    f"{era}_{plan}" for era in ("d", "dp") for plan in ("plus", "extra", "expert", "ultra")
)
KNOWN_PLANS = PAID_PLANS | {"d_free", "dp_free"}
MINIMUM_TTL = "记录TTL最低"  # the name of the minimum TTL in Domain.Purview (§1.5)
PUBLIC = {"Domain.List", "TC3-HMAC-SHA256", "dnsapi.cn", "api.dnspod.com"}
"""Names of calls and hosts, and a signature scheme, that a report may show."""

_DONE = "1"
_LIMITED = "-2"
_CLOSED = "-99"
_UNKNOWN_ERROR = "3"
_GONE = "8"  # only of Record.Info and Record.Remove
_NO_DOMAINS = "9"  # only of Domain.List
_NO_RECORDS = "10"
_EXISTS = "104"
_TTL_REFUSED = frozenset({"29", "32"})

# Code → seconds before each repetition of a read. After a write with such a code, the service may
# have carried out the write.
_IN_DOUBT = {_UNKNOWN_ERROR: (1.0, 3.0), _CLOSED: (10.0, 20.0)}
_AFTER_STRANGE_CODE = (1.0,)
_MEANT = frozenset({_DONE, _GONE, _NO_DOMAINS, _NO_RECORDS, _EXISTS})

_BLOCKED = {
    "pause": (Text("paused"), Text("resume the domain at console.dnspod.cn")),
    "spam": (Text("banned"), Text("ask DNSPod's support for the reason")),
    "lock": (Text("locked"), Text("unlock the domain at console.dnspod.cn")),
}
"""By DNSPod's word for the state of a blocked domain: the word for operators, and the hint."""

_TOKEN = Text(
    "compare `id` and `token` with the DNSPod tokens listed at console.dnspod.cn under API keys; "
    "a token is shown only at creation. Keys of Tencent Cloud (AKID…) do not work here"
)
_BANNED = Text("correct `id` and `token`, then leave the account alone for an hour")
_PLAN = Text("the domain's DNSPod plan is used up: remove records, or choose another plan")
_BUG = Text("the error is a bug in certferry: please report it")

_RESELLER = Text("the call is for resellers only: use a token of the account that owns the domain")
_ANSWERS = answers.Codes(
    Text("{about}: DNSPod answered {action} with code {code}: {words}"),
    Text("check the domain at console.dnspod.cn"),
    denied={
        **dict.fromkeys(("-1", "50", "51", "52", "53", "54", "20004"), _TOKEN),
        "-8": _BANNED,
        "83": Text("the account is locked: unlock the account at console.dnspod.cn"),
        "85": Text(
            "this host's address is not on the token's list of allowed addresses: add the address"
        ),
        "10002": Text(
            "`id` of the account (DP_Id) is not the ID of a DNSPod token: use the short number "
            "shown at console.dnspod.cn under API keys. Keys of Tencent Cloud (AKID…) do not "
            "work here"
        ),
        "10003": Text("the token does not exist: {check}", check=_TOKEN),
        "10004": Text("`token` does not belong to `id`: {check}", check=_TOKEN),
    },
    rejected={
        **dict.fromkeys(("-3", "-4"), _RESELLER),
        "-7": Text(
            "the token lacks the permission: use a token of the main account, or upgrade the domain"
        ),
        "-15": Text("DNSPod has banned the domain: ask DNSPod's support"),
        **dict.fromkeys(("2", "27", "34"), _BUG),
        "21": Text("the domain is locked: unlock the domain at console.dnspod.cn"),
        "22": Text("DNSPod does not accept this name"),
        "26": Text(
            "the domain has no line with the name in `line` of the account: remove `line` to use "
            "默认 (the default line), or write `default` at api.dnspod.com"
        ),
        **dict.fromkeys(("23", "24", "25", "29", "32", "500025", "500026"), _PLAN),
        "31": answers.EXCLUDED,
    },
    sentences=dict.fromkeys(
        ("10002", "10003", "10004"),
        Text("DNSPod does not accept this pair of ID and token ({code})"),
    ),
    unavailable={
        _LIMITED: answers.TOO_MANY_CALLS,
        _UNKNOWN_ERROR: answers.LATER,
        _CLOSED: Text("DNSPod has switched the call off for now: try again later"),
    },
)
CODES = _ANSWERS.meanings


@dataclass(frozen=True, slots=True)
class DnspodZone(Zone):
    """A domain of the account."""

    #: DNSPod's word for the domain's plan, for example DP_Free.
    grade: str = ""

    @property
    def ttl(self) -> int:
        """The lowest TTL of a record allowed by the plan, in seconds."""
        return PAID_TTL if self.grade.lower() in PAID_PLANS else TTL


def zone_of(item: answers.Item, keys: Mapping[str, str], servers: object = None) -> DnspodZone:
    """Read a domain. `keys` maps id, punycode, name, status and grade to keys of `item`."""
    id_, punycode, name, status, grade = (
        answers.as_text(item.get(keys[key]))
        for key in ("id", "punycode", "name", "status", "grade")
    )
    zone = (punycode or name).lower()
    problem = None
    if status.lower() in _BLOCKED:
        state, hint = _BLOCKED[status.lower()]
        sentence = Text("the domain {zone} is {state} at DNSPod", zone=zone, state=state)
        problem = DnsRejected(sentence, hint=hint)
    return DnspodZone(id_, zone, problem, hosts_of(servers), grade)


def total_in(counts: object, key: str) -> float:
    """Return the total length of a list; infinity if the answer has no total."""
    total = number_of(answers.object_in({"": counts}, "").get(key))
    return math.inf if total is None else total


def number_of(value: object) -> int | None:
    """Read a number, or a number in text; `None` for anything else."""
    text = answers.as_text(value)
    return int(text) if NUMBER.fullmatch(text) else None


class DnspodRecords(TxtRecords):
    """Challenge records at DNSPod, by the token API or by Tencent Cloud's API.

    New records are not read back, because lists show a record only after a while.
    """

    def __init__(self, service: answers.JsonTxtService, pause: Pause) -> None:
        super().__init__(NAME, service, pause, looks=INDEX_PAUSES, reads_back=False)
        self._api = service

    def name_servers(self, zone: str) -> frozenset[str]:
        """See `ports.examination.Delegated.name_servers`."""
        if not isinstance(self._api, DnspodClient):
            return super().name_servers(zone)
        held = next((each for each in self._api.zones(about=zone) if each.name == zone), None)
        return frozenset() if held is None else self._api.name_servers(held)

    def examine(self, account: str) -> tuple[Problem, ...]:
        """See `ports.examination.Examined.examine`."""
        if not isinstance(self._api, DnspodClient) or self._api.line in DEFAULT_LINES:
            return ()
        message = Text(
            "`line` is {line}: DNSPod shows the challenge to some regions only, and CAs ask from"
            " five regions of the world",
            line=self._api.line,
        )
        fix = Text("remove `line` from the account, or write the name of the default line")
        return (warning(Code.LINE_NOT_DEFAULT, account, message, fix),)

    def report(self) -> AccountReport:
        """See `ports.examination.Reporting.report`."""
        zones: list[Zone] | None = None
        with journal() as made, suppress(DnsError):
            zones = list(self._api.list_zones(about=ALL_ZONES))
        grades = [zone.grade.lower() for zone in zones or () if isinstance(zone, DnspodZone)]
        are_known = all(grade in KNOWN_PLANS for grade in grades) if zones else None
        plan = judged("1.5", Text("certferry knows every domain's plan"), are_known)
        return AccountReport(NAME, (plan, *reported(made, PUBLIC)), zones is not None)


class DnspodClient(answers.JsonTxtService):
    """The domains of one account by the token API.

    The token is `id,token`; `line` is the name of the default line.
    """

    gone = (_GONE,)
    pauses_in_doubt = (1.0, 3.0)

    def __init__(
        self,
        api: str,
        token: Secret,
        user_agent: str,
        line: str,
        http: HttpClient,
        context: Context,
    ) -> None:
        self._api = api.rstrip("/")
        self._token = token
        self._hidden = [Secret(token.reveal().partition(",")[2])]
        self._agent = {"User-Agent": user_agent}
        self.line = line
        self._turns = AccountTurns(context.pause)
        self._ttls: dict[str, int] = {}
        # This address needs no token, and answers 404 (§1.1).
        clock = Request("GET", f"{self._api}/", self._agent)
        super().__init__(NAME, _ANSWERS, http, clock, context)

    def list_zones(self, about: str | Text) -> list[Zone]:
        """Read every domain of the account (Domain.List)."""
        keys = {key: key for key in ("id", "punycode", "name", "status", "grade")}
        keys_of_list = ("domains", "domain_total", _NO_DOMAINS)
        items = self._list("Domain.List", keys_of_list, about, type="all")
        return [zone_of(item, keys) for item in items]

    def name_servers(self, zone: Zone) -> frozenset[str]:
        """Return the hosts of the NS records at a domain's apex; DNSPod writes these records itself
        (§1.5).
        """
        items = self._records(zone, "@", about=zone.name)
        return hosts_of([answers.as_text(i.get("value")) for i in items if i.get("type") == "NS"])

    def records(self, zone: Zone, name: str) -> list[TxtRecord]:
        """See `TxtService.records` (Record.List). The list lags about 30 seconds (§1.7)."""
        host = zone.host_of(name)
        return [
            TxtRecord(
                answers.as_text(item.get("id")),
                name,
                answers.as_text(item.get("value")),
                answers.as_text(item.get("enabled")) != "0",
            )
            for item in self._records(zone, host, about=name)
            if item.get("type") == "TXT" and answers.as_text(item.get("name")).lower() == host
        ]

    def record(self, zone: Zone, record_id: str, about: str) -> TxtRecord | None:
        """See `TxtService.record` (Record.Info, DNSPod/dnspod-api-doc, source/records.rst)."""
        reply = self.read("Record.Info", about, domain_id=zone.id, record_id=record_id)
        item = answers.object_in(self.unless_gone(reply, about), "record")
        if item.get("record_type") != "TXT":
            return None
        host = answers.as_text(item.get("sub_domain")).lower()
        enabled = answers.as_text(item.get("enabled")) != "0"
        return TxtRecord(record_id, zone.name_of(host), answers.as_text(item.get("value")), enabled)

    def create(self, zone: Zone, name: str, value: str) -> str | None:
        """See `TxtService.create`. If DNSPod refuses the TTL, try once more with the plan's minimum
        TTL, or with `TTL` if the minimum is unknown.
        """
        ttl = self._ttls.get(zone.id, zone.ttl if isinstance(zone, DnspodZone) else TTL)
        reply = self._create(zone, name, value, ttl)
        if reply.code in _TTL_REFUSED:
            minimum = self._minimum_ttl(zone, name)
            raised = minimum if minimum > ttl else TTL
            if raised > ttl:
                self._ttls[zone.id] = raised
                reply = self._create(zone, name, value, raised)
        # Users report this code for a duplicate, but DNSPod does not document the code. Therefore
        # the words of the answer count as well.
        if reply.code == _EXISTS or "already exist" in reply.words.lower():
            return None
        return (
            answers.as_text(answers.object_in(self.settled(reply, name), "record").get("id"))
            or None
        )

    def remove(self, zone: Zone, record_id: str, about: str) -> bool:
        """See `TxtService.remove` (Record.Remove)."""
        reply = self.write("Record.Remove", about, domain_id=zone.id, record_id=record_id)
        return self.unless_gone(reply, about) is not None

    def reply(self, action: str, answer: Answer) -> answers.Reply | None:
        """See `JsonTxtService.reply`. The Content-Type is ignored (§1.1)."""
        if answer.status != HTTPStatus.OK:
            return None
        body = json_object(answer.body) or {}
        status = answers.object_in(body, "status")
        code = answers.as_text(status.get("code"))
        if not quoted_code(code, self._hidden):
            return None
        words = quoted(answers.as_text(status.get("message")), self._hidden)
        shown, in_doubt = "" if code == _DONE else code, code in _IN_DOUBT
        pauses = _pauses_after(code)
        return answers.Reply(action, shown, words, body, is_in_doubt=in_doubt, pauses=pauses)

    def error(self, reply: answers.Reply, about: str | Text) -> DnsError:
        """See `JsonTxtService.error`. Code 8 usually means a missing record; with words about a
        login by email, the code refuses the credentials.
        """
        error = super().error(reply, about)
        if reply.code == _GONE and "by email" in reply.words.lower():
            return DnsAccessDenied(error.message, hint=_TOKEN)
        return error

    def _call(
        self, action: str, about: str | Text, params: Mapping[str, Any], *, is_write: bool
    ) -> answers.Reply | answers.Lost:
        """Make a call once no other thread uses the account. If DNSPod answers "too many calls",
        rest and repeat the call, while other threads wait. Raises `DnsUnavailable` after the last
        rest, and the errors of the parent's method.
        """
        with self._turns.ours():
            rests = iter(RESTS)
            while True:
                outcome = super()._call(action, about, params, is_write=is_write)
                if isinstance(outcome, answers.Lost) or outcome.code != _LIMITED:
                    return outcome
                if (rest := next(rests, None)) is None:
                    error = self.error(outcome, about)
                    error.retry = Retry.at(self._now() + LONG_REST)
                    raise error
                self._pause(rest)

    def _create(self, zone: Zone, name: str, value: str, ttl: int) -> answers.Reply:
        record = {"domain_id": zone.id, "sub_domain": zone.host_of(name), "record_type": "TXT"}
        record |= {"record_line": self.line, "value": value}
        return self.write("Record.Create", name, **record, ttl=ttl)

    def _minimum_ttl(self, zone: Zone, name: str) -> int:
        """Return the minimum TTL of the plan (Domain.Purview), in seconds; 0 if unknown."""
        reply = self.read("Domain.Purview", name, domain_id=zone.id)
        limits = answers.objects(self.settled(reply, name).get("purview"))
        minima = (limit.get("value") for limit in limits if limit.get("name") == MINIMUM_TTL)
        return max((number_of(value) or 0 for value in minima), default=0)

    def _records(self, zone: Zone, host: str, about: str) -> list[answers.Item]:
        keys = ("records", "record_total", _NO_RECORDS)
        return self._list("Record.List", keys, about, domain_id=zone.id, sub_domain=host)

    def _list(
        self, action: str, keys: tuple[str, str, str], about: str | Text, **params: str
    ) -> list[answers.Item]:
        listed, total, empty = keys

        def page(number: int, before: int) -> tuple[list[answers.Item], bool]:
            del number
            reply = self.read(action, about, **params, offset=before, length=PAGE)
            if reply.code == empty:
                return [], True
            body = self.settled(reply, about)
            items = answers.objects(body.get(listed))
            return items, not items or before + len(items) >= total_in(body.get("info"), total)

        return self.pages(page, about, key=lambda item: answers.as_text(item.get("id")))

    def request(self, action: str, **params: str | int) -> Request:
        """See `JsonTxtService.request`."""
        form: dict[str, Any] = {
            "login_token": self._token.reveal(),
            "format": "json",
            "lang": "en",
            "error_on_empty": "no",
            **params,
        }
        headers = {**self._agent, "Content-Type": "application/x-www-form-urlencoded"}
        return Request("POST", f"{self._api}/{action}", headers, urlencode(form).encode())


def _pauses_after(code: str) -> tuple[float, ...]:
    """Return the seconds before each repetition of a read answered with `code`."""
    if code in _IN_DOUBT:
        return _IN_DOUBT[code]
    is_known = code in _MEANT or _ANSWERS.knows(code)
    return () if is_known or code.startswith("-") else _AFTER_STRANGE_CODE
