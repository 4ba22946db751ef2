"""The real acme.sh, installed into its own directory as users install the program, with the real
DNSPod hook. The service's address is replaced in the hook's script, because acme.sh has no setting
for the address.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from certferry_sandbox.world import World
from tests.acceptance.clients.program import run_to_its_end
from tests.acceptance.host import Host, certificate
from tests.support.programs import program_path

PACKAGE = Path("/usr/share/acme.sh")
"""The folder of Debian's package `acme.sh`, with the files that upstream's `--install` copies."""

SERVICE = "https://dnsapi.cn"

# DNSPod demands a program, its version and a mail address; acme.sh's default has a web address.
AGENT = "acme.sh/3.1 (ops@example.com)"


class AcmeSh:
    def __init__(self, world: World, directory: Path, **environ: str) -> None:
        program_path("acme.sh")
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
        script = hook.read_text()
        assert 1 == script.count(SERVICE)
        hook.write_text(script.replace(SERVICE, world.dnspod.url))

    def issue(self, *names: str, key_length: str = "ec-256") -> None:
        """Issue a certificate, proven at DNSPod."""
        words = [word for name in names for word in ("-d", name)]
        server = ["--server", self.world.pebble.directory_url]
        bundle = ["--ca-bundle", str(self.world.pebble.ca_bundle)]
        # acme.sh asks public resolvers for the record unless `--dnssleep` sets a pause.
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

    def renew(self, name: str, install: Sequence[str]) -> None:
        """Renew a certificate; acme.sh repeats the installation before."""
        del install
        self.run("--renew", "--force", "-d", name)

    def run(
        self,
        *arguments: str,
        code: int = 0,
        program: Path | None = None,
        cwd: Path | None = None,
        **environ: str,
    ) -> str:
        """Run acme.sh to its end, assert the exit code, and return the output."""
        return run_to_its_end(
            [str(program or self.home / "acme.sh"), *arguments],
            {**self._environ, **environ},
            code=code,
            cwd=cwd or self.home.parent,
        )

    def certificate(self, name: str) -> Path:
        return self.home / f"{name}_ecc" / "fullchain.cer"


class SuppliedAcmeSh(AcmeSh):
    """acme.sh with certificates that certferry issues: an order takes acme.sh itself four seconds
    of processor time.
    """

    def issue(self, *names: str, key_length: str = "ec-256") -> None:
        """See `AcmeSh.issue`."""
        del key_length
        folder = self.home.parent / "issuer"
        folder.mkdir()
        self._issuer = Host(self.world, folder, certificate(*names, name="supplied", to=None))
        directory = self.home / f"{names[0]}_ecc"
        directory.mkdir()
        due = int(time.time()) + 30 * 24 * 3600
        (directory / f"{names[0]}.conf").write_text(
            f"Le_Domain='{names[0]}'\nLe_NextRenewTime='{due}'\n"
        )
        self._supply(names[0], "sync")

    def renew(self, name: str, install: Sequence[str]) -> None:
        """See `AcmeSh.renew`."""
        self._supply(name, "sync", "--renew", "supplied")
        self.run(*install)

    def _supply(self, name: str, *command: str) -> None:
        exported = self.home.parent / "exported"
        for words in (command, ("export", "supplied", "--dir", str(exported))):
            done = self._issuer.run(*words)
            assert 0 == done.code, done
        for ours, theirs in (
            ("cert.pem", f"{name}.cer"),
            ("privkey.pem", f"{name}.key"),
            ("chain.pem", "ca.cer"),
            ("fullchain.pem", "fullchain.cer"),
        ):
            (self.home / f"{name}_ecc" / theirs).write_bytes((exported / ours).read_bytes())
