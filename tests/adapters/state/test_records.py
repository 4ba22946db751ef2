"""The records of the state's tables, and programs that may change them."""

from __future__ import annotations

import base64
import json
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.adapters.acme.budget import limits_at
from certferry.adapters.state.columns import (
    DESIRED,
    FACTS,
    SETTINGS,
    from_moment,
    from_names,
    to_moment,
    to_text,
    to_validity,
)
from certferry.adapters.state.connect import connect
from certferry.adapters.state.database import migrate
from certferry.adapters.state.failures import LONGEST_RESULT
from certferry.adapters.state.leases import HostState, LeaseLocks
from certferry.adapters.state.sealing import Sealing
from certferry.adapters.state.sqlite import SqliteDatabase
from certferry.core.certificates.lineage import Revocation, RevocationReason
from certferry.core.observed.records import HistoryEntry
from certferry.core.observed.stored_runs import RunKind, RunReport, RunSource, RunState, StoredRun
from certferry.core.planning.limits import (
    MOST_ORDERS,
    Limits,
    PastOrder,
    PlannedOrder,
    Spent,
    rate_limit_hold,
)
from certferry.errors import StateError
from certferry.ports.state import StateStore
from certferry.text import Text, verbatim
from certferry_sandbox.testing.certificates import make_bundle
from tests.adapters.state.child_program import NOW

# --- Moments and windows in the database


moments = st.datetimes(
    min_value=datetime(1970, 1, 2),  # noqa: DTZ001 - the zone is drawn beside it
    max_value=datetime(8999, 12, 30),  # noqa: DTZ001 - the zone is drawn beside it
    timezones=st.timezones(),
)


@pytest.mark.parametrize(
    "moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59Z", "9000-01-01T00:00:00Z"]
)
def test_moment_at_an_end_of_the_calendar(moment: str) -> None:
    """The moment is rejected, so that every stored moment allows additions and subtractions."""
    with pytest.raises(StateError, match="certferry did not write"):
        to_moment(moment)


def test_certificate_without_an_end_is_read_back() -> None:
    """The last second of the calendar stands for a certificate without an end (RFC 5280
    §4.1.2.5).
    """
    last = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)

    assert last == to_validity(from_moment(last))
    with pytest.raises(StateError):
        to_validity("0001-01-01T00:00:00Z")


@given(moments, moments)
def test_moments_sort_as_text(first: datetime, second: datetime) -> None:
    """Text comparison in the database gives the order of the moments."""
    in_time = first.astimezone(UTC) < second.astimezone(UTC)

    assert in_time == (from_moment(first) < from_moment(second))


@pytest.mark.parametrize(
    "corrupt", ["", "soon", "2026-11-26T12:00:00", "[", "7", "null", "[" * 100_000, "{" * 100_000]
)
@pytest.mark.parametrize("read", [to_moment, FACTS.read, DESIRED.read, SETTINGS.read])
def test_column_of_another_program(read: Callable[[str], object], corrupt: str) -> None:
    """Any foreign value is reported as a change by another program."""
    with pytest.raises(StateError, match="contains data that certferry did not write") as caught:
        read(corrupt)

    assert caught.value.hint is not None


@pytest.mark.parametrize("corrupt", ["", "[", "7", "[" * 100_000])
def test_names_of_another_program(path: Path, store: StateStore, corrupt: str) -> None:
    """The lineage's reads fail with the state's error."""
    lease = store.acquire("img", NOW)
    store.save_version(lease, make_bundle("img.example.com", not_before=NOW), NOW)
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("UPDATE version SET names = ?", (corrupt,))

    with pytest.raises(StateError, match="contains data that certferry did not write"):
        store.remembered("img")


def _packed(report: bytes) -> str:
    return base64.b64encode(zlib.compress(report, 1)).decode()


@pytest.mark.parametrize(
    "corrupt",
    [
        lambda: "",
        lambda: "7",
        lambda: _packed(b""),
        lambda: _packed(b"7"),
        lambda: _packed(b'{"steps": [{"text": 1, "values": 7}]}'),
        lambda: _packed(b" " * (LONGEST_RESULT + 1) + b"{}"),
    ],
    ids=["empty", "7", "nothing", "a number", "no sentence", "longer than may be read"],
)
def test_report_of_another_program(
    path: Path, store: StateStore, corrupt: Callable[[], str]
) -> None:
    """Reading the report is an error about another program's data."""
    run = StoredRun("a", RunKind.SYNC, RunSource.COMMAND, "root", store.host, NOW)
    store.save_run_begin(run)
    store.save_run_end("a", RunState.DONE, NOW, RunReport({"ok": Text("{a}", a=1)}))
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("UPDATE run_report SET documents = ?", (corrupt(),))

    with pytest.raises(StateError, match="contains data that certferry did not write"):
        store.run_report("a")


def test_report_without_a_secret(store: StateStore) -> None:
    """A secret in a service's message is masked before the report is stored."""
    run = StoredRun("a", RunKind.SYNC, RunSource.COMMAND, "root", store.host, NOW)
    store.save_run_begin(run)
    detail = Text("{words}", words=verbatim("login_token=12,HIDDEN"))
    store.save_run_end("a", RunState.FAILED, NOW, RunReport({"detail": detail}))

    assert "HIDDEN" not in str(store.run_report("a"))


def test_revocation_of_another_program(path: Path, store: StateStore) -> None:
    """An unknown reason is an error."""
    lease = store.acquire("img", NOW)
    store.save_version(lease, make_bundle("img.example.com", not_before=NOW), NOW)
    store.save_revocation(lease, 1, Revocation(NOW, RevocationReason.SUPERSEDED))
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("UPDATE version SET revocation_reason = 'because'")

    with pytest.raises(StateError, match="contains data that certferry did not write"):
        store.versions("img")


def grown(times: int) -> str:
    """Return a sentence that contains a sentence a thousand times, nested to a depth."""
    plain: object = "x" * 1000
    for _ in range(times):
        plain = {"text": "{a}" * 1000, "values": {"a": plain}}
    return json.dumps(plain)


@pytest.mark.parametrize(
    "stored",
    [
        "",
        "{",
        "7",
        "null",
        '{"text": "a"}',
        '{"text": "a", "values": 7}',
        '{"moment": "2026"}',
        '"a"',
        '{"text": 1, "values": {}}',
        '{"text": "{nothing}", "values": {"a": 1}}',
        '{"text": "{", "values": {"a": 1}}',
        '{"text": "{0}", "values": {"0": 1}}',
        '{"text": "{a!r}", "values": {"a": 1}}',
        '{"text": "{a.__class__}", "values": {"a": 1}}',
        '{"text": "{moment:>900000000}", "values": {"moment": 1}}',
        json.dumps({"text": "{a}" * 3000, "values": {"a": "x" * 9000}}),
        grown(9),
        "[" * 900 + "]" * 900,
        '{"text": {"x": 1}, "values": {}}',
        '{"text": ["x"], "values": {}}',
        '{"text": 7, "values": {}}',
    ],
)
def test_sentence_of_another_program(stored: str) -> None:
    """Any invalid sentence is replaced by a sentence about the change, without an error."""
    assert "the state contains a sentence that certferry did not write" == str(to_text(stored))


# --- History is append-only, for every program


@pytest.mark.parametrize(
    "statement", ["UPDATE history SET who = 'nobody'", "DELETE FROM history WHERE number = 1"]
)
def test_history_is_append_only(path: Path, store: StateStore, statement: str) -> None:
    """The database itself refuses the change, even from another program."""
    entry = HistoryEntry(NOW, "img", "issued", "root@host", {"fingerprint": "ab"})
    store.append_history(entry)

    with closing(sqlite3.connect(path)) as raw:
        with pytest.raises(sqlite3.IntegrityError, match="history is never"):
            raw.execute(statement)
        raw.rollback()

    assert (entry,) == store.history(None, 10)


# --- The order log of a host with very many certificates


ORDER_NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
DIRECTORY = "https://acme-v02.api.letsencrypt.org/directory"
STAGING = "https://acme-staging-v02.api.letsencrypt.org/directory"
SHOP = ("www.shop.example",)
USED_UP = 50  # certificates of a registered domain, the limit of Let's Encrypt for a week


def limits(directory: str = DIRECTORY) -> Limits:
    known_limits = limits_at(directory)
    assert known_limits is not None
    return known_limits


def test_reads_cover_the_limit_of_an_account() -> None:
    """Fewer orders than the limit would let an order pass that the CA refuses."""
    for directory in (DIRECTORY, STAGING):
        assert limits(directory).orders.most <= MOST_ORDERS


def orders_of_a_month() -> list[PastOrder]:
    """Names of a domain used up its budget six days ago; many other orders followed."""
    shop = [
        PastOrder((f"{number}.shop.example",), ORDER_NOW - 6 * DAY + number * MINUTE)
        for number in range(USED_UP)
    ]
    others = [
        PastOrder((f"www.n{number}.example",), ORDER_NOW - 5 * DAY + number * MINUTE)
        for number in range(2 * MOST_ORDERS)
    ]
    return [PastOrder(SHOP, ORDER_NOW - 20 * DAY), *shop, *others]


@pytest.mark.parametrize(
    "wanted",
    [
        PlannedOrder(SHOP),
        PlannedOrder(("a.SHOP.example".lower(), "b.other.example")),
        PlannedOrder(("www.new.example",)),
        PlannedOrder(SHOP, renews=True),
    ],
    ids=lambda wanted: f"{wanted.names[0]}{wanted.renews or ''}",
)
def test_relevant_orders_decide_like_all_orders(tmp_path: Path, wanted: PlannedOrder) -> None:
    """Few of thousands of orders are read: the last orders, and orders of the same registered
    domain or of the same names.
    """
    path, orders = tmp_path / "state.db", orders_of_a_month()
    with closing(connect(path, tmp_path / "secret.key")) as store:
        with closing(sqlite3.connect(path)) as raw, raw:
            raw.executemany(
                "INSERT INTO issuance (number, directory, lineage, names, renews, ordered_at)"
                " VALUES (?, ?, '', ?, 0, ?)",
                [
                    (number, DIRECTORY, from_names(order.names), from_moment(order.ordered_at))
                    for number, order in enumerate(orders)
                ],
            )
        relevant = store.spent(DIRECTORY, wanted)

    assert len(relevant.orders) <= MOST_ORDERS + USED_UP + 1
    for moment in (
        ORDER_NOW,
        ORDER_NOW - 5 * DAY,
        ORDER_NOW + DAY + 40 * MINUTE,
        ORDER_NOW + 2 * DAY,
    ):
        decided = rate_limit_hold(limits(), relevant, wanted, moment)
        assert rate_limit_hold(limits(), Spent(tuple(orders)), wanted, moment) == decided


# --- Running runs, while another process checks them


Opened = Callable[[LeaseLocks], HostState]


class Watched(LeaseLocks):
    """Locks of a process with a hook before and after the first taking."""

    def __init__(
        self, directory: Path, before: Callable[[], object] = str, after: Callable[[], object] = str
    ) -> None:
        super().__init__(directory)
        self._before, self._after = [before], [after]

    def take(self, lineage: str) -> ExitStack | None:
        """Take a lock, with the hooks around."""
        while self._before:
            self._before.pop()()
        lock = super().take(lineage)
        while self._after:
            self._after.pop()()
        return lock


@pytest.fixture
def opened(path: Path) -> Iterator[Opened]:
    """Open a state, as each process does for itself."""
    path.touch()
    sealing = Sealing(path.with_name("secret.key"))
    with ExitStack() as stack:

        def another(locks: LeaseLocks) -> HostState:
            database = SqliteDatabase(path)
            migrate(database, "localhost")
            database.use_write_ahead_log()
            return stack.enter_context(closing(HostState(database, sealing, locks, "localhost")))

        yield another


def test_run_that_ends_during_a_check(opened: Opened, tmp_path: Path) -> None:
    """The run counts as ended."""
    running = opened(LeaseLocks(tmp_path))
    run = running.begin_run(NOW)

    checking = opened(Watched(tmp_path, before=lambda: running.end_run(run)))

    assert () == checking.unended_runs()


def test_run_that_begins_during_a_check(opened: Opened, tmp_path: Path) -> None:
    """The checking process briefly holds the lock of a killed run, so the new run takes another
    number. After two runs have begun, every recorded run is in progress.
    """
    locks = LeaseLocks(tmp_path)
    killed = opened(locks)
    number = killed.begin_run(NOW).number
    killed.close()
    looking = locks.take(f"\0run {number}")
    assert looking is not None

    begun = opened(Watched(tmp_path, after=looking.close))
    begun.begin_run(NOW)
    begun.begin_run(NOW)

    assert () == begun.unended_runs()
