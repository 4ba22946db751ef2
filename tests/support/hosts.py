"""Hosts that share a state: processes that begin at the same moment."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack

from tests.support.postgresql import KEY
from tests.support.tiers import THOROUGH

HOSTS = 4 if THOROUGH else 2


def at_once(program: str, url: str, *words: str) -> list[str]:
    """Run a program on every host, and return what each prints. It is given the state's URL and
    key, the host's name, and the words; it prints `ready`, and goes on when a line comes.
    """
    with ExitStack() as ended:
        hosts = []
        for number in range(HOSTS):
            host = subprocess.Popen(
                [sys.executable, "-c", program, url, KEY.reveal(), f"web-{number}", *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            hosts.append(ended.enter_context(host))
            ended.callback(host.kill)
        for host in hosts:
            assert host.stdout is not None
            assert "ready\n" == host.stdout.readline()
        for host in hosts:
            assert host.stdin is not None
            host.stdin.write("\n")
            host.stdin.flush()
        said = [host.communicate()[0] for host in hosts]
        assert [0] * HOSTS == [host.returncode for host in hosts]
        return said
