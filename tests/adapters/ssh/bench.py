"""A directory on a real sshd, as a receiver."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from certferry.adapters.ssh.server import Account, Settings, connect
from certferry.core.desired.certificate import FileDelivery
from certferry.core.redaction import Secret
from certferry.ports.adapter import PrivateKey
from certferry.ports.progress import Pause
from certferry.ports.receiver import Receiver
from certferry_sandbox.testing.context import connected_with
from tests.support.sshd import Sshd


def settings(sshd: Sshd, **others: Any) -> Settings:
    """Return the settings of an account at the server."""
    key = PrivateKey(Secret(sshd.key.read_text()))
    usual: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": sshd.port,
        "key": key,
        "host_key": sshd.host_key,
    }
    return Settings(**{**usual, **others})


def account(sshd: Sshd, *, pause: Pause = time.sleep, **others: Any) -> Account:
    return connect(settings(sshd, **others), connected_with(pause=pause))


def remote(sshd: Sshd, delivery: FileDelivery, **others: Any) -> Receiver:
    return account(sshd, **others).receiver(delivery, withheld=(), hidden=())


def to(directory: Path | str) -> FileDelivery:
    """Return a delivery to a directory of the server."""
    return FileDelivery(str(directory), account="web")
