"""The state's record of bringing one certificate to one domain."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from certferry.core.desired import HttpsWish
from certferry.core.https_settings import HttpsSettings


@dataclass(frozen=True, slots=True)
class RolloutRecord:
    """How far one certificate is with one domain: since when it is needed there, when the target
    took it, what the target said of the domain before that, when a try failed for good, when it was
    first seen served by all.

    `sent` are the settings that the target took with it, `None` where that is unknown;
    `settings_before` are those that the domain showed before. At a receiver, `program_digest` is
    that of the program which was run, and `fullchain_digest` that of leaf and issuers.

    `request_id` is the target's own of the change that it took. `worked_before`: every
    address that was reached completed a handshake just before that; `refused_since`: addresses have
    refused the certificate since then. `tries` counts how often the certificate was sent there in
    vain or is on its way. `drift` names what another tool changed, as it was last told; `repairs`
    are the moments at which that was set right, newest first.
    """

    lineage: str
    target: str
    domain: str
    fingerprint: str
    started_at: datetime
    accepted_at: datetime | None = None
    problem_before: str | None = None
    failed_at: datetime | None = None
    verified_at: datetime | None = None
    sent: HttpsWish | None = None
    program_digest: str | None = None
    fullchain_digest: str | None = None
    settings_before: HttpsSettings | None = None
    request_id: str | None = None
    worked_before: bool = False
    refused_since: datetime | None = None
    drift: str | None = None
    repairs: tuple[datetime, ...] = ()
    tries: int = 0

    @property
    def asked_at(self) -> datetime:
        """When the target took the change, or the rollout began where it has not."""
        return self.accepted_at or self.started_at


LAG = timedelta(minutes=1)
"""How long a target may go on telling of what was before a change that it accepted."""
