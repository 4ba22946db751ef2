"""Programs of the operator's: real processes that talk, fail, hang, and have children."""

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

# --- Programs of the operator's: real processes that talk, fail, hang, and have children


DEADLINE = 10  # seconds for something to happen


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.INFO)
    return lambda: [record.getMessage() for record in caplog.records]


def eventually(condition: Callable[[], bool]) -> bool:
    """Wait until it is so."""
    deadline = time.monotonic() + DEADLINE
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def is_alive(pid_file: Path) -> bool:
    """Return whether the process is there, and no zombie."""
    stat = Path("/proc") / pid_file.read_text().strip() / "stat"
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_output_goes_to_the_log(tmp_path: Path, said: Callable[[], list[str]]) -> None:
    """A record for each line, of both streams, without what would move a cursor."""
    script = "echo one; echo two >&2; printf 'th\\033[2Jree'"

    run(program(tmp_path, "/bin/sh", "-c", script), {}, no_pause, hidden=())

    assert ["/bin/sh: one", "/bin/sh: two", "/bin/sh: th [2Jree"] == said()


def test_environment_and_directory(tmp_path: Path, said: Callable[[], list[str]]) -> None:
    """It has what certferry has, and what it is given; its input is empty."""
    script = 'echo "$HOME $TOLD $PWD"; cat'

    run(program(tmp_path, "/bin/sh", "-c", script), {"TOLD": "so"}, no_pause, hidden=())

    assert [f"/bin/sh: {os.environ['HOME']} so {tmp_path}"] == said()


def test_variables_that_are_passed_or_withheld(
    tmp_path: Path, said: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it is given counts, whatever certferry has under that name; what is withheld is not
    there, and what is called alike is.
    """
    for name in ("TOLD", "THEIR_TOKEN", "OUR_TOKEN"):
        monkeypatch.setenv(name, "inherited")
    script = 'echo "$TOLD $THEIR_TOKEN ${OUR_TOKEN-gone}"'
    does = program(tmp_path, "/bin/sh", "-c", script)

    run(does, {"TOLD": "so"}, no_pause, hidden=(), withheld={"OUR_TOKEN", "NOT_SET"})

    assert ["/bin/sh: so inherited gone"] == said()


def test_arguments_reach_it_as_they_are(tmp_path: Path, said: Callable[[], list[str]]) -> None:
    """No shell looks at them."""
    run(program(tmp_path, "echo", "$HOME; *", "a  b"), {}, no_pause, hidden=())

    assert ["echo: $HOME; *  a  b"] == [line.replace("* a", "*  a") for line in said()]


def test_long_output_is_cut_at_its_beginning(tmp_path: Path, said: Callable[[], list[str]]) -> None:
    """What is kept is bounded; the last line is there, and it says how much is not."""
    source = "import sys\nfor n in range(200_000): print(n)"

    run(python(tmp_path, source), {}, no_pause, hidden=())

    first, *lines = said()
    assert "bytes of its output are left out" in first
    assert lines[-1].endswith(": 199999")
    assert sum(map(len, lines)) < 20 * MOST_OUTPUT


@pytest.mark.parametrize("before", [0, 100_000])
def test_key_is_not_logged(tmp_path: Path, said: Callable[[], list[str]], before: int) -> None:
    """Whatever a program prints, and however much before it."""
    key = make_key()
    (tmp_path / "privkey.pem").write_text(key.reveal())
    script = f"head -c {before} /dev/zero | tr '\\0' 'x'; cat privkey.pem privkey.pem; exit 1"

    with pytest.raises(DeployError) as failed:
        run(program(tmp_path, "/bin/sh", "-c", script), {}, no_pause, hidden=[key])

    reported = "\n".join([*said(), str(failed.value)])
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
@pytest.mark.parametrize("known", [True, False], ids=["ours", "another"])
@pytest.mark.parametrize(
    "how",
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
def test_key_in_a_frame_is_not_reported(
    tmp_path: Path,
    said: Callable[[], list[str]],
    kind: str,
    form: PrivateFormat,
    how: str,
    *,
    known: bool,
) -> None:
    """Any account's secret, in any form: neither to the log, a line at a time, nor by the error;
    also when the frame is cut off at one end, by the program or because only so much is kept.
    """
    pem = pem_of(kind, form)
    (tmp_path / "key").write_text(pem)
    hidden = [pkcs8_pem(key_of(kind))] if known else []

    with pytest.raises(DeployError) as failed:
        run(program(tmp_path, "/bin/sh", "-c", f"{how}; exit 1"), {}, no_pause, hidden=hidden)

    assert [] == lines_logged(pem, "\n".join([*said(), str(failed.value)]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["grep -v -e ----- key", "grep -v -e ----- key | tr -d '\\n'"])
def test_our_key_without_a_frame_is_not_reported(
    tmp_path: Path, said: Callable[[], list[str]], kind: str, how: str
) -> None:
    """Line by line as it was given, or in one."""
    pem = pem_of(kind, PrivateFormat.PKCS8)
    (tmp_path / "key").write_text(pem)
    hidden = [pkcs8_pem(key_of(kind))]

    with pytest.raises(DeployError) as failed:
        run(program(tmp_path, "/bin/sh", "-c", f"{how}; exit 1"), {}, no_pause, hidden=hidden)

    reported = "\n".join([*said(), str(failed.value)])
    assert "•••" in reported
    assert [] == lines_logged(pem, reported)


def lines_logged(pem: str, reported: str) -> list[str]:
    """Return the lines of a key's body that came out, with or without what is between them."""
    body = [line for line in pem.splitlines() if "-----" not in line]
    unwrapped = "".join(reported.split())
    return [
        line
        for line in body
        if line[:20] in reported or line[-20:] in reported or line in unwrapped
    ]


def test_words_around_a_key_are_reported(tmp_path: Path, said: Callable[[], list[str]]) -> None:
    """The operator looks at the log because of them."""
    (tmp_path / "key").write_text(pem_of("EC", PrivateFormat.TraditionalOpenSSL))
    script = "echo with key:; cat key; echo 'nginx: bad key'; exit 1"

    with pytest.raises(DeployError) as failed:
        run(program(tmp_path, "/bin/sh", "-c", script), {}, no_pause, hidden=())

    assert ["/bin/sh: with key:", "/bin/sh: •••", "/bin/sh: nginx: bad key"] == said()
    assert str(failed.value).endswith("exit code 1: with key: ••• nginx: bad key")


def test_authorization_is_not_reported(tmp_path: Path, said: Callable[[], list[str]]) -> None:
    """As `curl -v` shows it: hidden to the end of its line, before the lines are joined."""
    script = "echo '> Authorization: Bearer planted'; echo '< HTTP/1.1 403'; exit 1"

    with pytest.raises(DeployError) as failed:
        run(program(tmp_path, "/bin/sh", "-c", script), {}, no_pause, hidden=())

    assert ["/bin/sh: > Authorization: •••", "/bin/sh: < HTTP/1.1 403"] == said()
    assert str(failed.value).endswith("exit code 1: > Authorization: ••• < HTTP/1.1 403")


def test_what_is_hidden_is_not_logged(tmp_path: Path, said: Callable[[], list[str]]) -> None:
    """A program that shows its environment shows the accounts' keys; what is no secret stays."""
    shown = {"DP_Key": "planted-0123456789", "DEPLOY_KEY": "planted-line-1+0/\nplanted-line-2+0/"}
    hidden = [Secret(value) for value in shown.values()]
    script = "env; exit 1"

    with pytest.raises(DeployError) as failed:
        run(
            program(tmp_path, "/bin/sh", "-c", script),
            {**shown, "LB": "1"},
            no_pause,
            hidden=hidden,
        )

    reported = "\n".join([*said(), str(failed.value)])
    assert {
        "/bin/sh: DP_Key=•••",
        "/bin/sh: DEPLOY_KEY=•••",
        "/bin/sh: •••",
        "/bin/sh: LB=1",
    } <= set(said())
    assert "planted" not in reported


@pytest.mark.parametrize("after", range(260, 320, 7))
def test_last_words_hold_no_part_of_a_secret(tmp_path: Path, after: int) -> None:
    """Wherever they are cut; and nothing of them is kept for ever."""
    secret = "planted-" + "planted-".join("0123456789")
    script = f"printf %s {secret}; head -c {after} /dev/zero | tr '\\0' 'x'; exit 1"

    with pytest.raises(DeployError) as failed:
        run(program(tmp_path, "/bin/sh", "-c", script), {}, no_pause, hidden=[Secret(secret)])

    assert "xxx" in str(failed.value.message)
    assert "planted" not in str(failed.value)
    assert "the program /bin/sh failed with exit code 1: …" == str(failed.value.lasting)


def test_secret_that_a_program_was_ended_in(tmp_path: Path, said: Callable[[], list[str]]) -> None:
    """What it had not said yet would have shown that the rest of it is a secret."""
    script = "printf 'key=planted-0123'; sleep 60"
    does = program(tmp_path, "/bin/sh", "-c", script, timeout=0.5)

    with pytest.raises(DeployError, match="was still running"):
        run(does, {}, no_pause, hidden=[Secret("planted-0123456789")])

    assert ["/bin/sh: key=•••"] == said()


def test_what_an_interrupted_program_said(tmp_path: Path, said: Callable[[], list[str]]) -> None:
    """Why a program was still running when the operator stopped the run is in the log too."""

    def stop(seconds: float) -> None:
        del seconds
        if (tmp_path / "said").exists():
            raise Interrupted(Text("stopped"))

    script = "echo waiting; sleep 0.2; touch said; sleep 60"
    with pytest.raises(Interrupted):
        run(program(tmp_path, "/bin/sh", "-c", script), {}, stop, hidden=())

    assert ["/bin/sh: waiting"] == said()


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("exit 3", "the program /bin/sh failed with exit code 3"),
        ("echo why; exit 1", "the program /bin/sh failed with exit code 1: why"),
        ("kill -9 $$", "signal 9 ended the program /bin/sh"),
    ],
)
def test_program_that_fails(tmp_path: Path, script: str, words: str) -> None:
    """How it ended and its last words, and that it is tried again."""
    with pytest.raises(DeployError) as failed:
        run(program(tmp_path, "/bin/sh", "-c", script), {}, no_pause, hidden=())

    assert words == str(failed.value.message)
    assert failed.value.hint is not None
    assert failed.value.retry.allowed


def test_program_that_is_not_there(tmp_path: Path) -> None:
    """With the places where it was looked for."""
    with pytest.raises(TargetRejected, match="the program no-such cannot be found or run") as no:
        run(program(tmp_path, "no-such"), {}, no_pause, hidden=())

    assert os.environ["PATH"] in str(no.value.hint)


def test_file_that_is_no_program(tmp_path: Path) -> None:
    """Executable, but nothing that the system can run; or not executable."""
    script = tmp_path / "script"
    script.write_bytes(b"\x00\x01")
    with pytest.raises(TargetRejected, match="cannot be found or run"):
        run(program(tmp_path, str(script)), {}, no_pause, hidden=())
    script.chmod(0o755)
    with pytest.raises(TargetRejected, match="cannot be run: Exec format error"):
        run(program(tmp_path, str(script)), {}, no_pause, hidden=())


def test_program_that_hangs_is_ended_with_its_children(
    tmp_path: Path, said: Callable[[], list[str]]
) -> None:
    """In its time and the grace; what it had said is in the log."""
    script = "sleep 60 & echo $! > child; echo waiting; wait"

    begun = time.monotonic()
    with pytest.raises(DeployError, match="was still running after 1 second") as late:
        run(program(tmp_path, "/bin/sh", "-c", script, timeout=1), {}, no_pause, hidden=())

    assert time.monotonic() - begun < DEADLINE
    assert ["/bin/sh: waiting"] == said()
    assert "timeout" in str(late.value.hint)
    assert eventually(lambda: not is_alive(tmp_path / "child"))


@pytest.mark.parametrize("begin", ["exec", "exec env -i"])
def test_program_that_will_not_end(tmp_path: Path, begin: str) -> None:
    """It may refuse to be asked, not to be ended."""
    stubborn = 'trap "" TERM; echo $$ > child; while :; do sleep 1; done'
    script = f"{begin} /bin/sh -c '{stubborn}'"

    with pytest.raises(DeployError, match="was still running"):
        run(program(tmp_path, "/bin/sh", "-c", script, timeout=0.5), {}, no_pause, hidden=())

    assert eventually(lambda: not is_alive(tmp_path / "child"))


def test_child_that_lives_on_is_left_alone(tmp_path: Path, said: Callable[[], list[str]]) -> None:
    """A program may start a server and end: certferry does not wait for the server, whose output
    may still be the program's.
    """
    server = "echo $$ > new; mv new child; while ! test -e go; do sleep 0.02; done; touch survived"
    script = f"sh -c '{server}' & while ! test -e child; do sleep 0.02; done; echo started"

    begun = time.monotonic()
    run(program(tmp_path, "/bin/sh", "-c", script), {}, no_pause, hidden=())

    assert time.monotonic() - begun < DEADLINE
    assert is_alive(tmp_path / "child")
    (tmp_path / "go").touch()
    assert eventually((tmp_path / "survived").exists)
    assert ["/bin/sh: started"] == said()


def test_silent_program_is_waited_for(tmp_path: Path) -> None:
    """One that has closed its output is not at its end yet."""
    script = "exec >&- 2>&-; sleep 0.3; touch done"

    run(program(tmp_path, "/bin/sh", "-c", script), {}, no_pause, hidden=())

    assert (tmp_path / "done").exists()


def stopped_when(there: Path) -> Callable[[float], None]:
    """Return the pauses of a run that is stopped as soon as a file is there."""

    def pause(seconds: float) -> None:
        if there.exists():
            raise Interrupted(Text("stopped"))

    return pause


def test_stopped_run_ends_it(tmp_path: Path) -> None:
    """With its children; what it had said is in the log."""
    script = "sh -c 'echo $$ > new; mv new child; sleep 60'; true"
    does, pause = program(tmp_path, "/bin/sh", "-c", script), stopped_when(tmp_path / "child")

    with pytest.raises(Interrupted):
        run(does, {}, pause, hidden=())

    assert eventually(lambda: not is_alive(tmp_path / "child"))


def test_stopped_run_lets_it_leave_things_in_order(
    tmp_path: Path, said: Callable[[], list[str]]
) -> None:
    """It is asked first, as one that is too slow is."""
    script = (
        "trap 'touch in-order; echo rolled back; exit' TERM;"
        "touch ready; while :; do sleep 0.02; done"
    )
    does, pause = program(tmp_path, "/bin/sh", "-c", script), stopped_when(tmp_path / "ready")

    with pytest.raises(Interrupted):
        run(does, {}, pause, hidden=())

    assert (tmp_path / "in-order").exists()
    assert "/bin/sh: rolled back" in said()


def test_stopped_run_ends_one_that_will_not(tmp_path: Path) -> None:
    """It may refuse to be asked, not to be ended."""
    script = "trap '' TERM; echo $$ > new; mv new child; while :; do sleep 1; done"
    does, pause = program(tmp_path, "/bin/sh", "-c", script), stopped_when(tmp_path / "child")

    with pytest.raises(Interrupted):
        run(does, {}, pause, hidden=())

    assert eventually(lambda: not is_alive(tmp_path / "child"))


# --- What a program said, cut at its beginning: the rest of a secret is not shown


SECRET = "0123456789-0123456789-0123456789-planted"

# A line of secrets that is longer than what is kept: wherever it is cut, it is cut within one.
SOURCE = f"""
print("x" * {{before}} + "{SECRET}" * {4 * MOST_OUTPUT // len(SECRET)})
print("why")
raise SystemExit(1)
"""


@pytest.mark.parametrize("before", range(0, len(SECRET), 9))
def test_first_line_that_lost_its_beginning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, before: int
) -> None:
    """The rest of a secret is neither logged nor quoted; the lines after it are."""
    caplog.set_level(logging.INFO)
    does = python(tmp_path, SOURCE.format(before=before))

    with pytest.raises(DeployError) as failed:
        run(does, {}, no_pause, hidden=[Secret(SECRET)])

    first, *_, last = (record.getMessage() for record in caplog.records)
    assert "bytes of its output are left out" in first
    assert last.endswith(": why")
    assert "planted" not in caplog.text + str(failed.value)
