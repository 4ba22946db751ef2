"""A real PowerDNS on loopback: the primary of example.com, with the HTTP API."""

from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import requests

from tests.support.ports import HOST, free_port
from tests.support.programs import program_path
from tests.support.waiting import eventually

KEY = "powerdns-key-of-the-tests"
ZONE = "example.com"
SCHEMA = Path("/usr/share/pdns-backend-sqlite3/schema/schema.sqlite3.sql")
ATTEMPTS = 10  # another program may take a free port before PowerDNS listens there

CONFIGURATION = """
launch=gsqlite3
gsqlite3-database={home}/records.db
local-address={host}
local-port={dns_port}
api=yes
api-key={key}
webserver=yes
webserver-address={host}
webserver-port={port}
socket-dir={home}
disable-syslog=yes
daemon=no
guardian=no
write-pid=no
security-poll-suffix=
cache-ttl=0
query-cache-ttl=0
negquery-cache-ttl=0
"""


@dataclass(frozen=True)
class PowerDns:
    """The ports of the API and of the name server."""

    port: int
    dns_port: int

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def address(self) -> str:
        """The address of the name server, with the port."""
        return f"{HOST}:{self.dns_port}"

    def values(self, name: str) -> list[str]:
        """Return the TXT values at a name, a value for each record."""
        return [
            record["content"].strip('"')
            for rrset in self._rrsets()
            if (rrset["name"], rrset["type"]) == (f"{name}.", "TXT")
            for record in rrset["records"]
        ]

    def clear(self) -> None:
        gone = [
            {"name": rrset["name"], "type": rrset["type"], "changetype": "DELETE"}
            for rrset in self._rrsets()
            if rrset["type"] == "TXT"
        ]
        if gone:
            self._ask("PATCH", f"/{ZONE}.", {"rrsets": gone})

    def furnish(self) -> None:
        zone = {"name": f"{ZONE}.", "kind": "Native", "nameservers": [f"ns.{ZONE}."]}
        self._ask("POST", "", zone)
        address = {"content": HOST, "disabled": False}
        server = {"name": f"ns.{ZONE}.", "type": "A", "ttl": 60, "records": [address]}
        self._ask("PATCH", f"/{ZONE}.", {"rrsets": [{**server, "changetype": "REPLACE"}]})

    def answers(self) -> bool:
        try:
            self._ask("GET", "")
        except requests.ConnectionError:
            return False
        return True

    def _rrsets(self) -> Any:
        return self._ask("GET", f"/{ZONE}.").json()["rrsets"]

    def _ask(self, method: str, path: str, body: object = None) -> requests.Response:
        url = f"{self.url}/api/v1/servers/localhost/zones{path}"
        headers = {"X-API-Key": KEY}
        answer = requests.request(method, url, json=body, headers=headers, timeout=5)
        answer.raise_for_status()
        return answer


@contextmanager
def running_powerdns(home: Path) -> Iterator[PowerDns]:
    """Run PowerDNS during a `with` block."""
    with closing(sqlite3.connect(home / "records.db")) as records:
        records.executescript(SCHEMA.read_text())
    for _ in range(ATTEMPTS):
        server = PowerDns(free_port(), free_port())
        with _started(home, server) as process:
            # PowerDNS ends if another program has taken a port.
            assert eventually(partial(_is_settled, process, server))
            if process.poll() is None:
                server.furnish()
                yield server
                return
    raise AssertionError((home / "log").read_text())


@contextmanager
def _started(home: Path, server: PowerDns) -> Iterator[subprocess.Popen[bytes]]:
    configuration = CONFIGURATION.format(
        home=home, host=HOST, dns_port=server.dns_port, port=server.port, key=KEY
    )
    (home / "pdns.conf").write_text(configuration)
    arguments = [program_path("pdns_server"), f"--config-dir={home}"]
    with (
        (home / "log").open("wb") as log,
        subprocess.Popen(arguments, stdout=log, stderr=log) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def _is_settled(process: subprocess.Popen[bytes], server: PowerDns) -> bool:
    return process.poll() is not None or server.answers()
