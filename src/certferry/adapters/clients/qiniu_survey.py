"""Looking at an account's CDN domains, one by one: what befalls one of them hides no other.

Only what would befall the next one as well ends the look: refused keys, a rate limit, no
connection, and silence twice in a row, since each takes minutes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator

from certferry.adapters.clients.qiniu import QiniuClient
from certferry.adapters.clients.qiniu_account import QiniuAccount
from certferry.adapters.clients.qiniu_codes import NO_SUCH_DOMAIN
from certferry.adapters.clients.qiniu_domains import (
    NOT_SERVED_BY_ITSELF,
    SWITCHED_OFF,
    name_at_qiniu,
    name_here,
    observe,
)
from certferry.adapters.clients.qiniu_errors import QiniuFailure
from certferry.adapters.clients.qiniu_records import DomainRecord
from certferry.core.desired import Kind
from certferry.core.identifiers import covered_by
from certferry.core.observed import DomainState, ObservedDomain
from certferry.errors import DeployError, TargetRejected
from certferry.text import Text

log = logging.getLogger(__name__)

Found = DomainRecord | QiniuFailure


class Survey:
    """The domains of one account as they are now. Raises `QiniuFailure`."""

    def __init__(self, client: QiniuClient, account: QiniuAccount) -> None:
        self._client = client
        self._account = account

    def covered(self, names: tuple[str, ...]) -> Iterator[ObservedDomain]:
        """Look at every domain that the names cover and that may be served.

        Nobody named these, so one that is switched off at Qiniu, or that has just been removed,
        is nobody's trouble and left out.
        """
        listed = {
            name_here(item.name): item.name
            for item in self._account.domains()
            if item.type not in NOT_SERVED_BY_ITSELF and covered_by(names, name_here(item.name))
        }
        for domain, found in _each(listed, lambda name: self._client.read_domain(listed[name])):
            if isinstance(found, DomainRecord) and found.operating_state in SWITCHED_OFF:
                log.info("%s is left out: it is %s at Qiniu", domain, found.operating_state)
            elif isinstance(found, DomainRecord) or found.code not in NO_SUCH_DOMAIN:
                yield _told(domain, found)

    def named(self, domains: tuple[str, ...]) -> Iterator[ObservedDomain]:
        """Look at these domains."""
        for domain, found in _each(domains, self.read):
            yield _told(domain, found)

    def read(self, domain: str) -> DomainRecord:
        """Read a domain; one that is not a CDN domain is said to be what it is."""
        name = name_at_qiniu(domain)
        try:
            return self._client.read_domain(name)
        except QiniuFailure as failure:
            bucket = self._account.bucket_of(name) if failure.code in NO_SUCH_DOMAIN else None
            if bucket is None:
                raise
            raise QiniuFailure(_is_source(domain, bucket), code=failure.code) from None


def _each(
    domains: Iterable[str], read: Callable[[str], DomainRecord]
) -> Iterator[tuple[str, Found]]:
    """Read one after the other, and give what failed in its place."""
    was_silent = False
    for domain in domains:
        found: Found
        try:
            found = read(domain)
        except QiniuFailure as failure:
            if failure.is_common or (was_silent and failure.silent):
                raise
            found = failure
        was_silent = isinstance(found, QiniuFailure) and found.silent
        yield domain, found


def _told(domain: str, found: Found) -> ObservedDomain:
    if isinstance(found, DomainRecord):
        return observe(domain, found)
    return ObservedDomain(domain, Kind.CDN, DomainState.UNAVAILABLE, problem=found.error)


def _is_source(domain: str, bucket: str) -> DeployError:
    return TargetRejected(
        Text(
            "{domain} is a source domain of the Kodo bucket {bucket}, not a CDN domain",
            domain=domain,
            bucket=bucket,
        ),
        hint=Text(
            "add it in Qiniu's console as a CDN domain, or bind the certificate there under Kodo"
        ),
    )
