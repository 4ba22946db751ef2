"""Altered chains, keys and bundles: their readers raise only certferry's own errors."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from functools import cache, partial
from random import Random
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certferry.adapters.files.source import PemFileSource
from certferry.adapters.probe.tls import NoHandshake, served_chain
from certferry.adapters.probe.trust import Trust
from certferry.core.certificates.pem import parse_bundle, parse_chain, parse_key, read_certificate
from certferry.core.desired.certificate import PemFiles
from certferry.core.redaction import Secret
from certferry_sandbox.authority import Issued
from tests.adapters.http.peers import peer
from tests.fuzz.altered_answers import altered_bytes
from tests.fuzz.outcomes import in_memory, only_ours, over_sockets
from tests.sandbox.qiniu_calls import issue

# The library warns of certificates that a later version refuses; a refusal is an error as well.
pytestmark = pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")

NOW = datetime(2026, 5, 26, 12, tzinfo=UTC)
SEEDS = st.integers(0, 2**32 - 1)


@cache
def made_of(kind: Literal["ec256", "rsa2048"]) -> Issued:
    return issue("www.example.com", "*.example.com", key_type=kind)


KINDS: list[Literal["ec256", "rsa2048"]] = ["ec256", "rsa2048"]
MADE = st.sampled_from(KINDS).map(made_of)


def chance_of(seed: int) -> Random:
    return Random(seed)  # noqa: S311 - for alterations, not for security


def altered_pem(pem: str, chance: Random) -> str:
    """Alter PEM text: the text itself, or some bytes of a block's DER, often a certificate
    still.
    """
    if chance.random() < 0.2:
        return altered_bytes(pem.encode(), chance).decode(errors="replace")
    blocks = pem.split("-----BEGIN ")
    at = chance.randrange(1, len(blocks))
    label, _, after_label = blocks[at].partition("-----\n")
    body, end, tail = after_label.partition("-----END ")
    der = bytearray(base64.b64decode(body))
    for _ in range(chance.randint(1, 3)):
        der[chance.randrange(len(der))] = chance.choice(
            (0, 1, 2, 0x7F, 0x80, 0xFF, chance.randrange(256))
        )
    blocks[at] = f"{label}-----\n{base64.encodebytes(bytes(der)).decode()}{end}{tail}"
    return "-----BEGIN ".join(blocks)


@in_memory
@given(seed=SEEDS, made=MADE)
def test_a_chain_and_a_key(seed: int, made: Issued) -> None:
    """The chain may come from a CA or from the state."""
    chance = chance_of(seed)
    chain = altered_pem(made.fullchain_pem, chance)
    key = Secret(altered_pem(made.privkey_pem, chance))

    only_ours(
        partial(parse_bundle, chain, Secret(made.privkey_pem)),
        partial(parse_key, key),
        lambda: [read_certificate(pem) for pem in parse_chain(chain)],
    )


@in_memory
@given(seed=SEEDS, made=MADE)
def test_certificates_in_files(
    tmp_path_factory: pytest.TempPathFactory, seed: int, made: Issued
) -> None:
    """Another client, an editor or a full disk may have written the files; a bundle of roots is
    read too.
    """
    chance = chance_of(seed)
    folder = tmp_path_factory.mktemp("files")
    fullchain, privkey = folder / "fullchain.pem", folder / "privkey.pem"
    fullchain.write_bytes(_in_some_encoding(altered_pem(made.fullchain_pem, chance), chance))
    privkey.write_bytes(_in_some_encoding(made.privkey_pem, chance))

    only_ours(
        partial(PemFileSource().read, PemFiles(str(fullchain), str(privkey))),
        partial(PemFileSource().read, PemFiles(str(privkey), str(fullchain))),
        partial(Trust, fullchain),
    )


def _in_some_encoding(text: str, chance: Random) -> bytes:
    encoding = chance.choice(("utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-32"))
    return text.replace("\n", chance.choice(("\n", "\r\n", "\r"))).encode(encoding)


@in_memory
@given(seed=SEEDS, made=MADE)
def test_a_chain_that_an_edge_serves(trust: Trust, seed: int, made: Issued) -> None:
    """The chain is trusted, or a sentence gives the reason for distrust."""

    def judged() -> None:
        chain = parse_chain(altered_pem(made.fullchain_pem, chance_of(seed)))
        problem = trust.problem(chain, "www.example.com", NOW)
        assert problem is None or str(problem)

    only_ours(judged)


@pytest.fixture(scope="module")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Trust:
    bundle = tmp_path_factory.mktemp("trust") / "root.pem"
    bundle.write_text(made_of("ec256").fullchain_pem.partition("-----END CERTIFICATE-----\n")[2])
    return Trust(bundle)


@over_sockets
@given(words=st.binary(max_size=300), like=st.sampled_from([b"", b"\x16\x03\x03", b"\x15\x03\x03"]))
def test_words_in_place_of_a_handshake(words: bytes, like: bytes) -> None:
    """An address with another protocol than TLS gives no certificate."""
    with (
        peer(lambda connection: connection.sendall(like + words)) as address,
        pytest.raises(NoHandshake),
    ):
        served_chain(address.partition(":")[0], int(address.partition(":")[2]), "www.example.com")
