"""An account at the stand-in of DNSPod, whose records a real program writes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from certferry.adapters.programs.dns import Settings, connect
from certferry.adapters.programs.run import run_to_end
from certferry.core.desired.certificate import Program
from certferry.core.redaction import Secret
from certferry.ports.adapter import Ended
from certferry.ports.dns import DnsProvider
from certferry.values import replace
from certferry_sandbox.testing.context import connected_with
from tests.adapters.dnspod.account import TOKEN, TOKEN_ID, DnspodAccount, dnspod_account

PROGRAM = Path(__file__).parents[2] / "data" / "dns_program.py"


def connected(
    command: Sequence[str],
    *,
    timeout: timedelta = timedelta(seconds=30),
    pause: Callable[[float], None] = time.sleep,
    withheld: Collection[str] = (),
    hidden: Collection[Secret] = (),
    variables: Mapping[str, str] | None = None,
) -> DnsProvider:
    """Connect a command as a run would, in the root directory."""

    def run(arguments: Sequence[str], within: timedelta, given: bytes = b"") -> Ended:
        program = Program(tuple(arguments), "/", within)
        return run_to_end(
            program, variables or {}, pause, hidden=hidden, withheld=withheld, given=given
        )

    context = replace(connected_with(pause=pause), run=run)
    return connect(Settings(tuple(command), timeout), context)


@dataclass(frozen=True)
class CommandAccount:
    """The program's account at DNSPod, and the command of the program."""

    dnspod: DnspodAccount

    def connect(self, token: str = TOKEN) -> DnsProvider:
        """Return a new provider, as another process would make it."""
        # With -I -S Python skips the site's packages, and starts in half the time.
        program = [sys.executable, "-I", "-S", str(PROGRAM)]
        return connected([*program, self.dnspod.service.url, TOKEN_ID, token])


@contextmanager
def command_account() -> Iterator[CommandAccount]:
    """Run the stand-in for the time of a `with` block."""
    with dnspod_account() as account:
        yield CommandAccount(account)
