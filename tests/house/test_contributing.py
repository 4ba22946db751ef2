"""The tables in CONTRIBUTING.md: the files of a DNS service, a target, a channel and a code of
Qiniu, and the tests of each room.

Each table of files is compared with an existing service or code: every listed file mentions the
service, and has the names of the row.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from certferry.adapters.qiniu.errors import MEANINGS
from tests.house.tree import PACKAGE, ROOT, relative

CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
TABLE_ROW = re.compile(r"^\| (`.+?`.*?) \| (.*?) \|", re.MULTILINE)
QUOTED = re.compile(r"`([^`]+)`")
CONSTANT = re.compile(r"`(_?[A-Z][A-Z_]+)`")


class Example(NamedTuple):
    """A heading of CONTRIBUTING.md, and a service or code for the comparison with its table."""

    heading: str
    #: Stands for `<name>` in the paths.
    name: str
    #: Matches a mention of the service or code.
    mention: str


EXAMPLES = [
    Example(
        "Files of a DNS service in this repository", "aliyun", "(?i)aliyun|alidns|alibaba|ali_"
    ),
    Example("Files of a target in this repository", "qiniu", "(?i)qiniu|七牛"),
    Example("Files of a channel in this repository", "feishu", "(?i)feishu|飞书"),
    Example("Adding a code of Qiniu's", "qiniu", f"400326|{MEANINGS[400326].words}"),
]


def section(heading: str) -> str:
    """Return the text between a heading and the next heading of any depth."""
    _, title, text = CONTRIBUTING.partition(f"# {heading}\n")
    assert title, heading
    return re.split(r"^#", text, maxsplit=1, flags=re.MULTILINE)[0]


class Row(NamedTuple):
    """A row of a table of files."""

    example: Example
    file: str
    #: The constants that the row names.
    constants: frozenset[str]


ROWS = [
    Row(example, file.replace("<name>", example.name), frozenset(CONSTANT.findall(line)))
    for example in EXAMPLES
    for files, line in TABLE_ROW.findall(section(example.heading))
    for file in QUOTED.findall(files)
]


def texts(path: Path) -> str:
    """Return the text of a file, or of all Python files in a folder, joined."""
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.heading)
def test_a_table_lists_files(example: Example) -> None:
    """An empty table would pass every comparison."""
    assert 6 < len([row for row in ROWS if row.example == example])


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.example.heading}: {row.file}")
def test_a_listed_file_mentions_the_example(row: Row) -> None:
    """The author of the example had to change this file as well."""
    text = texts(ROOT / row.file)

    assert re.search(row.example.mention, text) or row.file == "CHANGELOG.md"
    assert set() == {name for name in row.constants if not re.search(rf"\b{name}\b", text)}


@pytest.mark.parametrize("page", ["qiniu.md", "qiniu.zh-CN.md"])
def test_every_explained_code_is_on_the_page(page: str) -> None:
    """Both languages have each code in their tables."""
    text = (ROOT / "docs" / "reference" / page).read_text(encoding="utf-8")
    cells = " ".join(re.findall(r"^\| ([^|]*\b\d{3,6}\b[^|]*) \|", text, re.MULTILINE))

    assert [] == [code for code in MEANINGS if not re.search(rf"\b{code}\b", cells)]


def test_the_page_has_the_words_that_certferry_prints() -> None:
    """Operators compare the page with the message."""
    text = (ROOT / "docs" / "reference" / "qiniu.md").read_text(encoding="utf-8")
    words_by_codes = dict(
        re.findall(r"^\| ([^|]*\b\d{3,6}\b[^|]*) \| ([^|]*) \|", text, re.MULTILINE)
    )

    for code, meaning in MEANINGS.items():
        assert meaning.words in {
            words for codes, words in words_by_codes.items() if re.search(rf"\b{code}\b", codes)
        }


# --- The tests of a room


PACKAGE_PATH = Path("src/certferry")
ROOMS = {
    relative(file.parent)
    for pattern in ("*/__init__.py", "core/*/__init__.py", "adapters/*/__init__.py")
    for file in PACKAGE.glob(pattern)
} - {"src/certferry/adapters"}
ROOM_TABLE = section("The tests of a room")


def test_every_room_has_a_row() -> None:
    """A room without tests of its own names the tests for the room."""
    named = {f"src/certferry/{room}" for room in re.findall(r"`([\w/]+)/`", ROOM_TABLE)}
    with_the_core = {room for room in ROOMS if Path(room).parent == PACKAGE_PATH / "core"}

    assert set() == ROOMS - named - with_the_core


def test_the_tables_of_tests_name_existing_paths() -> None:
    """Each folder and file of tests exists."""
    paths = [path for path in QUOTED.findall(ROOM_TABLE) if path.startswith("tests/")]

    assert paths
    assert [] == [path for path in paths if not (ROOT / path.partition("::")[0]).exists()]


def test_every_folder_of_tests_is_named() -> None:
    """A newcomer finds the folder for a change."""
    folders = {
        f"tests/{folder.name}/"
        for folder in (ROOT / "tests").iterdir()
        if any(folder.rglob("test_*.py"))
    }

    assert set() == folders - set(QUOTED.findall(ROOM_TABLE))
