"""The channels of notifications: adapters found, settings bound, connected when there is news."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

from certferry.config.mistakes import REFERENCE, config_error, joined
from certferry.config.model import AccountTable, ChannelTable, Settings
from certferry.core.assessment.notices import Message, Notification
from certferry.core.redaction import Secret
from certferry.errors import ConfigError
from certferry.ports.adapter import Context, Http
from certferry.ports.notifier import Answered, Notifier
from certferry.ports.progress import Pause, no_listener
from certferry.ports.state import StateStore
from certferry.present import news_text
from certferry.present.language import Voice, voice_in
from certferry.reconcile.notifications import Channel, Notifications
from certferry.reconcile.run import Change, Run
from certferry.text import Text
from certferry.wiring.accounts import AccountNotes, bound, run_program
from certferry.wiring.adapters import CHANNELS, AdapterTable, BrokenAdapter, installed
from certferry.wiring.clock import now

LONGEST_ANSWER = 64 * 1024
"""Bytes of what a service answers to a message; it has a line to say."""

_SERVICES = {"qiniu": Text("Qiniu")}
"""What services are called in a message, by their type, where that is another word."""


@dataclass(eq=False)
class Channels:
    """The channels of some settings."""

    settings: Settings
    state: Callable[[], StateStore]
    run: Run
    language: str
    table: AdapterTable = field(default_factory=installed)
    message_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def notify(self, change: Change) -> Mapping[str, Answered]:
        """Change what stands: see `reconcile.notifications.Notifications.notify`."""
        return self._notifications().notify(change)

    def try_out(self, names: Sequence[str]) -> Mapping[str, Answered]:
        """Send a message through these channels, and return what they answered."""
        about = self.settings.state.host, now(), self.message_id
        voices = {name: self._voice(self.settings.channels[name]) for name in names}
        return self._notifications().try_out(
            {name: news_text.trial_message(voice, *about) for name, voice in voices.items()}
        )

    def must_connect(self, name: str) -> None:
        """Raise `ConfigError` for a channel whose settings are wrong."""
        self._connected(self.settings.channels[name])

    def services(self, names: Sequence[str]) -> Mapping[str, str]:
        """Return how the services of these channels are called. Raises `ConfigError`."""
        tables = {name: self.settings.channels[name].account for name in names}
        found = {name: self.table.of_account(CHANNELS, table) for name, table in tables.items()}
        return {name: one.adapter.SERVICE for name, one in found.items()}

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
        accounts = self.settings.accounts
        # An account that the operator has named is known by that name.
        services = {
            label: name
            for label, name in _SERVICES.items()
            if label in accounts and accounts[label].type == label
        }
        host = self.settings.state.host
        return news_text.message(news, self._voice(table), host, self.message_id, services)

    def _voice(self, table: ChannelTable) -> Voice:
        return voice_in(table.language or self.language)

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
    """Raise one `ConfigError` of all that is wrong with the channels as they are written."""
    known = installed() if adapters is None else adapters
    errors: list[ConfigError] = []
    for table in settings.channels.values():
        try:
            check_one(table.account, known)
        except ConfigError as wrong:
            errors.append(wrong)
    if errors:
        raise joined(errors)


def check_one(account: AccountTable, known: AdapterTable) -> None:
    """Raise `ConfigError` with what is wrong with one channel as it is written."""
    with suppress(BrokenAdapter):  # reported when it is to send something, and no run fails
        found = known.of_account(CHANNELS, account)
        bound(found, account, lambda _: Secret("not looked at"))


def short_http(pause: Pause, service: str, per_second: float) -> Http:
    """Open connections for messages, each sent once. An error names the service alone."""
    from certferry.adapters.http.client import HttpClient, Pacer, Timeouts

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
