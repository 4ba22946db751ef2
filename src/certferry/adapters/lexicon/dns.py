"""DNS at a service of the library dns-lexicon (dns-lexicon.readthedocs.io).

Needs the extra `lexicon`. Calls have a time limit, and are made one at a time. Some of lexicon's
providers fail silently, so certferry looks for each added or removed record in the provider's list.
The library makes its own connections, so certferry's limits for redirects and long answers do not
hold (decision 0060). If certferry has a type of account for the service itself, that type is
better.

Facts about dns-lexicon 3.25.2 (docs/facts/libraries.md §3): HTTP requests have no time-out, and
follow redirects. Many providers read a set of records, change the set and write it back whole.
`lexicon.client.Client` downloads the Public Suffix List on creation, so certferry creates providers
directly.
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
from msgspec import Struct

from certferry import errors
from certferry.adapters.dns.txt_records import STOP_CHECK, AccountTurns, revealed
from certferry.adapters.http.exchange import TIMEOUTS
from certferry.adapters.http.posting import must_be_address
from certferry.adapters.http.session import explain
from certferry.core.certificates.names import suffixes, zone_name
from certferry.core.discovery.inventory import FoundZone
from certferry.core.discovery.proposal import must_have_zone
from certferry.core.redaction import Secret, quoted
from certferry.extras import how_to_install
from certferry.ports.adapter import Context, Variable, is_ctrl_c
from certferry.ports.dns import DnsProvider
from certferry.ports.progress import Pause
from certferry.ports.state import must_still_hold
from certferry.text import Text

SERVICE = "lexicon"
RANK = 70
WHERE_KEYS_ARE = Text(
    "the service's console; each option listed by `lexicon PROVIDER --help` is another key of "
    'the account, for example auth_token = "env:MY_TOKEN"'
)
ENVIRONMENT: tuple[Variable, ...] = ()

PAUSES_OF_A_LOOK = (0.0, 1.0, 2.0, 4.0)  # seconds before each search for a record
PROVIDERS = "lexicon._private.providers"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings under `[accounts.<label>]`."""

    provider: Annotated[str, Text("the service's name, as listed by `lexicon --help`")]
    zones: Annotated[
        tuple[str, ...], Text("the zones of the account; default: certferry asks the provider")
    ] = ()
    timeout: Annotated[timedelta, Text("how long a call may take, in seconds")] = timedelta(
        minutes=2
    )
    options: Annotated[
        Mapping[str, Secret | str],
        Text("an option of the provider, without its `--`: auth_token, auth_username, …"),
    ] = field(default_factory=dict)


def connect(settings: Settings, context: Context) -> DnsProvider:
    """Return the provider of one account, without loading lexicon's module for the service. Raises
    `ConfigError`.
    """
    _must_be_known(settings.provider)
    options = {key.replace("-", "_"): value for key, value in settings.options.items()}
    _must_be_https(options)
    _must_be_new_api(settings.provider, options)
    calls = LexiconCalls(settings.provider, options, settings.timeout, context.pause)
    zones = [zone_name(zone) for zone in settings.zones]
    return LexiconRecords(calls, zones, context.pause)


def _must_be_known(provider: str) -> None:
    try:
        spec = find_spec(PROVIDERS)
    except ModuleNotFoundError:
        spec = None
    if spec is None:
        raise errors.ConfigError(
            Text("needs the extra `lexicon`; {install}", install=how_to_install("lexicon"))
        )
    if not re.fullmatch(r"[a-z0-9_]+", provider) or find_spec(f"{PROVIDERS}.{provider}") is None:
        raise errors.ConfigError(
            Text("lexicon knows no provider {provider}", provider=repr(provider)),
            hint=Text("take the name from the list of `lexicon --help`"),
        )


def _must_be_https(options: Mapping[str, Secret | str]) -> None:
    """Raise `ConfigError` if an option is another machine's address with plain http."""
    for key, value in options.items():
        if (text := revealed(value)).lower().startswith("http://"):
            must_be_address(key, text)


def _must_be_new_api(provider: str, options: Mapping[str, Secret | str]) -> None:
    if provider == "gandi" and options.get("api_protocol") != "rest":
        message = Text(
            "certferry does not use the old API of lexicon's gandi: write {setting}, and set "
            "auth_token to a token of the new API"
        )
        raise errors.ConfigError(message.filled(setting='api_protocol = "rest"'))


class LexiconRecords:
    """The `DnsProvider` of one account. Thread-safe. The handle of an added TXT record is
    the record's value.
    """

    def __init__(self, calls: LexiconCalls, zones: Sequence[str], pause: Pause) -> None:
        self._calls = calls
        self._declared = tuple(FoundZone(zone) for zone in zones)
        self._pause = pause
        self._found: dict[str, str] = {}

    def zones(self) -> tuple[FoundZone, ...] | None:
        """See `ports.survey.ZoneKeeper.zones`; `None` without declared zones."""
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
            must_still_hold()
            provider.create_record("TXT", name, value)
            self._look(provider, zone, name, value, is_wanted=True)

    def _remove(self, name: str, value: str) -> bool:
        zone = self._zone(name)
        with self._calls.opened(zone) as provider:
            contents = {
                str(record["content"]) for record in records_of(provider, zone, name, value)
            }
            for content in contents:
                # Remove by content: an id covers the whole name at Gandi, and the whole set at NS1
                # and Route 53 (dns-lexicon 3.25.2), so other records would be removed too.
                must_still_hold()
                provider.delete_record(rtype="TXT", name=name, content=content)
            if contents:
                self._look(provider, zone, name, value, is_wanted=False)
            return bool(contents)

    def _look(self, provider: Any, zone: str, name: str, value: str, *, is_wanted: bool) -> None:
        """Wait until the list shows the change. Raises `DnsUnavailable`."""
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
        """Return the longest zone for which the provider authenticates.

        A refusal may be the provider's way to report a missing zone, so shorter names are tried as
        well. Raises `DnsError`.
        """
        refused: errors.DnsError | None = None
        for suffix in suffixes(name):
            if suffix.startswith("_"):
                continue  # not a zone's name, and some providers accept any name
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
                if may_pass(exc):  # the zone may exist: records in a parent zone would be invisible
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
    """Yield the records with this value. Names in the provider's list may be relative."""
    try:
        listed = provider.list_records("TXT", name)
    except (KeyError, IndexError):  # some providers fail on an empty list
        listed = []
    names = {name, name.removesuffix(f".{zone}")}
    for record in listed:
        content = str(record.get("content", "")).strip('"')
        if content == value and str(record.get("name", name)).rstrip(".").lower() in names:
            yield record


class LexiconCalls:
    """Creates providers, and limits the time of the calls to them. Thread-safe."""

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
        """Run `work` once no other thread uses the account, and return the result.

        Raises `DnsUnavailable` after the time limit. Work that is late goes on in its thread, and
        the next work begins only after the late work has ended.
        """
        with self._turns.ours():
            if self._last is not None:
                self._wait_for(self._last, about)
            return self._bounded(about, work)

    @contextmanager
    def opened(self, zone: str) -> Iterator[Any]:
        """Create a provider for a zone, authenticate, and yield the provider for a `with` block.
        Raises `DnsRejected` if the provider's libraries are missing, `LeaseLost`, and the
        provider's own exceptions.
        """
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
        logging.getLogger("lexicon").setLevel(logging.CRITICAL)  # some messages show keys
        plain = {
            key: value.reveal() if isinstance(value, Secret) else value
            for key, value in self._options.items()
        }
        config = ConfigResolver().with_dict(  # type: ignore[no-untyped-call]  # untyped in lexicon
            {"provider_name": self._provider, "domain": zone, self._provider: plain}
        )
        provider = load_provider_module(self._provider).Provider(config)
        must_still_hold()
        provider.authenticate()
        try:
            yield provider
        finally:
            with suppress(Exception):  # the calls before count
                provider.cleanup()

    def _bounded(self, about: str, work: Callable[[], T]) -> T:
        outcome: Future[T] = Future()

        def run() -> None:
            try:
                outcome.set_result(work())
            except BaseException as exc:  # noqa: BLE001 - raised again in the waiting thread
                outcome.set_exception(exc)

        self._last, self._last_until = outcome, time.monotonic() + self._within.total_seconds()
        # The thread runs in a copy of this context. `must_still_hold` then also stops the thread's
        # calls once the run's lease has ended.
        inside = copy_context().run
        threading.Thread(target=inside, args=(run,), name="lexicon", daemon=True).start()
        self._wait_for(outcome, about)
        return outcome.result()

    def _wait_for(self, last: Future[Any], about: str) -> None:
        """Wait for the last work, until the work's time limit. Raises `DnsUnavailable` at the
        limit, and the errors of `pause`.
        """
        while not last.done():
            left = self._last_until - time.monotonic()
            if left <= 0:
                raise self.errors.too_long(about)
            wait([last], timeout=min(left, STOP_CHECK))
            self._pause(0)  # raises if the run was stopped


@cache
def _has_its_libraries(provider: str) -> bool:
    from lexicon._private.discovery import find_providers

    return bool(find_providers().get(provider, True))  # slow: reads the installed packages


_NO_ZONE = re.compile(
    r"not? (?:matching )?(?:domain|zone)|not found|not managed|unknown domain|not exist|not among"
    r"|not deployed|could not find|not defined",
    re.IGNORECASE,
)
_DENIED = frozenset({401, 403})
_NOT_NOW = frozenset({429, 502, 503, 504})
_NOT_HERE = frozenset({400, 404, 422})


class LexiconErrors(Struct, frozen=True):
    """Makes the errors of one provider."""

    #: lexicon's name of the provider.
    provider: str
    #: Secrets to mask in messages.
    hidden: Collection[Secret]

    def message(self, about: str, problem: Text | str) -> Text:
        """Return a sentence that names the provider and the problem."""
        words = Text("{about}: lexicon's {provider}: {problem}")
        return words.filled(about=about, provider=self.provider, problem=problem)

    def of(self, exc: BaseException, about: str) -> errors.DnsError:
        """Return the error for an exception of the library. An unknown exception becomes a
        `DnsUnavailable`, because the change may have been made.

        A request without an answer is described in certferry's words: the messages of `requests`
        quote the URL, and some services have the key in the URL.
        """
        words = " ".join(str(exc).split())
        text = f"{type(exc).__name__}: {words}" if words else type(exc).__name__
        problem: Text | str = quoted(text, self.hidden)
        if isinstance(exc, requests.ConnectionError | requests.Timeout):
            url = None if exc.request is None else exc.request.url
            problem = explain(exc, urlsplit(url or "").hostname or self.provider, TIMEOUTS).problem
        message = self.message(about, problem)
        compare = Text(
            "compare the account's other keys with the options in `lexicon {provider} --help`, "
            "and with the service's console",
            provider=self.provider,
        )
        status = _status(exc) if isinstance(exc, requests.HTTPError) else None
        if status in _DENIED or (status is None and _is_authentication(exc)):
            return errors.DnsAccessDenied(message, hint=compare)
        if status is not None and 400 <= status < 500 and status not in _NOT_NOW:  # noqa: PLR2004 - RFC 9110 §15
            return errors.DnsRejected(message, hint=compare)
        hint = Text("try again in a few minutes; certferry looks for the record first")
        return errors.DnsUnavailable(message, hint=hint)

    def too_long(self, about: str) -> errors.DnsUnavailable:
        """Return the error for a call over the time limit."""
        words = Text("{about}: lexicon's {provider} does not answer")
        hint = Text(
            "check the network between this host and the service, and `timeout` of the account"
        )
        return errors.DnsUnavailable(words.filled(about=about, provider=self.provider), hint=hint)

    def no_zone(self, name: str) -> errors.ZoneNotFound:
        """Return the error for a name without a zone at the provider."""
        words = Text("lexicon's {provider} has no zone that holds {name}")
        hint = Text(
            "set `dns` of the certificate to the account that has the domain. Some lexicon "
            "providers cannot list zones: then list them as `zones` of the account"
        )
        return errors.ZoneNotFound(words.filled(provider=self.provider, name=name), hint=hint)

    def not_done(self, name: str, *, is_wanted: bool) -> errors.DnsUnavailable:
        """Return the error for a change missing in the provider's list."""
        words = Text("{name}: lexicon's {provider} reports success, but still lists the record")
        if is_wanted:
            words = Text(
                "{name}: lexicon's {provider} reports success, but does not list the record"
            )
        hint = Text(
            "check the zone in the service's console, and look for a CNAME beside the record"
        )
        return errors.DnsUnavailable(words.filled(name=name, provider=self.provider), hint=hint)


def is_no_zone(exc: BaseException) -> bool:
    """Return whether an authentication seems to have failed because the zone is missing."""
    if isinstance(exc, requests.HTTPError):
        return _status(exc) in _NOT_HERE
    return _is_authentication(exc) and _NO_ZONE.search(str(exc)) is not None


def may_pass(exc: BaseException) -> bool:
    """Return whether a failure may go away by itself.

    Status 500 does not count, because a service may answer so for a missing zone.
    """
    if isinstance(exc, requests.HTTPError):
        return _status(exc) in _NOT_NOW
    return isinstance(exc, requests.ConnectionError | requests.Timeout)


def _is_authentication(exc: BaseException) -> bool:
    # Compared by name, because the extra `lexicon` may be missing.
    return type(exc).__name__ == "AuthenticationError"


def _status(exc: requests.HTTPError) -> int | None:
    return None if exc.response is None else exc.response.status_code
