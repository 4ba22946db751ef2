"""A machine in a world: its configuration, its state, and runs of the command."""

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
    """The single error of a quiet run, and its hint, each on one line."""

    error: str
    hint: str


@dataclass(frozen=True)
class Run:
    """The exit code and the output of a run, and the run's requests in the world."""

    code: int
    out: str
    err: str
    left: RequestsMade

    @property
    def complaint(self) -> Complaint:
        """Return the complaint of a run with `-q`: an error with its hint is the whole output."""
        reported = _COMPLAINT.fullmatch(self.err)
        assert reported is not None, self
        assert ["error", "hint"] == _LABEL.findall(self.err), self
        assert "" == self.out, self
        return Complaint(_on_one_line(reported["error"]), _on_one_line(reported["hint"]))

    @property
    def document(self) -> Any:
        """Return the document of a run with `--json`."""
        return json.loads(self.out)

    @property
    def steps(self) -> list[dict[str, Any]]:
        (certificate,) = self.document["certificates"]
        steps: list[dict[str, Any]] = certificate["steps"]
        return steps


def certificate(
    *names: str, name: str | None = None, domains: Sequence[str] = (), to: str | None = "qiniu"
) -> str:
    """Return tables of a certificate; the default domains are the certificate's names."""
    served = domains or names
    lines = ["", "[[certificates]]", f'name = "{name or names[0]}"', 'dns = "dnspod"']
    lines += [f"names = [{_quoted(names)}]"]
    if to is not None:
        lines += ["[[certificates.deploy]]", f'to = "{to}"', f"domains = [{_quoted(served)}]"]
    return "\n".join(lines) + "\n"


def covering(domain: str, *deploy: str, names: str | None = None) -> str:
    """Return tables of a certificate for a domain and everything below, or for the given names;
    `deploy` adds lines to the deployment.
    """
    lines = ["", "[[certificates]]", f'name = "{domain}"', 'dns = "dnspod"']
    lines += [f"names = [{names or _quoted((domain, f'*.{domain}'))}]"]
    return "\n".join([*lines, "[[certificates.deploy]]", 'to = "qiniu"', *deploy, ""])


class Host:
    """A machine: a directory with a configuration and a state, in a world."""

    def __init__(self, world: World, directory: Path, certificates: str) -> None:
        self.world = world
        self.directory = directory
        self.config = world.write_files(directory, certificates)
        # Two requests per second are courtesy towards DNSPod; the stand-in takes more.
        self.rewrite("[accounts.dnspod]", "[accounts.dnspod]\nrequests_per_second = 50")
        self.rewrite(f"sqlite:///{directory / 'state.db'}", f"sqlite:///{self.state}")

    def share(self, url: str, key: Secret, name: str = "web-1") -> None:
        """Use the shared state of a server, as the host `name`."""
        file_url = f'url = "sqlite:///{self.state}"'
        self.rewrite(file_url, f'url = "{url}"\nkey = "{key.reveal()}"\nhost = "{name}"')

    @property
    def state(self) -> Path:
        """Return the path of the state; the state's key is in the same folder."""
        return self.directory / "state" / "state.db"

    @property
    def key_file(self) -> Path:
        return self.state.with_name("secret.key")

    def rewrite(self, old: str, new: str) -> None:
        """Replace the first `old` in the configuration."""
        text = self.config.read_text()
        assert old in text
        self.config.write_text(text.replace(old, new, 1))

    def run(self, *arguments: str, **environ: str) -> Run:
        """Run the command to its end in the test's process. Other commands must be idle, because
        the counted requests are of the whole world.

        Variables with an empty value are absent from the command's environment.
        """
        before = RequestsMade.of(self.world)
        ended = run_here(arguments, self._environment(environ))
        return Run(ended.code, ended.out, ended.err, RequestsMade.of(self.world) - before)

    def run_apart(self, *arguments: str, wrapped_in: Sequence[str] = (), **environ: str) -> Run:
        """Run the command as a separate process, for a command that another program starts or whose
        children must end with the command.
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
        """Run the command beside a `with` block; the end of the block kills the command."""
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
        # A `--config` would appear in the commands that certferry prints; the variable leaves the
        # commands as for an operator beside the file.
        file = {"CERTFERRY_CONFIG": str(self.config)}
        variables = {**os.environ, **self.world.environment, **file, **more}
        return {name: value for name, value in variables.items() if value}

    @contextmanager
    def remembering(self) -> Iterator[StateStore]:
        """Open the state of the host, for a `with` block."""
        with closing(connect(self.state, self.key_file)) as store:
            yield store

    def fingerprints(self, lineage: str) -> list[str]:
        """Return the host's certificates of a lineage, newest first."""
        if not self.state.exists():
            return []
        with self.remembering() as store:
            return [version.certificate.fingerprint for version in store.versions(lineage)]


def _quoted(words: Sequence[str]) -> str:
    return ", ".join(f'"{word}"' for word in words)


def _on_one_line(words: str) -> str:
    return " ".join(words.split())
