"""DNS at one of the services that the library dns-lexicon knows (dns-lexicon.readthedocs.io).

Needs the extra `lexicon`. Its providers differ, and some fail without a word: certferry looks in
the provider's own list for each record that it has added or removed. A service that has a type of
its own here is better used by that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from importlib.util import find_spec
from typing import Annotated, Any, TypeVar

from certferry.adapters.lexicon.client import SERVICE as NAMED
from certferry.adapters.lexicon.client import LexiconCalls, is_no_zone, may_pass
from certferry.core.certificates.names import suffixes, zone_name
from certferry.core.discovery.proposal import must_have_zone
from certferry.core.discovery.survey import FoundZone
from certferry.core.extras import how_to_install
from certferry.core.secret import Secret
from certferry.errors import (
    ConfigError,
    DnsError,
    Reported,
)
from certferry.ports.adapter import Context, Variable
from certferry.ports.dns import DnsProvider
from certferry.ports.progress import Pause
from certferry.text import Text

SERVICE = NAMED
WHERE_KEYS_ARE = Text(
    "the service's console; each option that `lexicon PROVIDER --help` names for them is a further"
    ' key of the account, such as auth_token = "env:MY_TOKEN"'
)
ENVIRONMENT: tuple[Variable, ...] = ()

PAUSES_OF_A_LOOK = (0.0, 1.0, 2.0, 4.0)  # seconds before each look for a new record
PROVIDERS = "lexicon._private.providers"
BY_OTHER_MEANS = frozenset(
    {"auto", "gransy", "inwx", "qcloud", "route53", "softlayer", "valuedomain"}
)
"""Providers of dns-lexicon 3.25 that send with other libraries than `requests`."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Settings:
    """What an operator writes under `[accounts.<label>]`."""

    provider: Annotated[str, Text("the service, as `lexicon --help` calls it")]
    zones: Annotated[
        tuple[str, ...], Text("the zones of the account; without them, the provider is asked")
    ] = ()
    timeout: Annotated[timedelta, Text("how long a call may take, in seconds")] = timedelta(
        minutes=2
    )
    options: Annotated[
        Mapping[str, Secret | str],
        Text("an option of the provider, without its `--`: auth_token, auth_username, …"),
    ] = field(default_factory=dict)


def connect(settings: Settings, context: Context) -> DnsProvider:
    """Return the provider of one account. Nothing is sent yet, and the library not loaded. Raises
    `ConfigError` where it is not there, or does not know the provider.
    """
    _must_be_known(settings.provider)
    _must_be_held(settings)
    options = {key.replace("-", "_"): value for key, value in settings.options.items()}
    calls = LexiconCalls(settings.provider, options, settings.timeout, context.pause)
    zones = [zone_name(zone) for zone in settings.zones]
    return LexiconRecords(calls, zones, context.pause)


def _must_be_known(provider: str) -> None:
    try:
        known = find_spec(PROVIDERS)
    except ModuleNotFoundError:
        known = None
    if known is None:
        raise ConfigError(
            Text("needs the extra `lexicon`; {install}", install=how_to_install("lexicon"))
        )
    if not re.fullmatch(r"[a-z0-9_]+", provider) or find_spec(f"{PROVIDERS}.{provider}") is None:
        raise ConfigError(
            Text("lexicon knows no provider {provider}", provider=repr(provider)),
            hint=Text("take the name from the list of `lexicon --help`"),
        )


def _must_be_held(settings: Settings) -> None:
    """Raise `ConfigError` for a provider whose requests certferry cannot hold to https, to one host
    and to an end: only those that it sends with `requests`.
    """
    if settings.provider in BY_OTHER_MEANS:
        said = Text(
            "certferry does not offer lexicon's {provider}: it sends keys by other means than those"
            " that certferry bounds and keeps from other hosts",
            provider=settings.provider,
        )
        raise ConfigError(
            said, hint=Text('use a type of certferry\'s own, or a program with type = "command"')
        )
    options = {key.replace("-", "_"): value for key, value in settings.options.items()}
    if settings.provider == "gandi" and options.get("api_protocol") != "rest":
        raise ConfigError(
            Text(
                "certferry does not use the old API of lexicon's gandi: write {setting}, with a"
                " token of the new one as auth_token",
                setting='api_protocol = "rest"',
            )
        )


class LexiconRecords:
    """The records of one account. Safe to use from threads. A handle is the value."""

    def __init__(self, calls: LexiconCalls, zones: Sequence[str], pause: Pause) -> None:
        self._calls = calls
        self._declared = tuple(FoundZone(zone) for zone in zones)
        self._pause = pause
        self._found: dict[str, str] = {}

    def zones(self) -> tuple[FoundZone, ...] | None:
        """See `ports.survey.ZoneKeeper.zones`; `None` where none are declared."""
        return self._declared or None

    def zone_of(self, name: str) -> FoundZone:
        """See `ports.survey.ZoneFinder.zone_of`."""
        return FoundZone(self._in_turn(name, partial(self._zone, name)))

    def add_txt(self, name: str, value: str) -> str:
        """See `ports.dns.DnsProvider.add_txt`."""
        name = name.rstrip(".").lower()
        self._in_turn(name, partial(self._add, name, value))
        return value

    def remove_txt(self, name: str, value: str, handle: str | None) -> bool:
        """See `ports.dns.DnsProvider.remove_txt`."""
        del handle
        name = name.rstrip(".").lower()
        return self._in_turn(name, partial(self._remove, name, value))

    def _add(self, name: str, value: str) -> None:
        zone = self._zone(name)
        with self._calls.opened(zone) as provider:
            if list(records_of(provider, zone, name, value)):
                return
            provider.create_record("TXT", name, value)
            self._look(provider, zone, name, value, is_wanted=True)

    def _remove(self, name: str, value: str) -> bool:
        zone = self._zone(name)
        with self._calls.opened(zone) as provider:
            found = {str(one["content"]) for one in records_of(provider, zone, name, value)}
            for written in found:
                # Never by id: it is the whole name's at Gandi, and the set's at NS1 and Route 53
                # (dns-lexicon 3.25.2), so that other records would be removed.
                provider.delete_record(rtype="TXT", name=name, content=written)
            if found:
                self._look(provider, zone, name, value, is_wanted=False)
            return bool(found)

    def _look(self, provider: Any, zone: str, name: str, value: str, *, is_wanted: bool) -> None:
        """Check that a record is there, or is not, whatever the provider reports."""
        for pause in PAUSES_OF_A_LOOK:
            self._pause(pause)
            if bool(list(records_of(provider, zone, name, value))) == is_wanted:
                return
        raise self._calls.errors.not_done(name, is_wanted=is_wanted)

    def _zone(self, name: str) -> str:
        if self._declared:
            return must_have_zone(name, self._declared).name
        if name not in self._found:
            self._found[name] = self._tried(name)
        return self._found[name]

    def _tried(self, name: str) -> str:
        """Find the longest zone that the provider authenticates for. What it refuses with may be
        its way of saying that it has no such zone, so that the shorter ones are tried as well.
        """
        refused: DnsError | None = None
        for suffix in suffixes(name):
            if suffix.startswith("_"):
                continue  # no zone is called so, and some providers check nothing
            try:
                with self._calls.opened(suffix):
                    return suffix
            except (Reported, KeyboardInterrupt):
                raise
            except BaseException as exc:
                if is_no_zone(exc):
                    continue
                error = self._calls.errors.of(exc, name)
                if may_pass(exc):  # the zone may be there: what is put above it, no resolver sees
                    raise error from exc
                refused = refused or error
        raise refused or self._calls.errors.no_zone(name)

    def _in_turn(self, name: str, work: Callable[[], T]) -> T:
        try:
            return self._calls.in_turn(name, work)
        except (Reported, KeyboardInterrupt):
            raise
        except BaseException as exc:
            raise self._calls.errors.of(exc, name) from exc


def records_of(provider: Any, zone: str, name: str, value: str) -> Iterator[dict[str, Any]]:
    """Find the records with this value in the provider's list, whose names may be relative."""
    try:
        listed = provider.list_records("TXT", name)
    except (KeyError, IndexError):  # how some say that there is none
        listed = []
    names = {name, name.removesuffix(f".{zone}")}
    for record in listed:
        content = str(record.get("content", "")).strip('"')
        if content == value and str(record.get("name", name)).rstrip(".").lower() in names:
            yield record
