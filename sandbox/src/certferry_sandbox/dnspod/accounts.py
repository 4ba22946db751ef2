"""The accounts of the DNSPod stand-in: tokens, domains, what failed logins lead to, and the calls
about accounts and domains (docs/facts/dnspod.md §1.5).
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from dataclasses import dataclass, field

import idna

from certferry_sandbox.dnspod.answers import LONG_AGO, Body, Params, Refused, Status
from certferry_sandbox.zones import Clock, Zones

# More than 30 failed logins within 5 minutes block the login for an hour
# (docs/facts/dnspod.md §1.2).
FAILURES = 30
FAILURES_WITHIN = 300.0
BLOCKED_FOR = 3600.0

LIMIT_WITHIN = 3600.0  # seconds; how long a call counts against the limit of an hour


@dataclass(frozen=True)
class Plan:
    """What DNSPod calls a plan in Chinese, and the least TTL it allows, in seconds."""

    title: str
    min_ttl: int


# The title of each plan (Domain.List's reference, field `grade`), and the least TTL in seconds: 600
# free, 60 professional, 1 enterprise. That the old plans have their successors' is a guess.
PLANS = {
    "D_Free": Plan("免费套餐", 600),
    "D_Plus": Plan("个人豪华套餐", 60),
    "D_Extra": Plan("企业Ⅰ", 1),
    "D_Expert": Plan("企业Ⅱ", 1),
    "D_Ultra": Plan("企业Ⅲ", 1),
    "DP_Free": Plan("新免费套餐", 600),
    "DP_Plus": Plan("个人专业版", 60),
    "DP_Extra": Plan("企业创业版", 1),
    "DP_Expert": Plan("企业标准版", 1),
    "DP_Ultra": Plan("企业旗舰版", 1),
}


@dataclass
class Domain:
    """A domain as the account sees it; its records are in the zone of the same name.

    `status` is enable, pause, spam or lock. `records_per_name` is how many records of one type
    the plan allows at one name, `levels` how many labels left of the domain.
    """

    id: int
    name: str
    owner: str
    status: str = "enable"
    grade: str = "DP_Free"
    min_ttl: int = 600
    records_per_name: int = 100
    levels: int = 10

    @property
    def unicode_name(self) -> str:
        """The name as the account's owner wrote it."""
        return idna.decode(self.name)

    @property
    def is_vip(self) -> bool:
        """Return whether the plan is a paid one."""
        return not self.grade.endswith("_Free")

    def is_meant_by(self, domain_id: str, name: str) -> bool:
        """Return whether an id, or without one a name in either spelling, means this domain."""
        if domain_id:
            return domain_id == str(self.id)
        return name.lower() in {self.name, self.unicode_name}


@dataclass
class Account:
    """An account with one API token. The domains are in the order of their addition.

    `calls` are the moments of the calls that count against the limit of an hour.
    """

    token_id: str
    token: str = field(repr=False)
    email: str
    user_id: int
    domains: list[Domain] = field(default_factory=list)
    calls: deque[float] = field(default_factory=deque, repr=False)


class Accounts:
    """All accounts, and the check of their tokens."""

    def __init__(self, clock: Clock) -> None:
        self.calls_per_hour: int | None = None
        self._clock = clock
        self._lock = threading.Lock()
        self._by_token_id: dict[str, Account] = {}
        self._user_ids = itertools.count(1_446_297)
        self._domain_ids = itertools.count(38_280_687)
        self._failures: dict[str, deque[float]] = {}
        self._blocked_until: dict[str, float] = {}

    def add(self, token_id: str, token: str, email: str) -> Account:
        """Open an account."""
        account = Account(token_id, token, email, next(self._user_ids))
        self._by_token_id[token_id] = account
        return account

    def next_domain_id(self) -> int:
        """Return an id that no domain has had."""
        return next(self._domain_ids)

    def first(self) -> Account:
        """Return the account that was opened first. Raises LookupError where no account is open."""
        for account in self._by_token_id.values():
            return account
        raise LookupError("no account has been added")

    def domain(
        self, account: Account, params: Params, *, unknown: Status, not_owner: Status
    ) -> Domain:
        """Find the account's domain that `domain_id`, or else `domain`, speaks of.

        Raises Refused: `unknown` for what no account has, `not_owner` for what another has.
        """
        for owner in (account, *self._by_token_id.values()):
            for domain in owner.domains:
                if domain.is_meant_by(params.text("domain_id"), params.text("domain")):
                    if owner is not account:
                        raise Refused(not_owner)
                    return domain
        raise Refused(unknown)

    def login(self, params: Params) -> Account:
        """Check a token. Raises Refused, and -8 for an hour to a caller that failed too often."""
        token_id = params.text("login_token").partition(",")[0]
        with self._lock:
            now = self._clock()
            if now < self._blocked_until.get(token_id, now):
                raise Refused(Status.LOGIN_BANNED)
            try:
                return self._check(params)
            except Refused:
                self._note_failure(token_id, now)
                raise

    def count(self, account: Account) -> None:
        """Count a call. Raises Refused with -2 for one too many in an hour, which counts too."""
        if self.calls_per_hour is None:
            return
        now = self._clock()
        account.calls.append(now)
        while account.calls[0] <= now - LIMIT_WITHIN:
            account.calls.popleft()
        if len(account.calls) > self.calls_per_hour:
            raise Refused(Status.LIMITED)

    def _check(self, params: Params) -> Account:
        login_token = params.text("login_token")
        if not login_token:
            raise Refused(Status.LOGIN_FAILED)
        token_id, comma, token = login_token.partition(",")
        if not token_id.isascii() or not token_id.isdigit() or not comma:
            raise Refused(Status.TOKEN_ID_INVALID)
        account = self._by_token_id.get(token_id)
        if account is None:
            raise Refused(Status.TOKEN_UNKNOWN)
        if account.token != token:
            raise Refused(Status.TOKEN_WRONG)
        return account

    def _note_failure(self, token_id: str, now: float) -> None:
        recent = self._failures.setdefault(token_id, deque())
        recent.append(now)
        while recent[0] <= now - FAILURES_WITHIN:
            recent.popleft()
        if len(recent) >= FAILURES:
            self._blocked_until[token_id] = now + BLOCKED_FOR
            recent.clear()


class DomainCalls:
    """Info.Version, Domain.List, Domain.Info and Domain.Purview."""

    def __init__(self, accounts: Accounts, zones: Zones, page_limit: int) -> None:
        self._accounts = accounts
        self._zones = zones
        self._page_limit = page_limit

    def version(self, account: Account, params: Params) -> Body:
        """Info.Version: the version is the status message, so nothing comes beside it."""
        return {}

    def list_domains(self, account: Account, params: Params) -> Body:
        """Domain.List: a page of the account's domains; their ids are numbers here."""
        offset = params.number("offset", 0, Status.LIST_BAD_OFFSET)
        length = params.number("length", self._page_limit, Status.LIST_BAD_LENGTH, least=1)
        if params.text("type", "all") != "all":
            raise Refused(Status.BAD_PARAMETER)
        page = account.domains[offset : offset + min(length, self._page_limit)]
        if not page and not params.says_no("error_on_empty"):
            raise Refused(Status.NO_DOMAINS)
        return {
            "info": _totals(account),
            "domains": [{**self._facts(domain), "id": domain.id} for domain in page],
        }

    def info(self, account: Account, params: Params) -> Body:
        """Domain.Info: one domain; its id is a string here."""
        return {"domain": self._facts(self._one(account, params))}

    def purview(self, account: Account, params: Params) -> Body:
        """Domain.Purview: what the plan allows, under Chinese names and as strings or numbers."""
        domain = self._one(account, params)
        facts = {
            "记录TTL最低": str(domain.min_ttl),
            "负载均衡数量": domain.records_per_name,
            "子域名级数": str(domain.levels),
            "泛解析级数": domain.levels,
        }
        return {"purview": [{"name": name, "value": value} for name, value in facts.items()]}

    def _one(self, account: Account, params: Params) -> Domain:
        unknown = Status.BAD_DOMAIN if params.text("domain_id") else Status.NO_SUCH_DOMAIN
        return self._accounts.domain(account, params, unknown=unknown, not_owner=Status.NOT_OWNER)

    def _facts(self, domain: Domain) -> dict[str, object]:
        return {
            "id": str(domain.id),
            "name": domain.unicode_name,
            "punycode": domain.name,
            "grade": domain.grade,
            "grade_title": PLANS[domain.grade].title,
            "status": domain.status,
            "ext_status": "",
            "records": str(len(self._zones.records(domain.name))),
            "group_id": "1",
            "is_mark": "no",
            "remark": False,
            "is_vip": "yes" if domain.is_vip else "no",
            "searchengine_push": "yes",
            "created_on": LONG_AGO,
            "updated_on": LONG_AGO,
            "ttl": str(domain.min_ttl),
            "cname_speedup": "disable",
            "owner": domain.owner,
        }


def _totals(account: Account) -> dict[str, int]:
    return {
        "domain_total": len(account.domains),
        "all_total": len(account.domains),
        "mine_total": len(account.domains),
        "share_total": 0,
        "vip_total": sum(domain.is_vip for domain in account.domains),
        "pause_total": sum(domain.status == "pause" for domain in account.domains),
        "lock_total": sum(domain.status == "lock" for domain in account.domains),
        "spam_total": sum(domain.status == "spam" for domain in account.domains),
    }
