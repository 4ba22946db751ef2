"""What the guides tell to write can be written, and the tests they name are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from certferry.config.load import load
from certferry.wiring.settings import ADAPTERS
from tests.house.named_tests import missing_tests, named_tests
from tests.house.tree import ROOT, relative

GUIDES = sorted((ROOT / "docs" / "how-to").glob("*.md"))
TOML = re.compile(r"^```toml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ENV_FILE = "/etc/ssl/.cdn-env"


@pytest.mark.parametrize("guide", GUIDES, ids=relative)
def test_the_tests_that_a_guide_names_are_there(guide: Path) -> None:
    """A step of the recipe is shown by a test that runs."""
    assert [] == missing_tests(guide.read_text(encoding="utf-8"))


@pytest.mark.parametrize("guide", GUIDES, ids=relative)
def test_the_configuration_of_a_guide_is_one(guide: Path, tmp_path: Path) -> None:
    """It loads as it is written, with keys in the file that it names."""
    keys = tmp_path / "keys"
    keys.write_text('export QINIU_AK="a"\nexport QINIU_SK="s"\n')
    keys.chmod(0o600)

    for number, written in enumerate(TOML.findall(guide.read_text(encoding="utf-8"))):
        config = tmp_path / f"{number}.toml"
        config.write_text(written.replace(ENV_FILE, str(keys)), encoding="utf-8")

        assert load(config, {"HOME": str(tmp_path)}, ADAPTERS).certificates


def test_both_languages_tell_the_same() -> None:
    """The same tests in the same order, the same commands, the same settings."""
    chinese = [guide for guide in GUIDES if guide.name.endswith(".zh-CN.md")]
    assert chinese
    for guide in chinese:
        english = guide.with_name(guide.name.replace(".zh-CN", ""))
        settings = [
            [re.sub(r"\s*#.*", "", written) for written in TOML.findall(one.read_text("utf-8"))]
            for one in (guide, english)
        ]
        tests = [named_tests(one.read_text("utf-8")) for one in (guide, english)]
        assert tests[0]
        assert tests[0] == tests[1]
        assert settings[0] == settings[1]
        typed = [
            [block.replace("--lang zh ", "") for block in CONSOLE.findall(one.read_text("utf-8"))]
            for one in (guide, english)
        ]
        assert typed[0] == typed[1]
