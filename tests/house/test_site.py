"""The site, as `scripts/site` builds it from the documents."""

from __future__ import annotations

import html
import re
import subprocess
from functools import cache
from pathlib import Path
from posixpath import normpath
from urllib.parse import unquote

import pytest

from tests.house import site
from tests.support.tiers import thorough

LONGEST = 900
LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)")
LOADED = re.compile(
    r"<(?:script|link|img|iframe|source)\b[^>]*?\b(?:src|href)=\"(https?:|//)[^\"]*"
)
LED_TO = re.compile(r"\b(?:href|src)=\"(?!https?:|mailto:|data:)([^\"]+)\"")


@pytest.mark.parametrize("language", site.SUFFIXES)
def test_no_link_of_a_page_leads_out_of_the_site(language: str) -> None:
    """To a page of the language, of the other one, or to a file that comes along."""
    files: set[Path] = set()
    led = {
        normpath(f"{page.place}/../{link}")
        for page in site.pages(language).values()
        for link in LINK.findall(site.rewritten(page, language, files))
    }
    places = {f"{page.place}.md" for page in site.pages(language).values()}

    assert {"help/errors.md", "how-to/from-acme-sh.md"} <= led
    assert led <= places | {file.relative_to(site.DOCS).as_posix() for file in files}
    assert all(file.is_file() for file in files)


def test_every_page_is_listed_for_programs_that_read() -> None:
    """In both languages, by its title."""
    lines = list(site.listed())

    for language in site.SUFFIXES:
        for page in site.pages(language).values():
            assert f"- [{page.title}]({language}/{page.place}.html)" in lines


def test_newcomers_find_first_what_they_need_first() -> None:
    """At the side of each page, and in what programs read; an index comes before what it lists."""
    places = [page.place for page in site.pages("en").values()]
    first = {
        section: next(p for p in places if p.startswith(f"{section}/")) for section in site.SECTIONS
    }

    assert ["index", "how-to/install", "how-to/before-production"] == places[:3]
    assert ("help/errors", "reference/config", "facts/README") == tuple(
        first[section] for section in ("help", "reference", "facts")
    )
    assert set(site.FIRST) <= {place.rpartition("/")[2] for place in places}


@thorough
@pytest.mark.timeout(LONGEST)
def test_the_site_needs_no_other_host_and_leads_nowhere_else(tmp_path: Path) -> None:
    """Sphinx has no warning; nothing is loaded from elsewhere; each link, also one of the theme's,
    leads to a page or a file, and to what it names there.
    """
    try:
        site.build(tmp_path, tmp_path / "environment")
    except subprocess.CalledProcessError as error:
        if "pip" in map(str, error.cmd):
            pytest.skip("no package registry can be reached")
        raise
    made = [page for page in tmp_path.rglob("*.html") if "environment" not in page.parts]

    @cache
    def named(page: Path) -> set[str]:
        return set(re.findall(r"\bid=\"([^\"]+)\"", page.read_text(encoding="utf-8")))

    assert len(made) > sum(len(site.pages(language)) for language in site.SUFFIXES)
    dead = []
    for page in made:
        text = page.read_text(encoding="utf-8")
        assert [] == LOADED.findall(text)
        for link in map(html.unescape, LED_TO.findall(text)):
            file, _, name = link.partition("#")
            target = page.parent / unquote(file.partition("?")[0]) if file else page
            target = target / "index.html" if target.is_dir() else target
            is_there = target.exists() and (
                not name or target.suffix != ".html" or unquote(name) in named(target.resolve())
            )
            dead += [] if is_there else [f"{page.relative_to(tmp_path)}: {link}"]
    assert [] == dead
