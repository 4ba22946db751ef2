"""Find the environment variables and programs that a run started by cron or systemd would lack.
Both start programs with almost no environment.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from certferry.config.env_files import fill_in
from certferry.config.files import home_directory
from certferry.config.mistakes import Mistake, mistake_at
from certferry.config.model import AccountTable, Settings
from certferry.core.desired.certificate import CommandDelivery, Delivery, FileDelivery
from certferry.text import Text

At = Callable[[Text], Mistake]
"""Makes a mistake of a problem, with the place of one setting."""

_PROXIES = ("https_proxy", "http_proxy", "all_proxy", "no_proxy")
_PROXY_NAMES = (*_PROXIES, *map(str.upper, _PROXIES))
_OTHER_NAMES = ("XDG_DATA_HOME", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")


def lost_secrets(settings: Settings) -> list[Mistake]:
    """Return a mistake for each reference to an environment variable that a scheduled run may lack:
    each variable that no file of `env_files` sets.
    """
    provided = fill_in({}, settings.env_files)
    return [
        at(Text("cron and systemd start the run without {name}", name=name))
        for at, name in _references(settings, "env")
        if not provided.get(name)
    ]


def lost_programs(settings: Settings, path: str, environ: Mapping[str, str]) -> list[Mistake]:
    """Return a mistake for each program found through the present PATH, but not in the directories
    of `path`, the PATH of scheduled runs.
    """
    problem = Text(
        "{program} is not found when the system starts the run; here the program is {found}"
    )
    return [
        at(problem.filled(program=name, found=located))
        for at, name in _programs(settings)
        if shutil.which(name, path=path) is None
        and (located := shutil.which(name, path=environ.get("PATH"))) is not None
    ]


def needed_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the present environment variables that a scheduled run needs too: HOME if the password
    database has another home, XDG_DATA_HOME for the state's place, CA bundles, and proxies without
    a user.
    """
    home = environ.get("HOME")
    needed = {"HOME": home} if home and Path(home) != home_directory({}) else {}
    proxies = {name: value for name, value in _proxies(environ) if not _names_a_user(value)}
    return needed | proxies | {name: environ[name] for name in _OTHER_NAMES if environ.get(name)}


def withheld_variables(environ: Mapping[str, str]) -> list[Mistake]:
    """Return a mistake for each proxy that may contain a password. A run needs the proxy, but other
    users can read a unit or a crontab, so the proxy is not written there.
    """
    problem = Text(
        "the variable may contain a password, so certferry does not store it for the run"
    )
    withheld = [name for name, value in _proxies(environ) if _names_a_user(value)]
    return [mistake_at(None, None, "", name, problem) for name in withheld]


def runs_programs(settings: Settings) -> bool:
    """Return whether a run may start programs named by the operator."""
    return any(True for _ in _programs(settings))


def directories_filled(settings: Settings) -> list[Path]:
    """Return the directories of the certificate files and of the metrics file that a run writes. In
    place of a missing directory, return the nearest existing parent.
    """
    deliveries = (delivery for _, delivery in _deliveries(settings))
    wanted = [
        Path(delivery.directory)
        for delivery in deliveries
        if isinstance(delivery, FileDelivery) and not delivery.account
    ]
    if settings.monitoring.metrics is not None:
        wanted.append(settings.monitoring.metrics.parent)
    return [next(step for step in (path, *path.parents) if step.is_dir()) for path in wanted]


def _deliveries(settings: Settings) -> Iterator[tuple[Callable[[str, Text], Mistake], Delivery]]:
    for desired in settings.certificates:
        for number, deployment in enumerate(desired.deployments):
            if deployment.delivery is not None:
                place = settings.deployed[desired.lineage][number]
                yield place.mistake, deployment.delivery


def _references(settings: Settings, scheme: str) -> Iterator[tuple[At, str]]:
    """Yield for each reference with this scheme, such as `env`, a function that makes a mistake at
    the reference's place, and the text after the scheme.
    """
    entries: list[tuple[At, object]] = [
        (partial(account.place.mistake, key), value)
        for account in _tables(settings)
        for key, value in account.values.items()
    ]
    for ca in settings.acme.authorities:
        if ca.eab_hmac_key is not None:
            table = "[acme]" if ca is settings.acme.usual else f"[acme.{ca.name}]"
            acme = partial(mistake_at, settings.path, None, table, "eab_hmac_key")
            entries.append((acme, ca.eab_hmac_key.written))
    state = settings.state
    entries += [
        (partial(state.place.mistake, key), reference.written)
        for key, reference in state.references.items()
    ]
    if settings.monitoring.heartbeat is not None:
        heartbeat = partial(mistake_at, settings.path, None, "[heartbeat]", "url")
        entries.append((heartbeat, settings.monitoring.heartbeat.written))
    if settings.transparency.token is not None:
        token = partial(mistake_at, settings.path, None, "[ct]", "token")
        entries.append((token, settings.transparency.token.written))
    for at, value in entries:
        kind, _, rest = str(value).partition(":")
        if kind == scheme and rest.strip():
            yield at, rest


def _tables(settings: Settings) -> Iterator[AccountTable]:
    yield from settings.accounts.values()
    yield from (channel.account for channel in settings.channels.values())


def _programs(settings: Settings) -> Iterator[tuple[At, str]]:
    """Yield for each program named by the operator a function that makes mistakes at the program's
    place, and the program.
    """
    for at, command in _references(settings, "command"):
        yield at, command.split()[0]
    for account in _tables(settings):
        arguments = account.values.get("command")
        if isinstance(arguments, list) and arguments:
            yield partial(account.place.mistake, "command"), str(arguments[0])
    for mistake, delivery in _deliveries(settings):
        if isinstance(delivery, CommandDelivery):
            yield partial(mistake, "command"), delivery.program.arguments[0]
            continue
        if delivery.account:
            yield partial(mistake, "to"), "ssh"
            continue
        for key, program in (("test", delivery.test), ("reload", delivery.reload)):
            if program is not None:
                yield partial(mistake, key), program.arguments[0]


def _proxies(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    return ((name, environ[name]) for name in _PROXY_NAMES if environ.get(name))


def _names_a_user(proxy: str) -> bool:
    return "@" in proxy  # a user in any URL ends with `@` (RFC 3986 §3.2.1)
