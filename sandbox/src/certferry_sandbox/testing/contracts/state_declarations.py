"""The contract of what hosts declare in a state that they share."""

from __future__ import annotations

import time

from certferry.core.desired.declaration import Declaration, outdated
from certferry.ports.state import StateStore

FILE, MANY = "/etc/certferry.toml", 450
TICK = 0.002
"""Seconds after which the clock of every database shows another moment."""


def _declare(store: StateStore, file: str = FILE, gone: str = "", /, **digests: str) -> None:
    store.declare(digests, file, lambda other: other == gone)
    time.sleep(TICK)


def _outdated(store: StateStore, **digests: str) -> dict[str, tuple[str, ...]]:
    """By lineage, the hosts whose declaration counts in place of this one's."""
    found = outdated(store.contested(digests), store.host)
    return {lineage: one.hosts for lineage, one in found.items()}


class DeclarationsContract:
    """What the files of hosts declare: `elsewhere` is the same state on another host."""

    def test_hosts_that_declare_alike(self, store: StateStore, elsewhere: StateStore) -> None:
        """Do not differ, and each is asked for by the others."""
        _declare(store, img="a", api="b")
        _declare(elsewhere, img="a")
        for one in (store, elsewhere):
            assert {} == _outdated(one, img="a")
            both = tuple(sorted([store.host, elsewhere.host]))
            assert {"img": both, "api": (store.host,)} == one.declared_among(["img", "api", "no"])

    def test_what_was_seen_last_for_the_first_time_counts(
        self, store: StateStore, elsewhere: StateStore
    ) -> None:
        """A host that comes later with what was in force before brings nothing back."""
        _declare(store, img="old", api="same")
        _declare(store, img="new", api="same")
        _declare(elsewhere, img="old", api="same")

        assert {"img": (store.host,)} == _outdated(elsewhere, img="old", api="same")
        assert {} == _outdated(store, img="new", api="same")

        _declare(store, img="old", api="same")
        assert {} == _outdated(store, img="old")
        assert {} == _outdated(elsewhere, img="old")

    def test_what_would_count_is_known_before_it_is_stored(
        self, store: StateStore, elsewhere: StateStore
    ) -> None:
        """An earlier declaration would not count, a new one would: nothing is written meanwhile."""
        _declare(store, img="old")
        _declare(store, img="new")
        _declare(elsewhere, img="new")

        assert {"img": (store.host,)} == _outdated(elsewhere, img="old")
        assert {} == _outdated(elsewhere, img="newest")
        assert {} == _outdated(elsewhere, img="new", api="b")
        assert {} == _outdated(store, img="new")

    def test_moments_are_those_of_the_first_declaration(
        self, store: StateStore, elsewhere: StateStore
    ) -> None:
        """Declaring the same again, or in another file, changes neither."""

        def stored() -> Declaration:
            (found,) = (one for one in elsewhere.contested({"img": "c"}) if one.host == store.host)
            return found

        _declare(store, img="b")
        _declare(store, img="a")
        before = stored()
        assert before.first_seen_at <= before.since
        _declare(store, img="a")
        _declare(store, "/etc/moved.toml", img="a")
        assert before == stored()
        _declare(elsewhere, img="a")
        _declare(elsewhere, img="b")
        _declare(store, img="b")
        assert before.since < stored().since
        assert before.first_seen_at > stored().first_seen_at

    def test_what_a_file_declares_no_more(self, store: StateStore, other: StateStore) -> None:
        """Is declared no more; another file of the host still declares its own while it is there,
        and what this file declares can be left out of account.
        """
        _declare(store, img="a", api="b")
        _declare(other, "/etc/other.toml", web="c")
        _declare(store, img="a")
        assert {"img", "web"} == store.declared_among(["img", "api", "web"]).keys()
        assert {"web"} == store.declared_among(["img", "api", "web"], besides=FILE).keys()

        _declare(store, FILE, "/etc/other.toml", img="a")
        assert {"img"} == store.declared_among(["img", "api", "web"]).keys()

    def test_many_declarations(self, store: StateStore, elsewhere: StateStore) -> None:
        """Are stored, compared and asked for like a few."""
        digests = {f"c{number}": "a" for number in range(MANY)}
        newer = dict.fromkeys(digests, "b")
        store.declare(digests, FILE, lambda _: False)
        time.sleep(TICK)
        elsewhere.declare(newer, FILE, lambda _: False)
        assert digests.keys() == outdated(store.contested(digests), store.host).keys()
        assert digests.keys() == store.declared_among(digests.keys()).keys()
        assert {} == store.declared_among(())
