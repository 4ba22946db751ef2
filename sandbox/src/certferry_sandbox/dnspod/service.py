"""A stand-in for DNSPod's token API (dnsapi.cn). It writes to the zones that name servers serve.

Source: docs/facts/dnspod.md §1 and §4. The real service tolerates clients that break a rule, and
may ban them later. The stand-in refuses at once a request without the documented User-Agent, a
body that is not a form, and an action in another spelling. API 3.0 has a stand-in of its own
(`certferry_sandbox.tencentcloud`).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Literal

import idna

from certferry_sandbox.dnspod.accounts import PLANS, Account, Accounts, Domain, DomainCalls
from certferry_sandbox.dnspod.answers import Body, Params, Refused, Status, in_china, page, respond
from certferry_sandbox.dnspod.records import RecordCalls
from certferry_sandbox.faults import Script
from certferry_sandbox.httpd import HttpService, HttpStandIn, Request, Response
from certferry_sandbox.zones import Zones

NAMESERVERS = ("f1g1ns1.dnspod.net", "f1g1ns2.dnspod.net")
VERSION = "4.6"
PAGE_LIMIT = 3000  # records or domains in one answer, at most
USER_AGENT = re.compile(r"[\w .-]+/\S+ \(\S+@\S+\)")  # "Program-Name/Version (mail)" (§1.2, §4)
WRITES = frozenset({"Record.Create", "Record.Remove"})

Action = Callable[[Account, Params], Body]
Answer = tuple[str, str, Body]
"""A status code, its message, and the other fields of an answer."""


@dataclass(frozen=True)
class Call:
    """A call that arrived, answered or refused: its action, and its form without the token."""

    action: str
    params: Mapping[str, str]


class DnspodService(HttpStandIn):
    """DNSPod's token API on loopback, in plain HTTP.

    `add_account` and `add_domain` fill the accounts. `faults` and `answer_next` arm errors, for
    instance `faults.add(Fault.reset_after(), on="POST /Record.Create")`. The zones' clock measures
    `index_delay`, `calls_per_hour` and blocked logins; answers show the wall clock `now`.
    `nameservers` serve each zone that `add_domain` adds. `line` is the name of the default line,
    and `page_limit` the length of the longest list. The international sibling has `default` and
    500 (§1.8).
    """

    def __init__(
        self,
        zones: Zones,
        *,
        nameservers: Sequence[str] = NAMESERVERS,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        line: str = "默认",
        page_limit: int = PAGE_LIMIT,
        port: int = 0,
    ) -> None:
        self.http = HttpService(self._answer, port=port, clock=now)
        self._zones = zones
        self._nameservers = tuple(nameservers)
        self._now = now
        self._lock = threading.RLock()
        self._calls: list[Call] = []
        self._script = Script[Answer]()
        self._accounts = Accounts(zones.clock)
        self._records = RecordCalls(
            self._accounts,
            zones,
            now,
            page_limit=page_limit,
            line=line,
            nameservers=self._nameservers,
        )
        self._actions = self._all_actions(DomainCalls(self._accounts, zones, page_limit))

    def _all_actions(self, domains: DomainCalls) -> dict[str, Action]:
        return {
            "Info.Version": domains.version,
            "Domain.List": domains.list_domains,
            "Domain.Info": domains.info,
            "Domain.Purview": domains.purview,
            "Record.List": self._records.list_records,
            "Record.Info": self._records.info,
            "Record.Create": self._records.create,
            "Record.Remove": self._records.remove,
        }

    @property
    def index_delay(self) -> float:
        """The seconds until lists show a new record."""
        return self._records.index_delay

    @index_delay.setter
    def index_delay(self, seconds: float) -> None:
        self._records.index_delay = seconds

    @property
    def calls_per_hour(self) -> int | None:
        """The calls of an account within any hour, at most; `None` sets no limit.

        Further calls get -2.
        """
        return self._accounts.calls_per_hour

    @calls_per_hour.setter
    def calls_per_hour(self, calls: int | None) -> None:
        self._accounts.calls_per_hour = calls

    def add_account(self, token_id: str, token: str, email: str = "ops@example.com") -> Account:
        """Open an account. `add_domain` uses the first account by default."""
        return self._accounts.add(token_id, token, email)

    def add_domain(
        self,
        name: str,
        *,
        account: Account | None = None,
        status: Literal["enable", "pause", "spam", "lock"] = "enable",
        grade: str = "DP_Free",
        min_ttl: int | None = None,
        records_per_name: int = 100,
        levels: int = 10,
    ) -> Domain:
        """Put a domain (in Unicode or A-labels) into an account. A missing zone is added.

        `grade` is the plan, a key of `PLANS`. `min_ttl` replaces the least TTL of the plan.
        """
        owner = account or self._accounts.first()
        domain = Domain(
            id=self._accounts.next_domain_id(),
            name=idna.encode(name, uts46=True).decode(),
            owner=owner.email,
            status=status,
            grade=grade,
            min_ttl=PLANS[grade].min_ttl if min_ttl is None else min_ttl,
            records_per_name=records_per_name,
            levels=levels,
        )
        with self._lock:
            if domain.name not in {zone.name for zone in self._zones.zones_above(domain.name)}:
                self._zones.add_zone(domain.name, self._nameservers)
            owner.domains.append(domain)
        return domain

    def answer_next(
        self,
        action: str,
        code: str,
        message: str = "",
        *,
        times: int = 1,
        does_the_work: bool = False,
    ) -> None:
        """Answer the next calls of an action (a shell pattern) with this status code.

        The stand-in first checks the login and the limit of calls. With `does_the_work`, the call
        also takes effect.
        """
        messages = [status.words("en") for status in Status if status.code == code]
        words = message or "".join(messages[:1])
        self._script.add(action, (code, words, {}), times=times, does_the_work=does_the_work)

    def calls(self, action: str = "*") -> list[Call]:
        """Return the calls so far of an action (a shell pattern), in the order of arrival."""
        arrived = self.http.requests("POST /*")
        with self._lock:  # each request is parsed only once
            self._calls += [
                Call(request.path.removeprefix("/"), _without_token(Params.of(request)))
                for request in arrived[len(self._calls) :]
            ]
            return [call for call in self._calls if fnmatchcase(call.action, action)]

    def writes(self) -> list[Call]:
        """Return the calls so far that ask for a change."""
        return [call for call in self.calls() if call.action in WRITES]

    def refused_user_agents(self) -> list[str]:
        """Return the User-Agents that break DNSPod's rule, and could get an account banned."""
        agents = [request.headers.get("User-Agent", "") for request in self.http.requests()]
        return [agent for agent in agents if not USER_AGENT.fullmatch(agent)]

    def _answer(self, request: Request) -> Response:
        action = request.path.removeprefix("/")
        params = Params.of(request)
        if not USER_AGENT.fullmatch(request.headers.get("User-Agent", "")):
            return page(403, "Forbidden")
        if action not in self._actions:
            return page(404, "Not Found")
        if request.method != "POST":
            return self._refusal(Status.POST_ONLY, params)
        try:
            with self._lock:
                return self._work(action, params)
        except Refused as refusal:
            words = refusal.words(params.text("lang", "en"))
            return self._respond(refusal.status.code, words, params)

    def _work(self, action: str, params: Params) -> Response:
        account = self._accounts.login(params)
        self._accounts.count(account)
        code, words, body = self._script.answer(action, lambda: self._done(action, account, params))
        return self._respond(code, words, params, body)

    def _done(self, action: str, account: Account, params: Params) -> Answer:
        words = VERSION if action == "Info.Version" else _words(Status.DONE, params)
        return Status.DONE.code, words, self._actions[action](account, params)

    def _refusal(self, status: Status, params: Params) -> Response:
        return self._respond(status.code, _words(status, params), params)

    def _respond(
        self, code: str, message: str, params: Params, body: Body | None = None
    ) -> Response:
        status = {"code": code, "message": message, "created_at": in_china(self._now())}
        as_json = params.text("format") == "json"
        return respond({"status": status, **(body or {})}, as_json=as_json)


def _words(status: Status, params: Params) -> str:
    return status.words(params.text("lang", "en"))


def _without_token(params: Params) -> dict[str, str]:
    return {name: value for name, value in params.fields.items() if name != "login_token"}
