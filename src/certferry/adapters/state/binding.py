"""Rows that are bound by the state's key: a row that another program wrote, or in which it changed
a column that decides, is known by its proof, and counts for nothing.

A proof is an empty text, sealed, and bound to the values of those columns. A program that can write
to the database and has no key makes none. It can delete rows, and put a whole row back as it was
(docs/decisions/0056).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from certferry.adapters.state.columns import Value
from certferry.adapters.state.database import Reader, Row, Transaction, Upgrade
from certferry.adapters.state.sealing import Sealing
from certferry.errors import StateForeign
from certferry.text import Text

_SEE_WHO = Text(
    "see who else can write to the database; put the state back from a backup, or delete this row"
)


@dataclass(frozen=True, slots=True)
class Binding:
    """How the rows of a table are bound: the `kind` and the values that a proof is of, those of the
    row's `key` and of the `others` that decide. `name` is what messages call a row, by columns of
    it, and `fix` what ends the trouble. `condition`, a constant, leaves out rows that are not
    bound.
    """

    table: str
    kind: str
    key: tuple[str, ...]
    others: tuple[str, ...]
    name: Text
    fix: Text = _SEE_WHO
    condition: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the columns whose values a proof is of."""
        return (*self.key, *self.others)

    def bound_to(self, row: Row | Mapping[str, Value]) -> tuple[Value, ...]:
        """Return what the proof of a row is bound to."""
        return (self.kind, *(row[name] for name in self.columns))

    def is_ours(self, sealing: Sealing, row: Row) -> bool:
        """Return whether a row is as certferry wrote it. Raises `StateError` without a key."""
        return sealing.is_bound(row["proof"], *self.bound_to(row))

    def must_be_ours(self, sealing: Sealing, reader: Reader, row: Row) -> None:
        """Raise `StateForeign` for a row that is not as certferry wrote it, and `StateError` where
        the key is another one.
        """
        if not self.is_ours(sealing, row):
            sealing.must_open(reader)
            raise self.foreign(row)

    def foreign(self, row: Row | Mapping[str, Value]) -> StateForeign:
        """Return the error for a row of another program."""
        named = {name: row[name] for name in self.columns}
        return StateForeign(
            Text(
                "the state contains data that certferry did not write: {row}",
                row=self.name.filled(**named),
            ),
            hint=self.fix.filled(**named),
        )

    def bind(self, sealing: Sealing, transaction: Transaction, **key: Value) -> None:
        """Prove the rows with the values of a key: those that this transaction has written."""
        for row in self._rows(transaction, key):
            proof = sealing.bind(transaction, *self.bound_to(row))
            transaction.update(self.table, key, proof=proof)

    def change(
        self, sealing: Sealing, transaction: Transaction, key: Mapping[str, Value], **row: Value
    ) -> None:
        """Set columns of the row with the values of its key, if there is one, and prove it anew.
        Raises as `must_be_ours`: what another program has changed is never proven.
        """
        for before in self._rows(transaction, key):
            self.must_be_ours(sealing, transaction, before)
            transaction.update(self.table, key, **row)
            self.bind(sealing, transaction, **key)

    def ours(
        self, sealing: Sealing, reader: Reader, condition: str, *values: Value
    ) -> Iterator[Row]:
        """Return the rows of a condition, a constant, without those of another program."""
        for row in reader.rows(f"SELECT * FROM {self.table} {condition}", *values):  # noqa: S608 - constants, by contract
            if self.is_ours(sealing, row):
                yield row

    def find(self, sealing: Sealing, reader: Reader, **key: Value) -> Row | None:
        """Return the row with the values of its key, if certferry wrote it."""
        ours = (row for row in self._rows(reader, key) if self.is_ours(sealing, row))
        return next(ours, None)

    def _rows(self, reader: Reader, key: Mapping[str, Value]) -> Sequence[Row]:
        these = " AND ".join(f"{name} = ?" for name in key)
        return reader.rows(f"SELECT * FROM {self.table} WHERE {these}", *key.values())  # noqa: S608 - names of the schema


VERSION = Binding(
    "version",
    "version row",
    ("lineage", "number"),
    (
        *("fingerprint", "names", "common_name", "serial", "issuer", "not_before", "not_after"),
        *("key_type", "saved_at", "key_matches", "chain_complete", "window_start", "window_end"),
        *("window_page", "fullchain_digest", "ask_after", "directory", "revoked_at"),
        *("revocation_reason", "revocation_answered", "issuer_not_after"),
    ),
    Text("version {number} of {lineage}"),
)
WITHDRAWAL = Binding(
    "withdrawal",
    "withdrawal",
    ("lineage", "target", "domain", "fingerprint"),
    ("withdrawn_at", "by_hand"),
    Text("the certificate of {lineage} that {domain} is not to serve again"),
)
ACCOUNT = Binding(
    "acme_account", "account row", ("directory",), ("url",), Text("the account at {directory}")
)
ORDER = Binding(
    "acme_order",
    "order row",
    ("lineage",),
    ("directory", "url", "names", "created_at", "key_type"),
    Text("the order for {lineage}"),
)
USER = Binding(
    "console_user",
    "user",
    ("id",),
    ("name", "role", "made_at", "password", "password_at"),
    Text("the user {id}"),
    Text("see who else can write to the database; run: certferry console user remove {id}"),
)
LINK = Binding(
    "console_user_link",
    "password link",
    ("user_id",),
    ("digest", "expires_at"),
    Text("the link by which {user_id} chooses a password"),
)
SESSION = Binding(
    "console_user_session",
    "session",
    ("digest",),
    ("user_id", "began_at", "seen_at", "address", "browser"),
    Text("a session of {user_id}"),
)
TOKEN = Binding(
    "console_token",
    "token",
    ("id",),
    ("name", "digest", "begins", "role", "made_at", "expires_at"),
    Text("the token {id}"),
    Text("see who else can write to the database; run: certferry console token remove {id}"),
)
UPLOAD = Binding(
    "upload",
    "upload",
    ("target", "remote_id"),
    ("lineage", "fingerprint"),
    Text("the copy {remote_id} at {target}"),
    # Of what is no lineage's, nothing is ever bound to a domain.
    condition="WHERE lineage <> ''",
)
CHALLENGE = Binding(
    "challenge_record",
    "challenge",
    ("lineage", "name", "value"),
    (),
    Text("the challenge record {name} of {lineage}"),
)

_SINCE_21 = (VERSION, WITHDRAWAL, ACCOUNT, ORDER, USER, LINK, SESSION, TOKEN)
BINDINGS = (*_SINCE_21, UPLOAD, CHALLENGE)


def foreign_rows(sealing: Sealing, reader: Reader) -> Iterator[tuple[str, StateForeign]]:
    """Return each row that another program wrote or changed, and whose it is."""
    for one in BINDINGS:
        for row in _all(reader, one):
            if not one.is_ours(sealing, row):
                whose = row["lineage"] if "lineage" in one.columns else row[one.columns[0]]
                yield str(whose), one.foreign(row)


def _all(reader: Reader, binding: Binding) -> Sequence[Row]:
    order = ", ".join(binding.key)
    query = f"SELECT * FROM {binding.table} {binding.condition} ORDER BY {order}"  # noqa: S608 - names of the schema
    return reader.rows(query)


# --- What was stored before


def upgrade_of(host: str, sealing: Sealing) -> Upgrade:
    """Return what migrations need to know. Each binds once what was stored before: schema 8 the
    challenge records, schema 21 what this module has beside them and uploads.
    """

    def bind_rows(transaction: Transaction) -> None:
        for one in _SINCE_21:
            _prove(transaction, one, sealing)
        sealing.note_bound(transaction)

    def bind_challenges(transaction: Transaction) -> None:
        _prove(transaction, CHALLENGE, sealing)

    return Upgrade(host, {8: bind_challenges, 21: bind_rows}, sealing.begin)


def _prove(transaction: Transaction, binding: Binding, sealing: Sealing) -> None:
    rows = _all(transaction, binding)
    key = sealing.key_before_binding(transaction) if rows else None
    if key is None:  # a state without a secret: certferry wrote no such row there
        return
    for row in rows:
        these = {name: row[name] for name in binding.key}
        proof = key.seal("", *binding.bound_to(row))
        transaction.update(binding.table, these, proof=proof)
