"""The real certbot and the real lego, each in its own directory, with proofs at DNSPod."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

from certferry_sandbox.world import ZONE, World
from tests.acceptance.clients.program import run_to_its_end
from tests.support.programs import program_path

TXT_RECORD = Path(__file__).with_name("txt_record.py")


class _Client:
    def __init__(self, world: World, home: Path) -> None:
        self.world = world
        self.home = home

    def _run(self, *arguments: str, **environ: str) -> str:
        place = {"DNSPOD_API": self.world.dnspod.url, "ZONE": ZONE, "NO_PROXY": "*"}
        variables = {**os.environ, **self.world.environment, **place, **environ}
        return run_to_its_end(arguments, variables)


class Certbot(_Client):
    def __init__(self, world: World, directory: Path) -> None:
        program_path("certbot")
        super().__init__(world, directory / "letsencrypt")
        self._others = [
            *("--work-dir", str(directory / "work")),
            *("--logs-dir", str(directory / "logs")),
        ]

    def issue(self, *names: str, again: bool = False) -> None:
        hook = shlex.join([sys.executable, str(TXT_RECORD)])
        words = [word for name in names for word in ("-d", name)]
        self._run(
            *("certbot", "certonly", "-n", "--agree-tos", "-m", "ops@example.com"),
            *("--config-dir", str(self.home), *self._others),
            *("--server", self.world.pebble.directory_url),
            *("--manual", "--preferred-challenges", "dns"),
            *("--manual-auth-hook", f"{hook} present", "--manual-cleanup-hook", f"{hook} cleanup"),
            *(["--force-renewal"] if again else []),
            *words,
            REQUESTS_CA_BUNDLE=str(self.world.pebble.ca_bundle),
        )

    def certificates(self) -> str:
        return self._run("certbot", "certificates", "--config-dir", str(self.home), *self._others)


class Lego(_Client):
    def __init__(self, world: World, directory: Path) -> None:
        program_path("lego")
        super().__init__(world, directory / ".lego")

    def issue(self, *names: str) -> None:
        words = [word for name in names for word in ("--domains", name)]
        self._run(
            *("lego", "--path", str(self.home), "--accept-tos", "--email", "ops@example.com"),
            *("--server", self.world.pebble.directory_url),
            *("--dns", "exec", "--dns.disable-cp", *words, "run"),
            EXEC_PATH=str(TXT_RECORD),
            EXEC_SEQUENCE_INTERVAL="1",
            EXEC_PROPAGATION_TIMEOUT="20",
            EXEC_POLLING_INTERVAL="1",
            LEGO_CA_CERTIFICATES=str(self.world.pebble.ca_bundle),
        )
