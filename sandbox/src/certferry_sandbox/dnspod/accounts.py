"""The accounts of the DNSPod stand-in: tokens, domains and blocked logins.

The calls about accounts and domains are here too (docs/facts/dnspod.md §1.5).
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

LIMIT_WITHIN = 3600.0  # seconds for which a call counts against the hourly limit


@dataclass(frozen=True)
class Plan:
    """A plan: its Chinese title at DNSPod, and the least TTL of a record, in seconds."""

    title: str
    min_ttl: int


# Titles: the reference of Domain.List, field `grade`. Least TTLs: 600 for free plans, 60 for
# professional plans, 1 for enterprise plans. The TTLs of the old plans (D_…) are a guess.
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
    """A domain of an account. The zone of the same name has the records.

    `status` is enable, pause, spam or lock. The plan allows `records_per_name` records of one
    type at one name, and names with `levels` labels left of the domain.
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
        """The domain's name in Unicode."""
        return idna.decode(self.name)

    @property
    def is_vip(self) -> bool:
        """Whether the plan is paid."""
        return not self.grade.endswith("_Free")

    def is_meant_by(self, domain_id: str, name: str) -> bool:
        """Whether the id means this domain; without an id, the name in Unicode or A-labels."""
        if domain_id:
            return domain_id == str(self.id)
        return name.lower() in {self.name, self.unicode_name}


@dataclass
class Account:
    """An account with one API token. The domains are in the order of their addition.

    `calls` has the moments of the calls that count against the hourly limit.
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
        """Return a new id for a domain."""
        return next(self._domain_ids)

    def first(self) -> Account:
        """Return the account that was opened first. Raises LookupError without an account."""
        for account in self._by_token_id.values():
            return account
        raise LookupError("no account has been added")

    def domain(
        self, account: Account, params: Params, *, unknown: Status, not_owner: Status
    ) -> Domain:
        """Return the account's domain with the call's `domain_id`, or else with the `domain` name.

        Raises Refused: `unknown` if no account has the domain, `not_owner` if another account has.
        """
        for owner in (account, *self._by_token_id.values()):
            for domain in owner.domains:
                if domain.is_meant_by(params.text("domain_id"), params.text("domain")):
                    if owner is not account:
                        raise Refused(not_owner)
                    return domain
        raise Refused(unknown)

    def login(self, params: Params) -> Account:
        """Return the account of a login token.

        Raises Refused. A token id with too many failures gets -8 for an hour.
        """
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
        """Count a call. Raises Refused with -2 above the hourly limit; the call still counts."""
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
        """Info.Version: return an empty body, because the status message is the version."""
        return {}

    def list_domains(self, account: Account, params: Params) -> Body:
        """Domain.List: return a page of the account's domains, with ids as numbers."""
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
        """Domain.Info: return one domain, with the id as a string."""
        return {"domain": self._facts(self._one(account, params))}

    def purview(self, account: Account, params: Params) -> Body:
        """Domain.Purview: return the plan's limits, by Chinese names, as strings or numbers."""
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
