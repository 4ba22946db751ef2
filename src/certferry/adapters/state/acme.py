"""What must survive a killed run at the CA: accounts, orders under way, challenge records."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from certferry.adapters.state.columns import (
    from_moment,
    from_names,
    to_moment,
    to_names,
    to_optional_key_type,
)
from certferry.adapters.state.database import Connection, Database, Row
from certferry.adapters.state.leases import must_be_in_force
from certferry.adapters.state.ledger import give_up, note_issued
from certferry.adapters.state.sealing import Sealing
from certferry.core.secret import Secret
from certferry.ports.state import AcmeAccount, AcmeOrder, ChallengeRecord, Lease

_ACCOUNT = "account"
_NEXT_KEY = "next account key"
_ORDER = "order"
_CHALLENGE = "challenge"  # said by a migration as well

_ACCOUNTS = "SELECT directory, url, sealed_key_pem, sealed_next_key_pem FROM acme_account"


class Accounts:
    """One account at each directory; its key is sealed."""

    def __init__(self, database: Database, sealing: Sealing) -> None:
        self._database = database
        self._sealing = sealing

    def account(self, directory: str) -> AcmeAccount | None:
        """The account at a directory."""
        rows = self._database.rows(f"{_ACCOUNTS} WHERE directory = ?", directory)
        return next(map(self._account, rows), None)

    def accounts(self) -> tuple[AcmeAccount, ...]:
        """Every account, by directory."""
        return tuple(map(self._account, self._database.rows(f"{_ACCOUNTS} ORDER BY directory")))

    def save_account(self, account: AcmeAccount) -> AcmeAccount:
        """Keep an account, and give the one in force: the first key wins."""
        with self._database.transaction(serializable=True) as connection:
            in_force = self.account(account.directory)
            if in_force is None:
                self._insert(connection, account)
                return account
            if in_force.key_pem != account.key_pem or account.url is None:
                return in_force
            connection.execute(
                "UPDATE acme_account SET url = ? WHERE directory = ?",
                (account.url, account.directory),
            )
            return replace(in_force, url=account.url)

    def replace_account(self, before: AcmeAccount, after: AcmeAccount | None) -> bool:
        """See `StateStore.replace_account`."""
        with self._database.transaction(serializable=True) as connection:
            if self.account(before.directory) != before:
                return False
            connection.execute("DELETE FROM acme_account WHERE directory = ?", (before.directory,))
            if after is not None:
                self._insert(connection, after)
            return True

    def forget_account(self, directory: str, key_pem: Secret) -> None:
        """Forget an account, if it still has this key and is to have no other."""
        with self._database.transaction(serializable=True) as connection:
            in_force = self.account(directory)
            if in_force is not None and in_force.has_only(key_pem):
                connection.execute("DELETE FROM acme_account WHERE directory = ?", (directory,))

    def _insert(self, connection: Connection, account: AcmeAccount) -> None:
        directory, next_key = account.directory, account.next_key_pem
        sealed = self._sealing.seal(connection, account.key_pem, _ACCOUNT, directory)
        sealed_next = (
            None
            if next_key is None
            else self._sealing.seal(connection, next_key, _NEXT_KEY, directory)
        )
        connection.execute(
            "INSERT INTO acme_account (directory, url, sealed_key_pem, sealed_next_key_pem)"
            " VALUES (?, ?, ?, ?)",
            (directory, account.url, sealed, sealed_next),
        )

    def _account(self, row: Row) -> AcmeAccount:
        directory, url, sealed, sealed_next = row
        key_pem = self._sealing.unseal(sealed, _ACCOUNT, directory)
        if sealed_next is None:
            return AcmeAccount(directory, key_pem, url)
        next_key_pem = self._sealing.unseal(sealed_next, _NEXT_KEY, directory)
        return AcmeAccount(directory, key_pem, url, next_key_pem)


class Orders:
    """One order under way for each lineage; the key of its certificate is sealed."""

    def __init__(self, database: Database, sealing: Sealing) -> None:
        self._database = database
        self._sealing = sealing

    def order(self, lineage: str) -> AcmeOrder | None:
        """The order under way for a lineage."""
        rows = self._database.rows(
            "SELECT directory, url, names, sealed_key_pem, created_at, key_type"
            " FROM acme_order WHERE lineage = ?",
            lineage,
        )
        for directory, url, names, sealed, created_at, key_type in rows:
            key_pem = self._sealing.unseal(sealed, _ORDER, lineage, url)
            return AcmeOrder(
                lineage,
                directory,
                url,
                to_names(names),
                key_pem,
                to_moment(created_at),
                to_optional_key_type(key_type),
            )
        return None

    def save_order(self, lease: Lease, order: AcmeOrder) -> None:
        """Keep the order under way, in place of an earlier one."""
        with self._database.transaction(serializable=True) as connection:
            must_be_in_force(connection, lease)
            sealed = self._sealing.seal(connection, order.key_pem, _ORDER, order.lineage, order.url)
            connection.execute("DELETE FROM acme_order WHERE lineage = ?", (order.lineage,))
            connection.execute(
                "INSERT INTO acme_order"
                " (lineage, directory, url, names, sealed_key_pem, created_at, key_type)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    order.lineage,
                    order.directory,
                    order.url,
                    from_names(order.names),
                    sealed,
                    from_moment(order.created_at),
                    order.key_type,
                ),
            )

    def drop_order(self, lease: Lease, *, issued_at: datetime | None = None) -> None:
        """See `StateStore.drop_order`."""
        with self._database.transaction(serializable=True) as connection:
            must_be_in_force(connection, lease)
            connection.execute("DELETE FROM acme_order WHERE lineage = ?", (lease.lineage,))
            if issued_at is not None:
                note_issued(connection, lease.lineage, issued_at)
            give_up(connection, lease.lineage)


class ChallengeRecords:
    """Our TXT values in DNS, written down before they are sent. Rows are bound, since by another
    name or value another program's record would be removed. A handle is not: what it leads to is
    looked at first.
    """

    def __init__(self, database: Database, sealing: Sealing) -> None:
        self._database = database
        self._sealing = sealing

    def challenge_records(self, lineage: str) -> tuple[ChallengeRecord, ...]:
        """Our TXT values that may still be in DNS, oldest first, with those of rows that
        another program wrote or changed.
        """
        rows = self._database.rows(
            "SELECT name, value, created_at, handle, proof FROM challenge_record WHERE lineage = ?"
            " ORDER BY created_at, name, value",
            lineage,
        )
        return tuple(
            ChallengeRecord(
                lineage,
                name,
                value,
                to_moment(created_at),
                handle,
                is_ours=self._sealing.is_bound(proof, _CHALLENGE, lineage, name, value),
            )
            for name, value, created_at, handle, proof in rows
        )

    def lineages_in_challenge_records(self) -> tuple[str, ...]:
        """Every lineage with a TXT value that may still be in DNS, by name."""
        query = "SELECT DISTINCT lineage FROM challenge_record ORDER BY lineage"
        return tuple(lineage for (lineage,) in self._database.rows(query))

    def save_challenge_record(self, record: ChallengeRecord) -> None:
        """Keep a TXT value, or its handle once it is known."""
        with self._database.transaction() as connection:
            bound_to = (_CHALLENGE, record.lineage, record.name, record.value)
            proof = self._sealing.bind(connection, *bound_to)
            # Written down again before it is sent again, a known handle is still the best we have.
            connection.execute(
                "INSERT INTO challenge_record (lineage, name, value, created_at, handle, proof)"
                " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (lineage, name, value) DO UPDATE"
                " SET handle = COALESCE(excluded.handle, challenge_record.handle),"
                " proof = excluded.proof",
                (
                    record.lineage,
                    record.name,
                    record.value,
                    from_moment(record.created_at),
                    record.handle,
                    proof,
                ),
            )

    def drop_challenge_record(self, record: ChallengeRecord) -> None:
        """Forget a TXT value that is gone from DNS."""
        with self._database.transaction() as connection:
            connection.execute(
                "DELETE FROM challenge_record WHERE lineage = ? AND name = ? AND value = ?",
                (record.lineage, record.name, record.value),
            )


class IssueTries:
    """When a certificate was last ordered or adopted, by lineage."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def save_issue_try(
        self,
        lineage: str,
        at: datetime,
        *,
        failed: bool = False,
        rejected: bool = False,
        by_ca: bool = False,
    ) -> None:
        """See `StateStore.save_issue_try`."""
        moment = from_moment(at)
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO issue_try (lineage, tried_at, rejected_at, tries, failing_since)"
                " VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT (lineage) DO UPDATE SET tried_at = excluded.tried_at,"
                " rejected_at = excluded.rejected_at,"
                " tries = CASE excluded.tries WHEN 0 THEN 0 ELSE issue_try.tries + 1 END,"
                " failing_since = CASE excluded.tries WHEN 0 THEN NULL"
                " ELSE COALESCE(issue_try.failing_since, excluded.failing_since) END",
                (
                    lineage,
                    moment,
                    moment if rejected else None,
                    int(failed),
                    moment if by_ca else None,
                ),
            )
