"""The commands in a session of in-memory fakes: the output in each situation."""

from __future__ import annotations

import json
import os
import platform
import re
import stat
from datetime import timedelta
from pathlib import Path
from textwrap import dedent

import pytest

from certferry.cli.exits import Exit
from certferry.cli.options import CommandContext
from certferry.cli.status import show_plans, show_status
from certferry.cli.stored import show_history, write_files
from certferry.cli.sync import show_report
from certferry.cli.watch import Watch
from certferry.core.network import Host
from certferry.core.observed.observation import DomainState
from certferry.core.planning.digest import digest_of_plans
from certferry.core.planning.plan import Plan
from certferry.errors import CertferryError, CertificateError, ConfigError, DnsAccessDenied
from certferry.present.progress import progress_lines
from certferry.reconcile import reads
from certferry.reconcile.reads import recorded
from certferry.reconcile.run import Run, WaitLimit
from certferry.text import Text
from certferry.wiring.workspace import overview
from tests.another_user import as_root, given_away
from tests.cli.consoles import TestConsole
from tests.cli.fakes import START, FakeWorld, desired

ANY = "0123456789abcdef"
SHORT = ANY[:12]


def masked(words: str) -> str:
    """Mask values that differ in every run: fingerprints, and numbers of certificates."""
    words = re.sub(r"\b[0-9a-f]{64}\b", ANY * 4, words)
    words = re.sub(r"\b[0-9a-f]{20}\b", ANY + "0123", words)
    words = re.sub(r"\b[0-9a-f]{16}\b", ANY, words)
    return re.sub(r"\b[0-9a-f]{12}\b", SHORT, words)


def synced(
    world: FakeWorld, wait_limit: WaitLimit | None = None, *, renew: bool = False
) -> tuple[Exit, TestConsole]:
    """Sync with progress in plain lines, and return the exit code and the console."""
    console = TestConsole()
    session = world.session(progress=progress_lines(console.console))
    report = session.reconciler().sync(session.certificates, wait_limit or WaitLimit(), renew=renew)
    return show_report(report, CommandContext(console.console), as_json=False), console


def plans_of(world: FakeWorld, *, renew: bool = False) -> list[Plan]:
    session = world.session()
    return reads.plans_of(session.ports, session.certificates, renew=renew)


def planned(world: FakeWorld, *, check: bool = False) -> tuple[Exit, str]:
    """Plan, and return the exit code and the output."""
    console = TestConsole()
    code = show_plans(plans_of(world), console.console, check=check, as_json=False)
    return code, masked(console.out)


STORY = (
    "img: ordering a certificate",
    "img: issue done: valid until 2027-02-22 12:00 UTC",
    "img: deploy waiting: qiniu → img.example.com: qiniu is applying the change (usually 8–15 min)",
    "img: deploy done: qiniu → img.example.com: bound",
    (
        "img: verify waiting: img.example.com: 1 of 2 addresses do not serve the certificate yet"
        " (192.0.2.2)"
    ),
    "img: verify done: img.example.com: served by every address that answers",
)


def test_first_run_is_planned_then_done_then_unchanged() -> None:
    """The plan announces the steps of the sync, and a second sync reports no change."""
    world = FakeWorld()
    digest = digest_of_plans(plans_of(world))

    planned_first = planned(world, check=True)
    first, console = synced(world)
    second, silence = synced(world)

    assert (
        Exit.PENDING,
        dedent(f"""\
        img: there is no certificate yet
          issue    img.example.com, *.img.example.com
          deploy   qiniu → img.example.com
                   certificate  foreign-1 → …
          verify   img.example.com

        Exactly this plan: certferry sync --plan {digest}
        1 certificate to issue, 1 deployment. Nothing was changed; run `certferry sync`.
        """),
    ) == planned_first
    progress = console.err.splitlines()
    assert sorted(set(progress), key=STORY.index) == progress
    assert set(STORY) - set(progress) <= {STORY[2], STORY[4]}, "waits that were over too quickly"
    assert (
        Exit.OK,
        dedent("""\
        img: done
          issue    done      valid until 2027-02-22 12:00 UTC
          deploy   done      qiniu → img.example.com: bound
          verify   done      img.example.com: served by every address that answers

        1 certificate: 3 done.
        """),
    ) == (first, console.out)
    assert (Exit.OK, "") == (second, silence.err)
    assert "Nothing changed: 1 certificate is as declared.\n" in silence.out
    assert (Exit.OK, "Nothing to do: 1 certificate is as declared.\n") == planned(world, check=True)


def test_run_without_waits_leaves_work_to_the_next_run() -> None:
    """`--no-wait` submits changes and ends with 75, and the next run finishes."""
    world = FakeWorld(processing=timedelta(minutes=10))

    code, console = synced(world, WaitLimit(timedelta(0)))

    assert (
        dedent("""\
        img: waiting
          issue    done      valid until 2027-02-22 12:00 UTC
          deploy   waiting   qiniu → img.example.com: qiniu is applying the change (usually 8–15 min)

        1 certificate: 1 done, 1 waiting. Run `certferry sync` again to continue.
        """)  # noqa: E501 - a transcript is as wide as it is
        == console.out
    )
    assert Exit.TRY_LATER == code

    world.pass_time(timedelta(hours=1))
    code, _ = synced(world, WaitLimit(timedelta(0)))

    assert Exit.OK == code


def test_run_beside_another_run_is_refused() -> None:
    """The message has the holder of the lease, and no work is done twice."""
    world = FakeWorld()
    world.state.seen_by("another run").acquire("img", world.now())

    code, console = synced(world, WaitLimit(timedelta(0)))

    assert Exit.TRY_LATER == code
    holder = f"process {os.getpid()} on {platform.node()}"
    assert f"{holder} has been working since 2026-11-24 12:00 UTC" in console.out


def test_wrong_credentials_are_reported_with_a_hint() -> None:
    """The provider's error is on stderr during the run and in the result, with a hint."""
    world = FakeWorld()
    denied = DnsAccessDenied(
        Text("DNSPod does not accept the token"), hint=Text("check DP_Id and DP_Key")
    )
    world.dns.fail_with(denied)

    code, console = synced(world)

    assert "img: issue failed: DNSPod does not accept the token\n" in console.err
    assert "  issue    failed    DNSPod does not accept the token\n" in console.out
    assert "                     hint: check DP_Id and DP_Key\n" in console.out
    assert Exit.FAILED == code


def test_blocked_domain_does_not_block_another() -> None:
    """The other domain gets the certificate, and the exit code reports the blocked domain."""
    world = FakeWorld()
    world.cdn.add_domain("a.img.example.com", state=DomainState.UNAVAILABLE)

    plan_code, plan = planned(world)
    code, console = synced(world)

    assert "  blocked  qiniu → a.img.example.com: " in plan
    assert (
        "  verify   done      img.example.com: served by every address that answers" in console.out
    )
    assert re.search(r"  deploy   failed    qiniu → a\.img\.example\.com: ", console.out)
    assert (Exit.FAILED, Exit.FAILED) == (plan_code, code)


def test_certificate_with_a_short_lifetime_is_refused() -> None:
    """The refusal comes before any upload, and plan and sync both end with 3."""
    world = FakeWorld(lifetime=timedelta(days=20))
    _, first = synced(world)

    code, console = synced(world)
    plan_code, plan = planned(world, check=True)

    assert "refused   qiniu → img.example.com: 19 days left" in first.out
    assert "hint: " in console.out
    assert "1 refused. Nothing was changed.\n" in plan
    assert (Exit.REFUSED, Exit.REFUSED) == (code, plan_code)
    assert 0 == world.cdn.uploads


def test_status_before_and_after_a_run() -> None:
    """The certificate is missing before the run; afterwards the certificate is valid, bound, and
    served by both addresses.
    """
    world = FakeWorld()
    before = TestConsole()
    code = show_status(
        overview(world.session(), Run(), recorded(world.state)),
        before.console,
        START,
        as_json=False,
    )

    assert (
        dedent("""\
        NAME               STATE    LEFT  BOUND      SERVED
        img                missing  —
          img.example.com  pending        foreign-1  0 of 2

        img: there is no certificate yet

        no run is recorded yet
        """)
        == before.out
    )
    assert Exit.FAILED == code

    synced(world)
    after = TestConsole()
    show_status(
        overview(world.session(), Run(), recorded(world.state)), after.console, START, as_json=False
    )

    assert dedent("""\
        NAME               STATE     LEFT     RENEWAL     BOUND     SERVED
        img                valid     90 days  2027-01-23
          img.example.com  verified                       remote-2  2 of 2

        last run      2026-11-24 12:00 UTC
        last success  2026-11-24 12:00 UTC
        """) == re.sub(r"89 days", "90 days", after.out)


def test_documents_of_a_session() -> None:
    """Each command prints exactly one JSON document on stdout."""
    world = FakeWorld()
    synced(world)
    plan, status, history = TestConsole(), TestConsole(), TestConsole()

    show_plans(plans_of(world, renew=True), plan.console, check=False, as_json=True)
    show_status(
        overview(world.session(), Run(), recorded(world.state)), status.console, START, as_json=True
    )
    show_history(world.session(), None, 10, history.console, as_json=True)

    assert 3 == json.loads(plan.out)["changes"]
    assert "verified" == json.loads(status.out)["certificates"][0]["domains"][0]["state"]
    assert "issued" in {entry["event"] for entry in json.loads(history.out)["entries"]}
    assert "" == plan.err + status.err + history.err


def test_history_of_a_certificate() -> None:
    """Entries have the event, the user and the time, newest first, and the limit keeps the
    newest.
    """
    world = FakeWorld()
    synced(world)
    whole, newest = TestConsole(), TestConsole()

    show_history(world.session(), "img", 50, whole.console, as_json=False)
    show_history(world.session(), "img", 1, newest.console, as_json=False)

    events = [row.split("  ")[2] for row in whole.out.splitlines()]
    assert ["verified", "deployment begun", "uploaded", "issued"] == events
    assert "  tester@host  " in whole.out
    assert "verified" == newest.out.split()[4]
    assert 1 == len(newest.out.splitlines())


def test_empty_history_differs_from_an_unknown_name() -> None:
    """A declared certificate may have no events yet; an unknown name is an error."""
    world, console = FakeWorld(), TestConsole()

    assert Exit.OK == show_history(world.session(), "img", 50, console.console, as_json=False)
    with pytest.raises(ConfigError) as caught:
        show_history(world.session(), "imgg", 50, console.console, as_json=False)

    assert "Nothing has happened yet.\n" == console.out
    assert "did you mean img?" == str(caught.value.hint)


def test_watch_shows_the_served_certificates() -> None:
    """After a sync both addresses of the domain present the same valid certificate."""
    world, console = FakeWorld(), TestConsole()
    synced(world)
    hosts = [Host("img.example.com")]
    code = Watch(world.cdn, hosts, console.console, lambda: START).once()

    assert dedent(f"""\
        HOST             ADDRESS    FINGERPRINT   CHAIN  VALID  UNTIL       LEFT
        img.example.com  192.0.2.1  {SHORT}  —      yes    2027-02-22  90 days
        img.example.com  192.0.2.2  {SHORT}  —      yes    2027-02-22  90 days
        """) == masked(console.out)
    assert Exit.OK == code


FILES = {"cert.pem", "chain.pem", "fullchain.pem", "privkey.pem"}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_export_writes_the_files_of_certbot(tmp_path: Path) -> None:
    """Four files are written, and their paths printed; the directory and the key are for the owner
    alone.
    """
    world, console, place = FakeWorld(), TestConsole(), tmp_path / "new" / "ssl"
    synced(world)
    version = world.state.versions("img")[0]
    bundle = world.state.bundle("img", version.number)

    code = write_files(world.session(), "img", place, console.console)

    assert Exit.OK == code
    assert {str(place / name) for name in FILES} == set(console.out.splitlines())
    assert FILES == {path.name for path in place.iterdir()}
    assert (0o700, 0o600, 0o644) == (
        mode(place),
        mode(place / "privkey.pem"),
        mode(place / "fullchain.pem"),
    )
    assert bundle.privkey_pem.reveal() == (place / "privkey.pem").read_text()
    assert bundle.cert_pem == (place / "cert.pem").read_text()
    assert bundle.chain_pem == (place / "chain.pem").read_text()
    assert bundle.fullchain_pem == (place / "fullchain.pem").read_text()


def test_export_replaces_files(tmp_path: Path) -> None:
    """A readable key is replaced by a private key, and a link by a file."""
    world, elsewhere = FakeWorld(), tmp_path / "elsewhere.pem"
    synced(world)
    elsewhere.write_text("theirs")
    (tmp_path / "privkey.pem").symlink_to(elsewhere)
    (tmp_path / "cert.pem").write_text("old")
    (tmp_path / "cert.pem").chmod(0o666)

    write_files(world.session(), "img", tmp_path, TestConsole().console)

    assert "theirs" == elsewhere.read_text()
    assert not (tmp_path / "privkey.pem").is_symlink()
    assert (0o600, 0o644) == (mode(tmp_path / "privkey.pem"), mode(tmp_path / "cert.pem"))


def test_failed_export_leaves_no_partial_file(tmp_path: Path) -> None:
    """An obstacle stays unchanged, and no temporary file is left."""
    world = FakeWorld()
    synced(world)
    (tmp_path / "chain.pem").mkdir()

    with pytest.raises(CertferryError, match=r"chain\.pem cannot be written"):
        write_files(world.session(), "img", tmp_path, TestConsole().console)

    assert {"cert.pem", "chain.pem"} == {path.name for path in tmp_path.iterdir()}


@as_root
@pytest.mark.parametrize("below", [".", "new/ssl"])
def test_an_export_by_a_tenants_link_is_refused(tmp_path: Path, below: str) -> None:
    """A tenant's link could lead root to another user's key; a directory of the tenant is
    accepted.
    """
    world, elsewhere, theirs = FakeWorld(), tmp_path / "elsewhere", tmp_path / "tenant"
    synced(world)
    elsewhere.mkdir()
    (elsewhere / "privkey.pem").write_text("another's")
    (theirs / "own").mkdir(parents=True)
    (theirs / "link").symlink_to(elsewhere)
    for path in (theirs / "link", theirs / "own", theirs):
        given_away(path)

    with pytest.raises(CertferryError, match="link is a symbolic link that nobody can change"):
        write_files(world.session(), "img", theirs / "link" / below, TestConsole().console)
    write_files(world.session(), "img", theirs / "own" / below, TestConsole().console)

    assert ["privkey.pem"] == [path.name for path in elsewhere.iterdir()]
    assert "another's" == (elsewhere / "privkey.pem").read_text()
    assert FILES <= {path.name for path in (theirs / "own" / below).iterdir()}


def test_export_into_a_file_is_refused(tmp_path: Path) -> None:
    """The error names the file in the place of the directory."""
    world = FakeWorld()
    synced(world)
    (tmp_path / "ssl").touch()

    with pytest.raises(CertferryError, match="ssl cannot be written: File exists"):
        write_files(world.session(), "img", tmp_path / "ssl", TestConsole().console)


def test_export_without_a_certificate_differs_from_an_unknown_name(tmp_path: Path) -> None:
    """For a declared certificate the hint is a sync; for an unknown name the hint has the nearest
    name.
    """
    session = FakeWorld().session(desired("img"), desired("static"))

    with pytest.raises(CertificateError) as missing:
        write_files(session, "img", tmp_path, TestConsole().console)
    with pytest.raises(ConfigError) as unknown:
        write_files(session, "sttic", tmp_path, TestConsole().console)

    assert "run `certferry sync img`" == str(missing.value.hint)
    assert "did you mean static? known: img, static" == str(unknown.value.hint)
    assert [] == list(tmp_path.iterdir())
