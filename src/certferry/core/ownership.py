"""Who serves a domain that several certificates cover.

Without an owner two lineages would bind it in turns for ever, each seeing the other's certificate
as a stranger's. A domain that is named belongs to the certificate that names it. Of those that find
it among what they cover, the longest glob comes first, then an exact name before a wildcard, then
what is declared first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from certferry.core.choice import closest
from certferry.core.desired import DesiredCertificate, DesiredDeployment, Kind
from certferry.core.identifiers import WILDCARD


class _Claim(NamedTuple):
    lineage: str
    deployment: DesiredDeployment


class Claims:
    """What all the declared certificates lay claim to, whichever of them a run is for.

    The names of ferried certificates must have been filled in. To find an owner takes the same
    time with one certificate as with thousands.
    """

    def __init__(self, declared: Iterable[DesiredCertificate] = ()) -> None:
        wishes = tuple(declared)
        self.lineages = frozenset(wish.lineage for wish in wishes)
        self._named: defaultdict[tuple[str, str], list[_Claim]] = defaultdict(list)
        self._covering: defaultdict[tuple[str, str], list[_Claim]] = defaultdict(list)
        for wish in wishes:
            for deployment in wish.deployments:
                self._add(wish, deployment)

    def owns(self, lineage: str, deployment: DesiredDeployment, domain: str, kind: Kind) -> bool:
        """Tell whether this deployment is the one to serve a domain that is such at its target."""
        owner = self._owner(deployment.target, domain, kind)
        return owner is None or owner == (lineage, deployment)

    def owner(self, target: str, domain: str, kind: Kind) -> str | None:
        """Give the lineage that is to serve a domain, `None` when none has a claim."""
        owner = self._owner(target, domain, kind)
        return None if owner is None else owner.lineage

    def _add(self, wish: DesiredCertificate, deployment: DesiredDeployment) -> None:
        claim = _Claim(wish.lineage, deployment)
        if deployment.domains is None or deployment.globs:
            for name in wish.names:
                self._covering[deployment.target, name].append(claim)
        for domain in deployment.domains or ():
            self._named[deployment.target, domain].append(claim)

    def _owner(self, target: str, domain: str, kind: Kind) -> _Claim | None:
        for claim in self._named.get((target, domain), ()):
            if claim.deployment.kind.is_about(kind):
                return claim
        _, _, parent = domain.partition(".")
        exact_first = (
            *self._covering.get((target, domain), ()),
            *self._covering.get((target, WILDCARD + parent), ()),
        )
        about = [claim for claim in exact_first if claim.deployment.kind.is_about(kind)]
        if any(claim.deployment.has_patterns for claim in about):
            return closest(about, domain)
        return next(iter(about), None)
