"""Programs of the operator's: real processes that print, fail, hang, and have children."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from certferry.adapters.programs.run import MOST_OUTPUT, run
from certferry.core.certificates.pem import pkcs8_pem
from certferry.core.redaction import Secret
from certferry.errors import DeployError, Interrupted, TargetRejected
from certferry.text import Text
from certferry_sandbox.testing.certificates import make_key
from tests.adapters.receivers.bench import no_pause, program, python

DEADLINE = 10  # seconds until a condition must hold


@pytest.fixture
def log_lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.INFO)
    return lambda: [record.getMessage() for record in caplog.records]


def eventually(condition: Callable[[], bool]) -> bool:
    """Wait for a condition, and return whether the condition holds in the end."""
    deadline = time.monotonic() + DEADLINE
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def is_alive(pid_file: Path) -> bool:
    """Return whether the process exists and is no zombie."""
    stat = Path("/proc") / pid_file.read_text().strip() / "stat"
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_output_goes_to_the_log(tmp_path: Path, log_lines: Callable[[], list[str]]) -> None:
    """The log has a record for each line of both streams, without control characters."""
    script = "echo one; echo two >&2; printf 'th\\033[2Jree'"

    run(program(tmp_path, "/bin/sh", "-c", script), {}, no_pause, hidden=())

    assert ["/bin/sh: one", "/bin/sh: two", "/bin/sh: th [2Jree"] == log_lines()


def test_environment_and_directory(tmp_path: Path, log_lines: Callable[[], list[str]]) -> None:
    """The program gets certferry's environment, further variables, and an empty input."""
    script = 'echo "$HOME $TOLD $PWD"; cat'

    run(program(tmp_path, "/bin/sh", "-c", script), {"TOLD": "so"}, no_pause, hidden=())

    assert [f"/bin/sh: {os.environ['HOME']} so {tmp_path}"] == log_lines()


def test_passed_and_withheld_variables(
    tmp_path: Path, log_lines: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A given variable overrides an inherited variable. A withheld variable is absent, and a
    similar name stays.
    """
    for name in ("TOLD", "THEIR_TOKEN", "OUR_TOKEN"):
        monkeypatch.setenv(name, "inherited")
    script = 'echo "$TOLD $THEIR_TOKEN ${OUR_TOKEN-gone}"'
    command = program(tmp_path, "/bin/sh", "-c", script)

    run(command, {"TOLD": "so"}, no_pause, hidden=(), withheld={"OUR_TOKEN", "NOT_SET"})

    assert ["/bin/sh: so inherited gone"] == log_lines()


def test_arguments_are_passed_unchanged(tmp_path: Path, log_lines: Callable[[], list[str]]) -> None:
    """No shell interprets the arguments."""
    run(program(tmp_path, "echo", "$HOME; *", "a  b"), {}, no_pause, hidden=())

    assert ["echo: $HOME; *  a  b"] == [line.replace("* a", "*  a") for line in log_lines()]


def test_long_output_loses_its_beginning(
    tmp_path: Path, log_lines: Callable[[], list[str]]
) -> None:
    """The stored output is limited: the last line is present, and the first line gives the number
    of missing bytes.
    """
    source = "import sys\nfor n in range(200_000): print(n)"

    run(python(tmp_path, source), {}, no_pause, hidden=())

    first, *lines = log_lines()
    assert "bytes of its output are left out" in first
    assert lines[-1].endswith(": 199999")
    assert sum(map(len, lines)) < 20 * MOST_OUTPUT


@pytest.mark.parametrize("before", [0, 100_000])
def test_key_is_hidden_in_the_log(
    tmp_path: Path, log_lines: Callable[[], list[str]], before: int
) -> None:
    """The key is hidden at any place in the output."""
    key = make_key()
    (tmp_path / "privkey.pem").write_text(key.reveal())
    script = f"head -c {before} /dev/zero | tr '\\0' 'x'; cat privkey.pem privkey.pem; exit 1"

    with pytest.raises(DeployError) as failed:
        run(program(tmp_path, "/bin/sh", "-c", script), {}, no_pause, hidden=[key])

    reported = "\n".join([*log_lines(), str(failed.value)])
    assert "•••" in reported
    for line in key.reveal().splitlines()[1:-1]:
        assert line not in reported
        assert line[:20] not in reported


FORMS = {"PKCS#8": PrivateFormat.PKCS8, "traditional": PrivateFormat.TraditionalOpenSSL}
KINDS = ("EC", "RSA")


@cache
def key_of(kind: str) -> PrivateKeyTypes:
    if kind == "EC":
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(65537, 2048)


def pem_of(kind: str, form: PrivateFormat) -> str:
    return key_of(kind).private_bytes(Encoding.PEM, form, NoEncryption()).decode()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("is_hidden", [True, False], ids=["ours", "another"])
@pytest.mark.parametrize(
    "command",
    [
        "cat key",
        "echo $(cat key)",
        "sed 's/^/key: /' key",
        "head -n 3 key",
        "tail -n 2 key",
        "head -c 16100 /dev/zero | tr '\\0' 'x'; echo; cat key",
        "cat key; head -c 16100 /dev/zero | tr '\\0' 'x'; echo",
        "cat key; head -c 16500 /dev/zero | tr '\\0' 'x'; echo",
    ],
)
def test_key_with_pem_lines_is_hidden(
    tmp_path: Path,
    log_lines: Callable[[], list[str]],
    kind: str,
    form: PrivateFormat,
    command: str,
    *,
    is_hidden: bool,
) -> None:
    """A key of any kind is hidden in the log and in the error, even when the program or the limit
    on the output cuts off the PEM line at either end.
    """
    pem = pem_of(kind, form)
    (tmp_path / "key").write_text(pem)
    hidden = [pkcs8_pem(key_of(kind))] if is_hidden else []

    with pytest.raises(DeployError) as failed:
        run(program(tmp_path, "/bin/sh", "-c", f"{command}; exit 1"), {}, no_pause, hidden=hidden)

    assert [] == leaked_lines(pem, "\n".join([*log_lines(), str(failed.value)]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("command", ["grep -v -e ----- key", "grep -v -e ----- key | tr -d '\\n'"])
def test_known_key_without_pem_lines_is_hidden(
    tmp_path: Path, log_lines: Callable[[], list[str]], kind: str, command: str
) -> None:
    """The key is hidden in lines as given, and in a single line."""
    pem = pem_of(kind, PrivateFormat.PKCS8)
    (tmp_path / "key").write_text(pem)
    hidden = [pkcs8_pem(key_of(kind))]

    with pytest.raises(DeployError) as failed:
        run(program(tmp_path, "/bin/sh", "-c", f"{command}; exit 1"), {}, no_pause, hidden=hidden)

    reported = "\n".join([*log_lines(), str(failed.value)])
    assert "•••" in reported
    assert [] == leaked_lines(pem, reported)


def leaked_lines(pem: str, reported: str) -> list[str]:
    """Return the lines of a key's body that the report contains, with or without whitespace."""
    body = [line for line in pem.splitlines() if "-----" not in line]
    unwrapped = "".join(reported.split())
    return [
        line
        for line in body
        if line[:20] in reported or line[-20:] in reported or line in unwrapped
    ]


def test_output_around_a_key_is_reported(
    tmp_path: Path, log_lines: Callable[[], list[str]]
) -> None:
    """The operator needs the words around the key."""
    (tmp_path / "key").write_text(pem_of("EC", PrivateFormat.TraditionalOpenSSL))
    script = "echo with key:; cat key; echo 'nginx: bad key'; exit 1"

    with pytest.raises(DeployError) as failed:
        run(program(tmp_path, "/bin/sh", "-c", script), {}, no_pause, hidden=())

    assert ["/bin/sh: with key:", "/bin/sh: •••", "/bin/sh: nginx: bad key"] == log_lines()
    assert str(failed.value).endswith("exit code 1: with key: ••• nginx: bad key")


def test_authorization_header_is_hidden(tmp_path: Path, log_lines: Callable[[], list[str]]) -> None:
    """`curl -v` prints the header; its line is hidden to the end, before the lines are joined."""
    script = "echo '> Authorization: Bearer planted'; echo '< HTTP/1.1 403'; exit 1"

    with pytest.raises(DeployError) as failed:
        run(program(tmp_path, "/bin/sh", "-c", script), {}, no_pause, hidden=())

    assert ["/bin/sh: > Authorization: •••", "/bin/sh: < HTTP/1.1 403"] == log_lines()
    assert str(failed.value).endswith("exit code 1: > Authorization: ••• < HTTP/1.1 403")


def test_secrets_are_hidden_in_the_log(tmp_path: Path, log_lines: Callable[[], list[str]]) -> None:
    """A program that prints its environment prints keys; values without a secret stay."""
    secrets = {"DP_Key": "planted-0123456789", "DEPLOY_KEY": "planted-line-1+0/\nplanted-line-2+0/"}
    hidden = [Secret(value) for value in secrets.values()]
    script = "env; exit 1"

    with pytest.raises(DeployError) as failed:
        run(
            program(tmp_path, "/bin/sh", "-c", script),
            {**secrets, "LB": "1"},
            no_pause,
            hidden=hidden,
        )

    reported = "\n".join([*log_lines(), str(failed.value)])
    assert {
        "/bin/sh: DP_Key=•••",
        "/bin/sh: DEPLOY_KEY=•••",
        "/bin/sh: •••",
        "/bin/sh: LB=1",
    } <= set(log_lines())
    assert "planted" not in reported


@pytest.mark.parametrize("after", range(260, 320, 7))
def test_last_words_contain_no_part_of_a_secret(tmp_path: Path, after: int) -> None:
    """The last words may begin within a secret, and the stored error omits them."""
    secret = "planted-" + "planted-".join("0123456789")
    script = f"printf %s {secret}; head -c {after} /dev/zero | tr '\\0' 'x'; exit 1"

    with pytest.raises(DeployError) as failed:
        run(program(tmp_path, "/bin/sh", "-c", script), {}, no_pause, hidden=[Secret(secret)])

    assert "xxx" in str(failed.value.message)
    assert "planted" not in str(failed.value)
    assert "the program /bin/sh failed with exit code 1: …" == str(failed.value.lasting)


def test_program_ended_within_a_secret(tmp_path: Path, log_lines: Callable[[], list[str]]) -> None:
    """The printed beginning of a secret is hidden, although the program never printed the end."""
    script = "printf 'key=planted-0123'; sleep 60"
    command = program(tmp_path, "/bin/sh", "-c", script, timeout=0.5)

    with pytest.raises(DeployError, match="was still running"):
        run(command, {}, no_pause, hidden=[Secret("planted-0123456789")])

    assert ["/bin/sh: key=•••"] == log_lines()


def test_output_of_an_interrupted_program(
    tmp_path: Path, log_lines: Callable[[], list[str]]
) -> None:
    """The log shows why the program was still running when the operator stopped the run."""

    def stop(seconds: float) -> None:
        del seconds
        if (tmp_path / "said").exists():
            raise Interrupted(Text("stopped"))

    script = "echo waiting; sleep 0.2; touch said; sleep 60"
    with pytest.raises(Interrupted):
        run(program(tmp_path, "/bin/sh", "-c", script), {}, stop, hidden=())

    assert ["/bin/sh: waiting"] == log_lines()


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("exit 3", "the program /bin/sh failed with exit code 3"),
        ("echo why; exit 1", "the program /bin/sh failed with exit code 1: why"),
        ("kill -9 $$", "signal 9 ended the program /bin/sh"),
    ],
)
def test_program_that_fails(tmp_path: Path, script: str, words: str) -> None:
    """The error has the exit code and the last words, and allows another attempt."""
    with pytest.raises(DeployError) as failed:
        run(program(tmp_path, "/bin/sh", "-c", script), {}, no_pause, hidden=())

    assert words == str(failed.value.message)
    assert failed.value.hint is not None
    assert failed.value.retry.allowed


def test_missing_program(tmp_path: Path) -> None:
    """The hint lists the searched directories."""
    with pytest.raises(
        TargetRejected, match="the program no-such cannot be found or run"
    ) as missing:
        run(program(tmp_path, "no-such"), {}, no_pause, hidden=())

    assert os.environ["PATH"] in str(missing.value.hint)


def test_file_that_cannot_be_executed(tmp_path: Path) -> None:
    """The file lacks the executable bit, or has a format unknown to the system."""
    script = tmp_path / "script"
    script.write_bytes(b"\x00\x01")
    with pytest.raises(TargetRejected, match="cannot be found or run"):
        run(program(tmp_path, str(script)), {}, no_pause, hidden=())
    script.chmod(0o755)
    with pytest.raises(TargetRejected, match="cannot be run: Exec format error"):
        run(program(tmp_path, str(script)), {}, no_pause, hidden=())


def test_hanging_program_is_ended_with_its_children(
    tmp_path: Path, log_lines: Callable[[], list[str]]
) -> None:
    """The program ends within its timeout and the grace period, and its output is in the log."""
    script = "sleep 60 & echo $! > child; echo waiting; wait"

    started = time.monotonic()
    with pytest.raises(DeployError, match="was still running after 1 second") as late:
        run(program(tmp_path, "/bin/sh", "-c", script, timeout=1), {}, no_pause, hidden=())

    assert time.monotonic() - started < DEADLINE
    assert ["/bin/sh: waiting"] == log_lines()
    assert "timeout" in str(late.value.hint)
    assert eventually(lambda: not is_alive(tmp_path / "child"))


@pytest.mark.parametrize("prefix", ["exec", "exec env -i"])
def test_program_that_ignores_sigterm(tmp_path: Path, prefix: str) -> None:
    """After SIGTERM comes SIGKILL, which a program cannot ignore."""
    stubborn = 'trap "" TERM; echo $$ > child; while :; do sleep 1; done'
    script = f"{prefix} /bin/sh -c '{stubborn}'"

    with pytest.raises(DeployError, match="was still running"):
        run(program(tmp_path, "/bin/sh", "-c", script, timeout=0.5), {}, no_pause, hidden=())

    assert eventually(lambda: not is_alive(tmp_path / "child"))


def test_surviving_child_is_left_alone(tmp_path: Path, log_lines: Callable[[], list[str]]) -> None:
    """A program may start a server and end. certferry does not wait for the server, although the
    server may still hold the program's output.
    """
    server = "echo $$ > new; mv new child; while ! test -e go; do sleep 0.02; done; touch survived"
    script = f"sh -c '{server}' & while ! test -e child; do sleep 0.02; done; echo started"

    started = time.monotonic()
    run(program(tmp_path, "/bin/sh", "-c", script), {}, no_pause, hidden=())

    assert time.monotonic() - started < DEADLINE
    assert is_alive(tmp_path / "child")
    (tmp_path / "go").touch()
    assert eventually((tmp_path / "survived").exists)
    assert ["/bin/sh: started"] == log_lines()


def test_program_with_closed_output_is_awaited(tmp_path: Path) -> None:
    """A program that has closed its output may still be running."""
    script = "exec >&- 2>&-; sleep 0.3; touch done"

    run(program(tmp_path, "/bin/sh", "-c", script), {}, no_pause, hidden=())

    assert (tmp_path / "done").exists()


def stopped_when(path: Path) -> Callable[[float], None]:
    """Return a pause that stops the run as soon as a file exists."""

    def pause(seconds: float) -> None:
        if path.exists():
            raise Interrupted(Text("stopped"))

    return pause


def test_stopped_run_ends_the_program(tmp_path: Path) -> None:
    """The program's children end as well."""
    script = "sh -c 'echo $$ > new; mv new child; sleep 60'; true"
    command, pause = program(tmp_path, "/bin/sh", "-c", script), stopped_when(tmp_path / "child")

    with pytest.raises(Interrupted):
        run(command, {}, pause, hidden=())

    assert eventually(lambda: not is_alive(tmp_path / "child"))


def test_stopped_run_lets_the_program_clean_up(
    tmp_path: Path, log_lines: Callable[[], list[str]]
) -> None:
    """SIGTERM comes first, as after a timeout."""
    script = (
        "trap 'touch in-order; echo rolled back; exit' TERM;"
        "touch ready; while :; do sleep 0.02; done"
    )
    command, pause = program(tmp_path, "/bin/sh", "-c", script), stopped_when(tmp_path / "ready")

    with pytest.raises(Interrupted):
        run(command, {}, pause, hidden=())

    assert (tmp_path / "in-order").exists()
    assert "/bin/sh: rolled back" in log_lines()


def test_stopped_run_ends_a_program_that_ignores_sigterm(tmp_path: Path) -> None:
    """After SIGTERM comes SIGKILL, which a program cannot ignore."""
    script = "trap '' TERM; echo $$ > new; mv new child; while :; do sleep 1; done"
    command, pause = program(tmp_path, "/bin/sh", "-c", script), stopped_when(tmp_path / "child")

    with pytest.raises(Interrupted):
        run(command, {}, pause, hidden=())

    assert eventually(lambda: not is_alive(tmp_path / "child"))


# --- Shortened output: the end of a cut secret is hidden


SECRET = "0123456789-0123456789-0123456789-planted"

# A line of secrets longer than the limit, so that any cut is within a secret.
SOURCE = f"""
print("x" * {{before}} + "{SECRET}" * {4 * MOST_OUTPUT // len(SECRET)})
print("why")
raise SystemExit(1)
"""


@pytest.mark.parametrize("before", range(0, len(SECRET), 9))
def test_first_line_of_shortened_output(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, before: int
) -> None:
    """The end of the cut secret is neither logged nor quoted; later lines are logged."""
    caplog.set_level(logging.INFO)
    command = python(tmp_path, SOURCE.format(before=before))

    with pytest.raises(DeployError) as failed:
        run(command, {}, no_pause, hidden=[Secret(SECRET)])

    first, *_, last = (record.getMessage() for record in caplog.records)
    assert "bytes of its output are left out" in first
    assert last.endswith(": why")
    assert "planted" not in caplog.text + str(failed.value)
