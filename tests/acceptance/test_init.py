"""Takeovers from the real acme.sh, certbot and lego, in a world."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from certferry_sandbox.world import World
from tests.acceptance.clients.acme_sh import AcmeSh
from tests.acceptance.clients.old_homes import Certbot, Lego
from tests.acceptance.host import Run
from tests.acceptance.requests_made import RequestsMade
from tests.support.command import run_here
from tests.support.tiers import thorough


@dataclass
class Machine:
    """A machine on which another client has worked."""

    world: World
    directory: Path

    @property
    def config(self) -> Path:
        """Return the path of the file that `init` writes."""
        return self.directory / "certferry.toml"

    def certferry(self, *arguments: str, **environ: str) -> Run:
        done = run_here(arguments, {**os.environ, **environ}, self.directory)
        assert not any(secret in done.out + done.err for secret in self.world.secrets())
        return Run(done.code, done.out, done.err, RequestsMade.of(self.world))

    def init(self, client: str, home: Path, *more: str, **environ: str) -> Run:
        """Run `init --from` with all questions answered."""
        words = ("--settings", "settings.toml", "--yes", "--home", str(home), *more)
        return self.certferry("init", "--from", client, *words, **environ)

    def plan(self, **environ: str) -> list[dict[str, Any]]:
        """Return the plan of each certificate."""
        done = self.certferry("plan", "--json", **{**self.world.environment, **environ})
        assert 0 == done.code, done
        certificates: list[dict[str, Any]] = json.loads(done.out)["certificates"]
        return certificates


@pytest.fixture
def machine(world: World, tmp_path: Path) -> Iterator[Machine]:
    """A machine whose settings file has the world's addresses; the keys of DNSPod are for `init` to
    find.
    """
    path = world.write_files(tmp_path, certificates="")
    text = path.read_text()
    path.unlink()
    (tmp_path / "settings.toml").write_text(text)
    made = Machine(world, tmp_path)
    yield made
    if made.config.exists():
        assert 0o600 == stat.S_IMODE(made.config.stat().st_mode)


def actions(planned: dict[str, Any]) -> list[str]:
    """Return the actions of a plan, in order."""
    return [step["action"] for step in planned["steps"]]


def files_in(directory: Path) -> dict[str, tuple[float, bytes]]:
    """Return every file with its time and its bytes."""
    return {
        str(path): (path.lstat().st_mtime, path.read_bytes())
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


@thorough
def test_acme_sh_is_taken_over(machine: Machine, new_name: Callable[[], str], world: World) -> None:
    """The lineages of the real acme.sh are adopted with their certificates, and acme.sh's files
    stay.
    """
    name = new_name()
    world.add_https_domain(name)
    client = AcmeSh(world, machine.directory)
    client.issue(name, f"*.{name}")
    before = files_in(client.home)

    done = machine.init("acme.sh", client.home, **world.environment)

    assert 0 == done.code, done
    assert before == files_in(client.home)
    [planned] = machine.plan()
    assert (name, ["deploy", "verify"]) == (planned["name"], actions(planned))
    assert {name, f"*.{name}"} == set(planned["names"])
    stop = f"{client.home}/acme.sh --home {client.home} --remove -d {name} --ecc"
    assert [stop] == [line.strip() for line in done.out.splitlines() if "acme.sh --" in line]
    client.run(*shlex.split(stop)[1:])
    assert "" == client.run("--list", "--listraw").partition("\n")[2]


@thorough
def test_old_dispatcher_is_not_taken_over(
    machine: Machine, new_name: Callable[[], str], world: World
) -> None:
    """The real acme.sh's program for Qiniu is reported, and stays out of the configuration; the
    copies in files are made as before.
    """
    name = new_name()
    world.add_https_domain(name)
    client = AcmeSh(world, machine.directory)
    client.issue(name)
    copies, ran = machine.directory / "ssl", machine.directory / "ran"
    copies.mkdir()
    dispatcher = machine.directory / "hook.sh"
    dispatcher.write_text(f'#!/bin/sh\necho "$1" >>{ran}\n')
    dispatcher.chmod(0o755)
    client.run(
        "--install-cert", "-d", name, "--fullchain-file", str(copies / "fullchain.pem"),
        "--key-file", str(copies / "privkey.pem"), "--reloadcmd", f"{dispatcher} qiniu",
    )  # fmt: skip
    assert "qiniu\n" == ran.read_text()

    done = machine.init("acme.sh", client.home, **world.environment)

    assert 0 == done.code, done
    assert f"`{dispatcher}` is left out" in done.out
    text = machine.config.read_text()
    assert f'directory = "{copies}"' in text
    assert "reload" not in [line.partition(" = ")[0] for line in text.splitlines()]
    [planned] = machine.plan()
    assert {"deploy", "verify"} == set(actions(planned))


@thorough
def test_the_way_back(machine: Machine, new_name: Callable[[], str], world: World) -> None:
    """The real acme.sh is switched off as `init` says and, after an order of certferry, switched on
    again by the guide's two commands: acme.sh issues, copies and runs its program as before.
    """
    name = new_name()
    client = AcmeSh(world, machine.directory)
    client.issue(name)
    copies, ran = machine.directory / "ssl", machine.directory / "ran"
    copies.mkdir()
    fullchain = copies / "fullchain.pem"
    client.run(
        "--install-cert", "-d", name, "--fullchain-file", str(fullchain),
        "--key-file", str(copies / "privkey.pem"), "--reloadcmd", f"echo again >>{ran}",
    )  # fmt: skip
    taken = machine.init("acme.sh", client.home, **world.environment)
    [stop] = [line for line in taken.out.splitlines() if "acme.sh --" in line]
    client.run(*shlex.split(stop)[1:])
    assert 0 == machine.certferry("sync", "--renew", "--all", **world.environment).code
    ours = fullchain.read_bytes()
    assert ours != client.certificate(name).read_bytes()
    ran.unlink()

    conf = client.certificate(name).with_name(f"{name}.conf")
    conf.with_name(f"{conf.name}.removed").rename(conf)
    client.run("--renew", "-d", name, "--force")

    assert client.certificate(name).read_bytes() == fullchain.read_bytes() != ours
    assert "again\n" == ran.read_text()


@thorough
def test_revoked_certificate_is_not_brought_back(
    machine: Machine, new_name: Callable[[], str], world: World
) -> None:
    """A certificate that the real acme.sh has revoked is left out, although its files are still
    there.
    """
    name, revoked = new_name(), new_name()
    client = AcmeSh(world, machine.directory)
    for each in (name, revoked):
        client.issue(each)
    bundle = ("--ca-bundle", str(world.pebble.ca_bundle))
    client.run("--revoke", "-d", revoked, "--ecc", *bundle)

    done = machine.init("acme.sh", client.home, **world.environment)

    assert 0 == done.code, done
    assert (
        f"warning: acme.sh: {revoked}_ecc is left out: the certificate has been revoked" in done.err
    )
    assert [name] == [planned["name"] for planned in machine.plan()]


@thorough
def test_copies_keep_owner_group_and_mode(
    machine: Machine, new_name: Callable[[], str], world: World
) -> None:
    """The real acme.sh keeps owner, group and modes of its copies, and so does certferry: after the
    first sync the same programs can read the files.
    """
    name = new_name()
    client = AcmeSh(world, machine.directory)
    client.issue(name)
    copies = machine.directory / "ssl"
    copies.mkdir()
    files = {copies / "fullchain.pem": 0o640, copies / "privkey.pem": 0o640}
    for path, mode in files.items():
        path.touch()
        path.chmod(mode)
        if os.geteuid() == 0:
            shutil.chown(path, "mail", "www-data")
    before = {path: access(path) for path in files}
    client.run(
        "--install-cert", "-d", name, "--fullchain-file", str(copies / "fullchain.pem"),
        "--key-file", str(copies / "privkey.pem"),
    )  # fmt: skip
    assert before == {path: access(path) for path in files}

    done = machine.init("acme.sh", client.home, **world.environment)

    assert 0 == done.code, done
    synced = machine.certferry("sync", **world.environment)
    assert 0 == synced.code, synced
    assert before == {path: access(path) for path in files}
    assert (copies / "chain.pem").exists()


@thorough
def test_two_keys_that_were_copied_to_one_place(
    machine: Machine, new_name: Callable[[], str], world: World
) -> None:
    """The real acme.sh issued a second certificate for a site, with another kind of key, into the
    same files.
    """
    name = new_name()
    world.add_https_domain(name)
    client = AcmeSh(world, machine.directory)
    copies = machine.directory / "ssl"
    copies.mkdir()
    for length, more in (("2048", ()), ("ec-256", ("--ecc",))):
        client.issue(name, key_length=length)
        client.run(
            "--install-cert", "-d", name, "--fullchain-file", str(copies / "fullchain.pem"),
            "--key-file", str(copies / "privkey.pem"), *more,
        )  # fmt: skip

    done = machine.init("acme.sh", client.home, **world.environment)

    assert 0 == done.code, done
    [planned] = machine.plan()
    assert name == planned["names"][0]
    assert "has the same names, and takes precedence" in done.err


def access(path: Path) -> tuple[int, int, int]:
    """Return owner, group and mode."""
    facts = path.stat()
    return facts.st_uid, facts.st_gid, stat.S_IMODE(facts.st_mode)


@thorough
def test_certbot_is_taken_over(machine: Machine, new_name: Callable[[], str], world: World) -> None:
    """A lineage of the real certbot is adopted; the command that `init` prints removes the lineage
    from certbot.
    """
    name = new_name()
    world.add_https_domain(name)
    client = Certbot(world, machine.directory)
    client.issue(name, f"*.{name}")

    done = machine.init("certbot", client.home, **world.environment)

    assert 0 == done.code, done
    [planned] = machine.plan()
    assert (name, ["deploy", "verify"]) == (planned["name"], actions(planned))
    assert name in client.certificates()
    [stop] = [line for line in done.out.splitlines() if line.startswith("  mv ")]
    subprocess.run(shlex.split(stop), check=True)
    assert "No certificates found" in client.certificates()


@thorough
def test_lego_is_taken_over(machine: Machine, new_name: Callable[[], str], world: World) -> None:
    """A lineage of the real lego with a wildcard as its first name is adopted, and goes to the
    covered domain.
    """
    name = new_name()
    world.add_https_domain(f"a.{name}")
    client = Lego(world, machine.directory)
    client.issue(f"*.{name}")

    done = machine.init("lego", client.home, **world.environment)

    assert 0 == done.code, done
    [planned] = machine.plan()
    assert (name, [f"*.{name}"]) == (planned["name"], planned["names"])
    assert [("deploy", f"a.{name}"), ("verify", f"a.{name}")] == [
        (step["action"], step["domain"]) for step in planned["steps"]
    ]


@thorough
def test_kept_client_goes_on_renewing(
    machine: Machine, new_name: Callable[[], str], world: World
) -> None:
    """With --keep-client certferry imports the client's files from the first moment, and certbot
    goes on renewing.
    """
    name = new_name()
    world.add_https_domain(name)
    client = Certbot(world, machine.directory)
    client.issue(name)

    done = machine.init("certbot", client.home, "--keep-client", **world.environment)

    assert 0 == done.code, done
    assert "certbot continues as before." in done.out
    assert "fullchain = " in machine.config.read_text()
    [planned] = machine.plan()
    assert (name, ["deploy", "verify"]) == (planned["name"], actions(planned))
    client.issue(name, again=True)
    [planned] = machine.plan()
    assert "adopt" == actions(planned)[0]
