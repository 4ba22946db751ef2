"""From the CA into files and to a command, with the installed program: first, again, after drift,
and after failures.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from certferry_sandbox.world import World
from tests.acceptance.host import Run
from tests.acceptance.requests_made import RequestsMade
from tests.acceptance.site import Site
from tests.support.permissions import bound_by_permissions
from tests.support.tiers import thorough

NAMES = ("cert.pem", "chain.pem", "fullchain.pem", "privkey.pem")


@pytest.fixture
def site(world: World, tmp_path: Path, new_name: Callable[[], str]) -> Site:
    """A new machine, whose name is absent from every CDN."""
    return Site(world, tmp_path, new_name())


def orders(site: Site, act: Callable[[], object]) -> int:
    before = RequestsMade.of(site.world)
    act()
    return (RequestsMade.of(site.world) - before).orders


def test_from_the_ca_into_files(site: Site) -> None:
    """The certificate is issued, written, reloaded and pushed; no probe looks at the directory's
    server. The second run changes nothing, and says so.
    """
    ssl = str(site.ssl)

    assert {"issue": "done", ssl: "done", "push": "done"} == site.outcomes("--no-wait")

    (issued,) = site.fingerprints("site")
    assert issued == site.held
    assert set(NAMES) | {".certferry"} == {path.name for path in site.ssl.iterdir()}
    assert 0o600 == (site.ssl / "privkey.pem").stat().st_mode & 0o777
    assert [f"--now {issued}"] == site.lines("reloaded")
    assert [f"to lb site {issued}"] == site.lines("pushed")
    assert [] == list((site.state.parent / "handover").iterdir())
    stats = [(site.ssl / name).stat() for name in NAMES]
    before = RequestsMade.of(site.world)

    assert {ssl: "unchanged", "push": "unchanged"} == site.outcomes()

    assert RequestsMade() == RequestsMade.of(site.world) - before
    assert stats == [(site.ssl / name).stat() for name in NAMES]
    assert (1, 1) == (len(site.lines("reloaded")), len(site.lines("pushed")))


def test_delivery_that_another_program_wrote_into_the_state(site: Site) -> None:
    """The command runs again: the changed row claims a run for the newest certificate, but has no
    proof.
    """
    site.outcomes("--no-wait")
    (first,) = site.fingerprints("site")
    with closing(sqlite3.connect(site.state)) as raw, raw:
        raw.execute("UPDATE rollout SET started_at = '2026-01-01T00:00:00.000000Z', proof = NULL")
    check = site.run("state", "check")
    assert 1 == check.code
    assert "the delivery of site to push" in check.out

    assert "done" == site.outcomes()["push"]

    assert [f"to lb site {first}"] * 2 == site.lines("pushed")
    assert 0 == site.run("state", "check").code


@thorough
def test_renewal_goes_the_same_way(site: Site) -> None:
    """The next certificate takes the place of the first, and each program runs once more."""
    site.sync()
    site.sync("--renew", "--all")

    newest, first = site.fingerprints("site")
    assert newest == site.held
    assert [f"--now {first}", f"--now {newest}"] == site.lines("reloaded")
    assert 2 == len(site.lines("pushed"))


@pytest.mark.parametrize("name", NAMES)
def test_drift_is_planned_and_repaired(site: Site, name: str) -> None:
    """A file that was deleted or edited by hand is restored and the server reloaded; the CA and the
    command are left alone.
    """
    site.sync()
    (site.ssl / name).unlink()
    (site.ssl / "chain.pem").write_text("edited")

    plan = site.run("plan", "--check", "--json")
    assert 4 == plan.code, plan
    (step,) = plan.steps
    assert ("deploy", "files", str(site.ssl)) == (step["action"], step["target"], step["domain"])
    assert "delivery_drifted" == step["reason"]["code"]
    change = {"before": "missing", "after": "delivered"}
    assert change == step["diff"].get(name, change) or name == "chain.pem"
    assert "changed" == step["diff"]["chain.pem"]["before"]

    assert 0 == orders(site, site.sync)

    assert [site.held] == site.fingerprints("site")
    assert (2, 1) == (len(site.lines("reloaded")), len(site.lines("pushed")))


def test_reload_that_fails_once(site: Site) -> None:
    """The failure quotes the program's words; the next run reloads with the same certificate."""
    site.let_reload("echo 'nginx: [emerg] bad config' >&2; exit 1")

    failed = site.sync()

    step = failed[str(site.ssl)]
    assert ("failed", "done") == (step["outcome"], failed["push"]["outcome"])
    assert "exit code 1: nginx: [emerg] bad config" in step["detail"]
    assert step["hint"]
    stats = [(site.ssl / name).stat() for name in NAMES]
    assert [site.held] == site.fingerprints("site")
    status = site.run("status")
    assert "`reload` has not yet succeeded with the certificate" in status.out
    assert "drifted" in status.out

    site.let_reload()
    assert 0 == orders(site, site.sync)

    assert [f"--now {site.held}"] == site.lines("reloaded")
    assert stats == [(site.ssl / name).stat() for name in NAMES]
    assert {"unchanged"} == set(site.outcomes().values())


@thorough
def test_drift_after_a_reload_that_failed(site: Site) -> None:
    """The plan lists the drift beside the missing reload."""
    site.let_reload("exit 1")
    site.sync()
    (site.ssl / "privkey.pem").chmod(0o777)
    (site.ssl / "cert.pem").unlink()

    (step,) = site.run("plan", "--json").steps

    assert {"privkey.pem", "cert.pem", "reload"} == set(step["diff"])
    assert "missing" == step["diff"]["cert.pem"]["before"]
    assert step["diff"]["privkey.pem"]["before"].startswith("0777")


def test_command_that_fails_once(site: Site) -> None:
    """The next run repeats the command alone."""
    site.let_push("exit 7")
    assert "failed" == site.outcomes()["push"]

    site.let_push("touch pushed-at-last")
    assert {str(site.ssl): "unchanged", "push": "done"} == site.outcomes()

    assert (site.folder / "pushed-at-last").exists()
    assert 1 == len(site.lines("reloaded"))


@thorough
def test_reload_that_hangs(site: Site) -> None:
    """The reload is ended at its time limit, and reported."""
    site.let_reload("sleep 60 & wait")
    site.rewrite("timeout = 20", "timeout = 1")

    step = site.sync()[str(site.ssl)]

    assert "failed" == step["outcome"]
    assert f"{site.folder}/reload was still running after 1 second" in step["detail"]


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ('directory = "ssl"', 'directory = "no/ssl"', "there is no directory {folder}/no"),
        ('directory = "ssl"', 'directory = "push"', "{folder}/push is not a directory"),
        (
            'directory = "ssl"',
            'directory = "ssl"\nowner = "no-such"',
            "this host has no user called no-such",
        ),
        ("./reload", "./no-reload", "the program {folder}/no-reload cannot be found or run"),
    ],
)
def test_directory_that_takes_nothing(site: Site, old: str, new: str, error: str) -> None:
    """The message has a hint, no directory is made, and the command gets its certificate."""
    site.rewrite(old, new)

    run = site.run("-q", "sync")

    assert 1 == run.code
    assert error.format(folder=site.folder) in run.complaint.error
    assert not site.ssl.exists()
    assert 1 == len(site.lines("pushed"))


def test_directory_that_may_not_be_written_to(site: Site) -> None:
    """The message has a hint, the old files stay whole, and the command gets the new certificate.
    Once certferry may write to the directory, the next run is enough.
    """
    site.sync()
    before = {name: (site.ssl / name).read_bytes() for name in NAMES}
    site.ssl.chmod(0o555)

    run = site.run_apart("-q", "sync", "--renew", "--all", wrapped_in=bound_by_permissions())

    assert 1 == run.code
    assert f"{site.ssl} cannot be written to" in run.complaint.error
    assert "as a user with read and write permission there" in run.complaint.hint
    assert before == {name: (site.ssl / name).read_bytes() for name in NAMES}
    assert set(NAMES) | {".certferry"} == {path.name for path in site.ssl.iterdir()}
    newest, first = site.fingerprints("site")
    assert [f"to lb site {first}", f"to lb site {newest}"] == site.lines("pushed")

    site.ssl.chmod(0o755)
    assert 0 == orders(site, site.sync)
    assert newest == site.held


def test_directory_with_links_in_it(site: Site) -> None:
    """For a directory like certbot's, the plan and the run report the link, and the links stay
    untouched.
    """
    site.ssl.mkdir()
    (site.folder / "archive.pem").write_text("theirs")
    (site.ssl / "privkey.pem").symlink_to("../archive.pem")

    plan, run = site.run("plan"), site.run("-q", "sync")

    assert 1 == run.code
    assert f"{site.ssl}/privkey.pem is a symbolic link" in run.complaint.error
    assert "choose another directory" in run.complaint.hint
    assert f"{site.ssl}/privkey.pem is a symbolic link" in " ".join(plan.out.split())
    assert "theirs" == (site.ssl / "privkey.pem").read_text()
    assert 1 == len(site.lines("pushed"))


def test_nothing_is_ordered_that_no_target_takes(site: Site) -> None:
    """Neither of two receivers could take the certificate, so nothing is ordered."""
    (site.folder / "reload").unlink()
    (site.folder / "push").unlink()

    def sync() -> Run:
        return site.run("sync")

    assert 0 == orders(site, sync)
    assert not site.ssl.exists()


@thorough
def test_words_for_people(site: Site) -> None:
    """The plan, the run and the table speak of the directory and of the command."""
    ssl = str(site.ssl)

    planned = site.run("plan").out
    assert f"deploy   files → {ssl}" in planned
    assert "deploy   command → push" in planned
    assert "verify" not in planned
    assert "1 certificate to issue, 2 deployments." in planned

    output = site.run("sync").out
    assert f"files → {ssl}: delivered" in output

    rows = [line.split() for line in site.run("status").out.splitlines()]
    fingerprint_of = site.held[:12]
    assert [ssl, "delivered", fingerprint_of] in rows
    assert ["push", "delivered", fingerprint_of] in rows
    document = json.loads(site.run("status", "--json").out)
    kinds = [domain["kind"] for domain in document["certificates"][0]["domains"]]
    assert ["files", "command"] == kinds


def test_no_key_is_in_the_log(site: Site) -> None:
    """The key stays out of the log even when a program prints the key."""
    site.let_reload('echo reloading; cat "$CERTFERRY_PRIVKEY"')

    run = site.run("-v", "sync")

    assert 0 == run.code, run
    assert "reloading" in run.err
    for line in (site.ssl / "privkey.pem").read_text().splitlines()[1:-1]:
        assert line not in run.err + run.out
