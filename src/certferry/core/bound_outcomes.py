"""What a run tells of a certificate that it has bound."""

from __future__ import annotations

from certferry.core.observed import Observation, ObservedDomain
from certferry.core.rollbacks import previous_of
from certferry.core.rollout_record import RolloutRecord
from certferry.text import Text

BOUND = Text("bound")


def what_was_bound(domain: ObservedDomain, observed: Observation) -> Text:
    """Say whether it was the previous certificate, and until when that is valid; or whether the
    change of another tool was undone.
    """
    previous = previous_of(domain, observed)
    if previous is not None:
        until = previous.certificate.not_after
        return Text("bound: the previous certificate, valid until {moment}", moment=until)
    if domain.last is not None and _is_repair(domain.last):
        return Text("bound: what another tool had changed is undone")
    return BOUND


def _is_repair(record: RolloutRecord) -> bool:
    """Tell whether this rollout is a repair; those before it stay in the record."""
    return bool(record.repairs) and record.repairs[0] >= record.started_at
