"""The answers of the interview of `certferry init`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from certferry.cli.init import keys
from certferry.config.propose import NewAccount
from certferry.core.discovery import proposal as proposing
from certferry.core.redaction import Secret
from certferry.migration.home import OldHome
from certferry.wiring.adapters import DNS_PROVIDERS, TARGETS
from certferry.wiring.settings import Service


@dataclass(frozen=True, slots=True)
class Answers:
    """All answers so far, and the facts read from accounts and files. A family is a kind of
    account: at DNS services, or at targets (CDNs).
    """

    #: The chosen service of each family, by `Family.group`.
    services: Mapping[str, Service] = field(default_factory=dict)
    #: The label of the chosen account of each family, by `Family.group`.
    labels: Mapping[str, str] = field(default_factory=dict)
    #: The labels of target accounts beside the chosen account, added without a question.
    further: tuple[str, ...] = ()
    #: Accounts to write into the file.
    accounts: tuple[NewAccount, ...] = ()
    #: Keys of the accounts that still have to be stored, by environment variable.
    fresh: Mapping[str, Secret] = field(default_factory=dict)
    #: Unanswered questions.
    missing: tuple[keys.Missing, ...] = ()
    #: The email address that the CA gets as contact, if any.
    email: str | None = None
    #: The domains and zones of the accounts.
    places: proposing.Places = field(default_factory=proposing.Places)
    #: The other ACME client's certificates, in a takeover.
    home: OldHome | None = None
    #: The URL of the CA's directory; None if the file of `--settings` chooses the CA.
    directory: str | None = None
    #: The domains chosen for certificates.
    wanted: frozenset[str] = frozenset()
    #: How domains share certificates.
    grouping: proposing.Grouping = proposing.Grouping.WILDCARD
    #: The channel for trouble, if the operator chose a channel.
    channel: keys.Alert | None = None
    #: The heartbeat, if the operator gave a URL.
    heartbeat: keys.Alert | None = None
    #: The certificates to declare.
    proposal: proposing.Proposal = field(default_factory=proposing.Proposal)
    #: The configuration file's text.
    text: str = field(default="", repr=False)
    #: False if the operator declined to write.
    is_agreed: bool = True

    @property
    def dns(self) -> str:
        """The label of the account that proves names, or ""."""
        return self.labels.get(DNS_PROVIDERS.group, "")

    @property
    def targets(self) -> tuple[str, ...]:
        """The labels of all target accounts, the chosen account first, without duplicates."""
        first = self.labels.get(TARGETS.group, "")
        return tuple(dict.fromkeys(filter(None, (first, *self.further))))

    @property
    def fresh_keys(self) -> dict[str, Secret]:
        """All keys that still have to be stored, also for the channel and the heartbeat."""
        alerts = [alert.fresh for alert in (self.channel, self.heartbeat) if alert is not None]
        return {**self.fresh, **{name: key for fresh in alerts for name, key in fresh.items()}}
