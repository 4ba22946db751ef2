"""Hosts that share a state, as processes that begin at the same moment."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack

from tests.support.forks import start
from tests.support.postgresql import KEY
from tests.support.tiers import THOROUGH

HOSTS = 4 if THOROUGH else 2


def at_once(
    program: str, url: str, *words: str, key: str = KEY.reveal(), hosts: int = HOSTS
) -> list[str]:
    """Run a program on `hosts` hosts at the same moment, and return each host's output.

    The program gets the state's URL and key, the host's name, and the words; the program prints
    `ready`, and begins after a line of input.
    """
    with ExitStack() as ended:
        started = []
        for number in range(hosts):
            host = start(
                [sys.executable, "-c", program, url, key, f"web-{number}", *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            started.append(ended.enter_context(host))
            ended.callback(host.kill)
        for host in started:
            assert host.stdout is not None
            assert "ready\n" == host.stdout.readline()
        for host in started:
            assert host.stdin is not None
            host.stdin.write("\n")
            host.stdin.flush()
        outputs = [host.communicate()[0] for host in started]
        assert [0] * hosts == [host.returncode for host in started]
        return outputs
