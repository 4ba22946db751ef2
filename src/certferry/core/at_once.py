"""When a certificate is due whose CA asks for another one at once, as before it revokes it."""

from __future__ import annotations

from datetime import datetime, timedelta

from certferry.core import renewal
from certferry.core.lineage import Version
from certferry.core.observed import Observation

GAP = timedelta(days=1)
"""Between two certificates of a lineage which both came because the CA's window had passed: a CA
that says so of every certificate gets one order a day."""


def renew_at(observed: Observation, version: Version) -> datetime:
    """Return the moment from which the version in force is due, by its window and what was before
    it.
    """
    moment = renewal.renew_at(version.certificate, version.window)
    if _came_at_once(observed, version):
        usual = renewal.renew_at(version.certificate)
        moment = max(moment, min(version.saved_at + GAP, usual))
    return moment


def _came_at_once(observed: Observation, version: Version) -> bool:
    """Tell whether the version came when the window of the one before it had passed."""
    before = next(iter(observed.versions[1:]), None)
    window = None if before is None else renewal.believed(before.certificate, before.window)
    return window is not None and window.end <= version.saved_at
