"""The promises of the guides and the READMEs, step by step, with the guides' own commands."""

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
# restore, upgrade, removal, a new host. A folder stands for `/`, and all paths are below the folder


GUIDES = ROOT / "docs" / "how-to"
CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PATHS = re.compile(r"(?<=\s)/(?=(?:etc|opt|usr|var)/|etc$|\s)")
NOT_HERE = ("./scripts/install",)
"""Commands that a separate test runs, in the thorough tier: tests/house/test_installed.py."""


def commands(guide: str, heading: str) -> list[str]:
    """Return the commands of a guide below a heading or below a bold step."""
    text = (GUIDES / f"{guide}.md").read_text(encoding="utf-8")
    _, separator, after = text.partition(heading)
    assert separator, heading
    part = re.split(r"\n(?:## |\*\*\d)", after, maxsplit=1)[0]
    typed = [line for block in CONSOLE.findall(part) for line in block.splitlines()]
    assert typed
    return [line.removeprefix("# ").removeprefix("$ ") for line in typed]


class Machine:
    """A folder that stands for a machine's `/`, the user's crontab, and the command."""

    def __init__(self, root: Path, owner: CrontabOwner) -> None:
        self.root = root
        self.owner = owner
        for folder in ("etc", "opt", "usr/local/bin", "var/backups", "var/lib", "var/log"):
            (root / folder).mkdir(parents=True)

    def is_used(self, world: World, name: str) -> None:
        """Write a configuration, and keys in a file; the state is in /var/lib."""
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
        """Type commands, and assert that each succeeds."""
        ended = [self.tries(command) for command in commands]
        assert [0] * len(ended) == [each.code for each in ended], ended
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
    """A machine on which certferry has done its job once, and runs twice a day."""
    used = Machine(tmp_path / "old", owner)
    used.is_used(world, name)
    used.types("certferry sync", "certferry schedule install")
    assert world.qiniu.bound(name) is not None
    return used


@pytest.fixture
def empty(tmp_path: Path, owner: CrontabOwner) -> Callable[[Machine], Machine]:
    """Return a function that moves a machine away and gives an empty machine at the same paths."""

    def replaced(machine: Machine) -> Machine:
        machine.root.rename(tmp_path / "gone")
        owner.write(None)
        return Machine(machine.root, owner)

    return replaced


def test_a_restore_on_an_empty_machine(
    machine: Machine, empty: Callable[[Machine], Machine], world: World, name: str, tmp_path: Path
) -> None:
    """A file and a directory, private to their owner, bring the machine back: the certificate and
    the deployment stay, and the daily run is back.
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
    """The next run misses the key file although no certificate is due, and its hint leads on. A new
    state is made, and the certificate is issued again.
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
    """A state of a newer version is refused with the code that the guide names; the copy from
    before the upgrade works.
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
    """The guide's commands after the installation only read."""
    typed = commands("upgrade", "\n## The new version\n")
    here = [command for command in typed if not command.startswith(NOT_HERE)]

    assert 1 == len(typed) - len(here)
    version, _, plan = machine.types(*here)
    assert version.out.startswith("certferry ")
    assert "Nothing to do" in plan.out


def test_a_removal_leaves_nothing_behind(machine: Machine, world: World, name: str) -> None:
    """Files, crontab and account use are gone; the exported files belong to the operator. The
    domain goes on serving its certificate. A user's own installation is removed from the home as
    well.
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

    exported = [f"etc/ssl/img/{part}.pem" for part in ("cert", "chain", "fullchain", "privkey")]
    assert [keys, *exported] == machine.files()
    assert not machine.owner.read()
    assert bound == world.qiniu.bound(name)


def test_a_move_to_another_host(
    machine: Machine, empty: Callable[[Machine], Machine], world: World, tmp_path: Path
) -> None:
    """The new host continues the old host's work: the certificate and the deployment stay."""
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
    """Return the guide's commands on a machine, with the address of the test's server."""
    typed = [line for line in commands(SHARED, heading) if not line.startswith(NOT_HERE)]
    return [line.replace(URL, url).replace("file:/", f"file:{machine.root}/") for line in typed]


def test_both_languages_of_the_guide_on_several_hosts() -> None:
    """Both languages show the same commands and the same blocks of configuration."""
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
    """The first host prints the table of the guide. The second host issues, uploads and binds
    nothing, and installs its own files. The old state refuses further runs.
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
    # On the test's machine both hosts have the same name.
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
    """A host with a state on a server, after one run."""
    host.share(postgresql.url(postgresql.new_database()), KEY)
    assert [0, 0] == [host.run(*words).code for words in (["state", "init"], ["sync"])]
    return host


def test_a_dump_that_is_put_back(sharing: Host, name: str, tmp_path: Path) -> None:
    """The dump is a whole state at the moment of the dump; later certificates are issued again."""
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
    """The host is forgotten; after a rotation the removed host's key is refused."""
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


# --- The commands of the guide on monitoring, to the letter


ENGLISH, CHINESE = (
    ROOT / "docs" / "how-to" / name for name in ("monitoring.md", "monitoring.zh-CN.md")
)
FILE = "/var/lib/prometheus/node-exporter/certferry.prom"


def typed(guide: Path) -> list[tuple[str, list[str]]]:
    """Return each command, with the guide's lines of output below the command."""
    commands: list[tuple[str, list[str]]] = []
    for block in CONSOLE.findall(guide.read_text(encoding="utf-8")):
        for row in block.splitlines():
            if row.startswith("$ "):
                commands.append((row.removeprefix("$ "), []))
            else:
                commands[-1][1].append(row)
    return commands


def shape(row: str) -> str:
    """Return a line with its numbers masked."""
    return re.sub(r"\d+", "9", row)


def test_both_languages_have_the_same_commands() -> None:
    """Commands and output are the same in both languages, so the gate types the commands of one
    language.
    """
    assert typed(ENGLISH) == typed(CHINESE)


@pytest.mark.parametrize(
    "guide", [ENGLISH, pytest.param(CHINESE, marks=thorough)], ids=lambda guide: guide.name
)
def test_every_command_of_the_guide_works(host: Host, name: str, guide: Path) -> None:
    """Each command exits with 0, and prints the guide's lines except for numbers."""
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


# --- The promises of the guide before production, step by step: docs/how-to/before-production.md


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
    """Only the listed domain is planned and changed. In the wider declaration the other domain
    keeps its settings, and the old certificate stays stored.
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
    settings = world.qiniu.domain(real).https
    assert (True, True) == (settings.force_https, settings.http2)
    assert old in {stored.id for stored in world.qiniu.certificates.stored()}
    assert host.run("sync").out.startswith(f"{test}: unchanged")


def test_state_that_is_put_back(host: Host, name: str, tmp_path: Path) -> None:
    """State and key, copied together, are enough for a new machine."""
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
    """A certificate that was uploaded by hand stays at Qiniu after its replacement, and can be
    bound again.
    """
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


# --- The picture of a run in the READMEs shows a run of today


@pytest.mark.parametrize("language", ["en", pytest.param("zh", marks=thorough)])
def test_picture_shows_the_demo(language: str) -> None:
    """The pictures agree except for ids and times. `scripts/picture` makes a new picture."""
    assert masked(taken(language)) == masked(hung(language))


# --- `certferry sandbox`: the printed commands work as printed, in another terminal


ALL = re.compile(r"this heartbeat:\n\n.*\n.*\n  http://.*\n")
"""The end of the sandbox's output."""
ENVIRONMENT = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}


@pytest.fixture
def printed(tmp_path: Path) -> Iterator[list[str]]:
    """Start the sandbox, and return the lines on its stderr."""
    output = tmp_path / "said"
    with output.open("w") as stderr:
        command = [sys.executable, "-m", "certferry", "sandbox", "--dir", str(tmp_path / "world")]
        process = start(command, stdout=subprocess.DEVNULL, stderr=stderr)
    try:
        assert eventually(lambda: bool(ALL.search(output.read_text())))
        yield output.read_text().splitlines()
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


def test_printed_init_command_works(printed: list[str], tmp_path: Path) -> None:
    """The command works with the printed keys in the environment. The base file works without keys,
    since the interview asks; the domain with HTTPS off is left out.
    """
    [init] = [line.strip() for line in printed if "certferry init" in line]
    exports = (line.strip().removeprefix("export ") for line in printed if "export " in line)
    environ = {**ENVIRONMENT, **dict(line.partition("=")[::2] for line in exports if "=" in line)}
    program, *words = shlex.split(init)

    without_keys = run_here([*words, "--yes"], ENVIRONMENT, tmp_path)
    done = run_here([*words, "--yes"], environ, tmp_path)

    assert "certferry" == program
    assert 2 == without_keys.code
    assert "DP_Id: not set: DNSPod token ID" in without_keys.err
    assert 0 == done.code, done.err
    assert "img.example.com: will be issued for img.example.com\n" in done.out
    assert "a.img.example.com is left out: HTTPS is off there" in done.err
    planned = run_here(["--config", words[-1], "plan"], environ, tmp_path)
    assert 0 == planned.code, planned.err
    assert "1 certificate to issue, 1 deployment." in planned.out
