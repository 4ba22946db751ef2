"""The CDN and DCDN domains of a Qiniu account: found, read, bound (Qiniu fact sheet §5)."""

from __future__ import annotations

from collections.abc import Iterator

from certferry.adapters.clients.qiniu import QiniuClient
from certferry.adapters.clients.qiniu_account import QiniuAccount
from certferry.adapters.clients.qiniu_codes import NO_SUCH_DOMAIN, UNCHANGED
from certferry.adapters.clients.qiniu_domains import (
    NOT_SERVED_BY_ITSELF,
    is_in_force,
    must_be_at_rest,
    name_at_qiniu,
    name_here,
    observe,
    unavailable,
    wanted_conf,
)
from certferry.adapters.clients.qiniu_errors import QiniuFailure
from certferry.adapters.clients.qiniu_records import DomainRecord, HttpsConf
from certferry.adapters.clients.qiniu_settling import Settler
from certferry.core.desired import HttpsWish, Kind
from certferry.core.identifiers import covered_by
from certferry.core.observed import ObservedDomain


class CdnDomains:
    """Raises `QiniuFailure` and `DeployError`."""

    def __init__(self, client: QiniuClient, account: QiniuAccount, settler: Settler) -> None:
        self._client = client
        self._account = account
        self._settler = settler

    def names(self) -> frozenset[str]:
        """Give the names of all domains, as certferry spells them."""
        return frozenset(name_here(item.name) for item in self._account.domains())

    def has(self, domain: str) -> bool:
        """Tell whether the account has such a domain."""
        return domain in self.names()

    def covered(self, names: tuple[str, ...]) -> Iterator[ObservedDomain]:
        """Observe every domain that the names cover and that takes a certificate."""
        for item in self._account.domains():
            domain = name_here(item.name)
            if item.type in NOT_SERVED_BY_ITSELF or not covered_by(names, domain):
                continue
            try:
                record = self._client.read_domain(item.name)
            except QiniuFailure as failure:
                # Removed a moment ago, and nobody asked for it by name.
                if failure.code in NO_SUCH_DOMAIN:
                    continue
                yield unavailable(domain, Kind.CDN, failure.error)
            else:
                yield observe(domain, record)

    def named(self, domain: str) -> ObservedDomain:
        """Observe one domain, which must be there: `NO_SUCH_DOMAIN` says that it is not."""
        try:
            record = self._client.read_domain(name_at_qiniu(domain))
        except QiniuFailure as failure:
            if failure.code in NO_SUCH_DOMAIN:
                raise
            return unavailable(domain, Kind.CDN, failure.error)
        return observe(domain, record)

    def bind(self, domain: str, remote_id: str, https: HttpsWish) -> None:
        """Switch HTTPS on, or change it, unless the domain is as wished already."""
        record = self._client.read_domain(name_at_qiniu(domain))
        must_be_at_rest(domain, record)
        conf = wanted_conf(record, remote_id, https)
        if not is_in_force(record, conf):
            self._settler.until_settled(
                lambda: self._change(record, conf), lambda: self._is_taken(record, conf)
            )

    def _change(self, record: DomainRecord, conf: HttpsConf) -> bool:
        """Write, choosing the call by what the domain has: neither stands in for the other."""
        write = self._client.sslize if record.bound is None else self._client.httpsconf
        try:
            write(record.name, conf)
        except QiniuFailure as failure:
            if failure.code != UNCHANGED:
                raise
        return True

    def _is_taken(self, before: DomainRecord, conf: HttpsConf) -> bool | None:
        """Whether a change went through: the domain was at rest before, so work means ours."""
        now = self._client.read_domain(before.name)
        return now.operating_state == "processing" or is_in_force(now, conf) or None
