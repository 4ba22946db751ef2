"""Other people's adapters, by the recipe in CONTRIBUTING.md: a package is built, installed into a
fresh environment, and used by a run as DNS provider and target.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import pytest

from certferry_sandbox.world import World
from tests.house.tree import ROOT
from tests.support.harbour import Harbour, harbour
from tests.support.tiers import sampled
from tests.wiring.packages import Packages

PACKAGE = ROOT / "tests" / "data" / "third_party"
LONGEST = 100  # seconds
OTHER_KEY = "another-packages-key-0123456789"


@dataclass(frozen=True)
class Beside:
    """A certificate that succeeds, another whose target fails, and a configuration with both."""

    good: str
    bad: str
    config: str
    environ: dict[str, str]


class Place:
    """A fresh environment with the checkout, its libraries, and the installed packages.

    The network stays unused: the build backend is the checkout's.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        venv.create(folder / "venv", with_pip=False, symlinks=True)
        self.python = folder / "venv" / "bin" / "python"
        [packages] = (folder / "venv" / "lib").glob("python3*/site-packages")
        ours = next(path for path in sys.path if path.endswith("site-packages"))
        (packages / "checkout.pth").write_text(f"import site; site.addsitedir({ours!r})\n")

    def install(self, package: Path) -> None:
        """Build and install a package, as `pip install .` does."""
        pip = [sys.executable, "-m", "pip", "--python", str(self.python), "--quiet"]
        without = ["--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", *without, str(package)], check=True, timeout=LONGEST)

    def run(self, *arguments: str, environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.python), "-m", "certferry", *arguments],
            env={**os.environ, **environ},
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=LONGEST,
        )


def test_recipe_is_the_built_package() -> None:
    """Every block of code in CONTRIBUTING.md's recipe is in the package, to the letter."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    recipe = text.partition("## Adding a DNS provider")[2].partition("## Licence")[0]
    blocks = re.findall(r"^( *)```\w+\n(.*?)^ *```$", recipe, re.MULTILINE | re.DOTALL)
    sources = [
        path.read_text(encoding="utf-8")
        for path in PACKAGE.rglob("*.*")
        if path.suffix in {".py", ".toml"}
    ]

    parts = [part for _, block in blocks for part in dedent(block).strip().split("\n\n\n")]

    assert 5 == len(parts)
    for part in parts:
        assert any(part in text for text in sources), part


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = Place(tmp_path_factory.mktemp("third-party"))
    shutil.copytree(PACKAGE, place.folder / "package")
    place.install(place.folder / "package")
    return place


@pytest.fixture
def service(world: World) -> Iterator[Harbour]:
    with harbour(world.zones) as running:
        yield running


@pytest.fixture
def configured(world: World, service: Harbour, tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that writes a configuration in which Harbour proves and serves a
    certificate, with additional tables.
    """

    def write(name: str, more: str = "") -> Path:
        service.add_domain(name)
        path = world.write_files(tmp_path, "")
        text = path.read_text().replace(
            f"port = {world.qiniu.edges.port}", f"port = {service.edges.port}"
        )
        text += (
            f'[accounts.harbour]\ntoken = "env:HARBOUR_TOKEN"\napi = "{service.http.url}"\n'
            f'[[certificates]]\nnames = ["{name}"]\ndns = "harbour"\n'
            f'[[certificates.deploy]]\nto = "harbour"\n{more}'
        )
        path.write_text(text)
        return path

    return write


def environment(world: World, service: Harbour) -> dict[str, str]:
    return {**world.environment, "HARBOUR_TOKEN": service.token}


def test_package_of_the_recipe_issues_and_deploys(
    place: Place,
    world: World,
    service: Harbour,
    configured: Callable[[str], Path],
    new_name: Callable[[], str],
) -> None:
    """The package's provider proves the name, its target serves the certificate, and the edge shows
    the certificate.
    """
    name = new_name()
    config = str(configured(name))
    environ = environment(world, service)

    first = place.run("--config", config, "sync", "--json", environ=environ)

    assert 0 == first.returncode, first
    (lineage,) = json.loads(first.stdout)["certificates"]
    assert {"done"} == {step["outcome"] for step in lineage["steps"]}, lineage
    assert str(service.served(name)).startswith("certferry-")
    assert service.token not in first.stdout + first.stderr

    again = place.run("--config", config, "plan", "--check", environ=environ)

    assert 0 == again.returncode, again
    assert [] == world.zones.records(name=f"_acme-challenge.{name}", rtype="TXT")


def test_wrong_token_is_reported_in_the_packages_words(
    place: Place,
    world: World,
    service: Harbour,
    configured: Callable[[str], Path],
    new_name: Callable[[], str],
) -> None:
    """The package raises certferry's own errors, with a hint."""
    config = str(configured(new_name()))
    environ = {**environment(world, service), "HARBOUR_TOKEN": "wrong"}

    run = place.run("--config", config, "-q", "sync", environ=environ)

    assert 1 == run.returncode, run
    assert "Harbour does not accept the token" in run.stderr


GOOD = (PACKAGE / "src" / "certferry_harbour" / "target.py").read_text(encoding="utf-8")
BROKEN = {
    "fails to import": ("import no_such_module\n", "No module named 'no_such_module'"),
    "lacks connect": (GOOD.replace("def connect", "def connects"), "bad_target has no connect"),
    "raises something foreign": (
        GOOD.replace('self._ask("GET", "domains")', "{}[scope.lineage]", 1),
        "bad failed: KeyError",
    ),
}


@pytest.mark.parametrize("module", sampled(list(BROKEN), 1))
def test_broken_package_is_named_and_the_others_go_on(
    place: Place,
    world: World,
    service: Harbour,
    configured: Callable[[str, str], Path],
    new_name: Callable[[], str],
    tmp_path: Path,
    module: str,
) -> None:
    """Only the certificate with the broken target fails; the other certificate is issued and
    served.
    """
    text, reported = BROKEN[module]
    Packages(tmp_path).install("certferry-bad", "bad_target", text, bad="certferry.targets")
    good, bad = new_name(), new_name()
    more = (
        f'[accounts.bad]\ntoken = "env:HARBOUR_TOKEN"\napi = "{service.http.url}"\n'
        f'[[certificates]]\nnames = ["{bad}"]\ndns = "harbour"\n'
        f'[[certificates.deploy]]\nto = "bad"\n'
    )
    service.add_domain(bad)
    config = str(configured(good, more))
    environ = {**environment(world, service), "PYTHONPATH": str(tmp_path)}

    run = place.run("--config", config, "sync", "--json", environ=environ)

    assert 1 == run.returncode, run
    by_name = {lineage["name"]: lineage for lineage in json.loads(run.stdout)["certificates"]}
    assert {good: True, bad: False} == {name: each["ok"] for name, each in by_name.items()}
    (failed,) = [str(step) for step in by_name[bad]["steps"] if step["outcome"] == "failed"]
    assert "the package certferry-bad: " in failed
    assert reported in failed


@pytest.fixture
def beside(
    world: World,
    service: Harbour,
    configured: Callable[[str, str], Path],
    new_name: Callable[[], str],
    tmp_path: Path,
) -> Callable[[str], Beside]:
    """Return a function that installs, beside the good package, a package whose target misbehaves
    in the given way.
    """

    def install(way: str) -> Beside:
        text = GOOD.replace('self._ask("GET", "domains")', way, 1)
        Packages(tmp_path).install("certferry-bad", "bad_target", text, bad="certferry.targets")
        good, bad = new_name(), new_name()
        service.add_domain(bad)
        more = (
            f'[accounts.bad]\ntoken = "env:HARBOUR_TOKEN"\napi = "{service.http.url}"\n'
            f'[[certificates]]\nnames = ["{bad}"]\ndns = "harbour"\n'
            f'[[certificates.deploy]]\nto = "bad"\n'
        )
        config = str(configured(good, more))
        environ = {**environment(world, service), "PYTHONPATH": str(tmp_path)}
        return Beside(good, bad, config, environ)

    return install


def test_adapter_that_ends_its_thread(
    place: Place, service: Harbour, beside: Callable[[str], Beside]
) -> None:
    """`sys.exit` is a failure of the adapter: the other certificate is served, the exit code
    reports the failure, and `doctor` ends in time. No traceback shows a secret that the adapter
    quotes.
    """
    secrets = "self._settings.token.reveal() + ' ' + __import__('os').environ['OTHER_API_KEY']"
    there = beside(f"__import__('sys').exit('gone with ' + {secrets})")
    there.environ["OTHER_API_KEY"] = OTHER_KEY

    run = place.run("-v", "--config", there.config, "sync", "--json", environ=there.environ)

    assert 1 == run.returncode, run
    by_name = {lineage["name"]: lineage for lineage in json.loads(run.stdout)["certificates"]}
    assert {there.good: True, there.bad: False} == {
        name: each["ok"] for name, each in by_name.items()
    }
    assert "the package certferry-bad: bad failed: SystemExit: gone with" in run.stdout
    assert service.served(there.good) is not None
    assert "Traceback" in run.stderr
    for secret in (service.token, OTHER_KEY):
        assert secret not in run.stdout + run.stderr

    begun = time.monotonic()
    doctor = place.run("--config", there.config, "doctor", environ=there.environ)

    assert 1 == doctor.returncode, doctor
    assert "SystemExit" in doctor.stdout + doctor.stderr
    assert time.monotonic() - begun < 30
    assert service.token not in doctor.stdout + doctor.stderr


def test_adapter_that_ends_the_process(place: Place, beside: Callable[[str], Beside]) -> None:
    """The run ends without a report: `status`, `check` and the next run report when the unfinished
    run began, until a run ends.
    """
    there = beside("__import__('os')._exit(0)")
    first = place.run("--config", there.config, "sync", there.good, environ=there.environ)
    assert 0 == first.returncode, first
    assert 0 == place.run("--config", there.config, "sync", environ=there.environ).returncode

    sparing = {**there.environ, "PYTHONPATH": ""}
    good = ("--config", there.config)
    status = place.run(*good, "status", there.good, "--json", environ=sparing)

    [trouble] = json.loads(status.stdout)["troubles"]
    assert "run_cut_short" == trouble["code"]
    assert re.search(r"by process \d+ on \S+ at .* did not end", trouble["message"])
    check = place.run(*good, "check", environ=sparing)
    assert "did not end" in check.stdout, check

    run = place.run(*good, "sync", there.good, environ=sparing)

    assert 0 == run.returncode, run
    assert 1 == run.stderr.count("did not end"), run
    after = place.run(*good, "status", there.good, "--json", environ=sparing)
    assert [] == json.loads(after.stdout)["troubles"]


def test_name_that_certferry_has_keeps_its_meaning(
    place: Place,
    world: World,
    service: Harbour,
    configured: Callable[[str], Path],
    new_name: Callable[[], str],
    tmp_path: Path,
) -> None:
    """A package that declares the same name is reported once, and none of its code is run."""
    Packages(tmp_path).install(
        "certferry-bad", "bad_dns", "raise SystemExit", dnspod="certferry.dns"
    )
    config = configured(new_name())
    config.write_text(config.read_text().replace('dns = "harbour"', 'dns = "dnspod"'))
    environ = {**environment(world, service), "PYTHONPATH": str(tmp_path)}

    run = place.run("--config", str(config), "sync", environ=environ)

    assert 0 == run.returncode, run
    message = (
        "the package certferry-bad declares the DNS provider dnspod, which is part of certferry"
    )
    assert 1 == run.stderr.count(message), run


def test_keys_that_a_target_does_not_declare_are_unknown(
    place: Place,
    world: World,
    service: Harbour,
    configured: Callable[[str, str], Path],
    new_name: Callable[[], str],
) -> None:
    """Harbour has neither kinds nor a redirect, unlike other targets."""
    config = str(configured(new_name(), "force_https = true\nretires = 1\n"))

    run = place.run("--config", config, "plan", environ=environment(world, service))

    assert 2 == run.returncode, run
    assert "[[certificates.deploy]] force_https: unknown key; known are" in run.stderr
    assert "[[certificates.deploy]] retires: unknown key; did you mean retire?" in run.stderr
