"""How what belongs to an extra is installed into the environment that certferry runs in."""

from __future__ import annotations

import shlex
import sys

from certferry.text import Text


def how_to_install(extra: str) -> Text:
    """Return the command that installs an extra's libraries: with the Python of this environment,
    since the `pip` of the PATH is as a rule another one's, which Debian's refuses to change (PEP
    668).
    """
    command = [sys.executable, "-m", "pip", "install", "--require-hashes", "-r"]
    return Text(
        "run in certferry's checkout: {command}",
        command=shlex.join([*command, f"requirements/{extra}.txt"]),
    )


def how_to_install_with(extra: str) -> Text:
    """Return the command that installs this certferry anew and, in the same version, the packages
    of an extra that come from the same checkout; their libraries by their hashes.
    """
    return Text(
        "run in certferry's checkout: {command}",
        command=f"CERTFERRY_HOME={shlex.quote(sys.prefix)} ./scripts/install --with {extra}",
    )
