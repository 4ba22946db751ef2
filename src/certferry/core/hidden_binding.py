"""Which certificate is bound where the target does not tell: what its edges and our record say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from certferry.core.observed import RemoteCertificate, Served


@dataclass(frozen=True, slots=True)
class LastChange:
    """The last certificate that we asked for at a domain, when, and whether it was ever seen."""

    fingerprint: str
    at: datetime
    was_seen: bool


def likely_binding(
    remotes: Sequence[RemoteCertificate],
    served: Sequence[Served],
    last: LastChange | None,
    now: datetime,
    timeout: timedelta,
) -> str | None:
    """Return the remote id that is probably bound, `None` when it is probably none of ours.

    A change that we asked for a moment ago counts before what the edges still serve; after
    `timeout`, what the edges serve counts. Where no edge answers, our record does.
    """
    by_fingerprint = {remote.fingerprint: remote.remote_id for remote in remotes}
    asked = None if last is None else by_fingerprint.get(last.fingerprint)
    if asked is not None and last is not None and not last.was_seen and now < last.at + timeout:
        return asked
    seen = {address.fingerprint for address in served if address.answered}
    if not seen:
        return asked
    return by_fingerprint.get(seen.pop() or "") if len(seen) == 1 else None
