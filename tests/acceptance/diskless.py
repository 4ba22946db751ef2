"""Machines with an empty disk before each run: only the configuration survives between runs."""

from __future__ import annotations

import itertools
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from copy import copy
from pathlib import Path
from unittest import mock

from certferry.adapters.s3.objects import S3Objects
from certferry.adapters.state import generations
from certferry.adapters.state.sealing import new_key
from certferry.core.redaction import Secret
from certferry.ports.objects import ObjectStore
from certferry.ports.state import StateStore
from certferry_sandbox.s3 import S3Service
from certferry_sandbox.world import World
from tests.acceptance.host import Host, Run
from tests.support.forks import run
from tests.support.objects import objects_in

RUNNER = Path(__file__).with_name("killed.py")
_numbers = itertools.count(1)


class Runner(Host):
    """A machine that each run creates and removes. The state is in a bucket of Kodo, and
    `variables` has the state's key.
    """

    def __init__(self, world: World, directory: Path, certificates: str) -> None:
        super().__init__(world, directory, certificates)
        self.key = new_key()
        self.variables = {"CERTFERRY_KEY": self.key}
        self.name = f"states-{next(_numbers)}"
        self.bucket = world.qiniu.add_bucket(self.name)
        self.url = f"kodo://{self.name}/certs"
        self.keep_at(self.url)
        self.requests_made: list[str] = []

    @property
    def objects(self) -> ObjectStore:
        """Return the objects of the bucket."""
        return objects_in(self.world.qiniu, self.name, "certs")

    def keep_at(self, url: str) -> None:
        """Write the state's URL into the configuration."""
        self.rewrite(f'url = "sqlite:///{self.state}"', f'url = "{url}"\nkey = "env:CERTFERRY_KEY"')

    def on_another_machine(self, directory: Path) -> Runner:
        """Return the same configuration in another directory."""
        other = copy(self)
        other.directory = directory
        return other

    def run(self, *arguments: str, **environ: str) -> Run:
        """See `Host.run`."""
        with self._on_an_empty_machine() as variables:
            return super().run(*arguments, **variables, **environ)

    def run_apart(self, *arguments: str, wrapped_in: Sequence[str] = (), **environ: str) -> Run:
        """See `Host.run_apart`."""
        with self._on_an_empty_machine() as variables:
            return super().run_apart(*arguments, wrapped_in=wrapped_in, **variables, **environ)

    def killed_after(self, requests: int, *arguments: str) -> int:
        """Kill a run after a number of requests (0: let the run live), and return the number of
        requests.
        """
        log = self.directory / "requests.log"
        log.write_text("")
        command = [sys.executable, str(RUNNER), str(requests), str(log)]
        with self._on_an_empty_machine() as variables:
            run(
                [*command, "--config", str(self.config), *arguments],
                env=self._environment(variables),
            )
        self.requests_made = log.read_text().splitlines()
        return len(self.requests_made)

    @contextmanager
    def _on_an_empty_machine(self) -> Iterator[Mapping[str, str]]:
        home = self.directory / "home"
        home.mkdir()
        try:
            yield {**self.variables, "HOME": str(home), "TMPDIR": str(home)}
        finally:
            leftovers = [path for path in home.rglob("*") if path.is_file()]
            shutil.rmtree(home)
        assert [] == leftovers

    @contextmanager
    def remembering(self) -> Iterator[StateStore]:
        """See `Host.remembering`: the state is the newest generation."""
        key = Secret(self.key)
        with closing(generations.connect(self.objects, key, "x", reads_only=True)) as store:
            yield store

    def fingerprints(self, lineage: str) -> list[str]:
        """See `Host.fingerprints`."""
        with self.remembering() as store:
            return [version.certificate.fingerprint for version in store.versions(lineage)]


class S3Runner(Runner):
    """A runner with a bucket of another service."""

    def __init__(self, world: World, directory: Path, certificates: str, s3: S3Service) -> None:
        self._s3 = s3
        super().__init__(world, directory, certificates)

    def keep_at(self, url: str) -> None:
        """See `Runner.keep_at`."""
        del url
        self._s3.add_bucket(self.name)
        self.variables |= {
            "AWS_ACCESS_KEY_ID": self._s3.access_key,
            "AWS_SECRET_ACCESS_KEY": self._s3.secret_key,
        }
        super().keep_at(f"s3://{self.name}/certs?endpoint={self._s3.url}")

    @property
    def objects(self) -> ObjectStore:
        """See `Runner.objects`."""
        with mock.patch.dict(os.environ, self.variables):
            return S3Objects(self.name, "certs", endpoint=self._s3.url)
