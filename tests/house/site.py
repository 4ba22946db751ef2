"""The site, made of the documents: each language by itself, by Sphinx with the theme furo
(docs/decisions/0047-the-site.md). Use it as `scripts/site [FOLDER]`.

A document stays Markdown for forges and for `certferry help`. Here its links become those of the
site: to a page of the same language, to the other language, to a file; one that leads out of the
site becomes plain words, since no repository is known to lead to.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import venv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from certferry import __version__
from tests.house.tree import ROOT

DOCS = ROOT / "docs"
ENVIRONMENT = ROOT / "build" / "site-environment"
SUFFIXES = {"en": ".md", "zh": ".zh-CN.md"}
_LOCALES = {"en": "en", "zh": "zh_CN"}
SECTIONS = {
    "how-to": {"en": "How to", "zh": "操作指南"},
    "help": {"en": "Errors", "zh": "按报错查"},
    "reference": {"en": "Reference", "zh": "参考手册"},
    "explanation": {"en": "What holds", "zh": "说明"},
    "facts": {"en": "Facts"},
}
"""The folders of docs/ that are on the site, in order; the facts are in English only."""
FIRST = (
    *("install", "before-production", "from-acme-sh", "dns-accounts", "monitoring", "backup"),
    *("upgrade", "errors", "config", "exit-codes", "README"),
)
"""The pages that newcomers need, which come first in their sections; then the others, by name."""

_CODE = re.compile(r"(^```.*?^```$|`[^`\n]*`)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(!?)\[((?:[^]\[]|\x00)*)\]\((?!https?:|mailto:)([^)#\s]*)((?:#[^)\s]*)?)\)")


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the site: its source, and its place in a language, without a suffix."""

    source: Path
    place: str

    @property
    def title(self) -> str:
        """Its first heading, without marks."""
        heading = self.source.read_text(encoding="utf-8").partition("\n")[0]
        return heading.lstrip("# ").replace("`", "")


def pages(language: str) -> dict[Path, Page]:
    """Return the pages of a language by their sources: the README first, then by section."""
    end = SUFFIXES[language]
    found = [Page(ROOT / f"README{end}", "index")]
    for section, titles in SECTIONS.items():
        names = sorted(path.name.removesuffix(".md") for path in (DOCS / section).glob("*.md"))
        names.sort(key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))
        found += [
            Page(DOCS / section / f"{name}{end}", f"{section}/{name}")
            for name in names
            if "." not in name and language in titles
        ]
    return {page.source: page for page in found}


def rewritten(page: Page, language: str, files: set[Path]) -> str:
    """Return a page with the links of the site; the files that it leads to are added to `files`."""
    code: list[str] = []

    def hide(found: re.Match[str]) -> str:
        code.append(found[0])
        return f"\x00{len(code) - 1}\x01"

    hidden = _CODE.sub(hide, page.source.read_text(encoding="utf-8"))
    linked = _LINK.sub(lambda link: _of_the_site(link, page, language, files), hidden)
    return re.sub("\x00(\\d+)\x01", lambda kept: code[int(kept[1])], linked)


def _of_the_site(link: re.Match[str], page: Page, language: str, files: set[Path]) -> str:
    mark, words, target, anchor = link.groups()
    if not target:
        return link[0]
    found = (page.source.parent / target).resolve()
    start = Path(language, page.place).parent
    for spoken in sorted(SUFFIXES, key=lambda one: one != language):
        there = pages(spoken).get(found)
        if there is None:
            continue
        if spoken == language:
            return f"[{words}]({os.path.relpath(there.place, Path(page.place).parent)}.md{anchor})"
        url = os.path.relpath(f"{spoken}/{there.place}.html", start)
        return f'<a href="{url}{anchor}">{words}</a>'
    if found.is_relative_to(DOCS) and found.is_file() and found.suffix != ".md":
        files.add(found)
        url = os.path.relpath(Path(language, found.relative_to(DOCS)), start)
        return f"![{words}]({url})" if mark else f'<a href="{url}">{words}</a>'
    return words


def contents(language: str) -> Iterator[str]:
    """Yield what the first page of a language leads to, which the side of each page shows."""
    for section, titles in SECTIONS.items():
        places = [page.place for page in pages(language).values() if page.place.startswith(section)]
        if places:
            yield "\n".join(
                ["", "```{toctree}", ":hidden:", f":caption: {titles[language]}", "", *places]
            )
            yield "```"


def stage(language: str, folder: Path) -> None:
    """Write what Sphinx reads: the pages, and in `extra` the files that they lead to."""
    files: set[Path] = set()
    for page in pages(language).values():
        written = folder / f"{page.place}.md"
        written.parent.mkdir(parents=True, exist_ok=True)
        more = "\n".join(contents(language)) if page.place == "index" else ""
        written.write_text(f"{rewritten(page, language, files)}\n{more}\n", encoding="utf-8")
    for file in files:
        for top in (folder, folder / "extra"):
            (top / file.relative_to(DOCS)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, top / file.relative_to(DOCS))


def build(folder: Path, environment: Path = ENVIRONMENT) -> None:
    """Build the site into a folder. Raises `CalledProcessError` when Sphinx has a warning."""
    program = installed(environment)
    for language in SUFFIXES:
        with tempfile.TemporaryDirectory() as staged:
            stage(language, Path(staged))
            settings = {
                "language": _LOCALES[language],
                "version": __version__,
                "html_title": f"certferry {__version__}",
                "html_extra_path": f"{staged}/extra",
            }
            values = [f"-D{name}={value}" for name, value in settings.items()]
            # Sphinx would keep what it has read beside the pages.
            kept = f"-d{staged}/.read"
            command = ["-m", "sphinx", "-q", "-W", "--keep-going", "-c", str(DOCS), kept, *values]
            subprocess.run([program, *command, staged, folder / language], check=True)
    (folder / "index.html").write_text(_FIRST, encoding="utf-8")
    (folder / "llms.txt").write_text("\n".join(listed()), encoding="utf-8")


_FIRST = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>certferry</title>
<p><a href="en/">certferry: English</a>
<p lang="zh-CN"><a href="zh/">certferry：中文</a>
</html>
"""


def listed() -> Iterator[str]:
    """Yield the lines of llms.txt: each page, by its title, in both languages."""
    yield from ("# certferry", "")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    yield f"> {project['description']}"
    for section, titles in {"index": {"en": "certferry", "zh": "certferry"}, **SECTIONS}.items():
        for language, title in titles.items():
            yield from ("", f"## {title} ({language})", "")
            for page in pages(language).values():
                if page.place.partition("/")[0] == section:
                    yield f"- [{page.title}]({language}/{page.place}.html)"
    yield ""


def installed(environment: Path) -> Path:
    """Return the Python that has what `site` in pyproject.toml names, in an environment of its own:
    the tests' one shall not change with it.
    """
    table: Mapping[str, Mapping[str, dict[str, list[str]]]] = tomllib.loads(
        (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    )
    wanted = table["project"]["optional-dependencies"]["site"]
    stamp, program = environment / "made-of", environment / "bin" / "python"
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != "\n".join(wanted):
        venv.create(environment, with_pip=True, clear=True)
        pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([program, *pip, *wanted], check=True)
        stamp.write_text("\n".join(wanted), encoding="utf-8")
    return program


if __name__ == "__main__":
    into = Path(sys.argv[1]) if sys.argv[1:] else ROOT / "build" / "site"
    build(into)
    sys.stdout.write(f"{into / 'index.html'}\n")
