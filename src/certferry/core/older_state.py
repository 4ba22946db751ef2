"""A state that is older than the world, as when a backup was put back: it deploys nothing."""

from __future__ import annotations

from certferry.core.desired import DesiredCertificate
from certferry.core.lineage import is_owner
from certferry.core.observed import Observation
from certferry.core.other_certificate import OtherCertificate
from certferry.core.plan import Refusal
from certferry.core.reasons import Reason, ReasonCode
from certferry.core.steps import Deploy
from certferry.text import Text


def refuse_older(
    step: Deploy, desired: DesiredCertificate, observed: Observation
) -> Refusal | None:
    """Refuse to deploy the version in force where something newer of the lineage is at a target. Of
    a ferried certificate the files tell which is to be served, and not the state.
    """
    newer = _newest_unremembered(desired.lineage, observed)
    if newer is None or desired.files is not None:
        return None
    reason = Reason(
        ReasonCode.STATE_OLDER,
        Text(
            "{label}, valid from {moment}, is there already and newer than what the state knows",
            label=newer.label,
            moment=newer.not_before,
        ),
    )
    hint = Text(
        "the state is an older copy, or another host has this certificate under the same name: put"
        " the newest state back, or run `certferry sync --renew {lineage}` for one that is newer"
        " still",
        lineage=desired.lineage,
    )
    return Refusal(step, reason, hint)


def _newest_unremembered(lineage: str, observed: Observation) -> OtherCertificate | None:
    """Return the newest of what carries the lineage's mark at a target and was issued after every
    version that the state knows. A name that is cut in the mark may be another lineage's as well.
    """
    remembered = [version.certificate.not_before for version in observed.versions]
    found = [
        (other.not_before, other)
        for target in observed.targets
        for other in target.unremembered
        if other.not_before is not None
        and is_owner(lineage, other.label)
        and all(other.not_before > begin for begin in remembered)
    ]
    return max(found, key=lambda pair: pair[0])[1] if found else None
