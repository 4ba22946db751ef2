"""What the guides and the READMEs promise, step by step, with their own commands."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certferry.core.certificates.certificate import fingerprint
from certferry_sandbox.world import World
from tests.acceptance.host import LONGEST_RUN, Host, certificate
from tests.acceptance.requests_made import NO_REQUESTS, RequestsMade, challenges
from tests.adapters.schedule.crontab_owner import CrontabOwner
from tests.house.picture import hung, masked, taken
from tests.house.tree import ROOT
from tests.sandbox.qiniu_calls import Client
from tests.support.command import Ended, run_here
from tests.support.forks import start
from tests.support.postgresql import KEY, PROGRAMS, Postgresql
from tests.support.tiers import thorough
from tests.support.waiting import eventually

# --- The how-tos about a machine's whole life, by their own commands, to the letter: back-up,
# restore, upgrade, removal, a new host. Their paths lie below a folder that stands for `/`


GUIDES = ROOT / "docs" / "how-to"
CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PATHS = re.compile(r"(?<=\s)/(?=(?:etc|opt|usr|var)/|etc$|\s)")
NOT_HERE = ("./scripts/install",)
"""What a test of its own shows, in the thorough tier: tests/house/test_installed.py."""


def commands(guide: str, heading: str) -> list[str]:
    """Return what a guide tells to type under a heading, or under what stands in bold there."""
    text = (GUIDES / f"{guide}.md").read_text(encoding="utf-8")
    _, found, rest = text.partition(heading)
    assert found, heading
    part = re.split(r"\n(?:## |\*\*\d)", rest, maxsplit=1)[0]
    typed = [line for block in CONSOLE.findall(part) for line in block.splitlines()]
    assert typed
    return [line.removeprefix("# ").removeprefix("$ ") for line in typed]


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
        return self.root / "var/lib/certferry/state.db"

    @property
    def config(self) -> Path:
        return self.root / "etc/certferry/certferry.toml"

    def types(self, *commands: str) -> list[Ended]:
        """Type commands; each must succeed."""
        ended = [self.tries(command) for command in commands]
        assert [0] * len(ended) == [one.code for one in ended], ended
        return ended

    def tries(self, command: str) -> Ended:
        typed = PATHS.sub(f"{self.root}/", command)
        environ = {
            "PATH": self.owner.environ["PATH"],
            "HOME": str(self.root / "opt"),
            "CERTFERRY_CONFIG": str(self.config),
            "XDG_DATA_HOME": str(self.root / "var/lib"),
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
    machine: Machine, empty: Callable[[Machine], Machine], world: World, name: str, tmp_path: Path
) -> None:
    """From a file and a directory, which the back-up has made for their owner alone. Nothing is
    issued or deployed anew, and the daily run is there again.
    """
    machine.types(*commands("backup", "\n## Back up\n"))
    bound, before = world.qiniu.bound(name), RequestsMade.of(world)

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
    since = RequestsMade.of(world) - before
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
    assert "move the state and the key file away; the next `certferry sync` creates both" in (
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
    goes on serving what is bound. A user's own installation goes from the home as well.
    """
    bound = world.qiniu.bound(name)
    machine.root.joinpath("var/log/certferry.log").touch()
    for own in ("lib/certferry/bin/certferry", "bin/certferry", "share/certferry/state.db"):
        path = machine.root / "opt/.local" / own
        path.parent.mkdir(parents=True)
        path.touch()
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
    before = RequestsMade.of(world)

    fresh = empty(machine)
    shutil.copy2(tmp_path / "gone" / archive, fresh.root / archive)
    shutil.copytree(tmp_path / "gone/etc", fresh.root / "etc", dirs_exist_ok=True)
    *_, plan, sync, _ = fresh.types(*commands("moving", "\n**2. "))

    assert "Nothing to do" in plan.out
    assert "img: unchanged" == sync.out.splitlines()[0]
    since = RequestsMade.of(world) - before
    assert (0, 0, 0) == (since.qiniu_writes, since.dnspod_writes, since.orders)
    assert not (fresh.root / archive).exists()

    fresh.types(*commands("moving", "\n**3. "))
    assert ["etc/ssl/.cdn-env"] == fresh.files()


# --- Several hosts that share a state, by the commands of their guide

SHARED = "several-hosts"
URL = "postgresql://certferry@db.example.com/certferry?sslmode=verify-full"
TABLE = re.compile(r"^```text\n(\[state\].*?)^```$", re.MULTILINE | re.DOTALL)
TYPED = re.compile(r"^```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def typed_on(machine: Machine, url: str, heading: str) -> list[str]:
    """Return what the guide tells to type on a machine, with the address of the test's server."""
    typed = [one for one in commands(SHARED, heading) if not one.startswith(NOT_HERE)]
    return [one.replace(URL, url).replace("file:/", f"file:{machine.root}/") for one in typed]


def test_both_languages_tell_to_type_the_same_for_several_hosts() -> None:
    """And to write the same into the configuration."""
    english, chinese = (
        (GUIDES / f"{SHARED}{end}").read_text(encoding="utf-8") for end in (".md", ".zh-CN.md")
    )
    for block in (CONSOLE, TABLE, TYPED):
        assert block.findall(english) == block.findall(chinese)


def test_a_second_host(
    machine: Machine,
    owner: CrontabOwner,
    postgresql: Postgresql,
    world: World,
    tmp_path: Path,
) -> None:
    """What the first one prints is what the guide shows; the second one issues, uploads and binds
    nothing, and installs its own files. The old state is left by mistake by no host.
    """
    url = postgresql.url(postgresql.new_database())
    config = machine.config
    delivery = f'\n[[certificates.deploy]]\nto = "files"\ndirectory = "{machine.root}/opt/tls"\n'
    config.write_text(config.read_text() + delivery)
    machine.types("certferry sync")
    before = config.read_text()

    *files, move, check, plan, sync, schedule = typed_on(machine, url, "\n**2. ")
    machine.types(*files)
    (machine.root / "etc/certferry/db-password").write_text("of no use to this server")
    [moved] = machine.types(move)
    [table] = TABLE.findall((GUIDES / f"{SHARED}.md").read_text(encoding="utf-8"))
    table = table.replace(URL, url).replace("file:/", f"file:{machine.root}/")
    assert table in moved.out
    assert "was moved to" in machine.tries("certferry plan").err
    config.write_text(re.sub(r"\[state\]\nurl = .*\n", lambda _: table, before))
    since = RequestsMade.of(world)
    _, planned, synced, _ = machine.types(check, plan, sync, schedule)
    assert "Nothing to do" in planned.out
    assert "img: unchanged" == synced.out.splitlines()[0]

    second = Machine(tmp_path / "second", owner)
    shutil.copytree(machine.root / "etc", second.root / "etc", dirs_exist_ok=True)
    copied = second.config.read_text().replace(str(machine.root), str(second.root))
    # Where the test runs, both have one name.
    second.config.write_text(copied.replace("\npassword = ", '\nhost = "web-2"\npassword = ', 1))
    *_, hosts = second.types(*typed_on(second, url, "\n**3. "))

    assert ["web-2 (this one)"] == re.findall("^web-2 .this one.", hosts.out, re.MULTILINE)
    assert (second.root / "opt/tls/fullchain.pem").exists()
    done = RequestsMade.of(world) - since
    assert (0, 0, 0) == (done.qiniu_writes, done.dnspod_writes, done.orders)

    machine.types(*typed_on(machine, url, "\n**4. "))
    assert "Nothing to do" in machine.tries("certferry plan").out


@pytest.fixture
def sharing(host: Host, postgresql: Postgresql) -> Host:
    """A host with a state on a server, that has done its job once."""
    host.share(postgresql.url(postgresql.new_database()), KEY)
    assert [0, 0] == [host.run(*words).code for words in (["state", "init"], ["sync"])]
    return host


def test_a_dump_that_is_put_back(sharing: Host, name: str, tmp_path: Path) -> None:
    """It is a whole state of the moment at which it was made; what came later is issued again."""
    text = (GUIDES / f"{SHARED}.md").read_text(encoding="utf-8")
    dump, restore = TYPED.findall(text.partition("\n## Back up\n")[2])[:2]
    url = sharing.config.read_text().partition('url = "')[2].partition('"')[0]

    def types(command: str) -> None:
        environ = {"PATH": f"{PROGRAMS}:{os.environ['PATH']}"}
        command = command.splitlines()[0].replace(URL, url)
        subprocess.run(["sh", "-ec", command], cwd=tmp_path, env=environ, check=True)

    types(dump)
    assert 0 == sharing.run("sync", "--renew", name).code
    types(restore)

    assert "is in order" in sharing.run("state", "check").out
    assert "state_older" in sharing.run("plan", "--json").out
    assert 0 == sharing.run("sync", "--renew", name).code
    assert "Nothing to do" in sharing.run("plan").out


def test_a_host_that_is_removed(sharing: Host, world: World, tmp_path: Path, name: str) -> None:
    """It is forgotten; with another key, what it knew opens nothing any more."""
    (tmp_path / "web-2").mkdir()
    other = Host(world, tmp_path / "web-2", certificate(name))
    url = sharing.config.read_text().partition('url = "')[2].partition('"')[0]
    other.share(url, KEY, "web-2")
    assert 0 == other.run("sync").code

    assert 0 == sharing.run("hosts", "forget", "web-2").code
    assert "web-2" not in sharing.run("hosts").out
    new = tmp_path / "new.key"
    new.touch(0o600)
    new.write_text(sharing.run("state", "key").out)
    assert 0 == sharing.run("state", "key", "--rotate", f"file:{new}").code

    refused = other.run("-q", "sync")
    assert (2, NO_REQUESTS) == (refused.code, refused.left)
    sharing.rewrite(KEY.reveal(), f"file:{new}")
    assert 0 == sharing.run("sync", "--renew", "--all").code


# --- The commands of the guide on monitoring, typed as they stand there


ENGLISH, CHINESE = (
    ROOT / "docs" / "how-to" / name for name in ("monitoring.md", "monitoring.zh-CN.md")
)
FILE = "/var/lib/prometheus/node-exporter/certferry.prom"


def typed(guide: Path) -> list[tuple[str, list[str]]]:
    """Each command, with the lines of output that the guide shows below it."""
    found: list[tuple[str, list[str]]] = []
    for block in CONSOLE.findall(guide.read_text(encoding="utf-8")):
        for row in block.splitlines():
            if row.startswith("$ "):
                found.append((row.removeprefix("$ "), []))
            else:
                found[-1][1].append(row)
    return found


def shape(row: str) -> str:
    """A line without its numbers."""
    return re.sub(r"\d+", "9", row)


def test_both_languages_have_the_same_commands() -> None:
    """And show the same output: in the gate those of one are typed."""
    assert typed(ENGLISH) == typed(CHINESE)


@pytest.mark.parametrize(
    "guide", [ENGLISH, pytest.param(CHINESE, marks=thorough)], ids=lambda guide: guide.name
)
def test_every_command_of_the_guide_does_what_it_says(host: Host, name: str, guide: Path) -> None:
    """It exits 0, and prints what is shown but for the numbers."""
    file = host.directory / "certferry.prom"
    host.rewrite(f'name = "{name}"', 'name = "img"')
    host.config.write_text(f'{host.config.read_text()}\n[metrics]\nfile = "{file}"\n')
    assert 0 == host.run("sync").code
    commands = typed(guide)
    assert 9 == len(commands)

    for command, shown in commands:
        if command.startswith("certferry "):
            run = host.run(*shlex.split(command)[1:])
            code, out = run.code, run.out
        else:
            ended = subprocess.run(
                ["/bin/sh", "-c", command.replace(FILE, shlex.quote(str(file)))],
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=False,
            )
            code, out = ended.returncode, ended.stdout

        assert 0 == code, (command, out)
        if shown:
            assert [shape(row) for row in shown] == [shape(row) for row in out.splitlines()]


# --- What the guide before production promises, step by step: docs/how-to/before-production.md


def test_staging_needs_no_target(world: World, tmp_path: Path, new_name: Callable[[], str]) -> None:
    """A certificate without a deployment is issued, renewed and exported; Qiniu is not asked."""
    name, before = new_name(), RequestsMade.of(world)
    host = Host(world, tmp_path, certificate(name, f"*.{name}", name="staging", to=None))

    assert 0 == host.run("plan").code
    assert 0 == host.run("sync").code
    assert 0 == host.run("sync", "--renew", "staging").code
    exported = host.run("export", "staging", "--dir", str(tmp_path / "staging" / "pem"))

    assert 0 == exported.code
    leaf = x509.load_pem_x509_certificate((tmp_path / "staging/pem/cert.pem").read_bytes())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {name, f"*.{name}"} == set(names.get_values_for_type(x509.DNSName))
    since = RequestsMade.of(world) - before
    assert (0, 2, 0) == (since.qiniu_requests, since.certificates, since.challenges)
    assert [] == [left for left in challenges(world) if name in left]


def test_one_domain_first_and_then_the_others(
    world: World, tmp_path: Path, new_name: Callable[[], str]
) -> None:
    """The domain that is named is the only one that is planned and touched. Widened, the others
    keep their settings, and nothing that was there is removed.
    """
    test, real = new_name(), new_name()
    world.add_http_domain(test)
    world.add_https_domain(real, force_https=True, http2=True)
    old = world.qiniu.bound(real)
    host = Host(world, tmp_path, certificate(test, real, domains=[test]))

    assert real not in host.run("plan").out.replace(f"{test}, {real}", "")
    assert 0 == host.run("sync").code
    assert old == world.qiniu.bound(real)
    assert world.qiniu.bound(test) not in {None, old}

    host.rewrite(f'domains = ["{test}"]', f'domains = ["{test}", "{real}"]\nretire = "never"')

    assert f"certificate  {str(old)[:12]} → " in host.run("plan").out
    assert 0 == host.run("sync").code
    assert world.qiniu.bound(test) == world.qiniu.bound(real)
    kept = world.qiniu.domain(real).https
    assert (True, True) == (kept.force_https, kept.http2)
    assert old in {stored.id for stored in world.qiniu.certificates.stored()}
    assert host.run("sync").out.startswith(f"{test}: unchanged")


def test_state_that_is_put_back(host: Host, name: str, tmp_path: Path) -> None:
    """State and key, copied together, are all that a new machine needs to go on."""
    assert 0 == host.run("sync").code
    [issued] = host.fingerprints(name)
    backup = tmp_path / "backup"
    backup.mkdir()
    for path in (host.state, host.key_file):
        shutil.copy2(path, backup)
    shutil.rmtree(host.state.parent)

    shutil.copytree(backup, host.state.parent)
    host.state.parent.chmod(0o700)
    run = host.run("sync")

    assert (0, f"{name}: unchanged") == (run.code, run.out.splitlines()[0])
    assert (0, 0, 0) == (run.left.qiniu_writes, run.left.dnspod_writes, run.left.orders)
    exported = host.run("export", name, "--dir", str(tmp_path / "pem"))
    assert (0, NO_REQUESTS) == (exported.code, exported.left)
    leaf = x509.load_pem_x509_certificate((tmp_path / "pem" / "cert.pem").read_bytes())
    assert issued == fingerprint(leaf.public_bytes(Encoding.DER))


def test_the_old_certificate_can_be_bound_again(
    world: World, tmp_path: Path, new_name: Callable[[], str]
) -> None:
    """A certificate that was uploaded by hand is at Qiniu still after it was replaced."""
    name = new_name()
    world.add_https_domain(name)
    old = world.qiniu.bound(name)
    assert old is not None
    host = Host(world, tmp_path, certificate(name))
    assert 0 == host.run("sync").code
    assert old != world.qiniu.bound(name)

    keys = world.credentials
    by_hand = Client(world.qiniu, keys.access_key, keys.secret_key)
    answer = by_hand.httpsconf(name, old, forceHttps=True, http2Enable=True)

    assert 200 == answer.status_code, answer.text
    assert eventually(lambda: world.qiniu.bound(name) == old)


# --- The picture of a run in the READMEs is one of a run as it is today


@pytest.mark.parametrize("language", ["en", pytest.param("zh", marks=thorough)])
def test_the_picture_is_what_the_demo_shows(language: str) -> None:
    """But for ids and moments. `scripts/picture` takes it anew."""
    assert masked(taken(language)) == masked(hung(language))


# --- `certferry sandbox`: the commands that it prints work as they are, in another terminal


ALL = re.compile(r"this heartbeat:\n\n.*\n.*\n  http://.*\n")
"""The end of what it says."""
ENVIRONMENT = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}


@pytest.fixture
def printed(tmp_path: Path) -> Iterator[list[str]]:
    """What the sandbox says beside its configuration, while it runs."""
    said = tmp_path / "said"
    with said.open("w") as stderr:
        command = [sys.executable, "-m", "certferry", "sandbox", "--dir", str(tmp_path / "world")]
        process = start(command, stdout=subprocess.DEVNULL, stderr=stderr)
    try:
        assert eventually(lambda: bool(ALL.search(said.read_text())))
        yield said.read_text().splitlines()
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


def test_its_init_command_works_as_it_is(printed: list[str], tmp_path: Path) -> None:
    """With the keys that it prints for the environment; the base file needs none of them, since
    the interview asks. The domain without HTTPS is left out.
    """
    [init] = [line.strip() for line in printed if "certferry init" in line]
    exports = (line.strip().removeprefix("export ") for line in printed if "export " in line)
    environ = {**ENVIRONMENT, **dict(line.partition("=")[::2] for line in exports if "=" in line)}
    program, *words = shlex.split(init)

    asked = run_here([*words, "--yes"], ENVIRONMENT, tmp_path)
    done = run_here([*words, "--yes"], environ, tmp_path)

    assert "certferry" == program
    assert 2 == asked.code
    assert "DP_Id: not set: DNSPod token ID" in asked.err
    assert 0 == done.code, done.err
    assert "img.example.com: will be issued for img.example.com\n" in done.out
    assert "a.img.example.com is left out: HTTPS is off there" in done.err
    planned = run_here(["--config", words[-1], "plan"], environ, tmp_path)
    assert 0 == planned.code, planned.err
    assert "1 certificate to issue, 1 deployment." in planned.out
