"""Open the sockets at which the console listens: a port, a unix socket, or sockets passed by
systemd. Also serve the console's certificate there, and replace the certificate without a restart.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import ssl
import stat
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from certferry.config.console import wrong_listening
from certferry.config.model import UNIX, ConsoleSettings
from certferry.core.certificates.certificate import CertificateBundle, covered_by
from certferry.core.desired.certificate import PemFiles
from certferry.errors import CertferryError, ConfigError, system_words
from certferry.text import Text
from certferry.values import replace
from certferry.wiring.machine import PemFileSource
from certferry.wiring.workspace import Workspace

_FIRST = 3
"""The first descriptor passed by systemd (sd_listen_fds(3))."""

_MODE = 0o660
"""The mode of the unix socket: only the owner and the group can connect. A program at the socket
can act as any user, because the proxy there names the user.
"""

_BACKLOG = 128

_IS_NO_NAME = re.compile(r"localhost|[0-9.]+|.*:.*")
"""Matches hosts that no certificate of certferry covers: addresses and localhost."""


@contextmanager
def listening(
    console: ConsoleSettings, environ: MutableMapping[str, str]
) -> Iterator[tuple[socket.socket, ...]]:
    """Listen within a `with` block, at the sockets passed by systemd, or else at the address in the
    settings. At the end, close the sockets, and remove a unix socket made here. Raises
    `ConfigError` if the console cannot listen there.
    """
    sockets, path = _handed_over(console, environ), None
    if not sockets:
        path = console.socket
        sockets = (_at_port(console) if path is None else _at_path(path),)
    try:
        yield sockets
    finally:
        for listener in sockets:
            listener.close()
        if path is not None:
            with suppress(OSError):
                path.unlink()


def _handed_over(
    console: ConsoleSettings, environ: MutableMapping[str, str]
) -> tuple[socket.socket, ...]:
    """Return the sockets passed by systemd; `()` if there are none. Programs that certferry starts
    inherit neither these sockets nor systemd's variables. Raises `ConfigError` if a setting of the
    console does not fit the address of a socket.
    """
    asked, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
    if asked != str(os.getpid()) or not count.isdigit():
        return ()
    sockets = tuple(socket.socket(fileno=_FIRST + number) for number in range(int(count)))
    for listener in sockets:
        listener.set_inheritable(False)
        actual = replace(console, listen=name_of(listener))
        for _, problem in wrong_listening(actual, has_certificate=console.has_certificate):
            message = Text("socket {socket} from systemd: {problem}", socket=name_of(listener))
            raise ConfigError(message.filled(problem=problem))
    return sockets


def _at_port(console: ConsoleSettings) -> socket.socket:
    host, port = console.address or ("", 0)
    host = "127.0.0.1" if host == "localhost" else host
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Without the protocol's number, asyncio leaves Nagle's algorithm on, and on a kept connection
    # each answer is 40 ms late (`asyncio.base_events._set_nodelay`).
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as exc:
        listener.close()
        raise _cannot_listen(console.listen, exc) from exc
    return listener


def _cannot_listen(where: str, exc: OSError) -> ConfigError:
    problem = Text("{where}: {problem}", where=where, problem=system_words(exc))
    if exc.errno == errno.EADDRINUSE:
        problem = Text("another program is already listening on {where}", where=where)
    return ConfigError(
        problem, hint=Text("choose another address: `listen` under [console], or --listen")
    )


def _at_path(path: Path) -> socket.socket:
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o777 & ~_MODE)  # set before binding, so the socket is never open to others
    try:
        listener.bind(str(path))
        listener.listen(_BACKLOG)
    except OSError as exc:
        listener.close()
        if exc.errno == errno.ENOENT:
            problem = Text("the directory {folder} does not exist", folder=path.parent)
            hint = Text(
                "create the directory; under systemd, RuntimeDirectory= creates it at every start"
            )
            raise ConfigError(problem, hint=hint) from exc
        raise _cannot_listen(str(path), exc) from exc
    finally:
        os.umask(before)
    return listener


def _remove_stale(path: Path) -> None:
    """Remove the unix socket that a killed process has left. Raises `ConfigError` if the path is
    another kind of file, or if a process listens at the socket.
    """
    try:
        is_socket = stat.S_ISSOCK(path.lstat().st_mode)
    except OSError:  # binding reports the problem
        return
    if not is_socket:
        problem = Text("{path} already exists and is not a socket", path=path)
        raise ConfigError(
            problem, hint=Text("move the file away, or choose another path for the socket")
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trying:
        trying.settimeout(1)
        try:
            trying.connect(str(path))
        except ConnectionRefusedError:
            with suppress(OSError):
                path.unlink()
        except OSError:  # binding reports the problem
            return
        else:
            raise _cannot_listen(str(path), OSError(errno.EADDRINUSE, ""))


def name_of(listener: socket.socket) -> str:
    """Return a socket's address in the form of the setting `listen`."""
    if listener.family == socket.AF_UNIX:
        return f"{UNIX}{listener.getsockname()}"
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if listener.family == socket.AF_INET6 else f"{host}:{port}"


class ServedCertificate:
    """The certificate that the console serves. The server uses `context` for its sockets; in each
    handshake, `context` presents the certificate loaded last.
    """

    def __init__(self) -> None:
        self._source = PemFileSource()
        self._served = ""
        self.context = _new_context()
        self._current = self.context
        self.context.sni_callback = self._choose

    def load(self, workspace: Workspace) -> bool:
        """Serve the certificate that the settings name, from now on: from files, or from the state
        the newest certificate that is not revoked. Return whether another certificate was served
        before. Raises `ConfigError` if the certificate is missing, cannot be read, or does not
        cover the host in `url`.
        """
        console = workspace.settings.console
        bundle = self._bundle(workspace)
        _must_be_for(bundle, console)
        if bundle.fullchain_digest == self._served:
            return False
        context = _new_context()
        _load(context, bundle)
        # The context is replaced as a whole, because another thread may be in a handshake.
        self._current, self._served = context, bundle.fullchain_digest
        return True

    def _bundle(self, workspace: Workspace) -> CertificateBundle:
        console, name = workspace.settings.console, workspace.settings.console.certificate or ""
        files = [
            desired.files for desired in workspace.settings.declared if desired.lineage == name
        ]
        if console.fullchain is not None:
            files = [PemFiles(console.fullchain, console.privkey or "")]
        try:
            if files[0] is not None:
                return self._source.read(files[0])
            for version in workspace.state.versions(name):
                if version.revocation is None:
                    return workspace.state.bundle(name, version.number)
        except CertferryError as error:
            raise ConfigError(error.message, hint=error.hint) from error
        hint = Text("run `certferry sync {name}`", name=name)
        raise ConfigError(Text("{name}: there is no certificate yet", name=name), hint=hint)

    def _choose(self, tls: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        tls.context = self._current


def _new_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def _load(context: ssl.SSLContext, bundle: CertificateBundle) -> None:
    """Load a certificate with its key. Python's `ssl` reads both only from a file, so write a file
    in memory (memfd_create(2)): the key must not get onto a disk.
    """
    with os.fdopen(os.memfd_create("certificate"), "w") as file:
        file.write(bundle.fullchain_pem + bundle.privkey_pem.reveal())
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")


def _must_be_for(bundle: CertificateBundle, console: ConsoleSettings) -> None:
    host, names = urlsplit(console.url or "").hostname, bundle.certificate.names
    if host is None or _IS_NO_NAME.fullmatch(host) or covered_by(names, host):
        return
    problem = Text(
        "the certificate under [console] covers {names}, but the host name in `url` is {host}"
    )
    hint = Text("choose another `certificate`, or correct `url`")
    raise ConfigError(problem.filled(names=list(names), host=host), hint=hint)
