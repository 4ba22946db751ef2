"""A stand-in for Alibaba Cloud DNS's RPC API. It writes to the zones that the name servers serve.

Calls, parameters, pages and error codes follow the vendor's documents (help.aliyun.com, Alibaba
Cloud DNS and the OpenAPI gateway). The message of QuotaExceeded.TTL is from memory. The stand-in
refuses a parameter that a call does not have; the real service is more lenient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import idna

from certferry_sandbox.aliyun.gateway import (
    PAGES,
    Account,
    Accounts,
    Api,
    Body,
    Endpoint,
    Now,
    Params,
    Refused,
)
from certferry_sandbox.zones import Record, Zones

NAMESERVERS = ("dns1.hichina.com", "dns2.hichina.com")
LEAST_TTL, MOST_TTL = 600, 86_400  # seconds, of the free plan
TYPES = frozenset({"A", "AAAA", "CAA", "CNAME", "NS", "SRV", "TXT"})
API = Api(
    "Alidns",
    "alidns.aliyuncs.com",
    "2015-01-09",
    "alidns",
    {
        "DescribeDomains": PAGES | {"KeyWord", "GroupId", "SearchMode", "ResourceGroupId"},
        "DescribeSubDomainRecords": PAGES | {"SubDomain", "DomainName", "Type", "Line"},
        "DescribeDomainRecordInfo": frozenset({"RecordId"}),
        "AddDomainRecord": frozenset(
            {"DomainName", "RR", "Type", "Value", "TTL", "Priority", "Line"}
        ),
        "DeleteDomainRecord": frozenset({"RecordId"}),
    },
    writes=frozenset({"AddDomainRecord", "DeleteDomainRecord"}),
)


@dataclass(frozen=True)
class Domain:
    """A domain of an account, named in A-labels. The zone of the same name has the records."""

    name: str
    owner: str

    @property
    def shown_name(self) -> str:
        """The domain's name in Unicode."""
        return idna.decode(self.name)


class AlidnsService(Endpoint):
    """Alibaba Cloud DNS on loopback, in plain HTTP.

    Calls that read see a new record only after `index_delay` seconds of the zones' clock. With
    `forgets_records`, the stand-in accepts new records and writes none. `accounts` may be shared
    with other products. `nameservers` are the hosts that the account names for its domains.
    """

    def __init__(
        self,
        zones: Zones,
        *,
        now: Now = lambda: datetime.now(UTC),
        accounts: Accounts | None = None,
        nameservers: Sequence[str] = NAMESERVERS,
    ) -> None:
        super().__init__(API, accounts or Accounts(), now=now)
        self._nameservers = tuple(nameservers)
        self.index_delay = 0.0
        self.forgets_records = False
        self._zones = zones
        self._domains: list[Domain] = []
        self.actions = {
            "DescribeDomains": self._describe_domains,
            "DescribeSubDomainRecords": self._describe_sub_domain_records,
            "DescribeDomainRecordInfo": self._describe_record,
            "AddDomainRecord": self._add,
            "DeleteDomainRecord": self._delete,
        }

    def add_account(
        self, key_id: str, secret: str, *, allowed: Sequence[str] | None = None
    ) -> Account:
        """Open an account. `add_domain` uses the first account by default."""
        policy = None if allowed is None else frozenset(allowed)
        return self._accounts.add(Account(key_id, secret, policy))

    def add_domain(self, name: str, *, account: Account | None = None) -> Domain:
        """Put a domain (in Unicode or A-labels) into an account, and add the zone if missing."""
        owner = account or self._accounts.first()
        domain = Domain(idna.encode(name, uts46=True).decode(), owner.uid)
        with self._lock:
            if domain.name not in {zone.name for zone in self._zones.zones_above(domain.name)}:
                self._zones.add_zone(domain.name, self._nameservers)
            self._domains.append(domain)
        return domain

    def _describe_domains(self, account: Account, params: Params) -> Body:
        domains = [domain for domain in self._domains if domain.owner == account.uid]
        page, whole = params.page(domains, most=100)
        items = [
            {
                "DomainId": f"00efd71a-770e-4255-b54e-{index:012x}",
                "DomainName": domain.shown_name,
                "PunyCode": domain.name,
                "AliDomain": True,
                "VersionCode": "mianfei",
                "DnsServers": {"DnsServer": list(self._nameservers)},
            }
            for index, domain in enumerate(page)
        ]
        return {"Domains": {"Domain": items}, **whole}

    def _describe_sub_domain_records(self, account: Account, params: Params) -> Body:
        name = params.required("SubDomain").lower()
        domain = self._domain(account, params.text("DomainName") or ".".join(name.split(".")[-2:]))
        spelt = params.text("DomainName") or domain.name
        if name != spelt and not name.endswith(f".{spelt}"):
            raise Refused("InvalidDomainName.Format", "Invalid domain name.")
        name = name.removesuffix(spelt) + domain.name
        wanted = params.text("Type")
        records = [
            record
            for record in self._shown(domain)
            if record.name == name and wanted in {"", record.rtype}
        ]
        page, whole = params.page(records, most=500)
        return {"DomainRecords": {"Record": [_facts(record, domain) for record in page]}, **whole}

    def _describe_record(self, account: Account, params: Params) -> Body:
        record, domain = self._record(account, params)
        if record not in self._shown(domain):
            raise _not_theirs()
        return {**_facts(record, domain), "PunyCode": domain.name}

    def _add(self, account: Account, params: Params) -> Body:
        domain = self._domain(account, params.required("DomainName"))
        rtype, value = params.required("Type"), params.required("Value")
        host = params.required("RR").lower()
        ttl = params.number("TTL", LEAST_TTL, least=1)
        if rtype not in TYPES or params.text("Line") not in {"", "default"}:
            raise Refused("InvalidParameter", "The specified parameter is not valid.")
        if not LEAST_TTL <= ttl <= MOST_TTL:
            raise Refused("QuotaExceeded.TTL", f"TTL must be in [{LEAST_TTL},{MOST_TTL}].")
        name = domain.name if host == "@" else f"{host}.{domain.name}"
        self._must_fit(domain, name, rtype, value)
        if self.forgets_records:
            return {"RecordId": "9999985"}
        record = self._zones.create(name, rtype, value, ttl=ttl, zone=domain.name)
        return {"RecordId": str(record.id)}

    def _must_fit(self, domain: Domain, name: str, rtype: str, value: str) -> None:
        others = self._zones.records(domain.name, name=name)
        if any((other.rtype, other.value) == (rtype, value) for other in others):
            raise Refused("DomainRecordDuplicate", "The DNS record already exists.")
        if others and "CNAME" in {rtype, *(other.rtype for other in others)}:
            raise Refused("DomainRecordConflict", "The DNS record conflicts with other records.")

    def _delete(self, account: Account, params: Params) -> Body:
        record, _ = self._record(account, params)
        self._zones.remove(record.id)
        return {"RecordId": str(record.id)}

    def _domain(self, account: Account, name: str) -> Domain:
        named = [
            domain for domain in self._domains if name.lower() in {domain.name, domain.shown_name}
        ]
        if not named:
            raise Refused("InvalidDomainName.NoExist", "The specified domain name does not exist.")
        for domain in named:
            if domain.owner == account.uid:
                return domain
        raise Refused("IncorrectDomainUser", "The domain name does not belong to this user.")

    def _record(self, account: Account, params: Params) -> tuple[Record, Domain]:
        record_id = params.required("RecordId")
        for domain in self._domains:
            for record in self._zones.records(domain.name):
                if str(record.id) == record_id and domain.owner == account.uid:
                    return record, domain
        raise _not_theirs()

    def _shown(self, domain: Domain) -> list[Record]:
        moment = self._zones.clock() - self.index_delay
        return [r for r in self._zones.records(domain.name) if r.created <= moment]


def _not_theirs() -> Refused:
    return Refused("DomainRecordNotBelongToUser", "The domain record does not belong to this user.")


def _facts(record: Record, domain: Domain) -> dict[str, object]:
    return {
        "RecordId": str(record.id),
        "DomainName": domain.shown_name,
        "RR": record.name.removesuffix(domain.name).rstrip(".") or "@",
        "Type": record.rtype,
        "Value": record.value,
        "TTL": record.ttl,
        "Line": "default",
        "Status": "ENABLE" if record.enabled else "DISABLE",
        "Locked": False,
        "Weight": 1,
    }
