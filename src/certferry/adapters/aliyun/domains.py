"""The domains of CDN or of DCDN: listed, read and bound (docs/facts/aliyun.md §3, §4).

The binding of a domain is read by a call of its own. In an account with many domains, the list of
all domains with HTTPS shows which bindings have changed since the last reading, so a run without
changes takes a few requests.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable
from datetime import UTC, datetime, timedelta
from typing import Generic, TypeVar

from cryptography.hazmat.primitives.serialization import Encoding
from msgspec import Struct

from certferry.adapters.aliyun.aliyun_client import AliyunClient, Params, Product
from certferry.adapters.aliyun.cas import pair_id
from certferry.adapters.aliyun.errors import NOT_OPENED, AliyunFailure
from certferry.adapters.aliyun.records import CertificateInfo, DomainItem, moment
from certferry.adapters.cdn.answers import name_here, with_leading_dot
from certferry.adapters.cdn.caches import LIST_AGE, Clock, Notes, TtlCache
from certferry.adapters.cdn.failure import attempt, rejected
from certferry.adapters.cdn.parts import Entries, Entry, Stored
from certferry.adapters.cdn.settling import Settler
from certferry.core.certificates.certificate import fingerprint
from certferry.core.observed.observation import DomainState
from certferry.errors import TargetBusy
from certferry.ports.state import AccountMemory
from certferry.text import Text
from certferry.values import replace

FEW = 3
"""In an account with at most so many domains with HTTPS, each binding is read by itself: the list
would be a request more, and show nothing more."""
NOTE_AGE = timedelta(hours=36)
"""How long later runs may use a stored answer: the next daily run uses it, the second one reads
every binding again."""
SHARE = 50
"""An observation reads the edges of one in so many domains again, besides changed domains."""
_NEVER = datetime.fromtimestamp(0, UTC)  # the moment in the note of a changed domain's edges

Addresses = tuple[str, ...]
T = TypeVar("T")


class Bound(Struct, frozen=True):
    """The certificate bound to a domain, as stored in the account's memory."""

    #: Whether the domain has HTTPS.
    is_on: bool
    #: The id in the store, if the answer has the id.
    remote_id: str | None = None
    #: The SHA-256 of the leaf, if the answer has the certificate.
    fingerprint: str | None = None
    #: The serial in hexadecimal, if the answer has the certificate.
    serial: str | None = None
    ends: datetime | None = None

    @property
    def serial_number(self) -> int | None:
        """The serial as a number, because the store writes leading zeros."""
        return None if self.serial is None else int(self.serial, 16)

    @property
    def is_hidden(self) -> bool:
        """Whether the answer does not say which certificate is bound."""
        return self.is_on and self.remote_id is None and self.fingerprint is None

    def id_in(self, stored: Stored) -> str | None:
        """Return the remote id: of a copy in the store, recognised by id, fingerprint or serial, or
        else of a pair. Return `None` without HTTPS, and for a hidden certificate.
        """
        if not self.is_on or self.remote_id in stored or self.fingerprint is None:
            return self.remote_id
        copies = (
            copy
            for copy in sorted(stored.values(), key=lambda copy: copy.age_order)
            if self.fingerprint == copy.fingerprint
            or (copy.fingerprint is None and copy.serial == self.serial_number)
        )
        copy = next(copies, None)
        return pair_id(self.fingerprint) if copy is None else copy.remote_id


class Stamped(Struct, Generic[T], frozen=True):
    """An answer with the moment of its reading, as stored in the account's memory."""

    at: datetime
    value: T
    #: The `DomainItem.sign` of a binding.
    sign: str = ""
    #: The `HttpsItem.mark` of a binding; empty unless the list was read.
    mark: str = ""


def bound_in(info: CertificateInfo | None) -> Bound:
    """Return the binding that an answer describes."""
    if info is None or not info.is_on:
        return Bound(is_on=False)
    leaf = info.leaf
    if leaf is None:
        return Bound(is_on=True, remote_id=info.remote_id, ends=moment(info.cert_expire_time))
    return Bound(
        is_on=True,
        remote_id=info.remote_id,
        fingerprint=fingerprint(leaf.public_bytes(Encoding.DER)),
        serial=f"{leaf.serial_number:x}",
        ends=leaf.not_valid_after_utc,
    )


class Domains:
    """A `Part`: one product of an account, for all threads of a run. Methods raise `AliyunFailure`;
    `bind` also raises `DeployError`.
    """

    def __init__(
        self,
        product: Product,
        client: AliyunClient,
        settler: Settler,
        memory: AccountMemory,
        clock: Clock,
        now: Callable[[], datetime],
    ) -> None:
        self.product = product
        self.called, self.kind = str(product.called), product.kind
        self._client = client
        self._settler = settler
        self._now = now
        self._listed = TtlCache(self._list, LIST_AGE, clock)
        self._marks = TtlCache(self._list_marks, LIST_AGE, clock)
        self._lock = threading.Lock()
        # The bindings read by this process; None: the next reader asks the product.
        self._known: dict[str, Stamped[Bound] | None] = {}
        name = product.kind.value
        self._notes = Notes(memory, Stamped[Bound], f"{name}: ")
        self._edges = Notes(memory, Stamped[Addresses], f"{name} edges: ")

    def listed(self, names: Collection[str] | None = None) -> Entries:
        """See `Part.listed`: every domain, without the certificate; none if the account has not
        opened the product.
        """
        del names
        return self._listed.get()

    def read(self, entries: Entries, doubted: Collection[str], stored: Stored) -> Entries:
        """See `Part.read`: with binding and edges, if the domain is usable. The target passes the
        doubted domains to `doubt`.
        """
        del doubted
        usable = {
            name: self.with_binding(entry, stored)
            for name, entry in entries.items()
            if entry.state is not DomainState.UNAVAILABLE
        }
        edges = self.edges(name for name, entry in usable.items() if entry.has_https)
        named = {name: replace(usable[name], edges=addresses) for name, addresses in edges.items()}
        return {**entries, **usable, **named}

    def with_binding(self, entry: Entry, stored: Stored) -> Entry:
        """Add the binding of a domain. If the product refuses to show the binding, the domain is
        unavailable.
        """
        bound = attempt(lambda: self.bound(entry), AliyunFailure)
        if isinstance(bound, AliyunFailure):
            if bound.is_common or bound.silent:
                raise bound
            state, problem = DomainState.UNAVAILABLE, bound.error
            return replace(entry, state=state, problem=problem, has_https=False, is_hidden=True)
        remote_id = bound.id_in(stored)
        return replace(
            entry,
            bound=() if remote_id is None else (remote_id,),
            has_https=bound.is_on,
            is_hidden=bound.is_hidden,
            ends=bound.ends,
        )

    def forget(self) -> None:
        """Have the next reader ask the product for every list and binding."""
        self._listed.forget()
        self._marks.forget()
        with self._lock:
            self._known = dict.fromkeys(self._known)

    def doubt(self, domain: str) -> None:
        """Have the next reader ask the product for one binding, and again for the edges if known:
        the edges contradict the cached answer, or the domain is about to change.
        """
        self._marks.forget()
        self._known[domain] = None
        self._notes.remove(domain)
        if self._edges.read(domain) is not None:
            self._edges.write(domain, Stamped(_NEVER, ()))

    def bound(self, entry: Entry) -> Bound:
        """Return the binding of a listed domain.

        Use the answer of this process or of an earlier run, if the lists show no change since. In a
        small account, only an answer of the last seconds is used.
        """
        if entry.has_https is False:
            return Bound(is_on=False)
        domain = entry.name
        stamped = self._known[domain] if domain in self._known else self._young(domain)
        mark = self._mark(domain)
        if stamped is not None and (stamped.sign, stamped.mark) == (entry.sign, mark):
            age = self._now() - stamped.at
            if mark or timedelta(0) <= age < timedelta(seconds=LIST_AGE):
                self._known[domain] = stamped
                return stamped.value
        name = with_leading_dot(domain)
        bound = bound_in(self._client.certificate_of(self.product, name))
        stamped = Stamped(self._now(), bound, entry.sign, mark)
        # During a change, the next answer may differ although the list stays the same.
        is_at_work = entry.state is DomainState.PROCESSING
        self._known[domain] = None if is_at_work else stamped
        if mark and not is_at_work:
            self._notes.write(domain, stamped)
        return bound

    def edges(self, domains: Iterable[str]) -> dict[str, Addresses]:
        """Return the addresses that the product names for each domain, if known: from the memory,
        else from the product for some of the domains (`SHARE`).
        """
        stored = {domain: self._edges.read(domain) for domain in domains}
        allowed = max(1, len(stored) // SHARE)
        edges: dict[str, Addresses] = {}
        for domain, stamped in stored.items():
            if stamped is not None and timedelta(0) <= self._now() - stamped.at < NOTE_AGE:
                edges[domain] = stamped.value
            elif stamped is not None and stamped.at == _NEVER:
                edges[domain] = self._edges_now(domain)
            elif allowed > 0:
                allowed -= 1
                edges[domain] = self._edges_now(domain)
        return edges

    def bind(
        self, entry: Entry, certificate: Params, is_bound: Callable[[Bound], bool]
    ) -> str | None:
        """Bind a domain to a certificate, unless `is_bound` says that the domain is bound; return
        the id of the request, if any. HTTPS is switched on if HTTPS is off.

        Raises `TargetBusy` during an earlier change, `TargetRejected` for an unusable domain.
        """
        domain, has_failed = entry.name, entry.state is DomainState.FAILED
        if entry.state is DomainState.PROCESSING:
            sentence = Text("{product} is still carrying out an earlier change of {domain}")
            hint = Text("a later run continues from here")
            words = {"product": self.product.called, "domain": domain}
            raise rejected(sentence, hint, TargetBusy, **words)
        if entry.problem is not None and not has_failed:
            raise entry.problem
        if not has_failed and is_bound(self.bound(entry)):
            return None
        self.doubt(domain)
        self._edges.write(domain, Stamped(_NEVER, ()))
        name = with_leading_dot(domain)

        def search() -> str | None:
            info = self._client.certificate_of(self.product, name)
            now = self._list().get(domain)
            is_at_work = now is not None and now.state is DomainState.PROCESSING
            return "" if is_at_work or is_bound(bound_in(info)) else None

        try:
            request_id = self._settler.until_settled(
                lambda: self._client.bind(self.product, name, certificate), search
            )
        finally:
            self._listed.forget()
        return request_id or None

    def _list(self) -> dict[str, Entry]:
        try:
            listed = self._client.list_domains(self.product)
        except AliyunFailure as failure:
            if failure.code not in NOT_OPENED:
                raise
            return {}
        entries = (entry_of(item, self.product) for item in listed)
        return {entry.name: entry for entry in entries}

    def _list_marks(self) -> dict[str, str]:
        listed = self._client.list_https(self.product)
        return {name_here(item.domain_name): item.mark for item in listed}

    def _mark(self, domain: str) -> str:
        """Return the mark of a binding; empty in a small account, or if the list is unreadable."""
        with_https = sum(item.has_https is not False for item in self.listed().values())
        if with_https <= FEW:
            return ""
        try:
            return self._marks.get().get(domain, "")
        except AliyunFailure as failure:
            if failure.is_common:
                raise
            return ""

    def _young(self, domain: str) -> Stamped[Bound] | None:
        note = self._notes.read(domain)
        is_young = note is not None and timedelta(0) <= self._now() - note.at < NOTE_AGE
        return note if is_young else None

    def _edges_now(self, domain: str) -> Addresses:
        """Ask the product for the edges of a domain. A refusal counts as no address: resolvers
        give the addresses too.
        """
        try:
            addresses = self._client.edges_of(self.product, with_leading_dot(domain))
        except AliyunFailure as failure:
            if failure.is_common:
                raise
            addresses = ()
        self._edges.write(domain, Stamped(self._now(), addresses))
        return addresses


_STATES = {
    "online": DomainState.READY,
    "configuring": DomainState.PROCESSING,
    "configure_failed": DomainState.FAILED,
}
SWITCHED_OFF = frozenset({"offline", "stopping", "deleting"})
_PROBLEMS = {
    "configure_failed": Text("{product} could not carry out the last change of {domain}"),
    "offline": Text("{domain} is offline at {product}"),
    "stopping": Text("{domain} is going offline at {product}"),
    "deleting": Text("{domain} is being deleted at {product}"),
    "checking": Text("{domain} is under review at {product}"),
    "check_failed": Text("{domain} failed the review at {product}"),
}


def entry_of(item: DomainItem, product: Product) -> Entry:
    """Return a listed domain, with the reason why the domain takes no change, or why the last
    change failed.
    """
    name, state = name_here(item.domain_name), _STATES.get(item.state, DomainState.UNAVAILABLE)
    unknown = Text("certferry does not know the state of {domain} at {product}")
    sentence = _PROBLEMS.get(item.state, unknown)
    is_fine, called = state in {DomainState.READY, DomainState.PROCESSING}, product.called
    hint = Text("check the domain in the {product} console", product=called)
    return Entry(
        name,
        product.kind,
        state,
        item.state,
        has_https=item.has_https,
        has_settings=False,
        problem=None if is_fine else rejected(sentence, hint, domain=name, product=called),
        is_off=item.state in SWITCHED_OFF,
        cname=item.target,
        sign=item.sign,
    )
