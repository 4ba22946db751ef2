"""The console of a machine in the sandbox's world: its settings, its state, its runs, over HTTP."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import requests

from certferry.console.app import console_app
from certferry.console.site import Site
from certferry.core.access import User
from certferry.ports.state import StateStore
from certferry.wiring.runs import Runner
from certferry.wiring.settings import load_checked
from certferry.wiring.workspace import Workspace
from tests.acceptance.host import Host
from tests.console.serving import ANNA, AsVisitor, served

LONGEST = 60  # seconds that a run may take in the world

_FIELD = re.compile(r'<input type="hidden" name="(\w+)" value="([^"]*)">')


@dataclass(frozen=True)
class Machine:
    """A console that is served at `url`."""

    url: str
    site: Site
    runner: Runner

    @property
    def state(self) -> StateStore:
        return self.site.workspace().state

    def get(self, path: str, status: int = 200, **more: object) -> requests.Response:
        """Read a page, which is answered with this status."""
        found = requests.get(self.url + path, timeout=LONGEST, allow_redirects=False, **more)  # type: ignore[arg-type]  # as `requests` takes them
        assert status == found.status_code, found.text
        return found

    def post(self, path: str, status: int = 303, **fields: object) -> requests.Response:
        """Send a form."""
        found = requests.post(self.url + path, data=fields, timeout=LONGEST, allow_redirects=False)
        assert status == found.status_code, found.text
        return found

    def run(self, **fields: object) -> str:
        """Start a run by a form, wait for its end, and return the path of its page."""
        path = self.post("/runs", **fields).headers["Location"]
        self.runner.wait_for(path.removeprefix("/runs/"))
        return path


def fields_of(page: str, button: str) -> dict[str, str]:
    """Return the hidden fields of the form that has a button with these words."""
    (form,) = (form for form in page.split("<form ")[1:] if button in form.split("</form>")[0])
    return dict(_FIELD.findall(form.split("</form>")[0]))


@contextmanager
def console_of(host: Host, user: User = ANNA, language: str = "en") -> Iterator[Machine]:
    """Serve the console of a machine to one user, for a `with` block."""
    with Workspace(load_checked(host.config, host.world.environment)) as workspace:
        runner = Runner(lambda: workspace)
        site = Site(lambda: workspace, runner)
        runner.ended = site.observer.forget
        with served(AsVisitor(console_app(site), user, language)) as url:
            yield Machine(url, site, runner)
            site.closing.set()
            runner.stop_all()
