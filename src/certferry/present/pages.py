"""The pages that come with the package: its reference, and the how-tos, in each language. In a
checkout they are those of `docs/`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from certferry.present.language import ENGLISH

PAGES = Path(__file__).parents[1] / "pages"
FOLDERS = ("reference", "how-to")
_OTHERS = {"zh": ".zh-CN"}
_TITLE = re.compile(r"^# (.+)$", re.MULTILINE)
_CODE = re.compile(r"^\| `([a-z_]+)` \|", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Page:
    """One page, by the name that an operator asks for."""

    topic: str
    path: Path

    @property
    def text(self) -> str:
        """What stands on it, as Markdown."""
        return self.path.read_text(encoding="utf-8")

    @property
    def title(self) -> str:
        """What it is about."""
        found = _TITLE.search(self.text)
        return self.topic if found is None else found[1].replace("`", "")


def pages(language: str) -> dict[str, Page]:
    """Give every page in a language, by its topic: the reference first."""
    return {page.topic: page for folder in FOLDERS for page in _in(PAGES / folder, language)}


def schemas() -> Mapping[str, Path]:
    """Give the files that describe the documents of `--json`, by the document's name."""
    return {path.stem: path for path in sorted((PAGES / "reference" / "schema").glob("*.json"))}


def about_code(code: str, language: str) -> str | None:
    """Give the part of the page of codes that is about one: each table in which it stands, with
    that row alone, under its heading. `None` for a code that is not there.
    """
    text = pages(language)["codes"].text
    found = [part for part in text.split("\n## ")[1:] if code in _CODE.findall(part)]
    return "\n\n".join(_with_one_row(part, code) for part in found) or None


def _with_one_row(part: str, code: str) -> str:
    heading, *rows = (row for row in part.splitlines() if row)
    kept = [*rows[:2], *(row for row in rows if row.startswith(f"| `{code}` |"))]
    return "\n".join([f"## {heading}", "", *kept])


def _in(folder: Path, language: str) -> Iterator[Page]:
    for path in sorted(folder.glob("*.md")):
        if path.suffixes != [".md"]:
            continue
        translated = path.with_suffix(f"{_OTHERS.get(language, '')}.md")
        yield Page(path.stem, translated if language != ENGLISH and translated.exists() else path)
