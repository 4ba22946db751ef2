"""The picture of a run in the READMEs: the output of the demo, and the current text.

`scripts/picture` takes the picture anew in both languages. Parts that change in every run are
masked for the comparison.
"""

from __future__ import annotations

import re
import subprocess
import sys

from tests.house.tree import ROOT

READMES = {"en": ROOT / "README.md", "zh": ROOT / "README.zh-CN.md"}
_FRAME = re.compile(r"(?<=^```console\n)\$ certferry plan\n.*?(?=^```$)", re.MULTILINE | re.DOTALL)
_SHOWN = re.compile(
    r"^\$ certferry plan\n.*?(?=\n\n^[^$\n]*$\n  img\.example\.com +127)", re.MULTILINE | re.DOTALL
)


def taken(language: str) -> str:
    """Run the demo, and return the commands with their output."""
    done = subprocess.run(
        [sys.executable, "-m", "certferry", "--lang", language, "demo", "--fast"],
        capture_output=True,
        text=True,
        check=True,
    )
    [shown] = _SHOWN.findall(done.stdout)
    return f"{shown}\n"


def hung(language: str) -> str:
    [frame] = _FRAME.findall(READMES[language].read_text(encoding="utf-8"))
    return str(frame)


def masked(words: str) -> str:
    """Mask fingerprints and digests, Tencent Cloud's ids of certificates, and times."""
    random = r"\b(?:[0-9a-f]{12}|[0-9a-f]{32})\b|\b\w{8}(?= → …)|\d{4}-\d\d-\d\d \d\d:\d\d UTC"
    return re.sub(random, "…", words)


def main() -> None:
    """Take the picture in each language, and store it in the README."""
    for language, readme in READMES.items():
        text = readme.read_text(encoding="utf-8")
        readme.write_text(text.replace(hung(language), taken(language)), encoding="utf-8")


if __name__ == "__main__":
    main()
