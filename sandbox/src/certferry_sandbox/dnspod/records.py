"""The calls about records (docs/facts/dnspod.md §1.5). They write to the zones that servers serve.

Only the default line exists here. Another line, an MX record, and every type outside `TYPES` are
refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import dns.exception

from certferry.values import replace
from certferry_sandbox.dnspod.accounts import Account, Accounts, Domain
from certferry_sandbox.dnspod.answers import LONG_AGO, Body, Params, Refused, Status, in_china
from certferry_sandbox.nameserver.lookup import rdata
from certferry_sandbox.zones import Record, Zones

TYPES = frozenset({"A", "AAAA", "CAA", "CNAME", "NS", "SRV", "TXT"})
MAX_TTL = 604_800  # seconds
LINE_ID = "0"
INFO = {
    **{key: key for key in ("id", "value", "weight", "mx", "ttl", "enabled")},
    **{key: key for key in ("monitor_status", "remark", "updated_on")},
    "sub_domain": "name",
    "record_type": "type",
    "record_line": "line",
    "record_line_id": "line_id",
}
"""The name of each field in Record.Info, and the name of the same field in lists."""
TOO_MANY = {"A": Status.TOO_MANY_A, "CNAME": Status.TOO_MANY_CNAME}
LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")


@dataclass(frozen=True)
class RequestedRecord:
    """The record that a call asks for."""

    name: str
    rtype: str
    value: str
    ttl: int
    enabled: bool


class RecordCalls:
    """Record.List, Record.Info, Record.Create and Record.Remove.

    Lists show a new record only after `index_delay` seconds (§1.7). All other calls see the
    record at once.
    """

    def __init__(
        self,
        accounts: Accounts,
        zones: Zones,
        now: Callable[[], datetime],
        *,
        page_limit: int,
        line: str,
        nameservers: tuple[str, ...],
    ) -> None:
        self.index_delay = 0.0
        self._accounts = accounts
        self._zones = zones
        self._now = now
        self._page_limit = page_limit
        self._line = line
        self._nameservers = nameservers

    def list_records(self, account: Account, params: Params) -> Body:
        """Record.List: return a page of the domain's records, with every value as a string."""
        domain = self._accounts.domain(
            account, params, unknown=Status.BAD_DOMAIN, not_owner=Status.NOT_OWNER_RECORDS
        )
        offset = params.number("offset", 0, Status.RECORDS_BAD_OFFSET)
        length = params.number("length", self._page_limit, Status.RECORDS_BAD_LENGTH, least=1)
        wanted = [r for r in self._indexed(domain) if _is_wanted(r, domain, params)]
        page = wanted[offset : offset + min(length, self._page_limit)]
        if not page and not params.says_no("error_on_empty"):
            raise Refused(Status.NO_RECORDS)
        return {
            "domain": {
                "id": str(domain.id),
                "name": domain.unicode_name,
                "punycode": domain.name,
                "grade": domain.grade,
                "owner": domain.owner,
            },
            "info": {
                "sub_domains": str(len({record.name for record in wanted})),
                "record_total": str(len(wanted)),
                "records_num": str(len(page)),
            },
            "records": [self._facts(record, domain) for record in page],
        }

    def _indexed(self, domain: Domain) -> list[Record]:
        """Return the records in lists.

        The apex has DNSPod's own NS records there, even if the registry delegates the domain to
        other servers.
        """
        moment = self._zones.clock() - self.index_delay
        records = [r for r in self._zones.records(domain.name) if r.created <= moment]
        held = [record for record in records if _is_held(record, domain)]
        own = [
            replace(record, value=f"{host}.")
            for record, host in zip(held, self._nameservers, strict=False)
        ]
        return [*own, *(record for record in records if record not in held)]

    def info(self, account: Account, params: Params) -> Body:
        """Record.Info: return one record, with fewer fields than in lists, and other names.

        Source: the example of 2016 in the vendor's page (DNSPod/dnspod-api-doc,
        source/records.rst).
        """
        domain = self._accounts.domain(
            account, params, unknown=Status.BAD_DOMAIN, not_owner=Status.NOT_OWNER_WRITE
        )
        facts = self._facts(self._record(domain, params), domain)
        return {
            "domain": {"id": domain.id, "domain": domain.name, "domain_grade": domain.grade},
            "record": {
                **{name: facts[listed] for name, listed in INFO.items()},
                "domain_id": str(domain.id),
            },
        }

    def create(self, account: Account, params: Params) -> Body:
        """Record.Create: write a record, and return the record with the id as a string."""
        domain = self._writable(account, params)
        requested = self._requested(domain, params, bad_ttl=Status.CREATE_BAD_TTL)
        self._must_fit(requested, self._zones.records(domain.name, name=requested.name), domain)
        record = self._zones.create(
            requested.name,
            requested.rtype,
            requested.value,
            ttl=requested.ttl,
            zone=domain.name,
            enabled=requested.enabled,
        )
        return {
            "record": {
                "id": str(record.id),
                "name": _sub_domain(record, domain),
                "status": _state(record),
                "weight": None,
            }
        }

    def remove(self, account: Account, params: Params) -> Body:
        """Record.Remove: remove a record, and return an empty body."""
        domain = self._writable(account, params)
        self._zones.remove(self._record(domain, params).id)
        return {}

    def _writable(self, account: Account, params: Params) -> Domain:
        domain = self._accounts.domain(
            account, params, unknown=Status.BAD_DOMAIN, not_owner=Status.NOT_OWNER_WRITE
        )
        if domain.status == "spam":
            raise Refused(Status.DOMAIN_BANNED)
        if domain.status == "lock":
            raise Refused(Status.DOMAIN_LOCKED)
        return domain

    def _record(self, domain: Domain, params: Params) -> Record:
        record_id = params.text("record_id")
        for record in self._zones.records(domain.name):
            if str(record.id) == record_id:
                if _is_held(record, domain):
                    raise Refused(Status.NOT_OWNER_WRITE)
                return record
        raise Refused(Status.BAD_RECORD)

    def _requested(self, domain: Domain, params: Params, *, bad_ttl: Status) -> RequestedRecord:
        self._must_be_default_line(params)
        rtype = params.text("record_type")
        if rtype not in TYPES:
            raise Refused(Status.BAD_TYPE)
        ttl = params.number("ttl", domain.min_ttl, bad_ttl)
        if ttl < domain.min_ttl:
            # Message: tengattack/certbot-dns-dnspod #1, after a TTL of 60 on a free plan.
            raise Refused(bad_ttl, f"Record ttl is limited({domain.min_ttl})")
        if ttl > MAX_TTL:
            raise Refused(bad_ttl)
        state = params.text("status", "enable")
        if state not in {"enable", "disable"}:
            raise Refused(Status.BAD_PARAMETER)
        name = _full_name(params.text("sub_domain", "@").lower(), domain)
        return RequestedRecord(name, rtype, _value(rtype, params), ttl, state == "enable")

    def _must_be_default_line(self, params: Params) -> None:
        """Check the line; a `record_line_id` wins over a `record_line`. Raises Refused."""
        line = params.text("record_line_id") or params.text("record_line")
        if line != (LINE_ID if params.text("record_line_id") else self._line):
            raise Refused(Status.BAD_LINE)

    def _must_fit(self, requested: RequestedRecord, others: list[Record], domain: Domain) -> None:
        same_type = [record for record in others if record.rtype == requested.rtype]
        if any(record.value == requested.value for record in same_type):
            raise Refused(Status.DUPLICATE)
        # A CNAME excludes other records at the same name (RFC 1034 §3.6.2).
        if len(same_type) != len(others) and (
            requested.rtype == "CNAME" or any(record.rtype == "CNAME" for record in others)
        ):
            raise Refused(Status.CONFLICT)
        if len(same_type) >= domain.records_per_name:
            raise Refused(TOO_MANY.get(requested.rtype, Status.TOO_MANY))

    def _facts(self, record: Record, domain: Domain) -> dict[str, object]:
        facts: dict[str, object] = {
            "id": str(record.id),
            "name": _sub_domain(record, domain),
            "line": self._line,
            "line_id": LINE_ID,
            "type": record.rtype,
            "ttl": str(record.ttl),
            "value": record.value,
            "weight": None,
            "mx": "0",
            "enabled": "1" if record.enabled else "0",
            "status": _state(record),
            "monitor_status": "",
            "remark": "",
            "updated_on": self._written_on(record),
            "use_aqb": "no",
        }
        return facts | ({"hold": "hold"} if _is_held(record, domain) else {})

    def _written_on(self, record: Record) -> str:
        if math.isinf(record.since):
            return LONG_AGO
        age = timedelta(seconds=self._zones.clock() - record.since)
        return in_china(self._now() - age)


def _is_wanted(record: Record, domain: Domain, params: Params) -> bool:
    sub_domain = _sub_domain(record, domain)
    return (
        params.text("sub_domain", sub_domain).lower() == sub_domain
        and params.text("record_type", record.rtype) == record.rtype
    )


def _is_held(record: Record, domain: Domain) -> bool:
    """Whether the record is an NS record at the domain's apex."""
    return record.rtype == "NS" and record.name == domain.name


def _state(record: Record) -> str:
    return "enabled" if record.enabled else "disabled"


def _sub_domain(record: Record, domain: Domain) -> str:
    return record.name.removesuffix(domain.name).rstrip(".") or "@"


def _full_name(sub_domain: str, domain: Domain) -> str:
    if sub_domain == "@":
        return domain.name
    first, *rest = labels = sub_domain.split(".")
    if "*" in sub_domain and (first != "*" or "*" in "".join(rest)):
        raise Refused(Status.BAD_WILDCARD)
    if not all(LABEL.fullmatch(label) for label in (rest if first == "*" else labels)):
        raise Refused(Status.BAD_SUB_DOMAIN)
    if len(labels) > domain.levels:
        raise Refused(Status.TOO_MANY_LEVELS)
    return f"{sub_domain}.{domain.name}"


def _value(rtype: str, params: Params) -> str:
    """Return the value of a record. Raises Refused for an empty value or a value that DNS rejects.

    A TXT value stays as written, quotes included.
    """
    value = params.text("value")
    if rtype in {"CNAME", "NS"}:
        value = f"{value.rstrip('.')}."
    try:
        rdata(rtype, value)
    except (dns.exception.DNSException, ValueError):
        raise Refused(Status.BAD_VALUE) from None
    if not value:
        raise Refused(Status.BAD_VALUE)
    return value
