"""How the libraries of an extra come into the environment that certferry runs in."""

from __future__ import annotations

import shlex
import sys

from certferry.text import Text


def how_to_install(extra: str) -> Text:
    """Return the command: with the Python of this environment, since the `pip` of the PATH is as a
    rule another one's, which Debian's refuses to change (PEP 668).
    """
    command = [sys.executable, "-m", "pip", "install", "--require-hashes", "-r"]
    return Text(
        "run in certferry's checkout: {command}",
        command=shlex.join([*command, f"requirements/{extra}.txt"]),
    )
