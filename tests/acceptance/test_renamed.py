"""A certificate that gets another name in the file, and one that is in it no more."""

from __future__ import annotations

from pathlib import Path

import pytest

from certferry.sandbox.world import World
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

    assert "img has exactly the names of pics: `certferry rename img pics`" in said(plan.err)
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


def test_certificate_that_the_file_has_no_more_is_mentioned_once(host: Host, name: str) -> None:
    """By the first sync without it, which its history tells; the plan may say so before."""
    host.rewrite(f'name = "img"\ndns = "dnspod"\nnames = ["{name}"]', _other(name))

    plan, first, second = host.run("plan"), host.run("sync"), host.run("sync")
    history = host.run("history", "img")

    words = "img is not declared any more: certferry no longer renews or deploys it"
    assert words in said(plan.err)
    assert words in said(first.err)
    assert words not in said(second.err)
    assert "undeclared" in history.out


def test_what_cannot_be_renamed(host: Host) -> None:
    """A name that the file has still, and one that there never was."""
    still = host.run("-q", "rename", "img", "img")
    host.rewrite('name = "img"', 'name = "pics"')
    unknown = host.run("-q", "rename", "ing", "pics")

    assert (2, "img is declared still") == (still.code, still.complaint.error)
    assert (2, "ing has no certificate that is valid") == (unknown.code, unknown.complaint.error)


def _other(name: str) -> str:
    return f'name = "other"\ndns = "dnspod"\nnames = ["{name}", "other.{name}"]'
