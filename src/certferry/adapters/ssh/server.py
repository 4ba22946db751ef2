"""An account of type `ssh`: a server of the operator's own."""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Annotated

from certferry.adapters.ssh import remote, session
from certferry.adapters.ssh.receiver import RemoteDirectory
from certferry.adapters.ssh.refusals import CHANGED_KEY, UNKNOWN_KEY, Server
from certferry.core.desired.certificate import FileDelivery
from certferry.core.redaction import Secret
from certferry.errors import ConfigError, DeployError, TargetUnavailable
from certferry.ports.adapter import Context, PrivateKey, Variable
from certferry.ports.receiver import Receiver
from certferry.text import Text

SERVICE = "SSH"
CALLED = Text("a server by SSH")
ENVIRONMENT: tuple[Variable, ...] = ()
COMMAND_WORDS: tuple[str, ...] = ()

_HOST = re.compile(
    r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?\.?|[0-9A-Fa-f:]*:[0-9A-Fa-f:.%\w]*"
)
_USER = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.@$+\\-]*")
_KNOWN = re.compile(
    r"(?:(?P<marker>@cert-authority)\s+)?(?:(?P<hosts>\S+)\s+)??"
    r"(?P<type>(?:ssh|ecdsa|sk)-[\w@.-]+)\s+(?P<key>AAAA[A-Za-z0-9+/]+={0,3})(?:\s.*)?"
)
_LARGEST_PORT = 65535
_FAILED = 255  # the exit code of `ssh` after an error of its own (ssh(1))


@dataclass(frozen=True, slots=True)
class Settings:
    """A server reached by SSH."""

    host: Annotated[str, Text("the server: a name, an address, or a `Host` of ~/.ssh/config")]
    port: Annotated[int | None, Text("the port of sshd; by default as in ~/.ssh/config")] = None
    user: Annotated[str | None, Text("the user there; by default as in ~/.ssh/config")] = None
    key: Annotated[
        PrivateKey | None, Text("the private key, a reference; by default the keys that ssh finds")
    ] = None
    host_key: Annotated[
        str | None,
        Text(
            "the server's public key, or a line of known_hosts; by default the user's known_hosts"
        ),
    ] = None
    sudo: Annotated[bool, Text("place the files and run the programs by `sudo -n`")] = False


def connect(settings: Settings, context: Context) -> Account:
    """See `ports.adapter.Adapter.connect`."""
    return Account(settings, _login(settings), context)


def _login(settings: Settings) -> session.Login:
    if not _HOST.fullmatch(settings.host):
        raise ConfigError(
            Text("`host`: {host} is no host", host=settings.host),
            hint=Text(
                "write a name, an address, or a `Host` of ~/.ssh/config; user and port have keys of"
                " their own, `user` and `port`"
            ),
        )
    if settings.port is not None and not 1 <= settings.port <= _LARGEST_PORT:
        raise ConfigError(Text("`port` must be a number from 1 to 65535"))
    if settings.user is not None and not _USER.fullmatch(settings.user):
        raise ConfigError(Text("`user`: {user} is no user", user=settings.user))
    key = settings.key
    if key is not None and "PRIVATE KEY-----" not in key.reveal():
        raise ConfigError(
            Text("`key` does not lead to a private key"),
            hint=Text('write the path as a reference: key = "file:/etc/certferry/web.key"'),
        )
    if key is not None and _has_passphrase(key.reveal()):
        raise ConfigError(
            Text("the private key of `key` needs a passphrase, which `ssh` cannot ask for"),
            hint=Text(
                "use a key without a passphrase, or load the key into an agent, and remove `key`"
            ),
        )
    host_key = None if settings.host_key is None else _known_host(settings.host_key)
    return session.Login(settings.host, settings.port, settings.user, key, host_key)


def _has_passphrase(pem: str) -> bool:
    """Return whether a private key is encrypted: by the header of PEM, or by the name of the cipher
    in OpenSSH's format (PROTOCOL.key of OpenSSH: a magic word, then the name).
    """
    if "ENCRYPTED" in pem:
        return True
    body = "".join(line for line in pem.splitlines() if "-----" not in line)
    try:
        data = base64.b64decode(body)
    except ValueError:
        return False
    return data.startswith(_MAGIC) and not data.startswith(_MAGIC + _NO_CIPHER)


_MAGIC, _NO_CIPHER = b"openssh-key-v1\0", b"\0\0\0\4none"


def _known_host(host_key: str) -> str:
    """Return a line of `known_hosts` that knows the key for any name of the host."""
    parts = _KNOWN.fullmatch(host_key.strip())
    if parts is None:
        raise ConfigError(
            Text("`host_key` is no public key"),
            hint=Text('write the type and the key: host_key = "ssh-ed25519 AAAA…"'),
        )
    marker = f"{parts['marker']} " if parts["marker"] else ""
    return f"{marker}* {parts['type']} {parts['key']}"


@dataclass(eq=False)
class Account:
    """A server, as a `ports.receiver.FileServer`."""

    #: The settings of the account.
    settings: Settings
    #: How to log in.
    login: session.Login
    #: The services of the run.
    context: Context
    #: Why the server could not be reached. A run asks such a server only once.
    _away: DeployError | None = field(default=None, init=False)
    _guard: threading.Lock = field(default_factory=threading.Lock, init=False)

    def receiver(
        self, delivery: FileDelivery, *, withheld: Collection[str], hidden: Collection[Secret]
    ) -> Receiver:
        """See `ports.receiver.FileServer`."""

        def ask(request: remote.Request, within: float, directory: str) -> remote.Answers:
            return self._ask(request, within, directory, withheld)

        return RemoteDirectory(delivery, ask=ask, hidden=hidden)

    def _ask(
        self, request: remote.Request, within: float, directory: str, withheld: Collection[str]
    ) -> remote.Answers:
        with self._guard:
            if self._away is not None:
                raise self._away
        command = remote.command_line(len(request.script), sudo=self.settings.sudo)
        spoken = session.exchange(
            self.login,
            command,
            (request.script, *request.contents),
            self.context.pause,
            within=within,
            is_over=lambda out: remote.is_complete(request.mark, out),
            withheld=withheld,
        )
        answers = remote.read_answers(request.mark, spoken.out)
        server = Server(self.login.host, self.login.user, self.login.port)
        if answers.last == "error":
            raise server.failed(answers.words, directory)
        if answers.last:
            return answers
        error = self._error(server, spoken, answers, withheld)
        if isinstance(error, TargetUnavailable) and not (answers.seen or _is_killed(spoken)):
            with self._guard:
                self._away = error
        raise error

    def _error(
        self,
        server: Server,
        spoken: session.Spoken,
        answers: remote.Answers,
        withheld: Collection[str],
    ) -> DeployError:
        if CHANGED_KEY.search(spoken.err):
            return server.changed_key(self._offered(withheld))
        if UNKNOWN_KEY.search(spoken.err):
            if self.login.known_host is not None:
                return server.changed_key(self._offered(withheld))
            return server.unknown_key(self._offered(withheld))
        if spoken.timed_out:
            return server.timed_out()
        after = None
        if answers.seen or _is_killed(spoken):
            after = Text(
                "{host}: the connection or the shell there ended too early", host=server.host
            )
        return server.refused(spoken.err, after=after)

    def _offered(self, withheld: Collection[str]) -> tuple[str, str] | None:
        return session.offered_key(self.login, self.context.pause, withheld)


def _is_killed(spoken: session.Spoken) -> bool:
    """Return whether a signal ended the remote command: `ssh` then fails without a word."""
    return spoken.code == _FAILED and not spoken.err.strip()
