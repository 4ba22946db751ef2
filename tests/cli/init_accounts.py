"""Accounts and a directory for `certferry init`, and the command in the directory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from textwrap import dedent

from certferry.adapters.state.connect import connect
from certferry_sandbox.dnspod.service import DnspodService
from certferry_sandbox.qiniu.service import QiniuService
from tests.cli.terminals import Terminal
from tests.support.command import run_here

DP_ID, DP_KEY = "13490", "6b5976c68aba5b14a0558b77c17c3932"
AK, SK = "access-key-that-is-made-up", "secret-key-that-is-made-up"
KEYS = {"DP_Id": DP_ID, "DP_Key": DP_KEY, "QINIU_ACCESS_KEY": AK, "QINIU_SECRET_KEY": SK}

NEXT_STEPS = """\
Next:
  certferry plan              shows what a sync would change
  certferry sync              issues, deploys and verifies
  certferry schedule install  runs `sync` twice a day, to renew certificates
  certferry help notify       how a channel, [notify.ops], reports trouble
  certferry help monitoring   how a [heartbeat] reports stopped runs
"""

WHICH_CHANNEL = "Number or name (Enter to skip):"
HEARTBEAT = "Heartbeat URL (Enter to skip) (input hidden):"
WHICH_WAY = "Number or name (Enter for 1):"
CHOSEN = (("Domains (Enter for 1-2):", "\n"), (WHICH_WAY, "\n"))
"""The answers that accept the proposed domains and certificates."""
NO_CHANNEL = ((WHICH_CHANNEL, "\n"), (HEARTBEAT, "\n"))
"""The answers without a channel and a heartbeat."""
WRITE = "Write this to certferry.toml? [Y/n]:"
PLAN = "Run `certferry plan` now? [Y/n]:"
END = (*NO_CHANNEL, *CHOSEN, (WRITE, "y\n"), (PLAN, "n\n"))
"""The answers of an interview after the address."""

ID, TOKEN = "DNSPod token ID:", "DNSPod token (input hidden):"
ACCESS = "the access key (AK) of the Qiniu account:"
SECRET = "the secret key (SK) of the Qiniu account (input hidden):"
TYPED = ((ID, f"{DP_ID}\n"), (TOKEN, f"{DP_KEY}\n"), (ACCESS, f"{AK}\n"), (SECRET, f"{SK}\n"))
"""The answers with the keys."""


@dataclass
class Accounts:
    """An account at DNSPod with a zone, an account at Qiniu with domains, and a working directory.

    With `apart` the command runs in its own process, which imports packages that this process
    lacks.
    """

    directory: Path
    dnspod: DnspodService
    qiniu: QiniuService
    environ: dict[str, str] = field(default_factory=lambda: dict(KEYS))
    apart: bool = False

    @property
    def config(self) -> Path:
        return self.directory / "certferry.toml"

    @property
    def keys(self) -> Path:
        return self.directory / "certferry.env"

    @property
    def programs(self) -> Path:
        """The only directory of the PATH: the machine's own programs are not run."""
        return self.directory / "home" / "bin"

    @property
    def state(self) -> Path:
        return self.directory / "state.db"

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command without a terminal, in this process or `apart`."""
        environ = {**os.environ, **self.environ, "PATH": str(self.programs)}
        command = [*self.command, *arguments]
        if self.apart:
            process = subprocess.run(
                command,
                cwd=self.directory,
                env=environ,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        else:
            ended = run_here(arguments, environ, self.directory)
            process = subprocess.CompletedProcess(command, ended.code, ended.out, ended.err)
        assert not any(key in process.stdout + process.stderr for key in KEYS.values())
        return process

    def init(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `init` without questions."""
        return self.run("init", "--settings", "settings.toml", "--yes", *arguments)

    def terminal(self, *arguments: str, columns: int = 100, **environ: str) -> Terminal:
        """Run `init` at a terminal with echo."""
        return Terminal(
            [*self.command, "init", "--settings", "settings.toml", *arguments],
            columns=columns,
            environ={"TERM": "dumb", **self.environ, **environ},
            cwd=self.directory,
            echo=True,
        )

    def interviewed(
        self,
        *turns: tuple[str, str],
        arguments: Sequence[str] = ("--email", "ops@example.com"),
        columns: int = 100,
        **environ: str,
    ) -> tuple[int, str]:
        """Answer each question in turn, and return the exit code and the whole screen."""
        with self.terminal(*arguments, columns=columns, **environ) as terminal:
            times = Counter[str]()
            for question, answer in turns:
                times[question] += 1
                terminal.until(partial(_is_asked, question, times[question]))
                terminal.type(answer)
            return terminal.end(), terminal.screen.text

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-m", "certferry"]

    def write_env_file(self, name: str, values: Mapping[str, str]) -> None:
        path = self.directory / name
        path.write_text("".join(f"export {name}='{value}'\n" for name, value in values.items()))
        path.chmod(0o600)

    def name_env_files(self, *names: str) -> None:
        path = self.directory / "settings.toml"
        path.write_text(f"env_files = {json.dumps(names)}\n{path.read_text()}")

    def remove_dnspod(self) -> None:
        """Remove the account at DNSPod from the settings."""
        path = self.directory / "settings.toml"
        before, _, after = path.read_text().partition("[accounts.dnspod]")
        path.write_text(f"{before}[accounts.qiniu]{after.partition('[accounts.qiniu]')[2]}")

    def declare(self, certificates: str) -> None:
        """Write a configuration with the settings and these certificates."""
        settings = (self.directory / "settings.toml").read_text()
        self.config.write_text(settings + dedent(certificates))

    def must_contain_no_secret(self, text: str) -> None:
        """Check that the text contains no secret."""
        assert not any(secret in text for secret in (DP_KEY, SK))

    def new_files(self) -> set[str]:
        """Return the names of new files in the directory."""
        return {path.name for path in self.directory.iterdir()} - {"settings.toml", "home"}

    def fingerprints(self, lineage: str) -> list[str]:
        with closing(connect(self.state, self.state.with_name("secret.key"))) as store:
            return [version.certificate.fingerprint for version in store.versions(lineage)]


def _is_asked(question: str, times: int, screen: str) -> bool:
    return screen.endswith(question) and times == screen.count(question)
