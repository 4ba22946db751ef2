"""The real acme.sh, installed into a directory of its own as its users do, with its real DNSPod
hook. Only the service's address in that hook is another: acme.sh has no setting for it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from certferry_sandbox.world import World
from tests.acceptance.clients.program import run_to_its_end

PACKAGE = Path("/usr/share/acme.sh")
"""Where Debian's package `acme.sh` keeps what upstream's `--install` copies."""

SERVICE = "https://dnsapi.cn"

# DNSPod wants a program, its version and a mail address; acme.sh's own value has a web address.
AGENT = "acme.sh/3.1 (ops@example.com)"


class AcmeSh:
    def __init__(self, world: World, directory: Path, **environ: str) -> None:
        self.world = world
        self.home = directory / ".acme.sh"
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("LE_", "Le_", "CERT_")) and name != "CURL_CA_BUNDLE"
        }
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self._environ = {**inherited, **world.environment, "HOME": str(directory), "PATH": path}
        self._environ |= {"NO_PROXY": "*", **environ}
        self.run(
            "--install", "--nocron", "--noprofile", "--home", str(self.home),
            "--accountemail", "ops@example.com", "--useragent", AGENT,
            program=PACKAGE / "acme.sh", cwd=PACKAGE,
        )  # fmt: skip
        hook = self.home / "dnsapi" / "dns_dp.sh"
        written = hook.read_text()
        assert 1 == written.count(SERVICE)
        hook.write_text(written.replace(SERVICE, world.dnspod.url))

    def issue(self, *names: str, key_length: str = "ec-256") -> None:
        """Issue a certificate, proven at DNSPod."""
        words = [word for name in names for word in ("-d", name)]
        server = ["--server", self.world.pebble.directory_url]
        bundle = ["--ca-bundle", str(self.world.pebble.ca_bundle)]
        # Without a pause of its own it would ask public resolvers for the record.
        self.run(
            "--issue",
            *server,
            *bundle,
            "--dns",
            "dns_dp",
            "--dnssleep",
            "1",
            "-k",
            key_length,
            *words,
        )

    def run(
        self,
        *arguments: str,
        code: int = 0,
        program: Path | None = None,
        cwd: Path | None = None,
        **environ: str,
    ) -> str:
        """Run acme.sh to its end, which must be this one; return what it told."""
        return run_to_its_end(
            [str(program or self.home / "acme.sh"), *arguments],
            {**self._environ, **environ},
            code=code,
            cwd=cwd or self.home.parent,
        )

    def certificate(self, name: str) -> Path:
        return self.home / f"{name}_ecc" / "fullchain.cer"
