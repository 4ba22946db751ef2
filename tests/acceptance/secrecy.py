"""What must never be seen, in every spelling it could take, and the search for it."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from certferry_sandbox.world import World
from tests.acceptance.host import Host, Run

SHORTEST = 12  # characters; less could be anywhere by chance
MAY_HOLD = {"privkey.pem": "private key", "secret.key": "sealing key"}
"""Files that are made to hold one secret each, and which."""


@dataclass(frozen=True)
class Unspeakable:
    what: str
    spelling: bytes


@dataclass(frozen=True)
class Place:
    """Something that was written; `name` is a file's, or says which stream of which run."""

    name: str
    content: bytes


def value(what: str, secret: str) -> Iterator[Unspeakable]:
    """Return a secret as it stands, and as base64 and hexadecimal digits would have it."""
    raw = secret.encode()
    for spelling in (raw, base64.b64encode(raw).rstrip(b"="), raw.hex().encode()):
        yield Unspeakable(what, spelling)


def private_key(what: str, pem: str) -> Iterator[Unspeakable]:
    """Return a key's PEM, every line of its body, the body in one piece, and the number it is."""
    body = [line for line in pem.splitlines() if line and not line.startswith("-----")]
    for written in (pem.strip(), "".join(body), *body):
        yield Unspeakable(what, written.encode())
    yield Unspeakable(what, base64.b64decode("".join(body)))
    key = serialization.load_pem_private_key(pem.encode(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    number = key.private_numbers().private_value.to_bytes(key.key_size // 8)
    encoded = base64.b64encode(number), base64.urlsafe_b64encode(number)
    for spelling in (number, number.hex().encode(), *(text.rstrip(b"=") for text in encoded)):
        yield Unspeakable(what, spelling)


def of_world(world: World) -> Iterator[Unspeakable]:
    """Return the keys to the services, and the proofs of identity that were sent with them."""
    yield from value("DNSPod's token", world.credentials.dnspod_token)
    yield from value("Qiniu's secret key", world.credentials.secret_key)
    for request in world.qiniu.requests():
        header = request.headers.get("Authorization", "")
        _, _, signature = header.rpartition(":")
        yield Unspeakable("an Authorization header", header.encode())
        yield Unspeakable("an Authorization header", signature.encode())


def of_host(host: Host, *lineages: str) -> Iterator[Unspeakable]:
    """Return the private keys that a host keeps, and what they are sealed with."""
    with host.remembering() as store:
        account = store.account(host.world.pebble.directory_url)
        assert account is not None
        yield from private_key("the account's key", account.key_pem.reveal())
        for lineage in lineages:
            versions = store.versions(lineage)
            assert versions
            for version in versions:
                bundle = store.bundle(lineage, version.number)
                yield from private_key("private key", bundle.privkey_pem.reveal())
    yield Unspeakable("sealing key", host.key_file.read_bytes().strip())
    yield Unspeakable("sealing key", base64.b64decode(host.key_file.read_bytes()))


def streams(runs: Mapping[str, Run]) -> Iterator[Place]:
    for title, run in runs.items():
        yield Place(f"stdout of {title}", run.out.encode())
        yield Place(f"stderr of {title}", run.err.encode())


def files(*folders: Path) -> Iterator[Place]:
    """Return every file below the folders, as its bytes are."""
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                yield Place(str(path), path.read_bytes())


def leaks(places: Iterable[Place], secrets: Iterable[Unspeakable]) -> set[str]:
    """Return which secret was found where; never the secret itself."""
    known = set(secrets)
    assert all(len(secret.spelling) >= SHORTEST for secret in known)
    return {
        f"{secret.what} in {place.name}"
        for place in places
        for secret in known
        if secret.spelling in place.content and MAY_HOLD.get(Path(place.name).name) != secret.what
    }
