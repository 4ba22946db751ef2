"""The target for an account at Tencent Cloud: domains of the CDN, and hosts of EdgeOne
(docs/facts/tencentcloud.md §2 to §4).

Permissions: the key of a CAM user with the policy `errors.POLICY`. A key with rights for DNS alone
goes on working for DNS; the refusal shows the policy.

A domain listed by both products belongs to the product that has it switched on, the CDN first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Annotated, Literal

from certferry.adapters.cdn.copies import Certificates, Copies, StoredCertificate
from certferry.adapters.cdn.failure import attempt, rejected, translating_errors
from certferry.adapters.cdn.parts import ObservedParts, Wording
from certferry.adapters.cdn.settling import Settler
from certferry.adapters.tencentcloud.account import (
    CALLED,
    ENVIRONMENT,
    RANK,
    SERVICE,
    WHERE_KEYS_ARE,
    Settings,
)
from certferry.adapters.tencentcloud.cdn import CdnDomains, no_such_domain
from certferry.adapters.tencentcloud.edgeone import EO, EdgeHosts
from certferry.adapters.tencentcloud.errors import CODES, TencentFailure
from certferry.adapters.tencentcloud.store import SslStore
from certferry.adapters.tencentcloud.survey import examine, report_of, survey
from certferry.adapters.tencentcloud.tencent_client import TencentClient
from certferry.core.certificates.certificate import CertificateBundle, covered_by, short
from certferry.core.certificates.lineage import owner_of
from certferry.core.desired.certificate import DesiredHttps, Kind
from certferry.core.discovery.inventory import Survey
from certferry.core.observed.observation import DomainState, ObservedTarget, TargetRules
from certferry.core.reasons import Usual
from certferry.errors import CopyGone, Problem, TargetInUse
from certferry.ports.adapter import Context
from certferry.ports.examination import AccountReport
from certferry.ports.survey import Looked
from certferry.ports.target import DeployTarget, Scope
from certferry.text import Text
from certferry.values import replace

__all__ = (
    "CALLED",
    "CODES",
    "ENVIRONMENT",
    "RANK",
    "SERVICE",
    "WHERE_KEYS_ARE",
    "Settings",
)  # read from this module by `ports.adapter.Adapter`, with the names below

COMMAND_WORDS = ("tencentcloud", "tencent", "qcloud")
ONE_ACCOUNT_A_DOMAIN = True  # another account's domain is refused: `CdnHostIsOwnedByOther`
USUAL_CHANGE: Usual = (timedelta(minutes=5), timedelta(minutes=10))  # a guess (§2.2)


@dataclass(frozen=True, slots=True)
class DeploySettings:
    """The settings of a deployment, besides the domains.

    A binding at the CDN sets the declared settings along with the certificate, and keeps the
    others. EdgeOne's call has only the certificate (§3.2).
    """

    #: The product with the deployment's domains.
    kind: Annotated[
        Literal["auto", "cdn", "eo"],
        Text("the product of the domains, `eo` for EdgeOne; with `auto` certferry finds it"),
    ] = "auto"
    force_https: Annotated[bool | None, Text("whether HTTP is redirected to HTTPS")] = None
    http2: Annotated[bool | None, Text("whether HTTP/2 is on")] = None
    tls_versions: Annotated[
        tuple[Literal["TLSv1.0", "TLSv1.1", "TLSv1.2", "TLSv1.3"], ...] | None,
        Text("the enabled versions of TLS"),
    ] = None

    def wrong(self, written: Iterable[str]) -> Mapping[str, Text]:
        """Return a message for each key that does not fit: EdgeOne has no settings, and the CDN
        takes only consecutive versions of TLS (§2.3).
        """
        if self.kind == EO:
            message = Text('not with kind = "eo": EdgeOne\'s call sets only the certificate')
            return {key: message for key in written if key != "kind"}
        minors = sorted({int(version[-1]) for version in self.tls_versions or ()})
        if minors and len(minors) != minors[-1] - minors[0] + 1:
            message = Text("the CDN takes only consecutive versions, such as TLSv1.2 and TLSv1.3")
            return {"tls_versions": message}
        return {}


def connect(settings: Settings, context: Context) -> DeployTarget:
    """Return the target of an account, without sending a request. Raises `ConfigError`."""
    return TencentCloud(TencentClient(settings, context), context)


_WORDING = Wording(
    TencentFailure,
    Text('set kind = "cdn" or "eo" for this deployment to leave the other product out'),
    no_such_domain,
)


class TencentCloud:
    """The CDN domains and EdgeOne's hosts of one account. Safe to share between threads."""

    def __init__(
        self,
        client: TencentClient,
        context: Context,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        settler, memory, now = Settler(context.pause), context.memory, context.now
        self._client = client
        store = SslStore(client, memory, context.pause, now)
        self._certificates = Certificates(store, clock)
        self._copies = Copies(store, CALLED, self._certificates, settler, memory, now)
        self._cdn = CdnDomains(client, settler, clock)
        self._hosts = EdgeHosts(client, settler, clock, store.kind_of)

    @translating_errors()
    def observe(self, scope: Scope) -> ObservedTarget:
        """Read the domains and our copies; the result names the unreadable parts.

        Raises `DeployError` for a failure that any other call would share, or that hides the
        domains of the scope.
        """
        parts = self._parts(scope.kind)
        if scope.anew:  # another run may have uploaded
            self._certificates.forget()
        observed = ObservedParts(scope, parts, _WORDING)
        rules = TargetRules(usual_change=USUAL_CHANGE)
        try:
            stored = self._certificates.all()
        except TencentFailure as failure:
            if failure.is_common:
                raise
            target = observed.observed((), {})
            unread = tuple(dict.fromkeys([*target.unread, failure.error]))
            return replace(target, rules=rules, unread=unread, remotes_hidden=True)
        ours = tuple(self._copies.of(scope.lineage, scope.known))
        return replace(
            observed.observed(ours, stored),
            rules=rules,
            remotes=ours,
            others=tuple(self._copies.others(ours)) if scope.others else (),
            unremembered=tuple(self._copies.unremembered(scope.lineage, scope.known)),
            quota=self._copies.quota(),
        )

    def _parts(self, kind: Kind) -> tuple[CdnDomains | EdgeHosts, ...]:
        """Return the products of a kind. Raises `TargetRejected` for an unsupported kind."""
        parts = {Kind.AUTO: (self._cdn, self._hosts), Kind.CDN: (self._cdn,), EO: (self._hosts,)}
        if kind not in parts:
            sentence = Text('certferry does not support domains of kind "{kind}"')
            hint = Text('set kind = "cdn" or "eo", or remove `kind`')
            raise rejected(sentence, hint, kind=kind.value)
        return parts[kind]

    @translating_errors()
    def upload(self, lineage: str, bundle: CertificateBundle) -> str:
        """See `ports.target.DeployTarget.upload`: an existing copy is adopted."""
        return self._copies.upload(lineage, bundle)

    def bind(self, domain: str, kind: Kind, remote_id: str, https: DesiredHttps) -> str | None:
        """See `ports.target.DeployTarget.bind`: also switch HTTPS on; return the RequestId."""
        self._parts(kind)
        try:
            with translating_errors():
                self._must_fit(domain, remote_id)
                if kind == EO:
                    stored = self._certificates.all().values()
                    ours = {copy.remote_id for copy in stored if owner_of(copy.name) is not None}
                    return self._hosts.bind(domain, remote_id, ours)
                return self._cdn.bind(domain, remote_id, https)
        except CopyGone:
            self._copies.forget(remote_id)
            raise

    def _must_fit(self, domain: str, remote_id: str) -> None:
        """Raise `CopyGone` for a certificate outside the store, `TargetRejected` for a certificate
        without the domain's name.
        """
        copy = self._certificates.find(remote_id)
        if copy is None:
            sentence = Text("the store of {service} lacks certificate {id}")
            hint = Text("another program removed the certificate; the next run uploads it again")
            raise rejected(sentence, hint, CopyGone, service=CALLED, id=short(remote_id))
        if copy.names is not None and not covered_by(copy.names, domain):
            sentence = Text("the certificate {id} does not cover {domain}")
            hint = Text(
                "add the domain to `names`; the wildcard domain *.example.com needs *.example.com"
                " itself"
            )
            raise rejected(sentence, hint, id=short(remote_id), domain=domain)

    @translating_errors()
    def retire(self, remote_id: str, label: str, *, unmanaged: bool = False) -> bool:
        """See `ports.target.DeployTarget.retire`: first look for a domain bound to the copy, then
        have Tencent Cloud look for other users (`SslStore.remove`).
        """
        copy = self._certificates.find(remote_id)
        if copy is None:
            return False
        self._must_not_use(copy, label)
        return self._copies.retire(copy, label, unmanaged=unmanaged)

    def _must_not_use(self, copy: StoredCertificate, label: str) -> None:
        """Raise `TargetInUse` for a copy that a domain has or may soon have. A product closed to
        the key is passed over, because Tencent Cloud looks as well.
        """
        for part in (self._cdn, self._hosts):
            listed = attempt(partial(part.listed, copy.names), TencentFailure)
            if isinstance(listed, TencentFailure):
                if not listed.is_denied or listed.is_common:
                    raise listed
                continue
            for name, entry in listed.items():
                # The settings may hide the certificate of a change in progress (§2.2).
                is_covered = copy.names is None or covered_by(copy.names, name)
                may_get = entry.state is DomainState.PROCESSING and is_covered
                if copy.remote_id in (*entry.bound, *entry.coming) or may_get:
                    sentence = Text("{domain} is still bound to {label}, or in change")
                    hint = Text(
                        "normal until the domain's change has finished; a later run tries again"
                    )
                    words = {"domain": name, "label": label or short(copy.remote_id)}
                    raise rejected(sentence, hint, TargetInUse, **words)

    @translating_errors()
    def survey(self, looked: Looked) -> Survey:
        """See `ports.survey.Surveyed.survey`."""
        return survey((self._cdn, self._hosts), self._certificates, looked)

    @translating_errors()
    def examine(self, account: str) -> tuple[Problem, ...]:
        """See `ports.examination.Examined.examine`."""
        return tuple(examine(account, (self._cdn, self._hosts), self._certificates))

    @translating_errors()
    def cnames(self) -> Mapping[str, str]:
        """See `ports.examination.PointedAt.cnames`. A product closed to the key is left out:
        `examine` reports the product.
        """
        cnames: dict[str, str] = {}
        for part in (self._hosts, self._cdn):
            listed = attempt(partial(part.listed, None), TencentFailure)
            if not isinstance(listed, TencentFailure):
                entries = (entry for entry in listed.values() if entry.cname and not entry.is_off)
                cnames |= {entry.name: entry.cname.rstrip(".").lower() for entry in entries}
        return cnames

    @translating_errors()
    def clock_ahead(self) -> timedelta | None:
        """See `ports.examination.Timed.clock_ahead`."""
        return self._client.clock_ahead()

    def report(self) -> AccountReport:
        """See `ports.examination.Reporting.report`."""
        return report_of(self._client)

    def forget_refusal(self) -> None:
        """See `ports.target.LimitedTarget`."""
        self._copies.forget_refusal()
