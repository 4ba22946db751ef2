"""Certificates of one file that cover the same domain, from the command's side."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from certferry.sandbox.world import World
from certferry.testing.certificates import make_bundle
from tests.acceptance.host import Host, Run


def deployed(run: Run) -> dict[str, set[str]]:
    """Which domains each certificate of a plan would be deployed to."""
    return {
        one["name"]: {step["domain"] for step in one["steps"] if step["action"] == "deploy"}
        for one in run.document["certificates"]
    }


@pytest.fixture
def host(world: World, tmp_path: Path, name: str) -> Host:
    """A machine with a certificate for everything below a name, and files with one for a domain
    that is there as well; both are to be deployed to what they cover.
    """
    world.add_http_domain(f"img.{name}")
    world.add_http_domain(f"pics.{name}")
    bundle = make_bundle(f"pics.{name}", not_before=datetime.now(UTC))
    fullchain, privkey = tmp_path / "fullchain.pem", tmp_path / "privkey.pem"
    fullchain.write_text(bundle.fullchain_pem)
    privkey.write_text(bundle.privkey_pem.reveal())
    return Host(
        world,
        tmp_path,
        f'\n[[certificates]]\nname = "wide"\nnames = ["*.{name}"]\ndns = "dnspod"\n'
        'deploy = [{ to = "qiniu" }]\n'
        f'\n[[certificates]]\nname = "pics"\nfullchain = "{fullchain}"\nprivkey = "{privkey}"\n'
        'deploy = [{ to = "qiniu" }]\n',
    )


def test_each_domain_has_one_certificate(host: Host, name: str) -> None:
    """The more exact one, though its names are only in its files; and no run for one certificate
    forgets what the file has for the other.
    """
    wide, pics = {f"img.{name}"}, {f"pics.{name}"}

    assert {"wide": wide, "pics": pics} == deployed(host.run("plan", "--json"))
    assert {"wide": wide} == deployed(host.run("plan", "--json", "wide"))
    assert {"pics": pics} == deployed(host.run("plan", "--json", "pics"))
