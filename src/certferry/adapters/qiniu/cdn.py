"""The CDN and DCDN domains of a Qiniu account: found, read, bound (docs/facts/qiniu.md §5)."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Annotated, Literal

import msgspec

from certferry.adapters.qiniu.account import LIST_AGE, DomainList, QiniuAccount, Settler
from certferry.adapters.qiniu.client import QiniuClient
from certferry.adapters.qiniu.errors import HTTPS_IS_OFF, NO_SUCH_DOMAIN, UNCHANGED, QiniuFailure
from certferry.adapters.qiniu.records import (
    NOT_SERVED_BY_ITSELF,
    SWITCHED_OFF,
    CertificateRecord,
    DomainItem,
    DomainRecord,
    HttpsConf,
    decode,
    first_conf,
    is_in_force,
    kind_of,
    must_be_at_rest,
    name_at_qiniu,
    name_here,
    observe,
    unavailable,
    wanted_conf,
)
from certferry.adapters.qiniu.wire import Hosts
from certferry.core.certificates.certificate import covered_by
from certferry.core.desired.certificate import DesiredHttps, Kind
from certferry.core.observed.observation import ObservedDomain
from certferry.core.secret import Secret
from certferry.errors import DeployError, TargetInUse
from certferry.ports.adapter import CommonNameRule, Variable
from certferry.ports.state import AccountMemory
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
        """Return the names of all domains, as certferry spells them."""
        return frozenset(self._account.domains.get().by_name)

    def has(self, domain: str) -> bool:
        """Return whether the account has such a domain."""
        return domain in self.names()

    def served_by_themselves(self) -> dict[str, DomainItem]:
        """Return the domains that take a certificate of their own, by name."""
        return {
            name: item
            for name, item in self._account.domains.get().by_name.items()
            if item.type not in NOT_SERVED_BY_ITSELF
        }

    def found(
        self, domains: Iterable[str], left_out: list[ObservedDomain], *, anew: bool
    ) -> Iterator[ObservedDomain]:
        """Observe domains that are listed, by what was read of them before unless that is to be
        read `anew`.

        These were not named, so one that has just been removed is no trouble, nor is one that is
        switched off at Qiniu: that is added to `left_out`. The failure of one hides no other; only
        what the next one would fail of as well ends the look: refused keys, a rate limit, no
        connection, and silence twice in a row, since each takes minutes.
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

    def bind(self, domain: str, remote_id: str, https: DesiredHttps) -> str | None:
        """Switch HTTPS on, or change it, unless the domain is as desired already; return the
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
        for domain in self._account.domains.get().by_name:
            if covered_by(names, domain) and self._bound(domain) == certificate.certid:
                raise domain_uses(domain, label or certificate.certid)

    def _bound(self, domain: str) -> str | None:
        try:
            return self._details.read(domain).bound
        except QiniuFailure as failure:
            if failure.is_common or failure.silent:
                raise
            return None

    def _change(self, record: DomainRecord, conf: HttpsConf, https: DesiredHttps) -> str:
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


def domain_uses(domain: str, label: str) -> DeployError:
    """Return the error for a certificate that a domain is bound to."""
    return TargetInUse(
        Text("{domain} is still bound to {label}", domain=domain, label=label),
        hint=Text(
            "this is normal until a change of the domain has come to its end; a later run tries"
            " again"
        ),
    )


log = logging.getLogger(__name__)

AT_REST, AT_WORK = "success", "processing"

DETAIL_AGE = 300.0
"""Seconds that a detail is good for while the list shows no change. That each change moves what is
compared is a guess, so it is not good for ever."""
TASK_AGE = 900.0
"""The same while Qiniu works on the domain: what can change then is in the list."""
NOTE_AGE = timedelta(hours=36)
"""How long a later run goes by what this one read: the next of daily runs does, the one after it
reads everything anew."""

CROWD, PER_SECOND = 100, 400
"""Domains up to which the list is as fresh as each wait wants it, and, of larger accounts, domains
for which it may be a second old: reading it must not take the requests that their changes need."""


class Note(msgspec.Struct, frozen=True):
    """What the account's memory keeps of a domain: its detail, and when it was read."""

    at: datetime
    detail: DomainRecord


@dataclass(frozen=True, slots=True)
class _Known:
    """A detail, when it was read, and the number of the list at that time: all of it would be too
    much to keep for each domain.
    """

    detail: DomainRecord
    read_at: float
    list_number: int | None


class Details:
    """The details of an account's CDN domains. Raises `QiniuFailure`. Safe to share between
    threads; `clock` counts seconds and never goes back, `now` is the wall clock.
    """

    def __init__(
        self,
        client: QiniuClient,
        account: QiniuAccount,
        memory: AccountMemory,
        *,
        clock: Callable[[], float],
        now: Callable[[], datetime],
    ) -> None:
        self._client = client
        self._account = account
        self._memory = memory
        self._clock = clock
        self._now = now
        self._lock = threading.Lock()
        self._known: dict[str, _Known] = {}
        self._processing_since: dict[str, float] = {}
        self._notes_used: set[str] = set()
        self._unlisted_until = clock()

    def read(self, domain: str) -> DomainRecord:
        """Return a domain's detail for a look: what is known of it, where the list shows that it is
        so still.
        """
        with self._lock:
            known = self._known.get(domain)
        if known is None:
            return self._noted(domain) or self.read_now(domain)
        listed = self._listed(domain)
        item = None if listed is None else listed.by_name.get(domain)
        if listed is None or item is None:
            return self.read_now(domain)
        is_young = self._clock() - known.read_at < _age(known.detail)
        if is_young and (known.list_number == listed.number or shows_no_change(item, known.detail)):
            return known.detail
        if is_young and item.operating_state == AT_WORK:
            # The certificate and the settings are those from before, until the change is done.
            return self._keep(domain, _as_listed(known.detail, item), known.read_at, listed)
        return self.read_now(domain)

    def read_now(self, domain: str) -> DomainRecord:
        """Return a domain's detail as it is, for a write to go by."""
        listed, read_at = self._account.domains.cached, self._clock()
        try:
            detail = self._client.read_domain(name_at_qiniu(domain))
        except QiniuFailure as failure:
            if failure.code in NO_SUCH_DOMAIN:
                with self._lock:
                    self._known.pop(domain, None)
            raise
        if detail.operating_state == AT_REST:
            text = msgspec.json.encode(Note(self._now(), detail)).decode()
            self._memory.update(_note_of(domain), lambda _: text)
        return self._keep(domain, detail, read_at, listed)

    def survey(self, item: DomainItem) -> DomainRecord:
        """Return the detail of a domain that was just listed, for a look at the whole account: from
        the list alone where there is no HTTPS, and what an earlier run read, where nothing has
        changed since. At ten requests a second ten thousand domains take a quarter of an hour.
        """
        listed = item.without_https
        if listed is not None:
            return listed
        note = self._note(name_here(item.name))
        if note is not None and shows_no_change(item, note.detail):
            return note.detail
        return self._client.read_domain(item.name)

    def forget(self, domain: str) -> None:
        """Have the next look read the domain, also that of a later run: it is about to change."""
        with self._lock:
            self._known.pop(domain, None)
            self._notes_used.add(domain)
        self._memory.update(_note_of(domain), lambda _: None)

    def note_change(self, domain: str, before: DomainRecord) -> None:
        """Store that Qiniu works on a domain, until a newer list or the domain itself says
        otherwise.
        """
        processing = msgspec.structs.replace(
            before, operating_state=AT_WORK, modify_at=None, oper_task_id=None
        )
        if self._freshest() == 0:
            self._account.domains.forget()
        listed = self._account.domains.cached
        self._keep(domain, processing, self._clock(), listed)

    def _noted(self, domain: str) -> DomainRecord | None:
        """Return what an earlier run read: for one look, so that what is done about it is decided
        by a detail that was read now.
        """
        with self._lock:
            is_used = domain in self._notes_used
            self._notes_used.add(domain)
        note = None if is_used else self._note(domain)
        if note is None:
            return None
        listed = self._listed(domain)
        item = None if listed is None else listed.by_name.get(domain)
        return note.detail if item is not None and shows_no_change(item, note.detail) else None

    def _note(self, domain: str) -> Note | None:
        text = self._memory.note(_note_of(domain))
        note = None if text is None else _parsed(text)
        is_young = note is not None and timedelta(0) <= self._now() - note.at < NOTE_AGE
        return note if is_young else None

    def _keep(
        self, domain: str, detail: DomainRecord, read_at: float, listed: DomainList | None
    ) -> DomainRecord:
        with self._lock:
            self._known[domain] = _Known(detail, read_at, None if listed is None else listed.number)
            if detail.operating_state == AT_WORK:
                self._processing_since.setdefault(domain, self._clock())
            else:
                self._processing_since.pop(domain, None)
        return detail

    def _listed(self, domain: str) -> DomainList | None:
        """Return the list, as fresh as the wait for the domain wants it, `None` where it cannot be
        read. Raises what a read of the domain would fail of as well.
        """
        if self._clock() < self._unlisted_until:
            return None
        try:
            return self._account.domains.get(age=self._list_age(domain))
        except QiniuFailure as failure:
            if failure.is_common:
                raise
            log.info("the list of domains cannot be read; each is read by itself: %s", failure)
            self._unlisted_until = self._clock() + LIST_AGE
            return None

    def _list_age(self, domain: str) -> float:
        """Return how old the list may be: see `core.waiting`, which leaves this much of its rule
        to targets.
        """
        with self._lock:
            since = self._processing_since.get(domain)
        if since is None:
            return LIST_AGE
        waited = self._clock() - since
        return min(max(waited / 60 + 0.2, self._freshest()), LIST_AGE)

    def _freshest(self) -> float:
        listed = self._account.domains.cached
        count = 0 if listed is None else len(listed.by_name)
        return 0 if count <= CROWD else count / PER_SECOND


def shows_no_change(item: DomainItem, detail: DomainItem) -> bool:
    """Return whether the list shows a domain as it was when its detail was read: the last change,
    its task, and the state. One without the first two may have changed.
    """
    pairs = ((item.modify_at, detail.modify_at), (item.oper_task_id, detail.oper_task_id))
    known = [one == other for one, other in pairs if one and other]
    return bool(known) and all(known) and item.operating_state == detail.operating_state


def _as_listed(detail: DomainRecord, item: DomainItem) -> DomainRecord:
    return msgspec.structs.replace(
        detail,
        operating_state=AT_WORK,
        operating_state_desc=None,
        operation_type=str(item.operation_type or "") or None,
        modify_at=item.modify_at,
        oper_task_id=item.oper_task_id,
    )


def _age(detail: DomainRecord) -> float:
    return TASK_AGE if detail.operating_state == AT_WORK else DETAIL_AGE


def _note_of(domain: str) -> str:
    return f"domain: {domain}"


def _parsed(text: str) -> Note | None:
    try:
        return decode(text.encode(), Note)
    except ValueError as problem:  # an older or a newer certferry wrote it
        log.debug("a note about a domain is passed over: %s", problem)
        return None


WHERE_KEYS_ARE = Text("portal.qiniu.com → avatar → Key management (AK and SK of one pair)")
ENVIRONMENT = (
    Variable(
        "access_key",
        ("QINIU_ACCESS_KEY", "QINIU_AK"),
        Text("the access key (AK) of the Qiniu account"),
        is_public=True,
    ),
    Variable(
        "secret_key",
        ("QINIU_SECRET_KEY", "QINIU_SK"),
        Text("the secret key (SK) of the Qiniu account"),
    ),
)
ONE_ACCOUNT_A_DOMAIN = True  # to add one that exists: 400062, "domain exists" (§5)
NEEDS_COMMON_NAME = CommonNameRule(  # others are refused with 400348 (§4.6)
    "accept_no_common_name",
    Text(
        "if Qiniu takes such certificates by now, set `accept_no_common_name = true` on the account"
    ),
)

LEAST_LIFE = "min_remaining_days"

MIN_REMAINING_DAYS = 30  # what users report; Qiniu gives no number (§4.6)


@dataclass(frozen=True, slots=True)
class Settings:
    """An account at Qiniu. The addresses are others only in tests and for mirrors."""

    access_key: Secret
    secret_key: Secret
    api: Annotated[str, Text("the address of the API of CDN domains")] = "https://api.qiniu.com"
    fusion: Annotated[str, Text("the address of the API of certificates")] = (
        "https://fusion.qiniuapi.com"
    )
    uc: Annotated[str, Text("the address of the API of Kodo's buckets and source domains")] = (
        "https://uc.qiniuapi.com"
    )
    api_backup: Annotated[str, Text("used when `api` does not answer")] = "https://api.qiniuapi.com"
    uc_backup: Annotated[str, Text("used when `uc` does not answer")] = (
        "https://kodo-config.qiniuapi.com"
    )
    pili: Annotated[str, Text("the address of the API of Pili's hubs and live domains")] = (
        "https://pili.qiniuapi.com"
    )
    min_remaining_days: Annotated[
        int, Text("a certificate with fewer days left is not uploaded: Qiniu would refuse it")
    ] = MIN_REMAINING_DAYS
    accept_no_common_name: Annotated[
        bool, Text("upload certificates without a common name too; Qiniu has refused such")
    ] = False

    @property
    def hosts(self) -> Hosts:
        """Where Qiniu is. A mirror has a backup, and Pili, only where one is set, never Qiniu's
        own.
        """
        usual = {field.name: field.default for field in fields(self)}
        others = {
            name: ""
            if getattr(self, name) == usual[name] and getattr(self, main) != usual[main]
            else getattr(self, name).rstrip("/")
            for main, name in (("api", "api_backup"), ("uc", "uc_backup"), ("api", "pili"))
        }
        mains = {name: getattr(self, name).rstrip("/") for name in ("api", "fusion", "uc")}
        return Hosts(**mains, **others)


@dataclass(frozen=True, slots=True)
class DeploySettings:
    """The settings of a deployment beside its domains. `kind` is the part of Qiniu they belong to;
    the rest is set along with the certificate, and kept where the file does not name it.
    """

    kind: Annotated[
        Literal["auto", "cdn", "kodo", "pili"],
        Text(
            "the kind of the domains: `cdn` is for CDN and DCDN, `kodo` for source domains"
            " of buckets, `pili` for live domains of hubs; with `auto` certferry finds out"
        ),
    ] = "auto"
    force_https: Annotated[bool | None, Text("whether HTTP is redirected to HTTPS")] = None
    http2: Annotated[bool | None, Text("whether HTTP/2 is on")] = None
    tls_versions: Annotated[
        tuple[Literal["TLSv1.0", "TLSv1.1", "TLSv1.2", "TLSv1.3"], ...] | None,
        Text("the versions of TLS that are on"),
    ] = None

    def wrong(self, written: Iterable[str]) -> Mapping[str, Text]:
        """Return which keys do not go with the kind: a source domain (§6.1) and a live domain (§7)
        have no settings.
        """
        said = {
            "kodo": Text('not with kind = "kodo": a source domain has no such setting'),
            "pili": Text('not with kind = "pili": a live domain has no such setting'),
        }.get(self.kind)
        return {} if said is None else {key: said for key in written if key != "kind"}
