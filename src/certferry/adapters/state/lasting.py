"""Facts of the history that hold for ever: a certificate was revoked, or is not to serve a domain
again.

A program without the key can put a row back as the row was before, or delete the row. An entry of
the history is missed by `state check` (`chain`). So the history adds what the rows lack.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec import Struct

from certferry.adapters.state import chain, columns
from certferry.adapters.state.binding import VERSION, WITHDRAWAL
from certferry.adapters.state.columns import Value
from certferry.adapters.state.database import Reader, Row, Statement
from certferry.adapters.state.sealing import Sealing
from certferry.core.certificates.lineage import Revocation, RevocationReason, Version, Withdrawal
from certferry.errors import StateError, StateForeign
from certferry.text import Text
from certferry.values import replace

_ENTRIES = "SELECT * FROM history WHERE event IN ('revoked', 'rolled back', 'rollback refused')"
"""Schema 22 has an index of these alone."""


class Lasting(Struct, frozen=True):
    """Revocations and withdrawals, as the history has them."""

    #: By lineage and fingerprint.
    revocations: Mapping[tuple[str, str], Revocation]
    #: By the columns of a withdrawal's key.
    withdrawals: Mapping[tuple[str, ...], Withdrawal]

    def with_revocation(self, lineage: str, version: Version) -> Version:
        """Return a version with its revocation, if its row has lost the revocation."""
        revocation = self.revocations.get((lineage, version.fingerprint))
        is_stored = version.revocation is not None and version.revocation.is_answered
        return (
            version if revocation is None or is_stored else replace(version, revocation=revocation)
        )

    def with_lost(self, lineage: str, stored: Sequence[Withdrawal]) -> Iterator[Withdrawal]:
        """Return the withdrawals of a lineage: those of rows, then those without one."""
        yield from stored
        places = {(row.target, row.domain, row.fingerprint) for row in stored}
        for withdrawal in self.withdrawals.values():
            place = (withdrawal.target, withdrawal.domain, withdrawal.fingerprint)
            if withdrawal.lineage == lineage and place not in places:
                yield withdrawal


_NOTHING = Lasting({}, {})


def entries_of(lineages: Sequence[str]) -> Statement:
    """Return what asks for the entries of some lineages."""
    return (
        f"{_ENTRIES} AND lineage IN ({', '.join('?' * len(lineages))}) ORDER BY lineage, number",
        (*lineages,),
    )


def every_entry() -> Statement:
    """Return what asks for the entries of all lineages."""
    return f"{_ENTRIES} ORDER BY lineage, number", ()


def read(sealing: Sealing, reader: Reader, entries: Iterable[Row]) -> Lasting:
    """Read entries, without those that certferry did not write; none without the key."""
    entries = list(entries)
    if not entries:
        return _NOTHING
    try:
        key = sealing.history_key(reader)
    except StateError:
        if sealing.is_in_force:
            raise
        return _NOTHING
    revocations: dict[tuple[str, str], Revocation] = {}
    withdrawals: dict[tuple[str, ...], Withdrawal] = {}
    for entry in entries:
        if not chain.is_ours(key, entry):
            continue
        lineage, facts = entry["lineage"], columns.FACTS.read(entry["facts"])
        at = columns.MOMENT.read(entry["at"])
        if entry["event"] == "revoked":
            reason = columns.read_as(RevocationReason, facts["reason"])
            revocations[lineage, facts["fingerprint"]] = Revocation(at, reason)
            continue
        place = (lineage, facts["target"], facts["domain"])
        if entry["event"] == "rolled back":
            withdrawal = Withdrawal(*place, facts["fingerprint"], at)
            withdrawals[*place, withdrawal.fingerprint] = withdrawal
        else:
            for refused in [known for known in withdrawals if known[:3] == place]:
                del withdrawals[refused]
    return Lasting(revocations, withdrawals)


_NEWEST = (
    "SELECT * FROM version WHERE number ="
    " (SELECT MAX(number) FROM version AS newer WHERE newer.lineage = version.lineage)"
    " ORDER BY lineage"
)
_GO_BY_THE_HISTORY = Text(
    "certferry goes by the history; see who else can write to the database. The next certificate"
    " ends this: certferry sync --renew {lineage}"
)


def undone(sealing: Sealing, reader: Reader) -> Iterator[tuple[str, StateForeign]]:
    """Return what another program has undone for the newest certificate of each lineage."""
    query, values = every_entry()
    lasting = read(sealing, reader, reader.rows(query, *values))
    if lasting == _NOTHING:
        return
    newest = {row["lineage"]: row for row in reader.rows(_NEWEST) if VERSION.is_ours(sealing, row)}
    for lineage, row in newest.items():
        if (lineage, row["fingerprint"]) in lasting.revocations and row["revoked_at"] is None:
            yield lineage, _gone(lineage, Text("the revocation of {lineage}", lineage=lineage))
    for key, withdrawal in lasting.withdrawals.items():
        lineage = withdrawal.lineage
        columns_of_key: dict[str, Value] = dict(zip(WITHDRAWAL.key, key, strict=True))
        is_newest = lineage in newest and newest[lineage]["fingerprint"] == withdrawal.fingerprint
        if is_newest and WITHDRAWAL.find(sealing, reader, **columns_of_key) is None:
            yield lineage, _gone(lineage, WITHDRAWAL.name.filled(**columns_of_key))


def _gone(lineage: str, what: Text) -> StateForeign:
    return StateForeign(
        Text("another program has removed from the state: {row}", row=what),
        hint=_GO_BY_THE_HISTORY.filled(lineage=lineage),
    )
