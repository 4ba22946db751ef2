"""The documents agree with the sources: READMEs, guides, promises, drawings, rooms, the
glossary.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
import tomllib
from operator import attrgetter
from pathlib import Path

import click
import pytest

from certferry import errors
from certferry.adapters.aliyun import alidns
from certferry.adapters.cloudflare import dns as cloudflare
from certferry.adapters.dnspod import dns as dnspod
from certferry.adapters.qiniu import target as qiniu
from certferry.cli import main as front_desk
from certferry.config.certificates import SETTINGS
from certferry.config.load import load
from certferry.errors import ConfigError
from certferry.present.pages import pages
from certferry.wiring.settings import ADAPTERS
from tests.house.main_path import MOST_FILES, MOST_LINES, MainPath, walked
from tests.house.named_tests import missing_tests, named_tests
from tests.house.tree import PACKAGE, ROOT, SANDBOX, relative

# --- The READMEs name exactly the existing commands and settings, in both languages


README = ROOT / "README.md"
READMES = (README, ROOT / "README.zh-CN.md")
PAGE = ROOT / "docs" / "reference" / "config.md"
PAGES = (PAGE, PAGE.with_suffix(".zh-CN.md"))
GUIDES = sorted((ROOT / "docs" / "how-to").glob("*.md"))
HELP = sorted((ROOT / "docs" / "help").glob("*.md"))
TOML = re.compile(r"^```toml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ENV_FILE = "/etc/ssl/.cdn-env"
CODE = re.compile(r"^```.*?^```$|`[^`]*`|\]\([^)]*\)", re.MULTILINE | re.DOTALL)
AS_PRINTED = "证书未变更,跳过同步"
"""The single sentence with a half-width comma, which operators search their logs for."""

every_readme = pytest.mark.parametrize("readme", READMES, ids=relative)
every_settings_page = pytest.mark.parametrize("page", PAGES, ids=relative)


def commands() -> set[str]:
    [group] = {value for value in vars(front_desk).values() if isinstance(value, click.Group)}
    with click.Context(group) as context:
        return set(group.list_commands(context))


def global_options() -> set[str]:
    """Return the options before the command."""
    options = [p for p in front_desk.program.params if isinstance(p, click.Option)]
    return {min(option.opts, key=len) for option in options} - {"--version"}


def examples(document: Path) -> list[str]:
    """Return the configurations in a README or a page. The page of all settings is a single
    configuration, with a part in each section.
    """
    parts = TOML.findall(document.read_text(encoding="utf-8"))
    return ["\n".join(parts)] if document in PAGES else parts


def known_keys(tmp_path: Path) -> set[str]:
    """Return every setting, from the loader's errors for an unknown key in each table."""
    config = tmp_path / "unknown.toml"
    deploy = '[[certificates.deploy]]\nto = "qiniu"'
    imported = '[[certificates]]\nfullchain = "f"\nprivkey = "p"'
    tables = (
        "",
        "[state]",
        "[acme]",
        "[dns]",
        "[verify]",
        "[console]",
        "[[certificates]]",
        deploy,
        imported,
    )

    config.write_text("\n".join(f"{table}\nzqj = 1" for table in tables) + "\n[accounts.qiniu]\n")
    with pytest.raises(ConfigError) as refused:
        load(config, {"HOME": str(tmp_path)}, ADAPTERS)
    listed = re.findall(r"zqj: unknown key; known are (.*)", str(refused.value))
    assert len(tables) == len(listed)
    keys = {key for words in listed for key in words.split(", ")}
    for settings in (qiniu.Settings, alidns.Settings, cloudflare.Settings, dnspod.Settings):
        keys |= {field.name for field in dataclasses.fields(settings)}
    return keys.union(*SETTINGS.values())


@every_readme
def test_every_command_has_a_row(readme: Path) -> None:
    """An operator finds each command in the table, once."""
    rows = re.findall(r"^\| `certferry ([a-z-]+)", readme.read_text(encoding="utf-8"), re.MULTILINE)

    assert sorted(commands()) == sorted(rows)


@every_readme
def test_a_readme_names_existing_commands(readme: Path) -> None:
    """Each command of a README can be typed."""
    typed = set(
        re.findall(
            r"^(?:[$#] )?certferry (?:--\S+ \S+ )?([a-z]+)\b",
            readme.read_text(encoding="utf-8"),
            re.MULTILINE,
        )
    )

    assert typed
    assert typed <= commands()


@every_readme
def test_the_options_before_the_command_are_described(readme: Path) -> None:
    """All global options are in the README."""
    text = readme.read_text(encoding="utf-8")

    assert [] == [option for option in global_options() if f"`{option}" not in text]


@pytest.mark.parametrize("document", [*READMES, *PAGES, *GUIDES, *HELP], ids=relative)
def test_every_shown_configuration_loads(document: Path, tmp_path: Path) -> None:
    """Every block loads unchanged, with the files that it names."""
    keys = tmp_path / "keys"
    keys.write_text('export QINIU_AK="a"\nexport QINIU_SK="s"\n')
    keys.chmod(0o600)
    for bundle in ("ca.pem", "root.pem"):
        (tmp_path / bundle).touch()

    assert document not in (*READMES, *PAGES) or examples(document)
    for number, configuration in enumerate(examples(document)):
        config = tmp_path / f"{number}.toml"
        config.write_text(configuration.replace(ENV_FILE, str(keys)), encoding="utf-8")

        assert load(config, {"HOME": str(tmp_path)}, ADAPTERS).certificates


@pytest.mark.parametrize("document", [ROOT / "SECURITY.md", *GUIDES], ids=relative)
def test_the_tests_that_a_document_names_exist(document: Path) -> None:
    """Each promise, and each step of a recipe, has an existing test."""
    assert [] == missing_tests(document.read_text(encoding="utf-8"))


@every_settings_page
def test_every_setting_is_on_the_page(page: Path, tmp_path: Path) -> None:
    """Errors send their readers to the page."""
    shown = "".join(examples(page))

    missing = {key for key in known_keys(tmp_path) if not re.search(rf"\b{key}\b", shown)}

    assert set() == missing


@pytest.mark.parametrize("documents", [READMES, PAGES], ids=["readme", "page"])
def test_both_languages_show_the_same_settings(documents: tuple[Path, Path]) -> None:
    """The tables have the same values, in the same order."""
    english, chinese = (
        [tomllib.loads(configuration) for configuration in examples(each)] for each in documents
    )

    assert english == chinese


@pytest.mark.parametrize(
    "document", [*ROOT.glob("*.zh-CN.md"), *ROOT.glob("docs/**/*.zh-CN.md")], ids=relative
)
def test_chinese_has_chinese_punctuation(document: Path) -> None:
    """Outside code, half-width marks never stand beside a Chinese character."""
    prose = CODE.sub("`", document.read_text(encoding="utf-8").replace(AS_PRINTED, ""))

    half_width = re.findall(
        r"[^\n]{0,12}(?:[\u4e00-\u9fff`][,:;?!()]|[,;?!()][\u4e00-\u9fff`])", prose
    )

    assert [] == half_width


@pytest.mark.parametrize("script", ["./scripts/demo", "./scripts/test"])
@every_readme
def test_a_readme_has_the_two_commands(script: str, readme: Path) -> None:
    """Demo and tests are a single command each."""
    assert script in readme.read_text(encoding="utf-8")
    assert (ROOT / script).exists()


@every_readme
def test_the_contents_of_a_readme_are_its_headings(readme: Path) -> None:
    """The first screen links to exactly the sections."""
    text = readme.read_text(encoding="utf-8")
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    contents = text.partition("\n## ")[0].rpartition("**")[2]

    assert headings == re.findall(r"\[([^]]+)\]\(#", contents)
    anchors = [heading.lower().replace(" ", "-") for heading in headings]
    assert anchors == re.findall(r"\]\(#([^)]+)\)", contents)


# --- The guides agree in both languages


CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_guides_agree_in_both_languages() -> None:
    """Tests, commands and settings are the same, in the same order."""
    chinese = [guide for guide in GUIDES if guide.name.endswith(".zh-CN.md")]
    assert chinese
    for guide in chinese:
        english = guide.with_name(guide.name.replace(".zh-CN", ""))
        settings = [
            [
                re.sub(r"\s*#.*", "", block_of_toml)
                for block_of_toml in TOML.findall(guide_in_language.read_text("utf-8"))
            ]
            for guide_in_language in (guide, english)
        ]
        tests = [
            named_tests(guide_in_language.read_text("utf-8"))
            for guide_in_language in (guide, english)
        ]
        assert tests[0]
        assert tests[0] == tests[1]
        assert settings[0] == settings[1]
        typed = [
            [
                block.replace("--lang zh ", "")
                for block in CONSOLE.findall(guide_in_language.read_text("utf-8"))
            ]
            for guide_in_language in (guide, english)
        ]
        assert typed[0] == typed[1]


def test_both_languages_help_in_the_same_way() -> None:
    """Commands, settings and the words that lead to a page are the same."""
    english, chinese = pages("en"), pages("zh")
    for topic in (page.stem for page in HELP if "." not in page.stem):
        english_page, chinese_page = english[topic], chinese[topic]
        assert set(english_page.pasted) == set(chinese_page.pasted)
        for block in (CONSOLE, TOML):
            assert block.findall(english_page.text) == block.findall(chinese_page.text)


# --- The promises of SECURITY.md have tests


def promises() -> list[str]:
    """Return each promise, with its tests."""
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    promised = text.partition("\n## What is promised\n")[2].partition("\n## ")[0]
    return re.findall(r"^- .*(?:\n  .*)*", promised, re.MULTILINE)


def test_every_promise_names_its_test() -> None:
    """A promise without a test is not made."""
    assert promises()
    assert [] == [promise for promise in promises() if not named_tests(promise)]


# --- The glossary has few words, each with an existing type


MOST_WORDS = 25
ROW = re.compile(r"^\| (\w+) \| (.+?) \| `([\w.]+)\.(\w+)` \|$", re.MULTILINE)

WORDS = ROW.findall(
    (ROOT / "docs" / "glossary.md")
    .read_text(encoding="utf-8")
    .partition("## Words")[2]
    .partition("\n## ")[0]
)


def test_the_words_are_few_and_listed_once() -> None:
    """A new word needs to replace an old word."""
    assert 0 < len(WORDS) <= MOST_WORDS
    assert len({word for word, *_ in WORDS}) == len(WORDS)


@pytest.mark.parametrize(("word", "sentence", "module", "name"), WORDS)
def test_a_word_has_a_sentence_and_a_type(word: str, sentence: str, module: str, name: str) -> None:
    """The type is in the given module."""
    assert sentence.endswith(".")
    assert ". " not in sentence
    assert hasattr(importlib.import_module(f"certferry.{module}"), name), word


@pytest.mark.parametrize("document", ["ARCHITECTURE.md", "STYLE.md"])
def test_pages_for_newcomers_link_to_the_glossary(document: str) -> None:
    """The pages have a link to the glossary."""
    assert "(docs/glossary.md)" in (ROOT / document).read_text(encoding="utf-8")


# --- The drawings in the documents equal the sources


LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]+))?\)")
HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINKED = [
    *ROOT.glob("*.md"),
    *ROOT.glob("docs/**/*.md"),
    *PACKAGE.rglob("README.md"),
    *(ROOT / "sandbox").rglob("README.md"),
    *(ROOT / "deploy").rglob("*.md"),
]
BRANCH = re.compile(r"^(?P<stem>(?:│   |    )*)[├└]── (?P<name>[\w./]+)")


def drawn(drawing: str) -> list[tuple[int, str]]:
    """Return depth and name of each branch of a tree drawn with `├──` and `└──`."""
    return [
        (len(match["stem"]) // 4, match["name"])
        for match in map(BRANCH.match, drawing.splitlines())
        if match
    ]


@pytest.mark.parametrize(
    ("section", "package", "opened"),
    [("The rooms", PACKAGE, ("adapters", "core")), ("The sandbox", SANDBOX, ())],
)
def test_architecture_draws_the_existing_rooms(
    section: str, package: Path, opened: tuple[str, ...]
) -> None:
    """The tree names exactly the rooms and the modules beside the rooms."""
    actual = {
        f"{path.relative_to(package).as_posix()}/"
        for folder in (package, *(package / room for room in opened))
        for path in folder.iterdir()
        if (path / "__init__.py").exists()
    } | {path.name for path in package.glob("*.py") if not path.name.startswith("__")}

    parent = ""
    named = set()
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    for depth, name in drawn(text.partition(f"## {section}\n")[2].partition("\n## ")[0]):
        if depth == 0:
            parent = name
        named.add(name if depth == 0 else parent + name)

    assert named == actual


def test_errors_draws_the_existing_classes() -> None:
    """The tree in the docstring of `certferry.errors` is the tree of its classes."""
    actual = {
        (cls.__bases__[0].__name__, name)
        for name, cls in vars(errors).items()
        if inspect.isclass(cls) and issubclass(cls, errors.Reported)
    }

    named = {("Exception", "Reported")}
    for root in re.split(r"\n\n(?=\w+ {2,})", inspect.getdoc(errors) or "")[1:]:
        line = [root.partition(" ")[0]]
        named.add(("Reported", line[0]))
        for depth, name in drawn(root):
            line[depth + 1 :] = [name]
            named.add((line[depth], name))

    assert named == actual


def anchors(document: Path) -> set[str]:
    """Return the anchors of a document's headings, as the site and forges spell them; the second of
    two equal headings ends in `-1`.
    """
    headings = HEADING.findall(FENCED.sub("", document.read_text(encoding="utf-8")))
    spelt: list[str] = []
    for heading in headings:
        words = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        spelt.append(re.sub(r"[^\w -]", "", words).replace(" ", "-"))
    return {
        f"{anchor}-{again}" if (again := spelt[:number].count(anchor)) else anchor
        for number, anchor in enumerate(spelt)
    }


def test_documents_link_to_existing_files() -> None:
    """Every relative link leads to a file, and to an existing heading if named."""
    missing = []
    for document in LINKED:
        for file, anchor in LINK.findall(FENCED.sub("", document.read_text(encoding="utf-8"))):
            target = document.parent / file if file else document
            if not target.exists() or (
                anchor and target.suffix == ".md" and anchor not in anchors(target)
            ):
                missing.append(f"{relative(document)}: {file}#{anchor}")

    assert [] == missing


# --- Each room has a short page, and the tests lie in the same rooms


LONGEST = 15  # lines: a page to read before the code, not instead of the code
MODULE = re.compile(r"`((?:\w+/)*\w+\.py|(?:\w+/)+)`")
MIRRORED = ("adapters", "core")

ROOMS = sorted(
    [*(file.parent for file in PACKAGE.glob("*/__init__.py")), SANDBOX, SANDBOX / "testing"]
)
ROOM_PAGES = sorted([*PACKAGE.rglob("README.md"), *SANDBOX.rglob("README.md")])


@pytest.mark.parametrize("room", ROOMS, ids=relative)
def test_each_room_has_a_page(room: Path) -> None:
    """Rooms of the core have pages as well."""
    assert (room / "README.md") in ROOM_PAGES
    if "core" == room.name:
        assert all((file.parent / "README.md") in ROOM_PAGES for file in room.glob("*/__init__.py"))


@pytest.mark.parametrize("page", ROOM_PAGES, ids=relative)
def test_a_page_is_short(page: Path) -> None:
    """The page names its first module and the forbidden imports; docstrings have the details."""
    text = page.read_text(encoding="utf-8")

    assert len(text.splitlines()) <= LONGEST
    assert "**Begin** with" in text
    assert ("**May not be imported:**" in text) or ("**Not here:**" in text)


@pytest.mark.parametrize("page", ROOM_PAGES, ids=relative)
def test_a_page_names_existing_modules(page: Path) -> None:
    """Paths are relative to the room, to its parent, or to its package."""
    places = (page.parent, page.parent.parent, PACKAGE)
    named = MODULE.findall(page.read_text(encoding="utf-8"))

    assert [] == [name for name in named if not any((place / name).exists() for place in places)]


LAYERS = next(
    contract["layers"]
    for contract in tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
        "importlinter"
    ]["contracts"]
    if contract.get("containers") == ["certferry"]
)
NAMED_ABOVE = [  # the pages of `core` and `ports` name the allowed rooms instead
    (room, {other for above in LAYERS[: number + 1] for other in above.split(" | ")} - {room})
    for number, layer in enumerate(LAYERS[: LAYERS.index("ports")])
    for room in layer.split(" | ")
]


@pytest.mark.parametrize(("room", "others"), NAMED_ABOVE, ids=[room for room, _ in NAMED_ABOVE])
def test_a_page_names_every_room_that_may_not_be_imported(room: str, others: set[str]) -> None:
    """The page lists the rooms above and beside, as in the contract of import-linter."""
    text = (PACKAGE / room / "README.md").read_text(encoding="utf-8")
    refused = text.partition("**May not be imported:**")[2]

    assert others <= set(re.findall(r"`(\w+)`", refused))


@pytest.mark.parametrize("room", MIRRORED)
def test_folders_of_tests_match_the_rooms(room: str) -> None:
    """A removed room leaves no folder of tests."""
    tests = {
        folder.name for folder in (ROOT / "tests" / room).iterdir() if any(folder.glob("*.py"))
    }
    rooms = {file.parent.name for file in (PACKAGE / room).glob("*/__init__.py")}

    assert tests <= rooms


# --- ARCHITECTURE.md follows the real path of the main job


WAY_MODULE = re.compile(r"\b(?:cli|wiring|reconcile|core)(?:/\w+)+\.py\b")
SUM = re.compile(r"These are (\d+) files and about (\d+) lines")


@pytest.fixture(scope="module")
def path() -> MainPath:
    """Return the path of the main job, found by running the job."""
    return walked()


def section() -> str:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    return text.partition("## The way of the main job")[2].partition("\n## ")[0]


def test_the_document_names_the_modules_of_the_main_job(path: MainPath) -> None:
    """The section has exactly these modules."""
    assert path.modules == frozenset(WAY_MODULE.findall(section()))


def test_the_tree_names_existing_functions() -> None:
    """Each function is in the module of its line."""
    tree = section().partition("```\n")[2].partition("\n```")[0]
    named = re.findall(r"(\w+)/(\w+)\.py +`([\w.]+)`", tree)

    assert len(tree.splitlines()) == len(named)
    for room, module, name in named:
        attrgetter(name)(importlib.import_module(f"certferry.{room}.{module}"))


def test_the_document_has_the_length_of_the_main_job(path: MainPath) -> None:
    """The length is right to the nearest fifty lines."""
    total = SUM.search(section())
    assert total is not None
    files, lines = map(int, total.groups())
    assert files == len(path.modules)
    assert abs(lines - path.lines) <= 50, path.lines


def test_the_main_job_stays_short(path: MainPath) -> None:
    """A feature for few runs lies beside the main job."""
    assert len(path.modules) <= MOST_FILES
    assert path.lines <= MOST_LINES
