"""`certferry serve`, a real process over a world, and how people come into its console."""

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
    """The process `number`, which listens at `port`; browsers know it by `url` (without a slash at
    its end).
    """

    number: int
    config: Path
    environ: Mapping[str, str]
    port: int
    url: str

    def certferry(self, *words: str) -> Ended:
        """Run a command beside it."""
        return run_here(["--config", str(self.config), *words], self.environ)

    def link_for(self, name: str, role: str = "operator") -> str:
        """Make a user; return the link by which they choose a password."""
        done = self.certferry("console", "user", "add", name, "--role", role)
        [link] = _LINK.findall(done.out)
        return str(link)

    def log_in(self, browser: Browser, name: str, role: str = "operator") -> StorageState:
        """Make a user who is logged in; return what their browser stores."""
        with browser.new_context() as context:
            page = context.new_page()
            page.goto(self.link_for(name, role))
            choose_password(page)
            return context.storage_state()


def choose_password(page: Page, password: str = PASSWORD) -> None:
    """Choose one at the page of a link, and come to the first screen, logged in."""
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
    """Run it for a `with` block, without a schedule; at the end it ends in order, and soon."""
    url = url or f"http://{HOST}:{port}"
    with config.open("a") as file:
        file.write(f'\n[console]\nlisten = "{HOST}:{port}"\nurl = "{url}/"\n')
    environ = {**os.environ, **world_environment}
    program = [sys.executable, "-m", "certferry", "--config", str(config)]
    log = config.with_name("serve.log")
    with (
        log.open("wb") as written,
        start(
            [*program, "serve", "--no-schedule", *words],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=written,
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
