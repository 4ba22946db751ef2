"""A newcomer's first command: `certferry demo --serve`."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time

import requests

from tests.support.tiers import long, thorough

LONGEST = 60.0
"""Seconds from the command to the first page."""
_LINK = re.compile(r"http\S+/welcome/\S+")


@thorough
@long
def test_demo_prints_a_link_to_its_console() -> None:
    """The link works while the world runs, and Ctrl-C ends the world and the console with exit code
    0.
    """
    began = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-m", "certferry", "demo", "--serve"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as demo:
        assert demo.stdout is not None
        link = next(match[0] for line in demo.stdout if (match := _LINK.search(line)))
        answer = _first_answer(link, began)
        demo.send_signal(signal.SIGINT)
        rest = demo.stdout.read()
    assert 200 == answer, rest
    assert 0 == demo.returncode, rest


def _first_answer(link: str, began: float) -> int:
    while time.monotonic() - began < LONGEST:
        try:
            return requests.get(link, timeout=5).status_code
        except requests.ConnectionError:
            time.sleep(0.1)
    return 0
