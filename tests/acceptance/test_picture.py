"""The picture of a run in the READMEs is one of a run as it is today."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from certferry.present.layout import width
from tests.house.picture import hung, masked, taken
from tests.support.tiers import thorough


@pytest.mark.parametrize("language", ["en", pytest.param("zh", marks=thorough)])
def test_the_picture_is_what_the_demo_shows(language: str) -> None:
    """But for ids and moments. `scripts/picture` takes it anew."""
    assert masked(taken(language)) == masked(hung(language))


def test_the_demo_lines_up_in_chinese() -> None:
    """Who is where, and what each edge served: each column begins in one cell. A fingerprint has
    its one short form.
    """
    command = [sys.executable, "-m", "certferry", "--lang", "zh", "demo", "--fast"]

    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    cast = re.findall(r"^(  .+?  +)(?:https?://\S+|127[\d.:, ]+)$", shown, re.MULTILINE)
    assert (5, 1) == (len(cast), len({width(label) for label in cast}))
    served = re.findall(r"^(  \S+ +)(127\S+ +\S+ +)→ ([0-9a-f]{12})$", shown, re.MULTILINE)
    assert 4 == len(served)
    assert 1 == len({(width(domain), width(before)) for domain, before, _ in served})
    assert 1 == len({after for _, _, after in served})
