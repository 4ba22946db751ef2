"""`certferry serve` as a real process over a world, and the login of users."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests
from playwright.sync_api import Browser, Page, StorageState

from tests.support.command import Ended, run_here
from tests.support.forks import start
from tests.support.ports import HOST
from tests.support.waiting import eventually

PASSWORD = "plum quartz otter, seven lanterns"
END = 15  # seconds
_LINK = re.compile(r"http\S+/welcome/\S+")


@dataclass
class ConsoleProcess:
    """The process `number`, listening at `port`. Browsers use `url`, without a slash at the end."""

    number: int
    config: Path
    environ: Mapping[str, str]
    port: int
    url: str

    def certferry(self, *words: str) -> Ended:
        """Run a command of certferry beside the process."""
        return run_here(["--config", str(self.config), *words], self.environ)

    def link_for(self, name: str, role: str = "operator") -> str:
        """Add a user, and return the link for choosing a password."""
        done = self.certferry("console", "user", "add", name, "--role", role)
        [link] = _LINK.findall(done.out)
        return str(link)

    def log_in(self, browser: Browser, name: str, role: str = "operator") -> StorageState:
        """Add a user, log in, and return the browser's cookies and storage."""
        with browser.new_context() as context:
            page = context.new_page()
            page.goto(self.link_for(name, role))
            choose_password(page)
            return context.storage_state()


def choose_password(page: Page, password: str = PASSWORD) -> None:
    """Choose a password at the page of a link. Afterwards, the browser is logged in, at the first
    screen.
    """
    for field in page.locator("input[type=password]").all():
        field.fill(password)
    page.locator("main form button").last.click()
    page.get_by_role("navigation").first.wait_for()


@contextmanager
def serving(
    config: Path,
    world_environment: Mapping[str, str],
    port: int,
    url: str | None = None,
    *words: str,
) -> Iterator[ConsoleProcess]:
    """Run `certferry serve` without a schedule for a `with` block. The process must end with exit
    code 0, within `END` seconds.
    """
    url = url or f"http://{HOST}:{port}"
    with config.open("a") as file:
        file.write(f'\n[console]\nlisten = "{HOST}:{port}"\nurl = "{url}/"\n')
    environ = {**os.environ, **world_environment}
    program = [sys.executable, "-m", "certferry", "--config", str(config)]
    log = config.with_name("serve.log")
    with (
        log.open("wb") as output,
        start(
            [*program, "serve", "--no-schedule", *words],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        ) as process,
    ):
        try:
            assert eventually(lambda: process.poll() is not None or _answers(port))
            assert process.poll() is None, log.read_text()
            yield ConsoleProcess(process.pid, config, environ, port, url)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(END)
    assert 0 == process.returncode, log.read_text()


def _answers(port: int) -> bool:
    try:
        return requests.get(f"http://{HOST}:{port}/healthz", timeout=5).status_code in {200, 503}
    except requests.ConnectionError:
        return False
