"""Source domains of Kodo's buckets and live domains of Pili's hubs: listed, observed and bound
(docs/facts/qiniu.md §6, §7).

Both kinds have no settings besides the certificate. A change has no state to wait for: reading the
binding back shows the change, and the edges show the effect. Binding a source domain is
undocumented. Qiniu may agree to remove a certificate still bound to a live domain, so
`must_not_use` checks the live domains before a removal.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from typing import Generic, TypeVar

from msgspec import Struct, field

from certferry.adapters.cdn.answers import name_here, shown_name, with_leading_dot
from certferry.adapters.cdn.caches import LIST_AGE, Clock, TtlCache
from certferry.adapters.cdn.copies import Certificates, StoredCertificate
from certferry.adapters.cdn.failure import attempt, rejected
from certferry.adapters.cdn.settling import Settler
from certferry.adapters.qiniu import errors, records
from certferry.adapters.qiniu.qiniu_client import QiniuClient
from certferry.core.certificates.certificate import short
from certferry.core.desired.certificate import DesiredHttps
from certferry.core.discovery.inventory import FoundDomain
from certferry.core.observed.observation import DomainState, ObservedDomain
from certferry.core.redaction import speech
from certferry.errors import CopyGone, DeployError, TargetInUse
from certferry.text import Text
from certferry.values import replace

log = logging.getLogger(__name__)

HOLDERS_AGE = 300.0  # seconds; buckets and hubs change seldom, and a bucket's list costs a request

NOT_THERE = errors.NO_SUCH_DOMAIN | {HTTPStatus.NOT_FOUND}
"""Codes of answers about a missing bucket, hub or live domain. For Pili the codes are a guess: the
tests of Pili's SDK show only the words (§7)."""

_SEE_CONSOLE = Text(
    "check the domain in Qiniu's console (直播云), and remove the certificate there if unused"
)

R = TypeVar("R")


class ListedDomain(Struct, Generic[R], frozen=True):
    """A domain in the list of a bucket or hub."""

    #: The bucket or hub.
    holder: str
    record: R
    #: Whether the record is from an earlier list, because the present list is unreadable.
    is_old: bool = False


class Listing(Struct, Generic[R], frozen=True):
    """The domains of all buckets, or of all hubs, of an account."""

    #: Name → domain.
    domains: Mapping[str, ListedDomain[R]] = field(default_factory=dict)
    #: The reason why `domains` may be incomplete or old; `None` if every holder was read.
    failure: errors.QiniuFailure | None = None


def read_listing(
    holders: Sequence[str] | errors.QiniuFailure,
    domains_of: Callable[[str], Iterable[tuple[str, R]]],
    earlier: Listing[R],
) -> Listing[R]:
    """List the domains of all `holders`: the buckets, or the hubs, of an account. `holders` may
    also be the failure to list the holders.

    The domains of an unread holder are taken from the `earlier` listing, because a domain that a
    run waits for must not vanish for a moment. The listing stops at an outage
    (`CallFailure.is_outage`), at silence, and at a second broken answer, because each further
    holder could cost a time-out.
    """
    domains: dict[str, ListedDomain[R]] = {}
    failure = holders if isinstance(holders, errors.QiniuFailure) else None
    broken_answers = 0
    read_holders: set[str] = set()
    for holder in () if isinstance(holders, errors.QiniuFailure) else holders:
        listed = attempt(partial(domains_of, holder), errors.QiniuFailure)
        if not isinstance(listed, errors.QiniuFailure):
            domains |= {name: ListedDomain(holder, record) for name, record in listed}
        elif listed.code not in NOT_THERE:  # otherwise the holder was removed a moment ago
            failure = listed
            broken_answers += failure.maybe_done
            if failure.silent or failure.is_outage or broken_answers > 1:
                break
            continue
        read_holders.add(holder)
    if failure is not None:
        log.info("not every domain beside the CDN can be listed: %s", failure)
        unread = {
            name: held for name, held in earlier.domains.items() if held.holder not in read_holders
        }
        domains = {**{name: replace(held, is_old=True) for name, held in unread.items()}, **domains}
    return Listing(domains, failure)


class SourceDomains:
    """The source domains of one account. Raises `QiniuFailure` and `DeployError`."""

    def __init__(self, client: QiniuClient, settler: Settler, clock: Clock) -> None:
        self._client = client
        self._settler = settler
        self._listing: Listing[records.BucketDomain] = Listing()
        self._domains = TtlCache(self._list, HOLDERS_AGE, clock)
        self.bindings = TtlCache(self._list_bindings, LIST_AGE, clock)
        """Name of each bound source domain → id of the certificate; cached."""

    def all(self) -> Listing[records.BucketDomain]:
        """Return the source domains visible to the keys."""
        return self._domains.get()

    def has(self, domain: str) -> bool:
        """Return whether a readable bucket has the domain."""
        return domain in self.all().domains

    def named(self, domain: str) -> ObservedDomain:
        """Return the observation of a domain, with the binding. Raises `QiniuFailure`."""
        return self._observed(domain, self.bindings.get().get(domain))

    def named_without_bindings(self, domain: str) -> ObservedDomain:
        """Return the observation of a domain whose binding Kodo hides."""
        return replace(self._observed(domain, None), binding_hidden=True)

    def is_bound_at_all(self, domain: str) -> bool:
        """Return whether Kodo shows a binding of the domain. A binding proves that the domain is a
        source domain. Return `False` if the bindings cannot be read.
        """
        try:
            return domain in self.bindings.get()
        except errors.QiniuFailure:
            return False

    def bind(self, domain: str, remote_id: str, https: DesiredHttps) -> None:
        """Bind a domain to a certificate, unless Kodo already shows the binding.

        Raises `DeployError` for a frozen domain. `https` is unused: source domains lack
        settings.
        """
        del https
        if (frozen := self._why_frozen(domain)) is not None:
            raise frozen
        if not self._is_bound(domain, remote_id):
            self._settler.until_settled(
                lambda: self._bind(domain, remote_id), lambda: self._is_bound(domain, remote_id)
            )

    def must_not_use(self, remote_id: str, label: str) -> None:
        """Raise `TargetInUse` for a certificate bound to a source domain.

        If the bindings cannot be read, return: Qiniu itself refuses to remove a certificate bound
        to a source domain.
        """
        try:
            bindings = self.bindings.get()
        except errors.QiniuFailure as failure:
            log.info("what source domains are bound to cannot be seen: %s", failure)
            return
        for domain, bound in bindings.items():
            if bound == remote_id:
                sentence = Text("the source domain {domain} is still bound to {label}")
                hint = Text(
                    "bind the source domain to another certificate; a later run tries again"
                )
                raise rejected(sentence, hint, TargetInUse, domain=domain, label=label or remote_id)

    def survey(self) -> tuple[list[FoundDomain], list[errors.QiniuFailure]]:
        """Return every source domain, and the failures that hide domains or bindings."""
        part, domains = self.all(), []
        bindings = attempt(self.bindings.get, errors.QiniuFailure) if part.domains else {}
        is_hidden = isinstance(bindings, errors.QiniuFailure)
        for name in part.domains:
            bound = None if isinstance(bindings, errors.QiniuFailure) else bindings.get(name)
            frozen = self._why_frozen(name)
            domain = FoundDomain(
                name,
                records.KODO,
                has_https=bound is not None,
                problem=frozen,
                bound=bound,
                binding_hidden=is_hidden,
                state=None if frozen is None else "frozen",
            )
            domains.append(domain)
        return domains, [
            failure
            for failure in (bindings, part.failure)
            if isinstance(failure, errors.QiniuFailure)
        ]

    def _observed(self, domain: str, bound: str | None) -> ObservedDomain:
        frozen = self._why_frozen(domain)
        state = DomainState.READY if frozen is None else DomainState.UNAVAILABLE
        return ObservedDomain(
            domain, records.KODO, state, bound, problem=frozen, has_settings=False
        )

    def _why_frozen(self, domain: str) -> DeployError | None:
        """Return the error of a domain that Kodo lists as frozen; `None` for any other domain."""
        held = self.all().domains.get(domain)
        if held is None or not held.record.freeze_types:
            return None
        hint = Text("Qiniu's console shows the reason (ICP filing, content); resolve it first")
        reasons = [*map(speech, held.record.freeze_types)]
        sentence = Text("{domain} is frozen at Kodo ({reasons})")
        return rejected(sentence, hint, domain=domain, reasons=reasons)

    def _bind(self, domain: str, remote_id: str) -> bool:
        self._client.bind_source(with_leading_dot(domain), remote_id)
        self.bindings.forget()
        return True

    def _is_bound(self, domain: str, remote_id: str) -> bool | None:
        """Return `True` if Kodo shows the domain bound to the certificate. Return `None` otherwise,
        and for unreadable bindings. Raises `QiniuFailure` for an outage.
        """
        try:
            return self.bindings.get(anew=True).get(domain) == remote_id or None
        except errors.QiniuFailure as unread:
            if unread.is_outage:
                raise
            return None

    def _list(self) -> Listing[records.BucketDomain]:
        buckets = attempt(self._client.list_buckets, errors.QiniuFailure)
        self._listing = read_listing(buckets, self._domains_of, self._listing)
        return self._listing

    def _domains_of(self, bucket: str) -> list[tuple[str, records.BucketDomain]]:
        listed = self._client.list_bucket_domains(bucket)
        return [(name_here(record.domain), record) for record in listed if record.is_source]

    def _list_bindings(self) -> dict[str, str]:
        return {
            name_here(binding.domain): binding.certid for binding in self._client.list_bindings()
        }


class LiveDomains:
    """The live domains of one account. Raises `QiniuFailure` and `DeployError`."""

    def __init__(
        self, client: QiniuClient, certificates: Certificates, settler: Settler, clock: Clock
    ) -> None:
        self._client = client
        self._certificates = certificates
        self._settler = settler
        self._listing: Listing[records.LiveRecord] = Listing()
        # A failure is cached as well. Keys that lack the right to Pili will lack it for a while.
        self._hubs = TtlCache(
            partial(attempt, client.list_hubs, errors.QiniuFailure), HOLDERS_AGE, clock
        )
        self._domains = TtlCache(self._list, LIST_AGE, clock)

    def forget(self) -> None:
        """Have the next observation list the domains again."""
        self._domains.forget()

    def all(self) -> Listing[records.LiveRecord]:
        """Return the live domains visible to the keys."""
        return self._domains.get()

    def must_have_address(self) -> None:
        """Raise `TargetRejected` for an account without an address for Pili."""
        if not self._client.has_pili:
            sentence = Text(
                "no address of Pili is known for the account, because `api` is not Qiniu's own"
            )
            raise rejected(sentence, Text("set `pili` of the account as well"))

    def served_by_themselves(self) -> list[str]:
        """Return the domains that can have a certificate: all except domains for RTMP only."""
        names = []
        for name, held in self.all().domains.items():
            if held.record.is_for_rtmp:
                log.info("%s is left out: it is for RTMP (%s)", name, held.record.type)
            else:
                names.append(name)
        return names

    def named(self, domain: str) -> ObservedDomain | None:
        """Return the observation of a domain; `None` if every visible hub lacks the domain."""
        held = self.all().domains.get(domain)
        if held is None:
            return None
        bound, hidden = held.record.bound, _hides_binding(held)
        if bound is not None and not hidden:
            try:
                bound = _id_of(bound, self._certificates.all())
            except errors.QiniuFailure as failure:
                if failure.is_common:
                    raise
                hidden = True
        shown = None if hidden else bound
        return ObservedDomain(
            domain,
            records.PILI,
            DomainState.READY,
            shown,
            binding_hidden=hidden,
            has_settings=False,
        )

    def bind(self, domain: str, remote_id: str) -> str | None:
        """Bind a domain to a certificate. Return the X-Reqid; `None` if the domain is already bound
        to the certificate, or the X-Reqid is unknown.

        Raises `CopyGone` for an unknown certificate, `TargetRejected` for a disabled domain, and
        `QiniuFailure` for a domain outside the list.
        """
        live = self.all()
        held = live.domains.get(domain)
        if held is None:
            raise live.failure or errors.QiniuFailure(_is_gone(domain))
        certificate = self._certificates.find(remote_id)
        if certificate is None:
            sentence = Text("certificate {id} is no longer at Qiniu")
            raise rejected(sentence, errors.advice_on(400401), CopyGone, id=short(remote_id))
        record = self._read(held.holder, domain)
        if record.disable:
            hint = Text(
                "enable the live domain in Qiniu's console (直播云), or remove it from `domains`"
            )
            raise rejected(Text("{domain} is disabled at Pili"), hint, domain=domain)
        spellings = _spellings(certificate)
        if record.bound in spellings:
            return None
        request_id = self._settler.until_settled(
            lambda: self._bind(held.holder, domain, certificate),
            # "": the change was made, and the X-Reqid was lost with the answer.
            lambda: "" if self._read(held.holder, domain).bound in spellings else None,
        )
        self._domains.forget()
        return request_id or None

    def must_not_use(self, copy: StoredCertificate, label: str, *, unmanaged: bool) -> None:
        """Raise `TargetInUse` for a certificate bound, or perhaps bound, to a live domain.

        An `unmanaged` certificate is perhaps bound if Pili hides a binding, or if some live domains
        could not be listed. Our own copy is perhaps bound if some live domains could not be listed.
        An exception holds for our own copy: if the keys lack the right to Pili, or the hub is
        missing, certferry cannot have bound the copy.
        """
        remote_id = copy.remote_id
        live = self.all()
        for name, held in live.domains.items():
            if held.record.bound in _spellings(copy):
                hint = Text("bind the live domain to another certificate; a later run tries again")
                sentence = Text("the live domain {domain} of Pili still uses {label}")
                raise rejected(sentence, hint, TargetInUse, domain=name, label=label or remote_id)
            if unmanaged and _hides_binding(held):
                problem = Text("Pili does not say which certificate {domain} has", domain=name)
                raise _may_be_used(label or remote_id, problem, _SEE_CONSOLE)
        failure = live.failure
        has_no_right = failure is not None and (failure.is_denied or failure.code in NOT_THERE)
        if failure is not None and (unmanaged or not has_no_right):
            raise _may_be_used(label or remote_id, failure.error.message, failure.error.hint)

    def survey(
        self, certificates: Mapping[str, StoredCertificate]
    ) -> tuple[list[FoundDomain], list[errors.QiniuFailure]]:
        """Return every live domain, and a list with the failure that hides further domains, if any.

        `certificates` serve to find the id of a certificate that Pili names. A domain for RTMP has
        a problem.
        """
        part, domains = self.all(), []
        for name, held in part.domains.items():
            bound, is_for_rtmp = held.record.bound, held.record.is_for_rtmp
            for_rtmp = rejected(
                Text("{domain} is an RTMP domain, without HTTPS"), None, domain=name
            )
            domain = FoundDomain(
                name,
                records.PILI,
                has_https=bound is not None or bool(held.record.cert_enable),
                bound=None if bound is None else _id_of(bound, certificates),
                binding_hidden=_hides_binding(held),
                problem=for_rtmp if is_for_rtmp else None,
                by_itself=not is_for_rtmp,
            )
            domains.append(domain)
        return domains, [] if part.failure is None else [part.failure]

    def _read(self, hub: str, domain: str) -> records.LiveRecord:
        try:
            return self._client.read_live_domain(hub, domain)
        except errors.QiniuFailure as failure:
            raise self._explained(failure, hub, domain) from None

    def _bind(self, hub: str, domain: str, certificate: StoredCertificate) -> str:
        """Bind by the certificate's name; if Pili refuses the name, bind by the id. Return the
        X-Reqid.

        Qiniu's documents leave open which is right: the sample there looks like an id, but a
        widespread client sends the name (§7).
        """
        name = certificate.name or certificate.remote_id
        try:
            return self._client.bind_live_domain(hub, domain, name)
        except errors.QiniuFailure as failure:
            # The word "cert" in the refusal is a guess: the words are undocumented.
            if failure.maybe_done or "cert" not in failure.words.lower():
                raise self._explained(failure, hub, domain) from None
            try:
                return self._client.bind_live_domain(hub, domain, certificate.remote_id)
            except errors.QiniuFailure as again:
                raise (again if again.maybe_done else failure) from None

    def _explained(
        self, failure: errors.QiniuFailure, hub: str, domain: str
    ) -> errors.QiniuFailure:
        """Return the failure. If Pili lacks the hub or the domain, the error says which is missing.

        The next caller then lists hubs and domains again.
        """
        if failure.code not in NOT_THERE:
            return failure
        self._hubs.forget()
        self._domains.forget()
        gone = hub if "hub" in failure.words.lower() else ""
        return errors.QiniuFailure(_is_gone(domain, gone), code=failure.code)

    def _list(self) -> Listing[records.LiveRecord]:
        if not self._client.has_pili:
            return Listing()
        self._listing = read_listing(self._hubs.get(), self._domains_of, self._listing)
        return self._listing

    def _domains_of(self, hub: str) -> list[tuple[str, records.LiveRecord]]:
        return [(record.domain.lower(), record) for record in self._client.list_live_domains(hub)]


def _hides_binding(held: ListedDomain[records.LiveRecord]) -> bool:
    """Return whether the domain's certificate is unknown: the list is old, or Pili says that the
    domain has a certificate and does not name the certificate.
    """
    return held.is_old or (bool(held.record.cert_enable) and not held.record.cert_name)


def _id_of(bound: str, certificates: Mapping[str, StoredCertificate]) -> str:
    """Return the id of the oldest listed certificate with the name or id `bound`. If no listed
    certificate has it, return `bound` in the form for display.
    """
    named = (record for record in certificates.values() if bound in _spellings(record))
    oldest = min(named, key=lambda record: record.age_order, default=None)
    return shown_name(bound) if oldest is None else oldest.remote_id


def _spellings(certificate: StoredCertificate) -> frozenset[str]:
    """Return the strings by which Pili may name a certificate: name and id."""
    return frozenset({certificate.name or certificate.remote_id, certificate.remote_id})


def _is_gone(domain: str, hub: str = "") -> DeployError:
    """Return the error for a domain that is gone from Pili, alone or with its hub."""
    sentence = Text("the live domain {domain} is gone from Pili")
    if hub:
        sentence = Text("the Pili hub {hub} is gone, with its domain {domain}")
    hint = Text(
        "the live domain was removed at Qiniu; add it again in Qiniu's console (直播云), or remove"
        " the domain from `domains`"
    )
    return rejected(sentence, hint, hub=speech(hub), domain=domain)


def _may_be_used(label: str, problem: Text, hint: Text | None) -> DeployError:
    """Return the error for a certificate perhaps bound to a live domain."""
    sentence = Text("certferry cannot see whether a live domain of Pili uses {label}: {problem}")
    return rejected(sentence, hint, TargetInUse, label=label, problem=problem)
