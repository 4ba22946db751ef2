"""DNS at one of the services that the library dns-lexicon knows (dns-lexicon.readthedocs.io), whose
calls are bounded, and made one after the other.

Needs the extra `lexicon`. Its providers differ, and some fail without a word: certferry looks in
the provider's own list for each record that it has added or removed. A service that has a type of
its own here is better used by that.

Of dns-lexicon 3.25.2 (docs/facts/libraries.md §3): its HTTP requests have no time-out, and follow
redirects; many providers read a set of records, change it and write it whole;
`lexicon.client.Client` downloads the Public Suffix List when it is made, so that the provider is
made without it here.
"""

from __future__ import annotations

import logging
import re
import shlex
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache, partial
from importlib.util import find_spec
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

import requests

from certferry import errors
from certferry.adapters.dns.records import STOP_CHECK, AccountTurns
from certferry.adapters.http.bounds import held
from certferry.adapters.http.client import TIMEOUTS, explain
from certferry.core.certificates.names import suffixes, zone_name
from certferry.core.discovery.inventory import FoundZone
from certferry.core.discovery.proposal import must_have_zone
from certferry.core.redaction import Secret, quoted
from certferry.extras import how_to_install
from certferry.ports.adapter import Context, Variable, is_ctrl_c
from certferry.ports.dns import DnsProvider
from certferry.ports.progress import Pause
from certferry.text import Text

SERVICE = "lexicon"
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
    """Return the provider of one account; nothing is loaded or sent yet. Raises `ConfigError`."""
    _must_be_known(settings.provider)
    options = {key.replace("-", "_"): value for key, value in settings.options.items()}
    _must_be_held(settings.provider, options)
    calls = LexiconCalls(settings.provider, options, settings.timeout, context.pause)
    zones = [zone_name(zone) for zone in settings.zones]
    return LexiconRecords(calls, zones, context.pause)


def _must_be_known(provider: str) -> None:
    try:
        known = find_spec(PROVIDERS)
    except ModuleNotFoundError:
        known = None
    if known is None:
        raise errors.ConfigError(
            Text("needs the extra `lexicon`; {install}", install=how_to_install("lexicon"))
        )
    if not re.fullmatch(r"[a-z0-9_]+", provider) or find_spec(f"{PROVIDERS}.{provider}") is None:
        raise errors.ConfigError(
            Text("lexicon knows no provider {provider}", provider=repr(provider)),
            hint=Text("take the name from the list of `lexicon --help`"),
        )


def _must_be_held(provider: str, options: Mapping[str, Secret | str]) -> None:
    """Raise `ConfigError` for a provider that sends otherwise than by `requests`, which is held."""
    if provider in BY_OTHER_MEANS:
        said = Text(
            "certferry does not offer lexicon's {provider}: it sends keys by other means than those"
            " that certferry bounds and keeps from other hosts",
            provider=provider,
        )
        hint = Text('use a type of certferry\'s own, or a program with type = "command"')
        raise errors.ConfigError(said, hint=hint)
    if provider == "gandi" and options.get("api_protocol") != "rest":
        said = Text(
            "certferry does not use the old API of lexicon's gandi: write {setting}, with a"
            " token of the new one as auth_token"
        )
        raise errors.ConfigError(said.filled(setting='api_protocol = "rest"'))


class LexiconRecords:
    """The `DnsProvider` of one account. Safe to use from threads. A handle is the value."""

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
        name = name.rstrip(".").lower()
        self._in_turn(name, partial(self._add, name, value))
        return value

    def remove_txt(self, name: str, value: str, handle: str | None) -> bool:
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
        refused: errors.DnsError | None = None
        for suffix in suffixes(name):
            if suffix.startswith("_"):
                continue  # no zone is called so, and some providers check nothing
            try:
                with self._calls.opened(suffix):
                    return suffix
            except errors.Reported:
                raise
            except BaseException as exc:
                if is_ctrl_c(exc):
                    raise
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
        except errors.Reported:
            raise
        except BaseException as exc:
            if is_ctrl_c(exc):
                raise
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


class LexiconCalls:
    """Makes providers and calls them. Safe to use from threads."""

    def __init__(
        self, provider: str, options: Mapping[str, Secret | str], within: timedelta, pause: Pause
    ) -> None:
        hidden = [value for value in options.values() if isinstance(value, Secret)]
        self.errors = LexiconErrors(provider, hidden)
        self._provider = provider
        self._options = options
        self._within = within
        self._pause = pause
        self._turns = AccountTurns(pause)
        self._last: Future[Any] | None = None
        self._last_until = 0.0

    def in_turn(self, about: str, work: Callable[[], T]) -> T:
        """Return what a piece of work returns, one at a time. Raises `DnsUnavailable` where it
        takes too long: nothing else begins until it ends.
        """
        with self._turns.ours():
            if self._last is not None:
                self._wait_for(self._last, about)
            return self._bounded(about, work)

    @contextmanager
    def opened(self, zone: str) -> Iterator[Any]:
        """Make a provider for a zone, and let it authenticate, for a `with` block."""
        from lexicon._private.discovery import load_provider_module
        from lexicon.config import ConfigResolver

        if not _has_its_libraries(self._provider):
            raise errors.DnsRejected(
                Text("lexicon's {provider} needs more libraries", provider=self._provider),
                hint=Text(
                    "run: {python} -m pip install 'dns-lexicon[{provider}]'",
                    python=shlex.quote(sys.executable),
                    provider=self._provider,
                ),
            )
        logging.getLogger("lexicon").setLevel(logging.CRITICAL)  # some of its words show keys
        plain = {
            key: value.reveal() if isinstance(value, Secret) else value
            for key, value in self._options.items()
        }
        config = ConfigResolver().with_dict(  # type: ignore[no-untyped-call]  # lexicon types it not
            {"provider_name": self._provider, "domain": zone, self._provider: plain}
        )
        provider = load_provider_module(self._provider).Provider(config)
        provider.authenticate()
        try:
            yield provider
        finally:
            with suppress(Exception):  # what it has done is done
                provider.cleanup()

    def _bounded(self, about: str, work: Callable[[], T]) -> T:
        outcome: Future[T] = Future()

        def run() -> None:
            with held() as refused:
                try:
                    outcome.set_result(work())
                except BaseException as exc:  # noqa: BLE001 - raised again where the caller waits
                    said = self.errors.message(about, refused[0]) if refused else None
                    outcome.set_exception(errors.DnsRejected(said) if said else exc)

        self._last, self._last_until = outcome, time.monotonic() + self._within.total_seconds()
        # With this thread's context: what it sends there ends with this run's lease.
        inside = copy_context().run
        threading.Thread(target=inside, args=(run,), name="lexicon", daemon=True).start()
        self._wait_for(outcome, about)
        return outcome.result()

    def _wait_for(self, last: Future[Any], about: str) -> None:
        """Wait for the piece of work that was begun last, as long as that may take."""
        while not last.done():
            left = self._last_until - time.monotonic()
            if left <= 0:
                raise self.errors.too_long(about)
            wait([last], timeout=min(left, STOP_CHECK))
            self._pause(0)  # notices that the run was stopped


@cache
def _has_its_libraries(provider: str) -> bool:
    from lexicon._private.discovery import find_providers

    return bool(find_providers().get(provider, True))  # reads what is installed: slow


_NO_ZONE = re.compile(
    r"not? (?:matching )?(?:domain|zone)|not found|not managed|unknown domain|not exist|not among"
    r"|not deployed|could not find|not defined",
    re.IGNORECASE,
)
_DENIED = frozenset({401, 403})
_NOT_NOW = frozenset({429, 502, 503, 504})
_NOT_HERE = frozenset({400, 404, 422})


@dataclass(frozen=True, slots=True)
class LexiconErrors:
    """The errors of one provider, as lexicon calls it; they never show what is `hidden`."""

    provider: str
    hidden: Collection[Secret]

    def message(self, about: str, problem: Text | str) -> Text:
        """Return a sentence on what is wrong."""
        words = Text("{about}: lexicon's {provider}: {problem}")
        return words.filled(about=about, provider=self.provider, problem=problem)

    def of(self, exc: BaseException, about: str) -> errors.DnsError:
        """Return the error that an exception stands for. What is not known may have been done. A
        request without an answer is described in certferry's words: `requests` quotes addresses, in
        which some services have the key.
        """
        words = " ".join(str(exc).split())
        said = f"{type(exc).__name__}: {words}" if words else type(exc).__name__
        problem: Text | str = quoted(said, self.hidden)
        if isinstance(exc, requests.ConnectionError | requests.Timeout):
            url = None if exc.request is None else exc.request.url
            problem = explain(exc, urlsplit(url or "").hostname or self.provider, TIMEOUTS).problem
        message = self.message(about, problem)
        compare = Text(
            "compare the account's other keys with what `lexicon {provider} --help` asks for, and"
            " with the service's console",
            provider=self.provider,
        )
        status = _status(exc) if isinstance(exc, requests.HTTPError) else None
        if status in _DENIED or (status is None and _is_authentication(exc)):
            return errors.DnsAccessDenied(message, hint=compare)
        if status is not None and 400 <= status < 500 and status not in _NOT_NOW:  # noqa: PLR2004 - RFC 9110 §15
            return errors.DnsRejected(message, hint=compare)
        hint = Text("try again in some minutes; certferry looks for the record first")
        return errors.DnsUnavailable(message, hint=hint)

    def too_long(self, about: str) -> errors.DnsUnavailable:
        """Return the error for a call that takes longer than it may."""
        words = Text("{about}: lexicon's {provider} gives no answer")
        hint = Text("see the way from this host to the service, and `timeout` of the account")
        return errors.DnsUnavailable(words.filled(about=about, provider=self.provider), hint=hint)

    def no_zone(self, name: str) -> errors.ZoneNotFound:
        """Return the error for a name that the provider finds no zone for."""
        words = Text("lexicon's {provider} has no zone that holds {name}")
        hint = Text(
            "name the account that has the domain as `dns` of the certificate. Some providers of"
            " lexicon cannot tell: name the zones as `zones` of the account then"
        )
        return errors.ZoneNotFound(words.filled(provider=self.provider, name=name), hint=hint)

    def not_done(self, name: str, *, is_wanted: bool) -> errors.DnsUnavailable:
        """Return the error for a change that the provider's list does not show."""
        words = Text(
            "{name}: lexicon's {provider} reports no failure, and its list still has the record"
        )
        if is_wanted:
            words = Text(
                "{name}: lexicon's {provider} reports no failure, and its list lacks the record"
            )
        hint = Text("look at the zone in the service's console, and at a CNAME beside the record")
        return errors.DnsUnavailable(words.filled(name=name, provider=self.provider), hint=hint)


def is_no_zone(exc: BaseException) -> bool:
    """Return whether an authentication failed because the zone is not there."""
    if isinstance(exc, requests.HTTPError):
        return _status(exc) in _NOT_HERE
    return _is_authentication(exc) and _NO_ZONE.search(str(exc)) is not None


def may_pass(exc: BaseException) -> bool:
    """Return whether the service surely did nothing: 500 may mean that it lacks the zone."""
    if isinstance(exc, requests.HTTPError):
        return _status(exc) in _NOT_NOW
    return isinstance(exc, requests.ConnectionError | requests.Timeout)


def _is_authentication(exc: BaseException) -> bool:
    # By its name: the library is an extra, and need not be there.
    return type(exc).__name__ == "AuthenticationError"


def _status(exc: requests.HTTPError) -> int | None:
    return None if exc.response is None else exc.response.status_code
