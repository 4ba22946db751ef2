"""What a CA says of dns-persist-01, read strictly (draft-ietf-acme-dns-persist-02 §3).

An older form than draft -02's (Google Trust Services, 2026-09) counts for none: its records differ.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import urlsplit

from certferry.core.certificates.names import MAX_NAME
from certferry.core.dns_persist import METHOD, Offer

MOST_ISSUERS = 10
"""Names in one list (§3.1)."""

_NAME = re.compile(r"(?:(?!-)[a-z0-9-]{1,63}(?<!-)\.)*(?!-)[a-z0-9-]{1,63}(?<!-)")
_PREFIX = re.compile(r"[\x21\x23-\x3a\x3d\x3f-\x7e]+")
"""Of what a URI has, and neither quotes nor the `;` that would end a record's parameter."""


def offer_in(directory: Any) -> Offer | None:
    """Return what a directory offers, `None` where that is nothing or not as draft -02 has it.

    Who serves which draft: docs/facts/letsencrypt.md §4.2.
    """
    meta = directory.get("meta") if isinstance(directory, dict) else None
    if not isinstance(meta, dict):
        return None
    issuers, prefix = _issuers(meta.get("issuerDomainNames")), meta.get("accountHashPrefix")
    if not issuers or not isinstance(prefix, str) or not _PREFIX.fullmatch(prefix):
        return None
    try:
        is_address = bool(urlsplit(prefix).scheme)
    except ValueError:
        return None
    return Offer(issuers, prefix) if is_address else None


def is_for(challenge: Mapping[str, Any], offer: Offer, identities: Collection[str]) -> bool:
    """Tell whether a challenge is of this kind, and takes every name that the directory promises
    and none that CAA records could not name (§3.2).
    """
    if challenge.get("type") != METHOD:
        return False
    taken = set(_issuers(challenge.get("issuerDomainNames")))
    known = {identity.rstrip(".") for identity in identities}
    return set(offer.issuers) <= taken and (not known or taken <= known)


def _issuers(written: object) -> tuple[str, ...]:
    """Read a list of names; none where one of them is not as it must be (§3.1)."""
    if not isinstance(written, list) or not 0 < len(written) <= MOST_ISSUERS:
        return ()
    names = [name for name in written if isinstance(name, str) and len(name) <= MAX_NAME]
    return tuple(names) if all(map(_NAME.fullmatch, names)) and names == written else ()
