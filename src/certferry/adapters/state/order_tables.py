"""The tables about CAs: accounts, orders in progress and challenge records, which a later run needs
after a kill, and the log of orders, failed proofs and holds, from which a CA's limits are counted.
"""

from __future__ import annotations

from datetime import datetime

from certferry.adapters.state import columns
from certferry.adapters.state.database import (
    Reader,
    Row,
    Statement,
    Table,
    Tables,
    Transaction,
    writes,
)
from certferry.adapters.state.fencing import fenced
from certferry.adapters.state.row_proofs import ACCOUNT, CHALLENGE, ORDER
from certferry.adapters.state.sealing import Sealing
from certferry.core.certificates.names import base_name, registered_domain
from certferry.core.planning import limits as rate_limits
from certferry.core.redaction import Secret
from certferry.ports.state import AcmeAccount, AcmeOrder, ChallengeRecord, Lease
from certferry.values import replace

_ACCOUNT = "account"
_NEXT_KEY = "next account key"
_ORDER = "order"

_SET = columns.Column(lambda names: columns.from_names(sorted(set(names))), columns.to_names)

_ACCOUNTS = Table("acme_account", AcmeAccount, "directory", key_pem=None, next_key_pem=None)
_ORDERS = Table(
    "acme_order",
    AcmeOrder,
    "lineage",
    names=columns.NAMES,
    key_pem=None,
    created_at=columns.MOMENT,
    key_type=columns.KEY_TYPE,
)
_CHALLENGES = Table(
    "challenge_record",
    ChallengeRecord,
    *("lineage", "name", "value"),
    created_at=columns.MOMENT,
    is_ours=None,
)
_PAST_ORDERS = Table(
    "issuance",
    rate_limits.PastOrder,
    names=columns.NAMES,
    ordered_at=columns.MOMENT,
    renews=columns.FLAG,
    issued_at=columns.MOMENT,
    given_up=columns.FLAG,
)
_FAILED_PROOFS = Table(
    "failed_proof", rate_limits.FailedProof, at=columns.MOMENT.named("failed_at")
)
_HOLDS = Table(
    "hold",
    rate_limits.Hold,
    *("directory", "names"),
    names=_SET,
    told_at=columns.MOMENT,
    until=columns.MOMENT,
    for_all=columns.FLAG,
)


class OrderTables(Tables):
    """See `OrderStore`. Private keys are sealed (`sealing`).

    Challenge records have a proof (`row_proofs`), because a changed name or value would make
    certferry remove another program's DNS record. The proof does not cover the handle: before a
    removal, certferry reads the DNS record with the handle.
    """

    _sealing: Sealing

    def account(self, directory: str) -> AcmeAccount | None:
        return self._account_at(self._database, directory)

    def accounts(self) -> tuple[AcmeAccount, ...]:
        rows = self._database.rows("SELECT * FROM acme_account ORDER BY directory")
        return tuple(self._account_of(self._database, row) for row in rows)

    @writes
    def save_account(self, transaction: Transaction, account: AcmeAccount) -> AcmeAccount:
        in_force = self._account_at(transaction, account.directory)
        if in_force is None:
            self._add_account(transaction, account)
            return account
        if in_force.key_pem != account.key_pem or account.url is None:
            return in_force
        key = {"directory": account.directory}
        ACCOUNT.change(self._sealing, transaction, key, url=account.url)
        return replace(in_force, url=account.url)

    @writes
    def replace_account(
        self, transaction: Transaction, before: AcmeAccount, after: AcmeAccount | None
    ) -> bool:
        if self._account_at(transaction, before.directory) != before:
            return False
        transaction.remove("acme_account", directory=before.directory)
        if after is not None:
            self._add_account(transaction, after)
        return True

    @writes
    def forget_account(self, transaction: Transaction, directory: str, key_pem: Secret) -> None:
        in_force = self._account_at(transaction, directory)
        if in_force is not None and in_force.has_only(key_pem):
            transaction.remove("acme_account", directory=directory)

    def _account_at(self, reader: Reader, directory: str) -> AcmeAccount | None:
        for row in reader.rows("SELECT * FROM acme_account WHERE directory = ?", directory):
            return self._account_of(reader, row)
        return None

    def _add_account(self, transaction: Transaction, account: AcmeAccount) -> None:
        directory, next_key = account.directory, account.next_key_pem
        sealed = self._sealing.seal(transaction, account.key_pem, _ACCOUNT, directory)
        sealed_next = None
        if next_key is not None:
            sealed_next = self._sealing.seal(transaction, next_key, _NEXT_KEY, directory)
        keys = {"sealed_key_pem": sealed, "sealed_next_key_pem": sealed_next}
        ACCOUNT.save(self._sealing, transaction, **_ACCOUNTS.values(account, **keys))

    def _account_of(self, reader: Reader, row: Row) -> AcmeAccount:
        ACCOUNT.must_be_ours(self._sealing, reader, row)
        directory, sealed_next = row["directory"], row["sealed_next_key_pem"]
        here = (self._sealing, reader, row)
        next_key_pem = None
        if sealed_next is not None:
            next_key_pem = ACCOUNT.unseal(*here, sealed_next, _NEXT_KEY, directory)
        key_pem = ACCOUNT.unseal(*here, row["sealed_key_pem"], _ACCOUNT, directory)
        return _ACCOUNTS.of_row(row, key_pem=key_pem, next_key_pem=next_key_pem)

    def order(self, lineage: str) -> AcmeOrder | None:
        for row in self._database.rows("SELECT * FROM acme_order WHERE lineage = ?", lineage):
            bound_to = (_ORDER, lineage, row["url"])
            here = (self._sealing, self._database, row)
            ORDER.must_be_ours(*here)
            key_pem = ORDER.unseal(*here, row["sealed_key_pem"], *bound_to)
            return _ORDERS.of_row(row, key_pem=key_pem)
        return None

    @fenced
    def save_order(self, transaction: Transaction, lease: Lease, order: AcmeOrder) -> None:
        del lease  # checked by `fenced`
        bound_to = (_ORDER, order.lineage, order.url)
        sealed = self._sealing.seal(transaction, order.key_pem, *bound_to)
        row = _ORDERS.values(order, sealed_key_pem=sealed)
        ORDER.save(self._sealing, transaction, **row)

    @fenced
    def drop_order(
        self, transaction: Transaction, lease: Lease, *, issued_at: datetime | None = None
    ) -> None:
        transaction.remove("acme_order", lineage=lease.lineage)
        if issued_at is not None:
            note_issued(transaction, lease.lineage, issued_at)
        _give_up(transaction, lease.lineage)

    @writes
    def save_issue_try(
        self,
        transaction: Transaction,
        lineage: str,
        at: datetime,
        *,
        failed: bool = False,
        rejected: bool = False,
        by_ca: bool = False,
    ) -> None:
        moment = columns.from_moment(at)
        transaction.add(
            "issue_try",
            "ON CONFLICT (lineage) DO UPDATE SET tried_at = excluded.tried_at,"
            " rejected_at = excluded.rejected_at,"
            " tries = CASE excluded.tries WHEN 0 THEN 0 ELSE issue_try.tries + 1 END,"
            " failing_since = CASE excluded.tries WHEN 0 THEN NULL"
            " ELSE COALESCE(issue_try.failing_since, excluded.failing_since) END",
            lineage=lineage,
            tried_at=moment,
            rejected_at=moment if rejected else None,
            tries=int(failed),
            failing_since=moment if by_ca else None,
        )

    def challenge_records(self, lineage: str) -> tuple[ChallengeRecord, ...]:
        """See `OrderStore.challenge_records`. Rows of another program are included, with `is_ours`
        false.
        """
        rows = self._database.rows(
            "SELECT * FROM challenge_record WHERE lineage = ? ORDER BY created_at, name, value",
            lineage,
        )
        return _CHALLENGES.read(
            rows, lambda row: {"is_ours": CHALLENGE.is_ours(self._sealing, row)}
        )

    def lineages_in_challenge_records(self) -> tuple[str, ...]:
        query = "SELECT DISTINCT lineage FROM challenge_record ORDER BY lineage"
        return tuple(row["lineage"] for row in self._database.rows(query))

    def save_challenge_record(self, record: ChallengeRecord) -> None:
        def save(transaction: Transaction) -> None:
            row = _CHALLENGES.values(record)
            proof = self._sealing.prove(transaction, *CHALLENGE.bound_to(row))
            # Before a value is sent again, the record is stored again without a handle. The stored
            # handle must stay.
            transaction.add(
                "challenge_record",
                "ON CONFLICT (lineage, name, value) DO UPDATE SET"
                " handle = COALESCE(excluded.handle, challenge_record.handle),"
                " proof = excluded.proof",
                **row,
                proof=proof,
            )

        # A handle is stored even after the loss of the lease: the record is in DNS, and the next
        # run has to find the record.
        write = self._write if record.handle is None else self._database.run
        write(save)

    @writes
    def drop_challenge_record(self, transaction: Transaction, record: ChallengeRecord) -> None:
        _CHALLENGES.remove(transaction, record)

    def spent(self, directory: str, wanted: rate_limits.PlannedOrder) -> rate_limits.Spent:
        return _spent(self._database, directory, wanted)

    @fenced
    def claim_order(
        self,
        transaction: Transaction,
        lease: Lease,
        directory: str,
        wanted: rate_limits.PlannedOrder,
        limits: rate_limits.Limits,
        now: datetime,
    ) -> None:
        error = rate_limits.rate_limit_hold(
            limits, _spent(transaction, directory, wanted), wanted, now
        )
        if error is not None:
            raise error
        _give_up(transaction, lease.lineage, directory)
        if not wanted.exempt:
            _log_order(transaction, lease.lineage, directory, wanted, now)

    @writes
    def save_failed_proofs(
        self, transaction: Transaction, directory: str, names: tuple[str, ...], now: datetime
    ) -> None:
        transaction.execute(
            "DELETE FROM failed_proof WHERE failed_at < ?",
            columns.from_moment(now - rate_limits.KEPT),
        )
        for name in sorted({base_name(name) for name in names}):
            row = {"directory": directory, "name": name, "failed_at": columns.from_moment(now)}
            transaction.add("failed_proof", **row)

    @writes
    def save_hold(self, transaction: Transaction, directory: str, hold: rate_limits.Hold) -> None:
        oldest = columns.from_moment(hold.told_at - rate_limits.KEPT)
        transaction.execute("DELETE FROM hold WHERE until < ?", oldest)
        _HOLDS.save(transaction, hold, directory=directory)


def _spent(reader: Reader, directory: str, wanted: rate_limits.PlannedOrder) -> rate_limits.Spent:
    names = sorted({base_name(name) for name in wanted.names})
    places = ", ".join("?" * len(names))
    orders, proofs, holds = reader.each(
        _orders_that_count(directory, wanted),
        _FAILED_PROOFS.query(
            f"WHERE directory = ? AND name IN ({places}) ORDER BY failed_at, name",
            directory,
            *names,
        ),
        _HOLDS.query(
            "WHERE directory = ? AND (for_all OR names = ?) ORDER BY names",
            directory,
            _SET.write(wanted.names),
        ),
    )
    return rate_limits.Spent(
        _PAST_ORDERS.read(orders), _FAILED_PROOFS.read(proofs), _HOLDS.read(holds)
    )


_LAST_THAT_COUNTS = (
    "SELECT ordered_at FROM issuance WHERE directory = ? AND NOT renews"
    " ORDER BY ordered_at DESC LIMIT 1 OFFSET ?"
)
"""A query for the moment of the oldest order that can still count against a limit by account: the
newest `MOST_ORDERS` orders count."""


def _orders_that_count(directory: str, wanted: rate_limits.PlannedOrder) -> Statement:
    """Return the query for the orders that count against the limits of `wanted`. With a hundred
    thousand certificates, a query for all orders of a month would take a second, and the query is
    made for each waiting order.
    """
    condition, values = "names = ?", [_SET.write(wanted.names)]
    if not wanted.renews:
        domains = sorted({registered_domain(name) for name in wanted.names})
        like = " OR names LIKE ?" * len(domains)
        since = f"COALESCE(({_LAST_THAT_COUNTS}), '')"
        condition = f"(names = ? OR (NOT renews AND (ordered_at >= {since}{like})))"
        values += [directory, rate_limits.MOST_ORDERS - 1, *(f'%{name}"%' for name in domains)]
    return _PAST_ORDERS.query(
        f"WHERE directory = ? AND {condition} ORDER BY number", directory, *values
    )


def _log_order(
    transaction: Transaction,
    lineage: str,
    directory: str,
    wanted: rate_limits.PlannedOrder,
    now: datetime,
) -> None:
    transaction.execute(
        "DELETE FROM issuance WHERE directory = ? AND ordered_at < ?",
        directory,
        columns.from_moment(now - rate_limits.KEPT),
    )
    transaction.add(
        "issuance",
        directory=directory,
        lineage=lineage,
        names=_SET.write(wanted.names),
        renews=wanted.renews,
        ordered_at=columns.from_moment(now),
    )


def note_issued(transaction: Transaction, lineage: str, now: datetime) -> None:
    """Store that a lineage's order in progress has led to a certificate."""
    transaction.execute(
        "UPDATE issuance SET issued_at = ?"
        " WHERE lineage = ? AND issued_at IS NULL AND NOT given_up",
        columns.from_moment(now),
        lineage,
    )


def _give_up(transaction: Transaction, lineage: str, directory: str | None = None) -> None:
    """Store that a lineage's order in progress was given up: only at `directory`, if given."""
    transaction.execute(
        "UPDATE issuance SET given_up = TRUE WHERE lineage = ? AND issued_at IS NULL"
        " AND COALESCE(?, directory) = directory",
        lineage,
        directory,
    )
