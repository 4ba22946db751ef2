"""The contract of uploads, rollouts, history, and the orders and failed proofs at a CA."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest

from certferry.core.certificates.lineage import Withdrawal
from certferry.core.desired.certificate import DesiredHttps, HttpsSettings
from certferry.core.observed.records import (
    NO_LINEAGE,
    HistoryEntry,
    HistoryFilter,
    LastRun,
    RolloutRecord,
    Upload,
    VerifiedHistory,
)
from certferry.core.planning.limits import (
    Allowance,
    FailedProof,
    Hold,
    Limits,
    PastOrder,
    PlannedOrder,
    Spent,
)
from certferry.errors import LeaseLost, OrderPostponed
from certferry.ports.state import StateStore
from certferry.text import Text
from certferry.values import replace
from certferry_sandbox.testing.certificates import make_bundle

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
HOUR = timedelta(hours=1)


class TargetsContract:
    """Uploads, rollouts, withdrawals and runs."""

    def test_uploads_are_read_back_newest_first(self, store: StateStore, other: StateStore) -> None:
        """`uploads` returns the uploads of a lineage at a target, newest first."""
        older, newer = upload("a", NOW), upload("b", NOW + HOUR)
        for saved in (older, newer, upload("c", NOW, lineage="static"), upload("a", NOW, "files")):
            store.save_upload(saved)

        assert (newer, older) == other.uploads("img", "qiniu")
        assert () == other.uploads("unknown", "qiniu")

    def test_upload_is_kept_by_target_and_remote_id(self, store: StateStore) -> None:
        """A second save of the same remote id replaces the upload."""
        saved = upload("a", NOW)
        store.save_upload(saved)
        in_use = replace(saved, in_use_until=NOW + HOUR)
        store.save_upload(in_use)

        assert (in_use,) == store.uploads("img", "qiniu")

    def test_upload_is_dropped_at_its_target_only(
        self, store: StateStore, other: StateStore
    ) -> None:
        """An upload with the same remote id at another target stays. A second call does nothing."""
        store.save_upload(upload("a", NOW))
        store.save_upload(upload("a", NOW, "files"))

        other.drop_upload("qiniu", "a")
        other.drop_upload("qiniu", "a")

        assert () == store.uploads("img", "qiniu")
        assert (upload("a", NOW, "files"),) == store.uploads("img", "files")

    def test_rollouts_are_read_back(self, store: StateStore, other: StateStore) -> None:
        """A lineage's rollouts come back, sorted by target and domain."""
        rollouts = [
            rollout("files", "img.example.com"),
            rollout("qiniu", "a.example.com"),
            rollout("qiniu", "b.example.com"),
        ]
        store.save_rollout(replace(rollouts[0], lineage="static"))
        for saved in reversed(rollouts):
            store.save_rollout(saved)

        assert tuple(rollouts) == other.remembered("img").rollouts
        assert () == other.remembered("unknown").rollouts

    def test_one_rollout_is_read_back(self, store: StateStore, other: StateStore) -> None:
        """Every field comes back. Lineage, target and domain together identify a rollout."""
        ours = rollout("qiniu", "img.example.com")
        for saved in (
            ours,
            replace(ours, lineage="static", accepted_at=NOW),
            replace(ours, target="files", failed_at=NOW),
            replace(ours, domain="a.example.com", problem_before="no"),
            replace(
                ours,
                domain="b.example.com",
                request_id="r-1",
                worked_before=True,
                refused_since=NOW,
                drift="certificate: x",
                repairs=(NOW + HOUR, NOW),
                tries=3,
            ),
        ):
            store.save_rollout(saved)
            assert saved in other.remembered(saved.lineage).rollouts

        stored = {(kept.target, kept.domain): kept for kept in other.remembered("img").rollouts}
        assert ours == stored["qiniu", "img.example.com"]
        assert None is stored.get(("files", "a.example.com"))

    def test_last_run_is_read_back(self, store: StateStore, other: StateStore) -> None:
        """The last run and the last success come back. A later failure keeps the last success."""
        assert store.last_run() is None

        store.save_run(NOW, succeeded=False)
        assert LastRun(NOW) == other.last_run()
        other.save_run(NOW + HOUR, succeeded=True)
        store.save_run(NOW + 2 * HOUR, succeeded=False)
        assert LastRun(NOW + 2 * HOUR, NOW + HOUR) == other.last_run()

    def test_run_that_did_not_end_is_reported(self, store: StateStore, other: StateStore) -> None:
        """A run without a stored end is unended after the end of its process.

        The next run clears unended runs. A run in progress is not unended.
        """
        in_progress = store.begin_run(NOW)
        killed = other.begin_run(NOW + HOUR)
        assert (in_progress.number, NOW) != (killed.number, killed.began_at)
        assert () == store.unended_runs() == other.unended_runs()

        other.close()

        assert (killed,) == store.unended_runs()
        store.end_run(in_progress)
        assert (killed,) == store.unended_runs()
        store.end_run(store.begin_run(NOW + 2 * HOUR))
        assert () == store.unended_runs()

    def test_withdrawals_are_kept_until_they_are_dropped(
        self, store: StateStore, other: StateStore
    ) -> None:
        """A withdrawal is stored once, with the first moment, until `drop_withdrawal`."""
        first = Withdrawal("img", "qiniu", "a.example.com", "aa" * 32, NOW)
        second = Withdrawal("img", "qiniu", "b.example.com", "aa" * 32, NOW + HOUR, by_hand=True)
        for saved in (second, first, replace(first, at=NOW + HOUR, by_hand=True)):
            store.save_withdrawal(saved)
        other.save_withdrawal(replace(first, lineage="static"))

        assert (first, second) == other.remembered("img").withdrawals
        other.drop_withdrawal(first)
        other.drop_withdrawal(first)
        assert (second,) == store.remembered("img").withdrawals
        assert () == other.remembered("unknown").withdrawals

    def test_rollout_is_kept_by_lineage_target_and_domain(self, store: StateStore) -> None:
        """A later save replaces the rollout: progress, and the next certificate."""
        first = rollout("qiniu", "img.example.com")
        for saved in (
            first,
            replace(first, accepted_at=NOW + HOUR, problem_before="证书被拒绝"),
            replace(first, failed_at=NOW, verified_at=NOW + HOUR),
            replace(first, sent=DesiredHttps()),
            replace(first, settings_before=HttpsSettings(http2=True, tls_versions=("TLSv1.2",))),
            replace(
                first, sent=DesiredHttps(force_https=False, tls_versions=("TLSv1.3", "TLSv1.2"))
            ),
            replace(first, program_digest="cd" * 32, fullchain_digest="ef" * 32),
            replace(first, fingerprint="ff", started_at=NOW + 2 * HOUR),
        ):
            store.save_rollout(saved)
            assert (saved,) == store.remembered("img").rollouts

    def test_rollout_is_replaced_only_as_it_is_known(
        self, store: StateStore, other: StateStore
    ) -> None:
        """A process that knows an older rollout changes nothing."""
        begun = rollout("qiniu", "img.example.com")
        assert store.replace_rollout(None, begun)
        accepted = replace(begun, accepted_at=NOW + HOUR)
        other.save_rollout(accepted)

        assert not store.replace_rollout(None, begun)
        assert not store.replace_rollout(begun, replace(begun, verified_at=NOW))
        assert (accepted,) == store.remembered("img").rollouts
        assert store.replace_rollout(accepted, replace(accepted, verified_at=NOW))

    def test_open_rollouts_of_a_target(self, store: StateStore, other: StateStore) -> None:
        """Rollouts of a target are open until verified, in every lineage."""
        seen = replace(rollout("qiniu", "seen.example.com"), verified_at=NOW + HOUR)
        ours, theirs = rollout("qiniu", "b.example.com"), rollout("qiniu", "a.example.com")
        theirs = replace(theirs, lineage="static", accepted_at=NOW)
        for saved in (theirs, seen, ours, rollout("files", "b.example.com")):
            store.save_rollout(saved)

        assert (ours, theirs) == other.open_rollouts("qiniu")
        assert () == other.open_rollouts("unknown")

    def test_what_is_not_ours_is_remembered_apart(self, store: StateStore) -> None:
        """An upload by another tool (`NO_LINEAGE`) is in no lineage's list."""
        saved = replace(upload("a", NOW, lineage=NO_LINEAGE), in_use_until=NOW + HOUR)
        store.save_upload(saved)

        assert (saved,) == store.uploads(NO_LINEAGE, "qiniu")
        assert () == store.uploads("img", "qiniu")


class HistoryContract:
    """The history, newest entry first."""

    def test_history_is_read_back_newest_first(self, store: StateStore, other: StateStore) -> None:
        """`history` returns entries of one lineage or of all, and at most `limit` entries."""
        entries = [
            event("img", "issued", 0),
            event("static", "issued", 1),
            event("img", "bound", 2),
        ]
        for entry in entries:
            store.append_history(entry)

        assert tuple(reversed(entries)) == other.history(None, limit=10)
        assert (entries[2], entries[0]) == other.history("img", limit=10)
        assert (entries[2], entries[1]) == other.history(None, limit=2)
        assert () == other.history("unknown", limit=10)

    def test_history_is_in_the_order_of_appending(self, store: StateStore) -> None:
        """Equal moments, or a clock that went back, do not change the order."""
        entries = [event("img", "issued", 1), event("img", "uploaded", 1), event("img", "bound", 0)]
        for entry in entries:
            store.append_history(entry)

        assert tuple(reversed(entries)) == store.history("img", limit=10)

    def test_history_is_read_in_pages(self, store: StateStore, other: StateStore) -> None:
        """A page continues after the last entry of the page before, even after new entries."""
        entries = [event("img", "issued", hours) for hours in range(4)]
        for entry in entries:
            store.append_history(entry)

        first = other.history("img", limit=2)
        store.append_history(event("img", "bound", 9))
        second = other.history("img", limit=9, before=first[-1].number)

        assert (*reversed(entries),) == first + second
        assert () == other.history(None, limit=9, before=second[-1].number)

    def test_history_is_found_by_host_by_person_and_by_time(
        self, store: StateStore, elsewhere: StateStore
    ) -> None:
        """The history has the entries that meet every condition of the filter.

        An entry at the moment `since` is included; an entry at the moment `until` is not.
        """
        for number in range(8):
            entry = event(f"lineage-{number % 2}", "bound", number)
            by = replace(entry, who="anna" if number in range(4) else "bert")
            (elsewhere if number in {3, 7} else store).append_history(by)

        def hours(which: HistoryFilter, lineage: str | None = None) -> list[float]:
            entries = store.history(lineage, 10, which=which)
            return [(entry.at - NOW) / HOUR for entry in entries]

        here = str(store.host)
        assert [7, 6, 5, 4] == hours(HistoryFilter(who="bert"))
        assert [6, 5, 4, 2, 1, 0] == hours(HistoryFilter(host=here))
        assert [5, 4, 3, 2] == hours(HistoryFilter(since=NOW + 2 * HOUR, until=NOW + 6 * HOUR))
        both = HistoryFilter(here, "anna", NOW + HOUR, NOW + 7 * HOUR)
        assert [2, 1] == hours(both)
        assert [1] == hours(both, "lineage-1")
        assert [] == hours(HistoryFilter(who="carl"))
        berts = HistoryFilter(here, "bert")
        [newest] = store.history(None, 1, which=berts)
        assert NOW + 5 * HOUR == store.history(None, 1, newest.number, berts)[0].at

    def test_history_keeps_what_was_said(self, store: StateStore) -> None:
        """An entry keeps its facts, in any language, even if the caller's dict changes later. A
        sentence keeps the values, so each reader reads the sentence in the reader's language.
        """
        cause = Text("{name} is away", name="the CA")
        sentence = Text(
            "not since {moment}: {cause}", moment=NOW.replace(microsecond=0), cause=cause
        )
        facts: dict[str, str | Text] = {"detail": "证书未变更", "problem": sentence}
        kept = dict(facts)
        store.append_history(HistoryEntry(NOW, "img", "unchanged", "root@host", facts))
        facts.clear()

        assert [kept] == [dict(entry.facts) for entry in store.history("img", limit=1)]

    def test_history_is_found_as_it_was_written(
        self, store: StateStore, other: StateStore, elsewhere: StateStore
    ) -> None:
        """The history of several hosts and processes verifies, in any order of entries.

        Each entry names the host that wrote the entry.
        """
        assert VerifiedHistory(0, 0) == store.verify_history()
        for number, writer in enumerate([store, elsewhere, other, store, elsewhere, elsewhere]):
            writer.append_history(event(f"lineage-{number % 2}", "bound", number))

        assert VerifiedHistory(6, 2) == store.verify_history() == elsewhere.verify_history()
        assert VerifiedHistory(3, 1) == other.verify_history("lineage-1")
        assert VerifiedHistory(0, 0) == other.verify_history("unknown")
        writers = [store, elsewhere, other, store, elsewhere, elsewhere]
        entries = store.history(None, 10)
        assert [writer.host for writer in writers] == [entry.host for entry in reversed(entries)]


def upload(
    remote_id: str, uploaded_at: datetime, target: str = "qiniu", lineage: str = "img"
) -> Upload:
    """Return an upload."""
    return Upload(lineage, target, remote_id, f"certferry-{lineage}-ab", "ab" * 32, uploaded_at)


def rollout(target: str, domain: str) -> RolloutRecord:
    """Return a rollout that has just begun."""
    return RolloutRecord("img", target, domain, "ab" * 32, NOW)


def event(lineage: str, what: str, hours: int) -> HistoryEntry:
    """Return a history entry with a fact."""
    return HistoryEntry(NOW + hours * HOUR, lineage, what, "root@host", {"fingerprint": "ab"})


LATER = NOW + timedelta(minutes=10)
DIRECTORY = "https://ca.test/directory"
OTHER = "https://other-ca.test/directory"
RACERS = 8

IMG = PlannedOrder(("*.img.example.com", "img.example.com"))
ALLOWED = 3
WEEK = timedelta(days=7)
LIMITS = Limits(
    orders=Allowance(ALLOWED, timedelta(hours=3)),
    domain=Allowance(50, WEEK),
    same_names=Allowance(5, WEEK),
    failed_proofs=Allowance(5, timedelta(hours=1)),
)


class OrderLogContract:
    """`spent`, `claim_order`, and the orders, proofs and holds that both read."""

    def test_order_counts_until_it_is_given_up(self, store: StateStore, other: StateStore) -> None:
        """A claimed order counts at its CA, and counts as given up after `drop_order`."""
        assert Spent() == store.spent(DIRECTORY, IMG)
        lease = store.acquire("img", NOW)
        store.claim_order(lease, DIRECTORY, IMG, LIMITS, NOW)

        assert Spent((PastOrder(IMG.names, NOW),)) == other.spent(DIRECTORY, IMG)
        assert Spent() == other.spent(OTHER, IMG)

        store.drop_order(lease)
        assert Spent((PastOrder(IMG.names, NOW, given_up=True),)) == other.spent(DIRECTORY, IMG)

    def test_later_order_takes_the_place_of_an_earlier_one(self, store: StateStore) -> None:
        """A lineage's next order at the same CA marks the order before as given up."""
        lease = store.acquire("img", NOW)
        store.claim_order(lease, DIRECTORY, IMG, LIMITS, NOW)
        store.claim_order(lease, DIRECTORY, IMG, LIMITS, LATER)

        assert (
            PastOrder(IMG.names, NOW, given_up=True),
            PastOrder(IMG.names, LATER),
        ) == store.spent(DIRECTORY, IMG).orders

        store.claim_order(lease, OTHER, IMG, LIMITS, LATER)
        assert not store.spent(DIRECTORY, IMG).orders[-1].given_up

    def test_saving_the_version_says_that_it_was_issued(
        self, store: StateStore, other: StateStore
    ) -> None:
        """`drop_order` with `issued_at` marks the lineage's order as issued; other orders stay."""
        for lineage, names in (("img", IMG), ("static", PlannedOrder(("static.example.com",)))):
            store.claim_order(store.acquire(lineage, NOW), DIRECTORY, names, LIMITS, NOW)
        lease = store.acquire("pics", NOW)
        store.claim_order(lease, DIRECTORY, IMG, LIMITS, NOW)
        store.drop_order(lease, issued_at=LATER)
        bundle = make_bundle("static.example.com", not_before=NOW)

        store.release(lease)
        renewed = store.acquire("pics", NOW)
        store.save_version(renewed, bundle, LATER + WEEK)

        assert [None, None, LATER] == [
            order.issued_at for order in other.spent(DIRECTORY, IMG).orders
        ]

    def test_renewal_counts_by_its_names_only(self, store: StateStore, other: StateStore) -> None:
        """A renewal counts for equal names only. An exempt order does not count at all."""
        lease = store.acquire("img", NOW)
        renewal = PlannedOrder(IMG.names, renews=True)
        store.claim_order(lease, DIRECTORY, renewal, LIMITS, NOW)
        assert (PastOrder(IMG.names, NOW, renews=True),) == other.spent(DIRECTORY, IMG).orders
        assert () == other.spent(DIRECTORY, PlannedOrder(("img.example.com",))).orders

        store.claim_order(lease, DIRECTORY, PlannedOrder(IMG.names, exempt=True), LIMITS, LATER)
        (order,) = other.spent(DIRECTORY, IMG).orders
        assert order.given_up

    def test_budget_that_is_used_up(self, store: StateStore, other: StateStore) -> None:
        """The refusal names the moment of the next order, and nothing is stored."""
        lease = store.acquire("img", NOW)
        for number in range(ALLOWED):
            wanted = PlannedOrder((f"n{number}.example.com",))
            other.claim_order(lease, DIRECTORY, wanted, LIMITS, NOW)
        before = store.spent(DIRECTORY, IMG)

        with pytest.raises(OrderPostponed) as held:
            store.claim_order(lease, DIRECTORY, IMG, LIMITS, LATER)

        assert NOW + timedelta(hours=3) == held.value.retry.after
        assert before == store.spent(DIRECTORY, IMG)
        store.claim_order(lease, OTHER, IMG, LIMITS, LATER)

    def test_order_without_the_lease_is_not_let_go(self, store: StateStore) -> None:
        """A run without its lease claims no order, and nothing is stored."""
        lost = store.acquire("img", NOW)
        store.release(lost)

        with pytest.raises(LeaseLost):
            store.claim_order(lost, DIRECTORY, IMG, LIMITS, NOW)

        assert Spent() == store.spent(DIRECTORY, IMG)

    def test_runs_that_ask_at_once(self, store: StateStore, other: StateStore) -> None:
        """Runs that claim at once get no more orders than the budget allows."""
        let_go: list[int] = []
        start = threading.Barrier(RACERS)

        def race(handle: StateStore, number: int) -> None:
            lease = handle.acquire(f"n{number}", NOW)
            start.wait()
            try:
                handle.claim_order(
                    lease, DIRECTORY, PlannedOrder((f"n{number}.example.com",)), LIMITS, NOW
                )
                let_go.append(number)
            except OrderPostponed:
                pass

        handles = [store, other] * (RACERS // 2)
        racers = [
            threading.Thread(target=race, args=(handle, number))
            for number, handle in enumerate(handles)
        ]
        for racer in racers:
            racer.start()
        for racer in racers:
            racer.join()

        assert ALLOWED == len(let_go)

    def test_failed_proofs_are_counted_by_name(self, store: StateStore, other: StateStore) -> None:
        """A wildcard counts for its base name. Each directory counts separately."""
        store.save_failed_proofs(DIRECTORY, IMG.names, NOW)
        other.save_failed_proofs(DIRECTORY, ("img.example.com", "b.example.com"), LATER)
        other.save_failed_proofs(OTHER, ("img.example.com",), LATER)

        assert (
            FailedProof("img.example.com", NOW),
            FailedProof("img.example.com", LATER),
        ) == store.spent(DIRECTORY, IMG).failed_proofs

    def test_holds_are_kept(self, store: StateStore, other: StateStore) -> None:
        """`spent` returns the last hold of the same names, and other holds for all names."""
        mine = Hold(("img.example.com",), NOW, LATER, for_all=False)
        for hold in (
            Hold(("img.example.com",), NOW, NOW, for_all=True),
            mine,
            Hold(("a.example.com",), NOW, LATER, for_all=False),
        ):
            store.save_hold(DIRECTORY, hold)
        everybodys = Hold(("z.example.com",), NOW, LATER, for_all=True)
        store.save_hold(DIRECTORY, everybodys)

        assert (mine, everybodys) == other.spent(
            DIRECTORY, PlannedOrder(("img.example.com",))
        ).holds
        assert () == other.spent(OTHER, IMG).holds
