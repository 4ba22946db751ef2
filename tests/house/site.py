"""The site, made of the documents: each language by itself, by Sphinx with the theme furo
(docs/decisions/0047-the-site.md). Use it as `scripts/site [FOLDER [ADDRESS]]`.

A document stays Markdown for forges and for `certferry help`. Here its links become those of the
site: to a page of the same language, to the other language, to a file; one that leads out of the
site becomes plain words, since no repository is known to lead to.

With the ADDRESS that the site is published at, each page names its place in every language, and
there are `sitemap.xml` and a `robots.txt` that leads to it: search engines take whole addresses.
"""

from __future__ import annotations

import html
import json
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
from functools import cache
from itertools import accumulate
from pathlib import Path

from certferry import __version__
from certferry.present.pages import blocks
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

    @property
    def description(self) -> str:
        """Its first paragraph, without marks, as much of it as a search engine shows."""
        text = self.source.read_text(encoding="utf-8")
        paragraphs = ("\n".join(block) for block in blocks(text))
        first = next(words for words in paragraphs if not _NO_PARAGRAPH.match(words))
        # Between Chinese characters a line end is no space.
        words = re.sub(r"(?<=[^\x00-\x7f])\n(?=[^\x00-\x7f])", "", first)
        words = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", " ".join(words.split()))
        return _cut(re.sub(r"[*`]", "", words))

    @property
    def languages(self) -> list[str]:
        """The languages that it is in."""
        return [language for language in SUFFIXES if self.place in _places(language)]


LONGEST_DESCRIPTION = 155
"""Characters of which a search engine shows about as many; of Chinese ones half."""


_NO_PARAGRAPH = re.compile(r"#|\||```|<!--|!|\[[^]]*\]\([^)]*\)$")
"""How a heading, a table, a block, a remark, a picture and a link by itself begin."""
_WORD_ENDS = re.compile(r"[。：；，、]|[.,:;]?(?= )")


def _cut(words: str) -> str:
    """Cut a description after the last word for which there is room."""
    widths = accumulate(1 if character.isascii() else 2 for character in words)
    room = sum(width <= LONGEST_DESCRIPTION for width in widths)
    if room == len(words):
        return words
    *_, last = (end.start() for end in _WORD_ENDS.finditer(words) if end.start() <= room)
    return f"{words[:last]} …"


@cache
def _places(language: str) -> frozenset[str]:
    return frozenset(page.place for page in pages(language).values())


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


HEADINGS = {
    "en": "certferry: Let's Encrypt certificates for Qiniu CDN, Kodo and Pili",
    "zh": "certferry：七牛 CDN、Kodo、Pili 的 Let's Encrypt 证书",
}
"""The title of the first page of each language; any other page has its own."""


def _front(page: Page, language: str) -> str:
    """Return what Sphinx is told of a page: JSON, which is YAML as well."""
    said: dict[str, object] = {
        "languages": " ".join(page.languages),
        "myst": {"html_meta": {"description": page.description}},
    }
    if page.place == "index":
        said["heading"] = HEADINGS[language]
    return f"---\n{json.dumps(said, ensure_ascii=False)}\n---\n"


def stage(language: str, folder: Path) -> None:
    """Write what Sphinx reads: the pages, and in `extra` the files that they lead to."""
    files: set[Path] = set()
    for page in pages(language).values():
        written = folder / f"{page.place}.md"
        written.parent.mkdir(parents=True, exist_ok=True)
        more = "\n".join(contents(language)) if page.place == "index" else ""
        text = f"{_front(page, language)}{rewritten(page, language, files)}\n{more}\n"
        written.write_text(text, encoding="utf-8")
    for file in files:
        for top in (folder, folder / "extra"):
            (top / file.relative_to(DOCS)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, top / file.relative_to(DOCS))


def build(folder: Path, address: str = "", environment: Path = ENVIRONMENT) -> None:
    """Build the site into a folder, for an address or for none. Raises `CalledProcessError` when
    Sphinx has a warning.
    """
    program = installed(environment)
    for language in SUFFIXES:
        with tempfile.TemporaryDirectory() as staged:
            stage(language, Path(staged))
            settings = {
                "language": _LOCALES[language],
                "version": __version__,
                "html_title": f"certferry {__version__}",
                "html_extra_path": f"{staged}/extra",
                "html_baseurl": f"{address}/{language}/" if address else "",
                "site_address": address,
            }
            values = [f"-D{name}={value}" for name, value in settings.items()]
            # Sphinx would keep what it has read beside the pages.
            kept = f"-d{staged}/.read"
            command = ["-m", "sphinx", "-q", "-W", "--keep-going", "-c", str(DOCS), kept, *values]
            subprocess.run([program, *command, staged, folder / language], check=True)
    for name, text in beside(address).items():
        (folder / name).write_text(text, encoding="utf-8")


def beside(address: str) -> dict[str, str]:
    """Return the files beside the languages, by their names."""
    canonical = f'<link rel="canonical" href="{html.escape(address)}/">\n' if address else ""
    files = {
        "index.html": _FIRST.replace("{canonical}", canonical),
        "llms.txt": "\n".join(listed()),
    }
    if address:
        files["sitemap.xml"] = _sitemap(address)
        files["robots.txt"] = f"User-agent: *\nAllow: /\n\nSitemap: {address}/sitemap.xml\n"
    return files


_FIRST = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>certferry</title>
<meta name="description" content="Let's Encrypt certificates for Qiniu. 七牛的证书自动续期。">
{canonical}<script>
const spoken = (navigator.languages || []).find((tongue) => /^(en|zh)\\b/i.test(tongue)) || "en";
location.replace(`${spoken.slice(0, 2).toLowerCase()}/index.html`);
</script>
<p><a href="en/index.html" hreflang="en">certferry: English</a>
<p lang="zh-CN"><a href="zh/index.html" hreflang="zh-CN">certferry：中文</a>
</html>
"""
"""The page that chooses the first of a browser's languages that is here."""


def _sitemap(address: str) -> str:
    """Return the list of all pages for search engines (sitemaps.org)."""
    places = [
        html.escape(f"{address}/{language}/{page.place}.html")
        for language in SUFFIXES
        for page in pages(language).values()
    ]
    rows = [f"<url><loc>{place}</loc></url>" for place in places]
    return "\n".join(
        [
            '<?xml version="1.0" encoding="utf-8"?>',
            '<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">',
            *rows,
            "</urlset>\n",
        ]
    )


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
    build(into, "".join(sys.argv[2:]).rstrip("/"))
    sys.stdout.write(f"{into / 'index.html'}\n")
