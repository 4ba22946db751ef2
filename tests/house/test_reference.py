"""The pages that are made are as they would be made now; that of the adapters is what their
settings say, in each language.
"""

from __future__ import annotations

import dataclasses

import pytest

from certferry.config.bind import may_be_written, meanings
from certferry.wiring.adapters import CHANNELS, FAMILIES, Family, installed
from tests.house.reference import all_pages, pages
from tests.house.tree import relative

OURS = [
    (family, name)
    for family in (*FAMILIES.values(), CHANNELS)
    for name in installed().names(family)
    if installed().find(family, name).is_ours
]


def test_the_pages_are_as_they_are_made() -> None:
    """A change of a setting, of a code or of the README's configuration comes with them."""
    stale = [
        relative(path)
        for path, text in all_pages().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]

    assert [] == stale, "run ./scripts/reference"


@pytest.mark.parametrize(("family", "name"), OURS, ids=[name for _, name in OURS])
def test_every_setting_of_ours_says_what_it_means(family: Family, name: str) -> None:
    """In words for people: `init` and the page have no others. Each key is said once."""
    described = installed().find(family, name)
    settings = described.adapter.Settings
    by_variable = {variable.key for variable in described.adapter.ENVIRONMENT}
    said = set(meanings(settings))

    assert set() == by_variable & said
    assert set(may_be_written(settings)) == by_variable | said
    assert {f.name for f in dataclasses.fields(described.options)} == set(
        meanings(described.options)
    )


def test_every_adapter_of_ours_has_its_part() -> None:
    """With the type that operators write, in both languages."""
    for text in pages().values():
        assert [name for _, name in OURS] == [
            line.rpartition(": `")[2].rstrip("`")
            for line in text.splitlines()
            if line.startswith("### ")
        ]
