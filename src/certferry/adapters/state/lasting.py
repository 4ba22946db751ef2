"""Revocations and withdrawals of certificates, read from the history.

A program without the key can restore an earlier row of `version` or `withdrawal`, or delete the
row, without a trace. A deleted entry of the history leaves a gap, which `state check` reports
(`history_chain`). Therefore certferry adds the revocations and withdrawals in the history to the
facts in the rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec import Struct

from certferry.adapters.state import columns, history_chain
from certferry.adapters.state.columns import Value
from certferry.adapters.state.database import Reader, Row, Statement
from certferry.adapters.state.row_proofs import VERSION, WITHDRAWAL
from certferry.adapters.state.sealing import Sealing
from certferry.core.certificates.lineage import Revocation, RevocationReason, Version, Withdrawal
from certferry.errors import StateError, StateForeign
from certferry.text import Text
from certferry.values import replace

_ENTRIES = "SELECT * FROM history WHERE event IN ('revoked', 'rolled back', 'rollback refused')"
"""The beginning of the queries for entries that revoke a certificate, or begin or end a withdrawal.
The index `history_that_lasts` has the same condition."""


class Lasting(Struct, frozen=True):
    """Revocations and withdrawals in the history."""

    #: By lineage and fingerprint.
    revocations: Mapping[tuple[str, str], Revocation]
    #: By the columns of a withdrawal's key.
    withdrawals: Mapping[tuple[str, ...], Withdrawal]

    def with_revocation(self, lineage: str, version: Version) -> Version:
        """Return a version with the revocation in the history, if there is one. But a revocation in
        the row stays if the CA has answered it.
        """
        revocation = self.revocations.get((lineage, version.fingerprint))
        is_stored = version.revocation is not None and version.revocation.is_answered
        return (
            version if revocation is None or is_stored else replace(version, revocation=revocation)
        )

    def with_lost(self, lineage: str, stored: Sequence[Withdrawal]) -> Iterator[Withdrawal]:
        """Yield a lineage's withdrawals: the stored rows, then withdrawals found only in the
        history.
        """
        yield from stored
        places = {(row.target, row.domain, row.fingerprint) for row in stored}
        for withdrawal in self.withdrawals.values():
            place = (withdrawal.target, withdrawal.domain, withdrawal.fingerprint)
            if withdrawal.lineage == lineage and place not in places:
                yield withdrawal


_NOTHING = Lasting({}, {})


def entries_of(lineages: Sequence[str]) -> Statement:
    """Return the query for the entries of some lineages."""
    return (
        f"{_ENTRIES} AND lineage IN ({', '.join('?' * len(lineages))}) ORDER BY lineage, number",
        (*lineages,),
    )


def every_entry() -> Statement:
    """Return the query for the entries of all lineages."""
    return f"{_ENTRIES} ORDER BY lineage, number", ()


def read(sealing: Sealing, reader: Reader, entries: Iterable[Row]) -> Lasting:
    """Return the revocations in certferry's entries, and the withdrawals that no later entry ended.

    If the history's key cannot be read, return `_NOTHING`; but raise the `StateError` if the
    state's key has already opened a sealed value.
    """
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
        if not history_chain.is_ours(key, entry):
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
            for refused in [stored for stored in withdrawals if stored[:3] == place]:
                del withdrawals[refused]
    return Lasting(revocations, withdrawals)


_NEWEST = (
    "SELECT * FROM version WHERE number ="
    " (SELECT MAX(number) FROM version AS newer WHERE newer.lineage = version.lineage)"
    " ORDER BY lineage"
)
_GO_BY_THE_HISTORY = Text(
    "certferry follows the history; check who else can write to the database. The next"
    " certificate ends the trouble: certferry sync --renew {lineage}"
)


def undone(sealing: Sealing, reader: Reader) -> Iterator[tuple[str, StateForeign]]:
    """Yield the lineage and an error for each revocation or withdrawal that is in the history and
    missing in the rows, because another program has changed the rows. Only the newest certificate
    of each lineage is checked.
    """
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


def _gone(lineage: str, row: Text) -> StateForeign:
    return StateForeign(
        Text("another program has removed from the state: {row}", row=row),
        hint=_GO_BY_THE_HISTORY.filled(lineage=lineage),
    )
