"""Where the console listens: a port, a unix socket, or the sockets that systemd has opened; and the
certificate that it serves there, which is replaced while it goes on.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import ssl
import stat
import tempfile
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from certferry.config.console import wrong_listening
from certferry.config.model import UNIX, ConsoleSettings
from certferry.core.certificates.certificate import CertificateBundle, covered_by
from certferry.core.desired.certificate import PemFiles
from certferry.core.network import is_loopback
from certferry.errors import CertferryError, CertificateError, ConfigError
from certferry.system_words import system_words
from certferry.text import Text
from certferry.wiring.machine import PemFileSource
from certferry.wiring.workspace import Workspace

_FIRST = 3
"""The first descriptor that systemd hands over (sd_listen_fds(3))."""

_MODE = 0o660
"""A proxy in the socket's group may connect, and no other user: it may name who logs in."""

_BACKLOG = 128


@dataclass(frozen=True, slots=True)
class Listening:
    """Sockets that listen, and as what messages and logs name them."""

    sockets: tuple[socket.socket, ...]
    named: tuple[str, ...]


@contextmanager
def listening(console: ConsoleSettings, environ: MutableMapping[str, str]) -> Iterator[Listening]:
    """Listen for a `with` block: at the sockets that systemd has handed over, else where the
    settings say. Raises `ConfigError`.
    """
    found = _handed_over(console, environ)
    path = None
    if found is None:
        path = console.socket
        found = (_at_port(console) if path is None else _at_path(path),)
    try:
        yield Listening(found, tuple(map(_name_of, found)))
    finally:
        for one in found:
            one.close()
        if path is not None:
            with suppress(OSError):
                path.unlink()


def _handed_over(
    console: ConsoleSettings, environ: MutableMapping[str, str]
) -> tuple[socket.socket, ...] | None:
    """Return the sockets of the socket unit, which programs that are started must not have too."""
    asked, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
    environ.pop("LISTEN_FDNAMES", None)
    if asked != str(os.getpid()) or not count.isdigit() or count == "0":
        return None
    found = []
    for number in range(_FIRST, _FIRST + int(count)):
        try:
            one = socket.socket(fileno=number)
        except OSError as exc:
            problem = Text("the descriptor {number} that systemd hands over is no socket")
            raise ConfigError(problem.filled(number=number)) from exc
        if one.type != socket.SOCK_STREAM:
            hint = Text("write ListenStream= in the socket unit")
            raise ConfigError(Text("systemd hands over a socket for datagrams"), hint=hint)
        there = replace(console, listen=_name_of(one))
        for _, problem in wrong_listening(there, has_certificate=console.has_certificate):
            said = Text("the socket {socket} of systemd: {problem}", socket=_name_of(one))
            raise ConfigError(said.filled(problem=problem))
        one.set_inheritable(False)
        found.append(one)
    return tuple(found)


def _at_port(console: ConsoleSettings) -> socket.socket:
    host, port = console.address or ("", 0)
    host = "127.0.0.1" if host == "localhost" else host
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
        found.listen(_BACKLOG)
    except OSError as exc:
        found.close()
        raise _cannot_listen(console.listen, exc) from exc
    return found


def _cannot_listen(where: str, exc: OSError) -> ConfigError:
    hint = Text("listen elsewhere: `listen` under [console], or --listen")
    if exc.errno == errno.EADDRINUSE:
        problem = Text("another program listens at {where} already", where=where)
    elif exc.errno == errno.EACCES:
        problem = Text("this user may not listen at {where}", where=where)
    elif exc.errno == errno.EADDRNOTAVAIL:
        problem = Text("this machine does not have the address of {where}", where=where)
    else:
        problem = Text("{where}: {problem}", where=where, problem=system_words(exc))
    return ConfigError(problem, hint=hint)


def _at_path(path: Path) -> socket.socket:
    _remove_stale(path)
    found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o777 & ~_MODE)  # from its first moment on
    try:
        found.bind(str(path))
        found.listen(_BACKLOG)
    except OSError as exc:
        found.close()
        if exc.errno == errno.ENOENT:
            problem = Text("there is no directory {folder}", folder=path.parent)
            hint = Text(
                "make it, for the user who runs certferry alone; under systemd,"
                " RuntimeDirectory= makes it at each start"
            )
            raise ConfigError(problem, hint=hint) from exc
        raise _cannot_listen(str(path), exc) from exc
    finally:
        os.umask(before)
    return found


def _remove_stale(path: Path) -> None:
    """Remove the socket of a process that was killed. Raises `ConfigError` for anything else."""
    try:
        is_socket = stat.S_ISSOCK(path.lstat().st_mode)
    except OSError:  # binding says what is wrong
        return
    if not is_socket:
        problem = Text("{path} is there, and is no socket", path=path)
        raise ConfigError(problem, hint=Text("move it away, or name another socket"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trying:
        trying.settimeout(1)
        try:
            trying.connect(str(path))
        except ConnectionRefusedError:
            with suppress(OSError):
                path.unlink()
        except OSError:  # binding says what is wrong
            return
        else:
            raise _cannot_listen(str(path), OSError(errno.EADDRINUSE, ""))


def _name_of(one: socket.socket) -> str:
    if one.family == socket.AF_UNIX:
        name = one.getsockname()
        return UNIX + (name if isinstance(name, str) else "@" + name[1:].decode(errors="replace"))
    host, port = one.getsockname()[:2]
    return f"[{host}]:{port}" if one.family == socket.AF_INET6 else f"{host}:{port}"


class ServedCertificate:
    """The certificate that the console serves. `context` is for the sockets; each handshake is
    made with what was `loaded` last.
    """

    def __init__(self) -> None:
        self._source = PemFileSource()
        self._served = ""
        self.context = _new_context()
        self._current = self.context
        self.context.sni_callback = self._choose

    def load(self, workspace: Workspace) -> bool:
        """Serve what is in force now; return whether that is another one than before. Raises
        `ConfigError` for what cannot be read, or is not for the name in `url`.
        """
        console = workspace.settings.console
        bundle = self._bundle(workspace)
        _must_be_for(bundle, console)
        if bundle.fullchain_digest == self._served:
            return False
        context = _new_context()
        _load(context, bundle)
        # Replaced as a whole: another thread is in the middle of a handshake.
        self._current, self._served = context, bundle.fullchain_digest
        return True

    def _bundle(self, workspace: Workspace) -> CertificateBundle:
        console = workspace.settings.console
        try:
            if console.fullchain is not None:
                return self._source.read(PemFiles(console.fullchain, console.privkey or ""))
            return self._declared(console.certificate or "", workspace)
        except ConfigError:
            raise
        except CertferryError as error:
            raise ConfigError(error.message, hint=error.hint) from error

    def _declared(self, name: str, workspace: Workspace) -> CertificateBundle:
        files = next(
            (one.files for one in workspace.settings.declared if one.lineage == name), None
        )
        if files is not None:
            return self._source.read(files)
        state = workspace.state
        for version in state.versions(name):
            if version.revocation is None:
                return state.bundle(name, version.number)
        hint = Text("run `certferry sync {name}`", name=name)
        raise CertificateError(Text("{name}: there is no certificate yet", name=name), hint=hint)

    def _choose(self, tls: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        tls.context = self._current


def _new_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def _load(context: ssl.SSLContext, bundle: CertificateBundle) -> None:
    """Load a certificate with its key, which OpenSSL takes from a file alone: from one without a
    name, in memory where the system has that.
    """
    pem = bundle.fullchain_pem + bundle.privkey_pem.reveal()
    if hasattr(os, "memfd_create"):
        with os.fdopen(os.memfd_create("certificate"), "w+") as file:
            file.write(pem)
            file.flush()
            context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
    else:
        with tempfile.NamedTemporaryFile("w") as named:
            named.write(pem)
            named.flush()
            context.load_cert_chain(named.name)


def _must_be_for(bundle: CertificateBundle, console: ConsoleSettings) -> None:
    host = urlsplit(console.url or "").hostname
    names = bundle.certificate.names
    if host is None or is_loopback(host) or _is_address(host) or covered_by(names, host):
        return
    problem = Text("the certificate of [console] is for {names}, and not for {host}, as `url` says")
    hint = Text("name another `certificate`, or correct `url`")
    raise ConfigError(problem.filled(names=list(names), host=host), hint=hint)


def _is_address(host: str) -> bool:
    with suppress(ValueError):
        return bool(ipaddress.ip_address(host))
    return False
