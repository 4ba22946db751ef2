"""What of the settings is there only as long as somebody sits in front: cron and systemd start
programs with next to no environment.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator, Mapping
from pathlib import Path

from certferry.config.env_files import fill_in
from certferry.config.findings import Finding
from certferry.config.model import Settings
from certferry.core.desired import CommandDelivery, Delivery, FileDelivery
from certferry.text import Text

_DATA = "XDG_DATA_HOME"


def lost_secrets(settings: Settings) -> tuple[Finding, ...]:
    """Give the references to variables that nothing but the present environment sets."""
    provided = fill_in({}, settings.env_files)
    return tuple(_lost(settings, provided))


def needed_environment(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """Give what a run needs to find the same files: a home that is not the user's usual one, and
    where the state lies if a variable says it.
    """
    needed = {}
    home = environ.get("HOME")
    if home and home != _usual_home():
        needed["HOME"] = home
    data = environ.get(_DATA)
    if data and settings.state.path.is_relative_to(Path(data) / "certferry"):
        needed[_DATA] = data
    return needed


def runs_programs(settings: Settings) -> bool:
    """Tell whether a run may start programs that the operator names."""
    written = (value for account in settings.accounts.values() for value in account.values.values())
    return any(str(value).startswith("command:") for value in written) or any(
        isinstance(delivery, CommandDelivery) or delivery.reload is not None
        for delivery in _deliveries(settings)
    )


def changes_owners(settings: Settings) -> bool:
    """Tell whether a run gives files to another user or group."""
    return any(
        isinstance(delivery, FileDelivery) and (delivery.owner or delivery.group)
        for delivery in _deliveries(settings)
    )


def files_read(settings: Settings) -> tuple[Path, ...]:
    """Give the files that a run reads: the configuration, and those that it names outright."""
    sources = [wish.files for wish in settings.certificates if wish.files is not None]
    bundles = (settings.acme.ca_bundle, settings.verify.ca_bundle)
    return tuple(
        path
        for path in (
            settings.path,
            *(file.path for file in settings.env_files),
            *(Path(path) for files in sources for path in (files.fullchain, files.privkey)),
            *bundles,
        )
        if path is not None
    )


def directories_kept(settings: Settings) -> tuple[Path, ...]:
    """Give the directories in which a run keeps its state."""
    return tuple(dict.fromkeys([settings.state.path.parent, settings.state.key_file.parent]))


def directories_filled(settings: Settings) -> tuple[Path, ...]:
    """Give the directories into which a run puts certificates. Where one is still to be made, it
    is the one in which that happens.
    """
    wanted = [
        Path(delivery.directory)
        for delivery in _deliveries(settings)
        if isinstance(delivery, FileDelivery)
    ]
    return tuple(
        next(step for step in (directory, *directory.parents) if step.is_dir())
        for directory in wanted
    )


def _deliveries(settings: Settings) -> Iterator[Delivery]:
    for wish in settings.certificates:
        for deployment in wish.deployments:
            if deployment.delivery is not None:
                yield deployment.delivery


def _lost(settings: Settings, provided: Mapping[str, str]) -> Iterator[Finding]:
    for account in settings.accounts.values():
        for key, value in account.values.items():
            if isinstance(value, str) and (problem := _problem(value, provided)):
                yield account.place.finding(key, problem)
    external = settings.acme.eab_hmac_key
    if external is not None and (problem := _problem(external.written, provided)):
        yield Finding(settings.path, None, "[acme]", "eab_hmac_key", problem)


def _problem(written: str, provided: Mapping[str, str]) -> Text | None:
    scheme, _, name = written.partition(":")
    if scheme != "env" or provided.get(name):
        return None
    return Text("nothing sets {name} when the system starts the run", name=name)


def _usual_home() -> str | None:
    try:
        return pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        return None
