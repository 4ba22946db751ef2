"""Accounts and a directory for `certferry init`, and the command run there."""

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
"""Answers of an operator who takes the domains and the certificates that are proposed."""
UNTOLD = ((WHICH_CHANNEL, "\n"), (HEARTBEAT, "\n"))
"""Answers of an operator who wants neither."""
WRITE = "Write this to certferry.toml? [Y/n]:"
PLAN = "Run `certferry plan` now? [Y/n]:"
END = (*UNTOLD, *CHOSEN, (WRITE, "y\n"), (PLAN, "n\n"))
"""The answers of an interview after the address."""

ID, TOKEN = "DNSPod token ID:", "DNSPod token (input hidden):"
ACCESS = "the access key (AK) of the Qiniu account:"
SECRET = "the secret key (SK) of the Qiniu account (input hidden):"
TYPED = ((ID, f"{DP_ID}\n"), (TOKEN, f"{DP_KEY}\n"), (ACCESS, f"{AK}\n"), (SECRET, f"{SK}\n"))
"""The keys, as an operator types them."""


@dataclass
class Accounts:
    """An account at DNSPod with a zone, one at Qiniu with domains, and a directory to work in.

    With `apart` the command is a process of its own, which finds packages that are not installed
    for this one.
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
        """The only place where programs are found: none of this machine's own is run."""
        return self.directory / "home" / "bin"

    @property
    def state(self) -> Path:
        return self.directory / "state.db"

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command without a terminal: in this process, or `apart`."""
        environ = {**os.environ, **self.environ, "PATH": str(self.programs)}
        command = [*self.command, *arguments]
        if self.apart:
            done = subprocess.run(
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
            done = subprocess.CompletedProcess(command, ended.code, ended.out, ended.err)
        assert not any(key in done.stdout + done.stderr for key in KEYS.values())
        return done

    def init(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `init` without questions."""
        return self.run("init", "--settings", "settings.toml", "--yes", *arguments)

    def terminal(self, *arguments: str, columns: int = 100, **environ: str) -> Terminal:
        """Run `init` at a terminal that shows what is typed."""
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
        """Answer each question in turn; give the exit code and the whole screen."""
        with self.terminal(*arguments, columns=columns, **environ) as terminal:
            written = Counter[str]()
            for asked, answer in turns:
                written[asked] += 1
                terminal.until(partial(_is_asked, asked, written[asked]))
                terminal.type(answer)
            return terminal.end(), terminal.screen.text

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-m", "certferry"]

    def keep(self, name: str, values: Mapping[str, str]) -> None:
        path = self.directory / name
        path.write_text("".join(f"export {name}='{value}'\n" for name, value in values.items()))
        path.chmod(0o600)

    def name_env_files(self, *names: str) -> None:
        path = self.directory / "settings.toml"
        path.write_text(f"env_files = {json.dumps(names)}\n{path.read_text()}")

    def forget_dnspod(self) -> None:
        """Have settings without the account at DNSPod."""
        path = self.directory / "settings.toml"
        before, _, after = path.read_text().partition("[accounts.dnspod]")
        path.write_text(f"{before}[accounts.qiniu]{after.partition('[accounts.qiniu]')[2]}")

    def declare(self, certificates: str) -> None:
        """Have a configuration already, with the settings and these certificates."""
        settings = (self.directory / "settings.toml").read_text()
        self.config.write_text(settings + dedent(certificates))

    def must_be_discreet(self, words: str) -> None:
        """Check that no secret is in the words."""
        assert not any(secret in words for secret in (DP_KEY, SK))

    def left(self) -> set[str]:
        """Return the names of what is in the directory, beside what was there."""
        return {path.name for path in self.directory.iterdir()} - {"settings.toml", "home"}

    def fingerprints(self, lineage: str) -> list[str]:
        with closing(connect(self.state, self.state.with_name("secret.key"))) as store:
            return [version.certificate.fingerprint for version in store.versions(lineage)]


def _is_asked(question: str, times: int, shown: str) -> bool:
    return shown.endswith(question) and times == shown.count(question)
