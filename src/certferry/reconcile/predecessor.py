"""What an order takes from the certificate before: its leaf, which is replaced, and where that is
asked for, its key.
"""

from __future__ import annotations

from certferry.core.lineage import Version
from certferry.core.secret import Secret
from certferry.errors import StateError
from certferry.reconcile.visit import Visit


def leaf_of(version: Version, visit: Visit) -> str | None:
    """Return the leaf that is replaced. One that cannot be read is replaced all the same."""
    try:
        return visit.doors.state.bundle(visit.lineage, version.number).cert_pem
    except StateError:
        return None


def reused_key(visit: Visit) -> Secret | None:
    """Return the key of the certificate in force, where it may be used again."""
    current = visit.observed.current
    if current is None or not current.key_matches:
        return None
    if current.revocation is not None and current.revocation.spoils_key:
        return None
    return visit.doors.state.bundle(visit.lineage, current.number).privkey_pem
