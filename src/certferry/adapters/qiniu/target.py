"""The target for an account at Qiniu: CDN and DCDN domains, source domains of its Kodo buckets, and
live domains of Pili (docs/facts/qiniu.md §1 to §7).

Permissions: a key pair that may read and change CDN domains and SSL certificates. Source domains
want a pair of the main account, which may list Kodo's buckets; live domains one that may use Pili.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Annotated, Literal

from certferry.adapters.qiniu.account import Certificates, Details, Settler
from certferry.adapters.qiniu.cdn import CdnDomains
from certferry.adapters.qiniu.certificates import Copies
from certferry.adapters.qiniu.client import QiniuClient, QiniuTransport
from certferry.adapters.qiniu.errors import (
    CODES,
    NO_SUCH_DOMAIN,
    WRONG_DOMAIN_TYPE,
    QiniuFailure,
    rejected,
)
from certferry.adapters.qiniu.observe import ObservedDomains
from certferry.adapters.qiniu.parts import LiveDomains, SourceDomains
from certferry.adapters.qiniu.records import KODO, PILI
from certferry.adapters.qiniu.survey import Surveyor, examine, report_of
from certferry.adapters.qiniu.wire import Hosts, QiniuKeys
from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.desired.certificate import DesiredHttps, Kind
from certferry.core.discovery.inventory import Survey
from certferry.core.observed.observation import ObservedTarget, TargetRules
from certferry.core.reasons import Usual
from certferry.core.secret import Secret
from certferry.errors import CopyGone
from certferry.ports.adapter import CommonNameRule, Context, Variable
from certferry.ports.examination import AccountReport
from certferry.ports.progress import Pause
from certferry.ports.state import AccountMemory
from certferry.ports.survey import Looked
from certferry.ports.target import DeployTarget, Scope
from certferry.problem import Problem
from certferry.text import Text

__all__ = ("CODES",)  # which `ports.adapter.Adapter` looks for here, beside what follows

SERVICE = "Qiniu"
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


_ELSEWHERE = NO_SUCH_DOMAIN | {WRONG_DOMAIN_TYPE}
"""What either half of Qiniu says of a domain that belongs to the other (§6.5)."""

_KINDS = frozenset({Kind.AUTO, Kind.CDN, Kind.DCDN, KODO, PILI})

USUAL_CHANGE: Usual = (timedelta(minutes=8), timedelta(minutes=15))
"""What a change of a domain takes most times (Qiniu's console; §5.6)."""


def connect(settings: Settings, context: Context) -> DeployTarget:
    """Return the target for an account: one for all its deployments, which share a pace."""
    keys = QiniuKeys(settings.access_key, settings.secret_key)
    transport = QiniuTransport(
        keys,
        settings.hosts,
        context.memory,
        pause=context.pause,
        now=context.now,
        pace=context.pace,
    )
    rules = TargetRules(
        timedelta(days=settings.min_remaining_days),
        needs_common_name=not settings.accept_no_common_name,
        usual_change=USUAL_CHANGE,
    )
    client = QiniuClient(transport)
    return Qiniu(client, rules, context.memory, pause=context.pause, now=context.now)


@contextmanager
def _translating_errors() -> Iterator[None]:
    """Raise the error of each failure, which is the only one that passes the port."""
    try:
        yield
    except QiniuFailure as failure:
        raise failure.error from None


class Qiniu:
    """The CDN, DCDN, source and live domains of one account. Safe to share between threads.

    A domain is what its part of Qiniu says that it is, whatever the file says. Writes whose answer
    is lost are looked for before they are made again.
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
        settler = Settler(pause)
        self._client = client
        self._rules = rules
        self._certificates = Certificates(client, clock)
        self._copies = Copies(client, self._certificates, settler, memory, now)
        self._details = Details(client, memory, clock, now)
        self._cdn = CdnDomains(client, self._details, settler)
        self._sources = SourceDomains(client, settler, clock)
        self._live = LiveDomains(client, self._certificates, settler, clock)

    @_translating_errors()
    def observe(self, scope: Scope) -> ObservedTarget:
        """Read the domains, and find our copies by mark, names and dates. What cannot be read
        beside them is part of the answer.
        """
        _must_be_served_here(scope.kind)
        if scope.anew:  # another run may have changed what there is, and what is bound
            self._certificates.forget()
            self._details.listed.forget()
            self._sources.bindings.forget()
            self._live.forget()
        seen = ObservedDomains(scope, self._cdn, self._sources, self._live)
        found = ObservedTarget(
            rules=self._rules,
            domains=tuple(seen.domains),
            excluded=tuple(seen.excluded),
            left_out=tuple(seen.left_out),
            uncovered=() if seen.domains else tuple(dict.fromkeys(seen.uncovered)),
            unread=tuple(dict.fromkeys(seen.unread)),
        )
        try:
            ours = tuple(self._copies.of(scope.lineage, scope.known))
            return replace(
                found,
                remotes=ours,
                others=tuple(self._copies.others(ours)) if scope.others else (),
                unremembered=tuple(self._copies.unremembered(scope.lineage, scope.known)),
                quota=self._copies.quota(),
            )
        except QiniuFailure as failure:
            if failure.is_common:
                raise
            unread = tuple(dict.fromkeys([*found.unread, failure.error]))
            return replace(found, unread=unread, remotes_hidden=True)

    @_translating_errors()
    def survey(self, looked: Looked) -> Survey:
        """See `ports.survey.Surveyed.survey`."""
        surveyor = Surveyor(self._details, self._certificates, self._sources, self._live)
        return surveyor.survey(looked)

    @_translating_errors()
    def examine(self, account: str) -> tuple[Problem, ...]:
        """See `ports.examination.Examined.examine`."""
        return tuple(examine(account, self._client, self._details, self._certificates))

    @_translating_errors()
    def cnames(self) -> Mapping[str, str]:
        """See `ports.examination.PointedAt.cnames`."""
        return {
            name: item.cname.rstrip(".").lower()
            for name, item in self._cdn.served_by_themselves().items()
            if item.cname
        }

    @_translating_errors()
    def clock_ahead(self) -> timedelta | None:
        """See `ports.examination.Timed.clock_ahead`."""
        return self._client.transport.clock_ahead()

    def report(self) -> AccountReport:
        """See `ports.examination.Reporting.report`."""
        return report_of(self._client)

    @_translating_errors()
    def upload(self, lineage: str, bundle: CertificateBundle) -> str:
        """Adopt the copy that is there, or upload one. One upload at a time for the account."""
        return self._copies.upload(lineage, bundle)

    def bind(self, domain: str, kind: Kind, remote_id: str, https: DesiredHttps) -> str | None:
        """Switch HTTPS on, or change it, unless the domain is as desired already; return the
        X-Reqid of the change, where there is one.
        """
        _must_be_served_here(kind)
        try:
            with _translating_errors():
                return self._bind(domain, kind, remote_id, https)
        except CopyGone:
            self._copies.forget(remote_id)
            raise

    def _bind(self, domain: str, kind: Kind, remote_id: str, https: DesiredHttps) -> str | None:
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

    @_translating_errors()
    def retire(self, remote_id: str, label: str, *, unmanaged: bool = False) -> bool:
        """Remove a copy whose name is the label, and that no domain is bound to, as far as that is
        seen: of live domains Qiniu is not known to refuse it, as of others.
        """
        copy = self._certificates.find(remote_id)
        if copy is None:
            return False
        self._live.must_not_use(remote_id, label, unmanaged=unmanaged)
        self._sources.must_not_use(remote_id, label)
        self._cdn.must_not_use(copy, label)
        return self._copies.retire(copy, label, unmanaged=unmanaged)


def _must_be_served_here(kind: Kind) -> None:
    """Raise `TargetRejected` for a kind of domains that certferry does not deploy to yet."""
    if kind not in _KINDS:
        sentence = Text('certferry does not deploy to domains of kind "{kind}" yet')
        hint = Text('set kind = "cdn", "kodo" or "pili", or leave it out')
        raise rejected(sentence, hint, kind=kind.value)
