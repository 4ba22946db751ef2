"""DNS at an acme-dns server. The server holds only challenges, at names to which the operator's
CNAMEs lead.

API reference: https://github.com/joohoi/acme-dns, README and pkg/api (2026). A registration can
write TXT values at a single name. The server keeps the last two values at the name, and has no call
to remove a value: see docs/decisions/0029-rolling-records.md.
"""

from __future__ import annotations

import json
import shlex
import stat
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any

from msgspec import Struct

from certferry import errors
from certferry.adapters.dns.answers import not_again
from certferry.adapters.dns.keys import KeyForms, Mistaken
from certferry.adapters.dns.txt_records import revealed
from certferry.adapters.http.http_client import ahead_of
from certferry.adapters.http.posting import must_be_address
from certferry.core.certificates.names import CHALLENGE
from certferry.core.discovery.inventory import FoundZone
from certferry.core.redaction import Secret, quoted
from certferry.errors import system_words
from certferry.file_trust import NotTrusted, must_be_trusted
from certferry.ports.adapter import Context, Http, NoAnswer, Variable, json_object
from certferry.ports.dns import DnsProvider
from certferry.text import Text

SERVICE = "acme-dns"
RANK = 60
WHERE_KEYS_ARE = Text(
    "the server's answer, given once, to `curl -s -X POST https://auth.example.org/register`; "
    "then set a CNAME from the challenge's name to `fulldomain` of the answer"
)
ENVIRONMENT = (
    Variable(
        "api", ("ACMEDNS_BASE_URL", "ACME_DNS_API_BASE"), Text("the address of the acme-dns server")
    ),
    Variable(
        "username", ("ACMEDNS_USERNAME",), Text("the username of the registration"), is_public=True
    ),
    Variable("password", ("ACMEDNS_PASSWORD",), Text("the password of the registration")),
    Variable(
        "subdomain",
        ("ACMEDNS_SUBDOMAIN",),
        Text("the subdomain of the registration, or better its fulldomain"),
    ),
)

REQUESTS_PER_SECOND = 5.0  # modest, for a small server
ROOM = 2  # values kept by the server at one name, by default

_LATER = Text("try again in a few minutes, and check the server's log")
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
REGISTER = Text(
    "copy the values from the server's answer to the registration: `username` is a UUID, "
    "`password` has 40 characters, `subdomain` is the first label of `fulldomain`"
)

_NOT_VALID = Text("is not valid")
KEYS = KeyForms(
    SERVICE,
    REGISTER,
    (
        Mistaken(
            "username",
            r"^[A-Za-z0-9_-]{40}\Z",
            Text("is a password: `username` and `password` may be swapped"),
        ),
        Mistaken("username", r"(?i)^(?![0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z)", _NOT_VALID),
        Mistaken("password", r"^(?![A-Za-z0-9_-]{40}\Z)", _NOT_VALID),
        Mistaken("subdomain", r"^(?![a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\Z)", _NOT_VALID),
    ),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings under `[accounts.<label>]`: a registration, or a file of registrations."""

    api: Secret | str
    username: Secret | None = None
    password: Secret | None = None
    subdomain: Secret | str = ""
    storage: Annotated[
        Path | None,
        Text(
            "instead of these three keys: the file of an acme-dns client, with several "
            "registrations"
        ),
    ] = None


def connect(settings: Settings, context: Context) -> DnsProvider:
    """Return the provider of one server, without sending a request. Raises `ConfigError`."""
    api = revealed(settings.api).rstrip("/")
    must_be_address("api", api)
    return AcmeDnsServer(
        api, _registrations(settings, api), context.http(REQUESTS_PER_SECOND), context.now
    )


def _registrations(settings: Settings, api: str) -> Sequence[Registration]:
    keys = (settings.username, settings.password, settings.subdomain)
    if settings.storage is not None:
        if any(keys):
            raise errors.ConfigError(
                Text("the acme-dns account has `storage` and keys of a registration as well"),
                hint=Text(
                    "write either `storage` or the three keys; a separate registration can be "
                    "another account"
                ),
            )
        return read_storage(settings.storage, api)
    if not all(keys):
        raise errors.ConfigError(
            Text("the acme-dns account lacks `username`, `password` or `subdomain`, or `storage`"),
            hint=REGISTER,
        )
    username, password, subdomain = (revealed(value or "") for value in keys)
    return [registration(username, password, subdomain)]


@dataclass(eq=False)
class AcmeDnsServer:
    """The `DnsProvider` of one server. Thread-safe. A handle is the value."""

    #: URL of the server, without a final slash.
    api: str
    #: The names at the server, each with its keys.
    registrations: Sequence[Registration]
    #: The connections to the server.
    http: Http
    #: The clock of the run, compared with the server's.
    now: Callable[[], datetime]
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    #: Subdomain → values that orders in progress still need.
    _needed: dict[str, list[str]] = field(default_factory=dict, init=False)
    #: Subdomain → the refusal of the keys.
    _denied: dict[str, errors.DnsAccessDenied] = field(default_factory=dict, init=False)

    def zones(self) -> tuple[FoundZone, ...] | None:
        """Return `None`: a registration covers one name at the end of a CNAME, never a zone."""
        return None

    def zone_of(self, name: str) -> FoundZone:
        """See `ports.survey.ZoneFinder.zone_of`."""
        self._registration(name)
        return FoundZone(name)

    def clock_ahead(self) -> timedelta | None:
        """See `ports.examination.Timed.clock_ahead`."""
        try:
            answer = self.http.send("GET", f"{self.api}/health", repeatable=True)
        except NoAnswer as exc:
            raise self._lost("/health", exc.problem) from exc
        return ahead_of(answer.headers, self.now())

    def add_txt(self, name: str, value: str) -> str:
        name = name.rstrip(".").lower()
        chosen = self._registration(name)
        with self._lock:
            denied = self._denied.get(chosen.subdomain)
            needed = self._needed.setdefault(chosen.subdomain, [])
            if value in needed:
                return value
            if denied is not None:
                raise not_again(SERVICE, denied)
            if len(needed) >= ROOM:
                raise _no_room(name)
            needed.append(value)
        try:
            self._write(chosen, name, value)
        except BaseException as exc:
            self._forget(chosen, value)
            if isinstance(exc, errors.DnsAccessDenied):
                self._denied[chosen.subdomain] = exc
            raise
        return value

    def remove_txt(self, name: str, value: str, handle: str | None) -> bool:
        """See `ports.dns.DnsProvider.remove_txt`. The value stays in DNS, but a later order may now
        replace the value. Always return `True`.
        """
        del handle
        chosen = self._registration(name.rstrip(".").lower())
        self._forget(chosen, value)
        return True

    def _registration(self, name: str) -> Registration:
        for candidate in self.registrations:
            if candidate.answers_for(name):
                return candidate
        raise _none_for(name, self.registrations)

    def _forget(self, chosen: Registration, value: str) -> None:
        with self._lock:
            needed = self._needed.get(chosen.subdomain, [])
            if value in needed:
                needed.remove(value)

    def _write(self, chosen: Registration, name: str, value: str) -> None:
        headers = {
            "X-Api-User": chosen.username.reveal(),
            "X-Api-Key": chosen.password.reveal(),
            "Content-Type": "application/json",
        }
        body = json.dumps({"subdomain": chosen.subdomain, "txt": value}).encode()
        try:
            answer = self.http.send("POST", f"{self.api}/update", headers, body)
        except NoAnswer as exc:
            raise self._lost(name, exc.problem) from exc
        document = json_object(answer.body) or {}
        if answer.status != HTTPStatus.OK:
            raise _refused(chosen, name, answer.status, document)
        if document.get("txt") != value:
            problem = Text("not an acme-dns response (status {status})", status=answer.status)
            raise self._lost(name, problem)

    def _lost(self, about: str, problem: Text) -> errors.DnsUnavailable:
        return errors.DnsUnavailable(
            Text("{about}: {api}: {problem}", about=about, api=self.api, problem=problem),
            hint=Text(
                "check that `api` is the address of an acme-dns server, and that the server runs"
            ),
        )


def _refused(
    chosen: Registration, name: str, status: int, document: Mapping[str, object]
) -> errors.DnsError:
    words = quoted(document.get("error", ""), [chosen.password, chosen.username])
    message = Text("{name}: acme-dns answers {status}: {words}")
    message = message.filled(name=name, status=status, words=words)
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        hint = Text(
            "compare `username`, `password` and `subdomain` with the server's answer to the "
            "registration, and check that `allowfrom` contains this host's address"
        )
        return errors.DnsAccessDenied(message, hint=hint)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS:
        return errors.DnsUnavailable(message, hint=_LATER)
    hint = Text("set `api` to the address of an acme-dns server")
    return errors.DnsRejected(message, hint=hint)


def _no_room(name: str) -> errors.DnsRejected:
    """Return the error for a third value, which would push out a value still needed."""
    return errors.DnsRejected(
        Text("{name}: acme-dns keeps two values, and orders in progress need both", name=name),
        hint=Text("register once more, and set each domain's CNAME to a registration of its own"),
        retry=errors.Retry.LATER,
    )


def _none_for(name: str, registrations: Sequence[Registration]) -> errors.ZoneNotFound:
    """Return the error for a name without a registration. The hint shows the missing CNAME if a
    registration for the name's domain exists, or only one registration. Otherwise the hint asks for
    a registration.
    """
    domain = name.removeprefix(f"{CHALLENGE}.")
    of_domain = [candidate for candidate in registrations if candidate.domain == domain]
    chosen = (of_domain or list(registrations))[0]
    end = f"{chosen.fulldomain}." if chosen.fulldomain else f"{chosen.subdomain}.…"
    hint = Text("register the domain at the server, and set a CNAME to `fulldomain` of the answer")
    if name != domain and (of_domain or len(registrations) == 1):
        hint = Text(
            "set the CNAME once; certferry then writes the challenges at its target (not with "
            "`wait` under [dns]: acme-dns needs CNAMEs to be followed): {record}",
            record=f"{name}. CNAME {end}",
        )
    return errors.ZoneNotFound(
        Text("no registration of the acme-dns account answers for {name}", name=name), hint=hint
    )


class Registration(Struct, frozen=True):
    """A name at the server, with the keys for the name."""

    #: The user of the registration.
    username: Secret
    #: The password of the registration.
    password: Secret
    #: The first label of the name.
    subdomain: str
    #: The whole name; empty if unknown.
    fulldomain: str = ""
    #: The domain that the registration is for; empty if unknown.
    domain: str = ""

    def answers_for(self, name: str) -> bool:
        """Return whether a name is the registration's name."""
        return name == self.fulldomain or (
            not self.fulldomain and name.partition(".")[0] == self.subdomain
        )


def registration(username: str, password: str, label: str, domain: str = "") -> Registration:
    """Return a registration; `label` is the subdomain or the fulldomain.

    Raises `ConfigError` for malformed keys.
    """
    name = label.strip().rstrip(".").lower()
    subdomain = name.partition(".")[0]
    KEYS.must_fit(username=username, password=password, subdomain=subdomain)
    fulldomain = name if name != subdomain else ""
    return Registration(Secret(username), Secret(password), subdomain, fulldomain, domain)


def read_storage(path: Path, api: str) -> Sequence[Registration]:
    """Read the registrations at one server from a client's file. Raises `ConfigError`."""
    entries = json_object(_private(path))
    if entries is None:
        raise errors.ConfigError(
            Text("{path} is not an acme-dns client file", path=str(path)),
            hint=Text("the file must be JSON: for each domain, the server's answer to /register"),
        )
    registrations = list(_registrations_in(entries, path, api))
    if not registrations:
        raise errors.ConfigError(
            Text("{path} has no registration at {api}", path=str(path), api=api), hint=REGISTER
        )
    return registrations


def _registrations_in(entries: dict[str, Any], path: Path, api: str) -> Iterator[Registration]:
    for domain, entry in entries.items():
        fields = entry if isinstance(entry, dict) else {}
        texts = {key: value for key, value in fields.items() if isinstance(value, str)}
        # Skip the keys of other servers, because this server must not see them.
        if (texts.get("server_url") or api).rstrip("/") != api:
            continue
        label = texts.get("fulldomain") or texts.get("subdomain", "")
        username, password = texts.get("username", ""), texts.get("password", "")
        try:
            yield registration(username, password, label, domain.rstrip(".").lower())
        except errors.ConfigError as wrong:
            message = Text("{path}: {domain}: {problem}")
            message = message.filled(path=str(path), domain=quoted(domain), problem=wrong.message)
            raise errors.ConfigError(message, hint=wrong.hint) from None


def _private(path: Path) -> bytes:
    """Read a file. Raises `ConfigError` for an unreadable file, and for a file that other users can
    read or change.
    """
    try:
        must_be_trusted(path)
        if path.stat().st_mode & _OTHERS:
            raise errors.ConfigError(
                Text("{path} holds keys, and other users can read it", path=str(path)),
                hint=Text("run: chmod 600 {path}", path=shlex.quote(str(path))),
            )
        return path.read_bytes()
    except NotTrusted as exc:
        raise errors.ConfigError(
            Text("{path} {problem}", path=str(exc.path), problem=exc.problem), hint=exc.fix
        ) from exc
    except OSError as exc:
        raise errors.ConfigError(
            Text("{path}: {problem}", path=str(path), problem=system_words(exc))
        ) from exc
