"""A run of the program `ssh`: the arguments, the private key, and the exchange of bytes."""

from __future__ import annotations

import contextlib
import os
import selectors
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from certferry.adapters.programs import run as programs
from certferry.core.redaction import Secret
from certferry.errors import TargetRejected, system_words
from certferry.ports.progress import Pause
from certferry.ports.state import must_still_hold
from certferry.text import Text

CONNECT_WITHIN = 20
"""Seconds for a connection, up to the end of the key exchange (ssh_config(5), ConnectTimeout)."""

OPTIONS = (
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    "UpdateHostKeys=no",
    f"ConnectTimeout={CONNECT_WITHIN}",
    "ServerAliveInterval=15",
    "ServerAliveCountMax=3",
    # A connection that another `ssh` shares was checked by other rules.
    "ControlMaster=no",
    "ControlPath=none",
    "ClearAllForwardings=yes",
    "ForwardAgent=no",
    "ForwardX11=no",
    "PermitLocalCommand=no",
    "RemoteCommand=none",
    "RequestTTY=no",
    "LogLevel=ERROR",
)
"""Options that win over `~/.ssh/config` (ssh_config(5): the first value counts)."""

_TICK = 0.05  # seconds between two checks whether the run was stopped
_CHUNK = 1 << 16
_MOST = 4 << 20  # bytes of output; a look at the files needs a few thousand
_MOST_WORDS = 1 << 14  # bytes of standard error
_GRACE = 3.0  # seconds for `ssh` to end after the last answer


@dataclass(frozen=True, slots=True)
class Login:
    """The server, the user and the keys of an account."""

    #: The host: a name, an address, or a `Host` of `~/.ssh/config`.
    host: str
    #: The port; `None`: as in `~/.ssh/config`.
    port: int | None = None
    #: The user; `None`: as in `~/.ssh/config`.
    user: str | None = None
    #: The private key; `None`: the keys that `ssh` finds.
    key: Secret | None = field(default=None, repr=False)
    #: A line of `known_hosts` for any host; `None`: the user's files.
    known_host: str | None = None


@dataclass(frozen=True, slots=True)
class Spoken:
    """The end of a run of `ssh`."""

    #: The exit code: of the remote command, or 255 after an error of `ssh`.
    code: int
    #: The standard output.
    out: bytes
    #: The end of the standard error.
    err: str
    #: Whether the run was ended because of the time limit.
    timed_out: bool = False


def exchange(
    login: Login,
    command: str,
    given: Sequence[bytes],
    pause: Pause,
    *,
    within: float,
    is_over: Callable[[bytes], bool],
    withheld: Collection[str] = (),
    options: Sequence[str] = (),
) -> Spoken:
    """Run a command on the server, with `given` as standard input, and return the output.

    `is_over` says whether the output is complete; `ssh` is then ended, even if a program in the
    background keeps the connection open. `options` come before the usual options. Raises
    `TargetRejected` if `ssh` cannot be started, `Interrupted` by `pause`, and `LeaseLost`.
    """
    with contextlib.ExitStack() as held:
        arguments = [_program(), "-T", *_pairs(options)]
        arguments += held.enter_context(_identity(login.key))
        arguments += held.enter_context(_known_hosts(login.known_host))
        arguments += _pairs(OPTIONS)
        if login.port is not None:
            arguments += ["-p", str(login.port)]
        if login.user is not None:
            arguments += ["-l", login.user]
        process = _started([*arguments, "--", login.host, command], withheld)
        with process:
            return _Exchange(process, pause, is_over).run(b"".join(given), within)


def _program() -> str:
    program = shutil.which("ssh")
    if program is None:
        message = Text("the program {program} cannot be found or run", program="ssh")
        hint = Text("install OpenSSH's client: on Debian and Ubuntu, `apt install openssh-client`")
        raise TargetRejected(message, hint=hint)
    return program


def _pairs(options: Sequence[str]) -> list[str]:
    return [word for option in options for word in ("-o", option)]


def _started(arguments: Sequence[str], withheld: Collection[str]) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if name not in withheld}
    # The words of `ssh` are read by a table, and no window may ask for a password.
    environment |= {"LC_ALL": "C", "SSH_ASKPASS_REQUIRE": "never"}
    must_still_hold()
    try:
        return subprocess.Popen(
            arguments,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # A separate process group, so that jump hosts are ended as well; and no terminal.
            start_new_session=True,
        )
    except OSError as exc:
        message = Text("the program {program} cannot be run: {problem}")
        message = message.filled(program=arguments[0], problem=system_words(exc))
        raise TargetRejected(message, hint=Text("run the command by hand")) from exc


class _Exchange:
    """Writes to and reads from a running `ssh` until the end."""

    def __init__(
        self, process: subprocess.Popen[bytes], pause: Pause, is_over: Callable[[bytes], bool]
    ) -> None:
        self._process, self._pause, self._is_over = process, pause, is_over
        self._selector = selectors.DefaultSelector()
        self._out, self._err = bytearray(), bytearray()
        self._left = memoryview(b"")

    def run(self, given: bytes, within: float) -> Spoken:
        process, self._left = self._process, memoryview(given)
        deadline, ended = time.monotonic() + within, False
        try:
            for pipe, events, handle in (
                (process.stdin, selectors.EVENT_WRITE, self._write),
                (process.stdout, selectors.EVENT_READ, self._read),
                (process.stderr, selectors.EVENT_READ, self._read_words),
            ):
                assert pipe is not None  # noqa: S101 - started with PIPE
                os.set_blocking(pipe.fileno(), False)
                self._selector.register(pipe, events, handle)
            while not ended and time.monotonic() < deadline:
                if programs.has_ended(process):
                    ended = True
                elif self._is_over(bytes(self._out)):
                    # A server's background program may hold the connection open.
                    deadline = min(deadline, time.monotonic() + _GRACE)
                self._step(0 if ended else _TICK)
                self._pause(0)
            return self._result(ended=ended)
        finally:
            self._end()

    def _step(self, seconds: float) -> None:
        if not self._selector.get_map():
            time.sleep(seconds)
            return
        for key, _ in self._selector.select(seconds):
            key.data(key.fileobj)

    def _result(self, *, ended: bool) -> Spoken:
        while ended and any(key.data != self._write for key in self._selector.get_map().values()):
            before = len(self._out), len(self._err)
            self._step(0)
            if before == (len(self._out), len(self._err)):
                break
        is_over = self._is_over(bytes(self._out))
        code = 0
        if ended:
            code = os.waitstatus_to_exitcode(_status_of(self._process))
        words = bytes(self._err[-_MOST_WORDS:]).decode(errors="replace")
        return Spoken(code, bytes(self._out), words, timed_out=not (ended or is_over))

    def _write(self, pipe: IO[bytes]) -> None:
        try:
            count = os.write(pipe.fileno(), self._left[:_CHUNK])
        except BlockingIOError:
            return
        except BrokenPipeError:
            count = len(self._left)  # the server needs no more
        self._left = self._left[count:]
        if not self._left:
            self._close(pipe)

    def _read(self, pipe: IO[bytes]) -> None:
        self._take(pipe, self._out, _MOST)

    def _read_words(self, pipe: IO[bytes]) -> None:
        self._take(pipe, self._err, _MOST)

    def _take(self, pipe: IO[bytes], into: bytearray, most: int) -> None:
        try:
            chunk = os.read(pipe.fileno(), _CHUNK)
        except BlockingIOError:
            return
        into += chunk[: max(most - len(into), 0)]
        if not chunk:
            self._close(pipe)

    def _close(self, pipe: IO[bytes]) -> None:
        self._selector.unregister(pipe)
        with contextlib.suppress(OSError):
            pipe.close()

    def _end(self) -> None:
        self._selector.close()
        programs.end_group(self._process)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def _status_of(process: subprocess.Popen[bytes]) -> int:
    """Return the wait status of an ended process, which stays unreaped."""
    ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if ended is None:
        return 0
    return ended.si_status << 8 if ended.si_code == os.CLD_EXITED else ended.si_status


@contextlib.contextmanager
def _identity(key: Secret | None) -> Iterator[list[str]]:
    """Yield the arguments with which `ssh` reads a private key from this process's memory.

    The key is in an anonymous file without a name (memfd_create(2)), which ends with this process.
    `ssh` closes inherited descriptors, and so opens the file through this process's entry in /proc,
    which only the same user and root can open. Raises `TargetRejected` on systems without
    anonymous files, such as macOS.
    """
    if key is None:
        yield []
        return
    content = key.reveal().replace("\r\n", "\n").rstrip("\n").encode() + b"\n"
    with contextlib.ExitStack() as held:
        place = _in_memory(content, held)
        yield ["-i", place, "-o", "IdentitiesOnly=yes"]


def _in_memory(content: bytes, held: contextlib.ExitStack) -> str:
    if not hasattr(os, "memfd_create") or not Path("/proc/self/fd").is_dir():
        message = Text("this system cannot hand a key to `ssh` without writing the key to a file")
        hint = Text("remove `key`, and load the key into an agent, or name it in ~/.ssh/config")
        raise TargetRejected(message, hint=hint)
    descriptor = os.memfd_create("key", os.MFD_CLOEXEC)
    held.callback(os.close, descriptor)
    os.fchmod(descriptor, 0o600)  # `ssh` refuses a key that others can read
    os.write(descriptor, content)
    return f"/proc/{os.getpid()}/fd/{descriptor}"


@contextlib.contextmanager
def _known_hosts(line: str | None) -> Iterator[list[str]]:
    """Yield the arguments with which `ssh` accepts only the host key of a line."""
    if line is None:
        yield []
        return
    with tempfile.NamedTemporaryFile("w", prefix="certferry-", encoding="ascii") as file:
        file.write(f"{line}\n")
        file.flush()
        # `ssh` splits the option at spaces, unless quoted (ssh_config(5)).
        yield _pairs(
            [
                f'UserKnownHostsFile="{file.name}"',
                "GlobalKnownHostsFile=none",
                "KnownHostsCommand=none",
            ]
        )


def offered_key(
    login: Login, pause: Pause, withheld: Collection[str] = ()
) -> tuple[str, str] | None:
    """Return the type and the public key that the server offers; `None` if unknown.

    `ssh` hands the offered key to a command that knows no key, so `ssh` refuses the server.
    Needs OpenSSH 8.5; an older `ssh` refuses the option.
    """
    word = "certferry-offered"
    shell = f"/bin/sh -c {shlex.quote(f'echo {word} $0 $1 >&2')} %t %K"
    with tempfile.NamedTemporaryFile("w", prefix="certferry-") as empty:
        options = [
            f"KnownHostsCommand={shell}",
            f'UserKnownHostsFile="{empty.name}"',
            "GlobalKnownHostsFile=none",
            "PreferredAuthentications=none",
        ]
        unknown = Login(login.host, login.port, login.user)
        spoken = exchange(
            unknown,
            "exit",
            (),
            pause,
            within=CONNECT_WITHIN,
            is_over=lambda _: False,
            withheld=withheld,
            options=options,
        )
    for line in spoken.err.splitlines():
        words = line.split()
        if words[:1] == [word] and words[2:] and words[2] != "NONE":
            return words[1], words[2]
    return None
