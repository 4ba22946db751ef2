"""The results of `scripts/release`: the wheel, its page in an index, and the papers."""

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
"""The extras that an operator may add to certferry."""
OURS = {"dev", "release", "site"}
READMES = ("README.md", "README.zh-CN.md")
LONGEST = 300  # seconds


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    """Return the metadata of the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        text = archive.read(name).decode()
    return Parser().parsestr(text)


# --- The wheel, and the source archive


def test_the_wheel_has_only_files_for_running(wheel: Path) -> None:
    """The wheel has code, compiled catalogues, the console's files and the pages of `certferry
    help`, without tests and without the sources of such files.
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


def test_the_source_archive_has_the_files_of_the_wheel(sources: Path) -> None:
    """The archive has no other files."""
    with tarfile.open(sources) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]

    tops = {name.partition("/")[0] for name in names}
    files = {"CHANGELOG.md", "LICENSE", "PKG-INFO", "pyproject.toml", ".gitignore", *READMES}
    assert files | {"docs", "release", "src"} == tops
    assert ["release/version.py"] == [name for name in names if name.startswith("release/")]
    folders = {name.split("/")[1] for name in names if name.startswith("docs/")}
    assert set(FOLDERS) == folders
    assert all(name.startswith("src/certferry/") for name in names if name.startswith("src/"))


def test_artefacts_have_limits_of_size(
    wheels: tuple[Path, Path], sources: Path, tmp_path: Path
) -> None:
    """An artefact above its limit is refused by name, and so is an artefact without a limit."""
    papers.must_be_small([*wheels, sources])
    large, strange = tmp_path / "certferry-1-py3-none-any.whl", tmp_path / "certferry.rpm"
    for path in (large, strange):
        path.write_bytes(b"")
    os.truncate(large, 2_000_001)

    with pytest.raises(Refused, match=r"certferry-1-py3-none-any\.whl has 2,000,001 bytes"):
        papers.must_be_small([large])
    with pytest.raises(Refused, match=r"no size is set for certferry\.rpm"):
        papers.must_be_small([strange])


def test_the_page_of_an_index_renders_with_valid_links(metadata: Message) -> None:
    """Both READMEs are shown without pictures, with commands that print a page instead of links to
    it, and without the sentences for an unpublished package.
    """
    assert "text/markdown" == metadata["Description-Content-Type"]
    shown = render(str(metadata.get_payload()))

    assert shown is not None
    assert [] == re.findall(r'(?:href|src)="(?!https://|#)[^"]*"', shown)
    assert "<img" not in shown
    anchors = {unquote(anchor) for anchor in re.findall(r'href="#([^"]+)"', shown)}
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
    """The sentence is once on the first screen, between the marks that remove it for an index."""
    first = (ROOT / readme).read_text(encoding="utf-8").partition("\n## ")[0]

    [marked] = re.findall(r"<!-- unpublished -->(.*?)<!-- /unpublished -->", first, re.DOTALL)
    assert "./scripts/install" in marked


def test_the_metadata_is_whole(metadata: Message) -> None:
    """An index classifies the package by these fields."""
    for name in ("Summary", "Author", "Keywords", "License-Expression", "Requires-Python"):
        assert metadata[name], name
    assert "2.4" == metadata["Metadata-Version"]
    assert "Development Status :: 3 - Alpha" in metadata.get_all("Classifier", [])
    assert "Operating System :: POSIX :: Linux" in metadata.get_all("Classifier", [])


def test_every_extra_is_pinned_and_explained(metadata: Message) -> None:
    """The wheel, `requirements/` and the READMEs' table have the same extras."""
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
def test_a_missing_extra_is_added_by_the_same_installer(
    receipt: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The installer creates the environment anew, so the command keeps the existing extras."""
    (tmp_path / receipt).touch()
    monkeypatch.setattr(sys, "prefix", str(tmp_path))

    for command_line in (str(how_to_install("keyring")), str(how_to_install_with("demo"))):
        assert command_line.startswith(f"run: {command} 'certferry[")
        assert {"demo", "console", "s3"} <= set(re.split(r"[\[\],]", command_line))


# --- The papers


def changelog(**parts: str) -> str:
    return "# Changelog\n" + "".join(
        f"\n## [{name}]\n\n{changes}\n" for name, changes in parts.items()
    )


def test_notes_are_the_part_of_the_changelog(tmp_path: Path) -> None:
    """Tasks for operators come first; the wheel's hash has the form of the action's input."""
    wheel = tmp_path / "certferry-1.2.3-py3-none-any.whl"
    wheel.write_bytes(b"wheel")
    changes_of_release = (
        "### Changed\n\n- One\n  goes on ([how](docs/how-to/upgrade.md)).\n- **To do:** act."
    )

    changes = papers.part_of(changelog(Unreleased=changes_of_release), "1.2.3")
    notes = papers.notes_of(wheel, changes)

    digest = hashlib.sha256(b"wheel").hexdigest()
    assert f'    version: "1.2.3 sha256:{digest}"\n' in notes
    assert "## To do\n\n- **To do:** act.\n\n## All changes\n\n### Changed\n" in notes
    assert "- One goes on (how: `certferry help upgrade`).\n" in notes


def test_a_named_version_counts_before_unreleased_changes() -> None:
    """An earlier release can be made again."""
    text = changelog(Unreleased="- New.", **{"1.2.3": "- Then."})

    assert "- Then." == papers.part_of(text, "1.2.3")
    assert "- New." == papers.part_of(text, "1.2.4")


@pytest.mark.parametrize("changes", ["", "### Changed\n"])
def test_a_release_without_a_change_is_refused(changes: str) -> None:
    """Operators read the CHANGELOG before an upgrade."""
    with pytest.raises(Refused, match=r"CHANGELOG\.md has no change for 1\.2\.3"):
        papers.part_of(changelog(Unreleased=changes), "1.2.3")


def test_notes_that_github_would_not_take_are_refused(tmp_path: Path) -> None:
    """The refusal comes before the publication; notes of this version are accepted."""
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
    """Return a repository without a build, with a `dist` of an earlier release."""
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
    """The refusal is a single sentence, with the exit code of usage."""
    command = [sys.executable, "-m", "release", "9.9.9"]
    done = run_program(command, os.environ, ROOT, longest=LONGEST)

    assert (2, "") == (done.returncode, done.stdout)
    assert re.fullmatch(r"release: .+\n", done.stderr)


def test_a_tree_that_is_not_committed_is_refused(repository: Path) -> None:
    """Changed and new files are refused: a release is a commit that others can read."""
    with pytest.raises(Refused, match=r"is 1\.2\.3, not 1\.2\.4"):
        release("1.2.4", ["wheels"], repository)
    (repository / "new.py").write_text("")
    with pytest.raises(Refused, match=r"new\.py is not committed"):
        release("1.2.3", ["wheels"], repository)


def test_dist_is_replaced_whole_or_not_at_all(repository: Path) -> None:
    """A failing tool leaves the earlier `dist`, and no other files."""
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
def test_a_killed_release_leaves_dist_unchanged(
    repository: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """Its tools are ended, and `dist` is unchanged. After SIGKILL the next release removes the
    remains. New files are readable for every user, also under a strict umask of root.
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
    begun.unlink()  # ends a tool that survived SIGKILL
    if number is signal.SIGKILL:
        with scratch(repository / "build"):
            pass

    assert ("0o22", True) == (umask, process.returncode != 0)
    assert "kept" == (repository / "dist" / "earlier").read_text()
    assert [] == list((repository / "build").iterdir())


def test_artefacts_are_made_of_the_commit_alone(repository: Path, tmp_path: Path) -> None:
    """Ignored files are left out, and every file has the commit's date."""
    tree = tmp_path / "tree"
    tree.mkdir()

    export(repository, tree)

    assert {".gitignore", "src"} == {path.name for path in tree.iterdir()}
    [line] = table([tree / ".gitignore"])
    assert re.fullmatch(r"[0-9a-f]{64} +15  \.gitignore", line)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a fresh clone with a release in `dist`, made with this checkout's tools."""
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
    """The second build is in another folder, at another time; `sha256sum` agrees with the list."""
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
    """The list is CycloneDX 1.6 about certferry itself; the list of the packages adds the libraries
    of their extras.
    """
    document = (clone / "dist" / f"certferry-{__version__}{more}.cdx.json").read_text("utf-8")
    parts = json.loads(document)

    named = {(part["name"].lower(), part["version"]) for part in parts["components"]}
    pins = [(ROOT / "requirements" / f"{name}.txt").read_text("utf-8") for name in files]
    always = set(re.findall(r"^([\w.-]+)==(\S+) \\$", "".join(pins), re.MULTILINE))
    assert ("CycloneDX", "1.6") == (parts["bomFormat"], parts["specVersion"])
    assert ("certferry", __version__) == tuple(
        parts["metadata"]["component"][key] for key in ("name", "version")
    )
    assert always
    assert always <= {(name.replace("_", "-"), version) for name, version in named}
    assert str(clone.parent) not in document


@thorough
@pytest.mark.timeout(3 * LONGEST)
def test_uv_installs_certferry_from_an_index(clone: Path, tmp_path: Path) -> None:
    """The README's first line is run, with `dist` as an index for certferry. The command that
    `certferry serve` prints adds the console.
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


def test_the_version_stands_in_a_single_place() -> None:
    """`pyproject.toml` has no version, so builds take the version of the source."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    assert "version" in project["dynamic"]


def test_every_commit_has_its_own_version(repository: Path) -> None:
    """Before the tag of its release a commit's version is lower than the release, after the tag
    higher.
    """

    def commit() -> str:
        git(repository, "commit", "--quiet", "--allow-empty", "--message=next")
        command = ["git", "-C", str(repository), "rev-parse", "--short=7", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

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
    """A source archive and the tree of a release have no git, even inside another repository."""
    tree = repository / "build" / "tree"
    tree.mkdir(parents=True)
    export(repository, tree)

    assert "1.2.3" == version.current(tree)


def test_builds_keep_the_version(wheels: tuple[Path, Path], sources: Path) -> None:
    """The archive's name, the wheel's metadata, `certferry --version`, the report of `doctor` and
    every request have the same version.
    """
    now = version.current()

    assert f"certferry-{now}.tar.gz" == sources.name
    assert [f"certferry-{now}", f"certferry_sandbox-{now}"] == [
        path.name.removesuffix("-py3-none-any.whl") for path in wheels
    ]
    with zipfile.ZipFile(wheels[0]) as archive:
        sources_in_wheel = [name for name in archive.namelist() if name == "certferry/__init__.py"]
        source = archive.read(sources_in_wheel[0]).decode()
    assert f'__version__ = "{now}"\n' in source
    assert (ROOT / version.SOURCE).read_text("utf-8").partition("\n")[0] in source
