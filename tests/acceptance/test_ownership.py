"""Certificates of one file that cover the same domain, from the command's side."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from certferry_sandbox.testing.certificates import make_bundle
from certferry_sandbox.world import World
from tests.acceptance.host import Host, Run
from tests.core.certificates.odd_kinds import on_curve
from tests.support.tiers import thorough


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


@thorough
def test_files_of_a_kind_that_cannot_be_read_stop_no_other(host: Host, name: str) -> None:
    """A whole pair of SM2 is told as what it is, in the plan too; the other certificate is issued
    and served.
    """
    for path in ("fullchain.pem", "privkey.pem"):
        file = host.directory / path
        file.write_text(on_curve(file.read_text()))

    plan, run = host.run("plan"), host.run("sync", "--json")

    kind = "is of a kind that certferry cannot read: SM2"
    assert kind in plan.out + plan.err
    assert 1 == run.code, run
    ok = {one["name"]: one["ok"] for one in run.document["certificates"]}
    assert {"wide": True, "pics": False} == ok
    assert kind in run.out
    assert host.world.qiniu.bound(f"img.{name}") is not None


def test_each_domain_has_one_certificate(host: Host, name: str) -> None:
    """The more exact one, though its names are only in its files; and no run for one certificate
    forgets what the file has for the other.
    """
    wide, pics = {f"img.{name}"}, {f"pics.{name}"}

    assert {"wide": wide, "pics": pics} == deployed(host.run("plan", "--json"))
    assert {"wide": wide} == deployed(host.run("plan", "--json", "wide"))
    assert {"pics": pics} == deployed(host.run("plan", "--json", "pics"))


def covering(lineage: str, name: str) -> str:
    """Declare a certificate for a name, deployed to whatever it covers."""
    return (
        f'\n[[certificates]]\nname = "{lineage}"\nnames = ["{name}"]\ndns = "dnspod"\n'
        'deploy = [{ to = "qiniu" }]\n'
    )


def test_copy_of_a_certificate_is_judged_alike_by_every_command(
    world: World, tmp_path: Path, name: str
) -> None:
    """One serves all, the other is not needed: no command says otherwise, and the two that were
    made by copy and paste are named with their lines.
    """
    world.add_http_domain(name)
    host = Host(world, tmp_path, covering("img", name) + covering("img2", name))
    lines = host.config.read_text().splitlines()
    first, second = (number for number, one in enumerate(lines, 1) if one == "[[certificates]]")
    same = f"img2 has the same names as img, at line {first}"
    assert 0 == host.run("sync").code
    served = "qiniu: every domain that it covers is served by img"

    plan, status = host.run("plan"), host.run("status")
    run, check = host.run("sync"), host.run("check")

    assert "img2: not needed\n" in plan.out + plan.err
    assert served in plan.out + plan.err
    assert "every domain that it covers is served by img" in run.out + run.err
    assert "not needed" in status.out
    assert (0, 0, 0, 0) == (plan.code, run.code, status.code, check.code), check
    document = host.run("plan", "img2", "--json").document
    (planned,) = document["certificates"]
    assert [{"target": "qiniu", "lineages": ["img"], "message": served.partition(": ")[2]}] == (
        planned["ceded"]
    )
    doctor = host.run("doctor", "--json").document["findings"]
    assert ["names_twice"] == [one["code"] for one in doctor if "same names" in one["message"]]
    for told in (plan, status, run):
        assert f":{second + 2}: [[certificates]] names: {same}" in told.err
    assert same not in host.run("-q", "plan").err
    host.config.write_text(host.config.read_text() + covering("other", f"other.{name}"))
    assert same not in host.run("plan", "other").err


def test_same_names_with_another_kind_of_key_are_no_mistake(
    world: World, tmp_path: Path, name: str
) -> None:
    """Such a pair is made for old clients."""
    old = covering("old", name).replace('dns = "dnspod"', 'dns = "dnspod"\nkey_type = "rsa2048"')
    host = Host(world, tmp_path, covering("img", name) + old)

    assert "same names" not in host.run("plan").err
