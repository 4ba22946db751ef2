"""The site, built from the documents by Sphinx with the theme furo, a part for each language.

See docs/decisions/0047-the-site.md; use the module as `scripts/site [FOLDER [ADDRESS]]`.

A document stays Markdown for forges and for `certferry help`. For the site its links are rewritten:
to a page of the same language, to the other language, to a file. A link out of the site becomes
plain words, since the address of a repository is unknown.

With the published ADDRESS of the site, each page names its place in every language, and there are
`sitemap.xml` and a `robots.txt` with its address: search engines need whole addresses.
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
    *(
        "install",
        "before-production",
        "to-aliyun",
        "to-tencentcloud",
        "from-acme-sh",
        "own-servers",
        "dns-accounts",
        "monitoring",
        "backup",
    ),
    *("upgrade", "errors", "config", "exit-codes", "README"),
)
"""The pages that newcomers need, first in their sections; the others follow by name."""

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
        """Its first paragraph without marks, cut to the length that search engines show."""
        text = self.source.read_text(encoding="utf-8")
        paragraphs = ("\n".join(block) for block in blocks(text))
        first = next(words for words in paragraphs if not _NO_PARAGRAPH.match(words))
        # Between Chinese characters a line end disappears.
        words = re.sub(r"(?<=[^\x00-\x7f])\n(?=[^\x00-\x7f])", "", first)
        words = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", " ".join(words.split()))
        return _cut(re.sub(r"[*`]", "", words))

    @property
    def languages(self) -> list[str]:
        """The languages of the page."""
        return [language for language in SUFFIXES if self.place in _places(language)]


LONGEST_DESCRIPTION = 155
"""About as many characters as a search engine shows; half for Chinese."""


_NO_PARAGRAPH = re.compile(r"#|\||```|<!--|!|\[[^]]*\]\([^)]*\)$")
"""The beginnings of headings, tables, blocks, remarks, pictures and single links."""
_WORD_ENDS = re.compile(r"[。：；，、]|[.,:;]?(?= )")


def _cut(words: str) -> str:
    """Cut a description after the last word that fits."""
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
    ordered_pages = [Page(ROOT / f"README{end}", "index")]
    for section, titles in SECTIONS.items():
        names = sorted(path.name.removesuffix(".md") for path in (DOCS / section).glob("*.md"))
        names.sort(key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))
        ordered_pages += [
            Page(DOCS / section / f"{name}{end}", f"{section}/{name}")
            for name in names
            if "." not in name and language in titles
        ]
    return {page.source: page for page in ordered_pages}


def rewritten(page: Page, language: str, files: set[Path]) -> str:
    """Return a page with the links of the site; linked files are added to `files`."""
    code: list[str] = []

    def hide(match: re.Match[str]) -> str:
        code.append(match[0])
        return f"\x00{len(code) - 1}\x01"

    hidden = _CODE.sub(hide, page.source.read_text(encoding="utf-8"))
    linked = _LINK.sub(lambda link: _of_the_site(link, page, language, files), hidden)
    return re.sub("\x00(\\d+)\x01", lambda placeholder: code[int(placeholder[1])], linked)


def _of_the_site(link: re.Match[str], page: Page, language: str, files: set[Path]) -> str:
    mark, words, target, anchor = link.groups()
    if not target:
        return link[0]
    linked = (page.source.parent / target).resolve()
    start = Path(language, page.place).parent
    for spoken in sorted(SUFFIXES, key=lambda other: other != language):
        there = pages(spoken).get(linked)
        if there is None:
            continue
        if spoken == language:
            return f"[{words}]({os.path.relpath(there.place, Path(page.place).parent)}.md{anchor})"
        url = os.path.relpath(f"{spoken}/{there.place}.html", start)
        return f'<a href="{url}{anchor}">{words}</a>'
    if linked.is_relative_to(DOCS) and linked.is_file() and linked.suffix != ".md":
        files.add(linked)
        url = os.path.relpath(Path(language, linked.relative_to(DOCS)), start)
        return f"![{words}]({url})" if mark else f'<a href="{url}">{words}</a>'
    return words


def contents(language: str) -> Iterator[str]:
    """Yield the contents of a language's first page, which the side of each page shows."""
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
"""The title of the first page of each language; other pages have their own."""


def _front(page: Page, language: str) -> str:
    """Return the page's settings for Sphinx: JSON, which is YAML as well."""
    front_matter: dict[str, object] = {
        "languages": " ".join(page.languages),
        "myst": {"html_meta": {"description": page.description}},
    }
    if page.place == "index":
        front_matter["heading"] = HEADINGS[language]
    return f"---\n{json.dumps(front_matter, ensure_ascii=False)}\n---\n"


def stage(language: str, folder: Path) -> None:
    """Write the input of Sphinx: the pages, and in `extra` the files that they link to."""
    files: set[Path] = set()
    for page in pages(language).values():
        staged_page = folder / f"{page.place}.md"
        staged_page.parent.mkdir(parents=True, exist_ok=True)
        more = "\n".join(contents(language)) if page.place == "index" else ""
        text = f"{_front(page, language)}{rewritten(page, language, files)}\n{more}\n"
        staged_page.write_text(text, encoding="utf-8")
    for file in files:
        for top in (folder, folder / "extra"):
            (top / file.relative_to(DOCS)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, top / file.relative_to(DOCS))


def build(folder: Path, address: str = "", environment: Path = ENVIRONMENT) -> None:
    """Build the site into a folder, with or without an address. Raises `CalledProcessError` for a
    warning of Sphinx.
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
            # Sphinx stores its cache beside the pages by default.
            cache_option = f"-d{staged}/.read"
            command = [
                "-m",
                "sphinx",
                "-q",
                "-W",
                "--keep-going",
                "-c",
                str(DOCS),
                cache_option,
                *values,
            ]
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
"""The page that chooses the first language of a browser that the site has."""


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
    """Return a Python with the `site` extra of pyproject.toml, in an environment of its own, so
    that the tests' environment stays unchanged.
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
