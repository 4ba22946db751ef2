"""Machines without a disk: each run is on an empty one, which has the configuration alone."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from certferry.adapters.state import generations
from certferry.adapters.state.sealing import new_key
from certferry.core.secret import Secret
from certferry.ports.state import StateStore
from certferry_sandbox.world import World
from tests.acceptance.host import Host, Run
from tests.support.objects import objects_in

RUNNER = Path(__file__).with_name("killed.py")
_numbers = itertools.count(1)


class Runner(Host):
    """A machine that is made for each run, and is gone with it; the state is in a bucket of Kodo,
    and `variables` has its key.
    """

    def __init__(self, world: World, directory: Path, certificates: str) -> None:
        super().__init__(world, directory, certificates)
        self.key = new_key()
        self.variables = {"CERTFERRY_KEY": self.key}
        self.name = f"states-{next(_numbers)}"
        self.bucket = world.qiniu.add_bucket(self.name)
        self.url = f"kodo://{self.name}/certs"
        self.keep_at(self.url)

    def keep_at(self, url: str) -> None:
        """Have the state at a URL."""
        self.rewrite(f'url = "sqlite:///{self.state}"', f'url = "{url}"\nkey = "env:CERTFERRY_KEY"')

    def run(self, *arguments: str, **environ: str) -> Run:
        """See `Host.run`."""
        with self._on_an_empty_machine() as variables:
            return super().run(*arguments, **variables, **environ)

    def killed_after(self, requests: int, *arguments: str) -> int:
        """Kill a run after so many requests (0: never); return how many it made."""
        log = self.directory / "requests.log"
        log.write_text("")
        command = [sys.executable, str(RUNNER), str(requests), str(log)]
        with self._on_an_empty_machine() as variables:
            subprocess.run(
                [*command, "--config", str(self.config), *arguments],
                env=self._environment(variables),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=120,
            )
        return len(log.read_text().splitlines())

    @contextmanager
    def _on_an_empty_machine(self) -> Iterator[Mapping[str, str]]:
        home = self.directory / "home"
        home.mkdir()
        try:
            yield {**self.variables, "HOME": str(home), "TMPDIR": str(home)}
        finally:
            left = [path for path in home.rglob("*") if path.is_file()]
            shutil.rmtree(home)
        assert [] == left

    @contextmanager
    def remembering(self) -> Iterator[StateStore]:
        """See `Host.remembering`: the newest generation."""
        objects = objects_in(self.world.qiniu, self.name, "certs")
        with closing(generations.connect(objects, Secret(self.key), "x", reads_only=True)) as found:
            yield found

    def fingerprints(self, lineage: str) -> list[str]:
        """See `Host.fingerprints`."""
        with self.remembering() as store:
            return [version.certificate.fingerprint for version in store.versions(lineage)]
