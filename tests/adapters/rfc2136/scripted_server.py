"""A name server on loopback whose answers a test chooses."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.TSIG
import dns.rrset
import dns.tsig

from certferry_sandbox.nameserver.daemon import DnsDaemon, Reply, Transport
from tests.support.bind import KEY_NAME, SECRET
from tests.support.ports import HOST

KEY = dns.tsig.Key(KEY_NAME, SECRET, "hmac-sha256")
SOA = "ns. admin. 1 60 60 60 60"

Turn = Callable[[bytes], bytes]


@dataclass
class Scripted:
    """A server with the zone example.com that answers updates with a code. `bend` changes a message
    before it is signed, `turn` after.
    """

    update: dns.rcode.Rcode = dns.rcode.NOERROR
    question: dns.rcode.Rcode = dns.rcode.NOERROR
    signs: bool = True
    signs_updates: bool = True
    bend: Turn = lambda wire: wire
    turn: Turn = lambda wire: wire
    drops: Callable[[], bool] = lambda: False
    port: int = 0

    @property
    def address(self) -> str:
        """The address with its port, as an operator writes it."""
        return f"{HOST}:{self.port}"

    def handle(self, wire: bytes, _: Transport) -> Reply | None:
        """Answer a question about the zone or an update, or hang up."""
        if self.drops():
            raise ConnectionResetError
        query = dns.message.from_wire(wire, keyring=KEY)
        answer = dns.message.make_response(query)
        answer.tsig = None
        answer.flags |= dns.flags.AA
        is_update = query.opcode() == dns.opcode.UPDATE
        answer.set_rcode(self.update if is_update else self.question)
        if not is_update:
            answer.authority.append(dns.rrset.from_text("example.com.", 60, "IN", "SOA", SOA))
        sent = self.bend(answer.to_wire())
        if self.signs_updates if is_update else self.signs:
            sent = _signed(sent, query.id, query.mac or b"")
        return Reply(self.turn(sent))


def _signed(wire: bytes, number: int, mac: bytes) -> bytes:
    """Append a signature to any message."""
    template = dns.rdtypes.ANY.TSIG.TSIG(  # type: ignore[no-untyped-call]  # dnspython types it not
        dns.rdataclass.ANY, dns.rdatatype.TSIG, KEY.algorithm, 0, 300, b"", number, 0, b""
    )
    record, _ = dns.tsig.sign(  # type: ignore[no-untyped-call]  # dnspython types it not
        wire, KEY, template, int(time.time()), mac
    )
    data: bytes = record.to_wire()
    head = struct.pack("!HHIH", dns.rdatatype.TSIG, dns.rdataclass.ANY, 0, len(data))
    [additional] = struct.unpack("!H", wire[10:12])
    counted = wire[:10] + struct.pack("!H", (additional + 1) & 0xFFFF) + wire[12:]
    return counted + (KEY.name.to_wire() or b"") + head + data


@contextmanager
def scripted() -> Iterator[Scripted]:
    """Run the server for the time of a `with` block."""
    server = Scripted()
    daemon = DnsDaemon({HOST: server.handle}).start()
    server.port = daemon.port
    try:
        yield server
    finally:
        daemon.stop()
