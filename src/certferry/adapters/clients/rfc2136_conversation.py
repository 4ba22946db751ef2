"""One signed question to a name server over TCP, and its answer (RFC 8945)."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Literal

import dns.exception
import dns.message
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.TSIG
import dns.tsig

from certferry.adapters.clients.http_connections import Exchange, first_connection
from certferry.ports.progress import Pause
from certferry.system_words import system_words
from certferry.text import Text

FUDGE = 300  # seconds that clocks may differ (RFC 8945 §10)
LENGTH_PREFIX = 2  # bytes before each message on TCP (RFC 1035 §4.2.2)
SILENT_ADDRESSES = 3  # of a server: IPv6 that leads nowhere must not keep one from IPv4
PAUSES_AFTER_LOSS = (1.0,)  # seconds: a server that is reloaded is back by then


class Unanswered(Exception):
    """No answer came, or none that can be read."""

    def __init__(self, problem: Text) -> None:
        super().__init__(str(problem))
        self.problem = problem


class Unsigned(Exception):
    """An answer came that the key did not sign, and that is no refusal."""


class Conversation:
    """Speaks with one server, by one key. A connection for each question; safe to use from threads.

    Over TCP alone: an answer is then never cut, and a silent server never asked twice at a time.
    """

    def __init__(
        self,
        server: tuple[str, int],
        key: dns.tsig.Key,
        *,
        within: timedelta,
        now: Callable[[], datetime],
        pause: Pause,
    ) -> None:
        self._server = server
        self._key = key
        self._within = within.total_seconds()
        self._now = now
        self._pause = pause

    def ask(self, message: dns.message.Message) -> dns.message.Message:
        """Give the answer to a question, or to an update, that may be sent again where no answer
        came. An answer without a signature is given where it is a refusal; that a name is not there
        is none.

        Raises `Unanswered`, `Unsigned`, and `dns.tsig.PeerError` for a signature of ours that was
        not accepted.
        """
        wire, mac = self._signed(message)
        raw = self._answer(wire)
        answer = _unverified(raw, message)
        if answer.had_tsig:
            return _parsed(raw, self._key, mac)
        if answer.rcode() in {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}:
            raise Unsigned
        return answer

    def clock_ahead(self, message: dns.message.Message) -> timedelta | None:
        """Return how far the server's clock is ahead by its signature, which is not verified;
        `None` where it has none. Raises `Unanswered`.
        """
        wire, _ = self._signed(message)
        answer, now = _unverified(self._answer(wire), message), self._now()
        if not answer.tsig:
            return None
        told = answer.tsig[0]
        # With BADTIME, the server's time is beside what it repeats of ours (RFC 8945 §5.2.3).
        seconds = int.from_bytes(told.other, "big") if told.other else told.time_signed
        return timedelta(seconds=seconds - int(now.timestamp()))

    def _signed(self, message: dns.message.Message) -> tuple[bytes, bytes]:
        """Give a message with its signature, by the run's clock, and the signature's MAC."""
        wire = message.to_wire()
        unsigned = dns.rdtypes.ANY.TSIG.TSIG(  # type: ignore[no-untyped-call]  # dnspython types it not
            dns.rdataclass.ANY,
            dns.rdatatype.TSIG,
            self._key.algorithm,
            0,
            FUDGE,
            b"",
            message.id,
            0,
            b"",
        )
        now = int(self._now().timestamp())
        signature, _ = dns.tsig.sign(  # type: ignore[no-untyped-call]  # dnspython types it not
            wire, self._key, unsigned, now, b""
        )
        data = signature.to_wire()
        fixed = struct.pack("!HHIH", dns.rdatatype.TSIG, dns.rdataclass.ANY, 0, len(data))
        # The last of the header's counts is that of the additional records (RFC 1035 §4.1.1).
        [additional] = struct.unpack("!H", wire[10:12])
        counted = wire[:10] + struct.pack("!H", additional + 1) + wire[12:]
        return counted + (self._key.name.to_wire() or b"") + fixed + data, signature.mac

    def _answer(self, wire: bytes) -> bytes:
        """Send, and send again where no answer came: an update may be repeated (RFC 2136 §5.6)."""
        for pause in PAUSES_AFTER_LOSS:
            try:
                return self._exchanged(wire)
            except (OSError, EOFError):
                self._pause(pause)
        try:
            return self._exchanged(wire)
        except TimeoutError:
            raise Unanswered(Text("no answer")) from None
        except EOFError:
            raise Unanswered(Text("the connection was closed before an answer")) from None
        except OSError as exc:
            raise Unanswered(system_words(exc)) from exc

    def _exchanged(self, wire: bytes) -> bytes:
        with self._connected() as connection:
            deadline = time.monotonic() + self._within
            connection.sendall(struct.pack("!H", len(wire)) + wire)
            [length] = struct.unpack("!H", _read(connection, LENGTH_PREFIX, deadline))
            return _read(connection, length, deadline)

    def _connected(self) -> socket.socket:
        """Connect to the first of the server's addresses that takes it. Raises `OSError`."""
        places = socket.getaddrinfo(*self._server, type=socket.SOCK_STREAM)
        together = Exchange.of(timedelta(seconds=SILENT_ADDRESSES * self._within), 0)
        return first_connection(places, self._within, together)


def _unverified(raw: bytes, question: dns.message.Message) -> dns.message.Message:
    """Read the answer to a question. Raises `Unanswered`."""
    answer = _parsed(raw, False)  # noqa: FBT003 - that is how dnspython says "do not verify"
    if not question.is_response(answer):
        raise Unanswered(Text("an answer to something else"))
    return answer


def _parsed(
    raw: bytes, key: dns.tsig.Key | Literal[False], mac: bytes = b""
) -> dns.message.Message:
    """Read an answer, and verify its signature where there is a key. Raises as `ask` does."""
    try:
        return dns.message.from_wire(raw, keyring=key, request_mac=mac)
    except dns.tsig.PeerError:
        raise
    except (dns.tsig.BadSignature, dns.tsig.BadTime, dns.tsig.BadKey, dns.tsig.BadAlgorithm):
        raise Unsigned from None
    except (dns.exception.DNSException, ValueError, struct.error) as exc:
        raise Unanswered(Text("an answer that cannot be read")) from exc


def _read(connection: socket.socket, length: int, deadline: float) -> bytes:
    """Read so many bytes. Raises `TimeoutError`, and `EOFError` where there are fewer."""
    read = b""
    while len(read) < length:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        connection.settimeout(left)
        part = connection.recv(length - len(read))
        if not part:
            raise EOFError
        read += part
    return read
