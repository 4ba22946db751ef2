"""Advice for operators: the command that installs an extra's libraries where certferry finds
them.
"""

from __future__ import annotations

import shlex
import sys
from importlib.util import find_spec
from pathlib import Path

from certferry.text import Text

_TOOLS = {
    "uv-receipt.toml": "uv tool install --force",
    "pipx_metadata.json": "pipx install --force",
}
"""The install command of each tool, by the file that the tool leaves in an environment
(uv 0.13.9, pipx 1.18.4).
"""
_MODULES = {
    "apprise": "apprise",
    "console": "starlette",
    "demo": "certferry_sandbox",
    "keyring": "keyring",
    "lexicon": "lexicon",
    "postgresql": "psycopg",
    "s3": "obstore",
}
"""By extra, a module that is present only if the extra is installed."""
_ADDED = {"apprise": "apprise", "keyring": "keyring", "lexicon": "dns-lexicon"}
"""The libraries of extras that the Debian package lacks, by their names in the package index."""


def how_to_install(extra: str) -> Text:
    """Return the advice with the command that installs an extra's libraries for this installation
    of certferry.

    In a checkout's environment the command begins with this environment's Python: the `pip` of the
    PATH usually belongs to another Python, and Debian's `pip` refuses to install (PEP 668).
    """
    command = [sys.executable, "-m", "pip", "install", "--require-hashes", "-r"]
    return _anew_with(extra) or Text(
        "run in certferry's checkout: {command}",
        command=shlex.join([*command, f"requirements/{extra}.txt"]),
    )


def how_to_install_with(extra: str) -> Text:
    """Return the advice with the command that reinstalls certferry with the packages of an extra.

    In a checkout's environment the command is `scripts/install`, which takes the packages from the
    checkout, in the same version, with all libraries pinned by hash.
    """
    return _anew_with(extra) or Text(
        "run in certferry's checkout: {command}",
        command=f"{_this_installation()} ./scripts/install --with {extra}",
    )


def _this_installation() -> str:
    """Return, in a shell's syntax, the variables that tell `scripts/install` this environment and
    the folder of the command `certferry`.

    Without the variables the script would use its default folders, and might change another
    installation.
    """
    own = Path(sys.prefix, "bin")
    begun = Path(sys.argv[0])
    linked = begun.is_absolute() and begun.resolve().parent == own.resolve()
    places = {"CERTFERRY_HOME": sys.prefix, "CERTFERRY_BIN": str(begun.parent if linked else own)}
    return " ".join(f"{name}={shlex.quote(place)}" for name, place in places.items())


def _anew_with(extra: str) -> Text | None:
    """Return the advice with the command that adds an extra to an installation by `uv tool` or
    `pipx`, or a library to the Debian package. Return None for other installations.

    `uv tool` and `pipx` make the environment anew, so the command lists the installed extras too.
    The Debian package reads further libraries from the administrator's folder
    (release/debian/certferry).
    """
    if __file__.startswith("/opt/certferry/") and extra in _ADDED:
        folder = "/usr/local/lib/certferry"
        return Text("run: {command}", command=f"pip install --target {folder} {_ADDED[extra]}")
    made_by = [command for name, command in _TOOLS.items() if Path(sys.prefix, name).is_file()]
    if not made_by:
        return None
    extras = {installed for installed, module in _MODULES.items() if find_spec(module)} | {extra}
    package = shlex.quote(f"certferry[{','.join(sorted(extras))}]")
    return Text("run: {command}", command=f"{made_by[0]} {package}")
