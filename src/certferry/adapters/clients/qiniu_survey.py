"""Everything that a Qiniu account serves, with any certificates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

from certferry.adapters.clients.qiniu import QiniuClient
from certferry.adapters.clients.qiniu_account import QiniuAccount, Sources
from certferry.adapters.clients.qiniu_codes import NO_SUCH_DOMAIN
from certferry.adapters.clients.qiniu_domains import (
    NOT_SERVED_BY_ITSELF,
    kind_of,
    name_here,
    why_unusable,
)
from certferry.adapters.clients.qiniu_errors import QiniuFailure
from certferry.adapters.clients.qiniu_kinds import KODO
from certferry.adapters.clients.qiniu_live import LiveDomains
from certferry.adapters.clients.qiniu_records import CertificateRecord, DomainItem
from certferry.adapters.clients.qiniu_sources import why_frozen
from certferry.core.survey import FoundDomain, Survey
from certferry.ports.survey import Looked

Certificates = Mapping[str, CertificateRecord]


class Surveyor:
    """Lists the domains of an account. Raises `QiniuFailure`."""

    def __init__(self, client: QiniuClient, account: QiniuAccount, live: LiveDomains) -> None:
        self._client = client
        self._live = live
        self._account = account

    def survey(self, looked: Looked) -> Survey:
        """Read every domain, and the certificates' dates."""
        certificates = self._account.certificates()
        sources, failure = self._sources(certificates)
        found = {domain.domain: domain for domain in (*self._live.survey(certificates), *sources)}
        failure = failure or self._live.failure
        items = self._account.domains().by_name.values()
        for count, item in enumerate(items, start=1):
            # What other parts of Qiniu know as well is a CDN domain (Qiniu fact sheet §6).
            if (domain := self._cdn(item, certificates)) is not None:
                found[domain.domain] = domain
            looked(count, len(items))
        return Survey(tuple(found.values()), None if failure is None else failure.error)

    def _cdn(self, item: DomainItem, certificates: Certificates) -> FoundDomain | None:
        name = name_here(item.name)
        by_itself = item.type not in NOT_SERVED_BY_ITSELF
        try:
            record = self._client.read_domain(item.name)
        except QiniuFailure as failure:
            if failure.code in NO_SUCH_DOMAIN:  # removed a moment ago
                return None
            if failure.is_common or failure.silent:
                raise
            problem = failure.error.message
            return FoundDomain(name, kind_of(item), problem=problem, by_itself=by_itself)
        unusable = why_unusable(name, record)
        return FoundDomain(
            domain=name,
            kind=kind_of(record),
            has_https=record.bound is not None,
            not_after=_end(record.bound, certificates),
            problem=None if unusable is None else unusable.message,
            by_itself=by_itself,
        )

    def _sources(self, certificates: Certificates) -> tuple[list[FoundDomain], QiniuFailure | None]:
        """Read the source domains, as far as the keys may see them."""
        sources = self._account.sources()
        try:
            bindings = self._account.bindings() if sources.domains else {}
        except QiniuFailure as failure:
            return list(_found(sources, {}, certificates)), failure
        return list(_found(sources, bindings, certificates)), sources.failure


def _found(
    sources: Sources, bindings: Mapping[str, str], certificates: Certificates
) -> Iterator[FoundDomain]:
    for name, source in sources.domains.items():
        frozen = why_frozen(name, source)
        yield FoundDomain(
            domain=name,
            kind=KODO,
            has_https=name in bindings,
            not_after=_end(bindings.get(name), certificates),
            problem=None if frozen is None else frozen.message,
        )


def _end(certificate_id: str | None, certificates: Certificates) -> datetime | None:
    record = certificates.get(certificate_id or "")
    return None if record is None else record.ends
