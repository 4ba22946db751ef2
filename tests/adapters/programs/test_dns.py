"""A program of the operator's as a DNS account: its arguments, exit codes, output and end."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest

from certferry.adapters.programs.dns import Settings, connect
from certferry.adapters.programs.run import MOST_OUTPUT
from certferry.core.redaction import Secret
from certferry.errors import (
    ConfigError,
    DnsAccessDenied,
    DnsError,
    DnsRejected,
    DnsUnavailable,
    Interrupted,
    ZoneNotFound,
)
from certferry_sandbox.testing.context import connected_with
from tests.adapters.programs.account import connected
from tests.support.waiting import eventually

NAME = "_acme-challenge.img.example.com"


def script(tmp_path: Path, body: str) -> list[str]:
    """Write a shell script, and return its command."""
    path = tmp_path / "dns"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return [str(path)]


def test_program_gets_action_name_and_value(tmp_path: Path) -> None:
    """The arguments follow the program's own arguments, and no shell interprets any of them."""
    log = tmp_path / "log"
    command = script(tmp_path, f'printf "%s|" "$@" >> {log}')
    provider = connected([*command, "a b", "$HOME"])

    handle = provider.add_txt(NAME, "gfj9Xq-_Rg85nM")
    assert provider.remove_txt(NAME, "gfj9Xq-_Rg85nM", handle)

    arguments = f"{NAME}|gfj9Xq-_Rg85nM|"
    assert f"a b|$HOME|present|{arguments}a b|$HOME|cleanup|{arguments}" == log.read_text()


@pytest.mark.parametrize(
    ("code", "kind", "advice"),
    [
        (1, DnsUnavailable, "--log-file"),
        (68, ZoneNotFound, "set `dns` of the certificate"),
        (77, DnsAccessDenied, "keys"),
    ],
)
def test_exit_code_selects_the_error(
    tmp_path: Path, code: int, kind: type[DnsError], advice: str
) -> None:
    """The error has the name and the program's last words."""
    provider = connected(script(tmp_path, f"echo no luck; exit {code}"))

    for call in (
        lambda: provider.add_txt(NAME, "value"),
        lambda: provider.remove_txt(NAME, "value", None),
    ):
        with pytest.raises(kind, match=f"{NAME}.*exit code {code}.*no luck") as failed:
            call()
        assert advice in str(failed.value.hint)


def test_program_may_report_an_absent_record(tmp_path: Path) -> None:
    """Exit code 66 is a success of a removal, and a failure of a write."""
    provider = connected(script(tmp_path, "exit 66"))

    assert not provider.remove_txt(NAME, "value", None)
    with pytest.raises(DnsUnavailable):
        provider.add_txt(NAME, "value")


def test_long_output_is_shortened(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The log has the end of the output and the number of missing bytes."""
    caplog.set_level("INFO")
    provider = connected(
        script(tmp_path, "yes nonsense | head -c 4000000; echo; echo the end; exit 1")
    )

    with pytest.raises(DnsUnavailable, match="the end"):
        provider.add_txt(NAME, "value")

    assert "bytes of its output are left out" in caplog.text
    assert sum(len(message.rpartition(": ")[2]) for message in caplog.messages) <= MOST_OUTPUT


def test_endless_program_is_ended_with_its_children(tmp_path: Path) -> None:
    """The program may have written the record, so a later run searches for the record."""
    children = tmp_path / "children"
    provider = connected(
        script(tmp_path, f"sleep 600 & echo $! > {children}; while true; do echo more; done"),
        timeout=timedelta(seconds=0.5),
    )

    with pytest.raises(DnsUnavailable, match="still running") as failed:
        provider.add_txt(NAME, "value")

    assert "`timeout`" in str(failed.value.hint)
    child = Path(f"/proc/{int(children.read_text())}")
    assert eventually(lambda: not child.exists() or "Z" in (child / "stat").read_text().split()[2])


def test_missing_program_is_reported(tmp_path: Path) -> None:
    """A missing program certainly wrote no record."""
    with pytest.raises(DnsRejected, match="cannot be found or run"):
        connected([str(tmp_path / "none")]).add_txt(NAME, "value")


def test_program_gets_no_keys_and_its_output_is_masked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment lacks the accounts' keys, and secrets in the output are masked."""
    monkeypatch.setenv("DP_Key", "6b5976c68aba5b14a0558b77c17c3932")
    provider = connected(
        script(tmp_path, "echo key=$DP_Key. and 0123456789abcdef; exit 1"),
        withheld={"DP_Key"},
        hidden=[Secret("0123456789abcdef")],
    )

    with pytest.raises(DnsUnavailable, match=r"key=\. and •••"):
        provider.add_txt(NAME, "value")


def test_calls_are_sequential(tmp_path: Path) -> None:
    """A script can rely on being the only running instance."""
    lock = tmp_path / "lock"
    provider = connected(script(tmp_path, f"mkdir {lock} || exit 1; sleep 0.05; rmdir {lock}"))

    threads = [
        threading.Thread(target=provider.add_txt, args=(NAME, f"value-{number}"))
        for number in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert provider.remove_txt(NAME, "value-0", None)


def test_stopped_run_ends_running_and_waiting_calls(tmp_path: Path) -> None:
    """The stopped run waits for neither the program nor the next call."""
    started, stop = tmp_path / "started", threading.Event()

    def pause(seconds: float) -> None:
        if stop.is_set():
            raise Interrupted("stopped")
        time.sleep(seconds)

    provider = connected(script(tmp_path, f"touch {started}; sleep 600"), pause=pause)
    ended: list[str] = []

    def call(value: str) -> None:
        try:
            provider.add_txt(NAME, value)
        except Interrupted:
            ended.append(value)

    threads = [threading.Thread(target=call, args=(value,)) for value in ("one", "two")]
    for thread in threads:
        thread.start()
    assert eventually(started.exists)
    stop.set()
    for thread in threads:
        thread.join(20)
    assert {"one", "two"} == set(ended)


def test_empty_command_is_reported() -> None:
    """The error comes when the account is connected, like every error in the settings."""
    with pytest.raises(ConfigError, match="`command`"):
        connect(Settings(()), connected_with())


def test_testing_context_runs_programs() -> None:
    """Authors of adapters can run programs in their tests."""
    ended = connected_with().run(["sh", "-c", "echo said; exit 3"], timedelta(seconds=20))

    assert (3, "said\n") == (ended.code, ended.words)
