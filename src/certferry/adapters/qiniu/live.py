"""The live domains of an account's Pili hubs: found, bound, kept (docs/facts/qiniu.md §7).

Pili binds a certificate by the name that it was uploaded under. A change has no state of its own:
the edges show when it is done. No document says that Qiniu keeps a certificate that a live domain
is bound to, so that is checked before a removal.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus

from certferry.adapters.qiniu.account import (
    LIST_AGE,
    SOURCES_AGE,
    QiniuAccount,
    Settler,
    TtlCache,
)
from certferry.adapters.qiniu.client import LiveRecord, PiliClient
from certferry.adapters.qiniu.errors import NO_SUCH_DOMAIN, QiniuFailure
from certferry.adapters.qiniu.kinds import PILI
from certferry.adapters.qiniu.records import CertificateRecord
from certferry.core.certificates.certificate import short
from certferry.core.discovery.survey import FoundDomain
from certferry.core.observed.observation import DomainState, ObservedDomain
from certferry.errors import CopyGone, DeployError, TargetInUse, TargetRejected
from certferry.text import Text

log = logging.getLogger(__name__)

_NOT_THERE = NO_SUCH_DOMAIN | {HTTPStatus.NOT_FOUND}
"""What Pili says of a hub or a domain that is not there [G]; the words are in its SDK's tests."""


@dataclass(frozen=True, slots=True)
class LiveDomain:
    """A domain as its hub's list has it, or had it when that could last be read: `is_old`."""

    hub: str
    record: LiveRecord
    is_old: bool = False

    @property
    def hides_binding(self) -> bool:
        """Whether its certificate is not known."""
        return self.is_old or self.record.hides_binding

    @property
    def is_for_rtmp(self) -> bool:
        """Whether it speaks RTMP, and has no certificate that could expire or be seen [G]."""
        return self.record.speaks_rtmp and not self.record.cert_enable


@dataclass(frozen=True, slots=True)
class Live:
    """The live domains of an account by name. `failure` says why there may be more: some hubs, or
    all, could not be looked at.
    """

    domains: Mapping[str, LiveDomain]
    failure: QiniuFailure | None = None


class LiveDomains:
    """The live domains of one account. Raises `QiniuFailure` and `DeployError`. `clock` counts
    seconds and never goes back.
    """

    def __init__(
        self,
        client: PiliClient,
        account: QiniuAccount,
        settler: Settler,
        clock: Callable[[], float],
    ) -> None:
        self._client = client
        self._account = account
        self._settler = settler
        self._seen: Mapping[str, LiveDomain] = {}
        self._hubs = TtlCache(self._list_hubs, SOURCES_AGE, clock)
        self._domains = TtlCache(self._list_domains, LIST_AGE, clock)

    def forget(self) -> None:
        """Have the next look read the domains: another run may have changed them."""
        self._domains.forget()

    def all(self) -> Live:
        """Return the live domains, as far as the keys may see them."""
        return self._domains.get()

    @property
    def failure(self) -> QiniuFailure | None:
        """Why there may be more of them; `None` where there is no Pili to ask."""
        return self.all().failure if self._client.is_there else None

    def hub_of(self, domain: str) -> str | None:
        """Return the hub of a domain, `None` where none that can be seen has it."""
        found = self.all().domains.get(domain)
        return None if found is None else found.hub

    def served_by_themselves(self) -> list[str]:
        """Return the names of the domains that may have a certificate, which one for RTMP alone
        has not.
        """
        found = self.all().domains.items()
        for name, domain in found:
            if domain.is_for_rtmp:
                log.info("%s is left out: it is for RTMP (%s)", name, domain.record.type)
        return [name for name, domain in found if not domain.is_for_rtmp]

    def found(self, domains: Iterable[str]) -> Iterator[ObservedDomain]:
        """Observe domains that are listed."""
        listed = self.all().domains
        return (self._observed(name, listed[name]) for name in domains if name in listed)

    def named(self, domain: str) -> ObservedDomain | None:
        """Observe one domain, `None` where no hub that can be seen has it."""
        found = self.all().domains.get(domain)
        return None if found is None else self._observed(domain, found)

    def bind(self, domain: str, remote_id: str) -> str | None:
        """Bind a domain, unless it is bound so already; return the X-Reqid of the change, where
        there is one. A live domain has no settings.
        """
        live = self.all()
        found = live.domains.get(domain)
        if found is None:
            raise live.failure or QiniuFailure(is_gone(domain))
        certificate = self._certificate(remote_id)
        record = self._read(found.hub, domain)
        if record.disable:
            raise is_disabled(domain)
        if record.bound in _spellings(certificate):
            return None
        request_id = self._settler.until_settled(
            lambda: self._bind(found.hub, domain, certificate),
            lambda: self._is_bound(found.hub, domain, certificate),
        )
        self._domains.forget()
        return request_id or None

    def survey(self, certificates: Mapping[str, CertificateRecord]) -> Iterator[FoundDomain]:
        """Find every domain, and what it is bound to. What is for RTMP alone says so."""
        for name, found in self.all().domains.items():
            bound = _certificate_of(found.record, certificates)
            yield FoundDomain(
                domain=name,
                kind=PILI,
                has_https=bool(found.record.bound or found.record.hides_binding),
                # A name that is none of the account's stands for itself.
                bound=found.record.bound if bound is None else bound.certid,
                binding_hidden=found.hides_binding,
                problem=_for_rtmp(name) if found.is_for_rtmp else None,
                by_itself=not found.is_for_rtmp,
            )

    def must_not_use(self, remote_id: str, label: str, *, unmanaged: bool) -> None:
        """Raise `TargetInUse` for a certificate that a live domain is bound to, or may be. One of
        ours, by an account that may not see Pili, is not.
        """
        live = self.all()
        for name, found in live.domains.items():
            if found.record.bound in {remote_id, label} - {""}:
                raise live_domain_uses(name, label or remote_id)
            if unmanaged and found.hides_binding:
                raise may_be_used(label or remote_id, hides_binding(name))
        failure = self.failure
        if failure is not None and (unmanaged or not _says_there_is_no_right(failure)):
            raise may_be_used(label or remote_id, failure.error)

    def _observed(self, domain: str, found: LiveDomain) -> ObservedDomain:
        observed = ObservedDomain(
            domain=domain,
            kind=PILI,
            state=DomainState.READY,
            binding_hidden=found.hides_binding,
            has_settings=False,
        )
        if found.hides_binding or found.record.bound is None:
            return observed
        try:
            certificate = _certificate_of(found.record, self._account.certificates())
        except QiniuFailure as failure:
            if failure.is_common:
                raise
            return replace(observed, binding_hidden=True)
        # A name that is none of the account's stands for itself.
        bound = found.record.bound if certificate is None else certificate.certid
        return replace(observed, bound=bound)

    def _certificate(self, remote_id: str) -> CertificateRecord:
        listed = self._account.certificates().get(remote_id)
        found = listed or self._account.certificates(anew=True).get(remote_id)
        if found is None:
            raise copy_is_gone(remote_id)
        return found

    def _read(self, hub: str, domain: str) -> LiveRecord:
        try:
            return self._client.read_domain(hub, domain)
        except QiniuFailure as failure:
            raise self._explained(failure, hub, domain) from None

    def _is_bound(self, hub: str, domain: str, certificate: CertificateRecord) -> str | None:
        """Return a request's id, which is unknown, when a change went through."""
        return "" if self._read(hub, domain).bound in _spellings(certificate) else None

    def _bind(self, hub: str, domain: str, certificate: CertificateRecord) -> str:
        """Write by name, and by id where Pili knows no certificate of that name: the documents'
        sample looks like an id, and a widespread client sends the name (§7).
        """
        try:
            return self._client.bind(hub, domain, certificate.name or certificate.certid)
        except QiniuFailure as failure:
            if not _is_about_the_certificate(failure):
                raise self._explained(failure, hub, domain) from None
            try:
                return self._client.bind(hub, domain, certificate.certid)
            except QiniuFailure as again:
                raise (again if again.maybe_done else failure) from None

    def _explained(self, failure: QiniuFailure, hub: str, domain: str) -> QiniuFailure:
        """Return what is gone, where Pili says so, and have the lists read anew."""
        if failure.code not in _NOT_THERE:
            return failure
        self._hubs.forget()
        self._domains.forget()
        gone = hub if "hub" in failure.words.lower() else None
        return QiniuFailure(is_gone(domain, gone), code=failure.code, words=failure.words)

    def _list_hubs(self) -> tuple[list[str], QiniuFailure | None]:
        if not self._client.is_there:
            return [], QiniuFailure(no_address())
        try:
            return self._client.list_hubs(), None
        except QiniuFailure as failure:
            return [], failure

    def _list_domains(self) -> Live:
        """List the domains of every hub. One that is read no more keeps those that it had: a domain
        that a run waits for must not vanish because Pili fails for a moment.
        """
        hubs, failure = self._hubs.get()
        settled: set[str] = set()
        read: dict[str, LiveDomain] = {}
        for hub in hubs:
            try:
                records = self._client.list_domains(hub)
            except QiniuFailure as unread:
                if unread.code in _NOT_THERE:  # removed a moment ago
                    settled.add(hub)
                    continue
                failure = unread
                if unread.silent or (unread.is_common and not unread.is_denied):
                    break
            else:
                settled.add(hub)
                read.update((one.domain.lower(), LiveDomain(hub, one)) for one in records)
        if failure is not None:
            log.info("Pili's live domains cannot all be listed: %s", failure)
            earlier = self._seen.items()
            kept = {n: replace(d, is_old=True) for n, d in earlier if d.hub not in settled}
            read = {**kept, **read}
        self._seen = read
        return Live(self._seen, failure)


def _certificate_of(
    record: LiveRecord, certificates: Mapping[str, CertificateRecord]
) -> CertificateRecord | None:
    """Find the certificate that a domain names: of several copies the oldest, as for uploads."""
    if record.bound is None:
        return None
    named = (one for one in certificates.values() if record.bound in _spellings(one))
    return min(named, key=lambda one: (one.create_time or 0, one.certid), default=None)


def _spellings(certificate: CertificateRecord) -> frozenset[str]:
    """Return what Pili may call a certificate."""
    return frozenset({certificate.name or certificate.certid, certificate.certid})


def _says_there_is_no_right(failure: QiniuFailure) -> bool:
    """Return whether Pili is not for this account, or not for these keys."""
    return failure.is_denied or failure.code in _NOT_THERE


def _is_about_the_certificate(failure: QiniuFailure) -> bool:
    """Return whether a refusal is about the certificate [G]: the words are in no document."""
    return not failure.maybe_done and "cert" in failure.words.lower()


def _for_rtmp(domain: str) -> DeployError:
    return TargetRejected(Text("{domain} is for RTMP, and has no HTTPS", domain=domain))


def _rejected(sentence: Text, hint: Text, **values: object) -> DeployError:
    return TargetRejected(sentence.filled(**values), hint=hint)


def is_gone(domain: str, hub: str | None = None) -> DeployError:
    """Return the error for a domain, or its hub, that Pili has no longer."""
    hint = Text(
        "it was removed at Qiniu; put it back in Qiniu's console (直播云), or take the domain"
        " out of `domains`"
    )
    if hub is None:
        return _rejected(Text("the live domain {domain} is gone from Pili"), hint, domain=domain)
    sentence = Text("the Pili hub {hub} is gone, and {domain} with it")
    return _rejected(sentence, hint, hub=hub, domain=domain)


def is_disabled(domain: str) -> DeployError:
    """Return the error for a domain that is switched off."""
    hint = Text("enable it in Qiniu's console (直播云), or take it out of `domains`")
    return _rejected(Text("{domain} is disabled at Pili"), hint, domain=domain)


def no_address() -> DeployError:
    """Return the error for an account without an address of Pili's."""
    return TargetRejected(
        Text("no address of Pili is known for this account, whose `api` is another than Qiniu's"),
        hint=Text("set `pili` of the account as well"),
    )


def copy_is_gone(remote_id: str) -> DeployError:
    """Return the error for a certificate that cannot be bound by name."""
    return CopyGone(
        Text("there is no certificate {id} at Qiniu any more", id=short(remote_id)),
        hint=Text("the certificate was removed at Qiniu; the next run uploads it again"),
    )


def live_domain_uses(domain: str, label: str) -> DeployError:
    """Return the error for a certificate that a live domain is bound to."""
    return TargetInUse(
        Text("the live domain {domain} of Pili still uses {label}", domain=domain, label=label),
        hint=Text("bind the live domain to another certificate; a later run tries again"),
    )


def hides_binding(domain: str) -> DeployError:
    """Return the error for a domain whose certificate Pili does not name."""
    hint = Text("look at the domain in Qiniu's console (直播云), and remove what is unused there")
    return _rejected(Text("Pili does not name the certificate of {domain}"), hint, domain=domain)


def may_be_used(label: str, problem: DeployError) -> DeployError:
    """Return the error for a certificate that a live domain may be bound to."""
    sentence = Text("whether a live domain of Pili uses {label} cannot be seen: {problem}")
    return TargetInUse(sentence.filled(label=label, problem=problem.message), hint=problem.hint)
