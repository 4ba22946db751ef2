"""Observe domains from outside: every address, one handshake each."""

from __future__ import annotations

import errno
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509

from certferry.adapters.probe.resolvers import Addresses, probed_name, resolve
from certferry.adapters.probe.trust import Trust, presented_in
from certferry.core.certificates.certificate import fingerprint
from certferry.core.certificates.chain import EdgeProblemCode
from certferry.core.certificates.names import is_address
from certferry.core.discovery.watched import Host
from certferry.core.observed.observation import Served
from certferry.errors import Interrupted, Problem, system_words
from certferry.ports.progress import Pause
from certferry.ports.state import must_still_hold
from certferry.text import Text

DOMAINS_AT_ONCE = 4
ADDRESSES_AT_ONCE = 8
"""Of one observation, and of one domain of it. Several lineages are observed side by side as well,
and a process may often open no more than 1,024 files.
"""

HOSTS_AT_ONCE = 16  # where nothing else goes on beside the observation

ANSWER_WITHIN = timedelta(seconds=5)  # how long a resolver may take for one question


@dataclass(eq=False)
class TlsProbe:
    """Shakes hands with the addresses that the resolvers, or the system's, name.

    `pause` is asked before each handshake. Raises `ConfigError` for a wrong `ca_bundle`.
    """

    resolvers: Sequence[tuple[str, int]]
    now: Callable[[], datetime]
    _: KW_ONLY
    pause: Pause
    port: int = 443
    ca_bundle: Path | None = None
    answer_within: timedelta = ANSWER_WITHIN
    hosts_at_once: int = DOMAINS_AT_ONCE

    def __post_init__(self) -> None:
        self._trust = Trust(self.ca_bundle)

    def served(self, domains: Sequence[str]) -> dict[str, tuple[Served, ...]]:
        """See `ports.probe.Probe.served`."""
        hosts = {domain: Host(domain, self.port) for domain in domains}
        seen = self.served_by(list(hosts.values()))
        return {domain: seen[host] for domain, host in hosts.items()}

    def served_by(self, hosts: Sequence[Host]) -> dict[Host, tuple[Served, ...]]:
        """See `ports.probe.HostProbe.served_by`. The first that notices a stop ends it for all."""
        must_still_hold()
        over = threading.Event()

        def must_go_on() -> None:
            if over.is_set():
                raise Interrupted(Text("stopped"))
            try:
                self.pause(0)
            except Interrupted:
                over.set()
                raise

        pool = ThreadPoolExecutor(self.hosts_at_once, thread_name_prefix="probe")
        try:
            seen = pool.map(lambda host: self._observe(host, must_go_on), hosts)
            found = dict(zip(hosts, seen, strict=True))
        except BaseException:
            # The run does not wait for a handshake in progress.
            over.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        pool.shutdown()
        return found

    def _observe(self, host: Host, must_go_on: Callable[[], None]) -> tuple[Served, ...]:
        """Return what each address of a host presents, and each problem of finding them."""
        must_go_on()
        name = probed_name(host.name)
        addresses = Addresses((name,))
        if not is_address(name):
            addresses = resolve(name, self.resolvers, self.answer_within)

        def presented_by(address: str) -> Served:
            must_go_on()
            try:
                chain_der = served_chain(address, host.port, name)
            except NoHandshake as error:
                return Served(
                    address, None, valid=False, problem=error.problem, silent=error.silent
                )
            return presented(address, chain_der, self._trust, name, self.now())

        with ThreadPoolExecutor(min(ADDRESSES_AT_ONCE, len(addresses.found) or 1)) as pool:
            seen = tuple(pool.map(presented_by, addresses.found))
        unseen = (
            Served(address="", fingerprint=None, valid=False, problem=problem, silent=True)
            for problem in addresses.problems
        )
        return (*seen, *unseen)


TIMEOUT = 10.0  # seconds for connecting, and again for the handshake


def served_chain(address: str, port: int, host: str, within: float = TIMEOUT) -> list[bytes]:
    """Shake hands, with SNI but for an address (RFC 6066 §3); return what is served as DER, leaf
    first, unread, at least one. Raises `NoHandshake`.
    """
    # Any certificate is taken: it is judged afterwards, when it has been seen.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((address, port), within) as connection,
            context.wrap_socket(connection, server_hostname=host) as session,
        ):
            chain_der = _chain(session)
    except TimeoutError as error:
        message = Text("no answer within {seconds} seconds", seconds=int(within))
        hint = Text("the address is down, or a firewall on the way drops the connection")
        raise NoHandshake(EdgeProblemCode.TIMED_OUT, message, hint, silent=True) from error
    except ssl.SSLError as error:
        raise refused_handshake(error) from error
    except OSError as error:
        raise not_connected(error, address) from error
    if not chain_der:
        message = Text("it presents no certificate")
        raise NoHandshake(EdgeProblemCode.NO_CERTIFICATE, message, _HTTPS_OFF)
    return chain_der


def _chain(session: ssl.SSLSocket) -> list[bytes]:
    """Return the chain as sent: public from Python 3.13, before that on the wrapped object."""
    if hasattr(session, "get_unverified_chain"):
        return list(session.get_unverified_chain() or ())
    inner = session._sslobj  # type: ignore[attr-defined]  # noqa: SLF001 - the only way on 3.11 and 3.12
    sent = inner.get_unverified_chain() or ()
    return [ssl.PEM_cert_to_DER_cert(item.public_bytes()) for item in sent]


_UNREADABLE = Problem(
    EdgeProblemCode.UNREADABLE,
    Text("it presents a certificate that cannot be read"),
    Text("it is damaged, or no CA made it: bind another one"),
)


def presented(
    address: str, chain_der: Sequence[bytes], trust: Trust, host: str, now: datetime
) -> Served:
    """Judge a chain as a client would. One that cannot be read has its fingerprint all the same."""
    seen = Served(address, fingerprint(chain_der[0]), valid=False, problem=_UNREADABLE)
    try:
        chain = [x509.load_der_x509_certificate(der) for der in chain_der]
        seen = replace(seen, not_after=chain[0].not_valid_after_utc)
        problem = trust.problem(chain, host, now)
    except Exception:  # noqa: BLE001 - the library reads lazily, and documents no exceptions
        return seen
    seen = replace(seen, valid=problem is None, problem=problem)
    with suppress(Exception):  # as above: the facts are for people, and the verdict stays
        seen = replace(seen, chain=presented_in(chain))
    return seen


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


class NoHandshake(Exception):
    """The address gave no certificate; `problem` says why, `silent` that it was not reached."""

    def __init__(
        self, code: EdgeProblemCode, message: Text, hint: Text, *, silent: bool = False
    ) -> None:
        super().__init__(str(message))
        self.problem = Problem(code, message, hint)
        self.silent = silent


def refused_handshake(error: ssl.SSLError) -> NoHandshake:
    """Return how a handshake ended that began, with its alert named as in RFC 8446 §6."""
    reason = error.reason or ""
    if reason in _NOT_TLS:
        message = Text("the address does not speak TLS at this port")
        hint = Text("name the port with --port, or `port` under [verify]")
        return NoHandshake(EdgeProblemCode.NO_TLS, message, hint)
    if reason in _TOO_OLD:
        message = Text("the handshake failed: no TLS version that clients still speak")
        hint = Text("turn on TLS 1.2 and TLS 1.3 for the domain where it is served")
        return NoHandshake(EdgeProblemCode.OLD_TLS, message, hint)
    named = reason.removeprefix("SSLV3_").removeprefix("TLSV1_").removeprefix("TLSV13_")
    message = Text("the handshake failed")
    if isinstance(error, ssl.SSLEOFError):
        message = Text("the handshake failed: the address closed the connection")
    elif named != reason:
        alert = named.removeprefix("ALERT_").lower()
        message = Text("the handshake failed (TLS alert {alert})", alert=alert)
    return NoHandshake(EdgeProblemCode.HANDSHAKE_FAILED, message, _HTTPS_OFF)


def not_connected(error: OSError, address: str) -> NoHandshake:
    """Return why the system could not connect."""
    if error.errno in _OURS:
        message = Text("this machine could not ask it: {problem}", problem=system_words(error))
        hint = Text("raise the limit of open files (`ulimit -n`), or look again later")
        return NoHandshake(EdgeProblemCode.NOT_ASKED, message, hint)
    if isinstance(error, ConnectionRefusedError):
        code = EdgeProblemCode.REFUSED
        message = Text("the address refuses connections at this port")
        hint = Text("check the port, and that HTTPS is on for the domain where it is served")
    elif isinstance(error, ConnectionResetError | ConnectionAbortedError | BrokenPipeError):
        code = EdgeProblemCode.CLOSED
        message = Text("the address closed the connection")
        hint = Text("a firewall may filter the name of the host; ask the CDN's support if it stays")
    elif ":" in address and error.errno in _NO_WAY:
        code = EdgeProblemCode.NO_IPV6
        message = Text("this machine has no IPv6, so the address was not looked at")
        hint = Text("look from a machine that has IPv6")
    else:
        code = EdgeProblemCode.UNREACHABLE
        message = Text("the address cannot be reached: {problem}", problem=system_words(error))
        hint = Text("check this machine's network, and that the DNS record is right")
    return NoHandshake(code, message, hint, silent=True)
