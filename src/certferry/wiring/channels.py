"""The channels that bring messages to operators. A channel's adapter is found, configured and
connected when a message has to be sent.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

from certferry.config.mistakes import REFERENCE, config_error, joined
from certferry.config.model import AccountTable, ChannelTable, Settings
from certferry.core.assessment.dispatch import Notification
from certferry.core.assessment.notices import Message
from certferry.core.redaction import Secret
from certferry.errors import ConfigError
from certferry.ports.adapter import Context, Http
from certferry.ports.notifier import Answered, Notifier
from certferry.ports.progress import Pause, no_listener
from certferry.ports.state import StateStore
from certferry.present import news_text
from certferry.present.language import Voice, voice_beside
from certferry.reconcile.notifications import Channel, Notifications
from certferry.reconcile.run import Change, Run
from certferry.text import Text
from certferry.wiring.accounts import AccountNotes, bound, run_program
from certferry.wiring.adapters import CHANNELS, AdapterTable, BrokenAdapter, installed
from certferry.wiring.clock import now

LONGEST_ANSWER = 64 * 1024
"""Maximum number of bytes read from a service's answer to a message. Usual answers have one
line.
"""


@dataclass(eq=False)
class Channels:
    """The channels declared in the settings."""

    #: The settings with the channels' tables.
    settings: Settings
    #: Returns the state; called only when the state is needed.
    state: Callable[[], StateStore]
    #: The run, which may be stopped while waiting for answers.
    run: Run
    #: The language of channels without a language of their own, `en` or `zh`.
    language: str
    #: The adapters by type.
    table: AdapterTable = field(default_factory=installed)
    #: The id sent with a message, by which some services drop repeated messages.
    message_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def notify(self, change: Change) -> Mapping[str, Answered]:
        """Change the stored notices and send the new ones. See
        `reconcile.notifications.Notifications.notify`.
        """
        return self._notifications().notify(change)

    def try_out(self, names: Sequence[str]) -> Mapping[str, Answered]:
        """Send a test message through these channels. Return the answers by channel. Raises
        `StateError` and `Interrupted`.
        """
        about = self.settings.state.host, now(), self.message_id
        voices = {name: self._voice(self.settings.channels[name]) for name in names}
        return self._notifications().try_out(
            {name: news_text.trial_message(voice, *about) for name, voice in voices.items()}
        )

    def must_connect(self, name: str) -> None:
        """Raise `ConfigError` for a channel with wrong settings."""
        self._connected(self.settings.channels[name])

    def services(self, names: Sequence[str]) -> Mapping[str, Text]:
        """Return the names of the channels' services. Raises `ConfigError`."""
        tables = {name: self.settings.channels[name].account for name in names}
        described = {name: self.table.of_account(CHANNELS, table) for name, table in tables.items()}
        return {name: channel.called for name, channel in described.items()}

    def _notifications(self) -> Notifications:
        channels = {
            table.account.label: Channel(
                table.account.label,
                frozenset(table.on),
                partial(self._connected, table),
                partial(self._message, table),
            )
            for table in self.settings.channels.values()
        }
        state = self.state()
        return Notifications(channels, state, now=state.now, run=self.run)

    def _message(self, table: ChannelTable, news: Sequence[Notification]) -> Message:
        # Only accounts labelled with their type get the service's name in the message: any other
        # label is the operator's own name for the account.
        services = {
            label: target.called
            for label, account in self.settings.accounts.items()
            if account.type == label and (target := self.table.target_of(account)) is not None
        }
        host = self.settings.state.host
        return news_text.message(news, self._voice(table), host, self.message_id, services)

    def _voice(self, table: ChannelTable) -> Voice:
        return voice_beside(self.settings.path, table.language or self.language)

    def _connected(self, table: ChannelTable) -> Notifier:
        described = self.table.of_account(CHANNELS, table.account)
        settings = bound(described, table.account, self.settings.secrets.resolve)
        try:
            context = self._context(table, described.adapter.SERVICE)
            notifier: Notifier = described.adapter.connect(settings, context)
        except ConfigError as wrong:
            mistake = table.account.place.mistake("", wrong.message)
            raise config_error([mistake], wrong.hint or REFERENCE) from wrong
        return notifier

    def _context(self, table: ChannelTable, service: str) -> Context:
        return Context(
            pause=self.run.pause,
            now=now,
            memory=AccountNotes(self.state, f"notify.{table.account.label}", is_kept=True),
            http=partial(short_http, self.run.pause, service),
            progress=no_listener,
            run=partial(run_program, self.settings, self.run.pause),
            contact=self.settings.acme.email or "",
            language=table.language or self.language,
        )


def check(settings: Settings, adapters: AdapterTable | None = None) -> None:
    """Raise one `ConfigError` for all mistakes in the channels' tables."""
    table_of_adapters = installed() if adapters is None else adapters
    errors: list[ConfigError] = []
    for table in settings.channels.values():
        try:
            check_one(table.account, table_of_adapters)
        except ConfigError as wrong:
            errors.append(wrong)
    if errors:
        raise joined(errors)


def check_one(account: AccountTable, adapters: AdapterTable) -> None:
    """Raise `ConfigError` for the mistakes in a channel's table."""
    # A broken channel must not fail a run. The broken adapter is reported when a message is sent.
    with suppress(BrokenAdapter):
        described = adapters.of_account(CHANNELS, account)
        bound(described, account, lambda _: Secret("not looked at"))


def short_http(pause: Pause, service: str, per_second: float) -> Http:
    """Return an HTTP client for messages, with short timeouts and a single attempt. The client's
    errors name only the service, because a channel's URL is a secret.
    """
    from certferry.adapters.http.exchange import Timeouts
    from certferry.adapters.http.http_client import HttpClient, Pacer

    timeouts = Timeouts(timedelta(seconds=3), timedelta(seconds=6), whole=timedelta(seconds=8))
    pace = Pacer(per_second, pause=pause)
    return HttpClient(
        pace=pace,
        pause=pause,
        attempts=1,
        timeouts=timeouts,
        longest=LONGEST_ANSWER,
        called=service,
    )
