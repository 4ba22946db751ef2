"""A console over a new state, without a world, for pages with stored facts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from certferry.config.load import load
from certferry.console.app import console_app
from certferry.console.site import Site
from certferry.core.access import User
from certferry.wiring.settings import ADAPTERS
from certferry.wiring.workspace import Workspace
from tests.console.serving import ANNA, AsVisitor, Began, served

HOSTILE = "\"><script>alert(1)</script>&'{{7*7}}"
"""A name that causes harm in a page without escaping."""


def workspace_in(
    folder: Path, text: str = "", environ: Mapping[str, str] | None = None
) -> Workspace:
    """Return the workspace of a file with this text. The state is in the same folder."""
    path = folder / "certferry.toml"
    path.write_text(f'[state]\nurl = "sqlite:///{folder}/state.db"\nhost = "web-1"\n{text}')
    path.chmod(0o600)
    return Workspace(load(path, environ or {}, ADAPTERS))


@contextmanager
def console(
    workspace: Workspace, user: User = ANNA, language: str = "en", prefix: str = ""
) -> Iterator[str]:
    """Serve the pages to a single user for a `with` block, and yield the URL."""
    site = Site(lambda: workspace, Began(), prefix)
    with served(AsVisitor(console_app(site), user, language)) as url:
        yield url
