"""What an acme-dns server gave for each registration: the name it answers for, and its keys.

Forms of keys: joohoi/acme-dns, pkg/api/util.go (2026). The file is that of the clients lego,
cert-manager and acme-dns-client (goacmedns), and of acme-dns-auth.py: a JSON object from a domain
to what `POST /register` has answered.
"""

from __future__ import annotations

import json
import re
import shlex
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from certferry.core.foreign_words import quoted
from certferry.core.secret import Secret
from certferry.errors import ConfigError
from certferry.file_trust import NotTrusted, must_be_trusted
from certferry.system_words import system_words
from certferry.text import Text

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_USERNAME = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_PASSWORD = re.compile(r"[A-Za-z0-9_-]{40}", re.ASCII)
_SUBDOMAIN = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")

REGISTER = Text(
    "take them from what the server answered to the registration: `username` is a UUID, `password`"
    " has 40 characters, `subdomain` is the first label of `fulldomain`"
)


@dataclass(frozen=True, slots=True)
class Registration:
    """A name at the server and the keys for it. `fulldomain` may be empty, where only the first
    label is known; `domain` is what it was made for, where that is known.
    """

    username: Secret
    password: Secret
    subdomain: str
    fulldomain: str = ""
    domain: str = ""

    def answers_for(self, name: str) -> bool:
        """Tell whether a name is the registration's."""
        return name == self.fulldomain or (
            not self.fulldomain and name.partition(".")[0] == self.subdomain
        )


def registration(username: str, password: str, written: str, domain: str = "") -> Registration:
    """Make a registration; `written` is its subdomain or its fulldomain. Raises `ConfigError` for
    what can be none.
    """
    name = written.strip().rstrip(".").lower()
    subdomain = name.partition(".")[0]
    if _PASSWORD.fullmatch(username) and _USERNAME.fullmatch(password):
        raise ConfigError(
            Text("`username` and `password` of the acme-dns account are in each other's place"),
            hint=REGISTER,
        )
    for key, value, form in (
        ("username", username, _USERNAME),
        ("password", password, _PASSWORD),
        ("subdomain", subdomain, _SUBDOMAIN),
    ):
        if not form.fullmatch(value):
            raise ConfigError(
                Text("`{key}` of the acme-dns account is not valid", key=key), hint=REGISTER
            )
    fulldomain = name if name != subdomain else ""
    return Registration(Secret(username), Secret(password), subdomain, fulldomain, domain)


def read_storage(path: Path, api: str) -> Sequence[Registration]:
    """Read the registrations at one server from a file. Raises `ConfigError`."""
    found = _object(_private(path), path)
    registrations = list(_registrations(found, path, api))
    if not registrations:
        raise ConfigError(
            Text("{path} has no registration at {api}", path=str(path), api=api), hint=REGISTER
        )
    return registrations


def _registrations(found: dict[str, Any], path: Path, api: str) -> Iterator[Registration]:
    for domain, entry in found.items():
        fields = entry if isinstance(entry, dict) else {}
        texts = {key: value for key, value in fields.items() if isinstance(value, str)}
        # Another server's keys are not this one's to see.
        if (texts.get("server_url") or api).rstrip("/") != api:
            continue
        written = texts.get("fulldomain") or texts.get("subdomain", "")
        username, password = texts.get("username", ""), texts.get("password", "")
        try:
            yield registration(username, password, written, domain.rstrip(".").lower())
        except ConfigError as wrong:
            problem = Text(
                "{path}: {domain}: {problem}",
                path=str(path),
                domain=quoted(domain),
                problem=wrong.message,
            )
            raise ConfigError(problem, hint=wrong.hint) from None


def _private(path: Path) -> bytes:
    """Read a file that no other user may read or change."""
    try:
        must_be_trusted(path)
        if path.stat().st_mode & _OTHERS:
            raise ConfigError(
                Text("{path} holds keys, and other users can read it", path=str(path)),
                hint=Text("run: chmod 600 {path}", path=shlex.quote(str(path))),
            )
        return path.read_bytes()
    except NotTrusted as exc:
        raise ConfigError(
            Text("{path} {problem}", path=str(exc.path), problem=exc.problem), hint=exc.fix
        ) from exc
    except OSError as exc:
        raise ConfigError(
            Text("{path}: {problem}", path=str(path), problem=system_words(exc))
        ) from exc


def _object(raw: bytes, path: Path) -> dict[str, Any]:
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ConfigError(
            Text("{path} is no file of an acme-dns client", path=str(path)),
            hint=Text("it is JSON: from each domain to what the server answered to /register"),
        )
    return found
