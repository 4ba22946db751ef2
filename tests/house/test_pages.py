"""The pages that an installed user reads: in the package, in both languages, one source."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

from certferry.cli.commands import COMMANDS
from certferry.present.pages import FOLDERS, PAGES, pages, schemas
from tests.house.tree import ROOT, modules, relative

TYPED = re.compile(r"`certferry help ([a-z][a-z-]*)(?: ([a-z]+))?`")
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *modules()]


def shipped() -> set[str]:
    """Give what the pages of the checkout are called in a package."""
    return {
        f"certferry/pages/{folder}/{path.relative_to(ROOT / 'docs' / folder).as_posix()}"
        for folder in FOLDERS
        for path in (ROOT / "docs" / folder).rglob("*")
        if path.suffix in {".md", ".json"}
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that is made of the sources' archive, as a registry would do it."""
    folder = tmp_path_factory.mktemp("build")
    [sources] = SdistBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    with tarfile.open(sources) as archive:
        archive.extractall(folder, filter="data")
    [unpacked] = (path for path in folder.iterdir() if path.is_dir())
    [built] = WheelBuilder(str(unpacked)).build(directory=str(folder), versions=["standard"])
    return Path(built)


@pytest.fixture(scope="module")
def checkouts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that is made of a checkout."""
    folder = tmp_path_factory.mktemp("checkout")
    [built] = WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    return Path(built)


def test_every_page_is_in_the_wheel(wheel: Path) -> None:
    """Of the sources' archive, and of a checkout, where `pip install .` makes it."""
    with zipfile.ZipFile(wheel) as archive:
        assert shipped() <= set(archive.namelist())


def test_the_wheel_of_a_checkout_has_them_too(checkouts: Path) -> None:
    """What leads to the pages there is followed."""
    with zipfile.ZipFile(checkouts) as archive:
        assert shipped() <= set(archive.namelist())


@pytest.mark.parametrize("made_of", ["sources", "checkout"])
def test_the_rooms_pages_are_not_in_the_wheel(made_of: str, wheel: Path, checkouts: Path) -> None:
    """They are for those who read the code, and lie in the sources' archive."""
    with zipfile.ZipFile(wheel if made_of == "sources" else checkouts) as archive:
        assert [] == [name for name in archive.namelist() if name.endswith("README.md")]


def test_an_installed_user_reads_the_reference(wheel: Path, tmp_path: Path) -> None:
    """Without the checkout."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)  # noqa: S202 - our own wheel
    environ = {**os.environ, "PYTHONPATH": str(tmp_path), "CERTFERRY_LANG": "zh"}

    done = subprocess.run(
        [sys.executable, "-m", "certferry", "help", "config"],
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.startswith("配置\n")
    assert "propagation_timeout" in done.stdout


def test_the_package_has_no_copy_of_its_own() -> None:
    """In the checkout each folder leads to the one in docs/."""
    assert [(ROOT / "docs" / folder).resolve() for folder in FOLDERS] == [
        (PAGES / folder).resolve() for folder in FOLDERS
    ]


def test_every_page_is_there_in_both_languages() -> None:
    """Each leads to the other, in its first lines."""
    english, chinese = pages("en"), pages("zh")
    assert list(english) == list(chinese)
    for topic, page in english.items():
        assert page.path.with_suffix(".zh-CN.md") == chinese[topic].path
        for one, other in ((page, chinese[topic]), (chinese[topic], page)):
            head = "\n".join(one.text.splitlines()[:4])
            assert f"]({other.path.name})" in head, relative(one.path.resolve())


def test_what_is_said_to_be_helped_with_is_there() -> None:
    """Every `certferry help TOPIC` of a document, a page or a sentence prints something."""
    asked = {
        (topic, document)
        for path in DOCUMENTS
        for topic, document in TYPED.findall(path.read_text(encoding="utf-8"))
    }
    topics = {*pages("en"), *COMMANDS}

    assert ("config", "") in asked
    assert set() == {topic for topic, _ in asked} - topics
    assert set() == {document for _, document in asked if document} - set(schemas())
