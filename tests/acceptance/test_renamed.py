"""A certificate that gets another name in the file, and one that is in it no more."""

from __future__ import annotations

from pathlib import Path

import pytest

from certferry_sandbox.messages.event_receiver import SECRET, EventReceiver
from certferry_sandbox.world import World
from tests.acceptance.host import Host, certificate


@pytest.fixture
def host(world: World, tmp_path: Path, name: str) -> Host:
    """A machine whose certificate `img` is served."""
    world.add_http_domain(name)
    host = Host(world, tmp_path, certificate(name, name="img"))
    assert 0 == host.run("sync").code
    return host


def said(words: str) -> str:
    """Give what was said on one line."""
    return " ".join(words.split())


def test_renamed_certificate_goes_on_without_a_new_one(host: Host) -> None:
    """The plan names the way; after it nothing is ordered, uploaded or bound: what is served is the
    certificate of the new name, and its successor takes its place.
    """
    host.rewrite('name = "img"', 'name = "pics"')

    plan, renamed = host.run("plan"), host.run("rename", "img", "pics")
    after, sync = host.run("plan"), host.run("sync")

    assert "img is not declared any more, and pics has exactly its names" in said(plan.err)
    assert "`certferry rename img pics` keeps its certificate" in said(plan.err)
    assert "1 certificate to issue" in plan.out
    assert 0 == renamed.code, renamed
    assert "pics has the certificate of img, valid until" in renamed.out
    assert "Nothing to do" in after.out
    assert "" == after.err
    assert (0, 0, 0) == (sync.code, sync.left.orders, sync.left.qiniu_writes), sync
    assert "not declared" not in sync.err
    with host.remembering() as store:
        (old,), (new,) = store.versions("img"), store.versions("pics")
    assert old.certificate.fingerprint == new.certificate.fingerprint
    renewed = host.run("sync", "--renew", "pics")
    assert (0, 1, 2) == (renewed.code, renewed.left.qiniu_uploads, renewed.left.qiniu_writes)
    told = [line for line in host.run("history").out.splitlines() if "drift" in line]
    assert [] == told


def test_renamed_twice_and_back_changes_nothing_at_the_cdn(host: Host) -> None:
    """Asked for again, and the other way: the copy at the CDN stays the certificate's own."""
    host.rewrite('name = "img"', 'name = "pics"')
    first, again = host.run("rename", "img", "pics"), host.run("rename", "img", "pics")
    host.rewrite('name = "pics"', 'name = "img"')
    back, sync = host.run("rename", "pics", "img"), host.run("sync")

    assert (0, 0, 0, 0) == (first.code, again.code, back.code, sync.code)
    assert "Nothing was changed" in again.out
    assert 0 == sync.left.qiniu_writes


def test_renamed_certificate_that_leaves_the_file_is_told_by_its_last_name(host: Host) -> None:
    """`forget` of that name ends it: no run speaks of a name that was given up before."""
    host.rewrite('name = "img"', 'name = "pics"')
    assert 0 == host.run("rename", "img", "pics").code
    assert 0 == host.run("sync").code
    host.rewrite('name = "pics"\n', 'name = "other"\n')
    host.rewrite('names = ["', 'names = ["other.')

    before = host.run("plan")
    assert 0 == host.run("forget", "pics").code
    after = host.run("plan")

    assert "pics is not declared any more" in said(before.err)
    assert "img is not declared" not in said(before.err)
    assert "not declared" not in said(after.err)


WORDS = "img is not declared any more: certferry no longer renews or deploys it"


def test_certificate_that_the_file_has_no_more_is_told_by_every_run(host: Host, name: str) -> None:
    """And by whatever else looks, until it is said that this is meant; declared again, it is told
    of when it goes again.
    """
    with EventReceiver() as hook:
        channel = f'[notify.hook]\ntype = "webhook"\nurl = "{hook.address}"\nsecret = "{SECRET}"\n'
        host.config.write_text(host.config.read_text() + channel)
        whole = host.config.read_text()
        host.rewrite(f'name = "img"\ndns = "dnspod"\nnames = ["{name}"]', _other(name))

        plan, runs = host.run("plan"), [host.run("sync", "--json") for _ in range(2)]
        alone = host.run("sync", f"other.{name}")
        told = [one["code"] for one in hook.events]
        check, status = host.run("check", "--json").document, host.run("status")
        doctor = host.run("doctor", "--json").document

        assert all(WORDS in said(run.err) for run in (plan, *runs))
        assert all("certferry forget img" in said(run.err) for run in (plan, *runs))
        assert ["img"] == [one["name"] for one in runs[1].document["undeclared"]]
        assert WORDS not in said(alone.err)
        assert ["undeclared"] == told
        assert "WARNING" == check["status"]
        assert ["undeclared"] == [one["code"] for one in check["problems"]]
        assert WORDS in said(status.out)
        assert "undeclared" in {one["code"] for one in doctor["findings"]}

        forgotten = host.run("forget", "img")
        after = host.run("sync")

        assert (0, 0) == (forgotten.code, after.code)
        assert "No run tells of img any more." in said(forgotten.out)
        assert "" == after.err
        assert "OK" == host.run("check", "--json").document["status"]
        assert "forgotten" in host.run("history", "img").out
        assert ["trouble", "recovered"] == [one["event"] for one in hook.events]
        cut = host.config.read_text()
        host.config.write_text(whole)
        host.run("sync", "--no-wait")
        host.config.write_text(cut)
        assert WORDS in said(host.run("sync").err)


def test_certificates_of_another_file_are_its_own_business(host: Host, name: str) -> None:
    """Two files may share a state; what a file that is gone declared is told."""
    (host.directory / "other").mkdir()
    other = Host(host.world, host.directory / "other", certificate(f"b.{name}", to=None))
    other.rewrite(f"sqlite:///{other.state}", f"sqlite:///{host.state}")
    assert 0 == host.run("sync").code

    runs = [other.run("sync") for _ in range(2)]
    host.config.unlink()
    third = other.run("sync")

    assert all("not declared" not in said(run.err) for run in runs)
    assert WORDS in said(third.err)


def test_what_cannot_be_forgotten(host: Host, name: str) -> None:
    """What the file has still, by its name or a domain, and a name that there never was."""
    unknown = host.run("-q", "forget", "ing")

    for word in ("img", name):
        still = host.run("-q", "forget", word)
        assert (2, "img is still in the configuration file") == (still.code, still.complaint.error)
    assert (2, "there is no certificate called ing") == (unknown.code, unknown.complaint.error)


def test_a_domain_selects_what_is_forgotten_and_renamed(host: Host, name: str) -> None:
    """It means the certificate that is for it, also where the file has that no more."""
    host.rewrite('name = "img"', 'name = "pics"')

    declared = host.run("-q", "forget", name)
    renamed = host.run("rename", "img", name)

    assert (2, "pics is still in the configuration file") == (
        declared.code,
        declared.complaint.error,
    )
    assert "pics has the certificate of img" in renamed.out
    with host.remembering() as store:
        assert {"img", "pics"} == set(store.lineages())
    host.rewrite(f'name = "pics"\ndns = "dnspod"\nnames = ["{name}"]', _other(f"x.{name}"))
    assert "pics is not declared any more" in said(host.run("plan").err)
    two = host.run("-q", "forget", name)
    assert f"{name} is for several certificates: img, pics" == two.complaint.error


def test_a_domain_selects_what_is_forgotten(host: Host, name: str) -> None:
    """It is the certificate that runs tell of no more."""
    host.rewrite(f'name = "img"\ndns = "dnspod"\nnames = ["{name}"]', _other(f"x.{name}"))

    forgotten = host.run("forget", name)

    assert "No run tells of img any more. Its certificate is valid until" in said(forgotten.out)
    assert "not declared" not in host.run("plan").err


def test_what_cannot_be_renamed(host: Host) -> None:
    """A name that the file has still, and one that there never was."""
    still = host.run("-q", "rename", "img", "img")
    host.rewrite('name = "img"', 'name = "pics"')
    unknown = host.run("-q", "rename", "ing", "pics")

    assert (2, "img is still in the configuration file") == (still.code, still.complaint.error)
    assert (2, "ing has no certificate that is valid") == (unknown.code, unknown.complaint.error)


def _other(name: str) -> str:
    return f'name = "other"\ndns = "dnspod"\nnames = ["{name}", "other.{name}"]'
