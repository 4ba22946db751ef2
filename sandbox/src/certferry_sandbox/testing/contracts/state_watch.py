"""The contract of `certferry.ports.watch_store.WatchStore`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from certferry.core.network import Host
from certferry.core.observed.watched_hosts import FORGOTTEN_AFTER, WatchedHost
from certferry.errors import Problem, Severity
from certferry.ports.state import StateStore
from certferry.text import Text
from certferry.values import replace

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
HOUR = timedelta(hours=1)
HOST, OTHER = Host("www.example.com"), Host("2001:db8::1", 8443)
PROBLEM = Problem(
    "ends_soon", Text("the certificate ends at {end}", end=NOW), Text("renew"), Severity.WARNING
)


def look_at(host: Host, by: str, at: datetime = NOW) -> WatchedHost:
    """Return a look that found nothing but order."""
    return WatchedHost(host.name, host.port, by, "shop", at, at)


class WatchContract:
    """The looks at watched hosts."""

    def test_look_comes_back_whole(self, store: StateStore, other: StateStore) -> None:
        """Every fact of a look is stored, with the problem, its severity, and its values."""
        whole = replace(
            look_at(OTHER, store.host),
            problem=PROBLEM,
            more=2,
            addresses=3,
            valid=1,
            fingerprint="aa" * 32,
            issuer="Harbour CA",
            not_before=NOW - HOUR,
            not_after=NOW + HOUR,
            is_silent=True,
        )
        plain = look_at(HOST, store.host)

        store.save_looks([plain, whole], {HOST, OTHER}, NOW)

        assert (whole, plain) == other.watched_hosts()

    def test_beginning_stays_while_nothing_changes(self, store: StateStore) -> None:
        """Trouble that goes on keeps the beginning, and so does order; an earlier look counts no
        more.
        """
        first = replace(look_at(HOST, store.host), problem=PROBLEM)
        later = replace(look_at(HOST, store.host, NOW + HOUR), problem=replace(PROBLEM, code="x"))
        store.save_looks([first], {HOST}, NOW)

        store.save_looks([later], {HOST}, NOW + HOUR)
        store.save_looks([first], {HOST}, NOW + HOUR)
        assert (replace(later, since=NOW),) == store.watched_hosts()

        over = look_at(HOST, store.host, NOW + 2 * HOUR)
        store.save_looks([over], {HOST}, NOW + 2 * HOUR)
        assert (over,) == store.watched_hosts()

    def test_host_that_is_declared_no_more_is_forgotten(
        self, store: StateStore, elsewhere: StateStore
    ) -> None:
        """The looks of another certferry host stay until these looks are old."""
        store.save_looks(
            [look_at(HOST, store.host), look_at(OTHER, store.host)], {HOST, OTHER}, NOW
        )
        elsewhere.save_looks([look_at(OTHER, elsewhere.host)], {OTHER}, NOW)

        store.save_looks([], {HOST}, NOW + HOUR)
        assert {(HOST, store.host), (OTHER, elsewhere.host)} == {
            (look.host, look.by) for look in store.watched_hosts()
        }

        store.save_looks([], {HOST}, NOW + FORGOTTEN_AFTER)
        assert [HOST] == [look.host for look in store.watched_hosts()]
