"""A machine with a web server: a directory, a program that reloads the server, and a program that
pushes the certificate.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from certferry.core.certificates.certificate import fingerprint
from certferry_sandbox.world import World
from tests.acceptance.host import Host


def script(path: Path, body: str) -> Path:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


class Site(Host):
    """The machine; its name is absent from every CDN."""

    def __init__(self, world: World, folder: Path, name: str) -> None:
        self.name = name
        self.folder = folder
        self.ssl = folder / "ssl"
        tables = (
            f'\n[[certificates]]\nname = "site"\nnames = ["{name}"]\ndns = "dnspod"\n'
            f'[[certificates.deploy]]\nto = "files"\ndirectory = "ssl"\n'
            f'reload = "./reload --now"\ntimeout = 20\n'
            f'[[certificates.deploy]]\nto = "command"\ncommand = ["./push", "to lb"]\n'
        )
        super().__init__(world, folder, tables)
        self.let_reload()
        script(
            folder / "push",
            'echo "$1 $CERTFERRY_LINEAGE $CERTFERRY_FINGERPRINT" >> pushed\n'
            'test -s "$CERTFERRY_PRIVKEY"',
        )

    def let_reload(self, body: str = 'echo "$1 $CERTFERRY_FINGERPRINT" >> reloaded') -> None:
        script(self.folder / "reload", body)

    def let_push(self, body: str) -> None:
        script(self.folder / "push", body)

    @property
    def handed_over(self) -> list[Path]:
        return sorted((self.state.parent / "handover").rglob("*"))

    def lines(self, name: str) -> list[str]:
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []

    @property
    def held(self) -> str:
        """Return the fingerprint of the certificate in the directory; the files must belong
        together.
        """
        leaf, issuer = x509.load_pem_x509_certificates((self.ssl / "fullchain.pem").read_bytes())
        key = load_pem_private_key((self.ssl / "privkey.pem").read_bytes(), None)
        assert key.public_key() == leaf.public_key()
        assert leaf.public_bytes(Encoding.PEM) == (self.ssl / "cert.pem").read_bytes()
        assert issuer.public_bytes(Encoding.PEM) == (self.ssl / "chain.pem").read_bytes()
        return fingerprint(leaf.public_bytes(Encoding.DER))

    def sync(self, *arguments: str) -> dict[str, dict[str, Any]]:
        """Sync, and return the steps by their domains."""
        run = self.run("sync", "--json", *arguments)
        assert run.code in {0, 1}, run
        (lineage,) = json.loads(run.out)["certificates"]
        assert (run.code == 0) is lineage["ok"], run
        return {step["domain"] or step["action"]: step for step in lineage["steps"]}

    def outcomes(self, *arguments: str) -> dict[str, str]:
        """Sync, and return each step's outcome."""
        return {name: step["outcome"] for name, step in self.sync(*arguments).items()}
