"""Run certferry in this process, and kill it the hard way after its n-th request.

Usage: python killed.py N LOG ARGUMENTS…   Every request of any client (ACME, DNSPod, Qiniu) is
written to LOG before it is sent; after the N-th has been answered the process kills itself with
SIGKILL, before certferry sees the answer. N = 0 lets it live.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import requests.adapters

from certferry.__main__ import main

_send = requests.adapters.HTTPAdapter.send


def arm(last: int, log: Path) -> None:
    """Count the requests that the HTTP library sends, from any caller."""
    count = 0

    def send(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        with log.open("a") as lines:
            lines.write(f"{request.method} {request.url}\n")
        answer = _send(self, request, *args, **kwargs)
        answer.content  # noqa: B018 - all of it has arrived
        if count == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    requests.adapters.HTTPAdapter.send = send  # type: ignore[method-assign]  # the library's, not ours


if __name__ == "__main__":
    arm(int(sys.argv[1]), Path(sys.argv[2]))
    sys.argv = ["certferry", *sys.argv[3:]]
    sys.exit(main())
