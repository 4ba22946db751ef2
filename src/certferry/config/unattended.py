"""What of the settings is there only as long as somebody sits in front: cron and systemd start
programs with next to no environment.
"""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from certferry.config.env_files import fill_in
from certferry.config.files import Paths
from certferry.config.findings import Finding
from certferry.config.model import Settings
from certferry.core.desired import CommandDelivery, Delivery, FileDelivery
from certferry.text import Text

_DATA = "XDG_DATA_HOME"

_PROXIES = ("https_proxy", "http_proxy", "all_proxy")
_DIRECT = "no_proxy"

_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_EDGE_BUNDLE = "SSL_CERT_FILE"
"""What is trusted at the edge follows OpenSSL; `requests` reads neither it nor SSL_CERT_DIR."""


def lost_secrets(settings: Settings) -> tuple[Finding, ...]:
    """Give the references to variables that nothing but the present environment sets."""
    provided = fill_in({}, settings.env_files)
    return tuple(
        tell(problem)
        for tell, written in _references(settings)
        if (problem := _problem(written, provided)) is not None
    )


def lost_programs(
    settings: Settings, searched: str, environ: Mapping[str, str]
) -> tuple[Finding, ...]:
    """Give the programs that are named without a path and are not in the directories `searched`,
    which are written like PATH; each with where it is found in the present environment.
    """
    return tuple(
        tell(_not_found(name, environ))
        for tell, name in _programs(settings)
        if name and "/" not in name and shutil.which(name, path=searched) is None
    )


def needed_environment(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """Give what a run needs to find the same files and to reach the same services: a home that is
    not the user's usual one, where the state lies if a variable says it, proxies without a
    password, and bundles of CA certificates.
    """
    needed = {}
    home = environ.get("HOME")
    if home and home != _usual_home():
        needed["HOME"] = home
    data = environ.get(_DATA)
    if data and settings.state.path.is_relative_to(Path(data) / "certferry"):
        needed[_DATA] = data
    proxies = _proxies(environ)
    needed |= {name: value for name, value in proxies.items() if not _names_a_user(value)}
    return needed | _bundles(settings, environ)


def withheld_variables(environ: Mapping[str, str]) -> tuple[Finding, ...]:
    """Give the proxies that a run needs, and that are not written where others may read them."""
    problem = Text("a password may be in it, so it is not written down for the run")
    return tuple(
        Finding(None, None, "", name, problem)
        for name, value in _proxies(environ).items()
        if _names_a_user(value)
    )


def runs_programs(settings: Settings) -> bool:
    """Tell whether a run may start programs that the operator names."""
    return any(True for _ in _programs(settings))


def changes_owners(settings: Settings) -> bool:
    """Tell whether a run gives files to another user or group."""
    return any(
        isinstance(delivery, FileDelivery) and (delivery.owner or delivery.group)
        for delivery in _deliveries(settings)
    )


def files_read(settings: Settings, environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Give the files that a run reads: the configuration, and those that it or a variable names
    outright.
    """
    paths = Paths.beside(settings.path, environ)
    secrets = (_led_to(written, "file") for _, written in _references(settings))
    sources = [wish.files for wish in settings.certificates if wish.files is not None]
    bundles = (settings.acme.ca_bundle, settings.verify.ca_bundle)
    return tuple(
        path
        for path in (
            settings.path,
            *(file.path for file in settings.env_files),
            *(paths.resolve(written) for written in secrets if written),
            *(Path(path) for files in sources for path in (files.fullchain, files.privkey)),
            *bundles,
            *map(Path, _bundles(settings, environ).values()),
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


def _references(settings: Settings) -> Iterator[tuple[Callable[[Text], Finding], str]]:
    """Give what may be a reference to a secret, and how a problem of it is told."""
    for account in settings.accounts.values():
        for key, value in account.values.items():
            if isinstance(value, str):
                yield partial(account.place.finding, key), value
    external = settings.acme.eab_hmac_key
    if external is not None:
        tell = partial(Finding, settings.path, None, "[acme]", "eab_hmac_key")
        yield tell, external.written


def _programs(settings: Settings) -> Iterator[tuple[Callable[[Text], Finding], str]]:
    """Give the programs that the operator names, and how a problem of one is told."""
    for tell, written in _references(settings):
        command = _led_to(written, "command")
        if command:
            yield tell, _first_word(command)
    for wish in settings.certificates:
        for number, deployment in enumerate(wish.deployments):
            place, delivery = (
                settings.places[wish.lineage].below("deploy", number),
                deployment.delivery,
            )
            if isinstance(delivery, CommandDelivery):
                yield partial(place.finding, "command"), delivery.program.arguments[0]
            elif isinstance(delivery, FileDelivery) and delivery.reload is not None:
                yield partial(place.finding, "reload"), delivery.reload.arguments[0]


def _first_word(command: str) -> str:
    try:
        return next(iter(shlex.split(command)), "")
    except ValueError:  # told when it is to be run
        return command


def _not_found(program: str, environ: Mapping[str, str]) -> Text:
    found = shutil.which(program, path=environ.get("PATH"))
    if found is None:
        return Text("{program} is not found when the system starts the run", program=program)
    return Text(
        "{program} is not found when the system starts the run; here it is {found}",
        program=program,
        found=str(Path(found).absolute()),
    )


def _led_to(written: str, scheme: str) -> str:
    """Give what a reference of this kind leads to; nothing for any other value."""
    kind, _, rest = written.partition(":")
    return rest if kind == scheme else ""


def _problem(written: str, provided: Mapping[str, str]) -> Text | None:
    name = _led_to(written, "env")
    if not name or provided.get(name):
        return None
    return Text("nothing sets {name} when the system starts the run", name=name)


def _proxies(environ: Mapping[str, str]) -> dict[str, str]:
    """Give the variables of proxies that count, as `urllib.request.getproxies_environment` finds
    them for `requests`: lower case before upper case, even when there is nothing in it.
    """
    found = {}
    for name in (*_PROXIES, _DIRECT):
        counts = name if name in environ else name.upper()
        if environ.get(counts):
            found[counts] = environ[counts]
    return found if any(name.lower() in _PROXIES for name in found) else {}


def _names_a_user(proxy: str) -> bool:
    return "@" in proxy  # however the rest of it is written (RFC 3986 §3.2.1)


def _bundles(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """Give the variables that name CA certificates, and count; their paths from anywhere."""
    found = [name for name in _BUNDLES if environ.get(name)][:1]
    if settings.verify.ca_bundle is None and environ.get(_EDGE_BUNDLE):
        found.append(_EDGE_BUNDLE)
    return {name: str(Path(environ[name]).absolute()) for name in found}


def _usual_home() -> str | None:
    try:
        return pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        return None
