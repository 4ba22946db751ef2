"""The setup of a fresh machine by `scripts/setup`, and the search for programs of tests."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Collection
from pathlib import Path

import pytest

from tests.house.tree import ROOT
from tests.support.programs import TABLE, packages, program_path

SYSTEM = ("bash", "cat", "cp", "dirname", "env", "grep", "id", "sha256sum", "sh")
APT_CACHE = """#!/bin/sh
case " {offered} " in *" $2 "*) echo "  Candidate: 1.0" ;; *) echo "  Candidate: (none)" ;; esac
i=0; while [ $i -lt 9999 ]; do echo "     of a mirror $i"; i=$((i + 1)); done
"""
"""An answer so long that a reader who stops in the middle makes the writer fail."""
APT_GET = """#!/bin/sh
echo "apt-get $1" >>{log}
[ "$1" = update ] && exit
for package; do
    while read -r name wanted; do
        case " $wanted " in *" $package "*) cp {bin}/true {bin}/${{name%%|*}} ;; esac
    done <{table}
done
cp {bin}/true {bin}/installed
"""
LISTED = '#!/bin/sh\n[ ! -e "${{0%/*}}/installed" ] || echo {name}\n'
PEBBLE = "#!/bin/sh\necho -dnsserver\n"


class Fresh:
    """A checkout on an empty machine, with an apt that offers these packages."""

    def __init__(self, folder: Path, offered: Collection[str]) -> None:
        self.folder = folder
        self.log = folder / "log"
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.checkout = folder / "checkout"
        for path in ("scripts/setup", "pyproject.toml", "sandbox/pyproject.toml"):
            (self.checkout / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, self.checkout / path)
        table = self.checkout / TABLE.relative_to(ROOT)
        table.parent.mkdir(parents=True)
        shutil.copy(TABLE, table)
        for name in SYSTEM:
            (self.bin / name).symlink_to(shutil.which(name) or name)
        self.write("true", "#!/bin/sh\n")
        self.write("apt-cache", APT_CACHE.format(offered=" ".join(offered)))
        self.write("apt-get", APT_GET.format(log=self.log, bin=self.bin, table=table))
        self.write("fc-list", LISTED.format(name="Noto"))
        self.write("ldconfig", LISTED.format(name="libatomic.so.1"))
        self.write("pebble", PEBBLE)
        self.write("python", f'#!/bin/sh\necho "python $*" >>{self.log}\n')
        (self.checkout / ".venv/bin").mkdir(parents=True)
        (self.bin / "python").rename(self.checkout / ".venv/bin/python")

    def write(self, name: str, text: str) -> None:
        path = self.bin / name
        path.write_text(text)
        path.chmod(0o755)

    def setup(self, *words: str, user: int = 0) -> subprocess.CompletedProcess[str]:
        """Run `scripts/setup` as this user, who has no sudo; return the ended process."""
        (self.bin / "id").unlink()
        self.write("id", f"#!/bin/sh\necho {user}\n")
        self.log.write_text("")
        return subprocess.run(
            [self.checkout / "scripts/setup", *words],
            env={"PATH": str(self.bin)},
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def done(self) -> list[str]:
        """The commands of apt and pip, without the questions for the version of Python."""
        words = [row.split()[:2] for row in self.log.read_text().splitlines()]
        return [" ".join(row) for row in words if row[1] not in ("-c", "-VV")]


EVERY = {package for wanted in packages().values() for package in wanted}
OTHERS = {"fonts-noto-cjk", "fontconfig", "libatomic1"}


def test_distribution_without_two_programs(tmp_path: Path) -> None:
    """Available packages are installed in a single step; missing packages are reported, and apt is
    asked once.
    """
    fresh = Fresh(tmp_path, (EVERY | OTHERS) - {"acme.sh", "kustomize"})

    done = fresh.setup()

    assert 0 == done.returncode, done.stderr
    assert ["apt-get update", "apt-get install", "python -m", "python -m"] == fresh.done
    lacking = [row for row in done.stderr.splitlines() if "will be skipped" in row]
    assert [
        f"setup: there is no {name} for this system: the tests that need it will be skipped"
        for name in ("acme.sh", "kustomize")
    ] == lacking
    again = fresh.setup()
    assert ([], 0, "") == (fresh.done, again.returncode, again.stderr)


def test_the_demo_needs_no_program_of_the_tests(tmp_path: Path) -> None:
    """The demo installs Python, Pebble, and certferry with its console; the tests' programs come
    later.
    """
    fresh = Fresh(tmp_path, EVERY | OTHERS)

    assert 0 == fresh.setup("--demo").returncode

    assert ["python -m", "python -m"] == fresh.done
    assert ".[console]" in fresh.log.read_text()
    assert 0 == fresh.setup().returncode
    assert ["apt-get update", "apt-get install", "python -m", "python -m"] == fresh.done
    assert ".[dev]" in fresh.log.read_text()
    assert 0 == fresh.setup("--demo").returncode
    assert [] == fresh.done


def test_user_without_root(tmp_path: Path) -> None:
    """If packages are missing, the command for root is printed; otherwise the user needs no
    root.
    """
    fresh = Fresh(tmp_path, EVERY | OTHERS)

    refused = fresh.setup(user=1000)

    assert 1 == refused.returncode
    assert "installing needs root or sudo, please run: apt-get install cron" in refused.stderr
    assert [] == fresh.done
    assert 0 == fresh.setup().returncode
    again = fresh.setup(user=1000)
    assert ([], 0, "") == (fresh.done, again.returncode, again.stderr)


@pytest.mark.parametrize(
    ("offered", "ends"),
    [("", pytest.skip.Exception), ("acme.sh openssl", pytest.fail.Exception)],
    ids=["lacks", "offers"],
)
def test_missing_program(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    offered: str,
    ends: type[BaseException],
) -> None:
    """Its test is skipped if the distribution has no such package, and fails otherwise."""
    fresh = Fresh(tmp_path, offered.split())
    monkeypatch.setenv("PATH", str(fresh.bin))

    with pytest.raises(ends, match=r"acme\.sh"):
        program_path("acme.sh")


def test_existing_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An alternative with the same function is enough."""
    fresh = Fresh(tmp_path, ())
    fresh.write("kustomize", "")
    monkeypatch.setenv("PATH", f"{fresh.bin}{os.pathsep}/nowhere")

    assert str(fresh.bin / "kustomize") == program_path("kubectl")
