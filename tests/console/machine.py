"""The console of a machine in the sandbox's world, as a logged-in user's browser sees the console.
Guard, settings, state and runs are real.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import requests

from certferry.config.model import Settings
from certferry.console.app import console_app
from certferry.console.guard import cookie_name, form_token
from certferry.console.site import Site
from certferry.core.access import Session, User, digest_of_secret
from certferry.ports.state import StateStore
from certferry.values import replace
from certferry.wiring.runner import Runner
from certferry.wiring.settings import load_checked
from certferry.wiring.workspace import Workspace
from tests.acceptance.host import Host
from tests.console.serving import ANNA, served

LONGEST = 90  # seconds until an answer, at most
SECRET = "of-this-browser"

_FIELD = re.compile(r'<input type="hidden" name="(\w+)" value="([^"]*)">')


@dataclass(frozen=True)
class Machine:
    """A console at `url`, and a browser with a logged-in user."""

    url: str  #: without a slash at the end
    site: Site
    runner: Runner
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def state(self) -> StateStore:
        """The state of the machine."""
        return self.site.workspace().state

    def ask(self, method: str, path: str, **more: Any) -> requests.Response:
        """Send a request with the session's cookie and the console's origin."""
        sent = {"Origin": self.url, **self.headers, **more.pop("headers", {})}
        return requests.request(
            method,
            self.url + path,
            headers=sent,
            cookies={cookie_name(self.site): SECRET},
            timeout=LONGEST,
            allow_redirects=False,
            **more,
        )

    def get(self, path: str, status: int = 200, **more: Any) -> requests.Response:
        """Read a page, and require the status."""
        answer = self.ask("GET", path, **more)
        assert status == answer.status_code, answer.text
        return answer

    def post(self, path: str, status: int = 303, **fields: Any) -> requests.Response:
        """Send a form with the session's token, and require the status."""
        answer = self.ask("POST", path, data={"csrf": form_token(SECRET), **fields})
        assert status == answer.status_code, answer.text
        return answer

    def run(self, **fields: Any) -> str:
        """Start a run by a form, wait until the run ends, and return the path of its page."""
        path = self.post("/runs", **fields).headers["Location"]
        self.runner.wait_for(path.removeprefix("/runs/"))
        return path


def fields_of(page: str, button: str) -> dict[str, Any]:
    """Return the hidden fields of the page's only form with this text on a button."""
    (form,) = (form for form in page.split("<form ")[1:] if button in form.split("</form>")[0])
    return dict(_FIELD.findall(form.split("</form>")[0]))


@contextmanager
def console_of(host: Host, user: User = ANNA, language: str = "en") -> Iterator[Machine]:
    """Serve the console of a machine to a single user, for a `with` block."""
    settings = load_checked(host.config, host.world.environment)
    with served_to(settings, user, language) as machine:
        yield machine


@contextmanager
def served_to(settings: Settings, user: User, language: str = "en") -> Iterator[Machine]:
    """Serve a console with these settings to a single user, for a `with` block."""
    with Workspace(settings) as workspace:
        state, now = workspace.state, workspace.state.now()
        state.add_user(replace(user, language=language))
        state.save_session(Session(digest_of_secret(SECRET), user.name, now, now, "127.0.0.1"))
        runner = Runner(lambda: workspace)
        site = Site(lambda: workspace, runner)
        runner.ended = site.observer.outdate
        with served(console_app(site)) as url:
            yield Machine(url, site, runner)
            site.closing.set()
            runner.stop_all()
