"""Servers and directories that cannot take a delivery: each a sentence, and nothing changes."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from certferry import errors
from certferry.adapters.ssh import session
from certferry.adapters.ssh.refusals import Server
from certferry.adapters.ssh.server import Settings, connect
from certferry.core.observed.observation import DomainState
from certferry.core.redaction import Secret, quoted
from certferry.errors import ConfigError, DeployError
from certferry.values import replace
from certferry_sandbox.testing.context import connected_with
from tests.adapters.receivers.bench import LINEAGE, holds, issue, program
from tests.adapters.ssh.bench import remote, settings, to
from tests.support.ports import free_port
from tests.support.programs import needs, program_path
from tests.support.sshd import Sshd, make_key

pytestmark = needs("sshd")


def refusal(sshd: Sshd, directory: Path | str, **others: Any) -> DeployError:
    """Return the problem of an observation."""
    observed = remote(sshd, to(directory), **others).observe(None)
    assert DomainState.UNAVAILABLE is observed.state
    assert isinstance(observed.problem, DeployError)
    return observed.problem


@pytest.fixture
def forced(tmp_path: Path) -> Iterator[Callable[[str], Sshd]]:
    """Start a server that runs a command in place of the user's command."""
    running: list[Sshd] = []

    def start(command: str) -> Sshd:
        server = Sshd(tmp_path / "forced", f"ForceCommand {command}")
        server.start()
        running.append(server)
        return server

    yield start
    for server in running:
        server.stop()


def test_unknown_host_key_is_a_line_to_paste(sshd: Sshd, ssl: Path) -> None:
    """A server that no known_hosts names is refused, with its key."""
    error = refusal(sshd, ssl, host_key=None)

    assert "host_key_unknown" == error.code
    assert "127.0.0.1: the host key is unknown" == str(error.message)
    assert f'host_key = "{sshd.host_key}"' in str(error.hint)


def test_changed_host_key(sshd: Sshd, ssl: Path, tmp_path: Path) -> None:
    """A server with another key gets nothing, and the error names the new key."""
    make_key(tmp_path / "other")
    other = " ".join((tmp_path / "other.pub").read_text().split()[:2])

    error = refusal(sshd, ssl, host_key=other)

    assert "host_key_changed" == error.code
    assert "another host key" in str(error.message)
    assert f'host_key = "{sshd.host_key}"' in str(error.hint)
    with pytest.raises(errors.HostKeyChanged):
        remote(sshd, to(ssl), host_key=other).deliver(LINEAGE, issue())
    assert not ssl.exists()


def test_key_that_the_server_does_not_know(sshd: Sshd, ssl: Path, tmp_path: Path) -> None:
    """The hint has the command to try."""
    make_key(tmp_path / "stranger")

    error = refusal(sshd, ssl, key=Secret((tmp_path / "stranger").read_text()))

    assert "target_access_denied" == error.code
    assert "127.0.0.1: the server refused the key of this user" == str(error.message)
    assert f"ssh -p {sshd.port} 127.0.0.1" in str(error.hint)


def test_key_with_a_passphrase(sshd: Sshd, ssl: Path, tmp_path: Path) -> None:
    """Such a key is found before a connection."""
    make_key(tmp_path / "locked", "secret words")

    with pytest.raises(ConfigError) as wrong:
        remote(sshd, to(ssl), key=Secret((tmp_path / "locked").read_text()))

    assert "passphrase" in str(wrong.value.message)


def test_host_that_is_away(sshd: Sshd, ssl: Path) -> None:
    """The host is asked once in a run: other directories there do not wait again."""
    error = refusal(sshd, ssl, port=free_port())

    assert "target_unavailable" == error.code
    assert "127.0.0.1 refuses connections by SSH" == str(error.message)
    assert error.retry is not errors.Retry.NEVER


def test_host_without_an_answer(sshd: Sshd, ssl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that accepts connections and says nothing fails after the time limit."""
    options = ["ConnectTimeout=1", *session.OPTIONS]  # the first value counts
    monkeypatch.setattr(session, "OPTIONS", options)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        error = refusal(sshd, ssl, port=silent.getsockname()[1])

    assert "target_unavailable" == error.code
    assert "127.0.0.1 cannot be reached by SSH" in str(error.message)


def test_host_without_an_address(sshd: Sshd, ssl: Path) -> None:
    """The error says that DNS has no address."""
    error = refusal(sshd, ssl, host="no-such-host.invalid")

    assert "target_unavailable" == error.code
    assert "no-such-host.invalid has no address" == str(error.message)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"host": "https://web-1.example.com"}, "is no host"),
        ({"host": "deploy@web-1"}, "is no host"),
        ({"host": "web-1:22"}, "is no host"),
        ({"host": "-oProxyCommand=x"}, "is no host"),
        ({"host": "web 1"}, "is no host"),
        ({"port": 70000}, "from 1 to 65535"),
        ({"user": "-l root"}, "is no user"),
        ({"host_key": "AAAA"}, "is no public key"),
        ({"key": Secret("/etc/certferry/web.key")}, "does not lead to a private key"),
    ],
)
def test_settings_that_no_server_has(written: dict[str, Any], message: str) -> None:
    """Wrong settings are found before a connection."""
    with pytest.raises(ConfigError) as wrong:
        connect(Settings(**{"host": "web-1", **written}), connected_with())

    assert message in str(wrong.value.message)


def a_link(ssl: Path) -> None:
    (ssl.parent / "real").mkdir()
    ssl.symlink_to(ssl.parent / "real")


def a_file(ssl: Path) -> None:
    ssl.touch()


def a_file_that_is_a_link(ssl: Path) -> None:
    ssl.mkdir()
    (ssl / "privkey.pem").symlink_to("/etc/passwd")


def open_to_all(ssl: Path) -> None:
    ssl.mkdir()
    ssl.chmod(0o777)


@pytest.mark.parametrize(
    ("how", "message", "hint"),
    [
        (a_link, "{ssl} is a symbolic link to {real}", "write the directory to which"),
        (a_file, "{ssl} is not a directory", "correct `directory`"),
        (a_file_that_is_a_link, "{ssl}/privkey.pem is a symbolic link", "certferry writes files"),
        (open_to_all, "other users can write to {ssl}", "run there: chmod go-w {ssl}"),
    ],
    ids=["link", "file", "file link", "open"],
)
def test_directory_that_cannot_be_used(
    sshd: Sshd, ssl: Path, how: Callable[[Path], None], message: str, hint: str
) -> None:
    """Look and delivery give the same error, and change nothing."""
    how(ssl)
    before = sorted(ssl.parent.rglob("*"))

    error = refusal(sshd, ssl)

    facts = {"ssl": ssl, "real": quoted(str(ssl.parent / "real"))}
    assert f"127.0.0.1: {message.format(**facts)}" == str(error.message)
    assert str(error.hint).startswith(hint.format(**facts))
    with pytest.raises(DeployError) as refused:
        remote(sshd, to(ssl)).deliver(LINEAGE, issue())
    assert error == refused.value
    assert before == sorted(ssl.parent.rglob("*"))


def test_missing_parent_and_program(sshd: Sshd, ssl: Path) -> None:
    """Both are found by the look."""
    error = refusal(sshd, ssl / "below")
    assert f"127.0.0.1: there is no directory {ssl}" == str(error.message)

    reload = program(Path("/"), "/usr/bin/no-such-program")
    observed = remote(sshd, replace(to(ssl), reload=reload)).observe(None)

    message = "127.0.0.1: the program /usr/bin/no-such-program cannot be found or run there"
    assert message == str(observed.problem and observed.problem.message)
    assert not ssl.exists()


def test_user_without_rights(forced: Callable[[str], Sshd], ssl: Path) -> None:
    """Without root's rights there, the files stay, and the hint names `sudo`."""
    server = forced(_as_nobody())
    ssl.mkdir()
    _let_nobody_pass(ssl)

    error = refusal(server, ssl)

    assert "target_access_denied" == error.code
    assert f"127.0.0.1: the user may not read and write in {ssl}" == str(error.message)
    assert "sudo = true" in str(error.hint)


@needs("sudo")
def test_sudo_that_asks_for_a_password(forced: Callable[[str], Sshd], ssl: Path) -> None:
    """The hint has the line for sudoers."""
    program_path("sudo")
    error = refusal(forced(_as_nobody()), ssl, sudo=True)

    assert "target_access_denied" == error.code
    assert "127.0.0.1: `sudo`" in str(error.message)
    assert "NOPASSWD: /bin/sh" in str(error.hint)


def _as_nobody() -> str:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    become = "setpriv --reuid=65534 --regid=65534 --clear-groups"
    return f'cd / && {become} sh -c "$SSH_ORIGINAL_COMMAND"'


def _let_nobody_pass(folder: Path) -> None:
    for above in folder.parents:
        if above.owner() == "root" and above != Path("/"):
            above.chmod(above.stat().st_mode | 0o011)


def test_full_disk(sshd: Sshd, forced: Callable[[str], Sshd], ssl: Path) -> None:
    """The earlier files stay whole, and the new files are removed."""
    bundle = issue()
    remote(sshd, to(ssl)).deliver(LINEAGE, bundle)
    server = forced('ulimit -f 1; exec sh -c "$SSH_ORIGINAL_COMMAND"')

    with pytest.raises(DeployError) as refused:
        remote(server, to(ssl)).deliver(LINEAGE, issue())

    message = f"127.0.0.1: {ssl} cannot be written: the disk is full there"
    assert message == str(refused.value.message)
    assert "the earlier files are unchanged" in str(refused.value.hint)
    assert refused.value.retry is errors.Retry.LATER
    assert holds(ssl, bundle)


def test_shell_with_a_banner(forced: Callable[[str], Sshd], ssl: Path) -> None:
    """What a shell prints first, on both streams, is no answer."""
    server = forced('echo WELCOME; echo hello >&2; sh -c "$SSH_ORIGINAL_COMMAND"; echo BYE')
    bundle = issue()

    remote(server, to(ssl)).deliver(LINEAGE, bundle)

    assert holds(ssl, bundle)
    assert remote(server, to(ssl)).observe(None).drift is None


def test_user_without_a_shell(forced: Callable[[str], Sshd], ssl: Path) -> None:
    """The words of nologin on the output lead to a sentence as well."""
    server = forced('echo "This account is currently not available."; exit 1')

    error = refusal(server, ssl)

    assert "127.0.0.1" in str(error.message)
    assert error.hint


def test_owner_that_does_not_exist(sshd: Sshd, ssl: Path) -> None:
    """The error names the file; nothing is written."""
    with pytest.raises(DeployError) as refused:
        remote(sshd, replace(to(ssl), owner="no-such-user")).deliver(LINEAGE, issue())

    assert f"127.0.0.1: cannot change the owner of {ssl}/chain.pem" in str(refused.value.message)
    assert [] == list(ssl.iterdir())


def test_missing_client(
    sshd: Sshd, ssl: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without the program `ssh` here, the hint names the package."""
    monkeypatch.setenv("PATH", str(tmp_path))

    error = refusal(sshd, ssl)

    assert "the program ssh cannot be found or run" == str(error.message)
    assert "openssh-client" in str(error.hint)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("sudo: a password is required", "target_access_denied"),
        ("sh: 1: exec: sudo: not found", "target_rejected"),
        ("deploy is not in the sudoers file.", "target_access_denied"),
        ("ssh: connect to host w port 22: No route to host", "target_unavailable"),
        ("ssh: connect to host w port 22: Connection timed out", "target_unavailable"),
        ("Connection closed by UNKNOWN port 65535", "target_unavailable"),
        ("/etc/ssh/ssh_config: line 3: Bad configuration option: hots", "target_rejected"),
        ("", "deploy"),
        ("words that no table has", "deploy"),
    ],
)
def test_words_of_ssh(words: str, code: str) -> None:
    """Each of the words has an error with a hint."""
    error = Server("w", "deploy", None).refused(words)

    assert code == error.code
    assert error.hint


def test_settings_hide_the_key(sshd: Sshd) -> None:
    """Settings print without the key."""
    assert shutil.which("ssh")
    assert "PRIVATE KEY" not in repr(settings(sshd))
    assert shlex.split(Server("w", None, 2222).command) == ["ssh", "-p", "2222", "w"]
