"""Whole syncs against each of Qiniu's answers in production, alone and all together."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from certferry_sandbox.qiniu.habits import HABITS, TOGETHER, Habit, done_at_once, https_hidden
from certferry_sandbox.world import World
from tests.acceptance.footprint import Footprint
from tests.acceptance.host import Host
from tests.support.tiers import thorough

CASES = {name: (habit,) for name, habit in HABITS.items()} | {"all together": TOGETHER}
IN_THE_GATE = {"all together", "bindings_nowhere", "https_hidden"}


@dataclass(frozen=True)
class Site:
    """A CDN domain with HTTPS, one without, a source domain, and the machine that serves them."""

    host: Host
    https: str
    http: str
    source: str

    @property
    def domains(self) -> set[str]:
        """Every domain."""
        return {self.https, self.http, self.source}


@pytest.fixture
def qiniu(world: World) -> Iterator[None]:
    """Have Qiniu as the documents say again after the test."""
    service = world.qiniu
    switched = (service.hosting, service.domains, service.certificates, service.certificates.rules)
    before = [copy.copy(vars(part)) for part in switched]
    yield
    for part, earlier in zip(switched, before, strict=True):
        for name, value in earlier.items():
            if not name.startswith("_"):
                setattr(part, name, value)
    service.null_lists = False


@pytest.fixture
def site(world: World, tmp_path: Path, new_name: Callable[[], str], qiniu: None) -> Site:
    """Three domains, each named, under one certificate."""
    del qiniu
    base = new_name()
    https, http, source = (f"{label}.{base}" for label in ("https", "http", "src"))
    world.add_https_domain(https, force_https=True, http2=True)
    world.add_http_domain(http)
    world.add_source_domain(source, f"bucket-{base.partition('.')[0]}")
    tables = f"""
[[certificates]]
name = "{base}"
names = ["*.{base}"]
dns = "dnspod"
[[certificates.deploy]]
to = "qiniu"
domains = ["{https}", "{http}", "{source}"]
"""
    return Site(Host(world, tmp_path, tables), https, http, source)


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, marks=[] if c in IN_THE_GATE else thorough) for c in sorted(CASES)],
)
def test_a_sync_succeeds_and_the_next_changes_nothing(case: str, world: World, site: Site) -> None:
    """Every domain serves the certificate, the redirect and HTTP/2 stay, and no domain that had no
    HTTPS gets a redirect.
    """
    for habit in CASES[case]:
        habit(world.qiniu)

    first = site.host.run("sync", "--json")
    before = Footprint.of(world)
    second = site.host.run("sync")

    assert 0 == first.code, (first, site.host.run("history"))
    [certificate] = json.loads(first.out)["certificates"]
    verified = {s["domain"] for s in certificate["steps"] if s["action"] == "verify"}
    assert (True, site.domains) == (certificate["ok"], verified)
    assert world.qiniu.bound(site.https) == world.qiniu.bound_at_kodo(site.source)
    kept = world.qiniu.domain(site.https).https
    assert (True, True) == (kept.force_https, kept.http2)
    assert not world.qiniu.domain(site.http).https.force_https
    assert 0 == second.code, second
    assert "Nothing changed" in second.out
    lists = [r.query for s in world.qiniu.services for r in s.requests("GET /domain")]
    assert not any("certId" in query for query in lists)  # half a list could be taken for all
    since = Footprint.of(world) - before
    assert (0, 0, 0) == (since.qiniu_writes, since.dnspod_writes, since.orders)


def test_what_worked_is_remembered_by_the_next_run(world: World, site: Site) -> None:
    """No way that is refused is tried a second time; certferry tells of bindings that Qiniu does
    not list.
    """
    for habit in TOGETHER:
        habit(world.qiniu)
    assert 0 == site.host.run("sync").code
    before = _refused(world)

    assert 0 == site.host.run("sync").code

    # A source domain is asked for at the CDN in every run: 404001 is how it is known.
    assert {f"GET /domain/{site.source}"} >= set(_refused(world) - before)


def _refused(world: World) -> Counter[str]:
    """Count the calls that Qiniu answered with 401 or 404."""
    return Counter(
        call.request.label
        for service in world.qiniu.services
        for call in service.journal
        if call.status in {401, 404}
    )


@pytest.mark.parametrize("habit", [HABITS["bindings_nowhere"]])
def test_bindings_that_qiniu_does_not_tell(habit: Habit, world: World, site: Site) -> None:
    """Plan and sync say what could not be read, with every way that was tried, and succeed."""
    habit(world.qiniu)

    plan = site.host.run("plan", "--json")
    sync = site.host.run("sync", "--json")
    status = site.host.run("status")

    assert (0, 0, 0) == (plan.code, sync.code, status.code), (plan, sync, status)
    [planned] = json.loads(plan.out)["certificates"]
    [notice] = planned["notices"]
    assert 4 == notice["error"]["message"].count("127.0.0.1")
    [certificate] = json.loads(sync.out)["certificates"]
    [skipped] = [s for s in certificate["steps"] if s["outcome"] == "skipped"]
    assert ("look", "qiniu", None) == (skipped["action"], skipped["target"], skipped["domain"])
    assert "the certificates of source domains" in " ".join(status.out.split())


@thorough
def test_a_binding_that_drifts_where_the_target_tells_none(world: World, site: Site) -> None:
    """The edges show it, and the domain is bound again."""
    HABITS["bindings_nowhere"](world.qiniu)
    assert 0 == site.host.run("sync").code
    ours = world.qiniu.bound_at_kodo(site.source)
    other = world.qiniu.add_certificate(world.old_certificate(site.source), "by hand")
    world.qiniu.add_bucket_domain(site.source, "elsewhere", https=other)

    assert 0 == site.host.run("sync").code

    assert ours == world.qiniu.bound_at_kodo(site.source)


def test_settings_that_a_change_resets_are_told(world: World, site: Site) -> None:
    """Qiniu showed them before, and shows them otherwise afterwards: the first look says so."""
    host, qiniu = site.host, world.qiniu
    qiniu.hold(site.https)
    assert 75 == host.run("sync", "--no-wait").code
    qiniu.release(site.https)
    qiniu.domain(site.https).https = type(qiniu.domain(site.https).https)(
        qiniu.domain(site.https).https.certificate, force_https=False, http2=True
    )

    run = host.run("sync", "--json")

    assert 0 == run.code, run
    [certificate] = json.loads(run.out)["certificates"]
    [verify] = [
        s for s in certificate["steps"] if (s["action"], s["domain"]) == ("verify", site.https)
    ]
    assert "the target changed other settings: force_https true → false" in verify["detail"]
    assert "`force_https`" in verify["hint"]
    assert "force_https" in host.run("history").out


@thorough
def test_a_change_that_is_told_done_and_is_not(world: World, site: Site) -> None:
    """Success is what the edges serve, whatever Qiniu says."""
    done_at_once(world.qiniu)
    https_hidden(world.qiniu)

    assert 0 == site.host.run("sync").code

    [certificate] = site.host.run("status", "--json").document["certificates"]
    [fingerprint] = site.host.fingerprints(certificate["name"])
    watched = json.loads(site.host.run("watch", site.https, site.source, "--json").out)
    assert {fingerprint} == {a["fingerprint"] for h in watched["hosts"] for a in h["addresses"]}
