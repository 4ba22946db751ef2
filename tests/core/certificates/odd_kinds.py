"""Keys and certificates of kinds unknown to the library, derived from known kinds."""

from __future__ import annotations

import base64
import re

SM2 = bytes.fromhex("06082a811ccf5501822d")  # 1.2.156.10197.1.301, GM/T 0006-2012
UNKNOWN_CURVE = bytes.fromhex("06082a8648ce3d03017f")  # 1.2.840.10045.3.1.127, an unassigned number

_P256 = bytes.fromhex("06082a8648ce3d030107")
_ECDSA_SHA256 = bytes.fromhex("06082a8648ce3d040302")
SM2_SM3 = bytes.fromhex("06082a811ccf55018375")  # 1.2.156.10197.1.501, GM/T 0006-2012

_BLOCK = re.compile(r"(-----BEGIN [A-Z ]+-----\n)(.*?)(-----END [A-Z ]+-----\n)", re.DOTALL)


def on_curve(pem: str, curve: bytes = SM2) -> str:
    """Return a key or certificate on P-256, as PEM, moved to another curve."""
    return _with(pem, _P256, curve)


def signed_as(pem: str, algorithm: bytes) -> str:
    """Return a certificate signed with ECDSA and SHA-256, marked with another algorithm."""
    return _with(pem, _ECDSA_SHA256, algorithm)


def _with(pem: str, old: bytes, new: bytes) -> str:
    def changed(block: re.Match[str]) -> str:
        der = base64.b64decode(block[2])
        assert old in der
        return block[1] + base64.encodebytes(der.replace(old, new)).decode() + block[3]

    return _BLOCK.sub(changed, pem)
