"""A Kodo source domain and a CDN domain with a shared certificate, from command to edge."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from certferry.values import replace
from certferry_sandbox.world import World
from tests.acceptance.host import Host, covering
from tests.acceptance.requests_made import RequestsMade, writes_since
from tests.support.tiers import thorough

UNCHANGED = (0, 0, 0)
"""The numbers of writes to Qiniu, of writes to DNSPod, and of orders."""

Served = dict[str, set[str | None]]


@pytest.fixture
def domain(name: str) -> str:
    """A domain at the CDN, with HTTPS off."""
    return name


@pytest.fixture
def source(world: World, domain: str) -> str:
    """A bucket's source domain below the CDN domain, with HTTPS off."""
    below = f"src.{domain}"
    world.add_source_domain(below, f"bucket-{domain.partition('.')[0]}")
    return below


@pytest.fixture
def host(world: World, tmp_path: Path, domain: str, source: str) -> Host:
    """A machine with a certificate for both domains."""
    return Host(world, tmp_path, covering(domain))


def domains(host: Host) -> dict[str, dict[str, Any]]:
    [certificate] = host.run("status", "--json").document["certificates"]
    return {domain["domain"]: domain for domain in certificate["domains"]}


def test_both_are_served_by_one_certificate(
    world: World, host: Host, domain: str, source: str
) -> None:
    """Both domains are found, bound each in its own way, and verified at every edge; the next run
    changes nothing.
    """
    [plan] = host.run("plan", "--json").document["certificates"]
    assert {(domain, "cdn"), (source, "kodo")} == {
        (step["domain"], step["kind"]) for step in plan["steps"] if step["action"] == "deploy"
    }

    first = host.run("sync", "--json")

    assert 0 == first.code, first
    assert first.document["ok"]
    [fingerprint] = host.fingerprints(domain)
    by_domain = domains(host)
    assert {domain: ("cdn", "verified"), source: ("kodo", "verified")} == {
        name: (row["kind"], row["state"]) for name, row in by_domain.items()
    }
    for row in by_domain.values():
        assert {(fingerprint, True)} == {(a["fingerprint"], a["ok"]) for a in row["served"]}
        assert 2 == len(row["served"])
    assert by_domain[domain]["remote_id"] == by_domain[source]["remote_id"]
    assert world.qiniu.bound(domain) == world.qiniu.bound_at_kodo(source)

    before = RequestsMade.of(world)
    second = host.run("sync")
    assert 0 == second.code
    assert "Nothing changed" in second.out
    assert UNCHANGED == writes_since(world, before)
    assert 0 == host.run("plan", "--check").code


@thorough
def test_renewed_and_cleaned_up(world: World, tmp_path: Path, domain: str, source: str) -> None:
    """With `all-unused` the plan lists the certificates to remove, and after the deployments they
    are gone; certificates in use and the certificate for a rollback stay.
    """
    host = Host(world, tmp_path, covering(domain))
    assert 0 == host.run("sync").code
    unused = world.qiniu.add_certificate(world.old_certificate(domain), "by hand")
    used = world.qiniu.add_certificate(world.old_certificate("x.example.com"), domain)
    world.qiniu.add_bucket_domain(f"kept.{domain}.example.org", "elsewhere", https=used)
    strangers = {unused, used}
    others = {stored.id for stored in world.qiniu.certificates.stored()} - strangers
    assert 0 == host.run("plan", "--check").code
    host.rewrite('to = "qiniu"', 'to = "qiniu"\nretire = "all-unused"')

    [plan] = host.run("plan", "--json").document["certificates"]
    listed = {step["remote_id"]: step for step in plan["steps"]}
    run = host.run("sync", "--renew", "--json", domain)

    assert strangers <= set(listed)
    assert ("retire", "by hand", 8) == tuple(
        listed[unused][k] for k in ("action", "label", "days_left")
    )
    assert 0 == run.code, run
    left = {stored.id for stored in world.qiniu.certificates.stored()}
    assert used in left
    assert unused not in left
    current, previous = host.fingerprints(domain)
    served = {a["fingerprint"] for row in domains(host).values() for a in row["served"]}
    assert {current} == served
    by_fingerprint = {s.fingerprint for s in world.qiniu.certificates.stored()}
    assert {current, previous} <= by_fingerprint
    assert others & left
    unchanged = [s for s in run.document["certificates"][0]["steps"] if s["outcome"] == "unchanged"]
    assert any("still in use" in step["detail"] for step in unchanged)
    assert 0 == host.run("plan", "--check").code
    assert host.run("sync").out.startswith(f"{domain}: unchanged")


@thorough
def test_named_domains_need_no_kind(world: World, tmp_path: Path, domain: str, source: str) -> None:
    """The kind of a listed domain is detected; a wrong `kind` in the file is reported."""
    host = Host(world, tmp_path, covering(domain, f'domains = ["{domain}", "{source}"]'))

    assert 0 == host.run("sync").code
    host.rewrite("domains =", 'kind = "kodo"\ndomains =')
    wrong = host.run("plan")

    assert 1 == wrong.code, wrong
    assert f"{domain} is a CDN domain, not a source domain of Kodo" in wrong.out
    assert 'set kind = "cdn", or remove `kind`' in wrong.out


@thorough
def test_a_sub_accounts_key_is_explained(
    world: World, tmp_path: Path, domain: str, source: str
) -> None:
    """The CDN domain is served, and the hint says whose keys the source domain needs, until the
    file asks for the CDN alone.
    """
    access_key, secret_key = f"IAM-{domain}", "iam-secret"
    world.qiniu.add_iam_key(access_key, secret_key, owner=world.credentials.access_key)
    keys = {"QINIU_ACCESS_KEY": access_key, "QINIU_SECRET_KEY": secret_key}
    host = Host(world, tmp_path, covering(domain))

    run = host.run("-q", "sync", **keys)

    assert 1 == run.code
    assert "bad token" in run.complaint.error
    assert "use a key pair of the main account" in run.complaint.hint
    assert 'set kind = "cdn"' in run.complaint.hint
    by_domain = domains(host)  # the main account's keys see both
    assert {domain: "verified", source: "pending"} == {
        n: row["state"] for n, row in by_domain.items()
    }
    host.rewrite('to = "qiniu"', 'to = "qiniu"\nkind = "cdn"')
    assert 0 == host.run("sync", **keys).code
    host.rewrite('kind = "cdn"', f'domains = ["{source}"]\nkind = "kodo"')
    run = host.run("-q", "sync", **keys)

    assert 1 == run.code
    assert "bad token" in run.complaint.error
    assert "set kind" not in run.complaint.hint
    assert None is world.qiniu.bound_at_kodo(source)


def test_settings_are_applied_and_drift_is_mended(
    world: World, tmp_path: Path, new_name: Callable[[], str]
) -> None:
    """TLS versions, redirect and HTTP/2 are set as declared, at a server that expects the versions
    in a string. An operator's later change is reverted with the same certificate.
    """
    name = new_name()
    world.add_https_domain(name, force_https=False, http2=False)
    world.qiniu.domains.tls_versions = "string"
    try:
        desired = ("force_https = true", "http2 = true", 'tls_versions = ["TLSv1.2", "TLSv1.3"]')
        host = Host(world, tmp_path, covering(name, f'domains = ["{name}"]', *desired))
        assert 0 == host.run("sync").code
        assert 0 == host.run("plan", "--check").code
        conf = world.qiniu.domain(name).https
        assert (True, True, ("TLSv1.2", "TLSv1.3")) == (
            conf.force_https,
            conf.http2,
            conf.tls_versions,
        )

        changed = replace(conf, http2=False, tls_versions=("TLSv1.0",))
        world.qiniu.change_in_console(name, changed)
        drifted = host.run("plan", "--check", "--json")
        mended = host.run("sync")

        assert 4 == drifted.code
        [certificate] = drifted.document["certificates"]
        assert {
            "http2": {"before": "false", "after": "true"},
            "tls_versions": {"before": "TLSv1.0", "after": "TLSv1.2, TLSv1.3"},
        } == certificate["steps"][0]["diff"]
        assert 0 == mended.code
        assert 1 == len(host.fingerprints(name))
        assert conf == world.qiniu.domain(name).https
    finally:
        world.qiniu.domains.tls_versions = "array"


@thorough
def test_tls_versions_that_qiniu_never_reports(
    world: World, tmp_path: Path, new_name: Callable[[], str]
) -> None:
    """For a domain with our certificate the plan shows the old versions as unknown. A single
    request sends the versions, while the certificate and its copy stay, and then the plan is empty.
    """
    name = new_name()
    world.add_https_domain(name, force_https=True, http2=True)
    world.qiniu.domains.tls_versions = "untold"
    try:
        host = Host(world, tmp_path, covering(name, f'domains = ["{name}"]'))
        assert 0 == host.run("sync").code
        before = RequestsMade.of(world)
        host.rewrite("domains =", 'tls_versions = ["TLSv1.3", "TLSv1.2"]\ndomains =')

        planned = host.run("plan", "--check", "--json")
        status = host.run("status")
        applied = host.run("sync")

        assert 4 == planned.code
        [certificate] = planned.document["certificates"]
        diff = {"tls_versions": {"before": None, "after": "TLSv1.3, TLSv1.2"}}
        assert diff == certificate["steps"][0]["diff"]
        assert (
            "settings differ from the file: tls_versions unknown → TLSv1.3, TLSv1.2" in status.out
        )
        assert 0 == applied.code
        conf = world.qiniu.domain(name).https
        assert {"TLSv1.2", "TLSv1.3"} == set(conf.tls_versions or ())
        assert (True, True) == (conf.force_https, conf.http2)
        assert 1 == len(host.fingerprints(name))
        assert (1, 0, 0) == writes_since(world, before)
        assert 0 == host.run("plan", "--check").code
        assert host.run("sync").out.startswith(f"{name}: unchanged")
        assert (1, 0, 0) == writes_since(world, before)
    finally:
        world.qiniu.domains.tls_versions = "array"
