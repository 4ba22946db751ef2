"""Whole runs at Qiniu: the service's habits, source and live domains, full accounts, removals."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from certferry_sandbox.faults import Fault
from certferry_sandbox.qiniu.habits import HABITS, TOGETHER, Habit, done_at_once, https_hidden
from certferry_sandbox.world import World
from tests.acceptance.host import Host, certificate, covering
from tests.acceptance.requests_made import RequestsMade, writes_since
from tests.sandbox.qiniu_calls import Client, code
from tests.support.tiers import long, thorough

# --- Whole syncs with each of Qiniu's habits in production, alone and all together


CASES = {name: (habit,) for name, habit in HABITS.items()} | {"all together": TOGETHER}
IN_THE_GATE = {"all together", "bindings_nowhere", "https_hidden"}


@dataclass(frozen=True)
class Site:
    """A CDN domain with HTTPS, a CDN domain with HTTPS off, a source domain, and the machine that
    serves the domains.
    """

    host: Host
    https: str
    http: str
    source: str

    @property
    def domains(self) -> set[str]:
        return {self.https, self.http, self.source}


@pytest.fixture
def qiniu(world: World) -> Iterator[None]:
    """Restore the documented behaviour of Qiniu after the test."""
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
    """Three listed domains under a single certificate."""
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
    "case", [pytest.param(c, marks=[] if c in IN_THE_GATE else thorough) for c in sorted(CASES)]
)
def test_a_sync_succeeds_and_the_next_changes_nothing(case: str, world: World, site: Site) -> None:
    """Every domain serves the certificate, the redirect and HTTP/2 stay, and a domain whose HTTPS
    was off gets no redirect.
    """
    for habit in CASES[case]:
        habit(world.qiniu)

    first = site.host.run("sync", "--json")
    before = RequestsMade.of(world)
    second = site.host.run("sync")

    assert 0 == first.code, (first, site.host.run("history"))
    [certificate] = json.loads(first.out)["certificates"]
    verified = {s["domain"] for s in certificate["steps"] if s["action"] == "verify"}
    assert (True, site.domains) == (certificate["ok"], verified)
    assert world.qiniu.bound(site.https) == world.qiniu.bound_at_kodo(site.source)
    settings = world.qiniu.domain(site.https).https
    assert (True, True) == (settings.force_https, settings.http2)
    assert not world.qiniu.domain(site.http).https.force_https
    assert 0 == second.code, second
    assert "Nothing changed" in second.out
    lists = [r.query for s in world.qiniu.services for r in s.requests("GET /domain")]
    assert not any("certId" in query for query in lists)  # half a list could be taken for all
    since = RequestsMade.of(world) - before
    assert (0, 0, 0) == (since.qiniu_writes, since.dnspod_writes, since.orders)


def test_next_run_remembers_the_ways_that_worked(world: World, site: Site) -> None:
    """The next run skips the ways that Qiniu refused."""
    for habit in TOGETHER:
        habit(world.qiniu)
    assert 0 == site.host.run("sync").code
    before = _refused(world)

    assert 0 == site.host.run("sync").code

    # A source domain is asked for at the CDN in every run: the answer 404001 identifies a source
    # domain.
    assert {f"GET /domain/{site.source}"} >= set(_refused(world) - before)


def _refused(world: World) -> Counter[str]:
    """Count the calls that Qiniu answered with 401 or 404."""
    return Counter(
        call.request.label
        for service in world.qiniu.services
        for call in service.journal
        if call.status in {401, 404}
    )


@long
@pytest.mark.parametrize("habit", [HABITS["bindings_nowhere"]])
def test_bindings_that_qiniu_does_not_report(habit: Habit, world: World, site: Site) -> None:
    """The plan and the sync list every attempted way to the bindings, and succeed."""
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
def test_a_binding_that_drifts_where_the_target_reports_none(world: World, site: Site) -> None:
    """The edges show the drift, and the domain is bound again."""
    HABITS["bindings_nowhere"](world.qiniu)
    assert 0 == site.host.run("sync").code
    ours = world.qiniu.bound_at_kodo(site.source)
    other = world.qiniu.add_certificate(world.old_certificate(site.source), "by hand")
    world.qiniu.add_bucket_domain(site.source, "elsewhere", https=other)

    assert 0 == site.host.run("sync").code

    assert ours == world.qiniu.bound_at_kodo(site.source)


def test_settings_that_a_change_resets_are_reported(world: World, site: Site) -> None:
    """Qiniu shows other values after the change: the first look reports the difference."""
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
def test_change_that_is_reported_before_its_end(world: World, site: Site) -> None:
    """The edges prove success, whatever Qiniu reports."""
    done_at_once(world.qiniu)
    https_hidden(world.qiniu)

    assert 0 == site.host.run("sync").code

    [certificate] = site.host.run("status", "--json").document["certificates"]
    [fingerprint] = site.host.fingerprints(certificate["name"])
    watched = json.loads(site.host.run("watch", site.https, site.source, "--json").out)
    assert {fingerprint} == {a["fingerprint"] for h in watched["hosts"] for a in h["addresses"]}


# --- CDN, DCDN, source and live domains of an account under a single certificate, command to edge


UNCHANGED = (0, 0, 0)
"""The numbers of writes to Qiniu, of writes to DNSPod, and of orders."""

KEY_OF_LINKS = "a-key-of-links"
"""A secret in the detail of a live domain, which every output must hide."""


@pytest.fixture
def kinds(world: World, name: str) -> dict[str, str]:
    """Put a domain of every kind into the account, below the certificate's name."""
    place = {kind: f"{kind}.{name}" for kind in ("cdn", "dcdn", "kodo", "pili")}
    label = name.partition(".")[0]
    world.add_http_domain(place["cdn"])
    world.add_http_domain(place["dcdn"], product="dcdn")
    world.add_source_domain(place["kodo"], f"bucket-{label}")
    world.add_live_domain(place["pili"], f"hub-{label}")
    return place


@pytest.fixture
def host(world: World, tmp_path: Path, name: str, kinds: dict[str, str]) -> Host:
    del kinds
    return Host(world, tmp_path, covering(name, names=f'"*.{name}"'))


@long
def test_four_kinds_are_served_by_one_certificate(
    world: World, host: Host, name: str, kinds: dict[str, str]
) -> None:
    """The domains of all kinds are found, reported with their kinds, bound each in its own way, and
    seen at every edge; then runs change nothing. A successor is bound at each domain, and the key
    stays hidden.
    """
    planned = host.run("plan", "--json")
    shown = host.run("plan")
    first = host.run("sync", "--json")

    deployed = {(domain, kind) for kind, domain in kinds.items()}
    [plan] = planned.document["certificates"]
    steps = [step for step in plan["steps"] if step["action"] == "deploy"]
    assert deployed == {(step["domain"], step["kind"]) for step in steps}
    for kind in ("dcdn", "kodo", "pili"):
        assert f"{kinds[kind]} ({kind})" in shown.out
    assert 0 == first.code, first
    status = host.run("status", "--json")
    [certificate] = status.document["certificates"]
    by_domain = {row["domain"]: row for row in certificate["domains"]}
    assert {(domain, kind, "verified") for domain, kind in deployed} == {
        (row["domain"], row["kind"], row["state"]) for row in by_domain.values()
    }
    [fingerprint] = host.fingerprints(name)
    for row in by_domain.values():
        assert {(fingerprint, True)} == {(a["fingerprint"], a["ok"]) for a in row["served"]}
    assert world.qiniu.bound(kinds["cdn"]) == world.qiniu.bound_at_pili(kinds["pili"])

    before = RequestsMade.of(world)
    second = host.run("sync")
    assert "Nothing changed" in second.out
    assert UNCHANGED == writes_since(world, before)
    assert 0 == host.run("plan", "--check").code

    renewed = host.run("sync", "--renew", name, "--json")
    assert 0 == renewed.code, renewed
    current, _ = host.fingerprints(name)
    bound = world.qiniu.bound_at_pili(kinds["pili"])
    assert [current] == [c.fingerprint for c in world.qiniu.certificates.stored() if c.id == bound]
    for run in (planned, shown, first, status, second, renewed):
        assert KEY_OF_LINKS not in run.out + run.err


def test_a_hub_that_is_gone(world: World, tmp_path: Path, name: str, kinds: dict[str, str]) -> None:
    """A listed live domain whose hub is gone is reported with the remedy; other domains go on."""
    named = ", ".join(f'"{kinds[kind]}"' for kind in ("cdn", "pili"))
    host = Host(world, tmp_path, covering(name, f"domains = [{named}]", names=f'"*.{name}"'))
    assert 0 == host.run("sync").code
    world.qiniu.live.remove_hub(f"hub-{name.partition('.')[0]}")

    plan, run = host.run("plan"), host.run("-q", "sync")

    assert (1, 1) == (plan.code, run.code)
    assert kinds["pili"] in run.complaint.error
    assert "correct `domains`" in run.complaint.hint
    host.rewrite("domains =", 'kind = "pili"\ndomains =')
    host.rewrite(f'"{kinds["cdn"]}", ', "")
    reported = host.run("-q", "sync")
    assert 1 == reported.code
    assert f"{kinds['pili']} is not a live domain of any Pili hub" in reported.complaint.error


def test_keys_that_may_not_see_pili(world: World, host: Host, kinds: dict[str, str]) -> None:
    """The other domains are served; the report names the list that was refused, and the setting
    that leaves Pili out.
    """
    refused = Fault.status(403, b'{"error":"no permission"}')
    world.qiniu.pili.faults.add(refused, on="GET /v2/hubs", times=None)

    run = host.run("sync", "--json")

    assert 0 == run.code, run
    [certificate] = run.document["certificates"]
    served = [step["domain"] for step in certificate["steps"] if step["domain"]]
    assert {kinds["cdn"], kinds["dcdn"], kinds["kodo"]} == set(served)
    [skipped] = [step for step in certificate["steps"] if step["outcome"] == "skipped"]
    assert "list of hubs" in skipped["detail"]
    [certificate] = host.run("status", "--json").document["certificates"]
    [notice] = certificate["notices"]
    assert "list of hubs" in notice["error"]["message"]
    assert 'kind = "cdn" or "kodo"' in notice["error"]["hint"]


def test_setting_that_live_domains_lack(
    world: World, tmp_path: Path, new_name: Callable[[], str]
) -> None:
    """The setting is refused when the file is read."""
    host = Host(world, tmp_path, covering(new_name(), 'kind = "pili"', "force_https = true"))

    run = host.run("plan")

    assert 2 == run.code
    assert 'not with kind = "pili": a live domain lacks the setting' in run.complaint.error


def test_a_pili_that_does_not_report_the_certificate(
    world: World, tmp_path: Path, name: str, kinds: dict[str, str]
) -> None:
    """The edges are the proof: the domain is bound once, and the next run changes nothing."""
    host = Host(
        world,
        tmp_path,
        covering(name, f'domains = ["{kinds["pili"]}"]', 'kind = "pili"', names=f'"*.{name}"'),
    )
    world.qiniu.live.names_certificates = False
    try:
        first = host.run("sync")
        before = RequestsMade.of(world)
        second = host.run("sync")

        assert (0, 0) == (first.code, second.code)
        assert UNCHANGED == writes_since(world, before)
        assert 0 == host.run("plan", "--check").code
        assert world.qiniu.bound_at_pili(kinds["pili"])
    finally:
        world.qiniu.live.names_certificates = True


# --- An account at Qiniu with a full quota


def test_an_account_that_is_full(
    world: World, tmp_path: Path, name: str, new_name: Callable[[], str]
) -> None:
    """A single upload is refused; later runs wait for room, and the plan names the remedy. Room
    comes from unused certificates that the operator gives up.
    """
    unused = world.qiniu.add_certificate(world.old_certificate(new_name()), "by hand")
    certificates = world.qiniu.certificates
    certificates.quota = len(certificates.stored())
    try:
        host = Host(world, tmp_path, certificate(name))
        assert 0 != host.run("sync").code
        before = len(world.qiniu.writes())

        plan, again = host.run("plan", "--json"), host.run("sync")

        [refusal] = plan.document["certificates"][0]["refusals"]
        assert "account_full" in str(refusal)
        assert 'retire = "all-unused"' in again.out
        assert before == len(world.qiniu.writes())
        assert 0 != again.code
        declared = certificate(name).replace('to = "qiniu"', 'to = "qiniu"\nretire = "all-unused"')
        host = Host(world, tmp_path, declared)
        host.run("sync")
        assert unused not in {stored.id for stored in certificates.stored()}
        assert 0 == host.run("sync").code
        assert world.qiniu.bound(name) is not None
    finally:
        certificates.quota = None


def test_an_account_that_was_full_and_may_hold_more(
    world: World, tmp_path: Path, name: str
) -> None:
    """With the operator's `--quota-raised` the upload is tried at once; a second refusal marks the
    account as full again.
    """
    certificates = world.qiniu.certificates
    certificates.quota = len(certificates.stored())
    host = Host(world, tmp_path, certificate(name))
    try:
        assert 0 != host.run("sync").code
        before = len(world.qiniu.writes())
        still_full = host.run("sync", "--quota-raised")
        assert len(world.qiniu.writes()) == before + 1
        assert "--quota-raised" in host.run("sync").out
        assert len(world.qiniu.writes()) == before + 1
    finally:
        certificates.quota = None

    assert 0 != still_full.code
    assert 0 != host.run("sync").code
    assert 0 == host.run("sync", "--quota-raised").code
    assert world.qiniu.bound(name) is not None


# --- `retire = "all-unused"`: the work of the well-known script, and its limits


IN_USE = 400611  # bound to a CDN domain: docs/facts/qiniu.md §4.4


def test_a_strangers_certificate_that_a_cdn_domain_uses(
    world: World, tmp_path: Path, name: str, new_name: Callable[[], str]
) -> None:
    """The certificate's domain is absent from the file. Qiniu gets no request to remove the
    certificate, which is counted as kept and goes on being served, while an unused certificate is
    removed.
    """
    shop = new_name()
    world.add_https_domain(shop)
    used = world.qiniu.bound(shop)
    unused = world.qiniu.add_certificate(world.old_certificate(new_name()), "by hand")
    assert used is not None
    declared = certificate(name).replace('to = "qiniu"', 'to = "qiniu"\nretire = "all-unused"')
    host = Host(world, tmp_path, declared)

    run = host.run("sync", "--json")

    assert 0 == run.code, run
    [counted] = [
        step for step in run.steps if (step["action"], step["outcome"]) == ("retire", "unchanged")
    ]
    left = {stored.id for stored in world.qiniu.certificates.stored()}
    others = left - {world.qiniu.bound(name)}  # other tests' domains may use some as well
    assert f"others still in use and kept: {len(others)}" == counted["detail"]
    assert 0 == len(world.qiniu.requests(f"DELETE /sslcert/{used}"))
    assert refused(world, used)
    assert used == world.qiniu.bound(shop)
    assert used in left
    assert unused not in left
    assert host.run("sync").out.startswith(f"{name}: unchanged")


def refused(world: World, certificate_id: str) -> bool:
    """Ask for the removal by hand, and return whether Qiniu answers that a CDN domain uses the
    certificate.
    """
    keys = world.credentials
    client = Client(world.qiniu, keys.access_key, keys.secret_key)
    return IN_USE == code(client.delete(certificate_id))[1]
