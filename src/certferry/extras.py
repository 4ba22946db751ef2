"""What installs the libraries of an extra: the command for the environment that certferry is in."""

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
"""The command of each program that installs commands from an index, by the file that it leaves in
the environment of one, wherever it makes these (uv 0.13.9, pipx 1.18.4).
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
"""A module of each extra."""
_ADDED = {"apprise": "apprise", "keyring": "keyring", "lexicon": "dns-lexicon"}
"""What the Debian package does not bring, by the names of the index."""


def how_to_install(extra: str) -> Text:
    """Return the command that installs an extra's libraries: with the Python of this environment,
    since the `pip` of the PATH is as a rule another one's, which Debian's refuses to change (PEP
    668).
    """
    command = [sys.executable, "-m", "pip", "install", "--require-hashes", "-r"]
    return _anew_with(extra) or Text(
        "run in certferry's checkout: {command}",
        command=shlex.join([*command, f"requirements/{extra}.txt"]),
    )


def how_to_install_with(extra: str) -> Text:
    """Return the command that installs this certferry anew and, in the same version, the packages
    of an extra that come from the same checkout; their libraries by their hashes.
    """
    return _anew_with(extra) or Text(
        "run in certferry's checkout: {command}",
        command=f"{_this_installation()} ./scripts/install --with {extra}",
    )


def _this_installation() -> str:
    """Return the variables by which `scripts/install` finds this environment and its command. It
    would give the command at the usual place to this environment otherwise, and another
    installation its own there.
    """
    own = Path(sys.prefix, "bin")
    begun = Path(sys.argv[0])
    linked = begun.is_absolute() and begun.resolve().parent == own.resolve()
    places = {"CERTFERRY_HOME": sys.prefix, "CERTFERRY_BIN": str(begun.parent if linked else own)}
    return " ".join(f"{name}={shlex.quote(place)}" for name, place in places.items())


def _anew_with(extra: str) -> Text | None:
    """Return how `uv tool` or `pipx` adds an extra, if one of them made this environment. Both make
    it anew, so that the extras which are there have to be named as well. The Debian package finds
    further libraries in a folder of the administrator's (release/debian/certferry).
    """
    if __file__.startswith("/opt/certferry/") and extra in _ADDED:
        folder = "/usr/local/lib/certferry"
        return Text("run: {command}", command=f"pip install --target {folder} {_ADDED[extra]}")
    made_by = [command for name, command in _TOOLS.items() if Path(sys.prefix, name).is_file()]
    if not made_by:
        return None
    extras = {one for one, module in _MODULES.items() if find_spec(module)} | {extra}
    package = shlex.quote(f"certferry[{','.join(sorted(extras))}]")
    return Text("run: {command}", command=f"{made_by[0]} {package}")
