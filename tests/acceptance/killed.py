"""Runs certferry in the current process, and kills the process after the n-th request.

Usage: python killed.py N LOG ARGUMENTS…

Every request of any client (ACME, DNSPod, Qiniu, S3) is written to LOG before the request is sent.
After the answer to the N-th request the process kills itself with SIGKILL, before certferry sees
the answer. N = 0 lets the process live.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import obstore
import requests.adapters

from certferry.__main__ import main

_send = requests.adapters.HTTPAdapter.send
_put, _get = obstore.put, obstore.get


def arm(last: int, log: Path) -> None:
    """Count the requests that the HTTP library sends, from any caller."""
    count, counting = 0, threading.Lock()

    def counted(words: str, call: Callable[[], Any]) -> Any:
        nonlocal count
        with counting:
            count += 1
            number = count
            with log.open("a") as lines:
                lines.write(f"{words}\n")
        try:
            return call()
        finally:
            if number == last:
                os.kill(os.getpid(), signal.SIGKILL)

    def send(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        def call() -> Any:
            answer = _send(self, request, *args, **kwargs)
            answer.content  # noqa: B018 - the whole body has arrived
            return answer

        return counted(f"{request.method} {request.url}", call)

    def put(store: Any, path: str, *args: Any, **kwargs: Any) -> Any:
        return counted(f"PUT {path}", lambda: _put(store, path, *args, **kwargs))

    def get(store: Any, path: str) -> Any:
        return counted(f"GET {path}", lambda: _get(store, path))

    requests.adapters.HTTPAdapter.send = send  # type: ignore[method-assign]  # the library's, not ours
    obstore.put, obstore.get = put, get  # type: ignore[assignment]  # the library's, not ours


if __name__ == "__main__":
    arm(int(sys.argv[1]), Path(sys.argv[2]))
    sys.argv = ["certferry", *sys.argv[3:]]
    sys.exit(main())
