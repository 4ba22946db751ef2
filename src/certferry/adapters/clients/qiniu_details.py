"""What each CDN domain of an account is: read by itself only where the list of all of them does not
tell that nothing has changed (docs/facts/qiniu.md §5.1).

The list has everything but the certificate and the settings, a thousand domains in one request. An
account with two thousand domains that asked for each of them at every look would be at it for
minutes, at ten requests a second.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec

from certferry.adapters.clients.qiniu import QiniuClient
from certferry.adapters.clients.qiniu_account import LIST_AGE, DomainList, QiniuAccount
from certferry.adapters.clients.qiniu_codes import NO_SUCH_DOMAIN
from certferry.adapters.clients.qiniu_domains import name_at_qiniu, name_here
from certferry.adapters.clients.qiniu_errors import QiniuFailure
from certferry.adapters.clients.qiniu_records import DomainItem, DomainRecord, decode
from certferry.ports.account_memory import AccountMemory

log = logging.getLogger(__name__)

AT_REST, AT_WORK = "success", "processing"

DETAIL_AGE = 300.0
"""Seconds that a detail is good for while the list shows no change. That each change moves what is
compared is a guess, so it is not good for ever."""
TASK_AGE = 900.0
"""The same while Qiniu works on the domain: what can change then is in the list."""
NOTE_AGE = timedelta(hours=36)
"""How long a later run believes what this one read: the next of daily runs does, the one after it
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
        self._under_way_since: dict[str, float] = {}
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
        listed, read_at = self._account.domains_at_hand, self._clock()
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
        """Take a domain whose change Qiniu has accepted for one that it works on, until a newer
        list or the domain itself says otherwise.
        """
        under_way = msgspec.structs.replace(
            before, operating_state=AT_WORK, modify_at=None, oper_task_id=None
        )
        if self._freshest() == 0:
            self._account.forget_domains()
        listed = self._account.domains_at_hand
        self._keep(domain, under_way, self._clock(), listed)

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
                self._under_way_since.setdefault(domain, self._clock())
            else:
                self._under_way_since.pop(domain, None)
        return detail

    def _listed(self, domain: str) -> DomainList | None:
        """Return the list, as fresh as the wait for the domain wants it, `None` where it cannot be
        read. Raises what a read of the domain would fail of as well.
        """
        if self._clock() < self._unlisted_until:
            return None
        try:
            return self._account.domains(age=self._list_age(domain))
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
            since = self._under_way_since.get(domain)
        if since is None:
            return LIST_AGE
        waited = self._clock() - since
        return min(max(waited / 60 + 0.2, self._freshest()), LIST_AGE)

    def _freshest(self) -> float:
        listed = self._account.domains_at_hand
        count = 0 if listed is None else len(listed.by_name)
        return 0 if count <= CROWD else count / PER_SECOND


def shows_no_change(item: DomainItem, detail: DomainItem) -> bool:
    """Tell whether the list shows a domain as it was when its detail was read: when it was changed
    last, by which task, and its state. One that tells none of the first two may have changed.
    """
    pairs = ((item.modify_at, detail.modify_at), (item.oper_task_id, detail.oper_task_id))
    told = [(one, other) for one, other in pairs if one and other]
    return (
        bool(told)
        and all(one == other for one, other in told)
        and item.operating_state == detail.operating_state
    )


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
