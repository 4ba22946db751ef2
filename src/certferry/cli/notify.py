"""`certferry notify`: the channels through which operators hear of trouble."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from certferry.cli.commands import Group
from certferry.cli.exits import Exit
from certferry.cli.options import Front
from certferry.errors import ConfigError, RunCutShort
from certferry.text import Text

if TYPE_CHECKING:
    from certferry.config.model import Settings


@click.group("notify", cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Try the channels through which you hear of trouble."""


@command.command("test")
@click.argument("channels", metavar="[CHANNEL]...", nargs=-1)
@click.pass_obj
def test(front: Front, channels: tuple[str, ...]) -> Exit:
    """Send one message through every channel, or those that are named, and print the answers.

    Exits 1 if a service did not take it.
    """
    from certferry.cli.selection import settings_or_defaults, workspace_of
    from certferry.ports.notifier import Sent
    from certferry.present.news_text import answer_lines
    from certferry.reconcile.run import Run

    settings = settings_or_defaults(front)
    names = _chosen(settings, channels)
    with workspace_of(front, settings, reads_only=False) as workspace:
        tried = workspace.notifications(Run()).channels
        answers, services = tried.try_out(names), tried.services(names)
    all_sent = all(isinstance(answer, Sent) for answer in answers.values())
    if not (front.quiet and all_sent):
        front.console.print_wrapped(answer_lines(answers, services, front.voice))
    return Exit.OK if all_sent else Exit.FAILED


@command.command("failed", hidden=True)
@click.pass_obj
def failed(front: Front) -> Exit:
    """Report that a scheduled run failed; systemd and the crontab's line run this, and say how.

    A run that ended with 1 or 3 has reported its trouble itself. For one that was killed, took too
    long or could not begin, certferry records it for `check` and sends it to the channels.
    """
    from certferry.cli.selection import settings_or_defaults, workspace_of
    from certferry.reconcile.run import Run
    from certferry.wiring.notifications import notify_in_spite_of_it

    environ = front.console.environ
    error = cut_short(environ)
    if error is None:
        return Exit.OK
    was_refused = environ.get(_STATUS) == str(int(Exit.USAGE))
    try:
        settings = settings_or_defaults(front)
    except ConfigError:
        if was_refused:
            return Exit.OK  # for that reason, which the run has reported
        notify_in_spite_of_it(error, front.config, environ, language=front.voice.language)
        raise
    with workspace_of(front, settings, reads_only=False) as workspace:
        notifications = workspace.notifications(Run())
        if not (was_refused and notifications.stands_failed()):
            notifications.notify_failure(error)
    return Exit.OK


_RESULT, _STATUS = "MONITOR_SERVICE_RESULT", "MONITOR_EXIT_STATUS"
_NO_NEWS = frozenset(
    str(int(code)) for code in (Exit.FAILED, Exit.REFUSED, Exit.STOPPED, Exit.TRY_LATER)
)
"""How a run ends that has reported its trouble itself, or that has none."""
_SIGNALS = range(129, 160)
"""What a shell makes of a signal: 128 and its number."""
_WORDS = {
    "timeout": Text("it took longer than a run may"),
    "oom-kill": Text("the machine had no memory left"),
    "signal": Text("a signal ended it"),
    "core-dump": Text("it crashed"),
    "start-limit-hit": Text("it was started too often"),
    "resources": Text("the system had no resources for it"),
}


def cut_short(environ: Mapping[str, str]) -> RunCutShort | None:
    """Return how a failed run ended, by what systemd passes to the unit under OnFailure=
    (systemd.exec(5), "$SERVICE_RESULT, $EXIT_CODE, $EXIT_STATUS" and "$MONITOR_…", since version
    251), or the crontab's line, which knows the exit status alone; `None` for one that reported its
    failure itself, or was stopped.
    """
    result, status = environ.get(_RESULT, ""), environ.get(_STATUS, "")
    if result in {"exit-code", ""} and status in _NO_NEWS:
        return None
    how = _WORDS.get(result)
    if not result and status.isdecimal() and int(status) in _SIGNALS:
        how = _WORDS["signal"]
    if how is None and status:
        how = Text("it ended with status {status}", status=status)
    said = Text("the scheduled run was cut short")
    if how is not None:
        said = Text("the scheduled run was cut short: {how}", how=how)
    hint = Text("see the log of the run, and run: certferry sync")
    if result:
        unit = "certferry.service"
        hint = Text("see `journalctl -u {unit}`, and run: certferry sync", unit=unit)
    return RunCutShort(said, hint=hint)


def _chosen(settings: Settings, channels: Sequence[str]) -> Sequence[str]:
    """Return the channels to try. Raises `ConfigError`."""
    from certferry.config.mistakes import instead_of

    known = list(settings.channels)
    if not known:
        hint = Text('declare one: [notify.ops] with type = "dingtalk" and its url')
        raise ConfigError(Text("no channel is declared"), hint=hint)
    for name in channels:
        if name not in known:
            said = Text("there is no channel called {name}", name=name)
            raise ConfigError(said, hint=instead_of(name, known))
    return channels or known
