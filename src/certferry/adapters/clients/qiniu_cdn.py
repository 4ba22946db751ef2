"""The CDN and DCDN domains of a Qiniu account: found, read, bound (docs/facts/qiniu.md §5)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from certferry.adapters.clients.qiniu import QiniuClient
from certferry.adapters.clients.qiniu_account import QiniuAccount
from certferry.adapters.clients.qiniu_codes import HTTPS_IS_OFF, NO_SUCH_DOMAIN, UNCHANGED
from certferry.adapters.clients.qiniu_details import Details
from certferry.adapters.clients.qiniu_domains import (
    NOT_SERVED_BY_ITSELF,
    SWITCHED_OFF,
    first_conf,
    is_in_force,
    kind_of,
    must_be_at_rest,
    observe,
    unavailable,
    wanted_conf,
)
from certferry.adapters.clients.qiniu_errors import QiniuFailure
from certferry.adapters.clients.qiniu_records import (
    CertificateRecord,
    DomainItem,
    DomainRecord,
    HttpsConf,
)
from certferry.adapters.clients.qiniu_settling import Settler
from certferry.core.certificate import covered_by
from certferry.core.desired import HttpsWish, Kind
from certferry.core.observed import ObservedDomain
from certferry.errors import DeployError, TargetInUse
from certferry.text import Text


class CdnDomains:
    """Raises `QiniuFailure` and `DeployError`."""

    def __init__(
        self, client: QiniuClient, account: QiniuAccount, details: Details, settler: Settler
    ) -> None:
        self._client = client
        self._account = account
        self._details = details
        self._settler = settler

    def names(self) -> frozenset[str]:
        """Give the names of all domains, as certferry spells them."""
        return frozenset(self._account.domains().by_name)

    def has(self, domain: str) -> bool:
        """Tell whether the account has such a domain."""
        return domain in self.names()

    def served_by_themselves(self) -> dict[str, DomainItem]:
        """Give the domains that take a certificate of their own, by name."""
        return {
            name: item
            for name, item in self._account.domains().by_name.items()
            if item.type not in NOT_SERVED_BY_ITSELF
        }

    def found(
        self, domains: Iterable[str], left_out: list[ObservedDomain], *, anew: bool
    ) -> Iterator[ObservedDomain]:
        """Observe domains that are listed, by what was read of them before unless that is to be
        read `anew`.

        These were not named, so one that has just been removed is no trouble, nor is one that is
        switched off at Qiniu: that is added to what is `left_out`. What befalls one of them hides
        no other; only what would befall the next one as well ends the look: refused keys, a rate
        limit, no connection, and silence twice in a row, since each takes minutes.
        """
        was_silent = False
        listed = self.served_by_themselves()
        for domain in domains:
            try:
                record = self._read(domain, anew=anew)
            except QiniuFailure as failure:
                if failure.is_common or (was_silent and failure.silent):
                    raise
                was_silent = failure.silent
                if failure.code not in NO_SUCH_DOMAIN:
                    kind = kind_of(listed[domain]) if domain in listed else Kind.CDN
                    yield unavailable(domain, kind, failure.error)
                continue
            was_silent = False
            found = observe(domain, record)
            if record.operating_state in SWITCHED_OFF:
                left_out.append(found)
            else:
                yield found

    def named(self, domain: str, *, anew: bool) -> ObservedDomain:
        """Observe one domain, which must be there: `NO_SUCH_DOMAIN` says that it is not."""
        return observe(domain, self._read(domain, anew=anew))

    def _read(self, domain: str, *, anew: bool) -> DomainRecord:
        # Also the list may lag behind what another run has just changed.
        return self._details.read_now(domain) if anew else self._details.read(domain)

    def bind(self, domain: str, remote_id: str, https: HttpsWish) -> str | None:
        """Switch HTTPS on, or change it, unless the domain is as wished already; return the
        X-Reqid of the change, where there is one.
        """
        record = self._details.read_now(domain)
        must_be_at_rest(domain, record)
        conf = wanted_conf(record, remote_id, https)
        if is_in_force(record, conf):
            return None
        self._details.forget(domain)
        request_id = self._settler.until_settled(
            lambda: self._change(record, conf, https), lambda: self._is_taken(record, conf)
        )
        self._details.note_change(domain, record)
        return request_id or None

    def must_not_use(self, certificate: CertificateRecord, label: str) -> None:
        """Raise `TargetInUse` for a certificate that a domain which it covers is bound to, as far
        as the domains can be read: Qiniu refuses to remove it as well.
        """
        names = certificate.dnsnames or ()
        for domain in self._account.domains().by_name:
            if covered_by(names, domain) and self._bound(domain) == certificate.certid:
                raise uses(domain, label or certificate.certid)

    def _bound(self, domain: str) -> str | None:
        try:
            return self._details.read(domain).bound
        except QiniuFailure as failure:
            if failure.is_common or failure.silent:
                raise
            return None

    def _change(self, record: DomainRecord, conf: HttpsConf, https: HttpsWish) -> str:
        """Write, choosing the call by what the domain has. One without HTTPS that was read as one
        with it is switched on in the same run (§5.4).
        """
        write = self._client.httpsconf if record.has_https else self._client.sslize
        try:
            return write(record.name, conf)
        except QiniuFailure as failure:
            if failure.code in HTTPS_IS_OFF and record.has_https:
                return self._client.sslize(record.name, first_conf(conf.cert_id, https))
            if failure.code != UNCHANGED:
                raise
        return ""

    def _is_taken(self, before: DomainRecord, conf: HttpsConf) -> str | None:
        """Return a request's id, which is unknown, when a change went through: the domain was at
        rest before, so work means ours.
        """
        now = self._client.read_domain(before.name)
        is_taken = now.operating_state == "processing" or is_in_force(now, conf)
        return "" if is_taken else None


def uses(domain: str, label: str) -> DeployError:
    """Say which domain keeps a certificate."""
    return TargetInUse(
        Text("{domain} is still bound to {label}", domain=domain, label=label),
        hint=Text(
            "this is normal until a change of the domain has come to its end; a later run tries"
            " again"
        ),
    )
