"""`certferry schedule`: make cron or systemd start a run twice a day. `certferry notify`: test the
channels that report trouble to operators, and report a scheduled run that was killed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import click
from click.core import ParameterSource

from certferry.cli.commands import Group
from certferry.cli.exits import Exit
from certferry.cli.options import PROGRAM, CommandContext, say, say_changed
from certferry.cli.selection import settings_or_defaults, workspace_of
from certferry.cli.serve import console_process
from certferry.config import unattended
from certferry.config.load import load
from certferry.config.mistakes import Mistake, instead_of
from certferry.config.model import Settings
from certferry.core.schedule import Job, Scheduled
from certferry.errors import ConfigError, RunCutShort, ScheduleError, system_words
from certferry.ports.notifier import Sent
from certferry.ports.scheduler import Scheduler
from certferry.present import schedule_text
from certferry.present.console import Console
from certferry.present.language import ENGLISH
from certferry.present.layout import line
from certferry.present.news_text import answer_lines
from certferry.present.run_log import is_stream
from certferry.reconcile.examination import examine_channels
from certferry.reconcile.run import Run
from certferry.text import Text
from certferry.wiring.adapters import CHANNELS
from certferry.wiring.machine import has_packaged_timer, schedulers
from certferry.wiring.settings import ADAPTERS, offered

_PRIVATE = 0o700
_NOT_CARRIED = {"config", "verbose", "quiet"}
"""Global options that `options_said` leaves out: `job_for` adds `--config` and `--quiet` itself,
and a scheduled run is never verbose.
"""


@click.group("schedule", cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Schedule `certferry sync` twice a day, with cron or systemd."""


@command.command("install")
@click.option(
    "--systemd", is_flag=True, help="Write a systemd service and timer instead of a crontab line."
)
@click.option(
    "--serve",
    is_flag=True,
    help="Write a systemd service that keeps running, with the console and the two daily runs.",
)
@click.pass_context
def install(ctx: click.Context, *, systemd: bool, serve: bool) -> Exit:
    """Write one line into your crontab, or a service and a timer: one run at a random time at
    night, another 12 hours later. With --serve, write a service that runs `certferry serve`.

    The run uses the same configuration file and global options as this command (log file,
    language); without --log-file, its log lies beside the state. Failures are retried after 1, 10
    and 100 minutes. Installing again keeps the time; without changes, nothing is written.

    systemd's service is hardened, unless the configuration runs your own programs (`reload`,
    `command`, `command:`).

    A run that was killed or could not start is reported through the notification channels.
    """
    context: CommandContext = ctx.obj
    environ = context.console.environ
    settings = load(context.config, environ, ADAPTERS)
    if serve:
        console_process()
    timer, server, cron = all_schedulers = schedulers(environ)
    is_packaged = has_packaged_timer(environ)
    job = job_for(settings, ctx.find_root(), context.console, serves=serve)
    # The Debian package's timer runs certferry as a user of its own, who could not write to
    # directories that root makes here.
    if not is_packaged:
        make_directories(job)
    usual = timer if systemd or is_packaged else cron
    lost_secrets = unattended.lost_secrets(settings)
    installed = install_at(server if serve else usual, job, context, works=not lost_secrets)
    lost = unattended.lost_programs(settings, installed.path, environ)
    unread = examine_channels(
        has_channel=bool(settings.channels), has_heartbeat=settings.monitoring.heartbeat is not None
    )
    concerns = [
        schedule_text.undone(installed),
        *([schedule_text.beyond_package(job)] if is_packaged else []),
        *([] if settings.certificates else [schedule_text.nothing_to_do(settings.path)]),
        _found(lost_secrets, schedule_text.LOST),
        _found(lost, schedule_text.MISSED.filled(path=installed.path)),
        _found(unattended.withheld_variables(environ), schedule_text.WITHHELD),
        schedule_text.not_needed(starts_of(all_schedulers)),
        *(([finding.message], finding.hint) for finding in unread),
    ]
    context.console.print_stderr(schedule_text.warned(concerns, context.voice))
    return Exit.OK


@command.command("remove")
@click.option("--systemd", is_flag=True, help="Remove only the systemd units.")
@click.pass_obj
def remove(context: CommandContext, *, systemd: bool) -> Exit:
    """Remove everything that `install` wrote, and nothing else.

    Without --systemd, removes both the crontab line and the units.
    """
    installed_at = schedulers(context.console.environ)
    remove_from(installed_at[:2] if systemd else installed_at, context)
    return Exit.OK


@command.command("logrotate")
@click.pass_context
def logrotate(ctx: click.Context) -> Exit:
    """Print a snippet for /etc/logrotate.d to rotate the log of the scheduled runs."""
    context: CommandContext = ctx.obj
    settings = load(context.config, context.console.environ, ADAPTERS)
    log = ctx.find_root().params.get("log_file") or default_log(settings)
    rows = schedule_text.LOGROTATE.format(log=_absolute(log)).splitlines()
    context.console.print(line(row) for row in rows)
    return Exit.OK


@command.command("show")
@click.pass_obj
def show(context: CommandContext) -> Exit:
    """Show the installed schedule and the next run."""
    show_all(schedulers(context.console.environ), context.console)
    return Exit.OK


def install_at(
    scheduler: Scheduler, job: Job, context: CommandContext, *, works: bool = True
) -> Scheduled:
    """Install a job, and print and return the installed schedule. If the operator still has steps
    to take (`Scheduled.to_do`), or without `works`, the printed sentence says so. Raise
    `ScheduleError`.
    """
    change, installed = scheduler.install(job)
    if not context.quiet:
        context.console.print([*schedule_text.lines(installed, context.voice), line()])
    outcome = schedule_text.OUTCOMES[change].filled(when=installed.when)
    if installed.to_do is not None or not works:
        outcome = Text("Written: {when}; first follow the steps below.")
        outcome = outcome.filled(when=installed.when)
    say_changed(context, "schedule.install", outcome)
    return installed


def remove_from(schedulers: Sequence[Scheduler], context: CommandContext) -> None:
    """Remove the schedules of `schedulers`, and print the place of each, or that there was none.
    Raise `ScheduleError`.
    """
    places = []
    for scheduler in schedulers:
        if (place := scheduler.remove()) is not None:
            places.append(place)
            say_changed(context, "schedule.remove", Text("Removed from {place}.", place=place))
    if not places:
        say(context, Text("Nothing was scheduled, and nothing was changed."))


def show_all(schedulers: Sequence[Scheduler], console: Console) -> None:
    """Print every readable installed schedule; without any schedule, print that nothing is
    scheduled. Then raise the `ScheduleError` of the first unreadable schedule, if any.
    """
    readable: list[Scheduled] = []
    unreadable: list[ScheduleError] = []
    for scheduler in schedulers:
        try:
            scheduled = scheduler.find()
        except ScheduleError as error:
            unreadable.append(error)
            continue
        if scheduled is not None:
            apart = [line()] if readable else []
            console.print([*apart, *schedule_text.lines(scheduled, console.voice)])
            console.print_stderr(
                schedule_text.warned([schedule_text.undone(scheduled)], console.voice)
            )
            readable.append(scheduled)
    if not (readable or unreadable):
        message = Text("Nothing is scheduled; run `certferry schedule install`.")
        console.print([line(console.voice.say(message))])
    concern = schedule_text.not_needed([scheduled.place for scheduled in readable])
    console.print_stderr(schedule_text.warned([concern], console.voice))
    if unreadable:
        raise unreadable[0]


def starts_of(schedulers: Sequence[Scheduler]) -> list[Text]:
    """Return the places of the installed schedules, skipping unreadable ones."""
    places: list[Text] = []
    for scheduler in schedulers:
        with suppress(ScheduleError):
            if (scheduled := scheduler.find()) is not None:
                places.append(scheduled.place)
    return places


def job_for(
    settings: Settings, root: click.Context, console: Console, *, serves: bool = False
) -> Job:
    """Return the job to schedule: a command that works in any directory, with the variables and the
    directories that the command needs.

    With `serves` the command is `certferry serve`. Otherwise the command is `certferry sync
    --scheduled`, and `certferry notify failed` is to run after a failure.
    """
    log = root.params.get("log_file") or default_log(settings)
    logs = [log.parent] if not is_stream(log) else []
    state, socket = settings.state, settings.console.socket
    kept = [state.directory, *([state.key_file.parent] if state.key_file else [])]
    writes = [*kept, *logs, *unattended.directories_filled(settings)]
    options = [*program_reading(settings.path), "--quiet", *options_said(root, console)]
    if "--log-file" not in options:
        options += ["--log-file", _absolute(log)]
    return Job(
        command=(*options, *(("serve",) if serves else ("sync", "--scheduled"))),
        environment=unattended.needed_environment(console.environ),
        writes=tuple(dict.fromkeys(map(_absolute, writes))),
        runs_programs=unattended.runs_programs(settings),
        on_failure=() if serves else (*options, "notify", "failed"),
        sockets=(_absolute(socket.parent),) if serves and socket is not None else (),
    )


def default_log(settings: Settings) -> Path:
    """Return the path of the log of scheduled runs without `--log-file`: the state's directory,
    where every run can write.
    """
    return settings.state.directory / "certferry.log"


def make_directories(job: Job) -> None:
    """Make the directories that a run writes into. Raise `ScheduleError`."""
    for path in map(Path, job.writes):
        try:
            path.mkdir(_PRIVATE, parents=True, exist_ok=True)
        except OSError as exc:
            message = Text("{path} cannot be made: {problem}", path=path, problem=system_words(exc))
            hint = Text(
                "create the directory yourself, or choose another log with --log-file before the"
                " command"
            )
            raise ScheduleError(message, hint=hint) from exc


def program(script: str, python: str) -> tuple[str, ...]:
    """Return the words of a command that starts this installation of certferry, from any directory:
    `script` if it can be executed, else `python` with the package.
    """
    path = Path(script).absolute()
    if path.name == PROGRAM and os.access(path, os.X_OK):
        return (str(path),)
    # -P keeps Python from importing a directory called certferry in cron's working directory.
    return (python, "-P", "-m", PROGRAM)


def program_reading(file: Path | None) -> list[str]:
    """Return the words of a command that starts this installation of certferry from any directory,
    with `file`, if any, as configuration.
    """
    config = ["--config", _absolute(file)] if file else []
    return [*program(sys.argv[0], sys.executable), *config]


def options_said(root: click.Context, console: Console) -> list[str]:
    """Return the global options given on the command line or in the environment, except
    `_NOT_CARRIED`, with absolute paths for a run in any directory. If the operator's language is
    not English, `--lang` is among the options.
    """
    given = {ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT}
    options: list[str] = []
    for option in root.command.params:
        name = option.name or ""
        if name not in _NOT_CARRIED and root.get_parameter_source(name) in given:
            value = root.params[name]
            options += [option.opts[-1], _absolute(value) if isinstance(value, Path) else value]
    if "--lang" not in options and console.voice.language != ENGLISH:
        options += ["--lang", console.voice.language]  # cron removes the locale
    return options


def _absolute(path: Path) -> str:
    # Symbolic links stay unresolved, because the operator may point a link elsewhere later.
    return str(path.absolute())


def _found(findings: Iterable[Mistake], hint: Text) -> schedule_text.Concern:
    return [finding.text for finding in findings], hint


@click.group("notify", cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
def notify() -> None:
    """Test the notification channels."""


@notify.command("test")
@click.argument("channels", metavar="[CHANNEL]...", nargs=-1)
@click.pass_obj
def test(context: CommandContext, channels: tuple[str, ...]) -> Exit:
    """Send a message through every channel, or the named ones, and print the answers.

    Exits 1 if a service refused the message.
    """
    settings = settings_or_defaults(context)
    names = _chosen(settings, channels)
    with workspace_of(context, settings, reads_only=False) as workspace:
        tried = workspace.notifications(Run()).channels
        answers, services = tried.try_out(names), tried.services(names)
    all_sent = all(isinstance(answer, Sent) for answer in answers.values())
    if not (context.quiet and all_sent):
        context.console.print_wrapped(answer_lines(answers, services, context.voice))
    return Exit.OK if all_sent else Exit.FAILED


@notify.command("failed", hidden=True)
@click.pass_obj
def failed(context: CommandContext) -> Exit:
    """Report that a scheduled run failed; called by systemd and by the crontab's line.

    A run that ended with 1 or 3 has already reported its trouble. For a run that was killed, took
    too long or could not start, certferry records the failure for `check` and notifies the
    channels.
    """
    environ = context.console.environ
    error = cut_short(environ)
    if error is None:
        return Exit.OK
    was_refused = environ.get(_STATUS) == str(int(Exit.USAGE))
    try:
        settings = settings_or_defaults(context)
    except ConfigError:
        if was_refused:
            return Exit.OK  # the run refused the file and has reported the reason
        from certferry.wiring.runner import notify_despite_wrong_file

        notify_despite_wrong_file(error, context.config, environ, language=context.voice.language)
        raise
    with workspace_of(context, settings, reads_only=False) as workspace:
        notifications = workspace.notifications(Run())
        if not (was_refused and notifications.stands_failed()):
            notifications.notify_failure(error)
    return Exit.OK


_RESULT, _STATUS = "MONITOR_SERVICE_RESULT", "MONITOR_EXIT_STATUS"
_NO_NEWS = frozenset(str(int(c)) for c in (Exit.FAILED, Exit.REFUSED, Exit.STOPPED, Exit.TRY_LATER))
"""Exit codes after which `notify failed` sends nothing: the run has reported its failures itself,
an operator stopped the run, or a later run continues the work.
"""
_SIGNALS = range(129, 160)
"""A shell's exit codes for a program that a signal ended: 128 plus the signal's number."""
_WORDS = {
    "timeout": Text("the run took longer than allowed"),
    "oom-kill": Text("the machine ran out of memory"),
    "signal": Text("a signal ended the run"),
    "core-dump": Text("the run crashed"),
    "start-limit-hit": Text("the run was started too often"),
    "resources": Text("the system had no resources for the run"),
}


def cut_short(environ: Mapping[str, str]) -> RunCutShort | None:
    """Return the error that says how a failed run ended. Return `None` if the run exited with one
    of `_NO_NEWS`.

    `environ` says how the run ended, in the variables `_RESULT` and `_STATUS`. systemd sets the
    variables from version 251 on (systemd.exec(5), "$MONITOR_…"); the crontab's line sets the
    status alone.
    """
    result, status = environ.get(_RESULT, ""), environ.get(_STATUS, "")
    if result in {"exit-code", ""} and status in _NO_NEWS:
        return None
    how = _WORDS.get(result)
    if not result and status.isdecimal() and int(status) in _SIGNALS:
        how = _WORDS["signal"]
    if how is None and status:
        how = Text("the run ended with status {status}", status=status)
    message = Text("the scheduled run was cut short")
    if how is not None:
        message = Text("the scheduled run was cut short: {how}", how=how)
    hint = Text("see the log of the run, and run: certferry sync")
    if result:
        unit = "certferry.service"
        hint = Text("see `journalctl -u {unit}`, and run: certferry sync", unit=unit)
    return RunCutShort(message, hint=hint)


def _chosen(settings: Settings, channels: Sequence[str]) -> Sequence[str]:
    declared = list(settings.channels)
    if not declared:
        hint = Text('declare a channel: [notify.ops] with type = "{type}" and its url')
        hint = hint.filled(type=offered(CHANNELS)[0].type)
        raise ConfigError(Text("no channel is declared"), hint=hint)
    for name in channels:
        if name not in declared:
            message = Text("there is no channel called {name}", name=name)
            raise ConfigError(message, hint=instead_of(name, declared))
    return channels or declared
