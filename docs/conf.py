"""Sphinx's settings for the site that `scripts/site` puts together."""  # noqa: INP001 - no package

from __future__ import annotations

import re
from html import escape
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.search.en import SearchEnglish

project = "certferry"
extensions = ["myst_parser"]
myst_heading_anchors = 4
html_theme = "furo"
html_use_index = False
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
# Some pages have tables of the third level below the first; a block may show a part of a document.
suppress_warnings = ["myst.header", "misc.highlighting_failure"]


class SearchNumbers(SearchEnglish):
    """A search that finds numbers: operators look for the codes of errors."""

    def word_filter(self, word: str) -> bool:
        """Keep numbers, which Sphinx leaves out of the index."""
        return word not in self.stopwords


class SearchChinese(SearchNumbers):
    """A search by pairs of Chinese characters, the same in the index and in the browser.

    Sphinx' own cuts the pages into words and a question not at all, so that it finds few; and in
    9.0.4 it names a stemmer that is not there. The words of a question are left out of what is
    looked for, and so is a pair that no page has, such as the end of one word with the beginning of
    the next: Sphinx shows only pages that have everything.
    """

    lang = "zh"
    js_splitter_code = r"""
const asking =
  /如何|怎么样|怎么|怎样|为什么|什么|为何|没有|哪里|哪个|是否|能否|可以|请问|[的了吗呢吧]/g;
function splitQuery(query) {
  const words = [];
  for (const run of query.replace(asking, " ").match(/[A-Za-z0-9_]+|[\u4e00-\u9fff]+/g) || []) {
    if (run.length > 1 && run[0] > "z")
      for (let at = 0; at + 1 < run.length; at++) words.push(run.slice(at, at + 2));
    else words.push(run);
  }
  const { terms, titleterms } = Search._index;
  const known = words.filter((word) => word[0] <= "z" || word in terms || word in titleterms);
  return known.length ? known : words;
}
"""

    def split(self, input: str) -> list[str]:  # noqa: A002 - Sphinx' word
        """Return the words and the pairs of a text."""
        runs = re.findall(r"[A-Za-z0-9_]+|[\u4e00-\u9fff]+", input)
        return [
            word
            for run in runs
            for word in (
                [run[at : at + 2] for at in range(len(run) - 1)]
                if len(run) > 1 and run[0] > "z"
                else [run]
            )
        ]


SCRIPT = {
    r" || queryTerm.match(/^\d+$/)": "",
    "Math.max(...wordList.map((w) => scoreMap.get(file).get(w)))": (
        "wordList.reduce((sum, word) => sum + scoreMap.get(file).get(word), 0)"
    ),
}
"""What is otherwise in Sphinx' script for browsers: numbers are looked for, and a page with more of
the words in its headings comes first; Sphinx counts the best word alone.
"""


def search_otherwise(app: Sphinx, error: Exception | None) -> None:
    """Change the script. Raises `ValueError` where it is another script by now."""
    if error is not None:
        return
    script = Path(app.outdir, "_static", "searchtools.js")
    text = script.read_text(encoding="utf-8")
    for theirs, ours in SCRIPT.items():
        if text.count(theirs) != 1:
            raise ValueError(theirs)
        text = text.replace(theirs, ours)
    script.write_text(text, encoding="utf-8")


def name_the_page(
    app: Sphinx, page: str, _template: str, context: dict[str, Any], _document: object
) -> None:
    """Give the first page a title of its own, and each page links to itself in every language for
    search engines, as it is known to them by `site_address`.
    """
    said = context.get("meta") or {}
    if "heading" in said:
        context["docstitle"] = said["heading"]
    if not (app.config.site_address and said):
        return
    places = {tongue: f"{tongue}/{page}.html" for tongue in said["languages"].split()}
    # The page at the root chooses a language.
    places["x-default"] = places["en"] if page != "index" else ""
    links = (
        f'<link rel="alternate" hreflang="{"zh-CN" if tongue == "zh" else tongue}"'
        f' href="{escape(app.config.site_address)}/{place}">'
        for tongue, place in places.items()
    )
    context["metatags"] = "\n".join([context.get("metatags", ""), *links])


def setup(app: Sphinx) -> None:
    """Put these searches in the place of Sphinx' own, and say what each page is."""
    app.add_config_value("site_address", "", "html")
    app.add_search_language(SearchNumbers)
    app.add_search_language(SearchChinese)
    app.connect("html-page-context", name_the_page)
    app.connect("build-finished", search_otherwise)
