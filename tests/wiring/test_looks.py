"""The looks around a run: nothing about watched hosts is imported without `[[watch]]`, and the
notices about watched hosts follow the file.
"""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta

from certferry.config.document import document_of
from certferry.config.load import as_far_as_read
from certferry.config.model import Settings
from certferry.core.assessment.notices import Notice, Subject, Topic
from certferry.core.assessment.sightings import Sighting
from certferry.core.network import Host
from certferry.core.observed.watched_hosts import FORGOTTEN_AFTER, WatchedHost
from certferry.errors import Problem
from certferry.text import Text
from certferry.values import replace
from certferry.wiring.looks import with_current_looks
from certferry.wiring.watching import owned_by, shown
from certferry_sandbox.testing.memory_state import MemoryState
from tests.config.conftest import FILE

CERTIFICATES = """
[accounts.qiniu]
[[certificates]]
name = "img"
names = ["img.example.com"]
dns = "dnspod"
[[certificates.deploy]]
to = "qiniu"
[[certificates]]
name = "site"
names = ["site.example.com"]
dns = "dnspod"
[[certificates.deploy]]
to = "files"
directory = "/tmp/site"
serves = ["site.example.com:8443"]
"""
DEAD = Problem("refused", Text("the address refuses connections at the port"))
WATCHED = ("img.example.com", "img.example.com:8443", "site.example.com:8443", "www.example.com")


def settings(*hosts: str) -> Settings:
    listed = ", ".join(f'"{host}"' for host in hosts)
    text = f"{CERTIFICATES}\n[[watch]]\nhosts = [{listed}]\n" if hosts else CERTIFICATES
    return as_far_as_read(document_of(FILE, text), {})[0]


class Shared(MemoryState):
    """A state that hosts share."""

    is_shared = True


def dead(state: MemoryState, by: str = "") -> WatchedHost:
    now = state.now()
    return WatchedHost("www.example.com", 443, by or state.host, "watch", now, now, DEAD)


def test_run_without_the_table_imports_nothing_of_it() -> None:
    """The modules of a run and of the file's reader load no module of watched hosts."""
    modules = (
        "certferry.config.watch",
        "certferry.core.assessment.watching",
        "certferry.present.watch_text",
        "certferry.reconcile.host_look",
        "certferry.wiring.watching",
    )
    program = f"""
import sys
import certferry.cli.sync, certferry.wiring.runner, certferry.wiring.workspace
from certferry.config.document import document_of
from certferry.config.load import as_far_as_read
from pathlib import Path
as_far_as_read(document_of(Path("certferry.toml"), {CERTIFICATES!r}), {{}})
print(*[name for name in {modules!r} if name in sys.modules])
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert "" == ended.stdout.strip()


def test_edges_of_declared_certificates() -> None:
    """A sighted domain at the port of `[verify]` is an edge, and so is a host in `serves`."""
    declared = settings(*WATCHED)
    sightings = [
        Sighting(lineage, "qiniu", domain, served=True, since=MemoryState().now())
        for lineage, domain in (("img", "img.example.com"), ("gone", "www.example.com"))
    ]

    assert {
        Host("img.example.com"): "img",
        Host("site.example.com", 8443): "site",
    } == owned_by(declared, sightings)


def test_notices_follow_the_looks_and_the_file() -> None:
    """The trouble stands while the file names the host, also in commands that only read."""
    state = MemoryState()
    other = Notice(Topic.TROUBLE, Subject("img"), state.now(), DEAD)
    state.save_looks([dead(state)], {Host("www.example.com")}, state.now())

    stands = with_current_looks(settings("www.example.com"), state)((other,))
    elsewhere = with_current_looks(settings("api.example.com"), state)(stands)
    off = with_current_looks(settings(), state)(stands)

    assert [other.subject, Subject(domain="www.example.com", watch="watch")] == [
        notice.subject for notice in stands
    ]
    assert ((other,), (other,)) == (elsewhere, off)


def test_trouble_that_another_host_sees() -> None:
    """In a shared state the trouble stands although this host watches nothing, until the look is
    old.
    """
    state = Shared()
    look = dead(state, "web-2")
    state.save_looks([look], {look.host}, state.now())

    assert 1 == len(with_current_looks(settings(), state)(()))

    old = state.now() - FORGOTTEN_AFTER - timedelta(hours=1)
    other = replace(look, name="old.example.com", looked_at=old, since=old)
    state.save_looks([other], {other.host}, old)
    assert 1 == len(with_current_looks(settings(), state)(()))


def test_shown_hosts() -> None:
    """The looks of this host are shown, and other hosts' looks are left out."""
    state = MemoryState()
    state.save_looks([dead(state)], {Host("www.example.com")}, state.now())

    watching = shown(settings(*WATCHED), state)

    assert [Host("www.example.com")] == [look.host for look in watching.looks]
    assert (Host("img.example.com"), Host("img.example.com", 8443)) == watching.unseen
    assert {Host("site.example.com", 8443): "site"} == watching.owned
