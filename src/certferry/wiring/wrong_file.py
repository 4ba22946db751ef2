"""A run that could not begin, since its file is wrong: those whom the file names are notified."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from certferry.config.load import salvage
from certferry.config.model import ChannelTable, Monitoring, Settings
from certferry.config.secrets import SecretReference
from certferry.core.planning.report import SyncReport
from certferry.errors import CertferryError, ConfigError
from certferry.reconcile.run import Run
from certferry.wiring.notifications import RunNotifications
from certferry.wiring.workspace import Workspace

_HARMLESS = frozenset(
    {
        "dingtalk",
        "feishu",
        "wecom",
        "serverchan",
        "pushplus",
        "bark",
        "telegram",
        "webhook",
        "email",
    }
)
"""Channels that send a message to an address and do nothing else. `command` runs a program, and who
knows what `apprise` and the channels of other packages do.
"""


def notify_of_wrong_file(
    error: ConfigError, path: Path | None, environ: Mapping[str, str], *, language: str
) -> None:
    """Notify the heartbeat, and the channels where there is a state already, of what is wrong with
    the file. Where it is not known what the state is, the channels are notified once a day.
    """

    def ends() -> SyncReport:
        raise error

    with _notifications_by(path, environ, language) as found:
        if found is None:
            return
        notifications, has_state = found
        with suppress(ConfigError):
            notifications.notify_of(ends, is_whole=True)
        if not has_state:
            notifications.notify_unremembered(error)


def notify_in_spite_of_it(
    error: CertferryError, path: Path | None, environ: Mapping[str, str], *, language: str
) -> None:
    """Notify the channels of what became of an earlier run, though the file is wrong by now."""
    with _notifications_by(path, environ, language) as found:
        if found is not None:
            notifications, has_state = found
            if has_state:
                notifications.notify_failure(error)
            else:
                notifications.notify_unremembered(error)


@contextmanager
def _notifications_by(
    path: Path | None, environ: Mapping[str, str], language: str
) -> Iterator[tuple[RunNotifications, bool] | None]:
    found = salvage(path, environ)
    if found is None:
        yield None
        return
    settings = found.settings if found.is_trusted else _harmless(found.settings)
    with Workspace(settings, language=language) as workspace:
        yield workspace.notifications(Run()), found.has_state


def _harmless(settings: Settings) -> Settings:
    """Return of the settings what does no harm, also where another user has written them: the
    heartbeat, whose secret is sent to its own address alone, and channels that are sent nothing
    which is not in the file. No program is started.
    """
    channels = {name: one for name, one in settings.channels.items() if _is_harmless(one)}
    heartbeat = settings.monitoring.heartbeat
    if heartbeat is not None and not heartbeat.is_at_rest:
        heartbeat = None
    return replace(settings, channels=channels, monitoring=Monitoring(heartbeat))


def _is_harmless(channel: ChannelTable) -> bool:
    words = _words(channel.account.values)
    return channel.account.type in _HARMLESS and all(
        SecretReference(word).is_literal for word in words
    )


def _words(value: object) -> Iterator[str]:
    match value:
        case str():
            yield value
        case Mapping():
            for one in value.values():
                yield from _words(one)
        case list():
            for one in value:
                yield from _words(one)
