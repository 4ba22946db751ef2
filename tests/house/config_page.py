"""Write the page of the configuration, in each language, from what the README says of it: one text
is read in the checkout and, as `certferry help config`, where only the package is.

`scripts/reference` runs this.
"""

from __future__ import annotations

import re
from pathlib import Path

from tests.house.tree import ROOT

PAGE = ROOT / "docs" / "reference" / "config.md"
README = ROOT / "README.md"
_LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)\s]+)\)")

_ENGLISH = ("## Configuration", "# The configuration", "[中文](config.zh-CN.md)")
_CHINESE = ("## 配置", "# 配置", "[English](config.md)")
_MADE = {
    "en": "<!-- Made by ./scripts/reference from the README; edit that, not this page. -->",
    "zh": "<!-- ./scripts/reference 根据 README 生成本页；请修改 README。 -->",
}


def pages() -> dict[Path, str]:
    """Give the pages and where they lie."""
    chinese = README.with_suffix(".zh-CN.md")
    return {
        PAGE: _page(README, _ENGLISH, _MADE["en"]),
        PAGE.with_suffix(".zh-CN.md"): _page(chinese, _CHINESE, _MADE["zh"]),
    }


def _page(readme: Path, words: tuple[str, str, str], made: str) -> str:
    heading, title, other = words
    text = readme.read_text(encoding="utf-8")
    section = text.partition(f"\n{heading}\n")[2].partition("\n## ")[0].strip()
    return f"{title}\n\n{other}\n\n{made}\n\n{_LINK.sub(_moved, section)}\n"


def _moved(link: re.Match[str]) -> str:
    """Write a link of the README as one of the page: it lies two folders below."""
    target = f"../../{link[1]}"
    for folder, nearer in (("../../docs/reference/", ""), ("../../docs/", "../")):
        target = target.replace(folder, nearer, 1) if target.startswith(folder) else target
    return f"]({target})"
