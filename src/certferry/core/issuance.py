"""How a certificate is ordered, and at which CAs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA: what the operator calls it, and the URL of its directory."""

    name: str
    directory: str


@dataclass(frozen=True, slots=True)
class Issuance:
    """How the certificates of a lineage are ordered: `profiles` in order of preference, none for
    the CA's own choice; `authorities` with the usual one first, none where only one is known; with
    `reuse_key` the key of the certificate before is used again; with `dns_persist` records that
    stay may prove names (`core.dns_persist`).
    """

    profiles: tuple[str, ...] = ()
    authorities: tuple[Authority, ...] = ()
    reuse_key: bool = False
    dns_persist: bool = False
