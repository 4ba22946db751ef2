"""The ledger of a host with very many certificates."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from certferry.adapters.acme.budget import limits_at
from certferry.adapters.state.columns import from_moment, from_names
from certferry.adapters.state.connect import connect
from certferry.core.planning.limits import (
    MOST_ORDERS,
    Limits,
    PastOrder,
    PlannedOrder,
    Spent,
    rate_limit_hold,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
DIRECTORY = "https://acme-v02.api.letsencrypt.org/directory"
STAGING = "https://acme-staging-v02.api.letsencrypt.org/directory"
SHOP = ("www.shop.example",)
USED_UP = 50  # certificates of a registered domain, as many as Let's Encrypt allows in a week


def limits(directory: str = DIRECTORY) -> Limits:
    """What a directory allows."""
    found = limits_at(directory)
    assert found is not None
    return found


def test_no_limit_by_account_counts_more_orders_than_are_read() -> None:
    """Or certferry would let go one too many."""
    for directory in (DIRECTORY, STAGING):
        assert limits(directory).orders.most <= MOST_ORDERS


def orders_of_a_month() -> list[PastOrder]:
    """Six days ago a domain's budget was used up, by names that vary; then came many others."""
    shop = [
        PastOrder((f"{number}.shop.example",), NOW - 6 * DAY + number * MINUTE)
        for number in range(USED_UP)
    ]
    others = [
        PastOrder((f"www.n{number}.example",), NOW - 5 * DAY + number * MINUTE)
        for number in range(2 * MOST_ORDERS)
    ]
    return [PastOrder(SHOP, NOW - 20 * DAY), *shop, *others]


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
def test_what_is_read_decides_as_all_of_it_would(tmp_path: Path, wanted: PlannedOrder) -> None:
    """Of thousands of orders only those that may count are read: the last ones, and those of the
    same registered domain or the same names.
    """
    path, orders = tmp_path / "state.db", orders_of_a_month()
    with closing(connect(path, tmp_path / "secret.key")) as store:
        with closing(sqlite3.connect(path)) as raw, raw:
            raw.executemany(
                "INSERT INTO issuance (number, directory, lineage, names, renews, ordered_at)"
                " VALUES (?, ?, '', ?, 0, ?)",
                [
                    (number, DIRECTORY, from_names(one.names), from_moment(one.ordered_at))
                    for number, one in enumerate(orders)
                ],
            )
        read = store.spent(DIRECTORY, wanted)

    assert len(read.orders) <= MOST_ORDERS + USED_UP + 1
    for moment in (NOW, NOW - 5 * DAY, NOW + DAY + 40 * MINUTE, NOW + 2 * DAY):
        decided = rate_limit_hold(limits(), read, wanted, moment)
        assert rate_limit_hold(limits(), Spent(tuple(orders)), wanted, moment) == decided
