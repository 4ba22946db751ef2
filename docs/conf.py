"""Sphinx's settings for the site that `scripts/site` puts together."""  # noqa: INP001 - no package

from __future__ import annotations

import re

from sphinx.application import Sphinx
from sphinx.search.en import SearchEnglish

project = "certferry"
extensions = ["myst_parser"]
myst_heading_anchors = 4
html_theme = "furo"
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
# Some pages have tables of the third level below the first; a block may show a part of a document.
suppress_warnings = ["myst.header", "misc.highlighting_failure"]


class SearchChinese(SearchEnglish):
    """A search by pairs of Chinese characters, the same in the index and in the browser.

    Sphinx' own cuts the pages into words and a question not at all, so that it finds few; and in
    9.0.4 it names a stemmer that is not there.
    """

    lang = "zh"
    js_splitter_code = r"""
function splitQuery(query) {
  const words = [];
  for (const run of query.match(/[A-Za-z0-9_]+|[\u4e00-\u9fff]+/g) || []) {
    if (run.length > 1 && run[0] > "z")
      for (let at = 0; at + 1 < run.length; at++) words.push(run.slice(at, at + 2));
    else words.push(run);
  }
  return words;
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


def setup(app: Sphinx) -> None:
    """Put the Chinese search in the place of Sphinx' own."""
    app.add_search_language(SearchChinese)
