"""DNS zones at Harbour.

API: https://harbour.example/api (made up).
Permissions: a token that may write TXT records.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated

from certferry.core.redaction import Secret
from certferry.errors import DnsAccessDenied, DnsRejected, DnsUnavailable, ZoneNotFound
from certferry.ports.adapter import Context, Http, NoAnswer, Variable
from certferry.ports.dns import DnsProvider
from certferry.text import Text

SERVICE = "Harbour"
ENVIRONMENT = (Variable("token", ("HARBOUR_TOKEN",), Text("the token of the Harbour account")),)

REQUESTS_PER_SECOND = 20.0


@dataclass(frozen=True, slots=True)
class Settings:
    """An account at Harbour."""

    token: Secret
    api: Annotated[str, Text("the address of the API")] = "https://api.harbour.example"


def connect(settings: Settings, context: Context) -> DnsProvider:
    """See `ports.adapter.Adapter.connect`."""
    return Records(settings, context.http(REQUESTS_PER_SECOND))


class Records:
    """The TXT records of one account. A handle is a record's id."""

    def __init__(self, settings: Settings, http: Http) -> None:
        self._settings = settings
        self._http = http

    def add_txt(self, name: str, value: str) -> str:
        """See `ports.dns.DnsProvider.add_txt`. Harbour stores the same value only once."""
        record = self._ask("PUT", name, value)
        return str(record["id"])

    def remove_txt(self, name: str, value: str, handle: str | None) -> bool:
        """See `ports.dns.DnsProvider.remove_txt`. Harbour removes by value."""
        return bool(self._ask("DELETE", name, value)["removed"])

    def _ask(self, method: str, name: str, value: str) -> dict[str, object]:
        try:
            answer = self._http.send(
                method,
                f"{self._settings.api}/txt",
                {"Authorization": f"Bearer {self._settings.token.reveal()}"},
                json.dumps({"name": name, "value": value}).encode(),
                repeatable=True,
            )
        except NoAnswer as silence:
            raise DnsUnavailable(silence.problem) from silence
        if answer.status == 401:
            raise DnsAccessDenied(
                Text("Harbour does not accept the token"),
                hint=Text("make a new one in Harbour's console"),
            )
        if answer.status == 404:
            raise ZoneNotFound(
                Text("Harbour has no zone for {name}", name=name),
                hint=Text("add the zone at Harbour"),
            )
        if answer.status != 200:
            raise DnsRejected(Text("Harbour answered {status}", status=answer.status))
        document: dict[str, object] = json.loads(answer.body)
        return document
