"""The site that `scripts/site` builds from the documents."""

from __future__ import annotations

import html
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from posixpath import normpath
from urllib.parse import quote, unquote

import pytest
from playwright.sync_api import expect

from tests.browser.chromium import LOCALES, running_chromium
from tests.house import site
from tests.support.tiers import thorough

LONGEST = 900
LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)")
LOADED = re.compile(
    r"<(?:script|link|img|iframe|source)\b[^>]*?\b(?:src|href)=\"(https?:|//)[^\"]*"
)
FOR_SEARCH_ENGINES = re.compile(r"<link rel=\"(?:canonical|alternate)\"[^>]*>")
LED_TO = re.compile(r"\b(?:href|src)=\"(?!https?:|mailto:|data:)([^\"]+)\"")


@pytest.mark.parametrize("language", site.SUFFIXES)
def test_no_link_of_a_page_leads_out_of_the_site(language: str) -> None:
    """Links lead to a page of the language, to the other language, or to a copied file."""
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
    """Both languages list each page by its title."""
    lines = list(site.listed())

    for language in site.SUFFIXES:
        for page in site.pages(language).values():
            assert f"- [{page.title}]({language}/{page.place}.html)" in lines


def test_pages_for_newcomers_come_first() -> None:
    """The order holds at the side of each page and in the list for programs; an index comes before
    its pages.
    """
    places = [page.place for page in site.pages("en").values()]
    first = {
        section: next(p for p in places if p.startswith(f"{section}/")) for section in site.SECTIONS
    }

    assert ["index", "how-to/install", "how-to/before-production"] == places[:3]
    assert ("help/errors", "reference/config", "facts/README") == tuple(
        first[section] for section in ("help", "reference", "facts")
    )
    assert set(site.FIRST) <= {place.rpartition("/")[2] for place in places}


ADDRESS = "https://certferry.example/docs"


@pytest.mark.parametrize("language", site.SUFFIXES)
def test_every_page_is_described(language: str) -> None:
    """The first paragraph without marks is the description, cut to the length that search engines
    show.
    """
    described = {page.place: page.description for page in site.pages(language).values()}

    assert len(described) == len(set(described.values()))
    for place, words in described.items():
        cells = sum(1 if character.isascii() else 2 for character in words)
        assert 40 < cells <= site.LONGEST_DESCRIPTION + 3, place
        assert not re.search(r"[`*|]|\]\(", words), place


def test_every_page_has_a_title_of_its_own() -> None:
    """Titles differ across both languages."""
    titles = [
        site.HEADINGS[language] if page.place == "index" else page.title
        for language in site.SUFFIXES
        for page in site.pages(language).values()
    ]

    assert len(set(titles)) == len(titles)


def test_search_engines_find_every_page() -> None:
    """`robots.txt` leads to the map; both have whole addresses."""
    files = site.beside(ADDRESS)
    places = [
        f"{ADDRESS}/{language}/{page.place}.html"
        for language in site.SUFFIXES
        for page in site.pages(language).values()
    ]

    assert places == re.findall("<loc>(.+?)</loc>", files["sitemap.xml"])
    assert f"\nSitemap: {ADDRESS}/sitemap.xml\n" in files["robots.txt"]
    assert f'<link rel="canonical" href="{ADDRESS}/">' in files["index.html"]


def test_a_site_without_an_address() -> None:
    """Such a site is for a local look."""
    files = site.beside("")

    assert {"index.html", "llms.txt"} == set(files)
    assert "canonical" not in files["index.html"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the published site. Skips if no package registry can be reached."""
    folder = tmp_path_factory.mktemp("site")
    try:
        site.build(folder / "site", ADDRESS, folder / "environment")
    except subprocess.CalledProcessError as error:
        if "pip" in map(str, error.cmd):
            pytest.skip("no package registry can be reached")
        raise
    return folder / "site"


@thorough
@pytest.mark.timeout(LONGEST)
def test_the_site_needs_no_other_host_and_has_valid_links(built: Path) -> None:
    """Sphinx has no warning, all files are loaded from the site, and each link, the theme's
    included, leads to an existing page, file or anchor.
    """
    made = list(built.rglob("*.html"))

    @cache
    def named(page: Path) -> set[str]:
        return set(re.findall(r"\bid=\"([^\"]+)\"", page.read_text(encoding="utf-8")))

    assert len(made) > sum(len(site.pages(language)) for language in site.SUFFIXES)
    dead = []
    for page in made:
        text = FOR_SEARCH_ENGINES.sub("", page.read_text(encoding="utf-8"))
        assert [] == LOADED.findall(text)
        for link in map(html.unescape, LED_TO.findall(text)):
            file, _, name = link.partition("#")
            target = page.parent / unquote(file.partition("?")[0]) if file else page
            target = target / "index.html" if target.is_dir() else target
            is_there = target.exists() and (
                not name or target.suffix != ".html" or unquote(name) in named(target.resolve())
            )
            dead += [] if is_there else [f"{page.relative_to(built)}: {link}"]
    assert [] == dead


@thorough
@pytest.mark.timeout(LONGEST)
def test_each_page_has_its_metadata(built: Path) -> None:
    """Each page has its description, its own address, and its address in each language."""
    for language in site.SUFFIXES:
        for page in site.pages(language).values():
            file = built / language / f"{page.place}.html"
            head = file.read_text(encoding="utf-8").partition("</head>")[0]
            links = re.findall(r'<link rel="(?:canonical|alternate)"[^>]*>', head)
            spoken = {"en": "en", "zh": "zh-CN"}
            others = {
                spoken[other_language]: f"{other_language}/{page.place}.html"
                for other_language in page.languages
            }
            others["x-default"] = "" if page.place == "index" else f"en/{page.place}.html"
            assert [
                *(
                    f'<link rel="alternate" hreflang="{name}" href="{ADDRESS}/{place}">'
                    for name, place in others.items()
                ),
                f'<link rel="canonical" href="{ADDRESS}/{language}/{page.place}.html">',
            ] == links
            [description] = re.findall(r'<meta content="([^"]*)" name="description"', head)
            assert page.description == html.unescape(description)
            title = site.HEADINGS[language] if page.place == "index" else page.title
            [shown] = re.findall("<title>(.*?)</title>", head)
            # Sphinx prints typographic apostrophes.
            assert html.unescape(shown).replace("’", "'").startswith(title)


SEARCHED = (
    ("en", "400322", "help/validity-too-short"),
    ("en", "612", "help/no-such-domain"),
    ("en", "domaintype is not allowed", "help/domaintype"),
    ("en", "too many certificates", "help/too-many-certificates"),
    ("zh", "400322", "help/validity-too-short"),
    ("zh", "612", "help/no-such-domain"),
    ("zh", "如何回滚", "reference/qiniu"),
    ("zh", "怎么备份", "how-to/backup"),
    ("zh", "证书为什么没有生效", "help/old-certificate"),
    ("zh", "限流", "help/too-many-certificates"),
)


@thorough
@pytest.mark.timeout(LONGEST)
def test_search_finds_numbers_and_chinese_questions(built: Path) -> None:
    """In a browser the page is among the first five, and the root leads to the browser's
    language.
    """
    with served(built) as root, running_chromium() as browser:
        for language, locale in LOCALES.items():
            page = browser.new_context(locale=locale).new_page()
            page.goto(f"{root}/index.html")
            page.wait_for_url(f"{root}/{language}/index.html")
            for tongue, words, place in SEARCHED:
                if tongue == language:
                    page.goto(f"{root}/{language}/search.html?q={quote(words)}")
                    expect(page.locator(".search-summary")).not_to_be_empty()
                    links = page.locator("ul.search li a")
                    listed = links.evaluate_all("all => all.map((one) => one.pathname)")
                    assert f"/{language}/{place}.html" in listed[:5], words


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder on loopback, and yield its address."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
