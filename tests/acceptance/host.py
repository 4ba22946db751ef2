"""A machine in a world: its configuration, its state, and the command, run there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from certferry.adapters.state.connect import connect
from certferry.core.redaction import Secret
from certferry.ports.state import StateStore
from certferry_sandbox.world import World
from tests.acceptance.requests_made import RequestsMade
from tests.support.command import run_here
from tests.support.forks import start
from tests.support.schemas import must_fit_output

LONGEST_RUN = 60  # seconds

_COMPLAINT = re.compile(r"error: (?P<error>.+)\n\n?hint: (?P<hint>.+)\n", re.DOTALL)
_LABEL = re.compile(r"^\s*(error|hint): ", re.MULTILINE)


@dataclass(frozen=True)
class Complaint:
    """The one error that a quiet run told, and its hint, each on one line."""

    error: str
    hint: str


@dataclass(frozen=True)
class Run:
    """How a run of the command ended, what it wrote, and what it left in the world."""

    code: int
    out: str
    err: str
    left: RequestsMade

    @property
    def complaint(self) -> Complaint:
        """What a run with `-q` complained of: it must have said this once, and nothing else."""
        reported = _COMPLAINT.fullmatch(self.err)
        assert reported is not None, self
        assert ["error", "hint"] == _LABEL.findall(self.err), self
        assert "" == self.out, self
        return Complaint(_on_one_line(reported["error"]), _on_one_line(reported["hint"]))

    @property
    def document(self) -> Any:
        """What a run with `--json` handed out."""
        return json.loads(self.out)

    @property
    def steps(self) -> list[dict[str, Any]]:
        (certificate,) = self.document["certificates"]
        steps: list[dict[str, Any]] = certificate["steps"]
        return steps


def certificate(
    *names: str, name: str | None = None, domains: Sequence[str] = (), to: str | None = "qiniu"
) -> str:
    """Return tables of a certificate, deployed to its own names if no others are named."""
    served = domains or names
    lines = ["", "[[certificates]]", f'name = "{name or names[0]}"', 'dns = "dnspod"']
    lines += [f"names = [{_quoted(names)}]"]
    if to is not None:
        lines += ["[[certificates.deploy]]", f'to = "{to}"', f"domains = [{_quoted(served)}]"]
    return "\n".join(lines) + "\n"


def covering(domain: str, *deploy: str, names: str | None = None) -> str:
    """Return tables of a certificate for a domain and everything below, or for these names;
    deployed to what it covers, or as these lines say.
    """
    lines = ["", "[[certificates]]", f'name = "{domain}"', 'dns = "dnspod"']
    lines += [f"names = [{names or _quoted((domain, f'*.{domain}'))}]"]
    return "\n".join([*lines, "[[certificates.deploy]]", 'to = "qiniu"', *deploy, ""])


class Host:
    """One machine; what the world holds is said apart from it."""

    def __init__(self, world: World, directory: Path, certificates: str) -> None:
        self.world = world
        self.directory = directory
        self.config = world.write_files(directory, certificates)
        # Two requests per second are manners towards DNSPod; the stand-in needs none.
        self.rewrite("[accounts.dnspod]", "[accounts.dnspod]\nrequests_per_second = 50")
        self.rewrite(f"sqlite:///{directory / 'state.db'}", f"sqlite:///{self.state}")

    def share(self, url: str, key: Secret, name: str = "web-1") -> None:
        """Have it share the state of a server, as the host of this name."""
        written = f'url = "sqlite:///{self.state}"'
        self.rewrite(written, f'url = "{url}"\nkey = "{key.reveal()}"\nhost = "{name}"')

    @property
    def state(self) -> Path:
        """Where the state lies; its key lies beside it."""
        return self.directory / "state" / "state.db"

    @property
    def key_file(self) -> Path:
        return self.state.with_name("secret.key")

    def rewrite(self, old: str, new: str) -> None:
        """Write something else in the configuration's first place of `old`."""
        text = self.config.read_text()
        assert old in text
        self.config.write_text(text.replace(old, new, 1))

    def run(self, *arguments: str, **environ: str) -> Run:
        """Run the command to its end in this process, while no other command is at work in the
        world.

        An empty variable is left out of the command's environment.
        """
        before = RequestsMade.of(self.world)
        ended = run_here(arguments, self._environment(environ))
        return Run(ended.code, ended.out, ended.err, RequestsMade.of(self.world) - before)

    def run_apart(self, *arguments: str, wrapped_in: Sequence[str] = (), **environ: str) -> Run:
        """The same as a process of its own: where another program starts it, or where what it has
        begun ends with it.
        """
        before = RequestsMade.of(self.world)
        with self.begin(*arguments, wrapped_in=wrapped_in, **environ) as process:
            out, err = process.communicate(timeout=LONGEST_RUN)
        must_fit_output(arguments, out)
        return Run(process.returncode, out, err, RequestsMade.of(self.world) - before)

    @contextmanager
    def begin(
        self,
        *arguments: str,
        wrapped_in: Sequence[str] = (),
        program: Sequence[str] = (sys.executable, "-m", "certferry"),
        **environ: str,
    ) -> Iterator[subprocess.Popen[str]]:
        """Run it beside a `with` block; at the block's end it is over, whatever it does."""
        command = [*wrapped_in, *program]
        process = start(
            [*command, *arguments],
            env=self._environment(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.begun = process
        try:
            yield process
        finally:
            process.kill()
            process.wait()
            for stream in (process.stdout, process.stderr):
                assert stream is not None
                stream.close()

    def _environment(self, more: Mapping[str, str]) -> dict[str, str]:
        # Not by `--config`: the commands that it prints are those of an operator beside the file.
        file = {"CERTFERRY_CONFIG": str(self.config)}
        variables = {**os.environ, **self.world.environment, **file, **more}
        return {name: value for name, value in variables.items() if value}

    @contextmanager
    def remembering(self) -> Iterator[StateStore]:
        """Open what the host remembers, for a `with` block."""
        with closing(connect(self.state, self.key_file)) as store:
            yield store

    def fingerprints(self, lineage: str) -> list[str]:
        """Return the certificates that the host has had for a lineage, newest first."""
        if not self.state.exists():
            return []
        with self.remembering() as store:
            return [version.certificate.fingerprint for version in store.versions(lineage)]


def _quoted(words: Sequence[str]) -> str:
    return ", ".join(f'"{word}"' for word in words)


def _on_one_line(words: str) -> str:
    return " ".join(words.split())
