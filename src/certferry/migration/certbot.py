"""The directory of certbot: `renewal/NAME.conf` for each certificate, its files in `live/NAME/`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from certferry.core.desired import PemFiles
from certferry.errors import CertificateError
from certferry.migration.home import Installed, OldCertificate, OldClient, OldHome, OldHook
from certferry.migration.reading import (
    bundle_in,
    children,
    command,
    each,
    is_same,
    lineage_of,
    text_of,
    unquoted,
)
from certferry.ports.source import CertificateSource
from certferry.text import Text

SCHEDULED = re.compile(r"\bcertbot\b.*\brenew\b")
"""What a line that starts it looks like."""

HOME_OPTIONS = ("--config-dir",)
"""What names its directory there."""

_ROOT = Path("/")
_USUAL = Path("/etc/letsencrypt")
_SYSTEMD = "run/systemd/system"  # there while systemd runs: sd_booted(3)
_UNITS = ("etc/systemd/system", _SYSTEMD, "usr/lib/systemd/system", "lib/systemd/system")
_TIMERS = ("certbot.timer", "snap.certbot.renew.timer", "certbot-renew.timer")
"""Of the packages: Debian's, snap's, Fedora's and its kin's."""

_CRON = "etc/cron.d/certbot"  # cron reads no file with a dot in its name
_HOOKS = ("pre_hook", "renew_hook", "post_hook")
_SETTING = re.compile(r"[ \t]*([\w.:-]+)[ \t]*=[ \t]*(.*?)[ \t]*")


def default_home(environ: Mapping[str, str], home: Path) -> Path:
    """Give the directory that certbot itself would use."""
    del environ, home
    return _USUAL


def read(home: Path, usual: Path, source: CertificateSource, machine: Path = _ROOT) -> OldHome:
    """Read everything. `usual` is the directory that certbot uses when it is told nothing,
    `machine` the root of the machine that starts it.

    Raises `ConfigError` when there is no such directory.
    """
    confs = [path for path in children(home.absolute() / "renewal") if path.suffix == ".conf"]
    taken: set[str] = set()
    entries = [_Entry(path, lineage_of(path.stem, taken)) for path in confs]
    is_usual = is_same(home, usual)
    where = () if is_usual else ("--config-dir", str(home.absolute()))
    read_one = partial(_read, where, tuple(_hooks_of_all(home)), source)
    found, unreadable = each(entries, lambda e: e.conf.name, read_one)
    return OldHome(
        client=OldClient.CERTBOT,
        home=str(home),
        certificates=found,
        unreadable=unreadable,
        # The package renews what lies in the usual directory: nothing else may end that.
        stop=what_stops_it(machine) if is_usual else (),
    )


def what_stops_it(machine: Path) -> tuple[str, ...]:
    """Give what ends the renewals of certbot's package, nothing where it cannot be told what starts
    them. The crontab of Debian's does nothing while systemd runs.
    """
    if (machine / _SYSTEMD).is_dir():
        there = [name for name in _TIMERS if any((machine / d / name).exists() for d in _UNITS)]
        return tuple(command("systemctl", "disable", "--now", name) for name in there)
    if (machine / _CRON).exists():
        return (command("mv", f"/{_CRON}", f"/{_CRON}.disabled"),)
    return ()


def parse_renewal(text: str) -> dict[str, str]:
    """Read the settings of a renewal file, whatever section they are in; keys do not repeat."""
    found = (_SETTING.fullmatch(line) for line in text.split("\n"))
    return {setting[1]: unquoted(setting[2]) for setting in found if setting is not None}


@dataclass(frozen=True, slots=True)
class _Entry:
    conf: Path
    lineage: str


def _named_hooks(settings: Mapping[str, str]) -> Iterator[str]:
    for key in _HOOKS:
        if settings.get(key, "None") not in {"", "None"}:
            yield settings[key]


def _hooks_of_all(home: Path) -> Iterator[str]:
    """Find what is run for every certificate, since it lies there."""
    for kind in ("pre", "deploy", "post"):
        directory = home / "renewal-hooks" / kind
        for path in children(directory) if directory.is_dir() else ():
            is_run = path.is_file() and os.access(path, os.X_OK) and not path.name.endswith("~")
            if is_run and not OldHook(_commands_in(path)).is_ours_alone:
                yield command(str(path))


def _commands_in(script: Path) -> str:
    try:
        lines = text_of(script).splitlines()
    except CertificateError:  # no script, or nobody's to read
        return ""
    return "\n".join(line for line in lines if line.strip() and not line.lstrip().startswith("#"))


def _read(
    where: tuple[str, ...],
    everyones_hooks: tuple[str, ...],
    source: CertificateSource,
    entry: _Entry,
) -> OldCertificate:
    settings = parse_renewal(text_of(entry.conf))
    for key in ("fullchain", "privkey"):
        if not settings.get(key):
            problem = Text("{path}: does not name its {key}", path=entry.conf, key=key)
            raise CertificateError(problem)
    directory = entry.conf.parent
    files = PemFiles(str(directory / settings["fullchain"]), str(directory / settings["privkey"]))
    name = entry.conf.stem
    return OldCertificate(
        lineage=entry.lineage,
        bundle=bundle_in(files, source),
        files=files,
        stop=command("certbot", "reconfigure", *where, "--cert-name", name, "--no-autorenew"),
        directory=settings.get("server", ""),
        proven_by=settings.get("authenticator", ""),
        installed=Installed(hooks=(*_named_hooks(settings), *everyones_hooks)),
    )
