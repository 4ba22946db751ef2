"""The actions of DNSPod at Tencent Cloud's API 3.0 about domains and records.

The source is docs/facts/dnspod.md §2.2. The actions write to the zones that name servers serve.
Only the default line exists here. MX records are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import dns.exception

from certferry_sandbox.dnspod.accounts import Domain
from certferry_sandbox.dnspod.records import LABEL, MAX_TTL, TYPES
from certferry_sandbox.nameserver.lookup import rdata
from certferry_sandbox.tencentcloud.wire import Body, Params, Refused
from certferry_sandbox.zones import Record, Zones

T = TypeVar("T")

MOST = 3000  # items in one answer (§2.2)
LINES = ("默认", "Default")
LINE_ID = "0"


class RecordActions:
    """The actions about the domains of a key's account.

    Lists show a new record only after `index_delay` seconds (§2.2); all other actions see the
    record at once. A list has at most `page_limit` items.
    """

    def __init__(self, zones: Zones, nameservers: Sequence[str]) -> None:
        self.index_delay = 0.0
        self.page_limit = MOST
        self._zones = zones
        self._nameservers = list(nameservers)

    def list_domains(self, domains: Sequence[Domain], params: Params) -> Body:
        """DescribeDomainList: return a page of the account's domains."""
        if params.text("Type", "ALL") != "ALL":
            raise Refused("InvalidParameterValue", "Only ALL is known here.")
        listed = list(domains)
        page = self._page(listed, params, usual=MOST)
        if not page:
            raise Refused("ResourceNotFound.NoDataOfDomain", "There are no domains.")
        counts = {"AllTotal": len(listed), "DomainTotal": len(listed), "MineTotal": len(listed)}
        return {
            "DomainCountInfo": counts,
            "DomainList": [self._as_shown(domain) for domain in page],
        }

    def list_records(self, domains: Sequence[Domain], params: Params) -> Body:
        """DescribeRecordList: return a page of a domain's records."""
        domain = _domain(domains, params)
        host = params.text("Subdomain", "").lower()
        rtype = params.text("RecordType", "")
        on_empty = params.text("ErrorOnEmpty", "yes")
        moment = self._zones.clock() - self.index_delay
        listed = [
            record
            for record in self._zones.records(domain.name)
            if record.created <= moment
            and host in {"", _host(record, domain)}
            and rtype in {"", record.rtype}
        ]
        page = self._page(listed, params, usual=100)
        if not page and on_empty != "no":
            raise Refused("ResourceNotFound.NoDataOfRecord", "There are no records.")
        counts = {"SubdomainCount": len(page), "ListCount": len(page), "TotalCount": len(listed)}
        return {
            "RecordCountInfo": counts,
            "RecordList": [_listed(record, domain) for record in page],
        }

    def read_record(self, domains: Sequence[Domain], params: Params) -> Body:
        """DescribeRecord: return one record, under other field names than in lists."""
        domain = _domain(domains, params)
        record = self._record(domain, params.number("RecordId"))
        params.done()
        shown = {
            "Id": record.id,
            "SubDomain": _host(record, domain),
            "RecordType": record.rtype,
            "RecordLine": LINES[0],
            "RecordLineId": LINE_ID,
            "Value": record.value,
            "TTL": record.ttl,
            "MX": 0,
            "Enabled": 1 if record.enabled else 0,
            "DomainId": domain.id,
        }
        return {"RecordInfo": shown}

    def create(self, domains: Sequence[Domain], params: Params) -> Body:
        """CreateRecord: write a record and return its id."""
        domain = _writable(_domain(domains, params))
        host = params.text("SubDomain", "@").lower()
        rtype = params.text("RecordType")
        line, line_id = params.text("RecordLine"), params.text("RecordLineId", "")
        value, ttl = params.text("Value"), params.number("TTL", domain.min_ttl)
        params.done()
        if line_id not in {"", LINE_ID} or (not line_id and line not in LINES):
            raise Refused("InvalidParameter.RecordLineInvalid", "The line is wrong.")
        if rtype not in TYPES:
            raise Refused("InvalidParameter.RecordTypeInvalid", "The type is wrong.")
        if not domain.min_ttl <= ttl <= MAX_TTL:
            raise Refused("LimitExceeded.RecordTtlLimit", "The TTL is out of range.")
        name = _full_name(host, domain)
        _must_make_sense(rtype, value)
        others = self._zones.records(domain.name, name=name)
        same = [other for other in others if other.rtype == rtype]
        # A CNAME excludes other records (RFC 1034 §3.6.2). The code of the refusal is a guess.
        if len(same) != len(others) and "CNAME" in {rtype, *(other.rtype for other in others)}:
            raise Refused("InvalidParameter.RecordValueInvalid", "Another record excludes it.")
        if any(other.value == value for other in same):
            raise Refused("InvalidParameter.DomainRecordExist", "The record exists already.")
        if len(same) >= domain.records_per_name:
            raise Refused("LimitExceeded.SubdomainRollLimit", "Too many records at this host.")
        record = self._zones.create(name, rtype, value, ttl=ttl, zone=domain.name)
        return {"RecordId": record.id}

    def delete(self, domains: Sequence[Domain], params: Params) -> Body:
        """DeleteRecord: remove a record and return an empty body."""
        domain = _writable(_domain(domains, params))
        record_id = params.number("RecordId")
        params.done()
        self._zones.remove(self._record(domain, record_id).id)
        return {}

    def _page(self, items: list[T], params: Params, *, usual: int) -> list[T]:
        offset, limit = params.number("Offset", 0), params.number("Limit", usual)
        params.done()
        if offset < 0 or not 0 < limit <= MOST:
            raise Refused("InvalidParameterValue.LimitInvalid", "The limit is wrong.")
        return items[offset : offset + min(limit, self.page_limit)]

    def _record(self, domain: Domain, record_id: int) -> Record:
        for record in self._zones.records(domain.name):
            if record.id == record_id and (record.rtype, record.name) != ("NS", domain.name):
                return record
        raise Refused("InvalidParameter.RecordIdInvalid", "The record id is wrong.")

    def _as_shown(self, domain: Domain) -> dict[str, object]:
        return {
            "DomainId": domain.id,
            "Name": domain.unicode_name,
            "Punycode": domain.name,
            "Status": domain.status.upper(),
            "TTL": domain.min_ttl,
            "DNSStatus": "",
            "Grade": domain.grade.upper(),
            "EffectiveDNS": self._nameservers,
            "Owner": domain.owner,
        }


def _domain(domains: Sequence[Domain], params: Params) -> Domain:
    """Return the domain that a call names. `Domain` is mandatory; a `DomainId` wins."""
    name, domain_id = params.text("Domain").lower(), params.number("DomainId", 0)
    for domain in domains:
        if domain.is_meant_by(str(domain_id) if domain_id else "", name):
            return domain
    raise Refused("InvalidParameterValue.DomainNotExists", "There is no such domain.")


def _writable(domain: Domain) -> Domain:
    if domain.status == "spam":
        raise Refused("FailedOperation.DomainIsSpam", "The domain is banned.")
    if domain.status == "lock":
        raise Refused("FailedOperation.DomainIsLocked", "The domain is locked.")
    return domain


def _listed(record: Record, domain: Domain) -> dict[str, object]:
    return {
        "RecordId": record.id,
        "Name": _host(record, domain),
        "Type": record.rtype,
        "Value": record.value,
        "Line": LINES[0],
        "LineId": LINE_ID,
        "TTL": record.ttl,
        "Status": "ENABLE" if record.enabled else "DISABLE",
        "Weight": None,
        "MX": 0,
        "Remark": "",
        "DefaultNS": (record.rtype, record.name) == ("NS", domain.name),
    }


def _host(record: Record, domain: Domain) -> str:
    return record.name.removesuffix(domain.name).rstrip(".") or "@"


def _full_name(host: str, domain: Domain) -> str:
    if host == "@":
        return domain.name
    if not all(LABEL.fullmatch(label) for label in host.split(".")):
        raise Refused("InvalidParameter.SubdomainInvalid", "The host is wrong.")
    if host.count(".") >= domain.levels:
        raise Refused("LimitExceeded.SubdomainLevelLimit", "The host has too many levels.")
    return f"{host}.{domain.name}"


def _must_make_sense(rtype: str, value: str) -> None:
    try:
        rdata(rtype, value)
    except (dns.exception.DNSException, ValueError):
        value = ""
    if not value:
        raise Refused("InvalidParameter.RecordValueInvalid", "The value is wrong.")
