"""Two distributions: certferry for operators has no stand-in, and finds the sandbox by name."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from certferry import __version__
from certferry.present.layout import width
from release import version
from tests.support.tiers import long

LONGEST = 100  # seconds
COMMANDS = ("demo", "sandbox")


class Machine:
    """A fresh environment with the libraries of this environment, and with installed wheels of
    certferry.
    """

    def __init__(self, folder: Path) -> None:
        venv.create(folder / "venv", with_pip=False, symlinks=True)
        self.home = folder / "venv"
        [self.packages] = (self.home / "lib").glob("python3*/site-packages")
        libraries = folder / "libraries"
        libraries.mkdir()
        theirs = Path(next(path for path in sys.path if path.endswith("site-packages")))
        for path in theirs.iterdir():
            if "certferry" not in path.name:
                (libraries / path.name).symlink_to(path)
        (self.packages / "libraries.pth").write_text(f"{libraries}\n")

    def install(self, wheel: Path) -> None:
        """Install a wheel, without its dependencies."""
        pip = [sys.executable, "-m", "pip", "--python", str(self.home / "bin" / "python")]
        options = ["--quiet", "--no-index", "--no-deps", "--no-compile"]
        subprocess.run(
            [*pip, "--disable-pip-version-check", "install", *options, str(wheel)],
            check=True,
            timeout=LONGEST,
        )

    def run(self, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.home / "bin" / words[0]), *words[1:]],
            env={**os.environ, **environ},
            cwd=self.home,
            capture_output=True,
            text=True,
            check=False,
            timeout=LONGEST,
        )


@pytest.fixture(scope="module")
def operators(tmp_path_factory: pytest.TempPathFactory, wheels: tuple[Path, Path]) -> Machine:
    machine = Machine(tmp_path_factory.mktemp("operator"))
    machine.install(wheels[0])
    return machine


def test_the_wheel_has_no_stand_in(wheels: tuple[Path, Path]) -> None:
    """The wheel is a single package, without tools for authors and for practice."""
    with zipfile.ZipFile(wheels[0]) as archive:
        names = archive.namelist()

    folders = {name.partition("/")[0] for name in names}
    assert {"certferry", f"certferry-{version.current()}.dist-info"} == folders
    assert not [name for name in names if "testing" in name or "sandbox" in name]


def test_the_sandbox_requires_certferry_in_its_own_version(wheels: tuple[Path, Path]) -> None:
    """Pip refuses distributions of different releases, since tests never ran them together."""
    with zipfile.ZipFile(wheels[1]) as archive:
        metadata = archive.read(
            f"certferry_sandbox-{version.current()}.dist-info/METADATA"
        ).decode()
        names = archive.namelist()

    assert f"\nVersion: {version.current()}\n" in metadata
    assert f"\nRequires-Dist: certferry=={__version__}.*\n" in metadata
    assert "certferry_sandbox/py.typed" in names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert not [name for name in names if name.endswith("README.md")]


def test_commands_of_a_missing_sandbox_name_its_installation(operators: Machine) -> None:
    """The printed command is for the environment of certferry; the exit code is the code of
    usage.
    """
    sentences = {
        "en": "requires certferry-sandbox, which is not installed",
        "zh": "需要 certferry-sandbox",
    }
    for language, command in itertools.product(sentences, COMMANDS):
        ended = operators.run("certferry", "--lang", language, command)

        assert (2, "") == (ended.returncode, ended.stdout)
        assert f"`certferry {command}` {sentences[language]}" in ended.stderr
        places = f"CERTFERRY_HOME={operators.home} CERTFERRY_BIN={operators.home}/bin"
        assert f"{places} ./scripts/install --with demo" in ended.stderr


def test_the_command_that_adds_the_sandbox_leads_to_this_installation(
    operators: Machine, tmp_path: Path
) -> None:
    """Started through a link, certferry names the folder of the link: the machine's own command
    stays.
    """
    link = tmp_path / "certferry"
    link.symlink_to(operators.home / "bin" / "certferry")

    ended = operators.run(str(link), "demo")

    places = f"CERTFERRY_HOME={operators.home} CERTFERRY_BIN={tmp_path}"
    assert f"{places} ./scripts/install --with demo" in ended.stderr


def test_help_and_completion_work_without_the_sandbox(operators: Machine) -> None:
    """The help lists both commands, and the completion of a shell gives no error."""
    help_ = operators.run("certferry", "--help")
    completed = operators.run(
        "certferry",
        _CERTFERRY_COMPLETE="bash_complete",
        COMP_WORDS="certferry demo --",
        COMP_CWORD="2",
    )

    assert 0 == help_.returncode
    assert all(f"  {command} " in help_.stdout for command in COMMANDS)
    assert (0, "") == (completed.returncode, completed.stderr)


def test_the_sandbox_in_another_version_is_refused(operators: Machine) -> None:
    """An upgrade of certferry alone causes the refusal; the printed command installs both."""
    installed = operators.packages / "certferry_sandbox-0.0.1.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Name: certferry-sandbox\nVersion: 0.0.1\n")

    ended = operators.run("certferry", "demo")

    shutil.rmtree(installed)

    assert 2 == ended.returncode
    assert f"is version 0.0.1, certferry is version {version.current()}:" in ended.stderr
    assert "./scripts/install --with demo" in ended.stderr


@long
def test_with_the_sandbox_the_main_job_is_done_in_its_world(
    tmp_path: Path, wheels: tuple[Path, Path]
) -> None:
    """The two wheels are enough, and the demo speaks Chinese. Addresses and served certificates are
    in aligned columns, and a fingerprint has a single short form.
    """
    machine = Machine(tmp_path)
    for wheel in wheels:
        machine.install(wheel)

    ended = machine.run("certferry", "--lang", "zh", "demo", "--fast")

    assert 0 == ended.returncode, ended.stdout + ended.stderr
    assert "第二次运行：写入 0 次" in ended.stdout
    cast = re.findall(r"^(  .+?  +)(?:https?://\S+|127[\d.:, ]+)$", ended.stdout, re.MULTILINE)
    assert (6, 1) == (len(cast), len({width(label) for label in cast}))
    served = re.findall(r"^(  \S+ +)(127\S+ +\S+ +)→ ([0-9a-f]{12})$", ended.stdout, re.MULTILINE)
    assert 12 == len(served)
    assert 1 == len({(width(domain), width(before)) for domain, before, _ in served})
    assert 1 == len({after for _, _, after in served})
