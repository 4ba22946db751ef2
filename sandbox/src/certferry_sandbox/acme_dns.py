"""A stand-in of an acme-dns server, writing to the zones that the name servers serve.

From joohoi/acme-dns (pkg/api and pkg/database, 2026): paths, headers, the forms of keys and
values, statuses and codes; a third value replaces the older of two. The stand-in is stricter than
the server: the stand-in refuses unknown fields.
"""

from __future__ import annotations

import json
import re
import secrets
import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from ipaddress import ip_address, ip_network
from typing import Self

from certferry_sandbox.faults import Faults
from certferry_sandbox.httpd import HttpService, Request, Response, utc_now
from certferry_sandbox.zones import Record, Zones

ROOM = 2
KEY = re.compile(r"[A-Za-z0-9_-]{40}", re.ASCII)
VALUE = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
LOOPBACK = "127.0.0.1"
FIELDS = {"subdomain", "txt"}


@dataclass(frozen=True)
class Registered:
    """A registration: the keys and the name that the server gives to a client."""

    username: str
    password: str = field(repr=False)
    fulldomain: str
    subdomain: str
    allowfrom: tuple[str, ...] = ()

    def allows(self, address: str) -> bool:
        """Return whether updates may come from an address."""
        networks = [ip_network(one) for one in self.allowfrom]
        return not networks or any(ip_address(address) in network for network in networks)

    def as_stored(self, server_url: str = "") -> dict[str, object]:
        """Return the registration in the form of clients' account files."""
        kept: dict[str, object] = {
            "username": self.username,
            "password": self.password,
            "fulldomain": self.fulldomain,
            "subdomain": self.subdomain,
        }
        return {**kept, "server_url": server_url} if server_url else kept


class AcmeDnsService:
    """The server on loopback, in plain HTTP, authoritative for a zone of `zones`."""

    def __init__(self, zones: Zones, zone: str, *, now: Callable[[], datetime] = utc_now) -> None:
        self.http = HttpService(self._answer, clock=now)
        self._zones = zones
        self._zone = zone
        self._lock = threading.Lock()
        self._registered: dict[str, Registered] = {}
        self._values: dict[str, list[Record]] = {}

    def __enter__(self) -> Self:
        self.http.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.http.stop()

    @property
    def url(self) -> str:
        """The URL that stands for https://auth.example.org."""
        return self.http.url

    @property
    def faults(self) -> Faults:
        """The faults of the HTTP service."""
        return self.http.faults

    def updates(self) -> list[Request]:
        """The updates so far."""
        return self.http.requests("POST /update")

    def register(self, allowfrom: Sequence[str] = (), subdomain: str = "") -> Registered:
        """Make a registration. Raises `ValueError` for a wrong network."""
        for one in allowfrom:
            ip_network(one)
        label = subdomain or str(uuid.uuid4())
        password = secrets.token_urlsafe(30)
        made = Registered(
            str(uuid.uuid4()), password, f"{label}.{self._zone}", label, tuple(allowfrom)
        )
        with self._lock:
            self._registered[made.username] = made
        return made

    def _answer(self, request: Request) -> Response:
        match request.label:
            case "GET /health":
                return Response(HTTPStatus.OK, b"", "text/plain")
            case "POST /register":
                return self._register(request)
            case "POST /update":
                return self._update(request)
            case _:
                return Response(HTTPStatus.NOT_FOUND, b"404 page not found\n", "text/plain")

    def _register(self, request: Request) -> Response:
        try:
            wanted = json.loads(request.body or b"{}")
        except ValueError:
            return _refused(HTTPStatus.BAD_REQUEST, "malformed_json_payload")
        try:
            made = self.register(wanted.get("allowfrom", []))
        except ValueError:
            return _refused(HTTPStatus.BAD_REQUEST, "invalid_allowfrom_cidr")
        written = {**made.as_stored(), "allowfrom": list(made.allowfrom)}
        return Response.json(written, HTTPStatus.CREATED)

    def _update(self, request: Request) -> Response:
        try:
            wanted = json.loads(request.body)
        except ValueError:
            wanted = {}
        user = self._user(request)
        if user is None or not user.allows(LOOPBACK) or wanted.get("subdomain") != user.subdomain:
            return _refused(HTTPStatus.UNAUTHORIZED, "forbidden")
        if set(wanted) != FIELDS or not VALUE.fullmatch(str(wanted["txt"])):
            return _refused(HTTPStatus.BAD_REQUEST, "bad_txt")
        self._write(user, wanted["txt"])
        return Response.json({"txt": wanted["txt"]})

    def _user(self, request: Request) -> Registered | None:
        user = self._registered.get(request.headers.get("X-Api-User", ""))
        key = request.headers.get("X-Api-Key", "")
        return user if user and KEY.fullmatch(key) and key == user.password else None

    def _write(self, user: Registered, value: str) -> None:
        with self._lock:
            kept = self._values.setdefault(user.subdomain, [])
            kept.append(self._zones.create(user.fulldomain, "TXT", value, ttl=1))
            for old in kept[:-ROOM]:
                self._zones.remove(old.id)
            del kept[:-ROOM]


def _refused(status: HTTPStatus, code: str) -> Response:
    return Response.json({"error": code}, status)
