"""Observe the certificates of domains from outside, by a TLS handshake with every address."""

from __future__ import annotations

import errno
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509

from certferry.adapters.probe.edge_addresses import Addresses, probed_name, resolve
from certferry.adapters.probe.trust import Trust, presented_in
from certferry.core.certificates.certificate import fingerprint
from certferry.core.certificates.chain import EdgeProblemCode
from certferry.core.certificates.names import is_address
from certferry.core.discovery.watched import Host
from certferry.core.observed.observation import Served
from certferry.errors import Interrupted, Problem, system_words
from certferry.ports.probe import NONE_NAMED, Named
from certferry.ports.progress import Pause
from certferry.ports.state import must_still_hold
from certferry.text import Text
from certferry.values import replace

DOMAINS_AT_ONCE = 4
ADDRESSES_AT_ONCE = 8
"""Domains per observation, and addresses per domain, probed in parallel. Several lineages are
observed in parallel as well, and many systems allow a process only 1,024 open files.
"""

HOSTS_AT_ONCE = 16  # in a process that does nothing else meanwhile

ANSWER_WITHIN = timedelta(seconds=5)  # how long a resolver may take for one question


@dataclass(eq=False)
class TlsProbe:
    """Finds the addresses of domains, and makes a TLS handshake with every address.

    Raises `ConfigError` for an unreadable `ca_bundle`.
    """

    #: Host and port of each resolver; the system's resolvers if empty.
    resolvers: Sequence[tuple[str, int]]
    #: The moment at which certificates must be valid.
    now: Callable[[], datetime]
    _: KW_ONLY
    #: Called before each lookup and each handshake; raises `Interrupted` if the run is stopped.
    pause: Pause
    #: The port of the edges of `served`.
    port: int = 443
    #: PEM file of trusted roots; the system's roots if `None`.
    ca_bundle: Path | None = None
    #: How long a resolver may take for one question.
    answer_within: timedelta = ANSWER_WITHIN
    #: Hosts probed in parallel.
    hosts_at_once: int = DOMAINS_AT_ONCE

    def __post_init__(self) -> None:
        self._trust = Trust(self.ca_bundle)

    def served(
        self, domains: Sequence[str], named: Named = NONE_NAMED
    ) -> dict[str, tuple[Served, ...]]:
        """See `ports.probe.Probe.served`."""
        hosts = {domain: Host(domain, self.port) for domain in domains}
        seen = self._seen(list(hosts.values()), named)
        return {domain: seen[host] for domain, host in hosts.items()}

    def served_by(self, hosts: Sequence[Host]) -> dict[Host, tuple[Served, ...]]:
        """See `ports.probe.HostProbe.served_by`."""
        return self._seen(hosts, NONE_NAMED)

    def _seen(self, hosts: Sequence[Host], named: Named) -> dict[Host, tuple[Served, ...]]:
        """Observe hosts in parallel. Once a thread notices that the run is stopped, all threads
        end. Raises `Interrupted` and `LeaseLost`.
        """
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
            seen = pool.map(
                lambda host: self._observe(host, named.get(host.name, ()), must_go_on), hosts
            )
            by_host = dict(zip(hosts, seen, strict=True))
        except BaseException:
            # Do not wait for handshakes in progress, so that the run stops at once.
            over.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        pool.shutdown()
        return by_host

    def _observe(
        self, host: Host, named: Sequence[str], must_go_on: Callable[[], None]
    ) -> tuple[Served, ...]:
        """Return the certificate served by each address of a host. `named` are further addresses to
        ask. A resolver's problem becomes a `Served` without an address.
        """
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
            seen = tuple(pool.map(presented_by, sorted({*addresses.found, *named})))
        unseen = (
            Served(address="", fingerprint=None, valid=False, problem=problem, silent=True)
            for problem in addresses.problems
        )
        return (*seen, *unseen)


TIMEOUT = 10.0  # seconds for connecting, and again for the handshake


def served_chain(address: str, port: int, host: str, within: float = TIMEOUT) -> list[bytes]:
    """Make a TLS handshake, and return the served chain: DER, leaf first, never empty. `within`
    limits the connection and the handshake, in seconds each.

    If `host` is an IP address, no SNI is sent (RFC 6066 §3). Raises `NoHandshake`.
    """
    # Every certificate is accepted here; `presented` judges the chain.
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
        hint = Text("the address is down, or a firewall in between drops the connection")
        raise NoHandshake(EdgeProblemCode.TIMED_OUT, message, hint, silent=True) from error
    except ssl.SSLError as error:
        raise refused_handshake(error) from error
    except OSError as error:
        raise not_connected(error, address) from error
    if not chain_der:
        message = Text("the address presents no certificate")
        raise NoHandshake(EdgeProblemCode.NO_CERTIFICATE, message, _HTTPS_OFF)
    return chain_der


def _chain(session: ssl.SSLSocket) -> list[bytes]:
    """Return the chain as sent, in DER. `get_unverified_chain` is public from Python 3.13 on."""
    if hasattr(session, "get_unverified_chain"):
        return list(session.get_unverified_chain() or ())
    inner = session._sslobj  # type: ignore[attr-defined]  # noqa: SLF001 - the only way on 3.11 and 3.12
    sent = inner.get_unverified_chain() or ()
    return [ssl.PEM_cert_to_DER_cert(item.public_bytes()) for item in sent]


_UNREADABLE = Problem(
    EdgeProblemCode.UNREADABLE,
    Text("the certificate cannot be read"),
    Text("the certificate is damaged, or no CA issued it: bind another certificate"),
)


def presented(
    address: str, chain_der: Sequence[bytes], trust: Trust, host: str, now: datetime
) -> Served:
    """Return the served certificate, with the judgement of a client on the chain. An unreadable
    certificate has a fingerprint and the problem `UNREADABLE`.
    """
    seen = Served(address, fingerprint(chain_der[0]), valid=False, problem=_UNREADABLE)
    try:
        chain = [x509.load_der_x509_certificate(der) for der in chain_der]
        seen = replace(seen, not_after=chain[0].not_valid_after_utc)
        problem = trust.problem(chain, host, now)
    except Exception:  # noqa: BLE001 - the library reads lazily, and documents no exceptions
        return seen
    seen = replace(seen, valid=problem is None, problem=problem)
    with suppress(Exception):  # the facts only inform people, so the verdict stays without them
        seen = replace(seen, chain=presented_in(chain))
    return seen


_OURS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
"""Errors of a machine short of file handles or memory. If such an error counted as the address's
silence, the edge would be ignored, and a certificate still served there would be retired.
"""

_NO_WAY = {errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
"""Errors of connecting to an IPv6 address from a machine without IPv6 (connect(2))."""

_NOT_TLS = {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "UNKNOWN_PROTOCOL"}
"""OpenSSL's error names for an answer that is not a TLS record."""

_TOO_OLD = {"UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION", "NO_PROTOCOLS_AVAILABLE"}

_HTTPS_OFF = Text("turn on HTTPS for the domain, and bind a certificate")


class NoHandshake(Exception):
    """Raised if an address presents no certificate."""

    def __init__(
        self, code: EdgeProblemCode, message: Text, hint: Text, *, silent: bool = False
    ) -> None:
        super().__init__(str(message))
        #: Why the address presented no certificate.
        self.problem = Problem(code, message, hint)
        #: Whether the address was out of reach.
        self.silent = silent


def refused_handshake(error: ssl.SSLError) -> NoHandshake:
    """Return the error for a failed handshake; alerts are named as in RFC 8446 §6."""
    reason = error.reason or ""
    if reason in _NOT_TLS:
        message = Text("the address does not speak TLS at the port")
        hint = Text("set the port with --port, or `port` under [verify]")
        return NoHandshake(EdgeProblemCode.NO_TLS, message, hint)
    if reason in _TOO_OLD:
        message = Text("the handshake failed: the address offers only outdated TLS versions")
        hint = Text("turn on TLS 1.2 and TLS 1.3 for the domain")
        return NoHandshake(EdgeProblemCode.OLD_TLS, message, hint)
    named = reason.removeprefix("SSLV3_").removeprefix("TLSV1_").removeprefix("TLSV13_")
    message = Text("the handshake failed")
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):  # the second by OpenSSL 3.0
        message = Text("the handshake failed: the address closed the connection")
    elif named != reason:
        alert = named.removeprefix("ALERT_").lower()
        message = Text("the handshake failed (TLS alert {alert})", alert=alert)
    return NoHandshake(EdgeProblemCode.HANDSHAKE_FAILED, message, _HTTPS_OFF)


def not_connected(error: OSError, address: str) -> NoHandshake:
    """Return the error for a failed connection."""
    if error.errno in _OURS:
        message = Text(
            "this host could not ask the address: {problem}", problem=system_words(error)
        )
        hint = Text("raise the limit of open files (`ulimit -n`), or try again later")
        return NoHandshake(EdgeProblemCode.NOT_ASKED, message, hint)
    if isinstance(error, ConnectionRefusedError):
        code = EdgeProblemCode.REFUSED
        message = Text("the address refuses connections at the port")
        hint = Text("check the port, and that HTTPS is on for the domain")
    elif isinstance(error, ConnectionResetError | ConnectionAbortedError | BrokenPipeError):
        code = EdgeProblemCode.CLOSED
        message = Text("the address closed the connection")
        hint = Text(
            "a firewall may filter the host name; ask the CDN's support if the error persists"
        )
    elif ":" in address and error.errno in _NO_WAY:
        code = EdgeProblemCode.NO_IPV6
        message = Text("this host has no IPv6, so the address was not checked")
        hint = Text("run the check on a host with IPv6")
    else:
        code = EdgeProblemCode.UNREACHABLE
        message = Text("the address cannot be reached: {problem}", problem=system_words(error))
        hint = Text("check this host's network, and the DNS record")
    return NoHandshake(code, message, hint, silent=True)
