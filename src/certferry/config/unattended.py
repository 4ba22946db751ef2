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

_PROXIES = ("https_proxy", "http_proxy", "all_proxy")
_DIRECT = "no_proxy"

_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_EDGE_BUNDLE = "SSL_CERT_FILE"
"""What is trusted at the edge follows OpenSSL; `requests` reads neither it nor SSL_CERT_DIR."""


def lost_secrets(settings: Settings) -> tuple[Finding, ...]:
    """Give the references to variables that nothing but the present environment sets."""
    provided = fill_in({}, settings.env_files)
    return tuple(_lost(settings, provided))


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


def files_read(settings: Settings, environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Give the files that a run reads: the configuration, and those that it or a variable names
    outright.
    """
    sources = [wish.files for wish in settings.certificates if wish.files is not None]
    bundles = (settings.acme.ca_bundle, settings.verify.ca_bundle)
    return tuple(
        path
        for path in (
            settings.path,
            *(file.path for file in settings.env_files),
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
