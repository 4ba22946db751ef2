"""The picture of a run in the READMEs is one of a run as it is today."""

from __future__ import annotations

import pytest

from tests.house.picture import hung, masked, taken
from tests.support.tiers import thorough


@pytest.mark.parametrize("language", ["en", pytest.param("zh", marks=thorough)])
def test_the_picture_is_what_the_demo_shows(language: str) -> None:
    """But for ids and moments. `scripts/picture` takes it anew."""
    assert masked(taken(language)) == masked(hung(language))
