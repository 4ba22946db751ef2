"""The look of the pages: the content policy, readable colours, and the frame of a page."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from certferry.console.app import pages_of
from certferry.console.site import HERE, Site, render
from certferry.present.language import relative, voice_in
from certferry.text import Text
from certferry_sandbox.testing.memory_state import MemoryState
from tests.console.serving import AsVisitor, Began, served

CSS = (HERE / "static" / "console.css").read_text(encoding="utf-8")
JS = (HERE / "static" / "console.js").read_text(encoding="utf-8")
TEMPLATES = sorted((HERE / "templates").glob("*.html"))
OF_HTMX = {  # npm: htmx.org 4.0.1
    "htmx.min.js": "a0abb04f2f45a1f89d1d4844023245537e5e6014c87b144553e0607b4cc32130",
}


@pytest.mark.parametrize("name", OF_HTMX)
def test_htmx_is_unchanged(name: str) -> None:
    """The file has the hash of version 4.0.1 at npm."""
    digest = hashlib.sha256((HERE / "static" / name).read_bytes()).hexdigest()

    assert OF_HTMX[name] == digest


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_templates_fit_the_policy(path: Path) -> None:
    """Templates are free of inline scripts, styles and handlers, of expressions for htmx to
    evaluate, and of unescaped words.
    """
    text = path.read_text(encoding="utf-8")

    for refused in (
        r"<style", r"\sstyle\s*=", r"<script(?![^>]*\ssrc=)", r"\son[a-z]+\s*=", r"hx-on", r"js:",
        r"javascript:", r'hx-trigger="[^"]*\[', r"\|\s*safe", r"autoescape", r"(?:src|href)=\"http",
    ):  # fmt: skip
        assert re.search(refused, text) is None, refused


def test_stylesheet_and_script_fit_the_policy() -> None:
    """The stylesheet fetches no file. The script evaluates no code, and writes no markup."""
    assert re.search(r"url\(|@import", CSS.partition("*/")[2]) is None
    assert re.search(r"\beval\b|new Function|innerHTML|outerHTML|document\.write", JS) is None


# --- colours


def colours(css: str) -> dict[str, str]:
    """Return the variables with a colour."""
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", css))


LIGHT = colours(CSS.partition("@media")[0])
DARK = LIGHT | colours(
    CSS.partition("@media (prefers-color-scheme: dark)")[2].partition("/* ---")[0]
)


def luminance(colour: str) -> float:
    """Return the relative luminance of a colour (WCAG 2.2)."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(colour: str, other: str) -> float:
    """Return the contrast of two colours (WCAG 2.2): from 1 to 21."""
    darker, lighter = sorted((luminance(colour), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
def test_colours_have_enough_contrast(scheme: dict[str, str]) -> None:
    """The contrast reaches level AA: 4.5 for words on each ground, 3 for the edges of fields and
    for marks (WCAG 2.2).
    """
    levels = ("ok", "notice", "warning", "error")
    grounds = ("paper", "ground")
    words = [*product(("ink", "soft", "accent", *levels), grounds), ("on-accent", "accent")]
    words += [(level, f"{level}-ground") for level in levels] + [("accent", "accent-ground")]
    marks = [*product(("edge", *(f"mark-{level}" for level in levels)), ("paper",))]

    weak = [pair for pair in words if contrast(*(scheme[name] for name in pair)) < 4.5]
    faint = [pair for pair in marks if contrast(*(scheme[name] for name in pair)) < 3]

    assert LIGHT.keys() == DARK.keys()
    assert ([], []) == (weak, faint)


# --- the frame


def page(request: Request) -> Response:
    """Show a page with foreign words only."""
    sentence = Text("{words}; type `certferry doctor`", words="<b>`x`</b>")
    return render(request, "problem.html", trouble=2, number="", problem=_Problem(sentence))


class _Problem:
    def __init__(self, message: Text) -> None:
        self.message = self.hint = message


@pytest.fixture
def frame(tmp_path: Path) -> str:
    """The HTML of a page below a prefix."""
    workspace = SimpleNamespace(
        settings=SimpleNamespace(path=None, watches=()), state=MemoryState()
    )
    site = Site(lambda: workspace, Began(), "/x")  # type: ignore[arg-type,return-value]  # only these
    app: Starlette = pages_of(site)
    app.router.routes.insert(0, Route("/certificates/{name}", page))
    with served(AsVisitor(app)) as url:
        return requests.get(f"{url}/certificates/x?a=1&a=2&lang=en", timeout=20).text


def test_frame_of_a_page(frame: str) -> None:
    """A page has a single heading and a single main part, marks its own place in the navigation,
    and begins with a link past the navigation.
    """
    assert 1 == frame.count("<h1") == frame.count("<main")
    assert {'<a href="/x/certificates" aria-current="page">Certificates</a>'} == set(
        re.findall(r"<a [^>]*aria-current[^>]*>[^<]*</a>", frame)
    )
    assert frame.index('href="#main"') < frame.index("<nav")
    assert '<a href="/x/certificates/x?a=1&amp;a=2&amp;lang=zh" hreflang="zh-Hans"' in frame


def test_trouble_shows_in_a_tab_in_the_background(frame: str) -> None:
    """The title has the number of causes, and the page has the icon of errors."""
    assert "<title>(2) " in frame
    assert re.search(r'<link rel="icon"[^>]* href="/x/static/\w+/icon-error.svg"', frame)


def test_foreign_words_are_escaped(frame: str) -> None:
    """Words are escaped, even inside a command in backquotes."""
    assert "&lt;b&gt;<code>x</code>&lt;/b&gt;; type <code>certferry doctor</code>" in frame
    assert "<b>" not in frame


NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "english", "chinese"),
    [
        (0.5, "just now", "刚刚"),
        (59, "59 seconds ago", "59 秒前"),
        (60, "1 minute ago", "1 分钟前"),
        (89, "1 minute ago", "1 分钟前"),
        (90, "2 minutes ago", "2 分钟前"),
        (119, "2 minutes ago", "2 分钟前"),
        (179, "2 minutes ago", "2 分钟前"),
        (-119, "in 2 minutes", "2 分钟后"),
        (47 * 3600, "47 hours ago", "47 小时前"),
    ],
)
def test_only_distances_below_a_minute_have_seconds(
    seconds: float, english: str, chinese: str
) -> None:
    """From a minute on, distances are rounded to minutes or hours."""
    words = relative(NOON - timedelta(seconds=seconds), NOON)

    assert [english, chinese] == [voice_in(language).say(words) for language in ("en", "zh")]
