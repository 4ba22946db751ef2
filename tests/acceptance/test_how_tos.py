"""The how-tos about a machine's whole life, by their own commands, to the letter: back-up, restore,
upgrade, removal, a new host. Their paths lie below a folder that stands for `/`.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from certferry_sandbox.world import World
from tests.acceptance.footprint import Footprint
from tests.acceptance.host import LONGEST_RUN, Host, certificate
from tests.adapters.schedule.crontab_owner import CrontabOwner
from tests.house.tree import ROOT
from tests.support.command import Ended, run_here

GUIDES = ROOT / "docs" / "how-to"
CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PATHS = re.compile(r"(?<=\s)/(?=(?:etc|opt|usr|var)/|etc$|\s)")
NOT_HERE = ("./scripts/install",)
"""What a test of its own shows, in the thorough tier: tests/house/test_installed.py."""


def commands(guide: str, heading: str) -> list[str]:
    """Give what a guide tells to type under a heading, or under what stands in bold there."""
    text = (GUIDES / f"{guide}.md").read_text(encoding="utf-8")
    _, found, rest = text.partition(heading)
    assert found, heading
    part = re.split(r"\n(?:## |\*\*\d)", rest, maxsplit=1)[0]
    typed = [line for block in CONSOLE.findall(part) for line in block.splitlines()]
    assert typed
    return [line.removeprefix("# ") for line in typed]


class Machine:
    """A folder that stands for a machine's `/`, its user's crontab, and the command there."""

    def __init__(self, root: Path, owner: CrontabOwner) -> None:
        self.root = root
        self.owner = owner
        for folder in ("etc", "opt", "usr/local/bin", "var/backups", "var/lib", "var/log"):
            (root / folder).mkdir(parents=True)

    def is_used(self, world: World, name: str) -> None:
        """Have a configuration, keys in a file, and a state beside nothing else."""
        folder, keys = self.root / "etc/certferry", self.root / "etc/ssl/.cdn-env"
        folder.mkdir()
        keys.parent.mkdir()
        keys.touch(0o600)
        keys.write_text("".join(f"{k}='{value}'\n" for k, value in world.environment.items()))
        host = Host(world, folder, certificate(name, name="img"))
        host.rewrite(str(host.state), str(self.state))
        host.config.write_text(f'env_files = ["{keys}"]\n{host.config.read_text()}')
        host.config.chmod(0o600)

    @property
    def state(self) -> Path:
        """Where the state lies."""
        return self.root / "var/lib/certferry/state.db"

    def types(self, *commands: str) -> list[Ended]:
        """Type commands; each must succeed."""
        ended = [self.tries(command) for command in commands]
        assert [0] * len(ended) == [one.code for one in ended], ended
        return ended

    def tries(self, command: str) -> Ended:
        """Type a command."""
        typed = PATHS.sub(f"{self.root}/", command)
        environ = {
            "PATH": self.owner.environ["PATH"],
            "HOME": str(self.root / "opt"),
            "CERTFERRY_CONFIG": str(self.root / "etc/certferry/certferry.toml"),
        }
        program, *arguments = shlex.split(typed)
        if program == "certferry":
            return run_here(arguments, environ)
        done = subprocess.run(
            ["sh", "-ec", typed],
            env=environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=LONGEST_RUN,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    def files(self) -> list[str]:
        """Every file that is there."""
        return sorted(str(p.relative_to(self.root)) for p in self.root.rglob("*") if p.is_file())


@pytest.fixture
def machine(tmp_path: Path, owner: CrontabOwner, world: World, name: str) -> Machine:
    """A machine on which certferry has done its job once, and does it twice a day."""
    found = Machine(tmp_path / "old", owner)
    found.is_used(world, name)
    found.types("certferry sync", "certferry schedule install")
    assert world.qiniu.bound(name) is not None
    return found


@pytest.fixture
def empty(tmp_path: Path, owner: CrontabOwner) -> Callable[[Machine], Machine]:
    """Takes a machine away, and gives an empty one in its place: its paths are the same."""

    def replaced(machine: Machine) -> Machine:
        machine.root.rename(tmp_path / "gone")
        owner.write(None)
        return Machine(machine.root, owner)

    return replaced


def test_a_restore_on_an_empty_machine(
    machine: Machine,
    empty: Callable[[Machine], Machine],
    world: World,
    name: str,
    tmp_path: Path,
) -> None:
    """From a file and a directory, which the back-up has made for their owner alone. Nothing is
    issued or deployed anew, and the daily run is there again.
    """
    machine.types(*commands("backup", "\n## Back up\n"))
    bound, before = world.qiniu.bound(name), Footprint.of(world)

    fresh = empty(machine)
    fresh.root.joinpath("var/backups").rmdir()
    copied = shutil.copytree(tmp_path / "gone/var/backups", fresh.root / "var/backups")
    modes = {path.name: path.stat().st_mode & 0o777 for path in copied.iterdir()}
    assert {"certferry": 0o700, "certferry-state.tar": 0o600} == modes
    ended = fresh.types(*commands("backup", "\n## Restore on an empty machine\n"))

    assert ended[3].out.startswith(f"Restored to {fresh.state}: img, as of ")
    plan, sync = ended[-3:-1]
    assert "Nothing to do: 1 certificate is as declared.\n" in plan.out
    assert "img: unchanged" == sync.out.splitlines()[0]
    since = Footprint.of(world) - before
    assert (0, 0, 0) == (since.qiniu_writes, since.dnspod_writes, since.orders)
    assert bound == world.qiniu.bound(name)
    assert b"certferry" in (fresh.owner.read() or b"")


def test_the_way_out_without_the_key_file(machine: Machine, world: World, name: str) -> None:
    """It is missed by the next run, before anything is due; what is printed leads on. The state is
    made anew, and the certificate is issued again.
    """
    before = world.qiniu.bound(name)
    machine.state.with_name("secret.key").unlink()

    missed = machine.tries("certferry plan")
    machine.types(*commands("backup", "\n## A key file that is lost\n"))
    plan, status = machine.types("certferry plan", "certferry status")

    assert 1 == missed.code
    assert "move the state and the key file away, and the next `certferry sync` makes both" in (
        " ".join(missed.err.split())
    )
    assert "Nothing to do" in plan.out
    assert "verified" in status.out
    assert before != world.qiniu.bound(name)


def test_the_way_back_from_an_upgrade(machine: Machine) -> None:
    """What a newer version has written is refused by this one, with a code that the guide names;
    the copy from before goes on.
    """
    machine.types(*commands("backup", "\n## Back up\n"))
    with closing(sqlite3.connect(machine.state)) as newer, newer:
        newer.execute("INSERT INTO certferry_migration VALUES (9001, '9001_new')")

    refused = machine.tries("certferry plan --json")
    assert '"code": "state_too_new"' in refused.out
    typed = commands("upgrade", "\n## The way back\n")
    plan = machine.types(*typed)[-1]

    assert "Nothing to do" in plan.out


def test_a_new_version_is_looked_at_before_it_runs(machine: Machine) -> None:
    """What the guide tells to type after the installation only reads."""
    typed = commands("upgrade", "\n## The new version\n")
    here = [one for one in typed if not one.startswith(NOT_HERE)]

    assert 1 == len(typed) - len(here)
    version, _, plan = machine.types(*here)
    assert version.out.startswith("certferry ")
    assert "Nothing to do" in plan.out


def test_a_removal_leaves_nothing_behind(machine: Machine, world: World, name: str) -> None:
    """No file, no crontab, no account in use; the exported files are the operator's. The domain
    goes on serving what is bound.
    """
    bound = world.qiniu.bound(name)
    machine.root.joinpath("var/log/certferry.log").touch()
    keys = "etc/ssl/.cdn-env"

    for number in range(1, 5):
        machine.types(*commands("removal", f"\n**{number}. "))

    kept = [f"etc/ssl/img/{part}.pem" for part in ("cert", "chain", "fullchain", "privkey")]
    assert [keys, *kept] == machine.files()
    assert not machine.owner.read()
    assert bound == world.qiniu.bound(name)


def test_a_move_to_another_host(
    machine: Machine, empty: Callable[[Machine], Machine], world: World, tmp_path: Path
) -> None:
    """The new host goes on where the old one stopped: nothing is issued or deployed anew."""
    machine.types(*commands("moving", "\n**1. "))
    assert not machine.owner.read()
    archive = "var/backups/certferry-state.tar"
    assert 0o600 == (machine.root / archive).stat().st_mode & 0o777
    before = Footprint.of(world)

    fresh = empty(machine)
    shutil.copy2(tmp_path / "gone" / archive, fresh.root / archive)
    shutil.copytree(tmp_path / "gone/etc", fresh.root / "etc", dirs_exist_ok=True)
    *_, plan, sync, _ = fresh.types(*commands("moving", "\n**2. "))

    assert "Nothing to do" in plan.out
    assert "img: unchanged" == sync.out.splitlines()[0]
    since = Footprint.of(world) - before
    assert (0, 0, 0) == (since.qiniu_writes, since.dnspod_writes, since.orders)
    assert not (fresh.root / archive).exists()

    fresh.types(*commands("moving", "\n**3. "))
    assert ["etc/ssl/.cdn-env"] == fresh.files()
