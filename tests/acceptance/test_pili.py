"""CDN, DCDN, source and live domains of one account under one certificate, command to edge."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from certferry_sandbox.faults import Fault
from certferry_sandbox.world import World
from tests.acceptance.footprint import Footprint
from tests.acceptance.host import Host, Run

UNCHANGED = (0, 0, 0)
"""Requests that write: to Qiniu, and to DNSPod; and orders."""

KEY_OF_LINKS = "a-key-of-links"
"""What the detail of a live domain also holds, and no output may show."""


@pytest.fixture
def kinds(world: World, name: str) -> dict[str, str]:
    """Put a domain of every kind into the account; each lies below the certificate's name."""
    place = {kind: f"{kind}.{name}" for kind in ("cdn", "dcdn", "kodo", "pili")}
    label = name.partition(".")[0]
    world.add_http_domain(place["cdn"])
    world.add_http_domain(place["dcdn"], product="dcdn")
    world.add_source_domain(place["kodo"], f"bucket-{label}")
    world.add_live_domain(place["pili"], f"hub-{label}")
    return place


def table(domain: str, *more: str) -> str:
    """Give the tables of a certificate for everything below a domain, deployed where it can."""
    lines = ["", "[[certificates]]", f'name = "{domain}"', 'dns = "dnspod"']
    lines += [f'names = ["*.{domain}"]', "[[certificates.deploy]]", 'to = "qiniu"']
    return "\n".join([*lines, *more, ""])


@pytest.fixture
def host(world: World, tmp_path: Path, name: str, kinds: dict[str, str]) -> Host:
    """A machine that is to serve all four."""
    del kinds
    return Host(world, tmp_path, table(name))


def document(run: Run) -> Any:
    """Read what `--json` printed."""
    return json.loads(run.out)


def writes(world: World, before: Footprint) -> tuple[int, int, int]:
    """Count what was changed anywhere since a moment."""
    since = Footprint.of(world) - before
    return since.qiniu_writes, since.dnspod_writes, since.orders


def test_four_kinds_are_served_by_one_certificate(
    world: World, host: Host, name: str, kinds: dict[str, str]
) -> None:
    """Found by themselves, told as what they are, bound each in its way, seen at every edge; then
    nothing is left to do. What replaces the certificate is bound at each, and no key is shown.
    """
    planned = host.run("plan", "--json")
    read = host.run("plan")
    first = host.run("sync", "--json")

    deployed = {(domain, kind) for kind, domain in kinds.items()}
    [plan] = document(planned)["certificates"]
    steps = [step for step in plan["steps"] if step["action"] == "deploy"]
    assert deployed == {(step["domain"], step["kind"]) for step in steps}
    for kind in ("dcdn", "kodo", "pili"):
        assert f"{kinds[kind]} ({kind})" in read.out
    assert 0 == first.code, first
    status = host.run("status", "--json")
    [certificate] = document(status)["certificates"]
    found = {one["domain"]: one for one in certificate["domains"]}
    assert {(domain, kind, "verified") for domain, kind in deployed} == {
        (one["domain"], one["kind"], one["state"]) for one in found.values()
    }
    [fingerprint] = host.fingerprints(name)
    for one in found.values():
        assert {(fingerprint, True)} == {(a["fingerprint"], a["ok"]) for a in one["served"]}
    assert world.qiniu.bound(kinds["cdn"]) == world.qiniu.bound_at_pili(kinds["pili"])

    before = Footprint.of(world)
    second = host.run("sync")
    assert "Nothing changed" in second.out
    assert UNCHANGED == writes(world, before)
    assert 0 == host.run("plan", "--check").code

    renewed = host.run("sync", "--renew", name, "--json")
    assert 0 == renewed.code, renewed
    current, _ = host.fingerprints(name)
    bound = world.qiniu.bound_at_pili(kinds["pili"])
    assert [current] == [c.fingerprint for c in world.qiniu.certificates.stored() if c.id == bound]
    for run in (planned, read, first, status, second, renewed):
        assert KEY_OF_LINKS not in run.out + run.err


def test_a_hub_that_is_gone(world: World, tmp_path: Path, name: str, kinds: dict[str, str]) -> None:
    """A domain that the file names is told to be nowhere, with what to do; the others go on."""
    named = ", ".join(f'"{kinds[kind]}"' for kind in ("cdn", "pili"))
    host = Host(world, tmp_path, table(name, f"domains = [{named}]"))
    assert 0 == host.run("sync").code
    world.qiniu.live.remove_hub(f"hub-{name.partition('.')[0]}")

    plan, run = host.run("plan"), host.run("-q", "sync")

    assert (1, 1) == (plan.code, run.code)
    assert kinds["pili"] in run.complaint.error
    assert "correct `domains`" in run.complaint.hint
    host.rewrite("domains =", 'kind = "pili"\ndomains =')
    host.rewrite(f'"{kinds["cdn"]}", ', "")
    told = host.run("-q", "sync")
    assert 1 == told.code
    assert f"{kinds['pili']} is not a live domain of any Pili hub" in told.complaint.error


def test_keys_that_may_not_see_pili(world: World, host: Host, kinds: dict[str, str]) -> None:
    """The rest is served, and what was not seen is told, with the way to leave it out."""
    refused = Fault.status(403, b'{"error":"no permission"}')
    world.qiniu.pili.faults.add(refused, on="GET /v2/hubs", times=None)

    run = host.run("sync", "--json")

    assert 0 == run.code, run
    [certificate] = document(run)["certificates"]
    served = [step["domain"] for step in certificate["steps"] if step["domain"]]
    assert {kinds["cdn"], kinds["dcdn"], kinds["kodo"]} == set(served)
    [skipped] = [step for step in certificate["steps"] if step["outcome"] == "skipped"]
    assert "list of hubs" in skipped["detail"]
    [certificate] = document(host.run("status", "--json"))["certificates"]
    [notice] = certificate["notices"]
    assert "list of hubs" in notice["error"]["message"]
    assert 'kind = "cdn" or "kodo"' in notice["error"]["hint"]


def test_a_setting_that_a_live_domain_has_not(
    world: World, tmp_path: Path, new_name: Callable[[], str]
) -> None:
    """Refused when the file is read."""
    host = Host(world, tmp_path, table(new_name(), 'kind = "pili"', "force_https = true"))

    run = host.run("plan")

    assert 2 == run.code
    assert 'not with kind = "pili": a live domain has no such setting' in run.complaint.error


def test_a_pili_that_does_not_tell_the_certificate(
    world: World, tmp_path: Path, name: str, kinds: dict[str, str]
) -> None:
    """The edges are the proof: it is bound once, and the next run asks for nothing."""
    host = Host(world, tmp_path, table(name, f'domains = ["{kinds["pili"]}"]', 'kind = "pili"'))
    world.qiniu.live.names_certificates = False
    try:
        first = host.run("sync")
        before = Footprint.of(world)
        second = host.run("sync")

        assert (0, 0) == (first.code, second.code)
        assert UNCHANGED == writes(world, before)
        assert 0 == host.run("plan", "--check").code
        assert world.qiniu.bound_at_pili(kinds["pili"])
    finally:
        world.qiniu.live.names_certificates = True
