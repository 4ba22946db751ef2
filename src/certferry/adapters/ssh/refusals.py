"""Errors for the words of `ssh`, of `sudo`, and of the script on the server."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from types import MappingProxyType

from certferry.core.redaction import quoted
from certferry.errors import (
    DeployError,
    HostKeyChanged,
    HostKeyUnknown,
    Retry,
    TargetAccessDenied,
    TargetBusy,
    TargetRejected,
    TargetUnavailable,
)
from certferry.text import Text, verbatim

_Refusal = tuple[re.Pattern[str], type[DeployError], Text, Text]


UNKNOWN_KEY = re.compile(
    r"No \S+ host key is known for|Host key verification failed", re.IGNORECASE
)
CHANGED_KEY = re.compile(
    r"REMOTE HOST IDENTIFICATION HAS CHANGED|Host key for \S+ has changed", re.IGNORECASE
)
REVOKED_KEY = re.compile(r"REVOKED HOST KEY|host key .* (?:is )?revoked", re.IGNORECASE)

_WITHOUT_A_PASSWORD = Text("allow the command without a password in /etc/sudoers.d there: {rule}")

WORDS: tuple[_Refusal, ...] = (
    (
        re.compile(r"^sudo: .*password is required|^sudo: no tty present", re.MULTILINE),
        TargetAccessDenied,
        Text("{host}: `sudo` asks for a password"),
        _WITHOUT_A_PASSWORD,
    ),
    (
        re.compile(
            r"sudo: (?:command )?not found|command not found: sudo|Unknown command:? sudo",
            re.IGNORECASE,
        ),
        TargetRejected,
        Text("{host}: the program `sudo` is missing there"),
        Text(
            "install sudo there, or log in as a user who may write to the directory, without `sudo`"
        ),
    ),
    (
        re.compile(
            r"not in the sudoers|not allowed to (?:execute|run)|may not run sudo|^sudo: ",
            re.MULTILINE | re.IGNORECASE,
        ),
        TargetAccessDenied,
        Text("{host}: `sudo` refuses the user: {words}"),
        _WITHOUT_A_PASSWORD,
    ),
    (
        re.compile(
            r"Load key .*: (?:invalid format|error in libcrypto|unsupported)", re.IGNORECASE
        ),
        TargetAccessDenied,
        Text("{host}: `ssh` cannot read the private key"),
        Text("`key` must lead to a whole private key, such as a file made by ssh-keygen"),
    ),
    (
        re.compile(r"Permission denied \(|Too many authentication failures", re.IGNORECASE),
        TargetAccessDenied,
        Text("{host}: the server refused the key of this user"),
        Text(
            "add the public key to ~/.ssh/authorized_keys of the user there, or correct `user` and"
            " `key`; to try: {command}"
        ),
    ),
    (
        re.compile(r"Could not resolve hostname|Name or service not known", re.IGNORECASE),
        TargetUnavailable,
        Text("{host} has no address"),
        Text("correct `host`, or check the DNS of this machine"),
    ),
    (
        re.compile(r"Connection refused", re.IGNORECASE),
        TargetUnavailable,
        Text("{host} refuses connections by SSH"),
        Text("start sshd there, or correct `host` and `port`; the next run tries again"),
    ),
    (
        re.compile(
            r"timed out|No route to host|Network is unreachable|Connection reset"
            r"|Connection (?:to \S+ )?closed"
            r"|Broken pipe|kex_exchange_identification|banner exchange|lost connection"
            r"|not responding",
            re.IGNORECASE,
        ),
        TargetUnavailable,
        Text("{host} cannot be reached by SSH: {words}"),
        Text(
            "check that the host runs and that no firewall is in between; the next run tries again"
        ),
    ),
    (
        re.compile(
            r"Bad configuration option|terminating, \d+ bad configuration|Bad owner or perm",
            re.IGNORECASE,
        ),
        TargetRejected,
        Text("`ssh` refuses its configuration: {words}"),
        Text("correct ~/.ssh/config or /etc/ssh/ssh_config of this machine"),
    ),
    (
        re.compile(r"This account is (?:currently )?not available|nologin", re.IGNORECASE),
        TargetAccessDenied,
        Text("{host}: the user has no shell there"),
        Text("give the user a shell there: the delivery runs `sh`"),
    ),
)
"""Pattern of `ssh` or of the remote shell in the C locale, with error, sentence and hint. The first
match counts.
"""


class Server:
    """The words for a server in errors."""

    def __init__(self, host: str, user: str | None, port: int | None) -> None:
        #: The host, as the operator wrote the host.
        self.host = host
        self._user, self._port = user, port

    @property
    def command(self) -> str:
        """The command with which an operator tries the connection."""
        port = [] if self._port is None else ["-p", str(self._port)]
        user = [] if self._user is None else ["-l", self._user]
        return shlex.join(["ssh", *port, *user, self.host])

    @property
    def known_as(self) -> str:
        """The host in a line of `known_hosts`."""
        return self.host if self._port in {None, 22} else f"[{self.host}]:{self._port}"

    def refused(self, words: str, *, after: Text | None = None) -> DeployError:
        """Return the error for the words on standard error. `after` is the sentence for a
        connection that broke during the work.
        """
        shown = quoted(_last_line(words))
        facts = {
            "host": self.host,
            "words": shown,
            "command": self.command,
            "rule": f"{self._user or 'USER'} ALL=(root) NOPASSWD: /bin/sh",
        }
        for pattern, kind, problem, hint in WORDS:
            if pattern.search(words):
                message = problem.filled(**facts)
                if after is not None and kind is TargetUnavailable:
                    message = after
                return kind(message, hint=hint.filled(**facts), retry=kind.default_retry)
        if after is not None:
            return TargetUnavailable(after, hint=_LATER)
        message = Text("{host}: `ssh` failed: {words}", host=self.host, words=shown)
        if not shown:
            message = Text("{host}: the shell there gave no answer", host=self.host)
        hint = Text("try by hand, as certferry's user: {command}", command=self.command)
        return DeployError(message, hint=hint, retry=Retry.LATER)

    def unknown_key(self, offered: tuple[str, str] | None) -> HostKeyUnknown:
        """Return the error for a server whose key is unknown, with the line to paste."""
        message = Text("{host}: the host key is unknown", host=self.host)
        hint = Text(
            "compare the key with the server's (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub"
            " there), then write the key as `host_key`, or into known_hosts: {command}"
        )
        if offered is None:
            return HostKeyUnknown(message, hint=hint.filled(command=self._scan))
        hint = Text(
            "compare the key with the server's (ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub there),"
            " then write {line}",
            line=_line_of(offered),
        )
        return HostKeyUnknown(message, hint=hint)

    def changed_key(self, offered: tuple[str, str] | None) -> HostKeyChanged:
        """Return the error for a server with another key than before."""
        message = Text(
            "{host} has another host key than the known key: the server was installed anew, or"
            " another machine answers in its place",
            host=self.host,
        )
        hint = Text("nothing was sent; if the server is right, replace the known key")
        if offered is not None:
            hint = Text(
                "nothing was sent; if the server is right (ssh-keygen -lf"
                " /etc/ssh/ssh_host_*_key.pub there), write {line}",
                line=_line_of(offered),
            )
        return HostKeyChanged(message, hint=hint)

    @property
    def _scan(self) -> str:
        port = [] if self._port is None else ["-p", str(self._port)]
        return shlex.join(["ssh-keyscan", *port, self.host])

    def timed_out(self) -> DeployError:
        """Return the error for a connection without an answer in time."""
        message = Text("{host}: no answer by SSH in time", host=self.host)
        return TargetUnavailable(message, hint=_LATER)

    def failed(self, words: str, directory: str) -> DeployError:
        """Return the error for an `error` of the script, in the words of the answer."""
        kind, _, rest = words.partition(" ")
        make = _KINDS.get(kind, _other)
        return make(self.host, directory, rest)


_LATER = Text("the next run looks at every file again, and continues from there")
_UNTOUCHED = Text("the earlier files are unchanged; make room there, and the next run tries again")


def _line_of(offered: tuple[str, str]) -> Text:
    """Return the setting with an offered key: the type and the public key."""
    kind, key = offered
    return verbatim(f'host_key = "{kind} {key}"')


def _last_line(words: str) -> str:
    lines = [line for line in words.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _rejected(
    message: Text, advice: Text, kind: type[DeployError] = TargetRejected
) -> Callable[[str, str, str], DeployError]:
    def make(host: str, directory: str, rest: str) -> DeployError:
        facts = {"host": host, "directory": directory, "what": _place(rest, directory)}
        return kind(message.filled(**facts), hint=advice.filled(**facts), retry=kind.default_retry)

    return make


def _place(words: str, directory: str) -> str:
    """Return the words of the script for a sentence. The operator wrote `directory`, so neither the
    directory nor a directory above is a secret.
    """
    is_above = words == directory or directory.startswith(f"{words.rstrip('/')}/")
    return words if is_above else quoted(words)


def _stranger(host: str, directory: str, rest: str) -> DeployError:
    owner, _, path = rest.partition(" ")
    message = Text("{host}: {path} belongs to {owner}, who could change the files")
    hint = Text(
        'if the files should belong to {owner}, write owner = "{owner}" beside `directory`;'
        " otherwise choose a directory of the user or of root"
    )
    facts = {"host": host, "owner": quoted(owner), "path": _place(path, directory)}
    return TargetRejected(message.filled(**facts), hint=hint.filled(**facts))


def _owner(host: str, directory: str, rest: str) -> DeployError:
    name, _, words = rest.partition(" ")
    message = Text("{host}: cannot change the owner of {path}: {words}")
    hint = Text(
        "only root can give files away: write `sudo = true`, or remove `owner` and `group`; the"
        " earlier files are unchanged"
    )
    message = message.filled(host=host, path=f"{directory}/{name}", words=quoted(words))
    return TargetRejected(message, hint=hint)


def _full(host: str, directory: str, _: str) -> DeployError:
    message = Text("{host}: {directory} cannot be written: the disk is full there")
    message = message.filled(host=host, directory=directory)
    return DeployError(message, hint=_UNTOUCHED, retry=Retry.LATER)


def _cut(host: str, _directory: str, _: str) -> DeployError:
    message = Text("{host}: the connection broke before the files were there", host=host)
    return TargetUnavailable(message, hint=Text("the earlier files are unchanged"))


def _other(host: str, directory: str, rest: str) -> DeployError:
    message = Text("{host}: {directory} cannot be read or written: {words}")
    message = message.filled(host=host, directory=directory, words=quoted(rest))
    return TargetRejected(message, hint=_LATER)


_KINDS: Mapping[str, Callable[[str, str, str], DeployError]] = MappingProxyType(
    {
        "link": _rejected(
            Text("{host}: {directory} is a symbolic link to {what}"),
            Text("write the directory to which the link leads as `directory`"),
        ),
        "missing": _rejected(
            Text("{host}: there is no directory {what}"),
            Text("create the directory, or correct `directory`"),
        ),
        "no-directory": _rejected(
            Text("{host}: {directory} is not a directory"),
            Text("correct `directory`, or move the file away"),
        ),
        "rights": _rejected(
            Text("{host}: the user may not read and write in {what}"),
            Text("give the user the right there, or write `sudo = true`"),
            TargetAccessDenied,
        ),
        "read-only": _rejected(
            Text("{host}: {what} is on a read-only file system"),
            Text("mount the file system for writing, or correct `directory`"),
        ),
        "exposed": _rejected(
            Text("{host}: other users can write to {what}"), Text("run there: chmod go-w {what}")
        ),
        "stranger": _stranger,
        "owner": _owner,
        "full": _full,
        "cut": _cut,
        "file-link": _rejected(
            Text("{host}: {directory}/{what} is a symbolic link"),
            Text("certferry writes files of its own; choose another directory"),
        ),
        "file-directory": _rejected(
            Text("{host}: {directory}/{what} is a directory, not a file"),
            Text("move the directory away, or correct `directory`"),
        ),
        "program": _rejected(
            Text("{host}: the program {what} cannot be found or run there"),
            Text("write the program's full path: a session by SSH may search fewer directories"),
        ),
        "tool": _rejected(
            Text("{host}: the program {what} is missing there"),
            Text("install the program there: certferry compares the files by SHA-256"),
        ),
        "changed": _rejected(
            Text("{host}: {directory}/{what} is no longer as certferry wrote it a moment ago"),
            Text("another program writes to the same files; keep only one of the two"),
            DeployError,
        ),
        "busy": _rejected(
            Text("{host}: another delivery to {directory} is still going on"),
            Text("the next run tries again"),
            TargetBusy,
        ),
        "other": _other,
    }
)
