"""Two accounts of one service in one file, from the command to the edges."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from certferry_sandbox.world import World
from tests.acceptance.footprint import assert_nothing_written
from tests.acceptance.host import Host, Run
from tests.support.tiers import thorough

_numbers = itertools.count(1)


class TwoAccounts(Host):
    """A machine whose file has the world's account as `one`, and a second one as `two`."""

    def __init__(self, world: World, directory: Path, certificates: str) -> None:
        super().__init__(world, directory, certificates)
        number = next(_numbers)
        self.keys = {"TWO_AK": f"second-access-{number}", "TWO_SK": f"second-secret-{number}"}
        world.qiniu.add_account(*self.keys.values())
        table = self.config.read_text().partition("[accounts.qiniu]")[2].partition("\n\n")[0]
        two = table.replace("QINIU_ACCESS_KEY", "TWO_AK").replace("QINIU_SECRET_KEY", "TWO_SK")
        self.rewrite(
            f"[accounts.qiniu]{table}",
            f'[accounts.one]\ntype = "qiniu"{table}\n\n[accounts.two]\ntype = "qiniu"{two}',
        )

    def run(self, *arguments: str, **environ: str) -> Run:
        """With the keys of both accounts."""
        return super().run(*arguments, **self.keys, **environ)

    def add_to_two(self, name: str) -> None:
        """Put a domain without HTTPS into the second account."""
        self.world.add_http_domain(name, account=self.keys["TWO_AK"])


def tables(name: str, one: str = '"auto"', two: str = '"auto"') -> str:
    """Give the tables of a certificate that both accounts serve, each these domains."""
    return (
        f'\n[[certificates]]\nname = "{name}"\nnames = ["{name}", "*.{name}"]\ndns = "dnspod"\n'
        f'[[certificates.deploy]]\nto = "one"\ndomains = {one}\n'
        f'[[certificates.deploy]]\nto = "two"\ndomains = {two}\n'
    )


@pytest.fixture
def host(world: World, tmp_path: Path, name: str) -> TwoAccounts:
    """A machine that is to serve what both accounts have; the first has the name itself."""
    return TwoAccounts(world, tmp_path, tables(name))


def test_each_account_serves_its_own_domains(host: TwoAccounts, name: str) -> None:
    """One order, a copy at each account, every domain at its own and verified; the second run does
    nothing.
    """
    host.add_to_two(f"two.{name}")

    first, again = host.run("sync", "--json"), host.run("sync", "--json")
    status = host.run("status", "--json")

    assert 0 == first.code, first
    assert (1, 2) == (first.left.certificates, first.left.qiniu_uploads)
    [certificate] = status.document["certificates"]
    assert {("one", name, "verified"), ("two", f"two.{name}", "verified")} == {
        (domain["target"], domain["domain"], domain["state"]) for domain in certificate["domains"]
    }
    assert host.world.qiniu.bound(name) != host.world.qiniu.bound(f"two.{name}")
    assert 0 == again.code, again
    assert_nothing_written(again.left)


@thorough
def test_account_whose_keys_are_wrong_holds_up_no_other(host: TwoAccounts, name: str) -> None:
    """It is told by its label; the other's domains are served."""
    host.add_to_two(f"two.{name}")
    host.keys["TWO_SK"] = "wrong"

    run = host.run("sync", "--json")

    assert 1 == run.code, run
    [certificate] = run.document["certificates"]
    ended = {(step["target"], step["domain"]): step["outcome"] for step in certificate["steps"]}
    assert "done" == ended["one", name]
    assert "failed" == ended["two", None]
    assert None is host.world.qiniu.bound(f"two.{name}")


@thorough
def test_domain_that_has_moved_to_the_other_account(host: TwoAccounts, name: str) -> None:
    """It was served at the one, and is found and served at the other by the next run."""
    host.add_to_two(f"two.{name}")
    host.run("sync")
    host.add_to_two(name)  # a domain is at one account only

    run = host.run("sync", "--json")

    assert (
        "done"
        == {
            (step["target"], step["domain"]): step["outcome"]
            for step in run.document["certificates"][0]["steps"]
            if step["action"] == "verify"
        }["two", name]
    ), run


@pytest.mark.parametrize("command", ["plan", "sync", "status"])
def test_domain_that_is_named_for_both(
    command: str, world: World, tmp_path: Path, name: str
) -> None:
    """Refused with both lines: a domain is at one account only. certferry asked no service."""
    host = TwoAccounts(world, tmp_path, tables(name, f'["{name}"]', f'["*.{name}", "{name}"]'))

    run = host.run("-q", command)

    assert 2 == run.code, run
    assert f"{name} is named for the account one as well, at line " in run.complaint.error
    assert 0 == run.left.qiniu_requests
