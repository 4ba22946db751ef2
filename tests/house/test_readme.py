"""The READMEs speak of the commands and settings that exist, of all of them, in both languages."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path

import click
import pytest

from certferry.adapters.alidns import dns as alidns
from certferry.adapters.cloudflare import dns as cloudflare
from certferry.adapters.dnspod import dns as dnspod
from certferry.adapters.qiniu import target as qiniu
from certferry.cli import main as front_desk
from certferry.config.certificates import SETTINGS
from certferry.config.load import load
from certferry.errors import ConfigError
from certferry.wiring.settings import ADAPTERS
from tests.house.tree import ROOT, relative

README = ROOT / "README.md"
READMES = (README, ROOT / "README.zh-CN.md")
PAGE = ROOT / "docs" / "reference" / "config.md"
PAGES = (PAGE, PAGE.with_suffix(".zh-CN.md"))
TOML = re.compile(r"^```toml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ENV_FILE = "/etc/ssl/.cdn-env"
CODE = re.compile(r"^```.*?^```$|`[^`]*`|\]\([^)]*\)", re.MULTILINE | re.DOTALL)
AS_PRINTED = "证书未变更,跳过同步"
"""The one sentence whose comma is what operators search their logs for."""

both = pytest.mark.parametrize("readme", READMES, ids=relative)
both_pages = pytest.mark.parametrize("page", PAGES, ids=relative)


def commands() -> set[str]:
    """Give the names of the command line's commands."""
    [group] = {value for value in vars(front_desk).values() if isinstance(value, click.Group)}
    with click.Context(group) as context:
        return set(group.list_commands(context))


def global_options() -> set[str]:
    """Give what may stand before the command."""
    options = [p for p in front_desk.program.params if isinstance(p, click.Option)]
    return {min(option.opts, key=len) for option in options} - {"--version"}


def examples(document: Path) -> list[str]:
    """Give the configurations that a README or a page shows."""
    return TOML.findall(document.read_text(encoding="utf-8"))


def known_keys(tmp_path: Path) -> set[str]:
    """Give every setting, from what the loader says to a key that there is not in each table."""
    config = tmp_path / "unknown.toml"
    deploy = '[[certificates.deploy]]\nto = "qiniu"'
    imported = '[[certificates]]\nfullchain = "f"\nprivkey = "p"'
    tables = ("", "[state]", "[acme]", "[dns]", "[verify]", "[[certificates]]", deploy, imported)
    config.write_text("\n".join(f"{table}\nzqj = 1" for table in tables) + "\n[accounts.qiniu]\n")
    with pytest.raises(ConfigError) as refused:
        load(config, {"HOME": str(tmp_path)}, ADAPTERS)
    listed = re.findall(r"zqj: unknown key; known are (.*)", str(refused.value))
    assert len(tables) == len(listed)
    keys = {key for words in listed for key in words.split(", ")}
    for settings in (qiniu.Settings, alidns.Settings, cloudflare.Settings, dnspod.Settings):
        keys |= {field.name for field in dataclasses.fields(settings)}
    return keys.union(*SETTINGS.values())


@both
def test_every_command_has_one_row(readme: Path) -> None:
    """An operator finds each command in the table, once."""
    rows = re.findall(r"^\| `certferry ([a-z-]+)", readme.read_text(encoding="utf-8"), re.MULTILINE)

    assert sorted(commands()) == sorted(rows)


@both
def test_a_readme_names_no_command_that_is_not_there(readme: Path) -> None:
    """What a README tells to type can be typed."""
    typed = set(
        re.findall(
            r"^(?:[$#] )?certferry (?:--\S+ \S+ )?([a-z]+)\b",
            readme.read_text(encoding="utf-8"),
            re.MULTILINE,
        )
    )

    assert typed
    assert typed <= commands()


@both
def test_the_options_before_the_command_are_told(readme: Path) -> None:
    """None of them has to be found by chance."""
    told = readme.read_text(encoding="utf-8")

    assert [] == [option for option in global_options() if f"`{option}" not in told]


@pytest.mark.parametrize("document", [*READMES, *PAGES], ids=relative)
def test_what_is_shown_as_a_configuration_is_one(document: Path, tmp_path: Path) -> None:
    """Every block loads as it is written, with the files that it names."""
    keys = tmp_path / "keys"
    keys.write_text('export QINIU_AK="a"\n')
    keys.chmod(0o600)
    for bundle in ("ca.pem", "root.pem"):
        (tmp_path / bundle).touch()

    assert examples(document)
    for number, written in enumerate(examples(document)):
        config = tmp_path / f"{number}.toml"
        config.write_text(written.replace(ENV_FILE, str(keys)), encoding="utf-8")

        assert load(config, {"HOME": str(tmp_path)}, ADAPTERS).certificates


@both_pages
def test_every_setting_is_on_the_page(page: Path, tmp_path: Path) -> None:
    """Errors send their readers there."""
    shown = "".join(examples(page))

    missing = {key for key in known_keys(tmp_path) if not re.search(rf"\b{key}\b", shown)}

    assert set() == missing


@pytest.mark.parametrize("documents", [READMES, PAGES], ids=["readme", "page"])
def test_both_languages_show_the_same_settings(documents: tuple[Path, Path]) -> None:
    """The same tables with the same values, in the same order."""
    english, chinese = ([tomllib.loads(one) for one in examples(each)] for each in documents)

    assert english == chinese


@pytest.mark.parametrize(
    "document", [*ROOT.glob("*.zh-CN.md"), *ROOT.glob("docs/**/*.zh-CN.md")], ids=relative
)
def test_chinese_has_chinese_punctuation(document: Path) -> None:
    """Outside code no half-width mark stands beside a Chinese character."""
    prose = CODE.sub("`", document.read_text(encoding="utf-8").replace(AS_PRINTED, ""))

    found = re.findall(r"[^\n]{0,12}(?:[\u4e00-\u9fff`][,:;?!()]|[,;?!()][\u4e00-\u9fff`])", prose)

    assert [] == found


@pytest.mark.parametrize("script", ["./scripts/demo", "./scripts/test"])
@both
def test_a_readme_has_the_two_commands(script: str, readme: Path) -> None:
    """The demo and the tests are one command each."""
    assert script in readme.read_text(encoding="utf-8")
    assert (ROOT / script).exists()


@both
def test_the_contents_of_a_readme_are_its_headings(readme: Path) -> None:
    """Each section can be reached from the first screen, and nothing else is named there."""
    text = readme.read_text(encoding="utf-8")
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    contents = text.partition("\n## ")[0].rpartition("**")[2]

    assert headings == re.findall(r"\[([^]]+)\]\(#", contents)
    anchors = [heading.lower().replace(" ", "-") for heading in headings]
    assert anchors == re.findall(r"\]\(#([^)]+)\)", contents)
