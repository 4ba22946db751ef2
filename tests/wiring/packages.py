"""Packages of other authors for a test: their modules, and their entry points."""

from __future__ import annotations

from pathlib import Path

from certferry.wiring.adapters import AdapterTable, installed

DNS_GROUP, TARGET_GROUP = "certferry.dns", "certferry.targets"

ADAPTER = """
from dataclasses import dataclass

from certferry.ports.adapter import Variable
from certferry.text import Text

SERVICE = "Ours"
ENVIRONMENT = (Variable("token", ("OURS_TOKEN",), Text("the token of Ours")),)


@dataclass(frozen=True)
class Settings:
    token: str = ""


class Port:
    def add_txt(self, name, value):
        raise {raised}

    def remove_txt(self, name, value, handle):
        return True


def connect(settings, context):
    return Port()
"""
"""A DNS provider whose methods raise an error."""


def adapter(raised: str = "RuntimeError('no token for you')") -> str:
    return ADAPTER.replace("{raised}", raised)


class Packages:
    """A folder for installed packages, in addition to the real ones."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def install(self, package: str, module: str, text: str, **names: str) -> None:
        """Write a module, and declare names for it: `name=group`."""
        (self._folder / f"{module}.py").write_text(text)
        info = self._folder / f"{package.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        declared = "".join(f"[{group}]\n{name} = {module}\n" for name, group in names.items())
        (info / "entry_points.txt").write_text(declared)

    def table(self) -> AdapterTable:
        """Return the table of all packages installed by now; the folder is on the path."""
        return AdapterTable(installed().declared)
