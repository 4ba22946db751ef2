"""The contract of the declarations of hosts that share a state."""

from __future__ import annotations

import time

from certferry.core.desired.declaration import Declaration, outdated
from certferry.ports.state import StateStore

FILE, MANY = "/etc/certferry.toml", 450
TICK = 0.002
"""Seconds after which every database's clock shows a later moment."""


def _declare(store: StateStore, file: str = FILE, gone: str = "", /, **digests: str) -> None:
    store.declare(digests, file, lambda other: other == gone)
    time.sleep(TICK)


def _outdated(store: StateStore, **digests: str) -> dict[str, tuple[str, ...]]:
    """Return, by lineage, the hosts whose declaration supersedes this host's."""
    newer = outdated(store.contested(digests), store.host)
    return {lineage: declaration.hosts for lineage, declaration in newer.items()}


class DeclarationsContract:
    """Declarations in the files of hosts. `elsewhere` is the same state on another host."""

    def test_hosts_that_declare_alike(self, store: StateStore, elsewhere: StateStore) -> None:
        """Equal declarations do not conflict. `declared_among` names both hosts."""
        _declare(store, img="a", api="b")
        _declare(elsewhere, img="a")
        for handle in (store, elsewhere):
            assert {} == _outdated(handle, img="a")
            both = tuple(sorted([store.host, elsewhere.host]))
            assert {"img": both, "api": (store.host,)} == handle.declared_among(
                ["img", "api", "no"]
            )

    def test_what_was_seen_last_for_the_first_time_counts(
        self, store: StateStore, elsewhere: StateStore
    ) -> None:
        """The newest declaration counts. A host that declares an older version is outdated."""
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
        """A declaration can be compared before it is stored: only an older one is outdated."""
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
        """A repeated declaration keeps both moments, also from another file."""

        def stored() -> Declaration:
            (mine,) = (row for row in elsewhere.contested({"img": "c"}) if row.host == store.host)
            return mine

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
        """A lineage that a file no longer declares is no longer declared.

        Another file of the host keeps its lineages until that file is gone. `besides` leaves out
        the lineages of a file.
        """
        _declare(store, img="a", api="b")
        _declare(other, "/etc/other.toml", web="c")
        _declare(store, img="a")
        assert {"img", "web"} == store.declared_among(["img", "api", "web"]).keys()
        assert {"web"} == store.declared_among(["img", "api", "web"], besides=FILE).keys()

        _declare(store, FILE, "/etc/other.toml", img="a")
        assert {"img"} == store.declared_among(["img", "api", "web"]).keys()

    def test_many_declarations(self, store: StateStore, elsewhere: StateStore) -> None:
        """Hundreds of declarations are stored, compared and listed like a few."""
        digests = {f"c{number}": "a" for number in range(MANY)}
        newer = dict.fromkeys(digests, "b")
        store.declare(digests, FILE, lambda _: False)
        time.sleep(TICK)
        elsewhere.declare(newer, FILE, lambda _: False)
        assert digests.keys() == outdated(store.contested(digests), store.host).keys()
        assert digests.keys() == store.declared_among(digests.keys()).keys()
        assert {} == store.declared_among(())
