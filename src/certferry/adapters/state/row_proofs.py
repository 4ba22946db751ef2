"""Proofs that certferry wrote a row. A row without a fitting proof was written or changed by
another program, and is ignored or raises `StateForeign`.

A proof is an empty text, sealed with the state's key (`sealing`) and bound to the values of the
columns on which certferry's decisions depend. Without the key, another program cannot make a proof,
but can delete rows, and restore a whole earlier row (docs/decisions/0056).

To prove a new kind of row, declare a `ProofRule` in this module, add the rule to `PROOF_RULES`,
write with `save` or `change`, and read with `find` or `ours`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from msgspec import Struct

from certferry.adapters.state.columns import Value
from certferry.adapters.state.database import Reader, Row, Transaction
from certferry.adapters.state.sealing import Sealing
from certferry.core.desired.certificate import Kind
from certferry.core.redaction import Secret
from certferry.errors import StateError, StateForeign
from certferry.text import Text

_SEE_WHO = Text(
    "check who else can write to the database; put the state back from a backup, or delete the"
    " row: {statements}"
)


class ProofRule(Struct, frozen=True):
    """The rule for the proofs of a table: the columns covered, and a row's name in messages."""

    table: str
    #: A word covered by the proof before all values, so the proof fits only rows of this kind.
    kind: str
    #: The columns of the row's key, covered by the proof.
    key: tuple[str, ...]
    #: The other columns covered by the proof: all columns that certferry's decisions depend on.
    others: tuple[str, ...]
    #: The row's name in messages, a template for the row's columns.
    name: Text
    #: The hint to an operator, a template for the row's columns and the `statements` to delete
    #: the row.
    fix: Text = _SEE_WHO
    #: Whether a row needs a proof. By default, each row of the table does.
    covers: Callable[[Row | Mapping[str, Value]], bool] = lambda _: True
    #: Tables with rows that refer to the row by the same key. An operator deletes these rows first.
    parts: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the columns with values covered by a proof."""
        return (*self.key, *self.others)

    def bound_to(self, row: Row | Mapping[str, Value]) -> tuple[Value, ...]:
        """Return the values covered by a row's proof."""
        return (self.kind, *(row[name] for name in self.columns))

    def is_ours(self, sealing: Sealing, row: Row) -> bool:
        """Return whether certferry wrote this row. Raises `StateError` without a key."""
        return sealing.proves(row["proof"], *self.bound_to(row))

    def is_shown(self, sealing: Sealing, row: Row) -> bool:
        """Return whether certferry wrote a row. If the key cannot be read, the writer is unknown,
        and the answer is `True`; runs stop elsewhere without the key.
        """
        try:
            return self.is_ours(sealing, row)
        except StateError:
            if sealing.is_in_force:
                raise
            return True

    def must_be_ours(self, sealing: Sealing, reader: Reader, row: Row) -> None:
        """Raise `StateForeign` for a row written or changed by another program, and `StateError` if
        the key is not the key of the state.
        """
        if not self.is_ours(sealing, row):
            sealing.must_open(reader)
            raise self.foreign(row)

    def unseal(
        self, sealing: Sealing, reader: Reader, row: Row, sealed: str, *bound_to: str
    ) -> Secret:
        """Open a row's secret, and return the secret. Raises `StateError`: about the key if the key
        is not the state's key, otherwise about the row.
        """
        secret = sealing.unseal(sealed, *bound_to)
        if secret is None:
            sealing.must_open(reader)
            raise self.wrong(
                row,
                Text(
                    "the private key cannot be decrypted: the key was changed, or copied from"
                    " another row"
                ),
            )
        return secret

    def wrong(self, row: Row, problem: Text) -> StateError:
        """Return the error for a row with a correct proof, but with wrong data in a column that the
        proof leaves out, such as a key.
        """
        message = Text("{row}: {problem}").filled(row=self._named(row), problem=problem)
        return StateError(message, hint=self._fix(row))

    def foreign(self, row: Row | Mapping[str, Value]) -> StateForeign:
        """Return the error for a row written or changed by another program."""
        message = Text("the state contains data that certferry did not write: {row}")
        return StateForeign(message.filled(row=self._named(row)), hint=self._fix(row))

    def _named(self, row: Row | Mapping[str, Value]) -> Text:
        return self.name.filled(**{name: row[name] for name in self.columns})

    def _fix(self, row: Row | Mapping[str, Value]) -> Text:
        named = {name: row[name] for name in self.columns}
        return self.fix.filled(**named, statements=" ".join(self._deletions(row)))

    def _deletions(self, row: Row | Mapping[str, Value]) -> Iterator[str]:
        """Return the statements that delete a row, for a person to type."""
        condition = " AND ".join(f"{name} = {_quoted(row[name])}" for name in self.key)
        for table in (*self.parts, self.table):
            yield f"DELETE FROM {table} WHERE {condition};"  # noqa: S608 - shown, and quoted

    def save(self, sealing: Sealing, transaction: Transaction, **row: Value) -> None:
        """Store a row over the row with the same key, and prove the given values.

        The proof covers the given values, because another program's trigger may change the row
        during the write. Raises `StateForeign` if the stored row differs from the given values.
        """
        proven = {**row, "proof": sealing.prove(transaction, *self.bound_to(row))}
        transaction.save(self.table, self.key, **proven)
        self._must_stand(transaction, proven)

    def change(
        self, sealing: Sealing, transaction: Transaction, key: Mapping[str, Value], **row: Value
    ) -> None:
        """Set columns of the row matching `key`, if the row exists, and prove the row anew.

        Raises as `must_be_ours` and `save`. A change by another program never gets a proof.
        """
        for before in self._rows(transaction, key):
            self.must_be_ours(sealing, transaction, before)
            after = {**{name: before[name] for name in self.columns}, **row}
            proof = sealing.prove(transaction, *self.bound_to(after))
            row_key = {name: before[name] for name in self.key}
            transaction.update(self.table, row_key, **row, proof=proof)
            self._must_stand(transaction, {**after, "proof": proof})

    def _must_stand(self, reader: Reader, row: Mapping[str, Value]) -> None:
        """Raise `StateForeign` if the database holds other values than the written `row`."""
        columns = (*self.columns, "proof")
        for stored in self._rows(reader, {name: row[name] for name in self.key}):
            if all(stored[name] == row[name] for name in columns):
                return
        message = Text("the database changes certferry's data on writing: {row}")
        hint = Text("`certferry state check` shows the cause")
        raise StateForeign(message.filled(row=self._named(row)), hint=hint)

    def ours(
        self, sealing: Sealing, reader: Reader, condition: str, *values: Value
    ) -> Iterator[Row]:
        """Yield the rows that certferry wrote and that match `condition`, constant SQL."""
        for row in reader.rows(f"SELECT * FROM {self.table} {condition}", *values):  # noqa: S608 - constants, by contract
            if self.is_ours(sealing, row):
                yield row

    def find(self, sealing: Sealing, reader: Reader, **key: Value) -> Row | None:
        """Return the row matching `key`, or `None` if certferry wrote no such row."""
        ours = (row for row in self._rows(reader, key) if self.is_ours(sealing, row))
        return next(ours, None)

    def _rows(self, reader: Reader, key: Mapping[str, Value]) -> Sequence[Row]:
        condition = " AND ".join(f"{name} = ?" for name in key)
        return reader.rows(f"SELECT * FROM {self.table} WHERE {condition}", *key.values())  # noqa: S608 - names of the schema


VERSION = ProofRule(
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
WITHDRAWAL = ProofRule(
    "withdrawal",
    "withdrawal",
    ("lineage", "target", "domain", "fingerprint"),
    ("withdrawn_at", "by_hand"),
    Text("the withdrawn certificate of {lineage} for {domain}"),
)
ACCOUNT = ProofRule(
    "acme_account", "account row", ("directory",), ("url",), Text("the account at {directory}")
)
ORDER = ProofRule(
    "acme_order",
    "order row",
    ("lineage",),
    ("directory", "url", "names", "created_at", "key_type"),
    Text("the order for {lineage}"),
)
USER = ProofRule(
    "console_user",
    "user",
    ("id",),
    ("name", "role", "made_at", "password", "password_at"),
    Text("the user {id}"),
    Text("check who else can write to the database; run: certferry console user remove {id}"),
)
LINK = ProofRule(
    "console_user_link",
    "password link",
    ("user_id",),
    ("digest", "expires_at"),
    Text("the link for {user_id} to choose a password"),
)
SESSION = ProofRule(
    "console_user_session",
    "session",
    ("digest",),
    ("user_id", "began_at", "seen_at", "address", "browser"),
    Text("a session of {user_id}"),
)
TOKEN = ProofRule(
    "console_token",
    "token",
    ("id",),
    ("name", "digest", "begins", "role", "made_at", "expires_at"),
    Text("the token {id}"),
    Text("check who else can write to the database; run: certferry console token remove {id}"),
)
UPLOAD = ProofRule(
    "upload",
    "upload",
    ("target", "remote_id"),
    ("lineage", "fingerprint"),
    Text("the copy {remote_id} at {target}"),
    # A copy without a lineage is never bound to a domain.
    covers=lambda row: row["lineage"] != "",
)
CHALLENGE = ProofRule(
    "challenge_record",
    "challenge",
    ("lineage", "name", "value"),
    (),
    Text("the challenge record {name} of {lineage}"),
)

ROLLOUT = ProofRule(
    "rollout",
    "delivery",
    ("lineage", "target", "domain", "host"),
    (
        *("fingerprint", "started_at", "accepted_at", "problem_before", "failed_at"),
        *("verified_at", "sent", "program_digest", "fullchain_digest", "settings_before"),
        *("request_id", "worked_before", "refused_since", "drift", "repairs", "attempts"),
    ),
    Text("the delivery of {lineage} to {domain} on host {host}"),
    Text("check who else can write to the database; the next run there delivers again"),
    # Targets and files are observed; only the row shows that a command ran.
    covers=lambda row: row["target"] == Kind.COMMAND,
)
MOVED = ProofRule(
    "moved",
    "move",
    ("destination", "at"),
    (),
    Text("the mark of a moved state"),
)

PROOF_RULES = (
    *(VERSION, WITHDRAWAL, ACCOUNT, ORDER, USER, LINK, SESSION, TOKEN, UPLOAD, CHALLENGE, ROLLOUT),
)
"""The rules whose proofs are sealed anew when a state is moved or its key is changed. `MOVED` is
left out, because the mark of a moved state belongs to one state."""


def foreign_rows(sealing: Sealing, reader: Reader) -> Iterator[tuple[str, StateForeign]]:
    """Yield the subject and the error of each row written or changed by another program."""
    for rule in PROOF_RULES:
        for row in _all(reader, rule):
            if not rule.is_ours(sealing, row):
                subject = row["lineage"] if "lineage" in rule.columns else row[rule.columns[0]]
                yield str(subject), rule.foreign(row)


def _all(reader: Reader, rule: ProofRule) -> Sequence[Row]:
    order = ", ".join(rule.key)
    query = f"SELECT * FROM {rule.table} ORDER BY {order}"  # noqa: S608 - names of the schema
    return [row for row in reader.rows(query) if rule.covers(row)]


def _quoted(value: Value) -> str:
    """Return a value as an SQL literal, quoted: another program may have chosen the text."""
    if value is None or isinstance(value, int):
        return "NULL" if value is None else str(int(value))
    return "'" + str(value).replace("'", "''") + "'"
