"""The secrets of a test in every spelling, and the search for the spellings."""

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
"""Files that exist to hold a secret, and the kind of the secret."""


@dataclass(frozen=True)
class SecretSpelling:
    kind: str
    spelling: bytes


@dataclass(frozen=True)
class Place:
    """A text that certferry wrote; `name` is a file's name, or the stream and the run."""

    name: str
    content: bytes


def value(kind: str, secret: str) -> Iterator[SecretSpelling]:
    """Yield a secret in plain spelling, as base64 and as hexadecimal digits."""
    raw = secret.encode()
    for spelling in (raw, base64.b64encode(raw).rstrip(b"="), raw.hex().encode()):
        yield SecretSpelling(kind, spelling)


def private_key(kind: str, pem: str) -> Iterator[SecretSpelling]:
    """Yield a key's PEM, each line of its body, the body in one piece, and the private number."""
    body = [line for line in pem.splitlines() if line and not line.startswith("-----")]
    for part in (pem.strip(), "".join(body), *body):
        yield SecretSpelling(kind, part.encode())
    yield SecretSpelling(kind, base64.b64decode("".join(body)))
    key = serialization.load_pem_private_key(pem.encode(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    number = key.private_numbers().private_value.to_bytes(key.key_size // 8)
    encoded = base64.b64encode(number), base64.urlsafe_b64encode(number)
    for spelling in (number, number.hex().encode(), *(text.rstrip(b"=") for text in encoded)):
        yield SecretSpelling(kind, spelling)


def of_world(world: World) -> Iterator[SecretSpelling]:
    """Yield the keys of the services, and the signatures of all requests."""
    yield from value("DNSPod's token", world.credentials.dnspod_token)
    yield from value("Qiniu's secret key", world.credentials.secret_key)
    for request in world.qiniu.requests():
        header = request.headers.get("Authorization", "")
        _, _, signature = header.rpartition(":")
        yield SecretSpelling("an Authorization header", header.encode())
        yield SecretSpelling("an Authorization header", signature.encode())


def of_host(host: Host, *lineages: str) -> Iterator[SecretSpelling]:
    """Yield a host's private keys, and the key that seals them."""
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
    yield SecretSpelling("sealing key", host.key_file.read_bytes().strip())
    yield SecretSpelling("sealing key", base64.b64decode(host.key_file.read_bytes()))


def streams(runs: Mapping[str, Run]) -> Iterator[Place]:
    for title, run in runs.items():
        yield Place(f"stdout of {title}", run.out.encode())
        yield Place(f"stderr of {title}", run.err.encode())


def files(*folders: Path) -> Iterator[Place]:
    """Yield every file below the folders with its bytes."""
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                yield Place(str(path), path.read_bytes())


def leaks(places: Iterable[Place], secrets: Iterable[SecretSpelling]) -> set[str]:
    """Return kind and place of each secret in the places; the secret itself stays hidden."""
    spellings = set(secrets)
    assert all(len(secret.spelling) >= SHORTEST for secret in spellings)
    return {
        f"{secret.kind} in {place.name}"
        for place in places
        for secret in spellings
        if secret.spelling in place.content and MAY_HOLD.get(Path(place.name).name) != secret.kind
    }
