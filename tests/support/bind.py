"""A real BIND on loopback: the primary of a few zones, with a key for updates."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.tsig
import dns.update
import dns.zone

from tests.support.ports import HOST, free_port
from tests.support.programs import program_path
from tests.support.waiting import eventually

KEY_NAME = "certferry."
SECRET = "2Xy0rUqs0YwcRuAn4dAbVqJ0lPYvvSWwzlXJ4Zm+2g8="
LIMITED = "limited."
"""The name of a key that may change only the challenge of host.limited.example."""

ZONES = ("example.com", "sub.example.com", "limited.example")
ATTEMPTS = 10  # another program may take a free port before BIND listens there

CONFIGURATION = """
options {{
    directory "{home}"; pid-file none; session-keyfile none;
    listen-on port {port} {{ {host}; }}; listen-on-v6 {{ none; }};
    recursion no; dnssec-validation no; notify no; empty-zones-enable no;
    allow-transfer {{ {host}; }};
}};
controls {{ }};
key "{key}" {{ algorithm hmac-sha256; secret "{secret}"; }};
key "{limited}" {{ algorithm hmac-sha512; secret "{secret}"; }};
zone "example.com" {{ type primary; file "example.com"; allow-update {{ key "{key}"; }}; }};
zone "sub.example.com" {{ type primary; file "sub.example.com"; allow-update {{ key "{key}"; }}; }};
zone "limited.example" {{
    type primary; file "limited.example";
    update-policy {{ grant {limited} name _acme-challenge.host.limited.example. TXT; }};
}};
"""
RECORDS = """$TTL 300
@ SOA ns admin 1 3600 600 86400 60
@ NS ns
ns A 127.0.0.1
away NS ns.elsewhere.test.
"""


@dataclass(frozen=True)
class Bind:
    port: int

    @property
    def address(self) -> str:
        """The address with the port, in an operator's notation."""
        return f"{HOST}:{self.port}"

    def values(self, name: str) -> list[str]:
        """Return the TXT values at a name, a value for each record."""
        answer = dns.query.tcp(dns.message.make_query(name, "TXT", flags=0), HOST, 5, self.port)
        sets = [rrset for rrset in answer.answer if rrset.rdtype == dns.rdatatype.TXT]
        return [b"".join(record.strings).decode() for rrset in sets for record in rrset]

    def ttl(self, name: str) -> int:
        """Return the time to live of the TXT records at a name, in seconds."""
        answer = dns.query.tcp(dns.message.make_query(name, "TXT", flags=0), HOST, 5, self.port)
        return answer.answer[0].ttl

    def put(self, zone: str, name: str, rtype: str, value: str, ttl: int = 300) -> None:
        """Add a record, as another client would."""
        change = _change(zone)
        change.add(dns.name.from_text(name), ttl, rtype, value)
        self._send(change)

    def clear(self) -> None:
        for zone in ("example.com", "sub.example.com"):
            change = _change(zone)
            lasting = {dns.name.from_text(name, None) for name in ("@", "ns", "away")}
            for name in set(self._transferred(zone)) - lasting:
                change.delete(name.derelativize(dns.name.from_text(zone)))
            self._send(change)

    def _transferred(self, zone: str) -> dns.zone.Zone:
        content = dns.zone.Zone(zone)
        dns.query.inbound_xfr(HOST, content, port=self.port)
        return content

    def _send(self, change: dns.update.UpdateMessage) -> None:
        answer = dns.query.tcp(change, HOST, 5, self.port)
        assert dns.rcode.NOERROR == answer.rcode(), answer


def _change(zone: str) -> dns.update.UpdateMessage:
    key = dns.tsig.Key(KEY_NAME, SECRET, "hmac-sha256")
    return dns.update.UpdateMessage(zone, keyring=key)


@contextmanager
def running_bind(home: Path) -> Iterator[Bind]:
    """Run BIND during a `with` block."""
    for zone in ZONES:
        (home / zone).write_text(RECORDS)
    for _ in range(ATTEMPTS):
        bind = Bind(free_port())
        with _started(home, bind) as process:
            # BIND ends if another program has taken the port.
            assert eventually(partial(_is_settled, process, bind))
            if process.poll() is None:
                yield bind
                return
    raise AssertionError((home / "log").read_text())


@contextmanager
def _started(home: Path, bind: Bind) -> Iterator[subprocess.Popen[bytes]]:
    configuration = CONFIGURATION.format(
        home=home, host=HOST, port=bind.port, key=KEY_NAME, secret=SECRET, limited=LIMITED
    )
    (home / "named.conf").write_text(configuration)
    # The copy is outside /usr/sbin, where AppArmor would limit named to files in /etc/bind.
    program = shutil.copy(program_path("named"), home / "named")
    arguments = [program, "-g", "-n", "1", "-c", str(home / "named.conf")]
    with (home / "log").open("wb") as log, subprocess.Popen(arguments, stderr=log) as process:
        try:
            yield process
        finally:
            process.terminate()


def _is_settled(process: subprocess.Popen[bytes], bind: Bind) -> bool:
    return process.poll() is not None or _answers(bind)


def _answers(bind: Bind) -> bool:
    try:
        query = dns.message.make_query("limited.example", "SOA", flags=0)
        return bool(dns.query.tcp(query, HOST, 1, bind.port).answer)
    except (OSError, EOFError):
        return False
