"""The state in a database of SQL tables."""

from __future__ import annotations

from functools import partial

from certferry.adapters.state.acme import Accounts, ChallengeRecords, IssueTries, Orders
from certferry.adapters.state.database import Database
from certferry.adapters.state.leases import Leases
from certferry.adapters.state.ledger import Ledger
from certferry.adapters.state.notices import Channels, Notices
from certferry.adapters.state.runs import AccountNotes, History, Runs, Sightings
from certferry.adapters.state.sealing import Sealing
from certferry.adapters.state.targets import Rollouts, Uploads, Withdrawals
from certferry.adapters.state.versions import Lineages, Versions
from certferry.errors import StateError


class SqlState:
    """Every port of `StateStore`, each leading to its group of tables. With a `problem` it can be
    read, and no run can use it.
    """

    def __init__(
        self,
        database: Database,
        sealing: Sealing,
        leases: Leases,
        runs: Runs,
        problem: StateError | None = None,
    ) -> None:
        self._database = database
        self._leases = leases
        self._runs = runs
        self.acquire = leases.acquire
        self.extend = leases.extend
        self.release = leases.release

        self.must_unseal = partial(sealing.must_open, database)
        if problem is not None:
            self.must_unseal = partial(_fail, problem)

        self.remembered = Lineages(database, sealing).remembered

        versions = Versions(database, sealing)
        self.lineages = versions.lineages
        self.versions = versions.versions
        self.versions_in_use = versions.versions_in_use
        self.bundle = versions.bundle
        self.save_version = versions.save_version
        self.save_revocation = versions.save_revocation
        self.save_renewal_info = versions.save_renewal_info

        accounts = Accounts(database, sealing)
        self.account = accounts.account
        self.accounts = accounts.accounts
        self.save_account = accounts.save_account
        self.forget_account = accounts.forget_account
        self.replace_account = accounts.replace_account

        orders = Orders(database, sealing)
        self.order = orders.order
        self.save_order = orders.save_order
        self.drop_order = orders.drop_order

        ledger = Ledger(database)
        self.spent = ledger.spent
        self.claim_order = ledger.claim_order
        self.save_failed_proofs = ledger.save_failed_proofs
        self.save_hold = ledger.save_hold

        records = ChallengeRecords(database, sealing)
        self.challenge_records = records.challenge_records
        self.lineages_in_challenge_records = records.lineages_in_challenge_records
        self.save_challenge_record = records.save_challenge_record
        self.drop_challenge_record = records.drop_challenge_record

        tries = IssueTries(database)
        self.save_issue_try = tries.save_issue_try

        self._open_targets(database, sealing)
        self._open_news(database)
        self._open_runs(runs)

        notes = AccountNotes(database)
        self.account_note = notes.account_note
        self.update_account_note = notes.update_account_note

        history = History(database)
        self.append_history = history.append_history
        self.history = history.history

    def _open_targets(self, database: Database, sealing: Sealing) -> None:
        uploads = Uploads(database, sealing)
        self.uploads = uploads.uploads
        self.save_upload = uploads.save_upload
        self.drop_upload = uploads.drop_upload

        rollouts = Rollouts(database)
        self.open_rollouts = rollouts.open_rollouts
        self.save_rollout = rollouts.save_rollout
        self.replace_rollout = rollouts.replace_rollout

        withdrawals = Withdrawals(database)
        self.save_withdrawal = withdrawals.save_withdrawal
        self.drop_withdrawal = withdrawals.drop_withdrawal

    def _open_news(self, database: Database) -> None:
        standing = Notices(database)
        self.notices = standing.notices
        self.update_notices = standing.update_notices

        sightings = Sightings(database)
        self.sightings = sightings.sightings
        self.update_sightings = sightings.update_sightings

        channels = Channels(database)
        self.channel = channels.channel
        self.update_channel = channels.update_channel

    def _open_runs(self, runs: Runs) -> None:
        self.begin_run = runs.begin_run
        self.end_run = runs.end_run
        self.unended_runs = runs.unended_runs
        self.save_run = runs.save_run
        self.last_run = runs.last_run

    def close(self) -> None:
        """See `StateStore.close`."""
        self._runs.close()
        self._leases.close()
        self._database.close()


def _fail(problem: StateError) -> None:
    raise problem
