"""The port to a target: an account at a CDN or a similar service that serves certificates."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.desired.certificate import DesiredHttps, Kind
from certferry.core.observed.observation import ObservedTarget, Scope

__all__ = ["DeployTarget", "LimitedTarget", "Scope"]


class DeployTarget(Protocol):
    """Serves certificates under domains.

    For one certificate a run

    1. calls `observe(scope)`: the domains, the bound certificates and certferry's copies;
    2. calls `upload(lineage, bundle)` for a certificate that is missing at the target;
    3. calls `bind(domain, kind, remote_id, https)` for each domain that is bound to another
       certificate, or has other settings than declared;
    4. observes again, and probes the edges, until every edge serves the certificate;
    5. calls `retire(remote_id, label)` for copies that were replaced.

    A run may be killed between any two calls; the next run begins with 1.
    """

    def observe(self, scope: Scope) -> ObservedTarget:
        """Return the domains, the certificate bound to each, and certferry's copies. Only reads.

        - Report a named domain as `UNAVAILABLE`, with the reason, if the domain is absent or
          cannot be changed. Report domains removed by `exclude` as `excluded`.
        - Report switched-off domains that are not named as `left_out`; a run passes over these.
        - If the list shows since when a certificate is valid, also return, as `unremembered`, the
          copies that have the lineage's mark and are not among `known`. A newer copy there reveals
          that the state is an older copy.
        - Read the domains of `Scope.doubted` from the service, whatever a cache holds.
        - Leave `served` empty.

        Raises `DeployError` when the target cannot be read.
        """

    def upload(self, lineage: str, bundle: CertificateBundle) -> str:
        """Upload the certificate if the target lacks a copy, and return the remote id of the copy.

        Must be idempotent by fingerprint, also after a lost answer. Must remove nothing. Raises
        `DeployError`.
        """

    def bind(self, domain: str, kind: Kind, remote_id: str, https: DesiredHttps) -> str | None:
        """Ask the target to serve the certificate under the domain. Return as soon as the target
        accepts the change. The result is the target's own id of the request, if any.

        Must keep every setting of the domain that `https` leaves open. Must be idempotent. Must
        raise `TargetBusy` instead of writing while an earlier change is carried out. Raises
        `DeployError`; `CopyGone` if the target lacks the certificate.
        """

    def retire(self, remote_id: str, label: str, *, unmanaged: bool = False) -> bool:
        """Remove an unused copy, and return whether the copy was there.

        Must refuse (`TargetRejected`) a copy with another label and, unless `unmanaged` is set, a
        copy without certferry's mark. Must always refuse a bound copy (`TargetInUse`). Raises
        `DeployError`.
        """


@runtime_checkable
class LimitedTarget(Protocol):
    """A target that, after a refused upload, remembers how full the account was, and counts the
    account as full for some time.
    """

    def forget_refusal(self) -> None:
        """Forget the refused upload, because the operator says that the account has room again."""
