"""Observe domains from outside: every address, one handshake each; and whether a client accepts
the chain that is served.
"""

from __future__ import annotations

import errno
import logging
import re
import socket
import ssl
import threading
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property, partial
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from certferry.adapters.probe.resolver_check import (
    Addresses,
    host_of,
    resolve,
    without_address,
)
from certferry.core.certificates.certificate import fingerprint
from certferry.core.certificates.chain import (
    EdgeProblemCode,
    End,
    Presented,
    Way,
    what_is_wrong,
    without_valid_signer,
)
from certferry.core.certificates.pem import common_name
from certferry.core.discovery.watched import Host, is_address
from certferry.core.observed.observation import Served
from certferry.errors import ConfigError, Interrupted
from certferry.ports.progress import Pause
from certferry.problem import Problem
from certferry.system_words import system_words
from certferry.text import Text

_log = logging.getLogger(__name__)

DOMAINS_AT_ONCE = 4
ADDRESSES_AT_ONCE = 8
"""Of one look, and of one domain of it. Several lineages are looked at side by side as well, and a
process may often open no more than 1,024 files.
"""

HOSTS_AT_ONCE = 16
"""Where nothing else goes on beside the look."""

ANSWER_WITHIN = timedelta(seconds=5)
"""How long a resolver may take for one question."""


@dataclass(eq=False)
class TlsProbe:
    """Shakes hands with the addresses that the resolvers name; a wildcard under a label of ours.

    No resolvers means the system's. `pause` is asked before each handshake whether the run has been
    stopped. Raises `ConfigError` when `ca_bundle` cannot be read; default is the system's trust.
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
        """See `ports.probe.HostProbe.served_by`. One that is silent takes its time beside the
        others.
        """
        observing = _Observing(self.pause)
        pool = ThreadPoolExecutor(self.hosts_at_once, thread_name_prefix="probe")
        try:
            seen = pool.map(lambda host: self._observe(host, observing), hosts)
            found = dict(zip(hosts, seen, strict=True))
        except BaseException:
            # The run does not wait for a handshake in progress.
            observing.end()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        pool.shutdown()
        return found

    def _observe(self, host: Host, observing: _Observing) -> tuple[Served, ...]:
        observing.must_go_on()
        name = host_of(host.name)
        addresses = Addresses((name,), ())
        if not is_address(name):
            addresses = resolve(name, self.resolvers, self.answer_within)
        nothing = () if addresses.found else (without_address(name),)
        silent = tuple(
            Served(address="", fingerprint=None, valid=False, problem=problem, silent=True)
            for problem in addresses.problems or nothing
        )
        if not addresses.found:
            return silent
        with ThreadPoolExecutor(min(ADDRESSES_AT_ONCE, len(addresses.found))) as pool:
            shake = partial(self._shake_hands, name=name, port=host.port, observing=observing)
            seen = tuple(pool.map(shake, addresses.found))
        return seen + silent

    def _shake_hands(self, address: str, name: str, port: int, observing: _Observing) -> Served:
        observing.must_go_on()
        try:
            chain_der = served_chain(address, port, name)
        except NoHandshake as error:
            return Served(address, None, valid=False, problem=error.problem, silent=error.silent)
        return presented(address, chain_der, self._trust, name, self.now())


class _Observing:
    """One observation, by many threads: the first that notices that the run was stopped ends it for
    all (`ports.progress.Pause`).
    """

    def __init__(self, pause: Pause) -> None:
        self._pause = pause
        self._over = threading.Event()

    def end(self) -> None:
        """Begin nothing more."""
        self._over.set()

    def must_go_on(self) -> None:
        """Raise `Interrupted` when the run no longer waits for the rest."""
        if self._over.is_set():
            raise Interrupted(Text("stopped"))
        try:
            self._pause(0)
        except Interrupted:
            self.end()
            raise


TIMEOUT = 10.0
"""Seconds for connecting, and again for the handshake."""


def served_chain(address: str, port: int, host: str, within: float = TIMEOUT) -> list[bytes]:
    """Shake hands with SNI, of which an address has none (RFC 6066 §3), and give what is served as
    DER, leaf first, unread: at least one. `within` so many seconds it connects, and answers.

    Raises `NoHandshake`.
    """
    try:
        with (
            socket.create_connection((address, port), within) as connection,
            _context().wrap_socket(connection, server_hostname=host) as session,
        ):
            chain_der = _chain(session)
    except TimeoutError as error:
        problem = Problem(
            EdgeProblemCode.TIMED_OUT,
            Text("no answer within {seconds} seconds", seconds=int(within)),
            Text("the address is down, or a firewall on the way drops the connection"),
        )
        raise NoHandshake(problem, silent=True) from error
    except ssl.SSLError as error:
        raise refused_handshake(error) from error
    except OSError as error:
        raise not_connected(error, address) from error
    if not chain_der:
        raise NoHandshake(NO_CERTIFICATE, silent=False)
    return chain_der


def _context() -> ssl.SSLContext:
    """A client that takes any certificate: it is judged afterwards, when it has been seen."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _chain(session: ssl.SSLSocket) -> list[bytes]:
    """The chain as sent. Public from Python 3.13; before that on the wrapped object, which has
    had it since 3.10.
    """
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
    with suppress(
        Exception
    ):  # as above: for people, and where it cannot be read, the verdict stays
        seen = replace(seen, chain=facts_of(chain))
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

NO_CERTIFICATE = Problem(
    EdgeProblemCode.NO_CERTIFICATE, Text("it presents no certificate"), _HTTPS_OFF
)


class NoHandshake(Exception):
    """The address gave no certificate; `problem` says why, `silent` that it was not reached."""

    def __init__(self, problem: Problem, *, silent: bool) -> None:
        super().__init__(str(problem.message))
        self.problem = problem
        self.silent = silent


_CLOSED_IN_HANDSHAKE = Problem(
    EdgeProblemCode.HANDSHAKE_FAILED,
    Text("the handshake failed: the address closed the connection"),
    _HTTPS_OFF,
)
_NO_TLS = Problem(
    EdgeProblemCode.NO_TLS,
    Text("the address does not speak TLS at this port"),
    Text("name the port with --port, or `port` under [verify]"),
)
_OLD_TLS = Problem(
    EdgeProblemCode.OLD_TLS,
    Text("the handshake failed: no TLS version that clients still speak"),
    Text("turn on TLS 1.2 and TLS 1.3 for the domain where it is served"),
)
_REFUSED = Problem(
    EdgeProblemCode.REFUSED,
    Text("the address refuses connections at this port"),
    Text("check the port, and that HTTPS is on for the domain where it is served"),
)
_CLOSED = Problem(
    EdgeProblemCode.CLOSED,
    Text("the address closed the connection"),
    Text("a firewall may filter the name of the host; ask the CDN's support if it stays"),
)
_NO_IPV6 = Problem(
    EdgeProblemCode.NO_IPV6,
    Text("this machine has no IPv6, so the address was not looked at"),
    Text("look from a machine that has IPv6"),
)


def refused_handshake(error: ssl.SSLError) -> NoHandshake:
    """Return how a handshake ended that began. The alert is named as in RFC 8446 §6: OpenSSL puts a
    protocol before it, and not always `ALERT`.
    """
    reason = error.reason or ""
    named = reason.removeprefix("SSLV3_").removeprefix("TLSV1_").removeprefix("TLSV13_")
    if isinstance(error, ssl.SSLEOFError):
        problem = _CLOSED_IN_HANDSHAKE
    elif reason in _NOT_TLS:
        problem = _NO_TLS
    elif reason in _TOO_OLD:
        problem = _OLD_TLS
    else:
        alert = named.removeprefix("ALERT_").lower()
        message = Text("the handshake failed (TLS alert {alert})", alert=alert)
        message = Text("the handshake failed") if named == reason else message
        problem = Problem(EdgeProblemCode.HANDSHAKE_FAILED, message, _HTTPS_OFF)
    return NoHandshake(problem, silent=False)


def not_connected(error: OSError, address: str) -> NoHandshake:
    """Return why the system could not connect."""
    if error.errno in _OURS:
        problem = Problem(
            EdgeProblemCode.NOT_ASKED,
            Text("this machine could not ask it: {problem}", problem=system_words(error)),
            Text("raise the limit of open files (`ulimit -n`), or look again later"),
        )
        return NoHandshake(problem, silent=False)
    if isinstance(error, ConnectionRefusedError):
        problem = _REFUSED
    elif isinstance(error, ConnectionResetError | ConnectionAbortedError | BrokenPipeError):
        problem = _CLOSED
    elif ":" in address and error.errno in _NO_WAY:
        problem = _NO_IPV6
    else:
        problem = Problem(
            EdgeProblemCode.UNREACHABLE,
            Text("the address cannot be reached: {problem}", problem=system_words(error)),
            Text("check this machine's network, and that the DNS record is right"),
        )
    return NoHandshake(problem, silent=True)


_BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_MOST_READ = 16
"""Certificates of a chain that are looked at: a hostile edge could have us compare hundreds."""
_LONGEST_NAME = 200  # characters; a subject may hold anything

Roots = Mapping[x509.Name, Sequence[x509.Certificate]]
"""Trusted certificates by their subject."""


class Trust:
    """A set of trusted roots: a PEM bundle of the operator's, or the system's.

    Raises `ConfigError` when the bundle cannot be read or holds no certificate.
    """

    def __init__(self, ca_bundle: Path | None = None) -> None:
        self._trusted = _read(ca_bundle or _system_bundle())
        self._store = Store(self._trusted)

    def problem(
        self, chain: Sequence[x509.Certificate], host: str, now: datetime
    ) -> Problem | None:
        """Return why a client would not accept the chain (leaf first) for the host, a name or an
        address; `None` if it would (RFC 5280 path validation, names per RFC 6125).

        The library decides. Its words are for its own developers, so why is found out anew.
        """
        is_ip = is_address(host)
        subject = x509.IPAddress(ip_address(host)) if is_ip else x509.DNSName(host)
        verifier = PolicyBuilder().store(self._store).time(now).build_server_verifier(subject)
        try:
            verifier.verify(chain[0], list(chain[1:]))
        except VerificationError as error:
            _log.debug("%s: %s", host, error)
            return what_is_wrong(way_up(chain, self._roots), host, now)
        return without_valid_signer(signers_of(chain), now)

    @cached_property
    def _roots(self) -> Roots:
        roots = defaultdict[x509.Name, list[x509.Certificate]](list)
        for root in self._trusted:
            roots[root.subject].append(root)
        return dict(roots)


def _system_bundle() -> Path:
    """The system's bundle, where it has one in a file; else the one that comes with `requests`."""
    cafile = ssl.get_default_verify_paths().cafile
    debian = Path("/etc/ssl/certs/ca-certificates.crt")
    found = [Path(cafile)] if cafile else []
    for path in (*found, debian):
        if path.is_file():
            return path
    from requests.utils import DEFAULT_CA_BUNDLE_PATH

    return Path(DEFAULT_CA_BUNDLE_PATH)


def _read(bundle: Path) -> list[x509.Certificate]:
    """Read each certificate by itself: a system's bundle may hold one that the library, stricter
    than the others were (RFC 5280 §4.1.2.2), does not take, and that must not cost the rest.
    """
    try:
        blocks = _BLOCK.findall(bundle.read_bytes())
    except OSError as error:
        raise _unreadable(bundle, system_words(error)) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        roots = [root for block in blocks if (root := _root(block)) is not None]
    if not roots:
        raise _unreadable(bundle, Text("no certificate in it"))
    return roots


def _root(block: bytes) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificate(block)
    except (ValueError, x509.InvalidVersion):
        return None


def _unreadable(bundle: Path, problem: Text) -> ConfigError:
    return ConfigError(
        Text("{path} is not a bundle of certificates: {problem}", path=bundle, problem=problem),
        hint=Text("`ca_bundle` under [verify] names a PEM file of trusted roots"),
    )


def way_up(chain: Sequence[x509.Certificate], roots: Roots) -> Way:
    """Follow the issuers of a leaf through what is presented, in any order, to a trusted one."""
    leaf, *others = chain[:_MOST_READ]
    if _issued_by(leaf, leaf):
        return Way(facts_of([leaf]), End.SELF_SIGNED_LEAF)
    paths = [[leaf]]
    seen = {leaf}
    for path in paths:  # it grows on the way
        last = path[-1]
        for root in roots.get(last.issuer, ()):
            if _issued_by(last, root):
                return Way(facts_of([*path, root]), End.TRUSTED)
        found = [other for other in others if other not in seen and _issued_by(last, other)]
        seen.update(found)
        paths += [[*path, other] for other in found]
    longest = max(paths, key=len)
    ends_in_a_root = _issued_by(longest[-1], longest[-1])
    end = End.UNTRUSTED_ROOT if ends_in_a_root else End.MISSING_ISSUER
    return Way(facts_of(longest), end)


def signers_of(chain: Sequence[x509.Certificate]) -> tuple[Presented, ...]:
    """Return what is presented of the leaf's issuers, in its order."""
    leaf, *others = chain[:_MOST_READ]
    return tuple(_facts(other) for other in others if _issued_by(leaf, other))


def facts_of(chain: Sequence[x509.Certificate]) -> tuple[Presented, ...]:
    """Read the facts of a chain, leaf first. Raises whatever the library does."""
    leaf, *issuers = chain[:_MOST_READ]
    return (_facts(leaf, _names(leaf)), *map(_facts, issuers))


def _facts(certificate: x509.Certificate, names: tuple[str, ...] = ()) -> Presented:
    return Presented(
        fingerprint=fingerprint(certificate.public_bytes(Encoding.DER)),
        subject=_spelled(certificate.subject),
        issuer=_spelled(certificate.issuer),
        names=names,
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
    )


def _names(leaf: x509.Certificate) -> tuple[str, ...]:
    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    hosts = [_on_one_line(name.lower()) for name in found.get_values_for_type(x509.DNSName)]
    return (*hosts, *map(str, found.get_values_for_type(x509.IPAddress)))


def _spelled(name: x509.Name) -> str:
    return _on_one_line(common_name(name) or name.rfc4514_string())


def _on_one_line(words: str) -> str:
    return " ".join(words.split())[:_LONGEST_NAME]


def _issued_by(child: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        child.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True
