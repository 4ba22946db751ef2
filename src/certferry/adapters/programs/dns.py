"""DNS by an operator's program, for a service without an adapter.

certferry calls the program as `… present NAME VALUE` and `… cleanup NAME VALUE`, one call at a
time. NAME is the full name, without a final dot. A repeated call must succeed, and the program must
keep other values at the name.

Exit codes, as in sysexits.h:

- 0: done;
- 66: the value to clean up was missing;
- 68: the program has no zone for the name;
- 77: the service refuses the program's keys;
- any other code: the call failed, but may have made the change.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

from certferry import errors
from certferry.adapters.dns.txt_records import AccountTurns
from certferry.adapters.programs.run import failed
from certferry.ports.adapter import Context, Ended, Variable
from certferry.ports.dns import DnsProvider
from certferry.text import Text

SERVICE = "your own program"
CALLED = Text("your own program")
RANK = 80
ENVIRONMENT: tuple[Variable, ...] = ()

# EX_NOINPUT, EX_NOHOST and EX_NOPERM of sysexits.h; other scripts exit with 1 or 2.
WAS_NOT_THERE, NO_ZONE, DENIED = 66, 68, 77


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings under `[accounts.<label>]`."""

    command: Annotated[
        tuple[str, ...],
        Text(
            "the program and its first arguments; certferry appends `present NAME VALUE` or "
            "`cleanup …`"
        ),
    ]
    timeout: Annotated[timedelta, Text("how long a call may take, in seconds")] = timedelta(
        minutes=5
    )


def connect(settings: Settings, context: Context) -> DnsProvider:
    """Return the provider, without running the program. Raises `ConfigError` without a command."""
    if not settings.command:
        raise errors.ConfigError(
            Text("the `command` of the account is empty"),
            hint=Text('write `command` as a list, for example ["/usr/local/bin/dns"]'),
        )
    return CommandDns(settings, context)


class CommandDns:
    """The `DnsProvider` of one program. Thread-safe. A handle is the value."""

    def __init__(self, settings: Settings, context: Context) -> None:
        self._command = settings.command
        self._timeout = settings.timeout
        self._context = context
        self._turns = AccountTurns(context.pause)

    def add_txt(self, name: str, value: str) -> str:
        """See `ports.dns.DnsProvider.add_txt`."""
        ended = self._called("present", name, value)
        if ended.code != 0:
            raise self._refused(name, ended)
        return value

    def remove_txt(self, name: str, value: str, handle: str | None) -> bool:
        """See `ports.dns.DnsProvider.remove_txt`. Exit code 0 counts as found."""
        del handle
        ended = self._called("cleanup", name, value)
        if ended.code not in {0, WAS_NOT_THERE}:
            raise self._refused(name, ended)
        return ended.code == 0

    def _called(self, action: str, name: str, value: str) -> Ended:
        with self._turns.ours():
            try:
                return self._context.run([*self._command, action, name, value], self._timeout)
            except errors.TargetRejected as problem:
                raise errors.DnsRejected(_about(name, problem), hint=problem.hint) from problem
            except errors.DeployError as problem:
                raise errors.DnsUnavailable(_about(name, problem), hint=problem.hint) from problem

    def _refused(
        self, name: str, ended: Ended
    ) -> errors.ZoneNotFound | errors.DnsAccessDenied | errors.DnsUnavailable:
        problem = failed(self._command[0], ended)
        message = _about(name, problem)
        if ended.code == NO_ZONE:
            return errors.ZoneNotFound(
                message,
                hint=Text("set `dns` of the certificate to the account that has the domain"),
            )
        if ended.code == DENIED:
            return errors.DnsAccessDenied(
                message, hint=Text("give the program the keys that its service requires")
            )
        return errors.DnsUnavailable(message, hint=problem.hint)


def _about(name: str, problem: errors.DeployError) -> Text:
    return Text("{about}: {problem}", about=name, problem=problem.message)
