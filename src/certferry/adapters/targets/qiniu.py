"""CDN and DCDN domains at Qiniu, source domains of its Kodo buckets, and live domains of Pili.

API: docs/facts/qiniu.md §1 to §7, from https://developer.qiniu.com/fusion; what binds source
domains is in no document.
Permissions: a key pair that may read and change CDN domains and SSL certificates. Source domains
want a pair of the main account, which may list Kodo's buckets; live domains one that may use Pili.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta

from certferry.adapters.clients.qiniu import QiniuClient
from certferry.adapters.clients.qiniu_account import QiniuAccount
from certferry.adapters.clients.qiniu_cdn import CdnDomains
from certferry.adapters.clients.qiniu_codes import NO_SUCH_DOMAIN, WRONG_DOMAIN_TYPE
from certferry.adapters.clients.qiniu_copies import Copies
from certferry.adapters.clients.qiniu_details import Details
from certferry.adapters.clients.qiniu_errors import CODES, QiniuFailure
from certferry.adapters.clients.qiniu_examination import Examiner
from certferry.adapters.clients.qiniu_kinds import (
    KODO,
    PILI,
    must_be_served_here,
)
from certferry.adapters.clients.qiniu_live import LiveDomains
from certferry.adapters.clients.qiniu_observed import LookedAtDomains
from certferry.adapters.clients.qiniu_quota import AccountQuota
from certferry.adapters.clients.qiniu_settings import (
    ENVIRONMENT,
    LEAST_LIFE,
    NEEDS_COMMON_NAME,
    ONE_ACCOUNT_A_DOMAIN,
    WHERE_KEYS_ARE,
    DeploySettings,
    Settings,
)
from certferry.adapters.clients.qiniu_settling import Settler
from certferry.adapters.clients.qiniu_signing import Keys
from certferry.adapters.clients.qiniu_sources import SourceDomains
from certferry.adapters.clients.qiniu_survey import Surveyor
from certferry.adapters.clients.qiniu_transport import QiniuTransport
from certferry.core.certificate import CertificateBundle
from certferry.core.desired import HttpsWish, Kind
from certferry.core.findings import Finding
from certferry.core.observed import ObservedTarget, TargetRules
from certferry.core.progress import Usual
from certferry.core.survey import Survey
from certferry.errors import CertferryError, CopyGone
from certferry.ports.account_memory import AccountMemory
from certferry.ports.adapter import Context
from certferry.ports.progress import Pause
from certferry.ports.survey import Looked
from certferry.ports.target import DeployTarget, Look

# What `ports.adapter.Adapter` wants of a module, and more that a target may have.
__all__ = (
    "CODES",
    "ENVIRONMENT",
    "LEAST_LIFE",
    "NEEDS_COMMON_NAME",
    "ONE_ACCOUNT_A_DOMAIN",
    "SERVICE",
    "WHERE_KEYS_ARE",
    "DeploySettings",
    "Qiniu",
    "Settings",
    "connect",
)

SERVICE = "Qiniu"

_ELSEWHERE = NO_SUCH_DOMAIN | {WRONG_DOMAIN_TYPE}
"""What either half of Qiniu says of a domain that belongs to the other (§6.5)."""

USUAL_CHANGE: Usual = (timedelta(minutes=8), timedelta(minutes=15))
"""What a change of a domain takes most times (Qiniu's console; §5.6)."""


def connect(settings: Settings, context: Context) -> DeployTarget:
    """Give the target for an account: one for all deployments to it, since it holds their pace."""
    keys = Keys(settings.access_key, settings.secret_key)
    transport = QiniuTransport(
        keys, settings.hosts, context.memory, pause=context.pause, now=context.now
    )
    rules = TargetRules(
        timedelta(days=settings.min_remaining_days),
        needs_common_name=not settings.accept_no_common_name,
        usual_change=USUAL_CHANGE,
    )
    client = QiniuClient(transport)
    return Qiniu(client, rules, context.memory, pause=context.pause, now=context.now)


class Qiniu:
    """The CDN, DCDN, source and live domains of one account. Safe to share between threads.

    A domain is what its part of Qiniu says that it is, whatever it was taken for: one that the CDN
    knows as well is a CDN domain, since Kodo refuses to bind those (§6.5). Writes whose answer is
    lost are looked for before they are made again.
    """

    def __init__(
        self,
        client: QiniuClient,
        rules: TargetRules,
        memory: AccountMemory,
        *,
        pause: Pause,
        now: Callable[[], datetime],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rules = rules
        account, settler = QiniuAccount(client, clock, memory), Settler(pause)
        self._account = account
        self._quota = AccountQuota(account, memory, now)
        self._copies = Copies(client, account, self._quota, settler)
        details = Details(client, account, memory, clock=clock, now=now)
        self._cdn = CdnDomains(client, account, details, settler)
        self._sources = SourceDomains(client, account, settler)
        self._live = LiveDomains(client.pili, account, settler, clock)
        self._surveyor = Surveyor(details, account, self._live)
        self._examiner = Examiner(client, account)

    def observe(self, look: Look) -> ObservedTarget:
        """Read the domains, and find our copies by mark, names and dates. What cannot be read
        beside them is told with what was found.
        """
        must_be_served_here(look.kind)
        if look.anew:
            self._account.forget_lists()
            self._live.forget()
        with _door():
            looked_at = LookedAtDomains(look, self._cdn, self._sources, self._live)
            unread = looked_at.unread
            found = ObservedTarget(
                rules=self._rules,
                domains=looked_at.domains,
                excluded=tuple(looked_at.excluded),
                left_out=tuple(looked_at.left_out),
                uncovered=() if looked_at.domains else tuple(dict.fromkeys(looked_at.uncovered)),
            )
            try:
                ours = tuple(self._copies.of(look.lineage, look.known))
                others = tuple(self._copies.others(ours)) if look.others else ()
                unremembered = tuple(self._copies.unremembered(look.lineage, look.known))
                quota = self._quota.seen()
            except QiniuFailure as failure:
                if failure.is_common:
                    raise
                unread.append(failure.error)
                return replace(found, unread=_once(unread), remotes_hidden=True)
        return replace(
            found,
            remotes=ours,
            others=others,
            unremembered=unremembered,
            unread=_once(unread),
            quota=quota,
        )

    def survey(self, looked: Looked) -> Survey:
        """See `ports.survey.Surveyed.survey`."""
        with _door():
            return self._surveyor.survey(looked)

    def examine(self, account: str) -> tuple[Finding, ...]:
        """See `ports.examination.Examined.examine`."""
        with _door():
            return self._examiner.examine(account)

    def cnames(self) -> Mapping[str, str]:
        """See `ports.examination.PointedAt.cnames`."""
        with _door():
            return self._examiner.cnames()

    def clock_ahead(self) -> timedelta | None:
        """See `ports.examination.Timed.clock_ahead`."""
        with _door():
            return self._examiner.clock_ahead()

    def upload(self, lineage: str, bundle: CertificateBundle) -> str:
        """Adopt the copy that is there, or upload one. One upload at a time for the account."""
        with _door():
            return self._copies.upload(lineage, bundle)

    def bind(self, domain: str, kind: Kind, remote_id: str, https: HttpsWish) -> str | None:
        """Switch HTTPS on, or change it, unless the domain is as wished already; return the
        X-Reqid of the change.
        """
        must_be_served_here(kind)
        try:
            with _door():
                return self._bind(domain, kind, remote_id, https)
        except CopyGone:
            self._copies.forget(remote_id)
            raise

    def _bind(self, domain: str, kind: Kind, remote_id: str, https: HttpsWish) -> str | None:
        if kind == PILI:
            return self._live.bind(domain, remote_id)
        halves = (self._cdn, self._sources)
        likely, other = reversed(halves) if kind == KODO else halves
        try:
            return likely.bind(domain, remote_id, https)
        except QiniuFailure as failure:
            if failure.code not in _ELSEWHERE or not other.has(domain):
                raise
            return other.bind(domain, remote_id, https)

    def retire(self, remote_id: str, label: str, *, unmanaged: bool = False) -> bool:
        """Remove a copy whose name is the label, and that no domain is bound to, as far as that is
        seen: of live domains Qiniu is not known to refuse it, as of others.
        """
        with _door():
            copy = self._copies.find(remote_id)
            if copy is None:
                return False
            self._live.must_not_use(remote_id, label, unmanaged=unmanaged)
            self._sources.must_not_use(remote_id, label)
            self._cdn.must_not_use(copy, label)
            return self._copies.retire(remote_id, label, unmanaged=unmanaged)


@contextmanager
def _door() -> Iterator[None]:
    """Let nothing of the client's pass but the error it made for the door."""
    try:
        yield
    except QiniuFailure as failure:
        raise failure.error from None


def _once(errors: list[CertferryError]) -> tuple[CertferryError, ...]:
    return tuple(dict.fromkeys(errors))
