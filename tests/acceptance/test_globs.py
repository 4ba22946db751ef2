"""Globs over an account's domains, from the command to the edges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from certferry_sandbox.world import World
from tests.acceptance.footprint import assert_nothing_written
from tests.acceptance.host import Host, Run
from tests.support.tiers import thorough


def table(name: str, *deploy: str) -> str:
    """Give the tables of a certificate for a domain and everything below, deployed so."""
    lines = ["", "[[certificates]]", f'name = "{name}"', 'dns = "dnspod"']
    lines += [f'names = ["{name}", "*.{name}"]']
    return "\n".join([*lines, "[[certificates.deploy]]", 'to = "qiniu"', *deploy, ""])


def steps(run: Run, action: str) -> dict[str, Any]:
    """Give the steps of the one certificate, by domain."""
    [certificate] = run.document["certificates"]
    return {step["domain"]: step for step in certificate["steps"] if step["action"] == action}


def outcomes(run: Run, action: str) -> dict[str, str]:
    """Give how they ended."""
    return {domain: step["outcome"] for domain, step in steps(run, action).items()}


def test_domain_that_appears_is_served_by_the_next_run(
    world: World, tmp_path: Path, name: str
) -> None:
    """What the globs match is served, what `exclude` takes away is left alone; the plan says why a
    domain has come; then the next run does nothing.
    """
    for label in ("img-1", "img-2", "test", "img-test"):
        world.add_http_domain(f"{label}.{name}")
    deploy = f'domains = ["img-*.{name}", "{name}"]', f'exclude = ["*test.{name}"]'
    host = Host(world, tmp_path, table(name, *deploy))

    first = host.run("sync", "--json")
    world.add_http_domain(f"img-3.{name}")
    world.add_http_domain(f"www.{name}")
    plan = host.run("plan", "--json")
    second, third = host.run("sync", "--json"), host.run("sync", "--json")

    assert 0 == first.code, first
    assert {f"img-1.{name}": "done", f"img-2.{name}": "done", name: "done"} == outcomes(
        first, "verify"
    )
    [(new, step)] = steps(plan, "deploy").items()
    assert f"img-3.{name}" == new
    assert (
        f'new to this certificate, found by domains = "img-*.{name}"; HTTPS is off →'
        " will be turned on" == step["reason"]["message"]
    )
    assert 0 == second.code, second
    assert "done" == outcomes(second, "verify")[new]
    assert (1, 0) == (second.left.qiniu_writes, second.left.certificates)
    assert 0 == third.code
    assert_nothing_written(third.left)
    for label in ("test", "img-test", "www"):
        assert None is world.qiniu.bound(f"{label}.{name}")


def test_wildcard_domain_and_its_children(world: World, tmp_path: Path, name: str) -> None:
    """It is served as one of those below its name; a child has its certificate, and is left alone,
    and what the edges present there is right.
    """
    world.add_http_domain(f"*.{name}")
    child = f"child.{name}"
    world.qiniu.add_domain(child, type="pan", parent=f".{name}")
    host = Host(world, tmp_path, table(name, f'domains = ["*.{name}"]'))

    run = host.run("sync", "--json")

    assert 0 == run.code, run
    assert {f"*.{name}": "done"} == outcomes(run, "verify")
    assert 1 == len(world.qiniu.requests(f"PUT /domain/.{name}/*"))
    assert [] == world.qiniu.requests(f"PUT /domain/{child}/*")
    assert None is world.qiniu.bound(name)


@pytest.mark.parametrize(
    ("deploy", "said"),
    [
        (['domains = ["*.{name}.cn"]'], "matches *.{name}.cn"),
        (
            ['domains = ["*"]', 'exclude = ["{name}"]'],
            "`exclude` excludes every domain of the account qiniu that is covered: {name}",
        ),
    ],
    ids=["glob", "exclude"],
)
def test_nothing_is_left_to_serve(
    deploy: list[str], said: str, world: World, tmp_path: Path, name: str
) -> None:
    """Told with what to do, by every command; nothing is ordered, and nothing changed."""
    lines = [line.format(name=name) for line in deploy]
    host = Host(world, tmp_path, table(name, *lines))

    for command, code in (("plan", 1), ("sync", 1), ("status", 1)):
        run = host.run(command)
        assert code == run.code, run
        assert said.format(name=name) in " ".join(run.out.split()), run
        assert_nothing_written(run.left)
        assert 0 == run.left.orders
    assert "hint: " in host.run("plan").out


@thorough
def test_misspelt_exclude_is_told(world: World, tmp_path: Path, name: str) -> None:
    """Before the domain that was meant is deployed to; nothing waits for it."""
    host = Host(world, tmp_path, table(name, f'exclude = ["tset.{name}"]'))

    plan, run, settled = host.run("plan"), host.run("sync"), host.run("plan")

    said = f"`exclude` has tset.{name}, but no domain of that name would be deployed to"
    assert said in " ".join(plan.out.split())
    assert 0 == run.code, run
    assert said in " ".join(settled.out.split())
    assert "as declared\n" in settled.out


def test_file_that_empties_its_own_list(world: World, tmp_path: Path, name: str) -> None:
    """Refused with the line, before certferry asks a service."""
    host = Host(world, tmp_path, table(name, f'domains = ["{name}"]', 'exclude = ["*"]'))
    line = 1 + host.config.read_text().splitlines().index('exclude = ["*"]')

    run = host.run("-q", "sync")

    assert 2 == run.code
    assert f":{line}: [[certificates.deploy]] exclude: excludes" in run.complaint.error
    assert 0 == run.left.qiniu_requests
