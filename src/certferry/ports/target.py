"""The port to a place that serves certificates."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from certferry.core.certificates.certificate import CertificateBundle
from certferry.core.desired.certificate import DesiredHttps, Kind
from certferry.core.observed.observation import ObservedTarget, Scope

__all__ = ["DeployTarget", "LimitedTarget", "Scope"]


class DeployTarget(Protocol):
    """Serves certificates under domains."""

    def observe(self, scope: Scope) -> ObservedTarget:
        """Find the domains, what each is bound to, and our copies. Changes nothing. A target whose
        list tells since when a certificate is valid also gives what carries the lineage's mark and
        is not `known`: by that an older state is noticed.

        A named domain that is not there, or one that cannot be changed, is reported as
        `UNAVAILABLE` with the reason; what `exclude` takes away, as `excluded`; what is found, and
        serves no visitors since it is switched off, may be reported as `left_out`, so that nothing
        fails of it; `served` is left empty. A target that answers from a cache reads the domains
        of `Scope.doubted` from its service. Raises `DeployError` when the target cannot be read.
        """

    def upload(self, lineage: str, bundle: CertificateBundle) -> str:
        """Return the remote id of the certificate, uploading it only if it is not there yet.

        Must be idempotent by fingerprint, also when an answer was lost; must remove nothing.
        Raises `DeployError`.
        """

    def bind(self, domain: str, kind: Kind, remote_id: str, https: DesiredHttps) -> str | None:
        """Ask the target to serve the certificate under the domain; returns when it is accepted,
        with the target's own id of the request where it gives one.

        Must keep the domain's other settings unless `https` names them; must be idempotent; must
        not write while an earlier change is carried out (`TargetBusy`). Raises `DeployError`,
        `CopyGone` where there is no such certificate.
        """

    def retire(self, remote_id: str, label: str, *, unmanaged: bool = False) -> bool:
        """Remove a copy that nothing uses, and return whether it was there.

        Must refuse what does not carry the label and, unless `unmanaged` is set, what carries no
        mark of ours (`TargetRejected`); must always refuse what is bound (`TargetInUse`). Raises
        `DeployError`.
        """


@runtime_checkable
class LimitedTarget(Protocol):
    """A target that remembers how many certificates it held when it refused one more."""

    def forget_refusal(self) -> None:
        """Forget it: the operator says that it takes more now."""
