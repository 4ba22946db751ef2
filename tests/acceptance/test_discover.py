"""The domains and the certificates of accounts, read over real HTTP, with the certificates at the
edges.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from certferry_sandbox.faults import Fault
from certferry_sandbox.httpd import utc_now
from certferry_sandbox.qiniu.service import QiniuService
from certferry_sandbox.testing.certificates import make_bundle
from certferry_sandbox.world import World
from tests.acceptance.host import Host, Run, certificate
from tests.acceptance.requests_made import assert_nothing_written
from tests.support.command import run_here
from tests.support.tiers import thorough

SECOND = """
[accounts.second]
type = "qiniu"
access_key = "env:SECOND_AK"
secret_key = "env:SECOND_SK"
"""


@pytest.fixture
def second(world: World, new_name: Callable[[], str]) -> dict[str, str]:
    """Add a second account at Qiniu, and return the variables with its keys."""
    keys = {"SECOND_AK": f"ak-{new_name()}", "SECOND_SK": "another-secret-key"}
    world.qiniu.add_account(keys["SECOND_AK"], keys["SECOND_SK"])
    return keys


@pytest.fixture
def host(world: World, tmp_path: Path, name: str, second: dict[str, str]) -> Host:
    """A machine with a declared certificate and the keys of two accounts: the shared world's
    account, with the domains of other tests, and an empty account.
    """
    return Host(world, tmp_path, with_second(world) + certificate(name))


def with_second(world: World) -> str:
    """Return the table of the second account, at the same hosts."""
    hosts = {
        "api": world.qiniu.api_url,
        "fusion": world.qiniu.fusion_url,
        "uc": world.qiniu.uc_url,
        "pili": world.qiniu.pili_url,
        "api_backup": world.qiniu.api_backup_url,
        "uc_backup": world.qiniu.uc_backup_url,
    }
    return SECOND + "".join(f'{key} = "{url}"\n' for key, url in hosts.items())


def domains(run: Run) -> dict[str, Any]:
    return {domain["domain"]: domain for domain in run.document["domains"]}


def test_every_kind_of_domain_is_reported_with_its_certificate(
    world: World, host: Host, name: str, second: dict[str, str]
) -> None:
    """The report lists kind, state, settings, binding, served and covering certificates of each
    domain, and every certificate with its domains. Nothing is changed at any service.
    """
    assert 0 == host.run("sync", **second).code
    account = second["SECOND_AK"]
    issued = world.old_certificate(f"*.{name}")
    used = world.qiniu.add_certificate(issued, "by hand", account=account)
    spare = world.qiniu.add_certificate(issued, "spare", account=account)
    hand, free, source, live = (f"{label}.{name}" for label in ("hand", "free", "src", "live"))
    for domain in (hand, free, source, live):
        world.point_at_edges(domain)
    world.qiniu.add_domain(hand, https=used, force_https=True, product="dcdn", account=account)
    world.qiniu.add_domain(
        free, free_identity=world.old_certificate(free), http2=True, account=account
    )
    world.qiniu.add_domain(f"ice.{name}", state="frozen", account=account)
    world.qiniu.add_bucket_domain(source, f"bucket-{name}", https=used, account=account)
    world.qiniu.add_live_domain(live, f"hub-{name}".replace(".", "-"), https=used, account=account)

    run = host.run("discover", "--json", **second)

    assert 0 == run.code, run
    assert_nothing_written(run.left)
    by_domain = domains(run)
    [fingerprint] = host.fingerprints(name)
    ours, foreign = by_domain[name], by_domain[hand]
    assert ("qiniu", "cdn", "success", True) == tuple(
        ours[key] for key in ("account", "kind", "state", "https")
    )
    assert (fingerprint, "ours") == (ours["bound"]["fingerprint"], ours["bound"]["owner"])
    assert ([name], name) == (ours["covered_by"], ours["deployed_by"])
    assert 2 == len(ours["served"])
    assert {(fingerprint, True)} == {(edge["fingerprint"], edge["ok"]) for edge in ours["served"]}
    assert ("second", "dcdn", True) == tuple(foreign[k] for k in ("account", "kind", "https"))
    assert {"force_https": True, "http2": False, "tls_versions": None} == foreign["settings"]
    assert (used, "foreign", [f"*.{name}"]) == tuple(
        foreign["bound"][key] for key in ("remote_id", "owner", "names")
    )
    assert {issued.fingerprint} == {edge["fingerprint"] for edge in foreign["served"]}
    assert [] == foreign["covered_by"]
    served = by_domain[free]["served"][0]
    assert {
        "remote_id": None,
        "fingerprint": served["fingerprint"],
        "names": None,
        "not_after": served["not_after"],
        "owner": "free",
    } == by_domain[free]["bound"]
    assert "is frozen at Qiniu" in by_domain[f"ice.{name}"]["problem"]["message"]
    assert ("kodo", used) == (by_domain[source]["kind"], by_domain[source]["bound"]["remote_id"])
    assert ("pili", used) == (by_domain[live]["kind"], by_domain[live]["bound"]["remote_id"])
    assert {used: [hand, live, source], spare: []} == {
        stored["remote_id"]: stored["bound_to"]
        for stored in run.document["certificates"]
        if stored["account"] == "second"
    }


def test_certificate_from_files_covers_by_the_names_in_them(
    world: World, tmp_path: Path, name: str
) -> None:
    """The names in the files count even before the first run. Unreadable files cover no domain, and
    the report goes on.
    """
    bundle = make_bundle(name, not_before=utc_now())
    (tmp_path / "fullchain.pem").write_text(bundle.fullchain_pem)
    (tmp_path / "privkey.pem").write_text(bundle.privkey_pem.reveal())
    files = [f'{key} = "{tmp_path / key}.pem"' for key in ("fullchain", "privkey")]
    table = ["", "[[certificates]]", 'name = "pics"', *files, 'deploy = [{ to = "qiniu" }]', ""]
    host = Host(world, tmp_path, "\n".join(table))

    covered = domains(host.run("discover", "--json"))[name]
    (tmp_path / "fullchain.pem").unlink()
    unread = domains(host.run("discover", "--json"))[name]

    assert (["pics"], "pics") == (covered["covered_by"], covered["deployed_by"])
    assert ([], None) == (unread["covered_by"], unread["deployed_by"])


def test_filters_and_tables_to_paste(
    world: World, host: Host, name: str, second: dict[str, str]
) -> None:
    """Options select uncovered domains, foreign bindings and early ends. With the printed tables in
    the configuration, the next report has no uncovered domain.
    """
    account = second["SECOND_AK"]
    late = world.old_authority.issue(
        [f"late.{name}"], utc_now() - timedelta(1), utc_now() + timedelta(days=80)
    )
    for label, issued in (("soon", world.old_certificate(f"soon.{name}")), ("late", late)):
        bound = world.qiniu.add_certificate(issued, label, account=account)
        world.point_at_edges(f"{label}.{name}")
        world.qiniu.add_domain(f"{label}.{name}", https=bound, account=account)
    world.qiniu.add_domain(f"plain.{name}", account=account)
    look = ("discover", "--account", "second")

    def names(*options: str) -> list[str]:
        run = host.run(*look, "--json", *options, **second)
        assert 0 == run.code, run
        return sorted(domain.partition(".")[0] for domain in domains(run))

    assert ["late", "plain", "soon"] == names("--uncovered")
    assert ["late", "soon"] == names("--foreign")
    assert ["soon"] == names("--expiring", "30")
    assert ["late", "soon"] == names("--expiring", "90", "--foreign", "--uncovered")
    assert [] == names("--expiring", "0")
    none = host.run(*look, "--expiring", "0", **second)
    assert "None of 3 domains and 2 certificates matches.\n" == none.out

    shown = host.run(*look, **second).out
    assert shown.index(f"soon.{name}") < shown.index(f"late.{name}")
    tables = host.run(*look, "--toml", **second)
    assert 0 == tables.code, tables
    with host.config.open("a") as file:
        file.write(tables.out)
    assert [] == names("--uncovered")
    [planned] = host.run("plan", "--json", f"late.{name}", **second).document["certificates"]
    assert {f"{label}.{name}" for label in ("late", "plain", "soon")} == {
        step["domain"] for step in planned["steps"] if step["action"] == "deploy"
    }
    nothing = host.run(*look, "--toml", **second)
    assert (0, "") == (nothing.code, nothing.out)
    assert "No domain needs a certificate.\n" in nothing.err


def test_account_that_fails_hides_no_other(host: Host, name: str, second: dict[str, str]) -> None:
    """The output shows the account's error beside the other account's domains; with `--account`
    only the error.
    """
    wrong = second | {"SECOND_SK": "not-the-secret-key"}

    run, document = host.run("discover", **wrong), host.run("discover", "--json", **wrong)

    assert 1 == run.code, run
    assert name in run.out
    assert "error: second: " in run.err
    assert "bad token" in run.err
    assert 1 == document.code
    assert name in domains(document)
    assert not document.document["ok"]
    [problem] = document.document["problems"]
    assert ("second", "target_access_denied") == (problem["account"], problem["problem"]["code"])
    alone = host.run("-q", "discover", "--account", "second", **wrong)
    assert 1 == alone.code
    assert "bad token" in alone.complaint.error


def test_account_without_keys_hides_no_other(host: Host, name: str) -> None:
    """The message names the missing variable; with `--account` the exit code is that of a usage
    error.
    """
    run = host.run("discover")

    assert 1 == run.code, run
    assert name in run.out
    assert "error: second: " in run.err
    assert "SECOND_AK" in run.err
    alone = host.run("-q", "discover", "--account", "second")
    assert 2 == alone.code
    assert "SECOND_AK" in alone.complaint.error


def test_empty_account(host: Host, second: dict[str, str]) -> None:
    """The result is on stdout; the progress is on stderr from the first moment."""
    run = host.run("discover", "--account", "second", **second)

    assert (0, "There are no domains and no certificates at second.\n") == (run.code, run.out)
    assert run.err.startswith("second: reading the account's domains\n")


def test_dns_account_that_fails_costs_only_the_zones(
    world: World, host: Host, name: str, second: dict[str, str]
) -> None:
    """The tables are proposed by the names alone, and stderr shows the DNS account's error."""
    world.qiniu.add_domain(f"plain.{name}", account=second["SECOND_AK"])

    words = ("discover", "--account", "second", "--toml")
    run = host.run(*words, **second, DP_Key="0" * 32)

    assert 1 == run.code, run
    assert f'name = "plain.{name}"' in run.out
    assert 'dns = "dnspod"' in run.out
    assert "error: dnspod: " in run.err


@pytest.mark.parametrize(
    ("options", "error", "hint"),
    [
        (["--account", "secnd"], "secnd is not an account with domains", "did you mean second?"),
        (["--account", "dnspod"], "dnspod is not an account with domains", "qiniu, second"),
        (["--expiring", "-1"], "-1 is not in the range", "certferry discover --help"),
        (["--expiring", "soon"], "'soon' is not a whole number", "--help"),
        (["--toml", "--json"], "--toml and --json cannot be combined", "--help"),
    ],
)
def test_mistyped_options_are_reported_before_any_request(
    host: Host, options: list[str], error: str, hint: str
) -> None:
    """The message names the closest valid value, or lists the valid values."""
    with QiniuService() as qiniu:  # another run may ask the world's service
        for at in ("api_url", "fusion_url"):
            text = host.config.read_text()
            host.config.write_text(text.replace(getattr(host.world.qiniu, at), getattr(qiniu, at)))

        run = host.run("discover", *options)

        assert not qiniu.requests()
    assert 2 == run.code, run
    assert error in run.err + run.out
    assert hint in run.err + run.out


def test_file_without_an_account_that_has_domains(tmp_path: Path) -> None:
    """The message includes the table to add."""
    config = tmp_path / "certferry.toml"
    config.write_text('[accounts.dnspod]\nid = "1"\ntoken = "file:t"\n')
    config.chmod(0o600)

    run = run_here(["--config", str(config), "discover"], {"HOME": str(tmp_path)})

    assert 2 == run.code, run
    assert f"{config} has no account with domains" in run.err
    assert "[accounts.qiniu]" in run.err


def test_without_a_file_the_keys_are_those_of_the_environment(tmp_path: Path) -> None:
    """`discover` asks for the CDN's keys alone, because it issues no certificate."""
    run = run_here(["discover"], {"HOME": str(tmp_path)}, tmp_path)

    assert 2 == run.code, run
    assert "QINIU_ACCESS_KEY / QINIU_AK: not set" in run.err
    assert "DP_Id" not in run.err


@thorough
def test_a_large_account_is_read_at_its_pace(
    world: World, host: Host, name: str, second: dict[str, str]
) -> None:
    """Concurrent reads start at the account's permitted rate: at most one read in five starts too
    early and is repeated.
    """
    account = second["SECOND_AK"]
    bound = world.qiniu.add_certificate(world.old_certificate(f"d.{name}"), "d", account=account)
    for number in range(60):
        world.qiniu.add_domain(f"d{number}.{name}", https=bound, account=account)
    world.qiniu.rate_limit.per_second = 10
    before = len(world.qiniu.api.journal)
    try:
        run = host.run("discover", "--account", "second", **second)
    finally:
        world.qiniu.rate_limit.per_second = None

    assert 0 == run.code, run
    assert "60 domains" in run.out
    assert "second: 25 of 60 domains read\n" in run.err
    statuses = [call.status for call in world.qiniu.api.journal[before:]]
    assert 61 == statuses.count(200)
    assert len(statuses) <= 61 * 1.2


@pytest.mark.parametrize(
    ("status", "code", "label"), [(403, 0, "warning"), (503, 1, "error")], ids=["denied", "outage"]
)
def test_unreadable_half_of_an_account_is_reported(
    world: World, host: Host, name: str, second: dict[str, str], status: int, code: int, label: str
) -> None:
    """A denial at Kodo may be permanent: a warning and exit code 0. An outage may hide domains: an
    error and exit code 1.
    """
    world.qiniu.add_domain(f"plain.{name}", account=second["SECOND_AK"])
    for service in (world.qiniu.uc, world.qiniu.uc_backup):
        service.faults.add(Fault.status(status, b'{"error":"no"}'), on="GET /buckets", times=None)

    run = host.run("discover", "--account", "second", **second)

    assert code == run.code, run
    assert f"plain.{name}" in run.out
    assert f"{label}: second: " in run.err


def test_domain_whose_last_change_failed_is_reported_with_its_problem(
    world: World, host: Host, name: str, second: dict[str, str]
) -> None:
    """The document has code, message and hint, as for a frozen domain; the table has only the
    message.
    """
    world.qiniu.fail_next(name, "verify https crt fail")
    assert 1 == host.run("sync", **second).code

    document, table = host.run("discover", "--json", **second), host.run("discover", **second)

    domain = domains(document)[name]
    assert "failed" == domain["state"]
    assert "target_rejected" == domain["problem"]["code"]
    assert "verify https crt fail" in domain["problem"]["message"]
    assert "issue a new one" in domain["problem"]["hint"]
    assert "verify https crt fail" in " ".join(table.out.split())
