"""Why an address gave no certificate, in our words: by the number of what failed, or the alert."""

from __future__ import annotations

import errno
import ssl

from certferry.core.edges import EdgeProblem, EdgeProblemCode
from certferry.system_words import system_words
from certferry.text import Text

_OURS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
"""What this machine lacks, and says nothing about the address. Taken for its silence, an edge that
was not asked would count for nothing, and what it serves still be retired.
"""

_NO_WAY = {errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
"""What connecting to an IPv6 address fails of where a machine has none itself (connect(2))."""

_NOT_TLS = {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "UNKNOWN_PROTOCOL"}
"""OpenSSL's reasons for bytes that are no TLS record."""

_TOO_OLD = {"UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION", "NO_PROTOCOLS_AVAILABLE"}

_HTTPS_OFF = Text("turn HTTPS on for the domain where it is served, and bind a certificate to it")

NO_CERTIFICATE = EdgeProblem(
    EdgeProblemCode.NO_CERTIFICATE, Text("it presents no certificate"), _HTTPS_OFF
)


class NoHandshake(Exception):
    """The address gave no certificate; `problem` says why, `silent` that it was not reached."""

    def __init__(self, problem: EdgeProblem, *, silent: bool) -> None:
        super().__init__(str(problem.message))
        self.problem = problem
        self.silent = silent


def no_answer(seconds: int) -> NoHandshake:
    """Say that an address kept silent for so long."""
    problem = EdgeProblem(
        EdgeProblemCode.TIMED_OUT,
        Text("no answer within {seconds} seconds", seconds=seconds),
        Text("the address is down, or a firewall on the way drops the connection"),
    )
    return NoHandshake(problem, silent=True)


def refused_handshake(error: ssl.SSLError) -> NoHandshake:
    """Say how a handshake ended that began."""
    reason = error.reason or ""
    if isinstance(error, ssl.SSLEOFError):
        problem = EdgeProblem(
            EdgeProblemCode.HANDSHAKE_FAILED,
            Text("the handshake failed: the address closed the connection"),
            _HTTPS_OFF,
        )
    elif reason in _NOT_TLS:
        problem = EdgeProblem(
            EdgeProblemCode.NO_TLS,
            Text("the address does not speak TLS at this port"),
            Text("name the port with --port, or `port` under [verify]"),
        )
    elif reason in _TOO_OLD:
        problem = EdgeProblem(
            EdgeProblemCode.OLD_TLS,
            Text("the handshake failed: no TLS version that clients still speak"),
            Text("turn on TLS 1.2 and TLS 1.3 for the domain where it is served"),
        )
    else:
        problem = EdgeProblem(EdgeProblemCode.HANDSHAKE_FAILED, _failed(reason), _HTTPS_OFF)
    return NoHandshake(problem, silent=False)


def _failed(reason: str) -> Text:
    """Name the alert as RFC 8446 §6 does. OpenSSL puts a protocol before it, and not always
    `ALERT`.
    """
    named = reason.removeprefix("SSLV3_").removeprefix("TLSV1_").removeprefix("TLSV13_")
    if named == reason:
        return Text("the handshake failed")
    alert = named.removeprefix("ALERT_").lower()
    return Text("the handshake failed (TLS alert {alert})", alert=alert)


def not_connected(error: OSError, address: str) -> NoHandshake:
    """Say what the system says of a connection."""
    if error.errno in _OURS:
        return NoHandshake(_not_asked(error), silent=False)
    return NoHandshake(_unanswered(error, address), silent=True)


def _not_asked(error: OSError) -> EdgeProblem:
    return EdgeProblem(
        EdgeProblemCode.NOT_ASKED,
        Text("this machine could not ask it: {problem}", problem=system_words(error)),
        Text("raise the limit of open files (`ulimit -n`), or look again later"),
    )


def _unanswered(error: OSError, address: str) -> EdgeProblem:
    if isinstance(error, ConnectionRefusedError):
        return EdgeProblem(
            EdgeProblemCode.REFUSED,
            Text("the address refuses connections at this port"),
            Text("check the port, and that HTTPS is on for the domain where it is served"),
        )
    if isinstance(error, ConnectionResetError | ConnectionAbortedError | BrokenPipeError):
        return EdgeProblem(
            EdgeProblemCode.CLOSED,
            Text("the address closed the connection"),
            Text("a firewall may filter the name of the host; ask the CDN's support if it stays"),
        )
    if ":" in address and error.errno in _NO_WAY:
        return EdgeProblem(
            EdgeProblemCode.NO_IPV6,
            Text("this machine has no IPv6, so the address was not looked at"),
            Text("look from a machine that has IPv6"),
        )
    return EdgeProblem(
        EdgeProblemCode.UNREACHABLE,
        Text("the address cannot be reached: {problem}", problem=system_words(error)),
        Text("check this machine's network, and that the DNS record is right"),
    )
