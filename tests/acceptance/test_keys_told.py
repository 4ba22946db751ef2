"""Programs of the operator's that print private keys and proofs of identity: what is left of that
in the log file, on stdout, on stderr and in JSON.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from certferry.core.secret import MASK
from certferry_sandbox.world import World
from tests.acceptance.host import Run
from tests.acceptance.secrecy import Place, Unspeakable, leaks, private_key, streams
from tests.acceptance.site import Site, script
from tests.support.tiers import thorough

PRINTERS = {
    "cat": 'cat "$KEY"',
    "one line": 'echo $(cat "$KEY")',
    "openssl ec": 'openssl ec -in "$KEY"',
    "another's": "cat another-ec another-rsa",
    "parts of another's": "tail -n 3 another-rsa; echo LOOK AT THIS; head -n 9 another-rsa",
}
BEARER = "planted-0123456789"


@pytest.fixture
def site(world: World, tmp_path: Path, new_name: Callable[[], str]) -> Site:
    """A machine with a certificate of its own, one of another client, whose key has OpenSSL's
    own form, and keys that no account uses.
    """
    machine = Site(world, tmp_path, new_name())
    imported = world.old_certificate("static.example.com")
    key = load_pem_private_key(imported.privkey_pem.encode(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    (tmp_path / "fullchain").write_text(imported.fullchain_pem)
    write_key(tmp_path / "ferried", key)
    write_key(tmp_path / "another-ec", ec.generate_private_key(ec.SECP256R1()))
    write_key(tmp_path / "another-rsa", rsa.generate_private_key(65537, 2048))
    text = machine.config.read_text()
    machine.config.write_text(
        f'{text}\n[[certificates]]\nname = "static"\nfullchain = "fullchain"\n'
        'privkey = "ferried"\n[[certificates.deploy]]\nto = "files"\ndirectory = "static"\n'
        'reload = ["./reload-static"]\n'
    )
    return machine


def write_key(path: Path, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> None:
    """Write a key in OpenSSL's own form."""
    form = PrivateFormat.TraditionalOpenSSL
    path.write_bytes(key.private_bytes(Encoding.PEM, form, NoEncryption()))


def keys(site: Site) -> Iterator[Unspeakable]:
    """Give every key that a program could print, in both forms."""
    for name in ("ferried", "another-ec", "static/privkey.pem", "ssl/privkey.pem"):
        pem = (site.folder / name).read_bytes()
        key = load_pem_private_key(pem, None)
        for form in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL):
            written = key.private_bytes(Encoding.PEM, form, NoEncryption())
            yield from private_key(f"the key of {name}", written.decode())
    for line in (site.folder / "another-rsa").read_bytes().splitlines()[1:-1]:
        yield Unspeakable("the key of another-rsa", line)
    yield Unspeakable("an Authorization header", BEARER.encode())


def places(site: Site, runs: dict[str, Run]) -> Iterator[Place]:
    """Give what the runs wrote, also without what wraps a key or stands between its bytes."""
    logs = [Place(path.name, path.read_bytes()) for path in site.folder.glob("log-*")]
    for place in (*streams(runs), *logs):
        yield place
        unwrapped = re.sub(rb"\\n|[\s:]+", b"", place.content)
        yield Place(f"{place.name}, unwrapped", unwrapped)


@thorough
@pytest.mark.parametrize("body", PRINTERS.values(), ids=PRINTERS)
def test_programs_that_print_a_key(site: Site, body: str) -> None:
    """Whether the delivered key or another one, in its frame: no line of it is anywhere; the other
    lines of the program are there.
    """
    told = f"{{ {body}; }} 2>&1; echo 'Authorization: Bearer {BEARER}'; echo LOOK AT THIS; exit 1"
    site.let_reload(f'KEY="$CERTFERRY_PRIVKEY"; {told}')
    site.let_push(f'KEY="$CERTFERRY_PRIVKEY"; {told}')
    script(site.folder / "reload-static", f"KEY=ferried; {told}")
    text, document = (str(site.folder / f"log-{form}") for form in ("text", "json"))

    runs = {
        "sync": site.run("--log-file", text, "sync", "--no-wait"),
        "sync -v": site.run("-v", "--log-file", text, "sync"),
        "sync --json": site.run("--log-file", document, "--log-format", "json", "sync", "--json"),
        "history": site.run("history", "--json"),
    }

    assert [1, 1, 1, 0] == [run.code for run in runs.values()]
    written = list(places(site, runs))
    assert set() == leaks(written, keys(site))
    for name in ("stdout of sync", "stderr of sync -v", "stdout of sync --json", "log-json"):
        (place,) = (place for place in written if place.name == name)
        assert MASK.encode() in place.content
        assert b"LOOK AT THIS" in place.content
