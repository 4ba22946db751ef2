"""The command in a world on loopback, from the first plan to the export; on a terminal as a process
of its own.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from certferry.cli.exits import Exit
from certferry_sandbox.world import DOMAINS, World, demonstration
from tests.cli.terminals import Terminal
from tests.support.command import run_here


@pytest.fixture
def world() -> Iterator[World]:
    """The demo's world: a domain that serves another owner's certificate, one without HTTPS."""
    with demonstration() as started:
        yield started


class Operator:
    """An operator who types commands, and what they get."""

    def __init__(self, world: World, directory: Path) -> None:
        self.environ = os.environ | world.environment
        self.config = world.write_files(directory)

    def types(self, *words: str) -> tuple[int, str, str]:
        """Run a command without a terminal; give its exit code and both outputs."""
        ended = run_here(["--config", str(self.config), *words], self.environ)
        return ended.code, _masked(ended.out), _masked(ended.err)

    def asks(self, *words: str) -> tuple[int, Any]:
        """Run a command with `--json`; give its exit code and the document."""
        code, out, err = self.types(*words, "--json")
        assert "error" not in err
        return code, json.loads(out)

    def sits_at(self, *words: str, columns: int) -> Terminal:
        """Run a command on a terminal of this width."""
        command = [sys.executable, "-m", "certferry", "--config", str(self.config), *words]
        return Terminal(command, columns=columns, environ=self.environ)


def _masked(words: str) -> str:
    """Hide what differs in every run: remote ids and moments."""
    words = re.sub(r"(?<=certificate  )[0-9a-f]{12}\b", "remote-id", words)
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "some day", words)


def test_the_main_job_from_the_first_plan_to_the_export(world: World, tmp_path: Path) -> None:
    """Each command says what is true, on the right stream, with the right exit code."""
    operator = Operator(world, tmp_path)

    assert (
        Exit.PENDING,
        dedent("""\
        img: there is no certificate yet
          issue    img.example.com, *.img.example.com
          deploy   qiniu → img.example.com
                   certificate  remote-id → …
          verify   img.example.com
          deploy   qiniu → a.img.example.com (HTTPS is off → will be turned on)
                   certificate  — → …
          verify   a.img.example.com

        1 certificate to issue, 2 deployments. Nothing was changed; run `certferry sync`.
        """),
        "",
    ) == operator.types("plan", "--check")

    with operator.sits_at("sync", columns=40) as terminal:
        terminal.until(lambda screen: "at most" in " ".join(screen.split()), 40)
        assert Exit.OK == terminal.end(40)
    assert terminal.screen.text.startswith("img: done\n")
    assert terminal.screen.text.endswith("\n\n1 certificate: 5 done.")
    assert terminal.screen.widest <= 40

    assert (
        Exit.OK,
        dedent("""\
        img: unchanged
          verify   unchanged img.example.com: served by every address that answers
          verify   unchanged a.img.example.com: served by every address that answers

        Nothing changed: 1 certificate is as declared.
        """),
        "",
    ) == operator.types("sync")
    assert (Exit.OK, "", "") == operator.types("-q", "sync", "img")
    assert (Exit.OK, "Nothing to do: 1 certificate is as declared.\n", "") == operator.types(
        "plan", "--check"
    )

    code, status = operator.asks("status")
    (certificate,) = status["certificates"]
    assert (Exit.OK, {"verified"}) == (code, {d["state"] for d in certificate["domains"]})
    assert all(edge["ok"] for domain in certificate["domains"] for edge in domain["served"])
    with operator.sits_at("status", columns=40) as terminal:
        assert Exit.OK == terminal.end()
    assert terminal.screen.widest <= 40
    assert 2 == terminal.screen.text.count("    served   2 of 2")

    code, watched = operator.asks("watch", *DOMAINS)
    fingerprints = {edge["fingerprint"] for host in watched["hosts"] for edge in host["addresses"]}
    assert (Exit.OK, {certificate["fingerprint"]}) == (code, fingerprints)

    code, report = operator.asks("sync", "--renew", "--all", "--no-wait")
    assert (Exit.TRY_LATER, False) == (code, report["ok"])
    assert ["done", "waiting", "waiting"] == [
        step["outcome"] for step in report["certificates"][0]["steps"]
    ]

    code, out, _ = operator.types("history", "img", "--limit", "1")
    assert (Exit.OK, 1) == (code, len(out.splitlines()))

    code, out, _ = operator.types("export", "img", "--dir", str(tmp_path / "ssl"))
    assert (Exit.OK, 4) == (code, len(out.splitlines()))
    assert "PRIVATE KEY" in (tmp_path / "ssl" / "privkey.pem").read_text()

    operator.environ["QINIU_SECRET_KEY"] = "not-the-secret"
    code, out, err = operator.types("plan")
    assert (Exit.FAILED, "") == (code, err)
    assert re.search(r"blocked  qiniu: .*\n +hint: ", out)
    assert "not-the-secret" not in out
