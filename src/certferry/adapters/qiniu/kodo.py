"""The Kodo source domains of a Qiniu account: found, read, bound (docs/facts/qiniu.md §6).

The calls that bind them are in no document. Only `/cert/bindings` says whether a change was made,
and a change has no state of its own: the edges show the rest.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from certferry.adapters.qiniu.account import QiniuAccount, Settler, Sources
from certferry.adapters.qiniu.client import QiniuClient
from certferry.adapters.qiniu.errors import QiniuFailure
from certferry.adapters.qiniu.kinds import KODO
from certferry.adapters.qiniu.records import BucketDomain, name_at_qiniu
from certferry.core.desired.certificate import DesiredHttps
from certferry.core.observed.observation import DomainState, ObservedDomain
from certferry.errors import DeployError, TargetInUse, TargetRejected
from certferry.text import Text

log = logging.getLogger(__name__)


class SourceDomains:
    """Raises `QiniuFailure` and `DeployError`."""

    def __init__(self, client: QiniuClient, account: QiniuAccount, settler: Settler) -> None:
        self._client = client
        self._account = account
        self._settler = settler

    def all(self) -> Sources:
        """Return the source domains, as far as the keys may see them."""
        return self._account.sources.get()

    def has(self, domain: str) -> bool:
        """Return whether a bucket that can be read has such a domain."""
        return domain in self.all().domains

    def named(self, domain: str) -> ObservedDomain:
        """Observe one domain, whose bucket was read."""
        return self._observed(domain, self._account.bindings.get().get(domain))

    def named_without_bindings(self, domain: str) -> ObservedDomain:
        """Observe a domain whose binding Kodo does not show."""
        return replace(self._observed(domain, None), binding_hidden=True)

    def is_bound_at_all(self, domain: str) -> bool:
        """Return whether it is among the bindings, which only source domains are."""
        try:
            return domain in self._account.bindings.get()
        except QiniuFailure:
            return False

    def must_not_use(self, remote_id: str, label: str) -> None:
        """Raise `TargetInUse` for a certificate that a source domain is bound to. Keys that may not
        see that leave it to Qiniu, which refuses to remove it as well.
        """
        try:
            bindings = self._account.bindings.get()
        except QiniuFailure as failure:
            log.info("what source domains are bound to cannot be seen: %s", failure)
            return
        for domain, bound in bindings.items():
            if bound == remote_id:
                raise TargetInUse(
                    Text(
                        "the source domain {domain} is still bound to {label}",
                        domain=domain,
                        label=label or remote_id,
                    ),
                    hint=Text("bind it to another certificate; a later run tries again"),
                )

    def _observed(self, domain: str, bound: str | None) -> ObservedDomain:
        source = self.all().domains.get(domain)
        frozen = None if source is None else why_frozen(domain, source)
        return ObservedDomain(
            domain=domain,
            kind=KODO,
            state=DomainState.READY if frozen is None else DomainState.UNAVAILABLE,
            bound=bound,
            problem=frozen,
            has_settings=False,
        )

    def bind(self, domain: str, remote_id: str, https: DesiredHttps) -> None:
        """Bind a domain, unless it is bound so already. It has no settings, and what is bound is in
        force at once: no request would have to be asked about.
        """
        del https
        source = self.all().domains.get(domain)
        frozen = None if source is None else why_frozen(domain, source)
        if frozen is not None:
            raise frozen
        if not self._is_bound(domain, remote_id):
            self._settler.until_settled(
                lambda: self._bind(domain, remote_id), lambda: self._is_bound(domain, remote_id)
            )

    def _bind(self, domain: str, remote_id: str) -> bool:
        self._client.bind_source(name_at_qiniu(domain), remote_id)
        self._account.bindings.forget()
        return True

    def _is_bound(self, domain: str, remote_id: str) -> bool | None:
        """Return whether it is bound so; `None` where Kodo does not show it."""
        try:
            return self._account.bindings.get(anew=True).get(domain) == remote_id or None
        except QiniuFailure as unread:
            if unread.is_common and not unread.is_denied:
                raise
            return None


def why_frozen(domain: str, source: BucketDomain) -> DeployError | None:
    """Return why a domain cannot be bound, however long one waits; `None` when it can."""
    if not source.freeze_types:
        return None
    return TargetRejected(
        Text(
            "{domain} is frozen at Kodo ({reasons})",
            domain=domain,
            reasons=list(source.freeze_types),
        ),
        hint=Text("Qiniu's console says why (ICP filing, content); lift that first"),
    )
