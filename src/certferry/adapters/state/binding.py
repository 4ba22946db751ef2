"""Rows that are bound by the state's key: a row that another program wrote, or in which it changed
a column that decides, is known by its proof, and counts for nothing.

A proof is an empty text, sealed, and bound to the values of those columns. A program that can write
to the database and has no key makes none. It can delete rows, and put a whole row back as it was
(docs/decisions/0056).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from certferry.adapters.state.columns import Value
from certferry.adapters.state.database import Reader, Row, Transaction, Upgrade
from certferry.adapters.state.sealing import Sealing
from certferry.core.redaction import Secret
from certferry.errors import StateError, StateForeign
from certferry.text import Text

_SEE_WHO = Text(
    "see who else can write to the database; put the state back from a backup, or delete the row:"
    " {statements}"
)


class Binding(Struct, frozen=True):
    """How the rows of a table are bound by proofs."""

    table: str
    #: The first word that a proof is of: a proof serves no row of another kind.
    kind: str
    #: The columns of the row's key: a proof is of their values, too.
    key: tuple[str, ...]
    #: The other columns that decide.
    others: tuple[str, ...]
    #: How messages name a row, by its columns.
    name: Text
    #: How an operator ends the trouble, by the row's columns and the `statements` that delete it.
    fix: Text = _SEE_WHO
    #: The rows that are bound, as a constant in SQL.
    condition: str = ""
    #: The tables with rows of the same key that refer to the row, and are deleted before.
    parts: tuple[str, ...] = ()

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

    def is_shown(self, sealing: Sealing, row: Row) -> bool:
        """Return whether a row is as certferry wrote it, or may be: without the key, rows are shown
        as the database has them, and no run goes on.
        """
        try:
            return self.is_ours(sealing, row)
        except StateError:
            if sealing.is_in_force:
                raise
            return True

    def must_be_ours(self, sealing: Sealing, reader: Reader, row: Row) -> None:
        """Raise `StateForeign` for a row that is not as certferry wrote it, and `StateError` where
        the key is another one.
        """
        if not self.is_ours(sealing, row):
            sealing.must_open(reader)
            raise self.foreign(row)

    def unseal(
        self, sealing: Sealing, reader: Reader, row: Row, sealed: str, *bound_to: str
    ) -> Secret:
        """Open a secret of a row. Raises `StateError`, which blames the key where the key opens
        nothing else, and the row otherwise.
        """
        secret = sealing.unseal(sealed, *bound_to)
        if secret is None:
            sealing.must_open(reader)
            raise self.wrong(row, Text("its key does not open: it was changed, or is another's"))
        return secret

    def wrong(self, row: Row, problem: Text) -> StateError:
        """Return the error for a row that is proven, with something beside it that is not right."""
        message = Text("{row}: {problem}").filled(row=self._named(row), problem=problem)
        return StateError(message, hint=self._fix(row))

    def foreign(self, row: Row | Mapping[str, Value]) -> StateForeign:
        """Return the error for a row of another program."""
        message = Text("the state contains data that certferry did not write: {row}")
        return StateForeign(message.filled(row=self._named(row)), hint=self._fix(row))

    def _named(self, row: Row | Mapping[str, Value]) -> Text:
        return self.name.filled(**{name: row[name] for name in self.columns})

    def _fix(self, row: Row | Mapping[str, Value]) -> Text:
        named = {name: row[name] for name in self.columns}
        return self.fix.filled(**named, statements=" ".join(self._deletions(row)))

    def _deletions(self, row: Row | Mapping[str, Value]) -> Iterator[str]:
        """Return the statements that delete a row, each as a person types it."""
        these = " AND ".join(f"{name} = {_quoted(row[name])}" for name in self.key)
        for table in (*self.parts, self.table):
            yield f"DELETE FROM {table} WHERE {these};"  # noqa: S608 - shown, and quoted

    def save(self, sealing: Sealing, transaction: Transaction, **row: Value) -> None:
        """Store a row in the place of the row with the same key, and prove the values given here.

        A trigger may change the row while the database writes it, so a proof is never of values
        that the database returns. Raises `StateForeign` for a row that was changed like that.
        """
        proven = {**row, "proof": sealing.bind(transaction, *self.bound_to(row))}
        transaction.save(self.table, self.key, **proven)
        self._must_stand(transaction, proven)

    def change(
        self, sealing: Sealing, transaction: Transaction, key: Mapping[str, Value], **row: Value
    ) -> None:
        """Set columns of the row with the values of `key`, if the row is there, and prove it anew.
        Raises as `must_be_ours` and `save`: what another program has changed is never proven.
        """
        for before in self._rows(transaction, key):
            self.must_be_ours(sealing, transaction, before)
            after = {**{name: before[name] for name in self.columns}, **row}
            proof = sealing.bind(transaction, *self.bound_to(after))
            these = {name: before[name] for name in self.key}
            transaction.update(self.table, these, **row, proof=proof)
            self._must_stand(transaction, {**after, "proof": proof})

    def _must_stand(self, reader: Reader, row: Mapping[str, Value]) -> None:
        """Raise `StateForeign` where the database holds other values than were written."""
        columns = (*self.columns, "proof")
        for stored in self._rows(reader, {name: row[name] for name in self.key}):
            if all(stored[name] == row[name] for name in columns):
                return
        message = Text("the database changes what certferry writes to it: {row}")
        hint = Text("`certferry state check` names what does that")
        raise StateForeign(message.filled(row=self._named(row)), hint=hint)

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
    parts=("version_pem",),
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

ROLLOUT = Binding(
    "rollout",
    "delivery",
    ("lineage", "target", "domain", "host"),
    (
        *("fingerprint", "started_at", "accepted_at", "problem_before", "failed_at"),
        *("verified_at", "sent", "program_digest", "fullchain_digest", "settings_before"),
        *("request_id", "worked_before", "refused_since", "drift", "repairs", "attempts"),
    ),
    Text("the delivery of {lineage} to {domain} on host {host}"),
    Text("see who else can write to the database; the next run there delivers again"),
    # Only the row shows that a command ran. Targets are observed, and so are files.
    condition="WHERE target = 'command'",
)
MOVED = Binding(
    "moved",
    "move",
    ("destination", "at"),
    (),
    Text("that the state was moved"),
)

_SINCE_21 = (VERSION, WITHDRAWAL, ACCOUNT, ORDER, USER, LINK, SESSION, TOKEN)
_SINCE_22 = (ROLLOUT, MOVED)
BINDINGS = (*_SINCE_21, UPLOAD, CHALLENGE, ROLLOUT)
"""The tables whose proofs are carried to another state, and sealed with another key: a state that
was moved is neither.
"""


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


def _quoted(value: Value) -> str:
    """Write a value as SQL has it: another program may have chosen its text."""
    if value is None or isinstance(value, int):
        return "NULL" if value is None else str(int(value))
    return "'" + str(value).replace("'", "''") + "'"


# --- What was stored before


def upgrade_of(host: str, sealing: Sealing) -> Upgrade:
    """Return what migrations need to know. Each proves once what was stored before: schema 8 the
    challenge records; schema 22 what is proven since 21 and 22, unless 21 was.
    """

    def bind_challenges(transaction: Transaction) -> None:
        _prove(transaction, (CHALLENGE,), sealing, 0)

    def bind_rows(transaction: Transaction) -> None:
        is_21 = sealing.times_bound(transaction) == 1
        _prove(transaction, _SINCE_22 if is_21 else (*_SINCE_21, *_SINCE_22), sealing, 1)
        sealing.note_bound(transaction)

    return Upgrade(host, {8: bind_challenges, 22: bind_rows}, sealing.begin)


def _prove(
    transaction: Transaction, bindings: Sequence[Binding], sealing: Sealing, most: int
) -> None:
    rows = [(binding, row) for binding in bindings for row in _all(transaction, binding)]
    key = sealing.key_before_binding(transaction, most) if rows else None
    if key is None:  # a state without a secret: certferry wrote no such row there
        return
    for binding, row in rows:
        these = {name: row[name] for name in binding.key}
        proof = key.seal("", *binding.bound_to(row))
        transaction.update(binding.table, these, proof=proof)
