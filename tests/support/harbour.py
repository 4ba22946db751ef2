"""Harbour, the invented service of `tests/data/third_party`: zones and domains behind one token."""

from __future__ import annotations

import itertools
import json
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any

from certferry_sandbox.edges import Edges
from certferry_sandbox.httpd import HttpService, Request, Response, utc_now
from certferry_sandbox.zones import Zones

EDGE = "127.0.0.9"


@dataclass(frozen=True)
class Pem:
    """An uploaded certificate, as an edge serves the certificate."""

    fullchain_pem: str
    privkey_pem: str


class Harbour:
    """Writes TXT records into the world's zones, and serves its domains from an edge."""

    def __init__(self, zones: Zones) -> None:
        self.token = secrets.token_hex(16)
        self.domains: dict[str, str | None] = {}
        self.labels: dict[str, str] = {}
        self.http = HttpService(self._answer)
        self.edges = Edges(self._serving, {EDGE: timedelta(0)}, clock=utc_now)
        self._zones = zones
        self._pem: dict[str, Pem] = {}
        self._ids = itertools.count(1)
        self._writing = threading.Lock()

    def add_domain(self, name: str) -> None:
        """Add a domain without HTTPS, with its DNS records."""
        self._zones.seed(name, "A", EDGE)
        self.domains[name] = None

    def served(self, name: str) -> str | None:
        bound = self.domains[name]
        return None if bound is None else self.labels[bound]

    def _serving(self, name: str, moment: datetime) -> Pem | None:
        bound = self.domains.get(name)
        return None if bound is None else self._pem[bound]

    def _answer(self, request: Request) -> Response:
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return Response.json({}, HTTPStatus.UNAUTHORIZED)
        body = json.loads(request.body or b"null")
        if request.path == "/txt":
            return self._of_records(request.method, body["name"], body["value"])
        content = self._of_domains(request, body)
        status = HTTPStatus.NOT_FOUND if content is None else HTTPStatus.OK
        return Response.json(content, status)

    def _of_domains(self, request: Request, body: Any) -> object:
        match request.method, *request.path.strip("/").split("/"):
            case "GET", "domains":
                return self.domains
            case "GET", "certificates":
                return self.labels
            case "PUT", "certificates", label:
                number = str(next(self._ids))
                self._pem[number] = Pem(body["fullchain"], body["privkey"])
                self.labels[number] = label
                return {"id": number}
            case "PUT", "domains", name:
                self.domains[name] = body["certificate"]
                return {}
            case "DELETE", "certificates", number:
                return {"removed": self.labels.pop(number, None) is not None}
        return None

    def _of_records(self, method: str, name: str, value: str) -> Response:
        if not self._zones.zones_above(name):
            return Response.json({}, HTTPStatus.NOT_FOUND)
        with self._writing:
            existing = [r for r in self._zones.records(name=name, rtype="TXT") if r.value == value]
            if method == "PUT":
                record = existing[0] if existing else self._zones.create(name, "TXT", value)
                return Response.json({"id": record.id})
            for record in existing:
                self._zones.remove(record.id)
            return Response.json({"removed": bool(existing)})


@contextmanager
def harbour(zones: Zones) -> Iterator[Harbour]:
    """Run a service during a `with` block."""
    service = Harbour(zones)
    with service.http, service.edges:
        yield service
