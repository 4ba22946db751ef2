"""`certferry schedule`: a daily run that the system starts, by cron or by systemd."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from certferry.cli.desk import Desk
from certferry.cli.exits import Exit
from certferry.cli.groups import SpokenGroup
from certferry.cli.language import ENGLISH
from certferry.cli.log_file import is_stream
from certferry.cli.options import Front
from certferry.errors import ConfigError, ScheduleError

if TYPE_CHECKING:
    from certferry.cli.schedule_text import Concern
    from certferry.config.model import Settings
    from certferry.core.schedule import Job, Scheduled
    from certferry.ports.scheduler import Scheduler

PROGRAM = "certferry"

_NOT_CARRIED = {"config", "verbose", "quiet"}
"""Global options that the run has its own of: it is told one file, and tells only what is wrong."""

systemd_option = click.option(
    "--systemd", is_flag=True, help="A systemd service and timer, instead of a crontab's line."
)


@click.group("schedule", cls=SpokenGroup, context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Have `certferry sync` run every day, by cron or by systemd."""


@command.command("install")
@systemd_option
@click.pass_context
def install(ctx: click.Context, *, systemd: bool) -> Exit:
    """Write one line into your crontab, or a service and a timer; at a random minute of the night.

    The run reads the configuration file that is read now, and has the global options of this
    command (where the log goes, in which language). Installed again, it keeps its time; when
    nothing has changed, nothing is written.
    """
    from certferry.cli import schedule_text
    from certferry.config.load import load
    from certferry.config.unattended import lost_secrets, withheld_variables
    from certferry.wiring.schedulers import schedulers
    from certferry.wiring.settings import ADAPTERS

    front: Front = ctx.obj
    settings = load(front.config, front.desk.environ, ADAPTERS)
    job = job_for(settings, ctx.find_root(), front.desk)
    known = schedulers(front.desk.environ)
    chosen = known.systemd if systemd else known.cron
    installed = install_at(chosen, job, front)
    concerns = [
        schedule_text.nothing_to_do(settings),
        schedule_text.lost(lost_secrets(settings)),
        *missed_programs(settings, installed, front.desk),
        schedule_text.withheld(withheld_variables(front.desk.environ), systemd=systemd),
        schedule_text.not_needed(besides(chosen, known.usable)),
    ]
    front.desk.remark(schedule_text.warned(concerns, front.desk.voice))
    return Exit.OK


@command.command("remove")
@systemd_option
@click.pass_obj
def remove(front: Front, *, systemd: bool) -> Exit:
    """Take away what `install` wrote, and nothing else.

    Without --systemd that is the line in the crontab and the units, whichever there are.
    """
    from certferry.wiring.schedulers import schedulers

    known = schedulers(front.desk.environ)
    remove_from((known.systemd,) if systemd else known.usable, front)
    return Exit.OK


@command.command("show")
@click.pass_obj
def show(front: Front) -> Exit:
    """Show what is installed, and when it runs next."""
    from certferry.wiring.schedulers import schedulers

    show_all(schedulers(front.desk.environ).usable, front.desk)
    return Exit.OK


def missed_programs(settings: Settings, scheduled: Scheduled | None, desk: Desk) -> list[Concern]:
    """Give the programs of the settings that a run will not find."""
    from certferry.cli import schedule_text
    from certferry.config.unattended import lost_programs

    if scheduled is None or scheduled.path is None:
        return []
    findings = lost_programs(settings, scheduled.path, desk.environ)
    return [schedule_text.missed(findings, scheduled.path)]


def settings_of(scheduled: Scheduled, environ: Mapping[str, str]) -> Settings | None:
    """Read the settings that a run reads; `None` where they are not clear, or cannot be read."""
    from certferry.config.load import load
    from certferry.wiring.settings import ADAPTERS

    words = scheduled.arguments
    with suppress(ConfigError, ValueError, IndexError):
        return load(Path(words[words.index("--config") + 1]), environ, ADAPTERS)
    return None


def install_at(scheduler: Scheduler, job: Job, front: Front) -> Scheduled | None:
    """Have a job run every day, say what that has come to, and give it. Raises `ScheduleError`."""
    from certferry.cli import schedule_text
    from certferry.cli.events import log_change

    change = scheduler.install(job)
    installed, voice = scheduler.find(), front.desk.voice
    if installed is not None:
        said = schedule_text.outcome_of(change, installed)
        log_change("schedule.install", said, front.desk.journal)
    if not front.quiet:
        front.desk.show(schedule_text.installed(change, installed, voice))
    elif installed is not None:
        front.desk.remark(schedule_text.warned([schedule_text.undone(installed)], voice))
    return installed


def remove_from(schedulers: Sequence[Scheduler], front: Front) -> None:
    """Take away what is installed, and say where it was. Raises `ScheduleError`.

    One that cannot be reached does not keep the others.
    """
    from certferry.cli import schedule_text
    from certferry.cli.events import log_change

    removed, failed = asked_each(schedulers, lambda scheduler: scheduler.remove())
    for gone in removed:
        log_change("schedule.remove", schedule_text.removal_of(gone), front.desk.journal)
    if not front.quiet and (removed or not failed):
        front.desk.show(schedule_text.removed(removed, front.desk.voice))
    if failed:
        raise failed[0]


def show_all(schedulers: Sequence[Scheduler], desk: Desk) -> None:
    """Show what is installed. Raises `ScheduleError`, having shown what could be seen."""
    from certferry.cli import schedule_text

    found, failed = asked_each(schedulers, lambda scheduler: scheduler.find())
    others = others_of(schedulers)
    if found or not (failed or others):
        desk.show(schedule_text.told(found, desk.voice))
    concerns = [
        concern
        for scheduled in found
        if (settings := settings_of(scheduled, desk.environ)) is not None
        for concern in missed_programs(settings, scheduled, desk)
    ]
    concerns.append(schedule_text.not_needed(others, beside_ours=bool(found)))
    desk.remark(schedule_text.warned(concerns, desk.voice))
    if failed:
        raise failed[0]


def asked_each(
    schedulers: Sequence[Scheduler], ask: Callable[[Scheduler], Scheduled | None]
) -> tuple[list[Scheduled], list[ScheduleError]]:
    """Ask every scheduler; give what there is, and what went wrong."""
    found: list[Scheduled] = []
    failed: list[ScheduleError] = []
    for scheduler in schedulers:
        try:
            scheduled = ask(scheduler)
        except ScheduleError as error:
            failed.append(error)
        else:
            found += [scheduled] if scheduled else []
    return found, failed


def besides(chosen: Scheduler, schedulers: Sequence[Scheduler]) -> list[Scheduled]:
    """Give what starts certferry besides the one that was chosen, as far as it can be seen."""
    unchosen = [scheduler for scheduler in schedulers if scheduler is not chosen]
    return [*asked_each(unchosen, lambda other: other.find())[0], *others_of(schedulers)]


def others_of(schedulers: Sequence[Scheduler]) -> list[Scheduled]:
    """Give what starts certferry and was not installed by it, as far as it can be seen."""
    found: list[Scheduled] = []
    for scheduler in schedulers:
        with suppress(ScheduleError):
            found += scheduler.others()
    return found


def job_for(settings: Settings, root: click.Context, desk: Desk) -> Job:
    """Put together what is to be run, so that it runs from anywhere."""
    from certferry.config.unattended import (
        changes_owners,
        directories_filled,
        directories_kept,
        files_read,
        needed_environment,
        runs_programs,
    )
    from certferry.core.schedule import Job

    said = [value for _, value in _carried(root) if isinstance(value, Path)]
    logs = [path.parent for path in said if not is_stream(path)]
    options = options_said(root, desk)
    keeps = (*directories_kept(settings), *logs)
    return Job(
        command=(*program_reading(settings.path), "--quiet", *options, "sync"),
        environment=needed_environment(settings, desk.environ),
        reads=tuple(map(_absolute, files_read(settings, desk.environ))),
        keeps=tuple(dict.fromkeys(map(_absolute, keeps))),
        fills=tuple(map(_absolute, directories_filled(settings))),
        changes_owners=changes_owners(settings),
        runs_programs=runs_programs(settings),
    )


def program(script: str, python: str) -> tuple[str, ...]:
    """Give the command that runs now, as words that mean the same anywhere."""
    path = Path(script).absolute()
    if path.name == PROGRAM and os.access(path, os.X_OK):
        return (str(path),)
    # -P: a directory that happens to be called certferry where cron starts is not imported.
    return (python, "-P", "-m", PROGRAM)


def program_reading(file: Path | None) -> list[str]:
    """Give the command that runs now, for a run from anywhere that is to read the same file."""
    config = ["--config", _absolute(file)] if file else []
    return [*program(sys.argv[0], sys.executable), *config]


def options_said(root: click.Context, desk: Desk) -> list[str]:
    """Give the other global options that were said, but for how much is told, for a run that
    starts elsewhere.
    """
    options = [str(part) for said in _carried(root) for part in said if part is not None]
    if "--lang" not in options and desk.voice.language != ENGLISH:
        options += ["--lang", desk.voice.language]  # the locale is not there any more
    return options


def _carried(root: click.Context) -> Iterator[tuple[str, Path | str | None]]:
    """Give the other global options that were said, with their values."""
    said = {ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT}
    for option in root.command.params:
        name = option.name or ""
        if name in _NOT_CARRIED or root.get_parameter_source(name) not in said:
            continue
        value = root.params.get(name)
        if isinstance(value, Path):
            yield option.opts[-1], Path(_absolute(value))
        elif value is True:
            yield option.opts[-1], None
        elif value is not None:
            yield option.opts[-1], str(value)


def _absolute(path: Path) -> str:
    # Links are not followed: the operator may lead them elsewhere.
    return str(path.absolute())
