"""The calls about the account and its domains (docs/facts/dnspod.md §1.5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from certferry_sandbox.dnspod_accounts import PLANS, Account, Accounts, Domain
from certferry_sandbox.dnspod_answers import LONG_AGO, Body, Refused, Status
from certferry_sandbox.dnspod_params import Params
from certferry_sandbox.zones import Zones

CHOICES: Mapping[str, Callable[[Domain], bool]] = {  # Domain.List's `type`
    "all": lambda _: True,
    "mine": lambda _: True,
    "pause": lambda domain: domain.status == "pause",
    "vip": lambda domain: domain.is_vip,
    "share": lambda _: False,
    "ismark": lambda _: False,
    "recent": lambda _: True,
    "share_out": lambda _: False,
}


class DomainCalls:
    """Info.Version, User.Detail, Domain.List, Domain.Info and Domain.Purview."""

    def __init__(self, accounts: Accounts, zones: Zones, page_limit: int) -> None:
        self._accounts = accounts
        self._zones = zones
        self._page_limit = page_limit

    def version(self, account: Account, params: Params) -> Body:
        """Info.Version: the version is the status message, so nothing comes beside it."""
        return {}

    def user(self, account: Account, params: Params) -> Body:
        """User.Detail: who the token belongs to."""
        user = {
            "id": str(account.user_id),
            "email": account.email,
            "status": "enabled",
            "user_type": "personal",
            "user_grade": "Free",
            "email_verified": "yes",
            "balance": 0,
        }
        return {"info": {"user": user}}

    def list_domains(self, account: Account, params: Params) -> Body:
        """Domain.List: a page of the account's domains; their ids are numbers here."""
        offset = params.number("offset", 0, Status.LIST_BAD_OFFSET)
        length = params.number("length", self._page_limit, Status.LIST_BAD_LENGTH, least=1)
        wanted = _wanted(account, params)
        page = wanted[offset : offset + min(length, self._page_limit)]
        if not page and not params.says_no("error_on_empty"):
            raise Refused(Status.NO_DOMAINS)
        return {
            "info": _totals(account, wanted),
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


def _wanted(account: Account, params: Params) -> list[Domain]:
    choice = params.text("type", "all")
    if choice not in CHOICES:
        raise Refused(Status.BAD_PARAMETER)
    keyword = params.text("keyword").lower()
    return [
        domain
        for domain in account.domains
        if CHOICES[choice](domain) and (keyword in domain.name or keyword in domain.unicode_name)
    ]


def _totals(account: Account, wanted: list[Domain]) -> dict[str, int]:
    return {
        "domain_total": len(wanted),
        "all_total": len(account.domains),
        "mine_total": len(account.domains),
        "share_total": 0,
        "vip_total": sum(domain.is_vip for domain in account.domains),
        "pause_total": sum(domain.status == "pause" for domain in account.domains),
        "lock_total": sum(domain.status == "lock" for domain in account.domains),
        "spam_total": sum(domain.status == "spam" for domain in account.domains),
    }
