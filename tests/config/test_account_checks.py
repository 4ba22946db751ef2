"""Accounts that no certificate names."""

from __future__ import annotations

from pathlib import Path

import pytest

from certferry.config.load import load
from certferry.errors import ConfigError
from certferry.wiring.settings import ADAPTERS

USED = """
[accounts.dnspod]
id = "1"
token = "2"

[[certificates]]
names = ["img.example.com"]
dns = "dnspod"
"""


def refusal(folder: Path, text: str) -> list[str]:
    """Write a file that is refused; give the message, line by line, without the folder."""
    path = folder / "certferry.toml"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(ConfigError) as caught:
        load(path, {"HOME": str(folder)}, ADAPTERS)
    return [line.removeprefix(f"{folder}/") for line in str(caught.value.message).splitlines()]


@pytest.mark.parametrize(
    ("table", "line", "meant"),
    [
        ('[accounts.spare]\ntype = "dnspood"\n', 2, "dnspod"),
        ('[accounts.spare]\ntype = "quniu"\n', 2, "qiniu"),
        ("[accounts.cloudflair]\n", 1, "cloudflare"),
    ],
)
def test_unused_account_of_an_unknown_type(
    tmp_path: Path, table: str, line: int, meant: str
) -> None:
    """Its line is told, with the nearest type of either family."""
    (said,) = refusal(tmp_path, table + USED)

    assert said.startswith(f"certferry.toml:{line}: [accounts.")
    assert said.endswith(f"is neither a DNS provider nor a target; did you mean {meant}?")


def test_unused_account_whose_type_is_no_word(tmp_path: Path) -> None:
    """That alone is told."""
    expected = "certferry.toml:2: [accounts.spare] type: must be a string, and is a number"
    assert [expected] == refusal(tmp_path, f"[accounts.spare]\ntype = 3\n{USED}")


def test_unused_account_among_other_mistakes(tmp_path: Path) -> None:
    """All are told at once, in the order of the file's lines."""
    text = f'[acme]\nemial = "x"\n\n[accounts.spare]\ntype = "zzz"\n{USED}'

    first, second = refusal(tmp_path, text)

    assert first.startswith("certferry.toml:2: [acme] emial: unknown key")
    assert second.startswith(
        "certferry.toml:5: [accounts.spare] type: zzz is neither a DNS provider nor a target; known"
        " are acme-dns, alidns, cloudflare,"
    )
