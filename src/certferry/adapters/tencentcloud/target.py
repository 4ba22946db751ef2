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
from typing import Annotated, Literal

from certferry.adapters.cdn.failure import rejected, translating_errors
from certferry.adapters.cdn.parts import Entry, ObservedParts, Wording
from certferry.adapters.cdn.settling import Settler
from certferry.adapters.cdn.target import PartsTarget, must_cover
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
from certferry.adapters.tencentcloud.examination import report_of
from certferry.adapters.tencentcloud.store import SslStore
from certferry.adapters.tencentcloud.tencent_client import TencentClient
from certferry.core.certificates.certificate import short
from certferry.core.certificates.lineage import owner_of
from certferry.core.desired.certificate import DesiredHttps, Kind
from certferry.core.observed.observation import DomainState, ObservedTarget, TargetRules
from certferry.core.reasons import Usual
from certferry.errors import TargetInUse
from certferry.ports.adapter import Context
from certferry.ports.examination import AccountReport
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
    CALLED,
    TencentFailure,
    Text('set kind = "cdn" or "eo", or remove `kind`'),
    no_such_domain,
    store="SSL",
    # An account may have all domains at one of the two products.
    optional=frozenset({CdnDomains.called, EdgeHosts.called}),
    accepted=Text(
        "Tencent Cloud accepts the key for reading: {ways}; only a change would show whether the"
        " key can upload and bind"
    ),
)


class TencentCloud(PartsTarget[CdnDomains | EdgeHosts]):
    """The CDN domains and EdgeOne's hosts of one account. Safe to share between threads."""

    def __init__(
        self,
        client: TencentClient,
        context: Context,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        settler = Settler(context.pause)
        self._client = client
        store = SslStore(client, context.memory, context.pause, context.now)
        parts: dict[Kind, CdnDomains | EdgeHosts] = {
            Kind.CDN: CdnDomains(client, settler, clock),
            EO: EdgeHosts(client, settler, clock, store.kind_of),
        }
        super().__init__(_WORDING, client, parts, store, context, clock)

    @translating_errors()
    def observe(self, scope: Scope) -> ObservedTarget:
        """Read the domains and our copies; the result names the unreadable parts.

        Raises `DeployError` for a failure that any other call would share, or that hides the
        domains of the scope.
        """
        parts = self._of(scope.kind)
        if scope.anew:  # another run may have uploaded
            self._certificates.forget()
        observed = ObservedParts(scope, parts, _WORDING, {})
        target = ObservedTarget(rules=TargetRules(usual_change=USUAL_CHANGE))
        try:
            stored = self._certificates.all()
        except TencentFailure as failure:
            if failure.is_common:
                raise
            hidden = replace(target, unread=(failure.error,), remotes_hidden=True)
            return observed.added_to(hidden, {})
        return observed.added_to(self._copies.added_to(target, scope), stored)

    def _bind(self, domain: str, kind: Kind, remote_id: str, https: DesiredHttps) -> str | None:
        part = self._of(kind)[0]
        must_cover(self._copy(remote_id).names, domain, remote_id)
        if isinstance(part, CdnDomains):
            return part.bind(domain, remote_id, https)
        stored = self._certificates.all().values()
        ours = {copy.remote_id for copy in stored if owner_of(copy.name) is not None}
        return part.bind(domain, remote_id, ours)

    @translating_errors()
    def retire(self, remote_id: str, label: str, *, unmanaged: bool = False) -> bool:
        """See `ports.target.DeployTarget.retire`: first look for a domain that has the copy, or may
        soon have it, then have Tencent Cloud look for other users (`SslStore.remove`).
        """
        copy = self._certificates.find(remote_id)
        if copy is None:
            return False

        def uses(_: object, entry: Entry) -> bool:
            # The settings may hide the certificate of a change in progress (§2.2).
            may_get = entry.state is DomainState.PROCESSING and copy.may_cover(entry.name)
            return remote_id in (*entry.bound, *entry.coming) or may_get

        if (domain := self._user_of(copy, uses)) is not None:
            sentence = Text("{domain} is still bound to {label}, or in change")
            hint = Text("normal until the domain's change has finished; a later run tries again")
            words = {"domain": domain, "label": label or short(remote_id)}
            raise rejected(sentence, hint, TargetInUse, **words)
        return self._copies.retire(copy, label, unmanaged=unmanaged)

    def report(self) -> AccountReport:
        """See `ports.examination.Reporting.report`."""
        return report_of(self._client)
