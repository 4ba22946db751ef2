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
    """The plan names the way; after it the same certificate is deployed, and none is ordered."""
    host.rewrite('name = "img"', 'name = "pics"')

    plan, renamed = host.run("plan"), host.run("rename", "img", "pics")
    after, sync = host.run("plan"), host.run("sync")

    assert "img has exactly the names of pics: `certferry rename img pics`" in said(plan.err)
    assert "1 certificate to issue" in plan.out
    assert 0 == renamed.code, renamed
    assert "pics has the certificate of img, valid until" in renamed.out
    assert "to issue" not in after.out
    assert "" == after.err
    assert 0 == sync.code, sync
    assert "not declared" not in sync.err
    with host.remembering() as store:
        (old,), (new,) = store.versions("img"), store.versions("pics")
    assert old.certificate.fingerprint == new.certificate.fingerprint


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

    assert (2, "img is still in the configuration file") == (still.code, still.complaint.error)
    assert (2, "ing has no certificate that is valid") == (unknown.code, unknown.complaint.error)


def _other(name: str) -> str:
    return f'name = "other"\ndns = "dnspod"\nnames = ["{name}", "other.{name}"]'
