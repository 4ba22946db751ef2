"""What `scripts/release` makes of a commit: the wheel, what an index shows of it, the papers."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator, Sequence
from email.message import Message
from email.parser import Parser
from pathlib import Path
from urllib.parse import unquote

import pytest
from readme_renderer.markdown import render

from certferry import __version__
from certferry.extras import how_to_install, how_to_install_with
from certferry.present.pages import FOLDERS, pages
from release import Refused, libraries, papers, version
from release.__main__ import export, release, scratch, table
from tests.house.tree import PACKAGE, ROOT
from tests.support.command import run_program
from tests.support.tiers import thorough
from tests.support.waiting import eventually

EXTRAS = {"apprise", "console", "demo", "keyring", "lexicon", "postgresql", "s3"}
"""What an operator may add to certferry."""
OURS = {"dev", "release", "site"}
READMES = ("README.md", "README.zh-CN.md")
LONGEST = 300  # seconds


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    """What the wheel says of itself."""
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        written = archive.read(name).decode()
    return Parser().parsestr(written)


# --- The wheel, and the source archive


def test_the_wheel_has_what_runs_and_no_more(wheel: Path) -> None:
    """Code, compiled catalogues, the console's files, the pages of `certferry help`; neither tests
    nor what such files were made from.
    """
    with zipfile.ZipFile(wheel) as archive:
        names = {name.removeprefix("certferry/") for name in archive.namelist()}

    made_from = re.compile(r"\.(map|pot?|pyc|ts|toml)$|(^|/)(tests?|sandbox)/|README")
    assert set() == {name for name in names if made_from.search(name)}
    static = {path.name for path in (PACKAGE / "console" / "static").iterdir()}
    assert {f"console/static/{name}" for name in static} <= names
    assert {"locale/zh/LC_MESSAGES/certferry.mo", "py.typed"} <= names
    assert {f"pages/{folder}" for folder in FOLDERS} == {
        "/".join(name.split("/")[:2]) for name in names if name.startswith("pages/")
    }


def test_the_sources_are_what_the_wheel_is_built_from(sources: Path) -> None:
    """Nothing else lies in the archive."""
    with tarfile.open(sources) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]

    tops = {name.partition("/")[0] for name in names}
    files = {"CHANGELOG.md", "LICENSE", "PKG-INFO", "pyproject.toml", ".gitignore", *READMES}
    assert files | {"docs", "release", "src"} == tops
    assert ["release/version.py"] == [name for name in names if name.startswith("release/")]
    folders = {name.split("/")[1] for name in names if name.startswith("docs/")}
    assert set(FOLDERS) == folders
    assert all(name.startswith("src/certferry/") for name in names if name.startswith("src/"))


def test_artefacts_are_as_small_as_they_may_be(
    wheels: tuple[Path, Path], sources: Path, tmp_path: Path
) -> None:
    """What grows beyond the number is refused by name, and so is what has no number."""
    papers.must_be_small([*wheels, sources])
    large, strange = tmp_path / "certferry-1-py3-none-any.whl", tmp_path / "certferry.rpm"
    for path in (large, strange):
        path.write_bytes(b"")
    os.truncate(large, 2_000_001)

    with pytest.raises(Refused, match=r"certferry-1-py3-none-any\.whl has 2,000,001 bytes"):
        papers.must_be_small([large])
    with pytest.raises(Refused, match=r"no size is set for certferry\.rpm"):
        papers.must_be_small([strange])


def test_what_an_index_shows_renders_and_leads_nowhere_that_is_not_there(metadata: Message) -> None:
    """Both READMEs, without pictures, with the command that prints a page in place of a link to it,
    and without what holds only as long as no index has the package.
    """
    assert "text/markdown" == metadata["Description-Content-Type"]
    shown = render(str(metadata.get_payload()))

    assert shown is not None
    assert [] == re.findall(r'(?:href|src)="(?!https://|#)[^"]*"', shown)
    assert "<img" not in shown
    anchors = {unquote(one) for one in re.findall(r'href="#([^"]+)"', shown)}
    assert anchors <= set(re.findall(r'id="([^"]+)"', shown))
    plain = re.sub(r"<[^>]+>", "", shown)
    assert 2 == plain.count("$ uv tool install certferry ")
    assert "From nothing to a served certificate" in plain
    assert "从零到用上证书" in plain
    assert not re.search(r"No index has|软件包索引里还没有|unpublished", plain)
    for language, link in (("en", ": "), ("zh", "：")):
        named = set(re.findall(rf"{link}certferry help ([a-z-]+)", plain))
        assert len(named) > 10, language
        assert named <= set(pages(language)), language


@pytest.mark.parametrize("readme", READMES)
def test_a_readme_says_that_no_index_has_the_package(readme: str) -> None:
    """Once, on the first screen, between the marks that take it out of what an index shows."""
    first = (ROOT / readme).read_text(encoding="utf-8").partition("\n## ")[0]

    [marked] = re.findall(r"<!-- unpublished -->(.*?)<!-- /unpublished -->", first, re.DOTALL)
    assert "./scripts/install" in marked


def test_the_metadata_is_whole(metadata: Message) -> None:
    """An index files it by these."""
    for name in ("Summary", "Author", "Keywords", "License-Expression", "Requires-Python"):
        assert metadata[name], name
    assert "2.4" == metadata["Metadata-Version"]
    assert "Development Status :: 3 - Alpha" in metadata.get_all("Classifier", [])
    assert "Operating System :: POSIX :: Linux" in metadata.get_all("Classifier", [])


def test_every_extra_is_pinned_and_explained(metadata: Message) -> None:
    """One list: what the wheel offers, `requirements/`, and the READMEs' table."""
    assert EXTRAS | OURS == set(metadata.get_all("Provides-Extra", []))
    files = {path.stem for path in (ROOT / "requirements").glob("*.txt")}
    assert EXTRAS | {"build", "certferry", "release"} == files
    for readme in READMES:
        text = (ROOT / readme).read_text(encoding="utf-8")
        rows = re.findall(r"^\| (`[^|]+`) \|", text.partition("## 先看|## See")[0], re.MULTILINE)
        named = {name for row in rows for name in re.findall(r"`([a-z0-9]+)`", row)}
        assert named >= EXTRAS, readme


@pytest.mark.parametrize(
    ("receipt", "command"),
    [
        ("uv-receipt.toml", "uv tool install --force"),
        ("pipx_metadata.json", "pipx install --force"),
    ],
)
def test_a_missing_extra_is_added_by_what_installed_certferry(
    receipt: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever that makes its environments. This one is made anew, so those that are there stay."""
    (tmp_path / receipt).touch()
    monkeypatch.setattr(sys, "prefix", str(tmp_path))

    for said in (str(how_to_install("keyring")), str(how_to_install_with("demo"))):
        assert said.startswith(f"run: {command} 'certferry[")
        assert {"demo", "console", "s3"} <= set(re.split(r"[\[\],]", said))


# --- The papers


def changelog(**parts: str) -> str:
    return "# Changelog\n" + "".join(f"\n## [{name}]\n\n{said}\n" for name, said in parts.items())


def test_notes_are_the_part_of_the_changelog(tmp_path: Path) -> None:
    """What operators have to do stands first; the wheel's hash is as the action takes it."""
    wheel = tmp_path / "certferry-1.2.3-py3-none-any.whl"
    wheel.write_bytes(b"wheel")
    said = "### Changed\n\n- One\n  goes on ([how](docs/how-to/upgrade.md)).\n- **To do:** act."

    changes = papers.part_of(changelog(Unreleased=said), "1.2.3")
    notes = papers.notes_of(wheel, changes)

    digest = hashlib.sha256(b"wheel").hexdigest()
    assert f'    version: "1.2.3 sha256:{digest}"\n' in notes
    assert "## To do\n\n- **To do:** act.\n\n## All changes\n\n### Changed\n" in notes
    assert "- One goes on (how: `certferry help upgrade`).\n" in notes


def test_a_version_that_is_named_counts_for_more_than_what_is_unreleased() -> None:
    """So that a release can be made again."""
    text = changelog(Unreleased="- New.", **{"1.2.3": "- Then."})

    assert "- Then." == papers.part_of(text, "1.2.3")
    assert "- New." == papers.part_of(text, "1.2.4")


@pytest.mark.parametrize("said", ["", "### Changed\n"])
def test_a_release_without_a_change_is_refused(said: str) -> None:
    """The CHANGELOG is what operators read before they upgrade."""
    with pytest.raises(Refused, match=r"CHANGELOG\.md has no change for 1\.2\.3"):
        papers.part_of(changelog(Unreleased=said), "1.2.3")


def test_notes_that_github_would_not_take_are_refused(tmp_path: Path) -> None:
    """Before anything is published; those of this version are taken."""
    wheel = tmp_path / f"certferry-{__version__}-py3-none-any.whl"
    wheel.write_bytes(b"")
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")

    assert papers.notes_of(wheel, papers.part_of(text, __version__))
    with pytest.raises(Refused, match="too long"):
        papers.notes_of(wheel, "- word\n" * 20_000)


# --- The command


def git(folder: Path, *words: str) -> None:
    who = ("-c", "user.name=test", "-c", "user.email=test@example.com")
    subprocess.run(["git", "-C", str(folder), *who, *words], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository in which nothing can be built, with a `dist` of an earlier release."""
    package = tmp_path / "repository" / "src" / "certferry"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text('"""It."""\n\n__version__ = "1.2.3"\n')
    root = tmp_path / "repository"
    (root / ".gitignore").write_text("/build/\n/dist/\n")
    (root / "dist").mkdir()
    (root / "dist" / "earlier").write_text("kept")
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--message=all")
    return root


def test_another_version_than_the_sources_is_refused() -> None:
    """In one sentence, with the exit code of usage."""
    command = [sys.executable, "-m", "release", "9.9.9"]
    done = run_program(command, os.environ, ROOT, longest=LONGEST)

    assert (2, "") == (done.returncode, done.stdout)
    assert re.fullmatch(r"release: .+\n", done.stderr)


def test_a_tree_that_is_not_committed_is_refused(repository: Path) -> None:
    """Changed, or new: what is released is a commit, which others can read."""
    with pytest.raises(Refused, match=r"is 1\.2\.3, not 1\.2\.4"):
        release("1.2.4", ["wheels"], repository)
    (repository / "new.py").write_text("")
    with pytest.raises(Refused, match=r"new\.py is not committed"):
        release("1.2.3", ["wheels"], repository)


def test_dist_is_replaced_whole_or_not_at_all(repository: Path) -> None:
    """A tool that fails leaves what was there, and nothing beside it."""
    with pytest.raises(subprocess.CalledProcessError):
        release("1.2.3", ["wheels"], repository)

    assert "kept" == (repository / "dist" / "earlier").read_text()
    assert [] == list((repository / "build").iterdir())


SLOW = """import os, pathlib, time
def build_sdist(*_):
    begun = pathlib.Path({begun!r})
    begun.with_suffix(".new").write_text(oct(os.umask(0)))
    begun.with_suffix(".new").rename(begun)
    while begun.exists():
        time.sleep(0.05)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL])
def test_a_release_that_is_killed_leaves_nothing(
    repository: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """Its tools are ended, and `dist` is as it was. After a kill at once the next release clears
    away. What is made is for every user, also where root's umask is another.
    """
    begun = tmp_path / "begun"
    shutil.copytree(ROOT / "release", repository / "release")
    (repository / "slow.py").write_text(SLOW.format(begun=str(begun)))
    (repository / "requirements").mkdir()
    (repository / "requirements" / "build.txt").touch()
    (repository / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "slow"\nbackend-path = ["."]\n'
    )
    (repository / ".gitignore").write_text("/build/\n/dist/\n__pycache__\n")
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "--message=slow")
    command = [sys.executable, "-m", "release", "1.2.3", "--only", "wheels"]
    environ = {**os.environ, "PYTHONPATH": str(repository), "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, cwd=repository, env=environ, umask=0o077) as process:
        assert eventually(begun.exists)
        process.send_signal(number)
    umask = begun.read_text()
    begun.unlink()  # ends what nothing could end
    if number is signal.SIGKILL:
        with scratch(repository / "build"):
            pass

    assert ("0o22", True) == (umask, process.returncode != 0)
    assert "kept" == (repository / "dist" / "earlier").read_text()
    assert [] == list((repository / "build").iterdir())


def test_artefacts_are_made_of_the_commit_alone(repository: Path, tmp_path: Path) -> None:
    """What git ignores is not in the tree, and every file has the commit's date."""
    tree = tmp_path / "tree"
    tree.mkdir()

    export(repository, tree)

    assert {".gitignore", "src"} == {path.name for path in tree.iterdir()}
    [line] = table([tree / ".gitignore"])
    assert re.fullmatch(r"[0-9a-f]{64} +15  \.gitignore", line)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A fresh clone with a release in `dist`, made with this checkout's tools."""
    folder = tmp_path_factory.mktemp("clone") / "certferry"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True, timeout=LONGEST)
    made(folder)
    yield folder
    shutil.rmtree(folder)


def made(clone: Path) -> dict[str, str]:
    """Make the release in a clone, and return the hash of each file."""
    command = [sys.executable, "-m", "release", __version__, "--only", "wheels"]
    environ = {**os.environ, "PYTHONPATH": str(clone)}
    subprocess.run(command, cwd=clone, env=environ, check=True, timeout=LONGEST)
    dist = clone / "dist"
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in dist.iterdir()}


@thorough
@pytest.mark.timeout(3 * LONGEST)
def test_a_commit_gives_the_same_bytes_twice(clone: Path) -> None:
    """From another folder, at another time; `sha256sum` agrees with the list."""
    first = {path.name: papers.sums_of([path]) for path in (clone / "dist").iterdir()}
    hashes = {name: next(iter(line)).split()[0] for name, line in first.items()}

    assert hashes == made(clone)
    command = ["sha256sum", "--check", "--strict", "--quiet", papers.SUMS]
    subprocess.run(command, cwd=clone / "dist", check=True)
    listed = (clone / "dist" / papers.SUMS).read_text(encoding="utf-8").split()[1::2]
    assert sorted(hashes) == sorted([*listed, papers.SUMS])


@thorough
@pytest.mark.timeout(3 * LONGEST)
@pytest.mark.parametrize(
    ("more", "files"), [("", ("certferry",)), ("-packages", ("certferry", *libraries.EXTRAS))]
)
def test_the_list_of_parts_names_every_pinned_library(
    clone: Path, more: str, files: Sequence[str]
) -> None:
    """In CycloneDX 1.6, with certferry itself as what it is about; that of the packages has the
    libraries of their extras as well.
    """
    written = (clone / "dist" / f"certferry-{__version__}{more}.cdx.json").read_text("utf-8")
    parts = json.loads(written)

    named = {(part["name"].lower(), part["version"]) for part in parts["components"]}
    pins = [(ROOT / "requirements" / f"{name}.txt").read_text("utf-8") for name in files]
    always = set(re.findall(r"^([\w.-]+)==(\S+) \\$", "".join(pins), re.MULTILINE))
    assert ("CycloneDX", "1.6") == (parts["bomFormat"], parts["specVersion"])
    assert ("certferry", __version__) == tuple(
        parts["metadata"]["component"][key] for key in ("name", "version")
    )
    assert always
    assert always <= {(name.replace("_", "-"), version) for name, version in named}
    assert str(clone.parent) not in written


@thorough
@pytest.mark.timeout(3 * LONGEST)
def test_uv_installs_certferry_from_an_index(clone: Path, tmp_path: Path) -> None:
    """By the README's first line, with `dist` in the place of an index's certferry. What serves the
    console is added by the command that `certferry serve` names.
    """
    places = {"HOME": str(tmp_path), "XDG_DATA_HOME": "", "XDG_BIN_HOME": "", "UV_TOOL_DIR": ""}
    index = {"UV_FIND_LINKS": str(clone / "dist"), "UV_SYSTEM_CERTS": "1"}
    cache = os.environ.get("UV_CACHE_DIR", str(Path.home() / ".cache" / "uv"))
    bins = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environ = {**os.environ, **places, **index, "UV_CACHE_DIR": cache, "PATH": bins}
    environ = {name: value for name, value in environ.items() if value}

    def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
        return run_program(words, environ, tmp_path, longest=LONGEST)

    certferry = tmp_path / ".local" / "bin" / "certferry"
    installed = run("uv", "tool", "install", "certferry")
    assert 0 == installed.returncode, installed.stderr
    assert f"certferry {__version__}" == run(certferry, "--version").stdout.strip()
    config = tmp_path / "certferry.toml"
    config.write_text('[console]\nlisten = "127.0.0.1:0"\n')
    config.chmod(0o600)
    missing = run(certferry, "--config", config, "serve")
    [command] = re.findall(r"uv tool install .+", missing.stderr)
    assert 0 == run("sh", "-c", command).returncode
    python = tmp_path / ".local" / "share" / "uv" / "tools" / "certferry" / "bin" / "python"
    assert 0 == run(python, "-c", "import certferry.console.process").returncode
    every = f"certferry[{','.join(sorted(EXTRAS))}]"
    resolved = run("uv", "pip", "install", "--dry-run", f"--target={tmp_path / 'all'}", every)
    assert 0 == resolved.returncode, resolved.stderr


# --- The version


def test_the_version_stands_in_one_place() -> None:
    """`pyproject.toml` has none of its own: what is built has that of the source."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    assert "version" in project["dynamic"]


def test_versions_between_releases_tell_themselves_apart(repository: Path) -> None:
    """Each commit has its own: before the tag of its release lower than the release, after the tag
    higher.
    """

    def commit() -> str:
        git(repository, "commit", "--quiet", "--allow-empty", "--message=next")
        asked = ["git", "-C", str(repository), "rev-parse", "--short=7", "HEAD"]
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()

    second = commit()
    assert f"1.2.3.dev2+g{second}" == version.current(repository)
    git(repository, "tag", "v1.2.3")
    assert "1.2.3" == version.current(repository)
    third = commit()
    assert f"1.2.3.post1+g{third}" == version.current(repository)
    source = repository / version.SOURCE
    source.write_text(source.read_text().replace("1.2.3", "1.3.0"))
    assert f"1.3.0.dev1+g{third}" == version.current(repository)


def test_a_tree_without_git_has_the_version_of_its_source(repository: Path) -> None:
    """A source archive, and what a release is made of: also inside another repository."""
    tree = repository / "build" / "tree"
    tree.mkdir(parents=True)
    export(repository, tree)

    assert "1.2.3" == version.current(tree)


def test_what_is_built_keeps_the_version(wheels: tuple[Path, Path], sources: Path) -> None:
    """The archive's name, what the wheel says of itself, and what `certferry --version`, the report
    of `doctor` and every request say, are one.
    """
    now = version.current()

    assert f"certferry-{now}.tar.gz" == sources.name
    assert [f"certferry-{now}", f"certferry_sandbox-{now}"] == [
        path.name.removesuffix("-py3-none-any.whl") for path in wheels
    ]
    with zipfile.ZipFile(wheels[0]) as archive:
        kept = [name for name in archive.namelist() if name == "certferry/__init__.py"]
        source = archive.read(kept[0]).decode()
    assert f'__version__ = "{now}"\n' in source
    assert (ROOT / version.SOURCE).read_text("utf-8").partition("\n")[0] in source
